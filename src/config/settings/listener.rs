//! `[[listen]]`: the addresses that clients connect to.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// `[[listen]]`: one address.
#[derive(Debug, Clone, PartialEq)]
pub struct ListenerSettings {
    /// The name that endpoints and log lines use for it. Default: the address as written.
    pub name: String,
    /// The address that it binds.
    pub address: ListenAddress,
    /// TLS instead of plain, if set.
    pub tls: Option<TlsSettings>,
}

impl Default for ListenerSettings {
    fn default() -> ListenerSettings {
        let address = SocketAddr::from(([127, 0, 0, 1], 8080));
        ListenerSettings { name: address.to_string(), address: ListenAddress::Tcp(address), tls: None }
    }
}

/// An address a listener can bind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// `"127.0.0.1:8080"`, `"[::1]:8080"`; port 0 lets the system choose.
    Tcp(SocketAddr),
    /// `"unix:/run/wsgate/ws.sock"`.
    Unix(PathBuf),
}

impl ListenAddress {
    /// Whether only this machine can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            ListenAddress::Tcp(address) => address.ip().is_loopback(),
            ListenAddress::Unix(_) => true,
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Tcp(address) => write!(f, "{address}"),
            ListenAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// `tls = { certificate = ..., private_key = ... }`: PEM files, read at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// The certificate chain, leaf first.
    pub certificate: PathBuf,
    /// The leaf's private key.
    pub private_key: PathBuf,
}
