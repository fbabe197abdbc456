//! Configuration: from a TOML file to checked [`Settings`].
//!
//! In two steps: `raw.rs` reads what is written, value by value; `relations.rs` judges what the
//! values mean together. Neither stops at a mistake, so that the operator sees all of them at once.

mod mistake;
mod raw;
mod relations;
mod section;
mod settings;
mod syntax;
mod units;

use std::path::Path;
use std::{env, fs};

use mistake::{Environment, Report};

pub use mistake::{ConfigError, Mistake};
pub use settings::{
    AtCapacity, Destination, EndpointSettings, Format, GatewaySettings, ListenAddress, ListenerSettings, Origins,
    QueueSettings, Settings, TlsSettings, Welcome, WhenFull,
};
pub(crate) use units::{write_duration, write_size};

/// Reads a configuration file.
///
/// Relative paths in it are relative to its directory, and `${NAME}` in its strings is a variable
/// of the environment. The files it names for TLS are opened and must hold what they are named for.
pub fn load(path: &Path) -> Result<Settings, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { file: path.to_owned(), source };
    let bytes = fs::read(path).map_err(unreadable)?;
    let file_name = path.display().to_string();
    let base_dir = path.parent().unwrap_or(Path::new(""));
    match str::from_utf8(&bytes) {
        Ok(text) => parse(text, &file_name, base_dir),
        Err(error) => {
            let valid = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let report = Report::new(&valid, &|_| Err(env::VarError::NotPresent));
            report.mistake(valid.len(), "this is not UTF-8 text: save the file with the encoding UTF-8");
            Err(ConfigError::Mistakes { file: file_name, mistakes: report.into_mistakes(), complete: false })
        }
    }
}

/// Reads the text of a configuration file; the same as [`load`] without opening that file.
///
/// `file_name` is what mistakes begin with; relative paths are relative to `base_dir`.
pub fn parse(text: &str, file_name: &str, base_dir: &Path) -> Result<Settings, ConfigError> {
    parse_in(text, file_name, base_dir, &|name| env::var(name))
}

fn parse_in(
    text: &str,
    file_name: &str,
    base_dir: &Path,
    environment: Environment<'_>,
) -> Result<Settings, ConfigError> {
    let report = Report::new(text, environment);
    let raw = syntax::parse(text, &report).map(|table| {
        let raw = raw::read(table.get_ref(), base_dir, &report);
        relations::check(&raw, &report);
        raw
    });
    let mistakes = report.into_mistakes();
    match raw {
        Some(raw) if mistakes.is_empty() => Ok(settings(raw)),
        raw => Err(ConfigError::Mistakes { file: file_name.to_owned(), mistakes, complete: raw.is_some() }),
    }
}

