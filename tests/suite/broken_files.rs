//! Files that cannot be used when they are read again: of each kind, in each way. What was read before stays in force, all
//! of it, and one line of the log names the file.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use data_encoding::BASE64;
use openssl::pkey::PKey;
use rustix::process::{Signal, geteuid};
use rustls::ClientConfig;

use crate::auth::write;
use crate::certificates::{Authority, client};
use crate::harness::command::run_with_input;
use crate::harness::{Gateway, Raw, certificates, measured, request};
use crate::withdrawn::{certified, jwks, jwt};

const CONFIG: &str = r#"
[gateway]
failed_credentials = "off"

[[listen]]
name = "plain"
address = "127.0.0.1:0"
allow_addresses = { file = "allow.txt" }
deny_addresses = { file = "deny.txt" }

[[listen]]
name = "proxied"
address = "127.0.0.1:0"
client_address = "x-forwarded-for"
trusted_proxies = { file = "proxies.txt" }

[[listen]]
name = "tls"
address = "127.0.0.1:0"

[listen.tls]
certificate = "cert.pem"
private_key = "key.pem"
client_ca = "clients.pem"
crl = "clients.crl"

[[auth]]
name = "devices"
kind = "tokens"
file = "tokens.txt"

[[auth]]
name = "staff"
kind = "basic"
file = "users.txt"

[[auth]]
name = "login"
kind = "jwt"
file = "jwks.json"

[[auth]]
name = "other"
kind = "jwt"
file = "keys.pem"

[[link]]
name = "up"
url = "wss://127.0.0.1:1/"
backoff = { first = "60s", most = "60s" }
tls = { ca = "up.pem", certificate = "own.pem", private_key = "own.key" }
to = []

[[endpoint]]
path = "/"
listen = ["plain", "proxied"]
to = ["reply"]
auth = ["devices", "staff", "login", "other"]

[[endpoint]]
path = "/certificates"
listen = ["tls"]
to = ["reply"]
"#;

/// Each file, whose it is, and a line of it that cannot be right. Where lines count, it is told by its number.
const FILES: [(&str, &str, bool); 14] = [
    ("cert.pem", "!", false),
    ("key.pem", "!", false),
    ("clients.pem", "!", false),
    ("clients.crl", "!", false),
    ("tokens.txt", "ada:12", true),
    ("users.txt", "ada:$2y$05$half", true),
    ("jwks.json", "]", true),
    ("keys.pem", "!", false),
    ("allow.txt", "10.0.0.300", true),
    ("deny.txt", "10.0.0.300", true),
    ("proxies.txt", "10.0.0.300", true),
    ("up.pem", "!", false),
    ("own.pem", "!", false),
    ("own.key", "!", false),
];

/// How many lines the file has that has one bad one.
const LINES: usize = 10_000;

/// What can be wrong with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    Empty,
    Unreadable,
    Directory,
    HalfWritten,
    OneBadLine,
}

const WAYS: [Broken; 5] =
    [Broken::Empty, Broken::Unreadable, Broken::Directory, Broken::HalfWritten, Broken::OneBadLine];

/// Breaks a file; `good` is what was in it.
fn break_file(file: &Path, how: Broken, good: &str, bad_line: &str) {
    let _ = fs::remove_file(file);
    match how {
        Broken::Empty => fs::write(file, "").unwrap(),
        // Root may read everything, but cannot follow a link that leads to itself.
        Broken::Unreadable if geteuid().is_root() => symlink(file, file).unwrap(),
        Broken::Unreadable => {
            fs::write(file, good).unwrap();
            fs::set_permissions(file, fs::Permissions::from_mode(0o000)).unwrap();
        }
        Broken::Directory => fs::create_dir(file).unwrap(),
        Broken::HalfWritten => fs::write(file, &good[..good.len() / 2]).unwrap(),
        Broken::OneBadLine => fs::write(file, with_a_bad_line(good, bad_line)).unwrap(),
    }
}

/// The text with this line in its middle, and so many lines behind it that there are [`LINES`].
fn with_a_bad_line(good: &str, bad_line: &str) -> String {
    let mut lines: Vec<&str> = good.lines().collect();
    // Outside of its blocks PEM may have any text.
    lines.insert(if good.starts_with("-----BEGIN ") { 1 } else { lines.len() / 2 }, bad_line);
    // What may stand there as often as one likes: the same entry, and nothing in what has no entries.
    let filler = if bad_line.len() > 1 && !bad_line.contains('$') { lines[0] } else { "" };
    let missing = LINES - lines.len();
    lines.splice(..0, std::iter::repeat_n(filler, missing));
    lines.join("\n") + "\n"
}

/// The same JSON on several lines.
fn pretty(json: &str) -> String {
    serde_json::to_string_pretty(&serde_json::from_str::<serde_json::Value>(json).unwrap()).unwrap()
}

