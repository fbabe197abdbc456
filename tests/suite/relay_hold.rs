//! Relays with a side that does not read, or with an upstream that is away for a while: what waits, and which side is
//! held.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{DEADLINE, Flow, Frame, Gateway, Raw, Remote, Wire, eventually, masked, measured, request};
use crate::relay::{pair, relay_to};

// Back-pressure

const PIECE: usize = 32 << 10;
const PIECES: u32 = 1500;

fn piece(number: u32) -> Vec<u8> {
    let mut piece = vec![0x55; PIECE];
    piece[..4].copy_from_slice(&number.to_be_bytes());
    piece
}

fn number_of(frame: &Frame) -> u32 {
    assert_eq!((frame.first, frame.payload.len()), (0x82, PIECE));
    u32::from_be_bytes(frame.payload[..4].try_into().unwrap())
}

/// Waits until the gateway reads nothing more from the sender, because the receiver reads nothing.
fn until_held(to_gateway: Flow, from_gateway: Flow) {
    eventually("the receiver takes nothing more", 2 * DEADLINE, || from_gateway.is_stopped());
    eventually("the sender is held", 2 * DEADLINE, || to_gateway.is_stopped());
}

#[test]
fn a_client_that_does_not_read_slows_its_upstream_and_loses_nothing() {
    let server = Remote::up();
    let gateway = relay_to(&server.url(), "", "queue = { messages = 64, bytes = \"1MiB\" }");
    for wire in Wire::BOTH {
        let (mut client, conn) = thread::scope(|scope| {
            let client = scope.spawn(|| gateway.narrow_client(wire, "/dev/7"));
            let (conn, _) = server.upgraded(&[]);
            (client.join().unwrap(), conn)
        });
        let (to_gateway, from_gateway) = (conn.outgoing(), client.incoming());
        let before = gateway.memory_kib();
        let sent = AtomicU32::new(0);
        thread::scope(|scope| {
            let sender = scope.spawn(|| {
                let mut conn = conn;
                conn.socket().set_write_timeout(Some(3 * DEADLINE)).unwrap();
                for number in 0..PIECES {
                    conn.send_frame(0x82, &piece(number));
                    sent.fetch_add(1, Ordering::Relaxed);
                }
                conn
            });
            until_held(to_gateway, from_gateway);
            let held_at = sent.load(Ordering::Relaxed);
            let grown = gateway.memory_kib().saturating_sub(before);
            assert!(held_at < PIECES, "nothing held the upstream");
            assert!(grown < 8 << 10, "+{grown} KiB");
            measured(
                "relay",
                format!(
                    "{wire:?} client that does not read: upstream held after {held_at} of {PIECES} x {PIECE} B, +{grown} KiB"
                ),
            );
            client.widen();
            for number in 0..PIECES {
                assert_eq!(number_of(&client.message()), number);
            }
            drop(sender.join().unwrap());
        });
    }
}

#[test]
fn an_upstream_that_does_not_read_slows_its_client_and_loses_nothing() {
    let server = Remote::up();
    let gateway = relay_to(&server.url(), "", "queue = { messages = 64, bytes = \"1MiB\" }");
    for wire in Wire::BOTH {
        let (mut client, mut conn) = pair(&gateway, &server, wire);
        let (to_gateway, from_gateway) = (client.outgoing(), conn.incoming());
        let before = gateway.memory_kib();
        let sent = AtomicU32::new(0);
        thread::scope(|scope| {
            let sender = scope.spawn(|| {
                client.socket().set_write_timeout(Some(3 * DEADLINE)).unwrap();
                for number in 0..PIECES {
                    client.send(&masked(0x82, &piece(number)));
                    sent.fetch_add(1, Ordering::Relaxed);
                }
                client
            });
            until_held(to_gateway, from_gateway);
            let held_at = sent.load(Ordering::Relaxed);
            let grown = gateway.memory_kib().saturating_sub(before);
            assert!(held_at < PIECES, "nothing held the client");
            assert!(grown < 8 << 10, "+{grown} KiB");
            measured(
                "relay",
                format!(
                    "{wire:?} client of an upstream that does not read: held after {held_at} of {PIECES} x {PIECE} B, +{grown} KiB"
                ),
            );
            for number in 0..PIECES {
                assert_eq!(number_of(&conn.message()), number);
            }
            drop(sender.join().unwrap());
        });
    }
}

/// A client that is held by an upstream that does not read, however much its sending half sends.
fn held(gateway: &Gateway, server: &Remote) -> (Raw, Raw, thread::JoinHandle<()>) {
    let (client, conn) = pair(gateway, server, Wire::Plain);
    let mut writer = client.writer();
    let sender = thread::spawn(move || while writer.try_send(&masked(0x82, &piece(0))).is_ok() {});
    until_held(client.outgoing(), conn.incoming());
    (client, conn, sender)
}

