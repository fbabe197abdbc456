//! `wsgate check`: reads a configuration as `serve` would and says what it means or what is wrong.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use super::exit;
use super::failure::tell;
use crate::config::{
    self, Ack, AddressRules, AtCapacity, ClientAddress, ClientCertificates, ConfigError, Destination, DialSettings,
    Durability, EndpointSettings, EventKind, Format, Hosts, IdentityLimit, LinkDestination, LinkSettings,
    ListenerSettings, Origins, OutletPolicy, Proxy, RateSettings, Settings, StoreSettings, Welcome, WhenIdentityFull,
    WhenOver, write_duration, write_size,
};
use crate::display::{count, for_terminal};

/// Prints what the configuration means and returns 0, with warnings on stderr if there are some, or prints its mistakes
/// on stderr and returns 78. Nothing is bound and nothing is started. Without a file the built-in defaults are shown.
pub fn run(config: Option<&Path>) -> ExitCode {
    match read(config) {
        Ok((summary, settings)) => {
            for warning in &settings.warnings {
                tell(&warning.to_string());
            }
            // A reader that went away (`wsgate check | head -1`) has seen all that it wanted.
            let _ = io::stdout().write_all(for_terminal(&summary).as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            tell(&error.to_string());
            ExitCode::from(exit::CONFIG)
        }
    }
}

/// What `run` prints: a line that says ok, then one for each listener, endpoint, link and store.
pub fn report(config: Option<&Path>) -> Result<String, ConfigError> {
    read(config).map(|(summary, _)| summary)
}

/// The summary and what it is of.
fn read(config: Option<&Path>) -> Result<(String, Settings), ConfigError> {
    let (name, settings) = match config {
        Some(path) => (path.display().to_string(), config::load(path)?),
        None => ("built-in defaults".to_owned(), Settings::default()),
    };
    let (listeners, endpoints) = (settings.listeners.len(), settings.endpoints.len());
    let mut text = format!("{name}: ok: {}, {}", count(listeners, "listener"), count(endpoints, "endpoint"));
    if !settings.links.is_empty() {
        let _ = write!(text, ", {}", count(settings.links.len(), "link"));
    }
    if !settings.stores.is_empty() {
        let _ = write!(text, ", {}", count(settings.stores.len(), "store"));
    }
    if !settings.warnings.is_empty() {
        let _ = write!(text, ", {}", count(settings.warnings.len(), "warning"));
    }
    text.push('\n');
    for listener in &settings.listeners {
        text.push_str(&describe_listener(listener, &settings));
    }
    for endpoint in &settings.endpoints {
        text.push_str(&describe_endpoint(endpoint, &settings));
    }
    for link in &settings.links {
        text.push_str(&describe_link(link, &settings));
    }
    for store in &settings.stores {
        text.push_str(&describe_store(store));
    }
    text.push_str(&describe_admin(&settings));
    Ok((text, settings))
}

fn count_say(rules: usize) -> String {
    format!("{} {}", count(rules, "rule"), if rules == 1 { "says" } else { "say" })
}

fn describe_listener(listener: &ListenerSettings, all: &Settings) -> String {
    let ListenerSettings { name, address, tls, hosts, addresses, client_address, trusted_proxies: _, health } =
        listener;
    let mut protocol = if tls.is_some() { "TLS" } else { "plain" }.to_owned();
    if let Some(tls) = tls {
        if tls.certificates.len() > 1 {
            let _ = write!(protocol, " with {} certificates", tls.certificates.len());
        }
        if let Some(ClientCertificates { required, lists, .. }) = &tls.clients {
            protocol.push_str(if *required {
                ", clients need a certificate"
            } else {
                ", clients may show a certificate"
            });
            if !lists.is_empty() {
                protocol.push_str(" that is not revoked");
            }
        }
    }
    let mut on_it = all.endpoints.iter().filter(|endpoint| endpoint.is_on(listener));
    let reach = if address.is_local() {
        "this machine only"
    } else if listener.requires_certificates() || on_it.all(|endpoint| !endpoint.auth.is_empty()) {
        "reachable from the network"
    } else {
        "reachable from the network, without authentication"
    };
    let address = address.to_string();
    let called = if *name == address { String::new() } else { format!(" {name:?}") };
    let names = match hosts {
        Hosts::Named(names) if !names.is_empty() => format!(", as the host {}", names.join(" or ")),
        _ => String::new(),
    };
    let lists = describe_addresses(addresses);
    let by = match client_address {
        ClientAddress::Socket => String::new(),
        by => format!(", trusted proxies say the address ({})", by.word()),
    };
    let health = health.as_ref().map(|path| format!(", health checks at {path}")).unwrap_or_default();
    format!("  listener{called} {address}: {protocol}, {reach}{names}{lists}{by}{health}\n")
}

fn describe_admin(all: &Settings) -> String {
    let Some(ListenerSettings { address, tls, .. }) = &all.admin.listener else { return "  admin: off\n".to_owned() };
    let protocol = if tls.is_some() { "TLS" } else { "plain" };
    let reach = if address.is_local() { "this machine only" } else { "reachable from the network" };
    let names: Vec<&str> = all.admin.auth.iter().map(|id| &*all.auths[*id].name).collect();
    let mut text = format!("  admin {address}: {protocol}, {reach}");
    match (names.is_empty(), &all.admin.allow) {
        (true, _) => text.push_str(", without authentication"),
        (false, allow) => {
            let _ = write!(text, ", callers authenticate by {}", names.join(" or "));
            if let Some(rules) = allow {
                let _ = write!(text, ", {} what they may do", count_say(rules.len()));
            }
        }
    }
    text.push('\n');
    text
}

fn describe_addresses(rules: &AddressRules) -> &'static str {
    match (&rules.allow, &rules.deny) {
        (None, None) => "",
        (Some(_), None) => ", only for allow_addresses",
        (None, Some(_)) => ", not for deny_addresses",
        (Some(_), Some(_)) => ", only for allow_addresses without deny_addresses",
    }
}

