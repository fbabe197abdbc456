//! The command line: what can be asked for, and what the exit code says about how it went.

mod call_error;
pub mod check;
mod dial;
mod dial_arguments;
mod duration;
mod exit;
mod failure;
mod generate;
pub mod import;
mod input_lines;
mod listen;
mod message_input;
mod message_output;
mod operate;
mod send;
mod serve;
mod server_connection;
mod stop;
mod store;
mod supervisor;
mod token;
mod version;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};

use failure::tell;

/// A WebSocket gateway in one binary: it accepts clients by path and sends on what they send.
#[derive(Parser)]
#[command(name = "wsgate", version, long_version = version::long(), after_help = AFTER_HELP)]
#[command(arg_required_else_help = true, max_term_width = 100)]
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
  wsgate clients                                 list the clients of the wsgate that runs here
  wsgate import flows.json -o wsgate.toml        translate Node-RED flows or n8n workflows
  wsgate store readings -c wsgate.toml tail      print the last messages of a store
  wsgate token new press-3 2>>tokens.txt         print a new token, add its line to a file

Exit codes (after sysexits.h):
  0 success, also after Ctrl-C or a closed pipe   64 wrong usage or URL   65 wrong data
  66 unreadable file   68 unknown host   69 server unavailable (refused, TLS, HTTP error), address in use
  70 a defect of wsgate   71 the system refuses a thread or a descriptor
  74 input or output failed, connection lost   75 try again later   76 protocol error
  77 not permitted (an address, 401, 403, 407, close code 1008)   78 wrong or unreadable configuration
  129, 130, 143 a second signal to stop: HUP, INT, TERM

'wsgate help COMMAND' explains each command.";

#[derive(Subcommand)]
enum Command {
    /// Run the gateway until SIGINT or SIGTERM stops it
    #[command(after_help = SERVE_HELP)]
    Serve(ConfigArguments),
    /// Read a config file and report every mistake in it, without starting anything
    #[command(after_help = CHECK_HELP)]
    Check(ConfigArguments),
    /// Connect, send one message, print the answer or several
    #[command(after_help = send::AFTER_HELP)]
    Send(send::SendArguments),
    /// Connect and print every message until Ctrl-C, one JSON object per line; send lines too
    #[command(after_help = listen::AFTER_HELP)]
    Listen(listen::ListenArguments),
    #[command(flatten)]
    Operate(operate::OperateCommand),
    /// Translate the WebSocket part of Node-RED flows or n8n workflows into a config file
    #[command(after_help = import::AFTER_HELP)]
    Import(import::ImportArguments),
    /// Make a token for a client, or the line of one for the file of an auth table
    #[command(after_help = token::AFTER_HELP)]
    Token(token::TokenArguments),
    /// Look at a store: what it holds, its messages, its health; copy it, remove messages
    #[command(after_help = store::AFTER_HELP)]
    Store(store::StoreArguments),
    /// Write the man pages and the completions for bash, zsh and fish, for a package
    #[command(hide = true)]
    Generate(generate::GenerateArguments),
}

const SERVE_HELP: &str = "\
Examples:
  wsgate serve
  wsgate serve --config /etc/wsgate.toml

Without '--config', wsgate listens on 127.0.0.1:8080 and '/' broadcasts to all of its clients.
The first SIGINT or SIGTERM closes every client properly; a second one ends wsgate at once.
SIGHUP stops wsgate if its terminal was closed; otherwise it has wsgate read certificates, keys and other files again.";

const CHECK_HELP: &str = "\
Examples:
  wsgate check --config /etc/wsgate.toml && systemctl restart wsgate

The exit code is 0 if the file is valid, also with warnings, and 78 if it is not.";

#[derive(Args)]
struct ConfigArguments {
    /// The config file (TOML); without it, the built-in defaults apply
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The same, without '--config'
    #[arg(value_name = "FILE", conflicts_with = "config")]
    file: Option<PathBuf>,
}

impl ConfigArguments {
    fn file(&self) -> Option<&Path> {
        self.config.as_deref().or(self.file.as_deref())
    }
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
        Command::Serve(arguments) => return serve::run(arguments.file()),
        Command::Check(arguments) => return check::run(arguments.file()),
        Command::Send(arguments) => send::run(arguments),
        Command::Listen(arguments) => listen::run(arguments),
        Command::Operate(command) => operate::run(command),
        Command::Import(arguments) => import::run(&arguments),
        Command::Token(arguments) => token::run(arguments),
        Command::Store(arguments) => store::run(&arguments),
        Command::Generate(arguments) => generate::run(&arguments, &Arguments::command()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tell(&format!("error: {}", failure.text));
            ExitCode::from(failure.exit_code)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_tree_is_consistent() {
        Arguments::command().debug_assert();
    }
}
