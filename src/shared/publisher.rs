//! The way to the broadcaster: one bounded channel for joins, leaves and messages, in order.
//!
//! It is bounded in entries and in bytes, and the bytes count until the last deliverer is done. A full channel holds the sender's own thread, which
//! then does not read its socket, so TCP tells the client to slow down. Nothing is lost.

use std::sync::Arc;

use crossbeam_channel::{Receiver, SendTimeoutError, Sender, TrySendError};

use crate::clock::Ticks;
use crate::connection::frame::Frame;
use crate::connection::outbox::Outbox;
use crate::id::Id;
use crate::route::Room;
use crate::sync::{Mutex, SLICE, Signal};

/// Entries in the channel. Full: the sender waits.
const ENTRIES: usize = 1024;

/// Bytes of frames in the channel and on their way to clients' outboxes. Full: the sender waits; an empty channel takes any one frame.
const BYTES: usize = 64 << 20;

/// What the broadcaster takes, in the order in which it was sent.
#[derive(Debug)]
pub enum Published {
    /// Messages for a room.
    Frame {
        room: Room,
        /// Who does not get them.
        except: Option<Id>,
        /// The messages, encoded in the format of the room's endpoint.
        frame: Frame,
    },
    /// Anything else, which has its place between the messages.
    Step(Step),
    /// Nothing comes after this.
    End,
}

/// What happens between the messages of rooms.
#[derive(Debug, Clone)]
pub enum Step {
    /// A client enters a room: it gets everything that is sent after this.
    Join { room: Room, outbox: Arc<Outbox> },
    /// A client leaves a room.
    Leave { room: Room, id: Id },
    /// Messages for one client.
    To { outbox: Arc<Outbox>, frame: Frame },
    /// The gateway stops: every client, also one that joins later, is closed with 1001.
    Stop {
        /// How long writing what is queued may take.
        within: Ticks,
    },
}

impl Step {
    /// The client that it is about; `None` if it is about all.
    pub fn client(&self) -> Option<Id> {
        match self {
            Step::Join { outbox, .. } | Step::To { outbox, .. } => Some(outbox.id()),
            Step::Leave { id, .. } => Some(*id),
            Step::Stop { .. } => None,
        }
    }
}

impl Published {
    fn size(&self) -> usize {
        match self {
            Published::Frame { frame, .. } | Published::Step(Step::To { frame, .. }) => frame.len(),
            Published::Step(_) | Published::End => 0,
        }
    }
}

/// The sending end; cheap to clone.
#[derive(Debug, Clone)]
pub struct Publisher {
    sender: Sender<Published>,
    budget: Arc<Budget>,
}

/// The receiving end, the broadcaster's.
#[derive(Debug)]
pub struct Inbox {
    receiver: Receiver<Published>,
    budget: Arc<Budget>,
}

/// The room that what was taken still occupies; dropping it gives the room back.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.give(self.bytes);
    }
}

/// The bytes that are in the channel or claimed.
#[derive(Debug, Default)]
struct Budget {
    bytes: Mutex<usize>,
    freed: Signal,
}

/// Both ends of a new channel.
pub fn channel() -> (Publisher, Inbox) {
    let (sender, receiver) = crossbeam_channel::bounded(ENTRIES);
    let budget = Arc::new(Budget::default());
    (Publisher { sender, budget: Arc::clone(&budget) }, Inbox { receiver, budget })
}

impl Publisher {
    /// Sends without waiting, or gives the entry back.
    pub fn try_publish(&self, published: Published) -> Result<(), Published> {
        let size = published.size();
        if !self.budget.try_take(size) {
            return Err(published);
        }
        self.sender.try_send(published).map_err(|error| {
            self.budget.give(size);
            match error {
                TrySendError::Full(published) | TrySendError::Disconnected(published) => published,
            }
        })
    }

    /// Sends, waiting for room as long as it takes or until `give_up` says so, which is asked
    /// every 250 ms. Says whether it was sent; it is not when the broadcaster has ended either.
    pub fn publish(&self, published: Published, give_up: impl Fn() -> bool) -> bool {
        let size = published.size();
        if !self.budget.take(size, &give_up) {
            return false;
        }
        let mut published = published;
        loop {
            match self.sender.send_timeout(published, SLICE) {
                Ok(()) => return true,
                Err(SendTimeoutError::Timeout(back)) if !give_up() => published = back,
                Err(_) => {
                    self.budget.give(size);
                    return false;
                }
            }
        }
    }
}

impl Inbox {
    /// Blocks for an entry, then takes what else is there, up to `most` in all. `None` when
    /// there will never be another. Keep the reservation until the frames are delivered.
    pub fn take(&self, batch: &mut Vec<Published>, most: usize) -> Option<Reservation> {
        let first = self.receiver.recv().ok()?;
        // Other senders that are about to publish get to do so: one permit for all of them.
        std::thread::yield_now();
        batch.push(first);
        batch.extend(self.receiver.try_iter().take(most - 1));
        Some(Reservation { budget: Arc::clone(&self.budget), bytes: batch.iter().map(Published::size).sum() })
    }
}

impl Budget {
    fn try_take(&self, size: usize) -> bool {
        if size == 0 {
            return true;
        }
        let mut bytes = self.bytes.lock();
        let fits = fits(*bytes, size);
        *bytes += if fits { size } else { 0 };
        fits
    }

    /// Takes room for `size` bytes, waiting for it; `false` if `give_up`.
    fn take(&self, size: usize, give_up: impl Fn() -> bool) -> bool {
        if size == 0 {
            return true;
        }
        let bytes = self.bytes.lock();
        let Some(mut bytes) = self.freed.wait_while(&self.bytes, bytes, |bytes| !fits(*bytes, size), give_up) else {
            return false;
        };
        *bytes += size;
        true
    }

    fn give(&self, size: usize) {
        if size == 0 {
            return;
        }
        *self.bytes.lock() -= size;
        self.freed.notify_all();
    }
}

/// Whether `size` more bytes have room beside these; an empty channel takes any one frame.
fn fits(bytes: usize, size: usize) -> bool {
    bytes == 0 || bytes + size <= BYTES
}
