//! How answers are printed: as tables and sentences at a terminal, as JSON to a file or a pipe.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

use crate::cli::failure::{Failure, output_failed};
use crate::cli::message_output::json_for_terminal;
use crate::display::for_terminal;

/// Standard output.
pub(super) struct Output {
    out: BufWriter<Stdout>,
    is_terminal: bool,
    is_json: bool,
}

impl Output {
    /// Standard output; with JSON also at a terminal if that is `wanted`.
    pub(super) fn new(wanted: bool) -> Output {
        let is_terminal = io::stdout().is_terminal();
        Output { out: BufWriter::new(io::stdout()), is_terminal, is_json: wanted || !is_terminal }
    }

    /// Whether answers are printed as JSON.
    pub(super) fn is_json(&self) -> bool {
        self.is_json
    }

    /// Prints a line of JSON.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn json(&mut self, line: &[u8]) -> io::Result<()> {
        match self.is_terminal {
            true => writeln!(self.out, "{}", json_for_terminal(&String::from_utf8_lossy(line))),
            false => self.out.write_all(line).and_then(|()| self.out.write_all(b"\n")),
        }
    }

    /// Prints lines for people. Nothing in them moves a terminal.
    ///
    /// # Errors
    /// They cannot be written.
    pub(super) fn text(&mut self, lines: &str) -> io::Result<()> {
        writeln!(self.out, "{}", for_terminal(lines.trim_end_matches('\n')))
    }

    /// What was printed is out, so that the reader of a pipe has it.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Prints an answer, in one of the two forms, and nothing else.
    ///
    /// # Errors
    /// It cannot be written. A closed pipe is a normal end.
    pub(super) fn answer(
        &mut self,
        json: &[u8],
        text: impl FnOnce() -> Result<String, Failure>,
    ) -> Result<(), Failure> {
        let written = match self.is_json {
            true => self.json(json),
            false => self.text(&text()?),
        };
        written.and_then(|()| self.flush()).or_else(|error| output_failed(&error))
    }
}
