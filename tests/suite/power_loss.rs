//! What a store has acknowledged is there when the power is back: kill -9 does not show this, since the system keeps what
//! was written and writes it later. So these tests rebuild the files from what was synced ([`Disk`]).

use std::collections::BTreeMap;
use std::env;
use std::path::Path;
use std::thread;

use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

use crate::harness::{Dice, Disk, Gateway, LISTENERS, Wire, measured};

/// How many devices send, and what each sends.
const DEVICES: usize = 8;
const MESSAGES: usize = 2_000;

/// How many messages of a device may be without an acknowledgement.
const WINDOW: usize = 64;

/// An acknowledgement that has arrived: at which moment of the disk, how many messages, and the number of the last one.
struct Acknowledged {
    moment: u64,
    messages: usize,
    origin: String,
    number: u64,
}

fn config(directory: &Path) -> String {
    let path = directory.join("readings.db");
    format!(
        "{LISTENERS}\n[[store]]\nname = \"readings\"\npath = {path:?}\n\n[[endpoint]]\npath = \"/devices/{{device}}\"\n\
         to = [\"store:readings\"]\nack = \"stored\"\n"
    )
}

/// Large enough that the write-ahead log is copied into the database several times in a run.
fn message(device: usize, number: usize) -> String {
    format!("{{\"device\":{device},\"number\":{number},\"text\":\"{}\"}}", format!("{number:08}").repeat(80))
}

/// Reads an acknowledgement: how many messages, of which store, up to which number.
fn acknowledgement(text: &str) -> (usize, String, u64) {
    let json: serde_json::Value = serde_json::from_str(text).unwrap();
    assert_eq!(json["type"], "ack", "{text}");
    let (origin, number) = json["seq"].as_str().unwrap().rsplit_once('-').unwrap();
    (json["stored"].as_u64().unwrap() as usize, origin.to_owned(), number.parse().unwrap())
}

/// Sends all messages of a device, with so many in flight, and says when how many of them were acknowledged.
fn send_all(gateway: &Gateway, disk: &Disk, device: usize) -> Vec<Acknowledged> {
    let mut client = gateway.client(Wire::Plain, &format!("/devices/{device}"));
    let (mut sent, mut stored, mut all) = (0, 0, Vec::new());
    while stored < MESSAGES {
        while sent < MESSAGES && sent - stored < WINDOW {
            client.send_text(&message(device, sent));
            sent += 1;
        }
        let (messages, origin, number) = acknowledgement(&client.text());
        assert!(stored < messages && messages <= sent, "{messages} of {sent} sent, {stored} before");
        stored = messages;
        all.push(Acknowledged { moment: disk.now(), messages, origin, number });
    }
    all
}

/// Runs devices against a gateway on such a disk until all is acknowledged, and ends it at once.
fn run(failing: &str, story: impl FnOnce(&Gateway)) -> (TempDir, Disk, Vec<Vec<Acknowledged>>) {
    let parent = tempfile::tempdir().unwrap();
    let disk = Disk::below(parent.path());
    let gateway = Gateway::start_with(&config(&disk.directory), |command| disk.watch(command, failing));
    let acknowledged = thread::scope(|scope| {
        let devices = (0..DEVICES).map(|device| {
            scope.spawn({
                let (gateway, disk) = (&gateway, &disk);
                move || send_all(gateway, disk, device)
            })
        });
        let devices: Vec<_> = devices.collect();
        devices.into_iter().map(|device| device.join().unwrap()).collect()
    });
    story(&gateway);
    drop(gateway);
    (parent, disk, acknowledged)
}

/// Loses power at so many moments of a run, and looks each time at what a gateway finds.
fn lose_power(disk: &Disk, acknowledged: &[Vec<Acknowledged>]) {
    let losses = env::var("WSGATE_POWER_LOSSES").map_or(20, |count| count.parse().unwrap());
    let seed = u64::from(std::process::id()) + 1;
    let mut dice = Dice(seed << 20);
    let mut history = disk.history();
    let all = history.moments();
    let mut moments: Vec<_> = (0..losses).map(|_| all[dice.below(all.len() as u64) as usize]).collect();
    moments.sort_unstable();
    measured("D3", format!("{losses} losses of power among {} events, seed {seed}", all.len()));
    for moment in moments {
        history.go_on_to(moment);
        let what = history.lose_power(&mut dice, &disk.directory);
        look(&disk.directory, acknowledged, moment, &format!("seed {seed}, moment {moment}: {what}"));
    }
}

/// Starts a gateway on these files: of each device it has what was acknowledged by then, and whatever else is there was
/// sent next and is whole.
fn look(directory: &Path, acknowledged: &[Vec<Acknowledged>], moment: u64, what: &str) {
    let gateway = Gateway::start(&config(directory));
    let mut client = gateway.client(Wire::Plain, "/devices/new");
    client.send_text("the power is back");
    let (messages, origin, number) = acknowledgement(&client.text());
    assert_eq!(messages, 1, "{what}");

    let reader = Connection::open_with_flags(directory.join("readings.db"), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let integrity: String = reader.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(integrity, "ok", "{what}");
    let mut rows = reader.prepare("SELECT room, payload FROM messages ORDER BY seq").unwrap();
    let mut found = BTreeMap::<String, Vec<String>>::new();
    for row in rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap() {
        let (room, payload) = row.unwrap();
        found.entry(room).or_default().push(payload);
    }
    for (device, acknowledged) in acknowledged.iter().enumerate() {
        let stored = found.remove(&format!("/devices/{device}")).unwrap_or_default();
        for (at, payload) in stored.iter().enumerate() {
            assert!(*payload == message(device, at), "{what}: device {device} has {payload} at {at}");
        }
        let due = acknowledged.iter().take_while(|one| one.moment <= moment).last();
        if let Some(due) = due {
            let count = stored.len();
            assert!(due.messages <= count, "{what}: device {device} has {count} of {} acknowledged", due.messages);
            assert_eq!(due.origin, origin, "{what}: it is still the same store");
            assert!(due.number < number, "{what}: {number} was given to another message before");
        }
    }
    assert_eq!(found.into_values().collect::<Vec<_>>(), [["the power is back"]], "{what}");
}

#[test]
fn d3_after_a_loss_of_power_every_acknowledged_message_is_there_and_the_rest_whole_or_absent() {
    let (_parent, disk, acknowledged) = run("", |_| {});
    lose_power(&disk, &acknowledged);
}

#[test]
fn d3_d5_what_a_failed_sync_may_have_lost_is_not_acknowledged_before_it_was_written_and_synced_anew() {
    // In commits, and in the copies of the write-ahead log into the database.
    let failing = "readings.db-wal:5,readings.db-wal:6,readings.db-wal:30,readings.db:3,readings.db:5";
    let (_parent, disk, acknowledged) = run(failing, |gateway| {
        gateway.wait_for_log("store readings: it stores again");
    });
    let mut history = disk.history();
    history.go_on_to(disk.now());
    assert!(history.failed() >= 3, "{} syncs have failed", history.failed());
    lose_power(&disk, &acknowledged);
}
