//! A real Node-RED on the other side: as a client of the gateway, as the upstream of links and relays, and as
//! what the gateway replaces. Its own websocket nodes do the work; function nodes tell what they have seen.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::documents;
use crate::harness::node_red::{client, flows, function, listener};
use crate::harness::{DEADLINE, Frame, Gateway, LISTENERS, NodeRed, Raw, Wire, masked, measured, process, request};
use crate::real_clients::{installed, source};

/// What most flows here answer: texts in capitals, bytes backwards. Without `_session`, or Node-RED would look for a client
/// of its own to send it to, and a "connect to" has none.
const CAPITALS: &str = "return { payload: Buffer.isBuffer(msg.payload) ? Buffer.from(msg.payload).reverse() : msg.payload.toUpperCase() };";

/// The same as the answer to one client of a listener, which `_session` names.
const CAPITALS_FOR_ONE: &str = "msg.payload = Buffer.isBuffer(msg.payload) ? Buffer.from(msg.payload).reverse() : msg.payload.toUpperCase();\nreturn msg;";

/// A gateway with a plain and a TLS listener.
fn gateway(rest: &str) -> Gateway {
    Gateway::start(&format!("[gateway]\nclose_timeout = \"2s\"\ndrain_timeout = \"3s\"\n{LISTENERS}\n{rest}"))
}

/// A client of its plain listener.
fn person(gateway: &Gateway, path: &str) -> Raw {
    gateway.client(Wire::Plain, path)
}

/// The URL of a path of its plain listener.
fn url(gateway: &Gateway, path: &str) -> String {
    format!("ws://127.0.0.1:{}{path}", gateway.port("plain"))
}

/// Where flows connect, and where those are who talk with them.
const FLOW_AND_PEOPLE: &str = r#"
    [[endpoint]]
    path = "/flow"
    to = ["endpoint:/people"]

    [[endpoint]]
    path = "/people"
    to = ["endpoint:/flow"]
"#;

/// A link that redials soon; `settings` are more of its own.
fn link(name: &str, url: &str, settings: &str) -> String {
    format!(
        "[[link]]\nname = \"{name}\"\nurl = \"{url}\"\nproxy = \"off\"\n\
         backoff = {{ first = \"10ms\", most = \"200ms\" }}\n{settings}\n"
    )
}

/// An endpoint that relays to this URL; `settings` are more of the relay's own.
fn relay(path: &str, url: &str, settings: &str) -> String {
    format!("[[endpoint]]\npath = \"{path}\"\n[endpoint.relay]\nurl = \"{url}\"\nproxy = \"off\"\n{settings}\n")
}

/// Texts and bytes, short and long, that come back as [`CAPITALS`] has them.
fn talk(person: &mut Raw) {
    let long = "añb".repeat(50_000);
    for text in ["hello", "grün und blau", &long] {
        person.send_text(text);
        assert_eq!(person.message(), Frame::text(&text.to_uppercase()));
    }
    let many: Vec<u8> = (0..100_000).map(|number| (number % 251) as u8).collect();
    for bytes in [&[0, 255, 10, 0x80][..], b"text", &many] {
        person.send(&masked(0x82, bytes));
        let backwards: Vec<u8> = bytes.iter().rev().copied().collect();
        assert_eq!(person.message(), Frame::binary(&backwards));
    }
}

// Node-RED as a client of the gateway

#[test]
fn texts_and_bytes_pass_both_ways_between_a_flow_and_people() {
    let gateway = gateway(FLOW_AND_PEOPLE);
    let node_red = NodeRed::up(&flows(&[client("flow", &url(&gateway, "/flow"), json!({}), CAPITALS)]));
    gateway.wait_for_log("connected to '/flow'");
    talk(&mut person(&gateway, "/people"));
    let kinds: Vec<bool> = node_red
        .wait_for_seen("six messages", 6, |seen| seen.get("isBinary").is_some())
        .iter()
        .map(|seen| seen["isBinary"].as_bool().unwrap())
        .collect();
    assert_eq!(kinds, [false, false, false, true, true, true]);
}

