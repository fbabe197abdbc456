//! How a connection ended and what it did: values, for log lines, events and the decision to dial again.

/// Why and how a connection ended; the first reason stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// The close code: what was sent or received, 1005 for a Close without one, 1006 for none at all.
    pub code: u16,
    /// The reason that was sent or received, or ours for ending it without a Close.
    pub reason: String,
    /// What made it end.
    pub cause: EndCause,
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
        let ending = |code| Ending { code, reason: String::new(), cause: EndCause::Ended };
        let bad: Vec<u16> = (1000..5000).filter(|code| ending(*code).is_bad()).collect();
        assert_eq!(bad, [1002, 1003, 1006, 1007, 1008, 1009, 1010, 1011]);
    }
}
