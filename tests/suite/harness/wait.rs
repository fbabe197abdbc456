//! The two ways in which a test waits: for what becomes true, and for a time to pass. Nothing else in the tests sleeps.

use std::thread;
use std::time::{Duration, Instant};

/// Looks again and again until this holds: for states that come without an event.
pub(crate) fn eventually(what: &str, within: Duration, mut holds: impl FnMut() -> bool) {
    let late = Instant::now() + within;
    while !holds() {
        assert!(Instant::now() < late, "not within {within:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Lets this much time pass: for tests that are about the time itself, such as a pace, a pause or a time in which
/// nothing may happen. Wait for everything else with [`eventually`], through the log, or by reading.
pub(crate) fn pass(time: Duration) {
    thread::sleep(time);
}
