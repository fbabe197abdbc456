//! `[[link]]`, and `relay` of an endpoint.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::Path;

use crate::config::section::{Keys, Section, Text, Value};
use crate::config::settings::{
    BackoffSettings, Destination, EventKind, LinkQueueSettings, LinkSettings, RelaySettings, WhenDown,
};
use crate::path::VALUE_BYTES_MAX;
use crate::secret::Secret;

use super::dial::{OF_LINK, OF_RELAY, RawDial, dial};
use super::http::{header_names, subprotocols};
use super::route::{Sender, route};
use super::{FORMATS, MAX_MESSAGE, QUEUE_BYTES, QUEUE_MESSAGES, set};

const ATTEMPTS: RangeInclusive<usize> = 1..=u32::MAX as usize;

pub(in crate::config) static LINK: Keys = Keys {
    table: "[[link]]",
    keys: &[
        ("name", "\"plc\""),
        ("url", "\"wss://plc.example/ws\""),
        ("headers", "{ Authorization = \"Bearer abc\" }"),
        ("subprotocols", "[\"chat.v1\"]"),
        ("origin", "\"https://dash.example\""),
        ("to", "[\"endpoint:/\"]"),
        ("format", "\"payload\""),
        ("max_message", "\"1MiB\""),
        ("connect_timeout", "\"10s\""),
        ("heartbeat", "\"30s\""),
        ("pong_timeout", "\"10s\""),
        ("message_timeout", "\"60s\""),
        ("write_timeout", "\"30s\""),
        ("ping_message", "\"ping\""),
        ("ping_every", "\"25s\""),
        ("open_messages", "[\"hello\"]"),
        ("queue", "{ messages = 4096, bytes = \"4MiB\", when_full = \"drop_oldest\" }"),
        ("backoff", "{ first = \"500ms\", most = \"60s\", reset_after = \"30s\", attempts = \"forever\" }"),
        ("proxy", "\"environment\""),
        ("tls", "{ verify = true }"),
        ("allow_loop", "false"),
        ("events", "[\"connect\", \"disconnect\", \"error\"]"),
    ],
};
pub(in crate::config) static QUEUE: Keys = Keys {
    table: "queue of [[link]]",
    keys: &[("messages", "4096"), ("bytes", "\"4MiB\""), ("when_full", "\"drop_oldest\"")],
};
pub(in crate::config) static BACKOFF: Keys = Keys {
    table: "backoff of [[link]]",
    keys: &[("first", "\"500ms\""), ("most", "\"60s\""), ("reset_after", "\"30s\""), ("attempts", "\"forever\"")],
};
pub(in crate::config) static RELAY: Keys = Keys {
    table: "relay of [[endpoint]]",
    keys: &[
        ("url", "\"ws://127.0.0.1:9000/dev\""),
        ("headers", "{ Authorization = \"Bearer abc\" }"),
        ("forward_headers", "[\"Authorization\"]"),
        ("forward_query", "true"),
        ("connect_timeout", "\"10s\""),
        ("hold", "\"30s\""),
        ("proxy", "\"environment\""),
        ("origin", "\"https://dash.example\""),
        ("tls", "{ verify = true }"),
    ],
};

/// A `[[link]]` and where its parts stand.
pub(in crate::config) struct RawLink {
    pub(in crate::config) settings: LinkSettings,
    pub(in crate::config) dial: RawDial,
    pub(in crate::config) name_at: usize,
    /// Whether the name is what was meant; a wrong one is compared with nothing.
    pub(in crate::config) valid: bool,
    /// The destinations under `to`, each with its text.
    pub(in crate::config) to: Vec<(Destination, Text)>,
    /// The place of `pong_timeout` if it is written.
    pub(in crate::config) pong_timeout_at: Option<usize>,
    /// The place of `ping_every` if it is written without a `ping_message`.
    pub(in crate::config) idle_ping_every_at: Option<usize>,
    /// The place of `backoff` if it is written, and its durations are what was meant.
    pub(in crate::config) backoff_at: Option<usize>,
    /// The place of `events` if there are some, and the destinations are what was meant.
    pub(in crate::config) events_at: Option<usize>,
}

/// The `relay` of an endpoint and where its parts stand.
pub(in crate::config) struct RawRelay {
    pub(in crate::config) settings: RelaySettings,
    pub(in crate::config) dial: RawDial,
    /// The names under `forward_headers`, each with its place.
    pub(in crate::config) forward_headers: Vec<(String, usize)>,
}

