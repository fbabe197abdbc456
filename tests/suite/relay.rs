//! Relays: every client of a relay's endpoint has a connection of its own to another server.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::harness::{
    DEADLINE, Frame, Gateway, LISTENERS, Raw, Remote, Wire, eventually, masked, measured, nobody, request, run_as,
    unmasked,
};
use crate::real_clients::{installed, source};

/// A gateway whose endpoint `/dev/{id}` relays to this URL; `relay` and `endpoint` are more of their keys.
pub(crate) fn relay_to(url: &str, relay: &str, endpoint: &str) -> Gateway {
    Gateway::start(&config(url, relay, endpoint))
}

pub(crate) fn config(url: &str, relay: &str, endpoint: &str) -> String {
    format!(
        "[gateway]\nclose_timeout = \"2s\"\ndrain_timeout = \"3s\"\n{LISTENERS}\n[[endpoint]]\npath = \"/dev/{{id}}\"\n\
         {endpoint}\n[endpoint.relay]\nurl = \"{url}\"\nproxy = \"off\"\n{relay}\n"
    )
}

/// A gateway that echoes on every path that it has.
fn echo() -> Gateway {
    echo_for(200)
}

/// The same for so many clients.
fn echo_for(clients: usize) -> Gateway {
    Gateway::start(&format!(
        "[[endpoint]]\npath = \"/\"\nto = [\"reply\"]\nmax_message = \"2MiB\"\nmax_connections = {clients}\n{LISTENERS}"
    ))
}

/// A client and the connection to its upstream.
pub(crate) fn pair(gateway: &Gateway, server: &Remote, wire: Wire) -> (Raw, Raw) {
    thread::scope(|scope| {
        let client = scope.spawn(|| gateway.client(wire, "/dev/7"));
        let (conn, _) = server.upgraded(&[]);
        (client.join().unwrap(), conn)
    })
}

// Messages

#[test]
fn messages_of_all_sizes_pass_both_ways_over_any_wires() {
    let echo = echo();
    let ca = echo.file("ca.pem");
    let secure = format!("tls = {{ ca = \"{}\" }}", ca.display());
    for (url, tls) in [
        (format!("ws://127.0.0.1:{}/", echo.port("plain")), ""),
        (format!("wss://localhost:{}/", echo.port("tls")), &secure[..]),
    ] {
        let gateway = relay_to(&url, tls, "max_message = \"2MiB\"");
        for wire in Wire::BOTH {
            let mut client = gateway.client(wire, "/dev/7");
            for size in [0, 1, 125, 126, 127, 4000, 16_383, 16_384, 65_535, 65_536, 100_000, 1 << 20] {
                let payload: Vec<u8> = (0..size).map(|at| b'a' + (at % 23) as u8).collect();
                for first in [0x81, 0x82] {
                    client.send(&masked(first, &payload));
                    assert!(client.message() == Frame { first, payload: payload.clone() }, "{first:#x}, {size} bytes");
                }
            }
            // Fragments arrive as one message, and a ping between them is answered.
            client.send(
                &[masked(0x01, b"in "), masked(0x89, b"?"), masked(0x00, b"three "), masked(0x80, b"parts")].concat(),
            );
            assert_eq!(client.frame(), Frame { first: 0x8a, payload: b"?".to_vec() });
            assert_eq!(client.message(), Frame::text("in three parts"));
            // Many at once keep their order.
            let many: Vec<u8> = (0..2000).flat_map(|number| masked(0x81, format!("{number}").as_bytes())).collect();
            client.send(&many);
            for number in 0..2000 {
                assert_eq!(client.text(), number.to_string());
            }
        }
    }
}

#[test]
fn what_an_upstream_says_with_its_answer_arrives_and_fragments_are_joined() {
    let server = Remote::up();
    let gateway = relay_to(&server.url(), "", "");
    let client = thread::scope(|scope| {
        let client = scope.spawn(|| gateway.client(Wire::Plain, "/dev/7"));
        let mut conn = server.accept_raw();
        let head = conn.head();
        conn.answer_upgrade(&head, &[]);
        conn.send(&[unmasked(0x81, b"hello"), unmasked(0x02, b"a"), unmasked(0x80, b"b")].concat());
        let mut client = client.join().unwrap();
        assert_eq!(client.text(), "hello");
        assert_eq!(client.message(), Frame::binary(b"ab"));
        client
    });
    drop(client);
}

