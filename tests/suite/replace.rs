//! Endpoints and rooms that are full: who is refused, and who gives its place to a new client.

use crate::harness::{DEADLINE, Frame, Gateway, LISTENERS, Raw, Remote, Wire, eventually, masked, request};
use crate::relay;

/// Nobody leaves by itself: there is no heartbeat, and a Close may be answered for an hour.
fn patient(endpoints: &str) -> Gateway {
    Gateway::start(&format!(
        "[gateway]\nclose_timeout = \"1h\"\n[log]\nlines_per_second = \"off\"\n{LISTENERS}\n{endpoints}"
    ))
}

#[test]
fn b10_a_device_that_reconnects_takes_the_place_of_its_dead_connection() {
    let gateway = patient(
        r#"
        [[endpoint]]
        path = "/flow"
        to = ["reply"]
        max_connections = 1
        at_capacity = "replace"
        heartbeat = "off"
        write_timeout = "off"
        queue = { messages = 64, bytes = "64KiB", when_full = "drop_oldest" }
        [[endpoint]]
        path = "/feed"
        to = ["endpoint:/flow", "reply"]
        "#,
    );
    for wire in Wire::BOTH {
        // It reads nothing until its queue is full, so no Close can reach it either.
        let dead = gateway.narrow_client(wire, "/flow");
        let dead_id = gateway.id_of(&dead);
        let mut feed = gateway.client(Wire::Plain, "/feed");
        eventually("the queue of the dead client is full", DEADLINE, || {
            feed.send(&masked(0x82, &[b'x'; 16 << 10]));
            assert_eq!(feed.message().payload.len(), 16 << 10);
            gateway.log().iter().any(|line| line.contains(&dead_id) && line.contains("drop"))
        });
        let mut next = gateway.client(wire, "/flow");
        let next_id = gateway.id_of(&next);
        gateway.wait_for_log(&format!("client {dead_id}: its place is given to client {next_id}"));
        next.send(&masked(0x81, b"mine"));
        assert_eq!(next.text(), "mine");
        feed.send(&masked(0x81, b"news"));
        assert_eq!((feed.text(), next.text()), ("news".to_owned(), "news".to_owned()));
        // One that is alive hears of it.
        let mut last = gateway.client(wire, "/flow");
        next.closed_with(1008, "Replaced");
        gateway.wait_for_log(&format!("client {next_id}: disconnected from '/flow': code 1008, reason 'Replaced'"));
        last.send(&masked(0x88, &[3, 0xe8]));
        assert_eq!(last.message().first, 0x88);
        gateway.wait_for_log(&format!("client {}: disconnected", gateway_id(&gateway, &last)));
        drop(dead);
    }
}

/// The id of a client that may have left.
fn gateway_id(gateway: &Gateway, client: &Raw) -> String {
    let line = gateway.wait_for_log(&format!(":{}): connected", client.own_port()));
    line.split("client ").nth(1).unwrap().split(' ').next().unwrap().to_owned()
}

