//! What the log shows: from the level of a line, what it is about, RUST_LOG, the configuration and whoever has asked for
//! something else since.

use std::fmt;

use env_filter::ParseError;
use env_logger::{Builder, Logger};
use log::kv::Key;
use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::config::LogLevels;
use crate::log_kind::Subject;

/// The key of the endpoint among the fields of a line.
const ENDPOINT: &str = "endpoint";

/// Who says what is shown. The first of these that says something about a line decides.
#[derive(Debug)]
pub(super) struct Levels {
    /// What was asked for while wsgate runs.
    asked: LogLevels,
    environment: Option<Environment>,
    configured: LogLevels,
}

impl Levels {
    pub(super) fn new(configured: LogLevels, environment: Option<Environment>) -> Levels {
        Levels { asked: LogLevels::default(), environment, configured }
    }

    /// Has these levels decide before all others, until the configuration is read again.
    pub(super) fn ask(&mut self, levels: LogLevels) {
        self.asked = levels;
    }

    /// What was asked for and holds.
    pub(super) fn asked(&self) -> &LogLevels {
        &self.asked
    }

    /// Takes the levels of a configuration that was read again.
    pub(super) fn configure(&mut self, levels: LogLevels) {
        self.configured = levels;
        self.asked = LogLevels::default();
    }

    /// Whether a line is shown.
    pub(super) fn show(&self, record: &Record<'_>, subject: Subject) -> bool {
        let level = record.level();
        let endpoint = || record.key_values().get(Key::from_str(ENDPOINT)).map(|value| value.to_string());
        if let Some(most) = level_of(&self.asked, subject, endpoint) {
            return level <= most;
        }
        if let Some(is_shown) = self.environment.as_ref().and_then(|environment| environment.show(record)) {
            return is_shown;
        }
        level_of(&self.configured, subject, endpoint).is_some_and(|most| level <= most)
    }

    /// The level above which no line is shown, whatever it is about: what a log statement costs that is off.
    pub(super) fn most(&self) -> LevelFilter {
        if self.asked.level.is_some() {
            return self.asked.most();
        }
        let environment = self.environment.as_ref();
        let decides = environment.is_some_and(Environment::decides_all);
        let configured = if decides { LevelFilter::Off } else { self.configured.most() };
        self.asked.most().max(environment.map_or(LevelFilter::Off, Environment::most)).max(configured)
    }
}

/// The level for a line: of its endpoint, else of its kind, else of its part, else of all.
fn level_of(levels: &LogLevels, subject: Subject, endpoint: impl FnOnce() -> Option<String>) -> Option<LevelFilter> {
    let named = &levels.named;
    if named.is_empty() {
        return levels.level;
    }
    let endpoint = endpoint().and_then(|path| named.get(&path));
    let kind = || subject.kind_name().and_then(|kind| named.get(kind));
    endpoint.or_else(kind).or_else(|| named.get(subject.part)).copied().or(levels.level)
}

/// What RUST_LOG says, in the language of env_logger. It may leave open what becomes of a line: `wsgate::link=debug` says
/// nothing about any other module. The library does not tell that apart from `off`, so it is asked twice.
pub(super) struct Environment {
    /// What it leaves open is off. It writes nothing itself.
    strict: Logger,
    /// What it leaves open is on.
    open: Logger,
}

impl Environment {
    /// RUST_LOG of the environment, if it is set and says something.
    ///
    /// # Errors
    ///
    /// It is not what env_logger understands. Then it says nothing at all.
    pub(super) fn read() -> Result<Option<Environment>, ParseError> {
        match std::env::var("RUST_LOG") {
            Ok(text) if !text.trim().is_empty() => Environment::parse(&text).map(Some),
            _ => Ok(None),
        }
    }

    fn parse(text: &str) -> Result<Environment, ParseError> {
        // env_logger would write to standard error what it does not understand, past our log, and go on with the rest.
        env_filter::Builder::new().try_parse(text)?;
        let logger = |level| Builder::new().filter_level(level).parse_filters(text).build();
        Ok(Environment { strict: logger(LevelFilter::Off), open: logger(LevelFilter::Trace) })
    }

    /// Whether a line is shown, if it says that.
    fn show(&self, record: &Record<'_>) -> Option<bool> {
        match (self.strict.matches(record), self.open.matches(record)) {
            (true, _) => Some(true),
            (_, false) => Some(false),
            (false, true) => None,
        }
    }

