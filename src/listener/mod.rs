//! Listeners: from an address in the configuration to a bound socket, with its TLS. Where the supervisor has opened the
//! sockets, they are taken from it, by their names.

mod passed;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use socket2::{Domain, SockAddr, Socket, Type};

pub use passed::PassedError;
use passed::match_up;

use crate::config::{ListenAddress, ListenerSettings};
use crate::connection::server_tls::ServerTls;
use crate::connection::socket::SEND_BUFFER;
use crate::system::passed_sockets::PassedSocket;

/// Connections that the kernel keeps for us until they are accepted.
const BACKLOG: i32 = 4096;

/// A bound socket.
#[derive(Debug)]
pub struct Bound {
    /// As configured.
    pub address: ListenAddress,
    pub socket: Socket,
    /// The file of a Unix socket that is ours.
    file: Option<FileId>,
    /// What ends a wait where the supervisor has the socket too. It goes on with it, so it must not be shut down.
    closed: Option<OwnedFd>,
}

/// What a wait for a connection has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// There is something to accept, or accepting says why not.
    Ready,
    /// Nothing has come for as long as it may take.
    TimedOut,
    /// The listener is closed.
    Closed,
}

/// Why there is no listener.
#[derive(Debug)]
pub enum ListenError {
    /// The address cannot be bound.
    Bind {
        /// As configured.
        address: String,
        cause: io::Error,
        /// What to do, in brackets; it may be empty.
        advice: &'static str,
    },
    /// The certificate or the key cannot be used.
    Tls {
        listener: String,
        /// Which files, and what is wrong with them.
        cause: String,
    },
    /// The sockets that the supervisor passes are not those of the listeners.
    Passed(PassedError),
}

/// The sockets of all listeners, in the order of the settings, if the supervisor has passed any. Then each listener needs
/// one, or it would be open at an address that the operator has left to the supervisor.
///
/// # Errors
/// What is wrong with a socket that was passed.
pub fn passed_listeners(all: &[ListenerSettings], passed: Vec<PassedSocket>) -> Result<Vec<Bound>, ListenError> {
    if passed.is_empty() {
        return Ok(Vec::new());
    }
    let sockets = match_up(all, passed)?;
    all.iter().zip(sockets).map(|(settings, socket)| Bound::of_passed(settings, socket)).collect()
}

impl Bound {
    /// Binds an address.
    pub fn bind(address: &ListenAddress) -> Result<Bound, ListenError> {
        let (socket, file) = bind_socket(address)?;
        Ok(Bound { address: address.clone(), socket, file, closed: None })
    }

    /// A socket that listens already for this listener.
    fn of_passed(settings: &ListenerSettings, socket: Socket) -> Result<Bound, ListenError> {
        let system = |cause| PassedError::System { name: settings.name.clone(), cause };
        set_up(&socket).map_err(system)?;
        let closed =
            eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|error| system(error.into()))?;
        Ok(Bound { address: settings.address.clone(), socket, file: None, closed: Some(closed) })
    }

    /// The configured address with the port that was bound.
    pub fn bound_address(&self) -> String {
        match (&self.address, self.socket.local_addr().ok().and_then(|bound| bound.as_socket())) {
            (ListenAddress::Tcp(_), Some(bound)) => bound.to_string(),
            _ => self.address.to_string(),
        }
    }

    /// Whether the supervisor has its socket too: then [`wait`](Bound::wait) before each `accept`, which nothing else
    /// would end.
    pub fn is_passed(&self) -> bool {
        self.closed.is_some()
    }

    /// Waits until there is something to accept, but not for longer than `timeout`.
    pub fn wait(&self, timeout: Option<&Timespec>) -> Waited {
        let mut watched = vec![PollFd::new(&self.socket, PollFlags::IN)];
        watched.extend(self.closed.iter().map(|closed| PollFd::new(closed, PollFlags::IN)));
        match poll(&mut watched, timeout) {
            Ok(0) => Waited::TimedOut,
            Ok(_) if watched.get(1).is_some_and(|closed| !closed.revents().is_empty()) => Waited::Closed,
            // An interrupted wait is followed by the next; any other error is for accepting to meet.
            Err(rustix::io::Errno::INTR) => Waited::TimedOut,
            Ok(_) | Err(_) => Waited::Ready,
        }
    }

    /// Ends every present and future `accept`, or the waits before it. What has connected to a socket that was passed and
    /// was not accepted stays there for the next process.
    pub fn close(&self) {
        let _ = match &self.closed {
            None => self.socket.shutdown(std::net::Shutdown::Both),
            Some(closed) => rustix::io::write(closed, &1u64.to_ne_bytes()).map(drop).map_err(io::Error::from),
        };
    }
}

