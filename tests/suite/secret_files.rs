//! Files with secrets that others on the machine can read: each is warned of by its name.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::TempDir;

use crate::harness::command::{run_with_input, start_with};
use crate::harness::{certificates, measured};

const CONFIG: &str = r#"
[[listen]]
name = "tls"
address = "127.0.0.1:0"

[listen.tls]
certificate = "cert.pem"
private_key = "key.pem"
more = [{ certificate = "cert.pem", private_key = "more.key" }]

[[listen]]
name = "plain"
address = "127.0.0.1:0"

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
algorithm = "HS256"
file = "hs256.txt"

[[auth]]
name = "signed"
kind = "jwt"
file = "cert.pem"

[[link]]
name = "up"
url = "wss://up.example/?token=in-the-clear"
headers = { Authorization = { file = "up.token" }, X-Key = "in-the-clear", X-Plant = "3" }
proxy = "http://me:in-the-clear@proxy.example:3128"
tls = { certificate = "cert.pem", private_key = "up.key" }

[[link]]
name = "other"
url = "wss://me:${PASSWORD}@up.example/?token=${TOKEN}&plant=3"
headers = { X-Api-Key = "${TOKEN}" }

[[endpoint]]
path = "/"
auth = ["devices", "staff", "login", "signed"]
to = ["link:up", "link:other"]

[[endpoint]]
path = "/relay"
relay = { url = "wss://me:in-the-clear@up.example/", headers = { Cookie = { file = "relay.token" } }, tls = { certificate = "cert.pem", private_key = "relay.key" } }
"#;

/// What is named in a warning where everybody can read all of it: files, and places in the configuration itself.
const FILES: [&str; 9] =
    ["key.pem", "more.key", "tokens.txt", "users.txt", "hs256.txt", "up.token", "up.key", "relay.token", "relay.key"];
const PLACES: [&str; 4] = [
    "\"url\" in [[link]] holds a secret",
    "\"X-Key\" in headers of [[link]] holds a secret",
    "\"proxy\" in [[link]] holds a secret",
    "\"url\" in relay of [[endpoint]] holds a secret",
];

/// A directory with all of these, for everybody. Where others cannot enter the directory above, nobody could read them.
fn directory() -> TempDir {
    let directory = tempfile::tempdir_in("/tmp").unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    certificates::write(directory.path());
    let key = fs::read_to_string(directory.path().join("key.pem")).unwrap();
    ["more.key", "up.key", "relay.key"].iter().for_each(|name| write(name, &key));
    write("tokens.txt", run_with_input(&["token", "hash", "press-3"], b"token").stdout());
    write("users.txt", &format!("ada:{}\n", bcrypt::hash("secret", 4).unwrap()));
    write("hs256.txt", &"s".repeat(32));
    ["up.token", "relay.token"].iter().for_each(|name| write(name, "Bearer abc\n"));
    write("wsgate.toml", CONFIG);
    for file in fs::read_dir(directory.path()).unwrap() {
        allow(&file.unwrap().path(), 0o644);
    }
    allow(directory.path(), 0o755);
    directory
}

fn allow(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// The warnings about what others can read; there is no mistake.
fn warnings(directory: &TempDir) -> Vec<String> {
    let config = directory.path().join("wsgate.toml").display().to_string();
    let variables = [("PASSWORD", "of-the-environment"), ("TOKEN", "of-the-environment")];
    let checked = start_with(&["check", "--config", &config], &variables).finish();
    checked.expect(0, &[]);
    assert!(!checked.stderr.contains("in-the-clear"), "{checked:?}");
    let told = checked.stderr.lines().filter(|line| line.contains("every user of this machine can read"));
    told.map(str::to_owned).collect()
}

#[test]
fn s10_each_file_with_secrets_that_others_can_read_is_warned_of_by_its_name() {
    let directory = directory();
    let all = warnings(&directory);
    for name in FILES {
        let file = directory.path().join(name).display().to_string();
        let told = all.iter().filter(|line| line.contains(&format!("names {file:?}, which every user")));
        assert_eq!(told.count(), 1, "{name}: {all:?}");
    }
    for place in PLACES {
        assert_eq!(all.iter().filter(|line| line.contains(place)).count(), 1, "{place}: {all:?}");
    }
    assert_eq!(all.len(), FILES.len() + PLACES.len(), "{all:?}");

    let file = |name: &str| directory.path().join(name);
    FILES.iter().for_each(|name| allow(&file(name), 0o640));
    assert_eq!(warnings(&directory).len(), PLACES.len(), "only the configuration is left");
    allow(&file("wsgate.toml"), 0o600);
    assert_eq!(warnings(&directory), [""; 0]);
    // Whoever cannot enter the directory can read none of it.
    FILES.iter().for_each(|name| allow(&file(name), 0o644));
    allow(directory.path(), 0o750);
    assert_eq!(warnings(&directory), [""; 0]);
    measured("S10", format!("{} files and {} places of 13 warned of by name", FILES.len(), PLACES.len()));
}
