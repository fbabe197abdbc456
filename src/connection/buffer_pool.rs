//! Large read buffers, lent to client threads while much is arriving; no client keeps one.

use crate::sync::Mutex;
use std::ops::{Deref, DerefMut};

use crate::system::large;

/// The size of a scratch buffer in bytes.
const SIZE: usize = 256 << 10;

/// The most buffers that are kept for the next borrower; more are freed when they come back.
const KEPT: usize = 8;

/// The buffers that nobody has borrowed.
#[derive(Debug, Default)]
pub struct BufferPool {
    free: Mutex<Vec<Vec<u8>>>,
}

/// A borrowed buffer; dropping it gives it back.
#[derive(Debug)]
pub struct PooledBuffer<'a> {
    pool: &'a BufferPool,
    buffer: Vec<u8>,
}

impl BufferPool {
    /// Lends a buffer; its content is arbitrary.
    pub fn borrow(&self) -> PooledBuffer<'_> {
        let free = self.free.lock().pop();
        PooledBuffer { pool: self, buffer: free.unwrap_or_else(|| vec![0; SIZE]) }
    }
}

impl Deref for PooledBuffer<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer
    }
}

impl DerefMut for PooledBuffer<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.buffer
    }
}

impl Drop for PooledBuffer<'_> {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        let mut free = self.pool.free.lock();
        if free.len() < KEPT {
            free.push(buffer);
        } else {
            drop(free);
            large::free(buffer);
        }
    }
}
