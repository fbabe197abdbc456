//! `wsgate listen`: every message that arrives, as a line of JSON; and lines of standard input the other way.

use std::io;
use std::time::{Duration, Instant};

use clap::{ArgAction, Args};
use tungstenite::Message;

use super::call_error::{CallError, Closed};
use super::dial::Caller;
use super::dial_arguments::DialArguments;
use super::exit;
use super::failure::{Failure, output_failed, tell};
use super::input_lines::InputLines;
use super::message_output::{Event, MessageOutput, Shape};
use super::server_connection::{ConnectionEnd, Next, ServerConnection};
use super::stop::Stop;
use crate::dial::backoff;
use crate::dial::{CancelToken, WaitEnd};
use crate::display::{Seconds, cause};

pub(super) const AFTER_HELP: &str = "\
Examples:
  wsgate listen ws://127.0.0.1:8080/
  wsgate listen --reconnect wss://plc.local/out | jq .message.temperature
  wsgate listen --send '{\"op\":\"subscribe\",\"channel\":\"trades\"}' wss://api.example/ws
  wsgate listen --stdin ws://127.0.0.1:8080/     a chat: each line that you type is a message
  wsgate listen --raw --count 1 ws://127.0.0.1:8080/ > first
  wsgate listen --ca plant-ca.pem --header-file 'Authorization: token.txt' wss://plc.local/out