/// What was read, with the default listener or endpoint where the file has none.
fn settings(raw: raw::Raw) -> Settings {
    let defaults = Settings::default();
    let listeners: Vec<_> = raw.listeners.into_iter().map(|listener| listener.settings).collect();
    let endpoints: Vec<_> = raw.endpoints.into_iter().map(|endpoint| endpoint.settings).collect();
    Settings {
        gateway: raw.gateway,
        listeners: if listeners.is_empty() { defaults.listeners } else { listeners },
        endpoints: if endpoints.is_empty() { defaults.endpoints } else { endpoints },
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::path::PathBuf;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::section::Keys;
    use super::*;

    const MANUAL: &str = include_str!("../../config/wsgate.toml");
    const RELAY: &str = include_str!("../../config/relay.toml");

    fn read(text: &str) -> Settings {
        parse(text, "test.toml", Path::new("/etc/wsgate")).unwrap_or_else(|error| panic!("{error}"))
    }

    fn mistakes(text: &str) -> Vec<String> {
        match parse(text, "test.toml", Path::new("")) {
            Err(ConfigError::Mistakes { mistakes, .. }) => mistakes.into_iter().map(|m| m.text).collect(),
            other => panic!("{text}: {other:?}"),
        }
    }

    /// The line of an option with its default: `#key = value`.
    fn commented_default(line: &str) -> Option<&str> {
        line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()))
    }

    #[test]
    fn no_mistake_moves_a_terminal() {
        for text in ["[a\u{1}]\n[a\u{1}]", "[[a\u{1b}[2J]]\n[[a\u{1b}[2J]]", "a\u{7} = 1\na\u{7} = 2", "x = \"\u{1b}\""]
        {
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

    #[test]
    fn the_manual_tells_the_true_defaults() {
        let mut defaults = 0;
        let uncommented: Vec<&str> =
            MANUAL.lines().map(|line| commented_default(line).inspect(|_| defaults += 1).unwrap_or(line)).collect();
        assert!(defaults > 20, "the defaults were not recognised: {defaults}");
        assert_eq!(read(&uncommented.join("\n")), Settings::default());
    }

    #[test]
    fn each_default_of_the_manual_is_read_and_not_just_skipped() {
        // Changed one at a time, each option must make a difference.
        for line in MANUAL.lines().filter_map(commented_default) {
            let (key, value) = line.split_once(" = ").unwrap();
            let other = match value {
                "\"payload\"" => "\"n8n\"",
                "\"close\"" => "\"refuse\"",
                "\"info\"" => "\"warn\"",
                "\"same\"" => "\"any\"",
                "\"auto\"" => "63",
                "\"/\"" => "\"/other\"",
                "[\"broadcast\"]" => "[]",
                "[]" => "[\"chat.v1\"]",
                "false" => "true",
                "\"127.0.0.1:8080\"" => "\"127.0.0.2:8080\"",
                _ if value.starts_with('{') => "{ messages = 2, bytes = 1024, when_full = \"disconnect\" }",
                _ if value.ends_with("s\"") => "\"7s\"",
                _ if value.ends_with("B\"") => "\"512KiB\"",
                _ => "77",
            };
            let changed = MANUAL.replace(&format!("\n#{line}\n"), &format!("\n{key} = {other}\n"));
            let changed = match key {
                // Both keys occur in one table only once, but the address is also the name.
                "name" => changed.replace("name = \"127.0.0.2:8080\"", "name = \"main\""),
                _ => changed,
            };
            assert_ne!(read(&changed), Settings::default(), "{key} = {other}");
        }
    }

    #[test]
    fn every_key_that_is_known_is_in_the_manual() {
        let tables: [&Keys; 4] = [&raw::GATEWAY, &raw::LOG, &raw::LISTEN, &raw::ENDPOINT];
        for (i, keys) in tables.iter().enumerate() {
            let rest = MANUAL.split_once(&format!("\n{}\n", keys.table)).unwrap().1;
            let end = tables.get(i + 1).map_or(rest.len(), |next| rest.find(&format!("\n{}\n", next.table)).unwrap());
            for (key, _) in keys.keys {
                let written = rest[..end].lines().any(|line| {
                    line.trim_start_matches(['#', ' ']).strip_prefix(key).is_some_and(|rest| rest.starts_with(" = "))
                });
                assert!(written, "{key} of {}", keys.table);
            }
        }
        for (key, _) in raw::TLS.keys.iter().chain(raw::QUEUE.keys) {
            assert!(MANUAL.contains(&format!("{key} = ")), "{key}");
        }
    }

    #[test]
    fn the_examples_of_the_keys_are_valid_themselves() {
        let value = |keys: &Keys, key: &str| keys.keys.iter().find(|(k, _)| *k == key).unwrap().1.to_owned();
        for keys in [&raw::GATEWAY, &raw::LOG, &raw::LISTEN, &raw::ENDPOINT] {
            for (key, _) in keys.keys.iter().filter(|(key, _)| *key != "tls") {
                let listen = "[[listen]]\nname = \"main\"\n".repeat(usize::from(keys.table != "[[listen]]"));
                read(&format!("{listen}{}\n{key} = {}\n", keys.table, value(keys, key)));
            }
        }
        for (key, _) in raw::QUEUE.keys {
            read(&format!("[[endpoint]]\nqueue = {{ {key} = {} }}\n", value(&raw::QUEUE, key)));
        }
    }

    #[test]
    fn the_example_of_a_relay_is_valid() {
        let settings = read(RELAY);
        assert_eq!(settings.endpoints.len(), 1);
        assert_eq!(settings.endpoints[0].path, "/rooms/{room}");
        assert_eq!(settings.endpoints[0].to, [Destination::Others]);
    }

    #[test]
    fn every_option_reaches_its_field() {
        let settings = read(
            r#"
            [gateway]
            max_connections = 20_000
            max_handshakes = 7
            handshake_timeout = "1s"
            close_timeout = "2s"
            drain_timeout = "500ms"
            deliverers = 3
            client_stack = "1MiB"
            [log]
            level = "debug"
            [[listen]]
            address = "[::1]:0"
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
            at_capacity = "refuse"
            max_message = 65536
            heartbeat = "5m"
            pong_timeout = "3s"
            message_timeout = "off"
            write_timeout = "off"
            queue = { messages = 2, bytes = 1024, when_full = "disconnect" }
            origins = ["https://Dash.example:443"]
            address_sessions = true
            [[endpoint]]
            path = "/dash/{room}"
            to = []
            welcome = true
            heartbeat = "off"
            [endpoint.queue]
            when_full = "drop_newest"
            "#,
        );
        assert_eq!(
            settings.gateway,
            GatewaySettings {
                max_connections: 20_000,
                max_handshakes: 7,
                handshake_timeout: Duration::from_secs(1),
                close_timeout: Duration::from_secs(2),
                drain_timeout: Duration::from_millis(500),
                deliverers: 3,
                client_stack: 1 << 20,
                log_level: log::LevelFilter::Debug,
            }
        );
        let tcp: SocketAddr = "[::1]:0".parse().unwrap();
        let unix = PathBuf::from("/etc/wsgate/run/ws.sock");
        assert_eq!(
            settings.listeners,
            [
                ListenerSettings { name: "[::1]:0".into(), address: ListenAddress::Tcp(tcp), tls: None },
                ListenerSettings { name: "local".into(), address: ListenAddress::Unix(unix), tls: None },
            ]
        );
        assert_eq!(
            settings.endpoints,
            [
                EndpointSettings {
                    path: "/rooms/{room}".into(),
                    listen: Some(["local".to_owned()].into()),
                    to: vec![Destination::Reply, Destination::Others, Destination::Endpoint("/dash/{room}".into()),],
                    format: Format::Message,
                    welcome: Welcome::Text("hello".into()),
                    subprotocols: vec!["b".into(), "a".into()],
                    max_connections: 12_000,
                    at_capacity: AtCapacity::Refuse,
                    max_message: 65_536,
                    heartbeat: Some(Duration::from_secs(300)),
                    pong_timeout: Duration::from_secs(3),
                    message_timeout: None,
                    write_timeout: None,
                    queue: QueueSettings { messages: 2, bytes: 1024, when_full: WhenFull::Disconnect },
                    origins: Origins::List(vec!["https://dash.example".into()]),
                    address_sessions: true,
                },
                EndpointSettings {
                    path: "/dash/{room}".into(),
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
    fn a_single_destination_needs_no_list() {
        assert_eq!(read("[[endpoint]]\nto = \"reply\"").endpoints[0].to, [Destination::Reply]);
    }

    #[test]
    fn two_free_ports_are_no_contradiction() {
        read(
            "[[listen]]\naddress = \"127.0.0.1:0\"\nname = \"a\"\n[[listen]]\naddress = \"127.0.0.1:0\"\nname = \"b\"",
        );
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
            origins = ["${SECRET}"]
            queue = { when_full = "${SECRET}" }
            [[endpoint]]
            listen = ["x${UNSET}"]
            origins = "${SECRET}"
            "#;
        let error = parse_in(text, "x.toml", Path::new(""), environment).unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
        assert_eq!(error.matches("${SECRET}").count(), 12, "{error}");
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
            ("[[endpoint]]\nmax_message = ", ["1", "\"1GiB\""], ["0", "1073741825"]),
            ("[[endpoint]]\nheartbeat = ", ["\"1ms\"", "\"off\""], ["\"0ms\"", "\"25h\""]),
            ("[[endpoint]]\nqueue.messages = ", ["2", "16777216"], ["1", "16777217"]),
            ("[[endpoint]]\nqueue.bytes = ", ["1024", "\"64GiB\""], ["\"1023\"", "\"65GiB\""]),
        ];
        for (key, inside, outside) in cases {
            inside.iter().for_each(|value| drop(read(&format!("{key}{value}"))));
            outside.iter().for_each(|value| assert_eq!(mistakes(&format!("{key}{value}")).len(), 1, "{key}{value}"));
        }
    }

    /// The manual with its options on, a line of it replaced: near enough to a config to get deep into the readers.
    fn mangled_manual(line: usize, replacement: &str) -> String {
        let mut lines: Vec<&str> = MANUAL.lines().map(|line| commented_default(line).unwrap_or(line)).collect();
        let line = line % lines.len();
        lines[line] = replacement;
        lines.join("\n")
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic_and_every_mistake_has_a_place(
            line in 0usize..1000,
            replacement in "(\\PC|[\\[\\]{}\"'=#,\n$.0-9a-z_]){0,40}",
            key in prop::sample::select(vec!["address", "path", "to", "queue", "tls", "origins", "heartbeat", "welcome"]),
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
}
