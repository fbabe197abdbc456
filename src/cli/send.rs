//! `wsgate send`: one message out, the answer in.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::time::{Duration, Instant};

use clap::Args;
use tungstenite::Message;

use super::dial::{CallError, Caller, Closed, ConnectionEnd, MESSAGE_MAX, ReceivedMessage};
use super::dial_arguments::DialArguments;
use super::duration::duration;
use super::exit;
use super::failure::{Failure, output_failed, tell};
use crate::dial::CancelToken;
use crate::display::{Seconds, cause};

pub(super) const AFTER_HELP: &str = "\
Examples:
  wsgate send ws://127.0.0.1:8080/ 'hello'
  echo '{\"on\":true}' | wsgate send ws://plc.local/in
  wsgate send --binary wss://plc.local/in - < firmware.bin
  wsgate send --wait 0 ws://127.0.0.1:8080/ -- '-5 degrees'
  wsgate send -H 'Authorization: Bearer TOKEN' wss://api.example/ws '{\"op\":\"state\"}'

The answer is the first message that arrives, even if another client caused it. It is printed to
standard output unchanged; a text gets a line end. If no answer arrives, a line on standard error
says what was sent, and the exit code is 0. If text from standard input ends with a line end, that
line end is not sent; with '--binary' every byte is sent.";

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
    /// How long to wait for an answer; with 0, wsgate does not wait
    #[arg(short, long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    wait: Duration,
}

/// Sends one message and prints the answer, if one comes in time.
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
    match connection.send(message) {
        Ok(()) => {}
        // Without a cancel token and a deadline nothing but the connection can end a write.
        Err(ConnectionEnd::WaitEnded) => return Err(CallError::Cancelled.into()),
        Err(ConnectionEnd::Closed(frame)) => return Err(closed(frame).into()),
        // A server that refuses us often says why in a Close before it resets the connection.
        Err(ConnectionEnd::Failed(error)) => {
            return Err(match connection.receive(Some(Instant::now() + Duration::from_secs(1))) {
                Err(ConnectionEnd::Closed(frame)) => closed(frame).into(),
                _ => error.into(),
            });
        }
    }

    let answer = if arguments.wait.is_zero() {
        Err(ConnectionEnd::WaitEnded)
    } else {
        connection.receive(Some(Instant::now() + arguments.wait))
    };
    let outcome = match answer {
        Ok(answer) => print(&answer).or_else(|error| output_failed(&error)),
        Err(ConnectionEnd::WaitEnded) if arguments.wait.is_zero() => {
            tell(&sent);
            Ok(())
        }
        Err(ConnectionEnd::WaitEnded) => {
            tell(&format!("{sent}; no answer within {}", Seconds(arguments.wait)));
            Ok(())
        }
        Err(ConnectionEnd::Closed(frame)) if frame.is_normal() => {
            tell(&format!("{sent}; closed by the server without an answer ({frame})"));
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

/// The message from the argument or from standard input.
fn message(data: Option<OsString>, binary: bool) -> Result<Message, Failure> {
    let wrong = |text: &str| Failure { text: text.into(), exit_code: exit::DATA };
    let (mut bytes, from_stdin) = match data.filter(|data| data != "-") {
        Some(data) => (data.into_vec(), false),
        None => (read_stdin()?, true),
    };
    if bytes.len() > MESSAGE_MAX {
        return Err(wrong(&format!("failed to send the message: it is over the limit of {MESSAGE_MAX} bytes")));
    }
    if binary {
        return Ok(Message::binary(bytes));
    }
    if from_stdin && bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        wrong(&format!("failed to send the message as text: it is not UTF-8 at byte {at} (use '--binary')"))
    })?;
    Ok(Message::text(text))
}

fn read_stdin() -> Result<Vec<u8>, Failure> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        tell("reading the message from the terminal: end it with Ctrl-D");
    }
    let mut bytes = Vec::new();
    // One byte more than allowed is enough to know that it is too much.
    stdin.lock().take(MESSAGE_MAX as u64 + 1).read_to_end(&mut bytes).map_err(|error| Failure {
        text: format!("failed to read standard input: {}", cause(&error)),
        exit_code: exit::IO,
    })?;
    Ok(bytes)
}

fn print(answer: &ReceivedMessage) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    answer.write_raw(&mut stdout)?;
    stdout.flush()
}
