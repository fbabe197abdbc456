//! What a refusal says: the reason in the field's own words, at once, and correct HTTP around it.

use crate::harness::{Gateway, LISTENERS, Raw, request};

const CONFIG: &str = r#"
[[endpoint]]
path = "/"

[[endpoint]]
path = "/ocpp/{station}"
to = ["reply"]
"#;

fn start() -> Gateway {
    Gateway::start(&format!("{CONFIG}{LISTENERS}"))
}

/// Sends these bytes over plain and TLS, and expects this status and these words, in the answer and in the log.
fn is_refused(gateway: &Gateway, bytes: &[u8], status: u16, words: &[&str]) {
    for listener in ["plain", "tls"] {
        let mut client = gateway.raw(listener);
        client.send(bytes);
        told(gateway, &mut client, status, words);
    }
}

fn told(gateway: &Gateway, client: &mut Raw, status: u16, words: &[&str]) {
    let (head, body) = client.answer();
    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}\n{body}");
    let logged = gateway.wait_for_log(&format!(":{}): refused with {status}: ", client.own_port()));
    for text in words {
        assert!(body.contains(text) && logged.contains(text), "no {text:?} in {body}{logged}");
    }
}

fn changed(from: &str, to: &str) -> Vec<u8> {
    let good = request("/ocpp/CP1", &[]);
    assert!(good.contains(from), "{from:?} is not in {good:?}");
    good.replacen(from, to, 1).into_bytes()
}

#[test]
fn b3_a_blank_in_the_path_is_named() {
    let gateway = start();
    for (target, named) in [
        ("/ocpp/CP 001", "'/ocpp/CP 001' has a blank: write %20"),
        ("/ocpp/CP\t001", "has a blank: write %20"),
        ("/a b c", "'/a b c' has a blank"),
    ] {
        is_refused(&gateway, &changed("/ocpp/CP1", target), 400, &[named]);
    }
    is_refused(&gateway, &changed("HTTP/1.1", "HTTP/3.0"), 505, &["only HTTP/1.1 is supported"]);
}

