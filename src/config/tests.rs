//! Tests of the configuration: the manual and the examples, what is refused and how it is said.

use std::net::SocketAddr;
use std::time::Duration;

use log::LevelFilter;
use proptest::prelude::*;

use super::section::Keys;
use super::settings::{AdminSettings, AuthId, BackoffSettings, GatewaySettings, LinkQueueSettings};
use super::*;
use crate::address::list::AddressList;
use crate::auth::admin::{AdminRule, Right};
use crate::auth::allow::{Glob, Rights, Rule};
use crate::auth::certificate::IdentityFrom;
use crate::auth::credentials::Places;
use crate::auth::jwk::Algorithm;
use crate::auth::jwt::JwtSettings;
use crate::limit::Rate;
use crate::path::Pattern;
use crate::secret::Secret;
use crate::template::Template;
use crate::url;

const MANUAL: &str = include_str!("../../config/wsgate.toml");
const ROOMS: &str = include_str!("../../config/rooms.toml");
const LINK: &str = include_str!("../../config/link.toml");
const RELAY_UPSTREAM: &str = include_str!("../../config/relay-upstream.toml");

fn read(text: &str) -> Settings {
    parse(text, "test.toml", Path::new("/etc/wsgate")).unwrap_or_else(|error| panic!("{error}"))
}

/// A list that is written in the configuration.
fn addresses(text: &str) -> AddressSource {
    AddressSource { list: AddressList::parse(text).unwrap().into(), file: None }
}

/// The same in a directory with a file of tokens.
fn read_beside_tokens(text: &str) -> Settings {
    let directory = tempfile::tempdir().unwrap();
    let tokens = crate::auth::tokens::line("press-3", "secret");
    fs::write(directory.path().join("tokens.txt"), tokens).unwrap();
    parse(text, "test.toml", directory.path()).unwrap_or_else(|error| panic!("{error}"))
}

fn mistakes(text: &str) -> Vec<String> {
    match parse(text, "test.toml", Path::new("")) {
        Err(ConfigError::Mistakes { mistakes, .. }) => mistakes.into_iter().map(|m| m.text).collect(),
        other => panic!("{text}: {other:?}"),
    }
}

/// Where the only `[[auth]]` looks for credentials.
fn read_places(text: &str) -> Places {
    read_beside_tokens(text).auths.remove(0).places
}

/// The line of an option with its default: `#key = value`.
fn commented_default(line: &str) -> Option<&str> {
    line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()))
}

#[test]
fn no_mistake_moves_a_terminal() {
    for text in ["[a\u{1}]\n[a\u{1}]", "[[a\u{1b}[2J]]\n[[a\u{1b}[2J]]", "a\u{7} = 1\na\u{7} = 2", "x = \"\u{1b}\""] {
        let mistakes = mistakes(text);
        assert!(!mistakes.is_empty(), "{text:?}");
        assert!(!mistakes.concat().contains(char::is_control), "{mistakes:?}");
    }
}

#[test]
fn an_empty_file_is_the_defaults() {
    assert_eq!(read(""), Settings::default());
}

#[test]
fn the_manual_as_it_stands_changes_nothing() {
    assert_eq!(read(MANUAL), Settings::default());
}

