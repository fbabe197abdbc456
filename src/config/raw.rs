//! What is written: every table and key of the file, read value by value into the settings, with
//! the places that later checks need. What the values mean together is judged in `relations.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use log::LevelFilter;
use toml::de::{DeTable, DeValue};

use crate::path::Pattern;

use super::mistake::{Report, cause};
use super::section::{Keys, Section, Text, Value, nearest};
use super::settings::{
    AtCapacity, Destination, EndpointSettings, Format, GatewaySettings, ListenAddress, ListenerSettings, Origins,
    QueueSettings, TlsSettings, Welcome, WhenFull,
};

const CONNECTIONS: std::ops::RangeInclusive<usize> = 1..=1_000_000;
const DELIVERERS: std::ops::RangeInclusive<usize> = 0..=64;
const CLIENT_STACK: std::ops::RangeInclusive<usize> = 128 << 10..=64 << 20;
const MAX_MESSAGE: std::ops::RangeInclusive<usize> = 1..=1 << 30;
const QUEUE_MESSAGES: std::ops::RangeInclusive<usize> = 2..=1 << 24;
const QUEUE_BYTES: std::ops::RangeInclusive<usize> = 1 << 10..=64 << 30;
/// What the kernel takes as the path of a Unix socket, its closing zero byte left out.
const UNIX_PATH_BYTES_MAX: usize = 107;

pub(super) static ROOT: Keys = Keys {
    table: "the file",
    keys: &[("gateway", "[gateway]"), ("log", "[log]"), ("listen", "[[listen]]"), ("endpoint", "[[endpoint]]")],
};
pub(super) static GATEWAY: Keys = Keys {
    table: "[gateway]",
    keys: &[
        ("max_connections", "10000"),
        ("max_handshakes", "1024"),
        ("handshake_timeout", "\"10s\""),
        ("close_timeout", "\"5s\""),
        ("drain_timeout", "\"10s\""),
        ("deliverers", "2"),
        ("client_stack", "\"256KiB\""),
    ],
};
pub(super) static LOG: Keys = Keys { table: "[log]", keys: &[("level", "\"info\"")] };
pub(super) static LISTEN: Keys = Keys {
    table: "[[listen]]",
    keys: &[
        ("address", "\"127.0.0.1:8080\""),
        ("name", "\"main\""),
        ("tls", "{ certificate = \"server.pem\", private_key = \"server.key\" }"),
    ],
};
pub(super) static TLS: Keys =
    Keys { table: "tls of [[listen]]", keys: &[("certificate", "\"server.pem\""), ("private_key", "\"server.key\"")] };
pub(super) static ENDPOINT: Keys = Keys {
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
    ],
};
pub(super) static QUEUE: Keys = Keys {
    table: "queue of [[endpoint]]",
    keys: &[("messages", "4096"), ("bytes", "\"4MiB\""), ("when_full", "\"drop_oldest\"")],
};
/// The tables that stand at the top of the file.
static TABLES: [&Keys; 4] = [&GATEWAY, &LOG, &LISTEN, &ENDPOINT];

/// The file as it was read. A value that was wrong has its default, and its mistake is reported.
#[derive(Default)]
pub(super) struct Raw {
    pub(super) gateway: GatewaySettings,
    /// Empty without a `[[listen]]`.
    pub(super) listeners: Vec<RawListener>,
    /// Empty without an `[[endpoint]]`.
    pub(super) endpoints: Vec<RawEndpoint>,
}

/// A `[[listen]]` and where its parts stand.
pub(super) struct RawListener {
    pub(super) settings: ListenerSettings,
    /// The place of the name, or of what the name was taken from.
    pub(super) name_at: usize,
    pub(super) address_at: usize,
    /// Whether name and address are what was meant; a wrong one is compared with nothing.
    pub(super) valid: bool,
}

