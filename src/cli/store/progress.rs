//! A bar for work that takes long, on a terminal that shows nothing else.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar on standard error that goes to `length`. Nothing is shown if that is no terminal, or if standard output is one
/// too and `prints` to it.
pub(super) fn bar(length: u64, prints: bool) -> ProgressBar {
    if prints && io::stdout().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(length);
    let style = ProgressStyle::with_template("{bar:40} {percent}%, {elapsed} gone, {eta} left");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// That something goes on whose length nobody knows.
pub(super) fn spinner(what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {msg}, {elapsed} gone");
    let spinner = ProgressBar::new_spinner().with_message(what);
    let spinner = spinner.with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    spinner.enable_steady_tick(Duration::from_millis(200));
    spinner
}
