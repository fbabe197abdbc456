//! Links: what passes through them, what they send by themselves, answers to the client that asked, and events.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::Message;

use crate::harness::{Frame, Gateway, LISTENERS, Linked, Raw, Remote, Wire, masked, measured, unmasked};

/// A link of this name to this URL that redials at once, with more settings of its own.
pub(crate) fn link(name: &str, url: &str, settings: &str) -> String {
    format!(
        "[[link]]\nname = \"{name}\"\nurl = \"{url}\"\nproxy = \"off\"\n{}\n{settings}\n",
        if settings.contains("backoff") { "" } else { "backoff = { first = \"10ms\", most = \"50ms\" }" }
    )
}

/// A gateway with a plain listener, in front of these endpoints and links.
pub(crate) fn gateway(rest: &str) -> Gateway {
    Gateway::start(&format!("{rest}\n[[listen]]\nname = \"plain\"\naddress = \"127.0.0.1:0\"\n"))
}

/// A client of it.
pub(crate) fn client(gateway: &Gateway, path: &str) -> Raw {
    gateway.client(Wire::Plain, path)
}

/// An endpoint and a link that lead to each other.
pub(crate) fn both_ways(url: &str, settings: &str) -> String {
    let endpoint = "[[endpoint]]\npath = \"/\"\nto = [\"link:up\"]\n";
    format!("{endpoint}{}", link("up", url, &format!("to = [\"endpoint:/\"]\n{settings}")))
}

/// The same, with a heartbeat so short that the log says within a second or two when a sender is held.
pub(crate) fn held_soon(url: &str, settings: &str) -> String {
    both_ways(url, settings).replacen("to = [", "heartbeat = \"1s\"\nto = [", 1)
}

/// Waits until all that this client has sent is passed on: a ping is answered before the messages that one
/// read brought with it go on, so the second answer says that they have.
pub(crate) fn passed_on(client: &mut Raw) {
    for _ in 0..2 {
        client.send(&masked(0x89, b"?"));
        assert_eq!(client.message().first, 0x8a);
    }
}

/// A number that says where in the stream of messages one stands.
pub(crate) fn number_of(text: &str) -> usize {
    text.split(' ').next().unwrap().parse().unwrap()
}

// What passes

#[test]
fn text_and_binary_pass_both_ways_through_a_link_plain_and_over_tls() {
    let echo = Gateway::start(&format!("[[endpoint]]\npath = \"/\"\nto = [\"reply\"]\n{LISTENERS}"));
    let ca = echo.file("ca.pem");
    for (url, tls) in [
        (format!("ws://127.0.0.1:{}/", echo.port("plain")), String::new()),
        (format!("wss://localhost:{}/", echo.port("tls")), format!("tls = {{ ca = {ca:?} }}")),
    ] {
        let gateway = gateway(&both_ways(&url, &tls));
        gateway.wait_for_log("link up: connected to ");
        let mut client = client(&gateway, "/");
        let long = "é".repeat(100_000);
        for text in ["on", "", &long] {
            client.send_text(text);
            assert_eq!(client.message(), Frame::text(text));
        }
        for bytes in [&[][..], &[0, 255, 10], &[7; 100_000]] {
            client.send(&masked(0x82, bytes));
            assert_eq!(client.message(), Frame::binary(bytes));
        }
        for number in 0..500 {
            client.send_text(&number.to_string());
        }
        for number in 0..500 {
            assert_eq!(client.text(), number.to_string());
        }
    }
}

