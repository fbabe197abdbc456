//! Links that are down: what waits meanwhile, how they connect again, and servers that refuse or break a connection.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tungstenite::Message;
use tungstenite::protocol::CloseFrame;

use crate::harness::{DEADLINE, Gateway, LISTENERS, Linked, Raw, Remote, eventually, measured, pass};
use crate::links::{both_ways, client, gateway, held_soon, link, number_of, passed_on};

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
            // A link that is down holds no client: this one is answered.
            assert_eq!(client.text(), number.to_string());
        }
        gateway.wait_for_log("link up: it is down and its queue is full");
        passed_on(&mut client);
        remote.come();
        let mut linked = remote.accept();
        for number in expected {
            assert_eq!(linked.text(), number.to_string());
        }
        gateway.wait_for_log("link up: while it was down, 6 messages were dropped");
        client.send_text("live");
        assert_eq!(linked.text(), "live", "{when_full}");
    }
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

/// An upstream that echoes 150 messages and ends. It is away until the link has failed to connect, and then listens
/// again.
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
    // Some traffic while the upstream is away.
    let failures = gateway.log().iter().filter(|line| line.contains("dialling again")).count();
    gateway.wait_for_logs("dialling again", failures + 1);
    remote.come();
    Life { read, end }
}

/// How many messages are missing at each place where some are, which may be only where the connection before was
/// killed.
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
fn a_server_that_closes_every_connection_is_given_up_and_one_that_was_up_for_long_is_not() {
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

// Servers that do not speak WebSocket, or break it

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
fn s8_each_server_that_does_not_speak_websocket_is_one_clear_line_of_the_log() {
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
    measured("S8", format!("{} servers that do not speak WebSocket, {lines} lines", bad.len()));
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
        // A length whose highest bit is set.
        (b"\x82\x7f\x80\x00\x00\x00\x00\x00\x00\x00", 1002),
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