#[test]
fn the_entire_message_passes_both_ways_and_each_side_has_its_own_session() {
    let gateway = gateway(&FLOW_AND_PEOPLE.replace("to = ", "format = \"message\"\nto = "));
    let whole = json!({ "wholemsg": "true" });
    let answer = "return { payload: { n: msg.payload.n + 1 }, topic: msg.topic + '!' };";
    let node_red = NodeRed::up(&flows(&[client("flow", &url(&gateway, "/flow"), whole, answer)]));
    let flow = gateway.wait_for_log("connected to '/flow'");
    let flow = flow.split("client ").nth(1).unwrap().split(' ').next().unwrap();
    let mut person = person(&gateway, "/people");
    person.send_text(r#"{"payload":{"n":1},"topic":"t","more":[1,{"a":null}]}"#);
    let mut answer: Value = serde_json::from_str(&person.text()).unwrap();
    // Node-RED numbers its messages.
    assert!(answer.as_object_mut().unwrap().remove("_msgid").is_some());
    assert_eq!(
        answer,
        json!({
            "payload": { "n": 2 }, "topic": "t!", "path": "/flow", "parameters": {}, "query": {},
            "_session": { "type": "websocket", "id": flow }
        })
    );
    let seen = node_red.wait_for_seen("the message", 1, |seen| seen.get("payload").is_some()).remove(0);
    assert_eq!(
        (&seen["payload"], &seen["topic"], &seen["more"]),
        (&json!({"n":1}), &json!("t"), &json!([1, {"a":null}]))
    );
    // Node-RED knows the connection by an id of its own, and the session of whoever asked is lost on it.
    assert_ne!(seen["_session"]["id"], gateway.id_of(&person));
    assert_ne!(seen["_session"]["id"], flow);
}

#[test]
fn the_flow_of_the_examples_answers_each_who_asks() {
    let gateway = documents::start(documents::config_with("path = \"/ask\"\nto = [\"endpoint:/flow\"]"));
    let port = gateway.port("main");
    // The function of docs/examples.md, behind a json node.
    let mut group = client(
        "flow",
        &format!("ws://127.0.0.1:{port}/flow?token=token-of-flows"),
        json!({}),
        documents::block_with("js", "} = msg.payload;"),
    );
    let nodes = group.as_array_mut().unwrap();
    nodes.push(json!({
        "id": "parse", "type": "json", "z": "the tab", "name": "", "property": "payload", "action": "", "pretty": false,
        "wires": [["decide flow"]],
    }));
    let record = nodes.iter_mut().find(|node| node["id"] == "record flow").unwrap();
    record["wires"] = json!([["parse"]]);
    let _node_red = NodeRed::up(&flows(&[group]));
    gateway.wait_for_log("connected to '/flow'");
    let mut people = [(); 3].map(|()| gateway.raw("main"));
    for person in &mut people {
        person.upgrade("/ask", &["Authorization: Bearer token-of-tokens"]);
    }
    let [one, other, bystander] = &mut people;
    for number in 0..20 {
        one.send_text(&format!("one {number}"));
        other.send_text(&format!("other {number}"));
    }
    for number in 0..20 {
        assert_eq!(one.text(), format!("you asked: one {number}"));
        assert_eq!(other.text(), format!("you asked: other {number}"));
    }
    bystander.send_text("last");
    assert_eq!(bystander.text(), "you asked: last");
}

#[test]
fn a_flow_and_the_gateway_each_ask_whether_the_other_is_there() {
    // One asks and the other answers, on each path the other way round.
    let gateway = gateway(
        r#"
        [[endpoint]]
        path = "/we-ask"
        to = []
        heartbeat = "1s"
        pong_timeout = "3s"

        [[endpoint]]
        path = "/they-ask"
        to = []
        heartbeat = "off"
        "#,
    );
    let node_red = NodeRed::up(&flows(&[
        client("we-ask", &url(&gateway, "/we-ask"), json!({}), "return null;"),
        client("they-ask", &url(&gateway, "/they-ask"), json!({ "hb": "2" }), "return null;"),
        // What counts the seconds.
        json!([
            { "id": "second", "type": "inject", "z": "the tab", "name": "", "props": [], "repeat": "1", "once": true,
              "onceDelay": "1", "wires": [["count"]] },
            function("count", "global.set('seen', (global.get('seen') || []).concat({ second: true })); return null;", &[]),
        ]),
    ]));
    for name in ["we-ask", "they-ask"] {
        node_red.wait_for_status(name, "connect", 1);
    }
    // Without a pong the gateway would have cut the one after 4 s, and Node-RED the other.
    let statuses = || node_red.seen().into_iter().filter(|seen| seen.get("status").is_some()).count();
    let seconds = node_red.seen().iter().filter(|seen| seen.get("second").is_some()).count();
    node_red.wait_for_seen("six seconds more", seconds + 6, |seen| seen.get("second").is_some());
    assert_eq!(statuses(), 2, "{:?}", node_red.seen());

    // A gateway that is there and says nothing is given up by the flow that asks, and by that one alone; it
    // comes back when the gateway does.
    gateway.signal(Signal::STOP);
    node_red.wait_for_status("they-ask", "disconnect", 1);
    gateway.signal(Signal::CONT);
    node_red.wait_for_status("they-ask", "connect", 2);
    assert_eq!(gateway.wait_for_logs("connected to '/they-ask'", 2).len(), 2);
    assert!(!node_red.seen().iter().any(|seen| seen["by"] == "we-ask" && seen["status"] != "connect"));
}

#[test]
fn a_subprotocol_is_agreed_with_a_flow_and_one_that_is_not_ours_is_none() {
    let gateway = gateway(
        r#"
        [[endpoint]]
        path = "/flow"
        to = ["endpoint:/people"]
        subprotocols = ["chat.v3", "chat.v1"]
        events = ["connect"]

        [[endpoint]]
        path = "/people"
        to = ["endpoint:/flow"]
        "#,
    );
    let mut person = person(&gateway, "/people");
    let node_red = NodeRed::up(&flows(&[
        client("agreed", &url(&gateway, "/flow"), json!({ "subprotocol": "chat.v2, chat.v1" }), CAPITALS),
        client("foreign", &url(&gateway, "/flow"), json!({ "subprotocol": "chat.v2" }), CAPITALS),
    ]));
    // Each of the two tells of its connection, in any order.
    let events: Vec<Value> = (0..2).map(|_| serde_json::from_str(&person.text()).unwrap()).collect();
    let agreed: Vec<&str> = events.iter().filter_map(|event| event["subprotocol"].as_str()).collect();
    assert_eq!(agreed, ["chat.v1"], "{events:?}");
    // A client that offers subprotocols and gets none ends the connection.
    node_red.wait_for_status("foreign", "error", 1);
    node_red.wait_for_status("agreed", "connect", 1);
    person.send_text("hello");
    assert_eq!(person.text(), "HELLO");
    assert!(!node_red.seen().iter().any(|seen| seen["by"] == "foreign" && seen["status"] == "connect"));
}

/// A "tls-config" node with these files.
fn tls_config(id: &str, ca: &Path, ours: Option<&NodeRed>) -> Value {
    let file = |name| ours.map_or(String::new(), |node_red| node_red.file(name).to_str().unwrap().to_owned());
    json!({
        "id": id, "type": "tls-config", "name": "", "cert": file("cert.pem"), "key": file("key.pem"), "ca": ca,
        "certname": "", "keyname": "", "caname": "", "servername": "", "verifyservercert": true, "alpnprotocol": "",
    })
}

#[test]
fn over_tls_a_flow_trusts_a_private_authority_and_shows_its_certificate() {
    let gateway = gateway(FLOW_AND_PEOPLE);
    let mut node_red = NodeRed::away();
    let ca = gateway.file("ca.pem");
    let mut terminator = Script::start(
        Command::new("node")
            .arg(source("tests/clients/tls_terminator.js"))
            .args([gateway.file("cert.pem"), gateway.file("key.pem"), node_red.file("ca.pem")])
            .arg(gateway.port("plain").to_string()),
    );
    let terminated = terminator.line();
    let terminated = format!("wss://localhost:{}/flow", terminated.strip_prefix("port ").unwrap());
    let direct = format!("wss://localhost:{}/flow", gateway.port("tls"));
    let tls = |id| json!({ "tls": id });
    let talkative = |name: &str| format!("return {{ payload: {name:?} + ' ' + msg.payload }};");
    let configs = json!([tls_config("with certificate", &ca, Some(&node_red)), tls_config("without", &ca, None)]);
    let groups = [
        configs,
        client("trusting", &direct, tls("with certificate"), &talkative("trusting")),
        client("distrusting", &direct, tls(""), &talkative("distrusting")),
        client("vouched", &terminated, tls("with certificate"), &talkative("vouched")),
        client("unknown", &terminated, tls("without"), &talkative("unknown")),
    ];
    node_red.come(&flows(&groups), "");
    for (name, status) in
        [("trusting", "connect"), ("distrusting", "error"), ("vouched", "connect"), ("unknown", "error")]
    {
        node_red.wait_for_status(name, status, 1);
    }
    assert_eq!(terminator.line(), "client wsgate under test");
    gateway.wait_for_logs("connected to '/flow'", 2);
    let mut person = person(&gateway, "/people");
    person.send_text("here");
    let mut answers = [person.text(), person.text()];
    answers.sort();
    assert_eq!(answers, ["trusting here", "vouched here"]);
    let connected = |name: &str| node_red.seen().iter().any(|seen| seen["by"] == name && seen["status"] == "connect");
    assert!(!connected("distrusting") && !connected("unknown"));
}

/// Listeners of Node-RED let in only who has this Authorization.
const GUARDED: &str = "webSocketNodeVerifyClient: (info) => info.req.headers.authorization === 'Bearer of the flow',";

#[test]
fn an_authorization_passes_from_a_flow_through_a_relay_and_from_a_link_to_listeners_that_ask_for_it() {
    let mut node_red = NodeRed::away();
    let guarded = node_red.url("/ws/guarded");
    let gateway = gateway(&format!(
        "{}{}{}[[endpoint]]\npath = \"/people\"\nto = [\"link:known\"]\n",
        relay("/relay", &guarded, "forward_headers = [\"Authorization\"]"),
        link("known", &guarded, "headers = { Authorization = \"Bearer of the flow\" }\nto = [\"endpoint:/people\"]"),
        link("unknown", &guarded, "headers = { Authorization = \"Bearer of another\" }"),
    ));
    let headers = |value: &str| json!({ "headers": [{ "keyType": "Authorization", "keyValue": "", "valueType": "other", "valueValue": value }] });
    let mut with = client("with", &url(&gateway, "/relay"), headers("Bearer of the flow"), "return null;");
    // Once more every second: the first may be before it is connected.
    with.as_array_mut().unwrap().push(json!({
        "id": "ask", "type": "inject", "z": "the tab", "name": "", "props": [{ "p": "payload" }], "repeat": "1", "once": true,
        "onceDelay": "0.1", "payload": "a question", "payloadType": "str", "wires": [["out with"]],
    }));
    let groups = [
        listener("/ws/guarded", false, CAPITALS_FOR_ONE),
        with,
        client("without", &url(&gateway, "/relay"), json!({}), "return null;"),
        client("wrong", &url(&gateway, "/relay"), headers("Bearer of another"), "return null;"),
    ];
    node_red.come(&flows(&groups), GUARDED);

    // From the flow: who has it is let in, who has not is told 401.
    node_red.wait_for_seen("the answer", 1, |seen| seen["by"] == "with" && seen["payload"] == "A QUESTION");
    for name in ["without", "wrong"] {
        node_red.wait_for_status(name, "error", 1);
    }
    let let_in = |name: &str| node_red.seen().iter().any(|seen| seen["by"] == name && seen["status"] == "connect");
    assert!(let_in("with") && !let_in("without") && !let_in("wrong"), "{:?}", node_red.seen());
    let mut stranger = gateway.raw("plain");
    stranger.send(request("/relay", &[]).as_bytes());
    let head = stranger.head();
    assert!(head.starts_with("HTTP/1.1 401 "), "{head}");
    let mut known = gateway.raw("plain");
    known.upgrade("/relay", &["Authorization: Bearer of the flow"]);
    talk(&mut known);

    // From links.
    gateway.wait_for_log("link known: connected to ");
    talk(&mut person(&gateway, "/people"));
    gateway.wait_for_log(&format!("link unknown: failed to open '{guarded}': the server answered 401 Unauthorized"));
    assert!(!gateway.log().iter().any(|line| line.contains("link unknown: connected")));
}

// Node-RED as the upstream of a link

/// How long a script may be silent: somewhat longer than the deadline that those in tests/clients have themselves.
const SCRIPT: Duration = Duration::from_secs(65);

/// A program that talks in lines. It is killed when this is dropped.
struct Script {
    process: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Script {
    fn start(command: &mut Command) -> Script {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap_or_else(|error| panic!("failed to start {command:?}: {error}"));
        let (stdin, stdout) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // Nobody may want to know any more.
                let _ = sender.send(line);
            }
        });
        Script { process, stdin, lines }
    }

    /// The next line that it prints.
    fn line(&mut self) -> String {
        self.lines.recv_timeout(SCRIPT).unwrap_or_else(|error| {
            let _ = self.process.kill();
            let mut said = String::new();
            let _ = self.process.stderr.take().unwrap().read_to_string(&mut said);
            panic!("no line within {SCRIPT:?}: {error}; it said {said:?}");
        })
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        // An error says that it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn texts_and_bytes_pass_both_ways_through_a_link_to_a_listener_and_again_when_node_red_is_back() {
    let flows = flows(&[listener("/ws/capitals", false, CAPITALS_FOR_ONE)]);
    let mut node_red = NodeRed::up(&flows);
    let gateway = gateway(&format!(
        "[[endpoint]]\npath = \"/people\"\nto = [\"link:node-red\"]\n{}",
        link("node-red", &node_red.url("/ws/capitals"), "to = [\"endpoint:/people\"]")
    ));
    gateway.wait_for_log("link node-red: connected to ");
    let mut person = person(&gateway, "/people");
    talk(&mut person);
    node_red.go();
    gateway.wait_for_log("dialling again");
    // It waits for Node-RED.
    person.send_text("are you there?");
    node_red.come(&flows, "");
    assert_eq!(person.text(), "ARE YOU THERE?");
    talk(&mut person);
}

