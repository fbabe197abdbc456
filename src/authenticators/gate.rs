//! How many passwords are checked at once: each takes a processor for a while, which others need too.

use std::time::Instant;

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

    /// Waits for a turn, but not beyond the deadline.
    pub fn enter(&self, deadline: Instant) -> Option<Turn<'_>> {
        let mut inside = self.inside.lock();
        while *inside >= self.limit {
            inside = self.left.wait_until(inside, Some(deadline))?;
        }
        *inside += 1;
        Some(Turn(self))
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
    use std::time::Duration;

    use super::*;

    #[test]
    fn so_many_are_in_at_once_and_the_others_have_their_turn_or_give_up() {
        let gate = Gate::new(2);
        let (most, now, turns) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        let deadline = Instant::now() + Duration::from_secs(10);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let _turn = gate.enter(deadline).expect("a turn comes");
                    most.fetch_max(now.fetch_add(1, Ordering::AcqRel) + 1, Ordering::AcqRel);
                    std::thread::park_timeout(Duration::from_millis(2));
                    now.fetch_sub(1, Ordering::AcqRel);
                    turns.fetch_add(1, Ordering::AcqRel);
                });
            }
        });
        assert!(most.load(Ordering::Acquire) <= 2 && turns.load(Ordering::Acquire) == 8);
        let full = [gate.enter(deadline), gate.enter(deadline)];
        assert!(full.iter().all(Option::is_some) && gate.enter(Instant::now()).is_none());
        drop(full);
        assert!(gate.enter(deadline).is_some());
    }
}
