//! `wsgate import`: what becomes of flows and workflows, word for word, and one that runs.
//!
//! Each `tests/import/NAME.json` has its answer beside it: `NAME.toml` is the configuration, `NAME.expected` what is
//! said where there is none. Run with `WSGATE_BLESS=1` to write the answers anew, then read the difference.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::time::Instant;
use std::{env, fs, thread};

use serde_json::{Value, json};

use tungstenite::handshake::server::{Request, Response};
use tungstenite::{Message, WebSocket};

use super::harness::{DEADLINE, Gateway, measured, private_directory, process};

/// Variables of the flows, as a machine may have them; `WSGATE_TEST_UNSET` and `wsgate-test-odd` are not set.
const VARIABLES: [(&str, &str); 4] = [
    ("WSGATE_TEST_PATH", "/plant/3"),
    ("WSGATE_TEST_NAME", "plc"),
    ("WSGATE_TEST_URL", "ws://plc.example/ws"),
    ("WSGATE_TEST_EMPTY", ""),
];

pub(super) fn import(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wsgate"));
    command.arg("import").args(arguments).stdin(Stdio::null()).envs(VARIABLES);
    process::run(&mut command, DEADLINE)
}

pub(super) fn stderr(output: &Output) -> &str {
    str::from_utf8(&output.stderr).unwrap()
}

pub(super) fn inputs() -> Vec<PathBuf> {
    let directory = fs::read_dir("tests/import").expect("tests run in the directory of the package");
    let mut inputs: Vec<PathBuf> = directory.map(|entry| entry.unwrap().path()).collect();
    inputs.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    inputs.sort();
    inputs
}

#[test]
fn every_import_is_what_it_was_and_check_accepts_it() {
    let inputs = inputs();
    assert!(inputs.len() >= 30, "only {} inputs", inputs.len());
    // Nobody else can enter it: where others can read the secrets of a configuration, `check` warns.
    let private = private_directory();
    let copy = private.path().join("wsgate.toml");
    for input in inputs {
        let output = import(&[input.to_str().unwrap()]);
        let is_broken = input.file_name().unwrap().to_str().unwrap().starts_with("broken_");
        let (code, answer, extension) =
            if is_broken { (65, &output.stderr, "expected") } else { (0, &output.stdout, "toml") };
        assert_eq!(output.status.code(), Some(code), "{}: {}", input.display(), stderr(&output));
        assert_eq!(output.stdout.is_empty(), is_broken, "{}", input.display());
        let answer = str::from_utf8(answer).unwrap();
        let expected = input.with_extension(extension);
        if env::var_os("WSGATE_BLESS").is_some() {
            fs::write(&expected, answer).unwrap();
        }
        assert_eq!(answer, fs::read_to_string(&expected).unwrap_or_default(), "what becomes of {}", input.display());
        if !is_broken {
            fs::copy(&expected, &copy).unwrap();
            let mut check = Command::new(env!("CARGO_BIN_EXE_wsgate"));
            check.args(["check", "--config"]).arg(&copy).envs(VARIABLES);
            let checked = process::run(&mut check, DEADLINE);
            assert!(checked.status.success(), "{}: {}", input.display(), stderr(&checked));
            assert!(checked.stderr.is_empty(), "{}: {}", input.display(), stderr(&checked));
            let said = format!("{} thing", answer.matches("# TO DECIDE: ").count());
            let none = stderr(&output).contains("nothing is left to decide");
            assert!(stderr(&output).contains(&said) || none, "{}: {}", input.display(), stderr(&output));
        }
    }
}

#[test]
fn a_variable_that_is_set_stays_a_variable() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wsgate"));
    command.args(["import", "tests/import/client.json"]).env("WSGATE_TEST_UNSET", "ws://plc.example/secret");
    let output = process::run(&mut command, DEADLINE);
    let text = str::from_utf8(&output.stdout).unwrap();
    assert!(text.contains("\nurl = \"${WSGATE_TEST_UNSET}\"\n"), "{text}");
    assert!(text.contains("\nheaders.Authorization = \"${WSGATE_TEST_UNSET}\"\n"), "{text}");
    assert!(!text.contains("secret"), "{text}");
}

