//! Why accepted connections did not become clients, each with a word for the metrics.

use crate::shared::counts::{Worded, WordedCounts};

/// Why an accepted connection did not become a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Its request is not what RFC 6455 or wsgate wants.
    BadRequest,
    /// No endpoint has its path.
    NotFound,
    /// It is a request, and no upgrade to a WebSocket.
    NoUpgrade,
    /// Its request was not complete in time.
    Timeout,
    /// The head of its request is too long.
    TooLong,
    /// Its origin is not allowed.
    Origin,
    /// Its address may not connect.
    Address,
    /// Its credentials are missing or wrong, could not be checked, or do not allow this.
    Authentication,
    /// A limit of the gateway, of an address or of an identity is reached.
    Limit,
    /// The endpoint or the room has no place left, or a newer client has taken it.
    Capacity,
    /// Its handshake was not done and had to give way to a newer one.
    GaveWay,
    /// The server that it is relayed to could not be reached or has refused it.
    Upstream,
    /// No TLS session came about.
    Tls,
    /// It left, or was lost, before it was answered.
    Gone,
    /// The gateway stops.
    Stopping,
}

/// How many of them there are.
const KINDS: usize = 15;

/// How many connections failed for each reason.
pub type HandshakeFailures = WordedCounts<Failure, KINDS>;

impl Worded<KINDS> for Failure {
    const ALL: [(Failure, &'static str); KINDS] = [
        (Failure::BadRequest, "bad_request"),
        (Failure::NotFound, "not_found"),
        (Failure::NoUpgrade, "no_upgrade"),
        (Failure::Timeout, "timeout"),
        (Failure::TooLong, "too_long"),
        (Failure::Origin, "origin"),
        (Failure::Address, "address"),
        (Failure::Authentication, "authentication"),
        (Failure::Limit, "limit"),
        (Failure::Capacity, "capacity"),
        (Failure::GaveWay, "gave_way"),
        (Failure::Upstream, "upstream"),
        (Failure::Tls, "tls"),
        (Failure::Gone, "gone"),
        (Failure::Stopping, "stopping"),
    ];

    fn number(self) -> usize {
        self as usize
    }
}

impl Failure {
    /// What a refusal with this HTTP status means where nothing else is known of it.
    pub fn of_status(status: u16) -> Failure {
        match status {
            401 | 403 => Failure::Authentication,
            404 => Failure::NotFound,
            408 => Failure::Timeout,
            426 => Failure::NoUpgrade,
            429 => Failure::Limit,
            431 => Failure::TooLong,
            503 => Failure::Capacity,
            _ => Failure::BadRequest,
        }
    }
}
