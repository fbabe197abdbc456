//! `[[listen]]`: the addresses that clients connect to.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::addresses::{AddressRules, AddressSource, ClientAddress};
use crate::path::Pattern;

/// `[[listen]]`: one address.
#[derive(Debug, Clone, PartialEq)]
pub struct ListenerSettings {
    /// The name that endpoints and log lines use for it. Default: the address as written.
    pub name: String,
    /// The address that it binds.
    pub address: ListenAddress,
    /// TLS instead of plain, if set.
    pub tls: Option<ListenerTls>,
    /// The names that are the same host as a page's, if a request's Host has them. Default: that of the address.
    pub hosts: Hosts,
    /// Which addresses may connect.
    pub addresses: AddressRules,
    /// What says where a client comes from.
    pub client_address: ClientAddress,
    /// The proxies that are believed what they say of it; empty where the socket says so.
    pub trusted_proxies: AddressSource,
    /// The path at which load balancers are told whether the gateway is ready, without parameters. Default: none.
    pub health: Option<Pattern>,
}

impl Default for ListenerSettings {
    fn default() -> ListenerSettings {
        let address = SocketAddr::from(([127, 0, 0, 1], 8080));
        let (name, address) = (address.to_string(), ListenAddress::Tcp(address));
        ListenerSettings {
            name,
            hosts: Hosts::default_of(&address),
            address,
            tls: None,
            addresses: AddressRules::default(),
            client_address: ClientAddress::default(),
            trusted_proxies: AddressSource::default(),
            health: None,
        }
    }
}

impl ListenerSettings {
    /// Whether nobody gets in without a certificate that was verified.
    pub fn requires_certificates(&self) -> bool {
        self.tls.as_ref().and_then(|tls| tls.clients.as_ref()).is_some_and(|clients| clients.required)
    }
}

/// The names in a request's Host that can be the same host as that of a page; addresses and `localhost` always can.
/// Whoever owns a name can have it lead to this machine, and so to a gateway that only this machine can reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hosts {
    /// These alone, in lower case; `*.plant.example` is every name that ends so.
    Named(Vec<String>),
    /// Every name.
    Any,
}

impl Hosts {
    /// No name where a browser of this machine could be led to; every name elsewhere, also on a Unix socket, which no
    /// browser reaches without a proxy.
    pub fn default_of(address: &ListenAddress) -> Hosts {
        match address {
            ListenAddress::Tcp(address) if address.ip().to_canonical().is_loopback() => Hosts::Named(Vec::new()),
            _ => Hosts::Any,
        }
    }

    /// Whether the name is one of these, in any case.
    pub fn contains(&self, name: &str) -> bool {
        let Hosts::Named(names) = self else { return true };
        let name = name.to_ascii_lowercase();
        names.iter().any(|known| match known.strip_prefix('*') {
            Some(end) => name.len() > end.len() && name.ends_with(end),
            None => *known == name,
        })
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
            ListenAddress::Tcp(address) => address.ip().to_canonical().is_loopback(),
            ListenAddress::Unix(_) => true,
        }
    }

    /// Whether it is every address of both IPv4 and IPv6.
    pub fn is_dual_stack(&self) -> bool {
        matches!(self, ListenAddress::Tcp(address) if address.is_ipv6() && address.ip().is_unspecified())
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

/// `tls = { ... }` of a listener: PEM files, read at start and at each reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerTls {
    /// The listener's certificates, at least one. The first is for clients that ask for another name, or for none.
    pub certificates: Vec<TlsSettings>,
    /// What clients have to show, if they are asked for a certificate.
    pub clients: Option<ClientCertificates>,
}

impl ListenerTls {
    /// One certificate for all names, and clients without any.
    pub fn of(certificate: TlsSettings) -> ListenerTls {
        ListenerTls { certificates: vec![certificate], clients: None }
    }

    /// The file of the first certificate.
    pub fn first(&self) -> &Path {
        self.certificates.first().map_or(Path::new(""), |first| &first.certificate)
    }
}

/// Which certificates of clients a listener accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificates {
    /// The authorities of which one must have signed it.
    pub ca: PathBuf,
    /// Whether a client without a certificate is refused.
    pub required: bool,
    /// The revocation lists; without any nothing is looked up.
    pub lists: Vec<PathBuf>,
}

/// `certificate` and `private_key`: PEM files that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// The certificate chain, leaf first.
    pub certificate: PathBuf,
    /// The leaf's private key.
    pub private_key: PathBuf,
}
