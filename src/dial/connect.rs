//! From addresses to a connected socket.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use socket2::{Domain, SockAddr, TcpKeepalive, Type};

use super::attempt::Attempt;
use super::error::{Cause, DialError};
use super::wire::{CancelToken, WaitEnd, WaitError, wait};
use crate::connection::socket::{SEND_BUFFER, Socket};

/// How long until a Unix socket whose backlog was full is tried again.
const UNIX_RETRY: Duration = Duration::from_millis(20);

/// Connects to the first address that accepts: those of the server, or of the proxy of this name. Each address gets its
/// share of the time that is left, so that a silent one does not hide a good one behind it.
pub(super) fn connect(
    addresses: &[SocketAddr],
    proxy: Option<&str>,
    attempt: &Attempt<'_>,
) -> Result<Socket, DialError> {
    let mut best: Option<io::Error> = None;
    for (index, address) in addresses.iter().enumerate() {
        let now = Instant::now();
        let share = attempt.deadline.saturating_duration_since(now) / (addresses.len() - index) as u32;
        match connect_one(*address, attempt.cancel, now + share) {
            Ok(socket) => return Ok(socket),
            Err(WaitError::Ended(WaitEnd::Deadline)) => {
                best.get_or_insert_with(|| io::ErrorKind::TimedOut.into());
            }
            Err(WaitError::Ended(WaitEnd::Cancelled)) => return Err(DialError::Cancelled),
            // A host without IPv6 fails on the first address of many names; such an error would hide the one that matters.
            Err(WaitError::Io(error)) => {
                if best.as_ref().is_none_or(is_local_trouble) {
                    best = Some(error);
                }
            }
        }
    }
    let cause = match best {
        Some(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            Cause::of("connection refused (is the server running?)", error)
        }
        Some(error) if error.kind() != io::ErrorKind::TimedOut => Cause::io(error),
        _ => attempt.timed_out("no answer"),
    };
    Err(attempt.not_connected(proxy, cause))
}

/// Connects to a Unix socket.
pub(super) fn connect_unix(path: &Path, attempt: &Attempt<'_>) -> Result<Socket, DialError> {
    let failed = |error: io::Error| {
        let cause = match error.kind() {
            io::ErrorKind::ConnectionRefused => Cause::of("connection refused (is the server running?)", error),
            _ => Cause::io(error),
        };
        attempt.not_connected(None, cause)
    };
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed)?;
    let address = SockAddr::unix(path).map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    // A server whose backlog is full has the kernel say so at once, and nothing tells when it has room again.
    while let Err(error) = socket.connect(&address) {
        if error.kind() != io::ErrorKind::WouldBlock {
            return Err(failed(error));
        }
        if Instant::now() >= attempt.deadline {
            return Err(attempt.not_connected(None, attempt.timed_out("no answer")));
        }
        if attempt.cancel.sleep(UNIX_RETRY) == WaitEnd::Cancelled {
            return Err(DialError::Cancelled);
        }
    }
    socket.set_nonblocking(false).map_err(failed)?;
    Ok(Socket::new(socket))
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
    // Small messages go out at once; a peer that vanished is noticed after a minute, even if nothing is sent.
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
