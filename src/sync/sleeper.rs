//! A thread that sleeps at once when it has nothing to do.
//!
//! A channel lets the others run a few times before it puts its receiver to sleep. Beside fifty threads that are busy each
//! of these times takes as long as all of them have their slices, and what comes meanwhile waits for it: 15 ms and more for
//! a thread that would have been woken at once.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::thread::{self, Thread};
use std::time::Duration;

/// One thread that waits, and the way to wake it.
#[derive(Debug, Default)]
pub struct Sleeper {
    thread: OnceLock<Thread>,
    sleeps: AtomicBool,
}

impl Sleeper {
    /// Sleeps until `look` finds something. Always called by the same thread. Whoever gives it something to find wakes it
    /// behind that. With a `pause` it looks by itself too, whenever it has slept for so long.
    pub fn wait_for<T>(&self, pause: Option<Duration>, look: impl Fn() -> Option<T>) -> T {
        self.thread.get_or_init(thread::current);
        loop {
            if let Some(found) = look() {
                return found;
            }
            // Either it is found now, or whoever brings it sees that this thread sleeps.
            self.sleeps.store(true, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            let found = look();
            match (&found, pause) {
                (Some(_), _) => {}
                (None, None) => thread::park(),
                (None, Some(pause)) => thread::park_timeout(pause),
            }
            self.sleeps.store(false, Ordering::SeqCst);
            if let Some(found) = found {
                return found;
            }
        }
    }

    /// Has the thread look again, if it sleeps.
    pub fn wake(&self) {
        // Pairs with the one above: the thread finds what was brought, or it is seen to sleep.
        fence(Ordering::SeqCst);
        if self.sleeps.load(Ordering::SeqCst)
            && self.sleeps.swap(false, Ordering::SeqCst)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;

    use super::*;

    #[test]
    fn with_a_pause_it_looks_by_itself() {
        let looks = Cell::new(0);
        let found = Sleeper::default().wait_for(Some(Duration::from_millis(1)), || {
            looks.set(looks.get() + 1);
            (looks.get() == 7).then_some(looks.get())
        });
        assert_eq!(found, 7);
    }

    #[test]
    fn whatever_is_brought_is_found() {
        const THINGS: usize = 20_000;
        let sleeper = Arc::new(Sleeper::default());
        let (bring, brought) = crossbeam_channel::unbounded();
        let (done, is_done) = crossbeam_channel::bounded(1);
        let finder = Arc::clone(&sleeper);
        thread::spawn(move || {
            (0..3 * THINGS).for_each(|_| finder.wait_for(None, || brought.try_recv().ok()));
            done.send(()).unwrap();
        });
        for _ in 0..3 {
            let (sleeper, bring) = (Arc::clone(&sleeper), bring.clone());
            thread::spawn(move || {
                for _ in 0..THINGS {
                    bring.send(()).unwrap();
                    sleeper.wake();
                }
            });
        }
        is_done.recv_timeout(Duration::from_secs(60)).expect("it sleeps for ever");
    }
}
