//! What the values mean together: names that must exist, things that must differ, options that
//! contradict each other.

mod link;
mod loops;

use std::net::SocketAddr;
use std::time::Duration;

use crate::path::Pattern;

use super::mistake::Report;
use super::raw::Raw;
use super::raw::endpoint::RawEndpoint;
use super::raw::listen::RawListener;
use super::section::{Text, nearest};
use super::settings::{Destination, ListenAddress, ListenerSettings};

/// Reports every contradiction in what was read.
pub(super) fn check(raw: &Raw, report: &Report<'_>) {
    for (i, listener) in raw.listeners.iter().enumerate().filter(|(_, listener)| listener.valid) {
        for earlier in raw.listeners[..i].iter().filter(|earlier| earlier.valid) {
            check_listeners(earlier, listener, report);
        }
    }
    for (i, endpoint) in raw.endpoints.iter().enumerate() {
        check_shape(&raw.endpoints[..i], endpoint, report);
        check_listen(&raw.listeners, endpoint, report);
        check_route(raw, endpoint, report);
        check_limits(raw, endpoint, report);
        link::check_relay(endpoint, report);
        if endpoint.relay.is_none() {
            link::check_events("[[endpoint]]", endpoint.events_at, &endpoint.settings.to, report);
        }
    }
    for (i, link) in raw.links.iter().enumerate() {
        link::check_link(&raw.links[..i], link, report);
        link::check_route(raw, link, report);
        link::check_events("[[link]]", link.events_at, &link.settings.to, report);
    }
    loops::check(raw, report);
}

fn check_listeners(earlier: &RawListener, later: &RawListener, report: &Report<'_>) {
    let ListenerSettings { name, address, .. } = &later.settings;
    if let Some(why) = same_address(&earlier.settings.address, address) {
        let line = report.line(earlier.address_at);
        report.mistake(later.address_at, format!("{why} by line {line}: change one of them, or remove one"));
    } else if earlier.settings.name == *name {
        let line = report.line(earlier.name_at);
        let advice = "give each listener its own name";
        report.mistake(later.name_at, format!("the listener on line {line} is called {name:?} too: {advice}"));
    }
}

/// Why the two cannot both be bound, if so.
fn same_address(earlier: &ListenAddress, later: &ListenAddress) -> Option<String> {
    if let (ListenAddress::Tcp(a), ListenAddress::Tcp(b)) = (earlier, later) {
        if a.port() == 0 || a.port() != b.port() {
            return None;
        }
        let covers = |all: &SocketAddr, one: &SocketAddr| all.ip().is_unspecified() && all.is_ipv4() == one.is_ipv4();
        if a != b && (covers(a, b) || covers(b, a)) {
            return Some(format!("\"{later}\" overlaps with \"{earlier}\", which is taken"));
        }
    }
    (earlier == later).then(|| format!("\"{later}\" is already taken"))
}

fn check_shape(earlier: &[RawEndpoint], endpoint: &RawEndpoint, report: &Report<'_>) {
    let Some(pattern) = &endpoint.pattern else { return };
    let same = earlier.iter().find(|other| other.pattern.as_ref().is_some_and(|other| other.same_shape(pattern)));
    if let Some(same) = same {
        let line = report.line(same.path_at);
        let other = &same.settings.path;
        report.mistake(
            endpoint.path_at,
            format!("{:?} matches the same paths as {other:?} on line {line}: change one of them", pattern.as_str()),
        );
    }
}

fn check_listen(listeners: &[RawListener], endpoint: &RawEndpoint, report: &Report<'_>) {
    if listeners.iter().any(|listener| !listener.valid) {
        return;
    }
    let default = ListenerSettings::default().name;
    let mut names: Vec<&str> = listeners.iter().map(|listener| &*listener.settings.name).collect();
    if names.is_empty() {
        names.push(&default);
    }
    names.sort_unstable();
    names.dedup();
    for text in endpoint.listen.iter().filter(|text| !names.contains(&text.value.as_str())) {
        let advice = match nearest(&text.value, names.iter().copied()) {
            Some(name) => format!("did you mean {name:?}?"),
            None => format!("write one of {}, or add a [[listen]] with this name", quoted(&names)),
        };
        report.mistake(text.at, format!("no listener is called {:?}: {advice}", text.written));
    }
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}