#[test]
fn two_clients_ask_a_thousand_questions_each_at_once_through_a_link_and_get_only_their_own_answers() {
    const QUESTIONS: usize = 1000;
    // The configuration and the function of docs/links.md.
    let node_red = NodeRed::up(&flows(&[listener("/ws/whole", true, documents::block_with("js", "return msg;"))]));
    let config = documents::config_with("url = \"ws://127.0.0.1:1880/ws/whole\"");
    let here =
        config.replace("ws://127.0.0.1:1880/ws/whole\"", &format!("{}\"\nproxy = \"off\"", node_red.url("/ws/whole")));
    assert_ne!(here, config);
    let gateway = documents::start(&here);
    gateway.wait_for_log("link flow: connected to ");
    let mut bystander = gateway.raw("main");
    bystander.upgrade("/ask", &[]);
    let (count, ask) = (QUESTIONS.to_string(), format!("ws://127.0.0.1:{}/ask", gateway.port("main")));
    let modules = installed("target/clients/node/node_modules");
    let mut askers = [
        Script::start(
            Command::new("node")
                .env("NODE_PATH", modules)
                .arg(source("tests/clients/asker.js"))
                .args([&ask, "node", &count]),
        ),
        Script::start(
            Command::new(installed("target/clients/python/bin/python"))
                .arg(source("tests/clients/asker.py"))
                .args([&ask, "python", &count]),
        ),
    ];
    for asker in &mut askers {
        assert_eq!(asker.line(), "ready");
    }
    for asker in &mut askers {
        asker.stdin.write_all(b"go\n").unwrap();
    }
    for asker in &mut askers {
        assert_eq!(asker.line(), format!("ok {QUESTIONS}"));
        let status = process::wait(&mut asker.process, DEADLINE).expect("it ends");
        assert!(status.success(), "{status}");
    }
    // Whoever asks last and gets only that answer was sent none of the others.
    bystander.send_text("bystander 0");
    assert_eq!(bystander.text(), "answer to bystander 0");

    let seen = node_red.seen();
    let asked: Vec<&Value> =
        seen.iter().filter(|seen| seen["by"] == "/ws/whole" && seen["payload"].is_string()).collect();
    assert_eq!(asked.len(), 2 * QUESTIONS + 1);
    // All came through one connection, which is one session to Node-RED, and did so by turns.
    assert!(asked.iter().all(|seen| seen["_session"] == asked[0]["_session"]));
    let name = |seen: &Value| seen["payload"].as_str().unwrap().split(' ').next().unwrap().to_owned();
    let turns = asked.windows(2).filter(|pair| name(pair[0]) != name(pair[1])).count();
    assert!(turns >= QUESTIONS / 50, "only {turns} turns: they have not asked at once");
    measured("node-red", format!("2 x {QUESTIONS} questions in {turns} turns, no answer to another"));
}

