//! `[[link]]`.

use std::ops::RangeInclusive;
use std::path::Path;

use crate::config::section::{Keys, Section, Value};
use crate::config::settings::{
    BackoffSettings, BatchFormat, BatchSettings, HttpLinkSettings, LinkQueueSettings, LinkSettings, OutletPolicy,
};
use crate::config::text::Text;
use crate::secret::Secret;

use super::bounds::{MAX_MESSAGE, QUEUE_BYTES, QUEUE_MESSAGES};
use super::dial::{RawDial, dial};
use super::dial_keys::{OF_HTTP_LINK, OF_LINK};
use super::http::subprotocols;
use super::route::{RawLinkDestination, is_name, link_route};
use super::words::{EVENTS, FORMATS};

const BATCH_MESSAGES: RangeInclusive<usize> = 1..=1_000_000;
const ATTEMPTS: RangeInclusive<usize> = 1..=u32::MAX as usize;

pub(crate) static LINK: Keys = Keys {
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
        ("queue", "{ messages = 4096, bytes = \"4MiB\", when_full = \"drop_oldest\", when_slow = \"block\" }"),
        ("backoff", "{ first = \"500ms\", most = \"60s\", reset_after = \"30s\", attempts = \"forever\" }"),
        ("proxy", "\"environment\""),
        ("tls", "{ verify = true }"),
        ("answer_timeout", "\"10s\""),
        ("batch", "{ messages = 100, bytes = \"256KiB\", wait = \"100ms\", format = \"ndjson\" }"),
        ("allow_loop", "false"),
        ("required", "false"),
        ("events", "[\"connect\", \"disconnect\", \"error\"]"),
    ],
};
pub(crate) static QUEUE: Keys = Keys {
    table: "queue of [[link]]",
    keys: &[("messages", "4096"), ("bytes", "\"4MiB\""), ("when_full", "\"drop_oldest\""), ("when_slow", "\"block\"")],
};
pub(crate) static BACKOFF: Keys = Keys {
    table: "backoff of [[link]]",
    keys: &[("first", "\"500ms\""), ("most", "\"60s\""), ("reset_after", "\"30s\""), ("attempts", "\"forever\"")],
};

pub(crate) static BATCH: Keys = Keys {
    table: "batch of [[link]]",
    keys: &[("messages", "100"), ("bytes", "\"256KiB\""), ("wait", "\"100ms\""), ("format", "\"ndjson\"")],
};

/// The keys that have no meaning for a link that posts, and those that have one only there.
const OF_WEBSOCKETS: [&str; 12] = [
    "subprotocols",
    "origin",
    "to",
    "max_message",
    "heartbeat",
    "pong_timeout",
    "message_timeout",
    "write_timeout",
    "ping_message",
    "ping_every",
    "open_messages",
    "events",
];
const OF_HTTP: [&str; 2] = ["answer_timeout", "batch"];

/// A `[[link]]` and where its parts stand.
pub(crate) struct RawLink {
    /// Their destinations are resolved later.
    pub(crate) settings: LinkSettings,
    pub(crate) dial: RawDial,
    pub(crate) name_at: usize,
    /// Whether the name is what was meant; a wrong one is compared with nothing.
    pub(crate) valid: bool,
    /// The destinations under `to`, each with its text.
    pub(crate) to: Vec<(RawLinkDestination, Text)>,
    /// The place of `pong_timeout` if it is written.
    pub(crate) pong_timeout_at: Option<usize>,
    /// The place of `ping_every` if it is written without a `ping_message`.
    pub(crate) idle_ping_every_at: Option<usize>,
    /// The place of `backoff` if it is written, and its durations are what was meant.
    pub(crate) backoff_at: Option<usize>,
    /// The place of `events` if there are some, and the destinations are what was meant.
    pub(crate) events_at: Option<usize>,
    /// The keys that are written and have no meaning for its server, each with its place.
    pub(crate) misplaced: Vec<(&'static str, usize)>,
}

pub(super) fn link(section: &Section<'_>, base_dir: &Path) -> RawLink {
    let name_value = section.require("name");
    let name = name_value.and_then(|value| link_name(&value));
    let valid = name.is_some();
    let is_http = section.get("url").and_then(|value| value.text()).is_some_and(|text| is_http(&text.value));
    let dial = dial(section, base_dir, if is_http { &OF_HTTP_LINK } else { &OF_LINK });
    let mut settings = LinkSettings::new(&name.unwrap_or_default(), dial.settings.url.clone());
    settings.dial = dial.settings.clone();
    settings.shown = dial.shown.clone();
    section.read("subprotocols", &mut settings.dial.subprotocols, |v| subprotocols(&v));
    let (to, to_is_good) = section.get("to").map_or((Vec::new(), true), |value| link_route(&value));
    section.read("format", &mut settings.format, |v| v.choice(&FORMATS));
    section.read("max_message", &mut settings.max_message, |v| v.size(MAX_MESSAGE));
    section.read("heartbeat", &mut settings.heartbeat, |v| v.duration_or_off());
    section.read("pong_timeout", &mut settings.pong_timeout, |v| v.duration());
    section.read("message_timeout", &mut settings.message_timeout, |v| v.duration_or_off());
    section.read("write_timeout", &mut settings.write_timeout, |v| v.duration_or_off());
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
    settings.http = is_http.then(|| http(section));
    section.read("allow_loop", &mut settings.allow_loop, |v| v.boolean());
    section.read("required", &mut settings.required, |v| v.boolean());
    section.read("events", &mut settings.events, |v| v.choices(&EVENTS));
    let events = section.get("events").filter(|value| to_is_good && !value.is_empty_list());
    RawLink {
        settings,
        dial,
        name_at: name_value.map_or(section.at, |value| value.at()),
        valid,
        to,
        pong_timeout_at: section.get("pong_timeout").map(|value| value.at()),
        idle_ping_every_at: ping_every.filter(|_| ping_message.is_none()).map(|value| value.at()),
        backoff_at: backoff_value.filter(|_| backoff_is_good).map(|value| value.at()),
        events_at: events.map(|value| value.at()),
        misplaced: misplaced(section, is_http),
    }
}

/// Whether a link to this URL posts.
fn is_http(url: &str) -> bool {
    let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
    ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known))
}

