//! `/metrics`: the table of docs/metrics.md and the program have the same metrics, each moves when what it counts
//! happens, and what clients have done is counted once, also when they leave.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::auth::{files_of, write};
use crate::harness::scrape::{Metric, Scrape};
use crate::harness::{
    DEADLINE, Frame, Gateway, Linked, Raw, Remote, eventually, masked, measured, pass, process, request,
};

/// The configuration of a gateway that has every metric.
fn everything(tokens: &str, up: &str, away: &str) -> String {
    format!(
        r#"
[gateway]
memory = "1GiB"
failed_credentials = {{ most = 2, within = "10s" }}
[log]
lines_per_second = 2
[admin]
address = "127.0.0.1:0"
[[listen]]
address = "127.0.0.1:0"
name = "plain"
[[auth]]
name = "devices"
kind = "tokens"
file = {tokens:?}
[[endpoint]]
path = "/"
to = ["reply"]
heartbeat = "1s"
[[endpoint]]
path = "/room"
to = ["broadcast"]
post = true
queue = {{ messages = 2, bytes = "64KiB", when_full = "drop_newest" }}
[[endpoint]]
path = "/slow"
to = ["reply"]
rate = {{ messages = 1, burst = "1s" }}
[[endpoint]]
path = "/closed"
auth = ["devices"]
[[endpoint]]
path = "/up"
to = ["link:up"]
[[endpoint]]
path = "/away"
to = ["link:away"]
events = ["connect"]
[[store]]
name = "readings"
path = "readings.db"
queue = {{ messages = 2, bytes = "64KiB", when_full = "drop_newest" }}
[[endpoint]]
path = "/stored"
to = ["store:readings"]
[[link]]
name = "up"
url = {up:?}
heartbeat = "1s"
to = ["link:away"]
events = ["connect"]
backoff = {{ first = "50ms", most = "50ms" }}
[[link]]
name = "away"
url = {away:?}
queue = {{ messages = 8, bytes = "64KiB", when_full = "drop_oldest" }}
backoff = {{ first = "100ms", most = "100ms" }}
"#
    )
}

/// What never changes while a gateway runs.
const CONSTANT: [&str; 6] = [
    "process_max_fds",
    "process_start_time_seconds",
    "wsgate_build_info",
    "wsgate_connections_limit",
    "wsgate_handshakes_limit",
    "wsgate_memory_limit_bytes",
];

/// The metrics of the tables in docs/metrics.md.
pub(crate) fn documented() -> BTreeSet<Metric> {
    let text = fs::read_to_string("docs/metrics.md").unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `wsgate_") || line.starts_with("| `process_"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let labels = cells[3].split(", ").filter(|label| !label.is_empty());
        Metric {
            name: cells[1].trim_matches('`').to_owned(),
            kind: cells[2].to_owned(),
            labels: labels.map(|label| label.trim_matches('`').to_owned()).collect(),
        }
    })
    .collect()
}

/// What has moved since the first scrape.
struct Moved {
    first: BTreeMap<String, Vec<String>>,
    moved: BTreeSet<String>,
}

impl Moved {
    fn new(first: &Scrape) -> Moved {
        Moved { first: first.values(), moved: BTreeSet::new() }
    }

    fn look(&mut self, scrape: &Scrape) {
        let changed = scrape.values().into_iter().filter(|(name, lines)| self.first.get(name) != Some(lines));
        self.moved.extend(changed.map(|(name, _)| name));
    }

    fn still(&self) -> BTreeSet<&str> {
        self.first.keys().filter(|name| !self.moved.contains(*name)).map(String::as_str).collect()
    }
}

/// Sends a request and waits for the answer.
fn ask(port: u16, path: &str, headers: &[&str]) {
    let mut client = Raw::plain(port);
    client.send(request(path, headers).as_bytes());
    client.head();
}

/// Closes a client in order.
fn leave(client: &mut Raw) {
    client.send(&masked(0x88, &1000u16.to_be_bytes()));
    assert_eq!(client.message(), Frame::close(1000, ""));
    client.end();
}

/// Reloads once, with this result.
fn reload(gateway: &Gateway, result: &str) {
    gateway.signal(Signal::HUP);
    let series = format!("wsgate_reloads_total{{result=\"{result}\"}}");
    eventually("it is counted", DEADLINE, || scrape(gateway).value(&series) == 1.0);
}

