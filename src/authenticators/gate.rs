//! How many checks run at once: each takes a processor or a service for a while, which others need too.

use crate::sync::{Mutex, Signal};

/// Lets at most `limit` in at once; the others wait for their turn, as many as there is room for.
#[derive(Debug)]
pub struct Gate {
    limit: usize,
    waiting_max: usize,
    state: Mutex<State>,
    left: Signal,
}

#[derive(Debug, Default)]
struct State {
    inside: usize,
    waiting: usize,
}

/// A turn; dropping it, also by a panic, ends it.
#[derive(Debug)]
pub struct Turn<'a>(&'a Gate);

impl Gate {
    /// A gate in which nobody is.
    pub fn new(limit: usize) -> Gate {
        Gate { limit, waiting_max: usize::MAX, state: Mutex::default(), left: Signal::default() }
    }

    /// Where this many wait already, nobody else does.
    #[must_use]
    pub fn with_room_for(self, waiting_max: usize) -> Gate {
        Gate { waiting_max, ..self }
    }

    /// Half of the processors, but one at least: the other half goes on serving clients.
    pub fn for_passwords() -> Gate {
        Gate::new((std::thread::available_parallelism().map_or(1, |cores| cores.get()) / 2).max(1))
    }

    /// Waits for a turn, or until `give_up`, which is asked a few times a second and before the turn itself; not at all
    /// where too many wait.
    pub fn enter(&self, give_up: impl Fn() -> bool) -> Option<Turn<'_>> {
        let mut state = self.state.lock();
        let is_full = |state: &State| state.inside >= self.limit;
        if is_full(&state) {
            if state.waiting >= self.waiting_max {
                return None;
            }
            state.waiting += 1;
            let Some(woken) = self.left.wait_while(&self.state, state, is_full, &give_up) else {
                self.state.lock().waiting -= 1;
                return None;
            };
            state = woken;
            state.waiting -= 1;
        }
        state.inside += 1;
        drop(state);
        let turn = Turn(self);
        (!give_up()).then_some(turn)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.state.lock().inside -= 1;
        self.0.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn so_many_are_in_at_once_and_the_others_have_their_turn_or_give_up() {
        let gate = Gate::new(2);
        let (most, now, turns) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        let deadline = Instant::now() + Duration::from_secs(10);
        let is_late = || Instant::now() > deadline;
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let _turn = gate.enter(is_late).expect("a turn comes");
                    most.fetch_max(now.fetch_add(1, Ordering::AcqRel) + 1, Ordering::AcqRel);
                    std::thread::park_timeout(Duration::from_millis(2));
                    now.fetch_sub(1, Ordering::AcqRel);
                    turns.fetch_add(1, Ordering::AcqRel);
                });
            }
        });
        assert!(most.load(Ordering::Acquire) <= 2 && turns.load(Ordering::Acquire) == 8);
        let full = [gate.enter(is_late), gate.enter(is_late)];
        assert!(full.iter().all(Option::is_some) && gate.enter(|| true).is_none());
        drop(full);
        // Also who gives up at its turn leaves it to the next one.
        assert!((0..3).all(|_| gate.enter(|| true).is_none()));
        assert!(gate.enter(is_late).is_some());
    }

    #[test]
    fn only_so_many_wait() {
        let gate = Gate::new(1).with_room_for(1);
        let deadline = Instant::now() + Duration::from_secs(10);
        let is_late = || Instant::now() > deadline;
        let turn = gate.enter(is_late);
        std::thread::scope(|scope| {
            let second = scope.spawn(|| gate.enter(is_late).is_some());
            while gate.state.lock().waiting == 0 {
                assert!(!is_late(), "it does not wait");
                std::thread::yield_now();
            }
            assert!(gate.enter(is_late).is_none(), "a third one waits");
            drop(turn);
            assert!(second.join().unwrap());
        });
        let _turn = gate.enter(is_late).expect("all have left");
        assert!(gate.enter(|| true).is_none() && gate.state.lock().waiting == 0);
    }
}