#[test]
fn a_python_server_is_an_upstream_like_any_other() {
    let mut python = Command::new(installed("target/clients/python/bin/python"));
    python.args(["-W", "error"]).arg(source("tests/clients/python_upstream.py")).stdout(Stdio::piped());
    let mut server = Ended(python.spawn().unwrap());
    let mut port = String::new();
    BufReader::new(server.0.stdout.as_mut().unwrap()).read_line(&mut port).unwrap();
    let gateway = relay_to(&format!("ws://127.0.0.1:{}/api/{{id}}", port.trim()), "", "max_message = \"2MiB\"");
    for listener in ["plain", "tls"] {
        let mut client = gateway.raw(listener);
        let head = client.upgrade("/dev/a%20b?x=1", &["Sec-WebSocket-Protocol: v1, v2"]).to_lowercase();
        assert!(head.contains("sec-websocket-protocol: v2"), "{head}");
        client.send_text("path");
        assert_eq!(client.text(), "/api/a%20b?x=1");
        for size in [0, 200, 70_000, 1 << 20] {
            client.send(&masked(0x82, &vec![9; size]));
            assert!(client.message() == Frame::binary(&vec![9; size]), "{size} bytes");
        }
        client.send_text("close");
        client.closed_with(4001, "as you wish");
    }
}

/// A process that is killed with its test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn pings_are_answered_on_each_side_and_not_passed_on() {
    let server = Remote::up();
    let gateway = relay_to(&server.url(), "", "");
    for wire in Wire::BOTH {
        let (mut client, mut conn) = pair(&gateway, &server, wire);
        client.send(&masked(0x89, b"from the client"));
        assert_eq!(client.frame(), Frame { first: 0x8a, payload: b"from the client".to_vec() });
        conn.send_frame(0x89, b"from the upstream");
        assert_eq!(conn.frame(), Frame { first: 0x8a, payload: b"from the upstream".to_vec() });
        client.send(&masked(0x8a, b"unasked"));
        client.send_text("up");
        conn.send_frame(0x8a, b"unasked");
        conn.send_frame(0x81, b"down");
        assert_eq!(conn.frame(), Frame::text("up"));
        assert_eq!(client.frame(), Frame::text("down"));
    }
}

// The request

#[test]
fn the_upstream_decides_on_the_subprotocol() {
    let server = Remote::up();
    let gateway = relay_to(&server.url(), "", "");
    for (lines, agreed) in [(&["Sec-WebSocket-Protocol: b"][..], Some("b")), (&[], None)] {
        for listener in ["plain", "tls"] {
            let head = thread::scope(|scope| {
                let client = scope.spawn(|| {
                    gateway
                        .raw(listener)
                        .upgrade("/dev/7", &["Sec-WebSocket-Protocol: a, b", "Sec-WebSocket-Protocol: c"])
                });
                let (_conn, asked) = server.upgraded(lines);
                let offered: Vec<_> = asked.lines().filter(|line| line.starts_with("Sec-WebSocket-Protocol")).collect();
                assert_eq!(offered, ["Sec-WebSocket-Protocol: a, b, c"]);
                client.join().unwrap().to_lowercase()
            });
            let told = head.lines().find_map(|line| line.strip_prefix("sec-websocket-protocol: "));
            assert_eq!(told, agreed, "{head}");
        }
    }
    // A subprotocol that was not offered.
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut client = gateway.raw("plain");
            client.send(request("/dev/7", &["Sec-WebSocket-Protocol: a"]).as_bytes());
            client.answer()
        });
        let _conn = server.upgraded(&["Sec-WebSocket-Protocol: other"]);
        let (head, _) = client.join().unwrap();
        assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    });
    gateway.wait_for_log("'other', which was not offered");
}

/// What the upstream is asked when a client asks for this path with these headers.
fn asked_for(gateway: &Gateway, server: &Remote, listener: &str, path: &str, headers: &[&str]) -> String {
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut client = gateway.raw(listener);
            client.upgrade(path, headers);
        });
        let (_conn, asked) = server.upgraded(&[]);
        client.join().unwrap();
        asked
    })
}

