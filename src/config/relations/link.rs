//! What the options of a link mean together, and the destinations of its messages.

use crate::config::mistake::Report;
use crate::config::raw::Raw;
use crate::config::raw::link::RawLink;
use crate::config::raw::route::RawLinkDestination;
use crate::config::settings::LinkDestination;
use crate::config::text::Text;
use crate::config::units::write_duration;
use crate::template::Source;

use super::{destination, dial, heartbeat, store};

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
    for (key, at) in &link.misplaced {
        let why = match settings.http {
            Some(_) => "for an HTTP server, to which the link posts: remove it, or write a ws:// or wss:// URL",
            None => "for a WebSocket server: remove it, or write an http:// or https:// URL, to which the link posts",
        };
        report.mistake(*at, format!("{key:?} in [[link]] has no meaning {why}"));
    }
    dial::check("[[link]]", &link.dial, report);
}

/// The destinations of a link; those that name nothing are reported and left out.
pub(super) fn route(raw: &Raw, link: &RawLink, report: &Report<'_>) -> Vec<LinkDestination> {
    let resolved = |(destination, text): &(RawLinkDestination, Text)| match destination {
        RawLinkDestination::Reply => vec![LinkDestination::Reply],
        RawLinkDestination::Endpoint(template) => {
            destination::warn_of_wrapped_keys(link.settings.format, template, text, report);
            let ids =
                destination::endpoints_of_shape(&raw.endpoints, template, "{link} or {payload.KEY}", text, report);
            ids.into_iter().map(|id| LinkDestination::Endpoint { id, template: template.clone() }).collect()
        }
        RawLinkDestination::Link(name) if *name == link.settings.name => {
            let advice = "write \"reply\" for its own remote";
            report.mistake(text.at, format!("{:?} is the link itself: {advice}", text.written));
            Vec::new()
        }
        RawLinkDestination::Link(name) => {
            destination::link_called(&raw.links, name, text, report).into_iter().map(LinkDestination::Link).collect()
        }
        RawLinkDestination::Store(name) => {
            store::called(raw, name, text, report).into_iter().map(LinkDestination::Store).collect()
        }
    };
    link.to.iter().flat_map(resolved).collect()
}

/// For each destination of a link that takes events, whether it needs a field of a message.
pub(super) fn others(link: &RawLink) -> impl Iterator<Item = bool> {
    link.to.iter().filter_map(|(destination, _)| match destination {
        RawLinkDestination::Reply | RawLinkDestination::Store(_) => None,
        RawLinkDestination::Endpoint(template) => {
            Some(template.sources().iter().any(|source| matches!(source, Source::Field(_))))
        }
        RawLinkDestination::Link(_) => Some(false),
    })
}
