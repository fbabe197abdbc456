//! Rooms that somebody is in or sends to: their clients, what waits to be delivered to them, in order, and the way to the
//! broadcaster.
//!
//! One thread at a time has the clients of a room, takes what waits and delivers it; meanwhile the others only add to
//! what waits. In a room of a few clients for which nothing waits that is the sender's own thread, which saves two
//! switches of threads a message. Everything else is the broadcaster's work.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError};

use crate::clock::Ticks;
use crate::config::EndpointId;
use crate::connection::frame::Frame;
use crate::connection::outbox::Outbox;
use crate::histogram::Histogram;
use crate::id::Id;
use crate::route::Room;
use crate::shared::credit::Reservation;
use crate::shared::fanout::{Entry, deliver_to};
use crate::shared::members::{Members, Step};
use crate::sync::{Mutex, Sleeper};

/// Up to so many clients a sender delivers to by itself. With more, what several senders have published is better joined.
const DIRECT: usize = 4;

/// Things of one turn of the broadcaster: the more, the better they join; the fewer, the sooner the first is out.
const TURN: usize = 256;

/// The bounds for what a fan-out takes.
const FANOUTS: [Duration; 14] = [
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2500),
];

/// What the broadcaster takes.
#[derive(Debug)]
pub enum Ready {
    /// Something waits in this room, since then. It is sent once for each turn, so the channel never holds more than there
    /// are rooms.
    Room(Arc<LiveRoom>, Instant),
    /// Nothing is delivered any more.
    End,
}

/// All of them, each found once by its path and from then on known by itself.
#[derive(Debug)]
pub struct Rooms {
    live: Mutex<HashMap<Room, Weak<LiveRoom>>>,
    ready: Sender<Ready>,
    /// How long each turn of a room took, from the moment when it lined up for the broadcaster. What senders deliver
    /// themselves, in rooms of a few clients, is not in it.
    pub fanout: Histogram,
    /// Wakes the broadcaster.
    sleeper: Sleeper,
    /// Set once the gateway stops: when a client that joins now is cut.
    stopping: OnceLock<Ticks>,
    has_ended: AtomicBool,
}

impl Rooms {
    /// No rooms yet, and what the broadcaster is to take from.
    pub fn new() -> (Arc<Rooms>, Receiver<Ready>) {
        let (ready, receiver) = crossbeam_channel::unbounded();
        let (live, stopping, has_ended) = (Mutex::default(), OnceLock::new(), AtomicBool::new(false));
        let (sleeper, fanout) = (Sleeper::default(), Histogram::new(&FANOUTS));
        (Arc::new(Rooms { live, ready, fanout, sleeper, stopping, has_ended }), receiver)
    }

    /// The room, which stays as long as somebody has it.
    pub fn open(self: &Arc<Self>, room: &Room) -> Arc<LiveRoom> {
        let mut live = self.live.lock();
        if let Some(found) = live.get(room).and_then(Weak::upgrade) {
            return found;
        }
        let opened = Arc::new(LiveRoom::new(room.clone(), Arc::clone(self)));
        live.insert(room.clone(), Arc::downgrade(&opened));
        opened
    }

    /// The room, if somebody is in it or sends to it.
    pub fn find(&self, room: &Room) -> Option<Arc<LiveRoom>> {
        self.live.lock().get(room).and_then(Weak::upgrade)
    }

    /// Closes every client, also one that joins later, behind what waits in its room. Those that are not closed at the
    /// deadline are cut.
    pub fn stop(&self, deadline: Ticks) {
        // Set before the rooms are looked at: a client that joins meanwhile sees it, or is found.
        if self.stopping.set(deadline).is_err() {
            return;
        }
        let live: Vec<_> = self.live.lock().values().filter_map(Weak::upgrade).collect();
        live.iter().for_each(|room| room.push(Item::Step(Step::Stop { deadline }, None)));
    }

    /// When a client that joins now is cut, if the gateway stops.
    fn stopping(&self) -> Option<Ticks> {
        self.stopping.get().copied()
    }

    /// Ends the broadcaster. What waits then is not delivered.
    pub fn end(&self) {
        self.has_ended.store(true, Ordering::Release);
        // An error means that it has ended already.
        drop(self.ready.send(Ready::End));
        self.sleeper.wake();
    }

    /// The next thing that is ready, which the broadcaster's thread waits for; `None` when nothing can come any more. It
    /// says that it comes round whenever it looks, and looks at least as often as there is a `pause`.
    pub fn next_ready(&self, ready: &Receiver<Ready>, pause: Option<Duration>, come_round: impl Fn()) -> Option<Ready> {
        self.sleeper.wait_for(pause, || {
            come_round();
            match ready.try_recv() {
                Ok(next) => Some(Some(next)),
                Err(TryRecvError::Disconnected) => Some(None),
                Err(TryRecvError::Empty) => None,
            }
        })
    }

    /// Whether the broadcaster has ended or is about to.
    pub fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    /// Has the broadcaster deliver what waits in this room.
    fn schedule(&self, room: &Arc<LiveRoom>) {
        if self.ready.send(Ready::Room(Arc::clone(room), Instant::now())).is_err() {
            room.abandon();
        }
        self.sleeper.wake();
    }

    /// Forgets a room that nobody has any more; another one of the same path may be there by now.
    fn forget(&self, room: &Room) {
        let mut live = self.live.lock();
        if live.get(room).is_some_and(|known| known.strong_count() == 0) {
            live.remove(room);
        }
        // A gateway that once had many rooms does not keep their table.
        if live.capacity() > 1024 && live.len() < live.capacity() / 8 {
            live.shrink_to_fit();
        }
    }
}

