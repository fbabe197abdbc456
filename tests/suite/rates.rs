//! How fast one client may send: it is read no faster, or closed. Others do not notice.

use std::time::{Duration, Instant};

use crate::harness::{Canary, DEADLINE, Frame, Gateway, Raw, Wire, masked};

fn config() -> String {
    let endpoints = [
        ("delayed", "rate = { messages = 20, burst = \"1s\" }"),
        ("crawling", "rate = { messages = 1, burst = \"1s\" }"),
        (
            "bytes",
            "rate = { bytes = \"32KiB\", burst = \"1s\" }\nmessage_timeout = \"1s\"\nheartbeat = \"500ms\"\npong_timeout = \"1s\"",
        ),
        ("closed", "rate = { messages = 20, burst = \"1s\", when_over = \"close\" }"),
        ("free", "rate = { messages = 1000000, bytes = \"1GiB\" }"),
        ("canary", ""),
    ];
    let endpoints =
        endpoints.map(|(path, rate)| format!("[[endpoint]]\npath = \"/{path}\"\nto = [\"reply\"]\n{rate}\n"));
    let tls = "[[listen]]\nname = \"tls\"\naddress = \"127.0.0.1:0\"\ntls = { certificate = \"cert.pem\", private_key = \"key.pem\" }\n";
    let plain = "[[listen]]\nname = \"plain\"\naddress = \"127.0.0.1:0\"\n";
    format!("[gateway]\nclose_timeout = \"2s\"\ndrain_timeout = \"2s\"\n{plain}{tls}{}", endpoints.concat())
}

/// Messages that no single read brings all of.
fn texts(count: usize) -> Vec<u8> {
    (0..count).flat_map(|number| masked(0x81, text(number).as_bytes())).collect()
}

fn text(number: usize) -> String {
    format!("{number:0200}")
}

fn get_back(client: &mut Raw, count: usize) {
    for number in 0..count {
        assert_eq!(client.text(), text(number));
    }
}

#[test]
fn l12_a_client_beyond_its_rate_is_read_no_faster_and_loses_nothing() {
    let gateway = Gateway::start(&config());
    let mut canary = Canary::connect(&gateway);
    for wire in [Wire::Plain, Wire::Tls] {
        let mut client = gateway.client(wire, "/delayed");
        let id = gateway.id_of(&client);
        let since = Instant::now();
        // Its Close comes behind them.
        // One at a time: of a TLS record all is read.
        (0..80).for_each(|number| client.send_text(&text(number)));
        client.send(&masked(0x88, &1000_u16.to_be_bytes()));
        canary.check_echo("a client beyond its rate");
        get_back(&mut client, 80);
        assert_eq!(client.frame(), Frame::close(1000, ""));
        client.end();
        // 20 at once and then 20 a second, but for what the last read brings, behind which nothing is waited for.
        assert!(since.elapsed() > Duration::from_secs(1), "after {:?}", since.elapsed());
        gateway.wait_for_log(&format!("client {id}: it was held for "));
    }
    // A second time within what it may: it is not held.
    let mut client = gateway.client(Wire::Plain, "/free");
    let id = gateway.id_of(&client);
    client.send(&texts(1000));
    get_back(&mut client, 1000);
    client.send(&masked(0x88, &1000_u16.to_be_bytes()));
    client.cut_off();
    gateway.wait_for_log(&format!("client {id}: disconnected"));
    assert!(!gateway.log().iter().any(|line| line.contains(&format!("client {id}: it was held"))));
}

#[test]
fn l12_the_time_held_counts_for_no_deadline() {
    let gateway = Gateway::start(&config());
    let mut client = gateway.client(Wire::Plain, "/bytes");
    let message = vec![b'm'; 160 << 10];
    let since = Instant::now();
    client.send(&masked(0x82, &message));
    // At 32 KiB a second; it must be complete within one, and is pinged meanwhile.
    assert_eq!(client.message(), Frame::binary(&message));
    assert!(since.elapsed() > Duration::from_secs(2), "after {:?}", since.elapsed());
}

#[test]
fn l12_a_client_beyond_its_rate_is_closed_where_that_is_asked_for() {
    let gateway = Gateway::start(&config());
    let mut canary = Canary::connect(&gateway);
    for (wire, what) in [(Wire::Plain, 0x81), (Wire::Tls, 0x81), (Wire::Plain, 0x89), (Wire::Plain, 0x8a)] {
        let mut client = gateway.client(wire, "/closed");
        client.send(&masked(what, b"x").repeat(200));
        let close = loop {
            let frame = client.frame();
            if frame.first == 0x88 {
                break frame;
            }
        };
        assert_eq!(close, Frame::close(1008, "Too many messages"), "{what:#x}");
        client.send(&masked(0x88, &1008_u16.to_be_bytes()));
        client.cut_off();
        canary.check_echo("a client beyond its rate");
    }
    // Within its rate it stays.
    let mut client = gateway.client(Wire::Plain, "/closed");
    client.send(&texts(10));
    get_back(&mut client, 10);
}

#[test]
fn l12_a_client_that_is_held_ends_as_any_other() {
    let mut gateway = Gateway::start(&config());
    let held = |gateway: &Gateway| {
        let mut client = gateway.client(Wire::Plain, "/crawling");
        let id = gateway.id_of(&client);
        // At one a second it is held for minutes.
        client.send(&texts(500));
        assert_eq!(client.text(), text(0));
        gateway.wait_for_log(&format!("client {id}: held by its rate"));
        (client, id)
    };
    // It ends its direction, or is lost.
    for is_lost in [false, true] {
        let (client, id) = held(&gateway);
        if is_lost {
            client.reset();
        } else {
            client.end_sending();
            let mut client = client;
            client.discard_until_end();
        }
        gateway.wait_for_log(&format!("client {id}: disconnected"));
    }
    // A stop finds it held.
    let (mut client, _) = held(&gateway);
    let since = Instant::now();
    assert!(gateway.terminate().success());
    assert!(since.elapsed() < DEADLINE, "the stop took {:?}", since.elapsed());
    client.discard_until_end();
}