fn describe_endpoint(endpoint: &EndpointSettings, all: &Settings) -> String {
    let mut text = format!("  endpoint {}: ", endpoint.path);
    if let Some(names) = &endpoint.listen {
        let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
        let _ = write!(text, "on {} only, ", names.join(" and "));
    }
    match &endpoint.relay {
        Some(relay) => {
            let _ = write!(text, "relays each client to {}", relay.shown);
            describe_dial(&mut text, &relay.dial);
            if let Some(hold) = relay.hold {
                let _ = write!(text, ", held for {}", write_duration(hold));
            }
        }
        None => {
            let destination = |to| describe_destination(to, all);
            describe_route(&mut text, endpoint.to.iter().map(destination).collect(), endpoint.format);
        }
    }
    if endpoint.welcome != Welcome::Off {
        text.push_str(", with a welcome");
    }
    let _ = write!(
        text,
        "; at most {}{}{}{}, {} a message",
        count(endpoint.max_connections, "client"),
        endpoint.max_room_connections.map(|most| format!(", {most} in a room")).unwrap_or_default(),
        if endpoint.at_capacity == AtCapacity::Replace { ", a new one replaces the oldest" } else { "" },
        describe_identity_limit(endpoint.identity_limit),
        write_size(endpoint.max_message as u64)
    );
    describe_rate(&mut text, endpoint.rate);
    describe_heartbeat(&mut text, endpoint.heartbeat);
    text.push_str(&match &endpoint.origins {
        Origins::Any => ", every web page may connect".to_owned(),
        Origins::List { same: true, others } if others.is_empty() => String::new(),
        Origins::List { same: false, others } if others.is_empty() => ", no web page may connect".to_owned(),
        Origins::List { same, others } => {
            let origins = same.then_some("the same host").into_iter().chain(others.iter().map(String::as_str));
            format!(", web pages of {} may connect", origins.collect::<Vec<_>>().join(" and "))
        }
    });
    text.push_str(describe_addresses(&endpoint.addresses));
    if !endpoint.auth.is_empty() {
        let names: Vec<&str> = endpoint.auth.iter().map(|id| &*all.auths[*id].name).collect();
        let _ = write!(text, ", clients authenticate by {}", names.join(" or "));
        if let Some(rules) = &endpoint.allow {
            let _ = write!(text, ", {} what they may do", count_say(rules.len()));
        }
    }
    describe_messages(&mut text, endpoint);
    describe_events(&mut text, &endpoint.events);
    text.push('\n');
    text
}

/// What is special about the messages of an endpoint's clients.
fn describe_messages(text: &mut String, endpoint: &EndpointSettings) {
    if endpoint.address_sessions {
        text.push_str(", clients may address each other");
    }
    if endpoint.choose_rooms {
        text.push_str(", clients may choose rooms");
    }
    if endpoint.ack == Ack::Stored {
        text.push_str(", clients are told what is stored");
    }
}

fn describe_identity_limit(limit: Option<IdentityLimit>) -> String {
    let Some(IdentityLimit { connections, when_full }) = limit else { return String::new() };
    let then = match when_full {
        WhenIdentityFull::Refuse => "",
        WhenIdentityFull::Replace => " of which a new one replaces the oldest",
    };
    format!(", {connections} with one identity{then}")
}

