//! The lines that are not written yet: bounded, shared out between lines of wsgate itself and those that peers cause, and
//! never waited for.

use std::io::Write;
use std::time::{Duration, Instant};

use log::{Level, Record};

use super::format::Entry;
use super::limiter::{LeftOut, Limiter, What};
use super::writer::Writer;
use crate::config::LogFormat;
use crate::log_kind::{KINDS, Subject};
use crate::log_loss;
use crate::sync::{Condvar, Mutex, MutexGuard, Signal};

/// The most bytes of lines that wait to be written. What does not fit is dropped and counted.
const BACKLOG_MAX: usize = 4 << 20;

/// How much of it is only for lines whose number no peer decides, so that no crowd drives them out.
const RESERVE: usize = 1 << 20;

/// Of which part the log's own lines are.
const OWN: Subject = Subject { part: "gateway", kind: None };

/// The lines that are not written yet.
#[derive(Debug)]
pub(super) struct Backlog {
    state: Mutex<State>,
    filled: Condvar,
    written: Signal,
}

/// Who decides how many lines of a kind there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Peers,
    Ours,
}

#[derive(Debug)]
struct State {
    format: LogFormat,
    /// Whole lines.
    bytes: Vec<u8>,
    /// Lines that came behind them and had no room.
    dropped: u64,
    /// Whether lines that were here before are being written.
    is_writing: bool,
    limiter: Limiter,
}

/// The line in the place of lines that are missing.
fn gap(format: LogFormat, missing: u64) -> Vec<u8> {
    let message = format!("log: {missing} lines are missing here: standard error did not accept them");
    Entry { level: Level::Warn, subject: OWN, message: &message, fields: &[] }.line(format)
}

/// The line for lines that were not shown.
fn count(format: LogFormat, left_out: &LeftOut) -> Vec<u8> {
    let LeftOut { lines, level, part, what } = left_out;
    let (kind, message) = match what {
        What::Kind(kind) => (
            Some(*kind),
            format!(
                "log: {lines} more lines about {} in this second are left out (lines_per_second)",
                KINDS[*kind].lines
            ),
        ),
        What::Line(text) => (None, format!("log: {lines} more times in this second: {text}")),
    };
    Entry { level: *level, subject: Subject { part, kind }, message: &message, fields: &[] }.line(format)
}

impl State {
    /// Appends a line. Once one was dropped so are all, until there is room for what comes, so that a log has one gap
    /// with its size beside it and not many. A line of ours has more room, and ends a gap where it stands.
    fn append(&mut self, line: &[u8], whose: Whose) {
        let gap = if self.dropped > 0 { gap(self.format, self.dropped) } else { Vec::new() };
        let has_room = match whose {
            Whose::Peers => self.dropped == 0 && self.bytes.len() + line.len() <= BACKLOG_MAX - RESERVE,
            Whose::Ours => self.bytes.len() + gap.len() + line.len() <= BACKLOG_MAX,
        };
        if !has_room {
            self.dropped += 1;
            log_loss::count_not_accepted(1);
            return;
        }
        self.dropped = 0;
        self.bytes.extend_from_slice(&gap);
        self.bytes.extend_from_slice(line);
    }

    fn append_counts(&mut self, now: Instant) {
        while let Some(left_out) = self.limiter.due(now) {
            self.append(&count(self.format, &left_out), Whose::Ours);
        }
    }
}

impl Backlog {
    /// An empty one, whose lines have this format. Of each kind of lines `per_second` are shown; `None` shows all.
    pub(super) fn new(format: LogFormat, per_second: Option<u64>) -> Backlog {
        let limiter = Limiter::new(per_second);
        let state = State { format, bytes: Vec::new(), dropped: 0, is_writing: false, limiter };
        Backlog { state: Mutex::new(state), filled: Condvar::default(), written: Signal::default() }
    }

    /// Changes the format and the limit of the lines that come from now on.
    pub(super) fn configure(&self, format: LogFormat, per_second: Option<u64>) {
        let mut state = self.lock();
        state.format = format;
        state.limiter.set_per_second(per_second);
    }

    /// Whether a line is shown as one of its kind; one that is not is counted.
    pub(super) fn admits(&self, record: &Record<'_>, subject: Subject) -> bool {
        self.change(|state| {
            let now = Instant::now();
            state.append_counts(now);
            let is_shown = state.limiter.admits_kind(subject, record.level(), now);
            if !is_shown {
                log_loss::count_left_out();
            }
            is_shown
        })
    }

