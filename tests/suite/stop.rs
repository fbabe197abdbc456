//! Starting and stopping from outside: what a supervisor sees, what clients see, what the log says.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{DEADLINE, Frame, Gateway, LISTENERS, Raw, Wire, masked, with_any_deliverers};

const GOODBYE: (u16, &str) = (1001, "Server shutting down");

const ROOM: &str = r#"
[[endpoint]]
path = "/"
queue = { messages = 4096, bytes = "16MiB" }
"#;

#[test]
fn a_stop_delivers_what_was_queued_and_then_says_goodbye() {
    const MESSAGES: usize = 100;
    const SIZE: usize = 16 << 10;
    with_any_deliverers(ROOM, |gateway| {
        let mut slow = gateway.narrow_client(Wire::Plain, "/");
        let mut idle = gateway.client(Wire::Tls, "/");
        let mut publisher = gateway.client(Wire::Plain, "/");
        let payload = vec![b'x'; SIZE];
        for _ in 0..MESSAGES {
            publisher.send(&masked(0x82, &payload));
        }
        // All have been published when the last has come back to the publisher and to another.
        for _ in 0..MESSAGES {
            assert_eq!(publisher.message().payload.len(), SIZE);
            assert_eq!(idle.message().payload.len(), SIZE);
        }
        gateway.signal(Signal::TERM);
        gateway.wait_for_log("stopping: closing 3 clients");
        // Nothing of its 100 messages was read before, and all of them come before the Close.
        slow.widen();
        for _ in 0..MESSAGES {
            assert_eq!(slow.message().payload.len(), SIZE);
        }
        for mut client in [slow, idle, publisher] {
            client.closed_with(GOODBYE.0, GOODBYE.1);
        }
        gateway.wait_for_log(" stopped");
        assert_eq!(
            gateway.log().iter().filter(|line| line.contains("code 1001, reason 'Server shutting down'")).count(),
            3
        );
    });
}

#[test]
fn either_signal_stops_within_the_drain_time_whatever_clients_do() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut gateway = Gateway::start(&format!("[gateway]\ndrain_timeout = \"1s\"\n{ROOM}{LISTENERS}"));
        let frozen = gateway.narrow_client(Wire::Plain, "/");
        let half_open = Raw::plain(gateway.port("plain"));
        let mut silent = gateway.client(Wire::Tls, "/");
        let mut publisher = gateway.client(Wire::Plain, "/");
        for _ in 0..100 {
            publisher.send(&masked(0x82, &[b'x'; 16 << 10]));
            publisher.message();
        }
        let begin = Instant::now();
        gateway.signal(signal);
        publisher.closed_with(GOODBYE.0, GOODBYE.1);
        while silent.message().first == 0x82 {}
        assert_eq!(gateway.wait().code(), Some(0));
        // The drain, the patience after it, and as much again for a busy machine.
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
        let log = gateway.whole_log();
        assert!(log.iter().any(|line| line.contains("clients did not end in time and are cut")), "{log:?}");
        assert!(log.last().unwrap().ends_with(" stopped"), "{log:?}");
        drop((frozen, half_open));
    }
}

