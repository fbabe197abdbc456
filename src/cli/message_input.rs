//! The message of a command: its argument, a file, or standard input.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::exit;
use super::failure::{Failure, tell};
use crate::display::{cause, printable};

/// How much of the name of a file is shown.
const SHOWN_MAX: usize = 500;

/// Where a message comes from.
pub(super) enum Source {
    /// The argument itself.
    Argument(OsString),
    File(PathBuf),
    Stdin,
}

impl Source {
    /// An argument; `-`, and no argument, are standard input.
    pub(super) fn of(argument: Option<OsString>) -> Source {
        argument.filter(|argument| argument != "-").map_or(Source::Stdin, Source::Argument)
    }
}

/// Reads a message of at most `max` bytes. Text is UTF-8, and loses the line end at the end of a file.
///
/// # Errors
/// It cannot be read, is too long, or is no text.
pub(super) fn read(source: Source, binary: bool, max: usize) -> Result<Vec<u8>, Failure> {
    let wrong = |text: &str| Failure { text: format!("failed to send the message{text}"), exit_code: exit::DATA };
    let (mut bytes, is_file) = match source {
        Source::Argument(data) => (data.into_vec(), false),
        Source::File(path) => (read_file(&path, max)?, true),
        Source::Stdin => (read_stdin(max)?, true),
    };
    if bytes.len() > max {
        return Err(wrong(&format!(": it is over the limit of {max} bytes")));
    }
    if binary {
        return Ok(bytes);
    }
    if is_file && bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    match simdutf8::compat::from_utf8(&bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => {
            let at = error.valid_up_to();
            Err(wrong(&format!(" as text: it is not UTF-8 at byte {at} (use '--binary')")))
        }
    }
}

fn read_file(path: &PathBuf, max: usize) -> Result<Vec<u8>, Failure> {
    File::open(path).and_then(|file| all_of(file, max)).map_err(|error| {
        let shown = printable(&path.display().to_string(), SHOWN_MAX);
        let text = format!("failed to read the message from '{shown}': {}", cause(&error));
        Failure { text, exit_code: exit::NO_INPUT }
    })
}

fn read_stdin(max: usize) -> Result<Vec<u8>, Failure> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        tell("reading the message from the terminal: end it with Ctrl-D");
    }
    all_of(stdin.lock(), max).map_err(|error| Failure {
        text: format!("failed to read standard input: {}", cause(&error)),
        exit_code: exit::IO,
    })
}

/// All of it, or one byte more than allowed, which is enough to know that it is too much.
fn all_of(input: impl Read, max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(max as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
