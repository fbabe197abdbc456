//! The tap: what clients send, shown to operators while they look.
//!
//! A sender looks at one number for each of its reads, which changes when an operator begins or ends to look, and once a
//! second while one does. Only then does it find out whom its messages are shown to. What is shown in a second is bounded:
//! a sender that finds the bound reached counts what it leaves out by itself, and adds it up at the end of each read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::time::{SystemTime, UNIX_EPOCH};

use data_encoding::BASE64;
use serde::Serialize;

use crate::connection::frame::Frame;
use crate::connection::outbox::{Delivery, Outbox};
use crate::id::Id;
use crate::message::{Kind, Message};
use crate::route::Room;
use crate::sync::Mutex;

/// Messages that one operator is shown in a second. Further ones are left out and counted.
pub const MESSAGES_MAX: u32 = 200;

/// Bytes of the payload that are shown of a message. Of a longer one the beginning is shown, and its length is told.
pub const BYTES_MAX: usize = 4 << 10;

/// Which messages an operator wants to see: those of clients for which all of this holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TapFilter {
    /// The path of their endpoint, as it is configured.
    pub endpoint: Option<String>,
    /// The path of their room, decoded.
    pub path: Option<String>,
    /// Their id.
    pub client: Option<Id>,
}

impl TapFilter {
    /// Whether a client of this endpoint and room is meant.
    fn fits(&self, endpoint: &str, path: &str, client: Id) -> bool {
        self.endpoint.as_ref().is_none_or(|wanted| wanted == endpoint)
            && self.path.as_ref().is_none_or(|wanted| wanted == path)
            && self.client.is_none_or(|wanted| wanted == client)
    }
}

/// All operators that look. The number is on a cache line that nothing else is written to.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Tap {
    /// How often senders were to find out anew whom their messages are shown to.
    changes: AtomicU32,
    watches: Mutex<Vec<Arc<Watch>>>,
}

/// An operator that looks, as senders know it.
#[derive(Debug)]
struct Watch {
    filter: TapFilter,
    /// Messages that may still be shown in this second.
    left: AtomicU32,
    /// What was not shown since it was last told.
    left_out: LeftOut,
    /// Where to show it; `None` once it has ended, since senders keep the watch until their next message.
    outbox: Mutex<Option<Arc<Outbox>>>,
}

/// On a cache line of its own: all who are over the bound read the one beside it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct LeftOut(AtomicU64);

/// An operator's look at the tap; dropping it ends it.
#[derive(Debug)]
pub struct Looking<'a> {
    tap: &'a Tap,
    watch: Arc<Watch>,
}

impl Tap {
    /// Shows the messages that fit to this outbox from now on.
    pub fn look(&self, filter: TapFilter, outbox: Arc<Outbox>) -> Looking<'_> {
        let (left, left_out) = (AtomicU32::new(MESSAGES_MAX), LeftOut::default());
        let watch = Arc::new(Watch { filter, left, left_out, outbox: Mutex::new(Some(outbox)) });
        self.watches.lock().push(Arc::clone(&watch));
        self.change();
        Looking { tap: self, watch }
    }

    /// A second has passed: whoever looks may be shown more, and is told what was left out.
    pub fn begin_second(&self) {
        let watches = self.watches.lock().clone();
        if watches.is_empty() {
            return;
        }
        watches.iter().for_each(|watch| watch.left.store(MESSAGES_MAX, Ordering::Relaxed));
        self.change();
        for watch in watches {
            let left_out = watch.left_out.0.swap(0, Ordering::Relaxed);
            if left_out > 0 {
                watch.tell(&format!("{{\"type\":\"leftOut\",\"messages\":{left_out}}}"), left_out);
            }
        }
    }

    /// Has senders find out anew whom their messages are shown to, at their next read.
    fn change(&self) {
        self.changes.fetch_add(1, Ordering::Release);
    }
}

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        self.tap.watches.lock().retain(|watch| !Arc::ptr_eq(watch, &self.watch));
        self.tap.change();
        *self.watch.outbox.lock() = None;
    }
}

impl Watch {
    /// Takes one of the messages that may be shown in this second, if one is left.
    fn take(&self) -> bool {
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }

    /// Whether no more messages may be shown in this second.
    fn is_full(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }

    /// Counts messages that are not shown.
    fn leave_out(&self, messages: u64) {
        self.left_out.0.fetch_add(messages, Ordering::Relaxed);
    }

    /// Sends this text, which stands for so many messages: they are left out where there is no room for it.
    fn tell(&self, text: &str, messages: u64) {
        let Some(outbox) = self.outbox.lock().clone() else { return };
        let message = Message { kind: Kind::Text, data: text.as_bytes().to_vec().into() };
        if matches!(outbox.deliver(&Frame::message(&message)), Delivery::Dropped { .. }) {
            self.leave_out(messages);
        }
    }
}

/// A sender's view of the tap.
#[derive(Debug, Default)]
pub struct Tapped {
    /// The number of the tap when the rest was found out.
    seen: u32,
    /// What becomes of its messages.
    now: Now,
    /// Messages of the present read that were left out for all who look.
    left_out: u64,
    /// Who looks at its messages.
    by: Vec<Arc<Watch>>,
}

/// What becomes of a sender's messages at the tap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Now {
    /// Nothing: nobody looks at them.
    #[default]
    Unseen,
    /// They are shown to some of those who look.
    Shown,
    /// They are counted: nobody who looks may be shown more in this second.
    Counted,
}

