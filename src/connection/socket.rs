//! A connected stream socket, TCP or Unix, and the few system calls we make on it.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown};

/// The kernel's send buffer of a connection, in bytes (it doubles the figure). Left to itself it
/// grows to megabytes for a peer that reads nothing, and what is in it when such a peer dies is lost.
pub const SEND_BUFFER: usize = 128 << 10;

/// One end of a stream. Reading and writing need only a shared reference: the kernel orders them.
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl Socket {
    /// Takes over a connected, blocking socket.
    pub fn new(fd: impl Into<OwnedFd>) -> Socket {
        Socket(fd.into())
    }

    /// Blocks until something arrives; 0 is the end of the stream.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.receive(buffer, RecvFlags::empty())
    }

    /// Takes what is there; `WouldBlock` when nothing is.
    pub fn recv_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.receive(buffer, RecvFlags::DONTWAIT)
    }

    fn receive(&self, buffer: &mut [u8], flags: RecvFlags) -> io::Result<usize> {
        uninterrupted(|| rustix::net::recv(&self.0, &mut *buffer, flags).map(|(_, count)| count))
    }

    /// As [`recv`](Socket::recv), behind what is in `buffer`, as far as its capacity goes.
    pub fn recv_behind(&self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        uninterrupted(|| {
            let spare = rustix::buffer::spare_capacity(buffer);
            rustix::net::recv(&self.0, spare, RecvFlags::empty()).map(|(_, count)| count)
        })
    }

    /// Waits until something can be read or `timeout` has passed; says whether something can.
    pub fn wait_readable(&self, timeout: Duration) -> io::Result<bool> {
        self.wait(PollFlags::IN, timeout)
    }

    /// Waits until something can be written or `timeout` has passed; says whether something can.
    pub fn wait_writable(&self, timeout: Duration) -> io::Result<bool> {
        self.wait(PollFlags::OUT, timeout)
    }

    fn wait(&self, flags: PollFlags, timeout: Duration) -> io::Result<bool> {
        let timeout = Timespec::try_from(timeout).unwrap_or(Timespec { tv_sec: 1 << 30, tv_nsec: 0 });
        match rustix::event::poll(&mut [PollFd::new(&self.0, flags)], Some(&timeout)) {
            Ok(ready) => Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until the peer has ended its direction or is gone, whatever it has sent before, or until `timeout` has
    /// passed; says whether it has.
    pub fn wait_hung_up(&self, timeout: Duration) -> bool {
        let timeout = Timespec::try_from(timeout).unwrap_or(Timespec { tv_sec: 1 << 30, tv_nsec: 0 });
        let hung_up = rustix::event::poll(&mut [PollFd::new(&self.0, PollFlags::RDHUP)], Some(&timeout));
        hung_up.is_ok_and(|ready| ready > 0)
    }

    /// Hands bytes to the kernel without waiting; how many it took, or `WouldBlock`.
    pub fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        uninterrupted(|| rustix::net::send(&self.0, bytes, SEND))
    }

    /// As [`send_now`](Socket::send_now), for several pieces in one call.
    pub fn send_slices_now(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        uninterrupted(|| rustix::net::sendmsg(&self.0, slices, &mut SendAncillaryBuffer::default(), SEND))
    }

    /// Says that we write no more. An error means that the peer is gone, which the reader sees too.
    pub fn shutdown_write(&self) {
        let _ = rustix::net::shutdown(&self.0, Shutdown::Write);
    }

    /// Ends both directions: a thread blocked in [`recv`](Socket::recv) returns.
    pub fn shutdown_both(&self) {
        let _ = rustix::net::shutdown(&self.0, Shutdown::Both);
    }

    /// Ends the connection when no byte that was sent is acknowledged for `timeout` (TCP only).
    pub fn set_user_timeout(&self, timeout: Duration) {
        let millis = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
        // A Unix socket has no such option and needs none: its peer is this machine.
        let _ = rustix::net::sockopt::set_tcp_user_timeout(&self.0, millis);
    }
}

/// Makes a system call again as long as a signal interrupts it.
fn uninterrupted<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(rustix::io::Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

const SEND: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
