//! What operators are shown over WebSockets of the admin listener: the feed of the page, and what clients send.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use data_encoding::{BASE64, BASE64URL_NOPAD};
use rustix::process::Signal;
use serde_json::Value;

use crate::admin::{ADMIN, Answer, Caller};
use crate::auth::{files_of, write};
use crate::harness::{Canary, DEADLINE, Gateway, LISTENERS, Raw, Wire, eventually, measured, request};

const CONFIG: &str = r#"
[[endpoint]]
path = "/canary"
to = ["reply"]

[[endpoint]]
path = "/rooms/{room}"
to = ["others"]
"#;

fn start(more: &str) -> Gateway {
    Gateway::start(&format!("{CONFIG}{LISTENERS}{more}{ADMIN}"))
}

/// A WebSocket of the admin listener.
fn watch(gateway: &Gateway, path: &str, lines: &[&str]) -> Raw {
    let mut watcher = Raw::plain(gateway.admin_port());
    watcher.upgrade(path, lines);
    watcher
}

fn json(watcher: &mut Raw) -> Value {
    serde_json::from_str(&watcher.text()).unwrap()
}

/// The answer to a request for a WebSocket that is not let in.
fn refusal(gateway: &Gateway, path: &str, lines: &[&str]) -> Answer {
    let mut caller = Caller::of(gateway);
    caller.send(request(path, lines).as_bytes());
    caller.answer("GET")
}

/// Samples of the feed until one is as wanted.
fn sample_until(feed: &mut Raw, what: &str, mut is_it: impl FnMut(&Value) -> bool) -> Value {
    let late = Instant::now() + DEADLINE;
    loop {
        let sample = json(feed);
        assert_eq!(sample["type"], "sample");
        if is_it(&sample) {
            return sample;
        }
        assert!(Instant::now() < late, "not within {DEADLINE:?}: {what}");
    }
}

#[test]
fn the_feed_begins_with_what_the_caller_may_do_and_tells_who_comes_and_goes() {
    let gateway = start("");
    let early = gateway.client(Wire::Plain, "/rooms/1");
    let early_id = gateway.id_of(&early);
    let mut feed = watch(&gateway, "/api/v1/feed", &[]);
    let hello = json(&mut feed);
    assert_eq!((&hello["type"], &hello["name"]), (&"hello".into(), &Value::Null));
    assert_eq!(hello["rights"], serde_json::json!(["read", "tail", "act"]));
    assert!(hello["history"]["at"].as_array().is_some_and(|at| at.len() <= 720), "{hello}");
    let late = gateway.client(Wire::Plain, "/rooms/2");
    let late_id = gateway.id_of(&late);
    let mut told = BTreeSet::new();
    let note = |told: &mut BTreeSet<String>, sample: &Value| {
        for joined in sample["joined"].as_array().unwrap() {
            told.insert(format!("{} {}", joined["id"].as_str().unwrap(), joined["path"].as_str().unwrap()));
        }
    };
    let sample = sample_until(&mut feed, "the new client", |sample| {
        note(&mut told, sample);
        told.contains(&format!("{late_id} /rooms/2"))
    });
    assert_eq!((&sample["info"]["clients"], &sample["isIncomplete"]), (&2.into(), &false.into()));
    assert_eq!(told.len(), 1, "who was there before is in the list, and not told: {told:?}");
    drop(early);
    sample_until(&mut feed, "the client that has left", |sample| {
        sample["left"].as_array().unwrap().contains(&early_id.as_str().into())
    });
}

#[test]
fn the_feed_has_the_rates_of_each_endpoint() {
    let gateway = start("");
    let mut feed = watch(&gateway, "/api/v1/feed", &[]);
    assert_eq!(json(&mut feed)["type"], "hello");
    let mut client = gateway.client(Wire::Plain, "/canary");
    // Over several seconds, so that each sample has some of them.
    let sample = sample_until(&mut feed, "the rates", |sample| {
        for _ in 0..10 {
            client.send_text("0123456789");
            assert_eq!(client.text(), "0123456789");
        }
        sample["rates"]["receivedMessages"].as_f64().unwrap() > 0.0
            && sample["rates"]["sentMessages"].as_f64().unwrap() > 0.0
    });
    let paths = sample["info"]["endpoints"].as_array().unwrap().iter().map(|endpoint| endpoint["path"].clone());
    let rates: Vec<_> = paths.zip(sample["endpointRates"].as_array().unwrap()).collect();
    let of = |path: &str| rates.iter().find(|(own, _)| own == path).unwrap().1;
    let (canary, rooms) = (of("/canary"), of("/rooms/{room}"));
    assert!(canary["receivedBytes"].as_f64().unwrap() >= 10.0 * canary["receivedMessages"].as_f64().unwrap() * 0.99);
    assert_eq!(rooms["receivedMessages"], 0.0, "{sample}");
}

