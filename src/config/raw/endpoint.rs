//! `[[endpoint]]`.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use crate::auth::credentials::is_bearer;
use crate::config::section::{Keys, Section, Value};
use crate::config::settings::{
    Ack, AtCapacity, EndpointSettings, IdentityLimit, QueueSettings, RateSettings, Refuse, Welcome, WhenFull,
    WhenIdentityFull, WhenOver,
};
use crate::config::text::Text;
use crate::path::Pattern;

use super::addresses::rules;
use super::allow::{RawAllow, allow};
use super::bounds::{BYTES_PER_SECOND, CONNECTIONS, MAX_MESSAGE, PER_SECOND, QUEUE_BYTES, QUEUE_MESSAGES};
use super::http::subprotocols;
use super::origins::origins;
use super::relay::{RELAY, RawRelay, relay};
use super::route::{RawDestination, endpoint_route};
use super::words::{EVENTS_OF_CLIENTS, FORMATS};

pub(crate) static ENDPOINT: Keys = Keys {
    table: "[[endpoint]]",
    keys: &[
        ("path", "\"/rooms/{room}\""),
        ("listen", "[\"main\"]"),
        ("to", "[\"broadcast\"]"),
        ("format", "\"payload\""),
        ("welcome", "false"),
        ("subprotocols", "[\"chat.v1\"]"),
        ("max_connections", "100"),
        ("max_room_connections", "1"),
        ("at_capacity", "\"close\""),
        ("max_identity_connections", "1"),
        ("when_identity_full", "\"replace\""),
        ("max_message", "\"1MiB\""),
        ("heartbeat", "\"30s\""),
        ("pong_timeout", "\"10s\""),
        ("message_timeout", "\"60s\""),
        ("write_timeout", "\"30s\""),
        ("queue", "{ messages = 4096, bytes = \"4MiB\", when_full = \"drop_oldest\" }"),
        ("rate", "{ messages = 100, bytes = \"1MiB\", burst = \"2s\", when_over = \"delay\" }"),
        ("origins", "[\"https://dash.example\"]"),
        ("auth", "[\"devices\"]"),
        ("refuse", "\"answer\""),
        ("allow", "[{ who = \"press-*\", path = \"/devices/{identity}\", receive = false }]"),
        ("allow_addresses", "[\"10.0.0.0/8\"]"),
        ("deny_addresses", "[\"10.0.0.7\"]"),
        ("address_sessions", "false"),
        ("choose_rooms", "false"),
        ("post", "true"),
        ("max_body", "\"1MiB\""),
        ("ack", "\"stored\""),
        ("relay", "{ url = \"ws://127.0.0.1:9000/dev\" }"),
        ("events", "[\"connect\", \"disconnect\", \"error\"]"),
    ],
};
pub(crate) static QUEUE: Keys = Keys {
    table: "queue of [[endpoint]]",
    keys: &[("messages", "4096"), ("bytes", "\"4MiB\""), ("when_full", "\"drop_oldest\"")],
};

pub(crate) static RATE: Keys = Keys {
    table: "rate of [[endpoint]]",
    keys: &[("messages", "100"), ("bytes", "\"1MiB\""), ("burst", "\"2s\""), ("when_over", "\"delay\"")],
};

