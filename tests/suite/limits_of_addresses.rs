//! What one address may take: connections at once, and connections in a time. Other addresses do not notice.

use std::time::Duration;

use crate::auth;
use crate::harness::{Canary, DEADLINE, Gateway, LISTENERS, Raw, eventually, request};

fn config(gateway: &str) -> String {
    format!(
        r#"
[gateway]
{gateway}
{LISTENERS}
[[listen]]
name = "proxied"
address = "127.0.0.1:0"
client_address = "x-forwarded-for"
trusted_proxies = ["127.0.0.1"]

[[endpoint]]
path = "/canary"
to = ["reply"]
"#
    )
}

/// The answer to an upgrade request from this address.
fn upgrade_from(gateway: &Gateway, last: u8) -> (String, Raw) {
    let mut client = Raw::plain_from([127, 0, 0, last].into(), gateway.port("plain"));
    client.send(request("/canary", &[]).as_bytes());
    (client.head(), client)
}

fn is_accepted(head: &str) -> bool {
    head.starts_with("HTTP/1.1 101 ")
}

fn is_too_many(head: &str) -> bool {
    head.starts_with("HTTP/1.1 429 Too Many Requests\r\n") && head.contains("\r\nRetry-After: ")
}

#[test]
fn l2_an_address_with_all_its_connections_gets_429_and_others_get_in() {
    let mut gateway = Gateway::start(&config("max_address_connections = 3"));
    // Of 127.0.0.1.
    let mut canary = Canary::connect(&gateway);
    let mut held: Vec<Raw> = Vec::new();
    for _ in 0..3 {
        let (head, client) = upgrade_from(&gateway, 2);
        assert!(is_accepted(&head), "{head}");
        held.push(client);
    }
    for _ in 0..5 {
        let (head, _) = upgrade_from(&gateway, 2);
        assert!(is_too_many(&head), "{head}");
        canary.check_echo("an address that is full");
    }
    let line = gateway.wait_for_log("refused a connection");
    assert!(line.contains("127.0.0.2 has 3 connections (max_address_connections)"), "{line}");
    assert!(is_accepted(&upgrade_from(&gateway, 3).0));
    // A connection that has not said anything counts too, and over TLS there is no way to answer.
    let _silent: Vec<Raw> = (0..3).map(|_| Raw::plain_from([127, 0, 0, 4].into(), gateway.port("plain"))).collect();
    // Its own listener accepts in order: once this one is refused, those are counted.
    assert!(is_too_many(&upgrade_from(&gateway, 4).0));
    Raw::plain_from([127, 0, 0, 4].into(), gateway.port("tls")).cut_off();
    drop(held.pop());
    eventually("a place is free again", DEADLINE / 2, || is_accepted(&upgrade_from(&gateway, 2).0));
    for client in &mut held {
        client.send_text("still here");
        assert_eq!(client.text(), "still here");
    }
    gateway.terminate();
    let line = gateway.wait_for_log("connections refused because of limits");
    assert!(line.contains(" by max_address_connections") && !line.contains("by max_connections"), "{line}");
}

#[test]
fn l2_behind_a_proxy_the_address_that_it_names_counts() {
    let gateway = Gateway::start(&config("max_address_connections = 2"));
    let upgrade = |headers: &[&str]| {
        let mut client = gateway.raw("proxied");
        client.send(request("/canary", headers).as_bytes());
        (client.head(), client)
    };
    let of = |address: &str| upgrade(&[&format!("X-Forwarded-For: {address}")]);
    let held = [of("198.51.100.7"), of("198.51.100.7"), of("198.51.100.8"), upgrade(&[]), upgrade(&[]), upgrade(&[])];
    for (head, _) in &held {
        assert!(is_accepted(head), "{head}");
    }
    let (head, _) = of("198.51.100.7");
    assert!(is_too_many(&head), "{head}");
    gateway.wait_for_log("198.51.100.7 has 2 connections (max_address_connections)");
    assert!(is_accepted(&of("198.51.100.8").0));
    // Also one that is itself on the list of proxies.
    let own = [of("127.0.0.1"), of("127.0.0.1")];
    assert!(own.iter().all(|(head, _)| is_accepted(head)));
    assert!(is_too_many(&of("127.0.0.1").0));
    drop(held);
    eventually("a place is free again", DEADLINE / 2, || is_accepted(&of("198.51.100.7").0));
}

#[test]
fn l11_an_address_that_opens_connections_too_fast_gets_429_and_others_get_in() {
    const BURST: usize = 5;
    let gateway = Gateway::start(&config(&format!("address_rate = {{ per_second = 1, burst = {BURST} }}")));
    let mut canary = Canary::connect(&gateway);
    let (mut let_in, mut refused) = (0, 0);
    // It may gain one more a second meanwhile.
    while refused < 3 * BURST {
        let (head, _) = upgrade_from(&gateway, 2);
        if is_accepted(&head) {
            let_in += 1;
        } else {
            assert!(is_too_many(&head), "{head}");
            refused += 1;
        }
        canary.check_echo("an address that is too fast");
    }
    assert!(let_in >= BURST, "{let_in} let in");
    let line = gateway.wait_for_log("refused a connection");
    assert!(line.contains("127.0.0.2 opens too many connections (address_rate)"), "{line}");
    assert!(is_accepted(&upgrade_from(&gateway, 3).0));
    eventually("it may come again", Duration::from_secs(5), || is_accepted(&upgrade_from(&gateway, 2).0));
}

#[test]
fn s20_an_address_that_tries_tokens_is_not_listened_to_and_others_are() {
    let files = auth::files_of(&[("press-3", "hunter2-right")]);
    let tokens = files.path().join("tokens.txt");
    let auth = format!(
        "[[endpoint]]\npath = \"/guarded\"\nto = [\"reply\"]\nauth = [\"devices\"]\n[[auth]]\nname = \"devices\"\n\
         kind = \"tokens\"\nfile = {tokens:?}\n"
    );
    let mut gateway =
        Gateway::start(&format!("{}{auth}", config("failed_credentials = { most = 5, within = \"1h\" }")));
    let ask = |gateway: &Gateway, last: u8, headers: &[&str]| {
        let mut client = Raw::plain_from([127, 0, 0, last].into(), gateway.port("plain"));
        client.send(request("/guarded", headers).as_bytes());
        (client.head(), client)
    };
    let (right, wrong) = (["Authorization: Bearer hunter2-right"], ["Authorization: Bearer hunter2-wrong"]);
    // Without a credential nothing is tried.
    for _ in 0..10 {
        assert!(ask(&gateway, 2, &[]).0.starts_with("HTTP/1.1 401 "));
    }
    assert!(is_accepted(&ask(&gateway, 2, &right).0));
    for _ in 0..5 {
        assert!(ask(&gateway, 2, &wrong).0.starts_with("HTTP/1.1 401 "));
    }
    for headers in [&wrong[..], &right[..], &[]] {
        let (head, _) = ask(&gateway, 2, headers);
        assert!(is_too_many(&head), "{head}");
    }
    assert!(is_accepted(&ask(&gateway, 3, &right).0));
    // Where no credential is asked for, it is as welcome as before.
    assert!(is_accepted(&upgrade_from(&gateway, 2).0));
    gateway.terminate();
    let line = gateway.wait_for_log("connections refused because of limits");
    assert!(line.contains("3 by failed_credentials"), "{line}");
}
