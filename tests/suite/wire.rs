//! Every byte on the wire, as a client sees it: the handshake, frames, the orderly end.

use std::net::Shutdown;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{Frame, Gateway, LISTENERS, Raw, Wire, masked};

/// [`LISTENERS`] are added to it.
const CONFIG: &str = r#"
[[endpoint]]
path = "/echo"
to = ["reply"]

[[endpoint]]
path = "/broadcast"
to = ["broadcast"]
"#;

fn start() -> Gateway {
    Gateway::start(&format!("{CONFIG}{LISTENERS}"))
}

/// The same client by both kinds of listener.
fn both(gateway: &Gateway) -> [Raw; 2] {
    [Raw::plain(gateway.port("plain")), Raw::tls(gateway.port("tls"), &gateway.file("ca.pem"))]
}

#[test]
fn a_message_comes_back_in_one_frame_and_unmasked() {
    let gateway = start();
    for mut client in both(&gateway) {
        client.upgrade("/echo", &[]);
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 1 << 20] {
            let payload = vec![b'x'; length];
            client.send(&masked(0x82, &payload));
            assert_eq!(client.frame(), Frame::binary(&payload), "of {length} bytes");
        }
    }
}

#[test]
fn a_fragmented_message_with_a_ping_between_comes_back_whole() {
    let gateway = start();
    for mut client in both(&gateway) {
        client.upgrade("/echo", &[]);
        client.send(&masked(0x01, b"hel"));
        client.send(&masked(0x89, b"still there?"));
        assert_eq!(client.frame(), Frame { first: 0x8a, payload: b"still there?".to_vec() });
        client.send(&masked(0x80, b"lo"));
        assert_eq!(client.frame(), Frame::text("hello"));
    }
}

#[test]
fn an_extension_that_we_do_not_have_is_not_agreed() {
    let gateway = start();
    for mut client in both(&gateway) {
        let head = client.upgrade("/echo", &["Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"]);
        assert!(!head.to_ascii_lowercase().contains("sec-websocket-extensions"), "{head}");
        client.send(&masked(0x81, b"plain"));
        assert_eq!(client.frame(), Frame::text("plain"));
    }
}

#[test]
fn answers_come_before_the_close_that_follows_their_requests() {
    let gateway = start();
    for mut client in both(&gateway) {
        client.upgrade("/echo", &[]);
        let close = Frame::close(1000, "done");
        client.send(&[masked(0x81, b"last"), masked(0x88, &close.payload)].concat());
        assert_eq!(client.frame(), Frame::text("last"));
        let answer = client.frame();
        assert_eq!((answer.first, &answer.payload[..2]), (0x88, &close.payload[..2]));
        client.end();
    }
}

#[test]
fn a_client_that_ends_its_direction_still_gets_what_it_asked_for() {
    const MESSAGES: usize = 60;
    let gateway = start();
    for wire in Wire::BOTH {
        let mut client = gateway.narrow_client(wire, "/echo");
        let id = gateway.id_of(&client);
        // Replies of 960 KiB: more than the sockets' buffers hold, so most of them are queued when
        // the gateway has read the end.
        let asked = masked(0x82, &[b'x'; 16 << 10]).repeat(MESSAGES);
        client.send(&asked);
        client.end_sending();
        client.widen();
        for number in 0..MESSAGES {
            assert_eq!(client.message().payload.len(), 16 << 10, "reply {number} over {wire:?}");
        }
        client.end();
        let line = gateway.wait_for_log(&format!("client {id}: disconnected"));
        assert!(line.contains("code 1006") && line.contains(" without a Close"), "{line}");
        assert!(line.contains("60 messages (983040 bytes) received, 60 messages"), "{line}");
    }
}

#[test]
fn a_client_that_ends_its_direction_and_reads_nothing_is_cut_at_the_close_timeout() {
    let config = "[gateway]\nclose_timeout = \"1s\"\n";
    let gateway = Gateway::start(&format!("{config}{LISTENERS}{CONFIG}"));
    let mut client = gateway.narrow_client(Wire::Plain, "/echo");
    let id = gateway.id_of(&client);
    client.send(&masked(0x82, &[b'x'; 16 << 10]).repeat(60));
    client.end_sending();
    let since = Instant::now();
    let line = gateway.wait_for_log(&format!("client {id}: disconnected"));
    // Counted in ticks of half a second; the first may end at once.
    let took = since.elapsed();
    assert!((Duration::from_millis(400)..Duration::from_secs(1 + 2)).contains(&took), "after {took:?}");
    assert!(line.contains("code 1006"), "{line}");
    let lost = gateway.wait_for_log("messages were still queued for it and got lost");
    assert!(lost.contains(&format!("client {id}: ")), "{lost}");
}

#[test]
fn a_client_that_leaves_without_a_close_is_logged_and_others_never_notice() {
    let gateway = start();
    for mut leaver in both(&gateway) {
        leaver.upgrade("/broadcast", &[]);
        let mut other = Raw::plain(gateway.port("plain"));
        other.upgrade("/broadcast", &[]);
        leaver.socket().shutdown(Shutdown::Both).unwrap();
        drop(leaver);
        other.send(&masked(0x81, b"still here"));
        assert_eq!(other.frame(), Frame::text("still here"));
    }
    gateway.wait_for_log("disconnected");
}

#[test]
fn sigterm_closes_every_client_with_1001_and_ends_with_status_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut gateway = start();
        let mut clients = both(&gateway);
        for client in &mut clients {
            client.upgrade("/echo", &[]);
            client.send(&masked(0x81, b"here"));
            assert_eq!(client.frame(), Frame::text("here"));
        }
        gateway.signal(signal);
        for mut client in clients {
            let close = Frame::close(1001, "Server shutting down");
            assert_eq!(client.frame(), close);
            client.send(&masked(0x88, &close.payload[..2]));
            client.end();
        }
        assert_eq!(gateway.wait().code(), Some(0));
    }
}
