//! `wsgate store`: what it says of a store, with a gateway that uses it and without one.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::command::{run, start};
use crate::harness::{DEADLINE, Gateway, LISTENERS, Wire, eventually};

/// A gateway whose clients' messages are stored in this directory.
fn start_on(directory: &Path) -> Gateway {
    let config = format!(
        "{LISTENERS}\n[[store]]\nname = \"readings\"\npath = {:?}\n\n[[endpoint]]\npath = \"/devices/{{device}}\"\n\
         to = [\"store:readings\"]\n",
        directory.join("readings.db")
    );
    Gateway::start(&config)
}

/// Sends messages as these devices, one after the other, until all are stored.
fn store(gateway: &Gateway, path: &str, messages: &[(&str, &str)]) {
    let before = count(path);
    for (at, (device, text)) in messages.iter().enumerate() {
        let mut client = gateway.client(Wire::Plain, &format!("/devices/{device}"));
        client.send_text(text);
        eventually("the message is stored", DEADLINE, || count(path) == before + at as u64 + 1);
    }
}

fn count(path: &str) -> u64 {
    // Before its first message the store's tables may not be there yet.
    let finished = run(&["store", path, "info", "--json"]);
    if finished.stdout().is_empty() { 0 } else { json(finished.stdout())["messages"].as_u64().unwrap() }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// A store without a gateway, with these messages, and its path.
fn stored(messages: &[(&str, &str)]) -> (TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("readings.db").to_str().unwrap().to_owned();
    let mut gateway = start_on(directory.path());
    store(&gateway, &path, messages);
    gateway.signal(rustix::process::Signal::TERM);
    assert!(gateway.wait().success());
    (directory, path)
}

/// What is printed of the messages that these arguments choose.
fn export(path: &str, arguments: &[&str]) -> Vec<String> {
    let finished = run(&[&["store", path, "export", "--format", "raw"], arguments].concat());
    finished.expect(0, &[]);
    finished.stdout().lines().map(str::to_owned).collect()
}

#[test]
fn a_store_is_looked_at_by_its_name_while_a_gateway_uses_it() {
    let directory = tempfile::tempdir().unwrap();
    let gateway = start_on(directory.path());
    let path = directory.path().join("readings.db").to_str().unwrap().to_owned();
    store(&gateway, &path, &[("1", "{\"t\":21.5}"), ("2", "b")]);
    let config = gateway.file("wsgate.toml");
    let config = config.to_str().unwrap();

    let info = run(&["store", "readings", "--config", config, "info"]);
    info.expect(0, &[]);
    let used_by = format!("used by   the gateway with the process number {}\n", gateway.pid());
    assert!(info.stdout().contains("messages  2, numbers 1 to 2\n"), "{}", info.stdout());
    assert!(info.stdout().contains("rooms     2\n") && info.stdout().ends_with(&used_by), "{}", info.stdout());

    let export = run(&["store", "readings", "export", "-c", config, "--room", "/devices/1"]);
    let row = json(export.stdout());
    assert_eq!((&row["seq"], &row["payload"], &row["kind"]), (&1.into(), &"{\"t\":21.5}".into(), &"text".into()));
    assert_eq!((&row["endpoint"], &row["room"]), (&"/devices/{device}".into(), &"/devices/1".into()));

    let mut tail = start(&["store", "readings", "-c", config, "tail", "-n", "1", "--follow", "--format", "raw"]);
    assert_eq!(tail.line(), "b\n");
    store(&gateway, &path, &[("1", "c")]);
    assert_eq!(tail.line(), "c\n");
    tail.interrupt();
    tail.finish().expect(0, &[]);

    run(&["store", "readings", "-c", config, "check"]).expect(0, &["no damage"]);
}

#[test]
fn an_export_has_what_was_asked_for_and_nothing_else() {
    let (_directory, path) = stored(&[("1", "a"), ("2", "b"), ("1", "c"), ("3", "d")]);
    let cases: [(&[&str], &[&str]); 9] = [
        (&[], &["a", "b", "c", "d"]),
        (&["--room", "/devices/1"], &["a", "c"]),
        (&["--after", "2"], &["c", "d"]),
        (&["--before", "2"], &["a"]),
        (&["--after", "1", "--before", "4", "--count", "1"], &["b"]),
        (&["--since", "1h"], &["a", "b", "c", "d"]),
        (&["--until", "1h"], &[]),
        (&["--since", "2100-01-01"], &[]),
        (&["--until", "2100-01-01T00:00:00Z", "--after", "18446744073709551615"], &[]),
    ];
    for (arguments, expected) in cases {
        assert_eq!(export(&path, arguments), expected, "{arguments:?}");
    }
    let csv = run(&["store", &path, "export", "--format", "csv"]);
    assert!(csv.stdout().starts_with("seq,received,endpoint,room,"), "{}", csv.stdout());
    assert_eq!(csv.stdout().lines().count(), 5);
    let tail = run(&["store", &path, "tail", "-n", "2", "--room", "/devices/1", "--format", "raw"]);
    assert_eq!(tail.stdout(), "a\nc\n");
}

#[test]
fn what_is_pruned_is_gone_and_its_numbers_are_not_used_again() {
    let (directory, path) = stored(&[("1", "a"), ("2", "b"), ("1", "c")]);
    run(&["store", &path, "prune"]).expect(64, &["which messages?"]);
    run(&["store", &path, "prune", "--room", "/devices/1", "--dry-run"]).expect(0, &["2 messages would be removed"]);
    assert_eq!(export(&path, &[]), ["a", "b", "c"]);
    let gateway = start_on(directory.path());
    run(&["store", &path, "prune", "--room", "/devices/1"]).expect(0, &["removed 2 messages"]);
    assert_eq!(export(&path, &[]), ["b"]);
    run(&["store", &path, "prune", "--all"]).expect(0, &["removed 1 message"]);
    store(&gateway, &path, &[("9", "d")]);
    let row = run(&["store", &path, "export"]);
    assert_eq!(json(row.stdout())["seq"], 4);
}

#[test]
fn a_backup_is_a_whole_store_with_an_origin_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let gateway = start_on(directory.path());
    let path = directory.path().join("readings.db").to_str().unwrap().to_owned();
    store(&gateway, &path, &[("1", "a"), ("2", "b")]);
    let to = directory.path().join("copy/readings.db");
    fs::create_dir(to.parent().unwrap()).unwrap();
    let copy = to.to_str().unwrap();
    run(&["store", &path, "backup", copy]).expect(0, &["copy/readings.db: "]);
    run(&["store", &path, "backup", copy]).expect(66, &["there is such a file: choose another name"]);
    assert_eq!(fs::read_dir(to.parent().unwrap()).unwrap().count(), 1, "nothing else is left there");

    let info = |path: &str| json(run(&["store", path, "info", "--json"]).stdout());
    let (first, second) = (info(&path), info(copy));
    assert_ne!(first["origin"], second["origin"]);
    assert_eq!((&first["messages"], &first["last"]), (&second["messages"], &second["last"]));
    assert_eq!((&first["usedBy"], &second["usedBy"]), (&gateway.pid().into(), &Value::Null));
    run(&["store", copy, "check"]).expect(0, &["no damage"]);
    let restored = start_on(to.parent().unwrap());
    store(&restored, copy, &[("3", "c")]);
    assert_eq!(export(copy, &[]), ["a", "b", "c"]);
    let origin = &info(copy)["origin"];
    assert!(*origin != first["origin"] && *origin != second["origin"], "the backup may be restored more than once");
}

#[test]
fn damage_is_found_and_said() {
    let (_directory, path) = stored(&[("1", &"x".repeat(30_000)), ("2", "b")]);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.len() - 4096;
    bytes[at..].fill(0xa5);
    fs::write(&path, &bytes).unwrap();
    run(&["store", &path, "check"]).expect(65, &["is damaged", "export what can be read"]);
}

#[test]
fn a_wrong_name_and_a_file_that_is_no_store_are_said() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("wsgate.toml");
    fs::write(&config, "[[store]]\nname = \"readings\"\npath = \"readings.db\"\n").unwrap();
    let config = config.to_str().unwrap();
    run(&["store", "reading", "-c", config, "info"]).expect(78, &["has no store \"reading\": it has \"readings\""]);
    run(&["store", "readings", "info"]).expect(64, &["which file has the store \"readings\"?", "--config FILE"]);
    run(&["store", "readings", "-c", config, "info"]).expect(66, &["failed to open the store: no such file"]);
    run(&["store", config, "info"]).expect(66, &["this file is no SQLite database"]);
    run(&["store", "./x.db", "export", "--since", "yesterday"]).expect(64, &["this is not a time"]);
}
