//! The manual: its defaults, its keys and its examples.

use super::*;

const MANUAL: &str = include_str!("../../../config/wsgate.toml");

/// The line of an option with its default: `#key = value`.
fn commented_default(line: &str) -> Option<&str> {
    line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()))
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
