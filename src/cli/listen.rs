//! `wsgate listen`: every message that arrives, as a line of JSON.

use std::io::{self, BufWriter, Write};
use std::time::{Duration, Instant};

use clap::{ArgAction, Args};
use serde_json::value::RawValue;

use super::dial::{CallError, Caller, ConnectionEnd, ReceivedMessage};
use super::dial_arguments::DialArguments;
use super::exit;
use super::failure::{Failure, output_failed, tell};
use super::stop::Stop;
use crate::dial::backoff;
use crate::dial::{CancelToken, WaitEnd};
use crate::display::{Seconds, cause};

pub(super) const AFTER_HELP: &str = "\
Examples:
  wsgate listen ws://127.0.0.1:8080/
  wsgate listen --reconnect wss://plc.local/out | jq .message.temperature
  wsgate listen --raw --count 1 ws://127.0.0.1:8080/ > first
  wsgate listen --ca plant-ca.pem -H 'Authorization: Bearer TOKEN' wss://plc.local/out

A text message is printed as {\"message\":M,\"data\":\"...\"}. 'data' is the text. 'message' is the text
as JSON, with its numbers digit for digit, or the text itself if it is not JSON. A binary message
is printed as {\"message\":{\"type\":\"Buffer\",\"data\":[1,2]},\"data\":\"AQI=\"}: its bytes as numbers, and
in base64. With '--raw', messages are printed unchanged; each text message gets a line end.

The exit code is 0 after Ctrl-C, after '--count' messages, when the server closes with 1000, 1001
or no code, and when the output is a pipe whose reader has ended.";

/// The waits between attempts are random up to a ceiling, which starts here and doubles up to the second.
const BACK_OFF_FIRST: Duration = Duration::from_millis(500);
const BACK_OFF_MAX: Duration = Duration::from_secs(60);

/// A connection that lasted this long was a good one: the next failure starts from the first ceiling.
const GOOD_AFTER: Duration = Duration::from_secs(30);

#[derive(Args)]
pub(super) struct ListenArguments {
    #[command(flatten)]
    dial: DialArguments,
    /// Print the payloads only
    #[arg(short, long)]
    raw: bool,
    /// true: 'message' is the JSON in a text message; false: 'message' is always the text
    #[arg(long, value_name = "true|false", action = ArgAction::Set, default_value_t = true, conflicts_with = "raw")]
    json_parse: bool,
    /// Stop after this many messages
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Connect again after every failure and every close, without end, after growing waits (0.5 s to 60 s)
    #[arg(long)]
    reconnect: bool,
}

/// How a message is printed.
#[derive(Debug, Clone, Copy)]
enum Shape {
    /// The payload.
    Raw,
    /// `message` is what the JSON in the text says.
    Parsed,
    /// `message` is the text.
    Unparsed,
}

/// Why a connection delivers no more.
enum Done {
    /// There is nothing more to do.
    Finished(Result<(), Failure>),
    /// The connection is over; another one may be tried.
    Ended(CallError),
}

/// Prints messages until told to stop.
pub(super) fn run(arguments: ListenArguments) -> Result<(), Failure> {
    let caller = Caller::new(arguments.dial)?;
    let stop = Stop::on_interrupt().map_err(|error| Failure {
        text: format!("failed to catch Ctrl-C: {}", cause(&error)),
        exit_code: exit::SYSTEM,
    })?;
    if let Some(warning) = caller.warning() {
        tell(&format!("warning: {warning}"));
    }
    let shape = match (arguments.raw, arguments.json_parse) {
        (true, _) => Shape::Raw,
        (false, true) => Shape::Parsed,
        (false, false) => Shape::Unparsed,
    };
    let cancel = stop.or_output_closed();
    let mut left = arguments.count;
    let mut failures = 0;
    loop {
        let mut opened = None;
        let error = match session(&caller, &cancel, &stop, shape, &mut left, &mut opened) {
            Done::Finished(result) => return result,
            Done::Ended(error) => error,
        };
        if !arguments.reconnect {
            return match error {
                CallError::Closed { closed, .. } if closed.is_normal() => Ok(()),
                error => Err(error.into()),
            };
        }
        if opened.is_some_and(|at: Instant| at.elapsed() >= GOOD_AFTER) {
            failures = 0;
        }
        let wait = backoff::random_wait(BACK_OFF_FIRST, BACK_OFF_MAX, failures);
        failures += 1;
        tell(&format!("{error}; connecting again in {}", Seconds(wait)));
        match cancel.sleep(wait) {
            WaitEnd::Deadline => {}
            WaitEnd::Cancelled => return Ok(()),
        }
    }
}

/// One connection from the dial to its end. `opened` is set once the handshake is done.
fn session(
    caller: &Caller,
    cancel: &CancelToken,
    stop: &Stop,
    shape: Shape,
    left: &mut Option<u64>,
    opened: &mut Option<Instant>,
) -> Done {
    let mut connection = match caller.call(cancel) {
        Ok(connection) => connection,
        Err(CallError::Cancelled) => return Done::Finished(Ok(())),
        Err(error) => return Done::Ended(error),
    };
    *opened = Some(Instant::now());
    if let Some(name) = connection.subprotocol() {
        tell(&format!("the server chose the subprotocol '{name}'"));
    }
    let mut output = BufWriter::with_capacity(64 << 10, io::stdout());
    let result = loop {
        // A server that never pauses never makes us wait, and only a wait notices Ctrl-C by itself.
        if stop.is_set() {
            break Ok(());
        }
        match connection.receive(None) {
            Ok(received) => {
                if let Err(error) = print(&received, shape, &mut output) {
                    break output_failed(&error);
                }
                if let Some(left) = left {
                    *left -= 1;
                    if *left == 0 {
                        break Ok(());
                    }
                }
            }
            Err(ConnectionEnd::WaitEnded) => break Ok(()),
            Err(ConnectionEnd::Closed(closed)) => {
                return Done::Ended(CallError::Closed { url: caller.url().into(), closed });
            }
            Err(ConnectionEnd::Failed(error)) => return Done::Ended(error),
        }
    };
    connection.close();
    Done::Finished(result)
}

/// Prints one message and flushes it, so that the reader of a pipe gets it at once.
fn print(received: &ReceivedMessage, shape: Shape, out: &mut impl Write) -> io::Result<()> {
    match (received, shape) {
        (_, Shape::Raw) => received.write_raw(out)?,
        (ReceivedMessage::Text(text), _) => {
            out.write_all(b"{\"message\":")?;
            // `RawValue` checks the JSON and keeps its bytes: no number is rounded, no key is lost.
            match serde_json::from_str::<&RawValue>(text) {
                Ok(json) if matches!(shape, Shape::Parsed) => write_on_one_line(json.get(), out)?,
                _ => serde_json::to_writer(&mut *out, text.as_str())?,
            }
            out.write_all(b",\"data\":")?;
            serde_json::to_writer(&mut *out, text.as_str())?;
            out.write_all(b"}\n")?;
        }
        (ReceivedMessage::Binary(data), _) => {
            out.write_all(b"{\"message\":{\"type\":\"Buffer\",\"data\":[")?;
            for (index, byte) in data.iter().enumerate() {
                write!(out, "{}{byte}", if index == 0 { "" } else { "," })?;
            }
            writeln!(out, "]}},\"data\":\"{}\"}}", openssl::base64::encode_block(data))?;
        }
    }
    out.flush()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(received: ReceivedMessage, shape: Shape) -> String {
        let mut out = Vec::new();
        print(&received, shape, &mut out).unwrap();
        String::from_utf8(out).unwrap()
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
}
