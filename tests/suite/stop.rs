//! Starting and stopping from outside: what a supervisor sees, what clients see, what the log says.

use std::fs::{self, OpenOptions};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::harness::{
    DEADLINE, Frame, Gateway, LISTENERS, Raw, Wire, eventually, masked, measured, nobody, pass, process, run_as,
    with_any_deliverers,
};

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
fn c14_a_client_that_reads_too_slowly_for_its_queue_still_gets_the_goodbye() {
    const MESSAGES: usize = 640;
    const SIZE: usize = 16 << 10;
    let mut gateway = Gateway::start(&format!("[gateway]\ndrain_timeout = \"3s\"\n{ROOM}{LISTENERS}"));
    let mut slow = gateway.narrow_client(Wire::Plain, "/");
    let id = gateway.id_of(&slow);
    let mut publisher = gateway.client(Wire::Plain, "/");
    for _ in 0..MESSAGES {
        publisher.send(&masked(0x82, &[b'x'; SIZE]));
        publisher.message();
    }
    gateway.signal(Signal::TERM);
    gateway.wait_for_log("stopping: closing 2 clients");
    // About 2 MB a second, for 10 MB.
    let mut heard = 0;
    let close = loop {
        let frame = slow.message();
        if frame.first == 0x88 {
            break frame;
        }
        heard += 1;
        pass(Duration::from_millis(8));
    };
    assert_eq!(close, Frame::close(GOODBYE.0, GOODBYE.1));
    slow.send(&masked(0x88, &close.payload[..2]));
    slow.end();
    assert_eq!(gateway.wait().code(), Some(0));
    let log = gateway.whole_log();
    let lines: Vec<_> = log.iter().filter(|line| line.contains(&format!("client {id}: "))).collect();
    let says = |text: &str| assert!(lines.iter().any(|line| line.contains(text)), "{text}: {lines:?}");
    says("code 1001, reason 'Server shutting down'");
    says(&format!("{} messages were still queued for it and got lost", MESSAGES - heard));
    measured("C14", format!("{heard} of {MESSAGES} messages, then 1001"));
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
        assert!(log.iter().any(|line| line.contains(" did not close in time: their connections are cut")), "{log:?}");
        assert!(log.last().unwrap().ends_with(" stopped"), "{log:?}");
        drop((frozen, half_open));
    }
}

/// How many clients a stop under load has, in rooms of ten, and how many messages they send in a second.
const TALKING: usize = 200;
const RATE: u32 = 1000;

/// Stops a gateway in the middle of its work, and checks that every client saw all that the others of its room saw,
/// and 1001.
fn stop_under_load(case: &str, drain: Duration, size: usize, frozen: usize, within: Duration) {
    const ROOM_OF: usize = 10;
    let config = format!(
        "[gateway]\ndrain_timeout = \"{}s\"\n[[endpoint]]\npath = \"/rooms/{{room}}\"\nmax_connections = 400\n{LISTENERS}",
        drain.as_secs()
    );
    let mut gateway = Gateway::start(&config);
    let rooms = TALKING / ROOM_OF;
    let room = |number: usize| format!("/rooms/{}", number % rooms);
    let readers_of_nothing: Vec<_> =
        (0..frozen).map(|number| gateway.narrow_client(Wire::BOTH[number % 2], &room(number))).collect();
    let talking: Vec<_> = (0..TALKING).map(|number| gateway.client(Wire::BOTH[number % 2], &room(number))).collect();
    let all_here = Barrier::new(TALKING + 1);
    let (ended, heard) = thread::scope(|scope| {
        let threads: Vec<_> = talking
            .into_iter()
            .enumerate()
            .map(|(number, client)| {
                scope.spawn({
                    let all_here = &all_here;
                    move || {
                        all_here.wait();
                        talk_until_goodbye(client, number, size)
                    }
                })
            })
            .collect();
        all_here.wait();
        // Long enough to be in the middle of it; nothing tells when that is.
        pass(Duration::from_secs(2));
        let told = Instant::now();
        gateway.signal(Signal::TERM);
        assert_eq!(gateway.wait().code(), Some(0));
        let ended = told.elapsed();
        (ended, threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>())
    });
    drop(readers_of_nothing);
    let messages: usize = heard.iter().map(Vec::len).sum();
    measured(
        case,
        format!(
            "exit 0 after {ended:.1?}, {} of {TALKING} saw 1001, {messages} deliveries, 0 lost, {frozen} frozen",
            heard.len()
        ),
    );
    for (number, own) in heard.iter().enumerate() {
        assert!(own.len() > 10, "client {number} heard only {own:?}");
        // All clients of a room get the same in the same order, up to the end.
        assert!(*own == heard[number % rooms], "client {number} and client {} heard different things", number % rooms);
    }
    assert!(ended < within, "{ended:?}");
}

