//! What the gateway as a whole has counted.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::shared::handshake_failures::HandshakeFailures;
use crate::system::memory::Memory;

/// See the module's documentation.
#[derive(Debug)]
pub struct Counters {
    /// Why accepted connections did not become clients.
    pub handshake_failures: HandshakeFailures,
    /// Whether the configuration or its files could be read again.
    pub reloads: Reloaded,
    /// What is to be read for the memory that is used.
    pub memory: Memory,
    accepted: AtomicU64,
    started: SystemTime,
    since: Instant,
}

/// How often the configuration or its files were read again since the start.
#[derive(Debug)]
pub struct Reloaded {
    succeeded: AtomicU64,
    failed: AtomicU64,
    has_last_failed: AtomicBool,
    /// In milliseconds since 1970.
    last: AtomicU64,
}

impl Counters {
    /// Those of a gateway that starts now.
    pub fn new() -> Counters {
        let (handshake_failures, started) = (HandshakeFailures::default(), SystemTime::now());
        let reloads = Reloaded::never(started);
        let (memory, accepted, since) = (Memory::of_process(), AtomicU64::new(0), Instant::now());
        Counters { handshake_failures, reloads, memory, accepted, started, since }
    }

    /// When the gateway started.
    pub fn started(&self) -> SystemTime {
        self.started
    }

    /// For how long it has run.
    pub fn uptime(&self) -> Duration {
        self.since.elapsed()
    }

    /// A connection was accepted.
    pub fn count_accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    /// How many connections were accepted.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }
}

impl Reloaded {
    fn never(started: SystemTime) -> Reloaded {
        let (succeeded, failed, has_last_failed) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
        Reloaded { succeeded, failed, has_last_failed, last: AtomicU64::new(millis(started)) }
    }

    /// Counts one, which has just ended.
    pub fn count(&self, has_succeeded: bool) {
        let counter = if has_succeeded { &self.succeeded } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        self.has_last_failed.store(!has_succeeded, Ordering::Relaxed);
        self.last.store(millis(SystemTime::now()), Ordering::Relaxed);
    }

    /// How many have succeeded.
    pub fn succeeded(&self) -> u64 {
        self.succeeded.load(Ordering::Relaxed)
    }

    /// How many have failed.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Whether the last one has failed; `false` before the first.
    pub fn has_last_failed(&self) -> bool {
        self.has_last_failed.load(Ordering::Relaxed)
    }

    /// When the last one was, since 1970; before the first, when the gateway started.
    pub fn last(&self) -> Duration {
        Duration::from_millis(self.last.load(Ordering::Relaxed))
    }
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
