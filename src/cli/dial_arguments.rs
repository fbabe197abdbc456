//! The arguments that `send` and `listen` have in common.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::duration::timeout;

/// What `send` and `listen` need to connect. It has no `Debug`: headers hold secrets.
#[derive(Args)]
pub(super) struct DialArguments {
    // Not a doc comment: rustdoc would take the brackets for links.
    #[arg(value_name = "URL", help = "Where to connect: ws://HOST[:PORT][/PATH][?QUERY], or wss:// for TLS")]
    pub(super) url: String,
    /// A header of the request; repeat the option for more headers
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", help_heading = CONNECTION)]
    pub(super) headers: Vec<String>,
    /// A subprotocol to offer; repeat the option for more, in order of preference
    #[arg(short = 'p', long = "subprotocol", value_name = "NAME", help_heading = CONNECTION)]
    pub(super) subprotocols: Vec<String>,
    /// Also trust the certificates in this PEM file, besides those of the system
    #[arg(long, value_name = "FILE", help_heading = CONNECTION)]
    pub(super) ca: Option<PathBuf>,
    /// Accept any certificate: for tests only, anyone on the network path can then read the data
    #[arg(long, help_heading = CONNECTION)]
    pub(super) insecure: bool,
    /// How long connecting may take, from the lookup of the name to the end of the handshake
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = timeout, help_heading = CONNECTION)]
    pub(super) connect_timeout: Duration,
}

const CONNECTION: &str = "Connection";
