//! The watchdog of the supervisor of the process, such as systemd: it is fed when every accept loop has come round and the
//! heartbeat has ticked since it was last fed, and none of the loops that may sleep for long hangs. So a gateway that hangs
//! starves it, and is started anew.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::clock::{self, Ticks};
use crate::sync::Mutex;

/// A watchdog that is fed together.
pub struct Watchdog {
    timeout: Duration,
    feed: Box<dyn Fn() + Send + Sync>,
    round: Mutex<Round>,
    /// The loops that may sleep.
    sleepers: Mutex<Vec<Arc<Progress>>>,
}

/// How a loop gets on that sleeps until there is something to do, which a watchdog looks at: nobody has to wake it for that.
#[derive(Debug, Default)]
pub struct Progress {
    /// When it has begun what it does now; 0 while it sleeps.
    began: AtomicU32,
}

impl Progress {
    /// The loop begins with something, or with the next.
    pub fn begin(&self, now: Ticks) {
        self.began.store(now, Ordering::Relaxed);
    }

    /// The loop has nothing to do.
    pub fn sleep(&self) {
        self.began.store(0, Ordering::Relaxed);
    }

    /// Whether it has been at one thing for longer than `limit`.
    fn hangs(&self, now: Ticks, limit: Ticks) -> bool {
        let began = self.began.load(Ordering::Relaxed);
        began != 0 && now.saturating_sub(began) > limit
    }
}

/// What has happened since it was last fed.
#[derive(Debug, Default)]
struct Round {
    /// Who has come round, by the number of its handle.
    came: Vec<bool>,
    fed_at: Ticks,
}

/// One loop's part in keeping the watchdog quiet.
#[derive(Debug)]
pub struct WatchdogHandle {
    watchdog: Arc<Watchdog>,
    number: usize,
    came: Option<Instant>,
}

impl Watchdog {
    /// A watchdog that bites when `feed` was not called for as long as `timeout`.
    pub fn new(timeout: Duration, feed: impl Fn() + Send + Sync + 'static) -> Watchdog {
        Watchdog { timeout, feed: Box::new(feed), round: Mutex::default(), sleepers: Mutex::default() }
    }

    /// One more loop without which it is not fed.
    pub fn handle(self: &Arc<Self>) -> WatchdogHandle {
        let mut round = self.round.lock();
        round.came.push(false);
        WatchdogHandle { watchdog: Arc::clone(self), number: round.came.len() - 1, came: None }
    }

    /// One more loop that must not hang.
    pub fn watch(&self) -> Arc<Progress> {
        let progress = Arc::default();
        self.sleepers.lock().push(Arc::clone(&progress));
        progress
    }

    fn check_in(&self, number: usize, now: Ticks) {
        let limit = clock::ticks(self.timeout / 4);
        if self.sleepers.lock().iter().any(|progress| progress.hangs(now, limit)) {
            return;
        }
        let mut round = self.round.lock();
        round.came[number] = true;
        if round.fed_at == now || round.came.contains(&false) {
            return;
        }
        round.fed_at = now;
        round.came.fill(false);
        drop(round);
        (self.feed)();
    }
}

impl WatchdogHandle {
    /// How often its loop has to come round: twice as often as the watchdog wants to be fed, since two loops
    /// may just have missed each other, and that twice as often as it bites.
    pub fn interval(&self) -> Duration {
        self.watchdog.timeout / 4
    }

    /// Its loop has come round, at this tick. Coming more often than needed costs a look at the clock.
    pub fn check_in(&mut self, now: Ticks) {
        if self.came.is_some_and(|came| came.elapsed() < self.interval()) {
            return;
        }
        self.came = Some(Instant::now());
        self.watchdog.check_in(self.number, now);
    }
}

impl fmt::Debug for Watchdog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchdog").field("timeout", &self.timeout).field("round", &self.round).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn it_is_fed_only_when_all_have_come_round_and_the_clock_has_ticked() {
        let fed = Arc::new(AtomicUsize::new(0));
        let feed = {
            let fed = Arc::clone(&fed);
            move || {
                fed.fetch_add(1, Ordering::Relaxed);
            }
        };
        let watchdog = Arc::new(Watchdog::new(Duration::ZERO, feed));
        let mut handles = [watchdog.handle(), watchdog.handle()];
        // (who comes, at which tick, how often it was fed by then)
        let table = [(0, 1, 0), (0, 1, 0), (1, 1, 1), (1, 2, 1), (0, 2, 2), (0, 2, 2), (1, 2, 2), (1, 3, 3), (0, 3, 3)];
        for (step, (who, tick, expected)) in table.into_iter().enumerate() {
            handles[who].check_in(tick);
            assert_eq!(fed.load(Ordering::Relaxed), expected, "step {step}");
        }
    }

    #[test]
    fn c18_it_is_not_fed_while_a_loop_hangs_however_long_others_sleep() {
        let fed = Arc::new(AtomicUsize::new(0));
        let feed = {
            let fed = Arc::clone(&fed);
            move || {
                fed.fetch_add(1, Ordering::Relaxed);
            }
        };
        let watchdog = Arc::new(Watchdog::new(Duration::from_secs(8), feed));
        let (busy, _asleep) = (watchdog.watch(), watchdog.watch());
        // A quarter of the timeout, in ticks, and one that may have been nearly over.
        let limit = 5;
        let is_fed_at = |now| {
            let before = fed.load(Ordering::Relaxed);
            // Its accept loop has come round.
            watchdog.round.lock().came = vec![false];
            watchdog.check_in(0, now);
            fed.load(Ordering::Relaxed) > before
        };
        busy.begin(10);
        assert!(is_fed_at(10 + limit));
        assert!(!is_fed_at(11 + limit), "it hangs");
        busy.begin(12 + limit);
        assert!(is_fed_at(12 + 2 * limit));
        assert!(!is_fed_at(13 + 2 * limit), "it hangs with the next thing");
        busy.sleep();
        assert!(is_fed_at(100 * limit));
    }

    #[test]
    fn who_comes_too_often_is_not_heard() {
        let fed = Arc::new(AtomicUsize::new(0));
        let feed = {
            let fed = Arc::clone(&fed);
            move || {
                fed.fetch_add(1, Ordering::Relaxed);
            }
        };
        let mut handle = Arc::new(Watchdog::new(Duration::from_secs(3600), feed)).handle();
        (1..100).for_each(|tick| handle.check_in(tick));
        assert_eq!(fed.load(Ordering::Relaxed), 1);
    }
}