/// The manual with every default written out.
fn uncommented(manual: &str) -> String {
    manual.lines().map(|line| commented_default(line).unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

/// The parts of the manual: what is there without being asked for, the relay of an endpoint, the link, the store,
/// the ways to authenticate and the admin listener.
fn manual() -> [&'static str; 6] {
    let (rest, admin) = MANUAL.split_once("\n#[admin]\n").unwrap();
    let (rest, auth) = rest.split_once("\n#[[auth]]\n").unwrap();
    let (rest, store) = rest.split_once("\n#[[store]]\n").unwrap();
    let (rest, link) = rest.split_once("\n#[[link]]\n").unwrap();
    let (rest, relay) = rest.split_once("\n#[endpoint.relay]\n").unwrap();
    [rest, relay, link, store, auth, admin]
}

/// Reads the part on relays, or the one on links, with what has no default in place.
fn read_relay(part: &str) -> Settings {
    read(&format!("[[endpoint]]\n[endpoint.relay]\n{part}"))
}

fn read_link(part: &str) -> Settings {
    read(&format!("[[link]]\nname = \"plc\"\nurl = \"wss://plc.example/ws\"\n{part}"))
}

#[test]
fn the_manual_tells_the_true_defaults() {
    let [rest, relay, link, store, auth, admin] = manual();
    let defaults = MANUAL.lines().filter_map(commented_default).count();
    assert!(defaults > 50, "the defaults were not recognised: {defaults}");
    assert_eq!(read(&uncommented(rest)), Settings::default());
    let of_relay = &read_relay(&uncommented(relay)).endpoints[0];
    assert_eq!(of_relay.relay, Some(RelaySettings::new(url::parse("wss://plc.example/dev").unwrap())));
    assert_eq!(
        read(&format!("[[link]]\n{}", uncommented(link))).links,
        [LinkSettings::new("plc", url::parse("wss://plc.example/ws").unwrap())]
    );
    assert_eq!(
        read(&format!("[[store]]\n{}", uncommented(store))).stores,
        [StoreSettings::new("readings", "/etc/wsgate/readings.db".into())]
    );
    let [auth] = &read_beside_tokens(&format!("[[auth]]\n{}", uncommented(auth))).auths[..] else {
        panic!("one [[auth]]")
    };
    assert_eq!((&*auth.name, &auth.places), ("devices", &Places::default()));
    assert!(matches!(auth.kind, AuthKind::Tokens(_)), "{:?}", auth.kind);
    let of_admin = read(&format!("[admin]\n{}", uncommented(admin))).admin;
    assert_eq!(of_admin, AdminSettings { is_wanted: true, ..AdminSettings::default() });
    let every = write_duration(LinkSettings::PING_EVERY);
    assert!(link.contains(&format!("Default: {every}. [at once]\n# ping_every = \"{every}\"\n")));
}

#[test]
fn each_default_of_the_manual_is_read_and_not_just_skipped() {
    // Changed one at a time, each option must make a difference.
    let other = |table: &str, key: &str, value: &str| match (key, value) {
        ("to", "[]") => "[\"reply\"]".to_owned(),
        ("headers", _) => "{ X = \"y\" }".to_owned(),
        ("events", _) => "[\"error\"]".to_owned(),
        ("tls", _) => "{ verify = false }".to_owned(),
        ("backoff", _) => "{ first = \"7s\", most = \"8s\", reset_after = \"9s\", attempts = 10 }".to_owned(),
        ("queue", _) if table == "link" || table == "store" => {
            "{ messages = 2, bytes = 1024, when_full = \"drop_newest\" }".to_owned()
        }
        ("url", _) => "\"ws://other.example\"".to_owned(),
        ("name", "\"plc\"" | "\"readings\"") => "\"other\"".to_owned(),
        ("path", "\"readings.db\"") => "\"other.db\"".to_owned(),
        ("durability", _) => "\"os\"".to_owned(),
        ("wal_limit", _) => "\"64MiB\"".to_owned(),
        // The address is also the name.
        ("name", _) => "\"main\"".to_owned(),
        ("proxy", _) => "\"off\"".to_owned(),
        ("hold", _) => "\"7s\"".to_owned(),
        ("failed_credentials", _) => "\"off\"".to_owned(),
        ("levels", _) => "{ links = \"debug\" }".to_owned(),
        ("format", "\"auto\"") => "\"json\"".to_owned(),
        ("memory", _) => "\"1GiB\"".to_owned(),
        ("address_rate", _) => "{ per_second = 7 }".to_owned(),
        ("rate", _) => "{ messages = 7 }".to_owned(),
        _ => match value {
            "\"payload\"" => "\"n8n\"",
            "\"close\"" => "\"refuse\"",
            "\"info\"" => "\"warn\"",
            "\"same\"" => "\"any\"",
            "\"auto\"" => "63",
            "\"/\"" => "\"/other\"",
            "[\"broadcast\"]" => "[]",
            "[]" => "[\"chat.v1\"]",
            "false" => "true",
            "true" => "false",
            "\"127.0.0.1:8080\"" | "\"127.0.0.1:8081\"" => "\"127.0.0.2:8082\"",
            _ if value.starts_with('{') => "{ messages = 2, bytes = 1024, when_full = \"disconnect\" }",
            _ if value.ends_with("s\"") => "\"7s\"",
            _ if value.ends_with("B\"") => "\"512KiB\"",
            _ => "77",
        }
        .to_owned(),
    };
    let [rest, relay, link, store, auth, admin] = manual();
    let parts = [("rest", rest), ("relay", relay), ("link", link), ("store", store), ("auth", auth), ("admin", admin)];
    for (table, part) in parts {
        let given: &[&str] = match table {
            "relay" => &["url"],
            "link" => &["name", "url"],
            "store" => &["name", "path"],
            "auth" => &["name", "kind", "file"],
            _ => &[],
        };
        for line in part.lines().filter_map(commented_default) {
            let (key, value) = line.split_once(" = ").unwrap();
            // Those of signed tokens have a test of their own.
            let is_of_jwt = raw::auth::AUTH.keys[7..].iter().any(|(own, _)| *own == key);
            let needs_store = key == "ack";
            let needs_auth = matches!(key, "refuse" | "max_identity_connections" | "when_identity_full");
            if matches!(key, "kind" | "file" | "client_address")
                || needs_auth
                || needs_store
                || table == "auth" && is_of_jwt
                || (table, key) == ("auth", "name")
            {
                // There is no other value that would be good here.
                continue;
            }
            let other = other(table, key, value);
            let mut changed = part.replacen(&format!("\n#{line}\n"), &format!("\n{key} = {other}\n"), 1);
            for key in given.iter().filter(|given| **given != key) {
                changed = changed.replacen(&format!("\n#{key} = "), &format!("\n{key} = "), 1);
            }
            // Events need somewhere to go, and only one format can address sessions.
            let with = if (table, key) == ("link", "events") { "to = [\"endpoint:/\"]\n" } else { "" };
            if key == "address_sessions" {
                changed = changed.replacen("\n#format = \"payload\"\n", "\nformat = \"message\"\n", 1);
            }
            let (changed, usual) = match table {
                "relay" => (read_relay(&changed), read_relay("url = \"wss://plc.example/dev\"")),
                "link" => (read(&format!("[[link]]\n{with}{changed}")), read_link(with)),
                "store" => (
                    read(&format!("[[store]]\n{changed}")),
                    read("[[store]]\nname = \"readings\"\npath = \"readings.db\"\n"),
                ),
                "auth" => {
                    let usual = "name = \"devices\"\nkind = \"tokens\"\nfile = \"tokens.txt\"\ncookie = \"x\"";
                    let read = |text: &str| read_places(&format!("[[auth]]\n{text}"));
                    assert_ne!(read(&format!("cookie = \"x\"\n{changed}")), read(usual), "{key} = {other}");
                    continue;
                }
                "admin" => (read(&format!("[admin]\n{changed}")), read("[admin]")),
                _ => (read(&changed), Settings::default()),
            };
            assert_ne!(changed, usual, "{key} = {other} of {table}");
        }
    }
}

#[test]
fn every_key_that_is_known_is_in_the_manual() {
    let tables: [(&Keys, &str); 9] = [
        (&raw::gateway::GATEWAY, "[gateway]"),
        (&raw::log::LOG, "[log]"),
        (&raw::listen::LISTEN, "[[listen]]"),
        (&raw::endpoint::ENDPOINT, "[[endpoint]]"),
        (&raw::relay::RELAY, "#[endpoint.relay]"),
        (&raw::link::LINK, "#[[link]]"),
        (&raw::store::STORE, "#[[store]]"),
        (&raw::auth::AUTH, "#[[auth]]"),
        (&raw::admin::ADMIN, "#[admin]"),
    ];
    for (i, (keys, header)) in tables.iter().enumerate() {
        let rest = MANUAL.split_once(&format!("\n{header}\n")).unwrap().1;
        let end = tables.get(i + 1).map_or(rest.len(), |(_, next)| rest.find(&format!("\n{next}\n")).unwrap());
        // The relay is a table of its own in the manual.
        for (key, _) in keys.keys.iter().filter(|(key, _)| *key != "relay") {
            let written = rest[..end].lines().any(|line| {
                line.trim_start_matches(['#', ' ']).strip_prefix(key).is_some_and(|rest| rest.starts_with(" = "))
            });
            assert!(written, "{key} of {}", keys.table);
        }
    }
    let inner: [&Keys; 15] = [
        &raw::admin::ALLOW,
        &raw::admin::TLS,
        &raw::addresses::ADDRESSES,
        &raw::allow::ALLOW,
        &raw::gateway::ADDRESS_RATE,
        &raw::gateway::FAILED_CREDENTIALS,
        &raw::endpoint::RATE,
        &raw::tls::TLS,
        &raw::endpoint::QUEUE,
        &raw::link::QUEUE,
        &raw::link::BACKOFF,
        &raw::store::QUEUE,
        raw::dial_keys::OF_LINK.tls,
        raw::dial_keys::OF_RELAY.tls,
        raw::dial_keys::OF_SERVICE.tls,
    ];
    for (key, _) in inner.iter().flat_map(|keys| keys.keys) {
        assert!(MANUAL.contains(&format!("{key} = ")), "{key}");
    }
}

#[test]
fn the_examples_of_the_keys_are_valid_themselves() {
    let value = |keys: &Keys, key: &str| keys.keys.iter().find(|(k, _)| *k == key).unwrap().1.to_owned();
    for keys in [&raw::gateway::GATEWAY, &raw::log::LOG, &raw::listen::LISTEN, &raw::endpoint::ENDPOINT] {
        let alone = ["tls", "auth", "refuse", "allow", "client_address", "trusted_proxies"];
        let is_alone = |key: &str| !alone.contains(&key) && key != "ack" && !key.contains("identity");
        for (key, _) in keys.keys.iter().filter(|(key, _)| is_alone(key)) {
            let listen = "[[listen]]\nname = \"main\"\n".repeat(usize::from(keys.table != "[[listen]]"));
            let needs = if *key == "max_body" { "post = true\n" } else { "" };
            read(&format!("{listen}{}\n{needs}{key} = {}\n", keys.table, value(keys, key)));
        }
    }
    for (key, _) in raw::endpoint::QUEUE.keys {
        read(&format!("[[endpoint]]\nqueue = {{ {key} = {} }}\n", value(&raw::endpoint::QUEUE, key)));
    }
    let with_url = |key: &str| if key == "url" { "" } else { "url = \"wss://plc.example/ws\"\n" };
    for (key, example) in raw::relay::RELAY.keys {
        read_relay(&format!("{}{key} = {example}", with_url(key)));
    }
    for (key, example) in raw::link::LINK.keys {
        let name = if *key == "name" { "" } else { "name = \"x\"\n" };
        let url = match *key {
            "answer_timeout" | "batch" => "url = \"http://plc.example/in\"\n",
            _ => with_url(key),
        };
        let needs = match *key {
            "ping_every" => "ping_message = \"x\"\n",
            "events" => "to = [\"endpoint:/\"]\n",
            _ => "",
        };
        read(&format!("[[link]]\n{name}{url}{needs}{key} = {example}"));
    }
    for (key, example) in raw::store::STORE.keys {
        let given = raw::store::STORE.keys[..2].iter().filter(|(given, _)| given != key);
        let given: String = given.map(|(key, example)| format!("{key} = {example}\n")).collect();
        read(&format!("[[store]]\n{given}{key} = {example}"));
    }
    let auth = |skipped: &str| {
        let needed = raw::auth::AUTH.keys[..3].iter().filter(|(key, _)| *key != skipped);
        format!("[[auth]]\n{}", needed.map(|(key, example)| format!("{key} = {example}\n")).collect::<String>())
    };
    // The keys of tokens that are signed are read below.
    for (key, example) in raw::auth::AUTH.keys[..7].iter() {
        read_beside_tokens(&format!("{}{key} = {example}\n", auth(key)));
    }
    let guarded =
        "auth = [\"devices\"]\nrefuse = \"answer\"\nmax_identity_connections = 1\nwhen_identity_full = \"replace\"\n";
    let allow = value(&raw::endpoint::ENDPOINT, "allow");
    read_beside_tokens(&format!("[[endpoint]]\n{guarded}allow = {allow}\n{}", auth("")));
    for (key, example) in raw::allow::ALLOW.keys {
        read_beside_tokens(&format!("[[endpoint]]\n{guarded}allow = [{{ {key} = {example} }}]\n{}", auth("")));
    }
    let of_admin = |needs: &str, key: &str, example: &str| {
        read_beside_tokens(&format!("[admin]\nauth = [\"devices\"]\n{needs}{key} = {example}\n{}", auth("")));
    };
    for (key, example) in raw::admin::ADMIN.keys.iter().filter(|(key, _)| !matches!(*key, "tls" | "auth")) {
        of_admin("", key, example);
    }
    for (key, example) in raw::admin::ALLOW.keys {
        of_admin("", "allow", &format!("[{{ {key} = {example} }}]"));
    }
    for (keys, name) in [(&raw::link::QUEUE, "queue"), (&raw::link::BACKOFF, "backoff")] {
        keys.keys.iter().for_each(|(key, example)| drop(read_link(&format!("{name} = {{ {key} = {example} }}"))));
    }
}

#[test]
fn the_example_of_ingestion_is_valid() {
    let settings = read(include_str!("../../config/ingest.toml"));
    assert_eq!(settings.endpoints[0].to, [Destination::Store(StoreId(0))]);
    assert_eq!(settings.endpoints[0].ack, Ack::Stored);
    assert_eq!(settings.stores, [StoreSettings::new("readings", "/etc/wsgate/readings.db".into())]);
}

#[test]
fn the_example_of_rooms_is_valid() {
    let settings = read(ROOMS);
    assert_eq!(settings.endpoints.len(), 1);
    assert_eq!(settings.endpoints[0].path.as_str(), "/rooms/{room}");
    assert_eq!(settings.endpoints[0].to, [Destination::Others]);
}

#[test]
fn the_examples_of_a_link_and_of_a_relay_to_another_server_are_valid() {
    let settings = read(LINK);
    assert_eq!(settings.endpoints[0].to, [Destination::Link(LinkId(0))]);
    let template = Template::parse("/plc").unwrap();
    assert_eq!(settings.links[0].to, [LinkDestination::Endpoint { id: EndpointId(0), template }]);
    let settings = read(RELAY_UPSTREAM);
    let relay = settings.endpoints[0].relay.as_ref().unwrap();
    assert_eq!(relay.dial.url.to_string(), "ws://127.0.0.1:8080/rooms/");
    assert_eq!(relay.path.fill(|_| "7"), "/rooms/7");
    assert_eq!(settings.endpoints[0].to, []);
}

#[test]
fn every_option_of_a_link_and_of_a_relay_reaches_its_field() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    file("key.txt", "a key\r\n");
    let made = rcgen::generate_simple_self_signed(vec!["plc".to_owned()]).unwrap();
    file("ca.pem", &made.cert.pem());
    file("client.key", &made.signing_key.serialize_pem());
    let environment: Environment = &|name| match name {
        "TOKEN" => Ok("hunter2".into()),
        _ => Err(env::VarError::NotPresent),
    };
    let text = r#"
        [[endpoint]]
        path = "/up/{id}"
        to = ["link:plc", "broadcast"]
        events = ["error", "connect"]
        [[endpoint]]
        path = "/dev/{id}"
        [endpoint.relay]
        url = "wss://me:${TOKEN}@h/x/{id}?t=${TOKEN}"
        headers = { X-A = "b" }
        forward_headers = ["Cookie", "Origin"]
        forward_query = false
        connect_timeout = "3s"
        hold = "30s"
        proxy = "off"
        tls = { verify = false }
        [[link]]
        name = "plc"
        url = "wss://h:444/ws?t=${TOKEN}"
        headers = { Authorization = "Bearer ${TOKEN}", X-Key = { file = "key.txt" } }
        subprotocols = ["b", "a"]
        origin = "https://dash.example"
        to = ["reply", "endpoint:/up/{payload.device}", "link:other_1"]
        format = "message"
        max_message = 2
        connect_timeout = "4s"
        heartbeat = "5s"
        pong_timeout = "6s"
        message_timeout = "off"
        write_timeout = "7s"
        ping_message = "ping"
        ping_every = "8s"
        open_messages = ["one ${TOKEN}", "two"]
        queue = { messages = 9, bytes = 1025, when_full = "block", when_slow = "drop_newest" }
        backoff = { first = "1s", most = "2s", reset_after = "3s", attempts = 4 }
        proxy = "http://me:${TOKEN}@proxy:3128"
        tls = { ca = "ca.pem", certificate = "ca.pem", private_key = "client.key", server_name = "plc" }
        allow_loop = true
        required = true
        events = ["disconnect"]
        [[link]]
        name = "other_1"
        url = "ws://other"
    "#;
    let settings = parse_in(text, "x.toml", directory.path(), environment).unwrap_or_else(|e| panic!("{e}"));
    let path = |name: &str| directory.path().join(name);
    let seconds = Duration::from_secs;
    let [up, dev] = &settings.endpoints[..] else { panic!("two endpoints") };
    assert_eq!(up.to, [Destination::Link(LinkId(0)), Destination::Broadcast]);
    assert_eq!(up.events, [EventKind::Connect, EventKind::Error].into());
    let (url, path_of_relay) = url::parse_template("wss://me:hunter2@h/x/{id}?t=hunter2", |_| Ok(0)).unwrap();
    let relay = RelaySettings {
        dial: DialSettings {
            headers: vec![("X-A".into(), Secret::new("b"))],
            secrets: vec![Secret::new("hunter2"); 2],
            connect_timeout: seconds(3),
            proxy: Proxy::Off,
            tls: DialTls { verify: false, ..DialTls::default() },
            ..DialSettings::new(url)
        },
        path: path_of_relay,
        shown: "wss://h/x/{id}?***".into(),
        forward_headers: vec!["Cookie".into(), "Origin".into()],
        forward_query: false,
        hold: Some(seconds(30)),
    };
    assert_eq!(dev.relay, Some(relay));
    let plc = LinkSettings {
        name: "plc".into(),
        dial: DialSettings {
            url: url::parse("wss://h:444/ws?t=hunter2").unwrap(),
            headers: vec![
                ("Authorization".into(), Secret::new("Bearer hunter2")),
                ("X-Key".into(), Secret::new("a key")),
            ],
            secrets: ["hunter2", "hunter2", "a key"].map(Secret::new).into(),
            subprotocols: vec!["b".into(), "a".into()],
            origin: Some("https://dash.example".into()),
            connect_timeout: seconds(4),
            proxy: Proxy::Url(Secret::new("http://me:hunter2@proxy:3128")),
            tls: DialTls {
                ca: Some(path("ca.pem")),
                identity: Some(TlsSettings { certificate: path("ca.pem"), private_key: path("client.key") }),
                server_name: Some("plc".into()),
                verify: true,
            },
        },
        shown: "wss://h:444/ws?***".into(),
        to: vec![
            LinkDestination::Reply,
            LinkDestination::Endpoint { id: EndpointId(0), template: Template::parse("/up/{payload.device}").unwrap() },
            LinkDestination::Link(LinkId(1)),
        ],
        format: Format::Message,
        max_message: 2,
        heartbeat: Some(seconds(5)),
        pong_timeout: seconds(6),
        message_timeout: None,
        write_timeout: Some(seconds(7)),
        ping: Some(("ping".into(), seconds(8))),
        open_messages: vec![Secret::new("one hunter2"), Secret::new("two")],
        queue: LinkQueueSettings {
            messages: 9,
            bytes: 1025,
            when_full: OutletPolicy::Block,
            when_slow: OutletPolicy::DropNewest,
        },
        backoff: BackoffSettings { first: seconds(1), most: seconds(2), reset_after: seconds(3), attempts: Some(4) },
        http: None,
        allow_loop: true,
        required: true,
        events: [EventKind::Disconnect].into(),
    };
    assert_eq!(settings.links, [plc, LinkSettings::new("other_1", url::parse("ws://other").unwrap())]);
    let printed = format!("{settings:?}");
    assert!(!printed.contains("hunter2") && printed.contains("h:444"), "{printed}");
}

/// The ways round that are told for these routes of links and endpoints.
fn loops(text: &str) -> Vec<String> {
    match parse(text, "x.toml", Path::new("")) {
        Ok(_) => Vec::new(),
        Err(error) => error
            .to_string()
            .lines()
            .filter_map(|line| Some(line.split_once("for ever: ")?.1.split_once(';')?.0.to_owned()))
            .collect(),
    }
}

#[test]
fn a_way_round_is_found_where_there_is_one() {
    let link = |name: &str, url: &str, to: &str| format!("[[link]]\nname = \"{name}\"\nurl = \"{url}\"\nto = {to}\n");
    let endpoint = |path: &str, to: &str| format!("[[endpoint]]\npath = \"{path}\"\nto = {to}\n");
    let own = "ws://127.0.0.1:8080";
    let (away, home) = ("ws://away", |path: &str| format!("{own}{path}"));
    let cases: [(&str, String, &[&str]); 18] = [
        ("one way", link("a", away, "[\"link:b\"]") + &link("b", away, "[]"), &[]),
        (
            "two links to each other",
            link("a", away, "[\"link:b\"]") + &link("b", away, "[\"link:a\"]"),
            &["link:a -> link:b -> link:a"],
        ),
        (
            "three",
            link("a", away, "[\"link:b\"]") + &link("b", away, "[\"link:c\"]") + &link("c", away, "[\"link:a\"]"),
            &["link:a -> link:b -> link:c -> link:a"],
        ),
        ("allowed", link("a", away, "[\"link:b\"]") + &link("b", away, "[\"link:a\"]\nallow_loop = true"), &[]),
        ("clients are no remote", endpoint("/", "[\"link:a\"]") + &link("a", away, "[\"endpoint:/\"]"), &[]),
        ("a reply", link("a", away, "[\"reply\"]"), &[]),
        ("ourselves, and nothing comes back", endpoint("/", "[]") + &link("a", own, "[\"reply\"]"), &[]),
        ("ourselves, and what comes is discarded", endpoint("/", "[\"broadcast\"]") + &link("a", own, "[]"), &[]),
        (
            "a broadcast comes back",
            endpoint("/", "[\"broadcast\"]") + &link("a", own, "[\"reply\"]"),
            &["link:a -> endpoint:/ -> link:a"],
        ),
        ("others leave it out", endpoint("/", "[\"others\"]") + &link("a", own, "[\"reply\"]"), &[]),
        (
            "but not two of them",
            endpoint("/", "[\"others\"]") + &link("a", own, "[\"reply\"]") + &link("b", own, "[\"reply\"]"),
            &["link:a -> endpoint:/ -> link:b -> endpoint:/ -> link:a"],
        ),
        (
            "in different rooms",
            endpoint("/r/{x}", "[\"others\"]")
                + &link("a", &home("/r/1"), "[\"reply\"]")
                + &link("b", &home("/r/2"), "[\"reply\"]"),
            &[],
        ),
        (
            "what is sent to a link's own endpoint",
            endpoint("/in", "[]") + &link("a", &home("/in"), "[\"endpoint:/in\"]"),
            &["link:a -> endpoint:/in -> link:a"],
        ),
        (
            "an endpoint that sends into the link that is its client",
            endpoint("/in", "[\"link:a\"]") + &link("a", &home("/in"), "[]"),
            &["link:a -> endpoint:/in -> link:a"],
        ),
        (
            "through two endpoints",
            endpoint("/in", "[\"endpoint:/out\"]")
                + &endpoint("/out", "[]")
                + &link("a", &home("/in"), "[]")
                + &link("b", &home("/out"), "[\"link:a\"]"),
            &["link:a -> endpoint:/in -> endpoint:/out -> link:b -> link:a"],
        ),
        ("another port", endpoint("/", "[\"reply\"]") + &link("a", "ws://127.0.0.1:8081", "[\"reply\"]"), &[]),
        ("the endpoint that is not written", link("a", own, "[\"endpoint:/\"]"), &["link:a -> endpoint:/ -> link:a"]),
        (
            "two ways round",
            link("a", away, "[\"link:b\"]")
                + &link("b", away, "[\"link:a\"]")
                + &link("c", away, "[\"link:d\"]")
                + &link("d", away, "[\"link:c\"]"),
            &["link:a -> link:b -> link:a", "link:c -> link:d -> link:c"],
        ),
    ];
    for (what, text, expected) in cases {
        assert_eq!(loops(&text), expected, "{what}");
    }
}

#[test]
fn a_relay_that_dials_itself_is_found() {
    let relay = |path: &str, to: &str| {
        format!("[[endpoint]]\npath = \"{path}\"\nrelay = {{ url = \"ws://localhost:8080{to}\" }}\n")
    };
    let found = mistakes(&(relay("/a/{x}", "/b/{x}") + &relay("/b/{y}", "/a/{y}") + &relay("/c", "/a/1")));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].contains("itself without end: endpoint:/a/{x} -> endpoint:/b/{y} -> endpoint:/a/{x};"),
        "{found:?}"
    );
    let found = mistakes(&relay("/c", "/c"));
    assert!(found[0].contains("endpoint:/c -> endpoint:/c;"), "{found:?}");
    read(&(relay("/a", "/b") + "[[endpoint]]\npath = \"/b\"\n"));
}