#[test]
fn the_upstream_gets_the_headers_and_the_query_that_the_configuration_forwards() {
    let server = Remote::up();
    let more =
        "forward_headers = [\"Authorization\", \"cookie\"]\nheaders = { X-Key = \"fixed\" }\norigin = \"https://us\"";
    let gateway = relay_to(&server.url_of("/base/{id}/x?a=1"), more, "");
    for (listener, proto) in [("plain", "http"), ("tls", "https")] {
        let headers = [
            "Authorization: Bearer t",
            "Cookie: a=b",
            "Cookie: c=d",
            "X-Key: forged",
            "X-Other: secret",
            "X-Forwarded-For: 9.9.9.9",
            "X-Forwarded-Host: elsewhere",
        ];
        let asked = asked_for(&gateway, &server, listener, "/dev/a%20b%3F%23%C3%A4?b=2&c=%2F", &headers);
        let count = |line: &str| asked.lines().filter(|own| own.eq_ignore_ascii_case(line)).count();
        for line in [
            "GET /base/a%20b%3F%23%C3%A4/x?a=1&b=2&c=%2F HTTP/1.1",
            &format!("Host: {}", server.address()),
            "Authorization: Bearer t",
            "Cookie: a=b",
            "Cookie: c=d",
            "X-Key: fixed",
            "Origin: https://us",
            "X-Forwarded-For: 127.0.0.1",
            &format!("X-Forwarded-Proto: {proto}"),
            "X-Forwarded-Host: localhost",
        ] {
            assert_eq!(count(line), 1, "{line} in {asked}");
        }
        for hidden in ["forged", "secret", "9.9.9.9", "elsewhere"] {
            assert!(!asked.contains(hidden), "{hidden} in {asked}");
        }
    }
    let gateway = relay_to(&server.url_of("/?a=1"), "forward_query = false", "");
    let asked = asked_for(&gateway, &server, "plain", "/dev/7?b=2", &[]);
    assert!(asked.starts_with("GET /?a=1 HTTP/1.1\r\n"), "{asked}");
    let gateway = relay_to(&server.url_of("/up"), "", "");
    let asked = asked_for(&gateway, &server, "plain", "/dev/7?b=2", &[]);
    assert!(asked.starts_with("GET /up?b=2 HTTP/1.1\r\n"), "{asked}");
}

#[test]
fn b15_a_segment_of_the_path_reaches_the_upstream_as_it_came() {
    let server = Remote::up();
    let gateway = relay_to(&server.url_of("/up/{id}"), "", "");
    for (segment, passed) in [
        ("btcusdt@kline_1m", "btcusdt@kline_1m"),
        ("DE*ABC*E1", "DE*ABC*E1"),
        ("a:b+c=d,e;f!$&'()~", "a:b+c=d,e;f!$&'()~"),
        ("%40%2A%c3%a4%2b%41", "%40%2A%c3%a4%2b%41"),
        ("%7b\"|ä", "%7b%22%7C%C3%A4"),
    ] {
        let asked = asked_for(&gateway, &server, "plain", &format!("/dev/{segment}?@"), &[]);
        assert!(asked.starts_with(&format!("GET /up/{passed}?@ HTTP/1.1\r\n")), "{asked}");
    }
}

// Upstreams that refuse or cannot be reached

