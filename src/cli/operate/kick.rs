//! `wsgate kick`: the connection of a client is closed.

use clap::Args;
use serde_json::json;

use crate::cli::failure::Failure;
use crate::cli::operate::api::{Api, encoded, query};
use crate::cli::operate::arguments::AdminArguments;
use crate::cli::operate::help::help;
use crate::cli::operate::output::Output;
use crate::dial::HttpCall;
use crate::display::printable;

pub(super) const AFTER_HELP: &str = help!(
    "\
Examples:
  wsgate kick d44d1d9fdb4ad6d4
  wsgate kick d44d1d9fdb4ad6d4 --code 1012 --reason Maintenance
  wsgate clients --identity press-3 --json | jq -r .id | xargs -n1 wsgate kick

'wsgate clients' lists the ids. What was published before reaches the client before the Close.
Most clients connect again: to keep one out, take its token away and reload."
);

/// How much of an id is shown.
const SHOWN_MAX: usize = 100;

#[derive(Args)]
pub struct KickArguments {
    /// The id of the client, 16 hex digits
    #[arg(value_name = "ID")]
    id: String,
    /// The code of the Close: 1000, 1001, 1008, 1011 to 1013, or 3000 to 4999
    #[arg(long, value_name = "CODE", default_value_t = 1008)]
    code: u16,
    /// The reason in the Close, at most 123 bytes
    #[arg(long, value_name = "TEXT", default_value = "Closed by the operator")]
    reason: String,
    #[command(flatten)]
    admin: AdminArguments,
}

/// Closes it.
pub(super) fn run(arguments: KickArguments) -> Result<(), Failure> {
    let KickArguments { id, code, reason, admin } = arguments;
    let shown = printable(&id, SHOWN_MAX);
    let mut output = Output::new(admin.json);
    let api = Api::new(admin)?;
    let asked = query(&[("code", Some(&code.to_string())), ("reason", Some(&reason))]);
    let path = format!("/api/v1/clients/{}{asked}", encoded(&id));
    let call = HttpCall { method: "DELETE", path_and_query: &path, body: None };
    api.call(&format!("close the client '{shown}'"), &call)?;
    // The API says nothing more than that it was done.
    let answer = json!({ "id": id, "code": code }).to_string();
    output.answer(answer.as_bytes(), || Ok(format!("closed the client {shown} with code {code}")))
}