#[test]
fn every_option_reaches_its_field() {
    let settings = read_beside_tokens(
        r#"
        [gateway]
        name = "plant-1"
        max_connections = 20_000
        max_address_connections = 50
        address_rate = { per_second = 5 }
        failed_credentials = { most = 5 }
        memory = "64MiB"
        max_handshakes = 7
        handshake_timeout = "1s"
        close_timeout = "2s"
        drain_timeout = "500ms"
        resolve_cache = "9s"
        deliverers = 3
        client_stack = "1MiB"
        [log]
        level = "debug"
        levels = { links = "off", refusals = "warn", "/rooms/{room}" = "error" }
        format = "json"
        lines_per_second = "off"
        [[listen]]
        address = "[::1]:0"
        hosts = ["Gate.example", "*.plant.example"]
        allow_addresses = ["10.0.0.0/8", "::1"]
        deny_addresses = "10.0.0.7"
        client_address = "forwarded"
        trusted_proxies = ["127.0.0.1"]
        health = "/healthz"
        [[listen]]
        address = "unix:run/ws.sock"
        name = "local"
        [[endpoint]]
        path = "/rooms/{room}"
        listen = ["local"]
        to = ["reply", "others", "endpoint:/dash/{room}"]
        format = "message"
        welcome = "hello"
        subprotocols = ["b", "a"]
        max_connections = 12000
        max_room_connections = 4
        at_capacity = "refuse"
        max_identity_connections = 3
        when_identity_full = "replace"
        max_message = 65536
        heartbeat = "5m"
        pong_timeout = "3s"
        message_timeout = "off"
        write_timeout = "off"
        queue = { messages = 2, bytes = 1024, when_full = "disconnect" }
        rate = { messages = 10, bytes = "1MiB", burst = "3s", when_over = "close" }
        origins = ["same", "https://Dash.example:443", "null"]
        allow_addresses = []
        deny_addresses = ["::/0", "unix"]
        address_sessions = true
        choose_rooms = true
        post = true
        max_body = "2MiB"
        auth = ["devices"]
        refuse = "close"
        allow = [{ who = "press-*", path = "/rooms/{identity}", send = false, receive = false, claims = { a = "b", c = ["d"], e = true, f = 7 } }]
        [[endpoint]]
        path = "/dash/{room}"
        to = []
        welcome = true
        heartbeat = "off"
        [endpoint.queue]
        when_full = "drop_newest"
        [[auth]]
        name = "devices"
        kind = "tokens"
        file = "tokens.txt"
        authorization = false
        cookie = "session"
        query = "key"
        subprotocol = true
        "#,
    );
    let named = [("links", LevelFilter::Off), ("refusals", LevelFilter::Warn), ("/rooms/{room}", LevelFilter::Error)];
    let named = named.map(|(name, level)| (name.to_owned(), level));
    assert_eq!(
        settings.gateway,
        GatewaySettings {
            name: Some("plant-1".to_owned()),
            max_connections: 20_000,
            max_address_connections: Some(50),
            address_rate: Some(Rate { per_second: 5, burst: 10 }),
            failed_credentials: Some(FailedCredentials { most: 5, within: Duration::from_secs(10) }),
            memory: Some(64 << 20),
            max_handshakes: 7,
            handshake_timeout: Duration::from_secs(1),
            close_timeout: Duration::from_secs(2),
            drain_timeout: Duration::from_millis(500),
            resolve_cache: Duration::from_secs(9),
            deliverers: 3,
            client_stack: 1 << 20,
            log: LogSettings {
                format: Some(LogFormat::Json),
                levels: LogLevels { level: Some(LevelFilter::Debug), named: named.into() },
                lines_per_second: None,
            },
        }
    );
    let tcp: SocketAddr = "[::1]:0".parse().unwrap();
    let [auth] = &settings.auths[..] else { panic!("{:?}", settings.auths) };
    let named = |name: &str| Some(name.to_owned());
    let places = Places { authorization: false, cookie: named("session"), query: named("key"), subprotocol: true };
    assert_eq!((&*auth.name, &auth.places), ("devices", &places));
    let AuthKind::Tokens(file) = &auth.kind else { panic!("{:?}", auth.kind) };
    let base_dir = file.parent().unwrap();
    let unix = base_dir.join("run/ws.sock");
    assert_eq!(
        settings.listeners,
        [
            ListenerSettings {
                name: "[::1]:0".into(),
                address: ListenAddress::Tcp(tcp),
                tls: None,
                hosts: Hosts::Named(vec!["gate.example".into(), "*.plant.example".into()]),
                addresses: AddressRules {
                    allow: Some(addresses("10.0.0.0/8\n::1")),
                    deny: Some(addresses("10.0.0.7"))
                },
                client_address: ClientAddress::Forwarded,
                trusted_proxies: addresses("127.0.0.1"),
                health: Some(Pattern::parse("/healthz").unwrap()),
            },
            ListenerSettings {
                name: "local".into(),
                address: ListenAddress::Unix(unix),
                hosts: Hosts::Any,
                ..ListenerSettings::default()
            },
        ]
    );
    assert_eq!(
        settings.endpoints,
        [
            EndpointSettings {
                path: Pattern::parse("/rooms/{room}").unwrap(),
                listen: Some(["local".to_owned()].into()),
                to: vec![
                    Destination::Reply,
                    Destination::Others,
                    Destination::Endpoint { id: EndpointId(1), values: [0].into() },
                ],
                format: Format::Message,
                welcome: Welcome::Text("hello".into()),
                subprotocols: vec!["b".into(), "a".into()],
                max_connections: 12_000,
                max_room_connections: Some(4),
                at_capacity: AtCapacity::Refuse,
                identity_limit: Some(IdentityLimit { connections: 3, when_full: WhenIdentityFull::Replace }),
                max_message: 65_536,
                heartbeat: Some(Duration::from_secs(300)),
                pong_timeout: Duration::from_secs(3),
                message_timeout: None,
                write_timeout: None,
                queue: QueueSettings { messages: 2, bytes: 1024, when_full: WhenFull::Disconnect },
                rate: Some(RateSettings {
                    messages: Some(10),
                    bytes: Some(1 << 20),
                    burst: Duration::from_secs(3),
                    when_over: WhenOver::Close,
                }),
                origins: Origins::List { same: true, others: vec!["https://dash.example".into(), "null".into()] },
                addresses: AddressRules { allow: Some(addresses("")), deny: Some(addresses("::/0\nunix")) },
                address_sessions: true,
                choose_rooms: true,
                ack: Ack::Off,
                post: true,
                max_body: Some(2 << 20),
                auth: vec![AuthId(0)],
                refuse: Refuse::Close,
                allow: Some(vec![Rule {
                    who: Glob::new("press-*"),
                    path: Glob::new("/rooms/{identity}"),
                    claims: [("a", "b".into()), ("c", "d".into()), ("e", true.into()), ("f", 7.into())]
                        .map(|(name, value): (&str, serde_json::Value)| (name.to_owned(), vec![value]))
                        .into(),
                    rights: Rights { send: false, receive: false },
                }]),
                relay: None,
                events: Default::default(),
            },
            EndpointSettings {
                path: Pattern::parse("/dash/{room}").unwrap(),
                to: vec![],
                welcome: Welcome::N8n,
                heartbeat: None,
                queue: QueueSettings { when_full: WhenFull::DropNewest, ..QueueSettings::default() },
                ..EndpointSettings::default()
            },
        ]
    );
}

