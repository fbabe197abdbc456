//! What the options of an endpoint mean together, and the destinations of its clients' messages.

use crate::config::mistake::Report;
use crate::config::raw::Raw;
use crate::config::raw::endpoint::RawEndpoint;
use crate::config::raw::route::RawDestination;
use crate::config::section::nearest;
use crate::config::settings::{AtCapacity, Destination, EndpointId, Format, RoomSource};
use crate::config::text::Text;
use crate::path::Pattern;
use crate::template::{Source, Template};

use super::{destination, heartbeat, store};

/// The name in the braces of a destination that is who the sender is.
const IDENTITY: &str = "identity";

/// Two endpoints cannot have paths of the same shape on one listener.
pub(super) fn check_shape(earlier: &[RawEndpoint], endpoint: &RawEndpoint, report: &Report<'_>) {
    let Some(pattern) = &endpoint.pattern else { return };
    let is_same = |other: &&RawEndpoint| {
        other.pattern.as_ref().is_some_and(|other| other.same_shape(pattern)) && share_a_listener(other, endpoint)
    };
    if let Some(same) = earlier.iter().find(is_same) {
        let line = report.line(same.path_at);
        let other = same.settings.path.as_str();
        report.mistake(
            endpoint.path_at,
            format!(
                "{:?} matches the same paths as {other:?} on line {line}: change one of them, or name other listeners in \
                 \"listen\" of each",
                pattern.as_str()
            ),
        );
    }
}

/// Whether a client of one listener could mean either of two endpoints. Without a list, an endpoint is on all listeners.
fn share_a_listener(one: &RawEndpoint, other: &RawEndpoint) -> bool {
    match (&one.settings.listen, &other.settings.listen) {
        (Some(one), Some(other)) => !one.is_disjoint(other),
        _ => true,
    }
}

