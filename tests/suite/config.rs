//! What `wsgate check` says about configurations, word for word.
//!
//! Each `tests/configs/NAME.toml` is broken in its own way, and `NAME.expected` beside it is the
//! answer. Run with `WSGATE_BLESS=1` to write the answers anew, then read the difference.

use std::path::{Path, PathBuf};
use std::{env, fs};

use wsgate::cli::check;

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
        let answer = match check::report(Some(&config)) {
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
    let error = check::report(Some(Path::new("tests/configs/none.toml"))).unwrap_err().to_string();
    assert_eq!(
        error,
        "failed to read configuration \"tests/configs/none.toml\": no such file \
         (check the path, or leave --config out to use the built-in defaults)"
    );
}

#[test]
fn a_directory_in_the_place_of_a_file_is_named() {
    let error = check::report(Some(Path::new("tests/configs"))).unwrap_err().to_string();
    assert_eq!(error, "failed to read configuration \"tests/configs\": it is a directory");
}

#[test]
fn the_built_in_defaults_are_ok() {
    assert_eq!(
        check::report(None).unwrap(),
        "built-in defaults: ok: 1 listener, 1 endpoint\n  \
           listener 127.0.0.1:8080: plain, this machine only\n  \
           endpoint /: to broadcast; at most 100 clients, 1MiB a message, pinged after 30s\n"
    );
}

#[test]
fn every_option_that_opens_or_closes_a_door_is_in_the_summary() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("summary");
    fs::create_dir_all(&directory).unwrap();
    // Relative to the directory of the file; what is in the blocks is looked at when they are used.
    fs::write(directory.join("chain.pem"), "-----BEGIN CERTIFICATE-----\n").unwrap();
    fs::write(directory.join("key.pem"), "-----BEGIN EC PRIVATE KEY-----\n").unwrap();
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
    let summary = check::report(Some(&config)).unwrap_or_else(|error| panic!("{error}"));
    let lines: Vec<&str> = summary.lines().collect();
    assert_eq!(lines[0], format!("{}: ok: 2 listeners, 3 endpoints", config.display()));
    assert_eq!(
        lines[1..],
        [
            "  listener \"outside\" 0.0.0.0:8443: TLS, reachable from the network, by anybody",
            "  listener unix:/run/wsgate/ws.sock: plain, this machine only",
            "  endpoint /rooms/{room}: on \"outside\" only, to reply, endpoint:/dash/{room}, format message, with a \
             welcome; at most 100 clients, 1MiB a message, pinged after 30s, web pages of https://dash.example may \
             connect, clients may address each other",
            "  endpoint /dash/{room}: messages are discarded, format n8n; at most 1 client, 1MiB a message, never \
             pinged, every web page may connect",
            "  endpoint /closed: to broadcast; at most 100 clients, 1MiB a message, pinged after 30s, no web page may \
             connect",
        ]
    );
}

#[test]
fn a_good_config_is_summed_up() {
    assert_eq!(
        check::report(Some(Path::new("config/relay.toml"))).unwrap(),
        "config/relay.toml: ok: 1 listener, 1 endpoint\n  \
           listener 127.0.0.1:8080: plain, this machine only\n  \
           endpoint /rooms/{room}: to others; at most 1000 clients, 1MiB a message, pinged after 30s\n"
    );
}
