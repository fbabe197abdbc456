//! How many lines of a kind the log shows in a second: the first ones, then their number. A rule: it is told the time.

use std::time::{Duration, Instant};

use log::Level;

use crate::log_kind;

/// What a limit is for.
const WINDOW: Duration = Duration::from_secs(1);

/// Counts the lines of each kind of [`log_kind`]; all others are always shown.
#[derive(Debug)]
pub(super) struct Limiter {
    /// Lines of one kind in one window; `None` shows all.
    per_second: Option<u64>,
    windows: [Option<Window>; log_kind::ALL.len()],
}

/// The second that began with a line.
#[derive(Debug, Clone, Copy)]
struct Window {
    end: Instant,
    lines: u64,
    /// That of the last line that was left out.
    level: Level,
}

/// Lines that were not shown.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LeftOut {
    pub(super) lines: u64,
    /// What they were about.
    pub(super) kind: &'static str,
    pub(super) level: Level,
}

impl Limiter {
    pub(super) fn new(per_second: Option<u64>) -> Limiter {
        Limiter { per_second, windows: [None; log_kind::ALL.len()] }
    }

    /// Whether a line with this target is shown. What is [`due`](Limiter::due) has to be taken before.
    pub(super) fn admits(&mut self, target: &str, level: Level, now: Instant) -> bool {
        let Some(limit) = self.per_second else { return true };
        let Some(kind) = kind_of(target) else { return true };
        let window = self.windows[kind].filter(|window| now < window.end);
        let mut window = window.unwrap_or(Window { end: now + WINDOW, lines: 0, level });
        window.lines += 1;
        let is_shown = window.lines <= limit;
        if !is_shown {
            window.level = level;
        }
        self.windows[kind] = Some(window);
        is_shown
    }

    /// When the next count is due, if lines were left out.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.windows.iter().flatten().filter(|window| self.left_out(window) > 0).map(|window| window.end).min()
    }

    /// A count whose second is over; each is given once.
    pub(super) fn due(&mut self, now: Instant) -> Option<LeftOut> {
        self.take(|window| window.end <= now)
    }

    /// A count, although its second is not over: nothing will follow.
    pub(super) fn last(&mut self) -> Option<LeftOut> {
        self.take(|_| true)
    }

    fn take(&mut self, is_due: impl Fn(&Window) -> bool) -> Option<LeftOut> {
        let limit = self.per_second?;
        self.windows.iter_mut().zip(log_kind::ALL).find_map(|(window, (_, kind))| {
            let Window { lines, level, .. } = window.take_if(|window| is_due(window) && window.lines > limit)?;
            Some(LeftOut { lines: lines - limit, kind, level })
        })
    }

    fn left_out(&self, window: &Window) -> u64 {
        self.per_second.map_or(0, |limit| window.lines.saturating_sub(limit))
    }
}

/// Whether peers decide how many lines with this target there are.
pub(super) fn is_of_peers(target: &str) -> bool {
    kind_of(target).is_some()
}

fn kind_of(target: &str) -> Option<usize> {
    log_kind::ALL.iter().position(|(known, _)| *known == target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log_kind::{CONNECTS, REFUSALS};

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn c12_the_first_lines_of_a_second_are_shown_and_the_rest_is_counted_by_kind() {
        let mut limiter = Limiter::new(Some(3));
        let begin = Instant::now();
        let shown =
            |limiter: &mut Limiter, target, at| (0..10).filter(|_| limiter.admits(target, Level::Info, at)).count();
        assert_eq!(shown(&mut limiter, CONNECTS, begin), 3);
        assert_eq!(shown(&mut limiter, REFUSALS, begin + 500 * MS), 3);
        assert_eq!(shown(&mut limiter, "wsgate::gateway", begin), 10, "real errors are always shown");
        assert_eq!(limiter.next_due(), Some(begin + WINDOW));
        assert_eq!(limiter.due(begin + 999 * MS), None);
        let left_out = |kind, lines| Some(LeftOut { lines, kind, level: Level::Info });
        assert_eq!(limiter.due(begin + WINDOW), left_out("connects", 7));
        assert_eq!((limiter.due(begin + WINDOW), limiter.next_due()), (None, Some(begin + 1500 * MS)));
        // A new second begins with the next line.
        assert_eq!(shown(&mut limiter, CONNECTS, begin + 1200 * MS), 3);
        assert_eq!(limiter.due(begin + 3000 * MS), left_out("connects", 7));
        assert_eq!(limiter.due(begin + 3000 * MS), left_out("refusals", 7));
        assert_eq!((limiter.due(begin + 3000 * MS), limiter.next_due()), (None, None));
    }

    #[test]
    fn c12_the_last_count_is_there_before_its_second_is_over() {
        let mut limiter = Limiter::new(Some(1));
        let now = Instant::now();
        assert!(limiter.admits(CONNECTS, Level::Info, now));
        assert_eq!(limiter.last(), None, "nothing was left out");
        assert!(!limiter.admits(CONNECTS, Level::Warn, now));
        assert_eq!(limiter.last(), Some(LeftOut { lines: 1, kind: "connects", level: Level::Warn }));
        assert_eq!(limiter.last(), None);
        let mut without = Limiter::new(None);
        assert!((0..1000).all(|_| without.admits(CONNECTS, Level::Info, now)) && without.next_due().is_none());
    }
}
