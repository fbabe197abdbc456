//! `wsgate reload`: the configuration and its files are read again.

use std::time::Duration;

use clap::Args;
use serde::Deserialize;

use crate::cli::failure::Failure;
use crate::cli::operate::api::Api;
use crate::cli::operate::arguments::AdminArguments;
use crate::cli::operate::help::help;
use crate::cli::operate::output::Output;
use crate::dial::HttpCall;

pub(super) const AFTER_HELP: &str = help!(
    "\
Examples:
  wsgate reload
  wsgate check --config /etc/wsgate/wsgate.toml && wsgate reload

It does what SIGHUP does, and says what has changed and what takes a restart. If something is
wrong, nothing has changed, every mistake is told with its line, and the exit code is 78."
);

/// How much longer than others a reload may take: wsgate itself waits so long for files on a slow disk.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Args)]
pub struct ReloadArguments {
    #[command(flatten)]
    admin: AdminArguments,
}

#[derive(Deserialize)]
struct Reloaded {
    reloaded: Vec<String>,
}

/// Asks, and prints what came of it.
pub(super) fn run(arguments: ReloadArguments) -> Result<(), Failure> {
    let doing = "reload";
    let mut output = Output::new(arguments.admin.json);
    let api = Api::new(arguments.admin)?.patient(PATIENCE);
    let body = api.call(doing, &HttpCall { method: "POST", path_and_query: "/api/v1/reload", body: None })?;
    output.answer(&body, || {
        let Reloaded { reloaded } = api.read(doing, &body)?;
        Ok(if reloaded.is_empty() { "nothing has changed".to_owned() } else { reloaded.join("\n") })
    })
}
