//! Links: what passes through them, what waits while they are down, how they come back, and what is told of it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tungstenite::Message;
use tungstenite::protocol::CloseFrame;

use crate::harness::{
    DEADLINE, Frame, Gateway, LISTENERS, Linked, Raw, Remote, Wire, eventually, masked, measured, pass,
};

/// A link of this name to this URL that redials at once, with more settings of its own.
fn link(name: &str, url: &str, settings: &str) -> String {
    format!(
        "[[link]]\nname = \"{name}\"\nurl = \"{url}\"\nproxy = \"off\"\n{}\n{settings}\n",
        if settings.contains("backoff") { "" } else { "backoff = { first = \"10ms\", most = \"50ms\" }" }
    )
}

/// A gateway with a plain listener, in front of these endpoints and links.
fn gateway(rest: &str) -> Gateway {
    Gateway::start(&format!("{rest}\n[[listen]]\nname = \"plain\"\naddress = \"127.0.0.1:0\"\n"))
}

/// A client of it.
fn client(gateway: &Gateway, path: &str) -> Raw {
    gateway.client(Wire::Plain, path)
}

/// An endpoint and a link that lead to each other.
fn both_ways(url: &str, settings: &str) -> String {
    let endpoint = "[[endpoint]]\npath = \"/\"\nto = [\"link:up\"]\n";
    format!("{endpoint}{}", link("up", url, &format!("to = [\"endpoint:/\"]\n{settings}")))
}

/// The same, and that a sender is held is in the log within a second or two.
fn held_soon(url: &str, settings: &str) -> String {
    both_ways(url, settings).replacen("to = [", "heartbeat = \"1s\"\nto = [", 1)
}

/// Waits until all that this client has sent is passed on: a ping is answered before the messages that one
/// read brought with it go on, so the second answer says that they have.
fn passed_on(client: &mut Raw) {
    for _ in 0..2 {
        client.send(&masked(0x89, b"?"));
        assert_eq!(client.message().first, 0x8a);
    }
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
    gateway.wait_for_log("link plc: of its messages, session_unknown dropped 0, session_denied 0 and unroutable 2");
}

// Down and up again

#[test]
fn while_a_link_is_down_its_queue_does_what_its_policy_says() {
    for (when_full, expected) in [("drop_oldest", [6, 7, 8, 9]), ("drop_newest", [0, 1, 2, 3])] {
        let mut remote = Remote::away();
        let queue = format!("queue = {{ messages = 4, when_full = \"{when_full}\" }}");
        let gateway = gateway(&format!(
            "[[endpoint]]\npath = \"/\"\nto = [\"link:up\", \"reply\"]\n{}",
            link("up", &remote.url(), &queue)
        ));
        let mut client = client(&gateway, "/");
        for number in 0..10 {
            client.send_text(&number.to_string());
            // A link that is down holds nobody: the client is answered.
            assert_eq!(client.text(), number.to_string());
        }
        gateway.wait_for_log("link up: it is down and its queue is full");
        passed_on(&mut client);
        remote.come();
        let mut linked = remote.accept();
        for number in expected {
            assert_eq!(linked.text(), number.to_string());
        }
        gateway.wait_for_log("link up: while it was down 6 messages were dropped");
        client.send_text("live");
        assert_eq!(linked.text(), "live", "{when_full}");
    }
}

#[test]
fn while_a_link_is_down_its_bounds_hold_to_the_message_however_messages_arrive() {
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
        gateway.wait_for_log("link up: while it was down 60 messages were dropped");
        client.send_text("live");
        assert_eq!(linked.text(), "live", "{when_full}");
    }
}

