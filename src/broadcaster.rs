//! The broadcaster: owns the rooms, takes joins, leaves and messages in order, and fans out.
//!
//! What is pending is taken in one pass and joined by room, so that sixteen waiting messages, from
//! one sender or from sixteen, are one write per client. The clients of all rooms are divided
//! among the deliverers; with none, the broadcaster writes itself. Delivering never waits for a
//! client, so nobody here waits for anything but work.

use std::collections::HashMap;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use log::warn;

use crate::clock::Ticks;
use crate::connection::frame::{CorkLimits, Frame, join};
use crate::connection::outbox::{Delivery, Outbox};
use crate::id::Id;
use crate::route::Room;
use crate::shared::publisher::{Claim, Publications, Published};

/// Entries of one pass: the more, the better they join; the fewer, the sooner the first is out.
const PASS: usize = 256;

/// Passes on their way to one deliverer. Full: the broadcaster waits for it, and the senders for
/// the broadcaster; the deliverer itself waits for nobody.
const DELIVERER_ENTRIES: usize = 64;

/// Runs until it is told to end. `limits` are those of each endpoint's outboxes.
pub fn run(publications: &Publications, mut shares: Shares, limits: &[CorkLimits]) {
    let mut batch = Vec::with_capacity(PASS);
    let mut pending = Pending::default();
    while let Some(claim) = publications.take(&mut batch, PASS) {
        let claim = Arc::new(claim);
        for published in batch.drain(..) {
            match published {
                Published::Frame { room, except, frame } => pending.push(room, except, frame),
                Published::Join { room, outbox } => {
                    pending.flush(&mut shares, limits, &claim);
                    shares.pick(outbox.id()).apply(Task::Join { room, outbox });
                }
                Published::Leave { room, id } => {
                    pending.flush(&mut shares, limits, &claim);
                    shares.pick(id).apply(Task::Leave { room, id });
                }
                Published::To { outbox, frame } => {
                    pending.flush(&mut shares, limits, &claim);
                    shares.pick(outbox.id()).apply(Task::To { outbox, frame, claim: Arc::clone(&claim) });
                }
                Published::Stop { within } => {
                    pending.flush(&mut shares, limits, &claim);
                    shares.each(|share| share.apply(Task::Stop { within }));
                }
                Published::End => return,
            }
        }
        pending.flush(&mut shares, limits, &claim);
    }
}

/// A deliverer's loop: its share of every room's clients.
pub fn deliver(tasks: &Receiver<Task>) {
    let mut rooms = Rooms::default();
    for task in tasks {
        rooms.apply(task);
    }
}

/// A channel to a deliverer.
pub fn deliverer_channel() -> (Sender<Task>, Receiver<Task>) {
    crossbeam_channel::bounded(DELIVERER_ENTRIES)
}

/// The messages of one pass, by room, in the order of the first of each.
#[derive(Default)]
struct Pending {
    rooms: Vec<(Room, Vec<Part>)>,
}

/// A frame and who does not get it.
#[derive(Debug, Clone)]
struct Part {
    except: Option<Id>,
    frame: Frame,
}

impl Pending {
    fn push(&mut self, room: Room, except: Option<Id>, frame: Frame) {
        match self.rooms.iter_mut().find(|(other, _)| *other == room) {
            Some((_, parts)) => parts.push(Part { except, frame }),
            None => self.rooms.push((room, vec![Part { except, frame }])),
        }
    }

    fn flush(&mut self, shares: &mut Shares, limits: &[CorkLimits], claim: &Arc<Claim>) {
        for (room, parts) in self.rooms.drain(..) {
            let fan = Arc::new(Fan::new(parts, &limits[room.endpoint()], claim));
            shares.each(|share| share.apply(Task::Fan { room: room.clone(), fan: Arc::clone(&fan) }));
        }
    }
}