#[test]
fn standard_input_becomes_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("wsgate.toml");
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$@\" < tests/import/echo.json", "sh", env!("CARGO_BIN_EXE_wsgate")]);
    command.args(["import", "-", "--root", "/red", "--port", "8088", "--output"]).arg(&file);
    let output = process::run(&mut command, DEADLINE);
    assert!(output.status.success() && output.stdout.is_empty(), "{}", stderr(&output));
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("\"0.0.0.0:8088\"") && text.contains("path = \"/red/ws/echo\""), "{text}");
    let mut check = Command::new(env!("CARGO_BIN_EXE_wsgate"));
    let check = process::run(check.args(["check", "--config"]).arg(&file), DEADLINE);
    assert!(check.status.success(), "{}", stderr(&check));
}

#[test]
fn a_file_that_cannot_be_read_or_written_is_named() {
    let output = import(&["tests/import/none.json"]);
    assert_eq!(output.status.code(), Some(66));
    assert!(stderr(&output).contains("failed to read \"tests/import/none.json\": "), "{}", stderr(&output));
    let output = import(&["tests/import/echo.json", "-o", "tests/import/none/wsgate.toml"]);
    assert_eq!(output.status.code(), Some(74));
    assert!(stderr(&output).contains("failed to write \"tests/import/none/wsgate.toml\": "), "{}", stderr(&output));
}

