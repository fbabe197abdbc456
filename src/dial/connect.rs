//! From addresses to a connected socket.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use socket2::{Domain, TcpKeepalive, Type};

use super::error::Cause;
use super::wire::{CancelToken, WaitEnd, WaitError, wait};
use crate::connection::socket::{SEND_BUFFER, Socket};
use crate::display;

/// Why nobody let us in.
#[derive(Debug)]
pub(super) enum Unconnected {
    Stopped,
    /// No address answered in time.
    TimedOut,
    Failed(io::Error),
}

impl Unconnected {
    /// What an error says about it; `None` if we were stopped.
    pub(super) fn cause(&self, time: Duration) -> Option<Cause> {
        match self {
            Unconnected::Stopped => None,
            Unconnected::TimedOut => Some(Cause::TimedOut("no answer", time)),
            Unconnected::Failed(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                Some(Cause::Other("connection refused (is the server running?)".into()))
            }
            Unconnected::Failed(error) => Some(Cause::Other(display::cause(error))),
        }
    }
}

/// Connects to the first address that lets us in. Each gets its share of the time that is left, so that one silent
/// address does not hide a good one behind it.
pub(super) fn connect(
    addresses: &[SocketAddr],
    cancel: &CancelToken,
    deadline: Instant,
) -> Result<Socket, Unconnected> {
    let mut best: Option<io::Error> = None;
    for (index, address) in addresses.iter().enumerate() {
        let now = Instant::now();
        let share = deadline.saturating_duration_since(now) / (addresses.len() - index) as u32;
        match connect_one(*address, cancel, now + share) {
            Ok(socket) => return Ok(socket),
            Err(WaitError::Ended(WaitEnd::Deadline)) => {
                best.get_or_insert_with(|| io::ErrorKind::TimedOut.into());
            }
            Err(WaitError::Ended(WaitEnd::Cancelled)) => return Err(Unconnected::Stopped),
            // A host without IPv6 fails on the first address of many names; that is not what the user wants to read.
            Err(WaitError::Io(error)) => {
                if best.as_ref().is_none_or(is_local_trouble) {
                    best = Some(error);
                }
            }
        }
    }
    match best {
        Some(error) if error.kind() != io::ErrorKind::TimedOut => Err(Unconnected::Failed(error)),
        _ => Err(Unconnected::TimedOut),
    }
}

fn connect_one(address: SocketAddr, cancel: &CancelToken, deadline: Instant) -> Result<Socket, WaitError> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, None).map_err(WaitError::Io)?;
    socket.set_nonblocking(true).map_err(WaitError::Io)?;
    match socket.connect(&address.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {
            wait(Some((&socket, PollFlags::OUT)), cancel, Some(deadline))?;
        }
        Err(error) => return Err(WaitError::Io(error)),
    }
    if let Some(error) = socket.take_error().map_err(WaitError::Io)? {
        return Err(WaitError::Io(error));
    }
    socket.set_nonblocking(false).map_err(WaitError::Io)?;
    // Small messages go out at once; a peer that vanished is noticed after a minute, even if we only listen.
    let keepalive =
        TcpKeepalive::new().with_time(Duration::from_secs(30)).with_interval(Duration::from_secs(10)).with_retries(3);
    let _ = socket.set_send_buffer_size(SEND_BUFFER);
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_keepalive(&keepalive);
    Ok(Socket::new(socket))
}

/// Errors that say more about this host than about the server.
fn is_local_trouble(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrNotAvailable, HostUnreachable, NetworkUnreachable, Unsupported};
    matches!(error.kind(), AddrNotAvailable | HostUnreachable | NetworkUnreachable | Unsupported)
}
