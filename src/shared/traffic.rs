//! What a connection has sent, received and lost so far.
//!
//! Each connection counts for itself: what is received in fields that only its own thread writes, what is sent under
//! the lock that its outbox takes anyway. Whoever wants to know adds up the connections that are there and the sum of
//! those that have left.

use std::ops::AddAssign;
use std::sync::Arc;

use crate::connection::ending::Totals;
use crate::connection::peer::{Peer, Received};
use crate::shared::undelivered::{Undelivered, UndeliveredCounts};

/// See the module's documentation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// From the peer.
    pub received: Received,
    /// To the peer.
    pub sent: Totals,
    /// Of what was received, what has not reached its destinations.
    pub undelivered: UndeliveredCounts,
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, other: Traffic) {
        self.received.messages += other.received.messages;
        self.received.bytes += other.received.bytes;
        self.sent.messages += other.sent.messages;
        self.sent.bytes += other.sent.bytes;
        self.sent.dropped += other.sent.dropped;
        self.sent.lost += other.sent.lost;
        self.undelivered += other.undelivered;
    }
}

/// A connection whose traffic is still growing.
#[derive(Debug)]
pub struct Counted {
    peer: Arc<Peer>,
    undelivered: Arc<Undelivered>,
}

/// The traffic of connections that come one after the other.
#[derive(Debug, Default)]
pub struct Successive {
    /// That of those that have ended.
    ended: Traffic,
    current: Option<Counted>,
    /// It has no connection of its own, and takes messages.
    is_posting: bool,
}

impl Successive {
    /// A connection has come about. Its traffic counts from now on.
    pub fn begin(&mut self, peer: &Arc<Peer>, undelivered: &Arc<Undelivered>) {
        self.current = Some(Counted { peer: Arc::clone(peer), undelivered: Arc::clone(undelivered) });
    }

    /// The connection has ended: its traffic grows no more. Returns it.
    pub fn end(&mut self) -> Traffic {
        let last = self.current.take().map_or_else(Traffic::default, |last| last.traffic());
        self.ended += last;
        last
    }

    /// Whether there is a connection, or messages are taken without one.
    pub fn is_up(&self) -> bool {
        self.current.is_some() || self.is_posting
    }

    /// Whether messages are taken by requests, each by itself.
    pub fn set_posting(&mut self, is_posting: bool) {
        self.is_posting = is_posting;
    }

    /// A request has taken so much.
    pub fn add_sent(&mut self, messages: u64, bytes: u64) {
        self.ended.sent.messages += messages;
        self.ended.sent.bytes += bytes;
    }

    /// That of all of them until now.
    pub fn traffic(&self) -> Traffic {
        let mut traffic = self.ended;
        traffic += self.current.as_ref().map_or_else(Traffic::default, Counted::traffic);
        traffic
    }
}

impl Counted {
    fn traffic(&self) -> Traffic {
        let (received, sent) = (self.peer.received(), self.peer.outbox.status().totals);
        Traffic { received, sent, undelivered: self.undelivered.counts() }
    }
}
