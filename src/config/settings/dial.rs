//! What links and relays have in common: whom to dial, and how.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::secret::Secret;
use crate::url::Url;

use super::listener::TlsSettings;

/// Whom to dial and how.
#[derive(Clone, PartialEq)]
pub struct DialSettings {
    /// The server. A user and a password in it are sent as Basic.
    pub url: Url,
    /// Headers of the request, each name once.
    pub headers: Vec<(String, Secret)>,
    /// Offered in this order.
    pub subprotocols: Vec<String>,
    /// The Origin header, if one is to be sent.
    pub origin: Option<String>,
    /// For name, connection, proxy, TLS and handshake together. Default 10 s.
    pub connect_timeout: Duration,
    /// The way there.
    pub proxy: Proxy,
    /// What holds for `wss://`.
    pub tls: DialTls,
}

impl DialSettings {
    /// This URL with every default.
    pub fn new(url: Url) -> DialSettings {
        DialSettings {
            url,
            headers: Vec::new(),
            subprotocols: Vec::new(),
            origin: None,
            connect_timeout: Duration::from_secs(10),
            proxy: Proxy::default(),
            tls: DialTls::default(),
        }
    }
}

impl fmt::Debug for DialSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DialSettings { url, headers, subprotocols, origin, connect_timeout, proxy, tls } = self;
        // A password stands before the host, a token often behind it.
        f.debug_struct("DialSettings")
            .field("server", &url.authority())
            .field("headers", headers)
            .field("subprotocols", subprotocols)
            .field("origin", origin)
            .field("connect_timeout", connect_timeout)
            .field("proxy", proxy)
            .field("tls", tls)
            .finish_non_exhaustive()
    }
}

/// The way to a server that we dial.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Proxy {
    /// As the usual variables of the environment say, `no_proxy` among them.
    #[default]
    Environment,
    /// Straight there.
    Off,
    /// Through this one, by CONNECT: `http://[user:password@]host:port`.
    Url(Secret),
}

/// `tls = { ... }` of what we dial: PEM files, read at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialTls {
    /// Certificates to trust besides those of the system.
    pub ca: Option<PathBuf>,
    /// The certificate that we show, and its key.
    pub identity: Option<TlsSettings>,
    /// The name that the server's certificate must have; `None`: the host of the URL.
    pub server_name: Option<String>,
    /// Whether the server's certificate is checked. Default true.
    pub verify: bool,
}

impl Default for DialTls {
    fn default() -> DialTls {
        DialTls { ca: None, identity: None, server_name: None, verify: true }
    }
}
