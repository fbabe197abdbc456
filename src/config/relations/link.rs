//! What the values of links, relays and events mean together.

use crate::config::mistake::Report;
use crate::config::raw::Raw;
use crate::config::raw::dial::RawDial;
use crate::config::raw::endpoint::RawEndpoint;
use crate::config::raw::link::RawLink;
use crate::config::section::{Text, nearest};
use crate::config::settings::Destination;
use crate::config::units::write_duration;
use crate::path::Pattern;
use crate::template::{Source, Template};

/// A link by itself and beside those before it.
pub(super) fn check_link(earlier: &[RawLink], link: &RawLink, report: &Report<'_>) {
    let settings = &link.settings;
    let same = earlier.iter().find(|other| other.valid && link.valid && other.settings.name == settings.name);
    if let Some(same) = same {
        let line = report.line(same.name_at);
        let advice = "give each link its own name";
        report.mistake(link.name_at, format!("the link on line {line} is called {:?} too: {advice}", settings.name));
    }
    super::check_pong_timeout("[[link]]", link.pong_timeout_at, settings.heartbeat, report);
    if let Some(at) = link.idle_ping_every_at {
        let advice = "add ping_message, the text to send, or remove it";
        report.mistake(at, format!("\"ping_every\" in [[link]] has no meaning without a ping_message: {advice}"));
    }
    let (first, most) = (settings.backoff.first, settings.backoff.most);
    if let (Some(at), true) = (link.backoff_at, first > most) {
        let (first, most) = (write_duration(first), write_duration(most));
        let advice = "lower first, or raise most";
        report.mistake(at, format!("\"backoff\" in [[link]] begins with {first}, but is at most {most}: {advice}"));
    }
    check_dial("[[link]]", &link.dial, report);
}

fn check_dial(table: &str, dial: &RawDial, report: &Report<'_>) {
    let tls = &dial.settings.tls;
    if let (Some(at), Some(url)) = (dial.tls_at, &dial.url)
        && !url.secure
    {
        report.mistake(at, format!("\"tls\" in {table} has no meaning for a ws:// URL: remove it, or write wss://"));
    }
    if !tls.verify {
        let unused = [("ca", dial.ca_at), ("server_name", dial.server_name_at)];
        for (key, at) in unused.into_iter().filter_map(|(key, at)| Some((key, at?))) {
            let advice = "remove one of them";
            report.mistake(at, format!("{key:?} in tls of {table} has no meaning with verify = false: {advice}"));
        }
    }
    let header = |name: &str| dial.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    if let (Some(header), Some(_)) = (header("authorization"), dial.url.as_ref().and_then(|url| url.user.as_ref())) {
        report.mistake(
            header.at,
            format!(
                "{:?} in headers of {table} stands beside a user in the URL, which is sent by it too: remove one",
                header.name
            ),
        );
    }
    if let (Some(header), Some(_)) = (header("origin"), dial.origin_at) {
        let advice = "remove one";
        report.mistake(header.at, format!("{:?} in headers of {table} stands beside origin: {advice}", header.name));
    }
}

/// A relay and the endpoint that it is of.
pub(super) fn check_relay(endpoint: &RawEndpoint, report: &Report<'_>) {
    let Some(relay) = &endpoint.relay else { return };
    for (key, at) in &endpoint.not_of_relay {
        let why = "each client talks with the relay's server";
        report.mistake(*at, format!("{key:?} in [[endpoint]] has no meaning beside relay, {why}: remove one of them"));
    }
    check_dial("relay of [[endpoint]]", &relay.dial, report);
    if let Some(pattern) = &endpoint.pattern {
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

/// Events go where messages go, but not back, nor where a message says by its fields.
pub(super) fn check_events(table: &str, at: Option<usize>, to: &[Destination], report: &Report<'_>) {
    let Some(at) = at else { return };
    // Only links have destinations that are no pattern but a template.
    let needs_fields = |destination: &Destination| match destination {
        Destination::Endpoint(path) if table == "[[link]]" => Template::parse(path)
            .is_ok_and(|template| template.sources().iter().any(|source| matches!(source, Source::Field(_)))),
        _ => false,
    };
    let mut others = to.iter().filter(|destination| **destination != Destination::Reply).peekable();
    let problem = if others.peek().is_none() {
        "which has none but reply"
    } else if others.all(needs_fields) {
        "which all need a field of a message, and an event has none"
    } else {
        return;
    };
    let advice = "add one, or remove events";
    report.mistake(at, format!("\"events\" in {table} go to the destinations in its to, {problem}: {advice}"));
}

/// A link as a destination.
pub(super) fn check_destination(links: &[RawLink], name: &str, text: &Text, report: &Report<'_>) {
    let names = || links.iter().map(|link| &*link.settings.name);
    if links.iter().any(|link| !link.valid) || names().any(|known| known == name) {
        return;
    }
    let advice = match nearest(name, names()) {
        Some(near) => format!("did you mean \"link:{near}\"?"),
        None => "add a [[link]] with this name".to_owned(),
    };
    report.mistake(text.at, format!("{:?} names no link: {advice}", text.written));
}

/// The clients of a relay have nobody else to talk with.
pub(super) fn check_is_no_relay(target: &RawEndpoint, text: &Text, report: &Report<'_>) {
    if target.relay.is_some() {
        report.mistake(
            text.at,
            format!("{:?} is a relay, whose clients get what its server sends: choose another endpoint", text.written),
        );
    }
}

/// The destinations of a link.
pub(super) fn check_route(raw: &Raw, link: &RawLink, report: &Report<'_>) {
    for (destination, text) in &link.to {
        match destination {
            Destination::Endpoint(path) => check_target(raw, path, text, report),
            Destination::Link(name) if *name == link.settings.name => {
                let advice = "write \"reply\" for its own remote";
                report.mistake(text.at, format!("{:?} is the link itself: {advice}", text.written));
            }
            Destination::Link(name) => check_destination(&raw.links, name, text, report),
            Destination::Reply | Destination::Broadcast | Destination::Others => {}
        }
    }
}

fn check_target(raw: &Raw, path: &str, text: &Text, report: &Report<'_>) {
    let written = &text.written;
    let template = Template::parse(path).expect("the reader of destinations parsed it");
    let patterns = || raw.endpoints.iter().filter_map(|endpoint| endpoint.pattern.as_ref());
    let leads_to =
        |endpoint: &&RawEndpoint| endpoint.pattern.as_ref().is_some_and(|pattern| template.leads_to(pattern));
    if let Some(target) = raw.endpoints.iter().find(leads_to) {
        check_is_no_relay(target, text, report);
        return;
    }
    if raw.endpoints.is_empty() && path == "/" {
        // The endpoint that is there when none is written.
        return;
    }
    let advice = if let Some(room) = patterns().find(|pattern| pattern.matches(path).is_some()) {
        format!(
            "a single room cannot be named; in the shape of {:?} write for each parameter where its value comes from, \
             {{link}} or {{payload.KEY}}",
            room.as_str()
        )
    } else if let Some(near) = nearest(path, patterns().map(Pattern::as_str)) {
        format!("did you mean the endpoint {near:?}?")
    } else {
        format!("add an [[endpoint]] with a path of the shape {:?}", template.shape().as_str())
    };
    report.mistake(text.at, format!("{written:?} names no endpoint: {advice}"));
}
