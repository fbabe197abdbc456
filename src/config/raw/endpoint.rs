//! `[[endpoint]]`.

use std::collections::BTreeSet;
use std::path::Path;

use crate::config::section::{Keys, Section, Text, Value};
use crate::config::settings::{AtCapacity, Destination, EndpointSettings, QueueSettings, Welcome, WhenFull};
use crate::path::Pattern;

use super::http::{origins, subprotocols};
use super::link::{RELAY, RawRelay, events, relay};
use super::route::{Sender, route};
use super::{CONNECTIONS, FORMATS, MAX_MESSAGE, QUEUE_BYTES, QUEUE_MESSAGES, set};

pub(in crate::config) static ENDPOINT: Keys = Keys {
    table: "[[endpoint]]",
    keys: &[
        ("path", "\"/rooms/{room}\""),
        ("listen", "[\"main\"]"),
        ("to", "[\"broadcast\"]"),
        ("format", "\"payload\""),
        ("welcome", "false"),
        ("subprotocols", "[\"chat.v1\"]"),
        ("max_connections", "100"),
        ("at_capacity", "\"close\""),
        ("max_message", "\"1MiB\""),
        ("heartbeat", "\"30s\""),
        ("pong_timeout", "\"10s\""),
        ("message_timeout", "\"60s\""),
        ("write_timeout", "\"30s\""),
        ("queue", "{ messages = 4096, bytes = \"4MiB\", when_full = \"drop_oldest\" }"),
        ("origins", "[\"https://dash.example\"]"),
        ("address_sessions", "false"),
        ("relay", "{ url = \"ws://127.0.0.1:9000/dev\" }"),
        ("events", "[\"connect\", \"disconnect\", \"error\"]"),
    ],
};
pub(in crate::config) static QUEUE: Keys = Keys {
    table: "queue of [[endpoint]]",
    keys: &[("messages", "4096"), ("bytes", "\"4MiB\""), ("when_full", "\"drop_oldest\"")],
};