#[test]
fn b36_a_file_that_is_there_is_overwritten_only_when_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("wsgate.toml");
    let path = file.to_str().unwrap();
    fs::write(&file, "# mine\n").unwrap();
    let output = import(&["tests/import/echo.json", "-o", path]);
    assert_eq!(output.status.code(), Some(74));
    assert!(stderr(&output).contains("is there already, and was not changed"), "{}", stderr(&output));
    assert!(stderr(&output).contains("--force"), "{}", stderr(&output));
    assert_eq!(fs::read_to_string(&file).unwrap(), "# mine\n");
    let output = import(&["tests/import/echo.json", "-o", path, "--force"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(fs::read_to_string(&file).unwrap().starts_with("# Written by wsgate import"));
    // An empty file, as mktemp makes it, and a device hold nothing.
    fs::write(&file, "").unwrap();
    for path in [path, "/dev/null"] {
        let output = import(&["tests/import/echo.json", "-o", path]);
        assert!(output.status.success(), "{path}: {}", stderr(&output));
    }
}

#[test]
fn b36_links_that_all_send_to_each_other_take_no_time() {
    const CLIENTS: usize = 100;
    let mut flows = Vec::new();
    let outs: Vec<String> = (0..CLIENTS).map(|client| format!("o{client}")).collect();
    for client in 0..CLIENTS {
        let others: Vec<&String> =
            outs.iter().enumerate().filter(|(own, _)| *own != client).map(|(_, out)| out).collect();
        let id = format!("c{client}");
        flows.push(json!({ "id": id, "type": "websocket-client", "path": format!("ws://{id}.example/") }));
        flows.push(json!({ "id": format!("i{client}"), "type": "websocket in", "client": id, "wires": [others] }));
        flows.push(json!({ "id": outs[client], "type": "websocket out", "client": id }));
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("flows.json");
    fs::write(&file, Value::from(flows).to_string()).unwrap();
    let started = Instant::now();
    // It took minutes when each loop was a reading of the configuration.
    let output = import(&[file.to_str().unwrap()]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = str::from_utf8(&output.stdout).unwrap();
    assert_eq!(text.matches("\nallow_loop = true\n").count(), CLIENTS - 1);
    assert_eq!(text.matches("\"link:").count(), CLIENTS * (CLIENTS - 1) * 2, "a destination and its comment each");
    measured("B36", format_args!("{CLIENTS} links that all send to each other: {:.1?}", started.elapsed()));
}

#[test]
fn b36_a_node_alone_is_imported() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("node.json");
    let trigger = json!({
        "parameters": { "path": "/in" }, "type": "CUSTOM.webSocketServer", "typeVersion": 1, "position": [0, 0],
        "id": "1", "name": "Readings",
    });
    let listener = json!({ "id": "a", "type": "websocket-listener", "path": "/in", "wholemsg": "false" });
    for (input, line) in [
        (trigger.clone(), "listen = [\"n8n-8080\"]"),
        (json!([trigger]), "listen = [\"n8n-8080\"]"),
        (json!({ "nodes": [trigger], "connections": {} }), "listen = [\"n8n-8080\"]"),
        (json!({ "data": [{ "nodes": [trigger], "connections": {} }] }), "listen = [\"n8n-8080\"]"),
        (json!({ "workflowData": { "nodes": [trigger], "connections": {} } }), "listen = [\"n8n-8080\"]"),
        (listener, "name = \"node-red\""),
    ] {
        fs::write(&file, input.to_string()).unwrap();
        let output = import(&[file.to_str().unwrap()]);
        assert!(output.status.success(), "{input}: {}", stderr(&output));
        let text = str::from_utf8(&output.stdout).unwrap();
        assert!(text.lines().any(|found| found == line) && text.contains("\npath = \"/in\"\n"), "{input}: {text}");
    }
}

fn next(socket: &mut WebSocket<TcpStream>) -> String {
    socket.read().unwrap().into_text().unwrap().to_string()
}

fn connect(port: u16, path: &str) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    tungstenite::client(format!("ws://127.0.0.1:{port}{path}"), stream).unwrap().0
}

#[test]
fn b35_the_clients_of_an_imported_trigger_see_no_addresses() {
    let output = import(&["tests/import/n8n_trigger.json"]);
    let mut text = str::from_utf8(&output.stdout).unwrap().to_owned();
    for address in ["0.0.0.0:8080", "0.0.0.0:8090", "127.0.0.1:8079"] {
        text = text.replace(address, "127.0.0.1:0");
    }
    // What the comment leaves to decide: the other clients get the messages too.
    let text = text.replace("[\"endpoint:/n8n/readings\"]", "[\"endpoint:/n8n/readings\", \"others\"]");
    let gateway = Gateway::start(&text);
    let mut n8n = connect(gateway.port("n8n"), "/n8n/readings");
    let (mut one, mut other) =
        (connect(gateway.port("n8n-8090"), "/readings"), connect(gateway.port("n8n-8090"), "/readings"));
    for client in [&mut one, &mut other] {
        assert!(next(client).contains("\"welcome\""));
    }
    one.send(Message::text("17")).unwrap();
    let got: Value = serde_json::from_str(&next(&mut n8n)).unwrap();
    assert_eq!((&got["message"], &got["metadata"]["clientIp"]), (&json!(17), &json!("127.0.0.1")), "{got}");
    assert_eq!(next(&mut other), "17");
}

#[test]
fn the_imported_echo_flow_runs_and_echoes() {
    // The client of the flow connects to a server of ours, so that the test needs no port of its own.
    let remote = TcpListener::bind("127.0.0.1:0").unwrap();
    let flow = fs::read_to_string("tests/import/echo.json").unwrap();
    let flow = flow.replace("localhost:1880", &remote.local_addr().unwrap().to_string());
    let (sender, paths) = channel();
    thread::spawn(move || {
        let (stream, _) = remote.accept().unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        #[allow(clippy::result_large_err, reason = "the signature is the library's")]
        let seen = |request: &Request, response: Response| {
            sender.send(request.uri().path().to_owned()).unwrap();
            Ok(response)
        };
        let mut socket = tungstenite::accept_hdr(stream, seen).unwrap();
        // Until the gateway is gone.
        while socket.read().is_ok() {}
    });
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("flows.json");
    fs::write(&file, flow).unwrap();
    let output = import(&[file.to_str().unwrap(), "--port", "0"]);
    assert!(output.status.success(), "{}", stderr(&output));

    let gateway = Gateway::start(str::from_utf8(&output.stdout).unwrap());
    let port = gateway.port("node-red");
    let (mut one, mut other) = (connect(port, "/ws/echo"), connect(port, "/ws/echo"));
    one.send(Message::text("from one")).unwrap();
    other.send(Message::text("from the other")).unwrap();
    assert_eq!((next(&mut one), next(&mut other)), ("from one".to_owned(), "from the other".to_owned()));
    one.send(Message::binary(vec![0, 255])).unwrap();
    assert_eq!(one.read().unwrap(), Message::binary(vec![0, 255]));
    assert_eq!(paths.recv_timeout(DEADLINE).unwrap(), "/ws/echo");
}
