//! Writes lines where they may not be taken: what is missing is counted, and said where it is missing.

use std::io::{self, Write};

use rustix::event::{PollFd, PollFlags, poll};

use crate::log_loss;

/// Writes lines where they may not be taken.
#[derive(Debug)]
pub(super) struct Writer<W> {
    pub(super) to: W,
    /// Lines that were not written, and of which nothing has been said yet.
    missing: u64,
    /// Whether the last line that was written lacks its end.
    is_torn: bool,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(to: W) -> Writer<W> {
        Writer { to, missing: 0, is_torn: false }
    }

    /// Writes these lines, behind which some were dropped. A failure loses lines and is no reason to stop: a
    /// full disk has room again some day. What is missing is said where it is missing, by the line that `gap` makes of
    /// the number, once that can be written.
    pub(super) fn write(&mut self, lines: &[u8], dropped: u64, gap: impl Fn(u64) -> Vec<u8>) {
        // Whether they are taken again is only known by trying, and what is said of a gap stands in it.
        self.report_gap(&gap);
        let missing = self.put(lines);
        log_loss::count_not_accepted(missing);
        self.missing += missing + dropped;
        self.report_gap(&gap);
    }

    fn report_gap(&mut self, gap: impl Fn(u64) -> Vec<u8>) {
        if self.missing == 0 {
            return;
        }
        if self.put(&gap(self.missing)) == 0 {
            self.missing = 0;
        }
    }

    /// Writes as many of these lines as are taken, and returns how many were not.
    fn put(&mut self, lines: &[u8]) -> u64 {
        if self.is_torn && self.to.write(b"\n").is_ok_and(|count| count == 1) {
            self.is_torn = false;
        }
        let mut rest = lines;
        while !rest.is_empty() && !self.is_torn {
            match self.to.write(rest) {
                Ok(count @ 1..) => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => break,
            }
        }
        let written = &lines[..lines.len() - rest.len()];
        self.is_torn |= written.last().is_some_and(|last| *last != b'\n');
        rest.iter().filter(|byte| **byte == b'\n').count() as u64
    }
}

/// Standard error. It may be a descriptor that does not block, as others share it with us: then we
/// wait ourselves until it takes more.
#[derive(Debug)]
pub(super) struct StandardError;

impl Write for StandardError {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match io::stderr().write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    poll(&mut [PollFd::new(&io::stderr(), PollFlags::OUT)], None)?;
                }
                result => return result,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