/// Whose messages may be shown.
#[derive(Debug, Clone, Copy)]
pub struct Tappable<'a> {
    /// The client's id, or that of the connection over which it posts.
    pub id: Id,
    /// The path of its endpoint, as it is configured.
    pub endpoint: &'a str,
    /// Its room.
    pub room: &'a Room,
    /// Who it is, if that is known.
    pub identity: Option<&'a str>,
}

/// A message as it is shown.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    r#type: &'static str,
    /// Milliseconds since 1970.
    at: u64,
    client: String,
    path: &'a str,
    identity: Option<&'a str>,
    /// The length of the whole payload.
    bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

impl Tapped {
    /// A read of `by` has brought something. Costs one load unless there is something to find out.
    #[inline]
    pub fn begin<'a>(&mut self, tap: &Tap, by: impl FnOnce() -> Option<Tappable<'a>>) {
        let changes = tap.changes.load(Ordering::Relaxed);
        if changes != self.seen
            && let Some(by) = by()
        {
            self.find_out(tap, by, changes);
        }
    }

    /// Shows a message to whoever wants to see it. Costs nothing but a look at its own field while nobody does, and counts
    /// by itself while nobody may be shown more.
    #[inline]
    pub fn show<'a>(&mut self, by: impl FnOnce() -> Option<Tappable<'a>>, kind: Kind, payload: &[u8]) {
        match self.now {
            Now::Unseen => {}
            Now::Counted => self.left_out += 1,
            Now::Shown => by().into_iter().for_each(|by| self.show_to_watches(by, kind, payload)),
        }
    }

    /// A read was worked off.
    #[inline]
    pub fn flush(&mut self) {
        if self.left_out > 0 {
            let left_out = std::mem::take(&mut self.left_out);
            self.by.iter().for_each(|watch| watch.leave_out(left_out));
        }
    }

    #[cold]
    #[inline(never)]
    fn find_out(&mut self, tap: &Tap, by: Tappable<'_>, changes: u32) {
        // What was written before the number was changed is seen from here on.
        fence(Ordering::Acquire);
        self.seen = changes;
        let path = by.room.to_string();
        let watches = tap.watches.lock();
        let fitting = watches.iter().filter(|watch| watch.filter.fits(by.endpoint, &path, by.id));
        self.by = fitting.cloned().collect();
        self.now = if self.by.is_empty() { Now::Unseen } else { Now::Shown };
    }

    #[cold]
    #[inline(never)]
    fn show_to_watches(&mut self, by: Tappable<'_>, kind: Kind, payload: &[u8]) {
        let mut shown = None;
        for watch in &self.by {
            if watch.take() {
                watch.tell(shown.get_or_insert_with(|| describe(by, kind, payload)), 1);
            } else {
                watch.leave_out(1);
            }
        }
        if self.by.iter().all(|watch| watch.is_full()) {
            self.now = Now::Counted;
        }
    }
}

/// A message as JSON.
fn describe(by: Tappable<'_>, kind: Kind, payload: &[u8]) -> String {
    let part = &payload[..payload.len().min(BYTES_MAX)];
    let text = (kind == Kind::Text).then(|| whole_characters(part));
    let shown = Shown {
        r#type: "message",
        at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64),
        client: by.id.to_string(),
        path: &by.room.to_string(),
        identity: by.identity,
        bytes: payload.len(),
        text,
        base64: text.is_none().then(|| BASE64.encode(part)),
    };
    serde_json::to_string(&shown).expect("its keys are texts and its numbers are finite")
}

/// The text without the character at its end that is not there whole.
fn whole_characters(text: &[u8]) -> &str {
    match std::str::from_utf8(text) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&text[..error.valid_up_to()]).expect("so much of it is valid"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_takes_clients_for_which_all_of_it_holds() {
        let (id, other) = (Id::from(7), Id::from(8));
        let filter = |endpoint: Option<&str>, path: Option<&str>, client| TapFilter {
            endpoint: endpoint.map(str::to_owned),
            path: path.map(str::to_owned),
            client,
        };
        for (filter, expected) in [
            (filter(None, None, None), true),
            (filter(Some("/rooms/{room}"), None, None), true),
            (filter(Some("/rooms/{room}"), Some("/rooms/1"), Some(id)), true),
            (filter(Some("/rooms/1"), None, None), false),
            (filter(None, Some("/rooms/2"), None), false),
            (filter(None, Some("/rooms/1"), Some(other)), false),
        ] {
            assert_eq!(filter.fits("/rooms/{room}", "/rooms/1", id), expected, "{filter:?}");
        }
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(whole_characters("aü".as_bytes()), "aü");
        assert_eq!(whole_characters(&"aü".as_bytes()[..2]), "a");
        assert_eq!(whole_characters(b""), "");
    }

    #[test]
    fn so_many_are_shown_in_a_second_and_the_rest_is_counted() {
        let (filter, left, left_out) = (TapFilter::default(), AtomicU32::new(MESSAGES_MAX), LeftOut::default());
        let watch = Watch { filter, left, left_out, outbox: Mutex::new(None) };
        let taken = (0..2 * MESSAGES_MAX).filter(|_| watch.take()).count();
        assert_eq!((taken as u32, watch.is_full()), (MESSAGES_MAX, true));
    }
}
