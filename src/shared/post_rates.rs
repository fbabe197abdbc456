//! How much each client of an endpoint posts: its `rate`, over all of its connections. A client is its identity, or else
//! its address. A bounded table, which forgets those that have posted nothing for the longest time.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::address::source::Source;
use crate::connection::intake::IntakeLimits;
use crate::limit::{Bucket, Rate};
use crate::sync::Mutex;

/// Clients that are remembered. One more, and the eighth of them is forgotten that has been quiet for the longest time.
const CLIENTS_MAX: usize = 1 << 14;

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct PostRates {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    clients: HashMap<Who, Posted>,
    next: u64,
}

/// Whose messages count together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Who {
    /// Those of an identity.
    Identity(Box<str>),
    /// Those of an address; of IPv6, of a network of 64 bits; all those over Unix sockets.
    Source(Source),
}

#[derive(Debug)]
struct Posted {
    messages: Bucket,
    bytes: Bucket,
    /// The number of its last request.
    last: u64,
}

impl Who {
    /// A client of this name, or else of this address; `None` is a Unix socket's.
    pub fn new(identity: Option<&str>, address: Option<IpAddr>) -> Who {
        identity.map_or_else(|| Who::Source(Source::of(address)), |name| Who::Identity(name.into()))
    }
}

impl PostRates {
    /// Whether a client may post: what it has posted before is within its limits by now.
    ///
    /// # Errors
    /// For how long it may not.
    pub fn check(&self, who: &Who, limits: &IntakeLimits, now: Instant) -> Result<(), Duration> {
        let mut table = self.table.lock();
        let Some(posted) = table.clients.get_mut(who) else { return Ok(()) };
        let wait = posted.settle(limits, now);
        if wait.is_zero() { Ok(()) } else { Err(wait) }
    }

    /// Counts what a client has posted, also where that is more than it may at once: then it owes the rest.
    pub fn count(&self, who: Who, limits: &IntakeLimits, messages: usize, bytes: usize, now: Instant) {
        let mut table = self.table.lock();
        if table.clients.len() >= CLIENTS_MAX && !table.clients.contains_key(&who) {
            table.forget_quietest();
        }
        let last = table.next;
        table.next += 1;
        let bucket = |rate: Option<Rate>| Bucket::new(rate.unwrap_or(Rate { per_second: 1, burst: 1 }), now);
        let new = || Posted { messages: bucket(limits.messages), bytes: bucket(limits.bytes), last };
        let posted = table.clients.entry(who).or_insert_with(new);
        posted.last = last;
        posted.settle(limits, now);
        posted.messages.take(messages as u64);
        posted.bytes.take(bytes as u64);
    }
}

impl Posted {
    /// Fills its buckets up to now, and says how long one of them will owe something.
    fn settle(&mut self, limits: &IntakeLimits, now: Instant) -> Duration {
        let wait = |bucket: &mut Bucket, rate: Option<Rate>| match rate {
            None => Duration::ZERO,
            Some(rate) => bucket.settle(rate, now),
        };
        wait(&mut self.messages, limits.messages).max(wait(&mut self.bytes, limits.bytes))
    }
}

impl Table {
    fn forget_quietest(&mut self) {
        let mut quiet: Vec<_> = self.clients.values().map(|posted| posted.last).collect();
        let (_, least, _) = quiet.select_nth_unstable(CLIENTS_MAX / 8);
        let least = *least;
        self.clients.retain(|_, posted| posted.last >= least);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::WhenOver;

    fn limits(messages: Option<u64>, bytes: Option<u64>) -> IntakeLimits {
        let rate = |per_second| Rate { per_second, burst: 2 * per_second };
        IntakeLimits { messages: messages.map(rate), bytes: bytes.map(rate), when_over: WhenOver::Delay }
    }

    fn address(last: u32) -> Who {
        Who::new(None, Some(IpAddr::from(last.to_be_bytes())))
    }

    #[test]
    fn a_client_owes_what_it_posts_beyond_its_rate_whatever_its_connections_are() {
        let (rates, now) = (PostRates::default(), Instant::now());
        let limits = limits(Some(10), None);
        for _ in 0..2 {
            assert_eq!(rates.check(&address(1), &limits, now), Ok(()));
            rates.count(address(1), &limits, 10, 1 << 30, now);
        }
        assert_eq!(rates.check(&address(1), &limits, now), Ok(()), "it may post as much as it may at once");
        rates.count(address(1), &limits, 30, 1, now);
        assert_eq!(rates.check(&address(1), &limits, now), Err(Duration::from_secs(3)));
        assert_eq!(rates.check(&address(1), &limits, now + Duration::from_secs(3)), Ok(()));
        assert_eq!(rates.check(&address(2), &limits, now), Ok(()));
        assert_eq!(rates.check(&Who::new(Some("press"), None), &limits, now), Ok(()));
    }

    #[test]
    fn messages_and_bytes_count_apart() {
        let (rates, now) = (PostRates::default(), Instant::now());
        let limits = limits(Some(1000), Some(100));
        rates.count(address(1), &limits, 1, 700, now);
        assert_eq!(rates.check(&address(1), &limits, now), Err(Duration::from_secs(5)));
    }

    #[test]
    fn a_full_table_forgets_the_quietest() {
        let (rates, now) = (PostRates::default(), Instant::now());
        let limits = limits(Some(1), None);
        (0..CLIENTS_MAX as u32).for_each(|n| rates.count(address(n), &limits, 9, 0, now));
        rates.count(address(0), &limits, 9, 0, now);
        rates.count(address(CLIENTS_MAX as u32), &limits, 9, 0, now);
        assert!(rates.table.lock().clients.len() <= CLIENTS_MAX);
        assert!(rates.check(&address(0), &limits, now).is_err(), "one that goes on was forgotten");
        assert!(rates.check(&address(1), &limits, now).is_ok());
    }
}
