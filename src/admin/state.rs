//! The admin listener while it runs: what it tells of, and how much is asked of it at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::admin::errands::Errands;
use crate::admin::feed::Feed;
use crate::admin::watchers::Watchers;
use crate::listener::Bound;
use crate::permits::{Permit, Semaphore};
use crate::shared::Shared;
use crate::shared::handshakes::Handshakes;

/// Connections whose request is not there yet, or that wait for their next one. One more takes the place of the oldest of
/// the address that has the most, so that silent connections keep nobody out.
pub const WAITING_MAX: usize = 32;

/// Requests that are worked on at once; one more gets 503.
const BUSY_MAX: usize = 16;

/// How many may watch at once; one more gets 503. A page has one WebSocket, and a second one while it shows the tail.
pub const WATCHERS_MAX: usize = 32;

/// How long something that is about to end is waited for: threads whose connection had to give way, answers at the end.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often it is looked at meanwhile.
const SLICE: Duration = Duration::from_millis(5);

/// See the module's documentation.
#[derive(Debug)]
pub struct Admin {
    /// What it tells of and changes.
    pub shared: Arc<Shared>,
    /// Connections that wait for a request.
    pub waiting: Arc<Handshakes>,
    /// Requests that are worked on.
    pub busy: Arc<Semaphore>,
    /// The threads of callers.
    callers: Arc<Semaphore>,
    /// The places of those who watch, and who they are.
    pub watching: Arc<Semaphore>,
    pub watchers: Watchers,
    /// What pages are told.
    pub feed: Feed,
    ended: AtomicBool,
    /// Where others are asked for what the admin listener cannot do itself.
    pub errands: Errands,
}

impl Admin {
    /// One that nobody has called yet.
    pub fn new(shared: Arc<Shared>, errands: Errands) -> Arc<Admin> {
        Arc::new(Admin {
            shared,
            waiting: Handshakes::new(WAITING_MAX),
            busy: Semaphore::new(BUSY_MAX),
            callers: Semaphore::new(WAITING_MAX + BUSY_MAX),
            watching: Semaphore::new(WATCHERS_MAX),
            watchers: Watchers::default(),
            feed: Feed::default(),
            ended: AtomicBool::new(false),
            errands,
        })
    }

    /// A place for one more thread. Where all are taken, some of them have had to give way, and are waited for.
    pub fn place(&self) -> Option<Permit> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.callers.try_acquire() {
                None if Instant::now() < deadline => std::thread::sleep(SLICE),
                permit => return permit,
            }
        }
    }

    /// Takes no connection any more, once its listener is closed.
    pub fn begin_end(&self) {
        self.ended.store(true, Ordering::SeqCst);
    }

    /// Ends the connections that wait for a request, and those that watch.
    pub fn end_waiting(&self) {
        self.waiting.end();
        self.watchers.end();
    }

    /// The same, and gives answers that are on their way a moment.
    pub fn end(&self) {
        self.end_waiting();
        let deadline = Instant::now() + PATIENCE;
        while self.callers.in_use() + self.watching.in_use() > 0 && Instant::now() < deadline {
            std::thread::sleep(SLICE);
        }
    }

    /// Whether connections of this socket may go on: it is that of the admin listener.
    pub fn is_at(&self, socket: &Arc<Bound>) -> bool {
        !self.has_ended() && self.shared.generation().admin_door_at(socket).is_some()
    }

    /// Whether nothing is taken any more.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }
}