/// Talks at its share of the rate until it is told that the gateway stops; returns all that it heard.
fn talk_until_goodbye(mut client: Raw, number: usize, size: usize) -> Vec<String> {
    let pause = Duration::from_secs(1) * TALKING as u32 / RATE;
    let mut next = Instant::now() + pause * number as u32 / TALKING as u32;
    let mut heard = Vec::new();
    for count in 0.. {
        while let Some(left) = next.checked_duration_since(Instant::now()) {
            if !client.has_input_within(left) {
                continue;
            }
            let frame = client.message();
            if frame.first == 0x88 {
                assert_eq!(frame, Frame::close(GOODBYE.0, GOODBYE.1));
                // It may have ended already if this is the answer to nothing that it waits for.
                let _ = client.try_send(&masked(0x88, &GOODBYE.0.to_be_bytes()));
                return heard;
            }
            heard.push(String::from_utf8(frame.payload).unwrap());
        }
        next += pause;
        // Behind our back it may have begun to stop; the Close is read in the next round.
        let _ = client.try_send(&masked(0x81, format!("{number}: {count} {}", "x".repeat(size)).as_bytes()));
    }
    unreachable!("the count has no end")
}

#[test]
fn o1_a_stop_under_load_loses_nothing_and_closes_every_client_with_1001() {
    stop_under_load("O1", Duration::from_secs(8), 100, 0, Duration::from_secs(10));
}

#[test]
fn o2_a_stop_with_clients_that_never_read_holds_its_deadline() {
    let drain = Duration::from_secs(3);
    // More than the kernel's buffers hold of them within those two seconds.
    stop_under_load("O2", drain, 5000, 50, drain + Duration::from_secs(1));
}

#[test]
fn a_client_that_does_not_answer_the_goodbye_is_waited_for_no_longer_than_close_timeout() {
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
        // It is held long before the last of these, and the gateway does not read them from then on.
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
fn r6_a_signal_at_the_very_start_is_a_stop_like_any_other() {
    // Whatever a shell script starts in the background ignores SIGINT until it says otherwise, and so would the
    // gateway before its first line.
    let no_interrupt = is_ignored(Signal::INT);
    let mut designed = 0;
    let mut stopped = 0;
    for round in 0..50u64 {
        let mut gateway = Gateway::launch(&format!("{ROOM}{LISTENERS}"), |_| {});
        // Every second round as soon as its first line shows that it has taken over the signals, the
        // others at some moment of its first 50 ms, before which it may end as any process does.
        if round % 2 == 0 {
            gateway.wait_for_log(" starts with ");
        } else {
            pass(Duration::from_millis(round));
        }
        let signals = [Signal::TERM, Signal::TERM, Signal::INT, if no_interrupt { Signal::TERM } else { Signal::INT }];
        gateway.signal(signals[round as usize % 4]);
        let status = gateway.wait();
        let log = gateway.whole_log();
        if log.iter().any(|line| line.contains(" starts with ")) {
            assert_eq!(status.code(), Some(0), "round {round}: {log:?}");
            assert!(log.last().unwrap().ends_with(" stopped"), "round {round}: {log:?}");
            stopped += 1;
        } else {
            assert!(log.is_empty(), "round {round}: {log:?}");
        }
        designed += 1;
    }
    measured("R6", format!("{designed} of 50 as designed, {stopped} of them in order"));
    assert!(stopped >= 25);
}

/// Whether this process, and so what it starts, ignores a signal.
fn is_ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    u64::from_str_radix(ignored.trim(), 16).unwrap() >> (signal.as_raw() - 1) & 1 == 1
}

#[test]
fn r6_a_hangup_ends_nothing_from_its_first_line_on() {
    // Before the first line it ends a process that has not begun.
    let mut alive = 0;
    for round in 0..50u64 {
        let mut gateway = Gateway::launch(&format!("{ROOM}{LISTENERS}"), |_| {});
        gateway.wait_for_log(" starts with ");
        pass(Duration::from_millis(round / 10));
        gateway.signal(Signal::HUP);
        gateway.wait_for_log("reload: read again ");
        gateway.wait_for_logs(": accepting on ", 2);
        assert_eq!(gateway.terminate().code(), Some(0), "round {round}");
        alive += 1;
    }
    measured("R6", format!("SIGHUP: {alive} of 50 went on"));
}