#[test]
fn links_and_relays_reach_a_node_red_over_tls_that_asks_for_their_certificate() {
    let mut node_red = NodeRed::away();
    let [ca, cert, key] = ["ca.pem", "cert.pem", "key.pem"].map(|name| node_red.file(name));
    let https = format!(
        "https: {{ cert: require('fs').readFileSync({cert:?}), key: require('fs').readFileSync({key:?}),\n\
         ca: require('fs').readFileSync({ca:?}), requestCert: true, rejectUnauthorized: true }},"
    );
    node_red.come(&flows(&[listener("/ws/capitals", false, CAPITALS_FOR_ONE)]), &https);
    let upstream = format!("wss://localhost:{}/ws/capitals", node_red.port());
    let (known, unknown) = (
        format!("tls = {{ ca = {ca:?}, certificate = {cert:?}, private_key = {key:?} }}"),
        format!("tls = {{ ca = {ca:?} }}"),
    );
    let gateway = gateway(&format!(
        "[[endpoint]]\npath = \"/people\"\nto = [\"link:known\"]\n{}{}{}{}",
        relay("/relay", &upstream, &known),
        relay("/unknown", &upstream, &unknown),
        link("known", &upstream, &format!("to = [\"endpoint:/people\"]\n{known}")),
        link("unknown", &upstream, &unknown).replace("backoff = {", "backoff = { attempts = 1,"),
    ));
    gateway.wait_for_log("link known: connected to ");
    talk(&mut person(&gateway, "/people"));
    talk(&mut person(&gateway, "/relay"));
    let refused = gateway.wait_for_log("given up after 1 attempt");
    assert!(refused.contains("link unknown: "), "{refused}");
    let mut unknown = gateway.raw("plain");
    unknown.send(request("/unknown", &[]).as_bytes());
    let head = unknown.head();
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
}

