//! How a connection ended and what it did: values, for log lines, events and the decision to dial again.

use std::fmt;

use super::close::Close;

/// Why and how a connection ended; the first reason stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// The close code: what was sent or received, 1005 for a Close without one, 1006 for none at all.
    pub code: u16,
    /// The reason that was sent or received, or ours for ending it without a Close.
    pub reason: String,
    /// What made it end.
    pub cause: EndCause,
    /// The peer's Close, if its code is another one: it answers ours in its own way, or must not be on the wire.
    pub received: Option<Close>,
}

/// What made a connection end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndCause {
    /// A Close, or its loss.
    Ended,
    /// The peer took no byte for as long as the write timeout.
    WriteTimeout,
}

impl Ending {
    /// Whether it ended badly: the protocol was broken, a message was refused, or one side was lost. A peer that is done,
    /// goes away, restarts or has a code of its own has ended well.
    pub fn is_bad(&self) -> bool {
        matches!(self.code, 1002 | 1003 | 1006..=1011)
    }

    /// Notes the peer's Close, if it differs.
    pub(super) fn note_received(&mut self, close: &Close) {
        if close.code.is_some_and(|code| code != self.code) {
            self.received = Some(close.clone());
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "code {}, reason '{}'", self.code, self.reason)?;
        match &self.received {
            Some(Close { code: Some(code), reason }) => write!(f, ", received code {code}, reason '{reason}'"),
            _ => Ok(()),
        }
    }
}

/// What an outbox did over its life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Messages handed to the kernel whole.
    pub messages: u64,
    /// Bytes handed to the kernel: the 101 and frames, before encryption.
    pub bytes: u64,
    /// Messages dropped by policy.
    pub dropped: u64,
    /// Messages that were still queued when the connection ended.
    pub lost: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_bad_if_a_rule_was_broken_or_one_side_was_lost() {
        let ending = |code| Ending { code, reason: String::new(), cause: EndCause::Ended, received: None };
        let bad: Vec<u16> = (1000..5000).filter(|code| ending(*code).is_bad()).collect();
        assert_eq!(bad, [1002, 1003, 1006, 1007, 1008, 1009, 1010, 1011]);
    }

    #[test]
    fn what_was_said_and_what_was_received_are_shown_where_they_differ() {
        for (code, received, shown) in [
            (1001, Some(1001), "code 1001, reason 'a'"),
            (1001, Some(1000), "code 1001, reason 'a', received code 1000, reason 'b'"),
            (1002, Some(1005), "code 1002, reason 'a', received code 1005, reason 'b'"),
            (1005, None, "code 1005, reason 'a'"),
        ] {
            let mut ending = Ending { code, reason: "a".to_owned(), cause: EndCause::Ended, received: None };
            ending.note_received(&Close { code: received, reason: "b".to_owned() });
            assert_eq!(ending.to_string(), shown);
        }
    }
}
