//! How a line of the log looks: text for people, JSON for programs, or what systemd's journal takes.
//!
//! In each of them an entry is exactly one line, whatever peers have put into it: control characters and line breaks are
//! escaped, and so is all else that could mislead a terminal.

use std::fmt::{self, Write};
use std::io;
use std::os::fd::AsFd;

use jiff::Timestamp;
use log::Level;
use rustix::fs::fstat;

use crate::config::LogFormat;
use crate::display::is_misleading;
use crate::log_kind::Subject;

/// The most characters of one line's message; the rest is cut.
const MESSAGE_MAX: usize = 1024;

/// The most characters of a field; the rest is cut.
const FIELD_MAX: usize = 256;

/// What stands behind a text that was cut.
const CUT: &str = "...";

/// One line before it has a form.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) level: Level,
    pub(super) subject: Subject,
    pub(super) message: &'a str,
    /// What the message is about, for programs: `client`, `endpoint`, `link` and others. Only JSON has them.
    pub(super) fields: &'a [(String, String)],
}

/// The form that was chosen, or the one that suits standard error: where `JOURNAL_STREAM` of the environment names its
/// device and inode, as systemd sets it for a service, it leads to the journal.
pub(super) fn suited(chosen: Option<LogFormat>) -> LogFormat {
    chosen.unwrap_or_else(|| {
        let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
        if is_stream(&stream, io::stderr()) { LogFormat::Journal } else { LogFormat::Text }
    })
}

/// Whether this descriptor is the one that `DEVICE:INODE` names.
fn is_stream(stream: &str, descriptor: impl AsFd) -> bool {
    let named = stream.split_once(':').and_then(|(device, inode)| Some((device.parse().ok()?, inode.parse().ok()?)));
    named.is_some_and(|named: (u64, u64)| fstat(descriptor).is_ok_and(|status| named == (status.st_dev, status.st_ino)))
}

impl Entry<'_> {
    /// The entry as it is written, with the time of now and the end of its line.
    pub(super) fn line(&self, format: LogFormat) -> Vec<u8> {
        let mut line = String::with_capacity(128 + self.message.len());
        let written = match format {
            LogFormat::Text => self.write_text(&mut line),
            LogFormat::Json => self.write_json(&mut line),
            LogFormat::Journal => self.write_journal(&mut line),
        };
        written.expect("a string takes everything");
        line.push('\n');
        line.into_bytes()
    }

    fn write_text(&self, line: &mut String) -> fmt::Result {
        write!(line, "{:.3} {:<5} ", Timestamp::now(), self.level)?;
        write_escaped(line, self.message)
    }

    /// The priority of syslog(3) in front, as sd-daemon(3) has it. The journal knows the time itself.
    fn write_journal(&self, line: &mut String) -> fmt::Result {
        let priority = match self.level {
            Level::Error => 3,
            Level::Warn => 4,
            Level::Info => 6,
            Level::Debug | Level::Trace => 7,
        };
        write!(line, "<{priority}>")?;
        write_escaped(line, self.message)
    }

    fn write_json(&self, line: &mut String) -> fmt::Result {
        let level = self.level.as_str().to_ascii_lowercase();
        write!(
            line,
            "{{\"time\":\"{:.3}\",\"level\":\"{level}\",\"part\":\"{}\"",
            Timestamp::now(),
            self.subject.part
        )?;
        if let Some(kind) = self.subject.kind_name() {
            write!(line, ",\"kind\":\"{kind}\"")?;
        }
        line.push_str(",\"message\":");
        write_json_string(line, self.message, MESSAGE_MAX)?;
        for (name, value) in self.fields {
            line.push(',');
            write_json_string(line, name, FIELD_MAX)?;
            line.push(':');
            write_json_string(line, value, FIELD_MAX)?;
        }
        line.push('}');
        Ok(())
    }
}

/// Text in which everything that could move a terminal or begin a line is escaped: what peers send
/// stands in the log, and must not look like the log.
fn write_escaped(line: &mut String, text: &str) -> fmt::Result {
    for (count, c) in text.chars().enumerate() {
        if count == MESSAGE_MAX {
            return line.write_str(CUT);
        }
        if is_misleading(c) { write!(line, "{}", c.escape_default())? } else { line.push(c) }
    }
    Ok(())
}

