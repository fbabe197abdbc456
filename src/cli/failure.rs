//! How a command ends badly: what it says, and its exit code.

use std::io::{self, Write};

use super::dial::CallError;
use super::exit;
use crate::display::cause;

/// The last words of a command.
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

/// A failure to write to standard output; a closed pipe is a normal end and none.
pub(super) fn output_failed(error: &io::Error) -> Result<(), Failure> {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => {
            let text = format!("failed to write to standard output: {}", cause(error));
            Err(Failure { text, exit_code: exit::IO })
        }
    }
}

/// A line on standard error, which may be closed.
pub(super) fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
