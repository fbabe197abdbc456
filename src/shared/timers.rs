//! Appointments by tick: whom the heartbeat has to visit when.

use crate::sync::Mutex;
use std::collections::BTreeMap;

use crate::clock::Ticks;

/// Things by the tick at which they are due. Filling and emptying a tick costs no search.
#[derive(Debug)]
pub struct TimerQueue<T> {
    due: Mutex<BTreeMap<Ticks, Vec<T>>>,
}

impl<T> TimerQueue<T> {
    /// A queue without timers.
    pub fn new() -> TimerQueue<T> {
        TimerQueue { due: Mutex::default() }
    }

    /// Has `thing` come up at `tick`.
    pub fn add_at(&self, tick: Ticks, thing: T) {
        self.due.lock().entry(tick).or_default().push(thing);
    }

    /// Everything that is due at `now` or was before.
    pub fn take_due(&self, now: Ticks) -> Vec<T> {
        let mut due = self.due.lock();
        let later = due.split_off(&now.saturating_add(1));
        std::mem::replace(&mut *due, later).into_values().flatten().collect()
    }
}

impl<T> Default for TimerQueue<T> {
    fn default() -> TimerQueue<T> {
        TimerQueue::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_comes_up_once() {
        let timers = TimerQueue::new();
        for tick in [5, 3, 3, 9] {
            timers.add_at(tick, tick);
        }
        assert!(timers.take_due(2).is_empty());
        assert_eq!(timers.take_due(5), [3, 3, 5]);
        assert!(timers.take_due(8).is_empty());
        assert_eq!(timers.take_due(9), [9]);
    }
}
