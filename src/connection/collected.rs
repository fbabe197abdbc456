//! A message that is collected as it comes: its memory grows with what has come, not with what its header announces.

use std::io;

use bytes::Bytes;

use super::frame::mask;
use super::header::Header;
use crate::message::Kind;
use crate::system::large;

/// What is reserved when only the header has come, in bytes, at most.
const RESERVED: usize = 64 << 10;

/// By how much that grows at a time, in bytes, until a quarter of it is more: a block of this size has a mapping of its
/// own, which grows without a copy.
const PIECE: usize = 128 << 10;

/// See the module's documentation.
#[derive(Debug)]
pub struct Collected {
    kind: Kind,
    /// The masking key for the byte that comes next.
    key: Option<[u8; 4]>,
    left: usize,
    data: Vec<u8>,
    /// How many bytes of a text are known to be UTF-8, up to the end of a character.
    checked: usize,
}

impl Collected {
    /// The message that this header begins; it is the only frame of it.
    pub fn begin(header: &Header) -> Collected {
        let left = header.payload as usize;
        Collected {
            kind: header.kind(),
            key: header.key,
            left,
            data: Vec::with_capacity(left.min(RESERVED)),
            checked: 0,
        }
    }

    /// Takes what `input` has of it, unmasked; says how many bytes that were.
    pub fn take(&mut self, input: &[u8]) -> usize {
        let count = self.left.min(input.len());
        self.reserve(count);
        self.data.extend_from_slice(&input[..count]);
        self.taken(count);
        count
    }

    /// As [`take`](Collected::take), from a call that appends what it gets to a buffer as far as the capacity goes.
    pub fn take_from(&mut self, receive: impl FnOnce(&mut Vec<u8>) -> io::Result<usize>) -> io::Result<usize> {
        self.reserve(self.left.min(RESERVED));
        debug_assert!(self.data.capacity() - self.data.len() <= self.left);
        let count = receive(&mut self.data)?;
        self.taken(count);
        Ok(count)
    }

    /// Makes room for `count` bytes, but never for more than there will be. What is received at once is bounded with it:
    /// a piece is worked off before others have their turn.
    fn reserve(&mut self, count: usize) {
        let (start, capacity) = (self.data.len(), self.data.capacity());
        if capacity < start + count {
            let room = (capacity + PIECE.min(capacity).max(capacity / 4)).clamp(start + count, start + self.left);
            self.data.reserve_exact(room - start);
        }
    }

    /// Unmasks the last `count` bytes and counts them.
    fn taken(&mut self, count: usize) {
        if let Some(key) = &mut self.key {
            let start = self.data.len() - count;
            mask(&mut self.data[start..], *key);
            key.rotate_left(count % 4);
        }
        self.left -= count;
    }

    /// Whether what has come since the last call is wrong: text must be UTF-8 (RFC 6455 section 8.1).
    ///
    /// A long text is checked as it comes. At its end, in one go, this took a millisecond a MiB, in which nobody else ran,
    /// and a wrong one was read to its end.
    pub fn is_wrong(&mut self) -> bool {
        if self.kind != Kind::Text {
            return false;
        }
        match simdutf8::compat::from_utf8(&self.data[self.checked..]) {
            Ok(text) => self.checked += text.len(),
            // A character of which a part has come is not wrong while there is more to come.
            Err(error) if error.error_len().is_some() || self.is_complete() => return true,
            Err(error) => self.checked += error.valid_up_to(),
        }
        false
    }

    /// How many bytes are here.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// How many bytes are still to come.
    pub fn left(&self) -> usize {
        self.left
    }

    /// Whether all of it has come.
    pub fn is_complete(&self) -> bool {
        self.left == 0
    }

    /// Whether there is no room left until it grows.
    pub fn is_full(&self) -> bool {
        self.data.len() == self.data.capacity()
    }

    /// Its kind and its payload.
    pub fn end(mut self) -> (Kind, Bytes) {
        (self.kind, large::returning(std::mem::take(&mut self.data).into()))
    }
}

impl Drop for Collected {
    /// What has come of a message that does not end goes back to the system too.
    fn drop(&mut self) {
        large::free(std::mem::take(&mut self.data));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c13_memory_grows_with_what_has_come() {
        let header = Header::parse(&[0x82, 127, 0, 0, 0, 0, 0x40, 0, 0, 0]).unwrap();
        let mut collected = Collected::begin(&header);
        let mut come = 0;
        for step in [1, 100, 16 << 10, 64 << 10, 256 << 10, 256 << 10] {
            come += collected.take(&vec![7; step]);
            assert!(collected.data.capacity() <= RESERVED.max(2 * come), "{come} have come");
        }
        assert!(!collected.is_complete());
    }

    #[test]
    fn it_is_unmasked_wherever_it_is_cut() {
        let payload: Vec<u8> = (0..200_000).map(|i| (i / 3) as u8).collect();
        let key = [1, 2, 3, 4];
        let mut masked = payload.clone();
        mask(&mut masked, key);
        for step in [1, 3, 4096, 70_001, 1 << 20] {
            let mut header = Header::parse(&[0x82, 127, 0, 0, 0, 0, 0, 3, 0x0D, 0x40]).unwrap();
            header.key = Some(key);
            let mut collected = Collected::begin(&header);
            masked.chunks(step).for_each(|piece| assert_eq!(collected.take(piece), piece.len()));
            assert!(collected.is_complete());
            assert_eq!(collected.data.capacity(), payload.len(), "in steps of {step}");
            assert_eq!(collected.end(), (Kind::Binary, payload.clone().into()));
        }
    }
}
