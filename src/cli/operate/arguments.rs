//! The arguments that all commands for a running wsgate have in common.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::cli::dial_arguments::{CONNECTION, TlsArguments};
use crate::cli::duration::timeout;

/// Where wsgate is asked, by whom, and how the answer is printed.
#[derive(Args)]
pub(super) struct AdminArguments {
    /// Print JSON, one object a line, also at a terminal
    #[arg(long)]
    pub(super) json: bool,
    // Not doc comments: rustdoc would take the brackets for links.
    #[arg(long, value_name = "ADDRESS", help_heading = CONNECTION)]
    #[arg(help = "The address under [admin]: HOST:PORT, http://HOST:PORT, https://HOST:PORT or unix:FILE")]
    pub(super) admin: Option<String>,
    #[arg(short, long, value_name = "FILE", conflicts_with = "admin", help_heading = CONNECTION)]
    #[arg(help = "Ask at the address under [admin] in this config file, and trust the certificate that it names")]
    pub(super) config: Option<PathBuf>,
    /// The token is the one line of this file
    #[arg(long, value_name = "FILE", help_heading = CONNECTION)]
    pub(super) token_file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) tls: TlsArguments,
    /// How long an answer may take
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = timeout, help_heading = CONNECTION)]
    pub(super) timeout: Duration,
}