#[test]
fn every_option_of_a_link_that_posts_reaches_its_field() {
    let http = |more: &str| {
        let text = format!("[[link]]\nname = \"hook\"\nurl = \"HTTPS://flows.example/in\"\n{more}");
        read(&text).links.remove(0).http.unwrap()
    };
    assert_eq!(http(""), HttpLinkSettings::default());
    assert_eq!(http("batch = {}").batch, Some(BatchSettings::default()));
    let more = "answer_timeout = \"3s\"\nbatch = { messages = 7, bytes = \"1KiB\", wait = \"5ms\", format = \"json\" }";
    let (wait, format) = (Duration::from_millis(5), BatchFormat::Json);
    let batch = BatchSettings { messages: 7, bytes: 1024, wait, format };
    assert_eq!(http(more), HttpLinkSettings { answer_timeout: Duration::from_secs(3), batch: Some(batch) });
}

#[test]
fn every_option_of_the_admin_listener_reaches_its_field() {
    let of = |text: &str| {
        let auth = "[[auth]]\nname = \"ops\"\nkind = \"tokens\"\nfile = \"tokens.txt\"\n";
        read_beside_tokens(&format!("{auth}[admin]\n{text}")).admin
    };
    let admin = of(r#"
        address = "[::1]:9000"
        hosts = ["Gate.example"]
        auth = "ops"
        allow = [{ who = "prom*", rights = "read" }, { claims = { group = "x" }, rights = ["act", "tail"] }, {}]
        "#);
    let listener = admin.listener.as_ref().unwrap();
    assert_eq!(listener.address, ListenAddress::Tcp("[::1]:9000".parse().unwrap()));
    assert_eq!(listener.hosts, Hosts::Named(vec!["gate.example".to_owned()]));
    assert!(admin.is_wanted && admin.auth == [AuthId(0)] && listener.tls.is_none());
    let rule = |who, claims: &[(&str, &str)], rights: &[Right]| AdminRule {
        who: Glob::new(who),
        claims: claims.iter().map(|(name, value)| ((*name).to_owned(), vec![(*value).into()])).collect(),
        rights: rights.iter().copied().collect(),
    };
    let all = [Right::Read, Right::Tail, Right::Act];
    let rules = [rule("prom*", &[], &all[..1]), rule("*", &[("group", "x")], &all[1..]), rule("*", &[], &all)];
    assert_eq!(admin.allow.as_deref().map(|rules| &rules[..]), Some(&rules[..]));
    assert_eq!(of("address = \"off\"").listener, None);
    let local = of("address = \"unix:run/admin.sock\"").listener.unwrap();
    assert_eq!((local.hosts, local.address.is_local()), (Hosts::Any, true));
}

#[test]
fn every_option_of_signed_tokens_reaches_its_field() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("key"), "x".repeat(32)).unwrap();
    let head = "[[auth]]\nname = \"a\"\nkind = \"jwt\"\nfile = \"key\"\nalgorithm = \"HS256\"\n";
    let read = |more: &str| {
        let settings = parse(&format!("{head}{more}"), "test.toml", directory.path());
        settings.unwrap_or_else(|error| panic!("{error}")).auths.remove(0).kind
    };
    let plain = JwtSettings { algorithm: Some(Algorithm::Hs256), ..JwtSettings::default() };
    assert_eq!(read(""), AuthKind::Jwt(plain.clone().into(), KeySource::File(directory.path().join("key"))));
    let more = "issuer = \"i\"\naudience = [\"a\", \"b\"]\nleeway = \"off\"\nidentity_from = \"email\"\nclaims = [\"group\"]\n";
    assert_eq!(
        read(more),
        AuthKind::Jwt(
            JwtSettings {
                issuers: vec!["i".to_owned()],
                audiences: vec!["a".to_owned(), "b".to_owned()],
                leeway: Duration::ZERO,
                identity_from: "email".to_owned(),
                claims: vec!["group".to_owned()],
                ..plain
            }
            .into(),
            KeySource::File(directory.path().join("key"))
        )
    );
    for (key, example) in raw::auth::AUTH.keys[7..13].iter().filter(|(key, _)| *key != "algorithm") {
        read(&format!("{key} = {example}\n"));
    }
    let [(_, algorithm)] = raw::auth::AUTH.keys[7..8] else { panic!("the first of them is the algorithm") };
    let of_none = parse(&head.replace("\"HS256\"", algorithm), "test.toml", directory.path()).unwrap_err().to_string();
    assert!(of_none.contains("is neither PEM nor a JWK set"), "{of_none}");
}

