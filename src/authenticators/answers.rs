//! What a service has answered of late, so that it is not asked the same twice.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::time::{Duration, Instant};

use openssl::sha::Sha256;

use crate::auth::answer::Answer;
use crate::sync::Mutex;

/// How many answers are kept, and how many bytes they have together; for more, the oldest are forgotten.
const ANSWERS_MAX: usize = 10_000;
const BYTES_MAX: usize = 8 << 20;

/// What an answer takes besides its own bytes.
const OVERHEAD: usize = 256;

/// See the module's documentation.
pub(super) struct Answers {
    /// Known to this process alone: without it, what is kept says nothing about a credential.
    key: [u8; 32],
    keep: Duration,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    answers: HashMap<Mark, Entry>,
    /// The oldest first.
    order: VecDeque<Mark>,
    bytes: usize,
}

struct Entry {
    answer: Answer,
    /// When it is asked for again.
    until: Instant,
    /// When it ends, if it does.
    ends: Option<Instant>,
    bytes: usize,
}

/// What was asked, as a keyed hash.
pub(super) type Mark = [u8; 32];

impl Answers {
    /// Keeps each answer for this long; not at all if that is zero.
    pub(super) fn new(keep: Duration) -> io::Result<Answers> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Answers { key, keep, kept: Mutex::default() })
    }

    /// What stands for a question.
    pub(super) fn mark(&self, question: &[u8]) -> Mark {
        let mut sha = Sha256::new();
        sha.update(&self.key);
        sha.update(question);
        sha.finish()
    }

    /// What was answered to this, with what is left of its time.
    pub(super) fn find(&self, mark: &Mark, now: Instant) -> Option<Answer> {
        let kept = self.kept.lock();
        let Entry { answer, ends, .. } = kept.answers.get(mark).filter(|entry| now < entry.until)?;
        let left = ends.map(|ends| ends.saturating_duration_since(now));
        Some(Answer { left, ..answer.clone() })
    }

    /// Keeps an answer whose body had this many bytes.
    pub(super) fn keep(&self, mark: Mark, answer: &Answer, bytes: usize, now: Instant) {
        if self.keep.is_zero() {
            return;
        }
        // One that ends beyond all times has no end.
        let ends = answer.left.and_then(|left| now.checked_add(left));
        let Some(until) = now.checked_add(self.keep).map(|until| ends.map_or(until, |ends| ends.min(until))) else {
            return;
        };
        let mut kept = self.kept.lock();
        kept.insert(mark, Entry { answer: answer.clone(), until, ends, bytes: bytes + OVERHEAD });
        while kept.order.len() > ANSWERS_MAX || kept.bytes > BYTES_MAX {
            kept.forget_oldest();
        }
    }
}

impl Kept {
    fn insert(&mut self, mark: Mark, entry: Entry) {
        self.bytes += entry.bytes;
        // The same question may have been asked twice at once.
        if let Some(earlier) = self.answers.insert(mark, entry) {
            self.bytes -= earlier.bytes;
        } else {
            self.order.push_back(mark);
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.order.pop_front().and_then(|mark| self.answers.remove(&mark)) {
            self.bytes -= oldest.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;

    fn answer(left: Option<u64>) -> Answer {
        Answer { name: "ada".to_owned(), claims: Map::new(), left: left.map(Duration::from_secs) }
    }

    #[test]
    fn an_answer_is_kept_for_its_time_and_never_beyond_its_end() {
        let answers = Answers::new(Duration::from_secs(60)).unwrap();
        let now = Instant::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        let left = |question: &[u8], seconds| {
            answers.find(&answers.mark(question), after(seconds)).map(|answer| answer.left.map(|left| left.as_secs()))
        };
        for (question, seconds) in [(&b"ever"[..], None), (b"short", Some(10)), (b"long", Some(100))] {
            answers.keep(answers.mark(question), &answer(seconds), 20, now);
        }
        assert_eq!((left(b"ever", 59), left(b"ever", 60)), (Some(None), None));
        assert_eq!((left(b"short", 4), left(b"short", 10)), (Some(Some(6)), None));
        assert_eq!((left(b"long", 59), left(b"long", 60)), (Some(Some(41)), None));
        assert_eq!(left(b"other", 0), None);
        let other = Answers::new(Duration::from_secs(60)).unwrap();
        assert_ne!(answers.mark(b"ever"), other.mark(b"ever"), "the hash has no key");
        let off = Answers::new(Duration::ZERO).unwrap();
        off.keep(off.mark(b"x"), &answer(None), 20, now);
        assert!(off.find(&off.mark(b"x"), now).is_none());
    }

    #[test]
    fn only_so_many_answers_and_bytes_are_kept() {
        let answers = Answers::new(Duration::from_secs(60)).unwrap();
        let now = Instant::now();
        let mark = |number: usize| answers.mark(&number.to_le_bytes());
        for number in 0..=ANSWERS_MAX {
            answers.keep(mark(number), &answer(None), 1, now);
        }
        assert!(answers.find(&mark(0), now).is_none() && answers.find(&mark(1), now).is_some());
        for number in 0..200 {
            answers.keep(mark(number), &answer(None), 64 << 10, now);
            answers.keep(mark(number), &answer(None), 64 << 10, now);
        }
        let kept = answers.kept.lock();
        assert!(kept.bytes <= BYTES_MAX && kept.answers.len() == kept.order.len(), "{}", kept.bytes);
        assert_eq!(kept.bytes, kept.answers.values().map(|entry| entry.bytes).sum::<usize>());
    }
}
