//! Stands in the place of `src/connection/socket.rs`: the sending half, on the model's kernel.

use std::io::{self, IoSlice};
use std::sync::Arc;

use crate::kernel::{Kernel, kernel};

#[derive(Debug)]
pub struct Socket {
    kernel: Arc<Kernel>,
    place: usize,
}

impl Socket {
    /// The socket of this execution in this place.
    pub fn of_kernel(place: usize) -> Socket {
        Socket { kernel: kernel(), place }
    }

    /// `EPOLL_CTL_ADD` and `EPOLL_CTL_MOD`, see [`Kernel::arm`].
    pub fn watched(&self, data: u64, is_new: bool) -> Option<Result<(), ()>> {
        self.kernel.arm(self.place, data, is_new)
    }

    pub fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        self.kernel.send(self.place, bytes)
    }

    pub fn send_slices_now(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.kernel.send(self.place, &slices.iter().flat_map(|slice| slice.iter().copied()).collect::<Vec<_>>())
    }

    pub fn shutdown_write(&self) {
        self.kernel.shutdown_write(self.place);
    }

    pub fn shutdown_both(&self) {
        self.kernel.shutdown_both(self.place);
    }
}
