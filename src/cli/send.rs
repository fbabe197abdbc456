//! `wsgate send`: one message out, the answer in.

use std::ffi::OsString;
use std::fmt;
use std::time::{Duration, Instant};

use clap::Args;
use tungstenite::Message;

use super::call_error::{CallError, Closed};
use super::dial::Caller;
use super::dial_arguments::DialArguments;
use super::duration::duration;
use super::failure::{Failure, output_failed, tell};
use super::message_input::{self, Source};
use super::message_output::{MessageOutput, Shape};
use super::server_connection::{ConnectionEnd, MESSAGE_MAX, ServerConnection};
use crate::dial::CancelToken;
use crate::display::Seconds;

pub(super) const AFTER_HELP: &str = "\
Examples:
  wsgate send ws://127.0.0.1:8080/ 'hello'
  echo '{\"on\":true}' | wsgate send ws://plc.local/in
  wsgate send --skip 1 --json ws://plc.local/in '{\"op\":\"state\"}' | jq .message.state
  wsgate send --binary wss://plc.local/in - < firmware.bin
  wsgate send --wait 0 ws://127.0.0.1:8080/ -- '-5 degrees'
  wsgate send -H 'Authorization: Bearer TOKEN' wss://api.example/ws '{\"op\":\"state\"}'

The answer is the first message that arrives, even if another client caused it. If the server sends
a welcome first, leave that out with '--skip 1'. The answer is printed to standard output unchanged;
a text gets a line end, and at a terminal control characters are escaped. With '--json' it is
printed as 'listen' prints messages: {\"message\":M,\"data\":\"...\"}, on one line. If an answer is
missing, a line on standard error says what was sent, and the exit code is 0. If text from standard
input ends with a line end, that line end is not sent; with '--binary' every byte is sent.";

#[derive(Args)]
pub(super) struct SendArguments {
    #[command(flatten)]
    dial: DialArguments,
    /// The message; without it, or with '-', it is read from standard input
    #[arg(value_name = "DATA", allow_negative_numbers = true)]
    data: Option<OsString>,
    /// Send a binary message instead of text
    #[arg(short, long)]
    binary: bool,
    /// How long to wait for an answer, and for each one behind it; with 0, wsgate does not wait
    #[arg(short, long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    wait: Duration,
    /// Leave out this many messages, such as a welcome, before the answer
    #[arg(long, value_name = "N", default_value_t = 0)]
    skip: u64,
    /// Print this many answers
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// Print each answer as a line of JSON with 'message' and 'data'
    #[arg(long)]
    json: bool,
}

/// Sends one message and prints the answers that come in time.
pub(super) fn run(arguments: SendArguments) -> Result<(), Failure> {
    let caller = Caller::new(arguments.dial)?;
    // The message is complete before the dial: the server does not wait for a user who is still typing.
    let message = message(arguments.data, arguments.binary)?;
    if let Some(warning) = caller.warning() {
        tell(&format!("warning: {warning}"));
    }
    let kind = if message.is_text() { "text" } else { "binary" };
    let bytes = if message.len() == 1 { "byte" } else { "bytes" };
    let sent = format!("sent {} {bytes} ({kind}) to {}", message.len(), caller.url());

    let mut connection = caller.call(&CancelToken::default())?;
    if let Some(name) = connection.subprotocol() {
        tell(&format!("the server chose the subprotocol '{name}'"));
    }
    let closed = |closed: Closed| CallError::Closed { url: caller.url().into(), closed };
    send(&mut connection, message).map_err(|end| match end {
        ConnectionEnd::Closed(frame) => closed(frame),
        ConnectionEnd::Failed(error) => error,
        // Without a cancel token and a deadline nothing but the connection can end a write.
        ConnectionEnd::WaitEnded => CallError::Cancelled,
    })?;

    let mut output = MessageOutput::stdout(if arguments.json { Shape::Parsed } else { Shape::Raw }, false);
    let mut answers = Answers { skip: arguments.skip, wanted: arguments.count, printed: 0 };
    let outcome = match answers.print(&mut connection, arguments.wait, &mut output) {
        Ok(result) => result,
        Err(ConnectionEnd::WaitEnded) if arguments.wait.is_zero() => {
            tell(&sent);
            Ok(())
        }
        Err(ConnectionEnd::WaitEnded) => {
            tell(&format!("{sent}; {answers} within {}", Seconds(arguments.wait)));
            Ok(())
        }
        Err(ConnectionEnd::Closed(frame)) if frame.is_normal() => {
            let without =
                if answers.printed == 0 { "without an answer".to_owned() } else { format!("after {answers}") };
            tell(&format!("{sent}; closed by the server {without} ({frame})"));
            return Ok(());
        }
        Err(ConnectionEnd::Closed(frame)) => return Err(closed(frame).into()),
        Err(ConnectionEnd::Failed(error)) => return Err(error.into()),
    };
    // Our Close may cross one of the server, and that one tells what it thought of the message.
    match connection.close() {
        Some(frame) if !frame.is_normal() && outcome.is_ok() => Err(closed(frame).into()),
        _ => outcome,
    }
}

/// Sends the message. A server that refuses us often says why in a Close before it resets the connection.
fn send(connection: &mut ServerConnection, message: Message) -> Result<(), ConnectionEnd> {
    connection.send(message).map_err(|end| match end {
        ConnectionEnd::Failed(error) => match connection.receive(Some(Instant::now() + Duration::from_secs(1))) {
            Err(ConnectionEnd::Closed(frame)) => ConnectionEnd::Closed(frame),
            _ => ConnectionEnd::Failed(error),
        },
        end => end,
    })
}

/// The answers that are wanted, and how many have come.
struct Answers {
    /// How many messages before them are still left out.
    skip: u64,
    wanted: u64,
    printed: u64,
}

impl Answers {
    /// Prints answers until all are there, or the connection or the wait for one has ended.
    fn print(
        &mut self,
        connection: &mut ServerConnection,
        wait: Duration,
        output: &mut MessageOutput,
    ) -> Result<Result<(), Failure>, ConnectionEnd> {
        if wait.is_zero() {
            return Err(ConnectionEnd::WaitEnded);
        }
        while self.printed < self.wanted {
            let received = connection.receive(Some(Instant::now() + wait))?;
            if self.skip > 0 {
                self.skip -= 1;
                continue;
            }
            if let Err(error) = output.message(&received) {
                return Ok(output_failed(&error));
            }
            self.printed += 1;
        }
        Ok(Ok(()))
    }
}

impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.printed {
            0 => f.write_str("no answer"),
            printed => write!(f, "{printed} of {} answers", self.wanted),
        }
    }
}

/// The message from the argument or from standard input.
fn message(data: Option<OsString>, binary: bool) -> Result<Message, Failure> {
    let bytes = message_input::read(Source::of(data), binary, MESSAGE_MAX)?;
    Ok(match binary {
        true => Message::binary(bytes),
        false => Message::text(String::from_utf8(bytes).expect("text was checked")),
    })
}
