//! Appointments by tick: whom the heartbeat has to visit when.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::clock::Ticks;

/// Things by the tick at which they are due. Filling and emptying a tick costs no search.
#[derive(Debug)]
pub struct Wheel<T> {
    due: Mutex<BTreeMap<Ticks, Vec<T>>>,
}

impl<T> Wheel<T> {
    /// An empty wheel.
    pub fn new() -> Wheel<T> {
        Wheel { due: Mutex::default() }
    }

    /// Has `thing` come up at `tick`.
    pub fn add(&self, tick: Ticks, thing: T) {
        self.due.lock().unwrap_or_else(PoisonError::into_inner).entry(tick).or_default().push(thing);
    }

    /// Everything that is due at `now` or was before.
    pub fn take(&self, now: Ticks) -> Vec<T> {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let later = due.split_off(&now.saturating_add(1));
        std::mem::replace(&mut *due, later).into_values().flatten().collect()
    }
}

impl<T> Default for Wheel<T> {
    fn default() -> Wheel<T> {
        Wheel::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_comes_up_once() {
        let wheel = Wheel::new();
        for tick in [5, 3, 3, 9] {
            wheel.add(tick, tick);
        }
        assert!(wheel.take(2).is_empty());
        assert_eq!(wheel.take(5), [3, 3, 5]);
        assert!(wheel.take(8).is_empty());
        assert_eq!(wheel.take(9), [9]);
    }
}
