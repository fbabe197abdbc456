//! `[log]`: what the log shows, and in which form.

use std::collections::BTreeMap;

use log::LevelFilter;

/// `[log]`: what the log shows, and in which form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// The form of its lines. `None` is the one that suits standard error. Default.
    pub format: Option<LogFormat>,
    /// What is shown unless RUST_LOG says otherwise. Default info for all.
    pub levels: LogLevels,
    /// Lines of one kind in a second, of those whose number peers decide; `None` shows all. Default 100.
    pub lines_per_second: Option<u64>,
}

impl Default for LogSettings {
    fn default() -> LogSettings {
        let levels = LogLevels { level: Some(LevelFilter::Info), named: BTreeMap::new() };
        LogSettings { format: None, levels, lines_per_second: Some(100) }
    }
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Time, level and message, for people.
    Text,
    /// One object a line.
    Json,
    /// Priority and message, as systemd's journal takes them from standard error.
    Journal,
}

/// Up to which level the log shows a line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogLevels {
    /// Of what has no level of its own; `None` says nothing about it.
    pub level: Option<LevelFilter>,
    /// Of parts and kinds of `log_kind`, and of endpoints by their path. The endpoint comes before the kind, and that
    /// before the part.
    pub named: BTreeMap<String, LevelFilter>,
}

impl LogLevels {
    /// The highest of all.
    pub fn most(&self) -> LevelFilter {
        self.named.values().chain(&self.level).max().copied().unwrap_or(LevelFilter::Off)
    }
}