#[test]
fn who_does_not_answer_the_goodbye_is_waited_for_no_longer_than_any_other_close() {
    let mut gateway =
        Gateway::start(&format!("[gateway]\ndrain_timeout = \"1h\"\nclose_timeout = \"1s\"\n{ROOM}{LISTENERS}"));
    let mut silent = Wire::BOTH.map(|wire| gateway.client(wire, "/"));
    let begin = Instant::now();
    gateway.signal(Signal::TERM);
    for client in &mut silent {
        assert_eq!(client.frame(), Frame::close(GOODBYE.0, GOODBYE.1));
    }
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

#[test]
fn a_client_that_is_held_gets_its_replies_and_the_goodbye() {
    let config = r#"
[[endpoint]]
path = "/echo"
to = ["reply"]
queue = { messages = 4, bytes = "1MiB" }
"#;
    let mut gateway = Gateway::start(&format!("{config}{LISTENERS}"));
    let mut held = gateway.narrow_client(Wire::Plain, "/echo");
    let mut sender = held.writer();
    thread::scope(|scope| {
        // It is held long before the last of these, and nobody reads them from then on.
        let sending = scope.spawn(move || {
            let frame = masked(0x82, &[b'x'; 16 << 10]);
            while sender.try_send(&frame).is_ok() {}
        });
        let mut other = gateway.client(Wire::Tls, "/echo");
        other.send_text("in between");
        assert_eq!(other.text(), "in between");
        assert_eq!(held.message().payload.len(), 16 << 10);
        gateway.signal(Signal::TERM);
        other.closed_with(GOODBYE.0, GOODBYE.1);
        held.widen();
        let close = loop {
            let frame = held.message();
            if frame.first == 0x88 {
                break frame;
            }
            assert_eq!(frame.payload.len(), 16 << 10);
        };
        assert_eq!(close, Frame::close(GOODBYE.0, GOODBYE.1));
        held.socket().shutdown(std::net::Shutdown::Both).unwrap();
        sending.join().unwrap();
    });
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn nobody_is_let_in_while_it_stops() {
    let mut gateway = Gateway::start(&format!("[gateway]\ndrain_timeout = \"20s\"\n{ROOM}{LISTENERS}"));
    let ports = [gateway.port("plain"), gateway.port("tls")];
    let mut client = gateway.client(Wire::Plain, "/");
    gateway.signal(Signal::TERM);
    assert_eq!(client.frame(), Frame::close(GOODBYE.0, GOODBYE.1));
    // It still waits for the answer to its Close.
    for port in ports {
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err(), "port {port} accepts");
    }
    client.send(&masked(0x88, &GOODBYE.0.to_be_bytes()));
    client.end();
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn a_second_signal_ends_at_once() {
    for (second, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let mut gateway = Gateway::start(&format!("[gateway]\ndrain_timeout = \"1h\"\n{ROOM}{LISTENERS}"));
        let mut silent = gateway.client(Wire::Plain, "/");
        gateway.signal(Signal::TERM);
        assert_eq!(silent.frame(), Frame::close(GOODBYE.0, GOODBYE.1));
        gateway.signal(second);
        assert_eq!(gateway.wait().code(), Some(code));
        assert!(gateway.whole_log().iter().any(|line| line.contains("again: ending at once")));
    }
}

#[test]
fn a_signal_at_the_very_start_is_a_stop_like_any_other() {
    for round in 0..25u64 {
        let mut gateway = Gateway::launch(&format!("{ROOM}{LISTENERS}"), |_| {});
        // Every second round as soon as its first line shows that it has taken over the signals, the
        // others at some moment of its first 50 ms, before which it may end as any process does.
        if round % 2 == 0 {
            gateway.wait_for_log(" starts with ");
        } else {
            let moment = Instant::now() + Duration::from_millis(2 * round);
            while Instant::now() < moment {
                thread::yield_now();
            }
        }
        gateway.signal(if round % 4 < 2 { Signal::TERM } else { Signal::INT });
        let status = gateway.wait();
        let log = gateway.whole_log();
        if log.iter().any(|line| line.contains(" starts with ")) {
            assert_eq!(status.code(), Some(0), "round {round}: {log:?}");
            assert!(log.last().unwrap().ends_with(" stopped"), "round {round}: {log:?}");
        } else {
            assert!(log.is_empty(), "round {round}: {log:?}");
        }
    }
}

#[test]
fn an_address_that_cannot_be_bound_is_named_with_the_cause() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let table = [
        (format!("127.0.0.1:{port}"), "Address already in use", "another process listens there"),
        ("192.0.2.1:0".to_owned(), "Cannot assign requested address", "this machine has no such address"),
        ("unix:/nowhere/at/all.sock".to_owned(), "No such file or directory", ""),
    ];
    for (address, cause, advice) in table {
        let config = format!("{LISTENERS}\n[[listen]]\nname = \"bad\"\naddress = \"{address}\"\n");
        let mut gateway = Gateway::launch(&config, |_| {});
        assert_eq!(gateway.wait().code(), Some(69), "{address}");
        let log = gateway.whole_log();
        let line = log.last().unwrap();
        assert!(line.contains(&format!("failed to bind '{address}'")), "{line}");
        assert!(line.contains(cause) && line.contains(advice), "{line}");
        assert!(!log.iter().any(|line| line.contains("accepting on")), "{log:?}");
    }
}

#[test]
fn systemd_is_told_when_it_is_ready_and_when_it_stops() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let supervisor = UnixDatagram::bind(&path).unwrap();
    supervisor.set_read_timeout(Some(DEADLINE)).unwrap();
    let told = || {
        let mut buffer = [0; 200];
        let length = supervisor.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap().trim_end().to_owned()
    };
    let mut gateway = Gateway::launch(&format!("{ROOM}{LISTENERS}"), |command| {
        command.env("NOTIFY_SOCKET", &path);
    });
    assert_eq!(told(), "READY=1");
    // Ready means that it accepts.
    let mut client = gateway.client(Wire::Plain, "/");
    gateway.signal(Signal::TERM);
    assert_eq!(told(), "STOPPING=1");
    client.closed_with(GOODBYE.0, GOODBYE.1);
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn every_connect_disconnect_and_refusal_is_one_line_that_nobody_can_forge() {
    const INJECTION: &str = "\u{1b}[2J\u{202e}x\u{2028}";
    let config = "[[endpoint]]\npath = \"/rooms/{room}\"\n[[endpoint]]\npath = \"/\"\n";
    let gateway = Gateway::start(&format!("{config}{LISTENERS}"));
    let encoded: String = INJECTION.bytes().map(|byte| format!("%{byte:02X}")).collect();

    // A name that would move the terminal is none; one that turns the text around is shown escaped.
    let mut refused = Raw::plain(gateway.port("plain"));
    refused.send(crate::harness::request(&format!("/rooms/{encoded}"), &[]).as_bytes());
    assert!(refused.head().starts_with("HTTP/1.1 404 "));
    let mut room = Raw::plain(gateway.port("plain"));
    room.upgrade("/rooms/%E2%80%AEx%E2%80%A8", &[]);
    let line = gateway.wait_for_log(&format!(":{}): connected", room.own_port()));
    assert!(line.contains(r"'/rooms/\u{202e}x\u{2028}'"), "{line}");

    let mut origin = Raw::plain(gateway.port("plain"));
    origin.send(crate::harness::request("/", &["Origin: http://evil\u{202e}"]).as_bytes());
    assert!(origin.head().starts_with("HTTP/1.1 40"));
    let mut origin = Raw::plain(gateway.port("plain"));
    origin.send(crate::harness::request("/", &["Origin: http://evil.example"]).as_bytes());
    assert!(origin.head().starts_with("HTTP/1.1 403 "));
    gateway.wait_for_log("refused with 403: pages of 'http://evil.example' may not connect to 'localhost'");

    let mut client = gateway.client(Wire::Plain, "/");
    let id = gateway.id_of(&client);
    let reason = "bye\r\n2026-01-01T00:00:00.000Z INFO  client 0: FORGED \u{1b}[31m";
    client.send(&masked(0x88, &[&1000u16.to_be_bytes()[..], reason.as_bytes()].concat()));
    assert_eq!(client.frame(), Frame::close(1000, reason));
    client.end();
    let line = gateway.wait_for_log(&format!("client {id}: disconnected"));
    assert!(line.contains(r"code 1000, reason 'bye\r\n2026"), "{line}");
    assert!(line.contains(r"FORGED \u{1b}[31m'"), "{line}");
    drop(room);
    gateway.wait_for_logs(": disconnected", 2);
    gateway.wait_for_logs(": refused with ", 3);
    for line in gateway.log() {
        assert!(line.starts_with("20") && !line.contains(char::is_control), "{line:?}");
    }
    let count = |text: &str| gateway.log().iter().filter(|line| line.contains(text)).count();
    assert_eq!((count(": connected to "), count(": disconnected "), count(": refused with ")), (2, 2, 3));
}
