//! The gateway's coarse clock: a count of heartbeat ticks, half a second each.
//!
//! Deadlines that guard against dead and slow peers are counted in ticks that the heartbeat
//! thread really made. Reading it costs one load, and a process that was suspended for an hour
//! has aged one tick: its clients are not cut before it has had the chance to read them.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The length of a tick.
pub const TICK: Duration = Duration::from_millis(500);

/// A moment or a span on the coarse clock, in ticks. 2^32 ticks are 68 years.
pub type Ticks = u32;

/// The count of ticks since the start, from 1 on: 0 is free to mean "never".
#[derive(Debug)]
pub struct Clock {
    ticks: AtomicU32,
    began: Instant,
}

impl Clock {
    /// A clock at tick 1.
    pub fn new() -> Clock {
        Clock { ticks: AtomicU32::new(1), began: Instant::now() }
    }

    /// The present tick.
    pub fn now(&self) -> Ticks {
        self.ticks.load(Ordering::Relaxed)
    }

    /// Makes one tick pass; only the heartbeat thread does.
    pub fn tick(&self) -> Ticks {
        self.ticks.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The time since the start in microseconds, for what is measured: it begins again at 0 after 71 minutes, so only
    /// differences say something. It reads the clock of the system, which no deadline does.
    pub fn micros(&self) -> u32 {
        self.began.elapsed().as_micros() as u32
    }
}

impl Default for Clock {
    fn default() -> Clock {
        Clock::new()
    }
}

/// How many ticks must pass so that `duration` surely has; one more than fits, since the
/// first tick may already be nearly over.
pub fn ticks(duration: Duration) -> Ticks {
    let whole = duration.as_millis().div_ceil(TICK.as_millis());
    Ticks::try_from(whole).unwrap_or(Ticks::MAX / 2).min(Ticks::MAX / 2) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_never_over_too_early() {
        for (millis, expected) in [(0, 1), (1, 2), (499, 2), (500, 2), (501, 3), (10_000, 21)] {
            assert_eq!(ticks(Duration::from_millis(millis)), expected, "{millis} ms");
        }
        assert_eq!(ticks(Duration::MAX), Ticks::MAX / 2 + 1);
    }
}
