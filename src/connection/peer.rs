//! A live connection as others see it: where to write, whether it is alive, and what holds its thread.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::frame::Role;
use super::keepalive::{Activity, Keepalive};
use super::outbox::Outbox;
use crate::clock::Ticks;
use crate::histogram::Histogram;
use crate::id::Id;
use crate::sync::Mutex;

/// One end of a WebSocket whose handshake is done, accepted or dialled.
#[derive(Debug)]
pub struct Peer {
    /// What the log calls it.
    name: Name,
    /// What it has yet to get.
    pub outbox: Arc<Outbox>,
    /// Its deadlines, which a reload can change.
    keepalive: Mutex<Keepalive>,
    /// When its first ping may go out: spread, so that peers that came together are not pinged together.
    first_ping: AtomicU32,
    /// When it was last heard of.
    pub heard: AtomicU32,
    /// When the message began that is arriving now; 0 if none is.
    pub message_begun: AtomicU32,
    /// How many bytes of it are here; meaningful while one is arriving.
    pub unfinished: AtomicUsize,
    /// When it may not be here any longer, and what it is told then; empty if it always may.
    expiry: OnceLock<(Ticks, &'static str)>,
    blocked_on: AtomicU32,
    /// When it was pinged, in microseconds of the clock and never 0; 0 once it has answered.
    pinged: AtomicU32,
    /// What it has sent: written by its own thread alone.
    messages: AtomicU64,
    bytes: AtomicU64,
    /// Where its round trips are counted, if they are.
    round_trips: Option<Arc<Histogram>>,
}

/// What a peer has sent: messages, and bytes of their payload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Received {
    /// Messages.
    pub messages: u64,
    /// Bytes of payload.
    pub bytes: u64,
}

/// What the log calls a peer, and so its thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// `client ID`, the id being its own.
    Client,
    /// `relay ID`, the id being that of the client whose upstream it is.
    Relay(Id),
    /// `link NAME`.
    Link(Arc<str>),
    /// `watcher ID`, the id being its own: an operator that is shown something.
    Watcher,
}

/// What a peer's thread can be blocked on; its silence then says nothing about the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockedOn {
    /// The broadcaster's channel is full.
    Broadcaster,
    /// Its own outbox has no room for its replies: it does not read its answers.
    Outbox,
    /// The other side of its relay does not read.
    Relay,
    /// It has sent more than its endpoint's rate allows.
    Rate,
    /// The queue of the outlet with this number is full.
    Outlet(u32),
    /// The queue of the store with this number is full, or what was sent before is not stored yet.
    Store(u32),
}

/// How often a thread that is held looks whether its connection is ending.
const SLICE: Duration = Duration::from_millis(250);

/// Beside what blocks: a visit of the heartbeat has found it so; and it has been reported. A thread that waits for a
/// moment, as a sender does whenever it is faster than its receivers, is not worth a line in the log.
const SEEN: u32 = 1 << 30;
const REPORTED: u32 = 1 << 31;

impl BlockedOn {
    /// As a number that is not 0 and below [`SEEN`].
    fn encode(self) -> u32 {
        match self {
            BlockedOn::Broadcaster => 1,
            BlockedOn::Outbox => 2,
            BlockedOn::Relay => 3,
            BlockedOn::Rate => 4,
            BlockedOn::Outlet(number) => 5 + 2 * number,
            BlockedOn::Store(number) => 6 + 2 * number,
        }
    }

    fn decode(number: u32) -> Option<BlockedOn> {
        match number {
            1 => Some(BlockedOn::Broadcaster),
            2 => Some(BlockedOn::Outbox),
            3 => Some(BlockedOn::Relay),
            4 => Some(BlockedOn::Rate),
            0 => None,
            number if number % 2 == 1 => Some(BlockedOn::Outlet((number - 5) / 2)),
            number => Some(BlockedOn::Store((number - 6) / 2)),
        }
    }
}

impl Name {
    /// Which end of the connection is ours: clients have dialled us, the others we have dialled.
    pub fn role(&self) -> Role {
        match self {
            Name::Client | Name::Watcher => Role::Server,
            Name::Relay(_) | Name::Link(_) => Role::Client,
        }
    }
}

impl Peer {
    /// Whose line a line of the log about it is, for a field: the client, also of the upstream of one.
    pub fn client_id(&self) -> Option<String> {
        match &self.name {
            Name::Client => Some(self.outbox.id().to_string()),
            Name::Relay(id) => Some(id.to_string()),
            Name::Link(_) | Name::Watcher => None,
        }
    }

    /// The name of the link that it is a connection of, for a field of the log.
    pub fn link_name(&self) -> Option<&str> {
        match &self.name {
            Name::Link(name) => Some(name),
            Name::Client | Name::Relay(_) | Name::Watcher => None,
        }
    }

    /// A peer that has just connected.
    pub fn new(name: Name, outbox: Arc<Outbox>, keepalive: Keepalive, now: Ticks) -> Peer {
        let first_ping = keepalive.first_ping(outbox.id().as_u64(), now);
        Peer {
            name,
            outbox,
            keepalive: Mutex::new(keepalive),
            first_ping: AtomicU32::new(first_ping),
            heard: AtomicU32::new(now),
            message_begun: AtomicU32::new(0),
            unfinished: AtomicUsize::new(0),
            expiry: OnceLock::new(),
            blocked_on: AtomicU32::new(0),
            pinged: AtomicU32::new(0),
            messages: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            round_trips: None,
        }
    }

    /// The same, whose round trips are counted there.
    pub fn counting(self, round_trips: Option<&Arc<Histogram>>) -> Peer {
        Peer { round_trips: round_trips.map(Arc::clone), ..self }
    }

