//! The commands for a wsgate that runs, as an operator has them: the real binary against a real gateway, over TCP, a Unix
//! socket and TLS.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::admin::ADMIN;
use crate::auth::{files_of, write};
use crate::cli_options::at_terminal;
use crate::harness::command::{
    Finished, Running, closed_port, read_request, run, run_with_input, serve_on, start_with,
};
use crate::harness::{DEADLINE, Frame, Gateway, LISTENERS, Raw, Remote, Wire, eventually, masked, pass};

const CONFIG: &str = r#"
[[endpoint]]
path = "/rooms/{room}"
max_connections = 2000

[[endpoint]]
path = "/quiet"
"#;

fn start_gateway(more: &str) -> Gateway {
    Gateway::start(&format!("{more}{CONFIG}{LISTENERS}{ADMIN}"))
}

fn address(gateway: &Gateway) -> String {
    format!("127.0.0.1:{}", gateway.admin_port())
}

/// The lines of JSON that a command prints into a pipe, after which it ends well.
fn lines(arguments: &[&str]) -> Vec<Value> {
    let finished = run(arguments);
    finished.expect(0, &[]);
    finished.stdout().lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
}

/// The next line of standard error, while the command goes on.
fn told(running: &mut Running) -> String {
    let mut stderr = running.stderr.take().unwrap();
    let (sender, line) = channel();
    thread::spawn(move || {
        let (mut line, mut byte) = (Vec::new(), [0]);
        while !line.ends_with(b"\n") && stderr.read(&mut byte).unwrap() == 1 {
            line.push(byte[0]);
        }
        let _ = sender.send((stderr, String::from_utf8(line).unwrap()));
    });
    let (stderr, line) = line.recv_timeout(DEADLINE).expect("a line within the deadline");
    running.stderr = Some(stderr);
    line
}

/// A way to an admin listener: arguments, and what its environment has.
struct Way {
    gateway: Gateway,
    arguments: Vec<String>,
    variables: Vec<(&'static str, String)>,
    _files: Option<tempfile::TempDir>,
}

impl Way {
    fn tcp() -> Way {
        let gateway = start_gateway("");
        let variables = vec![("WSGATE_ADMIN", address(&gateway))];
        Way { gateway, arguments: Vec::new(), variables, _files: None }
    }

    /// The configuration says where, and which certificate to trust.
    fn unix(tls: &str) -> Way {
        let gateway = Gateway::start(&format!("{CONFIG}{LISTENERS}[admin]\naddress = \"unix:admin.sock\"\n{tls}"));
        gateway.wait_for_log("admin: answering on unix:");
        let file = gateway.file("wsgate.toml").display().to_string();
        Way { gateway, arguments: vec!["--config".to_owned(), file], variables: Vec::new(), _files: None }
    }

    fn tls_with_token() -> Way {
        let files = files_of(&[("operator", "hunter2-operator")]);
        let file = files.path().join("tokens.txt").display().to_string();
        let gateway = Gateway::start(&format!(
            "{CONFIG}{LISTENERS}[[auth]]\nname = \"ops\"\nkind = \"tokens\"\nfile = {file:?}\n{ADMIN}auth = [\"ops\"]\n\
             tls = {{ certificate = \"cert.pem\", private_key = \"key.pem\" }}\n"
        ));
        write(&files.path().join("token"), "hunter2-operator\n");
        let arguments = [
            ("--admin", format!("https://localhost:{}", gateway.admin_port())),
            ("--ca", gateway.file("ca.pem").display().to_string()),
            ("--token-file", files.path().join("token").display().to_string()),
        ];
        let arguments = arguments.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect();
        Way { gateway, arguments, variables: Vec::new(), _files: Some(files) }
    }

    fn all() -> [Way; 4] {
        let tls = "tls = { certificate = \"cert.pem\", private_key = \"key.pem\" }\n";
        [Way::tcp(), Way::unix(""), Way::unix(tls), Way::tls_with_token()]
    }

    fn start(&self, arguments: &[&str]) -> Running {
        let own = self.arguments.iter().map(String::as_str);
        let arguments: Vec<&str> = arguments.iter().copied().chain(own).collect();
        let variables: Vec<_> = self.variables.iter().map(|(name, value)| (*name, &**value)).collect();
        let mut running = start_with(&arguments, &variables);
        drop(running.stdin.take());
        running
    }

