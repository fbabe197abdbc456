//! How many lines the log of the process has lost. There is one log in a process, so this is the process's too.

use std::sync::atomic::{AtomicU64, Ordering};

static NOT_ACCEPTED: AtomicU64 = AtomicU64::new(0);
static LEFT_OUT: AtomicU64 = AtomicU64::new(0);

/// Standard error did not accept so many lines, or they found the backlog full.
pub fn count_not_accepted(lines: u64) {
    if lines > 0 {
        NOT_ACCEPTED.fetch_add(lines, Ordering::Relaxed);
    }
}

/// A line was left out because there were more of its kind, or more such lines, in a second than the log shows.
pub fn count_left_out() {
    LEFT_OUT.fetch_add(1, Ordering::Relaxed);
}

/// Lines that standard error did not accept since the start.
pub fn not_accepted() -> u64 {
    NOT_ACCEPTED.load(Ordering::Relaxed)
}

/// Lines that were left out since the start, as `lines_per_second` says, or because they were the same.
pub fn left_out() -> u64 {
    LEFT_OUT.load(Ordering::Relaxed)
}
