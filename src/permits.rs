//! A bounded count of permits; a permit is given back when it is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Lets at most `limit` in at once.
#[derive(Debug)]
pub struct Semaphore {
    in_use: AtomicUsize,
    released: AtomicUsize,
    limit: usize,
}

/// One of a semaphore's permits; dropping it, also by a panic, gives it back.
#[derive(Debug)]
pub struct Permit(Arc<Semaphore>);

impl Semaphore {
    /// A semaphore none of whose permits is in use.
    pub fn new(limit: usize) -> Arc<Semaphore> {
        Arc::new(Semaphore { in_use: AtomicUsize::new(0), released: AtomicUsize::new(0), limit })
    }

    /// Goes in, unless it is full.
    pub fn try_acquire(self: &Arc<Self>) -> Option<Permit> {
        self.in_use
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |in_use| (in_use < self.limit).then_some(in_use + 1))
            .ok()
            .map(|_| Permit(Arc::clone(self)))
    }

    /// How many permits are in use.
    pub fn in_use(&self) -> usize {
        self.in_use.load(Ordering::Acquire)
    }

    /// How many permits have been given back so far; it wraps around.
    pub fn released(&self) -> usize {
        self.released.load(Ordering::Relaxed)
    }

    /// How many may be.
    pub fn limit(&self) -> usize {
        self.limit
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.in_use.fetch_sub(1, Ordering::AcqRel);
        self.0.released.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_gate_opens_when_somebody_leaves() {
        let semaphore = Semaphore::new(2);
        let (first, second) = (semaphore.try_acquire(), semaphore.try_acquire());
        assert!(first.is_some() && second.is_some());
        assert!(semaphore.try_acquire().is_none());
        drop(first);
        assert!(semaphore.try_acquire().is_some());
        assert_eq!((semaphore.in_use(), semaphore.released()), (1, 2));
    }
}
