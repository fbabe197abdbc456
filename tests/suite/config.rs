//! What `wsgate check` says about configurations, word for word.
//!
//! Each `tests/configs/NAME.toml` is broken in its own way, and `NAME.expected` beside it is the
//! answer. Run with `WSGATE_BLESS=1` to write the answers anew, then read the difference.

use std::path::{Path, PathBuf};
use std::{env, fs};

use wsgate::internals::cli::check;

use super::harness::private_directory;

fn configs() -> Vec<PathBuf> {
    let directory = fs::read_dir("tests/configs").expect("tests run in the directory of the package");
    let mut configs: Vec<PathBuf> =
        directory.map(|entry| entry.expect("a directory that can be read").path()).collect();
    configs.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    configs.sort();
    configs
}

#[test]
fn every_broken_config_is_answered_with_what_to_do() {
    let configs = configs();
    assert!(configs.len() >= 10, "only {} broken configs", configs.len());
    for config in configs {
        let answer = match check(Some(&config)) {
            Ok(summary) => panic!("nothing wrong was found in {}: {summary}", config.display()),
            Err(error) => format!("{error}\n"),
        };
        let expected = config.with_extension("expected");
        if env::var_os("WSGATE_BLESS").is_some() {
            fs::write(&expected, &answer).unwrap();
        }
        let wanted = fs::read_to_string(&expected).unwrap_or_default();
        assert_eq!(answer, wanted, "the answer to {} changed", config.display());
    }
}

#[test]
fn a_file_that_is_missing_is_named() {
    let error = check(Some(Path::new("tests/configs/none.toml"))).unwrap_err().to_string();
    assert_eq!(
        error,
        "failed to read configuration \"tests/configs/none.toml\": no such file \
         (check the path, or leave --config out to use the built-in defaults)"
    );
}

#[test]
fn a_directory_in_the_place_of_a_file_is_named() {
    let error = check(Some(Path::new("tests/configs"))).unwrap_err().to_string();
    assert_eq!(error, "failed to read configuration \"tests/configs\": it is a directory");
}

#[test]
fn the_built_in_defaults_are_ok() {
    assert_eq!(
        check(None).unwrap(),
        "built-in defaults: ok: 1 listener, 1 endpoint\n  \
           listener 127.0.0.1:8080: plain, this machine only\n  \
           endpoint /: to broadcast; at most 100 clients, 1MiB a message, pinged after 30s\n  \
           admin 127.0.0.1:8081: plain, this machine only, without authentication\n"
    );
}

