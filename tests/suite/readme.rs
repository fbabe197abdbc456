//! What README.md promises to whoever copies from it.

use std::net::TcpStream;

use tungstenite::{Message, WebSocket};
use wsgate::cli::check;
use wsgate::config;

use super::harness::{DEADLINE, Gateway, Remote};

const README: &str = include_str!("../../README.md");

/// The code blocks of this language, in order.
pub(crate) fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("\n```{language}\n");
    README.split(&fence[..]).skip(1).map(|rest| rest.split_once("\n```").unwrap().0).collect()
}

/// The configuration with this in it.
pub(crate) fn config_with(part: &str) -> &'static str {
    let found: Vec<_> = blocks("toml").into_iter().filter(|config| config.contains(part)).collect();
    assert_eq!(found.len(), 1, "configurations with {part}");
    found[0]
}

#[test]
fn every_configuration_is_a_good_one() {
    let directory = tempfile::tempdir().unwrap();
    for (file, kind) in [("server.pem", "CERTIFICATE"), ("server.key", "PRIVATE KEY")] {
        let block = format!("-----BEGIN {kind}-----\nAA==\n-----END {kind}-----\n");
        std::fs::write(directory.path().join(file), block).unwrap();
    }
    std::fs::write(directory.path().join("plant.token"), "Bearer abc\n").unwrap();
    let configs = blocks("toml");
    assert!(configs.len() >= 4, "only {} configurations", configs.len());
    for text in configs {
        let settings = config::parse(text, "README.md", directory.path());
        let settings = settings.unwrap_or_else(|error| panic!("{text}\n{error}"));
        assert!(text.contains(&format!("\"{}\"", settings.endpoints[0].path)), "{text}");
    }
}

#[test]
fn every_command_is_one_of_the_program() {
    let help = |command: &str| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_wsgate")).args([command, "--help"]).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{command} is no command");
        String::from_utf8(output.stdout).unwrap()
    };
    let mut checked = 0;
    for line in blocks("sh").into_iter().flat_map(str::lines) {
        let Some(arguments) = line.strip_prefix("target/release/wsgate ") else { continue };
        let mut words = arguments.split_whitespace();
        let help = help(words.next().unwrap());
        for option in words.filter(|word| word.starts_with("--")) {
            assert!(help.contains(option), "{line}: there is no {option}");
        }
        checked += 1;
    }
    assert!(checked >= 4, "only {checked} commands");
}

#[test]
fn every_file_that_it_names_is_there() {
    let names =
        README.split('`').skip(1).step_by(2).filter(|name| {
            ["config/", "tests/", "src/", "benches/"].iter().any(|directory| name.starts_with(directory))
        });
    let links = README.split("](").skip(1).map(|rest| rest.split(')').next().unwrap());
    let mut checked = 0;
    for name in names.chain(links).filter(|name| !name.contains("://") && !name.starts_with('#')) {
        assert!(std::path::Path::new(name).exists(), "there is no {name}");
        checked += 1;
    }
    assert!(checked >= 5, "only {checked} files");
}

#[test]
fn the_defaults_that_it_names_are_those_of_check() {
    let summary = check::report(None).unwrap();
    for named in ["127.0.0.1:8080", "broadcast"] {
        assert!(README.contains(named) && summary.contains(named), "{named}: {summary}");
    }
}

/// A connection to a path, whose every wait has a deadline.
fn connect(gateway: &Gateway, path: &str) -> WebSocket<TcpStream> {
    let port = gateway.port("main");
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    tungstenite::client(format!("ws://127.0.0.1:{port}{path}"), stream).unwrap().0
}

fn next(socket: &mut WebSocket<TcpStream>) -> String {
    socket.read().unwrap().into_text().unwrap().to_string()
}

/// The configuration with this in it, its link dialling this server instead.
fn linked_to(remote: &Remote, part: &str) -> String {
    let config = config_with(part);
    let (_, url) = config.split_once("\nurl = \"").unwrap();
    config.replace(url.split_once('"').unwrap().0, &remote.url())
}

/// Starts a configuration of the README on a free port.
pub(crate) fn start(config: &str) -> Gateway {
    let (before, address) = config.split_once("address = \"").unwrap();
    let (_, after) = address.split_once('"').unwrap();
    Gateway::start(&format!("{before}name = \"main\"\naddress = \"127.0.0.1:0\"{after}"))
}

#[test]
fn the_relay_reaches_the_room_and_no_other() {
    let gateway = start(config_with("path = \"/rooms/{room}\""));
    let mut sender = connect(&gateway, "/rooms/7");
    let mut listener = connect(&gateway, "/rooms/7");
    let mut stranger = connect(&gateway, "/rooms/8");
    sender.send(Message::text("soup")).unwrap();
    assert_eq!((next(&mut sender), next(&mut listener)), ("soup".into(), "soup".into()));
    // What the stranger hears first is its own.
    stranger.send(Message::text("bread")).unwrap();
    assert_eq!(next(&mut stranger), "bread");
}