/// The clients that are there, one for each way in, and how another one would come in by it.
struct Ways {
    gateway: Gateway,
    requests: Vec<(u16, String)>,
    certified: Arc<ClientConfig>,
    here: Vec<Raw>,
}

impl Ways {
    /// A client over each way.
    fn connect(&self) -> Vec<Raw> {
        let plain = self.requests.iter().map(|(port, line)| {
            let mut client = Raw::plain(*port);
            client.upgrade("/", &[line, "X-Forwarded-For: 192.0.2.1"]);
            client
        });
        let (mut secured, _) = Raw::secured(self.gateway.port("tls"), &self.certified);
        secured.upgrade("/certificates", &[]);
        plain.chain([secured]).collect()
    }

    /// Those who are here stay, others come in as before, and a wrong token does not.
    fn check(&mut self, after: &str) {
        for mut client in self.connect() {
            client.send_text("new");
            assert_eq!(client.text(), "new", "{after}");
        }
        for client in &mut self.here {
            client.send_text("still here");
            assert_eq!(client.text(), "still here", "{after}");
        }
        let mut wrong = Raw::plain(self.requests[0].0);
        wrong.send(request("/", &["Authorization: Bearer wrong"]).as_bytes());
        assert!(wrong.head().starts_with("HTTP/1.1 401 "), "{after}");
    }
}

#[test]
fn r1_each_kind_of_file_broken_in_each_way_changes_nothing_and_is_named_in_one_line() {
    let plant = Authority::root("plant");
    let gateway = Gateway::start_with(CONFIG, |command| {
        let directory = command.get_current_dir().unwrap();
        let token = run_with_input(&["token", "hash", "ada"], b"token-of-ada");
        write(&directory.join("tokens.txt"), token.stdout());
        write(&directory.join("users.txt"), &format!("ada:{}\n", bcrypt::hash("secret", 4).unwrap()));
        write(&directory.join("jwks.json"), &pretty(&jwks(&["ada"])));
        let public = PKey::generate_ed25519().unwrap().public_key_to_pem().unwrap();
        fs::write(directory.join("keys.pem"), public).unwrap();
        fs::write(directory.join("allow.txt"), "127.0.0.0/8\n").unwrap();
        fs::write(directory.join("deny.txt"), "10.0.0.0/8\n").unwrap();
        fs::write(directory.join("proxies.txt"), "127.0.0.1\n").unwrap();
        fs::write(directory.join("clients.pem"), plant.pem()).unwrap();
        fs::write(directory.join("clients.crl"), plant.revoke(&[66], 4000)).unwrap();
        plant.issue(directory, "press", client("press", 1), "");
        let elsewhere = tempfile::tempdir().unwrap();
        certificates::write(elsewhere.path());
        for (from, to) in [("ca.pem", "up.pem"), ("cert.pem", "own.pem"), ("key.pem", "own.key")] {
            fs::copy(elsewhere.path().join(from), directory.join(to)).unwrap();
        }
    });
    let basic = format!("Authorization: Basic {}", BASE64.encode(b"ada:secret"));
    let bearer = |token: &str| format!("Authorization: Bearer {token}");
    let [plain, proxied] = ["plain", "proxied"].map(|name| gateway.port(name));
    let requests = vec![
        (plain, bearer("token-of-ada")),
        (plain, basic),
        (plain, bearer(&jwt("ada"))),
        (proxied, bearer("token-of-ada")),
    ];
    let certified = certified(&gateway.file(""), "press");
    let mut ways = Ways { gateway, requests, certified, here: Vec::new() };
    ways.here = ways.connect();

    let (mut failed, mut wrong) = (0, Vec::new());
    for (name, bad_line, is_counted) in FILES {
        let file = ways.gateway.file(name);
        let good = fs::read_to_string(&file).unwrap();
        for how in WAYS {
            break_file(&file, how, &good, bad_line);
            ways.gateway.signal(Signal::HUP);
            failed += 1;
            let lines = ways.gateway.wait_for_logs("reload: ", failed);
            let line = &lines[failed - 1];
            let mut needed = vec![" ERROR reload: failed, and nothing has changed: ", name];
            if how == Broken::OneBadLine && is_counted {
                needed.push("line ");
            }
            if lines.len() != failed || !needed.iter().all(|words| line.contains(words)) {
                wrong.push(format!("{how:?} {name}: {line}"));
            }
            ways.check(&format!("{how:?} {name}"));
            let _ = fs::remove_file(&file).or_else(|_| fs::remove_dir(&file));
            write(&file, &good);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    ways.gateway.signal(Signal::HUP);
    ways.gateway.wait_for_log("reload: read again");
    ways.check("the last reload");
    measured(
        "R1",
        format!("{failed} of {failed} broken files changed nothing: {} kinds, {} ways", FILES.len(), WAYS.len()),
    );
}