#[test]
fn r6_clients_notice_nothing_of_sigpipe_and_sighup() {
    let mut gateway = Gateway::start(&format!("{ROOM}{LISTENERS}"));
    let mut clients = Wire::BOTH.map(|wire| gateway.client(wire, "/"));
    for signal in [Signal::PIPE, Signal::HUP, Signal::PIPE, Signal::HUP] {
        gateway.signal(signal);
        clients[0].send_text("still here");
        for client in &mut clients {
            assert_eq!(client.text(), "still here");
        }
    }
    gateway.wait_for_logs("reload: read again ", 1);
    measured("R6", "SIGPIPE and SIGHUP: 2 of 2 clients went on");
    gateway.signal(Signal::TERM);
    for client in &mut clients {
        client.closed_with(GOODBYE.0, GOODBYE.1);
    }
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn r6_a_gateway_whose_terminal_is_closed_stops_in_order() {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
    let window = || OpenOptions::new().read(true).write(true).custom_flags(OFlags::NOCTTY.bits() as i32).open(&name);
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("ws.sock");
    let config = directory.path().join("wsgate.toml");
    fs::write(&config, format!("[[listen]]\naddress = \"unix:{}\"\n", socket.display())).unwrap();
    let mut command = Command::new("setsid");
    // A session of its own, of which this is the terminal.
    command.args(["--ctty", env!("CARGO_BIN_EXE_wsgate"), "serve", "--config"]).arg(&config);
    command.env_remove("RUST_LOG");
    command.stdin(window().unwrap()).stdout(window().unwrap()).stderr(window().unwrap());
    let mut child = command.spawn().unwrap();
    // The command keeps the descriptors that it gives to the child.
    drop(command);
    eventually("it accepts", DEADLINE, || UnixStream::connect(&socket).is_ok());
    let mut client = Raw::unix(&socket);
    client.upgrade("/", &[]);

    // Without a reading end what it logs stays in the terminal, of which there is little.
    let closed = Instant::now();
    drop(terminal);
    client.closed_with(GOODBYE.0, GOODBYE.1);
    let status = process::wait(&mut child, DEADLINE);
    if status.is_none() {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let ended = closed.elapsed();
    measured("R6", format!("a closed terminal: {status:?} after {ended:.1?}, its client saw 1001"));
    assert_eq!(status.and_then(|status| status.code()), Some(0));
}

#[test]
fn l7_an_address_that_cannot_be_bound_is_named_with_the_cause() {
    let first = Gateway::start(&format!("{ROOM}{LISTENERS}"));
    let mut client = first.client(Wire::Plain, "/");
    let taken = first.port("plain");
    let table = [
        (format!("127.0.0.1:{taken}"), "Address already in use", "another process listens there"),
        ("192.0.2.1:0".to_owned(), "Cannot assign requested address", "this machine has no such address"),
        ("unix:/nowhere/at/all.sock".to_owned(), "No such file or directory", ""),
    ];
    for (address, cause, advice) in table {
        l7_fails_to_bind(&address, 69, cause, advice, |_| {});
    }
    client.send_text("untouched");
    assert_eq!(client.text(), "untouched");
}

#[test]
fn l7_a_privileged_port_is_refused_with_what_to_do() {
    let Some(user) = nobody() else { return measured("L7", "skipped: only root can become another user") };
    let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    if first.trim().parse::<u16>().unwrap() <= 81 {
        return measured("L7", "skipped: no port is privileged here");
    }
    let advice = "choose a port above 1023, or grant CAP_NET_BIND_SERVICE";
    l7_fails_to_bind("127.0.0.1:81", 77, "Permission denied", advice, |command| run_as(user, &["--core=0"], command));
}

/// Starts a gateway one of whose listeners cannot have its address: one line says so, and nothing of it has begun.
fn l7_fails_to_bind(address: &str, code: i32, cause: &str, advice: &str, prepare: impl FnOnce(&mut Command)) {
    let config = format!("{LISTENERS}\n[[listen]]\nname = \"bad\"\naddress = \"{address}\"\n");
    let begun = Instant::now();
    let mut gateway = Gateway::launch(&config, prepare);
    assert_eq!(gateway.wait().code(), Some(code), "{address}");
    // The certificates that the harness makes are part of it.
    let ended = begun.elapsed();
    let log = gateway.whole_log();
    measured("L7", format!("'{address}': exit code {code} after {ended:.1?}"));
    assert!(ended < Duration::from_secs(1), "{ended:?}");
    let lines: Vec<_> = log.iter().filter(|line| line.contains(" ERROR ")).collect();
    assert_eq!(lines.len(), 1, "{log:?}");
    assert!(lines[0].contains(&format!("failed to bind '{address}'")), "{lines:?}");
    assert!(lines[0].contains(cause) && lines[0].contains(advice), "{lines:?}");
    assert!(!log.iter().any(|line| line.contains("accepting on")), "{log:?}");
}

#[test]
fn every_connect_disconnect_and_refusal_is_one_log_line_that_no_peer_can_forge() {
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
    gateway.wait_for_log("refused with 403: Origin 'http://evil.example' may not connect to Host 'localhost'");

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

#[test]
fn a_start_that_fails_half_way_stops_the_threads_that_it_has_started() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("wsgate.toml");
    fs::write(&config, "[gateway]\ndeliverers = 64\n\n[[listen]]\naddress = \"127.0.0.1:0\"\n").unwrap();
    // A few stacks of 64 MiB have room in it. What is left when one more has none is enough for those that have begun.
    let mut command = Command::new("prlimit");
    command.args(["--as=1000000000", env!("CARGO_BIN_EXE_wsgate"), "serve", "--config"]).arg(&config);
    command.env("RUST_MIN_STACK", (64 << 20).to_string()).env("MALLOC_ARENA_MAX", "1");
    let output = process::run(&mut command, DEADLINE);
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(71), "{log}");
    let (stopped, failed) = (log.find(" stopped\n"), log.find(" failed to start a deliverer: "));
    assert!(stopped.is_some() && stopped < failed, "{log}");
}
