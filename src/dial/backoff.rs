//! How long to wait before the next attempt to connect.

use std::time::Duration;

/// A random wait after `failures` failed attempts in a row, counted from 0: anything up to a ceiling that starts at
/// `first` and doubles up to `most` ("full jitter"), so that many clients that lost the same server do not come back at
/// the same moment.
pub fn random_wait(first: Duration, most: Duration, failures: u32) -> Duration {
    // Without random numbers the ceiling itself is a safe wait.
    wait(first, most, failures, getrandom::u64().unwrap_or(u64::MAX))
}

/// As [`random_wait`]; `random` is uniform over all values.
fn wait(first: Duration, most: Duration, failures: u32, random: u64) -> Duration {
    let ceiling = first.saturating_mul(1 << failures.min(30)).min(most);
    let share = (random >> 32) as f64 / f64::from(u32::MAX);
    // Whole milliseconds read better and spread just as well.
    Duration::from_millis((ceiling.as_millis() as f64 * share) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_and_the_wait_is_random_below_it() {
        let (first, most) = (Duration::from_millis(500), Duration::from_secs(60));
        for (failures, ceiling_ms) in [(0, 500), (1, 1000), (3, 4000), (6, 32_000), (7, 60_000), (u32::MAX, 60_000)] {
            assert_eq!(wait(first, most, failures, u64::MAX), Duration::from_millis(ceiling_ms), "{failures}");
            assert_eq!(wait(first, most, failures, 0), Duration::ZERO);
            let half = wait(first, most, failures, u64::MAX / 2).as_millis() as u64;
            assert!(half.abs_diff(ceiling_ms / 2) <= 1, "{failures}: {half}");
        }
    }
}