/// A string of JSON. JSON would allow U+2028 or a right-to-left mark as they are; whoever looks at the line at a terminal
/// would not see what is there.
fn write_json_string(line: &mut String, text: &str, chars_max: usize) -> fmt::Result {
    line.push('"');
    for (count, c) in text.chars().enumerate() {
        if count == chars_max {
            line.push_str(CUT);
            break;
        }
        match c {
            '"' | '\\' => line.extend(['\\', c]),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            c if is_misleading(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(line, "\\u{unit:04x}")?;
                }
            }
            c => line.push(c),
        }
    }
    line.push('"');
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use proptest::prelude::*;

    use super::*;
    use crate::log_kind::REFUSALS;

    fn entry<'a>(message: &'a str, fields: &'a [(String, String)]) -> Entry<'a> {
        Entry { level: Level::Info, subject: Subject::of(REFUSALS), message, fields }
    }

    fn line(format: LogFormat, message: &str) -> String {
        String::from_utf8(entry(message, &[]).line(format)).unwrap()
    }

    #[test]
    fn nothing_in_a_message_begins_a_line_or_moves_the_terminal() {
        let text = line(LogFormat::Text, "a\nFAKE\r\x1b[2J\0\u{202e}\u{9b}é");
        assert_eq!(text.split_once(" INFO  ").unwrap().1, "a\\nFAKE\\r\\u{1b}[2J\\u{0}\\u{202e}\\u{9b}é\n");
        let long = line(LogFormat::Text, &"x".repeat(5000));
        assert_eq!(long.split_once(" INFO  ").unwrap().1.len(), MESSAGE_MAX + CUT.len() + 1);
    }

    #[test]
    fn each_level_has_its_priority_in_the_journal() {
        let levels =
            [(Level::Error, "<3>x\n"), (Level::Warn, "<4>x\n"), (Level::Info, "<6>x\n"), (Level::Debug, "<7>x\n")];
        for (level, expected) in levels {
            assert_eq!(Entry { level, ..entry("x", &[]) }.line(LogFormat::Journal), expected.as_bytes());
        }
        assert_eq!(line(LogFormat::Journal, "<0>a\n<0>b"), "<6><0>a\\n<0>b\n");
    }

    #[test]
    fn json_has_the_time_the_level_what_it_is_about_and_the_fields() {
        let fields = [("client".to_owned(), "d44d1d9fdb4ad6d4".to_owned())];
        let line = String::from_utf8(entry("a \"b\" \\ \u{202e}\u{1b}", &fields).line(LogFormat::Json)).unwrap();
        let rest = line.strip_prefix("{\"time\":\"").unwrap();
        let (time, rest) = rest.split_once('"').unwrap();
        time.parse::<Timestamp>().unwrap();
        assert_eq!(
            rest,
            ",\"level\":\"info\",\"part\":\"clients\",\"kind\":\"refusals\",\
             \"message\":\"a \\\"b\\\" \\\\ \\u202e\\u001b\",\"client\":\"d44d1d9fdb4ad6d4\"}\n"
        );
    }

    #[test]
    fn the_journal_is_where_the_variable_says() {
        let (one, other) = UnixStream::pair().unwrap();
        let status = fstat(&one).unwrap();
        let name = format!("{}:{}", status.st_dev, status.st_ino);
        assert!(is_stream(&name, &one) && !is_stream(&name, &other));
        for wrong in ["", ":", "8:", "8:x", &name[1..], &format!("{name} ")] {
            assert!(!is_stream(wrong, &one), "{wrong:?}");
        }
    }

    /// What a peer may have put anywhere.
    fn anything() -> impl Strategy<Value = String> {
        let bytes =
            prop::collection::vec(any::<u8>(), 0..2000).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let nasty = prop::collection::vec(
            prop::sample::select(vec![
                "\n",
                "\r",
                "\0",
                "\u{85}",
                "\u{2028}",
                "\u{feff}",
                "\"",
                "\\",
                "<0>",
                "{",
                "}",
                "\u{10ffff}",
                "\x1b[2J",
                "a",
            ]),
            0..400,
        );
        prop_oneof![bytes, any::<String>(), nasty.prop_map(|pieces| pieces.concat())]
    }

    proptest! {
        #[test]
        fn whatever_peers_send_each_format_has_exactly_one_valid_line(message in anything(), value in anything()) {
            let fields = [("address".to_owned(), value.clone())];
            let entry = entry(&message, &fields);
            for format in [LogFormat::Text, LogFormat::Json, LogFormat::Journal] {
                let line = String::from_utf8(entry.line(format)).expect("the log is UTF-8");
                let line = line.strip_suffix('\n').expect("a line has an end");
                prop_assert!(!line.contains(is_misleading), "{line:?}");
                match format {
                    LogFormat::Text => prop_assert!(line.contains(" INFO  ")),
                    LogFormat::Journal => prop_assert!(line.starts_with("<6>")),
                    LogFormat::Json => {
                        let read: serde_json::Value = serde_json::from_str(line).expect("it is JSON");
                        let cut = |text: &str, most: usize| match text.chars().count() > most {
                            true => text.chars().take(most).chain(CUT.chars()).collect(),
                            false => text.to_owned(),
                        };
                        prop_assert_eq!(read["message"].as_str(), Some(&*cut(&message, MESSAGE_MAX)));
                        prop_assert_eq!(read["address"].as_str(), Some(&*cut(&value, FIELD_MAX)));
                        prop_assert_eq!(read.as_object().unwrap().len(), 6);
                    }
                }
            }
        }
    }
}