#[test]
fn the_tail_shows_what_clients_send_that_fit_and_nothing_else() {
    let gateway = start("");
    let mut one = gateway.client(Wire::Plain, "/rooms/1");
    let mut two = gateway.client(Wire::Tls, "/rooms/2");
    let mut canary = gateway.client(Wire::Plain, "/canary");
    let id = gateway.id_of(&two);
    let tails = [
        ("/api/v1/tail".to_owned(), vec!["a", "b", "c", "end"]),
        ("/api/v1/tail?endpoint=/rooms/%7Broom%7D".to_owned(), vec!["a", "b", "end"]),
        ("/api/v1/tail?path=/rooms/1".to_owned(), vec!["a", "end"]),
        (format!("/api/v1/tail?client={id}"), vec!["b"]),
    ];
    let mut tails = tails.map(|(path, expected)| (watch(&gateway, &path, &[]), path, expected));
    one.send_text("a");
    assert_eq!(two_way(&mut canary, "c"), "c");
    two.send_text("b");
    // Each of them is shown before the sender's next message.
    let mut shown = json(&mut tails[3].0);
    assert_eq!((&shown["client"], &shown["path"]), (&id.as_str().into(), &"/rooms/2".into()));
    one.send_text("end");
    for (tail, path, expected) in &mut tails[..3] {
        let mut texts = BTreeSet::new();
        while !texts.contains("end") {
            shown = json(tail);
            assert_eq!((&shown["type"], &shown["identity"]), (&"message".into(), &Value::Null));
            texts.insert(shown["text"].as_str().unwrap().to_owned());
        }
        assert_eq!(texts.iter().map(String::as_str).collect::<Vec<_>>(), *expected, "{path}");
    }
    for (query, status) in [("?client=7", 400), ("?room=1", 400), ("?path=/a&path=/b", 400)] {
        assert_eq!(refusal(&gateway, &format!("/api/v1/tail{query}"), &[]).status, status, "{query}");
    }
}

fn two_way(client: &mut Raw, text: &str) -> String {
    client.send_text(text);
    client.text()
}

#[test]
fn the_tail_shows_the_beginning_of_a_long_message_and_binary_data_in_base64() {
    let gateway = start("");
    let mut tail = watch(&gateway, "/api/v1/tail", &[]);
    let mut client = gateway.client(Wire::Plain, "/rooms/1");
    // The 4,096th byte is in the middle of a character.
    let long = format!("x{}", "ü".repeat(5000));
    client.send_text(&long);
    let shown = json(&mut tail);
    assert_eq!((&shown["bytes"], shown["text"].as_str().unwrap()), (&10_001.into(), &long[..4095]));
    let binary: Vec<u8> = (0..=255).cycle().take(5000).collect();
    client.send_frame(0x82, &binary);
    let shown = json(&mut tail);
    let decoded = BASE64.decode(shown["base64"].as_str().unwrap().as_bytes()).unwrap();
    assert_eq!((&shown["bytes"], &shown["text"]), (&5000.into(), &Value::Null));
    assert_eq!(decoded, binary[..4096]);
}

#[test]
fn the_tail_shows_what_clients_of_a_relay_send() {
    let server = Gateway::start(&format!("[[endpoint]]\npath = \"/echo\"\nto = [\"reply\"]\n{LISTENERS}"));
    let relay = format!(
        "[[endpoint]]\npath = \"/relay\"\nrelay = {{ url = \"ws://127.0.0.1:{}/echo\" }}\n",
        server.port("plain")
    );
    let gateway = start(&relay);
    let mut tail = watch(&gateway, "/api/v1/tail?endpoint=/relay", &[]);
    let mut client = gateway.client(Wire::Plain, "/relay");
    for text in ["short".to_owned(), "long".repeat(10_000)] {
        assert_eq!(two_way(&mut client, &text), text);
        assert_eq!(json(&mut tail)["bytes"], text.len());
    }
}

#[test]
fn of_a_flood_the_tail_shows_200_messages_a_second_and_says_how_many_it_left_out() {
    let gateway = start("");
    let mut tail = watch(&gateway, "/api/v1/tail?path=/rooms/1", &[]);
    let mut client = gateway.client(Wire::Plain, "/rooms/1");
    const FLOOD: u64 = 5000;
    for number in 0..FLOOD {
        client.send_text(&number.to_string());
    }
    let (mut shown, mut left_out, begun) = (0, 0, Instant::now());
    while shown + left_out < FLOOD {
        let message = json(&mut tail);
        match message["type"].as_str().unwrap() {
            "message" => shown += 1,
            _ => left_out += message["messages"].as_u64().unwrap(),
        }
    }
    let seconds = begun.elapsed().as_secs() + 2;
    assert!(left_out > 0 && shown <= 200 * seconds, "{shown} shown in {seconds} s, {left_out} left out");
    measured("tail", format!("of {FLOOD} messages {shown} were shown and {left_out} left out"));
}

