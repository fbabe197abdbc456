//! Stores: what is sent is in the file, others read it meanwhile, and whatever is in the way of storing costs nothing that
//! was stored and nobody else anything.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rustix::process::Signal;

use crate::admin::{ADMIN, Caller};
use crate::harness::{DEADLINE, Gateway, LISTENERS, Raw, Wire, by_way_of, eventually, measured, process};

/// A store that messages to `/in/{room}` go into, with these lines of its own, beside an endpoint that echoes.
pub(crate) fn config(store: &str) -> String {
    format!(
        "{LISTENERS}{ADMIN}[[store]]\nname = \"readings\"\npath = \"data/readings.db\"\n{store}\n\
         [[endpoint]]\npath = \"/in/{{room}}\"\nto = [\"store:readings\"]\nmax_connections = 1000\n\
         [[endpoint]]\npath = \"/echo\"\nto = [\"reply\"]\n"
    )
}

pub(crate) fn start(store: &str) -> Gateway {
    Gateway::start(&config(store))
}

pub(crate) fn database(gateway: &Gateway) -> PathBuf {
    gateway.file("data/readings.db")
}

/// What another program finds in the file: the first column of each row.
pub(crate) fn rows(path: &Path, sql: &str) -> Vec<String> {
    let reader = Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    reader.busy_timeout(DEADLINE).unwrap();
    let mut statement = reader.prepare(sql).unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

pub(crate) fn stored(path: &Path) -> usize {
    rows(path, "SELECT CAST(count(*) AS TEXT) FROM messages")[0].parse().unwrap()
}

fn device(gateway: &Gateway, room: &str) -> Raw {
    gateway.client(Wire::Plain, &format!("/in/{room}"))
}

/// That a client which does not send to the store is answered as ever.
fn echoes(echo: &mut Raw) {
    let before = Instant::now();
    echo.send_text("hello");
    assert_eq!(echo.text(), "hello");
    assert!(before.elapsed() < Duration::from_secs(1), "{:?}", before.elapsed());
}

fn state(gateway: &Gateway) -> String {
    Caller::of(gateway).get("/api/v1/stores/readings").json()["state"].as_str().unwrap().to_owned()
}

fn ready(gateway: &Gateway) -> (u16, String) {
    let answer = Caller::of(gateway).get("/readyz");
    (answer.status, answer.body)
}

#[test]
fn what_clients_send_is_read_by_sqlite3_while_wsgate_runs() {
    let gateway = start("");
    let (mut one, mut two) = (device(&gateway, "press-7"), device(&gateway, "press-8"));
    one.send_text("{\"t\":21.5}");
    eventually("the first is stored", DEADLINE, || stored(&database(&gateway)) == 1);
    two.send_frame(0x82, b"\xff\x00");
    one.send_text("grüße");
    eventually("all are stored", DEADLINE, || stored(&database(&gateway)) == 3);
    let sql = "SELECT room || ' ' || kind || ' ' || endpoint || ' ' || address || ' ' || payload FROM messages \
               WHERE room = '/in/press-7' AND received > strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-1 hour') ORDER BY seq";
    let mut sqlite = Command::new("sqlite3");
    sqlite.arg("-readonly").arg(database(&gateway)).arg(sql);
    let output = process::run(&mut sqlite, DEADLINE);
    let expected = "/in/press-7 text /in/{room} 127.0.0.1 {\"t\":21.5}\n/in/press-7 text /in/{room} 127.0.0.1 grüße\n";
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{}", String::from_utf8_lossy(&output.stderr));
    let script = "import sqlite3, sys\nfor row in sqlite3.connect('file:' + sys.argv[1] + '?mode=ro', uri=True).execute(\
                  'SELECT payload FROM messages WHERE kind = \"binary\"'): print(row[0])";
    let mut python = Command::new("python3");
    python.args(["-c", script]).arg(database(&gateway));
    assert_eq!(String::from_utf8_lossy(&process::run(&mut python, DEADLINE).stdout), "b'\\xff\\x00'\n");
    let session = gateway.id_of(&one);
    assert_eq!(
        rows(&database(&gateway), "SELECT DISTINCT session FROM messages WHERE room = '/in/press-7'"),
        [session]
    );
    let store = Caller::of(&gateway).get("/api/v1/stores").json()["items"][0].clone();
    assert_eq!((&store["state"], &store["storedMessages"], &store["messages"]), (&"open".into(), &3.into(), &3.into()));
}

#[test]
fn a_message_is_stored_as_it_came_whatever_the_format_and_beside_other_destinations() {
    let gateway = Gateway::start(&format!(
        "{LISTENERS}[[store]]\nname = \"readings\"\npath = \"readings.db\"\n\
         [[endpoint]]\npath = \"/\"\nto = [\"broadcast\", \"store:readings\"]\nformat = \"message\"\nevents = [\"connect\"]\n"
    ));
    let mut client = gateway.client(Wire::Plain, "/");
    let sent = "{\"payload\":12345678901234567890123,\"_session\":{\"id\":\"x\"}}";
    client.send_text(sent);
    assert!(client.text().contains("12345678901234567890123"));
    let database = gateway.file("readings.db");
    eventually("it is stored", DEADLINE, || stored(&database) == 1);
    assert_eq!(rows(&database, "SELECT payload FROM messages"), [sent]);
}

#[test]
fn d10_what_wsgate_makes_is_for_its_user_alone() {
    let gateway = start("");
    device(&gateway, "a").send_text("x");
    eventually("it is stored", DEADLINE, || stored(&database(&gateway)) == 1);
    let mode = |path: &str| fs::metadata(gateway.file(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode("data"), 0o700);
    for end in ["", "-wal", "-shm", ".lock"] {
        assert_eq!(mode(&format!("data/readings.db{end}")), 0o600, "readings.db{end}");
    }
}

#[test]
fn d12_and_d13_a_store_of_another_gateway_or_of_a_newer_one_is_refused_and_left_alone() {
    let gateway = start("");
    device(&gateway, "a").send_text("x");
    eventually("it is stored", DEADLINE, || stored(&database(&gateway)) == 1);
    let begun = Instant::now();
    let refused = |path: &Path, words: &str| {
        let text = config("").replace("data/readings.db", path.to_str().unwrap());
        let mut second = Gateway::launch(&text, |_| {});
        assert_eq!(second.wait().code(), Some(78));
        let log = second.whole_log();
        assert!(log.iter().any(|line| line.contains(words)), "{log:#?}");
    };
    let words = format!("another wsgate uses this store (process {})", gateway.pid());
    refused(&database(&gateway), &words);
    measured("D12", format_args!("the second gateway has ended after {:.1?}", begun.elapsed()));
    let directory = tempfile::tempdir().unwrap();
    let newer = directory.path().join("newer.db");
    fs::copy(database(&gateway), &newer).unwrap();
    let connection = Connection::open(&newer).unwrap();
    connection
        .execute_batch("PRAGMA journal_mode = DELETE; PRAGMA user_version = 7; PRAGMA application_id = 0x77736774")
        .unwrap();
    drop(connection);
    let before = fs::read(&newer).unwrap();
    refused(&newer, "a newer wsgate has made this store (its version is 7");
    assert!(fs::read(&newer).unwrap() == before);
    refused(&directory.path().join("no/such/readings.db"), "there is no directory");
}

#[test]
fn a_stop_stores_what_was_sent_before_it_and_closes_the_file() {
    const MESSAGES: usize = 5000;
    let mut gateway = start("gather = \"2s\"");
    let mut client = device(&gateway, "a");
    (0..MESSAGES).for_each(|number| client.send_text(&number.to_string()));
    // All are read once a ping behind them is answered.
    client.send_frame(0x89, b"x");
    client.message();
    let begun = Instant::now();
    gateway.signal(Signal::TERM);
    client.closed_with(1001, "Server shutting down");
    assert!(gateway.wait().success());
    assert!(begun.elapsed() < DEADLINE, "{:?}", begun.elapsed());
    // A reader would make it.
    assert!(!gateway.file("data/readings.db-wal").exists(), "the file was not closed");
    assert_eq!(stored(&database(&gateway)), MESSAGES);
    let opened: Vec<_> = rows(&database(&gateway), "SELECT ifnull(opened_as, 'closed') FROM store");
    assert_eq!(opened, ["closed"]);
}

#[test]
fn a_reload_adds_a_store_changes_it_and_removes_it_when_all_is_stored() {
    let base = format!("{LISTENERS}[[endpoint]]\npath = \"/\"\n");
    let gateway = Gateway::start(&format!("{base}to = []\n"));
    let reload = |text: &str, count: usize| {
        fs::write(gateway.file("wsgate.toml"), format!("{text}\n[admin]\naddress = \"off\"\n")).unwrap();
        gateway.signal(Signal::HUP);
        gateway.wait_for_logs(" reload: ", count).pop().unwrap()
    };
    let store = "[[store]]\nname = \"readings\"\npath = \"readings.db\"\n";
    let mut client = gateway.client(Wire::Plain, "/");
    let line = reload(&format!("{base}to = [\"store:readings\"]\n{store}"), 1);
    assert!(line.contains("store \"readings\" added"), "{line}");
    client.send_text("1");
    eventually("it is stored", DEADLINE, || stored(&gateway.file("readings.db")) == 1);
    let line = reload(&format!("{base}to = [\"store:readings\"]\n{store}durability = \"os\"\ngather = \"10s\"\n"), 2);
    assert!(line.contains("store \"readings\" changed"), "{line}");
    client.send_text("2");
    client.send_frame(0x89, b"x");
    client.message();
    let line = reload(&format!("{base}to = []\n"), 3);
    assert!(line.contains("store \"readings\" removed"), "{line}");
    // What was gathered is stored, and the file is free for others.
    eventually("it is closed", DEADLINE, || !gateway.file("readings.db-wal").exists());
    assert_eq!(rows(&gateway.file("readings.db"), "SELECT payload FROM messages ORDER BY seq"), ["1", "2"]);
    let line = reload(&format!("{base}to = []\n{}", store.replace("readings.db", "none/such/x.db")), 4);
    assert!(line.contains("failed") && line.contains("there is no directory"), "{line}");
}

#[test]
fn a_program_that_writes_holds_senders_which_are_not_dead_and_is_named() {
    let gateway = start("queue = { messages = 100, bytes = \"1MiB\" }");
    let mut client = device(&gateway, "a");
    client.send_text("0");
    eventually("it is stored", DEADLINE, || stored(&database(&gateway)) == 1);
    let writer = Connection::open(database(&gateway)).unwrap();
    writer.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut sender = client.writer();
    let sending = std::thread::spawn(move || (1..20_000).for_each(|number| sender.send_text(&number.to_string())));
    gateway.wait_for_log("store readings: another program has locked its file: nothing is stored until it is free");
    assert_eq!(ready(&gateway).0, 503);
    assert!(ready(&gateway).1.contains("store readings is locked"));
    let mut echo = gateway.client(Wire::Plain, "/echo");
    echoes(&mut echo);
    let held = || Caller::of(&gateway).get("/metrics").body.contains("by=\"store readings\"} 1");
    eventually("the sender is held", DEADLINE, held);
    writer.execute_batch("COMMIT").unwrap();
    gateway.wait_for_log("store readings: it stores again");
    sending.join().unwrap();
    eventually("all are stored", DEADLINE, || stored(&database(&gateway)) == 20_000);
    let in_order = "SELECT CAST(count(*) AS TEXT) FROM messages WHERE CAST(payload AS INTEGER) = seq - 1";
    assert_eq!(rows(&database(&gateway), in_order), ["20000"]);
    assert_eq!(ready(&gateway).0, 200);
}

#[test]
fn a_full_queue_drops_by_its_policy_and_counts() {
    for (policy, kept) in [("drop_oldest", ["x", "5", "6"]), ("drop_newest", ["x", "1", "2"])] {
        let gateway = start(&format!("queue = {{ messages = 2, when_full = \"{policy}\" }}"));
        let mut client = device(&gateway, "a");
        let writer = Connection::open(database(&gateway)).unwrap();
        writer.execute_batch("BEGIN IMMEDIATE").unwrap();
        client.send_text("x");
        // The thread has taken the first, so the queue is empty.
        let queued = || Caller::of(&gateway).get("/api/v1/stores/readings").json()["queuedMessages"] == 0;
        eventually("it is locked", DEADLINE, || state(&gateway) == "locked");
        assert!(queued());
        for number in 1..=6 {
            client.send_text(&number.to_string());
            client.send_frame(0x89, b"x");
            client.message();
        }
        writer.execute_batch("COMMIT").unwrap();
        eventually("they are stored", DEADLINE, || stored(&database(&gateway)) == 3);
        assert_eq!(rows(&database(&gateway), "SELECT payload FROM messages ORDER BY seq"), kept, "{policy}");
        assert_eq!(Caller::of(&gateway).get("/api/v1/stores/readings").json()["droppedMessages"], 4, "{policy}");
        gateway.wait_for_log("store readings: its queue is full: messages for it are dropped from now on");
        gateway.wait_for_log("store readings: 4 messages were dropped until now");
    }
}

#[test]
fn a_reader_that_stays_makes_the_store_full_at_wal_limit_until_it_leaves() {
    const MESSAGES: usize = 600;
    let gateway = start("wal_limit = \"16MiB\"");
    let mut client = device(&gateway, "a");
    client.send_text("first");
    eventually("it is stored", DEADLINE, || stored(&database(&gateway)) == 1);
    let reader = Connection::open(database(&gateway)).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM messages").unwrap();
    let payload = "x".repeat(60_000);
    let mut sender = client.writer();
    let sending = std::thread::spawn(move || (0..MESSAGES).for_each(|_| sender.send_text(&payload)));
    gateway.wait_for_log("store readings: full: a program that reads it keeps its write-ahead log from being emptied");
    let wal = fs::metadata(gateway.file("data/readings.db-wal")).unwrap().len();
    measured("a reader that stays", format_args!("the write-ahead log has {wal} bytes with wal_limit = 16 MiB"));
    assert!((16 << 20..32 << 20).contains(&wal), "{wal}");
    let mut echo = gateway.client(Wire::Plain, "/echo");
    echoes(&mut echo);
    reader.execute_batch("COMMIT").unwrap();
    sending.join().unwrap();
    eventually("all are stored", DEADLINE, || stored(&database(&gateway)) == 1 + MESSAGES);
    gateway.wait_for_log("store readings: it stores again");
}

#[test]
fn d4_a_full_disk_loses_nothing_that_was_stored_and_storing_resumes_when_there_is_room() {
    let way =
        ["unshare", "--mount", "sh", "-c", "mkdir data && mount -t tmpfs -o size=3m tmpfs data && exec \"$0\" \"$@\""];
    let gateway = Gateway::start_with(&config(""), |command| by_way_of(&way, command));
    // Its file system as it sees it.
    let root = PathBuf::from(format!("/proc/{}/root", gateway.pid()));
    let inside = |name: &str| root.join(gateway.file(name).strip_prefix("/").unwrap());
    let filler = inside("data/filler");
    let mut client = device(&gateway, "a");
    client.send_text("first");
    let messages = || Caller::of(&gateway).get("/api/v1/stores/readings").json()["storedMessages"].as_u64().unwrap();
    eventually("it is stored", DEADLINE, || messages() == 1);
    // Whatever is left.
    let mut rest = 3 << 20;
    while rest > 0 {
        let mut bytes = fs::read(&filler).unwrap_or_default();
        bytes.resize(bytes.len() + rest, 0);
        if fs::write(&filler, &bytes).is_err() {
            fs::write(&filler, &bytes[..bytes.len() - rest]).unwrap();
            rest /= 2;
        }
    }
    let payload = "x".repeat(10_000);
    (0..20).for_each(|_| client.send_text(&payload));
    gateway.wait_for_log("store readings: full: no space is left for it: nothing is stored until that has changed");
    assert_eq!(state(&gateway), "full");
    assert!(ready(&gateway).1.contains("store readings is full"));
    let mut echo = gateway.client(Wire::Plain, "/echo");
    echoes(&mut echo);
    fs::remove_file(&filler).unwrap();
    let freed = Instant::now();
    eventually("all are stored", DEADLINE, || messages() == 21);
    measured("D4", format_args!("stored {:.1?} after there was room", freed.elapsed()));
    assert!(freed.elapsed() < Duration::from_secs(5), "{:?}", freed.elapsed());
    assert_eq!(ready(&gateway).0, 200);
    // SQLite finds no way there.
    let copy = gateway.file("copy.db");
    for end in ["", "-wal"] {
        fs::copy(inside(&format!("data/readings.db{end}")), format!("{}{end}", copy.display())).unwrap();
    }
    assert_eq!(stored(&copy), 21);
}

#[test]
fn a_kill_loses_nothing_that_was_in_the_file_and_no_number_comes_twice() {
    for durability in ["disk", "os"] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("readings.db");
        let text =
            config(&format!("durability = \"{durability}\"")).replace("data/readings.db", path.to_str().unwrap());
        let mut seen = 0;
        let mut origins = Vec::new();
        for round in 1..=3 {
            let gateway = Gateway::start(&text);
            let mut client = device(&gateway, "a");
            (0..500).for_each(|number| client.send_text(&format!("{round}-{number}")));
            eventually("some are stored", DEADLINE, || stored(&path) > seen);
            seen = stored(&path);
            origins.extend(rows(&path, "SELECT origin FROM store"));
            drop(gateway);
            assert!(stored(&path) >= seen, "{durability}: {seen} were there");
            seen = stored(&path);
        }
        let numbers = rows(&path, "SELECT count(DISTINCT seq) || ' ' || count(DISTINCT payload) FROM messages");
        assert_eq!(numbers, [format!("{seen} {seen}")]);
        origins.dedup();
        assert_eq!(origins.len(), if durability == "disk" { 1 } else { 3 }, "{durability}");
    }
}
