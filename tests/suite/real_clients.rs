//! What people use today against wsgate: the Python `websockets`, `websocket-client` and `aiohttp`, the Node `ws` client,
//! headless Chromium, and devices whose Origin has to be listed. Each runs its script in tests/clients; tests/install-clients.sh installs them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::documents;
use crate::auth::files_of;
use crate::harness::{Gateway, LISTENERS, process, request};

const CHECKS: [&str; 7] = ["echo", "broadcast", "binary", "subprotocol", "large", "wss", "close"];

#[test]
fn python_websockets_does_all_that_its_users_do() {
    let python = installed("target/clients/python/bin/python");
    every_check_passes(Command::new(python).args(["-W", "error"]).arg(source("tests/clients/python_client.py")));
}

#[test]
fn node_ws_does_all_that_its_users_do() {
    let modules = installed("target/clients/node/node_modules");
    every_check_passes(Command::new("node").env("NODE_PATH", modules).arg(source("tests/clients/node_client.js")));
}

#[test]
fn headless_chromium_does_all_that_its_users_do() {
    // Its script needs Node alone; the browser itself is looked for by the script.
    installed("target/clients/node");
    every_check_passes(Command::new("node").arg(source("tests/clients/chromium_client.js")));
}

#[test]
fn headless_chromium_comes_in_by_cookie_and_by_subprotocol_and_a_foreign_page_does_not() {
    const TOKEN: &str = "hunter2-of-ada";
    installed("target/clients/node");
    let files = files_of(&[("ada", TOKEN)]);
    let auth = |name: &str, place: &str| {
        let file = files.path().join("tokens.txt").display().to_string();
        let endpoint = format!(
            "[[endpoint]]\npath = \"/{name}\"\nto = [\"reply\"]\nauth = [\"{name}\"]\nsubprotocols = [\"chat\"]\n"
        );
        format!("{endpoint}[[auth]]\nname = \"{name}\"\nkind = \"tokens\"\nfile = {file:?}\n{place}\n")
    };
    let gateway = Gateway::start(&format!(
        "{LISTENERS}{}{}{}",
        auth("cookie", "cookie = \"session\""),
        auth("subprotocol", "subprotocol = true"),
        auth("told", "").replace("to = ", "refuse = \"close\"\nto = ")
    ));
    let passed_by_page = |more: &[PathBuf]| {
        let mut command = Command::new("node");
        command.arg(source("tests/clients/chromium_client.js"));
        command.arg(gateway.port("plain").to_string()).arg(gateway.port("tls").to_string()).arg(gateway.file("ca.pem"));
        command.args(["chromium_auth.html", TOKEN]).args(more);
        let output = process::run(&mut command, Duration::from_secs(180));
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{stdout}{stderr}");
        stdout.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let expected = |names: &[&str]| names.iter().map(|name| format!("ok {name}")).collect::<Vec<_>>();
    let own = [
        "cookie",
        "no cookie of another scheme",
        "subprotocol",
        "subprotocol over TLS",
        "nothing",
        "a code that scripts can read",
    ];
    let foreign = ["a foreign page with the cookie", "a foreign page with the token"];
    assert_eq!(passed_by_page(&[]), expected(&[&own[..], &foreign].concat()));
    assert_eq!(gateway.wait_for_logs("): connected to '", 3).len(), 3);
    let refused = gateway.wait_for_logs(": refused with 403: ", foreign.len());
    assert!(refused.iter().all(|line| line.contains("http://foreign.example")), "{refused:?}");
    // A page over TLS has a cookie that is for TLS alone.
    let over_tls = ["cookie of a page over TLS", "a foreign page over TLS with the cookie"];
    assert_eq!(passed_by_page(&[gateway.file("cert.pem"), gateway.file("key.pem")]), expected(&over_tls));
    assert_eq!(gateway.wait_for_logs("): connected to '/cookie'", 2).len(), 2);
    gateway.wait_for_log("https://foreign.example");
}

#[test]
fn python_websocket_client_and_aiohttp_connect_to_a_gateway_with_its_defaults() {
    let gateway = Gateway::start("[[listen]]\nname = \"main\"\naddress = \"127.0.0.1:0\"\n");
    let mut command = Command::new(installed("target/clients/python/bin/python"));
    command.args(["-W", "error"]).arg(source("tests/clients/python_others.py")).arg(gateway.port("main").to_string());
    let output = process::run(&mut command, Duration::from_secs(60));
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(stdout, "ok websocket-client\nok aiohttp\n", "{stderr}");
}

/// What the library arduinoWebSockets sends if nothing is configured, in its order.
const ARDUINO: &str = "GET /devices HTTP/1.1\r\nHost: 10.0.0.7:8080\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                       Sec-WebSocket-Protocol: arduino\r\nOrigin: file://\r\nUser-Agent: arduino-WebSocket-Client\r\n\r\n";

#[test]
fn b1_a_device_with_the_library_arduino_websockets_connects_to_the_endpoint_of_the_documents() {
    let gateway = documents::start(documents::config_with("origins = [\"file://\"]"));
    let mut client = gateway.raw("main");
    client.send(ARDUINO.as_bytes());
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    // Elsewhere it is told what to write.
    let mut client = gateway.raw("main");
    client.send(ARDUINO.replace("/devices", "/dash").as_bytes());
    let from = client.own_port();
    assert!(client.answer().1.ends_with(" (the log of wsgate says what to do)\n"));
    let line = gateway.wait_for_log(&format!(":{from}): refused with 403: "));
    assert!(line.contains("write origins = [\"same\", \"file://\"] under [[endpoint]] '/dash'"), "{line}");
}

#[test]
fn b1_each_client_in_the_table_of_the_documents_connects_with_its_line() {
    let table = fs::read_to_string(source("docs/origins.md")).unwrap();
    let (_, table) = table.split_once("| client | its `Origin` | what to write |").unwrap();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with("| "));
    let rows: Vec<_> = rows.map(|row| row.split('`').skip(1).step_by(2).collect::<Vec<_>>()).collect();
    assert!(rows.len() >= 6, "{rows:?}");
    for row in rows {
        let [origin, line] = row[..] else { panic!("an Origin and a line, not {row:?}") };
        for (line, expected) in [(line, "HTTP/1.1 101 "), ("", "HTTP/1.1 403 ")] {
            let listen = "[[listen]]\nname = \"main\"\naddress = \"127.0.0.1:0\"\n";
            let gateway = Gateway::start(&format!("{listen}[[endpoint]]\n{line}\n"));
            let mut client = gateway.raw("main");
            client.send(request("/", &[&format!("Origin: {origin}")]).as_bytes());
            assert!(client.head().starts_with(expected), "{origin} with {line:?}");
        }
    }
}

