//! Read buffers, lent to client threads while much is arriving; no client keeps one.
//!
//! A thread that is held while it works off what it has read keeps its buffer. So only some of them are large, and the
//! memory of many held clients is bounded by the size of a small one each.

use std::ops::{Deref, DerefMut};

use crate::sync::Mutex;
use crate::system::large;

/// The size of a large buffer in bytes.
const LARGE: usize = 256 << 10;

/// So many large buffers are lent at once; the next borrower gets a small one.
const LENT: usize = 32;

/// The size of a small buffer in bytes.
const SMALL: usize = 16 << 10;

/// The most large buffers that are kept for the next borrower; more are freed when they come back.
const KEPT: usize = 8;

/// The large buffers that nobody has borrowed, and how many somebody has.
#[derive(Debug, Default)]
pub struct BufferPool {
    state: Mutex<Pooled>,
}

#[derive(Debug, Default)]
struct Pooled {
    free: Vec<Vec<u8>>,
    lent: usize,
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
        let mut state = self.state.lock();
        let size = if state.lent < LENT { LARGE } else { SMALL };
        let mut free = None;
        if size == LARGE {
            state.lent += 1;
            free = state.free.pop();
        }
        drop(state);
        PooledBuffer { pool: self, buffer: free.unwrap_or_else(|| vec![0; size]) }
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
        if buffer.len() < LARGE {
            return;
        }
        let mut state = self.pool.state.lock();
        state.lent -= 1;
        if state.free.len() < KEPT {
            state.free.push(buffer);
        } else {
            drop(state);
            large::free(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c9_only_some_buffers_are_large() {
        let pool = BufferPool::default();
        let sizes = || (0..1000).map(|_| pool.borrow()).collect::<Vec<_>>();
        for _ in 0..2 {
            let lent = sizes();
            assert_eq!(lent.iter().filter(|buffer| buffer.len() == LARGE).count(), LENT);
            assert!(lent.iter().skip(LENT).all(|buffer| buffer.len() == SMALL));
        }
        assert_eq!(pool.state.lock().free.len(), KEPT);
    }
}
