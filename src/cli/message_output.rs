//! How `send` and `listen` print what they receive. What goes to a file or a pipe is what came; a terminal gets no
//! character that could move its cursor or change its colours.

use std::borrow::Cow;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

use serde::Serialize;
use serde_json::value::RawValue;

use super::server_connection::ReceivedMessage;
use crate::display::{for_terminal, is_misleading};

/// How a message is printed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    /// The payload.
    Raw,
    /// `message` is what the JSON in the text says.
    Parsed,
    /// `message` is the text.
    Unparsed,
}

/// What happened to the connection, as the WebSocket client of n8n names it.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "camelCase")]
pub(super) enum Event<'a> {
    /// It is open.
    Open {
        /// The subprotocol that the server chose.
        #[serde(skip_serializing_if = "Option::is_none")]
        subprotocol: Option<&'a str>,
    },
    /// It could not be opened, or broke.
    Error { cause: &'a str },
    /// It has ended, with the code of the server's Close; 1005 without one in it, 1006 without a Close.
    Close { code: u16, reason: &'a str },
}

/// Where messages are printed.
pub(super) struct MessageOutput<W = BufWriter<Stdout>> {
    out: W,
    is_terminal: bool,
    shape: Shape,
    /// Whether a message is marked as an event, among others.
    with_events: bool,
}

impl MessageOutput {
    /// Standard output.
    pub(super) fn stdout(shape: Shape, with_events: bool) -> MessageOutput {
        let is_terminal = io::stdout().is_terminal();
        MessageOutput { out: BufWriter::with_capacity(64 << 10, io::stdout()), is_terminal, shape, with_events }
    }
}

impl<W: Write> MessageOutput<W> {
    /// Prints one message and flushes it, so that the reader of a pipe gets it at once.
    pub(super) fn message(&mut self, received: &ReceivedMessage) -> io::Result<()> {
        match (received, self.shape) {
            (ReceivedMessage::Text(text), Shape::Raw) => {
                let text = if self.is_terminal { for_terminal(text) } else { Cow::from(text.as_str()) };
                self.out.write_all(text.as_bytes())?;
                self.out.write_all(b"\n")?;
            }
            (ReceivedMessage::Binary(data), Shape::Raw) if self.is_terminal => {
                writeln!(self.out, "{}", data.escape_ascii())?;
            }
            (ReceivedMessage::Binary(data), Shape::Raw) => self.out.write_all(data)?,
            // The line is as long as the message, so it is built in memory only where it is looked through.
            (_, shape) if self.is_terminal => {
                let mut line = Vec::new();
                write_json(received, shape, self.with_events, &mut line)?;
                self.out.write_all(json_for_terminal(&String::from_utf8_lossy(&line)).as_bytes())?;
            }
            (_, shape) => write_json(received, shape, self.with_events, &mut self.out)?,
        }
        self.out.flush()
    }

    /// Prints what happened to the connection, if events are printed.
    pub(super) fn event(&mut self, event: &Event<'_>) -> io::Result<()> {
        if !self.with_events {
            return Ok(());
        }
        let line = serde_json::to_string(event).map_err(io::Error::other)?;
        let line = if self.is_terminal { json_for_terminal(&line) } else { line };
        writeln!(self.out, "{line}")?;
        self.out.flush()
    }
}

fn write_json(received: &ReceivedMessage, shape: Shape, with_events: bool, out: &mut impl Write) -> io::Result<()> {
    out.write_all(if with_events { b"{\"event\":\"message\",\"message\":" } else { b"{\"message\":" })?;
    match received {
        ReceivedMessage::Text(text) => {
            // `RawValue` checks the JSON and keeps its bytes: no number is rounded, no key is lost.
            match serde_json::from_str::<&RawValue>(text) {
                Ok(json) if matches!(shape, Shape::Parsed) => write_on_one_line(json.get(), out)?,
                _ => serde_json::to_writer(&mut *out, text.as_str())?,
            }
            out.write_all(b",\"data\":")?;
            serde_json::to_writer(&mut *out, text.as_str())?;
            out.write_all(b"}\n")
        }
        ReceivedMessage::Binary(data) => {
            out.write_all(b"{\"type\":\"Buffer\",\"data\":[")?;
            for (index, byte) in data.iter().enumerate() {
                write!(out, "{}{byte}", if index == 0 { "" } else { "," })?;
            }
            writeln!(out, "]}},\"data\":\"{}\"}}", openssl::base64::encode_block(data))
        }
    }
}

/// JSON has line ends only between its tokens, where a space is as good, and our lines must hold a message each.
fn write_on_one_line(json: &str, out: &mut impl Write) -> io::Result<()> {
    for (index, part) in json.split(['\n', '\r']).enumerate() {
        if index > 0 {
            out.write_all(b" ")?;
        }
        out.write_all(part.as_bytes())?;
    }
    Ok(())
}

/// A line of JSON with JSON's own escapes for what a terminal must not get: such characters stand only in its strings.
pub(super) fn json_for_terminal(line: &str) -> String {
    let mut safe = String::with_capacity(line.len());
    for c in line.chars() {
        match c {
            '\n' | '\t' => safe.push(c),
            // All of these have four digits.
            c if is_misleading(c) => safe.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(shape: Shape, is_terminal: bool, with_events: bool) -> MessageOutput<Vec<u8>> {
        MessageOutput { out: Vec::new(), is_terminal, shape, with_events }
    }

    fn printed_at(received: &ReceivedMessage, shape: Shape, is_terminal: bool) -> String {
        let mut output = output(shape, is_terminal, false);
        output.message(received).unwrap();
        String::from_utf8(output.out).unwrap()
    }

    fn printed(received: ReceivedMessage, shape: Shape) -> String {
        printed_at(&received, shape, false)
    }

    #[test]
    fn a_message_is_one_line_and_loses_nothing() {
        for (text, parsed) in [
            (r#"{"a":12345678901234567890123,"a":1.10}"#, r#"{"a":12345678901234567890123,"a":1.10}"#),
            ("{\r\n  \"a\":\n1 }\n", "{    \"a\": 1 }"),
            ("null", "null"),
            (" [1,2] ", "[1,2]"),
            ("\"\\ud800\"", "\"\\ud800\""),
            ("", "\"\""),
            ("{\"a\":", "\"{\\\"a\\\":\""),
            ("two\nlines", "\"two\\nlines\""),
            ("1 2", "\"1 2\""),
        ] {
            let data = serde_json::to_string(text).unwrap();
            let received = || ReceivedMessage::Text(text.into());
            assert_eq!(printed(received(), Shape::Parsed), format!("{{\"message\":{parsed},\"data\":{data}}}\n"));
            assert_eq!(printed(received(), Shape::Unparsed), format!("{{\"message\":{data},\"data\":{data}}}\n"));
            assert_eq!(printed(received(), Shape::Raw), format!("{text}\n"));
        }
    }

    #[test]
    fn a_deeply_nested_message_does_not_overflow_the_stack() {
        let text = format!("{}{}", "[".repeat(1 << 20), "]".repeat(1 << 20));
        assert!(printed(ReceivedMessage::Text(text.as_str().into()), Shape::Parsed).starts_with("{\"message\":[[["));
    }

    #[test]
    fn binary_is_printed_as_numbers_and_base64() {
        let line = printed(ReceivedMessage::Binary(vec![0, 255, 10].into()), Shape::Parsed);
        assert_eq!(line, "{\"message\":{\"type\":\"Buffer\",\"data\":[0,255,10]},\"data\":\"AP8K\"}\n");
        let line = printed(ReceivedMessage::Binary(Vec::new().into()), Shape::Unparsed);
        assert_eq!(line, "{\"message\":{\"type\":\"Buffer\",\"data\":[]},\"data\":\"\"}\n");
        assert_eq!(printed(ReceivedMessage::Binary(vec![b'a', b'b'].into()), Shape::Raw), "ab");
    }

    #[test]
    fn b42_a_terminal_gets_no_character_that_moves_it_and_json_means_the_same() {
        let text = "{\"a\u{9b}\u{7f}\":\"\u{202e}\u{85}é\"}";
        let received = ReceivedMessage::Text(text.into());
        assert_eq!(printed_at(&received, Shape::Raw, true), "{\"a\\u{9b}\\u{7f}\":\"\\u{202e}\\u{85}é\"}\n");
        for shape in [Shape::Parsed, Shape::Unparsed] {
            let (piped, shown) =
                (printed(ReceivedMessage::Text(text.into()), shape), printed_at(&received, shape, true));
            assert!(piped.contains('\u{9b}') && !shown.trim_end().contains(is_misleading), "{shown}");
            let value = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
            assert_eq!(value(&piped), value(&shown));
        }
        let colour = ReceivedMessage::Text("\u{1b}[31mred\r\n\tx".into());
        assert_eq!(printed_at(&colour, Shape::Raw, true), "\\u{1b}[31mred\\r\n\tx\n");
        assert_eq!(printed_at(&colour, Shape::Raw, false), "\u{1b}[31mred\r\n\tx\n");
        let binary = ReceivedMessage::Binary(vec![b'a', 0x1b, 0x9b].into());
        assert_eq!(printed_at(&binary, Shape::Raw, true), "a\\x1b\\x9b\n");
    }

    #[test]
    fn b39_events_are_named_as_the_client_of_n8n_has_them() {
        let mut output = output(Shape::Parsed, true, true);
        output.event(&Event::Open { subprotocol: None }).unwrap();
        output.message(&ReceivedMessage::Text("1".into())).unwrap();
        output.event(&Event::Error { cause: "lost" }).unwrap();
        output.event(&Event::Close { code: 1008, reason: "no\u{9b}" }).unwrap();
        let lines = String::from_utf8(output.out).unwrap();
        let expected = [
            r#"{"event":"open"}"#,
            r#"{"event":"message","message":1,"data":"1"}"#,
            r#"{"event":"error","cause":"lost"}"#,
            r#"{"event":"close","code":1008,"reason":"no\u009b"}"#,
        ];
        assert_eq!(lines.lines().collect::<Vec<_>>(), expected);
    }
}
