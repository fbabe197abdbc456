//! A store as others see it: its queue, how it stands, and what it has counted.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use log::warn;

use crate::config::{StoreId, StoreSettings};
use crate::display::count_were;
use crate::histogram::Histogram;
use crate::log_kind::STORES;
use crate::shared::receipt::Receipt;
use crate::shared::store_queue::{Handed, StoreQueue};
use crate::store::place::Place;
use crate::store::record::Batch;
use crate::store::writer::Writer;
use crate::sync::Mutex;

/// The bounds of the buckets of how long commits take.
static COMMIT_BOUNDS: [Duration; 12] = {
    let ms = Duration::from_micros;
    [
        ms(100),
        ms(250),
        ms(500),
        ms(1_000),
        ms(2_500),
        ms(5_000),
        ms(10_000),
        ms(25_000),
        ms(50_000),
        ms(100_000),
        ms(500_000),
        ms(2_500_000),
    ]
};

/// A store while the gateway runs. What is in an `Arc` lives on when a reload changes the rest.
#[derive(Debug)]
pub struct Store {
    pub id: StoreId,
    pub settings: StoreSettings,
    /// What lives as long as the file is in use.
    pub live: Arc<LiveStore>,
}

/// What of a store no reload changes.
#[derive(Debug)]
pub struct LiveStore {
    pub name: Arc<str>,
    /// What its senders hand messages to.
    pub queue: StoreQueue,
    standing: Mutex<Standing>,
    /// Its file, until its thread takes it.
    file: Mutex<Option<StoreFile>>,
    pub counters: StoreCounters,
}

/// The file of a store: its place, locked for this gateway, and the writer, if it could be opened at once.
pub type StoreFile = (Place, Option<Writer>);

/// How a store stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It stores.
    Open,
    /// Another program has locked the file.
    Locked(String),
    /// There is no room.
    Full(String),
    /// The file cannot be read, written or synced.
    Failed(String),
}

impl Standing {
    /// In one word.
    pub fn word(&self) -> &'static str {
        match self {
            Standing::Open => "open",
            Standing::Locked(_) => "locked",
            Standing::Full(_) => "full",
            Standing::Failed(_) => "failed",
        }
    }

    /// All words.
    pub const WORDS: [&str; 4] = ["open", "locked", "full", "failed"];

    /// Why it does not store, if it does not.
    pub fn why(&self) -> Option<&str> {
        match self {
            Standing::Open => None,
            Standing::Locked(why) | Standing::Full(why) | Standing::Failed(why) => Some(why),
        }
    }
}

/// What a store has counted since the start, and what is in its files.
#[derive(Debug)]
pub struct StoreCounters {
    /// Messages that a commit has stored.
    pub stored: AtomicU64,
    /// Bytes of their payloads, and a little for each.
    pub stored_bytes: AtomicU64,
    /// Messages that were dropped because of the queue's policy, or because their sender or the store ended.
    pub dropped: AtomicU64,
    /// How long each commit took.
    pub commits: Histogram,
    /// Attempts to commit that failed.
    pub failures: AtomicU64,
    /// Messages in the file.
    pub messages: AtomicU64,
    /// Bytes of the database, and of its write-ahead log.
    pub file_bytes: AtomicU64,
    pub wal_bytes: AtomicU64,
    /// Drops since it was last said how many there were.
    unreported: AtomicU64,
}

impl Store {
    /// A store whose file is taken; `None` where nothing is ever stored.
    pub fn new(id: StoreId, settings: StoreSettings, file: Option<StoreFile>) -> Store {
        let live = LiveStore {
            name: settings.name.as_str().into(),
            queue: StoreQueue::new(settings.queue),
            standing: Mutex::new(Standing::Open),
            file: Mutex::new(file),
            counters: StoreCounters::new(),
        };
        Store { id, settings, live: Arc::new(live) }
    }

    /// The same store with other settings.
    pub fn changed(&self, settings: StoreSettings) -> Store {
        Store { id: self.id, settings, live: Arc::clone(&self.live) }
    }
}

impl LiveStore {
    /// Hands messages over; waits for room where the policy says so. What is dropped is counted; says whether they were not
    /// refused for want of room or because the store has ended. `give_up` as for [`StoreQueue::push`].
    pub fn push(&self, batch: Batch, receipt: Option<Arc<Receipt>>, give_up: impl Fn() -> bool) -> bool {
        let messages = batch.messages();
        match self.queue.push(batch, receipt, give_up) {
            Handed::Taken => return true,
            Handed::Dropped(count) => {
                self.count_dropped(count, "its queue is full");
                return true;
            }
            Handed::GivenUp => self.count_dropped(messages, "a sender gave up while it waited for room"),
            Handed::Ended => self.count_dropped(messages, "it has ended"),
        }
        false
    }

    /// Its file, for its thread, which takes it once.
    pub fn take_file(&self) -> Option<StoreFile> {
        self.file.lock().take()
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        self.standing.lock().clone()
    }

    /// Says how it stands from now on; gives back how it stood before.
    pub fn set_standing(&self, standing: Standing) -> Standing {
        std::mem::replace(&mut *self.standing.lock(), standing)
    }

    /// Waits until all that was handed over before is stored, at most until the deadline, or until it turns out that it
    /// cannot be stored now.
    pub fn flush(&self, deadline: Instant) {
        self.queue.flush(deadline, || *self.standing.lock() != Standing::Open);
    }

    /// Forgets what is queued and `more` messages that its thread has: it has ended.
    pub fn abandon(&self, more: usize) {
        let lost = self.queue.abandon() + more;
        if lost > 0 {
            self.counters.dropped.fetch_add(lost as u64, Ordering::Relaxed);
            warn!(target: STORES, store = &*self.name; "{self}: {} still queued for it and got lost", count_were(lost, "message"));
        }
    }

    /// Says so when they are the first that are dropped for this reason.
    fn count_dropped(&self, messages: usize, why: &str) {
        let counters = &self.counters;
        counters.dropped.fetch_add(messages as u64, Ordering::Relaxed);
        if messages > 0 && counters.unreported.fetch_add(messages as u64, Ordering::Relaxed) == 0 {
            warn!(target: STORES, store = &*self.name; "{self}: {why}: messages for it are dropped from now on");
        }
    }

    /// Says how many messages were dropped, once nothing waits any more.
    pub fn report_dropped(&self) {
        match self.counters.unreported.swap(0, Ordering::Relaxed) {
            0 => {}
            dropped => {
                warn!(target: STORES, store = &*self.name; "{self}: {} dropped until now", count_were(dropped, "message"))
            }
        }
    }
}

impl fmt::Display for LiveStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "store {}", self.name)
    }
}

impl StoreCounters {
    fn new() -> StoreCounters {
        let [stored, stored_bytes, dropped, failures, messages, file_bytes, wal_bytes, unreported] =
            [(); 8].map(|()| AtomicU64::new(0));
        StoreCounters {
            stored,
            stored_bytes,
            dropped,
            commits: Histogram::new(&COMMIT_BOUNDS),
            failures,
            messages,
            file_bytes,
            wal_bytes,
            unreported,
        }
    }
}