pub(super) fn link(section: &Section<'_>, base_dir: &Path) -> RawLink {
    let mut name_at = section.at;
    let mut name = None;
    if let Some(value) = section.require("name") {
        name_at = value.at();
        name = value.text().and_then(|text| match is_name(&text.value) {
            true => Some(text.value),
            false => {
                value.mistake(format_args!(
                    "is {:?}, but a link is called by letters, digits, \"-\" and \"_\", 128 at most: write for example \
                     name = \"plc\"",
                    text.written
                ));
                None
            }
        });
    }
    let dial = dial(section, base_dir, &OF_LINK);
    let valid = name.is_some();
    let mut settings = LinkSettings::new(&name.unwrap_or_default(), "");
    settings.dial = dial.settings.clone();
    settings.shown = dial.shown.clone();
    set(&mut settings.dial.subprotocols, section.get("subprotocols").and_then(|v| subprotocols(&v)));
    let (mut to, mut to_is_good) = (Vec::new(), true);
    if let Some(value) = section.get("to") {
        (to, to_is_good) = route(&value, Sender::Link);
        settings.to = to.iter().map(|(destination, _)| destination.clone()).collect();
    }
    set(&mut settings.format, section.get("format").and_then(|v| v.choice(&FORMATS)));
    set(&mut settings.max_message, section.get("max_message").and_then(|v| v.size(MAX_MESSAGE)));
    set(&mut settings.heartbeat, section.get("heartbeat").and_then(|v| v.duration_or_off()));
    let pong_timeout = section.get("pong_timeout");
    set(&mut settings.pong_timeout, pong_timeout.and_then(|v| v.duration()));
    set(&mut settings.message_timeout, section.get("message_timeout").and_then(|v| v.duration_or_off()));
    set(&mut settings.write_timeout, section.get("write_timeout").and_then(|v| v.duration_or_off()));
    let (ping_message, ping_every) = (section.get("ping_message"), section.get("ping_every"));
    let every = ping_every.and_then(|v| v.duration()).unwrap_or(LinkSettings::PING_EVERY);
    settings.ping = ping_message.and_then(|v| ping_text(&v)).map(|text| (text, every));
    if let Some(value) = section.get("open_messages") {
        let texts = value.texts().unwrap_or_default();
        settings.open_messages = texts.into_iter().map(|text| Secret::new(text.value)).collect();
    }
    if let Some(section) = section.get("queue").and_then(|value| value.section(&QUEUE)) {
        queue(&section, &mut settings.queue);
    }
    let backoff_value = section.get("backoff");
    let mut backoff_is_good = true;
    if let Some(section) = backoff_value.and_then(|value| value.section(&BACKOFF)) {
        backoff_is_good = backoff(&section, &mut settings.backoff);
    }
    set(&mut settings.allow_loop, section.get("allow_loop").and_then(|v| v.boolean()));
    let events_value = section.get("events");
    set(&mut settings.events, events_value.and_then(|v| events(&v)));
    RawLink {
        settings,
        dial,
        name_at,
        valid,
        to,
        pong_timeout_at: pong_timeout.map(|value| value.at()),
        idle_ping_every_at: ping_every.filter(|_| ping_message.is_none()).map(|value| value.at()),
        backoff_at: backoff_value.filter(|_| backoff_is_good).map(|value| value.at()),
        events_at: events_value.filter(|value| to_is_good && !value.is_empty_list()).map(|value| value.at()),
    }
}

pub(super) fn relay(section: &Section<'_>, base_dir: &Path) -> RawRelay {
    let dial = dial(section, base_dir, &OF_RELAY);
    let mut settings = RelaySettings::new("");
    settings.dial = dial.settings.clone();
    settings.shown = dial.shown.clone();
    let forward_headers = section.get("forward_headers").map(|v| header_names(&v)).unwrap_or_default();
    settings.forward_headers = forward_headers.iter().map(|(name, _)| name.clone()).collect();
    set(&mut settings.forward_query, section.get("forward_query").and_then(|v| v.boolean()));
    set(&mut settings.hold, section.get("hold").and_then(|v| v.duration_or_off()));
    RawRelay { settings, dial, forward_headers }
}

/// Reads which events are told.
pub(super) fn events(value: &Value<'_>) -> Option<BTreeSet<EventKind>> {
    value.choices(&[
        ("connect", EventKind::Connect),
        ("disconnect", EventKind::Disconnect),
        ("error", EventKind::Error),
    ])
}

/// Whether a link can be called this: it stands in destinations, in the log and, as `{link}`, in the path of a room.
pub(super) fn is_name(text: &str) -> bool {
    (1..=VALUE_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

fn ping_text(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    if text.value.is_empty() {
        value.mistake("is empty: write a text that the remote understands, or remove the key");
        return None;
    }
    Some(text.value)
}

fn queue(section: &Section<'_>, settings: &mut LinkQueueSettings) {
    let policies =
        [("drop_oldest", WhenDown::DropOldest), ("drop_newest", WhenDown::DropNewest), ("block", WhenDown::Block)];
    set(&mut settings.messages, section.get("messages").and_then(|v| v.integer(QUEUE_MESSAGES)));
    set(&mut settings.bytes, section.get("bytes").and_then(|v| v.size(QUEUE_BYTES)));
    set(&mut settings.when_full, section.get("when_full").and_then(|v| v.choice(&policies)));
}

/// Reads when a link is dialled again; `false` if one of the two bounds is wrong.
fn backoff(section: &Section<'_>, settings: &mut BackoffSettings) -> bool {
    let bounds = ["first", "most"].map(|key| section.get(key).map(|value| value.duration()));
    set(&mut settings.first, bounds[0].flatten());
    set(&mut settings.most, bounds[1].flatten());
    set(&mut settings.reset_after, section.get("reset_after").and_then(|v| v.duration()));
    if let Some(value) = section.get("attempts") {
        if !value.is_string() {
            settings.attempts = value.integer(ATTEMPTS).and_then(|attempts| u32::try_from(attempts).ok());
        } else if let Some(text) = value.text().filter(|text| text.value != "forever") {
            value.mistake(format_args!("cannot be {:?}: write \"forever\" or a number", text.written));
        }
    }
    !bounds.contains(&Some(None))
}
