//! A drain (SIGUSR2): clients leave one after the other, nobody comes in, and the process ends.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{DEADLINE, Frame, Gateway, LISTENERS, Raw, Remote, Wire, eventually, masked, measured, request};

const CLOSE: (u16, &str) = (1012, "Service restart");

fn gateway(timeout: &str, more: &str) -> Gateway {
    let listeners = LISTENERS.replace("[[listen]]\n", "[[listen]]\nhealth = \"/healthz\"\n");
    Gateway::start(&format!("[gateway]\ndrain_timeout = \"{timeout}\"\nclose_timeout = \"1s\"\n{listeners}{more}"))
}

/// The head of the answer to this request.
fn answer(gateway: &Gateway, request: &str) -> String {
    let mut client = gateway.raw("plain");
    client.send(request.as_bytes());
    client.head()
}

#[test]
fn o5_a_thousand_clients_leave_evenly_with_1012() {
    const CLIENTS: usize = 1000;
    const SECONDS: usize = 10;
    let mut gateway =
        gateway(&format!("{SECONDS}s"), "[[endpoint]]\npath = \"/rooms/{room}\"\nmax_connections = 1000\n");
    let clients: Vec<Raw> = (0..CLIENTS).map(|n| gateway.client(Wire::Plain, &format!("/rooms/{}", n % 100))).collect();
    let begin = Instant::now();
    gateway.signal(Signal::USR2);
    let left: Vec<Duration> = thread::scope(|scope| {
        let left = |mut client: Raw| {
            while !client.has_input_within(2 * DEADLINE) {}
            let at = begin.elapsed();
            client.closed_with(CLOSE.0, CLOSE.1);
            at
        };
        let start = |client| thread::Builder::new().stack_size(256 << 10).spawn_scoped(scope, move || left(client));
        let threads: Vec<_> = clients.into_iter().map(|client| start(client).unwrap()).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(gateway.wait().code(), Some(0));
    let in_second = |second| left.iter().filter(|at| at.as_secs() as usize == second).count();
    let counts: Vec<_> = (0..SECONDS).map(in_second).collect();
    measured("O5", format!("of {CLIENTS} clients, closed in each of {SECONDS} seconds: {counts:?}"));
    // A busy machine may be behind for a moment, and catches up.
    let even = CLIENTS / SECONDS;
    let unlike = counts.iter().filter(|count| count.abs_diff(even) > even * 3 / 10).count();
    assert!(unlike <= 3 && counts.iter().all(|count| *count <= 2 * even), "{counts:?}");
}

#[test]
fn o5_while_it_drains_nobody_is_let_in_and_it_is_not_ready() {
    let mut gateway = gateway("4s", "");
    let mut clients: Vec<_> = Wire::BOTH.into_iter().map(|wire| gateway.client(wire, "/")).collect();
    gateway.signal(Signal::USR2);
    gateway.wait_for_log("draining: closing 2 clients with 1012, evenly over 4s");
    let refused = answer(&gateway, &request("/", &[]));
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("\r\nRetry-After: 4\r\n"), "{refused}");
    assert!(answer(&gateway, "GET /healthz HTTP/1.0\r\n\r\n").starts_with("HTTP/1.1 503 "));
    // The one that is still there is served as ever, until its turn.
    let first = clients.iter_mut().position(|client| client.has_input_within(Duration::from_millis(1)));
    if let Some(mut stays) = first.map(|first| clients.swap_remove(1 - first)) {
        stays.send(&masked(0x81, b"still here"));
        assert_eq!(stays.text(), "still here");
        clients.push(stays);
    }
    clients.iter_mut().for_each(|client| client.closed_with(CLOSE.0, CLOSE.1));
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(gateway.whole_log().iter().any(|line| line.contains("drained: stopping")));
}

#[test]
fn what_was_published_before_comes_before_the_close_and_a_link_sends_what_waits() {
    let mut remote = Remote::away();
    let link = format!(
        "[[endpoint]]\npath = \"/\"\nto = [\"broadcast\", \"link:plc\"]\n[[link]]\nname = \"plc\"\nurl = \"{}\"\n\
         backoff = {{ first = \"10ms\", most = \"50ms\" }}\n",
        remote.url()
    );
    let mut gateway = gateway("1s", &link);
    let mut clients: Vec<_> = (0..8).map(|_| gateway.client(Wire::Plain, "/")).collect();
    (0..100).for_each(|number| clients[0].send_text(&number.to_string()));
    assert_eq!((0..100).map(|_| clients[0].text()).last().unwrap(), "99");
    gateway.signal(Signal::USR2);
    gateway.wait_for_log("draining: ");
    for client in &mut clients[1..] {
        (0..100).for_each(|number| assert_eq!(client.text(), number.to_string()));
    }
    remote.come();
    let mut linked = remote.accept();
    (0..100).for_each(|number| assert_eq!(linked.text(), number.to_string()));
    drop(thread::spawn(move || linked.closed()));
    clients.iter_mut().for_each(|client| client.closed_with(CLOSE.0, CLOSE.1));
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn o5_clients_that_never_answer_or_never_read_do_not_hold_a_drain() {
    let mut gateway = gateway("1s", "");
    let mut silent = gateway.client(Wire::Plain, "/");
    let _frozen = gateway.narrow_client(Wire::Plain, "/");
    let begin = Instant::now();
    gateway.signal(Signal::USR2);
    assert_eq!(silent.message(), Frame::close(CLOSE.0, CLOSE.1));
    assert_eq!(gateway.wait().code(), Some(0));
    measured("O5", format!("a drain of 1 s with a client that never answers: {:.1?}", begin.elapsed()));
}

#[test]
fn o5_a_signal_to_stop_ends_a_drain() {
    let mut gateway = gateway("1m", "");
    let mut clients: Vec<_> = (0..3).map(|_| gateway.client(Wire::Plain, "/")).collect();
    gateway.signal(Signal::USR2);
    gateway.wait_for_log("draining: ");
    gateway.signal(Signal::USR2);
    eventually("the first is closed", DEADLINE, || {
        clients.iter_mut().any(|client| client.has_input_within(Duration::from_millis(1)))
    });
    gateway.signal(Signal::TERM);
    let codes: Vec<_> = clients.iter_mut().map(|client| client.message().payload[..2].to_vec()).collect();
    assert_eq!(codes.iter().filter(|code| **code == 1012u16.to_be_bytes()).count(), 1, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| **code == 1001u16.to_be_bytes()).count(), 2, "{codes:?}");
    drop(clients);
    assert_eq!(gateway.wait().code(), Some(0));
}
