//! Defects that were fixed: a test for each, named by what has to hold, with a sentence on what went wrong.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use tungstenite::Message;
use tungstenite::protocol::CloseFrame;

use crate::harness::{DEADLINE, Frame, Gateway, LISTENERS, Remote, Wire, eventually, masked, request};
use crate::links::{both_ways, client, gateway, link, passed_on};
use crate::relay::{config, refused, relay_to};

/// A `Location` that repeats the query of the request gave the client what stands in the URL that the gateway dials.
#[test]
fn a_refusal_tells_the_client_nothing_of_the_url_that_was_dialled() {
    let server = Remote::up();
    let gateway = relay_to(&server.url_of("/?token=hidden%20one&id=7"), "", "");
    let (head, body) = refused(&gateway, "plain", || {
        let mut conn = server.accept_raw();
        conn.head();
        let location = "Location: https://elsewhere/?token=hidden%20one&id=7";
        conn.send(
            format!("HTTP/1.1 301 Moved\r\n{location}\r\nContent-Length: 24\r\n\r\nno such token hidden one")
                .as_bytes(),
        );
        conn
    });
    assert!(head.contains("\r\nLocation: https://elsewhere/?***\r\n"), "{head}");
    assert_eq!(body, "no such token ***");
}

/// A request that cannot be passed on was answered with 502 and a warning that blamed the upstream, so any client could
/// fill the log.
#[test]
fn a_request_that_cannot_be_passed_on_is_answered_with_400() {
    let server = Remote::up();
    let gateway = relay_to(&server.url(), "", "");
    for (path, lines) in [("/dev/7?\u{e9}", &[][..]), ("/dev/7", &["Sec-WebSocket-Protocol: a b"])] {
        let mut client = gateway.raw("plain");
        client.send(request(path, lines).as_bytes());
        let (head, body) = client.answer();
        assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
        assert!(body.contains("cannot be passed on"), "{body}");
    }
    gateway.wait_for_logs("refused with 400", 2);
    assert!(!gateway.log().iter().any(|line| line.contains("WARN")), "a client fills the log with warnings");
    server.expect_nobody();
}

/// Clients kept their place among the unfinished handshakes while their upstream was dialled: with a slow one every
/// other client got 503.
#[test]
fn clients_that_wait_for_a_slow_upstream_do_not_keep_other_clients_out() {
    let server = Remote::up();
    let config = config(&server.url(), "connect_timeout = \"60s\"", "");
    let echo = "[[endpoint]]\npath = \"/echo\"\nto = [\"reply\"]\n";
    let gateway = Gateway::start(&format!("{}{echo}", config.replace("[gateway]", "[gateway]\nmax_handshakes = 3")));
    let waiting: Vec<_> = (0..8)
        .map(|_| {
            let mut client = gateway.raw("plain");
            client.send(request("/dev/7", &[]).as_bytes());
            (client, server.accept_raw())
        })
        .collect();
    let mut other = gateway.client(Wire::Plain, "/echo");
    other.send_text("in");
    assert_eq!(other.text(), "in");
    // The clients that waited are answered too.
    for (mut client, mut conn) in waiting {
        let head = conn.head();
        conn.answer_upgrade(&head, &[]);
        assert!(client.head().starts_with("HTTP/1.1 101 "));
    }
}

/// A client that left before its upstream was connected left a thread behind, which read the upstream for ever.
#[test]
fn a_client_that_leaves_with_its_first_bytes_leaves_nothing_behind() {
    let server = Remote::up();
    let gateway = relay_to(&server.url(), "", "");
    let threads = gateway.threads();
    for round in 0..50 {
        let mut client = gateway.raw(if round % 5 == 0 { "tls" } else { "plain" });
        let message = masked(0x81, b"first");
        let has_message = round % 2 == 0;
        let first = [
            request("/dev/7", &[]).as_bytes(),
            if has_message { &message } else { &[] },
            &masked(0x88, b"\x0f\xa0bye"),
        ]
        .concat();
        client.send(&first);
        let (mut conn, _) = server.upgraded(&[]);
        if has_message {
            assert_eq!(conn.message(), Frame::text("first"));
        }
        conn.closed_by(&Frame::close(4000, "bye"));
    }
    eventually("its threads are back", DEADLINE, || gateway.threads() <= threads);
}

