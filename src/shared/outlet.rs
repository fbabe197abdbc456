//! Outlets: what a route can send to that has a queue, a policy and a state of its own. A link is one.
//!
//! Dispatch hands messages to an outlet and knows nothing of what is behind it; the outlet's own thread takes them out
//! and sends, stores or publishes them.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use log::warn;

use crate::config::Format;
use crate::connection::frame::{Cork, CorkLimits, Frame};
use crate::display::count_were;
use crate::format::Audience;
use crate::shared::send_queue::{Bounds, Enqueued, Next, SendQueue};
use crate::sync::Mutex;

/// How an outlet gets its messages.
#[derive(Debug, Clone, Copy)]
pub struct Encoding {
    /// Their format.
    pub format: Format,
    /// Who reads them.
    pub audience: Audience,
    /// How much is joined into one frame.
    pub cork: CorkLimits,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Outlet {
    /// As log lines call it: `link plc`.
    name: String,
    encoding: Mutex<Encoding>,
    queue: SendQueue,
    /// Messages that were dropped since the start.
    dropped: AtomicU64,
    /// Of these, how many since it was last said how many there were.
    unreported: AtomicU64,
}

impl Outlet {
    /// An outlet that is down, with an empty queue.
    pub fn new(name: String, encoding: Encoding, bounds: Bounds) -> Outlet {
        let queue = SendQueue::new(bounds);
        Outlet {
            name,
            encoding: Mutex::new(encoding),
            queue,
            dropped: AtomicU64::new(0),
            unreported: AtomicU64::new(0),
        }
    }

    /// How its messages are to be encoded.
    pub fn encoding(&self) -> Encoding {
        *self.encoding.lock()
    }

    /// Messages that senders encode from now on are encoded so, and other bounds hold. What is queued stays.
    pub fn change(&self, encoding: Encoding, bounds: Bounds) {
        *self.encoding.lock() = encoding;
        self.queue.set_bounds(bounds);
    }

    /// A cork for one of its senders.
    pub fn cork(&self) -> Cork {
        let Encoding { audience, cork, .. } = self.encoding();
        match audience {
            Audience::Client | Audience::Consumer => Cork::new(cork),
            Audience::Remote => Cork::masked(cork),
        }
    }

    /// Hands a frame over; waits for room where its policy says so. What is dropped is counted. `give_up` as for
    /// [`SendQueue::push`]. Says whether it was taken, or dropped by that policy.
    pub fn push(&self, frame: &Frame, give_up: impl Fn() -> bool) -> bool {
        match self.queue.push(frame, give_up) {
            Enqueued::Taken => {}
            Enqueued::DroppedWhileDown(count) => self.count_dropped(count, "it is down and its queue is full"),
            Enqueued::DroppedWhileSlow(count) => {
                self.count_dropped(count, "it accepts data too slowly and its queue is full");
            }
            Enqueued::GivenUp => {
                self.count_dropped(frame.messages(), "a sender has left, or has waited too long for room");
                return false;
            }
            Enqueued::Ended => {
                self.count_ended(frame.messages());
                return false;
            }
        }
        true
    }

    /// Hands a frame over if less than half of the room is taken: for what must neither block anybody nor drive out
    /// messages. Says whether it did.
    pub fn try_push(&self, frame: &Frame) -> bool {
        self.queue.try_push(frame)
    }

    /// The next frame for its own thread, see [`SendQueue::take`].
    pub fn take(&self, deadline: Option<Instant>) -> Next {
        let next = self.queue.take(deadline);
        if self.unreported.load(Ordering::Relaxed) > 0 && self.queue.has_caught_up() {
            self.report_dropped("while it was too slow");
        }
        next
    }

    /// It takes messages from now on.
    pub fn set_up(&self) {
        // First: its thread would report the same drops as those of a slow one.
        self.report_dropped("while it was down");
        self.queue.set_up(true);
    }

    /// It takes none from now on: what comes waits.
    pub fn set_down(&self) {
        self.queue.set_up(false);
    }

    /// Accepts nothing any more. What waits is still given out while it is up.
    pub fn end(&self) {
        self.queue.end();
    }

    /// The same in a moment: what senders had read for it before is still accepted. At `until` its thread is called.
    pub fn leave(&self, until: Instant) {
        self.queue.leave(until);
    }

    /// Accepts nothing any more and drops what waits and `more` messages that its thread has.
    pub fn abandon(&self, more: usize) {
        self.count_lost(self.queue.abandon() + more);
    }

    /// As [`abandon`](Outlet::abandon), until it is [opened](Outlet::open) again. Its thread goes on waiting.
    pub fn close(&self, more: usize) {
        self.count_lost(self.queue.close() + more);
    }

    /// Accepts messages again.
    pub fn open(&self) {
        self.queue.open();
    }

    fn count_lost(&self, lost: usize) {
        // The sum of all is logged at the end of a link, and there is nothing to catch up with any more.
        self.unreported.store(0, Ordering::Relaxed);
        if lost > 0 {
            warn!(link = self.link_name(); "{self}: {} still queued for it and got lost", count_were(lost, "message"));
            self.dropped.fetch_add(lost as u64, Ordering::Relaxed);
        }
    }

    /// Counts messages that its own thread could not get rid of because it has ended.
    pub fn count_ended(&self, messages: usize) {
        self.count_dropped(messages, "it has ended");
    }

    /// Messages that were dropped since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// How many messages and bytes wait for its thread.
    pub fn depth(&self) -> (usize, usize) {
        self.queue.depth()
    }

    /// Says so when they are the first that are dropped for this reason.
    fn count_dropped(&self, messages: usize, why: &str) {
        self.dropped.fetch_add(messages as u64, Ordering::Relaxed);
        if messages > 0 && self.unreported.fetch_add(messages as u64, Ordering::Relaxed) == 0 {
            warn!(link = self.link_name(); "{self}: {why}: messages for it are dropped from now on");
        }
    }

    /// The name of the link, for a field of the log.
    pub fn link_name(&self) -> &str {
        self.name.strip_prefix("link ").unwrap_or(&self.name)
    }

    fn report_dropped(&self, when: &str) {
        match self.unreported.swap(0, Ordering::Relaxed) {
            0 => {}
            dropped => warn!(link = self.link_name(); "{self}: {when}, {} dropped", count_were(dropped, "message")),
        }
    }
}

impl fmt::Display for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