/// A room that somebody is in or sends to.
#[derive(Debug)]
pub struct LiveRoom {
    /// Which it is.
    pub path: Room,
    state: Mutex<RoomState>,
    rooms: Arc<Rooms>,
}

#[derive(Debug)]
struct RoomState {
    /// `None` while a thread delivers.
    members: Option<Members>,
    /// What comes next, in order. While it is not empty, the thread that delivers, or the broadcaster, is about to take it.
    waiting: VecDeque<Item>,
}

/// What happens in a room.
#[derive(Debug)]
pub enum Item {
    /// Messages for its clients.
    Frame(Entry),
    /// Anything else, which has its place between the messages.
    Step(Step, Option<Reservation>),
}

impl LiveRoom {
    /// A room with nobody in it.
    pub fn new(path: Room, rooms: Arc<Rooms>) -> LiveRoom {
        let state = RoomState { members: Some(Members::default()), waiting: VecDeque::new() };
        LiveRoom { path, state: Mutex::new(state), rooms }
    }

    /// The endpoint that it is under.
    pub fn endpoint(&self) -> EndpointId {
        self.path.endpoint()
    }

    /// When a client that joins now is cut, if the gateway stops.
    pub fn stopping(&self) -> Option<Ticks> {
        self.rooms.stopping()
    }

    /// A turn is over that lined up at this moment.
    pub fn count_turn(&self, since: Instant) {
        self.rooms.fanout.observe(since.elapsed());
    }

    /// Has the broadcaster deliver what waits.
    pub fn schedule(self: &Arc<Self>) {
        self.rooms.schedule(self);
    }

    /// Delivers a frame in this thread, if the room has few clients and nothing waits for them. Says whether that was so.
    pub fn try_deliver(self: &Arc<Self>, except: Option<Id>, frame: &Frame) -> bool {
        let Some(members) = self.take_members(|members| members.outboxes().len() <= DIRECT) else { return false };
        let delivering = Delivering { room: self, members: Some(members) };
        for outbox in delivering.outboxes().iter().filter(|outbox| Some(outbox.id()) != except) {
            deliver_to(outbox, std::slice::from_ref(frame));
        }
        true
    }

    /// Does a step in this thread, if nothing waits. Gives it back if something does.
    pub fn try_step(self: &Arc<Self>, step: Step) -> Result<(), Step> {
        let Some(members) = self.take_members(|_| true) else { return Err(step) };
        let mut delivering = Delivering { room: self, members: Some(members) };
        if let Some(members) = &mut delivering.members {
            members.step(step, self.rooms.stopping());
        }
        Ok(())
    }

    /// Adds to what waits for the room's clients; the caller has its credit.
    pub fn push(self: &Arc<Self>, item: Item) {
        let mut state = self.state.lock();
        let is_idle = state.members.is_some() && state.waiting.is_empty();
        state.waiting.push_back(item);
        drop(state);
        if is_idle {
            self.schedule();
        }
    }

    /// The clients, and what is to be delivered to them now. Give them back with [`end_turn`](LiveRoom::end_turn).
    pub fn begin_turn(&self) -> Option<(Members, VecDeque<Item>)> {
        let mut state = self.state.lock();
        let members = state.members.take()?;
        let items = if state.waiting.len() <= TURN {
            std::mem::take(&mut state.waiting)
        } else {
            state.waiting.drain(..TURN).collect()
        };
        Some((members, items))
    }

    /// Ends a turn: gives the clients back, and what was not delivered to them. Says whether something waits again, for
    /// which the room needs another turn.
    pub fn end_turn(&self, members: Members, mut left: VecDeque<Item>) -> bool {
        let mut state = self.state.lock();
        state.members = Some(members);
        if !left.is_empty() {
            left.append(&mut state.waiting);
            state.waiting = left;
        }
        !state.waiting.is_empty()
    }

    /// Forgets what waits: nothing will be delivered any more.
    pub fn abandon(&self) {
        let waiting = std::mem::take(&mut self.state.lock().waiting);
        // Without the lock, since it wakes senders.
        drop(waiting);
    }

    /// Who is in it, in the order of their places; nobody while a thread delivers.
    #[cfg(test)]
    pub fn clients(&self) -> Vec<Id> {
        self.state.lock().members.iter().flat_map(Members::outboxes).map(|outbox| outbox.id()).collect()
    }

    /// The clients, if nothing waits for them and `is_fit`.
    fn take_members(&self, is_fit: impl Fn(&Members) -> bool) -> Option<Members> {
        let mut state = self.state.lock();
        if !state.waiting.is_empty() || !state.members.as_ref().is_some_and(is_fit) {
            return None;
        }
        state.members.take()
    }
}

impl Drop for LiveRoom {
    fn drop(&mut self) {
        self.rooms.forget(&self.path);
    }
}

/// A thread that has a room's clients, outside the broadcaster. Dropped, also by a panic, it gives them back.
struct Delivering<'a> {
    room: &'a Arc<LiveRoom>,
    members: Option<Members>,
}

impl Delivering<'_> {
    fn outboxes(&self) -> &[Arc<Outbox>] {
        self.members.as_ref().map_or(&[], Members::outboxes)
    }
}

impl Drop for Delivering<'_> {
    fn drop(&mut self) {
        if self.members.take().is_some_and(|members| self.room.end_turn(members, VecDeque::new())) {
            self.room.schedule();
        }
    }
}