/// Messages that one read brings are joined, and a joined frame was dropped whole: a queue of 100 kept 70 to 80.
#[test]
fn while_a_link_is_down_its_queue_is_bounded_to_the_message_also_for_bursts() {
    const BOUND: usize = 100;
    for (when_full, expected) in [("drop_oldest", 60..160), ("drop_newest", 0..100)] {
        let mut remote = Remote::away();
        let queue = format!("queue = {{ messages = {BOUND}, when_full = \"{when_full}\" }}");
        let gateway = gateway(&both_ways(&remote.url(), &queue));
        let mut client = client(&gateway, "/");
        // Those of one read are joined, and together they are no divisor of the bound.
        for group in 0..4 {
            let group: Vec<u8> =
                (0..40).flat_map(|number| masked(0x81, (group * 40 + number).to_string().as_bytes())).collect();
            client.send(&group);
            passed_on(&mut client);
        }
        remote.come();
        let mut linked = remote.accept();
        for number in expected {
            assert_eq!(linked.text(), number.to_string(), "{when_full}");
        }
        gateway.wait_for_log("link up: while it was down, 60 messages were dropped");
        client.send_text("live");
        assert_eq!(linked.text(), "live", "{when_full}");
    }
}

/// A token in the query of a URL was in every log line about the link, and in its events.
#[test]
fn the_query_of_a_url_is_in_no_log_line_and_no_event() {
    let mut remote = Remote::away();
    let url = format!("{}x?token=hidden", remote.url());
    let endpoint = "[[endpoint]]\npath = \"/\"\nto = []\n";
    let settings = "to = [\"endpoint:/\"]\nevents = [\"connect\", \"error\"]";
    let gateway = gateway(&format!("{endpoint}{}", link("up", &url, settings)));
    let shown = url.replace("token=hidden", "***");
    gateway.wait_for_log(&format!("link up: failed to connect to '{shown}'"));
    let mut client = client(&gateway, "/");
    remote.come();
    let _linked = remote.accept();
    gateway.wait_for_log(&format!("link up: connected to '{shown}'"));
    loop {
        let event: Value = serde_json::from_str(&client.text()).unwrap();
        assert_eq!(event["url"], shown.as_str());
        if event["event"] == "connect" {
            break;
        }
    }
    assert!(!gateway.log().iter().any(|line| line.contains("hidden")));
}

/// A client of an endpoint that broadcasts its events got the event of its own connect.
#[test]
fn a_client_gets_the_events_of_the_others_in_its_room_and_not_its_own() {
    let endpoint = "[[endpoint]]\npath = \"/\"\nto = [\"broadcast\"]\nevents = [\"connect\", \"disconnect\"]\n";
    let gateway = Gateway::start(&format!("{endpoint}{LISTENERS}"));
    let mut first = client(&gateway, "/");
    // The 101 comes before the event; when a ping is answered, the event has gone out to a room without the second
    // client.
    passed_on(&mut first);
    let mut second = client(&gateway, "/");
    assert!(first.text().contains("\"event\":\"connect\""));
    second.send_text("hello");
    assert_eq!(second.text(), "hello");
    assert_eq!(first.text(), "hello");
    second.reset();
    assert!(first.text().contains("\"event\":\"disconnect\""));
}

/// Each link got its goodbye only when the one before it had ended, so a few silent remotes made a
/// stop too long.
#[test]
fn at_a_stop_remotes_that_do_not_answer_are_waited_for_together() {
    let remotes: Vec<_> = (0..6).map(|_| Remote::up()).collect();
    let links: String =
        remotes.iter().zip('a'..).map(|(remote, name)| link(&name.to_string(), &remote.url(), "")).collect();
    let config = format!("[[endpoint]]\npath = \"/\"\nto = []\n{links}");
    let mut gateway = gateway(&format!("[gateway]\ndrain_timeout = \"1s\"\nclose_timeout = \"2s\"\n{config}"));
    let _mute: Vec<_> = remotes.iter().map(Remote::accept).collect();
    gateway.wait_for_logs(": connected to ", remotes.len());
    let started = Instant::now();
    gateway.signal(Signal::TERM);
    assert!(gateway.wait().success());
    // One after the other they would take 12 s.
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
}

/// When clients had used up the time of a stop, links were cut without a goodbye.
#[test]
fn at_a_stop_links_say_goodbye_although_a_client_reads_nothing() {
    let remote = Remote::up();
    let endpoint = "[[endpoint]]\npath = \"/\"\nto = [\"others\"]";
    let config = format!("[gateway]\ndrain_timeout = \"1s\"\n{endpoint}\n{}", link("up", &remote.url(), ""));
    let mut gateway = gateway(&config);
    let mut linked = remote.accept();
    gateway.wait_for_log(": connected to ");
    let frozen = client(&gateway, "/");
    let mut sender = client(&gateway, "/");
    let filling = "x".repeat(100_000);
    // Far more than the kernel takes for it, so that the Close stays behind.
    (0..100).for_each(|_| sender.send_text(&filling));
    passed_on(&mut sender);
    let started = Instant::now();
    gateway.signal(Signal::TERM);
    let Message::Close(close) = linked.message() else { panic!("it said something else") };
    assert_eq!(close, Some(CloseFrame { code: 1001.into(), reason: "Going away".into() }));
    while linked.0.read().is_ok() {}
    assert!(gateway.wait().success());
    assert!(started.elapsed() > Duration::from_millis(500), "the client did not hold it up: {:?}", started.elapsed());
    drop(frozen);
}
