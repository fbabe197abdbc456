//! `wsgate info`: what a running wsgate is and serves.

use std::fmt::Write as _;

use clap::Args;
use serde::Deserialize;

use crate::cli::failure::Failure;
use crate::cli::operate::api::Api;
use crate::cli::operate::arguments::AdminArguments;
use crate::cli::operate::help::help;
use crate::cli::operate::output::Output;
use crate::cli::operate::table::Table;
use crate::display::{count, printable};

pub(super) const AFTER_HELP: &str = help!(
    "\
Examples:
  wsgate info
  wsgate info --config /etc/wsgate/wsgate.toml
  wsgate info --json | jq .clients"
);

/// How much of a name is shown.
const NAME_MAX: usize = 100;

#[derive(Args)]
pub struct InfoArguments {
    #[command(flatten)]
    admin: AdminArguments,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Info {
    name: Option<String>,
    version: String,
    uptime_seconds: f64,
    is_ready: bool,
    connections: u64,
    max_connections: u64,
    clients: u64,
    listeners: Vec<Listener>,
    endpoints: Vec<Endpoint>,
    links: Vec<Link>,
}

#[derive(Deserialize)]
struct Listener {
    name: String,
    address: String,
    tls: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    path: String,
    active_connections: u64,
    max_connections: u64,
    listeners: Vec<String>,
    relay: Option<String>,
}

#[derive(Deserialize)]
struct Link {
    name: String,
    url: String,
    up: bool,
}

/// Asks and prints.
pub(super) fn run(arguments: InfoArguments) -> Result<(), Failure> {
    let doing = "look at wsgate";
    let mut output = Output::new(arguments.admin.json);
    let api = Api::new(arguments.admin)?;
    let body = api.get(doing, "/api/v1/info")?;
    output.answer(&body, || Ok(in_words(api.read(doing, &body)?)))
}

fn in_words(info: Info) -> String {
    let name = info.name.map(|name| format!(" '{}'", printable(&name, NAME_MAX))).unwrap_or_default();
    let ready = if info.is_ready { "ready" } else { "not ready" };
    let mut text = format!(
        "wsgate {}{name}: {ready}, up for {}\n{}, {} of at most {}\n",
        printable(&info.version, NAME_MAX),
        time(info.uptime_seconds as u64),
        count(info.clients, "client"),
        count(info.connections, "connection"),
        info.max_connections,
    );
    let mut table = Table::new(&["LISTENER", "ADDRESS", "TLS"]);
    info.listeners.into_iter().for_each(|listener| {
        table.row([listener.name, listener.address, if listener.tls { "yes" } else { "no" }.to_owned()]);
    });
    let _ = write!(text, "\n{}", table.lines());
    let mut table = Table::new(&["ENDPOINT", "CLIENTS#", "AT MOST#", "LISTENERS", "RELAY"]);
    info.endpoints.into_iter().for_each(|endpoint| {
        let (now, most) = (endpoint.active_connections.to_string(), endpoint.max_connections.to_string());
        table.row([endpoint.path, now, most, endpoint.listeners.join(" "), endpoint.relay.unwrap_or_default()]);
    });
    let _ = write!(text, "\n{}", table.lines());
    if !info.links.is_empty() {
        let mut table = Table::new(&["LINK", "UP", "URL"]);
        info.links.into_iter().for_each(|link| {
            table.row([link.name, if link.up { "yes" } else { "no" }.to_owned(), link.url]);
        });
        let _ = write!(text, "\n{}", table.lines());
    }
    text
}

/// A time in its two largest units.
fn time(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_in_its_two_largest_units() {
        for (seconds, expected) in [(0, "0 s"), (61, "1 min 1 s"), (7_260, "2 h 1 min"), (90_000, "1 d 1 h")] {
            assert_eq!(time(seconds), expected);
        }
    }
}
