//! Acknowledgements: what is said to be stored is on the disk by then and survives whatever comes, and the end of a
//! connection comes behind it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{DEADLINE, Frame, Gateway, LISTENERS, Raw, Wire, by_way_of, masked, measured, pass};
use crate::stores::{rows, stored};

/// An endpoint that acknowledges, over a store with these lines.
fn config(path: &str, store: &str) -> String {
    format!(
        "{LISTENERS}[[store]]\nname = \"readings\"\npath = {path:?}\n{store}\n\
         [[endpoint]]\npath = \"/in/{{device}}\"\nto = [\"store:readings\"]\nack = \"stored\"\n"
    )
}

fn start(store: &str) -> Gateway {
    Gateway::start(&config("readings.db", store))
}

/// How many messages are stored, and the number of the last, as an acknowledgement says.
fn acknowledgement(text: &str) -> (u64, u64) {
    let value: serde_json::Value = serde_json::from_str(text).unwrap();
    assert_eq!(value["type"], "ack", "{text}");
    let (origin, seq) = value["seq"].as_str().unwrap().split_once('-').unwrap();
    assert!(origin.len() == 16 && origin.bytes().all(|b| b.is_ascii_hexdigit()), "{text}");
    (value["stored"].as_u64().unwrap(), seq.parse().unwrap())
}

/// Reads acknowledgements, which ascend, until this many messages are stored; says how many came, and the last number.
fn acknowledged(client: &mut Raw, messages: u64) -> (usize, u64) {
    let (mut count, mut last) = (0, 0);
    loop {
        let (stored, seq) = acknowledgement(&client.text());
        assert!(last < stored && stored <= messages, "{stored} behind {last} of {messages}");
        (count, last) = (count + 1, stored);
        if stored == messages {
            return (count, seq);
        }
    }
}

#[test]
fn a_client_is_told_once_for_each_commit_how_many_of_its_messages_are_stored() {
    let gateway = start("gather = \"500ms\"");
    let [mut one, mut two] = ["a", "b"].map(|device| gateway.client(Wire::Plain, &format!("/in/{device}")));
    for number in 1..=50 {
        one.send_text(&number.to_string());
        two.send_frame(0x82, b"x");
    }
    let (first, second) = (acknowledged(&mut one, 50), acknowledged(&mut two, 50));
    // Most come within the first commit; no machine is so slow that each has its own.
    assert!(first.0 <= 5 && second.0 <= 5, "{first:?} {second:?}");
    assert_eq!(first.1.max(second.1), 100, "the numbers are those of the store");
    let last = format!("SELECT payload FROM messages WHERE seq = {}", first.1);
    assert_eq!(rows(&gateway.file("readings.db"), &last), ["50"]);
    one.send_text("51");
    assert_eq!(acknowledged(&mut one, 51).0, 1);
}

#[test]
fn a_close_is_answered_behind_the_acknowledgement_of_what_came_before_it() {
    let gateway = start("gather = \"1s\"");
    let mut client = gateway.client(Wire::Tls, "/in/a");
    client.send(&[masked(0x81, b"last words"), masked(0x88, &1000u16.to_be_bytes())].concat());
    assert_eq!(acknowledgement(&client.text()), (1, 1));
    assert_eq!(client.message(), Frame::close(1000, ""));
}

