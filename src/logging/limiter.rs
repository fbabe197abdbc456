//! How many lines the log shows in a second of those that are alike: the first ones, then their number. A rule: it is told
//! the time.
//!
//! Lines are alike if they are of one kind of [`log_kind`](crate::log_kind), or if they are the same line.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use log::Level;

use crate::log_kind::{KINDS, Subject};

/// What a limit is for.
const WINDOW: Duration = Duration::from_secs(1);

/// How often the same line is shown in a second.
const SAME_LINES: u64 = 10;

/// The most different lines that are known at once. While there are more in a second, those that come then are shown
/// however often they come.
const KNOWN_LINES: usize = 256;

/// Counts lines that are alike.
#[derive(Debug)]
pub(super) struct Limiter {
    /// Lines of one kind in one window; `None` shows all.
    per_second: Option<u64>,
    windows: HashMap<Alike, Window>,
    hashes: RandomState,
    /// When the first count is due. Only windows in which something was left out have one.
    next_due: Option<Instant>,
    /// Until when no known line can be forgotten; only then is it worth looking.
    full_until: Option<Instant>,
}

/// What lines have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Alike {
    /// A place in [`KINDS`].
    Kind(usize),
    /// The hash of a line that was shown.
    Line(u64),
}

/// The second that began with a line.
#[derive(Debug)]
struct Window {
    end: Instant,
    lines: u64,
    most: u64,
    /// Of the last line that was left out; its text only where all have the same.
    last: Option<(Level, Subject, Option<String>)>,
}

/// Lines that were not shown.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LeftOut {
    pub(super) lines: u64,
    pub(super) level: Level,
    pub(super) part: &'static str,
    pub(super) what: What,
}

/// What they had in common.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Their kind: a place in [`KINDS`].
    Kind(usize),
    /// Their text.
    Line(String),
}

impl Limiter {
    pub(super) fn new(per_second: Option<u64>) -> Limiter {
        Limiter { per_second, windows: HashMap::new(), hashes: RandomState::new(), next_due: None, full_until: None }
    }

    /// Changes the number for each kind; in a second that has begun it holds from the next one on.
    pub(super) fn set_per_second(&mut self, per_second: Option<u64>) {
        self.per_second = per_second;
    }

    /// Whether a line is shown as one of its kind; what its text will be is not known yet. What is
    /// [`due`](Limiter::due) has to be taken before.
    pub(super) fn admits_kind(&mut self, subject: Subject, level: Level, now: Instant) -> bool {
        match (self.per_second, subject.kind) {
            (Some(most), Some(kind)) => self.admits(Alike::Kind(kind), most, now, || (level, subject, None)),
            _ => true,
        }
    }

    /// Whether a line is shown, or was there too often.
    pub(super) fn admits_text(&mut self, subject: Subject, level: Level, text: &str, now: Instant) -> bool {
        let alike = Alike::Line(self.hashes.hash_one((level, subject.part, text)));
        if !self.windows.contains_key(&alike) && !self.make_room(now) {
            return true;
        }
        self.admits(alike, SAME_LINES, now, || (level, subject, Some(text.to_owned())))
    }

    fn admits(
        &mut self,
        alike: Alike,
        most: u64,
        now: Instant,
        line: impl FnOnce() -> (Level, Subject, Option<String>),
    ) -> bool {
        let begun = || Window { end: now + WINDOW, lines: 0, most, last: None };
        let window = self.windows.entry(alike).or_insert_with(begun);
        if window.end <= now {
            *window = begun();
        }
        window.lines += 1;
        if window.lines <= window.most {
            return true;
        }
        if window.last.is_none() {
            let end = window.end;
            self.next_due = Some(self.next_due.map_or(end, |due| due.min(end)));
        }
        window.last = Some(line());
        false
    }

    /// Whether one more line can be known; those of seconds that are over are forgotten.
    fn make_room(&mut self, now: Instant) -> bool {
        if self.windows.len() < KNOWN_LINES + KINDS.len() {
            return true;
        }
        if self.full_until.is_some_and(|until| now < until) {
            return false;
        }
        self.windows.retain(|_, window| now < window.end || window.last.is_some());
        self.full_until = self.windows.values().map(|window| window.end).min();
        self.windows.len() < KNOWN_LINES + KINDS.len()
    }

