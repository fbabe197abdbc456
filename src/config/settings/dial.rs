//! What links and relays have in common: whom to dial, and how.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::secret::Secret;
use crate::url::Url;

use super::listener::TlsSettings;

/// A server to dial, and how.
#[derive(Clone, PartialEq)]
pub struct DialSettings {
    /// The server. A user and a password in it are sent as Basic.
    pub url: Url,
    /// Headers of the request, each name once.
    pub headers: Vec<(String, Secret)>,
    /// What must not be repeated to anybody: values of files and of variables of the environment that are in the URL and
    /// the headers.
    pub secrets: Vec<Secret>,
    /// The subprotocols that are offered, in order of preference.
    pub subprotocols: Vec<String>,
    /// The Origin header, if one is to be sent.
    pub origin: Option<String>,
    /// The time for lookup, connection, proxy, TLS and handshake together. Default 10 s.
    pub connect_timeout: Duration,
    /// Whether it is dialled through a proxy.
    pub proxy: Proxy,
    /// Used for `wss://` only.
    pub tls: DialTls,
}

impl DialSettings {
    /// This URL with every default.
    pub fn new(url: Url) -> DialSettings {
        DialSettings {
            url,
            headers: Vec::new(),
            secrets: Vec::new(),
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
        let DialSettings { url, headers, secrets: _, subprotocols, origin, connect_timeout, proxy, tls } = self;
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

/// Whether a server is dialled through a proxy.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Proxy {
    /// As environment variables such as `http_proxy` and `no_proxy` say.
    #[default]
    Environment,
    /// No proxy.
    Off,
    /// This proxy, by CONNECT: `http://[user:password@]host:port`.
    Url(Secret),
}

/// `tls = { ... }` of a link or a relay. Its PEM files are read at the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialTls {
    /// Certificates to trust besides those of the system.
    pub ca: Option<PathBuf>,
    /// The client certificate and its key.
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
