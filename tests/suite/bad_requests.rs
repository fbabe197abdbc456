//! Requests that do not become a WebSocket: each gets a correct HTTP answer at once, never
//! silence, and nobody else notices.

use std::time::{Duration, Instant};

use crate::harness::{Canary, Frame, Gateway, LISTENERS, Raw, masked, request};

/// [`LISTENERS`] are added to it.
const CONFIG: &str = r#"
[gateway]
handshake_timeout = "1s"

[[endpoint]]
path = "/canary"
to = ["reply"]

[[endpoint]]
path = "/rooms/{room}"
to = ["reply"]
subprotocols = ["chat.v2", "chat.v1"]

[[endpoint]]
path = "/listed"
origins = ["https://dash.example"]

[[endpoint]]
path = "/any"
origins = "any"
"#;

fn start() -> Gateway {
    Gateway::start(&format!("{CONFIG}{LISTENERS}"))
}

/// The deadline of a handshake, and how much later its answer may come on a busy machine.
const HANDSHAKE: Duration = Duration::from_secs(1);
const LATE: Duration = Duration::from_secs(2);

fn status(head: &str) -> u16 {
    head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no status in {head:?}"))
}

/// Checks that an answer is whole: a body of the length it says, and the end announced.
fn check_whole((head, body): &(String, String)) {
    assert!(head.contains(&format!("\r\nContent-Length: {}", body.len())), "{head}\n{body}");
    assert!(head.contains("close"), "{head}");
}

#[test]
fn each_bad_request_is_answered_with_its_status_at_once() {
    let good = request("/canary", &[]);
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let without_upgrade = good.replace("Upgrade: websocket\r\n", "");
    let more = |line: &str| request("/canary", &[line]);
    let cases = [
        ("POST", good.replace("GET", "POST"), 405, "\r\nAllow: GET"),
        ("HEAD", good.replace("GET", "HEAD"), 405, "\r\nAllow: GET"),
        ("HTTP/1.0", good.replace("HTTP/1.1", "HTTP/1.0"), 505, ""),
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 505, ""),
        ("an old version", good.replace("Version: 13", "Version: 8"), 426, "\r\nSec-WebSocket-Version: 13"),
        ("no version", good.replace("Sec-WebSocket-Version: 13\r\n", ""), 426, "\r\nSec-WebSocket-Version: 13"),
        ("a plain GET on an endpoint", without_upgrade.clone(), 426, "\r\nUpgrade: websocket"),
        ("a plain GET elsewhere", without_upgrade.replace("/canary", "/nowhere"), 404, ""),
        ("an upgrade elsewhere", good.replace("/canary", "/nowhere"), 404, ""),
        ("no key", good.replace(key, ""), 400, ""),
        ("a short key", good.replace("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="), 400, ""),
        ("two keys", more(key.trim_end()), 400, ""),
        ("no host", good.replace("Host: localhost\r\n", ""), 400, ""),
        ("two hosts", more("Host: elsewhere"), 400, ""),
        ("two origins", [more("Origin: http://a").trim_end(), "\r\nOrigin: http://b\r\n\r\n"].concat(), 400, ""),
        ("no connection header", good.replace("Connection: Upgrade\r\n", ""), 400, ""),
        ("an absolute target", good.replace("/canary", "http://localhost/canary"), 400, ""),
        ("a body", more("Content-Length: 5"), 400, ""),
        ("a chunked body", more("Transfer-Encoding: chunked"), 400, ""),
        ("a folded line", good.replace("Host: localhost", "Host: local\r\n host"), 400, ""),
        ("a zero byte", more("X: a\0b"), 400, ""),
        ("a bare carriage return", more("X: a\rY: b"), 400, ""),
        ("200 header fields", more(&["X: y"; 200].join("\r\n")), 431, ""),
        ("a head of 80 KiB", more(&format!("X: {}", "y".repeat(80 << 10))), 431, ""),
        ("a head of 80 KiB of spaces", more(&format!("Sec-WebSocket-Protocol: {}", " ".repeat(80 << 10))), 431, ""),
        ("garbage", "\u{1}\u{2}\r\n\r\n".to_owned(), 400, ""),
    ];
    let gateway = start();
    let mut canary = Canary::enter(&gateway);
    for (name, bytes, expected, holds) in cases {
        for listener in ["plain", "tls"] {
            let mut client = gateway.raw(listener);
            let since = Instant::now();
            client.send(bytes.as_bytes());
            let answer = client.answer();
            assert_eq!(status(&answer.0), expected, "{name} over {listener}: {answer:?}");
            assert!(answer.0.contains(holds), "{name} over {listener}: {answer:?}");
            assert!(since.elapsed() < HANDSHAKE, "{name} over {listener} was answered at the deadline");
            check_whole(&answer);
            canary.sing(name);
        }
    }
}

