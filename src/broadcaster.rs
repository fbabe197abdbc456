//! The broadcaster: owns the rooms, takes joins, leaves and messages in order, and fans out.
//!
//! What is pending is taken in one pass and joined by room, so that sixteen waiting messages, from
//! one sender or from sixteen, are one write per client. The clients of all rooms are divided
//! among the deliverers; with none, the broadcaster writes itself. Delivering never waits for a
//! client, so these threads wait for nothing but work.

use std::collections::HashMap;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use log::warn;

use crate::clock::Ticks;
use crate::connection::frame::{CorkLimits, Frame, join};
use crate::connection::outbox::{Delivery, Outbox};
use crate::id::Id;
use crate::route::Room;
use crate::shared::publisher::{Inbox, Published, Reservation, Step};

/// Entries of one pass: the more, the better they join; the fewer, the sooner the first is out.
const PASS: usize = 256;

/// Passes on their way to one deliverer. Full: the broadcaster waits for it, and the senders for
/// the broadcaster; the deliverer itself waits for nobody.
const DELIVERER_ENTRIES: usize = 64;

/// Runs until it is told to end. `limits` are those of each endpoint's outboxes.
pub fn run(inbox: &Inbox, mut shards: Shards, limits: &[CorkLimits]) {
    let mut batch = Vec::with_capacity(PASS);
    let mut pending = Pending::default();
    while let Some(reservation) = inbox.take(&mut batch, PASS) {
        let reservation = Arc::new(reservation);
        for published in batch.drain(..) {
            match published {
                Published::Frame { room, except, frame } => pending.push(room, except, frame),
                Published::Step(step) => {
                    pending.flush(&mut shards, limits, &reservation);
                    shards.step(step, &reservation);
                }
                Published::End => return,
            }
        }
        pending.flush(&mut shards, limits, &reservation);
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
    rooms: Vec<(Room, Vec<Entry>)>,
}

/// A frame and who does not get it.
#[derive(Debug, Clone)]
struct Entry {
    except: Option<Id>,
    frame: Frame,
}

impl Pending {
    fn push(&mut self, room: Room, except: Option<Id>, frame: Frame) {
        match self.rooms.iter_mut().find(|(other, _)| *other == room) {
            Some((_, entries)) => entries.push(Entry { except, frame }),
            None => self.rooms.push((room, vec![Entry { except, frame }])),
        }
    }

    fn flush(&mut self, shards: &mut Shards, limits: &[CorkLimits], reservation: &Arc<Reservation>) {
        for (room, entries) in self.rooms.drain(..) {
            let fanout = Arc::new(Fanout::new(entries, &limits[room.endpoint()], reservation));
            shards.each(|shard| shard.apply(Task::Fanout { room: room.clone(), fanout: Arc::clone(&fanout) }));
        }
    }
}

/// What one pass brings a room.
#[derive(Debug)]
pub struct Fanout {
    /// For everybody whom nothing excludes: the entries joined as far as the limits go.
    joined: Vec<Frame>,
    /// The entries as they came, for those whom one of them excludes; empty if nobody is.
    entries: Vec<Entry>,
    /// Senders are held while too much is on its way to the deliverers.
    _reservation: Arc<Reservation>,
}

impl Fanout {
    fn new(entries: Vec<Entry>, limits: &CorkLimits, reservation: &Arc<Reservation>) -> Fanout {
        let mut joined = Vec::new();
        let mut group: Vec<Frame> = Vec::new();
        for entry in &entries {
            if !group.is_empty() && !limits.admit(&group, &entry.frame) {
                joined.push(join(std::mem::take(&mut group)));
            }
            group.push(entry.frame.clone());
        }
        joined.push(join(group));
        let entries = if entries.iter().any(|entry| entry.except.is_some()) { entries } else { Vec::new() };
        Fanout { joined, entries, _reservation: Arc::clone(reservation) }
    }
}

/// What a deliverer does next.
#[derive(Debug)]
pub enum Task {
    /// Messages for the room's clients in this shard.
    Fanout { room: Room, fanout: Arc<Fanout> },
    /// A step, and the room in the channel that its messages occupy.
    Step(Step, Arc<Reservation>),
}

/// Everybody who delivers: the deliverers, or the broadcaster itself.
#[derive(Debug)]
pub struct Shards(Vec<Shard>);

#[derive(Debug)]
enum Shard {
    Own(Rooms),
    Deliverer(Sender<Task>),
}

impl Shards {
    /// One share per deliverer, or the broadcaster's own if there is none.
    pub fn new(deliverers: Vec<Sender<Task>>) -> Shards {
        if deliverers.is_empty() {
            return Shards(vec![Shard::Own(Rooms::default())]);
        }
        Shards(deliverers.into_iter().map(Shard::Deliverer).collect())
    }

    /// Has the shard of its client, or each of them, do a step.
    fn step(&mut self, step: Step, reservation: &Arc<Reservation>) {
        match step.client() {
            Some(id) => self.pick(id).apply(Task::Step(step, Arc::clone(reservation))),
            None => self.each(|shard| shard.apply(Task::Step(step.clone(), Arc::clone(reservation)))),
        }
    }

    /// The shard that a client is in.
    fn pick(&mut self, id: Id) -> &mut Shard {
        let count = self.0.len() as u64;
        &mut self.0[(id.as_u64() % count) as usize]
    }

    fn each(&mut self, act: impl FnMut(&mut Shard)) {
        self.0.iter_mut().for_each(act);
    }
}

impl Shard {
    fn apply(&mut self, task: Task) {
        match self {
            Shard::Own(rooms) => rooms.apply(task),
            // A deliverer ends only after the broadcaster, or with the whole process.
            Shard::Deliverer(tasks) => drop(tasks.send(task)),
        }
    }
}

/// The clients of one shard, by room.
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
            Task::Fanout { room, fanout } => {
                if let Some(members) = self.rooms.get(&room) {
                    members.deliver(&fanout);
                }
            }
            Task::Step(step, _reservation) => self.step(step),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Join { room, outbox } => {
                if let Some(within) = self.stopping {
                    close_for_stop(&outbox, within);
                } else {
                    // The 101 and the welcome are waiting there, before anything of the room.
                    outbox.flush();
                    self.rooms.entry(room).or_default().add(outbox);
                }
            }
            Step::Leave { room, id } => {
                let Some(members) = self.rooms.get_mut(&room) else { return };
                members.remove(id);
                if members.outboxes.is_empty() {
                    self.rooms.remove(&room);
                }
            }
            Step::To { outbox, frame } => deliver_to(&outbox, &frame),
            Step::Stop { within } => {
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

    fn deliver(&self, fanout: &Fanout) {
        let mut excluded: Vec<usize> = fanout
            .entries
            .iter()
            .filter_map(|entry| entry.except)
            .filter_map(|id| self.places.get(&id).copied())
            .collect();
        excluded.sort_unstable();
        excluded.dedup();
        let mut from = 0;
        for place in excluded {
            deliver_all(&self.outboxes[from..place], &fanout.joined);
            let outbox = &self.outboxes[place];
            for entry in fanout.entries.iter().filter(|entry| entry.except != Some(outbox.id())) {
                deliver_to(outbox, &entry.frame);
            }
            from = place + 1;
        }
        deliver_all(&self.outboxes[from..], &fanout.joined);
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
            warn!(
                "client {}: its queue is full: messages for it are dropped from now on, as `when_full` says",
                outbox.id()
            );
        }
        Delivery::TooSlow => {
            warn!("client {}: its queue is full: the client is closed, as `when_full` says", outbox.id());
        }
    }
}