    /// Whether it has a level for all, and leaves nothing open.
    fn decides_all(&self) -> bool {
        // Nothing of ours has this target, so only a level for all is about it.
        let nobody = Metadata::builder().target("\0").level(Level::Trace).build();
        !self.open.enabled(&nobody) || self.strict.enabled(&nobody)
    }

    fn most(&self) -> LevelFilter {
        self.strict.filter()
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.strict.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use LevelFilter::{Debug, Error, Info, Off, Warn};

    use super::*;
    use crate::log_kind::{CONNECTS, REFUSALS};

    fn levels(level: impl Into<Option<LevelFilter>>, named: &[(&str, LevelFilter)]) -> LogLevels {
        let named = named.iter().map(|(name, level)| ((*name).to_owned(), *level)).collect();
        LogLevels { level: level.into(), named }
    }

    /// The highest level at which a line with this target and this endpoint is shown.
    fn shown(levels: &Levels, target: &str, endpoint: Option<&str>) -> LevelFilter {
        let fields = endpoint.map(|path| ("endpoint", path));
        let is_shown = |level: &Level| {
            let args = format_args!("a line");
            let record = Record::builder().target(target).level(*level).args(args).key_values(&fields).build();
            let is_shown = levels.show(&record, Subject::of(target));
            assert!(!is_shown || *level <= levels.most(), "{levels:?}: {level} {target}");
            is_shown
        };
        Level::iter().filter(is_shown).last().map_or(Off, |level| level.to_level_filter())
    }

    #[test]
    fn the_nearest_name_decides() {
        let configured = levels(Info, &[("clients", Warn), ("connects", Debug), ("links", Off), ("/x/{y}", Error)]);
        let levels = Levels::new(configured, None);
        assert_eq!(levels.most(), Debug);
        assert_eq!(shown(&levels, "wsgate::gateway", None), Info);
        assert_eq!(shown(&levels, REFUSALS, None), Warn);
        assert_eq!(shown(&levels, CONNECTS, None), Debug);
        assert_eq!(shown(&levels, CONNECTS, Some("/other")), Debug);
        assert_eq!(shown(&levels, CONNECTS, Some("/x/{y}")), Error);
        assert_eq!(shown(&levels, "wsgate::link", None), Off);
    }

    #[test]
    fn rust_log_decides_what_it_speaks_of_and_leaves_the_rest_to_the_configuration() {
        let with = |text: &str| {
            let environment = Environment::parse(text).unwrap();
            Levels::new(levels(Warn, &[("links", Info)]), Some(environment))
        };
        let some = with("wsgate::client=debug,wsgate::refusals=off");
        assert_eq!(shown(&some, "wsgate::client::open", None), Debug);
        assert_eq!(shown(&some, REFUSALS, None), Off);
        assert_eq!(shown(&some, "wsgate::link", None), Info);
        assert_eq!(shown(&some, "wsgate::gateway", None), Warn);
        assert_eq!(some.most(), Debug);
        let all = with("error");
        assert_eq!((shown(&all, "wsgate::link", None), shown(&all, REFUSALS, None), all.most()), (Error, Error, Error));
        assert_eq!((with("trace").most(), with("off").most()), (LevelFilter::Trace, Off));
        // Only lines with this text.
        let text = with("info/no such text");
        assert_eq!(shown(&text, "wsgate::gateway", None), Off);
        assert!(Environment::parse("wsgate=loud").is_err());
    }

    #[test]
    fn what_is_asked_for_decides_first_until_the_configuration_is_read_again() {
        let mut levels =
            Levels::new(self::levels(Info, &[("links", Warn)]), Some(Environment::parse("error").unwrap()));
        levels.ask(self::levels(None, &[("/a", Debug)]));
        assert_eq!(
            (shown(&levels, CONNECTS, Some("/a")), shown(&levels, CONNECTS, None), levels.most()),
            (Debug, Error, Debug)
        );
        levels.ask(self::levels(Debug, &[]));
        assert_eq!((shown(&levels, CONNECTS, None), shown(&levels, "wsgate::link", None)), (Debug, Debug));
        levels.ask(self::levels(Off, &[]));
        assert_eq!((shown(&levels, CONNECTS, None), levels.most()), (Off, Off));
        levels.configure(self::levels(Warn, &[]));
        assert_eq!((shown(&levels, CONNECTS, None), levels.most()), (Error, Error));
    }
}