    /// When the next count is due, if lines were left out.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.next_due
    }

    /// A count whose second is over; each is given once.
    pub(super) fn due(&mut self, now: Instant) -> Option<LeftOut> {
        if self.next_due? > now {
            return None;
        }
        self.take()
    }

    /// A count, although its second is not over: nothing will follow.
    pub(super) fn last(&mut self) -> Option<LeftOut> {
        self.next_due?;
        self.take()
    }

    /// The count that is due first.
    fn take(&mut self) -> Option<LeftOut> {
        let counted = |(_, window): &(&Alike, &Window)| window.last.is_some();
        let (&alike, _) = self.windows.iter().filter(counted).min_by_key(|(_, window)| window.end)?;
        let Window { lines, most, last, .. } = self.windows.remove(&alike)?;
        self.next_due = self.windows.values().filter(|window| window.last.is_some()).map(|window| window.end).min();
        let (level, subject, text) = last?;
        let what = match alike {
            Alike::Kind(kind) => What::Kind(kind),
            Alike::Line(_) => What::Line(text.unwrap_or_default()),
        };
        Some(LeftOut { lines: lines - most, level, part: subject.part, what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log_kind::{CONNECTS, REFUSALS};

    const MS: Duration = Duration::from_millis(1);

    fn of_kind(target: &str) -> impl Fn(&mut Limiter, Instant) -> usize {
        let subject = Subject::of(target);
        move |limiter, at| (0..10).filter(|_| limiter.admits_kind(subject, Level::Info, at)).count()
    }

    fn left_out(kind: &str, level: Level, lines: u64) -> Option<LeftOut> {
        let kind = KINDS.iter().position(|known| known.name == kind).unwrap();
        Some(LeftOut { lines, level, part: "clients", what: What::Kind(kind) })
    }

    #[test]
    fn c12_the_first_lines_of_a_second_are_shown_and_the_rest_is_counted_by_kind() {
        let mut limiter = Limiter::new(Some(3));
        let begin = Instant::now();
        assert_eq!(of_kind(CONNECTS)(&mut limiter, begin), 3);
        assert_eq!(of_kind(REFUSALS)(&mut limiter, begin + 500 * MS), 3);
        assert_eq!(of_kind("wsgate::gateway")(&mut limiter, begin), 10, "real errors are always shown");
        assert_eq!(limiter.next_due(), Some(begin + WINDOW));
        assert_eq!(limiter.due(begin + 999 * MS), None);
        assert_eq!(limiter.due(begin + WINDOW), left_out("connects", Level::Info, 7));
        assert_eq!((limiter.due(begin + WINDOW), limiter.next_due()), (None, Some(begin + 1500 * MS)));
        // A new second begins with the next line.
        assert_eq!(of_kind(CONNECTS)(&mut limiter, begin + 1200 * MS), 3);
        assert_eq!(limiter.due(begin + 3000 * MS), left_out("refusals", Level::Info, 7));
        assert_eq!(limiter.due(begin + 3000 * MS), left_out("connects", Level::Info, 7));
        assert_eq!((limiter.due(begin + 3000 * MS), limiter.next_due()), (None, None));
    }

    #[test]
    fn c12_the_last_count_is_there_before_its_second_is_over() {
        let mut limiter = Limiter::new(Some(1));
        let now = Instant::now();
        let connects = Subject::of(CONNECTS);
        assert!(limiter.admits_kind(connects, Level::Info, now));
        assert_eq!(limiter.last(), None, "nothing was left out");
        assert!(!limiter.admits_kind(connects, Level::Warn, now));
        assert_eq!(limiter.last(), left_out("connects", Level::Warn, 1));
        assert_eq!(limiter.last(), None);
        let mut without = Limiter::new(None);
        assert!((0..1000).all(|_| without.admits_kind(connects, Level::Info, now)) && without.next_due().is_none());
    }

    #[test]
    fn the_same_line_is_shown_ten_times_a_second_and_then_counted() {
        let mut limiter = Limiter::new(None);
        let begin = Instant::now();
        let about = Subject::of("wsgate::link");
        let mut shown = |text: &str, level, at| (0..25).filter(|_| limiter.admits_text(about, level, text, at)).count();
        assert_eq!(shown("a", Level::Warn, begin), 10);
        assert_eq!(shown("b", Level::Warn, begin + MS), 10);
        assert_eq!(shown("a", Level::Info, begin), 10, "a line of another level is another line");
        assert_eq!(shown("c", Level::Info, begin + 5 * WINDOW), 10);
        let counts: Vec<_> = std::iter::from_fn(|| limiter.due(begin + 2 * WINDOW)).collect();
        assert_eq!(counts.len(), 3);
        for LeftOut { lines, part, what, .. } in &counts {
            assert!(matches!(what, What::Line(text) if text == "a" || text == "b"), "{what:?}");
            assert_eq!((*lines, *part), (15, "links"));
        }
        let what = What::Line("c".to_owned());
        assert_eq!(limiter.last(), Some(LeftOut { lines: 15, level: Level::Info, part: "links", what }));
    }

    #[test]
    fn no_crowd_of_different_lines_makes_it_grow_and_no_count_is_lost() {
        let mut limiter = Limiter::new(Some(1));
        let begin = Instant::now();
        let about = Subject::of("wsgate::link");
        let mut counted = 0;
        for line in 0..10_000_u32 {
            let at = begin + line * MS;
            counted += std::iter::from_fn(|| limiter.due(at)).map(|left_out| left_out.lines).sum::<u64>();
            // One line in a hundred comes too often.
            let times = if line % 100 == 0 { 15 } else { 1 };
            for _ in 0..times {
                limiter.admits_text(about, Level::Info, &line.to_string(), at);
            }
            assert!(limiter.windows.len() <= KNOWN_LINES + KINDS.len());
        }
        counted += std::iter::from_fn(|| limiter.last()).map(|left_out| left_out.lines).sum::<u64>();
        assert!(counted >= 100, "{counted}");
        // While all places are taken, a further line is shown whenever it comes.
        let now = begin + 60 * WINDOW;
        for line in 0..1000 {
            limiter.admits_text(about, Level::Info, &format!("x{line}"), now);
        }
        assert!((0..100).all(|_| limiter.admits_text(about, Level::Info, "one more", now)));
        assert!(limiter.admits_text(about, Level::Info, "later", now + WINDOW));
        assert!(limiter.windows.len() < 10);
    }
}