/// An `[[endpoint]]` and where its parts stand.
pub(super) struct RawEndpoint {
    pub(super) settings: EndpointSettings,
    /// `None` if the path is no pattern.
    pub(super) pattern: Option<Pattern>,
    pub(super) path_at: usize,
    /// The names under `listen`, as they stand.
    pub(super) listen: Vec<Text>,
    /// The destinations under `to`, each with its text.
    pub(super) to: Vec<(Destination, Text)>,
    /// The place of `max_connections` if it is written.
    pub(super) max_connections_at: Option<usize>,
    /// The place of `pong_timeout` if it is written.
    pub(super) pong_timeout_at: Option<usize>,
}

/// Reads the whole file. Relative paths of files are relative to `base_dir`.
pub(super) fn read<'a>(root: &'a DeTable<'a>, base_dir: &Path, report: &'a Report<'a>) -> Raw {
    for (key, value) in root {
        let name: &str = key.get_ref();
        if !ROOT.keys.iter().any(|(known, _)| *known == name) {
            report.mistake(key.span().start, unknown_at_top(name, is_table(value.get_ref())));
        }
    }
    let value = |key: &'static str| Value::of_file(report, &ROOT, root, key);
    let mut raw = Raw::default();
    if let Some(section) = value("gateway").and_then(|value| value.table(&GATEWAY, &TABLES)) {
        gateway(&section, &mut raw.gateway);
    }
    if let Some(section) = value("log").and_then(|value| value.table(&LOG, &TABLES)) {
        log(&section, &mut raw.gateway);
    }
    let tables = |key, keys| value(key).map(|value| value.tables(keys, &TABLES)).unwrap_or_default();
    raw.listeners = tables("listen", &LISTEN).iter().map(|section| listener(section, base_dir)).collect();
    raw.endpoints = tables("endpoint", &ENDPOINT).iter().map(endpoint).collect();
    raw
}

/// `[name]` or `[[name]]`, as opposed to `name = value`.
fn is_table(value: &DeValue<'_>) -> bool {
    match value {
        DeValue::Table(_) => true,
        DeValue::Array(entries) => entries.iter().any(|entry| entry.get_ref().is_table()),
        _ => false,
    }
}

fn unknown_at_top(name: &str, is_table: bool) -> String {
    if !is_table {
        let what = format!("unknown key {name:?} before the first table");
        return match TABLES.iter().find(|table| table.keys.iter().any(|(known, _)| *known == name)) {
            Some(table) => format!("{what}: did you mean to put it under {}?", table.table),
            None => format!("{what}: remove it, or put it under the table that it belongs to"),
        };
    }
    if matches!(name, "link" | "relay" | "store" | "bridge" | "cluster" | "admin") {
        return format!("this build has no {name:?}: remove the table");
    }
    let what = format!("unknown table {name:?}");
    let meant = nearest(name, ROOT.keys.iter().map(|(known, _)| *known))
        .and_then(|near| ROOT.keys.iter().find(|(known, _)| *known == near));
    match meant {
        Some((_, table)) => format!("{what}: did you mean {table}?"),
        None => format!("{what}: remove it, or use one of [gateway], [log], [[listen]], [[endpoint]]"),
    }
}

/// Puts what was read in the place of the default.
fn set<T>(field: &mut T, read: Option<T>) {
    if let Some(value) = read {
        *field = value;
    }
}

fn gateway(section: &Section<'_>, settings: &mut GatewaySettings) {
    set(&mut settings.max_connections, section.get("max_connections").and_then(|v| v.integer(CONNECTIONS)));
    set(&mut settings.max_handshakes, section.get("max_handshakes").and_then(|v| v.integer(CONNECTIONS)));
    set(&mut settings.handshake_timeout, section.get("handshake_timeout").and_then(|v| v.duration()));
    set(&mut settings.close_timeout, section.get("close_timeout").and_then(|v| v.duration()));
    set(&mut settings.drain_timeout, section.get("drain_timeout").and_then(|v| v.duration()));
    set(&mut settings.client_stack, section.get("client_stack").and_then(|v| v.size(CLIENT_STACK)));
    if let Some(value) = section.get("deliverers") {
        if !value.is_string() {
            set(&mut settings.deliverers, value.integer(DELIVERERS));
        } else if let Some(text) = value.text().filter(|text| text.value != "auto") {
            value.mistake(format_args!("cannot be {:?}: write \"auto\" or a number", text.written));
        }
    }
}

