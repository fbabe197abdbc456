//! Appointments by tick: whom the heartbeat has to visit when.

use crate::sync::Mutex;
use std::collections::BTreeMap;

use crate::clock::Ticks;

/// Things by the tick at which they are due. Filling and emptying a tick costs no search.
#[derive(Debug)]
pub struct TimerQueue<T> {
    state: Mutex<Timers<T>>,
}

#[derive(Debug)]
struct Timers<T> {
    due: BTreeMap<Ticks, Vec<T>>,
    count: usize,
}

impl<T> TimerQueue<T> {
    /// A queue without timers.
    pub fn new() -> TimerQueue<T> {
        TimerQueue { state: Mutex::new(Timers { due: BTreeMap::new(), count: 0 }) }
    }

    /// Has `thing` come up at `tick`.
    pub fn add_at(&self, tick: Ticks, thing: T) {
        let mut state = self.state.lock();
        state.due.entry(tick).or_default().push(thing);
        state.count += 1;
    }

    /// Everything that is due at `now` or was before.
    pub fn take_due(&self, now: Ticks) -> Vec<T> {
        let mut state = self.state.lock();
        let later = state.due.split_off(&now.saturating_add(1));
        let taken: Vec<T> = std::mem::replace(&mut state.due, later).into_values().flatten().collect();
        state.count -= taken.len();
        taken
    }

    /// A copy of everything that waits.
    pub fn all(&self) -> Vec<T>
    where
        T: Clone,
    {
        self.state.lock().due.values().flatten().cloned().collect()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.state.lock().count
    }

    /// Gives up those that are not `wanted` any more, and the memory that they had.
    pub fn retain(&self, wanted: impl Fn(&T) -> bool) {
        let mut state = self.state.lock();
        state.due.retain(|_, things| {
            things.retain(&wanted);
            things.shrink_to_fit();
            !things.is_empty()
        });
        state.count = state.due.values().map(Vec::len).sum();
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
        assert_eq!((timers.len(), timers.take_due(9)), (1, vec![9]));
        assert_eq!(timers.len(), 0);
    }

    #[test]
    fn what_is_not_wanted_any_more_is_given_up() {
        let timers = TimerQueue::new();
        for tick in 0..10 {
            timers.add_at(tick, tick);
        }
        timers.retain(|tick| tick % 2 == 0);
        assert_eq!((timers.len(), timers.take_due(9)), (5, vec![0, 2, 4, 6, 8]));
    }
}
