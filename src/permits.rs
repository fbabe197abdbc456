//! A bounded count of permits; a permit is given back when it is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Lets at most `limit` in at once.
#[derive(Debug)]
pub struct Semaphore {
    in_use: AtomicUsize,
    released: AtomicUsize,
    limit: AtomicUsize,
}

/// One of a semaphore's permits; dropping it, also by a panic, gives it back.
#[derive(Debug)]
pub struct Permit(Arc<Semaphore>);

impl Semaphore {
    /// A semaphore none of whose permits is in use.
    pub fn new(limit: usize) -> Arc<Semaphore> {
        Arc::new(Semaphore {
            in_use: AtomicUsize::new(0),
            released: AtomicUsize::new(0),
            limit: AtomicUsize::new(limit),
        })
    }

    /// Goes in, unless it is full.
    pub fn try_acquire(self: &Arc<Self>) -> Option<Permit> {
        let limit = self.limit();
        self.in_use
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |in_use| (in_use < limit).then_some(in_use + 1))
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
        self.limit.load(Ordering::Relaxed)
    }

    /// From now on so many may be. Where more are in use, nobody has to leave, and nobody comes in until enough have left.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
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

    #[test]
    fn a_lowered_limit_keeps_out_whoever_comes_until_enough_have_left() {
        let semaphore = Semaphore::new(3);
        let mut inside: Vec<_> = (0..3).map(|_| semaphore.try_acquire().unwrap()).collect();
        semaphore.set_limit(2);
        for expected in [false, false, true] {
            assert_eq!(semaphore.try_acquire().is_some(), expected, "{} are in", inside.len());
            inside.pop();
        }
        semaphore.set_limit(4);
        assert_eq!([(); 5].map(|()| semaphore.try_acquire()).iter().flatten().count(), 4);
    }
}
