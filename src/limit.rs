//! How often something may happen: a rate, and the bucket that holds to it. A rule: it is told the time.

use std::time::{Duration, Instant};

const SECOND: u128 = 1_000_000_000;

/// So many in a second on average, and so many at once after a time in which there were fewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// At least 1.
    pub per_second: u64,
    /// At least 1.
    pub burst: u64,
}

/// A bucket that holds at most the burst of its rate and is filled evenly. What is taken beyond what is there is owed.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    left: i64,
    /// Until when it has been filled.
    filled: Instant,
}

impl Bucket {
    /// A full one.
    pub fn new(rate: Rate, now: Instant) -> Bucket {
        Bucket { left: clamped(rate.burst.into()), filled: now }
    }

    /// Takes one, if there is one.
    ///
    /// # Errors
    /// How long there will be none.
    pub fn try_take(&mut self, rate: Rate, now: Instant) -> Result<(), Duration> {
        self.fill(rate, now);
        if self.left < 1 {
            return Err(self.time_to(1, rate, now));
        }
        self.left -= 1;
        Ok(())
    }

    /// Takes so many, whatever is there; says whether it was there.
    #[inline]
    pub fn take(&mut self, count: u64) -> bool {
        self.left = self.left.saturating_sub(clamped(count.into()));
        self.left >= 0
    }

    /// Fills it up to now, and says how long it will owe something.
    pub fn settle(&mut self, rate: Rate, now: Instant) -> Duration {
        self.fill(rate, now);
        self.time_to(0, rate, now)
    }

    /// Whether so many are there.
    pub fn has(&self, count: u64) -> bool {
        self.left >= clamped(count.into())
    }

    /// How long until so many are there; nothing if they are. It was filled just now.
    pub fn time_until(&self, count: u64, rate: Rate, now: Instant) -> Duration {
        self.time_to(clamped(count.into()), rate, now)
    }

    fn fill(&mut self, rate: Rate, now: Instant) {
        let per_second = u128::from(rate.per_second.max(1));
        let gained = now.saturating_duration_since(self.filled).as_nanos() * per_second / SECOND;
        let left = i128::from(self.left) + gained as i128;
        let full = clamped(rate.burst.into());
        if left >= i128::from(full) {
            *self = Bucket { left: full, filled: now.max(self.filled) };
            return;
        }
        self.left = left as i64;
        // What has not come to a whole one counts the next time.
        self.filled += nanoseconds((gained * SECOND).div_ceil(per_second));
    }

    /// How long until so many are there, if nothing is taken.
    fn time_to(&self, count: i64, rate: Rate, now: Instant) -> Duration {
        let missing = (i128::from(count) - i128::from(self.left)).max(0) as u128;
        let needed = nanoseconds((missing * SECOND).div_ceil(rate.per_second.max(1).into()));
        needed.saturating_sub(now.saturating_duration_since(self.filled))
    }
}

fn clamped(count: u128) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn nanoseconds(count: u128) -> Duration {
    Duration::from_nanos(u64::try_from(count).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn l11_a_burst_passes_and_then_the_rate() {
        let rate = Rate { per_second: 10, burst: 3 };
        let begin = Instant::now();
        let mut bucket = Bucket::new(rate, begin);
        let mut at = |ms| bucket.try_take(rate, begin + Duration::from_millis(ms));
        for _ in 0..3 {
            assert_eq!(at(0), Ok(()));
        }
        assert_eq!(at(0), Err(Duration::from_millis(100)));
        assert_eq!(at(40), Err(Duration::from_millis(60)));
        assert_eq!(at(100), Ok(()));
        assert_eq!(at(199), Err(Duration::from_millis(1)));
        assert_eq!(at(200), Ok(()));
        // However long nothing happens, no more than the burst is saved.
        assert_eq!([at(100_000), at(100_000), at(100_000)], [Ok(()); 3]);
        assert_eq!(at(100_000), Err(Duration::from_millis(100)));
    }

    #[test]
    fn l11_what_is_owed_is_waited_for() {
        let rate = Rate { per_second: 100, burst: 10 };
        let begin = Instant::now();
        let mut bucket = Bucket::new(rate, begin);
        assert!(bucket.take(10) && !bucket.take(50));
        assert_eq!(bucket.settle(rate, begin), Duration::from_millis(500));
        assert_eq!(bucket.settle(rate, begin + Duration::from_millis(300)), Duration::from_millis(200));
        assert_eq!(bucket.settle(rate, begin + Duration::from_millis(500)), Duration::ZERO);
        assert!(!bucket.has(1));
        assert_eq!(bucket.time_until(1, rate, begin + Duration::from_millis(500)), Duration::from_millis(10));
        for huge in [u64::MAX, u64::MAX, u64::MAX] {
            assert!(!bucket.take(huge));
        }
        assert!(bucket.settle(rate, begin) > Duration::from_secs(1 << 30));
        assert!(
            bucket.settle(Rate { per_second: u64::MAX, burst: u64::MAX }, begin + Duration::from_secs(9)).is_zero()
        );
        // However large the burst, what is saved never turns into what is owed.
        let huge = Rate { per_second: 1000, burst: u64::MAX };
        let mut bucket = Bucket::new(huge, begin);
        assert!(bucket.settle(huge, begin + Duration::from_secs(1)).is_zero() && bucket.take(1));
    }

    proptest! {
        #[test]
        fn l11_in_no_span_more_passes_than_the_burst_and_the_rate(
            per_second in 1..2000_u64,
            burst in 1..100_u64,
            pauses in proptest::collection::vec(0..200_000_u64, 1..300),
        ) {
            let rate = Rate { per_second, burst };
            let begin = Instant::now();
            let mut bucket = Bucket::new(rate, begin);
            let mut passed = Vec::new();
            let mut at = 0_u64;
            for pause in pauses {
                at += pause;
                let now = begin + Duration::from_micros(at);
                match bucket.try_take(rate, now) {
                    Ok(()) => passed.push(at),
                    // And who waits as long as it says gets in.
                    Err(wait) => prop_assert_eq!(bucket.clone().try_take(rate, now + wait), Ok(())),
                }
            }
            for (first, from) in passed.iter().enumerate() {
                for (last, to) in passed.iter().enumerate().skip(first) {
                    let most = u128::from(burst) + u128::from(to - from) * u128::from(per_second) / 1_000_000 + 1;
                    prop_assert!((last - first + 1) as u128 <= most);
                }
            }
        }
    }
}
