//! `queue` of an endpoint: the bounds of an outbox. The model of the outbox compiles this file too.

/// `queue = { messages, bytes, when_full }`: an outbox's bounds and what happens at them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueSettings {
    /// Messages queued at once. Default 4,096, at least 2.
    pub messages: usize,
    /// Bytes queued at once; an empty outbox takes any one frame. Default 4 MiB.
    pub bytes: usize,
    /// What a broadcast does when it does not fit.
    pub when_full: WhenFull,
}

impl Default for QueueSettings {
    fn default() -> QueueSettings {
        QueueSettings { messages: 4096, bytes: 4 << 20, when_full: WhenFull::default() }
    }
}

/// What happens to a message for a client whose outbox is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// The oldest queued messages make room.
    #[default]
    DropOldest,
    /// The new message is dropped.
    DropNewest,
    /// The client is closed with 1008 "Too slow".
    Disconnect,
}