#[test]
fn a_watcher_that_reads_nothing_holds_no_client_and_is_cut() {
    let gateway = start("");
    let mut canary = Canary::connect(&gateway);
    let mut tail = Raw::narrow(gateway.admin_port());
    tail.upgrade("/api/v1/tail", &[]);
    let mut client = gateway.client(Wire::Plain, "/rooms/1");
    let message = "x".repeat(8 << 10);
    let begun = Instant::now();
    while !gateway.log().iter().any(|line| line.contains("watcher") && line.contains("has ended: code 1006")) {
        assert!(begun.elapsed() < 3 * DEADLINE, "it is not cut");
        client.send_text(&message);
        canary.check_echo("a message for a watcher that does not read");
    }
    measured("tail", format!("a watcher that reads nothing is cut after {:.1?}", begun.elapsed()));
    Canary::check_new_client(&gateway);
}

#[test]
fn a_watcher_comes_in_by_a_subprotocol_and_sees_what_its_rights_allow() {
    let tokens = ["reader", "tailer"].map(|name| (name, format!("hunter2-{name}")));
    let files = files_of(&tokens.each_ref().map(|(name, token)| (*name, token.as_str())));
    let file = files.path().join("tokens.txt");
    let auth = format!("[[auth]]\nname = \"ops\"\nkind = \"tokens\"\nfile = {:?}\n", file.display().to_string());
    let gateway = Gateway::start(&format!(
        "{CONFIG}{LISTENERS}{auth}{ADMIN}auth = [\"ops\"]\nallow = [{{ who = \"reader\", rights = \"read\" }}, \
         {{ who = \"tailer\", rights = [\"read\", \"tail\"] }}]\n"
    ));
    let offer = |token: &str| {
        let encoded = BASE64URL_NOPAD.encode(token.as_bytes());
        format!("Sec-WebSocket-Protocol: wsgate.admin, wsgate.bearer.{encoded}")
    };
    let [reader, tailer] = ["hunter2-reader", "hunter2-tailer"].map(offer);
    assert_eq!(refusal(&gateway, "/api/v1/feed", &[]).status, 401);
    assert_eq!(refusal(&gateway, "/api/v1/feed", &[&offer("hunter2-wrong")]).status, 401);
    assert_eq!(refusal(&gateway, "/api/v1/tail", &[&reader]).status, 403);
    // Elsewhere it counts for nothing.
    assert_eq!(Caller::of(&gateway).ask_with("GET", "/api/v1/info", &[&reader], None).status, 401);
    let mut feed = Raw::plain(gateway.admin_port());
    let head = feed.upgrade("/api/v1/feed", &[&reader]);
    assert!(head.contains("Sec-WebSocket-Protocol: wsgate.admin") && !head.contains("bearer"), "{head}");
    let hello = json(&mut feed);
    assert_eq!((&hello["name"], &hello["rights"]), (&"reader".into(), &serde_json::json!(["read"])));
    let mut tail = watch(&gateway, "/api/v1/tail", &[&tailer]);
    // A token that is taken away ends what it has opened, within seconds.
    write(
        &file,
        &std::fs::read_to_string(&file).unwrap().lines().take(1).map(|line| format!("{line}\n")).collect::<String>(),
    );
    gateway.signal(Signal::HUP);
    tail.closed_with(1008, "Access withdrawn");
    assert_eq!(json(&mut feed)["type"], "sample");
}

#[test]
fn a_watcher_is_no_foreign_page_and_only_looks() {
    let gateway = start("");
    for line in ["Origin: http://evil.example", "Sec-Fetch-Site: cross-site", "Origin: null"] {
        assert_eq!(refusal(&gateway, "/api/v1/feed", &[line]).status, 403, "{line}");
    }
    let plain = Caller::of(&gateway).get("/api/v1/feed");
    assert_eq!((plain.status, plain.header("Upgrade")), (426, Some("websocket")));
    let mut talking = watch(&gateway, "/api/v1/tail", &[]);
    talking.send_text("hello");
    talking.closed_with(1008, "Nothing is to be sent here");
}

#[test]
fn there_are_32_watchers_at_most_and_each_place_is_free_again() {
    let gateway = start("");
    let mut watchers: Vec<Raw> = (0..32).map(|_| watch(&gateway, "/api/v1/tail", &[])).collect();
    let refused = refusal(&gateway, "/api/v1/feed", &[]);
    assert_eq!((refused.status, refused.header("Retry-After")), (503, Some("1")));
    // Whoever only asks is not kept out by them.
    assert_eq!(Caller::of(&gateway).get("/api/v1/info").status, 200);
    drop(watchers.pop());
    eventually("its place is free", DEADLINE, || {
        let mut feed = Raw::plain(gateway.admin_port());
        feed.send(request("/api/v1/feed", &[]).as_bytes());
        feed.head().starts_with("HTTP/1.1 101 ") && json(&mut feed)["type"] == "hello"
    });
}

#[test]
fn watchers_are_told_when_wsgate_stops() {
    let mut gateway = start("");
    let mut tail = watch(&gateway, "/api/v1/tail", &[]);
    let begun = Instant::now();
    gateway.signal(Signal::TERM);
    tail.closed_with(1001, "Server shutting down");
    assert!(gateway.wait().success());
    assert!(begun.elapsed() < Duration::from_secs(8), "a watcher has held the stop for {:?}", begun.elapsed());
}
