//! What the options of a link mean together, and the destinations of its messages.

use crate::config::mistake::Report;
use crate::config::raw::Raw;
use crate::config::raw::endpoint::RawEndpoint;
use crate::config::raw::link::RawLink;
use crate::config::raw::route::RawLinkDestination;
use crate::config::section::{Text, nearest};
use crate::config::settings::{EndpointId, Format, LinkDestination};
use crate::config::units::write_duration;
use crate::path::Pattern;
use crate::template::{Source, Template};

use super::{destination, dial, heartbeat};

/// Checks a link, and its name against those of the earlier links.
pub(super) fn check(earlier: &[RawLink], link: &RawLink, report: &Report<'_>) {
    let settings = &link.settings;
    let same = earlier.iter().find(|other| other.valid && link.valid && other.settings.name == settings.name);
    if let Some(same) = same {
        let line = report.line(same.name_at);
        let advice = "give each link its own name";
        report.mistake(link.name_at, format!("the link on line {line} is called {:?} too: {advice}", settings.name));
    }
    heartbeat::check_pong_timeout("[[link]]", link.pong_timeout_at, settings.heartbeat, report);
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
    dial::check("[[link]]", &link.dial, report);
}

/// The destinations of a link; those that name nothing are reported and left out.
pub(super) fn route(raw: &Raw, link: &RawLink, report: &Report<'_>) -> Vec<LinkDestination> {
    let resolved = |(destination, text): &(RawLinkDestination, Text)| match destination {
        RawLinkDestination::Reply => Some(LinkDestination::Reply),
        RawLinkDestination::Endpoint(template) => {
            warn_of_wrapped_keys(link, template, text, report);
            endpoint(&raw.endpoints, template, text, report)
                .map(|id| LinkDestination::Endpoint { id, template: template.clone() })
        }
        RawLinkDestination::Link(name) if *name == link.settings.name => {
            let advice = "write \"reply\" for its own remote";
            report.mistake(text.at, format!("{:?} is the link itself: {advice}", text.written));
            None
        }
        RawLinkDestination::Link(name) => {
            destination::link_called(&raw.links, name, text, report).map(LinkDestination::Link)
        }
    };
    link.to.iter().filter_map(resolved).collect()
}

/// What a format wraps around the payload is not there when the server writes the payload alone. A message may have such
/// a key of its own, so this is no mistake.
fn warn_of_wrapped_keys(link: &RawLink, template: &Template, text: &Text, report: &Report<'_>) {
    let format = match link.settings.format {
        Format::Message => return,
        Format::Payload => "payload",
        Format::N8n => "n8n",
    };
    let wrapped = |source: &Source| match source {
        Source::Field(keys) if keys.len() > 1 && matches!(&*keys[0], "payload" | "message") => {
            Some(keys[1..].join("."))
        }
        _ => None,
    };
    for (source, key) in template.sources().iter().filter_map(|source| Some((source, wrapped(source)?))) {
        report.warning(
            text.at,
            format!(
                "{:?} looks for {source} in each message, but with format = {format:?} the message itself is the payload: \
                 write {{{key}}}, or format = \"message\"",
                text.written
            ),
        );
    }
}

/// For each destination of a link but the reply, whether it needs a field of a message.
pub(super) fn others(link: &RawLink) -> impl Iterator<Item = bool> {
    link.to.iter().filter_map(|(destination, _)| match destination {
        RawLinkDestination::Reply => None,
        RawLinkDestination::Endpoint(template) => {
            Some(template.sources().iter().any(|source| matches!(source, Source::Field(_))))
        }
        RawLinkDestination::Link(_) => Some(false),
    })
}

/// The endpoint whose path has the shape of a template.
fn endpoint(endpoints: &[RawEndpoint], template: &Template, text: &Text, report: &Report<'_>) -> Option<EndpointId> {
    let leads_to = |endpoint: &RawEndpoint| endpoint.pattern.as_ref().is_some_and(|pattern| template.leads_to(pattern));
    if let Some(index) = endpoints.iter().position(leads_to) {
        destination::check_is_no_relay(&endpoints[index], text, report);
        return Some(EndpointId(index));
    }
    if endpoints.is_empty() && *template.shape() == Pattern::root() {
        // The endpoint that is there when none is written.
        return Some(EndpointId(0));
    }
    let path = &*template.to_string();
    let patterns = || endpoints.iter().filter_map(|endpoint| endpoint.pattern.as_ref());
    let advice = if let Some(room) = patterns().find(|pattern| pattern.matches(path).is_some()) {
        format!(
            "a single room cannot be named: write the path {:?} with {{link}} or {{payload.KEY}} in place of each \
             parameter",
            room.as_str()
        )
    } else if let Some(near) = nearest(path, patterns().map(Pattern::as_str)) {
        format!("did you mean the endpoint {near:?}?")
    } else {
        format!("add an [[endpoint]] with a path of the shape {:?}", template.shape().as_str())
    };
    report.mistake(text.at, format!("{:?} names no endpoint: {advice}", text.written));
    None
}
