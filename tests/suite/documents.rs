//! What README.md, CONTRIBUTING.md, SECURITY.md and docs/ promise to readers who copy from them.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use data_encoding::HEXLOWER;
use openssl::sha::sha256;
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};
use wsgate::internals::cli::check;
use wsgate::internals::config;

use super::auth::write;
use super::harness::{DEADLINE, Gateway, Raw, Remote, certificates, process, request};

const README: &str = include_str!("../../README.md");
const CONTRIBUTING: &str = include_str!("../../CONTRIBUTING.md");
const SECURITY: &str = include_str!("../../SECURITY.md");

const DOCUMENTS: [(&str, &str); 19] = [
    ("README.md", README),
    ("CONTRIBUTING.md", CONTRIBUTING),
    ("SECURITY.md", SECURITY),
    ("docs/admin.md", include_str!("../../docs/admin.md")),
    ("docs/authentication.md", include_str!("../../docs/authentication.md")),
    ("docs/tls.md", include_str!("../../docs/tls.md")),
    ("docs/examples.md", include_str!("../../docs/examples.md")),
    ("docs/http.md", include_str!("../../docs/http.md")),
    ("docs/links.md", include_str!("../../docs/links.md")),
    ("docs/relays.md", include_str!("../../docs/relays.md")),
    ("docs/events.md", include_str!("../../docs/events.md")),
    ("docs/node-red-n8n.md", include_str!("../../docs/node-red-n8n.md")),
    ("docs/origins.md", include_str!("../../docs/origins.md")),
    ("docs/proxies.md", include_str!("../../docs/proxies.md")),
    ("docs/command-line.md", include_str!("../../docs/command-line.md")),
    ("docs/stores.md", include_str!("../../docs/stores.md")),
    ("docs/metrics.md", include_str!("../../docs/metrics.md")),
    ("docs/operations.md", include_str!("../../docs/operations.md")),
    ("docs/benchmarks.md", include_str!("../../docs/benchmarks.md")),
];

/// The most bytes of the README: a reader who is new reads all of it.
const README_MAX: usize = 9000;

/// The code blocks of this language in a document, in order.
fn blocks_of(text: &'static str, language: &str) -> Vec<&'static str> {
    let fence = format!("\n```{language}\n");
    text.split(&fence[..]).skip(1).map(|rest| rest.split_once("\n```").unwrap().0).collect()
}

/// The code blocks of this language in all documents.
fn blocks(language: &str) -> Vec<&'static str> {
    DOCUMENTS.iter().flat_map(|(_, text)| blocks_of(text, language)).collect()
}

/// The code block of this language with this in it.
pub(crate) fn block_with(language: &str, part: &str) -> &'static str {
    let found: Vec<_> = blocks(language).into_iter().filter(|block| block.contains(part)).collect();
    assert_eq!(found.len(), 1, "blocks of {language} with {part}");
    found[0]
}

/// The configuration with this in it.
pub(crate) fn config_with(part: &str) -> &'static str {
    block_with("toml", part)
}

