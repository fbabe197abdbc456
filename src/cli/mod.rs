//! The command line: what can be asked for, and what the exit code says about how it went.

pub mod check;
mod dial;
mod exit;
pub mod import;
mod listen;
mod logging;
mod send;
mod serve;
mod stop;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

use crate::display;
use dial::CallError;

/// A WebSocket gateway in one binary: it accepts clients by path and relays what they send.
#[derive(Parser)]
#[command(name = "wsgate", version, arg_required_else_help = true, max_term_width = 100, after_help = AFTER_HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Examples:
  wsgate serve                                   the defaults: 127.0.0.1:8080, '/' broadcasts
  wsgate serve --config /etc/wsgate.toml
  wsgate check --config /etc/wsgate.toml
  wsgate listen ws://127.0.0.1:8080/             print what arrives, until Ctrl-C
  wsgate send ws://127.0.0.1:8080/ 'hello'       send one message, print the answer
  wsgate import flows.json -o wsgate.toml        take over from Node-RED or n8n

Exit codes (after sysexits.h):
  0 all went well, also Ctrl-C and a closed pipe   64 wrong usage or URL   65 wrong data
  66 unreadable file   68 unknown host   69 server unavailable (refused, TLS, HTTP error), address in use
  70 a defect of wsgate   71 the system denies a thread or a descriptor
  74 input or output failed, connection lost   75 try again later   76 protocol error
  77 not permitted (an address, 401, 403, 407, close code 1008)   78 wrong or unreadable configuration
  129, 130, 143 a second signal to stop: HUP, INT, TERM

'wsgate help COMMAND' has more on each command.";

#[derive(Subcommand)]
enum Command {
    /// Run the gateway until it is told to stop (SIGINT or SIGTERM)
    #[command(after_help = SERVE_HELP)]
    Serve(ConfigArguments),
    /// Read a config file and report every mistake in it, without starting anything
    #[command(after_help = CHECK_HELP)]
    Check(ConfigArguments),
    /// Connect, send one message, print the answer
    #[command(after_help = send::AFTER_HELP)]
    Send(send::SendArguments),
    /// Connect and print every message until Ctrl-C, one JSON object a line
    #[command(after_help = listen::AFTER_HELP)]
    Listen(listen::ListenArguments),
    /// Translate the WebSocket part of Node-RED flows or n8n workflows into a config file
    #[command(after_help = import::AFTER_HELP)]
    Import(import::ImportArguments),
}

const SERVE_HELP: &str = "\
Examples:
  wsgate serve
  wsgate serve --config /etc/wsgate.toml

Without '--config' it listens on 127.0.0.1:8080 and '/' broadcasts to all of its clients.
The first SIGINT or SIGTERM closes every client in good order, a second one ends at once.
SIGHUP does the same when its terminal was closed, and changes nothing otherwise.";

const CHECK_HELP: &str = "\
Examples:
  wsgate check --config /etc/wsgate.toml && systemctl restart wsgate

It exits with 0 if the file is good and with 78 if it is not.";

#[derive(Args)]
struct ConfigArguments {
    /// The config file (TOML); without it the built-in defaults count
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs the command that the arguments ask for; the first argument is the name of the program.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let command = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments.command,
        Err(error) => {
            // Nobody may be there to read it; that changes nothing about what was asked.
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
                _ => ExitCode::from(exit::USAGE),
            };
        }
    };
    let result = match command {
        Command::Serve(arguments) => return serve::run(arguments.config.as_deref()),
        Command::Check(arguments) => return check::run(arguments.config.as_deref()),
        Command::Send(arguments) => send::run(arguments),
        Command::Listen(arguments) => listen::run(arguments),
        Command::Import(arguments) => import::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tell(&format!("error: {}", failure.text));
            ExitCode::from(failure.exit_code)
        }
    }
}

/// The last words of a command.
#[derive(Debug)]
struct Failure {
    text: String,
    exit_code: u8,
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Failure {
        Failure { text: error.to_string(), exit_code: error.exit_code() }
    }
}

/// A failure to write to standard output; a closed pipe is a normal end and none.
fn output_failed(error: &io::Error) -> Result<(), Failure> {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => {
            let text = format!("failed to write to standard output: {}", display::cause(error));
            Err(Failure { text, exit_code: exit::IO })
        }
    }
}

/// A line on standard error, which may be closed.
fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// The longest duration that an option takes: far above what makes sense, far below what a clock can hold.
const DURATION_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A duration with its unit: `500ms`, `2s`, `1.5s`, `5m`; `0` needs none.
fn duration(text: &str) -> Result<Duration, String> {
    let number_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(number_end);
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "" if number == "0" => 1.0,
        "" => return Err("the unit is missing (write '500ms', '2s' or '5m')".into()),
        _ => return Err("this is not a duration (write '500ms', '2s' or '5m')".into()),
    };
    let number: f64 = number.parse().map_err(|_| "this is not a duration (write '500ms', '2s' or '5m')")?;
    Duration::try_from_secs_f64(number * seconds)
        .ok()
        .filter(|duration| *duration <= DURATION_MAX)
        .ok_or_else(|| "this is longer than 24 hours".into())
}

/// A duration in which something can happen.
fn timeout(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("nothing can be done in no time (write '10s')".into()),
        duration => Ok(duration),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_tree_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_duration_needs_a_unit_and_has_a_limit() {
        for (text, millis) in
            [("0", 0), ("0s", 0), ("500ms", 500), ("1.5s", 1500), ("2m", 120_000), ("24h", 86_400_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "s", "-1s", "1 s", "1d", "25h", "1e9s", "1..5s"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert!(timeout("0").is_err());
    }
}
