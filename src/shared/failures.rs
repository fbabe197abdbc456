//! Which addresses have sent wrong credentials of late: one that has sent too many is not listened to for a while. A bounded
//! table, which forgets those that have sent none for the longest time.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Instant;

use crate::address::source::Source;
use crate::config::FailedCredentials;
use crate::limit::{Bucket, Rate};
use crate::sync::Mutex;

/// Addresses that are remembered. One more, and the eighth of them is forgotten that has been quiet for the longest time.
const ADDRESSES_MAX: usize = 1 << 16;

/// See the module's documentation.
#[derive(Debug)]
pub struct Failures {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    limit: Option<FailedCredentials>,
    /// Each with the number of its last failure.
    entries: HashMap<Source, (Bucket, u64)>,
    next: u64,
}

impl Failures {
    /// None so far.
    pub fn new(limit: Option<FailedCredentials>) -> Failures {
        Failures { table: Mutex::new(Table { limit, ..Table::default() }) }
    }

    /// From now on this is the limit. If it is another one, what was counted so far is forgotten.
    pub fn set_limit(&self, limit: Option<FailedCredentials>) {
        let mut table = self.table.lock();
        if table.limit != limit {
            *table = Table { limit, ..Table::default() };
        }
    }

    /// For how many seconds no credential from this address is looked at; `None` if one is.
    pub fn locked_out(&self, address: Option<IpAddr>, now: Instant) -> Option<u64> {
        let mut table = self.table.lock();
        let (cost, rate) = table.limit.map(shares)?;
        let (bucket, _) = table.entries.get_mut(&Source::of(address))?;
        bucket.settle(rate, now);
        let left = bucket.time_until(cost, rate, now);
        (!left.is_zero()).then(|| left.as_secs_f64().ceil() as u64)
    }

    /// A credential from this address was wrong. Those of Unix sockets are all from one place, and not counted.
    pub fn count(&self, address: Option<IpAddr>, now: Instant) {
        let source = Source::of(address);
        if source == Source::Local {
            return;
        }
        let mut table = self.table.lock();
        let Some((cost, rate)) = table.limit.map(shares) else { return };
        if table.entries.len() >= ADDRESSES_MAX && !table.entries.contains_key(&source) {
            table.forget_quietest();
        }
        let number = table.next;
        table.next += 1;
        let (bucket, last) = table.entries.entry(source).or_insert_with(|| (Bucket::new(rate, now), number));
        *last = number;
        bucket.settle(rate, now);
        bucket.take(cost);
    }
}

/// What a wrong credential takes out of a bucket, and how that is filled: in shares of one that make the rate a whole number.
fn shares(FailedCredentials { most, within }: FailedCredentials) -> (u64, Rate) {
    let cost = u64::try_from(within.as_millis()).unwrap_or(u64::MAX).max(1);
    (cost, Rate { per_second: most.saturating_mul(1000), burst: most.saturating_mul(cost) })
}

impl Table {
    fn forget_quietest(&mut self) {
        let mut quiet: Vec<_> = self.entries.values().map(|(_, last)| *last).collect();
        let (_, least, _) = quiet.select_nth_unstable(ADDRESSES_MAX / 8);
        let least = *least;
        self.entries.retain(|_, (_, last)| *last >= least);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn address(last: u32) -> Option<IpAddr> {
        Some(IpAddr::from(last.to_be_bytes()))
    }

    #[test]
    fn s20_who_has_sent_too_many_wrong_credentials_is_locked_out_for_a_while() {
        let failures = Failures::new(Some(FailedCredentials { most: 3, within: Duration::from_secs(30) }));
        let now = Instant::now();
        for _ in 0..3 {
            assert_eq!(failures.locked_out(address(1), now), None);
            failures.count(address(1), now);
        }
        assert_eq!(failures.locked_out(address(1), now), Some(10));
        assert_eq!(failures.locked_out(address(2), now), None);
        assert_eq!(failures.locked_out(address(1), now + Duration::from_millis(9_900)), Some(1));
        assert_eq!(failures.locked_out(address(1), now + Duration::from_secs(10)), None);
        failures.count(address(1), now + Duration::from_secs(10));
        assert_eq!(failures.locked_out(address(1), now + Duration::from_secs(10)), Some(10));
        // Some that were looked at all at once.
        failures.count(address(1), now + Duration::from_secs(10));
        assert_eq!(failures.locked_out(address(1), now + Duration::from_secs(11)), Some(19));
    }

    #[test]
    fn s20_another_limit_counts_from_the_beginning_and_the_same_goes_on() {
        let limit = |most, seconds| Some(FailedCredentials { most, within: Duration::from_secs(seconds) });
        let failures = Failures::new(limit(2, 60));
        let now = Instant::now();
        (0..2).for_each(|_| failures.count(address(1), now));
        failures.set_limit(limit(2, 60));
        assert_eq!(failures.locked_out(address(1), now), Some(30));
        failures.set_limit(limit(1, 10));
        assert_eq!(failures.locked_out(address(1), now), None);
        failures.count(address(1), now);
        assert_eq!(failures.locked_out(address(1), now), Some(10));
        failures.set_limit(None);
        failures.count(address(1), now);
        assert_eq!(failures.locked_out(address(1), now), None);
    }

    #[test]
    fn s20_a_full_table_forgets_the_quietest() {
        let failures = Failures::new(Some(FailedCredentials { most: 1, within: Duration::from_secs(60) }));
        let now = Instant::now();
        (0..ADDRESSES_MAX as u32).for_each(|n| failures.count(address(n), now));
        failures.count(address(0), now);
        failures.count(address(ADDRESSES_MAX as u32), now);
        assert!(failures.table.lock().entries.len() <= ADDRESSES_MAX);
        assert!(failures.locked_out(address(0), now).is_some(), "one that goes on was forgotten");
        assert!(failures.locked_out(address(1), now).is_none());
        failures.count(None, now);
        assert_eq!(failures.locked_out(None, now), None);
        assert_eq!(Failures::new(None).locked_out(address(0), now), None);
    }
}