#[test]
fn b10_a_room_that_is_full_replaces_refuses_or_closes_and_other_rooms_do_not_notice() {
    let endpoint = |path: &str, keys: &str| {
        format!("[[endpoint]]\npath = \"/{path}/{{id}}\"\nto = [\"reply\"]\nmax_room_connections = 1\n{keys}\n")
    };
    let gateway = patient(
        &[
            endpoint("replace", "at_capacity = \"replace\"\nmax_connections = 3"),
            endpoint("refuse", "at_capacity = \"refuse\""),
            endpoint("close", ""),
        ]
        .concat(),
    );
    for name in ["refuse", "close"] {
        let mut held = gateway.client(Wire::Plain, &format!("/{name}/1"));
        let mut other = gateway.client(Wire::Plain, &format!("/{name}/2"));
        let mut beyond = gateway.raw("plain");
        if name == "close" {
            beyond.upgrade("/close/1", &[]);
            assert_eq!(beyond.frame(), Frame::close(1013, "Room at capacity"));
            gateway.wait_for_log("closed with 1013: its room has 1 client, as `max_room_connections` says");
        } else {
            beyond.send(request("/refuse/1", &[]).as_bytes());
            let (head, body) = beyond.answer();
            assert!(head.starts_with("HTTP/1.1 503 ") && body.contains("this room is at capacity"), "{head} {body}");
        }
        for client in [&mut held, &mut other] {
            client.send(&masked(0x81, b"here"));
            assert_eq!(client.text(), "here");
        }
        // A place is free again after a disconnect.
        held.send(&masked(0x88, &[3, 0xe8]));
        assert_eq!(held.message().first, 0x88);
        held.end();
        eventually("the place in the room is free", DEADLINE, || {
            let mut next = gateway.raw("plain");
            next.send(request(&format!("/{name}/1"), &[]).as_bytes());
            next.send(&masked(0x81, b"mine"));
            next.head().starts_with("HTTP/1.1 101 ") && next.frame() == Frame::text("mine")
        });
    }
    let [mut one, mut two, mut three] = [1, 2, 3].map(|id| gateway.client(Wire::Plain, &format!("/replace/{id}")));
    // Both are full: the one in the room goes, not the oldest of all.
    let mut two_again = gateway.client(Wire::Plain, "/replace/2");
    two.closed_with(1008, "Replaced");
    // The endpoint alone is full: the oldest goes.
    let mut four = gateway.client(Wire::Plain, "/replace/4");
    one.closed_with(1008, "Replaced");
    for client in [&mut two_again, &mut three, &mut four] {
        client.send(&masked(0x81, b"here"));
        assert_eq!(client.text(), "here");
    }
}

#[test]
fn b10_a_flood_of_reconnects_leaves_a_bounded_number_of_old_clients() {
    let gateway = patient(
        "[[endpoint]]\nto = [\"reply\"]\nmax_connections = 1\nat_capacity = \"replace\"\nheartbeat = \"off\"\n",
    );
    let threads = gateway.threads();
    // None of them ever answers its Close.
    let mut silent: Vec<Raw> = (0..150).map(|_| gateway.client(Wire::Plain, "/")).collect();
    eventually("no more than 64 take their time", DEADLINE, || gateway.threads() <= threads + 65);
    // All were told, those too that were cut.
    for client in &mut silent[..149] {
        assert_eq!(client.message(), Frame::close(1008, "Replaced"));
    }
    let last = silent.last_mut().unwrap();
    last.send(&masked(0x81, b"mine"));
    assert_eq!(last.text(), "mine");
}

#[test]
fn b10_a_relays_client_is_replaced_also_while_it_waits_for_its_server() {
    let server = Remote::up();
    let endpoint = "max_room_connections = 1\nat_capacity = \"replace\"";
    let gateway = relay::relay_to(&server.url(), "connect_timeout = \"1h\"", endpoint);
    let mut waiting = gateway.raw("plain");
    waiting.send(request("/dev/7", &[]).as_bytes());
    let mut unanswered = server.accept_raw();
    unanswered.head();
    let (mut open, mut upstream) = relay::pair(&gateway, &server, Wire::Plain);
    let (head, body) = waiting.answer();
    assert!(head.starts_with("HTTP/1.1 503 ") && body.contains("a newer client has taken its place"), "{head} {body}");
    assert!(unanswered.is_gone_within(DEADLINE), "its server is dialled on");
    open.send(&masked(0x81, b"up"));
    assert_eq!(upstream.text(), "up");
    let (mut next, mut next_upstream) = relay::pair(&gateway, &server, Wire::Plain);
    open.closed_with(1008, "Replaced");
    assert_eq!(upstream.message().first, 0x88);
    next_upstream.send_text("down");
    assert_eq!(next.text(), "down");
}

#[test]
fn b10_a_stranger_whom_a_relays_server_refuses_takes_nobodys_place() {
    let server = Remote::up();
    let gateway = relay::relay_to(&server.url(), "", "max_room_connections = 1\nat_capacity = \"replace\"");
    let (mut client, mut upstream) = relay::pair(&gateway, &server, Wire::Plain);
    for _ in 0..2 {
        let (head, _) = relay::refused(&gateway, "plain", || {
            let mut conn = server.accept_raw();
            conn.head();
            conn.send(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n");
            conn
        });
        assert!(head.starts_with("HTTP/1.1 401 "), "{head}");
        client.send(&masked(0x81, b"still here"));
        assert_eq!(upstream.text(), "still here");
    }
}
