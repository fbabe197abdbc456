//! The log: one line an event on standard error, and nothing in a line that a peer could abuse.

use std::fmt;
use std::io::Write as _;

use log::LevelFilter;

/// The most characters of one line's message; the rest is cut.
const MESSAGE_MAX: usize = 1024;

/// Starts the log at a level; RUST_LOG, if set, says more precisely what is shown. A log that
/// cannot be written holds nobody up.
pub(super) fn start(level: LevelFilter) {
    env_logger::Builder::new()
        .filter_level(level)
        .parse_default_env()
        .format(|line, record| {
            let message = record.args().to_string();
            writeln!(line, "{} {:<5} {}", line.timestamp_millis(), record.level(), Printable(&message))
        })
        .init();
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
            if c.is_control() || is_invisible(c) { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
        }
        Ok(())
    }
}

/// Line and paragraph separators, and what changes the direction of text.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
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
}
