//! Standard input as messages, a line each, read as it comes.

use std::io;

use rustix::io::Errno;

use super::failure::tell;
use super::server_connection::MESSAGE_MAX;
use crate::display::cause;

/// How much is read at once.
const PIECE: usize = 64 << 10;

/// Standard input, and the line of it that is not whole yet.
pub(super) struct InputLines {
    line: Line,
    is_over: bool,
}

impl InputLines {
    pub(super) fn new() -> InputLines {
        InputLines { line: Line::default(), is_over: false }
    }

    /// Whether nothing more will come.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// The lines that are whole now. It waits only if nothing is there, so a caller has seen that there is something.
    pub(super) fn read(&mut self) -> Vec<String> {
        let mut piece = vec![0; PIECE];
        let mut texts = Vec::new();
        match rustix::io::read(io::stdin(), &mut piece) {
            Ok(0) => {
                self.is_over = true;
                texts.extend(self.line.last());
            }
            Ok(count) => self.line.feed(&piece[..count], &mut texts),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(error) => {
                self.is_over = true;
                tell(&format!("standard input cannot be read any more: {}", cause(&error.into())));
            }
        }
        texts
    }
}

/// The line that is not whole yet.
#[derive(Default)]
struct Line {
    /// At most [`MESSAGE_MAX`] bytes; what is behind them is dropped, and then the whole line.
    bytes: Vec<u8>,
    is_too_long: bool,
    /// How many lines were before it.
    number: u64,
}

impl Line {
    fn feed(&mut self, piece: &[u8], texts: &mut Vec<String>) {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            let (part, is_whole) = part.strip_suffix(b"\n").map_or((part, false), |part| (part, true));
            self.is_too_long |= self.bytes.len() + part.len() > MESSAGE_MAX;
            if !self.is_too_long {
                self.bytes.extend_from_slice(part);
            }
            if is_whole {
                texts.extend(self.take());
            }
        }
    }

    /// What is there behind the last line end.
    fn last(&mut self) -> Option<String> {
        if self.bytes.is_empty() { None } else { self.take() }
    }

    /// The line as a message. One that cannot be one is no reason to end: it is told and left out.
    fn take(&mut self) -> Option<String> {
        self.number += 1;
        let mut bytes = std::mem::take(&mut self.bytes);
        if std::mem::take(&mut self.is_too_long) {
            tell(&format!("line {} of standard input is not sent: it is over {MESSAGE_MAX} bytes", self.number));
            return None;
        }
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
        match String::from_utf8(bytes) {
            Ok(text) => Some(text),
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                tell(&format!("line {} of standard input is not sent: it is not UTF-8 at byte {at}", self.number));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b39_lines_come_whole_however_they_are_cut() {
        let mut line = Line::default();
        let mut texts = Vec::new();
        for piece in [&b"one\ntw"[..], b"", b"o\r", b"\n\n\xff\nthree \xc3", b"\xa9\nlast"] {
            line.feed(piece, &mut texts);
        }
        assert_eq!(texts, ["one", "two", "", "three é"]);
        assert_eq!((line.last().as_deref(), line.number), (Some("last"), 6));
        assert_eq!(line.last(), None);
    }

    #[test]
    fn b39_a_line_that_is_too_long_is_left_out_and_not_kept() {
        let mut line = Line::default();
        let mut texts = Vec::new();
        for _ in 0..MESSAGE_MAX / PIECE + 2 {
            line.feed(&vec![b'x'; PIECE], &mut texts);
        }
        assert!(line.bytes.len() <= MESSAGE_MAX);
        line.feed(b"\nshort\n", &mut texts);
        assert_eq!(texts, ["short"]);
    }
}
