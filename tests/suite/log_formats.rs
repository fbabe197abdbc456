//! The forms of the log: text, JSON and the journal's, each a line an event whatever peers send, and the levels of its
//! parts, kinds and endpoints.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{DEADLINE, Frame, Gateway, Raw, eventually, masked, measured, process, request};

/// A listener whose port nobody has to read from the log.
const AT_SOCKET: &str = "[[listen]]\naddress = \"unix:ws.sock\"\n";

/// What somebody may send who wants to be taken for the log, or to break it.
const NASTY: [&str; 9] = [
    "\",\"level\":\"error\",\"x\":\"",
    "\\\"}\\n{\"time\":\"forged\"}",
    "<0>emergency",
    "%s%n {} \\u0000 \\",
    "2026-01-01T00:00:00.000Z ERROR forged",
    "\u{202e}\u{2028}\u{feff}\u{85}",
    "{{{{[[[[",
    "tab\there",
    "🦀é\u{10ffff}",
];

fn client(gateway: &Gateway) -> Raw {
    Raw::unix(&gateway.file("ws.sock"))
}

/// Clients whose requests, paths, headers and closes hold each of the texts, and bytes that are no text.
fn attack(socket: &Path) {
    let raw = || Raw::unix(socket);
    for text in NASTY {
        // In a header that is logged when it is refused, and in one that is not.
        let mut refused = raw();
        refused
            .send(request("/rooms/1", &[&format!("Origin: http://{text}"), &format!("User-Agent: {text}")]).as_bytes());
        assert!(refused.head().starts_with("HTTP/1.1 4"));
        let mut elsewhere = raw();
        elsewhere.send(request(&format!("/{text}"), &[&format!("Host: {text}")]).as_bytes());
        assert!(elsewhere.head().starts_with("HTTP/1.1 4"));
        let mut closes = raw();
        // A parameter holds no character that nobody sees.
        let room = if text.contains('\u{202e}') || text.contains('\t') { "7".to_owned() } else { percent(text) };
        closes.upgrade(&format!("/rooms/{room}"), &[&format!("User-Agent: {text}")]);
        closes.send(&masked(0x88, &[&4000_u16.to_be_bytes(), text.as_bytes()].concat()));
        assert_eq!(closes.message().first, 0x88, "its Close is answered");
    }
    for bytes in
        [&b"\xff\xfe\r\n\r\n"[..], b"GET /\x1b[2J\x00 HTTP/1.1\r\n\r\n", b"GET /\xff HTTP/1.1\r\nHost: \x80\r\n\r\n"]
    {
        let mut garbage = raw();
        garbage.send(bytes);
        garbage.head();
    }
}

/// A text as one segment of a path.
fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>().replace("%2F", "x")
}

/// The lines of a log in JSON, each of which is an object with what every one has.
fn json(lines: &[String]) -> Vec<Value> {
    let parsed = |line: &String| {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        for key in ["time", "level", "part", "message"] {
            assert!(value[key].is_string(), "{key}: {line}");
        }
        assert!(!line.contains(char::is_control) && !line.contains(['\u{202e}', '\u{2028}', '\u{feff}']), "{line}");
        value
    };
    lines.iter().map(parsed).collect()
}

#[test]
fn each_line_of_json_is_an_object_whatever_peers_send() {
    let config = format!("{AT_SOCKET}[log]\nformat = \"json\"\n[[endpoint]]\npath = \"/rooms/{{room}}\"\n");
    let mut gateway = Gateway::start(&config);
    attack(&gateway.file("ws.sock"));
    gateway.wait_for_logs("disconnected from", NASTY.len());
    assert_eq!(gateway.terminate().code(), Some(0));
    let lines = json(&gateway.whole_log());
    let of_kind = |kind: &str| lines.iter().filter(|line| line["kind"] == kind).collect::<Vec<_>>();
    let (connects, disconnects) = (of_kind("connects"), of_kind("disconnects"));
    assert_eq!((connects.len(), disconnects.len()), (NASTY.len(), NASTY.len()));
    for (connected, text) in connects.iter().zip(NASTY) {
        let id = connected["client"].as_str().unwrap();
        assert_eq!((&connected["endpoint"], &connected["part"]), (&"/rooms/{room}".into(), &"clients".into()));
        assert_eq!(connected["address"], "unix");
        assert!(
            connected["message"].as_str().unwrap().starts_with(&format!("client {id} (unix): connected to '/rooms/"))
        );
        let left = disconnects.iter().find(|line| line["client"] == id).expect("it has left");
        // What JSON has escaped, its reader gets as it came.
        assert!(left["message"].as_str().unwrap().contains(text) || text.contains(['\t', '\u{85}']), "{left} {text:?}");
    }
    assert!(of_kind("refusals").len() >= 2 * NASTY.len());
    assert!(lines.iter().any(|line| line["listener"] == "unix:ws.sock" && line["part"] == "listeners"), "{lines:?}");
    assert!(lines.iter().all(|line| line["time"] != "forged" && line["level"] != "error"));
}