/// Every file under this directory that ends so.
fn files(directory: &str, extension: &str) -> Vec<PathBuf> {
    let (mut directories, mut found) = (vec![PathBuf::from(directory)], Vec::new());
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("tests run in the directory of the package") {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|own| own == extension) {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn every_document_is_tested() {
    for path in files("docs", "md") {
        assert!(DOCUMENTS.iter().any(|(name, _)| Path::new(name) == path), "{} is not tested", path.display());
    }
    // A block that is indented, or has no language, would be left out by the tests below.
    for (name, text) in DOCUMENTS {
        for (number, line) in text.lines().filter(|line| line.trim_start().starts_with("```")).enumerate() {
            assert!(line.starts_with("```") && (line == "```") == (number % 2 == 1), "{name}: {line}");
        }
    }
}

#[test]
fn the_readme_is_short() {
    assert!(README.len() < README_MAX, "README.md has {} bytes", README.len());
}

#[test]
fn how_to_report_a_vulnerability_is_found_from_where_people_look() {
    for text in [README, CONTRIBUTING] {
        assert!(text.contains("](SECURITY.md)"));
    }
    assert!(SECURITY.contains("\n## Reporting a vulnerability\n") && !SECURITY.contains('@'));
}

#[test]
fn the_readme_first_installs_then_sends_a_message_and_then_tests_with_one_command_each() {
    let commands = blocks_of(README, "sh");
    assert_eq!(
        commands[..5],
        [
            "deb=$(scripts/build-deb) && sudo apt install \"$deb\"\nsudo systemctl enable --now wsgate",
            "./run",
            "target/release/wsgate listen ws://127.0.0.1:8080/",
            "target/release/wsgate send ws://127.0.0.1:8080/ hello",
            "tests/run-all",
        ]
    );
}

#[test]
fn every_configuration_is_a_good_one() {
    let directory = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(directory.path().join("server.pem"), made.cert.pem()).unwrap();
    std::fs::write(directory.path().join("server.key"), made.signing_key.serialize_pem()).unwrap();
    for (certificate, key) in
        [("other.pem", "other.key"), ("clients.pem", "clients.key"), ("company-ca.pem", "company-ca.key")]
    {
        std::fs::copy(directory.path().join("server.pem"), directory.path().join(certificate)).unwrap();
        std::fs::copy(directory.path().join("server.key"), directory.path().join(key)).unwrap();
    }
    std::fs::write(directory.path().join("clients.crl"), certificates::empty_list()).unwrap();
    write_tokens(directory.path());
    let jwks = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    std::fs::write(directory.path().join("jwks.json"), jwks).unwrap();
    std::fs::write(directory.path().join("plant.token"), "Bearer abc\n").unwrap();
    let configs = blocks("toml");
    assert!(configs.len() >= 9, "only {} configurations", configs.len());
    for text in configs {
        let settings = config::parse(text, "a document", directory.path());
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
    assert!(checked >= 9, "only {checked} commands");
}

#[test]
fn every_script_that_is_run_is_there() {
    let mut checked = 0;
    for line in blocks("sh").into_iter().flat_map(str::lines) {
        let Some(script) = line.split_whitespace().next() else { continue };
        // Neither what is built, nor the setting of a variable.
        if script.contains('/') && !script.starts_with("target/") && !script.contains('=') {
            let there = fs::metadata(script).unwrap_or_else(|error| panic!("{line}: {error}"));
            assert!(there.permissions().mode() & 0o111 != 0, "{script} is not executable");
            checked += 1;
        }
    }
    assert!(checked >= 6, "only {checked} scripts");
}

#[test]
fn every_bench_and_test_that_is_run_by_name_is_there() {
    let mut checked = 0;
    for line in blocks("sh").into_iter().flat_map(str::lines) {
        let words: Vec<_> = line.split_whitespace().collect();
        for pair in words.windows(2) {
            let directory = match pair[0] {
                "--bench" => "benches",
                "suite" => "tests/suite",
                _ => continue,
            };
            let there = [format!("{directory}/{}.rs", pair[1]), format!("{directory}/{}/main.rs", pair[1])];
            assert!(there.iter().any(|path| Path::new(path).exists()), "{line}: there is no {}", pair[1]);
            checked += 1;
        }
    }
    assert!(checked >= 5, "only {checked} names");
}

#[test]
fn every_file_that_is_named_is_there() {
    let mut checked = 0;
    for (document, text) in DOCUMENTS {
        for quoted in text.split('`').skip(1).step_by(2) {
            let Some(name) = quoted.split_whitespace().next() else { continue };
            assert!(!name.starts_with("src/"), "{document} names {name}: files of src/ are for ARCHITECTURE.md");
            let folders = ["benches/", "config/", "docs/", "fuzz/", "model/", "tests/", ".ci/"];
            if folders.iter().any(|folder| name.starts_with(folder)) {
                // Of `tests/configs/*.toml` the folder.
                let name = name.split_once('*').map_or(name, |(folder, _)| folder);
                assert!(Path::new(name).exists(), "{document}: there is no {name}");
                checked += 1;
            }
        }
    }
    assert!(checked >= 10, "only {checked} files");
}

/// The anchor of a heading, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || ['-', '_', ' '].contains(c);
    heading.trim_start_matches('#').trim().to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")
}

#[test]
fn every_link_leads_somewhere() {
    let mut checked = 0;
    for (document, text) in DOCUMENTS {
        let folder = Path::new(document).parent().unwrap();
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            if link.contains("://") {
                continue;
            }
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { PathBuf::from(document) } else { folder.join(path) };
            let target = fs::canonicalize(&target).unwrap_or_else(|error| panic!("{document}: {link}: {error}"));
            if !heading.is_empty() {
                let text = fs::read_to_string(&target).unwrap();
                let is_there = text.lines().any(|line| line.starts_with('#') && anchor(line) == heading);
                assert!(is_there, "{document}: {link} leads to no heading");
            }
            checked += 1;
        }
    }
    assert!(checked >= 30, "only {checked} links");
}

#[test]
fn the_table_of_cases_has_every_id_that_a_test_begins_with_and_no_other() {
    // `fn h10_...` is of case H10.
    let id = |line: &str| {
        let id = line.trim_start().strip_prefix("fn ")?.split_once('_')?.0;
        let number = id.strip_prefix(['b', 'c', 'd', 'f', 'h', 'l', 'o', 'r', 's'])?;
        (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then(|| id.to_uppercase())
    };
    let sources = files("tests/suite", "rs").into_iter().chain(files("src", "rs"));
    let tested: BTreeSet<String> =
        sources.flat_map(|path| fs::read_to_string(path).unwrap().lines().filter_map(id).collect::<Vec<_>>()).collect();
    let (_, cases) = CONTRIBUTING.split_once("\n## Cases\n").unwrap();
    let rows = cases.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" |"));
    // What is a matter of speed has no test, but a bench.
    let rows = rows.filter(|(_, row)| !row.contains("(`cargo bench "));
    let told: BTreeSet<String> =
        rows.map(|(id, _)| id.to_owned()).filter(|id| id.ends_with(|c: char| c.is_ascii_digit())).collect();
    assert!(tested.len() > 30, "only {} cases", tested.len());
    assert_eq!(told, tested);
}

