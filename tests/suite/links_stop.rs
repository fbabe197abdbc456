//! What a stop does with links: what waits for them, their goodbye, and how long remotes may take.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tungstenite::Message;
use tungstenite::protocol::CloseFrame;

use crate::harness::{DEADLINE, Remote, masked};
use crate::links::{both_ways, client, gateway, held_soon, number_of, passed_on};

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
    gateway.wait_for_log("stopping: closing 1 client,");
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
    // behind our Close was dropped.
    assert_eq!(numbers, (0..numbers.len()).collect::<Vec<_>>());
    assert!(gateway.wait().success());
    let log = gateway.whole_log();
    let says = |text: String| log.iter().any(|line| line.contains(&text));
    assert!(says(format!(" received, {} messages (", numbers.len())), "{log:#?}");
    assert!(!says("lost".to_owned()) && !says("dropped from now on".to_owned()), "{log:#?}");
}

#[test]
fn at_a_stop_a_link_that_is_down_delays_nothing_and_the_log_says_what_is_lost() {
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
            log.iter().any(|line| line.contains("link up: 3 messages were still queued for it and got lost")),
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
    assert!(gateway.whole_log().iter().any(|line| line.contains("still queued for it and got lost")));
}