/// What one pass brings a room.
#[derive(Debug)]
pub struct Fan {
    /// For everybody whom nothing excludes: the parts joined as far as the limits go.
    joined: Vec<Frame>,
    /// The parts as they came, for those whom one of them excludes; empty if nobody is.
    parts: Vec<Part>,
    /// Senders are held while too much is on its way to the deliverers.
    _claim: Arc<Claim>,
}

impl Fan {
    fn new(parts: Vec<Part>, limits: &CorkLimits, claim: &Arc<Claim>) -> Fan {
        let mut joined = Vec::new();
        let mut group: Vec<Frame> = Vec::new();
        for part in &parts {
            if !group.is_empty() && !limits.admit(&group, &part.frame) {
                joined.push(join(std::mem::take(&mut group)));
            }
            group.push(part.frame.clone());
        }
        joined.push(join(group));
        let parts = if parts.iter().any(|part| part.except.is_some()) { parts } else { Vec::new() };
        Fan { joined, parts, _claim: Arc::clone(claim) }
    }
}

/// One step of a deliverer.
#[derive(Debug)]
pub enum Task {
    /// See [`Published::Join`].
    Join {
        /// The room.
        room: Room,
        /// The client's outbox.
        outbox: Arc<Outbox>,
    },
    /// See [`Published::Leave`].
    Leave {
        /// The room.
        room: Room,
        /// The client.
        id: Id,
    },
    /// Messages for the room's clients in this share.
    Fan {
        /// The room.
        room: Room,
        /// The messages.
        fan: Arc<Fan>,
    },
    /// Messages for one client.
    To {
        /// The client's outbox.
        outbox: Arc<Outbox>,
        /// The messages.
        frame: Frame,
        /// The room that they occupy.
        claim: Arc<Claim>,
    },
    /// See [`Published::Stop`].
    Stop {
        /// How long writing what is queued may take.
        within: Ticks,
    },
}

/// Everybody who delivers: the deliverers, or the broadcaster itself.
#[derive(Debug)]
pub struct Shares(Vec<Share>);

#[derive(Debug)]
enum Share {
    Own(Rooms),
    Deliverer(Sender<Task>),
}

impl Shares {
    /// One share per deliverer, or the broadcaster's own if there is none.
    pub fn new(deliverers: Vec<Sender<Task>>) -> Shares {
        if deliverers.is_empty() {
            return Shares(vec![Share::Own(Rooms::default())]);
        }
        Shares(deliverers.into_iter().map(Share::Deliverer).collect())
    }

    /// The share that a client is in.
    fn pick(&mut self, id: Id) -> &mut Share {
        let count = self.0.len() as u64;
        &mut self.0[(id.as_u64() % count) as usize]
    }

    fn each(&mut self, act: impl FnMut(&mut Share)) {
        self.0.iter_mut().for_each(act);
    }
}

impl Share {
    fn apply(&mut self, task: Task) {
        match self {
            Share::Own(rooms) => rooms.apply(task),
            // A deliverer ends only after the broadcaster, or with the whole process.
            Share::Deliverer(tasks) => drop(tasks.send(task)),
        }
    }
}

/// The clients of one share, by room.
#[derive(Debug, Default)]
struct Rooms {
    rooms: HashMap<Room, Members>,
    /// Set once the gateway stops: who joins now is closed within this time.
    stopping: Option<Ticks>,
}

/// A room's clients, dense for the fan-out, with their places for leaving.
#[derive(Debug, Default)]
struct Members {
    outboxes: Vec<Arc<Outbox>>,
    places: HashMap<Id, usize>,
}

impl Rooms {
    fn apply(&mut self, task: Task) {
        match task {
            Task::Join { room, outbox } => {
                if let Some(within) = self.stopping {
                    close_for_stop(&outbox, within);
                } else {
                    // The 101 and the welcome are waiting there, before anything of the room.
                    outbox.flush();
                    self.rooms.entry(room).or_default().add(outbox);
                }
            }
            Task::Leave { room, id } => {
                let Some(members) = self.rooms.get_mut(&room) else { return };
                members.remove(id);
                if members.outboxes.is_empty() {
                    self.rooms.remove(&room);
                }
            }
            Task::Fan { room, fan } => {
                if let Some(members) = self.rooms.get(&room) {
                    members.deliver(&fan);
                }
            }
            Task::To { outbox, frame, claim: _claim } => deliver_to(&outbox, &frame),
            Task::Stop { within } => {
                self.stopping = Some(within);
                let all = self.rooms.values().flat_map(|members| &members.outboxes);
                all.for_each(|outbox| close_for_stop(outbox, within));
            }
        }
    }
}