    /// Its deadlines.
    pub fn keepalive(&self) -> Keepalive {
        *self.keepalive.lock()
    }

    /// Other deadlines hold from now on.
    pub fn set_keepalive(&self, keepalive: Keepalive) {
        let before = std::mem::replace(&mut *self.keepalive.lock(), keepalive);
        if before != keepalive {
            // One that is to be pinged sooner than it was need not wait for its old turn.
            let first_ping = keepalive.first_ping(self.id().as_u64(), self.outbox.clock().now());
            self.first_ping.fetch_min(first_ping, Ordering::Relaxed);
        }
    }

    /// Its id.
    pub fn id(&self) -> Id {
        self.outbox.id()
    }

    /// Says what it has sent so far. For its own thread.
    pub(super) fn set_received(&self, received: Received) {
        // Two plain stores, to a line of the cache that the thread has written to already: it has just heard of the peer.
        self.messages.store(received.messages, Ordering::Relaxed);
        self.bytes.store(received.bytes, Ordering::Relaxed);
    }

    /// What it has sent so far.
    pub fn received(&self) -> Received {
        Received { messages: self.messages.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }

    /// Asks for a sign of life.
    pub fn ping(&self) {
        self.pinged.store(self.outbox.clock().micros().max(1), Ordering::Relaxed);
        self.outbox.ping();
    }

    /// A pong has come. The first one after a ping is taken for its answer. The time of the ping includes what it waited
    /// for a socket that took nothing.
    pub(super) fn note_pong(&self) {
        let Some(round_trips) = &self.round_trips else { return };
        if self.pinged.load(Ordering::Relaxed) == 0 {
            return;
        }
        let pinged = self.pinged.swap(0, Ordering::Relaxed);
        let micros = self.outbox.clock().micros().wrapping_sub(pinged);
        round_trips.observe(Duration::from_micros(micros.into()));
    }

    /// Has the heartbeat end its connection at this tick, for this reason. To be called once, before its first visit.
    pub fn expire_at(&self, tick: Ticks, reason: &'static str) {
        let _ = self.expiry.set((tick, reason));
    }

    /// Ends its connection: it may not be here any longer.
    pub fn expire(&self) {
        self.outbox.close(Some(1008), self.expiry.get().map_or("Access expired", |(_, reason)| reason));
    }

    /// What is known of it, for the heartbeat.
    pub fn activity(&self) -> Activity {
        Activity {
            first_ping: self.first_ping.load(Ordering::Relaxed),
            heard: self.heard.load(Ordering::Relaxed),
            message_begun: self.message_begun.load(Ordering::Relaxed),
            expires: self.expiry.get().map_or(0, |(tick, _)| *tick),
            ping: self.outbox.ping_state(),
        }
    }

    /// Marks its thread as blocked while `work` may block, and the peer as heard of when that is over.
    pub fn while_blocked_on<T>(&self, what: BlockedOn, work: impl FnOnce() -> T) -> T {
        self.blocked_on.store(what.encode(), Ordering::Relaxed);
        let result = work();
        self.heard.store(self.outbox.clock().now(), Ordering::Relaxed);
        self.blocked_on.store(0, Ordering::Relaxed);
        result
    }

    /// Holds its thread for a time, or until its connection is ending or the peer has hung up. That time is not held
    /// against a message that has begun.
    pub fn hold(&self, time: Duration) {
        let until = Instant::now() + time;
        self.while_blocked_on(BlockedOn::Rate, || {
            let (clock, since) = (self.outbox.clock(), self.outbox.clock().now());
            loop {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() || self.outbox.is_closing() || self.outbox.socket().wait_hung_up(left.min(SLICE)) {
                    break;
                }
            }
            let begun = self.message_begun.load(Ordering::Relaxed);
            if begun != 0 {
                self.message_begun.store(begun + (clock.now() - since), Ordering::Relaxed);
            }
        });
    }

    /// What its thread is blocked on right now.
    pub fn blocked_on(&self) -> Option<BlockedOn> {
        BlockedOn::decode(self.blocked_on.load(Ordering::Relaxed) & !(SEEN | REPORTED))
    }

    /// As [`blocked_on`](Peer::blocked_on), but only if it has been so for half a second at least: a thread that waits for
    /// a moment, as each does that hands something over, is held by nobody.
    pub fn held_by(&self) -> Option<BlockedOn> {
        // Whoever is blocked has been heard before, and is when that is over.
        let since = self.heard.load(Ordering::Relaxed);
        self.blocked_on().filter(|_| self.outbox.clock().now().saturating_sub(since) >= 2)
    }

    /// As [`blocked_on`](Peer::blocked_on), but only once it has been so at two visits in a row, and once for each time.
    pub fn report_blocked(&self) -> Option<BlockedOn> {
        let blocked = self.blocked_on.load(Ordering::Relaxed);
        let what = BlockedOn::decode(blocked & !(SEEN | REPORTED))?;
        let mark = if blocked & SEEN == 0 { SEEN } else { REPORTED };
        if blocked & mark != 0 {
            return None;
        }
        // It may go on in between: then there is nothing to report.
        let marked =
            self.blocked_on.compare_exchange(blocked, blocked | mark, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        (marked && mark == REPORTED).then_some(what)
    }
}

impl AsFd for Peer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.outbox.socket().as_fd()
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Name::Client => write!(f, "client {}", self.id()),
            Name::Relay(client) => write!(f, "relay {client}"),
            Name::Link(name) => write!(f, "link {name}"),
            Name::Watcher => write!(f, "watcher {}", self.id()),
        }
    }
}