impl Drop for Bound {
    /// The socket file goes with the socket, unless another is in its place by now.
    fn drop(&mut self) {
        if let ListenAddress::Unix(path) = &self.address
            && self.file.is_some()
            && FileId::of(path) == self.file
        {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Reads the certificates of a listener, if it has some.
pub fn load_tls(listener: &ListenerSettings) -> Result<Option<Arc<ServerTls>>, ListenError> {
    let Some(files) = &listener.tls else { return Ok(None) };
    ServerTls::load(format!("listener {:?}", listener.name), files)
        .map(|tls| Some(Arc::new(tls)))
        .map_err(|error| ListenError::Tls { listener: listener.name.clone(), cause: error.to_string() })
}

fn bind_socket(address: &ListenAddress) -> Result<(Socket, Option<FileId>), ListenError> {
    let failed = |advice| move |cause| ListenError::Bind { address: address.to_string(), cause, advice };
    match address {
        ListenAddress::Tcp(tcp) => {
            let socket =
                new_socket(Domain::for_address(*tcp)).and_then(|socket| bind_tcp(&socket, *tcp).map(|()| socket));
            Ok((socket.map_err(|cause| failed(advice_for_tcp(&cause))(cause))?, None))
        }
        ListenAddress::Unix(path) => {
            let socket = new_socket(Domain::UNIX).map_err(failed(""))?;
            bind_unix(&socket, path).map_err(|(cause, advice)| failed(advice)(cause))?;
            Ok((socket, FileId::of(path)))
        }
    }
}

/// Sets up a socket that another process has opened as we open ours.
fn set_up(socket: &Socket) -> io::Result<()> {
    socket.set_nonblocking(false)?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    if socket.domain()? == Domain::UNIX { Ok(()) } else { socket.set_tcp_nodelay(true) }
}

/// What is set here, accepted sockets inherit.
fn new_socket(domain: Domain) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::STREAM, None)?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    Ok(socket)
}

fn bind_tcp(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    if address.is_ipv6() {
        // `[::]` is every address, whatever the system's default is.
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)
}

fn advice_for_tcp(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::AddrInUse => " (another process listens there: stop it or choose another port)",
        io::ErrorKind::PermissionDenied => " (choose a port above 1023, or grant CAP_NET_BIND_SERVICE)",
        io::ErrorKind::AddrNotAvailable => " (this machine has no such address)",
        _ => "",
    }
}

/// Binds to a path, also where the socket of a process that is gone has been left. Everything else that is there stays.
fn bind_unix(socket: &Socket, path: &Path) -> Result<(), (io::Error, &'static str)> {
    let address = SockAddr::unix(path).map_err(|cause| (cause, ""))?;
    let mut bound = socket.bind(&address);
    if bound.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse) {
        let there = what_is_at(path);
        if there == There::Nobody && std::fs::remove_file(path).is_ok() {
            bound = socket.bind(&address);
        } else {
            return bound.map_err(|cause| (cause, there.advice()));
        }
    }
    let listening = bound.and_then(|()| socket.listen(BACKLOG));
    listening.map_err(|cause| {
        let advice = match cause.kind() {
            io::ErrorKind::NotFound => " (its directory does not exist)",
            io::ErrorKind::PermissionDenied => " (this user cannot create files in its directory)",
            _ => "",
        };
        (cause, advice)
    })
}

/// What is in the place of a Unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum There {
    /// The socket of a process that is gone.
    Nobody,
    Listener,
    /// A socket of which it cannot be told who listens: another kind, or one that this user may not open.
    OtherSocket,
    File,
    Directory,
    /// A pipe, a device, a symbolic link.
    Other,
}

impl There {
    fn advice(self) -> &'static str {
        match self {
            // It could not be removed.
            There::Nobody => " (the socket of a process that is gone is there, and this user cannot remove it)",
            There::Listener => " (another process listens there: stop it or choose another path)",
            There::OtherSocket => {
                " (there is a socket of another kind or of another user: choose another path, or remove it)"
            }
            There::File => " (there is a file: choose another path, or remove it)",
            There::Directory => " (there is a directory: name a file in it)",
            There::Other => " (there is something that is no socket: choose another path, or remove it)",
        }
    }
}

/// Looks at what is at a path. Nobody listens only if the kernel says so: a full backlog, another type of socket or
/// missing rights are no sign of it.
fn what_is_at(path: &Path) -> There {
    let Ok(file) = std::fs::symlink_metadata(path).map(|file| file.file_type()) else { return There::Other };
    if !file.is_socket() {
        return match () {
            () if file.is_file() => There::File,
            () if file.is_dir() => There::Directory,
            () => There::Other,
        };
    }
    // It must not wait where the backlog is full.
    let probe = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None);
    match probe.and_then(|probe| probe.connect(&SockAddr::unix(path)?)) {
        Ok(()) => There::Listener,
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && !is_bound(path) => There::Nobody,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => There::Listener,
        Err(_) => There::OtherSocket,
    }
}

/// Whether a process has a socket at this path that does not listen, perhaps not yet: a connection to it is refused as
/// one to nobody is. Only the kernel's list tells the two apart.
fn is_bound(path: &Path) -> bool {
    const LISTENS: u32 = 1 << 16;
    let (list, path) = (std::fs::read_to_string("/proc/net/unix").unwrap_or_default(), path.display().to_string());
    let in_list = |line: &str| {
        let fields: Vec<_> = line.strip_suffix(&path)?.split_whitespace().collect();
        // State 1: it is connected to nobody.
        let [_number, _references, _protocol, flags, _type, "01", _inode] = fields[..] else { return None };
        u32::from_str_radix(flags, 16).ok().filter(|flags| flags & LISTENS == 0)
    };
    list.lines().any(|line| in_list(line).is_some())
}

/// Which file a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    fn of(path: &Path) -> Option<FileId> {
        let file = std::fs::symlink_metadata(path).ok()?;
        Some(FileId { device: file.dev(), inode: file.ino() })
    }
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenError::Bind { address, cause, advice } => {
                write!(f, "failed to bind '{address}': {cause}{advice}")
            }
            ListenError::Tls { listener, cause } => {
                write!(f, "failed to set up TLS for listener '{listener}': {cause}")
            }
            ListenError::Passed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ListenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ListenError::Bind { cause, .. } => Some(cause),
            ListenError::Tls { .. } => None,
            ListenError::Passed(error) => error.source(),
        }
    }
}

impl From<PassedError> for ListenError {
    fn from(error: PassedError) -> ListenError {
        ListenError::Passed(error)
    }
}
