//! Configurations that are broken in many ways: nothing of them comes into force, under load and without descriptors too, and
//! none opens a door.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, mknodat};

use crate::auth::files_of;
use crate::harness::reloads::{LISTEN, Reloads, endpoint};
use crate::harness::{Canary, DEADLINE, Gateway, Raw, Remote, Wire, eventually, measured, pass, request};

/// A gateway that asks for a token everywhere but at `/canary`.
struct Guarded {
    gateway: Gateway,
    config: String,
    _files: tempfile::TempDir,
}

impl Guarded {
    fn start(limit: Option<&str>) -> Guarded {
        let files = files_of(&[("ada", "hunter2-ada")]);
        let file = files.path().join("tokens.txt").display().to_string();
        let auth = format!("[[auth]]\nname = \"devices\"\nkind = \"tokens\"\nfile = {file:?}\n");
        let canary = endpoint("/canary", "to = [\"reply\"]\nmax_connections = 1000");
        let config = format!(
            "{LISTEN}{auth}{canary}{}",
            endpoint("/", "to = [\"reply\"]\nauth = [\"devices\"]\nmax_connections = 1000")
        );
        let gateway = match limit {
            Some(limit) => Gateway::start_limited(&config, limit),
            None => Gateway::start(&config),
        };
        Guarded { gateway, config, _files: files }
    }

    /// The status that a client gets with this token.
    fn status(&self, token: Option<&str>) -> String {
        let mut client = self.gateway.raw("plain");
        let line = token.map(|token| format!("Authorization: Bearer {token}"));
        client.send(request("/", &line.iter().map(String::as_str).collect::<Vec<_>>()).as_bytes());
        client.head().split(' ').nth(1).unwrap().to_owned()
    }

    /// Whoever has no token stays out, and whoever has one gets in.
    fn is_guarded(&self, after: &str) {
        assert_eq!(self.status(None), "401", "{after}");
        assert_eq!(self.status(Some("wrong")), "401", "{after}");
        assert_eq!(self.status(Some("hunter2-ada")), "101", "{after}");
    }

    /// Breaks the configuration in this way. The file of the good one is there again afterwards.
    fn try_out(&self, reloads: &mut Reloads<'_>, how: &Broken) -> String {
        let file = self.gateway.file("wsgate.toml");
        let _ = fs::remove_file(&file);
        (how.1)(&file, &self.config);
        let line = reloads.reload();
        let _ = fs::remove_file(&file).or_else(|_| fs::remove_dir(&file));
        reloads.write(&self.config);
        line
    }
}

/// A way to break a configuration: what it is, how it is done, and what is said of it.
type Broken = (&'static str, fn(&Path, &str), &'static str);

fn write(file: &Path, text: impl AsRef<[u8]>) {
    fs::write(file, text).unwrap();
}

/// What could be taken for leave to come in.
const BROKEN: [Broken; 12] = [
    ("nothing", |file, _| write(file, ""), "it is empty"),
    ("blank lines", |file, _| write(file, "\n \r\n\t\n"), "it is empty"),
    ("half a word", |file, good| write(file, &good[..good.find("auth = [").unwrap() + 4]), "wsgate.toml:"),
    ("zeros", |file, good| write(file, vec![0; good.len()]), "wsgate.toml:1:1"),
    (
        "another encoding",
        |file, good| write(file, good.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>()),
        "wsgate.toml:1:",
    ),
    ("an empty list", |file, good| write(file, good.replace("[\"devices\"]", "[]")), "\"auth\""),
    ("a blank name", |file, good| write(file, good.replace("[\"devices\"]", "[\"\"]")), "wsgate.toml:"),
    (
        "a variable that is not set",
        |file, good| write(file, good.replace("[\"devices\"]", "[\"${WSGATE_NONE}\"]")),
        "WSGATE_NONE",
    ),
    ("no file of tokens", |file, good| write(file, good.replace("tokens.txt", "none.txt")), "none.txt"),
    ("a directory", |file, _| fs::create_dir(file).unwrap(), "it is a directory"),
    ("a link to itself", |file, _| symlink(file, file).unwrap(), "wsgate.toml"),
    ("a pipe", |file, _| mknodat(CWD, file, FileType::Fifo, 0o600.into(), 0).unwrap(), "it is empty"),
];

#[test]
fn r2_no_broken_configuration_opens_a_door() {
    let guarded = Guarded::start(None);
    let mut reloads = Reloads::of(&guarded.gateway);
    let mut canary = Canary::connect(&guarded.gateway);
    for how in &BROKEN {
        let line = guarded.try_out(&mut reloads, how);
        let is_refused = line.contains(" ERROR reload: failed, and nothing has changed: ") && line.contains(how.2);
        assert!(is_refused, "{}: {line}", how.0);
        guarded.is_guarded(how.0);
        canary.check_echo(how.0);
    }
    let line = reloads.reload();
    assert!(line.contains("read again [[auth]]") && !line.contains("changed"), "{line}");
    measured(
        "R2",
        format!("{} of {} broken configurations changed nothing and opened no door", BROKEN.len(), BROKEN.len()),
    );
}