#[test]
fn a_client_that_is_lost_while_its_upstream_holds_it_takes_both_with_it() {
    let server = Remote::up();
    let queue = "queue = { messages = 64, bytes = \"1MiB\" }\nwrite_timeout = \"off\"\nheartbeat = \"off\"";
    let gateway = relay_to(&server.url(), "", queue);
    let threads = gateway.threads();
    let (client, mut conn, sender) = held(&gateway, &server);
    client.socket().shutdown(std::net::Shutdown::Both).unwrap();
    sender.join().unwrap();
    client.reset();
    // The client's thread does not read, so only this write can find out.
    conn.send_frame(0x81, b"are you there?");
    conn.send_frame(0x81, b"are you?");
    eventually("its threads are back", DEADLINE, || gateway.threads() <= threads);
}

#[test]
fn a_stop_ends_a_client_that_its_upstream_holds() {
    let server = Remote::up();
    let mut gateway =
        relay_to(&server.url(), "", "queue = { messages = 64, bytes = \"1MiB\" }\nwrite_timeout = \"off\"");
    let (_client, _conn, _sender) = held(&gateway, &server);
    let begun = Instant::now();
    assert!(gateway.terminate().success());
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(6), "{took:?}");
    measured("relay", format!("a stop with a held client took {took:.1?}"));
}

// Holding the client

#[test]
fn a_client_stays_while_its_upstream_restarts() {
    let mut server = Remote::up();
    let gateway = relay_to(&server.url(), "hold = \"8s\"", "");
    for wire in Wire::BOTH {
        let (mut client, mut conn) = pair(&gateway, &server, wire);
        client.send_text("before");
        assert_eq!(conn.message(), Frame::text("before"));
        conn.send_frame(0x81, b"also before");
        assert_eq!(client.text(), "also before");
        for round in 0..3 {
            server.go();
            if round == 1 {
                // It says so, in order.
                conn.send_frame(0x88, &1012u16.to_be_bytes());
                assert_eq!(conn.message(), Frame::close(1012, ""));
            }
            conn.reset();
            gateway.wait_for_log("it is kept for at most 8s");
            gateway.wait_for_log("the upstream is gone");
            for number in 0..5 {
                client.send_text(&format!("{round}.{number}"));
            }
            server.come();
            (conn, _) = server.upgraded(&[]);
            // What went into the dying connection may be lost; what follows comes in order and once.
            client.send_text("after");
            let mut arrived: Vec<String> = Vec::new();
            while arrived.last().is_none_or(|last| last != "after") {
                arrived.push(String::from_utf8(conn.message().payload).unwrap());
            }
            let whole: Vec<_> = (0..5).map(|number| format!("{round}.{number}")).chain(["after".to_owned()]).collect();
            assert!(whole.ends_with(&arrived), "{arrived:?}");
            conn.send_frame(0x81, b"back");
            assert_eq!(client.text(), "back");
        }
        client.send(&masked(0x88, b""));
        conn.closed_by(&Frame { first: 0x88, payload: Vec::new() });
    }
}

#[test]
fn a_client_that_is_kept_is_answered_while_what_it_sends_waits() {
    let server = Remote::up();
    let gateway = relay_to(&server.url(), "hold = \"20s\"", "queue = { messages = 10 }");
    for wire in Wire::BOTH {
        let (mut client, conn) = pair(&gateway, &server, wire);
        conn.reset();
        gateway.wait_for_log("the upstream is gone");
        // It dials the test's server, which has not answered yet.
        let mut conn = server.accept_raw();
        for number in 0..10 {
            client.send_text(&number.to_string());
            client.send(&masked(0x89, b"here?"));
            assert_eq!(client.message(), Frame { first: 0x8a, payload: b"here?".to_vec() });
        }
        // There is no room for the last one, and what it says before it goes is not lost.
        client.send_text("10");
        client.send(&masked(0x88, &4000u16.to_be_bytes()));
        assert!(!client.has_input_within(Duration::from_millis(300)));
        let head = conn.head();
        conn.answer_upgrade(&head, &[]);
        for number in 0..=10 {
            assert_eq!(conn.message(), Frame::text(&number.to_string()));
        }
        conn.closed_by(&Frame::close(4000, ""));
        assert_eq!(client.message(), Frame::close(4000, ""));
        client.end();
    }
}

