//! `wsgate clients`: the clients of a running wsgate, page by page.

use std::io;

use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::cli::failure::{Failure, output_failed};
use crate::cli::operate::api::{Api, query};
use crate::cli::operate::arguments::AdminArguments;
use crate::cli::operate::help::help;
use crate::cli::operate::output::Output;
use crate::cli::operate::table::Table;
use crate::display::count;

pub(super) const AFTER_HELP: &str = help!(
    "\
Examples:
  wsgate clients
  wsgate clients --endpoint '/rooms/{room}' --identity press-3
  wsgate clients --address 10.0.0.7 --limit 20
  wsgate clients --json | jq -r 'select(.queuedBytes > 0).id'

A client has to fit all of the options. A list of many clients is asked for in pages: clients that
come or go meanwhile may be in it or not, and none is in it twice."
);

/// The most clients on a page that a request can ask for.
const PAGE_MAX: u64 = 1000;

#[derive(Args)]
pub struct ClientsArguments {
    #[command(flatten)]
    filter: Filter,
    /// At most this many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    #[command(flatten)]
    admin: AdminArguments,
}

/// Which clients.
#[derive(Args)]
struct Filter {
    /// Only those of the endpoint with this path, as it is configured
    #[arg(long, value_name = "PATH")]
    endpoint: Option<String>,
    /// Only those in the room with this path
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// Only those with this identity
    #[arg(long, value_name = "NAME")]
    identity: Option<String>,
    /// Only those from this IP address
    #[arg(long, value_name = "IP")]
    address: Option<String>,
}

/// A page of the list.
#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    items: Vec<&'a RawValue>,
    next: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Client {
    id: String,
    path: String,
    address: Option<String>,
    identity: Option<String>,
    user_agent: Option<String>,
    connected_at: String,
    held_by: Option<String>,
    received_messages: u64,
    queued_bytes: u64,
}

const TITLES: [&str; 9] = ["ID", "PATH", "ADDRESS", "IDENTITY", "SINCE", "RECEIVED#", "QUEUED#", "HELD BY", "PROGRAM"];

const DOING: &str = "list the clients";

/// Asks for all pages and prints what is on them.
pub(super) fn run(arguments: ClientsArguments) -> Result<(), Failure> {
    let mut output = Output::new(arguments.admin.json);
    let ClientsArguments { filter, limit, admin } = arguments;
    let api = Api::new(admin)?;
    let mut table = Table::new(&TITLES);
    let (mut left, mut listed) = (limit.unwrap_or(u64::MAX), 0_u64);
    let mut after: Option<String> = None;
    loop {
        let body = api.get(DOING, &filter.page(left.min(PAGE_MAX), after.as_deref()))?;
        let page: Page<'_> = api.read(DOING, &body)?;
        listed += page.items.len() as u64;
        left = left.saturating_sub(page.items.len() as u64);
        if output.is_json() {
            if let Err(error) = print(&page, &mut output) {
                return output_failed(&error);
            }
        } else {
            for item in page.items {
                add(&mut table, api.read(DOING, item.get().as_bytes())?);
            }
        }
        after = page.next;
        if after.is_none() || left == 0 {
            break;
        }
    }
    if output.is_json() {
        return Ok(());
    }
    let more = if after.is_some() { ", and there are more" } else { "" };
    let text = if listed == 0 { String::new() } else { table.lines() };
    output.answer(b"", || Ok(format!("{text}{}{more}", count(listed, "client"))))
}

impl Filter {
    /// What asks for the page behind `after`.
    fn page(&self, limit: u64, after: Option<&str>) -> String {
        let asked = query(&[
            ("endpoint", self.endpoint.as_deref()),
            ("path", self.path.as_deref()),
            ("identity", self.identity.as_deref()),
            ("address", self.address.as_deref()),
            ("limit", Some(&limit.to_string())),
            ("after", after),
        ]);
        format!("/api/v1/clients{asked}")
    }
}

fn print(page: &Page<'_>, output: &mut Output) -> io::Result<()> {
    page.items.iter().try_for_each(|item| output.json(item.get().as_bytes()))?;
    output.flush()
}

fn add(table: &mut Table, client: Client) {
    table.row([
        client.id,
        client.path,
        client.address.unwrap_or_default(),
        client.identity.unwrap_or_default(),
        // Seconds are enough.
        client.connected_at.get(..19).map(|at| format!("{at}Z")).unwrap_or(client.connected_at),
        client.received_messages.to_string(),
        client.queued_bytes.to_string(),
        client.held_by.unwrap_or_default(),
        client.user_agent.unwrap_or_default(),
    ]);
}
