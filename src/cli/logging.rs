//! The log: one line an event on standard error, nothing in a line that a peer could abuse, and
//! no thread but its own that waits for the reader of standard error.
//!
//! A thread that logs appends to a bounded backlog, and the thread `log` writes it. When standard error takes
//! nothing, as a stalled journal or a pipe without a reader, only that thread waits.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt;
use std::io::{self, Write};
use std::panic::PanicHookInfo;
use std::sync::Arc;
use std::time::{Duration, Instant};

use env_logger::{Builder, Logger};
use jiff::Timestamp;
use log::{Level, LevelFilter, Log, Metadata, Record, error};
use rustix::event::{PollFd, PollFlags, poll};

use super::log_limit::{LeftOut, Limiter, is_of_peers};
use crate::display::is_misleading;
use crate::log_loss;
use crate::sync::{Condvar, Mutex, MutexGuard, Signal};
use crate::system::thread::spawn_vital;

/// The most characters of one line's message; the rest is cut.
const MESSAGE_MAX: usize = 1024;

/// The most bytes of lines that wait to be written. What does not fit is dropped and counted.
const BACKLOG_MAX: usize = 4 << 20;

/// How much of it is only for lines whose number no peer decides, so that no crowd drives them out.
const RESERVE: usize = 1 << 20;

/// How long an end of the process waits for its last lines to be written.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Starts the log at a level; RUST_LOG, if set, says more precisely what is shown. Of each kind of line whose number
/// peers decide, `per_second` are shown; `None` shows all. A panic is logged too.
/// Before the process ends, `log::logger().flush()` gives the last lines a moment to be written.
///
/// # Errors
///
/// The system has no thread for it.
pub(super) fn start(level: LevelFilter, per_second: Option<u64>) -> io::Result<()> {
    let backlog = Arc::new(Backlog::new(per_second));
    let logger = Builder::new().filter_level(level).parse_default_env().build();
    let written = Arc::clone(&backlog);
    spawn_vital("log", move || {
        let mut writer = Writer::new(StandardError);
        loop {
            written.write_next(&mut writer);
        }
    })?;
    log::set_max_level(logger.filter());
    log::set_boxed_logger(Box::new(Lines { logger, backlog })).expect("the log is started once");
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// A line as it is written, with the time of now.
fn line(level: Level, message: &str) -> Vec<u8> {
    format!("{:.3} {level:<5} {}\n", Timestamp::now(), Printable(message)).into_bytes()
}

/// The line in the place of lines that are missing.
fn gap(missing: u64) -> Vec<u8> {
    line(Level::Warn, &format!("log: {missing} lines are missing here: standard error did not accept them"))
}

/// The line for lines that were not shown.
fn count(left_out: &LeftOut) -> Vec<u8> {
    let LeftOut { lines, kind, level } = left_out;
    line(*level, &format!("log: {lines} more lines about {kind} in this second are left out (lines_per_second)"))
}

/// The standard library's hook would write to standard error itself: it would wait with the thread that
/// panicked, and what a peer sent would stand there as it came.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("without a name");
    let place = panic.location().map_or_else(String::new, |place| format!(" at {place}"));
    error!("thread '{name}' panicked{place}: {}", panic.payload_as_str().unwrap_or("no text"));
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        backtrace.to_string().lines().for_each(|line| error!("{line}"));
    }
}

/// The logger: what is shown, how it looks, and where it goes.
struct Lines {
    /// Says what is shown; it writes nothing itself.
    logger: Logger,
    backlog: Arc<Backlog>,
}

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.logger.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.logger.matches(record) || !self.backlog.admits(record) {
            return;
        }
        let whose = if is_of_peers(record.target()) { Whose::Peers } else { Whose::Ours };
        self.backlog.push(&line(record.level(), &record.args().to_string()), whose);
    }

    fn flush(&self) {
        self.backlog.end_counts();
        self.backlog.wait_written(LAST_WORDS);
    }
}

/// Who decides how many lines of a kind there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Peers,
    Ours,
}

/// The lines that are not written yet.
#[derive(Debug)]
struct Backlog {
    state: Mutex<BacklogState>,
    filled: Condvar,
    written: Signal,
}

#[derive(Debug)]
struct BacklogState {
    /// Whole lines.
    bytes: Vec<u8>,
    /// Lines that came behind them and had no room.
    dropped: u64,
    /// Whether lines that were here before are being written.
    is_writing: bool,
    limiter: Limiter,
}