/// Has everything happen that is counted. What is returned has to live for as long as it is to be seen.
fn have_all_happen(gateway: &Gateway) -> Vec<Raw> {
    let port = gateway.port("plain");
    let client = |path: &str| {
        let mut client = Raw::plain(port);
        client.upgrade(path, &[]);
        client
    };
    let mut left = client("/");
    left.send_text("hello");
    assert_eq!(left.text(), "hello");
    leave(&mut left);
    let mut poster = Raw::plain(port);
    poster.send(b"POST /room HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx");
    assert!(poster.head().starts_with("HTTP/1.1 202 "));
    // Of six clients five read.
    let mut room: Vec<Raw> = (0..5).map(|_| client("/room")).collect();
    let mut stuck = Raw::narrow(port);
    stuck.upgrade("/room", &[]);
    for _ in 0..40 {
        room[0].send_frame(0x82, &vec![7; 100_000]);
        room.iter_mut().for_each(|reader| drop(reader.message()));
    }
    let mut slow = client("/slow");
    (0..20).for_each(|_| slow.send_text("more than it may"));
    for credential in ["Bearer hunter2-wrong"; 3] {
        ask(port, "/closed", &[&format!("Authorization: {credential}")]);
    }
    let mut up = client("/up");
    up.send_text("to the link");
    let mut away = client("/away");
    (0..20).for_each(|number| away.send_text(&number.to_string()));
    // Its event finds the queue of the link full.
    eventually("the queue is full", DEADLINE, || {
        scrape(gateway).value("wsgate_link_queue_messages{link=\"away\"}") >= 8.0
    });
    let mut kept = vec![client("/away"), Raw::plain(port)];
    reload(gateway, "ok");
    fs::remove_file(gateway.file("tokens.txt")).unwrap();
    reload(gateway, "failed");
    kept.extend(room);
    kept.extend([stuck, slow, up, away]);
    kept
}

/// Has a store keep a large message, and then one, two that wait and one that is dropped while its file is locked.
/// It is locked until what is returned is dropped.
fn store_while_locked(gateway: &Gateway) -> (rusqlite::Connection, Raw) {
    let mut client = Raw::plain(gateway.port("plain"));
    client.upgrade("/stored", &[]);
    client.send_frame(0x82, &vec![7; 100_000]);
    let is = |series: &str, value: f64| scrape(gateway).value(series) == value;
    eventually("it is stored", DEADLINE, || is("wsgate_store_messages{store=\"readings\"}", 1.0));
    let writer = rusqlite::Connection::open(gateway.file("readings.db")).unwrap();
    writer.execute_batch("BEGIN IMMEDIATE").unwrap();
    client.send_text("taken");
    eventually("it is locked", DEADLINE, || is("wsgate_store_state{store=\"readings\",state=\"locked\"}", 1.0));
    for text in ["waits", "waits", "dropped"] {
        client.send_text(text);
        // What comes in one read stays together.
        client.send_frame(0x89, b"x");
        client.message();
    }
    eventually("one is dropped", DEADLINE, || is("wsgate_store_dropped_messages_total{store=\"readings\"}", 1.0));
    (writer, client)
}

/// What the gateway says now.
pub(crate) fn scrape(gateway: &Gateway) -> Scrape {
    Scrape::of(gateway.admin_port())
}

/// Answers the pings of a link until the connection ends, by what is returned.
fn answer(mut linked: Linked) -> TcpStream {
    let stream = linked.0.get_ref().try_clone().unwrap();
    linked.send("from the server of the link");
    thread::spawn(move || while linked.0.read().is_ok() {});
    stream
}

#[test]
fn the_table_has_every_metric_and_each_moves() {
    let tokens = fs::read_to_string(files_of(&[("press", "hunter2-press")]).path().join("tokens.txt")).unwrap();
    let (away, mut up) = (Remote::away(), Remote::up());
    let gateway = Gateway::start_with(&everything("tokens.txt", &up.url(), &away.url()), |command| {
        let directory = command.get_current_dir().unwrap().to_owned();
        write(&directory.join("tokens.txt"), &tokens);
    });
    let linked = answer(up.accept());
    let first = scrape(&gateway);
    assert_eq!(first.metrics(), documented());
    let mut moved = Moved::new(&first);
    // One that answers its pings.
    let port = gateway.port("plain");
    let pinged = thread::spawn(move || {
        let mut client = Raw::plain(port);
        client.upgrade("/", &[]);
        client.pinged();
        client.pinged();
        client
    });
    let kept = have_all_happen(&gateway);
    let (locked, _stored) = store_while_locked(&gateway);
    // A link that comes back finds no room for its event.
    up.go();
    linked.shutdown(Shutdown::Both).unwrap();
    eventually("the link is down", DEADLINE, || scrape(&gateway).value("wsgate_link_up{link=\"up\"}") == 0.0);
    moved.look(&scrape(&gateway));
    drop(locked);
    up.come();
    let linked = answer(up.accept());
    let late = Instant::now() + 3 * DEADLINE;
    let expected: BTreeSet<&str> = CONSTANT.into();
    loop {
        moved.look(&scrape(&gateway));
        if moved.still() == expected {
            break;
        }
        assert!(Instant::now() < late, "these have not moved, or should not have: {:?}", moved.still());
        pass(Duration::from_millis(100));
    }
    accepted_by_promtool(&gateway);
    drop((kept, pinged.join().unwrap(), linked));
}