/// An `[[endpoint]]` and where its parts stand.
pub(crate) struct RawEndpoint {
    /// Its destinations and its relay are resolved later.
    pub(crate) settings: EndpointSettings,
    /// The path; `None` if it is wrong.
    pub(crate) pattern: Option<Pattern>,
    pub(crate) path_at: usize,
    /// The names under `listen`, as they stand.
    pub(crate) listen: Vec<Text>,
    /// The destinations under `to`, each with its text; `None` if there is no `to`.
    pub(crate) to: Option<Vec<(RawDestination, Text)>>,
    /// The place of `max_connections` if it is written.
    pub(crate) max_connections_at: Option<usize>,
    /// The place of `max_room_connections` if it is written.
    pub(crate) max_room_connections_at: Option<usize>,
    /// The place of `at_capacity` if it is written.
    pub(crate) at_capacity_at: Option<usize>,
    /// The place of `max_identity_connections` if it is written.
    pub(crate) max_identity_connections_at: Option<usize>,
    /// The place of `pong_timeout` if it is written.
    pub(crate) pong_timeout_at: Option<usize>,
    /// The place of `address_sessions` if it is true, and the format is what was meant.
    pub(crate) address_sessions_at: Option<usize>,
    /// The place of `max_body` if it is written.
    pub(crate) max_body_at: Option<usize>,
    /// The place of `ack` if it is not off, and the destinations are what was meant.
    pub(crate) ack_at: Option<usize>,
    /// The place of `events` if there are some, and the destinations are what was meant.
    pub(crate) events_at: Option<usize>,
    /// The names under `auth`, as they stand; `None` if there is no `auth`.
    pub(crate) auth: Option<Vec<Text>>,
    /// What `allow` says, if it is written.
    pub(crate) allow: Option<RawAllow>,
    /// The place of `refuse` if it is not the default.
    pub(crate) refuse_at: Option<usize>,
    /// What `relay` says, if it is written as a table.
    pub(crate) relay: Option<RawRelay>,
    /// The keys that are written and have no meaning in a relay, each with its place.
    pub(crate) not_of_relay: Vec<(&'static str, usize)>,
}

/// The keys that have no meaning where every client talks with its own server.
const NOT_OF_RELAY: [&str; 10] = [
    "to",
    "format",
    "welcome",
    "subprotocols",
    "address_sessions",
    "choose_rooms",
    "ack",
    "post",
    "max_body",
    "events",
];

pub(super) fn endpoint(section: &Section<'_>, base_dir: &Path) -> RawEndpoint {
    let mut settings = EndpointSettings { addresses: rules(section, base_dir), ..EndpointSettings::default() };
    let path_value = section.get("path");
    let pattern = path_value.map_or_else(|| Some(settings.path.clone()), |value| path(&value));
    settings.path = pattern.clone().unwrap_or(settings.path);
    let mut listen = Vec::new();
    if let Some(value) = section.get("listen") {
        listen = value.texts().unwrap_or_default();
        if value.is_empty_list() {
            value.mistake(
                "is empty, so no client could connect: name a listener, or remove the key to use all listeners",
            );
        }
        settings.listen = Some(listen.iter().map(|text| text.value.clone()).collect::<BTreeSet<_>>());
    }
    let (to, to_is_good) = section.get("to").map(|value| endpoint_route(&value)).unzip();
    let format = section.get("format").map(|value| value.choice(&FORMATS));
    settings.format = format.flatten().unwrap_or(settings.format);
    section.read("welcome", &mut settings.welcome, |v| welcome(&v));
    section.read("subprotocols", &mut settings.subprotocols, |v| agreed(&v));
    capacity(section, &mut settings);
    section.read("max_message", &mut settings.max_message, |v| v.size(MAX_MESSAGE));
    section.read("heartbeat", &mut settings.heartbeat, |v| v.duration_or_off());
    section.read("pong_timeout", &mut settings.pong_timeout, |v| v.duration());
    section.read("message_timeout", &mut settings.message_timeout, |v| v.duration_or_off());
    section.read("write_timeout", &mut settings.write_timeout, |v| v.duration_or_off());
    if let Some(section) = section.get("queue").and_then(|value| value.section(&QUEUE)) {
        queue(&section, &mut settings.queue);
    }
    sending(section, &mut settings);
    section.read("events", &mut settings.events, |v| v.choices(&EVENTS_OF_CLIENTS));
    let (auth, allow, refuse_at) = guard(section, &mut settings);
    let addresses = section.get("address_sessions").filter(|_| settings.address_sessions && format != Some(None));
    let relay = section.get("relay").and_then(|value| value.section(&RELAY)).map(|section| relay(&section, base_dir));
    let ack_at = ack(section, &mut settings.ack).filter(|_| to_is_good.unwrap_or(true));
    let events = section.get("events").filter(|value| to_is_good.unwrap_or(true) && !value.is_empty_list());
    RawEndpoint {
        settings,
        pattern,
        path_at: path_value.map_or(section.at, |value| value.at()),
        listen,
        to,
        max_connections_at: section.get("max_connections").map(|value| value.at()),
        max_room_connections_at: section.get("max_room_connections").map(|value| value.at()),
        at_capacity_at: section.get("at_capacity").map(|value| value.at()),
        max_identity_connections_at: section.get("max_identity_connections").map(|value| value.at()),
        pong_timeout_at: section.get("pong_timeout").map(|value| value.at()),
        address_sessions_at: addresses.map(|value| value.at()),
        max_body_at: section.get("max_body").map(|value| value.at()),
        ack_at,
        events_at: events.map(|value| value.at()),
        auth,
        refuse_at,
        allow,
        relay,
        not_of_relay: NOT_OF_RELAY.into_iter().filter_map(|key| Some((key, section.get(key)?.at()))).collect(),
    }
}

/// What its clients may send, how fast, and from which pages.
fn sending(section: &Section<'_>, settings: &mut EndpointSettings) {
    section.read("rate", &mut settings.rate, |v| rate(&v));
    section.read("origins", &mut settings.origins, |v| origins(&v));
    section.read("address_sessions", &mut settings.address_sessions, |v| v.boolean());
    section.read("choose_rooms", &mut settings.choose_rooms, |v| v.boolean());
    section.read("post", &mut settings.post, |v| v.boolean());
    section.read("max_body", &mut settings.max_body, |v| v.size(MAX_MESSAGE).map(Some));
}

/// What clients are told; gives its place if they are told something.
fn ack(section: &Section<'_>, ack: &mut Ack) -> Option<usize> {
    section.read("ack", ack, |v| v.choice(&[("off", Ack::Off), ("stored", Ack::Stored)]));
    section.get("ack").filter(|_| *ack != Ack::Off).map(|value| value.at())
}

/// Who is let in, and what else is said of that: the names, the rules, and where `refuse` stands if it is not the default.
fn guard(
    section: &Section<'_>,
    settings: &mut EndpointSettings,
) -> (Option<Vec<Text>>, Option<RawAllow>, Option<usize>) {
    let refusals = [("answer", Refuse::Answer), ("close", Refuse::Close)];
    section.read("refuse", &mut settings.refuse, |v| v.choice(&refusals));
    let allow = section.get("allow").map(|value| allow(&value));
    settings.allow = allow.as_ref().map(|allow| allow.rules.clone());
    let refuse_at = section.get("refuse").filter(|_| settings.refuse == Refuse::Close).map(|value| value.at());
    (section.get("auth").map(|value| auth(&value)), allow, refuse_at)
}

/// The names of `[[auth]]` tables, at least one.
fn auth(value: &Value<'_>) -> Vec<Text> {
    if value.is_empty_list() {
        value.mistake("is empty, so nobody could get in: name an [[auth]], or remove the key to let everybody in");
    }
    value.words().unwrap_or_default()
}

/// The subprotocols that can be agreed.
fn agreed(value: &Value<'_>) -> Option<Vec<String>> {
    let names = subprotocols(value)?;
    if names.iter().any(|name| is_bearer(name)) {
        value.mistake("has one that begins with \"wsgate.bearer.\", in which clients send tokens: remove it");
        return None;
    }
    Some(names)
}

fn path(value: &Value<'_>) -> Option<Pattern> {
    let text = value.text()?;
    let pattern = Pattern::parse(&text.value);
    if pattern.as_ref().is_ok_and(|pattern| pattern.names().any(|name| name == "identity")) {
        value.mistake(format_args!(
            "is {:?}, but {{identity}} is who a client is, in \"to\" and \"allow\": give the parameter another name, for \
             example {{user}}",
            text.written
        ));
        return None;
    }
    pattern.map_err(|error| value.mistake(format_args!("is {:?}: {error}", text.written))).ok()
}

/// How many clients there may be, and what becomes of the next one.
fn capacity(section: &Section<'_>, settings: &mut EndpointSettings) {
    section.read("max_connections", &mut settings.max_connections, |v| v.integer(CONNECTIONS));
    section.read("max_room_connections", &mut settings.max_room_connections, |v| v.integer_or_off(CONNECTIONS));
    let capacities = [("close", AtCapacity::Close), ("refuse", AtCapacity::Refuse), ("replace", AtCapacity::Replace)];
    section.read("at_capacity", &mut settings.at_capacity, |v| v.choice(&capacities));
    settings.identity_limit = identity_limit(section);
}

/// `max_identity_connections`, and what it means with `when_identity_full`.
fn identity_limit(section: &Section<'_>) -> Option<IdentityLimit> {
    let most = section.get("max_identity_connections").map(|value| value.integer_or_off(CONNECTIONS));
    let mut when_full = WhenIdentityFull::default();
    let choices = [("refuse", WhenIdentityFull::Refuse), ("replace", WhenIdentityFull::Replace)];
    section.read("when_identity_full", &mut when_full, |v| v.choice(&choices));
    if let (WhenIdentityFull::Replace, None | Some(Some(None)), Some(value)) =
        (when_full, most, section.get("when_identity_full"))
    {
        value.mistake(
            "has no meaning without a limit: write for example max_identity_connections = 1 too, or remove it",
        );
    }
    most.flatten().flatten().map(|connections| IdentityLimit { connections, when_full })
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
    section.read("messages", &mut settings.messages, |v| v.integer(QUEUE_MESSAGES));
    section.read("bytes", &mut settings.bytes, |v| v.size(QUEUE_BYTES));
    section.read("when_full", &mut settings.when_full, |v| v.choice(&policies));
}

fn rate(value: &Value<'_>) -> Option<Option<RateSettings>> {
    if value.is_off()? {
        return Some(None);
    }
    let section = value.section(&RATE)?;
    let (messages, bytes) = (section.get("messages"), section.get("bytes"));
    if messages.is_none() && bytes.is_none() {
        value.mistake("limits nothing: add messages, bytes or both, for example { messages = 100 }");
        return None;
    }
    let mut settings =
        RateSettings { messages: None, bytes: None, burst: Duration::from_secs(2), when_over: WhenOver::default() };
    section.read("messages", &mut settings.messages, |v| v.integer(PER_SECOND).map(|number| Some(number as u64)));
    section.read("bytes", &mut settings.bytes, |v| v.size(BYTES_PER_SECOND).map(|bytes| Some(bytes as u64)));
    section.read("burst", &mut settings.burst, |v| v.duration());
    section.read("when_over", &mut settings.when_over, |v| {
        v.choice(&[("delay", WhenOver::Delay), ("close", WhenOver::Close)])
    });
    Some(Some(settings))
}
