//! Listeners: from an address in the configuration to a bound socket, with its TLS.

use std::fmt;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;

use openssl::ssl::SslContext;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::config::{ListenAddress, ListenerSettings};
use crate::connection::socket::SEND_BUFFER;
use crate::connection::tls;

/// Connections that the kernel keeps for us until they are accepted.
const BACKLOG: i32 = 4096;

/// A bound listener.
#[derive(Debug)]
pub struct Listener {
    /// As configured.
    pub settings: Arc<ListenerSettings>,
    pub socket: Socket,
    /// Its TLS, if it has any.
    pub tls: Option<SslContext>,
}

/// Why there is no listener.
#[derive(Debug)]
pub enum ListenError {
    /// The address cannot be bound.
    Bind {
        /// As configured.
        address: String,
        cause: io::Error,
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
        let address = &settings.address;
        let socket = bind_socket(address).map_err(|cause| ListenError::Bind { address: address.to_string(), cause })?;
        Ok(Listener { settings: Arc::new(settings.clone()), socket, tls })
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
    /// The socket file goes with the listener.
    fn drop(&mut self) {
        if let ListenAddress::Unix(path) = &self.settings.address {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn load_tls(listener: &ListenerSettings) -> Result<Option<SslContext>, ListenError> {
    let Some(files) = &listener.tls else { return Ok(None) };
    let (certificate, private_key) = (&files.certificate, &files.private_key);
    tls::server_context(certificate, private_key)
        .map(Some)
        .map_err(|error| ListenError::Tls { listener: listener.name.clone(), cause: error.to_string() })
}

fn bind_socket(address: &ListenAddress) -> io::Result<Socket> {
    let (domain, sockaddr) = match address {
        ListenAddress::Tcp(address) => (Domain::for_address(*address), SockAddr::from(*address)),
        ListenAddress::Unix(path) => {
            remove_stale_socket(path);
            (Domain::UNIX, SockAddr::unix(path)?)
        }
    };
    let socket = Socket::new(domain, Type::STREAM, None)?;
    // What is set here, accepted sockets inherit.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    if let ListenAddress::Tcp(_) = address {
        socket.set_reuse_address(true)?;
        socket.set_tcp_nodelay(true)?;
    }
    socket.bind(&sockaddr)?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Removes the socket file of a process that is gone. One that still answers is left to make the bind fail.
fn remove_stale_socket(path: &Path) {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    if is_socket && std::os::unix::net::UnixStream::connect(path).is_err() {
        let _ = std::fs::remove_file(path);
    }
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenError::Bind { address, cause } => {
                write!(f, "failed to bind '{address}': {cause}")?;
                match cause.kind() {
                    io::ErrorKind::AddrInUse => {
                        write!(f, " (another process listens there: stop it or choose another port)")
                    }
                    io::ErrorKind::PermissionDenied => {
                        write!(f, " (choose a port above 1023, or grant CAP_NET_BIND_SERVICE)")
                    }
                    io::ErrorKind::AddrNotAvailable => write!(f, " (this machine has no such address)"),
                    _ => Ok(()),
                }
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
