//! The log: one line an event on standard error, nothing in a line that a peer could abuse, and
//! no thread but its own that waits for the reader of standard error.
//!
//! A thread that logs appends to a bounded backlog, and the thread `log` writes it. When standard error takes
//! nothing, as a stalled journal or a pipe without a reader, only that thread waits.
//!
//! The log belongs to the process, as the `log` crate has it: there is one, and whoever runs the gateway starts it.

mod backlog;
mod format;
mod levels;
mod limiter;
mod writer;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io;
use std::panic::PanicHookInfo;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use log::kv::{Error, Key, Value, VisitSource, VisitValue};
use log::{Log, Metadata, Record, error, warn};

use crate::config::{LogLevels, LogSettings};
use crate::log_kind::Subject;
use crate::sync::Mutex;
use crate::system::thread::spawn_vital;

use backlog::Backlog;
use format::{Entry, suited};
use levels::{Environment, Levels};
use writer::{StandardError, Writer};

/// How long an end of the process waits for its last lines to be written.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The log of this process, once it has been started.
static LOG: OnceLock<Lines> = OnceLock::new();

/// Starts the log. RUST_LOG, if set, says more precisely what is shown. A panic is logged too.
/// Before the process ends, `log::logger().flush()` gives the last lines a moment to be written.
///
/// # Errors
///
/// The system has no thread for it.
pub fn start(settings: &LogSettings) -> io::Result<()> {
    let environment = Environment::read();
    let (environment, wrong) = match environment {
        Ok(environment) => (environment, None),
        Err(wrong) => (None, Some(wrong)),
    };
    let lines = Lines::new(settings, environment);
    let written = Arc::clone(&lines.backlog);
    spawn_vital("log", move || {
        let mut writer = Writer::new(StandardError);
        loop {
            written.write_next(&mut writer);
        }
    })?;
    let lines = LOG.get_or_init(|| lines);
    log::set_max_level(lines.levels.lock().most());
    log::set_logger(lines).expect("the log is started once");
    std::panic::set_hook(Box::new(log_panic));
    if let Some(wrong) = wrong {
        warn!("RUST_LOG is not understood, and ignored: {wrong}");
    }
    Ok(())
}

/// Puts the `[log]` of a configuration that was read again in force. Levels that were
/// [asked for](ask_levels) end with it. Without a log nothing happens.
pub fn configure(settings: &LogSettings) {
    if let Some(lines) = LOG.get() {
        lines.backlog.configure(suited(settings.format), settings.lines_per_second);
        lines.change_levels(|levels| levels.configure(settings.levels.clone()));
    }
}

/// Has these levels decide until the configuration is read again, before RUST_LOG and `[log]`, in the place of those that
/// were asked for before. What they say nothing about is decided as before; so levels that say nothing take back what was
/// asked for. Without a log nothing happens.
pub fn ask_levels(asked: LogLevels) {
    if let Some(lines) = LOG.get() {
        lines.change_levels(|levels| levels.ask(asked));
    }
}

/// The levels that were asked for and hold; none without a log.
pub fn asked_levels() -> LogLevels {
    LOG.get().map(|lines| lines.levels.lock().asked().clone()).unwrap_or_default()
}

/// The standard library's hook would write to standard error itself: it would wait with the thread that
/// panicked, and what a peer sent would stand there as it came.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("without a name");
    let place = panic.location().map_or_else(String::new, |place| format!(" at {place}"));
    let text = panic.payload_as_str().unwrap_or("no text");
    match name.strip_prefix("client ") {
        Some(id) => error!(client = id; "thread '{name}' panicked{place}: {text}"),
        None => error!("thread '{name}' panicked{place}: {text}"),
    }
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        backtrace.to_string().lines().for_each(|line| error!("{line}"));
    }
}

/// The logger: what is shown, how it looks, and where it goes.
#[derive(Debug)]
struct Lines {
    levels: Mutex<Levels>,
    backlog: Arc<Backlog>,
}