fn log(section: &Section<'_>, settings: &mut GatewaySettings) {
    // No "trace": the release build leaves it out.
    let levels = [
        ("off", LevelFilter::Off),
        ("error", LevelFilter::Error),
        ("warn", LevelFilter::Warn),
        ("info", LevelFilter::Info),
        ("debug", LevelFilter::Debug),
    ];
    set(&mut settings.log_level, section.get("level").and_then(|v| v.choice(&levels)));
}

fn listener(section: &Section<'_>, base_dir: &Path) -> RawListener {
    let mut settings = ListenerSettings::default();
    let mut valid = true;
    let mut address_at = section.at;
    if let Some(value) = section.get("address") {
        address_at = value.at();
        let text = value.text();
        let address = text.as_ref().and_then(|text| listen_address(&value, text, base_dir));
        valid &= address.is_some();
        // The name is what was written, not how we would write it.
        set(&mut settings.name, text.map(|text| text.value));
        set(&mut settings.address, address);
    }
    let mut name_at = address_at;
    if let Some(value) = section.get("name") {
        name_at = value.at();
        let name = value.text().and_then(|text| match line_of_text(&text.value) {
            true => Some(text.value),
            false => {
                value.mistake("must be a word or more, without control characters: write for example name = \"main\"");
                None
            }
        });
        valid &= name.is_some();
        set(&mut settings.name, name);
    }
    settings.tls = section.get("tls").and_then(|value| value.section(&TLS)).and_then(|section| tls(&section, base_dir));
    RawListener { settings, name_at, address_at, valid }
}

fn line_of_text(text: &str) -> bool {
    !text.trim().is_empty() && !text.contains(char::is_control)
}

fn listen_address(value: &Value<'_>, text: &Text, base_dir: &Path) -> Option<ListenAddress> {
    let written = &text.written;
    if let Some(path) = text.value.strip_prefix("unix:") {
        let socket = base_dir.join(path);
        if path.is_empty() || path.ends_with('/') || path.contains(char::is_control) {
            value.mistake(format_args!(
                "is {written:?}, which names no file: write for example \"unix:/run/wsgate/ws.sock\""
            ));
            return None;
        }
        if socket.as_os_str().len() > UNIX_PATH_BYTES_MAX {
            value.mistake(format_args!(
                "is {written:?}, but the path of a socket has at most {UNIX_PATH_BYTES_MAX} bytes: choose a shorter one"
            ));
            return None;
        }
        return Some(ListenAddress::Unix(socket));
    }
    if let Ok(address) = text.value.parse::<SocketAddr>() {
        return Some(ListenAddress::Tcp(address));
    }
    let advice = match text.value.rsplit_once(':') {
        _ if text.value.parse::<Ipv4Addr>().is_ok() => format!("a port is missing, write \"{written}:8080\""),
        _ if text.value.parse::<Ipv6Addr>().is_ok() => format!("write \"[{written}]:8080\""),
        _ if text.value.contains("//") => "write the IP address and the port only, \"127.0.0.1:8080\"".to_owned(),
        Some((_, port)) if port.parse::<u16>().is_err() => "the port is a number up to 65535".to_owned(),
        Some(("" | "*", port)) => format!("write \"0.0.0.0:{port}\" for every IPv4 address of this machine"),
        Some(("localhost", port)) => format!("names are not looked up, write \"127.0.0.1:{port}\" or \"[::1]:{port}\""),
        Some(_) => "names are not looked up, write the IP address".to_owned(),
        None => "write an IP address and a port, \"127.0.0.1:8080\", or \"unix:/path/of/socket\"".to_owned(),
    };
    value.mistake(format_args!("is {written:?}, which is no address to listen on: {advice}"));
    None
}

