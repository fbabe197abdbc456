//! A histogram of durations that any thread adds to without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often something took how long, in buckets with fixed bounds.
#[derive(Debug)]
pub struct Histogram {
    /// The longest duration of each bucket, in ascending order. Longer ones are in a bucket of their own behind them.
    bounds: &'static [Duration],
    counts: Box<[AtomicU64]>,
    /// In nanoseconds. 2^64 of them are 584 years.
    sum: AtomicU64,
}

/// What a histogram has at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The upper bound of each bucket in seconds, the last one infinite, with what is in this bucket and no other.
    pub buckets: Vec<(f64, u64)>,
    /// All durations together, in seconds.
    pub sum: f64,
}

impl Histogram {
    /// An empty one with these bounds, which ascend.
    pub fn new(bounds: &'static [Duration]) -> Histogram {
        debug_assert!(bounds.is_sorted());
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Histogram { bounds, counts, sum: AtomicU64::new(0) }
    }

    /// Adds one duration.
    pub fn observe(&self, duration: Duration) {
        let bucket = self.bounds.partition_point(|bound| *bound < duration);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.sum.fetch_add(nanos, Ordering::Relaxed);
    }

    /// What it has now. A duration that is added meanwhile may be in the sum and not yet in a bucket, or the reverse.
    pub fn read(&self) -> Reading {
        let bounds = self.bounds.iter().map(Duration::as_secs_f64).chain([f64::INFINITY]);
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let sum = Duration::from_nanos(self.sum.load(Ordering::Relaxed)).as_secs_f64();
        Reading { buckets: bounds.zip(counts).collect(), sum }
    }
}

impl Reading {
    /// How many durations are in the buckets.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }

    /// Adds what another histogram with the same bounds has.
    pub fn add(&mut self, other: &Reading) {
        self.sum += other.sum;
        for ((_, count), (_, more)) in self.buckets.iter_mut().zip(&other.buckets) {
            *count += more;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_duration_is_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        static BOUNDS: [Duration; 3] = [Duration::from_millis(1), Duration::from_millis(10), Duration::from_secs(1)];
        let histogram = Histogram::new(&BOUNDS);
        for duration in [Duration::ZERO, MS, 2 * MS, 10 * MS, 11 * MS, 5000 * MS] {
            histogram.observe(duration);
        }
        let mut reading = histogram.read();
        assert_eq!(reading.buckets, [(0.001, 2), (0.01, 2), (1.0, 1), (f64::INFINITY, 1)]);
        assert_eq!((reading.count(), reading.sum), (6, 5.024));
        reading.add(&histogram.read());
        assert_eq!((reading.count(), reading.buckets[3].1, reading.sum), (12, 2, 10.048));
    }
}