/// A gateway whose clients get their own messages.
fn echoing() -> Gateway {
    Gateway::start(
        "[admin]\naddress = \"127.0.0.1:0\"\n[[listen]]\naddress = \"127.0.0.1:0\"\nname = \"plain\"\n\
         [[endpoint]]\npath = \"/\"\nto = [\"reply\"]\nmax_connections = 1000\n",
    )
}

#[test]
fn what_clients_have_done_is_counted_once_while_they_come_and_go() {
    const CLIENTS: usize = 60;
    const MESSAGES: usize = 20;
    let gateway = echoing();
    let port = gateway.port("plain");
    let clients = thread::spawn(move || {
        for _ in 0..CLIENTS {
            let mut client = Raw::plain(port);
            client.upgrade("/", &[]);
            for _ in 0..MESSAGES {
                client.send_text("12345");
                client.text();
            }
            leave(&mut client);
        }
    });
    let counters = [
        "received_messages_total",
        "received_bytes_total",
        "sent_messages_total",
        "sent_bytes_total",
        "clients_connected_total",
    ];
    let series = counters.map(|name| format!("wsgate_{name}{{endpoint=\"/\"}}"));
    let mut last = [0.0; 5];
    let mut scrapes = 0;
    while !clients.is_finished() {
        let scrape = scrape(&gateway);
        for (series, last) in series.iter().zip(&mut last) {
            let value = scrape.value(series);
            assert!(value >= *last, "{series} fell from {last} to {value}");
            *last = value;
        }
        scrapes += 1;
    }
    clients.join().unwrap();
    let all = (CLIENTS * MESSAGES) as f64;
    eventually("all have left", DEADLINE, || scrape(&gateway).value("wsgate_clients{endpoint=\"/\"}") == 0.0);
    let end = scrape(&gateway);
    let [messages, bytes, sent, ..] = series.each_ref().map(|series| end.value(series));
    assert_eq!((messages, bytes, sent), (all, 5.0 * all, all));
    assert_eq!(end.value("wsgate_clients_disconnected_total{endpoint=\"/\",code=\"1000\"}"), CLIENTS as f64);
    measured(
        "metrics",
        format_args!("{scrapes} scrapes while {CLIENTS} clients came and went: no counter fell, none counted twice"),
    );
}

#[test]
fn every_accepted_connection_becomes_a_client_or_a_failure_with_its_reason() {
    let gateway = echoing();
    let port = gateway.port("plain");
    let mut client = Raw::plain(port);
    client.upgrade("/", &[]);
    ask(port, "/nowhere", &[]);
    ask(port, "/", &["Origin: http://elsewhere.example"]);
    let mut bad = Raw::plain(port);
    bad.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    bad.head();
    let mut wrong = Raw::plain(port);
    wrong.send(b"DELETE / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    wrong.head();
    drop(TcpStream::connect(("127.0.0.1", port)).unwrap());
    let failures = |scrape: &Scrape| scrape.sum("wsgate_handshake_failures_total");
    eventually("all are counted", DEADLINE, || failures(&scrape(&gateway)) >= 5.0);
    let scrape = scrape(&gateway);
    for reason in ["not_found", "origin", "no_upgrade", "bad_request", "gone"] {
        let series = format!("wsgate_handshake_failures_total{{reason=\"{reason}\"}}");
        assert_eq!(scrape.value(&series), 1.0, "{series}");
    }
    let clients = scrape.value("wsgate_clients_connected_total{endpoint=\"/\"}");
    assert_eq!(scrape.value("wsgate_connections_accepted_total"), clients + failures(&scrape));
}

/// Has promtool look at what the gateway says: it knows the format, and the conventions for names.
fn accepted_by_promtool(gateway: &Gateway) {
    if !is_installed("promtool") {
        return measured("metrics", "skipped: promtool is not installed");
    }
    let path = gateway.file("metrics.prom");
    fs::write(&path, scrape(gateway).0).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "promtool check metrics < \"$0\"", path.to_str().unwrap()]).stdin(Stdio::null());
    let output = process::run(&mut command, DEADLINE);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && told.is_empty(), "{told}");
}

/// Whether there is a program of this name.
pub(crate) fn is_installed(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}
