//! Relays and the endpoints that they are of.

use crate::config::mistake::Report;
use crate::config::raw::endpoint::RawEndpoint;
use crate::config::raw::relay::RawRelay;
use crate::config::section::nearest;
use crate::path::Pattern;
use crate::url::PathTemplate;

use super::dial;

/// Checks a relay beside the endpoint that it is of. Gives back its path with the endpoint's parameters in place, if each
/// of them exists.
pub(super) fn resolve(endpoint: &RawEndpoint, report: &Report<'_>) -> Option<PathTemplate<usize>> {
    let relay = endpoint.relay.as_ref()?;
    for (key, at) in &endpoint.not_of_relay {
        let why = "because each client is connected to the relay's server";
        report.mistake(*at, format!("{key:?} in [[endpoint]] has no meaning beside relay, {why}: remove one of them"));
    }
    dial::check("relay of [[endpoint]]", &relay.dial, report);
    check_forwarded(relay, report);
    let pattern = endpoint.pattern.as_ref()?;
    check_parameters(relay, pattern, report);
    relay.dial.path.as_ref()?.resolve(|name| pattern.names().position(|own| own == name))
}

/// The parameters in the URL are some of the endpoint's.
fn check_parameters(relay: &RawRelay, pattern: &Pattern, report: &Report<'_>) {
    let unknown = |name: &&String| !pattern.names().any(|known| known == *name);
    for name in relay.dial.parameters.iter().filter(unknown) {
        let advice = match nearest(name, pattern.names()) {
            Some(near) => format!("did you mean {{{near}}}?"),
            None => "add it to that path, or write the value".to_owned(),
        };
        let path = pattern.as_str();
        // What stands in braces may come from a variable of the environment; a name of a parameter does not.
        let shown = if Pattern::parse(&format!("/{{{name}}}")).is_ok() { name } else { "..." };
        report.mistake(
            relay.dial.url_at,
            format!("the relay's URL has {{{shown}}}, but the path {path:?} has no such parameter: {advice}"),
        );
    }
}

/// A header is either forwarded or set.
fn check_forwarded(relay: &RawRelay, report: &Report<'_>) {
    for (name, at) in &relay.forward_headers {
        let set = relay.dial.headers.iter().any(|header| header.name.eq_ignore_ascii_case(name));
        let by = match (set, relay.dial.origin_at) {
            (true, _) => "headers",
            (false, Some(_)) if name.eq_ignore_ascii_case("origin") => "origin",
            _ => continue,
        };
        report.mistake(
            *at,
            format!(
                "\"forward_headers\" in relay of [[endpoint]] has {name:?}, which {by} sets too: remove one of them"
            ),
        );
    }
}
