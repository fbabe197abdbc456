//! The addresses and names of listeners, and the names of listeners in endpoints.

use std::net::IpAddr;

use crate::config::mistake::Report;
use crate::config::raw::endpoint::RawEndpoint;
use crate::config::raw::listen::RawListener;
use crate::config::section::nearest;
use crate::config::settings::{EndpointSettings, ListenAddress, ListenerSettings};

/// Two listeners cannot have the same address, nor the same name.
pub(super) fn check(listeners: &[RawListener], report: &Report<'_>) {
    for (i, listener) in listeners.iter().enumerate().filter(|(_, listener)| listener.valid) {
        for earlier in listeners[..i].iter().filter(|earlier| earlier.valid) {
            check_pair(earlier, listener, report);
        }
    }
    listeners.iter().for_each(|listener| check_proxies(listener, report));
}

/// Who speaks for clients and who is believed belong together.
fn check_proxies(listener: &RawListener, report: &Report<'_>) {
    let (settings, by) = (&listener.settings, listener.settings.client_address.word());
    let of_unix = matches!(settings.address, ListenAddress::Unix(_));
    let line = if of_unix { "trusted_proxies = [\"unix\"]" } else { "trusted_proxies = [\"127.0.0.1\"]" };
    let write = format!("write {line}{}", if of_unix { "" } else { ", with the addresses of your proxies" });
    match (listener.client_address_at, listener.trusted_proxies) {
        (Some(at), None) => {
            let why = format!("\"client_address\" in [[listen]] is {by:?}, but no proxy is trusted: {write}");
            report.mistake(at, why);
        }
        (Some(_), Some((at, true))) if settings.trusted_proxies.list.is_empty() => {
            report.mistake(
                at,
                format!("\"trusted_proxies\" in [[listen]] is empty, so nobody could say {by:?}: {write}"),
            );
        }
        (Some(_), Some((at, true))) if of_unix && listener.valid && !settings.trusted_proxies.list.contains(None) => {
            let why =
                "\"trusted_proxies\" in [[listen]] has no \"unix\", but a proxy has no other address on a Unix socket";
            report.mistake(at, format!("{why}: {write}"));
        }
        (None, Some((at, true))) => {
            let why =
                "\"trusted_proxies\" in [[listen]] has no meaning while the socket says where a client comes from";
            let advice =
                "write client_address = \"x-forwarded-for\", \"forwarded\" or \"proxy_protocol\", or remove it";
            report.mistake(at, format!("{why}: {advice}"));
        }
        _ => {}
    }
}

fn check_pair(earlier: &RawListener, later: &RawListener, report: &Report<'_>) {
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
pub(super) fn same_address(earlier: &ListenAddress, later: &ListenAddress) -> Option<String> {
    if let (ListenAddress::Tcp(a), ListenAddress::Tcp(b)) = (earlier, later) {
        if a.port() == 0 || a.port() != b.port() {
            return None;
        }
        // `[::]` is every address of both kinds, and `::ffff:127.0.0.1` is 127.0.0.1.
        let (first, second) = (a.ip().to_canonical(), b.ip().to_canonical());
        let covers = |all: IpAddr, one: IpAddr| all.is_unspecified() && (all.is_ipv6() || one.is_ipv4());
        if a != b && (first == second || covers(first, second) || covers(second, first)) {
            return Some(format!("\"{later}\" overlaps with \"{earlier}\", which is taken"));
        }
    }
    (earlier == later).then(|| format!("\"{later}\" is already taken"))
}

/// The path of health checks is no endpoint's on the same listener: its clients could not connect.
pub(super) fn check_health(listeners: &[RawListener], endpoints: &[RawEndpoint], report: &Report<'_>) {
    let default = EndpointSettings::default().path;
    for listener in listeners.iter().filter(|listener| listener.valid) {
        let (Some(health), Some(at)) = (&listener.settings.health, listener.health_at) else { continue };
        let is_taken = |endpoint: &&RawEndpoint| {
            let is_same = endpoint.pattern.as_ref().is_some_and(|pattern| pattern.same_shape(health));
            is_same && endpoint.settings.is_on(&listener.settings)
        };
        let whose = match endpoints.iter().find(is_taken) {
            Some(endpoint) => format!("the path of the endpoint on line {}", report.line(endpoint.path_at)),
            None if endpoints.is_empty() && default.same_shape(health) => "the path of the default endpoint".to_owned(),
            None => continue,
        };
        let path = health.as_str();
        let advice = "choose another path, such as \"/healthz\"";
        report.mistake(at, format!("\"health\" in [[listen]] is {path:?}, which is {whose}: {advice}"));
    }
}

/// Each listener leads to an endpoint: a client of one that does not would get 404 on every path.
pub(super) fn check_used(listeners: &[RawListener], endpoints: &[RawEndpoint], report: &Report<'_>) {
    let named = || endpoints.iter().flat_map(|endpoint| &endpoint.listen).map(|text| text.value.as_str());
    let is_known = |name: &str| listeners.iter().any(|listener| listener.settings.name == name);
    let serves_all = |endpoint: &RawEndpoint| endpoint.settings.listen.as_ref().is_none_or(|names| names.is_empty());
    // A name or an address that is wrong is a mistake of its own, and may be the one that is missing.
    if endpoints.is_empty() || endpoints.iter().any(serves_all) || !named().all(is_known) {
        return;
    }
    for listener in listeners.iter().filter(|listener| listener.valid) {
        let name = &listener.settings.name;
        if !named().any(|named| named == name) {
            report.mistake(
                listener.name_at,
                format!(
                    "no endpoint is reachable on the listener {name:?}: add {name:?} to \"listen\" of an [[endpoint]], or \
                     remove this [[listen]]"
                ),
            );
        }
    }
}

/// The listeners that an endpoint names must be there.
pub(super) fn check_names(listeners: &[RawListener], endpoint: &RawEndpoint, report: &Report<'_>) {
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