impl BacklogState {
    /// Appends a line. Once one was dropped so are all, until there is room for what comes, so that a log has one gap
    /// with its size beside it and not many. A line of ours has more room, and ends a gap where it stands.
    fn append(&mut self, line: &[u8], whose: Whose) {
        let gap = if self.dropped > 0 { gap(self.dropped) } else { Vec::new() };
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
            self.append(&count(&left_out), Whose::Ours);
        }
    }
}

impl Backlog {
    fn new(per_second: Option<u64>) -> Backlog {
        let state =
            BacklogState { bytes: Vec::new(), dropped: 0, is_writing: false, limiter: Limiter::new(per_second) };
        Backlog { state: Mutex::new(state), filled: Condvar::default(), written: Signal::default() }
    }

    /// Whether a line is shown; one that is not is counted.
    fn admits(&self, record: &Record<'_>) -> bool {
        self.change(|state| {
            let now = Instant::now();
            state.append_counts(now);
            let is_shown = state.limiter.admits(record.target(), record.level(), now);
            if !is_shown {
                log_loss::count_left_out();
            }
            is_shown
        })
    }

    fn push(&self, line: &[u8], whose: Whose) {
        self.change(|state| state.append(line, whose));
    }

    /// Says how many lines were left out, although more may follow in the same second.
    fn end_counts(&self) {
        self.change(|state| {
            while let Some(left_out) = state.limiter.last() {
                state.append(&count(&left_out), Whose::Ours);
            }
        });
    }

    /// Changes what is here, and wakes the thread that writes if it has something to do, or to wait for.
    fn change<T>(&self, change: impl FnOnce(&mut BacklogState) -> T) -> T {
        let mut state = self.lock();
        let before = (state.bytes.is_empty(), state.limiter.next_due().is_none());
        let result = change(&mut state);
        let after = (state.bytes.is_empty(), state.limiter.next_due().is_none());
        drop(state);
        if before != after {
            self.filled.notify_one();
        }
        result
    }

    /// Waits for lines, writes all that are here, and says how many are missing behind them.
    fn write_next<W: Write>(&self, writer: &mut Writer<W>) {
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
        let (bytes, dropped) = (std::mem::take(&mut state.bytes), std::mem::take(&mut state.dropped));
        drop(state);
        writer.write(&bytes, dropped);
        self.lock().is_writing = false;
        self.written.notify_all();
    }

    /// Waits until everything is written, at most for this long.
    fn wait_written(&self, patience: Duration) {
        let deadline = Some(Instant::now() + patience);
        let mut state = self.lock();
        while state.is_writing || !state.bytes.is_empty() {
            let Some(changed) = self.written.wait_until(state, deadline) else { return };
            state = changed;
        }
    }

    fn lock(&self) -> MutexGuard<'_, BacklogState> {
        self.state.lock()
    }
}

/// Writes lines where they may not be taken.
#[derive(Debug)]
struct Writer<W> {
    to: W,
    /// Lines that were not written, and of which nothing has been said yet.
    missing: u64,
    /// Whether the last line that was written lacks its end.
    is_torn: bool,
}

impl<W: Write> Writer<W> {
    fn new(to: W) -> Writer<W> {
        Writer { to, missing: 0, is_torn: false }
    }

    /// Writes these lines, behind which some were dropped. A failure loses lines and is no reason to stop: a
    /// full disk has room again some day. What is missing is said where it is missing, once that can be written.
    fn write(&mut self, lines: &[u8], dropped: u64) {
        // Whether they are taken again is only known by trying, and what is said of a gap stands in it.
        self.report_gap();
        let missing = self.put(lines);
        log_loss::count_not_accepted(missing);
        self.missing += missing + dropped;
        self.report_gap();
    }

    fn report_gap(&mut self) {
        if self.missing == 0 {
            return;
        }
        if self.put(&gap(self.missing)) == 0 {
            self.missing = 0;
        }
    }