// Node-RED as the upstream of a relay

#[test]
fn every_client_of_a_relay_is_a_client_of_its_own_to_node_red() {
    let all = "return { payload: 'to all: ' + msg.payload };";
    let capitals = listener("/ws/capitals", false, CAPITALS_FOR_ONE);
    let node_red = NodeRed::up(&flows(&[capitals, listener("/ws/all", false, all)]));
    let gateway = gateway(&format!(
        "{}{}{}",
        relay("/to/{where}", &node_red.url("/ws/{where}"), ""),
        relay("/chat", &node_red.url("/ws/capitals"), ""),
        relay("/nowhere", &node_red.url("/ws/nowhere"), "connect_timeout = \"1s\"")
    ));
    let mut people = [(); 3].map(|()| person(&gateway, "/to/capitals"));
    for person in &mut people {
        talk(person);
    }
    for number in 0..100 {
        for (index, person) in people.iter_mut().enumerate() {
            person.send_text(&format!("from {index}: {number}"));
        }
    }
    for number in 0..100 {
        for (index, person) in people.iter_mut().enumerate() {
            assert_eq!(person.text(), format!("FROM {index}: {number}"));
        }
    }
    // To Node-RED these are three sessions.
    let mut sessions: Vec<String> = node_red
        .wait_for_seen("all messages", 3 * 106, |seen| seen.get("isBinary").is_some())
        .iter()
        .map(|seen| seen["_session"]["id"].to_string())
        .collect();
    sessions.sort();
    sessions.dedup();
    assert_eq!(sessions.len(), people.len());

    // What it sends to all of its clients reaches them all.
    let mut room = [(); 3].map(|()| person(&gateway, "/to/all"));
    room[1].send_text("soup");
    for person in &mut room {
        assert_eq!(person.text(), "to all: soup");
    }

    // Node-RED agrees to the first subprotocol that is offered.
    let mut chat = gateway.raw("plain");
    let head = chat.upgrade("/chat", &["Sec-WebSocket-Protocol: chat.v2, chat.v1"]);
    assert!(head.to_lowercase().contains("sec-websocket-protocol: chat.v2"), "{head}");
    talk(&mut chat);

    // It never answers where it has no listener, which takes our patience.
    let mut lost = gateway.raw("plain");
    lost.send(request("/nowhere", &[]).as_bytes());
    let head = lost.head();
    assert!(head.starts_with("HTTP/1.1 504 "), "{head}");

    // A client that closes is gone for Node-RED too, and nobody else.
    let [mut first, second, mut third] = people;
    first.send(&masked(0x88, &1000_u16.to_be_bytes()));
    assert_eq!(first.message().first, 0x88);
    node_red.wait_for_status("/ws/capitals", "disconnect", 1);
    drop(second);
    node_red.wait_for_status("/ws/capitals", "disconnect", 2);
    talk(&mut third);
}

