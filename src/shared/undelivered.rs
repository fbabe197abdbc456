//! Messages of one sender that did not go where they were to go, because of what is in them: counted, and the first of
//! them logged. Only the sender's own thread counts; others read.

use std::fmt;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};

use log::info;

use crate::id::Id;
use crate::shared::sending::Sending;

/// How many messages of one sender are logged that name a session or a room in vain; the others are only counted.
const LOGGED: u64 = 10;

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Undelivered {
    unknown: AtomicU64,
    denied: AtomicU64,
    unroutable: AtomicU64,
    without_payload: AtomicU64,
}

/// How many of them there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UndeliveredCounts {
    /// A session was named that is not here.
    pub unknown: u64,
    /// A client was named that may not be reached from there.
    pub denied: u64,
    /// No room of a destination was picked.
    pub unroutable: u64,
    /// A destination takes payloads, and there was none.
    pub without_payload: u64,
}

/// Adds one, in the only thread that adds: no instruction that locks is needed.
fn add_one(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

impl Undelivered {
    /// A message names a session that is not here, or none that can be.
    pub fn unknown(&self, from: Sending<'_>, why: fmt::Arguments<'_>) {
        if self.is_logged() {
            info!(
                client = from.client_id(), link = from.link_name();
                "{from}: session_unknown: {why}; the message is dropped"
            );
        }
        add_one(&self.unknown);
    }

    /// A message names a client whose endpoint does not send to the sender's.
    pub fn denied(&self, from: Sending<'_>, to: Id) {
        if self.is_logged() {
            info!(
                client = from.client_id(), link = from.link_name();
                "{from}: session_denied: {to} is on an endpoint that sends no messages here; the message is dropped"
            );
        }
        add_one(&self.denied);
    }

    /// A message picks no room of some of its destinations, each with its reason. `has_others` says that it goes to
    /// another one.
    pub fn unroutable(&self, from: Sending<'_>, why: &[String], has_others: bool) {
        let then = if has_others { "its other destinations get the message" } else { "the message is dropped" };
        for why in why {
            info!(client = from.client_id(), link = from.link_name(); "{from}: unroutable: {why}; {then}");
        }
        add_one(&self.unroutable);
    }

    /// A message has no payload for a destination, `to`, that takes payloads. Only the first is logged.
    pub fn without_payload(&self, from: Sending<'_>, to: &str) {
        if self.counts().without_payload == 0 {
            info!(
                client = from.client_id(), link = from.link_name();
                "{from}: its message has no \"payload\", so {to}, which takes payloads, does not get it; more of them are \
                 only counted"
            );
        }
        add_one(&self.without_payload);
    }

    /// Whether the next message that names a session or a room in vain is logged.
    pub fn is_logged(&self) -> bool {
        let UndeliveredCounts { unknown, denied, unroutable, .. } = self.counts();
        unknown + denied + unroutable < LOGGED
    }

    /// How many there are so far.
    pub fn counts(&self) -> UndeliveredCounts {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        UndeliveredCounts {
            unknown: load(&self.unknown),
            denied: load(&self.denied),
            unroutable: load(&self.unroutable),
            without_payload: load(&self.without_payload),
        }
    }
}

impl UndeliveredCounts {
    /// They, each with what the log calls it.
    pub fn by_reason(&self) -> [(&'static str, u64); 4] {
        let UndeliveredCounts { unknown, denied, unroutable, without_payload } = *self;
        [
            ("session_unknown", unknown),
            ("session_denied", denied),
            ("unroutable", unroutable),
            ("without_payload", without_payload),
        ]
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == UndeliveredCounts::default()
    }
}

impl AddAssign for UndeliveredCounts {
    fn add_assign(&mut self, other: UndeliveredCounts) {
        self.unknown += other.unknown;
        self.denied += other.denied;
        self.unroutable += other.unroutable;
        self.without_payload += other.without_payload;
    }
}

/// What is said when the sender has gone.
impl fmt::Display for UndeliveredCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let UndeliveredCounts { unknown, denied, unroutable, without_payload } = self;
        write!(
            f,
            "of its messages, {unknown} were session_unknown, {denied} session_denied, {unroutable} unroutable and \
             {without_payload} without a payload"
        )
    }
}
