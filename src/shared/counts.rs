//! Counts of things of a few kinds, each with a number from 0 on.

use std::sync::atomic::{AtomicU64, Ordering};

/// How many there were of each kind. It only grows.
#[derive(Debug)]
pub struct Counts<const KINDS: usize>([AtomicU64; KINDS]);

impl<const KINDS: usize> Counts<KINDS> {
    /// Counts one of the kind with this number.
    pub fn count(&self, kind: usize) {
        self.0[kind].fetch_add(1, Ordering::Relaxed);
    }

    /// Those of each kind, in the order of their numbers.
    pub fn all(&self) -> impl Iterator<Item = u64> {
        self.0.iter().map(|count| count.load(Ordering::Relaxed))
    }
}

impl<const KINDS: usize> Default for Counts<KINDS> {
    fn default() -> Counts<KINDS> {
        Counts([const { AtomicU64::new(0) }; KINDS])
    }
}
