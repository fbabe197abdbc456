//! `[log]`.

use std::ops::RangeInclusive;

use crate::config::log_words::{LEVELS, is_name, unknown_name};
use crate::config::section::{Keys, Section, Value};
use crate::config::settings::{LogFormat, LogSettings};

const LINES_PER_SECOND: RangeInclusive<usize> = 1..=1_000_000;

pub(crate) static LOG: Keys = Keys {
    table: "[log]",
    keys: &[
        ("level", "\"info\""),
        ("levels", "{ links = \"debug\" }"),
        ("format", "\"json\""),
        ("lines_per_second", "100"),
    ],
};

const FORMATS: [(&str, Option<LogFormat>); 4] = [
    ("auto", None),
    ("text", Some(LogFormat::Text)),
    ("json", Some(LogFormat::Json)),
    ("journal", Some(LogFormat::Journal)),
];

/// `[log]` as it was read.
#[derive(Default)]
pub(crate) struct RawLog {
    pub(crate) settings: LogSettings,
    /// The paths among the names of `levels`, each with its place.
    pub(crate) paths: Vec<(usize, String)>,
}

pub(super) fn log(section: &Section<'_>) -> RawLog {
    let mut raw = RawLog::default();
    let settings = &mut raw.settings;
    section.read("level", &mut settings.levels.level, |v| v.choice(&LEVELS).map(Some));
    section.read("format", &mut settings.format, |v| v.choice(&FORMATS));
    section.read("lines_per_second", &mut settings.lines_per_second, |v| lines_per_second(&v));
    let entries = section.get("levels").and_then(|value| value.entries("levels of [log]", "\"debug\""));
    for (at, name, value) in entries.unwrap_or_default() {
        if name.starts_with('/') {
            raw.paths.push((at, name.to_owned()));
        } else if !is_name(name) {
            value.mistake_at(at, unknown_name(name));
        }
        if let Some(level) = value.choice(&LEVELS) {
            raw.settings.levels.named.insert(name.to_owned(), level);
        }
    }
    raw
}

fn lines_per_second(value: &Value<'_>) -> Option<Option<u64>> {
    if !value.is_string() {
        return value.integer(LINES_PER_SECOND).map(|lines| Some(lines as u64));
    }
    let text = value.text()?;
    if text.value != "off" {
        value.mistake(format_args!("cannot be {:?}: write \"off\" or a number", text.written));
        return None;
    }
    Some(None)
}
