//! How many passwords are checked at once: each takes a processor for a while, which others need too.

use crate::sync::{Mutex, Signal};

/// Lets at most `limit` in at once; the others wait for their turn.
#[derive(Debug)]
pub struct Gate {
    limit: usize,
    inside: Mutex<usize>,
    left: Signal,
}

/// A turn; dropping it, also by a panic, ends it.
#[derive(Debug)]
pub struct Turn<'a>(&'a Gate);

impl Gate {
    /// A gate in which nobody is.
    pub fn new(limit: usize) -> Gate {
        Gate { limit, inside: Mutex::new(0), left: Signal::default() }
    }

    /// Half of the processors, but one at least: the other half goes on serving clients.
    pub fn for_passwords() -> Gate {
        Gate::new((std::thread::available_parallelism().map_or(1, |cores| cores.get()) / 2).max(1))
    }

    /// Waits for a turn, or until `give_up`, which is asked a few times a second and before the turn itself.
    pub fn enter(&self, give_up: impl Fn() -> bool) -> Option<Turn<'_>> {
        let mut inside =
            self.left.wait_while(&self.inside, self.inside.lock(), |inside| *inside >= self.limit, &give_up)?;
        *inside += 1;
        drop(inside);
        let turn = Turn(self);
        (!give_up()).then_some(turn)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.inside.lock() -= 1;
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
}