#[test]
fn what_the_kernel_had_not_taken_is_sent_to_the_restarted_upstream() {
    let mut server = Remote::up();
    let gateway = relay_to(&server.url(), "hold = \"8s\"", "queue = { messages = 64, bytes = \"1MiB\" }");
    let (mut client, conn) = pair(&gateway, &server, Wire::Plain);
    const ALL: u32 = 1000;
    let (to_gateway, from_gateway) = (client.outgoing(), conn.incoming());
    let sent = AtomicU32::new(0);
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            for number in 0..ALL {
                client.send(&masked(0x82, &piece(number)));
                sent.fetch_add(1, Ordering::Relaxed);
            }
            client
        });
        // It has read nothing when it is killed.
        until_held(to_gateway, from_gateway);
        assert!(sent.load(Ordering::Relaxed) < ALL);
        server.go();
        conn.reset();
        gateway.wait_for_log("it is kept for at most 8s");
        server.come();
        let (mut conn, _) = server.upgraded(&[]);
        let mut arrived = vec![number_of(&conn.message())];
        while arrived.last() != Some(&(ALL - 1)) {
            arrived.push(number_of(&conn.message()));
        }
        let first = arrived[0];
        assert_eq!(arrived, (first..ALL).collect::<Vec<_>>());
        measured(
            "relay",
            format!("an upstream killed with all unread: {first} of {ALL} x {PIECE} B were in its socket and are lost"),
        );
        drop(sender.join().unwrap());
    });
}

#[test]
fn a_hold_that_runs_out_closes_the_client() {
    let server = Remote::up();
    let gateway = relay_to(&server.url(), "hold = \"1s\"", "");
    let pairs: Vec<_> = Wire::BOTH.into_iter().map(|wire| pair(&gateway, &server, wire)).collect();
    let (mut clients, conns): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    // It accepts and says nothing: a dial must not make the hold any longer.
    let begun = Instant::now();
    conns.into_iter().for_each(Raw::reset);
    for client in &mut clients {
        client.closed_with(1011, "Upstream connection lost");
    }
    let took = begun.elapsed();
    assert!((Duration::from_millis(900)..Duration::from_secs(4)).contains(&took), "{took:?}");
}

#[test]
fn an_upstream_that_comes_and_goes_is_not_dialled_without_end() {
    let server = Remote::up();
    let gateway = relay_to(&server.url(), "hold = \"2s\"", "");
    let (mut client, conn) = pair(&gateway, &server, Wire::Plain);
    conn.reset();
    let dials = thread::scope(|scope| {
        let accepting = scope.spawn(|| {
            let mut dials = 0;
            loop {
                let mut conn = server.accept_raw();
                let head = conn.head();
                if head.starts_with("GET /the-end ") {
                    return dials;
                }
                conn.answer_upgrade(&head, &[]);
                dials += 1;
            }
        });
        client.closed_with(1011, "Upstream connection lost");
        gateway.wait_for_log(": disconnected from ");
        // Nothing is dialled for a client that has left, so whatever was dialled has connected before this.
        Raw::plain(server.address().port()).send(request("/the-end", &[]).as_bytes());
        accepting.join().unwrap()
    });
    assert!((2..40).contains(&dials), "{dials} dials");
    measured("relay", format!("{dials} dials of an upstream that ends each connection, within a hold of 2 s"));
}

#[test]
fn an_upstream_that_comes_back_with_another_subprotocol_is_not_taken() {
    let mut server = Remote::up();
    let gateway = relay_to(&server.url(), "hold = \"1s\"", "");
    let (mut client, conn) = thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut client = gateway.raw("plain");
            client.upgrade("/dev/7", &["Sec-WebSocket-Protocol: a, b"]);
            client
        });
        let (conn, _) = server.upgraded(&["Sec-WebSocket-Protocol: a"]);
        (client.join().unwrap(), conn)
    });
    conn.reset();
    let (mut conn, _) = server.upgraded(&["Sec-WebSocket-Protocol: b"]);
    conn.end();
    server.go();
    client.closed_with(1011, "Upstream connection lost");
}

#[test]
fn a_client_that_leaves_during_the_hold_ends_it() {
    let mut server = Remote::up();
    let gateway = relay_to(&server.url(), "hold = \"60s\"", "");
    let threads = gateway.threads();
    for wire in Wire::BOTH {
        server.come();
        let pairs: Vec<_> = (0..3).map(|_| pair(&gateway, &server, wire)).collect();
        server.go();
        let (clients, conns): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        conns.into_iter().for_each(Raw::reset);
        gateway.wait_for_log("it is kept for at most 60s");
        let [mut orderly, lost, mut held] = <[Raw; 3]>::try_from(clients).ok().unwrap();
        orderly.send(&masked(0x88, &1000u16.to_be_bytes()));
        assert_eq!(orderly.message(), Frame::close(1000, ""));
        orderly.end();
        drop(lost);
        // The gateway does not read this one any more.
        held.send_text("waits for the upstream");
        drop(held);
        eventually("the threads are back", DEADLINE, || gateway.threads() <= threads);
    }
}

#[test]
fn a_stop_during_a_hold_is_told_as_a_stop() {
    let mut server = Remote::up();
    let mut gateway = relay_to(&server.url(), "hold = \"60s\"", "");
    let (mut client, conn) = pair(&gateway, &server, Wire::Plain);
    server.go();
    conn.reset();
    gateway.wait_for_log("it is kept for at most 60s");
    gateway.signal(rustix::process::Signal::TERM);
    client.closed_with(1001, "Server shutting down");
    assert!(gateway.wait().success());
}
