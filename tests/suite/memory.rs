//! The limit of memory: clients that hold much are closed, those that read lose nothing.

use crate::harness::{Frame, Gateway, Raw, Wire, eventually, masked, measured, request};
use std::time::Duration;

const CONFIG: &str = r#"
[gateway]
memory = "48MiB"
close_timeout = "1s"

[log]
lines_per_second = "off"

[[listen]]
name = "plain"
address = "127.0.0.1:0"

[[endpoint]]
path = "/own/{room}"
max_connections = 1000
to = ["reply"]
write_timeout = "off"
heartbeat = "off"

[[endpoint]]
path = "/feed"
to = ["reply", "endpoint:/own/{room}"]
choose_rooms = true
"#;

#[test]
fn l13_clients_that_read_nothing_are_closed_before_memory_is_short() {
    const SILENT: usize = 100;
    const MESSAGES: usize = 1200;
    let gateway = Gateway::start(CONFIG);
    let mut good: Vec<Raw> = (0..5).map(|number| gateway.client(Wire::Plain, &format!("/own/good{number}"))).collect();
    let silent: Vec<Raw> =
        (0..SILENT).map(|number| gateway.narrow_client(Wire::Plain, &format!("/own/{number}"))).collect();
    let before = gateway.memory_kib();
    let mut feeder = gateway.client(Wire::Plain, "/feed");
    let fill = "x".repeat(1024);
    let mut most = before;
    for round in 0..MESSAGES {
        let message =
            |room: &str| masked(0x81, format!("{{\"room\":\"{room}\",\"n\":{round},\"x\":\"{fill}\"}}").as_bytes());
        let all: Vec<u8> = (0..SILENT).flat_map(|number| message(&number.to_string())).collect();
        feeder.send(&all);
        for (number, client) in good.iter_mut().enumerate() {
            feeder.send(&message(&format!("good{number}")));
            let text = client.text();
            assert!(text.contains(&format!("\"n\":{round},")), "a client that reads lost something: {text:.60}");
        }
        // Its own answers, so that it is never ahead.
        for _ in 0..SILENT + good.len() {
            feeder.frame();
        }
        most = most.max(gateway.memory_kib());
    }
    gateway.wait_for_log("memory are used, more than \"memory\" allows (48MiB)");
    gateway.wait_for_log("and memory is short");
    // 120 MiB were sent. What is above the limit is what comes in the time of two looks at it, and no anonymous memory.
    measured("L13", format!("{SILENT} clients that read nothing, 120 MiB for them: {} MiB at the most", most >> 10));
    assert!(most < (48 + 48) << 10, "{most} KiB at the most, {before} before");
    eventually("memory is there again", Duration::from_secs(20), || {
        let mut client = gateway.raw("plain");
        client.send(request("/own/late", &[]).as_bytes());
        client.head().starts_with("HTTP/1.1 101 ")
    });
    for client in &mut good {
        client.send_text("still here");
        assert_eq!(client.message(), Frame::text("still here"));
    }
    drop(silent);
}

#[test]
fn l13_a_small_message_that_picks_its_room_keeps_no_more_than_itself() {
    const ROUNDS: usize = 12_000;
    let gateway = Gateway::start(
        r#"
        [[listen]]
        name = "plain"
        address = "127.0.0.1:0"

        [[endpoint]]
        path = "/own/{room}"
        to = []

        [[endpoint]]
        path = "/feed"
        to = ["endpoint:/own/{room}"]
        choose_rooms = true
        "#,
    );
    let silent: Vec<Raw> = (0..4).map(|number| gateway.narrow_client(Wire::Plain, &format!("/own/{number}"))).collect();
    let mut reader = gateway.client(Wire::Plain, "/own/reader");
    let mut feeder = gateway.client(Wire::Plain, "/feed");
    let before = gateway.memory_kib();
    let message = |room: &str| masked(0x81, format!("{{\"room\":\"{room}\",\"x\":\"{}\"}}", "x".repeat(40)).as_bytes());
    let round: Vec<u8> = (0..silent.len()).flat_map(|number| message(&number.to_string())).collect();
    for _ in 0..ROUNDS / 100 {
        feeder.send(&round.repeat(100));
    }
    feeder.send(&message("reader"));
    assert!(reader.text().contains("reader"));
    // Their queues are full: 4,096 messages of 66 bytes each.
    let more = gateway.memory_kib().saturating_sub(before);
    measured("L13", format!("4 full queues of 4,096 messages of 66 bytes: {more} KiB"));
    assert!(more < 12 << 10, "{more} KiB for a mebibyte of messages");
}