fn tls(section: &Section<'_>, base_dir: &Path) -> Option<TlsSettings> {
    // What stands behind the kind of key ("RSA PRIVATE KEY-----") ends the first line of a PEM block.
    let certificate =
        section.require("certificate").and_then(|v| pem_file(&v, base_dir, "CERTIFICATE-----", "certificate"));
    let private_key =
        section.require("private_key").and_then(|v| pem_file(&v, base_dir, "PRIVATE KEY-----", "private key"));
    Some(TlsSettings { certificate: certificate?, private_key: private_key? })
}

/// A file that can be read and holds a PEM block; whether it is a good one is seen at start.
fn pem_file(value: &Value<'_>, base_dir: &Path, label: &str, what: &str) -> Option<PathBuf> {
    let text = value.text()?;
    let file = base_dir.join(&text.value);
    // Relative paths surprise people, so the message shows where we looked.
    let place = match text.value == text.written {
        true => format!("{:?}", file.display().to_string()),
        false => format!("{:?}", text.written),
    };
    match fs::read(&file) {
        Err(error) => {
            value.mistake(format_args!(
                "names {place}, which cannot be read: {} (check path and permissions)",
                cause(&error)
            ));
            None
        }
        Ok(bytes) if !bytes.windows(label.len()).any(|window| window == label.as_bytes()) => {
            value.mistake(format_args!(
                "names {place}, which holds no {what} in PEM form: check that it is the right file"
            ));
            None
        }
        Ok(_) => Some(file),
    }
}

fn endpoint(section: &Section<'_>) -> RawEndpoint {
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
    let mut to: Vec<(Destination, Text)> = Vec::new();
    if let Some(value) = section.get("to") {
        for text in value.texts().unwrap_or_default() {
            let Some(destination) = destination(&value, &text) else { continue };
            if to.iter().any(|(earlier, _)| *earlier == destination) {
                value.mistake_at(text.at, format_args!("has {:?} twice: remove one", text.written));
                continue;
            }
            to.push((destination, text));
        }
        settings.to = to.iter().map(|(destination, _)| destination.clone()).collect();
    }
    let formats = [("payload", Format::Payload), ("message", Format::Message), ("n8n", Format::N8n)];
    set(&mut settings.format, section.get("format").and_then(|v| v.choice(&formats)));
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
    RawEndpoint {
        settings,
        pattern,
        path_at,
        listen,
        to,
        max_connections_at: max_connections.map(|value| value.at()),
        pong_timeout_at: pong_timeout.map(|value| value.at()),
    }
}

