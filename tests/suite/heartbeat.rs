//! The heartbeat from outside: which clients are pinged, which are disconnected and when, and which are not.
//!
//! Deadlines are counted in ticks of half a second, and one begun tick more. "At most two
//! intervals" of a second are at most 2.5 s then, and these tests grant a busy machine twice that.

use std::time::{Duration, Instant};

use crate::harness::{Frame, Gateway, LISTENERS, Raw, Wire, masked, measured};

const CONFIG: &str = r#"
[[endpoint]]
path = "/"
to = ["reply"]
heartbeat = "1s"
pong_timeout = "1s"

[[endpoint]]
path = "/patient"
to = ["reply"]
heartbeat = "1s"
pong_timeout = "1h"

[[endpoint]]
path = "/off"
to = ["reply"]
heartbeat = "off"

[[endpoint]]
path = "/message"
to = ["reply"]
heartbeat = "off"
message_timeout = "1s"

[[endpoint]]
path = "/write"
to = ["broadcast"]
heartbeat = "off"
write_timeout = "1s"

[[endpoint]]
path = "/write/off"
to = ["broadcast"]
heartbeat = "off"
write_timeout = "off"
"#;

/// What a deadline of one second may take at most.
const LATEST: Duration = Duration::from_secs(5);

fn gateway() -> Gateway {
    Gateway::start(&format!("{LISTENERS}{CONFIG}"))
}

#[test]
fn a_quiet_client_is_pinged_and_stays_as_long_as_it_answers() {
    let gateway = gateway();
    let mut clients = Wire::BOTH.map(|wire| gateway.client(wire, "/"));
    for _ in 0..3 {
        clients.iter_mut().for_each(Raw::pinged);
    }
    for client in &mut clients {
        client.send_text("still here");
        assert_eq!(client.text(), "still here");
    }
}

#[test]
fn f11_a_client_that_never_answers_is_cut_after_two_intervals() {
    const CLIENTS: usize = 20;
    let gateway = gateway();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let client = gateway.client(Wire::BOTH[number % 2], "/");
            (gateway.id_of(&client), client, Instant::now())
        })
        .collect();
    let mut latest = Duration::ZERO;
    for (id, mut client, begin) in clients {
        assert_eq!(client.frame(), Frame { first: 0x89, payload: Vec::new() });
        client.cut_off();
        let took = begin.elapsed();
        assert!(took < LATEST, "{took:?}");
        latest = latest.max(took);
        let line = gateway.wait_for_log(&format!("client {id}: disconnected"));
        assert!(line.contains("code 1006, reason 'no sign of life after a ping'"), "{line}");
    }
    measured("F11", format!("{CLIENTS} of {CLIENTS} mute clients cut, the last after {latest:.1?} of 2 s"));
}

#[test]
fn any_bytes_from_a_client_are_a_sign_of_life() {
    let gateway = gateway();
    let mut by_text = gateway.client(Wire::Plain, "/");
    let mut by_bytes = gateway.client(Wire::Tls, "/");
    let mut by_unasked_pong = gateway.client(Wire::Tls, "/");
    // One long message, a byte after each ping; none of the three ever answers one.
    let slow = masked(0x81, b"a byte at a time");
    let mut rest = slow.iter();
    for _ in 0..3 {
        for client in [&mut by_text, &mut by_bytes, &mut by_unasked_pong] {
            assert_eq!(client.frame().first, 0x89);
        }
        by_text.send_text("here");
        assert_eq!(by_text.frame(), Frame::text("here"));
        by_bytes.send(&[*rest.next().unwrap()]);
        by_unasked_pong.send(&masked(0x8a, b"of another ping"));
    }
    by_bytes.send(rest.as_slice());
    assert_eq!(by_bytes.message(), Frame::text("a byte at a time"));
}

#[test]
fn a_patient_pong_timeout_delays_no_ping_and_off_never_pings() {
    let gateway = gateway();
    let mut off = gateway.client(Wire::Plain, "/off");
    let mut patient = gateway.client(Wire::Plain, "/patient");
    let begin = Instant::now();
    (0..3).for_each(|_| patient.pinged());
    assert!(begin.elapsed() < 3 * LATEST, "{:?}", begin.elapsed());
    off.send_text("left alone");
    assert_eq!(off.frame(), Frame::text("left alone"));
}

