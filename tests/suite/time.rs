//! Clocks that jump: a wall clock that is set, a process that is suspended.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{Gateway, LISTENERS, Wire, masked, measured, pass};

/// Every deadline is short, and all of them are over long before these tests are.
const IMPATIENT: &str = r#"
[gateway]
close_timeout = "1s"

[[endpoint]]
path = "/"
max_connections = 100
heartbeat = "2s"
pong_timeout = "2s"
message_timeout = "1s"
write_timeout = "1s"
"#;

/// Clients that do nothing but answer pings, each on a thread of its own, while `story` is told once all are here.
/// Returns how many pings each got; a client that is cut fails the test.
fn while_answering_pings(gateway: &Gateway, clients: usize, story: impl FnOnce()) -> Vec<usize> {
    let is_over = AtomicBool::new(false);
    let pings: Vec<_> = (0..clients).map(|_| AtomicUsize::new(0)).collect();
    thread::scope(|scope| {
        for (number, pings) in pings.iter().enumerate() {
            let is_over = &is_over;
            scope.spawn(move || {
                let mut client = gateway.client(Wire::BOTH[number % 2], "/");
                while !is_over.load(Ordering::Relaxed) {
                    if client.has_input_within(Duration::from_millis(100)) {
                        client.pinged();
                        pings.fetch_add(1, Ordering::Relaxed);
                    }
                }
                // It is still a client.
                client.send(&masked(0x88, &[3, 0xe8]));
                while client.message().first != 0x88 {}
            });
        }
        gateway.wait_for_logs(": connected to ", clients);
        story();
        is_over.store(true, Ordering::Relaxed);
    });
    pings.into_iter().map(AtomicUsize::into_inner).collect()
}

/// Debian's libfaketime, which gives a process another wall clock.
fn faketime() -> Option<PathBuf> {
    let libraries = fs::read_dir("/usr/lib").ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    libraries.map(|directory| directory.join("faketime/libfaketimeMT.so.1")).find(|library| library.exists())
}

fn set_clock(clock: &Path, offset: &str) {
    // In one step: the gateway reads it at any time.
    let new = clock.with_extension("new");
    fs::write(&new, offset).unwrap();
    fs::rename(new, clock).unwrap();
}

#[test]
fn l9_a_wall_clock_that_jumps_by_ten_years_cuts_and_pings_nobody() {
    const CLIENTS: usize = 20;
    let Some(library) = faketime() else { return measured("L9", "skipped: Debian's faketime is not installed") };
    let directory = tempfile::tempdir().unwrap();
    let clock = directory.path().join("clock");
    set_clock(&clock, "+0d");
    let gateway = Gateway::start_with(&format!("{IMPATIENT}{LISTENERS}"), |command| {
        command.env("LD_PRELOAD", &library).env("FAKETIME_TIMESTAMP_FILE", &clock);
        command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("FAKETIME_NO_CACHE", "1");
    });
    let year = |line: &str| line[..4].parse::<i32>().unwrap();
    let now = year(&gateway.log()[0]);
    let begun = Instant::now();
    let pings = while_answering_pings(&gateway, CLIENTS, || {
        for offset in ["+3650d", "-3650d", "+0d", "+3650d"] {
            set_clock(&clock, offset);
            // A client that comes now shows that the clock has jumped, and that new ones are as welcome as ever.
            let stranger = gateway.client(Wire::Plain, "/");
            let id = gateway.id_of(&stranger);
            let line = gateway.wait_for_log(&format!("client {id} "));
            let years = match offset.as_bytes() {
                [b'+', b'0', ..] => 0,
                [b'+', ..] => 10,
                _ => -10,
            };
            assert!((year(&line) - now - years).abs() <= 1, "the clock is not at {offset}: {line}");
            drop(stranger);
            pass(Duration::from_secs(2));
        }
    });
    // Every client ended in order, or the threads would have said so. A ping every 2 s, and the tick's rounding.
    let most = begun.elapsed().as_secs() as usize / 2 + 1;
    let (fewest, many) = (pings.iter().min().unwrap(), pings.iter().max().unwrap());
    measured("L9", format!("0 of {CLIENTS} cut; {fewest} to {many} pings each, {most} are due"));
    assert!(*many <= most, "{many} pings to one client");
    assert!(*fewest + 3 >= most, "only {fewest} pings to one client");
}

#[test]
fn l10_a_gateway_that_was_suspended_longer_than_every_deadline_cuts_nobody() {
    const CLIENTS: usize = 50;
    let gateway = Gateway::start(&format!("{IMPATIENT}{LISTENERS}"));
    let pings = while_answering_pings(&gateway, CLIENTS, || {
        pass(Duration::from_secs(2));
        gateway.signal(Signal::STOP);
        // More than the interval and the time for an answer together.
        pass(Duration::from_secs(6));
        gateway.signal(Signal::CONT);
        pass(Duration::from_secs(5));
        let cut: Vec<_> = gateway.log().into_iter().filter(|line| line.contains(": disconnected from ")).collect();
        measured("L10", format!("{} of {CLIENTS} alive 5 s after 6 s of suspension", CLIENTS - cut.len()));
        assert!(cut.is_empty(), "{cut:#?}");
    });
    assert!(pings.iter().all(|pings| *pings > 0), "a client was not pinged: {pings:?}");
}
