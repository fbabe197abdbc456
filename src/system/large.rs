//! Large buffers that go back to the system when they are dropped.
//!
//! glibc gives a block of 128 KiB or more a mapping of its own, but the first such block that is
//! freed raises that threshold to its own size (`mallopt(3)`, "M_MMAP_THRESHOLD"). From then on
//! blocks of that size come from the heaps, of which each core has eight and each keeps a block
//! or two: measured, 21 KiB more for each of 1,000 clients that had sent one message of 1 MiB.
//! And each heap keeps twice as much as the threshold is free at its end (M_TRIM_THRESHOLD).
//! A block that is shrunk before it is freed raises nothing.

use bytes::{Bytes, BytesMut};

/// glibc's threshold as it is at the start: smaller blocks are of no concern.
const OWN_MAPPING: usize = 128 << 10;

/// The same bytes, in a buffer that goes back to the system. Bytes that are small or shared stay as they are.
pub fn returning(bytes: Bytes) -> Bytes {
    if bytes.len() < OWN_MAPPING {
        return bytes;
    }
    match bytes.try_into_mut() {
        Ok(unique) => Bytes::from_owner(Returning(unique)),
        Err(shared) => shared,
    }
}

struct Returning(BytesMut);

impl AsRef<[u8]> for Returning {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Returning {
    fn drop(&mut self) {
        let mut buffer = std::mem::take(&mut self.0);
        // Cleared, the conversion copies nothing.
        buffer.clear();
        free(buffer.into());
    }
}

/// Frees a buffer so that its memory, if that is a mapping of its own, goes back to the system.
pub fn free(mut buffer: Vec<u8>) {
    buffer.clear();
    buffer.shrink_to(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_stay_the_same_and_can_be_shared() {
        for size in [0, 1, OWN_MAPPING - 1, OWN_MAPPING, 3 << 20] {
            let content: Vec<u8> = (0..size).map(|i| (i / 7) as u8).collect();
            let bytes = returning(content.clone().into());
            let slice = bytes.slice(size / 2..);
            assert_eq!(bytes, content, "{size}");
            drop(bytes);
            assert_eq!(slice, content[size / 2..], "{size}");
        }
        let bytes = Bytes::from(vec![1; OWN_MAPPING]);
        let other = bytes.clone();
        assert_eq!(returning(bytes), other);
    }
}