/// An `[[endpoint]]` and where its parts stand.
pub(in crate::config) struct RawEndpoint {
    pub(in crate::config) settings: EndpointSettings,
    /// `None` if the path is no pattern.
    pub(in crate::config) pattern: Option<Pattern>,
    pub(in crate::config) path_at: usize,
    /// The names under `listen`, as they stand.
    pub(in crate::config) listen: Vec<Text>,
    /// The destinations under `to`, each with its text.
    pub(in crate::config) to: Vec<(Destination, Text)>,
    /// The place of `max_connections` if it is written.
    pub(in crate::config) max_connections_at: Option<usize>,
    /// The place of `pong_timeout` if it is written.
    pub(in crate::config) pong_timeout_at: Option<usize>,
    /// The place of `events` if there are some, and the destinations are what was meant.
    pub(in crate::config) events_at: Option<usize>,
    /// What `relay` says, if it is written as a table.
    pub(in crate::config) relay: Option<RawRelay>,
    /// The keys that are written and have no meaning in a relay, each with its place.
    pub(in crate::config) not_of_relay: Vec<(&'static str, usize)>,
}

/// The keys that have no meaning where every client talks with its own server.
const NOT_OF_RELAY: [&str; 6] = ["to", "format", "welcome", "subprotocols", "address_sessions", "events"];

pub(super) fn endpoint(section: &Section<'_>, base_dir: &Path) -> RawEndpoint {
    let mut settings = EndpointSettings::default();
    let mut pattern = Pattern::parse(&settings.path).ok();
    let mut path_at = section.at;
    if let Some(value) = section.get("path") {
        path_at = value.at();
        let text = value.text();
        pattern = text.as_ref().and_then(|text| {
            let pattern = Pattern::parse(&text.value);
            pattern.map_err(|error| value.mistake(format_args!("is {:?}: {error}", text.written))).ok()
        });
        set(&mut settings.path, text.map(|text| text.value));
    }
    let mut listen = Vec::new();
    if let Some(value) = section.get("listen") {
        listen = value.texts().unwrap_or_default();
        if value.is_empty_list() {
            value.mistake("is empty, so nobody could connect: name a listener, or remove the key to be on all of them");
        }
        settings.listen = Some(listen.iter().map(|text| text.value.clone()).collect::<BTreeSet<_>>());
    }
    let (mut to, mut to_is_good) = (Vec::new(), true);
    if let Some(value) = section.get("to") {
        (to, to_is_good) = route(&value, Sender::Endpoint);
        settings.to = to.iter().map(|(destination, _)| destination.clone()).collect();
    }
    set(&mut settings.format, section.get("format").and_then(|v| v.choice(&FORMATS)));
    set(&mut settings.welcome, section.get("welcome").and_then(|v| welcome(&v)));
    set(&mut settings.subprotocols, section.get("subprotocols").and_then(|v| subprotocols(&v)));
    let max_connections = section.get("max_connections");
    set(&mut settings.max_connections, max_connections.and_then(|v| v.integer(CONNECTIONS)));
    let capacities = [("close", AtCapacity::Close), ("refuse", AtCapacity::Refuse)];
    set(&mut settings.at_capacity, section.get("at_capacity").and_then(|v| v.choice(&capacities)));
    set(&mut settings.max_message, section.get("max_message").and_then(|v| v.size(MAX_MESSAGE)));
    set(&mut settings.heartbeat, section.get("heartbeat").and_then(|v| v.duration_or_off()));
    let pong_timeout = section.get("pong_timeout");
    set(&mut settings.pong_timeout, pong_timeout.and_then(|v| v.duration()));
    set(&mut settings.message_timeout, section.get("message_timeout").and_then(|v| v.duration_or_off()));
    set(&mut settings.write_timeout, section.get("write_timeout").and_then(|v| v.duration_or_off()));
    if let Some(section) = section.get("queue").and_then(|value| value.section(&QUEUE)) {
        queue(&section, &mut settings.queue);
    }
    set(&mut settings.origins, section.get("origins").and_then(|v| origins(&v)));
    set(&mut settings.address_sessions, section.get("address_sessions").and_then(|v| v.boolean()));
    let events_value = section.get("events");
    set(&mut settings.events, events_value.and_then(|v| events(&v)));
    let relay = section.get("relay").and_then(|value| value.section(&RELAY)).map(|section| relay(&section, base_dir));
    if let Some(relay) = &relay {
        settings.relay = Some(relay.settings.clone());
        settings.to.clear();
    }
    let not_of_relay = NOT_OF_RELAY.into_iter().filter_map(|key| Some((key, section.get(key)?.at()))).collect();
    RawEndpoint {
        settings,
        pattern,
        path_at,
        listen,
        to,
        max_connections_at: max_connections.map(|value| value.at()),
        pong_timeout_at: pong_timeout.map(|value| value.at()),
        events_at: events_value.filter(|value| to_is_good && !value.is_empty_list()).map(|value| value.at()),
        relay,
        not_of_relay,
    }
}

fn welcome(value: &Value<'_>) -> Option<Welcome> {
    if value.is_boolean() {
        return value.boolean().map(|on| if on { Welcome::N8n } else { Welcome::Off });
    }
    if !value.is_string() {
        value.mistake("must be false, true (the welcome message of n8n) or a text of your own in quotes");
        return None;
    }
    let text = value.text()?;
    if text.value.is_empty() {
        value.mistake("is empty: write welcome = false to send nothing");
        return None;
    }
    Some(Welcome::Text(text.value))
}

fn queue(section: &Section<'_>, settings: &mut QueueSettings) {
    let policies = [
        ("drop_oldest", WhenFull::DropOldest),
        ("drop_newest", WhenFull::DropNewest),
        ("disconnect", WhenFull::Disconnect),
    ];
    set(&mut settings.messages, section.get("messages").and_then(|v| v.integer(QUEUE_MESSAGES)));
    set(&mut settings.bytes, section.get("bytes").and_then(|v| v.size(QUEUE_BYTES)));
    set(&mut settings.when_full, section.get("when_full").and_then(|v| v.choice(&policies)));
}
