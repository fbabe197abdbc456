//! What destinations of endpoints and of links have in common.

use crate::config::mistake::Report;
use crate::config::raw::endpoint::RawEndpoint;
use crate::config::raw::link::RawLink;
use crate::config::section::nearest;
use crate::config::settings::{EndpointId, Format, LinkId};
use crate::config::text::Text;
use crate::path::Pattern;
use crate::template::{Source, Template};

/// The link that a destination names.
pub(super) fn link_called(links: &[RawLink], name: &str, text: &Text, report: &Report<'_>) -> Option<LinkId> {
    let names = || links.iter().map(|link| &*link.settings.name);
    if let Some(index) = names().position(|known| known == name) {
        return Some(LinkId(index));
    }
    if links.iter().any(|link| !link.valid) {
        // It may be the one whose name is wrong.
        return None;
    }
    let advice = match nearest(name, names()) {
        Some(near) => format!("did you mean \"link:{near}\"?"),
        None => "add a [[link]] with this name".to_owned(),
    };
    report.mistake(text.at, format!("{:?} names no link: {advice}", text.written));
    None
}

/// A relay is no destination: its clients get what its server sends.
pub(super) fn check_is_no_relay(target: &RawEndpoint, text: &Text, report: &Report<'_>) {
    if target.relay.is_some() {
        report.mistake(
            text.at,
            format!(
                "{:?} is a relay, whose clients get only what its server sends: choose another endpoint",
                text.written
            ),
        );
    }
}

/// Events go to the destinations of messages, except `reply`, stores, and those that need a field of a message. `others`
/// has an item for each destination but the first two kinds: whether it needs a field.
pub(super) fn check_events(
    table: &str,
    at: Option<usize>,
    mut others: impl Iterator<Item = bool>,
    report: &Report<'_>,
) {
    let (Some(at), first) = (at, others.next()) else { return };
    let problem = match first {
        None => "but it has none that takes events",
        Some(true) if others.all(|needs_field| needs_field) => {
            "but each of these needs a field of the message, and an event has no fields"
        }
        Some(_) => return,
    };
    let advice = "add one, or remove events";
    report.mistake(at, format!("\"events\" in {table} go to the destinations in its \"to\", {problem}: {advice}"));
}

/// What a format wraps around the payload is not there when the sender writes the payload alone. A message may have such
/// a key of its own, so this is no mistake.
pub(super) fn warn_of_wrapped_keys(format: Format, template: &Template, text: &Text, report: &Report<'_>) {
    let format = match format {
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

/// The endpoints, of several listeners if there is more than one, whose path has the shape of a template, whose braces may have what `sources` says.
pub(super) fn endpoints_of_shape(
    endpoints: &[RawEndpoint],
    template: &Template,
    sources: &str,
    text: &Text,
    report: &Report<'_>,
) -> Vec<EndpointId> {
    let leads_to = |endpoint: &RawEndpoint| endpoint.pattern.as_ref().is_some_and(|pattern| template.leads_to(pattern));
    let named: Vec<usize> = (0..endpoints.len()).filter(|index| leads_to(&endpoints[*index])).collect();
    for index in &named {
        check_is_no_relay(&endpoints[*index], text, report);
    }
    if !named.is_empty() {
        return named.into_iter().map(EndpointId).collect();
    }
    if endpoints.is_empty() && *template.shape() == Pattern::root() {
        // The endpoint that is there when none is written.
        return vec![EndpointId(0)];
    }
    let path = &*template.to_string();
    let patterns = || endpoints.iter().filter_map(|endpoint| endpoint.pattern.as_ref());
    let advice = if let Some(room) = patterns().find(|pattern| pattern.matches(path).is_some()) {
        format!(
            "a single room cannot be named: write the path {:?} with {sources} in place of each parameter",
            room.as_str()
        )
    } else if let Some(near) = nearest(path, patterns().map(Pattern::as_str)) {
        format!("did you mean the endpoint {near:?}?")
    } else {
        format!("add an [[endpoint]] with a path of the shape {:?}", template.shape().as_str())
    };
    report.mistake(text.at, format!("{:?} names no endpoint: {advice}", text.written));
    Vec::new()
}