#[test]
fn every_option_that_opens_or_closes_a_door_is_in_the_summary() {
    // Nobody else can enter it, so that the private key needs no warning.
    let directory = private_directory();
    let directory = directory.path();
    // Relative to the directory of the file.
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    fs::write(directory.join("chain.pem"), made.cert.pem()).unwrap();
    fs::write(directory.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let config = directory.join("gateway.toml");
    let text = r#"
        [[listen]]
        address = "0.0.0.0:8443"
        name = "outside"
        tls = { certificate = "chain.pem", private_key = "key.pem" }
        [[listen]]
        address = "unix:/run/wsgate/ws.sock"
        [[endpoint]]
        path = "/rooms/{room}"
        listen = ["outside"]
        to = ["reply", "endpoint:/dash/{room}"]
        format = "message"
        welcome = "hello"
        origins = ["https://dash.example"]
        address_sessions = true
        [[endpoint]]
        path = "/dash/{room}"
        to = []
        format = "n8n"
        max_connections = 1
        heartbeat = "off"
        origins = "any"
        [[endpoint]]
        path = "/closed"
        origins = []
    "#;
    fs::write(&config, text).unwrap();
    let summary = check(Some(&config)).unwrap_or_else(|error| panic!("{error}"));
    let lines: Vec<&str> = summary.lines().collect();
    assert_eq!(lines[0], format!("{}: ok: 2 listeners, 3 endpoints", config.display()));
    assert_eq!(
        lines[1..],
        [
            "  listener \"outside\" 0.0.0.0:8443: TLS, reachable from the network, without authentication",
            "  listener unix:/run/wsgate/ws.sock: plain, this machine only",
            "  endpoint /rooms/{room}: on \"outside\" only, to reply, endpoint:/dash/{room}, format message, with a \
             welcome; at most 100 clients, 1MiB a message, pinged after 30s, web pages of https://dash.example may \
             connect, clients may address each other",
            "  endpoint /dash/{room}: messages are discarded, format n8n; at most 1 client, 1MiB a message, never \
             pinged, every web page may connect",
            "  endpoint /closed: to broadcast; at most 100 clients, 1MiB a message, pinged after 30s, no web page may \
             connect",
            "  admin 127.0.0.1:8081: plain, this machine only, without authentication",
        ]
    );
}

#[test]
fn a_good_config_is_summed_up() {
    assert_eq!(
        check(Some(Path::new("config/rooms.toml"))).unwrap(),
        "config/rooms.toml: ok: 1 listener, 1 endpoint\n  \
           listener 127.0.0.1:8080: plain, this machine only\n  \
           endpoint /rooms/{room}: to others; at most 1000 clients, 1MiB a message, pinged after 30s\n  \
           admin 127.0.0.1:8081: plain, this machine only, without authentication\n"
    );
}

#[test]
fn links_and_relays_are_summed_up_without_their_secrets() {
    assert_eq!(
        check(Some(Path::new("config/link.toml"))).unwrap(),
        "config/link.toml: ok: 1 listener, 1 endpoint, 1 link\n  \
           listener 127.0.0.1:8090: plain, this machine only\n  \
           endpoint /plc: to link:plc; at most 100 clients, 1MiB a message, pinged after 30s\n  \
           link plc ws://127.0.0.1:8080/rooms/plc: to endpoint:/plc; 1MiB a message, pinged after 30s; while down, \
           100 messages or 4MiB wait, then the oldest are dropped\n  \
           admin 127.0.0.1:8081: plain, this machine only, without authentication\n"
    );
    assert_eq!(
        check(Some(Path::new("config/relay-upstream.toml"))).unwrap(),
        "config/relay-upstream.toml: ok: 1 listener, 1 endpoint\n  \
           listener 127.0.0.1:8090: plain, this machine only\n  \
           endpoint /rooms/{room}: relays each client to ws://127.0.0.1:8080/rooms/{room}, held for 30s; at most 100 \
           clients, 1MiB a message, pinged after 30s\n  \
           admin 127.0.0.1:8081: plain, this machine only, without authentication\n"
    );

    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("summary_of_links");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("key.txt"), "hunter2\n").unwrap();
    let config = directory.join("gateway.toml");
    let text = r#"
        [[endpoint]]
        path = "/dev/{id}"
        relay = { url = "wss://me:hunter2@h/{id}", proxy = "http://me:hunter2@proxy:3128", tls = { verify = false } }
        [[endpoint]]
        path = "/in"
        to = ["link:a-1"]
        events = ["disconnect", "connect"]
        [[link]]
        name = "a-1"
        url = "ws://me:hunter2@h/x"
        headers = { X-Key = { file = "key.txt" }, Cookie = "hunter2" }
        format = "message"
        heartbeat = "off"
        proxy = "off"
        ping_message = "hunter2"
        open_messages = ["hunter2"]
        queue = { when_full = "block" }
        backoff = { attempts = 1 }
        allow_loop = true
        to = ["reply", "endpoint:/in"]
        events = ["error"]
    "#;
    fs::write(&config, text).unwrap();
    let summary = check(Some(&config)).unwrap_or_else(|error| panic!("{error}"));
    assert!(!summary.contains("hunter2"), "{summary}");
    let lines: Vec<&str> = summary.lines().skip(2).collect();
    assert_eq!(
        lines,
        [
            "  endpoint /dev/{id}: relays each client to wss://***@h/{id}, through a proxy, ITS CERTIFICATE IS NOT \
             CHECKED; at most 100 clients, 1MiB a message, pinged after 30s",
            "  endpoint /in: to link:a-1; at most 100 clients, 1MiB a message, pinged after 30s; events: connect, \
             disconnect",
            "  link a-1 ws://***@h/x: to reply, endpoint:/in, format message, never through a proxy; 1MiB a message, \
             never pinged, ping_message every 25s; while down, 4096 messages or 4MiB wait, then the senders wait; \
             given up after 1 failed attempt in a row; loops are allowed; events: error",
            "  admin 127.0.0.1:8081: plain, this machine only, without authentication",
        ]
    );
}