    /// Writes as many of these lines as are taken, and returns how many were not.
    fn put(&mut self, lines: &[u8]) -> u64 {
        if self.is_torn && self.to.write(b"\n").is_ok_and(|count| count == 1) {
            self.is_torn = false;
        }
        let mut rest = lines;
        while !rest.is_empty() && !self.is_torn {
            match self.to.write(rest) {
                Ok(count @ 1..) => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => break,
            }
        }
        let written = &lines[..lines.len() - rest.len()];
        self.is_torn |= written.last().is_some_and(|last| *last != b'\n');
        rest.iter().filter(|byte| **byte == b'\n').count() as u64
    }
}

/// Standard error. It may be a descriptor that does not block, as others share it with us: then we
/// wait ourselves until it takes more.
#[derive(Debug)]
struct StandardError;

impl Write for StandardError {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match io::stderr().write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    poll(&mut [PollFd::new(&io::stderr(), PollFlags::OUT)], None)?;
                }
                result => return result,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Text in which everything that could move a terminal or begin a line is escaped: what peers send
/// stands in the log, and must not look like the log.
struct Printable<'a>(&'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (count, c) in self.0.chars().enumerate() {
            if count == MESSAGE_MAX {
                return f.write_str("...");
            }
            if is_misleading(c) { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_message_begins_a_line_or_moves_the_terminal() {
        let shown = Printable("a\nFAKE\r\x1b[2J\0\u{202e}\u{9b}é").to_string();
        assert_eq!(shown, r"a\nFAKE\r\u{1b}[2J\u{0}\u{202e}\u{9b}é");
        assert_eq!(Printable(&"x".repeat(5000)).to_string().len(), MESSAGE_MAX + 3);
    }
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

    /// The lines on the disk; of what was said about a gap, only the number.
    fn lines(disk: &Disk) -> Vec<String> {
        let text = String::from_utf8(disk.taken.clone()).unwrap();
        let number = |line: &str| Some(line.split_once("log: ")?.1.split_once(" lines are missing here")?.0.to_owned());
        text.lines().map(|line| number(line).unwrap_or_else(|| line.to_owned())).collect()
    }

    #[test]
    fn a_line_that_has_no_room_is_dropped_and_nobody_waits() {
        let backlog = Backlog::new(None);
        let line = [&[b'x'; 1023][..], b"\n"].concat();
        const FIT: usize = (BACKLOG_MAX - RESERVE) / 1024;
        for _ in 0..FIT + 3 {
            backlog.push(&line, Whose::Peers);
        }
        // Behind a gap a short line has no room either.
        backlog.push(b"short\n", Whose::Peers);
        let mut writer = Writer::new(Disk { room: usize::MAX, ..Disk::default() });
        backlog.write_next(&mut writer);
        backlog.push(b"later\n", Whose::Peers);
        backlog.write_next(&mut writer);
        let lines = lines(&writer.to);
        assert_eq!(lines.len(), FIT + 2);
        assert_eq!(lines[FIT..], ["4", "later"]);
    }

    #[test]
    fn c12_a_crowd_drives_out_no_line_of_ours() {
        let backlog = Backlog::new(None);
        let line = [&[b'x'; 1023][..], b"\n"].concat();
        let crowd = || (0..BACKLOG_MAX / 1024).for_each(|_| backlog.push(&line, Whose::Peers));
        crowd();
        backlog.push(b"first error\n", Whose::Ours);
        crowd();
        backlog.push(b"second error\n", Whose::Ours);
        let mut writer = Writer::new(Disk { room: usize::MAX, ..Disk::default() });
        backlog.write_next(&mut writer);
        let lines = lines(&writer.to);
        let (fit, left) = ((BACKLOG_MAX - RESERVE) / 1024, RESERVE / 1024);
        let [left, all] = [left.to_string(), (BACKLOG_MAX / 1024).to_string()];
        assert_eq!(lines[fit..], [&left, "first error", &all, "second error"]);
    }

    #[test]
    fn c12_the_last_count_is_written_although_nothing_follows() {
        let backlog = Backlog::new(Some(1));
        let log = |target: &str| {
            let record = Record::builder().target(target).level(Level::Info).args(format_args!("a line")).build();
            backlog.admits(&record)
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
        let backlog = Backlog::new(None);
        let mut writer = Writer::new(Disk { room: 9, ..Disk::default() });
        let mut write = |lines: &[&[u8]], room: usize| {
            writer.to.room += room;
            lines.iter().for_each(|line| backlog.push(line, Whose::Ours));
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
        let backlog = Arc::new(Backlog::new(None));
        backlog.push(b"last words\n", Whose::Ours);
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
}
