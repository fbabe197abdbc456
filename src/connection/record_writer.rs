//! The TLS half of an outbox: seals what is queued, one record at a time, and keeps what the
//! kernel has not taken.
//!
//! What a sealed record holds stays counted in the queue until the kernel has all of it, and no
//! policy drops it: a stream of records cannot do without one.

use std::io;

use super::frame::Frame;
use super::queue::{Queue, Taken};
use super::tls::Session;

/// How much is encrypted ahead of the socket: one TLS record.
const SEAL_BYTES: usize = 16 << 10;

/// How much the session itself may have to say, such as answers to key updates, before its peer is not read any more.
const SESSION_BYTES: usize = 16 << 10;

/// The most frames in one record.
const SEAL_FRAMES: usize = 64;

/// A session and the one batch that is sealed but not yet with the kernel.
#[derive(Debug)]
pub struct RecordWriter {
    /// The session; the reader decrypts with it.
    pub session: Session,
    sealed: Sealed,
    said_goodbye: bool,
}

/// Ciphertext on its way to the kernel.
#[derive(Debug, Default)]
pub struct Sealed {
    bytes: Vec<u8>,
    written: usize,
    /// The frames inside, and how many of their bytes; nothing if the session itself speaks.
    holds: Option<(Taken, usize)>,
}

impl Sealed {
    /// What the kernel is still to get.
    pub fn left(&self) -> &[u8] {
        &self.bytes[self.written..]
    }
}

impl RecordWriter {
    /// A writer for a session whose handshake is done.
    pub fn new(session: Session) -> RecordWriter {
        RecordWriter { session, sealed: Sealed::default(), said_goodbye: false }
    }

    /// Whether something of the session's waits to be written.
    pub fn has_work(&self) -> bool {
        !self.sealed.bytes.is_empty() || self.session.outgoing() > 0
    }

    /// Whether the session has so much to say that more would be piled up.
    pub fn is_behind(&self) -> bool {
        self.session.outgoing() > SESSION_BYTES
    }

    /// What to write next: what is left of the last record, else the next batch, else what the
    /// session has to say; at the end of a closing connection that is its close_notify.
    ///
    /// # Errors
    /// The session seals nothing any more, so the connection cannot go on.
    pub fn load(&mut self, queue: &mut Queue, closing: bool) -> io::Result<Option<Sealed>> {
        if self.sealed.bytes.is_empty() {
            self.seal(queue, closing)?;
        }
        Ok((!self.sealed.bytes.is_empty()).then(|| std::mem::take(&mut self.sealed)))
    }

    /// Seals a frame that was counted but never queued. Only with no work of the session's
    /// waiting, and only a frame that [`fits_one`](RecordWriter::fits_one).
    ///
    /// # Errors
    /// As [`load`](RecordWriter::load).
    pub fn load_one(&mut self, frame: &Frame) -> io::Result<Sealed> {
        self.session.seal(frame.as_one().unwrap_or_default())?;
        let holds = Some((Taken { frames: vec![frame.clone()], offset: 0 }, frame.len()));
        Ok(Sealed { bytes: self.session.take_outgoing(), written: 0, holds })
    }

    /// Whether a frame is in one piece and goes into one record.
    pub fn fits_one(frame: &Frame) -> bool {
        frame.as_one().is_some_and(|bytes| bytes.len() <= SEAL_BYTES)
    }

    /// Accounts a load of which the kernel took `count` bytes; returns the messages and bytes done.
    pub fn settle(&mut self, queue: &mut Queue, mut sealed: Sealed, count: usize) -> (usize, usize) {
        sealed.written += count;
        if !sealed.left().is_empty() {
            self.sealed = sealed;
            return (0, 0);
        }
        sealed.holds.map_or((0, 0), |(taken, plain)| queue.settle(taken, plain))
    }

    /// Gives the frames of the last record back to the queue, for a connection that has ended: the peer
    /// cannot read a part of a record.
    pub fn give_back(&mut self, queue: &mut Queue) {
        if let Some((taken, _)) = std::mem::take(&mut self.sealed).holds {
            queue.settle(taken, 0);
        }
    }

    fn seal(&mut self, queue: &mut Queue, closing: bool) -> io::Result<()> {
        if let Some(taken) = queue.take(SEAL_FRAMES, SEAL_BYTES) {
            let size = taken.frames.iter().map(Frame::len).sum::<usize>() - taken.offset;
            let mut plain = Vec::with_capacity(size.min(SEAL_BYTES));
            let mut offset = taken.offset;
            for slice in taken.frames.iter().flat_map(|frame| frame.slices(std::mem::take(&mut offset))) {
                let room = SEAL_BYTES - plain.len();
                plain.extend_from_slice(&slice[..slice.len().min(room)]);
            }
            if let Err(error) = self.session.seal(&plain) {
                queue.settle(taken, 0);
                return Err(error);
            }
            self.sealed.holds = Some((taken, plain.len()));
        } else if closing && !self.said_goodbye {
            self.said_goodbye = true;
            self.session.say_goodbye();
        }
        self.sealed.bytes = self.session.take_outgoing();
        Ok(())
    }
}
