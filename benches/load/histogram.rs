//! Latencies, counted in buckets of about 1.6 % width: cheap enough to record every single message.

use std::time::Duration;

const STEPS: u64 = 64;

/// Counts of durations, from a nanosecond to centuries.
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Histogram {
    pub(crate) fn new() -> Histogram {
        Histogram { counts: vec![0; (STEPS * 60) as usize], total: 0 }
    }

    pub(crate) fn record(&mut self, duration: Duration) {
        self.counts[bucket(duration.as_nanos() as u64)] += 1;
        self.total += 1;
    }

    /// Takes in what another one counted.
    pub(crate) fn add(&mut self, other: &Histogram) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(mine, its)| *mine += its);
        self.total += other.total;
    }

    /// The duration, in milliseconds, that `share` (0 to 1) of all stayed within; not a number when nothing was recorded.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let rank = (self.total as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if *count > 0 && seen >= rank {
                return lower_bound(index as u64) as f64 / 1e6;
            }
        }
        f64::NAN
    }
}

/// Linear below `STEPS`, then `STEPS` buckets for every doubling.
fn bucket(nanos: u64) -> usize {
    if nanos < STEPS {
        return nanos as usize;
    }
    let doublings = u64::from(nanos.ilog2() - STEPS.ilog2());
    ((doublings + 1) * STEPS + (nanos >> doublings) - STEPS) as usize
}

fn lower_bound(bucket: u64) -> u64 {
    if bucket < STEPS {
        return bucket;
    }
    (STEPS + bucket % STEPS) << (bucket / STEPS - 1)
}