#[test]
fn the_client_gets_the_refusal_of_its_upstream() {
    let server = Remote::up();
    let gateway = relay_to(&server.url(), "", "");
    for (answer, head, body) in [
        (
            "401 Who\r\nWWW-Authenticate: Basic realm=\"x\"\r\nX-Other: y\r\n",
            "WWW-Authenticate: Basic realm=\"x\"",
            "who are you?",
        ),
        ("503 Later\r\nRetry-After: 7\r\nContent-Type: text/plain\r\n", "Retry-After: 7", "busy"),
        ("503 Later\r\nContent-Type: text/plain\r\n", "Content-Type: text/plain", "busy"),
        ("500 Oh\r\nContent-Encoding: gzip\r\n", "Content-Encoding: gzip", "\u{1f}..."),
        ("302 Found\r\nLocation: ws://elsewhere/\r\n", "Location: ws://elsewhere/", ""),
        ("404 Not Found\r\n", "HTTP/1.1 404 Not Found", "not here"),
    ] {
        for listener in ["plain", "tls"] {
            let (got, got_body) = refused(&gateway, listener, || {
                let mut conn = server.accept_raw();
                conn.head();
                conn.send(format!("HTTP/1.1 {answer}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
                conn
            });
            assert_eq!(got.lines().next().unwrap(), format!("HTTP/1.1 {}", answer.split("\r\n").next().unwrap()));
            assert!(got.lines().any(|line| line.eq_ignore_ascii_case(head)), "{head} in {got}");
            assert!(!got.contains("X-Other"), "{got}");
            assert_eq!(got_body, body);
        }
    }
    // A server that answers 200 is no WebSocket server.
    let (got, _) = refused(&gateway, "plain", || {
        let mut conn = server.accept_raw();
        conn.head();
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
        conn
    });
    assert!(got.starts_with("HTTP/1.1 502 "), "{got}");
}

/// What a client is answered, the upstream behaving like this meanwhile.
pub(crate) fn refused<T: Send>(
    gateway: &Gateway,
    listener: &str,
    upstream: impl FnOnce() -> T + Send,
) -> (String, String) {
    thread::scope(|scope| {
        let upstream = scope.spawn(upstream);
        let mut client = gateway.raw(listener);
        client.send(request("/dev/7", &[]).as_bytes());
        let answer = client.answer();
        upstream.join().unwrap();
        answer
    })
}

#[test]
fn b20_only_secrets_are_kept_out_of_a_refusal_and_its_json_stays_json() {
    let server = Remote::up();
    let more = "headers = { X-Role = \"user\", X-Year = \"2024\", X-Site = \"${SITE}\", X-Api = \"Bearer ${TOKEN}\" }";
    let url = server.url().replacen("ws://", "ws://me:${PASSWORD}@", 1);
    let set = |command: &mut Command| {
        command.envs([("SITE", "7301"), ("TOKEN", "hunter2-token"), ("PASSWORD", "hunter2-password")]);
    };
    let gateway = Gateway::start_with(&config(&url, more, ""), set);
    let cut = "x".repeat(4090);
    for (sent, passed) in [
        (
            r#"{"error":"user 7301","since":2024,"site":7301}"#.to_owned(),
            r#"{"error":"user 9999","since":2024,"site":9999}"#,
        ),
        ("no hunter2-password, no hunter2-token".to_owned(), "no ***, no ***"),
        // A token across the end of what is passed on.
        (format!("{cut} hunter2-token and more"), &format!("{cut} ***")),
    ] {
        let (head, body) = refused(&gateway, "plain", || {
            let mut conn = server.accept_raw();
            conn.head();
            let length = sent.len();
            conn.send(format!("HTTP/1.1 401 No 7301\r\nContent-Length: {length}\r\n\r\n{sent}").as_bytes());
            conn
        });
        assert!(head.starts_with("HTTP/1.1 401 No ***\r\n"), "{head}");
        assert_eq!(body, passed);
    }
    gateway.wait_for_log("answered 401 No ***: no ***, no ***");
    gateway.wait_for_logs("refused with 401", 3);
    let log = gateway.log().join("\n");
    assert!(!["7301", "hunter2"].iter().any(|secret| log.contains(secret)), "{log}");
}

#[test]
fn an_upstream_that_cannot_be_reached_is_502_and_a_silent_one_504() {
    let away = Remote::away();
    let gateway = relay_to(&away.url(), "", "");
    for listener in ["plain", "tls"] {
        let (head, _) = refused(&gateway, listener, || ());
        assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    }
    gateway.wait_for_log("connection refused");

    let server = Remote::up();
    let gateway = relay_to(&server.url(), "connect_timeout = \"500ms\"", "");
    let (threads, begun) = (gateway.threads(), Instant::now());
    let (head, _) = refused(&gateway, "plain", || server.accept_raw());
    assert!(head.starts_with("HTTP/1.1 504 "), "{head}");
    assert!(begun.elapsed() >= Duration::from_millis(500), "after {:?}", begun.elapsed());
    eventually("its thread has ended", DEADLINE, || gateway.threads() <= threads);

    // A client that does not wait ends the dial.
    let gateway = relay_to(&server.url(), "connect_timeout = \"60s\"", "");
    for listener in ["plain", "tls"] {
        let mut client = gateway.raw(listener);
        client.send(request("/dev/7", &[]).as_bytes());
        let mut conn = server.accept_raw();
        conn.head();
        drop(client);
        conn.end();
    }
    eventually("its thread has ended", DEADLINE, || gateway.threads() <= threads);
}

#[test]
fn the_certificate_of_an_upstream_is_checked_unless_that_is_off() {
    let echo = echo();
    let url = format!("wss://localhost:{}/", echo.port("tls"));
    let gateway = relay_to(&url, "", "");
    let (head, _) = refused(&gateway, "tls", || ());
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    gateway.wait_for_log("not trusted");

    let gateway = relay_to(&url, "tls = { verify = false }", "");
    gateway.wait_for_log("the certificate of 'localhost' is not checked");
    for wire in Wire::BOTH {
        let mut client = gateway.client(wire, "/dev/7");
        client.send_text("unchecked");
        assert_eq!(client.text(), "unchecked");
    }
}

// Ends

#[test]
fn close_codes_and_reasons_pass_both_ways() {
    let server = Remote::up();
    let gateway = relay_to(&server.url(), "", "");
    let none = Frame { first: 0x88, payload: Vec::new() };
    for wire in Wire::BOTH {
        for close in [Frame::close(1000, ""), Frame::close(1014, "b13"), Frame::close(4000, "because"), none.clone()] {
            let (mut client, mut conn) = pair(&gateway, &server, wire);
            client.send(&[masked(0x81, b"last"), masked(0x88, &close.payload)].concat());
            assert_eq!(conn.message(), Frame::text("last"));
            conn.closed_by(&close);
            assert_eq!(client.message(), close);
            client.end();

            let (mut client, mut conn) = pair(&gateway, &server, wire);
            conn.send(&[unmasked(0x81, b"last"), unmasked(0x88, &close.payload)].concat());
            assert_eq!(client.text(), "last");
            assert_eq!(client.message(), close);
            client.send(&masked(0x88, &close.payload));
            client.end();
            assert_eq!(conn.message(), close);
            conn.end();
        }
    }
}

#[test]
fn b14_a_close_that_must_not_be_sent_is_not_held_against_the_other_side() {
    let server = Remote::up();
    let gateway = relay_to(&server.url(), "", "");
    for (code, reason) in [(1005u16, "none"), (1006, ""), (2999, "why")] {
        let payload = [&code.to_be_bytes()[..], reason.as_bytes()].concat();
        let (mut client, mut conn) = pair(&gateway, &server, Wire::Plain);
        conn.send(&unmasked(0x88, &payload));
        client.closed_with(1011, "Upstream sent an invalid close code");
        assert_eq!(conn.message(), Frame::close(1002, "Invalid close code"));
        conn.end();
        gateway.wait_for_log(&format!(
            "the upstream is gone: code 1002, reason 'Invalid close code', received code {code}, reason '{reason}'"
        ));

        let (mut client, mut conn) = pair(&gateway, &server, Wire::Plain);
        client.send(&masked(0x88, &payload));
        conn.closed_by(&Frame::close(1001, "Client sent an invalid close code"));
        assert_eq!(client.message(), Frame::close(1002, "Invalid close code"));
        client.end();
    }
}

#[test]
fn a_client_that_closes_still_gets_what_its_upstream_answers_until_then() {
    let server = Remote::up();
    let gateway = relay_to(&server.url(), "", "");
    for wire in Wire::BOTH {
        let (mut client, mut conn) = pair(&gateway, &server, wire);
        client.send(&[masked(0x81, b"last"), masked(0x88, &1000u16.to_be_bytes())].concat());
        assert_eq!(conn.message(), Frame::text("last"));
        assert_eq!(conn.message(), Frame::close(1000, ""));
        conn.send_frame(0x81, b"answer");
        conn.send_frame(0x88, &1000u16.to_be_bytes());
        assert_eq!(client.text(), "answer");
        assert_eq!(client.message(), Frame::close(1000, ""));
        client.end();
        conn.end();

        // An upstream that does not answer is waited for no longer than the close timeout, which is 2 s.
        let (mut client, conn) = pair(&gateway, &server, wire);
        let begun = Instant::now();
        client.send(&masked(0x88, &1000u16.to_be_bytes()));
        assert_eq!(client.message(), Frame::close(1000, ""));
        client.end();
        assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
        drop(conn);
    }
}

#[test]
fn when_one_side_is_lost_the_other_is_closed() {
    let server = Remote::up();
    let gateway = relay_to(&server.url(), "", "");
    let (threads, descriptors) = (gateway.threads(), gateway.descriptors());
    for wire in Wire::BOTH {
        for is_reset in [true, false] {
            let (mut client, conn) = pair(&gateway, &server, wire);
            if is_reset {
                conn.reset()
            } else {
                drop(conn)
            }
            client.closed_with(1011, "Upstream connection lost");

            let (client, mut conn) = pair(&gateway, &server, wire);
            if is_reset {
                client.reset()
            } else {
                drop(client)
            }
            conn.closed_by(&Frame::close(1001, "Client connection lost"));
        }
    }
    eventually("nothing is left", DEADLINE, || gateway.threads() <= threads && gateway.descriptors() <= descriptors);
}

#[test]
fn messages_over_the_limit_end_both_sides() {
    let server = Remote::up();
    let gateway = relay_to(&server.url(), "", "max_message = \"1KiB\"");
    for wire in Wire::BOTH {
        let (mut client, mut conn) = pair(&gateway, &server, wire);
        client.send(&masked(0x82, &[7; 1024]));
        assert_eq!(conn.message(), Frame::binary(&[7; 1024]));
        client.send(&masked(0x82, &[7; 1025]));
        let close = client.message();
        assert_eq!((close.first, &close.payload[..2]), (0x88, &1009u16.to_be_bytes()[..]));
        drop(client);
        conn.closed_by(&Frame::close(1001, "Client connection lost"));

        let (mut client, mut conn) = pair(&gateway, &server, wire);
        conn.send_frame(0x82, &[7; 1025]);
        let close = conn.message();
        assert_eq!((close.first, &close.payload[..2]), (0x88, &1009u16.to_be_bytes()[..]));
        drop(conn);
        client.closed_with(1011, "Upstream connection lost");
    }
}

#[test]
fn a_client_or_upstream_that_falls_silent_is_cut() {
    let server = Remote::up();
    let gateway = relay_to(&server.url(), "", "heartbeat = \"1s\"\npong_timeout = \"1s\"");
    for wire in Wire::BOTH {
        // The upstream is mute; the client answers.
        let (mut client, conn) = pair(&gateway, &server, wire);
        client.closed_with(1011, "Upstream connection lost");
        drop(conn);
        // The client is mute; the upstream answers.
        let (client, mut conn) = pair(&gateway, &server, wire);
        conn.closed_by(&Frame::close(1001, "Client connection lost"));
        drop(client);
    }
    gateway.wait_for_log("no sign of life after a ping");
}

// Many clients, limits and the stop

#[test]
fn two_hundred_clients_come_and_go_and_leave_nothing() {
    let echo = echo();
    let gateway = relay_to(&format!("ws://127.0.0.1:{}/", echo.port("plain")), "", "max_connections = 200");
    let counts = || (gateway.threads(), gateway.descriptors(), echo.threads(), echo.descriptors());
    let before = counts();
    let memory = gateway.memory_kib();
    for round in 0..2 {
        let mut clients: Vec<Raw> = (0..200)
            .map(|number| {
                gateway.client(if number % 10 == 0 { Wire::Tls } else { Wire::Plain }, &format!("/dev/{number}"))
            })
            .collect();
        for (number, client) in clients.iter_mut().enumerate() {
            client.send_text(&format!("{round}.{number}"));
        }
        for (number, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.text(), format!("{round}.{number}"));
        }
        let grown = gateway.memory_kib().saturating_sub(memory);
        measured("relay", format!("200 relayed clients: {} threads, +{grown} KiB", gateway.threads()));
        for (number, mut client) in clients.into_iter().enumerate() {
            match number % 3 {
                0 => client.send(&masked(0x88, b"")),
                1 => client.reset(),
                _ => {}
            }
        }
        eventually("all is back", DEADLINE, || {
            let now = counts();
            now.0 <= before.0 && now.1 <= before.1 && now.2 <= before.2 && now.3 <= before.3
        });
    }
}

#[test]
fn a_thousand_relayed_clients_cost_two_threads_and_two_descriptors_each() {
    const CLIENTS: usize = 1000;
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    if limit.maximum.is_some_and(|files| files < 3 * CLIENTS as u64) {
        return measured("relay", format!("skipped: {CLIENTS} clients need more open files"));
    }
    let echo = echo_for(CLIENTS);
    // The clients read nothing until all are connected. On a busy machine that takes longer than they have to answer a ping.
    let endpoint = format!("max_connections = {CLIENTS}\nheartbeat = \"off\"");
    let gateway = relay_to(&format!("ws://127.0.0.1:{}/", echo.port("plain")), "", &endpoint);
    let (threads, descriptors, memory) = (gateway.threads(), gateway.descriptors(), gateway.memory_kib());
    let upstream_threads = echo.threads();
    let began = Instant::now();
    let mut clients: Vec<Raw> =
        (0..CLIENTS).map(|number| gateway.client(Wire::Plain, &format!("/dev/{number}"))).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send_text(&number.to_string());
    }
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.text(), number.to_string());
    }
    let grown = gateway.memory_kib().saturating_sub(memory);
    assert_eq!(gateway.threads(), threads + 2 * CLIENTS);
    assert_eq!(gateway.descriptors(), descriptors + 2 * CLIENTS);
    assert!(grown < CLIENTS * 128, "+{grown} KiB");
    measured(
        "relay",
        format!(
            "{CLIENTS} relayed clients: let in and answered in {:.1?}, {} KiB each",
            began.elapsed(),
            grown / CLIENTS
        ),
    );
    drop(clients);
    eventually("all is back", DEADLINE, || {
        gateway.threads() <= threads && gateway.descriptors() <= descriptors && echo.threads() <= upstream_threads
    });
}

