//! The watchdog of the supervisor of the process, such as systemd: it is fed when every accept loop has come round and the
//! heartbeat has ticked since it was last fed, and every other loop that all clients rely on has come round lately. So a
//! gateway that hangs starves it, and is started anew.

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
    /// The loops that do not feed it and must not hang.
    others: Mutex<Vec<Arc<Progress>>>,
}

/// How a loop gets on that has nothing to do with the watchdog itself. One that is watched does not sleep for longer than
/// its pause: a loop that is not woken when it should be hangs too.
#[derive(Debug, Default)]
pub struct Progress {
    /// When it has come round last.
    came: AtomicU32,
    pause: Option<Duration>,
}

impl Progress {
    /// The loop has come round: it begins with something, or with the next, or has nothing to do.
    pub fn come_round(&self, now: Ticks) {
        self.came.store(now, Ordering::Relaxed);
    }

    /// How long the loop may sleep before it has to come round again; `None` where nobody watches it.
    pub fn pause(&self) -> Option<Duration> {
        self.pause
    }

    /// Whether it has not come round for longer than `limit`.
    fn hangs(&self, now: Ticks, limit: Ticks) -> bool {
        now.saturating_sub(self.came.load(Ordering::Relaxed)) > limit
    }
}

/// What has happened since it was last fed.
#[derive(Debug, Default)]
struct Round {
    /// Who has come round, by the number of its handle; `None` of one that is gone.
    came: Vec<Option<bool>>,
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
        Watchdog { timeout, feed: Box::new(feed), round: Mutex::default(), others: Mutex::default() }
    }

    /// One more loop without which it is not fed.
    pub fn handle(self: &Arc<Self>) -> WatchdogHandle {
        let mut round = self.round.lock();
        let free = round.came.iter().position(Option::is_none);
        let number = free.unwrap_or_else(|| {
            round.came.push(None);
            round.came.len() - 1
        });
        round.came[number] = Some(false);
        WatchdogHandle { watchdog: Arc::clone(self), number, came: None }
    }

    /// One more loop that must not hang, from this tick on.
    pub fn watch(&self, now: Ticks) -> Arc<Progress> {
        let progress = Arc::new(Progress { came: AtomicU32::new(now), pause: Some(self.timeout / 8) });
        self.others.lock().push(Arc::clone(&progress));
        progress
    }

    fn check_in(&self, number: usize, now: Ticks) {
        // Twice their pause, and they are as good as gone.
        let limit = clock::ticks(self.timeout / 4);
        if self.others.lock().iter().any(|progress| progress.hangs(now, limit)) {
            return;
        }
        let mut round = self.round.lock();
        round.came[number] = Some(true);
        if round.fed_at == now || round.came.contains(&Some(false)) {
            return;
        }
        round.fed_at = now;
        round.came.iter_mut().flatten().for_each(|came| *came = false);
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

/// Its loop has ended: the watchdog is fed without it.
impl Drop for WatchdogHandle {
    fn drop(&mut self) {
        self.watchdog.round.lock().came[self.number] = None;
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
    fn c18_it_is_not_fed_while_one_of_the_other_loops_has_not_come_round() {
        let fed = Arc::new(AtomicUsize::new(0));
        let feed = {
            let fed = Arc::clone(&fed);
            move || {
                fed.fetch_add(1, Ordering::Relaxed);
            }
        };
        let watchdog = Arc::new(Watchdog::new(Duration::from_secs(8), feed));
        let [one, other] = [10, 10].map(|now| watchdog.watch(now));
        assert_eq!(one.pause(), Some(Duration::from_secs(1)));
        // A quarter of the timeout, in ticks, and one that may have been nearly over.
        let limit = 5;
        let is_fed_at = |now| {
            let before = fed.load(Ordering::Relaxed);
            // Its accept loop has come round.
            watchdog.round.lock().came = vec![Some(false)];
            watchdog.check_in(0, now);
            fed.load(Ordering::Relaxed) > before
        };
        assert!(is_fed_at(10 + limit), "they have just been started");
        assert!(!is_fed_at(11 + limit), "both hang");
        one.come_round(11 + limit);
        assert!(!is_fed_at(12 + limit), "the other hangs");
        other.come_round(12 + limit);
        assert!(is_fed_at(11 + 2 * limit));
        assert!(!is_fed_at(12 + 2 * limit), "the first hangs again");
        assert_eq!(Progress::default().pause(), None, "nobody has to come round for nobody");
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