#[test]
fn every_option_of_a_server_that_is_asked_reaches_its_field() {
    let of = |kind: &str, more: &str| read(&format!("[[auth]]\nname = \"a\"\n{kind}\n{more}")).auths.remove(0).kind;
    let issued = "kind = \"jwt\"\njwks_url = \"https://login.example/keys?v=1\"";
    let service = "kind = \"http\"\nurl = \"https://accounts.example/\"";
    let server = |url: &str| {
        let dial = DialSettings::new(url::parse_as(url::Protocol::Http, url).unwrap());
        let dial = DialSettings { connect_timeout: Duration::from_secs(5), ..dial };
        AuthServer { shown: url::fit_to_show(url), dial }
    };
    let keys = JwksSettings::new(server("https://login.example/keys?v=1"));
    assert_eq!(of(issued, ""), AuthKind::Jwt(JwtSettings::default().into(), KeySource::Url(Box::new(keys.clone()))));
    assert_eq!(keys.server.shown, "https://login.example/keys?***");
    let changed =
        JwksSettings { refresh_interval: Duration::from_secs(7), stale_for: Duration::from_secs(3600), ..keys };
    assert_eq!(
        of(issued, "algorithm = \"ES256\"\nrefresh_interval = \"7s\"\nstale_for = \"1h\""),
        AuthKind::Jwt(
            JwtSettings { algorithm: Some(Algorithm::Es256), ..JwtSettings::default() }.into(),
            KeySource::Url(Box::new(changed))
        )
    );
    let plain = CalloutSettings::new(server("https://accounts.example/"));
    assert_eq!(of(service, ""), AuthKind::Http(Box::new(plain.clone())));
    let dial = DialSettings {
        connect_timeout: Duration::from_secs(2),
        headers: vec![("X-Key".to_owned(), Secret::new("abc"))],
        proxy: Proxy::Off,
        tls: DialTls { verify: false, ..DialTls::default() },
        ..plain.server.dial.clone()
    };
    let more = "answer_timeout = \"2s\"\nheaders = { X-Key = \"abc\" }\nproxy = \"off\"\ntls = { verify = false }\n\
                forward_headers = [\"X-Id\"]\nmax_requests = 3\ncache_for = \"1m\"\nclaims = \"group\"";
    assert_eq!(
        of(service, more),
        AuthKind::Http(Box::new(CalloutSettings {
            server: AuthServer { dial, ..plain.server },
            forward_headers: vec!["X-Id".to_owned()],
            claims: vec!["group".to_owned()],
            max_requests: 3,
            cache_for: Duration::from_secs(60),
        }))
    );
    for (key, example) in raw::auth::AUTH.keys[13..].iter().filter(|(key, _)| *key != "tls") {
        let is_of_jwks = matches!(*key, "jwks_url" | "refresh_interval" | "stale_for");
        let kind = if is_of_jwks { issued } else { service };
        let kind = kind.lines().filter(|line| !line.starts_with(&format!("{key} "))).collect::<Vec<_>>().join("\n");
        of(&kind, &format!("{key} = {example}"));
    }
}

