//! Values: their bounds, variables of the environment, and how a wrong one is told.

use super::*;

#[test]
fn no_mistake_moves_a_terminal() {
    for text in ["[a\u{1}]\n[a\u{1}]", "[[a\u{1b}[2J]]\n[[a\u{1b}[2J]]", "a\u{7} = 1\na\u{7} = 2", "x = \"\u{1b}\""] {
        let mistakes = mistakes(text);
        assert!(!mistakes.is_empty(), "{text:?}");
        assert!(!mistakes.concat().contains(char::is_control), "{mistakes:?}");
    }
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