#[test]
fn a_message_that_never_ends_is_closed_with_1008() {
    let gateway = gateway();
    let begin = Instant::now();
    let unfinished = [
        (Wire::Plain, masked(0x01, b"a fragment")),
        (Wire::Tls, masked(0x81, b"half a frame")[..10].to_vec()),
        (Wire::Plain, masked(0x81, b"x")[..1].to_vec()),
    ];
    let mut quiet = gateway.client(Wire::Plain, "/message");
    let mut clients: Vec<_> = unfinished
        .iter()
        .map(|(wire, bytes)| {
            let mut client = gateway.client(*wire, "/message");
            client.send(bytes);
            client
        })
        .collect();
    for client in &mut clients {
        assert_eq!(client.frame(), Frame::close(1008, "Message not complete in time"));
        assert!(begin.elapsed() < LATEST, "{:?}", begin.elapsed());
    }
    quiet.send_text("I have begun nothing");
    assert_eq!(quiet.text(), "I have begun nothing");
}

#[test]
fn pings_do_not_prolong_a_message_and_the_next_message_has_its_own_time() {
    let gateway = gateway();
    let mut busy = gateway.client(Wire::Plain, "/message");
    let mut stuck = gateway.client(Wire::Plain, "/message");
    stuck.send(&masked(0x01, b"begun"));
    let begin = Instant::now();
    busy.send(&masked(0x01, b"be"));
    let frame = loop {
        // The end of one and the beginning of the next: it is always inside a message, of which
        // none takes long.
        busy.send(&[masked(0x80, b"gun"), masked(0x01, b"be")].concat());
        assert_eq!(busy.frame(), Frame::text("begun"));
        stuck.send(&masked(0x89, b"alive"));
        let frame = stuck.frame();
        if frame.first != 0x8a {
            break frame;
        }
        assert!(begin.elapsed() < LATEST, "{:?}", begin.elapsed());
    };
    assert_eq!(frame, Frame::close(1008, "Message not complete in time"));
    busy.send(&masked(0x80, b"gun"));
    assert_eq!(busy.frame(), Frame::text("begun"));
}

#[test]
fn the_time_in_which_a_client_is_held_is_not_the_time_of_its_message() {
    let config = r#"
[[endpoint]]
path = "/held"
to = ["reply"]
heartbeat = "off"
message_timeout = "5s"
queue = { messages = 4, bytes = "1MiB", when_full = "drop_newest" }

[[endpoint]]
path = "/feed"
to = ["reply", "endpoint:/held"]
"#;
    let gateway = Gateway::start(&format!("{LISTENERS}{CONFIG}{config}"));
    let mut clock = gateway.client(Wire::Plain, "/patient");
    let mut held = gateway.narrow_client(Wire::Plain, "/held");
    let id = gateway.id_of(&held);
    let mut feed = gateway.client(Wire::Plain, "/feed");
    let mut fill = || {
        for _ in 0..60 {
            feed.send(&masked(0x82, &[b'x'; 16 << 10]));
            assert_eq!(feed.message().payload.len(), 16 << 10);
        }
    };
    fill();
    gateway.wait_for_log(&format!("client {id}: its queue is full"));
    // What the kernel finds room for after all comes out of the queue, which is filled again.
    for _ in 0..2 {
        clock.pinged();
        fill();
    }
    // The reply to the first holds its thread, with the beginning of the second already read.
    let second = masked(0x81, b"second");
    held.send(&[&masked(0x81, b"first")[..], &second[..9]].concat());
    (0..5).for_each(|_| clock.pinged());
    // Now it reads on, but the second message takes a while.
    held.widen();
    while held.message() != Frame::text("first") {}
    clock.pinged();
    held.send(&second[9..]);
    assert_eq!(held.message(), Frame::text("second"));
}

#[test]
fn a_client_that_takes_nothing_is_cut_and_off_waits_for_it() {
    const MESSAGES: usize = 100;
    let gateway = gateway();
    let endpoints = ["/write", "/write/off"];
    let mut frozen = endpoints.map(|path| gateway.narrow_client(Wire::Plain, path));
    let ids = [gateway.id_of(&frozen[0]), gateway.id_of(&frozen[1])];
    for path in endpoints {
        let mut publisher = gateway.client(Wire::Plain, path);
        for _ in 0..MESSAGES {
            publisher.send(&masked(0x82, &[b'x'; 16 << 10]));
            assert_eq!(publisher.message().payload.len(), 16 << 10);
        }
    }
    let begin = Instant::now();
    let line = gateway.wait_for_log(&format!("client {}: disconnected", ids[0]));
    assert!(begin.elapsed() < LATEST, "{:?}", begin.elapsed());
    assert!(line.contains("code 1006"), "{line}");
    // The kernel or the heartbeat, whichever looks first.
    assert!(line.contains("nothing was taken within the write timeout") || line.contains("timed out"), "{line}");
    frozen[0].cut_off();
    frozen[1].widen();
    for _ in 0..MESSAGES {
        assert_eq!(frozen[1].message().payload.len(), 16 << 10);
    }
}