#[test]
fn what_a_server_that_is_asked_cannot_be_is_a_mistake() {
    let service = "[[auth]]\nname = \"a\"\nkind = \"http\"\n";
    let issued = "[[auth]]\nname = \"a\"\nkind = \"jwt\"\njwks_url = \"https://h/\"\n";
    for (text, mistake) in [
        (service.to_owned(), "\"url\" is missing in [[auth]]"),
        (format!("{service}url = \"ws://h/\""), "no URL of an HTTP server: 'ws' is not an HTTP scheme"),
        (
            format!("{service}url = \"http://h/\"\ntls = {{}}"),
            "no meaning for a http:// URL: remove it, or write https://",
        ),
        (format!("{service}url = \"https://h/\"\nfile = \"x\""), "beside the URL of a server"),
        (format!("{service}url = \"https://h/\"\nissuer = \"x\""), "no meaning without kind = \"jwt\""),
        (format!("{service}url = \"https://h/\"\nstale_for = \"1h\""), "no meaning without jwks_url"),
        (format!("{service}url = \"https://h/\"\nmax_requests = 0"), "must be from 1 to 1024"),
        (format!("{service}url = \"https://h/\"\nforward_headers = [\"a b\"]"), "is no name of a header"),
        (format!("{issued}refresh_interval = \"900ms\""), "is too short"),
        (format!("{issued}stale_for = \"1m\""), "is 1m, but the keys are loaded only every 10m"),
        (format!("{issued}file = \"x\""), "beside the URL of a server"),
        (format!("{issued}url = \"https://h/\""), "no meaning without kind = \"http\""),
        (
            "[[auth]]\nname = \"a\"\nkind = \"tokens\"\nanswer_timeout = \"1s\"".to_owned(),
            "no meaning without a server",
        ),
        ("[[auth]]\nname = \"a\"\nkind = \"jwt\"".to_owned(), "\"file\" is missing"),
    ] {
        let mistakes = mistakes(&text);
        assert!(mistakes.iter().any(|told| told.contains(mistake)), "{text}: {mistakes:?}");
    }
    for (text, warning) in [
        (format!("{service}url = \"http://h/\""), "read the credentials of clients"),
        (format!("{issued}answer_timeout = \"1m\"").replace("https", "http"), "give wsgate keys of its own"),
        (format!("{service}url = \"http://localhost/\"\nanswer_timeout = \"1m\""), "no longer than handshake_timeout"),
    ] {
        let warnings = read(&text).warnings;
        assert!(warnings.iter().any(|told| told.contains(warning)), "{text}: {warnings:?}");
    }
    assert_eq!(read(&format!("{service}url = \"http://[::1]:9/\"")).warnings.len(), 1, "only that nobody asks for it");
    // A service can go by other headers alone.
    read(&format!("{service}url = \"https://h/\"\nauthorization = false\nforward_headers = [\"X-Api-Key\"]"));
}

