//! A live connection as others see it: where to write, whether it is alive, and what holds its thread.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use super::keepalive::{Activity, Keepalive};
use super::outbox::Outbox;
use crate::clock::Ticks;
use crate::id::Id;

/// One end of a WebSocket whose handshake is done, accepted or dialled.
#[derive(Debug)]
pub struct Peer {
    /// What the log calls it.
    name: Name,
    /// What it has yet to get.
    pub outbox: Arc<Outbox>,
    /// Its deadlines.
    pub keepalive: Keepalive,
    /// When its first ping may go out: spread, so that peers that came together are not pinged together.
    first_ping: Ticks,
    /// When it was last heard of.
    pub heard: AtomicU32,
    /// When the message began that is arriving now; 0 if none is.
    pub message_begun: AtomicU32,
    blocked_on: AtomicU8,
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
}

/// What a peer's thread can be held by; its silence then says nothing about the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum BlockedOn {
    /// The broadcaster's channel is full.
    Broadcaster = 1,
    /// Its own outbox has no room for its replies: it does not read its answers.
    Outbox = 2,
    /// The queue of a link is full.
    Link = 3,
    /// The other side of its relay does not read.
    Relay = 4,
}

/// Beside the holder: somebody has asked already.
const ASKED: u8 = 0x80;

impl Peer {
    /// A peer that has just connected.
    pub fn new(name: Name, outbox: Arc<Outbox>, keepalive: Keepalive, now: Ticks) -> Peer {
        let first_ping = keepalive.first_ping(outbox.id().as_u64(), now);
        Peer {
            name,
            outbox,
            keepalive,
            first_ping,
            heard: AtomicU32::new(now),
            message_begun: AtomicU32::new(0),
            blocked_on: AtomicU8::new(0),
        }
    }

    /// Its id.
    pub fn id(&self) -> Id {
        self.outbox.id()
    }

    /// What is known of it, for the heartbeat.
    pub fn activity(&self) -> Activity {
        Activity {
            first_ping: self.first_ping,
            heard: self.heard.load(Ordering::Relaxed),
            message_begun: self.message_begun.load(Ordering::Relaxed),
            ping: self.outbox.ping_state(),
        }
    }

    /// Marks it as held while `work` may block, and as heard of when that is over.
    pub fn while_blocked_on<T>(&self, holder: BlockedOn, now: impl FnOnce() -> Ticks, work: impl FnOnce() -> T) -> T {
        self.blocked_on.store(holder as u8, Ordering::Relaxed);
        let result = work();
        self.heard.store(now(), Ordering::Relaxed);
        self.blocked_on.store(0, Ordering::Relaxed);
        result
    }

    /// What its thread is held by right now, and whether that is asked for the first time.
    pub fn blocked_on(&self) -> Option<(BlockedOn, bool)> {
        let held = self.blocked_on.load(Ordering::Relaxed);
        let holder = match held & !ASKED {
            0 => return None,
            holder if holder == BlockedOn::Broadcaster as u8 => BlockedOn::Broadcaster,
            holder if holder == BlockedOn::Link as u8 => BlockedOn::Link,
            holder if holder == BlockedOn::Relay as u8 => BlockedOn::Relay,
            _ => BlockedOn::Outbox,
        };
        // It may have been let go in between: then there was nothing to ask for.
        let first = held & ASKED == 0
            && self.blocked_on.compare_exchange(held, held | ASKED, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        Some((holder, first))
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
        }
    }
}

impl fmt::Display for BlockedOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BlockedOn::Broadcaster => "broadcaster",
            BlockedOn::Outbox => "its own outbox",
            BlockedOn::Link => "a link",
            BlockedOn::Relay => "the other side of its relay",
        })
    }
}