#[test]
fn no_path_leads_out_of_the_endpoints() {
    let gateway = start();
    let mut canary = Canary::enter(&gateway);
    let long = format!("/rooms/{}", "x".repeat(8 << 10));
    let paths = [
        "/../canary",
        "/rooms/..",
        "/rooms/%2e%2e",
        "/rooms/.",
        "/rooms/a%2fb",
        "/rooms/%2F",
        "/rooms/a/../../canary",
        "/rooms/",
        "/rooms/%00",
        "/rooms/%0d%0aX:y",
        "/rooms/%",
        "/rooms/%zz",
        "/rooms/%ff",
        "//canary",
        "/canary/",
        "/canary%00",
        "/etc/passwd",
        &long,
    ];
    for path in paths {
        let mut client = gateway.raw("plain");
        client.send(request(path, &[]).as_bytes());
        let answer = client.answer();
        assert!([400, 404].contains(&status(&answer.0)), "{path}: {answer:?}");
        check_whole(&answer);
        canary.sing(path);
    }
    let mut client = gateway.raw("plain");
    client.upgrade("/rooms/a%20b?token=%2e%2e/", &[]);
}

#[test]
fn half_a_request_and_a_byte_at_a_time_are_both_answered_with_408_at_the_deadline() {
    let gateway = start();
    let mut canary = Canary::enter(&gateway);
    for listener in ["plain", "tls"] {
        let mut client = gateway.raw(listener);
        client.send(&request("/canary", &[]).as_bytes()[..50]);
        expect_timeout(&mut client, Instant::now());

        let mut client = gateway.raw(listener);
        let since = Instant::now();
        // Each byte comes well within the deadline, so only a total one ends this.
        for byte in request("/canary", &[]).as_bytes() {
            client.send(&[*byte]);
            canary.sing("half a request");
            if client.has_input_within(HANDSHAKE / 10) {
                break;
            }
        }
        expect_timeout(&mut client, since);
    }
}

fn expect_timeout(client: &mut Raw, since: Instant) {
    let answer = client.answer();
    let took = since.elapsed();
    assert_eq!(status(&answer.0), 408, "{answer:?}");
    check_whole(&answer);
    assert!((HANDSHAKE * 8 / 10..HANDSHAKE + LATE).contains(&took), "answered after {took:?}");
}

#[test]
fn silent_connections_are_ended_at_the_deadline() {
    let gateway = start();
    let mut canary = Canary::enter(&gateway);
    // Bytes, not a TLS session: on the TLS port the handshake itself is what never comes.
    let mut silent: Vec<Raw> =
        (0..50).map(|number| Raw::plain(gateway.port(if number % 2 == 0 { "plain" } else { "tls" }))).collect();
    canary.sing("50 silent connections");
    for client in &mut silent {
        assert!(client.is_gone_within(HANDSHAKE + LATE));
    }
    canary.sing("their end");
}