fn check_route(raw: &Raw, endpoint: &RawEndpoint, report: &Report<'_>) {
    if endpoint.relay.is_some() {
        // That it has a route at all is the mistake.
        return;
    }
    let position = |wanted: &Destination| endpoint.to.iter().find(|(destination, _)| destination == wanted);
    if let (Some(_), Some((_, others))) = (position(&Destination::Broadcast), position(&Destination::Others)) {
        report.mistake(
            others.at,
            "\"others\" beside \"broadcast\" would send everything twice: remove one (broadcast includes the sender)",
        );
    }
    for (destination, text) in &endpoint.to {
        match destination {
            Destination::Endpoint(path) => check_target(&raw.endpoints, endpoint, path, text, report),
            Destination::Link(name) => link::check_destination(&raw.links, name, text, report),
            Destination::Reply | Destination::Broadcast | Destination::Others => {}
        }
    }
}

fn check_target(endpoints: &[RawEndpoint], from: &RawEndpoint, path: &str, text: &Text, report: &Report<'_>) {
    let written = &text.written;
    if from.settings.path == path {
        let advice = "write \"broadcast\", or \"others\" to leave the sender out";
        report.mistake(text.at, format!("{written:?} is the endpoint itself: {advice}"));
        return;
    }
    if let Some(target) = endpoints.iter().find(|endpoint| endpoint.settings.path == path) {
        link::check_is_no_relay(target, text, report);
    } else {
        let target = Pattern::parse(path).expect("the reader of destinations parsed it");
        let patterns = || endpoints.iter().filter_map(|endpoint| endpoint.pattern.as_ref());
        let advice = if let Some(same) = patterns().find(|pattern| pattern.same_shape(&target)) {
            format!("write \"endpoint:{same}\", with the names that stand in its path")
        } else if let Some(room) = patterns().find(|pattern| pattern.matches(path).is_some()) {
            format!("a single room cannot be named, write \"endpoint:{room}\"; the sender's values pick the room")
        } else if let Some(near) = nearest(path, patterns().map(Pattern::as_str)) {
            format!("did you mean \"endpoint:{near}\"?")
        } else {
            format!("add an [[endpoint]] with path = {path:?}")
        };
        report.mistake(text.at, format!("{written:?} names no endpoint: {advice}"));
        return;
    }
    let (Some(sender), Ok(target)) = (&from.pattern, Pattern::parse(path)) else { return };
    let missing: Vec<String> =
        target.names().filter(|name| !sender.names().any(|n| n == *name)).map(|name| format!("{{{name}}}")).collect();
    if !missing.is_empty() {
        report.mistake(
            text.at,
            format!(
                "{written:?} needs {}, but the path {:?} of its senders has no such parameter: add it to that path, or \
                 choose another destination",
                missing.join(" and "),
                sender.as_str()
            ),
        );
    }
}

fn check_pong_timeout(table: &str, at: Option<usize>, heartbeat: Option<Duration>, report: &Report<'_>) {
    if let (Some(at), None) = (at, heartbeat) {
        report.mistake(
            at,
            format!(
                "\"pong_timeout\" in {table} has no meaning with heartbeat = \"off\": remove it, or give heartbeat a \
                 duration"
            ),
        );
    }
}

fn check_limits(raw: &Raw, endpoint: &RawEndpoint, report: &Report<'_>) {
    check_pong_timeout("[[endpoint]]", endpoint.pong_timeout_at, endpoint.settings.heartbeat, report);
    let (here, all) = (endpoint.settings.max_connections, raw.gateway.max_connections);
    if let (Some(at), true) = (endpoint.max_connections_at, here > all) {
        report.mistake(
            at,
            format!(
                "\"max_connections\" in [[endpoint]] is {here}, but the whole gateway takes {all}: lower it, or raise \
                 max_connections under [gateway]"
            ),
        );
    }
}