#[test]
fn the_defaults_that_it_names_are_those_of_check() {
    let summary = check(None).unwrap();
    for named in ["127.0.0.1:8080", "broadcast"] {
        assert!(README.contains(named) && summary.contains(named), "{named}: {summary}");
    }
    assert!(block_with("js", "new WebSocket").contains("\"ws://localhost:8080/\""));
}

/// The files of tokens that configurations name. The token in `flows.txt` is `token-of-flows`.
const TOKEN_FILES: [&str; 4] = ["tokens", "flows", "consumers", "people"];

fn write_tokens(directory: &Path) {
    for file in TOKEN_FILES {
        let digest = HEXLOWER.encode(&sha256(format!("token-of-{file}").as_bytes()));
        write(&directory.join(format!("{file}.txt")), &format!("{file}-1:{digest}\n"));
    }
}

/// A connection to a path, whose every wait has a deadline.
fn connect(gateway: &Gateway, path: &str) -> WebSocket<TcpStream> {
    connect_with(gateway, path, None)
}

/// The same with the token of this file.
fn connect_as(gateway: &Gateway, file: &str, path: &str) -> WebSocket<TcpStream> {
    connect_with(gateway, path, Some(file))
}

fn connect_with(gateway: &Gateway, path: &str, token_of: Option<&str>) -> WebSocket<TcpStream> {
    let port = gateway.port("main");
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut request = format!("ws://127.0.0.1:{port}{path}").into_client_request().unwrap();
    if let Some(file) = token_of {
        request.headers_mut().insert("Authorization", format!("Bearer token-of-{file}").parse().unwrap());
    }
    tungstenite::client(request, stream).unwrap().0
}