#[test]
fn the_journal_s_form_is_chosen_where_standard_error_leads_there() {
    let config = format!("{AT_SOCKET}[[endpoint]]\npath = \"/rooms/{{room}}\"\n");
    let mut gateway = Gateway::start_as_journaled(&config);
    attack(&gateway.file("ws.sock"));
    gateway.wait_for_logs("disconnected from", NASTY.len());
    assert_eq!(gateway.terminate().code(), Some(0));
    let lines = gateway.whole_log();
    for line in &lines {
        assert!(["<6>", "<4>"].iter().any(|priority| line.starts_with(priority)), "{line}");
        assert!(!line.contains(char::is_control), "{line}");
    }
    assert!(lines.iter().any(|line| line.ends_with("stopped") && line.starts_with("<6>")));
    assert!(lines.iter().any(|line| line.starts_with("<6>client ")), "no time in front: {lines:?}");
}

#[test]
fn the_variable_of_another_stream_changes_nothing() {
    let gateway = Gateway::start_with("", |command| {
        command.env("JOURNAL_STREAM", "8:12345");
    });
    assert!(gateway.wait_for_log(" accepting on ").contains(" INFO  listener "));
}

/// What a gateway leaves in a real journal that is attacked: starts the journal and the gateway in a namespace of their
/// own, and gives out all entries when the file `done` is there.
const JOURNALED: &str = r#"
mkdir run log && mount --make-rprivate / && mkdir -p /run/systemd /run/log || exit 77
mount --bind run /run/systemd && mount -t tmpfs tmpfs /run/log || exit 77
/lib/systemd/systemd-journald > journald.log 2>&1 &
tries=0
until [ -S /run/systemd/journal/stdout ]; do tries=$((tries + 1)); [ $tries -lt 100 ] || exit 77; sleep 0.1; done
systemd-cat -t gateway sh -c 'JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) exec "$0" serve --config wsgate.toml' "$0" &
gateway=$!
until [ -e done ]; do sleep 0.1; done
kill -TERM $gateway && wait $gateway || exit 1
journalctl --sync
journalctl -D "$(dirname "$(find /run/log -name system.journal)")" -t gateway -o json --no-pager > entries.json
"#;

/// A process that does not outlive its test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // An error says that it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_real_journal_has_one_entry_a_line_with_its_priority() {
    let programs = ["/lib/systemd/systemd-journald", "/usr/bin/systemd-cat", "/usr/bin/journalctl"];
    if let Some(missing) = programs.iter().find(|program| !Path::new(program).exists()) {
        return measured("O4", format!("skipped: there is no {missing}"));
    }
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    fs::write(file("wsgate.toml"), format!("{AT_SOCKET}[[endpoint]]\npath = \"/rooms/{{room}}\"\n")).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", JOURNALED, env!("CARGO_BIN_EXE_wsgate")]);
    command.current_dir(directory.path()).env_remove("RUST_LOG");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = Ended(command.spawn().unwrap());
    let socket = file("ws.sock");
    let mut ended = None;
    eventually("it listens, or cannot be run here", 2 * DEADLINE, || {
        ended = child.0.try_wait().unwrap();
        ended.is_some() || UnixStream::connect(&socket).is_ok()
    });
    if let Some(status) = ended {
        return measured("O4", format!("skipped: no journal can be run here ({status})"));
    }
    attack(&socket);
    fs::write(file("done"), "").unwrap();
    let status = process::wait(&mut child.0, 2 * DEADLINE).expect("it has not ended");
    assert!(status.success(), "{status}: {:?}", fs::read_to_string(file("journald.log")));
    let entries = fs::read_to_string(file("entries.json")).unwrap();
    let entries: Vec<Value> = entries.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let messages: Vec<&str> =
        entries.iter().map(|entry| entry["MESSAGE"].as_str().unwrap_or_else(|| panic!("no text: {entry}"))).collect();
    let count = |text: &str| messages.iter().filter(|message| message.contains(text)).count();
    assert_eq!((count(": connected to "), count(": disconnected from ")), (NASTY.len(), NASTY.len()));
    let of_wsgate = |message: &&str| {
        ["wsgate ", "listener ", "admin: ", "client ", "stopp", "SIGTERM"].iter().any(|own| message.starts_with(own))
    };
    let others: Vec<_> = messages.iter().filter(|message| !of_wsgate(message)).collect();
    assert!(others.is_empty(), "{others:?}");
    assert!(entries.iter().all(|entry| ["6", "4"].contains(&entry["PRIORITY"].as_str().unwrap())), "{entries:?}");
    measured("O4", format!("a real journal: {} entries of an attack, each whole", entries.len()));
}

