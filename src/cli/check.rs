//! `wsgate check`: reads a configuration as `serve` would and says what it means or what is wrong.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use super::exit;
use crate::config::{
    self, ConfigError, Destination, EndpointSettings, Format, ListenerSettings, Origins, Settings, Welcome,
    write_duration, write_size,
};

/// Prints what the configuration means and returns 0, or its mistakes on stderr and returns 78.
/// Nothing is bound and nothing is started. Without a file the built-in defaults are shown.
pub fn run(config: Option<&Path>) -> ExitCode {
    match report(config) {
        Ok(summary) => {
            // A reader that went away (`wsgate check | head -1`) has seen all that it wanted.
            let _ = io::stdout().write_all(summary.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::from(exit::CONFIG)
        }
    }
}

/// What [`run`] prints: a line that says ok, then one for each listener and endpoint.
pub fn report(config: Option<&Path>) -> Result<String, ConfigError> {
    let (name, settings) = match config {
        Some(path) => (path.display().to_string(), config::load(path)?),
        None => ("built-in defaults".to_owned(), Settings::default()),
    };
    let (listeners, endpoints) = (settings.listeners.len(), settings.endpoints.len());
    let mut text = format!("{name}: ok: {}, {}\n", count(listeners, "listener"), count(endpoints, "endpoint"));
    for listener in &settings.listeners {
        text.push_str(&describe_listener(listener));
    }
    for endpoint in &settings.endpoints {
        text.push_str(&describe_endpoint(endpoint));
    }
    Ok(text)
}

fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

fn describe_listener(listener: &ListenerSettings) -> String {
    let ListenerSettings { name, address, tls } = listener;
    let protocol = if tls.is_some() { "TLS" } else { "plain" };
    let reach = if address.is_local() { "this machine only" } else { "reachable from the network, by anybody" };
    let address = address.to_string();
    let called = if *name == address { String::new() } else { format!(" {name:?}") };
    format!("  listener{called} {address}: {protocol}, {reach}\n")
}

fn describe_endpoint(endpoint: &EndpointSettings) -> String {
    let mut text = format!("  endpoint {}: ", endpoint.path);
    if let Some(names) = &endpoint.listen {
        let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
        let _ = write!(text, "on {} only, ", names.join(" and "));
    }
    text.push_str(&match &*endpoint.to {
        [] => "messages are discarded".to_owned(),
        to => format!("to {}", to.iter().map(describe_destination).collect::<Vec<_>>().join(", ")),
    });
    text.push_str(match endpoint.format {
        Format::Payload => "",
        Format::Message => ", format message",
        Format::N8n => ", format n8n",
    });
    if endpoint.welcome != Welcome::Off {
        text.push_str(", with a welcome");
    }
    let _ = write!(
        text,
        "; at most {}, {} a message",
        count(endpoint.max_connections, "client"),
        write_size(endpoint.max_message as u64)
    );
    match endpoint.heartbeat {
        Some(interval) => {
            let _ = write!(text, ", pinged after {}", write_duration(interval));
        }
        None => text.push_str(", never pinged"),
    }
    text.push_str(&match &endpoint.origins {
        Origins::Same => String::new(),
        Origins::Any => ", every web page may connect".to_owned(),
        Origins::List(origins) if origins.is_empty() => ", no web page may connect".to_owned(),
        Origins::List(origins) => format!(", web pages of {} may connect", origins.join(" and ")),
    });
    if endpoint.address_sessions {
        text.push_str(", clients may address each other");
    }
    text.push('\n');
    text
}

fn describe_destination(destination: &Destination) -> String {
    match destination {
        Destination::Reply => "reply".to_owned(),
        Destination::Broadcast => "broadcast".to_owned(),
        Destination::Others => "others".to_owned(),
        Destination::Endpoint(path) => format!("endpoint:{path}"),
    }
}
