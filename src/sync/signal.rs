//! A condition variable that counts its waiting threads, with the one way in which threads here wait for room.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::lock::{Condvar, Mutex, MutexGuard};

/// How often a thread that waits looks again by itself: whether it is to give up, and whether something has changed of
/// which nobody would tell it.
const SLICE: Duration = Duration::from_millis(250);

/// Says that what a mutex guards has changed. All its waits must be with the same mutex.
#[derive(Debug, Default)]
pub struct Signal {
    changed: Condvar,
    /// How many threads wait. It changes only with the mutex in hand, so it is exact for the thread that has the mutex,
    /// and for one that has just changed what the waits are about and released it.
    waiting: AtomicU32,
}

impl Signal {
    /// Waits for a change, at most one [`SLICE`].
    pub fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.wait_for(guard, SLICE)
    }

    /// Waits for a change, at most for `time`.
    pub fn wait_for<'a, T>(&self, guard: MutexGuard<'a, T>, time: Duration) -> MutexGuard<'a, T> {
        self.counted(guard, |guard| self.changed.wait_timeout(guard, time))
    }

    /// Waits for a change until the deadline, or without end if there is none. `None` if the deadline was over before.
    pub fn wait_until<'a, T>(&self, guard: MutexGuard<'a, T>, deadline: Option<Instant>) -> Option<MutexGuard<'a, T>> {
        let Some(deadline) = deadline else { return Some(self.counted(guard, |guard| self.changed.wait(guard))) };
        let left = deadline.saturating_duration_since(Instant::now());
        (!left.is_zero()).then(|| self.wait_for(guard, left))
    }

    /// Waits as long as `must_wait`, or until `give_up`, for which it returns `None`. `give_up` is asked once every
    /// [`SLICE`], the first time before the first wait. It must not wait, and may use any lock: `mutex` is free meanwhile.
    pub fn wait_while<'a, T>(
        &self,
        mutex: &'a Mutex<T>,
        mut guard: MutexGuard<'a, T>,
        must_wait: impl Fn(&T) -> bool,
        give_up: impl Fn() -> bool,
    ) -> Option<MutexGuard<'a, T>> {
        while must_wait(&guard) {
            drop(guard);
            if give_up() {
                return None;
            }
            guard = mutex.lock();
            // What has changed while the mutex was free has been told already.
            if must_wait(&guard) {
                guard = self.wait(guard);
            }
        }
        Some(guard)
    }

    /// Whether a thread waits.
    pub fn is_awaited(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Wakes one thread that waits, if there is one.
    pub fn notify_one(&self) {
        if self.is_awaited() {
            self.changed.notify_one();
        }
    }

    /// Wakes all threads that wait, if there are any.
    pub fn notify_all(&self) {
        if self.is_awaited() {
            self.changed.notify_all();
        }
    }

    fn counted<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        wait: impl FnOnce(MutexGuard<'a, T>) -> MutexGuard<'a, T>,
    ) -> MutexGuard<'a, T> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let guard = wait(guard);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        guard
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn a_wait_ends_with_the_change_or_when_its_thread_gives_up() {
        let shared = Arc::new((Mutex::new(0), Signal::default()));
        let waiter = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (number, signal) = &*shared;
                let guard = signal.wait_while(number, number.lock(), |number| *number == 0, || false);
                guard.map(|number| *number)
            })
        };
        let (number, signal) = &*shared;
        let deadline = Instant::now() + Duration::from_secs(10);
        while !signal.is_awaited() {
            assert!(Instant::now() < deadline, "it does not wait");
            thread::yield_now();
        }
        *number.lock() = 7;
        signal.notify_all();
        assert_eq!(waiter.join().unwrap(), Some(7));
        assert!(!signal.is_awaited());
        assert!(signal.wait_while(number, number.lock(), |number| *number == 7, || true).is_none());
        assert!(signal.wait_until(number.lock(), Some(Instant::now())).is_none());
    }

    #[test]
    fn a_thread_that_is_asked_whether_it_gives_up_may_take_the_lock() {
        let (number, signal) = (Mutex::new(0), Signal::default());
        let give_up = || *number.lock() == 0;
        assert!(signal.wait_while(&number, number.lock(), |_| true, give_up).is_none());
    }

    #[test]
    fn l6_a_lock_that_a_panic_left_is_taken_by_the_next() {
        let number = Arc::new(Mutex::new(7));
        let panicking = {
            let number = Arc::clone(&number);
            thread::spawn(move || {
                let _guard = number.lock();
                panic!("as a defect would");
            })
        };
        assert!(panicking.join().is_err());
        assert_eq!(*number.lock(), 7);
    }
}