A text message is printed as {\"message\":M,\"data\":\"...\"}. 'data' is the text. 'message' is the text
as JSON, with its numbers digit for digit, or the text itself if it is not JSON. A binary message
is printed as {\"message\":{\"type\":\"Buffer\",\"data\":[1,2]},\"data\":\"AQI=\"}: its bytes as numbers, and
in base64. With '--raw', messages are printed unchanged; each text message gets a line end. At a
terminal, control characters are escaped.

With '--events', each line also has an 'event', as in the WebSocket client of n8n: {\"event\":\"open\"},
{\"event\":\"message\",...}, {\"event\":\"close\",\"code\":C,\"reason\":\"...\"} and {\"event\":\"error\",\"cause\":\"...\"}.
Standard error tells of each connection and each end in any case.

The end of standard input changes nothing: wsgate goes on listening. Lines that are written while
there is no connection wait for the next one; what a lost connection had not yet sent is lost.

The exit code is 0 after Ctrl-C or SIGTERM, after '--count' messages, when the server closes with
1000, 1001 or no code, and when the output is a pipe whose reader has ended.";

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
    /// Also print a line when a connection is open and when it has ended
    #[arg(long, conflicts_with = "raw")]
    events: bool,
    /// Send this text once connected, and again after each reconnect; repeat the option for more
    #[arg(long, value_name = "TEXT")]
    send: Vec<String>,
    /// Send each line of standard input as a text message
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Stop after this many messages
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Connect again after every failure and every close, without end, after growing waits (0.5 s to 60 s)
    #[arg(long)]
    reconnect: bool,
}

/// What lasts from one connection to the next.
struct Listener {
    caller: Caller,
    stop: Stop,
    /// Ends every wait once there is a signal to stop, or nobody to print for.
    cancel: CancelToken,
    output: MessageOutput,
    /// Sent at the beginning of each connection.
    greetings: Vec<String>,
    input: Option<InputLines>,
    /// How many more messages are wanted.
    left: Option<u64>,
}

/// Why a connection delivers no more.
enum Done {
    /// There is nothing more to do.
    Finished(Result<(), Failure>),
    /// The connection is over; another one may be tried.
    Ended(CallError),
}

/// Why messages are no longer exchanged.
enum Halt {
    /// All that was wanted is here, or a signal to stop.
    Finished,
    /// They cannot be printed.
    Output(io::Error),
    /// The connection is over.
    Connection(ConnectionEnd),
}

impl From<ConnectionEnd> for Halt {
    fn from(end: ConnectionEnd) -> Halt {
        match end {
            ConnectionEnd::WaitEnded => Halt::Finished,
            end => Halt::Connection(end),
        }
    }
}

/// Prints messages until told to stop.
pub(super) fn run(arguments: ListenArguments) -> Result<(), Failure> {
    let caller = Caller::new(arguments.dial)?;
    let stop = Stop::on_signal().map_err(|error| Failure {
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
    let mut listener = Listener {
        caller,
        cancel: stop.or_output_closed(),
        stop,
        output: MessageOutput::stdout(shape, arguments.events),
        greetings: arguments.send,
        input: arguments.stdin.then(InputLines::new),
        left: arguments.count,
    };
    let mut failures = 0;
    loop {
        let mut opened = None;
        let error = match listener.session(&mut opened) {
            Done::Finished(result) => return result,
            Done::Ended(error) => error,
        };
        if !arguments.reconnect {
            return match error {
                CallError::Closed { url, closed } if closed.is_normal() => {
                    tell(&format!("the connection to '{url}' has ended: closed by the server, {closed}"));
                    Ok(())
                }
                error => Err(error.into()),
            };
        }
        if opened.is_some_and(|at: Instant| at.elapsed() >= GOOD_AFTER) {
            failures = 0;
        }
        let wait = backoff::random_wait(BACK_OFF_FIRST, BACK_OFF_MAX, failures);
        failures += 1;
        tell(&format!("{error}; connecting again in {}", Seconds(wait)));
        match listener.cancel.sleep(wait) {
            WaitEnd::Deadline => {}
            WaitEnd::Cancelled => return Ok(()),
        }
    }
}

impl Listener {
    /// One connection from the dial to its end. `opened` is set once the handshake is done.
    fn session(&mut self, opened: &mut Option<Instant>) -> Done {
        let mut connection = match self.caller.call(&self.cancel) {
            Ok(connection) => connection,
            Err(CallError::Cancelled) => return Done::Finished(Ok(())),
            Err(error) => return self.broken(error, false),
        };
        *opened = Some(Instant::now());
        let chosen = connection.subprotocol().map_or_else(String::new, |name| format!(", the subprotocol is '{name}'"));
        tell(&format!("connected to '{}'{chosen}", self.caller.url()));
        match self.exchange(&mut connection) {
            Halt::Connection(ConnectionEnd::Closed(closed)) => {
                let told = self.output.event(&Event::Close { code: closed.code(), reason: closed.reason() });
                match told {
                    Ok(()) => Done::Ended(CallError::Closed { url: self.caller.url().into(), closed }),
                    Err(error) => Done::Finished(output_failed(&error)),
                }
            }
            Halt::Connection(ConnectionEnd::Failed(error)) => self.broken(error, true),
            Halt::Finished | Halt::Connection(ConnectionEnd::WaitEnded) => {
                self.close(connection);
                Done::Finished(Ok(()))
            }
            Halt::Output(error) => {
                self.close(connection);
                Done::Finished(output_failed(&error))
            }
        }
    }

    /// Sends what is to be sent and prints what arrives, both at the same time.
    fn exchange(&mut self, connection: &mut ServerConnection) -> Halt {
        let opened = self.output.event(&Event::Open { subprotocol: connection.subprotocol() });
        let result = opened.map_err(Halt::Output).and_then(|()| {
            for text in &self.greetings {
                connection.queue(Message::text(text.as_str()))?;
            }
            // A server that never pauses never makes us wait, and only a wait notices a signal by itself.
            while !self.stop.is_set() {
                self.step(connection)?;
            }
            Ok(())
        });
        result.err().unwrap_or(Halt::Finished)
    }

    /// One message, or some lines of the input.
    fn step(&mut self, connection: &mut ServerConnection) -> Result<(), Halt> {
        let stdin = io::stdin();
        let input = self.input.as_mut().filter(|input| !input.is_over());
        match connection.next(input.is_some().then_some(&stdin as _))? {
            Next::Input => {
                for text in input.map(InputLines::read).into_iter().flatten() {
                    connection.queue(Message::text(text))?;
                }
            }
            Next::Message(received) => {
                self.output.message(&received).map_err(Halt::Output)?;
                if let Some(left) = &mut self.left {
                    *left -= 1;
                    if *left == 0 {
                        return Err(Halt::Finished);
                    }
                }
            }
        }
        Ok(())
    }

    /// Closes in good order, and tells how that went.
    fn close(&mut self, connection: ServerConnection) {
        let answer = connection.close();
        let code = answer.as_ref().map_or(1006, Closed::code);
        let reason = answer.as_ref().map_or("", Closed::reason);
        // Nobody may be left to read it.
        let _ = self.output.event(&Event::Close { code, reason });
        let how = match &answer {
            None => "closed, the server did not answer the Close".to_owned(),
            Some(answer) if answer.code() == 1000 => format!("closed, {answer}"),
            Some(answer) => format!("closed, the server answered {answer}"),
        };
        tell(&format!("the connection to '{}' has ended: {how}", self.caller.url()));
    }

    /// A connection that was not opened, or broke without a Close of the server.
    fn broken(&mut self, error: CallError, was_open: bool) -> Done {
        let text = error.to_string();
        let mut told = self.output.event(&Event::Error { cause: &text });
        if was_open {
            told = told.and_then(|()| self.output.event(&Event::Close { code: 1006, reason: "" }));
        }
        match told {
            Ok(()) => Done::Ended(error),
            Err(error) => Done::Finished(output_failed(&error)),
        }
    }
}
