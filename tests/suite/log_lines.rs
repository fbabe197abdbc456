//! The lines of the log that peers cause: each has its reason, and a crowd is a number.

use std::time::Duration;

use native_tls::TlsConnector;

use crate::harness::{DEADLINE, Gateway, LISTENERS, Raw, eventually, request};

#[test]
fn b8_a_tls_handshake_that_failed_is_a_line_with_the_reason() {
    let gateway = Gateway::start(LISTENERS);
    let port = gateway.port("tls");
    // It trusts only the authorities of the system.
    let stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let from = stream.local_addr().unwrap();
    TlsConnector::new().unwrap().connect("localhost", stream).expect_err("the certificate is our own");
    let line = gateway.wait_for_log(&format!("({from}): TLS handshake failed: "));
    let why = "TLS handshake failed: the client does not trust the certificate (tlsv1 alert unknown ca)";
    assert!(line.contains(" INFO ") && line.ends_with(why), "{line}");

    let mut garbage = Raw::plain(port);
    garbage.send(b"\x01\x02\x03\x04\x05 no TLS at all");
    let line = gateway.wait_for_log(&format!(":{}): TLS handshake failed: ", garbage.own_port()));
    assert!(line.contains("what the client sent is no TLS"), "{line}");
    // As a client that does not like the certificate and says nothing.
    let mut silent = Raw::plain(port);
    silent.send(&[22, 3, 1, 2, 0, 1]);
    let silent_port = silent.own_port();
    drop(silent);
    let line = gateway.wait_for_log(&format!(":{silent_port}): TLS handshake failed: "));
    assert!(line.ends_with("the client has ended the connection"), "{line}");
    // A check whether the port is open is no failure.
    drop(Raw::plain(port));
    gateway.raw("tls").upgrade("/", &[]);
    gateway.wait_for_log(": connected to '/'");
    assert_eq!(gateway.log().iter().filter(|line| line.contains("TLS handshake failed")).count(), 3);
}

/// How many lines of this kind there are, and how many more are said to have been.
fn told(gateway: &Gateway, line: &str, kind: &str) -> (usize, usize) {
    let log = gateway.log();
    let left_out = format!(" more lines about {kind} in this second are left out (lines_per_second)");
    let number = |line: &String| line.split_once("log: ")?.1.strip_suffix(&left_out)?.parse::<usize>().ok();
    (log.iter().filter(|logged| logged.contains(line)).count(), log.iter().filter_map(number).sum())
}

#[test]
fn c12_a_crowd_is_a_few_lines_and_their_number_also_when_nothing_follows() {
    const CROWD: usize = 60;
    const SHOWN: usize = 5;
    let config = format!("[log]\nlines_per_second = {SHOWN}\n[[endpoint]]\npath = \"/\"\n{LISTENERS}");
    let mut gateway = Gateway::start(&config);
    let mut refused: Vec<_> = (0..CROWD).map(|_| gateway.raw("plain")).collect();
    refused.iter_mut().for_each(|client| client.send(request("/nowhere", &[]).as_bytes()));
    refused.iter_mut().for_each(|client| assert!(client.head().starts_with("HTTP/1.1 404 ")));
    let is_told = |line, kind| {
        let within = DEADLINE + Duration::from_secs(CROWD as u64 / SHOWN as u64);
        eventually(kind, within, || {
            let (shown, left_out) = told(&gateway, line, kind);
            shown + left_out == CROWD
        });
        let (shown, left_out) = told(&gateway, line, kind);
        assert!(shown >= SHOWN && left_out > 0, "{kind}: {shown} shown, {left_out} left out");
    };
    is_told(": refused with 404", "refusals");
    let clients: Vec<_> = (0..CROWD)
        .map(|_| {
            let mut client = gateway.raw("plain");
            client.upgrade("/", &[]);
            client
        })
        .collect();
    is_told(": connected to ", "connects");
    // They all leave with the gateway, whose last count does not wait for the end of the second.
    gateway.signal(rustix::process::Signal::TERM);
    for mut client in clients {
        client.closed_with(1001, "Server shutting down");
    }
    assert_eq!(gateway.wait().code(), Some(0));
    gateway.whole_log();
    let (shown, left_out) = told(&gateway, ": disconnected from ", "disconnects");
    assert_eq!(shown + left_out, CROWD, "{shown} shown, {left_out} left out");
    assert!(gateway.log().iter().any(|line| line.ends_with(" stopped")), "a line of ours was left out");
}