    /// Appends a line, unless it was there too often or there is no room; then it is counted.
    pub(super) fn push(&self, entry: &Entry<'_>) {
        let format = self.lock().format;
        // Whoever logs makes the line, and nobody waits for that.
        let line = entry.line(format);
        let whose = if entry.subject.kind.is_some() { Whose::Peers } else { Whose::Ours };
        self.change(|state| {
            if state.limiter.admits_text(entry.subject, entry.level, entry.message, Instant::now()) {
                state.append(&line, whose);
            } else {
                log_loss::count_left_out();
            }
        });
    }

    /// Says how many lines were left out, although more may follow in the same second.
    pub(super) fn end_counts(&self) {
        self.change(|state| {
            while let Some(left_out) = state.limiter.last() {
                state.append(&count(state.format, &left_out), Whose::Ours);
            }
        });
    }

    /// Changes what is here, and wakes the thread that writes if it has something to do, or to wait for.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let before = (state.bytes.is_empty(), state.limiter.next_due());
        let result = change(&mut state);
        let after = (state.bytes.is_empty(), state.limiter.next_due());
        drop(state);
        if before != after {
            self.filled.notify_one();
        }
        result
    }

    /// Waits for lines, writes all that are here, and says how many are missing behind them.
    pub(super) fn write_next<W: Write>(&self, writer: &mut Writer<W>) {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            state.append_counts(now);
            if !state.bytes.is_empty() {
                break;
            }
            state = match state.limiter.next_due() {
                Some(due) => self.filled.wait_timeout(state, due.saturating_duration_since(now)),
                None => self.filled.wait(state),
            };
        }
        state.is_writing = true;
        let format = state.format;
        let (bytes, dropped) = (std::mem::take(&mut state.bytes), std::mem::take(&mut state.dropped));
        drop(state);
        writer.write(&bytes, dropped, |missing| gap(format, missing));
        self.lock().is_writing = false;
        self.written.notify_all();
    }

    /// Waits until everything is written, at most for this long.
    pub(super) fn wait_written(&self, patience: Duration) {
        let deadline = Some(Instant::now() + patience);
        let mut state = self.lock();
        while state.is_writing || !state.bytes.is_empty() {
            let Some(changed) = self.written.wait_until(state, deadline) else { return };
            state = changed;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use super::*;

    /// Takes this many bytes and then fails, until it is given more room.
    #[derive(Default)]
    struct Disk {
        room: usize,
        taken: Vec<u8>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.room);
            self.room -= count;
            self.taken.extend_from_slice(&bytes[..count]);
            if count > 0 { Ok(count) } else { Err(io::ErrorKind::StorageFull.into()) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Puts a line there as it is.
    fn put(backlog: &Backlog, line: &[u8], whose: Whose) {
        backlog.change(|state| state.append(line, whose));
    }

    /// The lines on the disk; of what was said about a gap, only the number.
    fn lines(disk: &Disk) -> Vec<String> {
        let text = String::from_utf8(disk.taken.clone()).unwrap();
        let number = |line: &str| Some(line.split_once("log: ")?.1.split_once(" lines are missing here")?.0.to_owned());
        text.lines().map(|line| number(line).unwrap_or_else(|| line.to_owned())).collect()
    }

    #[test]
    fn a_line_that_has_no_room_is_dropped_and_nobody_waits() {
        let backlog = Backlog::new(LogFormat::Text, None);
        let line = [&[b'x'; 1023][..], b"\n"].concat();
        const FIT: usize = (BACKLOG_MAX - RESERVE) / 1024;
        for _ in 0..FIT + 3 {
            put(&backlog, &line, Whose::Peers);
        }
        // Behind a gap a short line has no room either.
        put(&backlog, b"short\n", Whose::Peers);
        let mut writer = Writer::new(Disk { room: usize::MAX, ..Disk::default() });
        backlog.write_next(&mut writer);
        put(&backlog, b"later\n", Whose::Peers);
        backlog.write_next(&mut writer);
        let lines = lines(&writer.to);
        assert_eq!(lines.len(), FIT + 2);
        assert_eq!(lines[FIT..], ["4", "later"]);
    }

    #[test]
    fn c12_a_crowd_drives_out_no_line_of_ours() {
        let backlog = Backlog::new(LogFormat::Text, None);
        let line = [&[b'x'; 1023][..], b"\n"].concat();
        let crowd = || (0..BACKLOG_MAX / 1024).for_each(|_| put(&backlog, &line, Whose::Peers));
        crowd();
        put(&backlog, b"first error\n", Whose::Ours);
        crowd();
        put(&backlog, b"second error\n", Whose::Ours);
        let mut writer = Writer::new(Disk { room: usize::MAX, ..Disk::default() });
        backlog.write_next(&mut writer);
        let lines = lines(&writer.to);
        let (fit, left) = ((BACKLOG_MAX - RESERVE) / 1024, RESERVE / 1024);
        let [left, all] = [left.to_string(), (BACKLOG_MAX / 1024).to_string()];
        assert_eq!(lines[fit..], [&left, "first error", &all, "second error"]);
    }

    #[test]
    fn c12_the_last_count_is_written_although_nothing_follows() {
        let backlog = Backlog::new(LogFormat::Text, Some(1));
        let log = |target: &str| {
            let record = Record::builder().target(target).level(Level::Info).args(format_args!("a line")).build();
            backlog.admits(&record, Subject::of(target))
        };
        assert!(log("wsgate::connects") && !log("wsgate::connects") && !log("wsgate::connects"));
        let mut writer = Writer::new(Disk { room: usize::MAX, ..Disk::default() });
        // It waits for the end of the second by itself.
        backlog.write_next(&mut writer);
        assert!(log("wsgate::connects") && !log("wsgate::connects"));
        backlog.end_counts();
        backlog.write_next(&mut writer);
        let written = String::from_utf8(writer.to.taken).unwrap();
        let counts: Vec<_> = written.lines().map(|line| line.split_once("log: ").unwrap().1).collect();
        let about = "more lines about connects in this second are left out (lines_per_second)";
        assert_eq!(counts, [format!("2 {about}"), format!("1 {about}")]);
    }

    #[test]
    fn a_full_disk_loses_lines_and_says_how_many_once_it_has_room() {
        let backlog = Backlog::new(LogFormat::Text, None);
        let mut writer = Writer::new(Disk { room: 9, ..Disk::default() });
        let mut write = |lines: &[&[u8]], room: usize| {
            writer.to.room += room;
            lines.iter().for_each(|line| put(&backlog, line, Whose::Ours));
            backlog.write_next(&mut writer);
        };
        write(&[b"first\n", b"second\n", b"third\n"], 0);
        write(&[b"fourth\n"], 0);
        write(&[b"fifth\n"], 1000);
        write(&[b"sixth\n"], 0);
        assert_eq!(lines(&writer.to), ["first", "sec", "3", "fifth", "sixth"]);
    }

    #[test]
    fn the_end_waits_for_the_last_lines_but_not_for_ever() {
        let backlog = Arc::new(Backlog::new(LogFormat::Text, None));
        put(&backlog, b"last words\n", Whose::Ours);
        backlog.wait_written(Duration::from_millis(10));
        assert!(!backlog.lock().bytes.is_empty(), "nobody has written it");
        let writing = {
            let backlog = Arc::clone(&backlog);
            std::thread::spawn(move || backlog.write_next(&mut Writer::new(io::sink())))
        };
        backlog.wait_written(Duration::from_secs(10));
        assert!(backlog.lock().bytes.is_empty());
        writing.join().unwrap();
    }

    #[test]
    fn what_the_log_says_of_itself_has_the_form_of_the_log() {
        let backlog = Backlog::new(LogFormat::Json, Some(1));
        let (connects, links) = (Subject::of("wsgate::connects"), Subject::of("wsgate::link"));
        let entry = Entry { level: Level::Info, subject: links, message: "the same \"line\"", fields: &[] };
        (0..13).for_each(|_| backlog.push(&entry));
        let refused = Record::builder().target("wsgate::connects").level(Level::Info).args(format_args!("x")).build();
        for _ in 0..3 {
            backlog.admits(&refused, connects);
        }
        backlog.end_counts();
        let mut writer = Writer::new(Disk { room: usize::MAX, ..Disk::default() });
        backlog.write_next(&mut writer);
        // A gap in what is written, and one in what waits.
        writer.to.room = 0;
        put(&backlog, b"{}\n", Whose::Ours);
        backlog.write_next(&mut writer);
        writer.to.room = usize::MAX;
        backlog.change(|state| state.dropped = 2);
        put(&backlog, b"{}\n", Whose::Ours);
        backlog.write_next(&mut writer);
        let text = String::from_utf8(writer.to.taken).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let messages: Vec<_> = lines[10..].iter().filter_map(|line| line["message"].as_str()).collect();
        let missing = "lines are missing here: standard error did not accept them";
        assert_eq!(
            messages,
            [
                "log: 3 more times in this second: the same \"line\"",
                "log: 2 more lines about connects in this second are left out (lines_per_second)",
                &format!("log: 1 {missing}"),
                &format!("log: 2 {missing}"),
            ]
        );
        assert_eq!((&lines[10]["part"], &lines[11]["kind"]), (&"links".into(), &"connects".into()));
    }
}
