//! What is stored: the messages of one read of one sender, which go into the file together.

use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use crate::message::Kind;

/// Who has sent messages, as the columns of the file have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The path of the sender's endpoint, or `link:NAME`.
    pub endpoint: Box<str>,
    /// The sender's room; a link has none.
    pub room: Option<Box<str>>,
    /// The id of its connection.
    pub session: Box<str>,
    /// Its address; `None` on a Unix socket and for a link.
    pub address: Option<Box<str>>,
    /// Who it is, if its endpoint authenticates clients.
    pub identity: Option<Box<str>>,
}

/// Messages of one sender that came together. Their payloads lie behind each other, so a small message costs no
/// allocation of its own.
#[derive(Debug, Clone)]
pub struct Batch {
    source: Arc<Source>,
    /// When they came.
    received: SystemTime,
    /// The kind of each, and where its payload ends.
    messages: Vec<(Kind, usize)>,
    payloads: Vec<u8>,
    /// Those that are left of them: others were dropped.
    left: Range<usize>,
}

impl Batch {
    /// An empty one.
    pub fn new(source: &Arc<Source>, received: SystemTime) -> Batch {
        Batch { source: Arc::clone(source), received, messages: Vec::new(), payloads: Vec::new(), left: 0..0 }
    }

    /// Adds a message. `expected` is a guess at the bytes that come together.
    pub fn push(&mut self, kind: Kind, payload: &[u8], expected: usize) {
        if self.messages.is_empty() {
            self.payloads.reserve_exact(expected.max(payload.len()));
        }
        self.payloads.extend_from_slice(payload);
        self.messages.push((kind, self.payloads.len()));
        self.left.end += 1;
    }

    /// Who has sent them.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// When they came.
    pub fn received(&self) -> SystemTime {
        self.received
    }

    /// How many messages there are.
    pub fn messages(&self) -> usize {
        self.left.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// How many bytes of memory they count for: their payloads, and a little for each.
    pub fn bytes(&self) -> usize {
        self.end_of(self.left.end) - self.end_of(self.left.start) + self.left.len() * size_of::<(Kind, usize)>()
    }

    /// All that are left, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Kind, &[u8])> {
        self.left.clone().map(|at| (self.messages[at].0, &self.payloads[self.end_of(at)..self.messages[at].1]))
    }

    /// Drops the first messages until at most `messages` and `bytes` are left; says how many that were.
    pub fn drop_first(&mut self, messages: usize, bytes: usize) -> usize {
        self.drop_until(messages, bytes, |left| left.start += 1)
    }

    /// Drops the last messages until at most `messages` and `bytes` are left; says how many that were.
    pub fn drop_last(&mut self, messages: usize, bytes: usize) -> usize {
        self.drop_until(messages, bytes, |left| left.end -= 1)
    }

    fn drop_until(&mut self, messages: usize, bytes: usize, drop_one: impl Fn(&mut Range<usize>)) -> usize {
        let before = self.messages();
        while !self.is_empty() && (self.messages() > messages || self.bytes() > bytes) {
            drop_one(&mut self.left);
        }
        before - self.messages()
    }

    /// Where the payload of the message before `at` ends.
    fn end_of(&self, at: usize) -> usize {
        at.checked_sub(1).map_or(0, |before| self.messages[before].1)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn source(room: &str) -> Arc<Source> {
        Arc::new(Source {
            endpoint: "/rooms/{room}".into(),
            room: Some(room.into()),
            session: "d44d1d9fdb4ad6d4".into(),
            address: Some("10.0.0.7".into()),
            identity: None,
        })
    }

    pub(crate) fn batch(texts: &[&str]) -> Batch {
        let mut batch = Batch::new(&source("/rooms/7"), SystemTime::UNIX_EPOCH);
        texts.iter().for_each(|text| batch.push(Kind::Text, text.as_bytes(), 0));
        batch
    }

    #[test]
    fn no_more_messages_are_dropped_than_have_to_be() {
        let left = |batch: &Batch| batch.iter().map(|(_, payload)| payload.to_vec()).collect::<Vec<_>>();
        let mut first = batch(&["a", "bb", "ccc"]);
        assert_eq!((first.messages(), first.drop_first(2, usize::MAX)), (3, 1));
        assert_eq!(left(&first), [b"bb".to_vec(), b"ccc".to_vec()]);
        let each = first.bytes() - 5;
        assert_eq!(first.drop_first(9, 3 + each / 2), 1);
        assert_eq!(left(&first), [b"ccc"]);
        let mut last = batch(&["a", "bb", "ccc"]);
        assert_eq!(last.drop_last(1, usize::MAX), 2);
        assert_eq!(left(&last), [b"a"]);
        assert_eq!((last.drop_last(0, 0), last.is_empty(), last.bytes()), (1, true, 0));
    }
}
