//! A bounded count of what is inside, and the pass that leaves when it is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Lets at most `limit` in at once.
#[derive(Debug)]
pub struct Gate {
    inside: AtomicUsize,
    left: AtomicUsize,
    limit: usize,
}

/// The right to be inside; dropping it, also by a panic, leaves.
#[derive(Debug)]
pub struct Pass(Arc<Gate>);

impl Gate {
    /// An empty gate.
    pub fn new(limit: usize) -> Arc<Gate> {
        Arc::new(Gate { inside: AtomicUsize::new(0), left: AtomicUsize::new(0), limit })
    }

    /// Goes in, unless it is full.
    pub fn enter(self: &Arc<Self>) -> Option<Pass> {
        self.inside
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |inside| (inside < self.limit).then_some(inside + 1))
            .ok()
            .map(|_| Pass(Arc::clone(self)))
    }

    /// How many are inside.
    pub fn inside(&self) -> usize {
        self.inside.load(Ordering::Acquire)
    }

    /// How many have left so far; it wraps around.
    pub fn left(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }

    /// How many may be.
    pub fn limit(&self) -> usize {
        self.limit
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::AcqRel);
        self.0.left.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_gate_opens_when_somebody_leaves() {
        let gate = Gate::new(2);
        let (first, second) = (gate.enter(), gate.enter());
        assert!(first.is_some() && second.is_some());
        assert!(gate.enter().is_none());
        drop(first);
        assert!(gate.enter().is_some());
        assert_eq!((gate.inside(), gate.left()), (1, 2));
    }
}