/// Runs one client's script against a gateway and expects each of its checks to pass: once
/// where the broadcaster writes itself, once where deliverers write for it, once through a relay.
fn every_check_passes(client: &mut Command) {
    for deliverers in [0, 3] {
        let mut gateway = Gateway::start(&config(deliverers));
        every_check_passes_at(client, &gateway, &format!("with {deliverers} deliverers"));
        assert!(gateway.terminate().success(), "with {deliverers} deliverers");
    }
    // The same through a relay, which no client may notice.
    let upstream = Gateway::start(&config(0));
    let mut relay = Gateway::start(&relay_to(upstream.port("plain")));
    every_check_passes_at(client, &relay, "through a relay");
    assert!(relay.terminate().success(), "through a relay");
}

fn every_check_passes_at(client: &Command, gateway: &Gateway, how: &str) {
    // Two runs on one command would add their arguments up.
    let mut command = Command::new(client.get_program());
    command.args(client.get_args()).envs(client.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.arg(gateway.port("plain").to_string()).arg(gateway.port("tls").to_string()).arg(gateway.file("ca.pem"));

    // Every single wait of a script has a deadline of its own; this one is for all of them.
    let output = process::run(&mut command, Duration::from_secs(180));

    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let passed: Vec<&str> = stdout.lines().filter_map(|line| line.strip_prefix("ok ")).collect();
    assert!(output.status.success(), "{how}, passed {passed:?}, then: {stderr}");
    assert_eq!(passed, CHECKS, "{how}");
}

/// A gateway that relays all that [`config`] has to the one on this port.
fn relay_to(port: u16) -> String {
    let mut config = LISTENERS.to_owned();
    for path in ["/echo", "/broadcast", "/proto"] {
        config += &format!(
            "\n[[endpoint]]\npath = \"{path}\"\n\
             relay = {{ url = \"ws://127.0.0.1:{port}{path}\", proxy = \"off\" }}\n"
        );
    }
    config
}

fn config(deliverers: usize) -> String {
    format!(
        r#"
        [gateway]
        deliverers = {deliverers}
        {LISTENERS}
        # The browser's page comes from another port of this machine.
        [[endpoint]]
        path = "/echo"
        to = ["reply"]

        [[endpoint]]
        path = "/broadcast"
        to = ["broadcast"]

        [[endpoint]]
        path = "/proto"
        to = ["reply"]
        subprotocols = ["chat.v2", "chat.v1"]
        "#
    )
}

/// A file of the repository.
pub(crate) fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// What tests/install-clients.sh has installed; a test without its client fails, it does not pass.
pub(crate) fn installed(path: &str) -> PathBuf {
    let path = source(path);
    assert!(path.exists(), "{} is not installed; run tests/install-clients.sh", path.display());
    path
}