#[test]
fn with_hold_a_relay_keeps_its_clients_while_node_red_restarts() {
    let flows = flows(&[listener("/ws/capitals", false, CAPITALS_FOR_ONE)]);
    let mut node_red = NodeRed::up(&flows);
    let upstream = node_red.url("/ws/capitals");
    let gateway = gateway(&format!("{}{}", relay("/held", &upstream, "hold = \"60s\""), relay("/not", &upstream, "")));
    let (mut held, mut not) = (person(&gateway, "/held"), person(&gateway, "/not"));
    for person in [&mut held, &mut not] {
        talk(person);
    }
    node_red.go();
    not.closed_with(1011, "Upstream connection lost");
    held.send_text("still here");
    assert!(!held.has_input_within(Duration::from_millis(100)));
    node_red.come(&flows, "");
    assert_eq!(held.text(), "STILL HERE");
    talk(&mut held);
}

// The gateway in the place of Node-RED

/// What a client of the echo flow asks and gets: every frame up to the answer to its Close.
fn conversation(port: u16) -> Vec<Frame> {
    let mut people = [(); 2].map(|()| Raw::plain(port));
    for person in &mut people {
        person.upgrade("/ws/echo", &[]);
    }
    let [one, other] = &mut people;
    let mut frames = Vec::new();
    let long = "ü".repeat(200_000);
    let said: [&[u8]; 5] =
        [b"hello", "größe".as_bytes(), br#"{"payload":1,"_session":null}"#, b"null", long.as_bytes()];
    for text in said {
        one.send(&masked(0x81, text));
        frames.push(one.message());
    }
    for bytes in [&[][..], &[0, 255, 0x80], &[7; 100_000]] {
        one.send(&masked(0x82, bytes));
        frames.push(one.message());
    }
    // In fragments, with a ping between them.
    for (first, part) in [(0x01, &b"in "[..]), (0x89, b"?"), (0x80, b"parts")] {
        one.send(&masked(first, part));
    }
    let mut both = [one.frame(), one.frame()];
    both.sort_by_key(|frame| frame.first);
    frames.extend(both);
    // The other one has got none of it.
    other.send_text("and I?");
    frames.push(other.message());
    one.send(&masked(0x88, &[&1000_u16.to_be_bytes()[..], b"done"].concat()));
    let close = one.message();
    frames.push(Frame { first: close.first, payload: close.payload[..2].to_vec() });
    one.end();
    frames
}

/// What `wsgate import` makes of the flows of this Node-RED, with its port.
fn imported(node_red: &NodeRed) -> String {
    let mut import = Command::new(env!("CARGO_BIN_EXE_wsgate"));
    import.arg("import").arg(node_red.file("flows.json")).args(["--port", &node_red.port().to_string()]);
    let imported = process::run(&mut import, DEADLINE);
    assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
    String::from_utf8(imported.stdout).unwrap()
}

#[test]
fn the_imported_echo_flow_takes_the_place_of_node_red_and_its_clients_notice_nothing() {
    let mut node_red = NodeRed::away();
    let port = node_red.port();
    // Node-RED itself is the server of the flow's client.
    let fixture = fs::read_to_string(source("tests/import/echo.json")).unwrap();
    let flow = fixture.replace("localhost:1880", &format!("127.0.0.1:{port}"));
    assert_ne!(fixture, flow);
    node_red.come(&serde_json::from_str(&flow).unwrap(), "");
    let with_node_red = conversation(port);
    assert_eq!(with_node_red[0], Frame::text("hello"));
    assert_eq!(with_node_red.len(), 12);

    let config = imported(&node_red);

    // One goes, the other takes its port.
    node_red.go();
    let gateway = Gateway::start(&config);
    assert_eq!(gateway.port("node-red"), port);
    assert_eq!(conversation(port), with_node_red);
    // The flow's client is there too, as a link to what is now the gateway.
    gateway.wait_for_log("link 127-0-0-1-");
    gateway.wait_for_log(": connected to 'ws://127.0.0.1:");
}

/// What three clients of this path get when the first of them says this; then each says a last word, or the first
/// does, where one word reaches all.
fn round(port: u16, path: &str, said: &[&str], reaches_all: bool) -> Vec<Vec<Value>> {
    let mut people = [(); 3].map(|()| Raw::plain(port));
    for person in &mut people {
        person.upgrade(path, &[]);
    }
    for text in said {
        people[0].send_text(text);
    }
    for person in people.iter_mut().take(if reaches_all { 1 } else { 3 }) {
        person.send_text("the end");
    }
    let until_the_end = |person: &mut Raw| {
        let mut got = Vec::new();
        loop {
            let text = person.text();
            let is_end = text.contains("the end");
            let mut message = serde_json::from_str(&text).unwrap_or(Value::String(text));
            if let Some(object) = message.as_object_mut() {
                // Node-RED adds the number of the message, the gateway its session and where it comes from.
                let added = ["_msgid", "_session", "path", "parameters", "query"];
                object.retain(|key, _| !added.contains(&&**key));
            }
            got.push(message);
            if is_end {
                return got;
            }
        }
    };
    people.iter_mut().map(until_the_end).collect()
}

#[test]
fn imported_listeners_answer_the_same_clients_as_in_node_red() {
    let input = |path: &str, next: &str| {
        json!({ "id": format!("in {path}"), "type": "websocket in", "z": "the tab", "name": "", "server": format!("config {path}"),
                "client": "", "wires": [[next]] })
    };
    let output = |path: &str| {
        json!({ "id": format!("out {path}"), "type": "websocket out", "z": "the tab", "name": "", "server": format!("config {path}"),
                "client": "", "wires": [] })
    };
    let config = |path: &str, whole: &str| json!({ "id": format!("config {path}"), "type": "websocket-listener", "path": path, "wholemsg": whole });
    let mut node_red = NodeRed::away();
    let nodes = json!([
        { "id": "the tab", "type": "tab", "label": "listeners" },
        config("/one", "false"), input("/one", "out /one"), output("/one"),
        config("/all", "false"), input("/all", "forget"), output("/all"),
        function("forget", "delete msg._session; return msg;", &["out /all"]),
        config("/whole", "true"), input("/whole", "out /whole"), output("/whole"),
        config("/from", "false"), input("/from", "forget for other"),
        function("forget for other", "delete msg._session; return msg;", &["out /all"]),
    ]);
    node_red.come(&nodes, "");
    let port = node_red.port();
    let texts = ["hello", "größe", "5", r#"{"payload":{"a":[1,null]},"topic":"t"}"#, "true"];
    let all_rounds = || {
        let mut rounds: Vec<_> =
            ["/one", "/all", "/whole"].map(|path| round(port, path, &texts, path == "/all")).into();
        // What one path takes the other has.
        let (mut from, mut all) = (Raw::plain(port), Raw::plain(port));
        all.upgrade("/all", &[]);
        all.send_text("there");
        assert_eq!(all.text(), "there");
        from.upgrade("/from", &[]);
        from.send_text("from elsewhere");
        rounds.push(vec![vec![Value::String(all.text())]]);
        rounds
    };
    // The two differences that an import names at its top.
    let differences = || {
        let mut client = Raw::plain(port);
        let head = client.upgrade("/one", &["Sec-WebSocket-Protocol: chat.v2, chat.v1"]).to_lowercase();
        client.send_text("");
        client.send_text("behind");
        (head.contains("sec-websocket-protocol: chat.v2"), client.text())
    };
    let with_node_red = all_rounds();
    assert_eq!(with_node_red[0][0].len(), texts.len() + 1);
    assert_eq!(with_node_red[0][2].len(), 1);
    assert_eq!(with_node_red[1][2].len(), texts.len() + 1);
    assert_eq!(differences(), (true, "behind".to_owned()));
    let config = imported(&node_red);
    assert!(!config.contains("TO DECIDE"), "{config}");
    node_red.go();
    let _gateway = Gateway::start(&config);
    assert_eq!(all_rounds(), with_node_red);
    assert_eq!(differences(), (false, String::new()));
}
