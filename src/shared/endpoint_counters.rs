//! What an endpoint has counted. It outlives the clients that it counts, and the settings of its endpoint.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::connection::peer::Received;
use crate::histogram::Histogram;
use crate::shared::auth_failures::AuthFailures;
use crate::shared::counts::Counts;
use crate::shared::traffic::Traffic;
use crate::shared::undelivered::UndeliveredCounts;
use crate::sync::Mutex;

/// The close codes that are counted by themselves; all others together are behind them. 1005 is a Close without a code, and
/// 1006 the end of a connection without a Close.
pub const CLOSE_CODES: [u16; 14] = [1000, 1001, 1002, 1003, 1005, 1006, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014];

/// The statuses of answers to POST that are counted by themselves; all others together are behind them.
pub const POST_STATUSES: [u16; 14] = [202, 400, 401, 403, 405, 408, 411, 413, 415, 417, 429, 431, 503, 505];

/// The bounds for round trips of pings.
const ROUND_TRIPS: [Duration; 13] = [
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
    Duration::from_secs(5),
    Duration::from_secs(10),
];

/// See the module's documentation.
#[derive(Debug)]
pub struct EndpointCounters {
    /// The path of the endpoint, as the configuration has it.
    pub path: String,
    /// From a ping to its pong.
    pub round_trips: Arc<Histogram>,
    /// Events of its clients for which a destination had no room.
    pub events_dropped: AtomicU64,
    /// Requests that were not authenticated.
    pub auth_failures: AuthFailures,
    posts: Counts<{ POST_STATUSES.len() + 1 }>,
    connected: AtomicU64,
    disconnects: Counts<{ CLOSE_CODES.len() + 1 }>,
    /// The sum of the clients that have left, which changes under the lock of the registry alone: whoever has that lock sees
    /// each client either there or in here. And what was posted.
    left: Mutex<Traffic>,
}

/// A histogram of the round trips of pings.
pub fn round_trips() -> Arc<Histogram> {
    Arc::new(Histogram::new(&ROUND_TRIPS))
}

impl EndpointCounters {
    /// Those of the endpoint with this path, which has counted nothing.
    pub fn new(path: String) -> EndpointCounters {
        EndpointCounters {
            path,
            round_trips: round_trips(),
            events_dropped: AtomicU64::new(0),
            auth_failures: AuthFailures::default(),
            posts: Counts::default(),
            connected: AtomicU64::new(0),
            disconnects: Counts::default(),
            left: Mutex::default(),
        }
    }

    /// A client is there.
    pub fn count_connected(&self) {
        self.connected.fetch_add(1, Ordering::Relaxed);
    }

    /// How many clients there have been.
    pub fn connected(&self) -> u64 {
        self.connected.load(Ordering::Relaxed)
    }

    /// The connection of a client has ended with this close code.
    pub fn count_disconnect(&self, code: u16) {
        let kind = CLOSE_CODES.iter().position(|known| *known == code).unwrap_or(CLOSE_CODES.len());
        self.disconnects.count(kind);
    }

    /// How many connections have ended with each of the [`CLOSE_CODES`], and behind these with any other.
    pub fn disconnects(&self) -> impl Iterator<Item = u64> {
        self.disconnects.all()
    }

    /// A request was answered with this status.
    pub fn count_post(&self, status: u16) {
        let kind = POST_STATUSES.iter().position(|known| *known == status).unwrap_or(POST_STATUSES.len());
        self.posts.count(kind);
    }

    /// How many requests were answered with each of the [`POST_STATUSES`], and behind these with any other.
    pub fn posts(&self) -> impl Iterator<Item = u64> {
        self.posts.all()
    }

    /// So much was posted, and so much of it has not gone where it was to go.
    pub fn add_posted(&self, received: Received, undelivered: UndeliveredCounts) {
        *self.left.lock() += Traffic { received, undelivered, ..Traffic::default() };
    }

    /// A client has left whose traffic was this. For the registry alone.
    pub fn add_left(&self, traffic: Traffic) {
        *self.left.lock() += traffic;
    }

    /// The traffic of the clients that have left, and what was posted.
    pub fn left(&self) -> Traffic {
        *self.left.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_codes_that_are_not_known_are_counted_together() {
        let counters = EndpointCounters::new("/".to_owned());
        [1000, 1006, 3000, 4001, 999, 1014, 1000].iter().for_each(|code| counters.count_disconnect(*code));
        let counted: Vec<_> = counters.disconnects().collect();
        assert_eq!(counted, [2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 3]);
    }
}
