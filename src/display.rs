//! How durations, causes and the words of a peer read for a person, at a terminal or in a log.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::time::Duration;

/// A duration as the options take it.
pub struct Seconds(pub Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.subsec_nanos() {
            0 => write!(f, "{}s", self.0.as_secs()),
            _ => write!(f, "{}ms", self.0.as_millis()),
        }
    }
}

/// So many of a thing whose plural ends with "s".
pub fn count(number: impl PartialEq + From<u8> + fmt::Display, thing: &str) -> String {
    let plural = if number == 1.into() { "" } else { "s" };
    format!("{number} {thing}{plural}")
}

/// The same with its verb: `1 client was`, `2 clients were`.
pub fn count_were(number: impl PartialEq + From<u8> + fmt::Display, thing: &str) -> String {
    let were = if number == 1.into() { "was" } else { "were" };
    format!("{} {were}", count(number, thing))
}

/// About how many bytes, in the unit that reads best: `17 B`, `40.3 KiB`, `1.5 GiB`.
pub fn bytes(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let (mut size, mut unit) = (bytes as f64 / 1024.0, 0);
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    while size >= 1024.0 && unit + 1 < units.len() {
        (size, unit) = (size / 1024.0, unit + 1);
    }
    format!("{size:.1} {}", units[unit])
}

/// The text of an I/O error without the number and the capital.
pub fn cause(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("failed to lookup address information: ").unwrap_or(&text);
    let text = text.rsplit_once(" (os error ").map_or(text, |(text, _)| text);
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        // "I/O" and other abbreviations stay as they are.
        (Some(first), Some(second)) if second.is_ascii_lowercase() => {
            format!("{}{}", first.to_ascii_lowercase(), &text[first.len_utf8()..])
        }
        _ => text.to_owned(),
    }
}

/// Whether a terminal could be misled by this character: control characters, those of C1 (U+0080 to U+009F) too, move
/// its cursor, change its colours or begin a line; others are invisible or change the direction of text. This is the one
/// rule for the log, for messages to people and for what is printed at a terminal.
pub fn is_misleading(c: char) -> bool {
    let turns = matches!(
        c,
        '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    );
    c.is_control() || turns || is_noncharacter(c)
}

/// Whether Unicode promises that this is no character. Where one is, the journal shows the length of a line in its place.
fn is_noncharacter(c: char) -> bool {
    matches!(c, '\u{fdd0}'..='\u{fdef}') || u32::from(c) & 0xfffe == 0xfffe
}

/// At most `chars_max` characters of a text of the peer, safe for a terminal and on one line.
pub fn printable(text: &str, chars_max: usize) -> String {
    let mut safe = String::new();
    for (index, c) in text.chars().enumerate() {
        if index == chars_max {
            safe.push_str("...");
            break;
        }
        if is_misleading(c) { safe.extend(c.escape_default()) } else { safe.push(c) }
    }
    safe
}

/// A text that may have several lines, safe for a terminal.
pub fn for_terminal(text: &str) -> Cow<'_, str> {
    let is_escaped = |c: char| is_misleading(c) && c != '\n' && c != '\t';
    if !text.contains(is_escaped) {
        return Cow::from(text);
    }
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if is_escaped(c) { safe.extend(c.escape_default()) } else { safe.push(c) }
    }
    Cow::from(safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_the_peer_cannot_move_the_cursor() {
        assert_eq!(
            printable("a\u{1b}[2J\r\nb\u{9b}\u{202e}é\u{1ffff}", 99),
            "a\\u{1b}[2J\\r\\nb\\u{9b}\\u{202e}é\\u{1ffff}"
        );
        assert_eq!(printable("abcdef", 3), "abc...");
        assert_eq!(for_terminal("a\u{9b}2J\r\n\tb\u{85}é"), "a\\u{9b}2J\\r\n\tb\\u{85}é");
    }

    #[test]
    fn one_is_not_several() {
        assert_eq!(
            [count(0, "client"), count(1, "client"), count(2_u64, "client")],
            ["0 clients", "1 client", "2 clients"]
        );
        assert_eq!([count_were(1_u64, "message"), count_were(7, "message")], ["1 message was", "7 messages were"]);
    }

    #[test]
    fn bytes_have_the_unit_that_reads_best() {
        let cases = [(0, "0 B"), (1023, "1023 B"), (41_232, "40.3 KiB"), (3 << 29, "1.5 GiB"), (1 << 51, "2048.0 TiB")];
        cases.iter().for_each(|(count, text)| assert_eq!(bytes(*count), *text));
    }

    #[test]
    fn a_cause_has_neither_number_nor_capital() {
        assert_eq!(cause(&io::Error::from_raw_os_error(111)), "connection refused");
        assert_eq!(cause(&io::Error::other("TLS is off")), "TLS is off");
        assert_eq!(cause(&io::Error::other("")), "");
    }
}