    fn run(&self, arguments: &[&str]) -> Finished {
        self.start(arguments).finish()
    }

    /// The one line of JSON that a command prints.
    fn json(&self, arguments: &[&str]) -> Value {
        let finished = self.run(arguments);
        finished.expect(0, &[]);
        assert_eq!(finished.stderr, "", "{arguments:?}");
        serde_json::from_str(finished.stdout().trim_end()).unwrap_or_else(|error| panic!("{error}: {finished:?}"))
    }
}

#[test]
fn over_tcp_a_unix_socket_and_tls_with_a_token_a_gateway_is_seen_and_changed() {
    for way in Way::all() {
        let (mut one, mut other) =
            (way.gateway.client(Wire::Plain, "/rooms/7"), way.gateway.client(Wire::Tls, "/rooms/8"));
        assert_eq!(way.json(&["info"])["clients"], 2);
        let client = way.json(&["clients", "--path", "/rooms/7"]);
        assert_eq!((&client["endpoint"], &client["address"]), (&"/rooms/{room}".into(), &"127.0.0.1".into()));
        let id = client["id"].as_str().unwrap().to_owned();
        assert_eq!(id, way.gateway.id_of(&one));
        assert_eq!(way.json(&["send-to", &id, "you alone"])["id"], *id);
        assert_eq!(way.json(&["publish", "/rooms/{room}", "all"])["clients"], 2);
        assert_eq!([one.text(), one.text(), other.text()], ["you alone", "all", "all"]);
        assert_eq!(way.json(&["kick", &id])["code"], 1008);
        one.closed_with(1008, "Closed by the operator");
        assert_eq!(way.json(&["log", "links=debug"])["levels"]["links"], "debug");
        assert!(way.json(&["reload"])["reloaded"].is_array());
        assert_eq!(way.json(&["log"])["levels"], serde_json::json!({}));
        let links = way.run(&["links"]);
        assert_eq!((links.code, links.stdout()), (Some(0), ""));
        let mut tail = way.start(&["tail", "-n", "1"]);
        told(&mut tail);
        other.send_text("seen");
        let finished = tail.finish();
        finished.expect(0, &["1 message was shown, 0 left out"]);
        assert!(finished.stdout().contains("\"text\":\"seen\""), "{finished:?}");
    }
}

#[test]
fn a_list_of_many_clients_has_each_once_and_is_narrowed() {
    const CLIENTS: usize = 1100;
    let gateway = start_gateway("");
    let (mut clients, at) = (Vec::new(), address(&gateway));
    for number in 0..CLIENTS {
        clients.push(gateway.client(Wire::Plain, &format!("/rooms/{}", number % 2)));
    }
    let listed = lines(&["clients", "--admin", &at]);
    let ids: BTreeSet<&str> = listed.iter().map(|client| client["id"].as_str().unwrap()).collect();
    assert_eq!((listed.len(), ids.len()), (CLIENTS, CLIENTS));
    assert_eq!(lines(&["clients", "--admin", &at, "--path", "/rooms/1"]).len(), CLIENTS / 2);
    assert_eq!(lines(&["clients", "--admin", &at, "--limit", "1050"]).len(), 1050);
    assert_eq!(lines(&["clients", "--admin", &at, "--address", "10.0.0.7"]).len(), 0);
    assert_eq!(lines(&["clients", "--admin", &at, "--endpoint", "/quiet"]).len(), 0);
    run(&["clients", "--admin", &at, "--address", "x"]).expect(65, &["answered 400: 'address' is no IP address"]);
    // A reader that has seen enough ends it in order.
    let mut running = start_with(&["clients", "--admin", &at], &[]);
    assert!(running.line().starts_with('{'));
    drop(running.stdout.take());
    running.finish().expect(0, &[]);
}

#[test]
fn a_message_is_an_argument_a_file_or_standard_input_text_or_binary() {
    let gateway = start_gateway("");
    let at = address(&gateway);
    let mut client = gateway.client(Wire::Plain, "/rooms/a%20b");
    let id = gateway.id_of(&client);
    let file = gateway.file("message");
    fs::write(&file, "from a file\r\n").unwrap();
    let file = file.to_str().unwrap();
    for (arguments, input, expected) in [
        (&["send-to", &id, "-5"][..], &b""[..], Frame::text("-5")),
        (&["send-to", &id], b"piped\n", Frame::text("piped")),
        (&["send-to", &id, "--binary", "-"], b"\xff\n", Frame::binary(b"\xff\n")),
        (&["send-to", &id, "--file", file], b"", Frame::text("from a file")),
        (&["send-to", &id, "--binary", "--file", file], b"", Frame::binary(b"from a file\r\n")),
        (&["publish", "/rooms/a b", "as it is shown"], b"", Frame::text("as it is shown")),
    ] {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--admin", &at]).collect();
        run_with_input(&arguments, input).expect(0, &[]);
        assert_eq!(client.message(), expected, "{arguments:?}");
    }
    let long = vec![b'x'; (1 << 20) + 1];
    run_with_input(&["publish", "/quiet", "--admin", &at], &long).expect(65, &["over the limit of 1048576 bytes"]);
    run_with_input(&["publish", "/quiet", "--admin", &at], b"\xff").expect(65, &["not UTF-8 at byte 0", "--binary"]);
    run(&["publish", "/quiet", "--file", "/none", "--admin", &at])
        .expect(66, &["failed to read the message from '/none'"]);
    run(&["publish", "/quiet", "x", "--file", file, "--admin", &at]).expect(64, &["cannot be used with"]);
    run(&["publish", "quiet", "x", "--admin", &at]).expect(64, &["a path begins with '/' (write '/quiet')"]);
    run(&["publish", "/none", "x", "--admin", &at])
        .expect(69, &["failed to publish to '/none'", "answered 404: there is no endpoint"]);
    for (command, doing) in [("send-to", "send to"), ("kick", "close")] {
        let message: &[&str] = if command == "kick" { &[] } else { &["x"] };
        let arguments: Vec<&str> =
            [command, "7"].into_iter().chain(message.iter().copied()).chain(["--admin", &at]).collect();
        run(&arguments)
            .expect(69, &[&format!("failed to {doing} the client '7'"), "answered 404: no client has this id"]);
    }
    run(&["kick", &id, "--code", "1002", "--admin", &at]).expect(65, &["'code' is none of 1000"]);
    run(&["kick", &id, "--code", "4000", "--reason", "a b&code=1000", "--admin", &at]).expect(0, &[]);
    client.closed_with(4000, "a b&code=1000");
}

#[test]
fn a_failure_says_where_what_and_what_to_do() {
    let (_closed, url) = closed_port();
    let closed = url.trim_start_matches("ws://").trim_end_matches('/').to_owned();
    for arguments in [&["info"][..], &["tail"], &["drain", "--wait"]] {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--admin", &closed]).collect();
        let finished = run(&arguments);
        finished
            .expect(69, &["failed to ", &format!("http://{closed}"), "connection refused", "write it as '--admin'"]);
    }
    run(&["info", "--admin", "unix:/none.sock"]).expect(69, &["unix:/none.sock", "no such file"]);
    let gateway = start_gateway("");
    // The port for clients is the usual mistake.
    let data = format!("127.0.0.1:{}", gateway.port("plain"));
    for command in ["info", "tail"] {
        run(&[command, "--admin", &data])
            .expect(69, &["is no admin listener of wsgate (is this the address under [admin]?)"]);
    }
    run(&["redial", "none", "--admin", &address(&gateway)]).expect(69, &["answered 404: no link has this name"]);
    run(&["log", "linkz=debug", "--admin", &address(&gateway)])
        .expect(65, &["\"linkz\" is no part of the log: did you mean"]);
    run(&["log", "a=debug", "a=info"]).expect(64, &["there is another level for the same"]);
    for wrong in ["localhost", "ftp://h", "http://h/api", "unix:"] {
        run(&["info", "--admin", wrong]).expect(64, &[&format!("failed to use the address '{wrong}' of '--admin': ")]);
    }
    run(&["info", "--admin", "h:1", "--server-name", "x"])
        .expect(64, &["failed to use '--server-name': 'http://h:1' has no TLS"]);
    start_with(&["info"], &[("WSGATE_ADMIN", "nonsense")]).finish().expect(64, &["of WSGATE_ADMIN: write HOST:PORT"]);

    let config = |text: &str| {
        let file = gateway.file("other.toml");
        fs::write(&file, text).unwrap();
        run(&["info", "--config", file.to_str().unwrap()])
    };
    config("[admin]\naddress = \"off\"\n").expect(78, &["it has address = \"off\" under [admin]"]);
    config("[admin]\naddress = \"127.0.0.1:0\"\n").expect(78, &["it has port 0", "write that as '--admin'"]);
    config("[admin]\naddres = \"127.0.0.1:1\"\n").expect(78, &["other.toml:2:1: ", "addres"]);
    config("[admin\n").expect(78, &["other.toml:1:"]);
    // What is wrong elsewhere, and what only wsgate can read, is no reason.
    let text = format!(
        "[gateway]\nnonsense = 1\n[[link]]\nname = \"l\"\nurl = \"ws://${{UNSET}}/\"\n[admin]\naddress = \"{}\"\nauth = [\"none\"]\n",
        address(&gateway)
    );
    config(&text).expect(0, &[]);
    run(&["info", "--config", "/none.toml"]).expect(78, &["failed to read configuration \"/none.toml\": no such file"]);
}

#[test]
fn s2_a_token_that_is_missing_wrong_or_without_the_right_is_told_and_not_shown() {
    let tokens = ["reader", "watcher"].map(|name| (name, format!("hunter2-{name}")));
    let files = files_of(&tokens.each_ref().map(|(name, token)| (*name, token.as_str())));
    let file = files.path().join("tokens.txt").display().to_string();
    let gateway = Gateway::start(&format!(
        "{CONFIG}{LISTENERS}[[auth]]\nname = \"ops\"\nkind = \"tokens\"\nfile = {file:?}\n{ADMIN}auth = [\"ops\"]\n\
         allow = [{{ who = \"reader\", rights = \"read\" }}, {{ who = \"watcher\", rights = \"tail\" }}]\n"
    ));
    let at = address(&gateway);
    let with = |token: &str, arguments: &[&str]| {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--admin", &at]).collect();
        start_with(&arguments, &[("WSGATE_TOKEN", token)]).finish()
    };
    with("", &["clients"]).expect(77, &["answered 401", "give a token in WSGATE_TOKEN or with '--token-file'"]);
    with("hunter2-wrong", &["clients"]).expect(77, &["answered 401", "the token is wrong, or is good no more"]);
    with("hunter2-wrong", &["tail"]).expect(77, &["answered 401", "the token is wrong, or is good no more"]);
    with("hunter2-reader", &["clients"]).expect(0, &[]);
    for arguments in
        [&["reload"][..], &["drain"], &["kick", "0000000000000000"], &["publish", "/quiet", "x"], &["log", "debug"]]
    {
        with("hunter2-reader", arguments)
            .expect(77, &["answered 403: 'reader' has no right to act: see \"allow\" in [admin]"]);
    }
    with("hunter2-reader", &["tail"]).expect(77, &["'reader' has no right to tail"]);
    with("hunter2-watcher", &["info"]).expect(77, &["'watcher' has no right to read"]);
    with("a\nb", &["info"]).expect(64, &["the token in WSGATE_TOKEN: it is not one line"]);
    let at_file = |path: &str| run(&["info", "--admin", &at, "--token-file", path]);
    at_file("/none").expect(66, &["failed to read the token from '/none': no such file"]);
    write(&files.path().join("two"), "hunter2\nhunter2\n");
    at_file(files.path().join("two").to_str().unwrap()).expect(66, &["it is not one line of text"]);
    // Whatever listens there may repeat what it was sent.
    let echo = serve_on(TcpListener::bind("127.0.0.1:0").unwrap(), |mut stream| {
        let request = read_request(&mut stream).replace('"', "'").replace("\r\n", " ");
        let body = format!("{{\"error\":{{\"code\":\"x\",\"message\":\"{request}\"}}}}");
        let answer = format!("HTTP/1.1 500 No\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let _ = stream.write_all(answer.as_bytes());
    });
    let echo = echo.to_string();
    let finished = start_with(&["info", "--admin", &echo], &[("WSGATE_TOKEN", "hunter2")]).finish();
    finished.expect(69, &["answered 500: GET /api/v1/info HTTP/1.1", "authorization: "]);
}

#[test]
fn what_clients_send_is_a_line_each_until_ctrl_c_or_enough() {
    let gateway = start_gateway("");
    let at = address(&gateway);
    let mut client = gateway.client(Wire::Plain, "/rooms/7");
    let mut other = gateway.client(Wire::Plain, "/quiet");
    let id = gateway.id_of(&client);
    let mut tail = start_with(&["tail", "--admin", &at, "--endpoint", "/rooms/{room}"], &[]);
    assert!(told(&mut tail).starts_with("connected to 'http://127.0.0.1:"));
    other.send_text("not in it");
    assert_eq!(other.text(), "not in it");
    client.send_text("first");
    let shown: Value = serde_json::from_str(&tail.line()).unwrap();
    assert_eq!([&shown["text"], &shown["client"], &shown["path"]], ["first", &id, "/rooms/7"]);
    client.send(&masked(0x82, b"\x00\xff"));
    assert_eq!(serde_json::from_str::<Value>(&tail.line()).unwrap()["base64"], "AP8=");
    tail.interrupt();
    tail.finish().expect(0, &["2 messages were shown, 0 left out\n"]);

    let mut tail = start_with(&["tail", "--admin", &at, "--client", &id, "-n", "200"], &[]);
    told(&mut tail);
    (0..200).for_each(|number| client.send_text(&number.to_string()));
    tail.finish().expect(0, &["200 messages were shown"]);
    let mut tail = start_with(&["tail", "--admin", &at, "--client", &id], &[]);
    told(&mut tail);
    (0..1000).for_each(|number| client.send_text(&number.to_string()));
    while !tail.line().contains("leftOut") {}
    tail.interrupt();
    let finished = tail.finish();
    finished.expect(0, &[" messages were shown, "]);
    let left_out: u64 = finished.stderr.split("shown, ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(left_out > 0, "{finished:?}");
    // A gateway that ends is a normal end.
    let mut gateway = gateway;
    let mut tail = start_with(&["tail", "--admin", &at], &[]);
    told(&mut tail);
    drop((client, other));
    gateway.terminate();
    tail.finish().expect(0, &["has closed the connection: code 1001", "0 messages were shown, 0 left out"]);
    let gateway = start_gateway("");
    run(&["tail", "--client", "x", "--admin", &address(&gateway)]).expect(65, &["'client' is no id of a client"]);
}

#[test]
fn a_reload_says_what_has_changed_or_every_mistake_with_its_line() {
    let way = Way::unix("");
    let file = way.gateway.file("wsgate.toml");
    let config = fs::read_to_string(&file).unwrap();
    fs::write(&file, config.replace("\"/quiet\"", "\"/silent\"")).unwrap();
    let reloaded = way.json(&["reload"])["reloaded"].to_string();
    assert!(
        reloaded.contains("endpoint '/silent' added") && reloaded.contains("endpoint '/quiet' removed"),
        "{reloaded}"
    );
    fs::write(&file, config.replace("\"/quiet\"", "7").replace("max_connections = 2000", "max_connections = \"x\""))
        .unwrap();
    let finished = way.run(&["reload"]);
    finished.expect(
        78,
        &["failed to reload: 'unix:", "answered 422: nothing has changed", "wsgate.toml:4:", "wsgate.toml:7:"],
    );
    assert_eq!((finished.stdout(), finished.stderr.lines().count()), ("", 3));
    let shown = at_terminal(&["info", "--config", file.to_str().unwrap()]);
    assert!(shown.contains("/silent"), "{shown}");
}

#[test]
fn o5_a_drain_is_waited_for() {
    let mut way = Way::tcp();
    let mut client = way.gateway.client(Wire::Plain, "/quiet");
    let at = address(&way.gateway);
    let drain = start_with(&["drain", "--wait", "--admin", &at], &[]);
    client.closed_with(1012, "Service restart");
    drop(client);
    let finished = drain.finish();
    finished.expect(0, &[]);
    assert!(finished.stdout().contains("\"alreadyDraining\":false,\"clients\":1"), "{finished:?}");
    // It has ended when the command has.
    assert!(TcpStream::connect(&at).is_err());
    assert!(way.gateway.wait().success());
}

#[test]
fn links_are_listed_with_why_they_are_down_and_redialled() {
    let mut remote = Remote::away();
    let gateway = start_gateway(&format!(
        "[[link]]\nname = \"plc\"\nurl = \"{}\"\nbackoff = {{ first = \"1ms\", most = \"1ms\", attempts = 1 }}\n",
        remote.url()
    ));
    let at = address(&gateway);
    gateway.wait_for_log("given up after 1 attempt");
    assert_eq!(lines(&["links", "--admin", &at])[0]["state"], "givenUp");
    let shown = at_terminal(&["links", "--admin", &at]);
    assert!(shown.contains("given up") && shown.contains("plc: failed to connect to "), "{shown}");
    remote.come();
    assert_eq!(lines(&["redial", "plc", "--admin", &at])[0]["name"], "plc");
    let _linked = remote.accept();
    eventually("it is up", DEADLINE, || lines(&["links", "--admin", &at])[0]["state"] == "up");
}

#[test]
fn b42_at_a_terminal_answers_are_tables_in_which_no_client_moves_anything() {
    let gateway = start_gateway("");
    let at = address(&gateway);
    let mut client = Raw::plain(gateway.port("plain"));
    client.upgrade("/rooms/%E2%80%AE2J", &["User-Agent: evil\u{9b}2J\u{202e}"]);
    let id = gateway.id_of(&client);
    let room = "/rooms/\u{202e}2J";
    let shown = |arguments: &[&str]| {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--admin", &at]).collect();
        let shown = at_terminal(&arguments);
        let is_moved = |c: char| c == '\u{9b}' || c == '\u{202e}' || c == '\u{1b}';
        assert!(!shown.contains(is_moved), "{arguments:?}: {shown:?}");
        shown
    };
    let info = shown(&["info"]);
    assert!(info.starts_with(&format!("wsgate {}: ready, up for ", env!("CARGO_PKG_VERSION"))), "{info}");
    assert!(
        info.contains("ENDPOINT") && info.contains("/rooms/{room}") && info.contains("1 client, 1 connection of"),
        "{info}"
    );
    let clients = shown(&["clients"]);
    assert!(clients.starts_with("ID ") && clients.contains(&id) && clients.contains("\r\n1 client"), "{clients}");
    let json = shown(&["clients", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(json.trim_end()).unwrap()["path"].as_str(), Some(room), "{json}");
    assert!(run(&["clients", "--admin", &at]).stdout().contains(room), "a pipe gets what came");
    assert_eq!(shown(&["clients", "--path", "/none"]), "0 clients\r\n");
    assert_eq!(shown(&["send-to", &id, "x"]), format!("sent 1 byte to the client {id}\r\n"));
    assert!(shown(&["publish", room, "xy"]).starts_with("sent 2 bytes to 1 client of '/rooms/\\u{202e}2J"));
    assert_eq!([client.text(), client.text()], ["x", "xy"]);
    assert_eq!(shown(&["log"]), "the configuration decides what the log shows: nothing else was asked for\r\n");
    assert_eq!(shown(&["log", "warn", "links=debug"]), "until the next reload: warn links=debug\r\n");
    assert!(shown(&["log", "--reset"]).starts_with("the configuration decides"));
    assert!(shown(&["reload"]).contains("listener"), "certificates are read again");
    assert_eq!(shown(&["links"]), "0 links\r\n");
    let (enough, mut writer) = (Arc::new(AtomicBool::new(false)), client.writer());
    let sender = thread::spawn({
        let enough = Arc::clone(&enough);
        // It does not know when somebody looks.
        move || {
            while !enough.load(Ordering::Relaxed) {
                writer.send_text("a\u{1b}[2J\r\nb");
                pass(Duration::from_millis(20));
            }
        }
    });
    let tail = shown(&["tail", "-n", "1"]);
    enough.store(true, Ordering::Relaxed);
    sender.join().unwrap();
    assert!(tail.contains(&format!(" {id} /rooms/\\u{{202e}}2J: a\\u{{1b}}[2J\\r\\nb\r\n")), "{tail:?}");
    assert_eq!(shown(&["kick", &id]), format!("closed the client {id} with code 1008\r\n"));
    drop(client);
    eventually("it has left", DEADLINE, || shown(&["clients"]) == "0 clients\r\n");
    let drained = shown(&["drain", "--wait"]);
    assert!(drained.starts_with("it drains: 0 clients here") && drained.ends_with("wsgate has ended\r\n"), "{drained}");
}
