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

use env_logger::{Builder, Logger, Target};
use jiff::Timestamp;
use log::{Level, LevelFilter, Log, Metadata, Record, error};
use rustix::event::{PollFd, PollFlags, poll};

use crate::display::is_misleading;
use crate::sync::{Condvar, Mutex, MutexGuard, Signal};
use crate::system::thread::spawn_vital;

/// The most characters of one line's message; the rest is cut.
const MESSAGE_MAX: usize = 1024;

/// The most bytes of lines that wait to be written: what 12,000 clients leave behind when all of them are closed
/// at once. What does not fit is dropped and counted.
const BACKLOG_MAX: usize = 4 << 20;

/// How long an end of the process waits for its last lines to be written.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Starts the log at a level; RUST_LOG, if set, says more precisely what is shown. A panic is logged too.
/// Before the process ends, `log::logger().flush()` gives the last lines a moment to be written.
///
/// # Errors
///
/// The system has no thread for it.
pub(super) fn start(level: LevelFilter) -> io::Result<()> {
    let backlog = Arc::new(Backlog::default());
    let logger = Builder::new()
        .filter_level(level)
        .parse_default_env()
        .target(Target::Pipe(Box::new(BacklogWriter(Arc::clone(&backlog)))))
        .format(|line, record| {
            let message = record.args().to_string();
            write_line(line, line.timestamp_millis(), record.level(), &message)
        })
        .build();
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

fn write_line(to: &mut impl Write, at: impl fmt::Display, level: Level, message: &str) -> io::Result<()> {
    writeln!(to, "{at} {level:<5} {}", Printable(message))
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
    logger: Logger,
    backlog: Arc<Backlog>,
}

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.logger.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        self.logger.log(record);
    }

    fn flush(&self) {
        self.backlog.wait_written(LAST_WORDS);
    }
}

/// The lines that are not written yet.
#[derive(Debug, Default)]
struct Backlog {
    state: Mutex<BacklogState>,
    filled: Condvar,
    written: Signal,
}

#[derive(Debug, Default)]
struct BacklogState {
    /// Whole lines.
    bytes: Vec<u8>,
    /// Lines that came behind them and had no room.
    dropped: u64,
    /// Whether lines that were here before are being written.
    is_writing: bool,
}

/// The backlog as the logger sees it: it takes a line at a time and never fails.
struct BacklogWriter(Arc<Backlog>);

impl Write for BacklogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Backlog {
    /// Appends a line. Once one was dropped so are all, until there is room for what comes, so that a log
    /// has one gap with its size beside it and not many.
    fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.dropped > 0 || state.bytes.len() + line.len() > BACKLOG_MAX {
            state.dropped += 1;
            return;
        }
        let is_first = state.bytes.is_empty();
        state.bytes.extend_from_slice(line);
        drop(state);
        if is_first {
            self.filled.notify_one();
        }
    }

    /// Waits for lines, writes all that are here, and says how many are missing behind them.
    fn write_next<W: Write>(&self, writer: &mut Writer<W>) {
        let mut state = self.lock();
        while state.bytes.is_empty() {
            state = self.filled.wait(state);
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
        self.missing += self.put(lines);
        self.missing += dropped;
        self.report_gap();
    }

    fn report_gap(&mut self) {
        if self.missing == 0 {
            return;
        }
        let message = format!("log: {} lines are missing here: standard error did not accept them", self.missing);
        let mut line = Vec::new();
        write_line(&mut line, format_args!("{:.3}", Timestamp::now()), Level::Warn, &message)
            .expect("a vector takes everything");
        if self.put(&line) == 0 {
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
        let backlog = Backlog::default();
        let line = [&[b'x'; 1023][..], b"\n"].concat();
        for _ in 0..BACKLOG_MAX / 1024 + 3 {
            backlog.push(&line);
        }
        // Behind a gap a short line has no room either.
        backlog.push(b"short\n");
        let mut writer = Writer::new(Disk { room: usize::MAX, ..Disk::default() });
        backlog.write_next(&mut writer);
        backlog.push(b"later\n");
        backlog.write_next(&mut writer);
        let lines = lines(&writer.to);
        assert_eq!(lines.len(), BACKLOG_MAX / 1024 + 2);
        assert_eq!(lines[BACKLOG_MAX / 1024..], ["4", "later"]);
    }

    #[test]
    fn a_full_disk_loses_lines_and_says_how_many_once_it_has_room() {
        let backlog = Backlog::default();
        let mut writer = Writer::new(Disk { room: 9, ..Disk::default() });
        let mut write = |lines: &[&[u8]], room: usize| {
            writer.to.room += room;
            lines.iter().for_each(|line| backlog.push(line));
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
        let backlog = Arc::new(Backlog::default());
        backlog.push(b"last words\n");
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
