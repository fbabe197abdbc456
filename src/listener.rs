//! Listeners: from an address in the configuration to a bound socket, with its TLS.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::config::{ListenAddress, ListenerSettings};
use crate::connection::server_tls::ServerTls;
use crate::connection::socket::SEND_BUFFER;

/// Connections that the kernel keeps for us until they are accepted.
const BACKLOG: i32 = 4096;

/// A bound listener.
#[derive(Debug)]
pub struct Listener {
    /// As configured.
    pub settings: Arc<ListenerSettings>,
    pub socket: Socket,
    /// Its TLS, if it has any.
    pub tls: Option<Arc<ServerTls>>,
    /// The file of a Unix socket.
    file: Option<FileId>,
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
}

impl Listener {
    /// Reads the certificate, if there is to be one, and binds.
    pub fn bind(settings: &ListenerSettings) -> Result<Listener, ListenError> {
        let tls = load_tls(settings)?;
        let (socket, file) = bind_socket(&settings.address)?;
        Ok(Listener { settings: Arc::new(settings.clone()), socket, tls, file })
    }

    /// The configured address with the port that was bound.
    pub fn bound_address(&self) -> String {
        match (&self.settings.address, self.socket.local_addr().ok().and_then(|bound| bound.as_socket())) {
            (ListenAddress::Tcp(_), Some(bound)) => bound.to_string(),
            _ => self.settings.address.to_string(),
        }
    }

    /// Ends every present and future `accept`.
    pub fn close(&self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}

impl Drop for Listener {
    /// The socket file goes with the listener, unless another is in its place by now.
    fn drop(&mut self) {
        if let ListenAddress::Unix(path) = &self.settings.address
            && self.file.is_some()
            && FileId::of(path) == self.file
        {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn load_tls(listener: &ListenerSettings) -> Result<Option<Arc<ServerTls>>, ListenError> {
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
        }
    }
}

impl std::error::Error for ListenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ListenError::Bind { cause, .. } => Some(cause),
            ListenError::Tls { .. } => None,
        }
    }
}