#[test]
fn what_stands_in_a_url_behind_its_path_is_in_no_log_line_and_no_event() {
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

#[test]
fn with_block_a_link_that_is_down_holds_its_senders_and_loses_nothing() {
    const MESSAGES: usize = 3000;
    let mut remote = Remote::away();
    let queue = "queue = { messages = 4, when_full = \"block\" }";
    let gateway = gateway(&held_soon(&remote.url(), queue));
    let held = client(&gateway, "/");
    let mut writer = held.writer();
    let long = "x".repeat(4000);
    let sender = thread::spawn({
        let long = long.clone();
        move || (0..MESSAGES).for_each(|number| writer.send_text(&format!("{number} {long}")))
    });
    gateway.wait_for_log("held by");
    // A client of its own goes on.
    let mut other = client(&gateway, "/");
    passed_on(&mut other);
    assert!(!sender.is_finished(), "12 MB have found room somewhere");
    remote.come();
    let mut linked = remote.accept();
    for number in 0..MESSAGES {
        assert_eq!(linked.text(), format!("{number} {long}"));
    }
    sender.join().unwrap();
    drop(held);
    assert!(!gateway.log().iter().any(|line| line.contains("dropped from now on")));
}

/// A number that says where in the stream of messages one stands.
fn number_of(text: &str) -> usize {
    text.split(' ').next().unwrap().parse().unwrap()
}

/// How often the upstream is killed, and the size of the messages that pass meanwhile.
const KILLS: usize = 20;
const FILLING: usize = 500;

/// One of the connections of an upstream that is killed again and again: which messages it has read, and how it ended.
struct Life {
    read: Vec<usize>,
    end: End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// With a Close, behind which everything was read.
    InOrder,
    Killed,
}

#[test]
fn an_upstream_that_is_killed_twenty_times_under_traffic_loses_only_what_was_in_its_own_socket() {
    let mut remote = Remote::up();
    let queue = "queue = { messages = 64, when_full = \"block\" }\nwrite_timeout = \"10s\"";
    let gateway = gateway(&both_ways(&remote.url(), queue));
    let mut first = Some(remote.accept());
    gateway.wait_for_log("link up: connected to ");
    let before = (gateway.threads(), gateway.descriptors());
    let mut client = client(&gateway, "/");
    let is_over = AtomicBool::new(false);
    let (lives, echoed) = thread::scope(|scope| {
        let writer = client.writer();
        let sender = scope.spawn(|| send_numbers_until(&is_over, writer));
        let echoes = scope.spawn(|| numbers_up_to_the_last(|| client.text()));
        let mut lives: Vec<Life> = (0..KILLS)
            .map(|kill| {
                let linked = first.take().unwrap_or_else(|| remote.accept());
                let end = if kill % 2 == 0 { End::InOrder } else { End::Killed };
                live_once(&gateway, &mut remote, linked, end)
            })
            .collect();
        let mut linked = remote.accept();
        is_over.store(true, Ordering::Relaxed);
        let read = numbers_up_to_the_last(|| echo(&mut linked));
        assert_eq!(read.last(), Some(&sender.join().unwrap()));
        lives.push(Life { read, end: End::InOrder });
        let echoed = echoes.join().unwrap();
        assert!(linked.is_quiet_for(Duration::from_millis(50)));
        (lives, echoed)
    });
    let gaps = gaps_after_kills(&lives);
    // Answers pass in order too.
    assert!(echoed.is_sorted_by(|a, b| a < b));
    let read: usize = lives.iter().map(|life| life.read.len()).sum();
    let sent = lives.last().unwrap().read.last().unwrap() + 1;
    measured("links", format!("{KILLS} kills, {sent} sent, {read} read, lost in the killed sockets: {gaps:?}"));
    assert!(gaps.len() <= KILLS / 2);
    // What a socket of loopback holds, both its ends together.
    assert!(gaps.iter().all(|gap| gap * FILLING < 8 << 20), "{gaps:?}");
    assert_eq!(gateway.wait_for_logs("link up: connected to ", KILLS + 1).len(), KILLS + 1);
    drop(client);
    let same = || (gateway.threads(), gateway.descriptors()) == before;
    eventually("threads and descriptors as before", DEADLINE, same);
}

/// Sends numbered messages, the last one as such once it is over; returns its number.
fn send_numbers_until(is_over: &AtomicBool, mut writer: Raw) -> usize {
    let filling = "x".repeat(FILLING);
    let mut number = 0;
    while !is_over.load(Ordering::Relaxed) {
        writer.send_text(&format!("{number} {filling}"));
        number += 1;
    }
    writer.send_text(&format!("{number} last"));
    number
}

/// The numbers of all texts up to the last one.
fn numbers_up_to_the_last(mut next: impl FnMut() -> String) -> Vec<usize> {
    let mut numbers = Vec::new();
    loop {
        let text = next();
        numbers.push(number_of(&text));
        if text.ends_with("last") {
            return numbers;
        }
    }
}

/// Sends the next text back.
fn echo(linked: &mut Linked) -> String {
    let text = linked.text();
    linked.send(text.clone());
    text
}

/// An upstream that echoes 150 messages and ends. It is away until the link has failed to connect, and then listens again.
fn live_once(gateway: &Gateway, remote: &mut Remote, mut linked: Linked, end: End) -> Life {
    let mut read: Vec<usize> = (0..150).map(|_| number_of(&echo(&mut linked))).collect();
    remote.go();
    match end {
        End::Killed => linked.reset(),
        End::InOrder => {
            // It says that it goes, and reads what still comes until the link has said the same.
            linked.0.close(Some(CloseFrame { code: 1012.into(), reason: "".into() })).unwrap();
            while let Ok(message) = linked.0.read() {
                if let Message::Text(text) = message {
                    read.push(number_of(&text));
                }
            }
        }
    }
    // Some traffic while nobody is there.
    let failures = gateway.log().iter().filter(|line| line.contains("dialling again")).count();
    gateway.wait_for_logs("dialling again", failures + 1);
    remote.come();
    Life { read, end }
}

/// How many messages are missing at each place where some are, which may be only where the connection before was killed.
fn gaps_after_kills(lives: &[Life]) -> Vec<usize> {
    let (mut next, mut gaps) = (0, Vec::new());
    for (index, life) in lives.iter().enumerate() {
        for (at, number) in life.read.iter().enumerate() {
            if *number != next {
                let follows_a_kill = at == 0 && index > 0 && lives[index - 1].end == End::Killed;
                assert!(follows_a_kill && *number > next, "life {index}, message {at}: {number} where {next} was due");
                gaps.push(number - next);
            }
            next = number + 1;
        }
    }
    gaps
}

#[test]
fn attempts_follow_the_backoff_and_their_number_ends_them() {
    let remote = Remote::away();
    let backoff = "backoff = { first = \"8ms\", most = \"64ms\", attempts = 12 }";
    let gateway = gateway(&link("up", &remote.url(), backoff));
    gateway.wait_for_log("link up: failed to connect");
    let given_up = gateway.wait_for_log("given up after 12 attempts, as `attempts` says");
    assert!(given_up.contains("link up: failed to connect") && given_up.contains("connection refused"), "{given_up}");
    let waits: Vec<u64> = gateway
        .log()
        .iter()
        .filter_map(|line| line.split("dialling again in ").nth(1))
        .map(|wait| wait.trim_end_matches("ms").trim_end_matches('s').parse().unwrap())
        .collect();
    assert_eq!(waits.len(), 11);
    for (index, wait) in waits.iter().enumerate() {
        assert!(*wait <= (8 << index.min(3)), "{waits:?}");
    }
    assert!(waits[3..].iter().any(|wait| *wait > 8), "{waits:?}");
    assert!(!gateway.log().iter().any(|line| line.contains("after 13")));
}

#[test]
fn a_server_that_throws_everybody_out_is_given_up_and_one_that_was_up_for_long_is_not() {
    let mut remote = Remote::up();
    let url = remote.url();
    let backoff =
        |reset| format!("backoff = {{ first = \"1ms\", most = \"1ms\", reset_after = \"{reset}\", attempts = 2 }}");
    let impatient = gateway(&link("up", &url, &backoff("30s")));
    for _ in 0..2 {
        let mut linked = remote.accept();
        linked.0.close(Some(CloseFrame { code: 1008.into(), reason: "who are you?".into() })).unwrap();
        linked.closed();
    }
    let line = impatient.wait_for_log("given up after 2 attempts");
    assert!(line.contains("the connection ended with code 1008 ('who are you?')"), "{line}");
    drop(impatient);

    let patient = gateway(&link("up", &url, &backoff("1ms")));
    for connection in 1..=5 {
        let linked = remote.accept();
        patient.wait_for_logs("link up: connected to ", connection);
        // Longer than the time after which it has not failed.
        pass(Duration::from_millis(5));
        if connection == 5 {
            remote.go();
        }
        linked.hang_up();
    }
    patient.wait_for_log("given up after 2 attempts");
    assert_eq!(patient.wait_for_logs("the connection ended with code 1006", 5).len(), 5);
}

// What a link says by itself

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
    // It accepts, and then it is as dead.
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

// Answers that find back

/// How an upstream treats the name of whoever asked.
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
fn an_answer_without_a_session_goes_by_the_route_and_one_for_nobody_to_nobody() {
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
    linked.send(r#"{"payload":2,"_session":{"type":"websocket","id":"0123456789abcdef"}}"#);
    gateway.wait_for_log("link flow: session_unknown");
    linked.send(r#"{"payload":3}"#);
    for client in [&mut one, &mut two] {
        let got: Value = serde_json::from_str(&client.text()).unwrap();
        assert_eq!(got["payload"], 3);
    }
    assert!(!elsewhere.has_input_within(Duration::from_millis(50)));
}

// Servers that are none

/// Answers whatever comes with these bytes, and keeps the connection until the other side has gone.
fn server_that_says(answer: Vec<u8>) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, answer) = (stream.unwrap(), answer.clone());
            thread::spawn(move || {
                stream.set_read_timeout(Some(DEADLINE)).unwrap();
                let mut request = [0; 4096];
                let _ = stream.read(&mut request);
                let _ = stream.write_all(&answer);
                while matches!(stream.read(&mut request), Ok(1..)) {}
            });
        }
    });
    format!("ws://{address}/")
}