#[test]
fn r3_no_reload_without_descriptors_opens_a_door() {
    let guarded = Guarded::start(Some("--nofile=64"));
    let mut reloads = Reloads::of(&guarded.gateway);
    let mut canary = Canary::connect(&guarded.gateway);
    let good: Broken = ("the good one", |file, good| write(file, good), "Too many open files");
    for (round, how) in BROKEN.iter().chain([&good]).enumerate() {
        let beyond: Vec<Raw> = (0..100).map(|_| guarded.gateway.raw("plain")).collect();
        eventually("no descriptor is free", DEADLINE, || guarded.gateway.descriptors() >= 64);
        let line = guarded.try_out(&mut reloads, how);
        assert!(line.contains("reload: failed, and nothing has changed: "), "{}: {line}", how.0);
        canary.check_echo(how.0);
        drop(beyond);
        eventually("descriptors are free again", DEADLINE, || guarded.gateway.descriptors() < 32);
        guarded.is_guarded(&format!("round {round}, {}", how.0));
    }
    reloads.reload();
    guarded.is_guarded("the last reload");
    measured("R3", format!("{} of {} reloads at EMFILE changed nothing", BROKEN.len() + 1, BROKEN.len() + 1));
}

/// Dropped, also by a panic, it ends those who go on until then.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn r4_broken_configurations_under_load_lose_nothing() {
    const CLIENTS: usize = 20;
    let guarded = Guarded::start(None);
    let mut reloads = Reloads::of(&guarded.gateway);
    let is_over = AtomicBool::new(false);
    let talk = |mut client: Raw| {
        let mut count = 0;
        while !is_over.load(Ordering::Relaxed) {
            for number in count..count + 8 {
                client.send_text(&number.to_string());
            }
            for number in count..count + 8 {
                assert_eq!(client.text(), number.to_string());
            }
            count += 8;
        }
        count
    };
    let (reloaded, messages) = thread::scope(|scope| {
        let come = || {
            let mut client = guarded.gateway.raw("plain");
            client.upgrade("/", &["Authorization: Bearer hunter2-ada"]);
            client
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| come()).map(|client| scope.spawn(move || talk(client))).collect();
        // Whatever fails here, they end.
        let over = Over(&is_over);
        let (until, mut reloaded) = (Instant::now() + Duration::from_secs(2), 0);
        while Instant::now() < until {
            let line = guarded.try_out(&mut reloads, &BROKEN[reloaded % BROKEN.len()]);
            assert!(line.contains("reload: failed"), "{line}");
            let line = reloads.put(guarded.config.strip_prefix(LISTEN).unwrap());
            assert!(line.contains("read again [[auth]]") && !line.contains("changed"), "{line}");
            reloaded += 1;
            pass(Duration::from_millis(5));
        }
        drop(over);
        (reloaded, clients.into_iter().map(|client| client.join().unwrap()).sum::<usize>())
    });
    measured(
        "R4",
        format!("{reloaded} broken reloads under {CLIENTS} clients: {messages} of {messages} messages came"),
    );
    guarded.is_guarded("the load");
}

#[test]
fn more_than_64_links_may_leave_at_once_and_no_more_before_they_have() {
    const LINKS: usize = 70;
    let remote = Remote::away();
    let link = |number: usize| {
        let backoff = "backoff = { first = \"100ms\", most = \"100ms\" }";
        format!("[[link]]\nname = \"plc-{number}\"\nurl = \"{}\"\n{backoff}\n", remote.url())
    };
    let names: Vec<String> = (0..LINKS).map(|number| format!("\"link:plc-{number}\"")).collect();
    let gateway_lines = "[gateway]\ndrain_timeout = \"3s\"\n";
    let all: String = (0..LINKS).map(link).collect();
    let to = |names: &str| endpoint("/", &format!("to = [{names}\"reply\"]"));
    let linked = |lines: &str| format!("{gateway_lines}{}{all}", to(&(names.join(", ") + ", ")) + lines);
    let gateway = Gateway::start(&format!("{LISTEN}{}", linked("")));
    let mut reloads = Reloads::of(&gateway);
    let threads = gateway.threads();
    let mut client = gateway.client(Wire::Plain, "/");
    // The reply to one may overtake what goes to the links, but not what the next one is read behind.
    for text in ["waits in each of them", "waits behind it"] {
        client.send_text(text);
        assert_eq!(client.text(), text);
    }
    let none = format!("{gateway_lines}{}", to(""));
    let line = reloads.put(&none);
    assert!(line.contains("link \"plc-0\" removed, link \"plc-1\" removed"), "{line}");
    let begun = Instant::now();
    reloads.refuse(&format!("{LISTEN}{}", linked("")), "70 links that were removed still send what waits for them");
    client.send_text("still here");
    assert_eq!(client.text(), "still here");
    // The time that is said is how long it takes.
    eventually("a reload is done again", DEADLINE, || {
        reloads.write(&format!("{LISTEN}{}", linked("max_message = \"2KiB\"\n")));
        !reloads.reload().contains("reload: failed")
    });
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(6), "after {took:?}");
    client.send_text("again");
    assert_eq!(client.text(), "again");
    eventually("those that left have no threads any more", DEADLINE, || gateway.threads() <= threads + 1);
    measured("R1", format!("{LINKS} links removed at once left within {took:.1?}, and no reload was done meanwhile"));
}