impl Members {
    fn add(&mut self, outbox: Arc<Outbox>) {
        self.places.insert(outbox.id(), self.outboxes.len());
        self.outboxes.push(outbox);
    }

    fn remove(&mut self, id: Id) {
        let Some(place) = self.places.remove(&id) else { return };
        self.outboxes.swap_remove(place);
        if let Some(moved) = self.outboxes.get(place) {
            self.places.insert(moved.id(), place);
        }
        // A room that was once large does not stay so.
        if self.outboxes.capacity() > 64 && self.outboxes.len() < self.outboxes.capacity() / 4 {
            self.outboxes.shrink_to_fit();
            self.places.shrink_to_fit();
        }
    }

    fn deliver(&self, fan: &Fan) {
        let mut excluded: Vec<usize> =
            fan.parts.iter().filter_map(|part| part.except).filter_map(|id| self.places.get(&id).copied()).collect();
        excluded.sort_unstable();
        excluded.dedup();
        let mut from = 0;
        for place in excluded {
            deliver_all(&self.outboxes[from..place], &fan.joined);
            let outbox = &self.outboxes[place];
            for part in fan.parts.iter().filter(|part| part.except != Some(outbox.id())) {
                deliver_to(outbox, &part.frame);
            }
            from = place + 1;
        }
        deliver_all(&self.outboxes[from..], &fan.joined);
    }
}

fn deliver_all(outboxes: &[Arc<Outbox>], frames: &[Frame]) {
    for outbox in outboxes {
        for frame in frames {
            deliver_to(outbox, frame);
        }
    }
}

fn deliver_to(outbox: &Arc<Outbox>, frame: &Frame) {
    match outbox.deliver(frame) {
        Delivery::Taken | Delivery::Closed | Delivery::Dropped { first: false } => {}
        Delivery::Dropped { first: true } => {
            warn!("client {}: its queue is full: messages are dropped from now on, as `when_full` says", outbox.id());
        }
        Delivery::TooSlow => {
            warn!("client {}: its queue is full: it is closed, as `when_full` says", outbox.id());
        }
    }
}

fn close_for_stop(outbox: &Arc<Outbox>, within: Ticks) {
    outbox.close_within(Some(1001), "Server shutting down", within);
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::config::Settings;
    use crate::route::Routes;
    use crate::shared::publisher;

    #[test]
    fn what_waits_for_a_deliverer_is_bounded_in_bytes() {
        const LEN: usize = 4 << 20;
        let (publisher, publications) = publisher::channel();
        let (tasks, inbox) = deliverer_channel();
        let broadcaster = std::thread::spawn(move || {
            run(&publications, Shares::new(vec![tasks]), &[CorkLimits::for_queue(4096, 4 << 20)]);
        });
        let room = Routes::new(&Settings::default().endpoints, &[]).find("/", |_| true).unwrap();
        let frame = Frame::joined(Bytes::from(vec![0; LEN]), 1);
        let publish = |count: usize| {
            let frame = Published::Frame { room: room.clone(), except: None, frame: frame.clone() };
            count < 1000 && publisher.publish(frame, || true)
        };
        let accepted = (0..).take_while(|&count| publish(count)).count();
        assert_eq!(accepted, (64 << 20) / LEN, "the deliverer does nothing, and senders are not held");
        // It catches up: there is room again.
        let deliverer = std::thread::spawn(move || deliver(&inbox));
        assert!((0..40).any(|_| publish(0)));
        assert!(publisher.publish(Published::End, || false));
        broadcaster.join().unwrap();
        deliverer.join().unwrap();
    }
}