#[test]
fn a_stop_closes_clients_and_upstreams_with_1001() {
    let server = Remote::up();
    for wire in Wire::BOTH {
        let mut gateway = relay_to(&server.url(), "", "");
        let (mut client, mut conn) = pair(&gateway, &server, wire);
        // These two answer nothing.
        let (_mute, _mute_conn) = pair(&gateway, &server, wire);
        let begun = Instant::now();
        gateway.signal(rustix::process::Signal::TERM);
        client.closed_with(1001, "Server shutting down");
        let close = conn.message();
        assert_eq!((close.first, &close.payload[..2]), (0x88, &1001u16.to_be_bytes()[..]));
        conn.send_frame(0x88, &close.payload);
        conn.end();
        assert!(gateway.wait().success());
        let took = begun.elapsed();
        // The drain is 3 s.
        assert!(took < Duration::from_secs(6), "{took:?}");
        measured("relay", format!("a stop with mute sides took {took:.1?}"));
    }
}

#[test]
fn a_relay_whose_thread_cannot_be_started_closes_both_sides() {
    let Some(user) = nobody() else { return measured("relay", "skipped: only root can become another user") };
    let server = Remote::up();
    let more = "\n[[endpoint]]\npath = \"/other\"\nto = [\"reply\"]\n";
    let gateway =
        Gateway::start_with(&(config(&server.url(), "", "") + more), |command| run_as(user, &["--nproc=40"], command));
    let mut others = Vec::new();
    loop {
        let mut other = gateway.raw("plain");
        other.send(request("/other", &[]).as_bytes());
        if !other.head().starts_with("HTTP/1.1 101 ") {
            break;
        }
        others.push(other);
        assert!(others.len() < 60, "the limit does not hold");
    }
    // One thread more is for the client, and none for the relay.
    let threads = gateway.threads();
    drop(others.pop());
    eventually("a thread is free", DEADLINE, || gateway.threads() < threads);
    let (mut client, mut conn) = pair(&gateway, &server, Wire::Plain);
    client.closed_with(1013, "Server at capacity");
    assert_eq!(conn.message(), Frame::close(1001, "Client connection lost"));
    conn.send_frame(0x88, &1001u16.to_be_bytes());
    conn.end();
    gateway.wait_for_log("failed to start the thread of its relay");
    eventually("the client's thread is back", DEADLINE, || gateway.threads() < threads);
}
