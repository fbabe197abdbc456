//! Messages of one sender that did not go where they were to go, because of what is in them: counted, and the first of
//! them logged.

use std::fmt;

use log::info;

use crate::connection::peer::Peer;
use crate::id::Id;

/// How many messages of one sender are logged that name a session or a room in vain; the others are only counted.
const LOGGED: u64 = 10;

/// See the module's documentation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Undelivered {
    unknown: u64,
    denied: u64,
    unroutable: u64,
    without_payload: u64,
}

impl Undelivered {
    /// A message names a session that is not here, or none that can be.
    pub fn unknown(&mut self, from: &Peer, why: fmt::Arguments<'_>) {
        if self.is_logged() {
            info!("{from}: session_unknown: {why}; the message is dropped");
        }
        self.unknown += 1;
    }

    /// A message names a client whose endpoint does not send to the sender's.
    pub fn denied(&mut self, from: &Peer, to: Id) {
        if self.is_logged() {
            info!("{from}: session_denied: {to} is on an endpoint that sends no messages here; the message is dropped");
        }
        self.denied += 1;
    }

    /// A message picks no room of some of its destinations, each with its reason. `has_others` says that it goes to
    /// another one.
    pub fn unroutable(&mut self, from: &Peer, why: &[String], has_others: bool) {
        let then = if has_others { "its other destinations get the message" } else { "the message is dropped" };
        for why in why {
            info!("{from}: unroutable: {why}; {then}");
        }
        self.unroutable += 1;
    }

    /// A message has no payload for a destination, `to`, that takes payloads. Only the first is logged.
    pub fn without_payload(&mut self, from: &Peer, to: &str) {
        if self.without_payload == 0 {
            info!(
                "{from}: its message has no \"payload\", so {to}, which takes payloads, does not get it; more of them are \
                 only counted"
            );
        }
        self.without_payload += 1;
    }

    /// Whether the next message that names a session or a room in vain is logged.
    pub fn is_logged(&self) -> bool {
        self.unknown + self.denied + self.unroutable < LOGGED
    }

    /// How many messages have picked no room.
    pub fn unroutable_count(&self) -> u64 {
        self.unroutable
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Undelivered::default()
    }
}

/// What is said when the sender has gone.
impl fmt::Display for Undelivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Undelivered { unknown, denied, unroutable, without_payload } = self;
        write!(
            f,
            "of its messages, {unknown} were session_unknown, {denied} session_denied, {unroutable} unroutable and \
             {without_payload} without a payload"
        )
    }
}