#[test]
fn each_name_of_a_certificate_can_be_chosen_and_no_file_is_wanted() {
    let names = [
        ("", IdentityFrom::CommonName),
        ("identity_from = \"cn\"", IdentityFrom::CommonName),
        ("identity_from = \"san\"", IdentityFrom::San),
        ("identity_from = \"dns\"", IdentityFrom::Dns),
        ("identity_from = \"uri\"", IdentityFrom::Uri),
        ("identity_from = \"email\"", IdentityFrom::Email),
    ];
    for (line, from) in names {
        let text = format!("[[auth]]\nname = \"a\"\nkind = \"certificate\"\n{line}");
        let settings = parse(&text, "test.toml", Path::new("")).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(settings.auths[0].kind, AuthKind::Certificate(from), "{line}");
    }
}

#[test]
fn a_single_destination_needs_no_list() {
    assert_eq!(read("[[endpoint]]\nto = \"reply\"").endpoints[0].to, [Destination::Reply]);
}

#[test]
fn two_free_ports_are_no_contradiction() {
    read("[[listen]]\naddress = \"127.0.0.1:0\"\nname = \"a\"\n[[listen]]\naddress = \"127.0.0.1:0\"\nname = \"b\"");
}

#[test]
fn b27_one_path_may_be_that_of_two_endpoints_that_no_listener_serves_both() {
    let listeners: String =
        ["a", "b", "c"].map(|name| format!("[[listen]]\nname = \"{name}\"\naddress = \"127.0.0.1:0\"\n")).concat();
    let endpoints = |one: &str, other: &str| {
        format!("{listeners}[[endpoint]]\npath = \"/x/{{p}}\"\n{one}\n[[endpoint]]\npath = \"/x/{{q}}\"\n{other}\n")
    };
    for (one, other) in
        [("listen = [\"a\", \"c\"]", "listen = [\"b\"]"), ("listen = [\"a\"]", "listen = [\"b\", \"c\"]")]
    {
        assert_eq!(read(&endpoints(one, other)).endpoints.len(), 2);
    }
    for (one, other) in [
        ("", ""),
        ("", "listen = [\"a\", \"b\", \"c\"]"),
        ("listen = [\"a\", \"b\", \"c\"]", ""),
        ("listen = [\"a\", \"c\"]", "listen = [\"b\", \"c\"]"),
    ] {
        let mistakes = mistakes(&endpoints(one, other));
        assert!(mistakes.len() == 1 && mistakes[0].contains("name other listeners in \"listen\""), "{mistakes:?}");
    }
}

