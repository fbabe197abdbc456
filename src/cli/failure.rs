//! How a command fails: its message and its exit code.

use std::io::{self, Write};

use super::call_error::CallError;
use super::exit;
use crate::display::{cause, for_terminal};

/// Why a command failed, and its exit code.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) text: String,
    pub(super) exit_code: u8,
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Failure {
        Failure { text: error.to_string(), exit_code: error.exit_code() }
    }
}

/// The failure to write to standard output. A closed pipe is a normal end and no failure.
pub(super) fn output_failed(error: &io::Error) -> Result<(), Failure> {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => {
            let text = format!("failed to write to standard output: {}", cause(error));
            Err(Failure { text, exit_code: exit::IO })
        }
    }
}

/// Writes one or more lines to standard error, which may be closed. Nothing in them moves a terminal, wherever their
/// parts come from.
pub(super) fn tell(lines: &str) {
    let _ = writeln!(io::stderr(), "{}", for_terminal(lines));
}
