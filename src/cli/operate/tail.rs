//! `wsgate tail`: what clients send, as it comes, until Ctrl-C.

use std::io;
use std::time::{Duration, SystemTime};

use clap::Args;
use serde::Deserialize;

use crate::cli::call_error::CallError;
use crate::cli::exit;
use crate::cli::failure::{Failure, output_failed, tell};
use crate::cli::operate::api::query;
use crate::cli::operate::arguments::AdminArguments;
use crate::cli::operate::help::help;
use crate::cli::operate::output::Output;
use crate::cli::operate::place::Place;
use crate::cli::operate::refusal;
use crate::cli::server_connection::{ConnectionEnd, ReceivedMessage, ServerConnection};
use crate::cli::stop::Stop;
use crate::dial::{DialError, RequestExtras};
use crate::display::{cause, count, count_were, printable};
use crate::format::iso_8601;

pub(super) const AFTER_HELP: &str = help!(
    "\
Examples:
  wsgate tail
  wsgate tail --endpoint '/rooms/{room}' -n 10
  wsgate tail --client d44d1d9fdb4ad6d4 --json | jq -r .text

A message has to fit all of the options. wsgate shows at most 200 messages a second and the first
4 KiB of each; how many it has left out is told as it happens, and in all at the end. As JSON, a
line is {\"type\":\"message\",...} or {\"type\":\"leftOut\",\"messages\":N}; binary messages are in base64.
It takes the right \"tail\"."
);

/// How much of a path or a name is shown.
const NAME_MAX: usize = 200;

#[derive(Args)]
pub struct TailArguments {
    /// Only messages to the endpoint with this path, as it is configured
    #[arg(long, value_name = "PATH")]
    endpoint: Option<String>,
    /// Only messages from the room with this path
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// Only messages of the client with this id
    #[arg(long, value_name = "ID")]
    client: Option<String>,
    /// Stop after this many messages
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    #[command(flatten)]
    admin: AdminArguments,
}

/// What the admin listener shows.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
enum Shown {
    Message(TailMessage),
    LeftOut {
        messages: u64,
    },
    /// What a later version shows besides.
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct TailMessage {
    /// Milliseconds since 1970.
    at: u64,
    client: String,
    path: String,
    identity: Option<String>,
    /// The length of the whole message.
    bytes: usize,
    text: Option<String>,
    base64: Option<String>,
}

const DOING: &str = "look at what clients send";

/// What was shown.
struct Tail {
    output: Output,
    shown: u64,
    left_out: u64,
    /// How many more messages are wanted.
    left: Option<u64>,
}

/// Why nothing more is shown.
enum Done {
    /// All that was wanted is here, or a signal to stop.
    Finished,
    /// It cannot be printed.
    Output(io::Error),
    /// The connection is over.
    Connection(ConnectionEnd),
}

/// Prints messages until told to stop.
pub(super) fn run(arguments: TailArguments) -> Result<(), Failure> {
    let output = Output::new(arguments.admin.json);
    let asked = query(&[
        ("endpoint", arguments.endpoint.as_deref()),
        ("path", arguments.path.as_deref()),
        ("client", arguments.client.as_deref()),
    ]);
    let place = Place::find(arguments.admin)?;
    let dialer = place.dialer(format!("/api/v1/tail{asked}"))?;
    let stop = Stop::on_signal().map_err(|error| Failure {
        text: format!("failed to catch Ctrl-C: {}", cause(&error)),
        exit_code: exit::SYSTEM,
    })?;
    let cancel = stop.or_output_closed();
    let mut tail = Tail { output, shown: 0, left_out: 0, left: arguments.count };
    let dialed = match dialer.dial(&RequestExtras::default(), &cancel) {
        Ok(dialed) => dialed,
        Err(DialError::Cancelled) => return Ok(()),
        Err(error) => return Err(refusal::unanswered(&place, DOING, error)),
    };
    tell(&format!("connected to '{}': what clients send is shown from now on", place.shown));
    let mut connection = ServerConnection::new(dialed, place.shown.clone(), cancel);
    let done = loop {
        // A gateway that never pauses never makes us wait, and only a wait notices a signal by itself.
        if stop.is_set() {
            break Done::Finished;
        }
        if let Err(done) = tail.step(&mut connection) {
            break done;
        }
    };
    let ended = match done {
        Done::Finished | Done::Connection(ConnectionEnd::WaitEnded) => {
            connection.close();
            Ok(())
        }
        Done::Output(error) => output_failed(&error),
        Done::Connection(ConnectionEnd::Closed(closed)) if closed.is_normal() => {
            tell(&format!("'{}' has closed the connection: {closed}", place.shown));
            Ok(())
        }
        Done::Connection(ConnectionEnd::Closed(closed)) => {
            Err(CallError::Closed { url: place.shown.clone(), closed }.into())
        }
        Done::Connection(ConnectionEnd::Failed(error)) => Err(error.into()),
    };
    tell(&format!("{} shown, {} left out", count_were(tail.shown, "message"), tail.left_out));
    ended
}

impl Tail {
    /// One thing that is shown.
    fn step(&mut self, connection: &mut ServerConnection) -> Result<(), Done> {
        let text = match connection.receive(None).map_err(Done::Connection)? {
            ReceivedMessage::Text(text) => text,
            // The admin listener sends none.
            ReceivedMessage::Binary(_) => return Ok(()),
        };
        let shown = serde_json::from_str(&text).unwrap_or(Shown::Other);
        self.print(&text, &shown).map_err(Done::Output)?;
        match shown {
            Shown::LeftOut { messages } => self.left_out += messages,
            Shown::Message(_) => {
                self.shown += 1;
                if let Some(left) = &mut self.left {
                    *left -= 1;
                    if *left == 0 {
                        return Err(Done::Finished);
                    }
                }
            }
            Shown::Other => {}
        }
        Ok(())
    }

    fn print(&mut self, json: &str, shown: &Shown) -> io::Result<()> {
        if self.output.is_json() {
            self.output.json(json.as_bytes())?;
            return self.output.flush();
        }
        match shown {
            Shown::Message(message) => self.output.text(&in_words(message))?,
            Shown::LeftOut { messages } => self.output.text(&format!("({} left out)", count(*messages, "message")))?,
            Shown::Other => {}
        }
        self.output.flush()
    }
}

/// A message on one line: when, who, where, and what.
fn in_words(message: &TailMessage) -> String {
    let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(message.at));
    let at = at.map(iso_8601).and_then(|at| at.get(11..23).map(|time| format!("{time}Z"))).unwrap_or_default();
    let who = message.identity.as_deref().map(|name| format!(" {}", printable(name, NAME_MAX))).unwrap_or_default();
    let (client, path) = (printable(&message.client, NAME_MAX), printable(&message.path, NAME_MAX));
    let what = match (&message.text, &message.base64) {
        (Some(text), _) if text.len() < message.bytes => {
            format!("{}... ({} in all)", printable(text, usize::MAX), count(message.bytes, "byte"))
        }
        (Some(text), _) => printable(text, usize::MAX),
        (None, Some(data)) => format!("({}, base64) {}", count(message.bytes, "byte"), printable(data, usize::MAX)),
        (None, None) => String::new(),
    };
    format!("{at} {client}{who} {path}: {what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b42_a_message_is_one_line_that_moves_no_terminal() {
        let line = |json: &str| match serde_json::from_str(json).unwrap() {
            Shown::Message(message) => in_words(&message),
            Shown::LeftOut { messages } => messages.to_string(),
            Shown::Other => String::new(),
        };
        let start = r#"{"type":"message","at":1767225599123,"client":"d44d1d9fdb4ad6d4","path":"/a\u001b","#;
        let text = line(&format!(r#"{start}"identity":"a\nb","bytes":3,"text":"x\r\ny"}}"#));
        assert_eq!(text, "23:59:59.123Z d44d1d9fdb4ad6d4 a\\nb /a\\u{1b}: x\\r\\ny");
        let cut = line(&format!(r#"{start}"identity":null,"bytes":9,"text":"x"}}"#));
        assert_eq!(cut, "23:59:59.123Z d44d1d9fdb4ad6d4 /a\\u{1b}: x... (9 bytes in all)");
        let binary = line(&format!(r#"{start}"identity":null,"bytes":1,"base64":"AA=="}}"#));
        assert!(binary.ends_with(": (1 byte, base64) AA=="), "{binary}");
        assert_eq!(line(r#"{"type":"leftOut","messages":7}"#), "7");
        assert_eq!(line(r#"{"type":"later","x":1}"#), "");
    }
}
