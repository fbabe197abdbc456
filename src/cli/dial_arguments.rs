//! The arguments that `send` and `listen` have in common.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::call_error::CallError;
use super::duration::timeout;
use crate::config::{self, DialTls, Proxy, TlsSettings};

/// What `send` and `listen` need to connect. It has no `Debug`: headers hold secrets.
#[derive(Args)]
pub(super) struct DialArguments {
    // Not a doc comment: rustdoc would take the brackets for links.
    #[arg(value_name = "URL", help = "Where to connect: ws://HOST[:PORT][/PATH][?QUERY], or wss:// for TLS")]
    pub(super) url: String,
    /// A header of the request; repeat the option for more headers
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", help_heading = CONNECTION)]
    pub(super) headers: Vec<String>,
    /// A header whose value is the one line of this file, so that no other user sees it
    #[arg(long = "header-file", value_name = "NAME: FILE", help_heading = CONNECTION)]
    pub(super) header_files: Vec<String>,
    /// A subprotocol to offer; repeat the option for more, in order of preference
    #[arg(short = 'p', long = "subprotocol", value_name = "NAME", help_heading = CONNECTION)]
    pub(super) subprotocols: Vec<String>,
    #[command(flatten)]
    pub(super) tls: TlsArguments,
    /// "environment" follows http_proxy, https_proxy, all_proxy and no_proxy as links do; "off"; or http://HOST:PORT
    #[arg(long, value_name = "PROXY", default_value = "environment", value_parser = proxy, help_heading = CONNECTION)]
    pub(super) proxy: Proxy,
    /// Connect to this Unix socket; the URL then only says what is asked for
    #[arg(long, value_name = "FILE", help_heading = CONNECTION)]
    pub(super) unix_socket: Option<PathBuf>,
    /// How long connecting may take, from the lookup of the name to the end of the handshake
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = timeout, help_heading = CONNECTION)]
    pub(super) connect_timeout: Duration,
}

/// The heading of these options.
pub(super) const CONNECTION: &str = "Connection";

/// Which certificates of servers are good, and what we show of our own.
#[derive(Args)]
pub(super) struct TlsArguments {
    /// Also trust the certificates in this PEM file, besides those of the system
    #[arg(long, value_name = "FILE", help_heading = CONNECTION)]
    ca: Option<PathBuf>,
    /// Our own certificate (PEM, its chain behind it), for servers that ask for one
    #[arg(long, value_name = "FILE", requires = "private_key", help_heading = CONNECTION)]
    certificate: Option<PathBuf>,
    /// The private key of '--certificate' (PEM)
    #[arg(long, value_name = "FILE", requires = "certificate", help_heading = CONNECTION)]
    private_key: Option<PathBuf>,
    /// The name that the server's certificate must have, instead of the host of the URL
    #[arg(long, value_name = "NAME", value_parser = server_name, help_heading = CONNECTION)]
    server_name: Option<String>,
    /// Accept any certificate: for tests only, anyone on the network path can then read the data
    #[arg(long, help_heading = CONNECTION)]
    insecure: bool,
}

impl TlsArguments {
    /// The settings for a server over TLS or not, which people call `shown`.
    ///
    /// # Errors
    /// They have no meaning without TLS.
    pub(super) fn settings(self, is_secure: bool, shown: &str) -> Result<DialTls, CallError> {
        let options = [("--certificate", self.certificate.is_some()), ("--server-name", self.server_name.is_some())];
        if let Some((name, _)) = options.iter().find(|(_, is_set)| *is_set && !is_secure) {
            return Err(CallError::Usage(format!(
                "failed to use '{name}': '{shown}' has no TLS (write a URL with it, or leave '{name}' out)"
            )));
        }
        let identity = self.certificate.zip(self.private_key);
        Ok(DialTls {
            ca: self.ca,
            identity: identity.map(|(certificate, private_key)| TlsSettings { certificate, private_key }),
            server_name: self.server_name,
            verify: !self.insecure,
        })
    }
}

fn proxy(text: &str) -> Result<Proxy, String> {
    config::proxy_of(text).ok_or_else(|| "write 'environment', 'off' or an HTTP proxy, 'http://HOST:PORT'".to_owned())
}

fn server_name(text: &str) -> Result<String, String> {
    match config::is_server_name(text) {
        true => Ok(text.to_owned()),
        false => Err("this is no name of a host: write only the name that is in the server's certificate".to_owned()),
    }
}
