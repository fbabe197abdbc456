//! `[[store]]`: a file that keeps messages.

use std::path::PathBuf;
use std::time::Duration;

use super::link::OutletPolicy;

/// `[[store]]`: a file that keeps messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSettings {
    /// How destinations and log lines call it: letters, digits, `-` and `_`.
    pub name: String,
    /// The database file.
    pub path: PathBuf,
    /// What a message outlasts that was acknowledged.
    pub durability: Durability,
    /// How long a commit waits for more messages. Default 0.
    pub gather: Duration,
    /// The bounds of what waits to be stored.
    pub queue: StoreQueueSettings,
    /// Bytes of the write-ahead log beyond which the store counts as full. Default 256 MiB.
    pub wal_limit: u64,
}

impl StoreSettings {
    /// A store in this file with every default.
    pub fn new(name: &str, path: PathBuf) -> StoreSettings {
        StoreSettings {
            name: name.to_owned(),
            path,
            durability: Durability::default(),
            gather: Duration::ZERO,
            queue: StoreQueueSettings::default(),
            wal_limit: 256 << 20,
        }
    }
}

/// What a message outlasts that was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// The failure of the machine too: each commit waits until the disk has it.
    #[default]
    Disk,
    /// The end of wsgate, however it comes: the system has it and writes it in its own time.
    Os,
}

impl Durability {
    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Durability::Disk => "disk",
            Durability::Os => "os",
        }
    }
}

/// `queue = { messages, bytes, when_full }` of a store: what waits for the next commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreQueueSettings {
    /// Messages queued at once. Default 16,384, at least 2.
    pub messages: usize,
    /// Bytes queued at once; an empty queue takes the messages of any one read. Default 16 MiB.
    pub bytes: usize,
    /// What happens to the next message. Default `Block`.
    pub when_full: OutletPolicy,
}

impl Default for StoreQueueSettings {
    fn default() -> StoreQueueSettings {
        StoreQueueSettings { messages: 16_384, bytes: 16 << 20, when_full: OutletPolicy::Block }
    }
}