#[test]
fn a_close_is_not_held_up_for_longer_than_close_timeout_by_a_store_that_cannot_store() {
    let gateway = Gateway::start(&format!("[gateway]\nclose_timeout = \"1s\"\n{}", config("readings.db", "")));
    let writer = rusqlite::Connection::open(gateway.file("readings.db")).unwrap();
    writer.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut client = gateway.client(Wire::Plain, "/in/a");
    let begun = Instant::now();
    client.send(&[masked(0x81, b"x"), masked(0x88, &1000u16.to_be_bytes())].concat());
    assert_eq!(client.message(), Frame::close(1000, ""));
    assert!((Duration::from_millis(900)..Duration::from_secs(4)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
}

#[test]
fn o1_a_stop_acknowledges_what_was_sent_before_it_says_goodbye() {
    let mut gateway = start("gather = \"3s\"");
    let mut client = gateway.client(Wire::Plain, "/in/a");
    (0..100).for_each(|number| client.send_text(&number.to_string()));
    client.send_frame(0x89, b"x");
    assert_eq!(client.message().payload, b"x");
    gateway.signal(Signal::TERM);
    acknowledged(&mut client, 100);
    client.closed_with(1001, "Server shutting down");
    assert!(gateway.wait().success());
    assert_eq!(stored(&gateway.file("readings.db")), 100);
}

/// What the log of `strace -f -y -s 100000 -e trace=pwrite64,fdatasync,sendto,sendmsg` says, in order.
#[derive(Debug)]
enum Call {
    Written(BTreeSet<u64>),
    Synced,
    Acknowledged(u64),
}

fn numbers_behind(line: &str, mark: &str) -> BTreeSet<u64> {
    let numbers = line.split(mark).skip(1);
    numbers.filter_map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()).collect()
}

fn calls(trace: &str) -> Vec<Call> {
    let is_log = |line: &str| line.contains("readings.db-wal>");
    let mut syncing = BTreeSet::new();
    let mut calls = Vec::new();
    for line in trace.lines() {
        let thread = line.split(' ').next().unwrap();
        if line.contains("pwrite64(") && is_log(line) {
            calls.push(Call::Written(numbers_behind(line, "reading-")));
        } else if line.contains("fdatasync(") && is_log(line) {
            match line.contains("unfinished") {
                true => drop(syncing.insert(thread)),
                false if line.ends_with("= 0") => calls.push(Call::Synced),
                false => {}
            }
        } else if line.contains("fdatasync resumed") && syncing.remove(thread) && line.ends_with("= 0") {
            calls.push(Call::Synced);
        } else if line.contains("send") {
            calls.extend(numbers_behind(line, "\\\"stored\\\":").into_iter().map(Call::Acknowledged));
        }
    }
    calls
}

#[test]
fn d1_nothing_is_acknowledged_before_it_was_written_and_synced() {
    const MESSAGES: u64 = 1000;
    let trace = tempfile::NamedTempFile::new().unwrap();
    let path = trace.path().to_str().unwrap().to_owned();
    let way = ["strace", "-f", "-y", "-s", "100000", "-e", "trace=pwrite64,fdatasync,sendto,sendmsg", "-o", &path];
    let mut gateway = Gateway::start_with(&config("readings.db", ""), |command| by_way_of(&way, command));
    let mut client = gateway.client(Wire::Plain, "/in/a");
    let mut writer = client.writer();
    // In pieces, so that there are many commits.
    let sending = thread::spawn(move || {
        for number in 1..=MESSAGES {
            writer.send_text(&format!("reading-{number};"));
            if number % 5 == 0 {
                pass(Duration::from_millis(1));
            }
        }
    });
    acknowledged(&mut client, MESSAGES);
    sending.join().unwrap();
    let lock = fs::read_to_string(gateway.file("readings.db.lock")).unwrap();
    let child: u32 = lock.lines().next().unwrap().parse().unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(child as i32).unwrap(), Signal::TERM).unwrap();
    client.closed_with(1001, "Server shutting down");
    gateway.wait();
    let [mut written, mut synced] = [(); 2].map(|()| BTreeSet::<u64>::new());
    let (mut acknowledged, mut syncs) = (0, 0);
    for call in calls(&fs::read_to_string(trace.path()).unwrap()) {
        match call {
            Call::Written(numbers) => written.extend(numbers),
            Call::Synced => {
                syncs += 1;
                synced.extend(&written);
            }
            Call::Acknowledged(stored) => {
                assert!((1..=stored).all(|number| synced.contains(&number)), "{stored} came before its sync");
                acknowledged = stored;
            }
        }
    }
    assert_eq!(acknowledged, MESSAGES, "the trace has not all of it");
    assert!(syncs >= 10, "only {syncs} commits");
    measured("D1", format_args!("0 of {MESSAGES} messages acknowledged before their sync, in {syncs} syncs"));
}

/// A device that sends one message after the other, each once the one before is acknowledged, over one connection after
/// the other: what was not acknowledged it sends again. Notes what was.
fn device(name: usize, port: &AtomicU64, stop: &AtomicBool, acknowledged: &Mutex<BTreeSet<String>>) {
    let mut next = 0;
    while !stop.load(Ordering::Relaxed) {
        let Some(mut client) = connect(port.load(Ordering::Relaxed) as u16, &format!("/in/{name}")) else {
            pass(Duration::from_millis(5));
            continue;
        };
        while !stop.load(Ordering::Relaxed) {
            let reading = format!("{name}-{next}");
            let sent = client.send(tungstenite::Message::text(&reading));
            match sent.and_then(|()| client.read()) {
                Ok(tungstenite::Message::Text(_)) => drop(acknowledged.lock().unwrap().insert(reading)),
                _ => break,
            }
            next += 1;
        }
    }
}

type Client = tungstenite::WebSocket<std::net::TcpStream>;

fn connect(port: u16, path: &str) -> Option<Client> {
    let stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    tungstenite::client(format!("ws://127.0.0.1:{port}{path}"), stream).ok().map(|(client, _)| client)
}

/// Kills a gateway under load so often, and says how many messages were acknowledged and how many were stored twice.
fn kill_under_load(path: &Path, kills: u64) -> (usize, usize) {
    let text = config(path.to_str().unwrap(), "");
    let (port, stop, acknowledged) = (AtomicU64::new(0), AtomicBool::new(false), Mutex::default());
    thread::scope(|scope| {
        for name in 0..8 {
            let (port, stop, acknowledged) = (&port, &stop, &acknowledged);
            scope.spawn(move || device(name, port, stop, acknowledged));
        }
        for kill in 0..kills {
            let gateway = Gateway::start(&text);
            port.store(gateway.port("plain").into(), Ordering::Relaxed);
            // Not the same time in each round, and the same in each run.
            pass(Duration::from_millis(30 + kill * 7919 % 250));
            gateway.signal(Signal::KILL);
        }
        stop.store(true, Ordering::Relaxed);
    });
    let all = rows(path, "SELECT payload FROM messages ORDER BY seq");
    let stored: BTreeSet<&String> = all.iter().collect();
    let acknowledged = acknowledged.into_inner().unwrap();
    let missing: Vec<_> = acknowledged.iter().filter(|reading| !stored.contains(reading)).collect();
    assert!(
        missing.is_empty(),
        "{} of {} were acknowledged and are lost: {missing:?}",
        missing.len(),
        acknowledged.len()
    );
    (acknowledged.len(), all.len() - stored.len())
}

#[test]
fn d2_no_kill_loses_what_was_acknowledged() {
    const KILLS: u64 = 20;
    let directory = tempfile::tempdir().unwrap();
    let (acknowledged, twice) = kill_under_load(&directory.path().join("readings.db"), KILLS);
    assert!(acknowledged > 200, "only {acknowledged}");
    measured("D2", format_args!("{KILLS} kills: 0 of {acknowledged} acknowledged messages lost, {twice} stored twice"));
}
