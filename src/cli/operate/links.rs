//! `wsgate links` and `wsgate redial`: the links of a running wsgate.

use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::cli::failure::{Failure, output_failed};
use crate::cli::operate::api::{Api, encoded};
use crate::cli::operate::arguments::AdminArguments;
use crate::cli::operate::help::help;
use crate::cli::operate::output::Output;
use crate::cli::operate::table::Table;
use crate::dial::HttpCall;
use crate::display::{count, printable};

pub(super) const LINKS_HELP: &str = help!(
    "\
Examples:
  wsgate links
  wsgate links --json | jq -r 'select(.state != \"up\").name'"
);

pub(super) const REDIAL_HELP: &str = help!(
    "\
Examples:
  wsgate redial plc

The wait for the next attempt ends, a link that is given up begins again, and one that is up is
closed with 1000 and dialled again. What waits for it stays in its queue. 'wsgate links' says what
comes of it."
);

/// How much of a name or a failure is shown.
const SHOWN_MAX: usize = 500;

#[derive(Args)]
pub struct LinksArguments {
    #[command(flatten)]
    admin: AdminArguments,
}

#[derive(Args)]
pub struct RedialArguments {
    /// The name of the link
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    admin: AdminArguments,
}

#[derive(Deserialize)]
struct List<'a> {
    #[serde(borrow)]
    items: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Link {
    name: String,
    state: String,
    url: String,
    connects: u64,
    failed_attempts: u64,
    received_messages: u64,
    sent_messages: u64,
    dropped_messages: u64,
    last_failure: Option<LastFailure>,
}

#[derive(Deserialize)]
struct LastFailure {
    message: String,
    at: String,
}

/// Asks and prints.
pub(super) fn list(arguments: LinksArguments) -> Result<(), Failure> {
    let doing = "list the links";
    let mut output = Output::new(arguments.admin.json);
    let api = Api::new(arguments.admin)?;
    let body = api.get(doing, "/api/v1/links")?;
    let List { items } = api.read(doing, &body)?;
    if output.is_json() {
        let written = items.iter().try_for_each(|item| output.json(item.get().as_bytes()));
        return written.and_then(|()| output.flush()).or_else(|error| output_failed(&error));
    }
    let links: Vec<Link> = items.iter().map(|item| api.read(doing, item.get().as_bytes())).collect::<Result<_, _>>()?;
    output.answer(b"", || Ok(in_words(links)))
}

fn in_words(links: Vec<Link>) -> String {
    if links.is_empty() {
        return count(0, "link");
    }
    let titles = ["NAME", "STATE", "CONNECTS#", "FAILED#", "RECEIVED#", "SENT#", "DROPPED#", "URL"];
    let (mut table, mut failures) = (Table::new(&titles), String::new());
    for link in links {
        if let Some(LastFailure { message, at }) = &link.last_failure {
            let (name, at) = (printable(&link.name, SHOWN_MAX), printable(at, SHOWN_MAX));
            failures.push_str(&format!("\n{name}: {}, at {at}", printable(message, SHOWN_MAX)));
        }
        let state = if link.state == "givenUp" { "given up".to_owned() } else { link.state };
        let numbers = [link.connects, link.failed_attempts, link.received_messages, link.sent_messages];
        let [connects, failed, received, sent] = numbers.map(|number| number.to_string());
        let dropped = link.dropped_messages.to_string();
        table.row([link.name, state, connects, failed, received, sent, dropped, link.url]);
    }
    let lines = table.lines();
    if failures.is_empty() { lines } else { format!("{lines}\nlast failures:{failures}") }
}

/// Has one dialled.
pub(super) fn redial(arguments: RedialArguments) -> Result<(), Failure> {
    let shown = printable(&arguments.name, SHOWN_MAX);
    let mut output = Output::new(arguments.admin.json);
    let api = Api::new(arguments.admin)?;
    let path = format!("/api/v1/links/{}/redial", encoded(&arguments.name));
    let call = HttpCall { method: "POST", path_and_query: &path, body: None };
    let body = api.call(&format!("redial the link '{shown}'"), &call)?;
    output.answer(&body, || Ok(format!("the link {shown} is about to be dialled")))
}