#[test]
fn s8_each_server_that_is_none_is_one_clear_line_and_the_gateway_stays_well() {
    let secure = Gateway::start(&format!("[[endpoint]]\npath = \"/\"\nto = [\"reply\"]\n{LISTENERS}"));
    let (ca, wss) = (secure.file("ca.pem"), format!("wss://localhost:{}/", secure.port("tls")));
    let says = |answer: &str| server_that_says(answer.as_bytes().to_vec());
    let unauthorized =
        "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nContent-Length: 13\r\n\r\nwrong\u{1b} secret";
    let redirect = "HTTP/1.1 302 Found\r\nLocation: ws://elsewhere.example/x\r\nContent-Length: 0\r\n\r\n";
    let empty = |status: &str| says(&format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"));
    let (proxy, away) = (empty("403 Forbidden"), Remote::away());
    let bad = [
        ("silent", says(""), "connect_timeout = \"300ms\"".to_owned(), &["300ms"][..]),
        ("locked", says(unauthorized), String::new(), &["401 Unauthorized", "wrong\\u{1b} secret"]),
        ("missing", empty("404 Not Found"), String::new(), &["404 Not Found"]),
        ("busy", empty("503 Service Unavailable"), String::new(), &["503 Service Unavailable"]),
        ("moved", says(redirect), String::new(), &["302 Found", "ws://elsewhere.example/x"]),
        ("garbage", says("SSH-2.0-OpenSSH_9.2\r\n\r\n"), String::new(), &[]),
        ("refused", away.url(), String::new(), &["connection refused"]),
        (
            "wrong-name",
            wss.clone(),
            format!("tls = {{ ca = {ca:?}, server_name = \"other.example\" }}"),
            &["other.example", "`server_name`"],
        ),
        ("untrusted", wss.clone(), String::new(), &["not trusted", "`ca`"]),
        ("nameless", "ws://nowhere.invalid/".to_owned(), "connect_timeout = \"2s\"".to_owned(), &["nowhere.invalid"]),
        ("fenced", away.url(), format!("proxy = {:?}", proxy.replace("ws:", "http:").trim_end_matches('/')), &["403"]),
    ];
    let mut config = "[[endpoint]]\npath = \"/\"\nto = [\"reply\"]\n".to_owned();
    for (name, url, settings, _) in &bad {
        let once = format!("backoff = {{ attempts = 1 }}\n{settings}");
        let table = link(name, url, &once);
        config += &if settings.contains("proxy") { table.replace("proxy = \"off\"\n", "") } else { table };
    }
    let gateway = gateway(&config);
    for (name, _, _, words) in &bad {
        let line = gateway.wait_for_log(&format!("link {name}: "));
        for word in words.iter().chain(&["failed to ", "given up after 1 attempt, as `attempts` says"]) {
            assert!(line.contains(word), "'{word}' is missing in {line}");
        }
    }
    let mut client = client(&gateway, "/");
    client.send_text("well?");
    assert_eq!(client.text(), "well?");
    let lines = gateway.log().iter().filter(|line| line.contains(" link ")).count();
    assert_eq!(lines, bad.len());
    measured("S8", format!("{} servers that are none, {lines} lines", bad.len()));
}

#[test]
fn a_link_to_a_server_whose_certificate_is_not_checked_says_so_at_the_start() {
    let secure = Gateway::start(&format!("[[endpoint]]\npath = \"/\"\nto = [\"reply\"]\n{LISTENERS}"));
    let url = format!("wss://localhost:{}/", secure.port("tls"));
    let gateway = gateway(&both_ways(&url, "tls = { verify = false }"));
    gateway.wait_for_log("link up: the certificate of 'localhost' is not checked");
    gateway.wait_for_log("link up: connected to ");
    let mut client = client(&gateway, "/");
    client.send_text("on");
    assert_eq!(client.text(), "on");
}

#[test]
fn s9_a_hostile_upstream_ends_its_link_alone() {
    let frames: [(&[u8], u16); 6] = [
        // Masked, which only clients may do.
        (b"\x81\x82\x01\x02\x03\x04ab", 1002),
        // A message of 2^63 bytes.
        (b"\x82\x7f\x80\x00\x00\x00\x00\x00\x00\x00", 1009),
        // A message of 1 TiB.
        (b"\x82\x7f\x00\x00\x01\x00\x00\x00\x00\x00", 1009),
        // A reserved bit.
        (b"\xc1\x01a", 1002),
        // No UTF-8.
        (b"\x81\x01\xff", 1007),
        // A fragmented ping.
        (b"\x09\x00", 1002),
    ];
    let remote = Remote::up();
    let gateway = gateway(&format!(
        "[[endpoint]]\npath = \"/echo\"\nto = [\"reply\"]\n{}",
        both_ways(&remote.url(), "backoff = { first = \"1ms\", most = \"1ms\" }")
    ));
    let (mut echo, mut listening) = (client(&gateway, "/echo"), client(&gateway, "/"));
    for (bytes, code) in frames {
        let mut linked = remote.accept();
        linked.send("before");
        assert_eq!(listening.text(), "before");
        linked.0.get_mut().write_all(bytes).unwrap();
        let close = linked.closed().unwrap();
        assert_eq!(u16::from(close.code), code, "{bytes:x?}");
        linked.hang_up();
        echo.send_text("well?");
        assert_eq!(echo.text(), "well?");
    }
    // A head without an end.
    let mut endless = remote.accept_stream();
    while endless.write_all(&[b'x'; 16 << 10]).is_ok() {}
    gateway.wait_for_log("link up: failed to ");
    let mut linked = remote.accept();
    linked.send("after");
    assert_eq!(listening.text(), "after");
    measured("S9", format!("{} ways to break the protocol, each ended with its code", frames.len()));
}

#[test]
fn d9_an_upstream_that_flaps_is_not_dialled_faster_than_its_backoff() {
    let remote = Remote::up();
    let gateway = gateway(&both_ways(&remote.url(), "backoff = { first = \"100ms\", most = \"400ms\" }"));
    let descriptors = gateway.descriptors();
    let started = Instant::now();
    let mut connections = 0;
    while started.elapsed() < Duration::from_secs(5) {
        remote.accept().reset();
        connections += 1;
    }
    // Without a backoff there were thousands; the waits are random and half of their ceiling on average.
    let ended = gateway.wait_for_logs("link up: disconnected: code 1006", connections);
    let waited: u64 = gateway
        .log()
        .iter()
        .filter_map(|line| line.split("dialling again in ").nth(1))
        .map(|wait| wait.strip_suffix("ms").map_or(0, |wait| wait.parse::<u64>().unwrap()))
        .take(connections - 1)
        .sum();
    assert!(started.elapsed() >= Duration::from_millis(waited), "it did not wait {waited} ms");
    assert!((5..100).contains(&ended.len()), "{} connections", ended.len());
    eventually("no descriptor is left", DEADLINE, || gateway.descriptors() <= descriptors + 1);
    measured("D9", format!("{} connections in 5 s, waits of {waited} ms in all", ended.len()));
}

#[test]
fn d14_an_upstream_that_stops_reading_is_cut_and_nothing_that_waited_is_lost() {
    const MESSAGES: usize = 1500;
    let remote = Remote::up();
    let settings = "write_timeout = \"1s\"\nheartbeat = \"off\"\nqueue = { messages = 64, when_full = \"block\" }";
    let gateway = gateway(&both_ways(&remote.url(), settings));
    let frozen = remote.accept();
    let client = client(&gateway, "/");
    let before = gateway.memory_kib();
    let filling = "x".repeat(20_000);
    let mut writer = client.writer();
    let sender = thread::spawn({
        let filling = filling.clone();
        move || (0..MESSAGES).for_each(|number| writer.send_text(&format!("{number} {filling}")))
    });
    gateway.wait_for_log("link up: disconnected: code 1006");
    let grown = gateway.memory_kib().saturating_sub(before);
    assert!(grown < 16 << 10, "{grown} KiB");
    let mut linked = remote.accept();
    // What the frozen one has in its socket is read only now.
    let mut read = Vec::new();
    let mut frozen = frozen;
    while let Ok(message) = frozen.0.read() {
        if let Message::Text(text) = message {
            read.push(number_of(&text));
        }
    }
    while read.last() != Some(&(MESSAGES - 1)) {
        read.push(number_of(&linked.text()));
    }
    sender.join().unwrap();
    // A message of which only a part had been taken is sent again whole, and none twice.
    let lost = MESSAGES - read.len();
    assert!(read.is_sorted_by(|a, b| a < b));
    // The frozen one's own side is read here, so what is missing was in the link's side of the socket alone.
    assert!(lost * filling.len() < 1 << 20, "{lost} messages are more than the send buffer holds");
    measured("D14", format!("{grown} KiB grown, {lost} of {MESSAGES} lost in the cut socket"));
}

// The stop

#[test]
fn at_a_stop_a_link_that_is_up_sends_what_waits_and_says_goodbye() {
    const MESSAGES: usize = 200;
    let remote = Remote::up();
    let mut gateway = gateway(&both_ways(&remote.url(), "queue = { messages = 64 }"));
    let mut linked = remote.accept();
    let mut client = client(&gateway, "/");
    let filling = "x".repeat(20_000);
    // More than fits into its socket: the rest waits in the link's queue and in its outbox.
    let mut writer = client.writer();
    (0..MESSAGES).for_each(|number| writer.send_text(&format!("{number} {filling}")));
    gateway.signal(Signal::TERM);
    gateway.wait_for_log("stopping: closing 1 clients");
    let reading = thread::spawn(move || {
        let mut numbers = Vec::new();
        loop {
            match linked.message() {
                Message::Text(text) => numbers.push(number_of(&text)),
                Message::Close(close) => return (numbers, close, linked),
                other => panic!("{other:?}"),
            }
        }
    });
    client.closed_with(1001, "Server shutting down");
    let (numbers, close, mut linked) = reading.join().unwrap();
    while linked.0.read().is_ok() {}
    assert_eq!(close, Some(CloseFrame { code: 1001.into(), reason: "Going away".into() }));
    // Whatever had been handed to the link came, in order and without a gap. What the client's own thread found
    // behind our Close was handed to nobody.
    assert_eq!(numbers, (0..numbers.len()).collect::<Vec<_>>());
    assert!(gateway.wait().success());
    let log = gateway.whole_log();
    let says = |text: String| log.iter().any(|line| line.contains(&text));
    assert!(says(format!(" received, {} messages (", numbers.len())), "{log:#?}");
    assert!(!says("lost".to_owned()) && !says("dropped from now on".to_owned()), "{log:#?}");
}

#[test]
fn at_a_stop_a_link_that_is_down_holds_nobody_up_and_says_what_is_lost() {
    for (when_full, messages) in [("drop_oldest", 3), ("block", 3)] {
        let remote = Remote::away();
        let settings = format!(
            "queue = {{ messages = 4, when_full = \"{when_full}\" }}\nbackoff = {{ first = \"60s\", most = \"60s\" }}"
        );
        let mut gateway = gateway(&both_ways(&remote.url(), &settings));
        gateway.wait_for_log("dialling again in");
        let mut client = client(&gateway, "/");
        (0..messages).for_each(|number| client.send_text(&number.to_string()));
        passed_on(&mut client);
        let started = Instant::now();
        gateway.signal(Signal::TERM);
        client.closed_with(1001, "Server shutting down");
        assert!(gateway.wait().success());
        assert!(started.elapsed() < DEADLINE / 2, "{when_full}: {:?}", started.elapsed());
        let log = gateway.whole_log();
        assert!(
            log.iter().any(|line| line.contains("link up: 3 messages were still waiting for it and are lost")),
            "{log:#?}"
        );
    }
}

#[test]
fn at_a_stop_a_remote_that_reads_nothing_is_waited_for_no_longer_than_the_drain() {
    let remote = Remote::up();
    let config = held_soon(&remote.url(), "write_timeout = \"off\"\nheartbeat = \"off\"");
    let mut gateway = gateway(&format!("[gateway]\ndrain_timeout = \"1s\"\nclose_timeout = \"1s\"\n{config}"));
    let _frozen = remote.accept();
    let client = client(&gateway, "/");
    let mut writer = client.writer();
    let filling = "x".repeat(20_000);
    let sender = thread::spawn(move || while writer.try_send(&masked(0x81, filling.as_bytes())).is_ok() {});
    gateway.wait_for_log("held by link up");
    let started = Instant::now();
    gateway.signal(Signal::TERM);
    assert!(gateway.wait().success());
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
    drop(client);
    sender.join().unwrap();
    assert!(gateway.whole_log().iter().any(|line| line.contains("still waiting for it and are lost")));
}

#[test]
fn at_a_stop_a_client_that_reads_nothing_takes_the_goodbye_from_no_link() {
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
fn a_client_is_told_of_the_others_in_its_room_and_not_of_itself() {
    let endpoint = "[[endpoint]]\npath = \"/\"\nto = [\"broadcast\"]\nevents = [\"connect\", \"disconnect\"]\n";
    let gateway = Gateway::start(&format!("{endpoint}{LISTENERS}"));
    let mut first = client(&gateway, "/");
    let mut second = client(&gateway, "/");
    assert!(first.text().contains("\"event\":\"connect\""));
    second.send_text("hello");
    assert_eq!(second.text(), "hello");
    assert_eq!(first.text(), "hello");
    second.reset();
    assert!(first.text().contains("\"event\":\"disconnect\""));
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