/// Checks the limits of an endpoint against each other and against `[gateway]`.
pub(super) fn check_limits(raw: &Raw, endpoint: &RawEndpoint, report: &Report<'_>) {
    heartbeat::check_pong_timeout("[[endpoint]]", endpoint.pong_timeout_at, endpoint.settings.heartbeat, report);
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

/// Checks what is said about clients for which there is no place.
pub(super) fn check_capacity(raw: &Raw, endpoint: &RawEndpoint, report: &Report<'_>) {
    let (most, all) = (endpoint.settings.max_connections, raw.gateway.max_connections);
    if let (Some(at), Some(in_room)) = (endpoint.max_room_connections_at, endpoint.settings.max_room_connections)
        && in_room > most
    {
        report.mistake(
            at,
            format!(
                "\"max_room_connections\" in [[endpoint]] is {in_room}, but all of its rooms together take {most}: lower \
                 it, or write max_connections = {in_room} or more"
            ),
        );
    }
    if let (Some(at), Some(limit)) = (endpoint.max_identity_connections_at, endpoint.settings.identity_limit) {
        if endpoint.auth.is_none() {
            report.mistake(
                at,
                "\"max_identity_connections\" in [[endpoint]] has no meaning without auth, which says who a client is: add \
                 auth, or remove it",
            );
        }
        if limit.connections > most {
            report.mistake(
                at,
                format!(
                    "\"max_identity_connections\" in [[endpoint]] is {}, but all of its clients together are {most}: lower \
                     it, or write max_connections = {} or more",
                    limit.connections, limit.connections
                ),
            );
        }
    }
    if let (Some(at), AtCapacity::Replace) = (endpoint.at_capacity_at, endpoint.settings.at_capacity)
        && most == all
    {
        report.mistake(
            at,
            format!(
                "\"at_capacity\" in [[endpoint]] cannot replace a client, because the whole gateway takes {all} \
                 connections, as many as this endpoint, and refuses the next one before it is read: write \
                 max_connections = {} under [gateway]",
                all.saturating_add(1)
            ),
        );
    }
}

/// Only the format `message` has a place for the session that a message is for.
pub(super) fn check_addresses(endpoint: &RawEndpoint, report: &Report<'_>) {
    if let (Some(at), None) = (endpoint.address_sessions_at, &endpoint.relay)
        && endpoint.settings.format != Format::Message
    {
        report.mistake(
            at,
            "\"address_sessions\" in [[endpoint]] has no meaning without format = \"message\", whose messages hold the \
             _session that they are for: write format = \"message\", or remove it",
        );
    }
}

/// Checks what is said about messages by POST.
pub(super) fn check_post(endpoint: &RawEndpoint, report: &Report<'_>) {
    if let (Some(at), false, None) = (endpoint.max_body_at, endpoint.settings.post, &endpoint.relay) {
        report
            .mistake(at, "\"max_body\" in [[endpoint]] has no meaning without post = true: add it, or remove max_body");
    }
    let Some(to) = endpoint.to.as_ref().filter(|_| endpoint.settings.post) else { return };
    let Some((_, reply)) = to.iter().find(|(destination, _)| *destination == RawDestination::Reply) else { return };
    if to.len() == 1 {
        report.mistake(
            reply.at,
            "\"reply\" is the only destination, but what is posted (post = true) has no reply: add a destination for it, \
             or remove post",
        );
    } else {
        report.warning(reply.at, "\"reply\" is nothing to what is posted (post = true): only WebSockets get replies");
    }
}

/// The destinations of an endpoint; those that name nothing are reported and left out.
pub(super) fn route(raw: &Raw, endpoint: &RawEndpoint, report: &Report<'_>) -> Vec<Destination> {
    if endpoint.relay.is_some() {
        // If it has a route, that is the mistake.
        return Vec::new();
    }
    let Some(to) = &endpoint.to else { return endpoint.settings.to.clone() };
    let has_broadcast = to.iter().any(|(destination, _)| *destination == RawDestination::Broadcast);
    let others = to.iter().find(|(destination, _)| *destination == RawDestination::Others);
    if let (true, Some((_, text))) = (has_broadcast, others) {
        report.mistake(
            text.at,
            "\"others\" beside \"broadcast\" would send everything twice: remove one (broadcast includes the sender)",
        );
    }
    let resolved = |(destination, text): &(RawDestination, Text)| match destination {
        RawDestination::Reply => vec![Destination::Reply],
        RawDestination::Broadcast => vec![Destination::Broadcast],
        RawDestination::Others => vec![Destination::Others],
        RawDestination::Endpoint(path)
            if endpoint.settings.choose_rooms || path.names().any(|name| name == IDENTITY) =>
        {
            chosen_or_own(&raw.endpoints, endpoint, path, text, report)
        }
        RawDestination::Endpoint(path) => other_endpoint(&raw.endpoints, endpoint, path, text, report),
        RawDestination::Picked(template) => chosen(&raw.endpoints, endpoint, template, text, report),
        RawDestination::Link(name) => {
            destination::link_called(&raw.links, name, text, report).into_iter().map(Destination::Link).collect()
        }
        RawDestination::Store(name) => {
            store::called(raw, name, text, report).into_iter().map(Destination::Store).collect()
        }
    };
    to.iter().flat_map(resolved).collect()
}

/// For each destination of an endpoint that takes events, whether it needs a field of a message.
pub(super) fn others(endpoint: &RawEndpoint) -> impl Iterator<Item = bool> {
    let is_default_broadcast = endpoint.to.is_none();
    let takes_none = |to: &RawDestination| matches!(to, RawDestination::Reply | RawDestination::Store(_));
    let others = endpoint.to.iter().flatten().filter(move |(destination, _)| !takes_none(destination));
    others.map(|(destination, _)| needs_field(endpoint, destination)).chain(is_default_broadcast.then_some(false))
}

/// Whether messages for this destination of an endpoint pick their room by a field.
fn needs_field(endpoint: &RawEndpoint, destination: &RawDestination) -> bool {
    match destination {
        RawDestination::Picked(_) => true,
        RawDestination::Endpoint(path) => {
            let is_own = |name: &str| endpoint.pattern.iter().flat_map(Pattern::names).any(|own| own == name);
            let is_known = |name: &str| is_own(name) || name == IDENTITY && endpoint.auth.is_some();
            endpoint.settings.choose_rooms && !path.names().all(is_known)
        }
        _ => false,
    }
}

/// A destination of an endpoint whose clients may choose rooms: what is not a parameter of their own path is a field of
/// their messages.
fn chosen_or_own(
    endpoints: &[RawEndpoint],
    from: &RawEndpoint,
    path: &Pattern,
    text: &Text,
    report: &Report<'_>,
) -> Vec<Destination> {
    let is_there = endpoints.iter().any(|endpoint| endpoint.pattern.as_ref() == Some(path));
    let Ok(template) = Template::parse(path.as_str()) else { return Vec::new() };
    if is_there && !needs_field(from, &RawDestination::Endpoint(path.clone())) {
        return other_endpoint(endpoints, from, path, text, report);
    }
    chosen(endpoints, from, &template, text, report)
}

/// A destination whose room is picked by fields of messages.
fn chosen(
    endpoints: &[RawEndpoint],
    from: &RawEndpoint,
    template: &Template,
    text: &Text,
    report: &Report<'_>,
) -> Vec<Destination> {
    let own = |name: &str| from.pattern.iter().flat_map(Pattern::names).position(|own| own == name);
    let source = |source: &Source| match source {
        Source::Link => own("link").map_or_else(|| RoomSource::Field(["link".into()].into()), RoomSource::Own),
        Source::Field(keys) => match &keys[..] {
            [key] if &**key == IDENTITY && from.auth.is_some() => RoomSource::Identity,
            [key] => own(key).map_or_else(|| RoomSource::Field(keys.clone()), RoomSource::Own),
            _ => RoomSource::Field(keys.clone()),
        },
    };
    let sources: Box<[RoomSource]> = template.sources().iter().map(source).collect();
    let has_field = sources.iter().any(|source| matches!(source, RoomSource::Field(_)));
    let is_identity = |source: &Source| matches!(source, Source::Field(keys) if keys[..] == [IDENTITY.into()]);
    if has_field && !from.settings.choose_rooms && from.auth.is_none() && template.sources().iter().any(is_identity) {
        report.mistake(
            text.at,
            format!("{:?} needs to know who its sender is: write auth = [\"NAME\"] in this [[endpoint]]", text.written),
        );
        return Vec::new();
    }
    if has_field && !from.settings.choose_rooms {
        report.mistake(
            text.at,
            format!(
                "{:?} picks the room by a field of each message, which clients may do only where the endpoint says so: add \
                 choose_rooms = true to this [[endpoint]] if you trust them",
                text.written
            ),
        );
        return Vec::new();
    }
    destination::warn_of_wrapped_keys(from.settings.format, template, text, report);
    let ids = destination::endpoints_of_shape(endpoints, template, "{payload.KEY}", text, report);
    let own = |source: &RoomSource| if let RoomSource::Own(index) = source { Some(*index) } else { None };
    let own: Option<Box<[usize]>> = sources.iter().map(own).collect();
    let destination = |id| match &own {
        Some(values) => Destination::Endpoint { id, values: values.clone() },
        None => Destination::Picked { id, template: template.clone(), sources: sources.clone() },
    };
    ids.into_iter().map(destination).collect()
}

/// The clients of other endpoints with this path: of one, or of several that are on different listeners.
fn other_endpoint(
    endpoints: &[RawEndpoint],
    from: &RawEndpoint,
    path: &Pattern,
    text: &Text,
    report: &Report<'_>,
) -> Vec<Destination> {
    let written = &text.written;
    let is_named = |endpoint: &RawEndpoint| endpoint.pattern.as_ref() == Some(path) && !std::ptr::eq(endpoint, from);
    let named: Vec<usize> = (0..endpoints.len()).filter(|index| is_named(&endpoints[*index])).collect();
    if named.is_empty() {
        let why = if from.pattern.as_ref() == Some(path) {
            "is the endpoint itself: write \"broadcast\", or \"others\" to leave the sender out".to_owned()
        } else {
            format!("names no endpoint: {}", advice_on(endpoints, path))
        };
        report.mistake(text.at, format!("{written:?} {why}"));
        return Vec::new();
    }
    for index in &named {
        destination::check_is_no_relay(&endpoints[*index], text, report);
    }
    let Some(sender) = &from.pattern else { return Vec::new() };
    let value = |name: &str| sender.names().position(|own| own == name);
    let missing: Vec<String> =
        path.names().filter(|name| value(name).is_none()).map(|name| format!("{{{name}}}")).collect();
    if !missing.is_empty() {
        report.mistake(
            text.at,
            format!(
                "{written:?} needs {}, but the path {:?} of its senders has no such parameter: add it to that path, \
                 choose another destination, or write choose_rooms = true to have each message pick the room",
                missing.join(" and "),
                sender.as_str()
            ),
        );
    }
    let Some(values) = path.names().map(value).collect::<Option<Box<[usize]>>>() else { return Vec::new() };
    named.into_iter().map(|index| Destination::Endpoint { id: EndpointId(index), values: values.clone() }).collect()
}

/// What to write instead of a path that no endpoint has.
fn advice_on(endpoints: &[RawEndpoint], path: &Pattern) -> String {
    let patterns = || endpoints.iter().filter_map(|endpoint| endpoint.pattern.as_ref());
    if let Some(same) = patterns().find(|pattern| pattern.same_shape(path)) {
        format!("write \"endpoint:{same}\", with the names that its path has")
    } else if let Some(room) = patterns().find(|pattern| pattern.matches(path.as_str()).is_some()) {
        format!("a single room cannot be named, write \"endpoint:{room}\"; the sender's values pick the room")
    } else if let Some(near) = nearest(path.as_str(), patterns().map(Pattern::as_str)) {
        format!("did you mean \"endpoint:{near}\"?")
    } else {
        format!("add an [[endpoint]] with path = {:?}", path.as_str())
    }
}