fn destination(value: &Value<'_>, text: &Text) -> Option<Destination> {
    let written = &text.written;
    let mistake = |advice: String| value.mistake_at(text.at, advice);
    match text.value.split_once(':') {
        None => match &*text.value {
            "reply" => return Some(Destination::Reply),
            "broadcast" => return Some(Destination::Broadcast),
            "others" => return Some(Destination::Others),
            _ if text.value.starts_with('/') => {
                mistake(format!("has {written:?}: write \"endpoint:{written}\" for the clients of another endpoint"));
            }
            _ => {
                let known = ["reply", "broadcast", "others"];
                let advice = nearest(written, known.into_iter()).map_or_else(
                    || "write \"reply\", \"broadcast\", \"others\" or \"endpoint:/path\"".to_owned(),
                    |near| format!("did you mean {near:?}?"),
                );
                mistake(format!("has the unknown destination {written:?}: {advice}"));
            }
        },
        Some(("endpoint", path)) => match Pattern::parse(path) {
            Ok(_) => return Some(Destination::Endpoint(path.to_owned())),
            Err(error) => mistake(format!("has {written:?}: {error}")),
        },
        Some((kind @ ("link" | "store" | "bridge" | "relay"), _)) => {
            mistake(format!("has {written:?}, but this build has no {kind}s: remove it"));
        }
        Some(_) => mistake(format!(
            "has the unknown destination {written:?}: write \"reply\", \"broadcast\", \"others\" or \"endpoint:/path\""
        )),
    }
    None
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

fn subprotocols(value: &Value<'_>) -> Option<Vec<String>> {
    let mut subprotocols = Vec::new();
    for text in value.texts()? {
        // A token of RFC 7230, section 3.2.6: it goes into a header as it is.
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if text.value.is_empty() || !text.value.bytes().all(token) {
            value.mistake_at(
                text.at,
                format_args!(
                    "has {:?}, which is no subprotocol: use letters, digits and !#$%&'*+-.^_`|~ only, no spaces",
                    text.written
                ),
            );
        } else if subprotocols.contains(&text.value) {
            value.mistake_at(text.at, format_args!("has {:?} twice: remove one", text.written));
        } else {
            subprotocols.push(text.value);
        }
    }
    Some(subprotocols)
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

fn origins(value: &Value<'_>) -> Option<Origins> {
    if value.is_string() {
        let text = value.text()?;
        match &*text.value {
            "same" => return Some(Origins::Same),
            "any" => return Some(Origins::Any),
            _ => value.mistake(format_args!(
                "cannot be {:?}: write \"same\", \"any\" or a list, for example origins = [\"https://dash.example\"]",
                text.written
            )),
        }
        return None;
    }
    let mut origins = Vec::new();
    for text in value.texts()? {
        match origin(&text.value) {
            Some(origin) => origins.push(origin),
            None => value.mistake_at(
                text.at,
                format_args!(
                    "has {:?}, which is no origin: write scheme://host or scheme://host:port, without a path, for \
                     example \"https://dash.example\"",
                    text.written
                ),
            ),
        }
    }
    Some(Origins::List(origins))
}

/// `scheme://host[:port]` as browsers send it: lower case, without the port that the scheme implies.
fn origin(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let (scheme, authority) = text.split_once("://")?;
    let in_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.chars().all(in_scheme) {
        return None;
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            address.parse::<Ipv6Addr>().ok()?;
            (&authority[..address.len() + 2], port)
        }
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let in_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if host.is_empty() || (!host.starts_with('[') && !host.chars().all(in_host)) {
        return None;
    }
    if port.is_empty() {
        return Some(format!("{scheme}://{host}"));
    }
    let port = port.strip_prefix(':')?;
    let number = port.parse::<u16>().ok().filter(|_| port.bytes().all(|b| b.is_ascii_digit()))?;
    Some(match (scheme, number) {
        ("http", 80) | ("https", 443) => format!("{scheme}://{host}"),
        _ => format!("{scheme}://{host}:{number}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_brought_into_the_form_that_browsers_send() {
        let cases = [
            ("https://dash.example", Some("https://dash.example")),
            ("HTTPS://Dash.Example", Some("https://dash.example")),
            ("http://10.0.0.7:8080", Some("http://10.0.0.7:8080")),
            ("https://dash.example:443", Some("https://dash.example")),
            ("http://dash.example:80", Some("http://dash.example")),
            ("http://dash.example:443", Some("http://dash.example:443")),
            ("http://[::1]:3000", Some("http://[::1]:3000")),
            ("http://[::1]", Some("http://[::1]")),
            ("chrome-extension://abcdef", Some("chrome-extension://abcdef")),
            ("", None),
            ("null", None),
            ("*", None),
            ("https://*.example", None),
            ("dash.example", None),
            ("//dash.example", None),
            ("https://", None),
            ("https://dash.example/", None),
            ("https://dash.example/x", None),
            ("https://user@dash.example", None),
            ("https://dash.example:", None),
            ("https://dash.example:+1", None),
            ("https://dash.example:65536", None),
            ("https://[::1", None),
            ("https://[x]", None),
            ("https://[::1]x", None),
            ("https://dash.example\r\nx", None),
        ];
        for (text, expected) in cases {
            assert_eq!(origin(text).as_deref(), expected, "{text:?}");
        }
    }
}