#[test]
fn b3_what_a_proxy_sends_before_or_instead_of_the_request_is_named_with_its_option() {
    let gateway = start();
    let proxied = |version: &[u8]| [version, request("/", &[]).as_bytes()].concat();
    let v1 = proxied(b"PROXY TCP4 10.0.0.7 10.0.0.8 50000 8080\r\n");
    let v2 = proxied(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x0a\0\0\x07\x0a\0\0\x08\xc3\x50\x1f\x90");
    for bytes in [&v1, &v2] {
        is_refused(&gateway, bytes, 400, &["PROXY protocol", "send-proxy"]);
        // Before TLS, as HAProxy sends it.
        let mut client = Raw::plain(gateway.port("tls"));
        client.send(bytes);
        told(&gateway, &mut client, 400, &["PROXY protocol", "send-proxy"]);
    }
    is_refused(&gateway, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, &["this is HTTP/2", "proto h2"]);
    let hello = [&[22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 200]].concat();
    is_refused(&gateway, &hello, 400, &["this is TLS, and this port is not encrypted", "\"ssl\""]);
}

#[test]
fn b4_a_fragment_is_refused_and_leads_to_no_room() {
    let gateway = start();
    for target in ["/ocpp/CP#1", "/ocpp/CP#", "/ocpp/CP?a#b", "http://h/ocpp/CP#1", "/#"] {
        is_refused(&gateway, &changed("/ocpp/CP1", target), 400, &["has no fragment: write %23"]);
    }
    let mut client = gateway.raw("plain");
    client.upgrade("/ocpp/CP%231", &[]);
    gateway.wait_for_log("connected to '/ocpp/CP#1'");
}

#[test]
fn b5_an_encoded_slash_is_the_reason_that_is_given() {
    let gateway = start();
    for target in ["/ocpp/CP%2F001", "/ocpp/%2f"] {
        let named = format!("there is no endpoint at '{target}': a parameter takes no encoded slash (%2F)");
        is_refused(&gateway, &changed("/ocpp/CP1", target), 404, &[&named]);
    }
    // Without it there is none either.
    let mut client = gateway.raw("plain");
    client.send(&changed("/ocpp/CP1", "/no/where/%2F"));
    assert_eq!(client.answer().1, "there is no endpoint at '/no/where/%2F'\n");
}

/// What nginx needs to pass on an upgrade.
const LINES: [&str; 3] =
    ["proxy_http_version 1.1;", "proxy_set_header Upgrade $http_upgrade;", "proxy_set_header Connection \"upgrade\";"];

#[test]
fn b7_the_lines_without_which_a_proxy_removes_the_upgrade_are_named() {
    let gateway = start();
    let [upgrade, connection] = ["Upgrade: websocket\r\n", "Connection: Upgrade\r\n"];
    is_refused(&gateway, &changed(upgrade, ""), 426, &LINES);
    is_refused(&gateway, &changed(connection, ""), 400, &LINES);
    is_refused(&gateway, &changed(connection, "Connection: close\r\n"), 400, &LINES);
    let bare = changed(&format!("{upgrade}{connection}"), "Connection: close\r\n");
    is_refused(&gateway, &bare, 426, &LINES);
    is_refused(&gateway, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", 426, &["connect with ws:// or wss://"]);
}

#[test]
fn b47_http_1_0_is_refused_with_the_line_of_the_proxy_or_of_its_health_check() {
    let gateway = start();
    is_refused(&gateway, &changed("HTTP/1.1", "HTTP/1.0"), 505, &LINES);
    // The health check of a proxy, which asks for no WebSocket.
    is_refused(&gateway, b"GET / HTTP/1.0\r\n\r\n", 505, &["health = \"/healthz\"", "option httpchk GET /healthz"]);
}

#[test]
fn b9_a_refusal_is_logged_while_its_peer_still_reads() {
    let gateway = start();
    let before = gateway.descriptors();
    for bytes in [changed("/ocpp", "/nowhere"), b"\x01\x02".to_vec()] {
        let mut client = gateway.raw("plain");
        client.send(&bytes);
        client.head();
        gateway.wait_for_log(&format!(":{}): refused with 40", client.own_port()));
        assert_eq!(gateway.descriptors(), before + 1, "it was logged when the connection had ended");
        drop(client);
        crate::harness::eventually("it has ended", crate::harness::DEADLINE, || gateway.descriptors() == before);
    }
}

#[test]
fn c18_a_refusal_has_a_date_and_for_head_no_body() {
    let gateway = start();
    for (method, has_body) in [("HEAD", false), ("POST", true)] {
        for listener in ["plain", "tls"] {
            let mut client = gateway.raw(listener);
            client.send(&changed("GET", method));
            let (head, body) = client.answer();
            assert!(head.starts_with("HTTP/1.1 405 ") && !head.contains("Content-Length: 0"), "{head}");
            assert_eq!(!body.is_empty(), has_body, "{method}: {body}");
            let date = head.lines().find_map(|line| line.strip_prefix("Date: ")).expect("it has a date");
            assert!(date.len() == 29 && date.ends_with(" GMT"), "{date}");
        }
    }
}

#[test]
fn c18_a_head_over_the_limit_is_refused_also_when_it_is_whole() {
    const LIMIT: usize = 16 << 10;
    let gateway = start();
    let of_length = |length: usize| {
        let bare = request("/ocpp/CP1", &["X: "]);
        request("/ocpp/CP1", &[&format!("X: {}", "y".repeat(length - bare.len()))])
    };
    for listener in ["plain", "tls"] {
        for (length, status) in [(LIMIT, 101), (LIMIT + 1, 431), (LIMIT + 512, 431)] {
            let bytes = of_length(length);
            assert_eq!(bytes.len(), length);
            let mut client = gateway.raw(listener);
            client.send(bytes.as_bytes());
            assert!(client.head().starts_with(&format!("HTTP/1.1 {status} ")), "{length} bytes over {listener}");
        }
    }
}
