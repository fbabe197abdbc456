//! How fast a peer may send: its messages and bytes in a second. Counted once a read. A rule: it is told the time.
//!
//! The clock is looked at when a tick has passed since it was, or when a bucket is empty.

use std::time::{Duration, Instant};

use crate::clock::Ticks;
use crate::config::WhenOver;
use crate::limit::{Bucket, Rate};

/// What a read brings at most while it is read in large pieces: so much has to be allowed.
const LARGE_FRAMES: u64 = 16 << 10;
const LARGE_BYTES: u64 = 64 << 10;

/// What a peer may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IntakeLimits {
    /// Messages and control frames.
    pub messages: Option<Rate>,
    /// Bytes of frames, their headers included.
    pub bytes: Option<Rate>,
    /// What becomes of one that sends more.
    pub when_over: WhenOver,
}

/// What has arrived so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Arrived {
    /// Messages and control frames.
    pub frames: u64,
    /// Bytes of frames, their headers included.
    pub bytes: u64,
}

/// What one peer has sent of what it may.
#[derive(Debug)]
pub struct Intake {
    limits: IntakeLimits,
    messages: Bucket,
    bytes: Bucket,
    counted: Arrived,
    filled: Ticks,
}

impl Intake {
    /// Nothing has arrived.
    pub fn new(limits: IntakeLimits, tick: Ticks, now: Instant) -> Intake {
        let bucket = |rate: Option<Rate>| Bucket::new(rate.unwrap_or(Rate { per_second: 1, burst: 1 }), now);
        let (messages, bytes) = (bucket(limits.messages), bucket(limits.bytes));
        Intake { limits, messages, bytes, counted: Arrived::default(), filled: tick }
    }

    /// So much has arrived by now, which does not count.
    pub fn from(limits: IntakeLimits, arrived: Arrived, tick: Ticks, now: Instant) -> Intake {
        Intake { counted: arrived, ..Intake::new(limits, tick, now) }
    }

    /// What its peer may send.
    pub fn limits(&self) -> IntakeLimits {
        self.limits
    }

    /// Counts what has arrived since the last time. Says for how long nothing more may.
    #[inline]
    pub fn count(&mut self, arrived: Arrived, tick: Ticks, now: impl Fn() -> Instant) -> Duration {
        if tick != self.filled {
            // Before it is taken from, or a quiet time would count twice.
            self.filled = tick;
            self.settle(now());
        }
        let frames = arrived.frames - self.counted.frames;
        let bytes = arrived.bytes - self.counted.bytes;
        self.counted = arrived;
        let has_messages = self.limits.messages.is_none() || self.messages.take(frames);
        let has_bytes = self.limits.bytes.is_none() || self.bytes.take(bytes);
        if has_messages && has_bytes { Duration::ZERO } else { self.settle(now()) }
    }

    /// What becomes of a peer that has sent too much.
    pub fn when_over(&self) -> WhenOver {
        self.limits.when_over
    }

    /// Whether it may send as much as a large read can bring.
    pub fn allows_large(&self) -> bool {
        (self.limits.messages.is_none() || self.messages.has(LARGE_FRAMES))
            && (self.limits.bytes.is_none() || self.bytes.has(LARGE_BYTES))
    }

    #[inline(never)]
    fn settle(&mut self, now: Instant) -> Duration {
        let messages = self.limits.messages.map_or(Duration::ZERO, |rate| self.messages.settle(rate, now));
        let bytes = self.limits.bytes.map_or(Duration::ZERO, |rate| self.bytes.settle(rate, now));
        messages.max(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(messages: Option<u64>, bytes: Option<u64>) -> IntakeLimits {
        let rate = |rate: Option<u64>| rate.map(|per_second| Rate { per_second, burst: 2 * per_second });
        IntakeLimits { messages: rate(messages), bytes: rate(bytes), when_over: WhenOver::Delay }
    }

    #[test]
    fn l12_both_are_counted_and_the_longer_wait_counts() {
        let begin = Instant::now();
        let mut intake = Intake::new(limits(Some(10), Some(1000)), 1, begin);
        let mut arrived = Arrived::default();
        let mut count = |frames, bytes, ms| {
            arrived = Arrived { frames: arrived.frames + frames, bytes: arrived.bytes + bytes };
            intake.count(arrived, 1, || begin + Duration::from_millis(ms)).as_millis()
        };
        assert_eq!(count(20, 2000, 0), 0);
        assert_eq!(count(1, 0, 0), 100);
        assert_eq!(count(0, 500, 0), 500);
        assert_eq!(count(0, 0, 400), 100);
        assert_eq!(count(0, 0, 500), 0);
    }

    #[test]
    fn l12_the_clock_is_looked_at_once_a_tick_and_when_a_bucket_is_empty() {
        let begin = Instant::now();
        let mut intake = Intake::new(limits(Some(10), None), 1, begin);
        let looked = std::cell::Cell::new(0);
        let mut count = |frames: u64, tick| {
            intake.count(Arrived { frames, bytes: 0 }, tick, || {
                looked.set(looked.get() + 1);
                begin
            })
        };
        for frames in 1..=20 {
            assert!(count(frames, 1).is_zero());
        }
        assert!(count(20, 2).is_zero());
        assert!(!count(21, 2).is_zero());
        assert_eq!(looked.get(), 2);
    }

    #[test]
    fn l12_a_quiet_time_saves_one_burst_and_not_two() {
        let begin = Instant::now();
        let mut intake = Intake::new(limits(Some(10), None), 1, begin);
        let later = begin + Duration::from_secs(100);
        assert!(intake.count(Arrived { frames: 20, bytes: 0 }, 200, || later).is_zero());
        assert_eq!(intake.count(Arrived { frames: 41, bytes: 0 }, 200, || later), Duration::from_millis(2100));
    }
}