impl Lines {
    fn new(settings: &LogSettings, environment: Option<Environment>) -> Lines {
        Lines {
            levels: Mutex::new(Levels::new(settings.levels.clone(), environment)),
            backlog: Arc::new(Backlog::new(suited(settings.format), settings.lines_per_second)),
        }
    }

    fn change_levels(&self, change: impl FnOnce(&mut Levels)) {
        let mut levels = self.levels.lock();
        change(&mut levels);
        // Under the lock: of two who change them at once, the second one decides both.
        log::set_max_level(levels.most());
    }
}

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // What it would be about besides is not known yet.
        metadata.level() <= self.levels.lock().most()
    }

    fn log(&self, record: &Record<'_>) {
        let subject = Subject::of(record.target());
        if !self.levels.lock().show(record, subject) || !self.backlog.admits(record, subject) {
            return;
        }
        let mut fields = Fields(Vec::new());
        // It never fails.
        let _ = record.key_values().visit(&mut fields);
        let message = record.args().to_string();
        self.backlog.push(&Entry { level: record.level(), subject, message: &message, fields: &fields.0 });
    }

    fn flush(&self) {
        self.backlog.end_counts();
        self.backlog.wait_written(LAST_WORDS);
    }
}

/// The fields of a line that have a value.
struct Fields(Vec<(String, String)>);

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        let mut text = None;
        value.visit(Text(&mut text))?;
        self.0.extend(text.map(|text| (key.to_string(), text)));
        Ok(())
    }
}

/// The text of a value, if it is not `None`.
struct Text<'a>(&'a mut Option<String>);

impl<'v> VisitValue<'v> for Text<'_> {
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), Error> {
        *self.0 = Some(value.to_string());
        Ok(())
    }

    fn visit_null(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::config::LogFormat;

    /// In a process of its own: a process has one log, and one hook for panics.
    const ALONE: &str = "WSGATE_TEST_OF_THE_LOG";

    #[test]
    fn a_panic_has_the_form_of_the_log() {
        const TEST: &str = "logging::tests::a_panic_has_the_form_of_the_log";
        if std::env::var_os(ALONE).is_some() {
            start(&LogSettings { format: Some(LogFormat::Json), ..LogSettings::default() }).unwrap();
            let thread = std::thread::Builder::new().name("client 0123456789abcdef".to_owned());
            let panicked = thread.spawn(|| panic!("what a peer sent:\n\"forged\"\u{1b}[2J")).unwrap();
            panicked.join().unwrap_err();
            log::logger().flush();
            return;
        }
        let mut alone = Command::new(std::env::current_exe().unwrap());
        alone.args(["--exact", TEST, "--nocapture"]).env(ALONE, "").env("RUST_BACKTRACE", "1").env_remove("RUST_LOG");
        let output = alone.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let lines: Vec<serde_json::Value> =
            said.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{said}"))).collect();
        let [first, backtrace @ ..] = &lines[..] else { panic!("no line: {said}") };
        assert!(
            first["message"].as_str().unwrap().starts_with("thread 'client 0123456789abcdef' panicked at src/logging/")
        );
        assert!(first["message"].as_str().unwrap().ends_with("what a peer sent:\n\"forged\"\u{1b}[2J"), "{first}");
        assert_eq!((&first["client"], &first["level"]), (&"0123456789abcdef".into(), &"error".into()));
        assert!(!backtrace.is_empty(), "{said}");
    }

    #[test]
    fn levels_change_while_it_runs() {
        let lines = Lines::new(&LogSettings::default(), None);
        let debug = Metadata::builder().level(log::Level::Debug).target("wsgate::link").build();
        assert!(!lines.enabled(&debug));
        let named = [("/rooms/{room}".to_owned(), log::LevelFilter::Debug)];
        lines.levels.lock().ask(LogLevels { level: None, named: named.into() });
        assert!(lines.enabled(&debug));
        lines.levels.lock().configure(LogLevels::default());
        assert!(!lines.enabled(&debug));
    }
}