/// The status of a request for this path without a credential.
fn status(gateway: &Gateway, path: &str) -> String {
    let mut client = gateway.raw("main");
    client.send(request(path, &[]).as_bytes());
    client.head()[9..12].to_owned()
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

/// A configuration of a document on a free port, of a listener "main".
fn on_free_port(config: &str) -> String {
    let (before, address) = config.split_once("address = \"").unwrap();
    let (_, after) = address.split_once('"').unwrap();
    format!("{before}name = \"main\"\naddress = \"127.0.0.1:0\"{after}")
}

/// Starts a configuration of a document on a free port, with the files of tokens that it may name.
pub(crate) fn start(config: &str) -> Gateway {
    Gateway::start_with(&on_free_port(config), |command| write_tokens(command.get_current_dir().unwrap()))
}

#[test]
fn the_commands_of_the_readme_make_a_token_that_lets_in() {
    let example = README.split("\n## Example: rooms\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let [make, serve, send] = blocks_of(example, "sh")[..] else { panic!("{example}") };
    let [config] = blocks_of(example, "toml")[..] else { panic!("{example}") };
    let shell = |directory: &Path, script: &str| {
        let output = process::run(Command::new("sh").args(["-ec", script]).current_dir(directory), DEADLINE);
        assert!(output.status.success(), "{script}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let (check, serve) = serve.split_once('\n').unwrap();
    assert_eq!(serve, "target/release/wsgate serve --config wsgate.toml");
    let gateway = Gateway::start_with(&on_free_port(config), |command| {
        let directory = command.get_current_dir().unwrap();
        fs::create_dir_all(directory.join("target/release")).unwrap();
        symlink(env!("CARGO_BIN_EXE_wsgate"), directory.join("target/release/wsgate")).unwrap();
        shell(directory, make);
        let told = shell(directory, check);
        assert!(told.contains("/rooms/{room}"), "{told}");
    });
    for file in ["ada.token", "tokens.txt"] {
        let mode = fs::metadata(gateway.file(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "others can read {file}");
    }
    let mut listener = Raw::plain(gateway.port("main"));
    let token = fs::read_to_string(gateway.file("ada.token")).unwrap();
    listener.upgrade("/rooms/7", &[&format!("Authorization: {}", token.trim())]);
    let send = send.replace("127.0.0.1:8080", &format!("127.0.0.1:{}", gateway.port("main")));
    assert_eq!(shell(&gateway.file(""), &send), "hello\n");
    assert_eq!(listener.text(), "hello");
    gateway.wait_for_log("connected to '/rooms/7' as 'ada'");
    assert_eq!(status(&gateway, "/rooms/7"), "401");
}

#[test]
fn a_message_reaches_its_room_and_no_other() {
    let gateway = start(config_with("path = \"/rooms/{room}\""));
    let [mut sender, mut listener, mut stranger] =
        ["/rooms/7", "/rooms/7", "/rooms/8"].map(|path| connect_as(&gateway, "tokens", path));
    sender.send(Message::text("soup")).unwrap();
    assert_eq!((next(&mut sender), next(&mut listener)), ("soup".into(), "soup".into()));
    // What the stranger hears first is its own.
    stranger.send(Message::text("bread")).unwrap();
    assert_eq!(next(&mut stranger), "bread");
}

#[test]
fn an_echo_goes_to_its_sender_alone() {
    let gateway = start(config_with("path = \"/echo\""));
    let (mut sender, mut other) = (connect(&gateway, "/echo"), connect(&gateway, "/echo"));
    sender.send(Message::text("mine")).unwrap();
    assert_eq!(next(&mut sender), "mine");
    other.send(Message::text("of the other")).unwrap();
    assert_eq!(next(&mut other), "of the other");
}

#[test]
fn the_answer_of_a_flow_reaches_the_one_who_asked() {
    let gateway = start(config_with("path = \"/ask\"\nto = [\"endpoint:/flow\"]"));
    let mut flow = connect(&gateway, "/flow?token=token-of-flows");
    let [mut asker, mut other] = [(); 2].map(|()| connect_as(&gateway, "tokens", "/ask"));
    assert_eq!(["/ask", "/flow"].map(|path| status(&gateway, path)), ["401"; 2]);
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
    let mut dashboard = gateway.raw("main");
    dashboard.upgrade("/dash/3", &["Origin: https://dash.example", "Cookie: session=token-of-people"]);
    let [mut elsewhere, mut device] = ["/devices/4", "/devices/3"].map(|path| connect_as(&gateway, "tokens", path));
    assert_eq!(["/dash/3", "/devices/3"].map(|path| status(&gateway, path)), ["401"; 2]);
    elsewhere.send(Message::text("not here")).unwrap();
    device.send(Message::text("81.25")).unwrap();
    assert_eq!(dashboard.text(), "81.25");
}

#[test]
fn readings_of_devices_reach_the_consumer_with_the_name_of_the_device() {
    let config = config_with("path = \"/ingest\"");
    let certified = config.replace("\"server.pem\"", "\"cert.pem\"").replace("\"server.key\"", "\"key.pem\"");
    let config = certified.replace("0.0.0.0:8443", "127.0.0.1:0").replace("127.0.0.1:8080", "127.0.0.1:0");
    let gateway = Gateway::start_with(&config, |command| write_tokens(command.get_current_dir().unwrap()));
    let mut consumer = gateway.raw("local");
    consumer.upgrade("/readings?token=token-of-consumers", &[]);
    let mut device = Raw::tls(gateway.port("devices"), &gateway.file("ca.pem"));
    device.upgrade("/ingest", &["Authorization: Bearer token-of-tokens"]);
    device.send_text("81.25");
    let reading: serde_json::Value = serde_json::from_str(&consumer.text()).unwrap();
    assert_eq!((&reading["message"], &reading["metadata"]["identity"]), (&81.25.into(), &"tokens-1".into()));
    let mut stranger = Raw::tls(gateway.port("devices"), &gateway.file("ca.pem"));
    stranger.send(request("/ingest", &["Authorization: Bearer wrong"]).as_bytes());
    assert!(stranger.head().starts_with("HTTP/1.1 401 "));
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
    let shown: serde_json::Value = serde_json::from_str(block_with("json", "\"event\":")).unwrap();
    // A test's client names no program.
    let keys = |event: &serde_json::Value| {
        event.as_object().unwrap().keys().filter(|key| *key != "userAgent").cloned().collect::<Vec<_>>()
    };
    assert_eq!(keys(&told["payload"]), keys(&shown));
}