fn close_for_stop(outbox: &Arc<Outbox>, within: Ticks) {
    outbox.close_within(Some(1001), "Server shutting down", within);
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use bytes::Bytes;

    use super::*;
    use crate::config::Settings;
    use crate::route::Routes;
    use crate::shared::publisher;

    #[test]
    fn what_waits_for_a_deliverer_is_bounded_in_bytes() {
        const LEN: usize = 4 << 20;
        let (publisher, published) = publisher::channel();
        let (tasks, inbox) = deliverer_channel();
        let broadcaster = std::thread::spawn(move || {
            run(&published, Shards::new(vec![tasks]), &[CorkLimits::for_queue(4096, 4 << 20)]);
        });
        let room = Routes::new(&Settings::default().endpoints, &[]).find("/", |_| true).unwrap();
        let frame = Frame::joined(Bytes::from(vec![0; LEN]), 1);
        let publish = |count: usize| {
            let frame = Published::Frame { room: room.clone(), except: None, frame: frame.clone() };
            count < 1000 && publisher.try_publish(frame).is_ok()
        };
        let accepted = (0..).take_while(|&count| publish(count)).count();
        assert_eq!(accepted, (64 << 20) / LEN, "the deliverer does nothing, and senders are not held");
        // It catches up: there is room again.
        let deliverer = std::thread::spawn(move || deliver(&inbox));
        let deadline = Instant::now() + Duration::from_secs(10);
        let frame = Published::Frame { room: room.clone(), except: None, frame: frame.clone() };
        assert!(publisher.publish(frame, || Instant::now() >= deadline));
        assert!(publisher.publish(Published::End, || false));
        broadcaster.join().unwrap();
        deliverer.join().unwrap();
    }
}