#[test]
fn the_answer_of_a_flow_reaches_the_one_who_asked() {
    let gateway = start(config_with("path = \"/ask\"\nto = [\"endpoint:/flow\"]"));
    let mut flow = connect(&gateway, "/flow");
    let mut asker = connect(&gateway, "/ask");
    let mut other = connect(&gateway, "/ask");
    asker.send(Message::text("21")).unwrap();
    let asked: serde_json::Value = serde_json::from_str(&next(&mut flow)).unwrap();
    assert_eq!(asked["payload"], "21");
    let answer = serde_json::json!({ "payload": "42", "_session": asked["_session"] });
    flow.send(Message::text(answer.to_string())).unwrap();
    assert_eq!(next(&mut asker), "42");
    // The other one's first message is the answer to its own question.
    other.send(Message::text("1")).unwrap();
    let asked: serde_json::Value = serde_json::from_str(&next(&mut flow)).unwrap();
    let answer = serde_json::json!({ "payload": "2", "_session": asked["_session"] });
    flow.send(Message::text(answer.to_string())).unwrap();
    assert_eq!(next(&mut other), "2");
}

#[test]
fn a_dashboard_sees_the_devices_of_its_line() {
    let gateway = start(config_with("endpoint:/dash/{line}"));
    let mut dashboard = connect(&gateway, "/dash/3");
    let mut elsewhere = connect(&gateway, "/devices/4");
    let mut device = connect(&gateway, "/devices/3");
    elsewhere.send(Message::text("not here")).unwrap();
    device.send(Message::text("81.25")).unwrap();
    assert_eq!(next(&mut dashboard), "81.25");
}

#[test]
fn what_the_server_of_a_link_says_of_a_machine_is_seen_by_its_dashboards_and_commands_reach_it() {
    let remote = Remote::up();
    let config = linked_to(&remote, "link:plant").replace("{ file = \"plant.token\" }", "\"Bearer abc\"");
    let gateway = start(&config);
    let mut linked = remote.accept();
    assert_eq!(linked.text(), r#"{"subscribe":"readings"}"#);
    let [mut seven, mut eight] = ["/machines/7", "/machines/8"].map(|path| connect(&gateway, path));
    let reading = r#"{"machine":7,"kW":81.25}"#;
    linked.send(reading);
    linked.send(r#"{"machine":8}"#);
    assert_eq!((next(&mut seven), next(&mut eight)), (reading.into(), r#"{"machine":8}"#.into()));
    connect(&gateway, "/commands").send(Message::text("stop 7")).unwrap();
    assert_eq!(linked.text(), "stop 7");
}

#[test]
fn the_answer_of_a_flow_that_listens_reaches_the_one_who_asked() {
    let remote = Remote::up();
    let gateway = start(&linked_to(&remote, "link:flow"));
    let mut flow = remote.accept();
    let (mut asker, mut other) = (connect(&gateway, "/ask"), connect(&gateway, "/ask"));
    for (client, question) in [(&mut asker, "21"), (&mut other, "1")] {
        client.send(Message::text(question)).unwrap();
        let mut message = flow.json();
        assert_eq!(message["payload"], question);
        assert_eq!(message["_session"]["id"], message["_wsgate"]);
        // As Node-RED does: it names a session of its own, and takes that out again.
        message.as_object_mut().unwrap().remove("_session");
        message["payload"] = format!("you asked: {question}").into();
        flow.send(r#"{"payload":"for nobody"}"#);
        flow.send(message.to_string());
        assert_eq!(next(client), format!("you asked: {question}"));
    }
}

#[test]
fn a_flow_that_is_told_of_a_meter_greets_it() {
    let gateway = start(config_with("events = "));
    let mut flow = connect(&gateway, "/flow");
    let mut meter = connect(&gateway, "/meters/7");
    let told: serde_json::Value = serde_json::from_str(&next(&mut flow)).unwrap();
    assert_eq!([&told["payload"]["event"], &told["payload"]["parameters"]["meter"]], ["connect", "7"], "{told}");
    let greeting = serde_json::json!({ "payload": "welcome", "_session": told["_session"] });
    flow.send(Message::text(greeting.to_string())).unwrap();
    assert_eq!(next(&mut meter), "welcome");
    meter.close(None).unwrap();
    let told: serde_json::Value = serde_json::from_str(&next(&mut flow)).unwrap();
    let shown: serde_json::Value = serde_json::from_str(blocks("json")[0]).unwrap();
    // A test's client names no program.
    let keys = |event: &serde_json::Value| {
        event.as_object().unwrap().keys().filter(|key| *key != "userAgent").cloned().collect::<Vec<_>>()
    };
    assert_eq!(keys(&told["payload"]), keys(&shown));
}
