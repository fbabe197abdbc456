//! The page of the admin listener: its files, and what operators do with it, in headless Chromium.

use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::admin::{ADMIN, Caller};
use crate::auth::files_of;
use crate::harness::{Gateway, measured, process};
use crate::real_clients::{installed, source};

const CONFIG: &str = r#"
[gateway]
max_connections = 12000

[[listen]]
name = "plain"
address = "127.0.0.1:0"

[[endpoint]]
path = "/room"
to = ["others"]

[[endpoint]]
path = "/x/{name}"
max_connections = 11000
to = []

[[endpoint]]
path = "/named/{name}"
to = []
auth = ["names"]

[[link]]
name = "plc"
url = "ws://127.0.0.1:1/"
to = []
backoff = { first = "1ms", most = "1ms", attempts = 1 }
"#;

fn start() -> (TempDir, Gateway) {
    let files = files_of(&[("<script>window.evil=2</script>", "hunter2-evil")]);
    let file = files.path().join("tokens.txt").display().to_string();
    let auth = format!("[[auth]]\nname = \"names\"\nkind = \"tokens\"\nfile = {file:?}\n");
    (files, Gateway::start(&format!("{CONFIG}{auth}{ADMIN}")))
}

#[test]
fn the_files_of_the_page_say_what_a_browser_may_do_with_them() {
    let (_files, gateway) = start();
    let mut caller = Caller::of(&gateway);
    for (path, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/page.css", "text/css; charset=utf-8"),
        ("/page/main.js", "text/javascript; charset=utf-8"),
        ("/page/icon.svg", "image/svg+xml"),
        ("/uplot.js", "text/javascript; charset=utf-8"),
        ("/uplot.css", "text/css; charset=utf-8"),
    ] {
        let file = caller.get(path);
        assert_eq!((file.status, file.header("Content-Type")), (200, Some(content_type)), "{path}");
        let policy = file.header("Content-Security-Policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("unsafe"), "{policy}");
        for (name, value) in [
            ("X-Content-Type-Options", "nosniff"),
            ("X-Frame-Options", "DENY"),
            ("Referrer-Policy", "no-referrer"),
            ("Cache-Control", "no-cache"),
        ] {
            assert_eq!(file.header(name), Some(value), "{path}");
        }
        let known = format!("If-None-Match: {}", file.header("ETag").unwrap());
        let again = caller.ask_with("GET", path, &[&known], None);
        assert_eq!((again.status, &*again.body, again.header("Content-Length")), (304, "", None), "{path}");
        assert_eq!(caller.ask_with("GET", path, &["If-None-Match: \"another\""], None).status, 200, "{path}");
    }
    for path in ["/page/", "/page/mod.rs", "/page/..%2fmod.rs", "/favicon.ico"] {
        assert_eq!(caller.get(path).status, 404, "{path}");
    }
}

#[test]
fn headless_chromium_shows_clients_sends_follows_and_disconnects() {
    let (python, modules) =
        (installed("target/clients/python/bin/python"), installed("target/clients/node/node_modules"));
    let clients = std::env::var("WSGATE_PAGE_CLIENTS").unwrap_or_else(|_| "198".to_owned());
    let (_files, gateway) = start();
    let mut command = Command::new("node");
    command.env("NODE_PATH", modules).arg(source("tests/clients/chromium_admin.js"));
    command.args([&gateway.admin_port().to_string(), &gateway.port("plain").to_string()]).arg(python).arg(clients);
    if let Ok(shots) = std::env::var("WSGATE_PAGE_SHOTS") {
        command.arg(shots);
    }
    let output = process::run(&mut command, Duration::from_secs(240));
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}{stderr}");
    let passed: Vec<&str> = stdout.lines().collect();
    let checks = ["counts", "search", "keyboard", "messages", "tail", "acts", "texts", "kick", "clean"];
    assert_eq!(passed, checks.map(|name| format!("ok {name}")));
    stderr.lines().for_each(|line| measured("page", line));
    gateway.wait_for_logs("link plc: dialling at once, as was asked for", 1);
    assert_eq!(Caller::of(&gateway).get("/api/v1/log").json()["level"], "debug");
}