#[test]
fn the_default_listener_can_be_named_without_being_written() {
    let settings = read("[[endpoint]]\nlisten = [\"127.0.0.1:8080\"]");
    assert_eq!(settings.endpoints[0].listen, Some(["127.0.0.1:8080".to_owned()].into()));
}

#[test]
fn a_value_of_the_environment_is_used_and_never_shown() {
    let environment: Environment = &|name| match name {
        "SECRET" => Ok("hunter2".into()),
        "PORT" => Ok("9000".into()),
        _ => Err(env::VarError::NotPresent),
    };
    let text = "[[listen]]\naddress = \"127.0.0.1:${PORT}\"";
    let settings = parse_in(text, "x.toml", Path::new(""), environment).unwrap();
    assert_eq!(settings.listeners[0].name, "127.0.0.1:9000");

    let text = r#"
        [gateway]
        client_stack = "${SECRET}"
        close_timeout = "${SECRET}"
        [log]
        level = "${SECRET}"
        [[listen]]
        tls = { certificate = "${SECRET}", private_key = "${SECRET}" }
        [[listen]]
        address = "${SECRET}"
        [[endpoint]]
        listen = ["${SECRET}"]
        to = ["${SECRET}", "link:${SECRET}"]
        subprotocols = ["${SECRET} "]
        origins = ["${SECRET} "]
        queue = { when_full = "${SECRET}" }
        [[endpoint]]
        listen = ["x${UNSET}"]
        origins = "${SECRET}"
        [[link]]
        name = "${SECRET} "
        url = "${SECRET}"
        headers = { X = { file = "${SECRET}" } }
        origin = "${SECRET}"
        to = ["endpoint:${SECRET}", "link:${SECRET} "]
        proxy = "${SECRET}"
        tls = { ca = "${SECRET}", server_name = "${SECRET} " }
        backoff = { attempts = "${SECRET}" }
        events = "${SECRET}"
        [[endpoint]]
        path = "/x"
        relay = { url = "http://${SECRET}/", forward_headers = ["${SECRET} "] }
        [[endpoint]]
        path = "/y"
        relay = { url = "ws://h/{${SECRET} x}" }
        "#;
    let error = parse_in(text, "x.toml", Path::new(""), environment).unwrap_err().to_string();
    assert!(!error.contains("hunter2"), "{error}");
    assert_eq!(error.matches("${SECRET}").count(), 24, "{error}");
    assert!(error.contains("\"UNSET\""), "{error}");
}

#[test]
fn a_value_that_is_wrong_is_told_once_and_not_judged_further() {
    let cases = [
        // The destination is meant to exist, only its path is wrong.
        ("[[endpoint]]\npath = \"x\"\n[[endpoint]]\npath = \"/b\"\nto = [\"endpoint:/b2\"]\n", 2),
        // An address that is wrong may well be the one that the endpoint names.
        ("[[listen]]\naddress = \"x\"\n[[endpoint]]\nlisten = [\"127.0.0.1:8080\"]", 1),
        ("[[endpoint]]\nlisten = [1]", 1),
        ("[[endpoint]]\nto = [true, 1.5]", 2),
        ("[gateway]\nmax_connections = 0\n[[endpoint]]\nmax_connections = 100", 1),
    ];
    for (text, expected) in cases {
        let found = mistakes(text);
        assert_eq!(found.len(), expected, "{text}: {found:#?}");
    }
}

#[test]
fn bounds_are_inclusive() {
    let cases = [
        ("[gateway]\nmax_connections = ", ["1", "1000000"], ["0", "1000001"]),
        ("[gateway]\nmax_handshakes = ", ["1", "1000000"], ["0", "-1"]),
        ("[gateway]\ndeliverers = ", ["0", "64"], ["-1", "65"]),
        ("[gateway]\nclient_stack = ", ["\"128KiB\"", "\"64MiB\""], ["131071", "67108865"]),
        ("[gateway]\nclose_timeout = ", ["\"1ms\"", "\"24h\""], ["\"0s\"", "\"86401s\""]),
        ("[[endpoint]]\nmax_connections = ", ["1", "10000"], ["0", "10001"]),
        ("[[endpoint]]\nmax_room_connections = ", ["1", "\"off\""], ["0", "101"]),
        ("[[endpoint]]\nmax_room_connections = ", ["2", "100"], ["\"never\"", "false"]),
        ("[[endpoint]]\nmax_message = ", ["1", "\"1GiB\""], ["0", "1073741825"]),
        ("[[endpoint]]\nheartbeat = ", ["\"1ms\"", "\"off\""], ["\"0ms\"", "\"25h\""]),
        ("[[endpoint]]\nqueue.messages = ", ["2", "16777216"], ["1", "16777217"]),
        ("[[link]]\nname = \"a\"\nurl = \"ws://h\"\nbackoff.attempts = ", ["1", "4294967295"], ["0", "4294967296"]),
        ("[[link]]\nname = \"a\"\nurl = \"ws://h\"\nqueue.messages = ", ["2", "16777216"], ["1", "16777217"]),
        ("[[endpoint]]\nqueue.bytes = ", ["1024", "\"64GiB\""], ["\"1023\"", "\"65GiB\""]),
    ];
    for (key, inside, outside) in cases {
        inside.iter().for_each(|value| drop(read(&format!("{key}{value}"))));
        outside.iter().for_each(|value| assert_eq!(mistakes(&format!("{key}{value}")).len(), 1, "{key}{value}"));
    }
}

/// The manual with its options on, a line of it replaced: near enough to a config to get deep into the readers.
fn mangled_manual(line: usize, replacement: &str) -> String {
    let on = uncommented(MANUAL).replace("\n#[", "\n[");
    let mut lines: Vec<&str> = on.lines().collect();
    let line = line % lines.len();
    lines[line] = replacement;
    lines.join("\n")
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic_and_every_mistake_has_a_place(
        line in 0usize..1000,
        replacement in "(\\PC|[\\[\\]{}\"'=#,\n$.0-9a-z_]){0,40}",
        key in prop::sample::select(vec!["address", "path", "to", "queue", "tls", "origins", "heartbeat", "welcome", "url", "headers", "relay", "backoff", "events", "proxy"]),
    ) {
        let of_key = mangled_manual(line, &format!("{key} = {replacement}"));
        for text in [&replacement, &mangled_manual(line, &replacement), &of_key] {
            if let Err(error) = parse(text, "x.toml", Path::new("")) {
                let ConfigError::Mistakes { mistakes, .. } = error else { panic!("{error}") };
                prop_assert!(!mistakes.is_empty());
                for mistake in mistakes {
                    prop_assert!((1..=text.lines().count() + 1).contains(&mistake.line) && mistake.column > 0);
                    prop_assert!(!mistake.text.contains('\n'), "{}", mistake.text);
                }
            }
        }
    }
}