#[test]
fn the_wrong_language_for_the_port_is_told_so() {
    let gateway = start();
    let mut canary = Canary::enter(&gateway);

    let mut plain_on_tls = Raw::plain(gateway.port("tls"));
    plain_on_tls.send(request("/canary", &[]).as_bytes());
    let answer = plain_on_tls.answer();
    assert_eq!(status(&answer.0), 400, "{answer:?}");
    assert!(answer.1.contains("wss://"), "{answer:?}");
    check_whole(&answer);

    let mut tls_on_plain = Raw::plain(gateway.port("plain"));
    // The beginning of a ClientHello: no line ends in it, and it must not wait for one.
    tls_on_plain.send(&[&[22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 200]].concat());
    let since = Instant::now();
    let answer = tls_on_plain.answer();
    assert_eq!(status(&answer.0), 400, "{answer:?}");
    assert!(since.elapsed() < HANDSHAKE, "answered only at the deadline");
    check_whole(&answer);

    let mut garbage_on_tls = Raw::plain(gateway.port("tls"));
    garbage_on_tls.send(&[0xff; 100]);
    assert!(garbage_on_tls.is_gone_within(HANDSHAKE + LATE));
    canary.sing("the wrong language");
}

#[test]
fn a_page_of_a_foreign_origin_is_refused_and_the_log_names_it() {
    let gateway = start();
    for (path, origin, expected) in [
        ("/canary", "http://localhost", 101),
        ("/canary", "http://evil.example", 403),
        ("/canary", "http://localhost.evil.example", 403),
        ("/canary", "null", 403),
        ("/listed", "https://dash.example", 101),
        ("/listed", "https://dash.example.evil", 403),
        ("/listed", "http://localhost", 403),
        ("/any", "http://evil.example", 101),
        ("/any", "null", 101),
    ] {
        let mut client = gateway.raw("plain");
        client.send(request(path, &[&format!("Origin: {origin}")]).as_bytes());
        assert_eq!(status(&client.head()), expected, "{origin} on {path}");
    }
    let line = gateway.wait_for_log("refused with 403");
    assert!(line.contains("http://evil.example") && line.contains("localhost"), "{line}");
}

#[test]
fn what_a_client_sends_never_becomes_a_header_or_a_line_of_the_log() {
    let gateway = start();
    for (offered, agreed) in [("chat.v1", Some("chat.v1")), ("a, b\tc", None), ("chat.v1x, CHAT.V2", None)] {
        let mut client = gateway.raw("plain");
        let head = client.upgrade("/rooms/1", &[&format!("Sec-WebSocket-Protocol: {offered}")]);
        let echoed = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Protocol: "));
        assert_eq!(echoed, agreed, "{offered}");
    }
    let mut client = gateway.raw("plain");
    client.send(request("/any", &["Origin: http://x\u{9b}2J\u{2028}"]).replace("/any", "/canary").as_bytes());
    assert_eq!(status(&client.head()), 403);
    let mut client = gateway.raw("plain");
    client.upgrade("/canary", &[]);
    client.send(&masked(0x88, &Frame::close(1000, "a\nFAKE LINE\u{1b}[2J").payload));
    assert_eq!(client.frame().first, 0x88);
    let line = gateway.wait_for_log("FAKE LINE");
    assert!(line.contains("disconnected") && line.chars().all(|c| !c.is_control()), "{line:?}");
}

#[test]
fn a_head_that_arrives_in_two_halves_within_the_deadline_is_accepted() {
    let gateway = start();
    for listener in ["plain", "tls"] {
        let mut client = gateway.raw(listener);
        let bytes = [request("/canary", &[]).as_bytes(), &masked(0x81, b"eager")].concat();
        let (first, rest) = bytes.split_at(60);
        client.send(first);
        assert!(!client.has_input_within(HANDSHAKE / 10), "half a request is no request");
        client.send(rest);
        assert_eq!(status(&client.head()), 101);
        assert_eq!(client.frame(), Frame::text("eager"));
    }
}