fn describe_link(link: &LinkSettings, all: &Settings) -> String {
    let mut text = format!("  link {} {}: ", link.name, link.shown);
    let destination = |to| describe_link_destination(to, all);
    describe_route(&mut text, link.to.iter().map(destination).collect(), link.format);
    describe_dial(&mut text, &link.dial);
    let _ = write!(text, "; {} a message", write_size(link.max_message as u64));
    describe_heartbeat(&mut text, link.heartbeat);
    if let Some((_, every)) = &link.ping {
        let _ = write!(text, ", ping_message every {}", write_duration(*every));
    }
    let then = |policy| match policy {
        OutletPolicy::DropOldest => "the oldest are dropped",
        OutletPolicy::DropNewest => "the newest are dropped",
        OutletPolicy::Block => "the senders wait",
    };
    let (messages, bytes) = (count(link.queue.messages, "message"), write_size(link.queue.bytes as u64));
    let _ = write!(text, "; while down, {messages} or {bytes} wait, then {}", then(link.queue.when_full));
    if link.queue.when_slow != OutletPolicy::Block {
        let _ = write!(text, "; when slow, {}", then(link.queue.when_slow));
    }
    if let Some(attempts) = link.backoff.attempts {
        let _ = write!(text, "; given up after {} in a row", count(attempts as usize, "failed attempt"));
    }
    if link.allow_loop {
        text.push_str("; loops are allowed");
    }
    if link.required {
        text.push_str("; not ready while it is down");
    }
    describe_events(&mut text, &link.events);
    text.push('\n');
    text
}

fn describe_store(store: &StoreSettings) -> String {
    let durability = match store.durability {
        Durability::Disk => "each commit waits for the disk",
        Durability::Os => "commits do not wait for the disk",
    };
    let then = match store.queue.when_full {
        OutletPolicy::DropOldest => "the oldest are dropped",
        OutletPolicy::DropNewest => "the newest are dropped",
        OutletPolicy::Block => "the senders wait",
    };
    let (messages, bytes) = (count(store.queue.messages, "message"), write_size(store.queue.bytes as u64));
    let gather = match store.gather {
        Duration::ZERO => String::new(),
        gather => format!(" and gathers for {}", write_duration(gather)),
    };
    format!(
        "  store {} {}: {durability}{gather}; {messages} or {bytes} wait, then {then}\n",
        store.name,
        store.path.display()
    )
}

fn describe_route(text: &mut String, mut to: Vec<String>, format: Format) {
    // One that names endpoints of several listeners.
    to.dedup();
    if to.is_empty() {
        text.push_str("messages are discarded");
    } else {
        let _ = write!(text, "to {}", to.join(", "));
    }
    text.push_str(match format {
        Format::Payload => "",
        Format::Message => ", format message",
        Format::N8n => ", format n8n",
    });
}

fn describe_rate(text: &mut String, rate: Option<RateSettings>) {
    let Some(RateSettings { messages, bytes, when_over, .. }) = rate else { return };
    let messages = messages.map(|messages| format!("{messages} messages"));
    let limits: Vec<_> = messages.into_iter().chain(bytes.map(write_size)).collect();
    let over = match when_over {
        WhenOver::Delay => "delayed",
        WhenOver::Close => "closed",
    };
    let _ = write!(text, ", {over} beyond {} a second", limits.join(" or "));
}

fn describe_heartbeat(text: &mut String, heartbeat: Option<Duration>) {
    match heartbeat {
        Some(interval) => {
            let _ = write!(text, ", pinged after {}", write_duration(interval));
        }
        None => text.push_str(", never pinged"),
    }
}

/// What makes the way to a server other than usual. The proxy's address may hold a password.
fn describe_dial(text: &mut String, dial: &DialSettings) {
    match dial.proxy {
        Proxy::Environment => {}
        Proxy::Off => text.push_str(", never through a proxy"),
        Proxy::Url(_) => text.push_str(", through a proxy"),
    }
    if !dial.tls.verify {
        text.push_str(", ITS CERTIFICATE IS NOT CHECKED");
    }
}

fn describe_events(text: &mut String, events: &BTreeSet<EventKind>) {
    let word = |event: &EventKind| match event {
        EventKind::Connect => "connect",
        EventKind::Disconnect => "disconnect",
        EventKind::Error => "error",
        EventKind::Present => "present",
    };
    if !events.is_empty() {
        let _ = write!(text, "; events: {}", events.iter().map(word).collect::<Vec<_>>().join(", "));
    }
}

fn describe_destination(destination: &Destination, all: &Settings) -> String {
    match destination {
        Destination::Reply => "reply".to_owned(),
        Destination::Broadcast => "broadcast".to_owned(),
        Destination::Others => "others".to_owned(),
        Destination::Endpoint { id, .. } => format!("endpoint:{}", all.endpoints[id.0].path),
        Destination::Picked { template, .. } => format!("endpoint:{template}"),
        Destination::Link(id) => format!("link:{}", all.links[id.0].name),
        Destination::Store(id) => format!("store:{}", all.stores[id.0].name),
    }
}

fn describe_link_destination(destination: &LinkDestination, all: &Settings) -> String {
    match destination {
        LinkDestination::Reply => "reply".to_owned(),
        LinkDestination::Endpoint { template, .. } => format!("endpoint:{template}"),
        LinkDestination::Link(id) => format!("link:{}", all.links[id.0].name),
        LinkDestination::Store(id) => format!("store:{}", all.stores[id.0].name),
    }
}