#[test]
fn what_a_remote_sends_goes_where_the_link_says() {
    let (remote, other) = (Remote::up(), Remote::up());
    let endpoints = r#"
        [[endpoint]]
        path = "/all"
        to = []
        [[endpoint]]
        path = "/devices/{id}"
        to = []
        [[endpoint]]
        path = "/of/{link}"
        to = []
    "#;
    let to = r#"
        format = "message"
        to = ["endpoint:/all", "endpoint:/devices/{payload.device}", "endpoint:/of/{link}", "link:other", "reply"]
    "#;
    let config = format!("{endpoints}{}{}", link("plc", &remote.url(), to), link("other", &other.url(), ""));
    let gateway = gateway(&config);
    let (mut linked, mut forwarded) = (remote.accept(), other.accept());
    gateway.wait_for_logs(": connected to ", 2);
    let [mut all, mut seven, mut eight, mut of_plc, mut of_other] =
        ["/all", "/devices/7", "/devices/8", "/of/plc", "/of/other"].map(|path| client(&gateway, path));
    // The client of a room that is told last says that the rest has joined.
    linked.send(r#"{"payload":{"device":7,"n":1}}"#);
    linked.send(r#"{"payload":{"device":"8","n":2}}"#);
    linked.send(r#"{"payload":{"n":3}}"#);
    linked.send(r#"{"payload":{"device":"../all","n":4}}"#);
    let payload = |text: String| serde_json::from_str::<Value>(&text).unwrap()["n"].clone();
    for client in [&mut all, &mut of_plc] {
        for number in 1..=4 {
            assert_eq!(payload(client.text()), number);
        }
    }
    assert_eq!(payload(seven.text()), 1);
    assert_eq!(payload(eight.text()), 2);
    for number in 1..=4 {
        assert_eq!(payload(forwarded.text()), number);
        let reply = linked.json();
        assert_eq!(reply["payload"]["n"], number);
        assert_eq!(reply["_session"]["type"], "websocket", "{reply}");
    }
    assert_eq!(gateway.wait_for_logs("link plc: unroutable", 2).len(), 2);
    for client in [&mut seven, &mut eight, &mut of_other] {
        assert!(!client.has_input_within(Duration::from_millis(50)), "it got what was not for it");
    }
    linked.hang_up();
    gateway.wait_for_log(
        "link plc: of its messages, 0 were session_unknown, 0 session_denied, 2 unroutable and 0 without a payload",
    );
}

// What a link sends by itself

#[test]
fn open_messages_go_first_over_every_connection_and_pings_of_text_follow() {
    let mut remote = Remote::away();
    let settings = "open_messages = [\"login\", \"subscribe\"]\nping_message = \"ping?\"\nping_every = \"100ms\"";
    let gateway = gateway(&both_ways(&remote.url(), settings));
    let mut client = client(&gateway, "/");
    client.send_text("queued");
    passed_on(&mut client);
    remote.come();
    for round in 0..3 {
        let mut linked = remote.accept();
        assert_eq!([linked.text(), linked.text()], ["login", "subscribe"]);
        if round == 0 {
            assert_eq!(linked.text(), "queued");
        }
        let started = Instant::now();
        for _ in 0..3 {
            assert_eq!(linked.text(), "ping?");
        }
        assert!(started.elapsed() > Duration::from_millis(150), "{:?}", started.elapsed());
        linked.hang_up();
    }
}

#[test]
fn a_remote_that_answers_no_pings_is_cut_and_dialled_again() {
    let remote = Remote::up();
    let gateway = gateway(&link("up", &remote.url(), "heartbeat = \"1s\"\npong_timeout = \"1s\""));
    // It accepts, and then it does nothing.
    let dead = remote.accept();
    let line = gateway.wait_for_log("link up: disconnected: code 1006");
    assert!(line.contains("no sign of life after a ping"), "{line}");
    let mut alive = remote.accept();
    drop(dead);
    // This one reads, and reading answers.
    assert!(matches!(alive.0.read(), Ok(Message::Ping(_))));
    assert!(matches!(alive.0.read(), Ok(Message::Ping(_))));
    assert_eq!(gateway.wait_for_logs("link up: connected to ", 2).len(), 2);
}

// Answers to the client that asked

/// How an upstream treats the session of the client that asked.
#[derive(Clone, Copy, Debug)]
enum Listener {
    /// It answers with the `_session` that it got.
    Faithful,
    /// It is as Node-RED's listener for entire messages: it has sessions of its own, and answers without any.
    NodeRed,
}

/// Answers questions in pairs, every other pair turned round, until the link ends.
fn answer_in_pairs(mut linked: Linked, listener: Listener) {
    let mut turn = false;
    loop {
        let mut pair = Vec::new();
        while pair.len() < 2 {
            match linked.0.read() {
                Ok(Message::Text(text)) => pair.push(serde_json::from_str::<Value>(&text).unwrap()),
                Ok(_) => {}
                Err(_) => return,
            }
        }
        if turn {
            pair.reverse();
        }
        turn = !turn;
        for mut message in pair {
            if let Listener::NodeRed = listener {
                message["_session"] = json!({ "type": "websocket", "id": "fedcba9876543210" });
            }
            message["payload"] = json!(format!("re: {}", message["payload"].as_str().unwrap()));
            if let Listener::NodeRed = listener {
                message.as_object_mut().unwrap().remove("_session");
            }
            linked.send(message.to_string());
        }
    }
}

#[test]
fn two_clients_that_ask_at_once_through_a_link_each_get_their_own_answers() {
    const QUESTIONS: usize = 1000;
    for listener in [Listener::Faithful, Listener::NodeRed] {
        let remote = Remote::up();
        let endpoint = "[[endpoint]]\npath = \"/ask\"\nformat = \"message\"\nto = [\"link:flow\"]\n";
        let settings = "format = \"message\"\nto = [\"endpoint:/ask\"]";
        let gateway = gateway(&format!("{endpoint}{}", link("flow", &remote.url(), settings)));
        let linked = remote.accept();
        let answering = thread::spawn(move || answer_in_pairs(linked, listener));
        let mut clients = [client(&gateway, "/ask"), client(&gateway, "/ask")];
        for question in 0..QUESTIONS {
            for (index, client) in clients.iter_mut().enumerate() {
                client.send_text(&format!(r#"{{"payload":"{question} of {index}","topic":"t"}}"#));
            }
            for (index, client) in clients.iter_mut().enumerate() {
                let answer: Value = serde_json::from_str(&client.text()).unwrap();
                assert_eq!(answer["payload"], format!("re: {question} of {index}"), "{listener:?}: {answer}");
                assert_eq!(answer["topic"], "t");
                assert_eq!(answer.get("_wsgate"), None, "{answer}");
            }
        }
        for client in &mut clients {
            assert!(!client.has_input_within(Duration::from_millis(50)), "an answer too many");
        }
        measured("links", format!("{listener:?}: 2 clients, {QUESTIONS} questions each, no mix-up"));
        drop(gateway);
        answering.join().unwrap();
    }
}

#[test]
fn an_answer_without_a_session_follows_the_route_and_one_with_a_wrong_session_is_dropped() {
    let remote = Remote::up();
    let endpoints = "[[endpoint]]\npath = \"/ask\"\nformat = \"message\"\nto = [\"link:flow\"]\n\
                     [[endpoint]]\npath = \"/else\"\nformat = \"message\"\nto = []\n";
    let settings = "format = \"message\"\nto = [\"endpoint:/ask\"]";
    let gateway = gateway(&format!("{endpoints}{}", link("flow", &remote.url(), settings)));
    let mut linked = remote.accept();
    let (mut one, mut two, mut elsewhere) =
        (client(&gateway, "/ask"), client(&gateway, "/ask"), client(&gateway, "/else"));
    let id = gateway.id_of(&elsewhere);
    linked.send(format!(r#"{{"payload":1,"_session":{{"type":"websocket","id":"{id}"}}}}"#));
    gateway.wait_for_log("link flow: session_denied");
    let unknown = format!("000000000000{}", &id[12..]);
    linked.send(format!(r#"{{"payload":2,"_session":{{"type":"websocket","id":"{unknown}"}}}}"#));
    gateway.wait_for_log("link flow: session_unknown");
    linked.send(r#"{"payload":3}"#);
    for client in [&mut one, &mut two] {
        let got: Value = serde_json::from_str(&client.text()).unwrap();
        assert_eq!(got["payload"], 3);
    }
    assert!(!elsewhere.has_input_within(Duration::from_millis(50)));
}

// Events

/// The fields that are the same in every run.
fn without_times(mut event: Value) -> Value {
    for key in ["timestamp", "duration", "session", "retryIn"] {
        event.as_object_mut().unwrap().remove(key);
    }
    event
}

#[test]
fn clients_that_come_go_or_break_the_protocol_are_told_to_the_destinations_of_their_endpoint() {
    let remote = Remote::up();
    let endpoint = "[[endpoint]]\npath = \"/rooms/{room}\"\nformat = \"message\"\nto = [\"reply\", \"others\", \"link:log\"]\n\
                    events = [\"connect\", \"disconnect\", \"error\"]\n";
    let gateway = gateway(&format!("{endpoint}{}", link("log", &remote.url(), "")));
    let mut linked = remote.accept();
    gateway.wait_for_log("link log: connected");
    let event = |name: &str, more: Value| {
        let mut event = json!({
            "event": name, "endpoint": "/rooms/{room}", "path": "/rooms/7", "parameters": { "room": "7" },
            "clientIp": "127.0.0.1", "userAgent": "press 3"
        });
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        event
    };
    let come = || {
        let mut client = gateway.raw("plain");
        client.upgrade("/rooms/7", &["User-Agent: press 3"]);
        let id = gateway.id_of(&client);
        (client, id)
    };
    let (mut watching, _) = come();
    assert_eq!(without_times(linked.json()), event("connect", json!({})));
    let (mut client, id) = come();
    let told = linked.json();
    assert_eq!(told["session"], id);
    assert_eq!(without_times(told), event("connect", json!({})));
    // The format of the endpoint, and of the link, and the session of the client.
    let seen: Value = serde_json::from_str(&watching.text()).unwrap();
    assert_eq!(seen["payload"]["event"], "connect");
    assert_eq!(seen["_session"]["id"], id);
    client.send_text("hello");
    assert_eq!(linked.text(), "hello");
    assert!(watching.text().contains("hello"));
    assert!(client.text().contains("hello"), "its own connect is not told to it, its reply is");
    client.send(&masked(0x88, &[&1000u16.to_be_bytes()[..], b"done"].concat()));
    client.cut_off();
    let gone = linked.json();
    assert_eq!(gone["session"], id);
    assert!(gone["duration"].is_u64(), "{gone}");
    let sent = gone["bytesSent"].clone();
    assert!(sent.as_u64().unwrap() > 0);
    let counts = json!({
        "code": 1000, "reason": "done", "messagesReceived": 1, "bytesReceived": 5, "messagesSent": 1,
        "bytesSent": sent, "dropped": 0
    });
    assert_eq!(without_times(gone), event("disconnect", counts));
    assert!(watching.text().contains("disconnect"));

    // An unmasked frame breaks the protocol.
    let (mut client, _) = come();
    assert_eq!(linked.json()["event"], "connect");
    client.send(b"\x81\x01x");
    client.cut_off();
    let (error, disconnect) = (linked.json(), linked.json());
    assert_eq!([&error["event"], &error["code"]], [&json!("error"), &json!(1002)]);
    assert_eq!([&disconnect["event"], &disconnect["code"]], [&json!("disconnect"), &json!(1002)]);
    // A refused upgrade is no event.
    let mut refused = gateway.raw("plain");
    refused.send(b"GET /rooms/7 HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(refused.head().starts_with("HTTP/1.1 426 "));
    let (lost, _) = come();
    assert_eq!(linked.json()["event"], "connect");
    lost.reset();
    assert_eq!([linked.json()["event"].clone(), linked.json()["event"].clone()], ["error", "disconnect"]);
}

#[test]
fn what_becomes_of_a_link_is_told_to_its_destinations() {
    let mut remote = Remote::up();
    let url = remote.url();
    let settings = "to = [\"reply\", \"endpoint:/events/{link}\", \"endpoint:/{device}\"]\n\
                    backoff = { first = \"1ms\", most = \"1ms\", attempts = 2 }\n\
                    events = [\"connect\", \"disconnect\", \"error\"]\nsubprotocols = []";
    let endpoints = "[[endpoint]]\npath = \"/events/{link}\"\nto = []\n[[endpoint]]\npath = \"/{device}\"\nto = []\n";
    let gateway = gateway(&format!("{endpoints}{}", link("plc", &url, settings)));
    // The handshake of the link waits until somebody listens.
    let stream = remote.accept_stream();
    let mut watching = client(&gateway, "/events/plc");
    let mut linked = Linked(tungstenite::accept(stream).unwrap());
    let mut told = || without_times(serde_json::from_str(&watching.text()).unwrap());
    assert_eq!(told(), json!({ "event": "connect", "link": "plc", "url": url, "state": "up" }));
    linked.send("one");
    remote.go();
    linked.hang_up();
    let mut event = watching.text();
    if event == "one" {
        event = watching.text();
    }
    let disconnect: Value = serde_json::from_str(&event).unwrap();
    assert_eq!([&disconnect["event"], &disconnect["state"]], ["disconnect", "down"]);
    assert_eq!(disconnect["code"], 1006);
    assert_eq!(disconnect["messagesReceived"], 1);
    let lost: Value = serde_json::from_str(&watching.text()).unwrap();
    assert_eq!([&lost["event"], &lost["state"], &lost["step"]], ["error", "waiting", "connection"]);
    assert_eq!([&lost["code"], &lost["failures"]], [1006, 1]);
    assert!(lost["retryIn"].is_u64(), "{lost}");
    let refused: Value = serde_json::from_str(&watching.text()).unwrap();
    assert_eq!([&refused["event"], &refused["state"], &refused["step"]], ["error", "given up", "connect"]);
    assert!(refused["cause"].as_str().unwrap().contains("connection refused"), "{refused}");
    assert_eq!((refused.get("retryIn"), &refused["failures"]), (None, &json!(2)));
}

#[test]
fn b14_the_close_of_a_server_is_told_as_it_was_sent_beside_our_answer() {
    let remote = Remote::up();
    let settings = "to = [\"endpoint:/events\"]\nbackoff = { first = \"1ms\", most = \"1ms\" }\nevents = [\"disconnect\", \"error\"]";
    let endpoint = "[[endpoint]]\npath = \"/events\"\nto = []\n";
    let gateway = gateway(&format!("{endpoint}{}", link("plc", &remote.url(), settings)));
    let (mut linked, _) = remote.upgraded(&[]);
    let mut watching = client(&gateway, "/events");
    let mut told = || serde_json::from_str::<Value>(&watching.text()).unwrap();
    let (none, received) = (Value::Null, |code: u16, reason: &str| (json!(code), json!(reason)));
    for (sent, answer, expected) in [
        (Frame::close(1014, "b13"), Frame::close(1014, "b13"), (none.clone(), none.clone())),
        (Frame::close(1005, "none"), Frame::close(1002, "Invalid close code"), received(1005, "none")),
    ] {
        linked.send(&unmasked(0x88, &sent.payload));
        assert_eq!(linked.message(), answer);
        linked.end();
        let (event, code) = (told(), u16::from_be_bytes(*answer.payload.first_chunk().unwrap()));
        assert_eq!([&event["event"], &event["code"]], [&json!("disconnect"), &json!(code)]);
        assert_eq!((event["receivedCode"].clone(), event["receivedReason"].clone()), expected);
        linked = remote.upgraded(&[]).0;
    }
    assert_eq!(told()["event"], "error");
    gateway.wait_for_log(
        "link plc: disconnected: code 1002, reason 'Invalid close code', received code 1005, reason 'none'",
    );
}

#[test]
fn events_that_find_no_room_are_dropped_and_hold_nobody() {
    let mut remote = Remote::away();
    let endpoint = "[[endpoint]]\npath = \"/\"\nto = [\"link:log\"]\nevents = [\"connect\", \"disconnect\"]\n";
    for when_full in ["drop_newest", "block"] {
        let queue = format!("queue = {{ messages = 4, when_full = \"{when_full}\" }}");
        let gateway = gateway(&format!("{endpoint}{}", link("log", &remote.url(), &queue)));
        let mut clients: Vec<_> = (0..5).map(|_| client(&gateway, "/")).collect();
        gateway.wait_for_log("endpoint '/': a destination has no room for an event");
        // Half of the queue is left to messages.
        clients[0].send_text("one");
        clients[0].send_text("two");
        for client in &mut clients {
            client.send(&masked(0x88, &1000u16.to_be_bytes()));
            client.cut_off();
        }
        gateway.wait_for_logs(": disconnected from ", 5);
        remote.come();
        let mut linked = remote.accept();
        let got: Vec<_> = (0..4).map(|_| linked.text()).collect();
        assert!(got[..2].iter().all(|text| text.contains(r#""event":"connect""#)), "{got:?}");
        assert_eq!(got[2..], ["one", "two"]);
        assert!(linked.is_quiet_for(Duration::from_millis(100)));
        assert_eq!(gateway.wait_for_logs("has no room for an event", 1).len(), 1);
        remote.go();
    }
}