/// The keys that are written and have no meaning for its server, each with its place.
fn misplaced(section: &Section<'_>, is_http: bool) -> Vec<(&'static str, usize)> {
    let keys: &[&str] = if is_http { &OF_WEBSOCKETS } else { &OF_HTTP };
    keys.iter().filter_map(|key| Some((*key, section.get(key)?.at()))).collect()
}

/// How a link posts.
fn http(section: &Section<'_>) -> HttpLinkSettings {
    let mut settings = HttpLinkSettings::default();
    section.read("answer_timeout", &mut settings.answer_timeout, |v| v.duration());
    section.read("batch", &mut settings.batch, |v| batch(&v).map(Some));
    settings
}

fn batch(value: &Value<'_>) -> Option<BatchSettings> {
    let section = value.section(&BATCH)?;
    let mut settings = BatchSettings::default();
    section.read("messages", &mut settings.messages, |v| v.integer(BATCH_MESSAGES));
    section.read("bytes", &mut settings.bytes, |v| v.size(MAX_MESSAGE));
    section.read("wait", &mut settings.wait, |v| v.duration());
    let formats = [("ndjson", BatchFormat::Ndjson), ("json", BatchFormat::Json)];
    section.read("format", &mut settings.format, |v| v.choice(&formats));
    Some(settings)
}

fn link_name(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    if is_name(&text.value) {
        return Some(text.value);
    }
    value.mistake(format_args!(
        "is {:?}, but the name of a link has only letters, digits, \"-\" and \"_\", 128 at most: write for example name = \"plc\"",
        text.written
    ));
    None
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
    let policies = [
        ("drop_oldest", OutletPolicy::DropOldest),
        ("drop_newest", OutletPolicy::DropNewest),
        ("block", OutletPolicy::Block),
    ];
    section.read("messages", &mut settings.messages, |v| v.integer(QUEUE_MESSAGES));
    section.read("bytes", &mut settings.bytes, |v| v.size(QUEUE_BYTES));
    section.read("when_full", &mut settings.when_full, |v| v.choice(&policies));
    section.read("when_slow", &mut settings.when_slow, |v| v.choice(&policies));
}

/// Reads when a link is dialled again; `false` if one of the two bounds is wrong.
fn backoff(section: &Section<'_>, settings: &mut BackoffSettings) -> bool {
    let bounds = ["first", "most"].map(|key| section.get(key).map(|value| value.duration()));
    settings.first = bounds[0].flatten().unwrap_or(settings.first);
    settings.most = bounds[1].flatten().unwrap_or(settings.most);
    section.read("reset_after", &mut settings.reset_after, |v| v.duration());
    if let Some(value) = section.get("attempts") {
        if !value.is_string() {
            settings.attempts = value.integer(ATTEMPTS).and_then(|attempts| u32::try_from(attempts).ok());
        } else if let Some(text) = value.text().filter(|text| text.value != "forever") {
            value.mistake(format_args!("cannot be {:?}: write \"forever\" or a number", text.written));
        }
    }
    !bounds.contains(&Some(None))
}