#[test]
fn parts_kinds_and_endpoints_have_levels_of_their_own() {
    let config = format!(
        "{AT_SOCKET}[log]\nlevels = {{ listeners = \"off\", connects = \"off\", \"/quiet\" = \"off\", \"/loud\" = \"info\" }}\n\
         [[endpoint]]\npath = \"/quiet\"\n[[endpoint]]\npath = \"/loud\"\n[[endpoint]]\npath = \"/usual\"\n"
    );
    let talk = |gateway: &Gateway| {
        eventually("it listens", DEADLINE, || UnixStream::connect(gateway.file("ws.sock")).is_ok());
        for path in ["/quiet", "/loud", "/usual", "/quiet", "/nowhere"] {
            let mut client = client(gateway);
            if path == "/nowhere" {
                client.send(request(path, &[]).as_bytes());
                assert!(client.head().starts_with("HTTP/1.1 404 "));
                continue;
            }
            client.upgrade(path, &[]);
            client.send(&masked(0x81, b"x"));
            assert_eq!(client.message(), Frame::text("x"));
        }
        gateway.signal(Signal::TERM);
    };
    let mut gateway = Gateway::launch(&config, |_| {});
    talk(&gateway);
    gateway.wait();
    let log = gateway.whole_log();
    let has = |log: &[String], text: &str| log.iter().any(|line| line.contains(text));
    assert!(has(&log, ": connected to '/loud'") && has(&log, ": disconnected from '/loud'"), "{log:?}");
    assert!(!has(&log, ": connected to '/usual'") && has(&log, ": disconnected from '/usual'"), "{log:?}");
    assert!(has(&log, ": refused with 404") && has(&log, " stopped"), "{log:?}");
    assert!(!has(&log, "/quiet") && !has(&log, "accepting on"), "{log:?}");
    // RUST_LOG comes first, as far as it says something.
    let mut gateway = Gateway::launch(&config, |command| {
        command.env("RUST_LOG", "wsgate::connects=info,wsgate::refusals=off");
    });
    talk(&gateway);
    gateway.wait();
    let log = gateway.whole_log();
    assert!(has(&log, ": connected to '/quiet'") && !has(&log, ": disconnected from '/quiet'"), "{log:?}");
    assert!(!has(&log, ": refused with 404") && !has(&log, "accepting on"), "{log:?}");
}

#[test]
fn rust_log_that_is_not_understood_is_a_line_and_no_more() {
    let gateway = Gateway::start_with("", |command| {
        command.env("RUST_LOG", "wsgate=loud");
    });
    let line = gateway.wait_for_log("RUST_LOG is not understood");
    assert!(line.contains(" WARN  ") && line.contains("loud"), "{line}");
}

#[test]
fn c12_the_same_line_again_and_again_is_ten_lines_and_a_number() {
    const CLIENTS: usize = 40;
    // Nobody listens there.
    let config = format!(
        "{AT_SOCKET}[log]\nlines_per_second = \"off\"\n[[endpoint]]\npath = \"/x\"\nrelay = {{ url = \"ws://127.0.0.1:1/\" }}\n"
    );
    let gateway = Gateway::start(&config);
    let refused = |count: usize| {
        let mut clients: Vec<_> = (0..count).map(|_| client(&gateway)).collect();
        clients.iter_mut().for_each(|client| client.send(request("/x", &[]).as_bytes()));
        clients.iter_mut().for_each(|client| assert!(client.head().starts_with("HTTP/1.1 502 ")));
    };
    refused(CLIENTS);
    let told = || {
        let log = gateway.log();
        let warnings: Vec<_> = log.iter().filter(|line| line.contains("relay '/x'")).collect();
        let number = |line: &&String| {
            line.split_once("log: ")?.1.split_once(" more times in this second: ")?.0.parse::<usize>().ok()
        };
        let counted: Vec<_> = warnings.iter().filter_map(number).collect();
        (warnings.len() - counted.len(), counted.iter().sum::<usize>())
    };
    eventually("all of them are told", DEADLINE, || told().0 + told().1 == CLIENTS);
    let (shown, counted) = told();
    assert!(shown >= 10 && counted > 0, "{shown} shown, {counted} counted");
}
