//! How a connection ended and what it did: values, for log lines and events.

/// Why and how a connection ended; the first reason stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// The close code: what was sent or received, 1005 for a Close without one, 1006 for none at all.
    pub code: u16,
    /// The reason that was sent or received, or ours for ending it without a Close.
    pub reason: String,
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
