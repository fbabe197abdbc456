//! Stands in the place of `src/connection/socket.rs`: the sending half, on the model's kernel.

use std::io::{self, IoSlice};
use std::sync::Arc;

use crate::kernel::{Kernel, kernel};

#[derive(Debug)]
pub struct Socket(Arc<Kernel>);

impl Socket {
    /// The socket of this execution.
    pub fn of_kernel() -> Socket {
        Socket(kernel())
    }

    pub fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(bytes)
    }

    pub fn send_slices_now(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.send(&slices.iter().flat_map(|slice| slice.iter().copied()).collect::<Vec<_>>())
    }

    pub fn shutdown_write(&self) {
        self.0.shutdown_write();
    }

    pub fn shutdown_both(&self) {
        self.0.shutdown_both();
    }
}
