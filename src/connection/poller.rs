//! The outboxes that somebody other than their own client has to look after: stalled ones wait
//! here for their socket to take more, closing ones for their deadline.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use super::outbox::Outbox;
use crate::clock::Ticks;
use crate::sync::{Arc, Mutex};

/// How many outboxes one [`wait`](Poller::wait) reports at most.
const EVENTS: usize = 64;

/// The event that says: stop waiting. No client has this id.
const WAKE: u64 = 0;

/// Shared by everybody who writes (and may stall), the flusher and the heartbeat.
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
    wake: OwnedFd,
    stalled: Mutex<HashMap<u64, Arc<Outbox>>>,
    closing: Mutex<HashMap<u64, Arc<Outbox>>>,
}

impl Poller {
    /// An empty poller. Errors are those of `epoll_create1` and `eventfd`.
    pub fn new() -> io::Result<Poller> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let wake = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC)?;
        epoll::add(&epoll, &wake, EventData::new_u64(WAKE), EventFlags::IN)?;
        Ok(Poller { epoll, wake, stalled: Mutex::default(), closing: Mutex::default() })
    }

    /// Has the flusher go on with `outbox` as soon as its socket takes more. The caller has set
    /// `stalled`, so nobody else writes until then.
    ///
    /// The registration is one-shot and level-triggered when made: a socket that became writable
    /// in between reports at once. If the kernel refuses it (out of memory), the outbox is cut:
    /// nobody would ever wake it.
    pub(super) fn arm(&self, outbox: &Arc<Outbox>) {
        let id = outbox.id().as_u64();
        self.stalled.lock().insert(id, Arc::clone(outbox));
        let flags = EventFlags::OUT | EventFlags::ONESHOT;
        let armed = match epoll::modify(&self.epoll, outbox.socket(), EventData::new_u64(id), flags) {
            Err(rustix::io::Errno::NOENT) => epoll::add(&self.epoll, outbox.socket(), EventData::new_u64(id), flags),
            result => result,
        };
        if armed.is_err() {
            self.stalled.lock().remove(&id);
            outbox.abort("the system refused to watch the socket");
        }
    }

    /// Has the heartbeat look at `outbox` every tick until it has ended.
    pub(super) fn closing(&self, outbox: &Arc<Outbox>) {
        self.closing.lock().insert(outbox.id().as_u64(), Arc::clone(outbox));
    }

    /// Blocks until stalled outboxes can go on, or until [`wake`](Poller::wake), or for as long as `timeout`.
    pub fn wait(&self, timeout: Option<&Timespec>) -> io::Result<Vec<Arc<Outbox>>> {
        let mut events = Vec::with_capacity(EVENTS);
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut stalled = self.stalled.lock();
        // The id picks the outbox, not the descriptor: an old event finds nothing here.
        Ok(events.iter().filter_map(|event| stalled.remove(&event.data.u64())).collect())
    }

    /// Makes every present and future [`wait`](Poller::wait) return.
    pub fn wake(&self) {
        // A full eventfd is woken already.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    /// Cuts what is over its deadline, stalled or closing, and forgets what has ended.
    pub fn sweep(&self, now: Ticks) {
        let stalled: Vec<_> = self.stalled.lock().values().map(Arc::clone).collect();
        for outbox in stalled {
            outbox.check_write_deadline(now);
        }
        let closing: Vec<_> = self.closing.lock().values().map(Arc::clone).collect();
        for outbox in closing {
            if !outbox.check_close_deadline(now) {
                self.closing.lock().remove(&outbox.id().as_u64());
            }
        }
    }

    /// Whether nobody waits for a socket.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.stalled.lock().is_empty()
    }

    /// Forgets an outbox whose client has ended: here it would keep its socket open until the heartbeat comes.
    pub(super) fn forget(&self, outbox: &Outbox) {
        let id = outbox.id().as_u64();
        let stalled = self.stalled.lock().remove(&id);
        let closing = self.closing.lock().remove(&id);
        // Without a lock, since the last one to let go closes the socket.
        drop((stalled, closing));
    }
}
