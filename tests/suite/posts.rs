//! Messages by POST: what is taken and from whom, what is answered, and what clients that are slow, many or malicious cost.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::auth::files_of;
use crate::documents::block_with;
use crate::harness::scrape::Scrape;
use crate::harness::{Frame, Gateway, LISTENERS, Raw, Remote, Wire, eventually, pass, process};

/// [`LISTENERS`] are added to it.
const CONFIG: &str = r#"
[admin]
address = "127.0.0.1:0"

[[endpoint]]
path = "/canary"
to = ["reply"]

[[endpoint]]
path = "/rooms/{room}"
post = true
max_message = 1000
max_body = 5000
max_connections = 1000
message_timeout = "1s"
origins = ["same", "https://dash.example"]

[[endpoint]]
path = "/any"
post = true
origins = "any"
"#;

fn start() -> Gateway {
    Gateway::start(&format!("{CONFIG}{LISTENERS}"))
}

/// A request with these header lines and this body.
fn post(path: &str, lines: &[&str], body: &str) -> Vec<u8> {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n{lines}\r\n{body}").into_bytes()
}

/// The status, head and body of the next answer on a connection that stays open or not.
fn answered(client: &mut Raw) -> (u16, String, String) {
    let head = client.head();
    let length =
        head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).map_or(0, |it| it.parse().unwrap());
    let body = String::from_utf8(client.bytes(length)).unwrap();
    (head[9..12].parse().unwrap(), head, body)
}

/// What one request on a connection of its own is answered.
fn once(gateway: &Gateway, request: &[u8]) -> (u16, String, String) {
    let mut client = gateway.raw("plain");
    client.send(request);
    answered(&mut client)
}

const NDJSON: &str = "Content-Type: application/x-ndjson";

#[test]
fn what_is_posted_comes_to_the_room_as_from_a_client() {
    let gateway = start();
    for wire in Wire::BOTH {
        let mut reader = gateway.client(wire, "/rooms/7");
        let mut other = gateway.client(wire, "/rooms/8");
        let mut poster = gateway.raw(if wire == Wire::Plain { "plain" } else { "tls" });
        // One after the other, and all at once: over one connection.
        for (lines, body, accepted) in [
            (&["Content-Type: text/plain"][..], "hällo", 1),
            (&["Content-Type: application/json"], "{\"a\": 1}", 1),
            (&[NDJSON], "1\n{\"b\":2}\r\n\n\"x\"", 3),
            (&[], "", 1),
        ] {
            poster.send(&post("/rooms/7", lines, body));
            let (status, head, answer) = answered(&mut poster);
            assert_eq!((status, &*answer), (202, &*format!("{{\"accepted\":{accepted}}}")), "{head}");
            assert!(head.contains("\r\nConnection: keep-alive"), "{head}");
        }
        let pipelined: Vec<u8> = (0..5).flat_map(|number| post("/rooms/7", &[], &number.to_string())).collect();
        poster.send(&pipelined);
        assert!((0..5).all(|_| answered(&mut poster).0 == 202));
        for expected in ["hällo", "{\"a\": 1}", "1", "{\"b\":2}", "\"x\"", "", "0", "1", "2", "3", "4"] {
            assert_eq!(reader.text(), expected);
        }
        poster.send(&post("/rooms/8", &["Content-Type: application/octet-stream", "Connection: close"], "\u{ff}\n"));
        assert_eq!(answered(&mut poster).0, 202);
        poster.end();
        assert_eq!(other.message(), Frame::binary("\u{ff}\n".as_bytes()));
    }
    let scrape = Scrape::of(gateway.admin_port());
    assert_eq!(scrape.value("wsgate_posts_total{endpoint=\"/rooms/{room}\",status=\"202\"}"), 20.0);
    assert_eq!(scrape.value("wsgate_received_messages_total{endpoint=\"/rooms/{room}\"}"), 24.0);
    assert_eq!(scrape.get("wsgate_posts_total{endpoint=\"/canary\",status=\"202\"}"), None);
}

#[test]
fn of_lines_all_are_taken_or_none_and_the_answer_names_the_bad_one() {
    let gateway = start();
    let mut reader = gateway.client(Wire::Plain, "/rooms/7");
    let mut poster = gateway.raw("plain");
    let long = format!("1\n{}\n", "2".repeat(1001));
    for (body, status, why) in [
        ("1\n2\n{\"a\":\n4", 400, "line 3 is no JSON value"),
        (&*long, 413, "line 2 is longer than 1000 bytes"),
        ("x", 400, "line 1 is no JSON value"),
    ] {
        poster.send(&post("/rooms/7", &[NDJSON], body));
        let (found, head, answer) = answered(&mut poster);
        assert_eq!(found, status, "{answer}");
        assert!(answer.contains(why) && head.contains("\r\nConnection: keep-alive"), "{head}{answer}");
    }
    poster.send(&post("/rooms/7", &[NDJSON], ""));
    assert_eq!(answered(&mut poster).2, "{\"accepted\":0}");
    poster.send(&post("/rooms/7", &[], "last"));
    assert_eq!((answered(&mut poster).0, reader.text()), (202, "last".to_owned()));
}

#[test]
fn each_request_that_is_not_taken_has_its_status() {
    let gateway = start();
    let mut reader = gateway.client(Wire::Plain, "/rooms/7");
    let head = |line: &str| format!("POST /rooms/7 HTTP/1.1\r\nHost: h\r\n{line}\r\n").into_bytes();
    let with = |from: &str, to: &str| String::from_utf8(post("/rooms/7", &[], "x")).unwrap().replacen(from, to, 1);
    let long = "x".repeat(1001);
    for (name, request, status, holds) in [
        ("no length", head(""), 411, "Content-Length"),
        ("chunks", head("Transfer-Encoding: chunked\r\n"), 411, ""),
        ("two lengths", head("Content-Length: 1\r\nContent-Length: 2\r\n"), 400, ""),
        ("the same length twice", head("Content-Length: 1\r\nContent-Length: 1\r\n"), 400, ""),
        ("a length in two forms", head("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), 400, ""),
        ("a list of lengths", head("Content-Length: 1, 1\r\n"), 400, ""),
        ("a sign", head("Content-Length: +1\r\n"), 400, ""),
        ("a blank in the length", head("Content-Length: 1 1\r\n"), 400, ""),
        ("a blank before the colon", head("Content-Length : 1\r\n"), 400, ""),
        ("a folded line", head("Content-Length: 1\r\nA: b\r\n c\r\n"), 400, ""),
        ("a line that ends in LF", head("Content-Length: 1\nA: b\r\n"), 400, ""),
        ("a long body", head("Content-Length: 5001\r\n"), 413, "5000 bytes"),
        ("a huge body", head("Content-Length: 99999999999999999999999\r\n"), 413, ""),
        ("a long message", post("/rooms/7", &[], &long), 413, "1000 bytes"),
        ("another type", post("/rooms/7", &["Content-Type: image/png"], "x"), 415, "application/json"),
        ("a compressed body", post("/rooms/7", &["Content-Encoding: gzip"], "x"), 415, ""),
        ("no JSON", post("/rooms/7", &["Content-Type: application/json"], "{"), 400, ""),
        ("another expectation", post("/rooms/7", &["Expect: 200-ok"], "x"), 417, ""),
        ("no host", with("Host: localhost\r\n", "").into_bytes(), 400, ""),
        ("PUT", with("POST", "PUT").into_bytes(), 405, "\r\nAllow: GET, POST, OPTIONS"),
        ("DELETE", with("POST", "DELETE").into_bytes(), 405, "\r\nAllow: GET, POST, OPTIONS"),
        ("HTTP/2", with("HTTP/1.1", "HTTP/2.0").into_bytes(), 505, ""),
        ("elsewhere", post("/nowhere", &[], "x"), 405, "\r\nAllow: GET\r\n"),
        ("where nobody may", post("/canary", &[], "x"), 405, "\r\nAllow: GET\r\n"),
        ("a plain GET", b"GET /rooms/7 HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(), 426, ""),
        ("a foreign page", post("/rooms/7", &["Origin: https://evil.example"], "x"), 403, ""),
        ("a page without Origin", post("/rooms/7", &["Sec-Fetch-Site: cross-site"], "x"), 403, ""),
    ] {
        let since = Instant::now();
        let (found, head, body) = once(&gateway, &request);
        assert_eq!(found, status, "{name}: {head}\n{body}");
        assert!(head.contains(holds) || body.contains(holds), "{name}: {head}\n{body}");
        assert!(since.elapsed() < Duration::from_secs(1), "{name} was answered at a deadline");
    }
    let mut client = gateway.raw("plain");
    client.send(b"HEAD /rooms/7 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    let (head, body) = client.answer();
    assert!(head.contains(" 405 ") && body.is_empty(), "{head}{body}");
    // Nothing of all that is a message, and forms that are seldom seen are good.
    let whole = String::from_utf8(post("http://localhost/rooms/7", &[], "absolute")).unwrap();
    let old = "POST /rooms/7 HTTP/1.0\r\nContent-Length: 3\r\n\r\nold";
    for (request, text) in [(&*whole, "absolute"), (old, "old")] {
        assert_eq!((once(&gateway, request.as_bytes()).0, reader.text()), (202, text.to_owned()));
    }
}

#[test]
fn a_client_that_waits_for_100_is_told_to_go_on_and_one_that_may_not_is_refused_first() {
    let gateway = start();
    let mut client = gateway.raw("plain");
    let head = |path: &str, more: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n{more}\r\n")
    };
    client.send(head("/rooms/7", "").as_bytes());
    assert_eq!(client.head(), "HTTP/1.1 100 Continue");
    client.send(b"ok");
    assert_eq!(answered(&mut client).0, 202);
    client.send(head("/rooms/7", "Origin: https://evil.example\r\n").as_bytes());
    assert_eq!(answered(&mut client).0, 403);
    client.end();
}

#[test]
fn a_page_may_post_where_its_origin_is_listed_and_is_told_so() {
    let gateway = start();
    let ask = |path: &str, origin: &str| {
        let lines = format!("Origin: {origin}\r\nAccess-Control-Request-Method: POST\r\n");
        let names = "Access-Control-Request-Headers: content-type, authorization\r\n";
        once(&gateway, format!("OPTIONS {path} HTTP/1.1\r\nHost: h\r\n{lines}{names}\r\n").as_bytes())
    };
    let (status, head, _) = ask("/rooms/7", "https://dash.example");
    assert_eq!(status, 204);
    for line in [
        "Access-Control-Allow-Origin: https://dash.example",
        "Access-Control-Allow-Credentials: true",
        "Access-Control-Allow-Methods: POST",
        "Access-Control-Allow-Headers: content-type, authorization",
        "Vary: Origin",
    ] {
        assert!(head.lines().any(|own| own == line), "{line} is missing in {head}");
    }
    assert_eq!(ask("/rooms/7", "https://evil.example").0, 403);
    let (status, head, _) = ask("/any", "https://evil.example");
    let lets_all = head.lines().any(|line| line == "Access-Control-Allow-Origin: *");
    assert!(status == 204 && lets_all && !head.contains("Credentials"), "{head}");
    let (status, head, _) = once(&gateway, &post("/rooms/7", &["Origin: https://dash.example", NDJSON], "{"));
    assert!(status == 400 && head.contains("Allow-Origin: https://dash.example"), "{head}");
}

#[test]
fn who_may_post_is_asked_for_each_request() {
    let files = files_of(&[("sender", "hunter2-sends"), ("reader", "hunter2-reads")]);
    let file = files.path().join("tokens.txt").display().to_string();
    let gateway = Gateway::start(&format!(
        "{LISTENERS}[[auth]]\nname = \"devices\"\nkind = \"tokens\"\nfile = {file:?}\n\
         [[endpoint]]\npath = \"/in\"\npost = true\nauth = [\"devices\"]\nformat = \"n8n\"\nto = [\"endpoint:/out\"]\n\
         allow = [{{ who = \"reader\", send = false }}, {{ who = \"sender\", path = \"/in\" }}]\nrefuse = \"close\"\n\
         [[endpoint]]\npath = \"/out\"\nformat = \"message\"\n\
         [[endpoint]]\npath = \"/near\"\npost = true\ndeny_addresses = [\"127.0.0.1\"]\n"
    ));
    let mut reader = gateway.client(Wire::Plain, "/out");
    let mut poster = gateway.raw("plain");
    let bearer = |token: &str| format!("Authorization: Bearer {token}");
    poster.send(&post("/in", &[&bearer("hunter2-sends"), "User-Agent: press"], "{\"a\":1}"));
    assert_eq!(answered(&mut poster).0, 202);
    let message: serde_json::Value = serde_json::from_str(&reader.text()).unwrap();
    assert_eq!(message["payload"], serde_json::json!({ "a": 1 }), "{message}");
    assert_eq!(message["path"], "/in", "{message}");
    for (path, line, status) in [
        ("/in", bearer("hunter2-reads"), 403),
        ("/in", bearer("hunter2-wrong"), 401),
        ("/in", "X: y".to_owned(), 401),
        ("/near", "X: y".to_owned(), 403),
    ] {
        let (found, head, body) = once(&gateway, &post(path, &[&line], "1"));
        assert_eq!(found, status, "{head}\n{body}");
        assert_eq!(head.contains("\r\nWWW-Authenticate: Bearer"), status == 401, "{head}");
    }
    // The connection that was let in before is asked again.
    poster.send(&post("/in", &[], "2"));
    assert_eq!(answered(&mut poster).0, 401);
}

#[test]
fn a_proxy_may_send_the_requests_of_many_clients_and_a_websocket_over_one_connection() {
    let gateway = Gateway::start(
        "[[listen]]\nname = \"plain\"\naddress = \"127.0.0.1:0\"\nclient_address = \"x-forwarded-for\"\n\
         trusted_proxies = [\"127.0.0.1\"]\n\
         [[endpoint]]\npath = \"/\"\npost = true\ndeny_addresses = [\"192.0.2.9\"]\nto = [\"endpoint:/out\"]\n\
         [[endpoint]]\npath = \"/out\"\nformat = \"n8n\"\n",
    );
    let mut reader = gateway.raw("plain");
    reader.upgrade("/out", &["X-Forwarded-For: 192.0.2.1"]);
    let mut proxy = gateway.raw("plain");
    for last in [1, 2] {
        proxy.send(&post("/", &[&format!("X-Forwarded-For: 192.0.2.{last}")], "x"));
        assert_eq!(answered(&mut proxy).0, 202);
        assert!(reader.text().contains(&format!("\"clientIp\":\"192.0.2.{last}\"")));
    }
    proxy.upgrade("/out", &["X-Forwarded-For: 192.0.2.3"]);
    gateway.wait_for_log("(192.0.2.3 via 127.0.0.1:");
    let (status, _, body) = once(&gateway, &post("/", &["X-Forwarded-For: 192.0.2.9"], "x"));
    assert_eq!(status, 403, "{body}");
}

#[test]
fn a_client_posts_as_fast_as_its_rate_over_all_of_its_connections() {
    let gateway = Gateway::start(&format!(
        "{LISTENERS}[[endpoint]]\npath = \"/\"\npost = true\nrate = {{ messages = 10, burst = \"1s\" }}\n"
    ));
    let batch = "1\n".repeat(20);
    assert_eq!(once(&gateway, &post("/", &[NDJSON], &batch)).0, 202);
    let (status, head, _) = once(&gateway, &post("/", &[], "x"));
    assert_eq!(status, 429, "{head}");
    let seconds: u64 = head.lines().find_map(|line| line.strip_prefix("Retry-After: ")).unwrap().parse().unwrap();
    assert_eq!(seconds, 1);
    pass(Duration::from_secs(seconds));
    assert_eq!(once(&gateway, &post("/", &[], "x")).0, 202);
}

#[test]
fn a_full_endpoint_refuses_a_request_and_a_request_replaces_nobody() {
    let gateway = Gateway::start(&format!(
        "{LISTENERS}[[endpoint]]\npath = \"/\"\npost = true\nmax_connections = 1\nat_capacity = \"replace\"\n"
    ));
    let mut client = gateway.client(Wire::Plain, "/");
    let (status, head, _) = once(&gateway, &post("/", &[], "x"));
    assert!(status == 503 && head.contains("\r\nRetry-After: 1"), "{head}");
    client.send_text("still here");
    assert_eq!(client.text(), "still here");
}

#[test]
fn a_link_that_blocks_holds_a_request_for_a_while_and_then_it_is_told_to_come_again() {
    let mut remote = Remote::away();
    let gateway = Gateway::start(&format!(
        "{LISTENERS}[[link]]\nname = \"plc\"\nurl = \"{}\"\nbackoff = {{ first = \"100ms\", most = \"100ms\" }}\n\
         queue = {{ messages = 2, when_full = \"block\" }}\n\
         [[endpoint]]\npath = \"/\"\npost = true\nto = [\"broadcast\", \"link:plc\"]\n",
        remote.url()
    ));
    let mut room = gateway.client(Wire::Plain, "/");
    for text in ["1", "2"] {
        assert_eq!((once(&gateway, &post("/", &[], text)).0, room.text()), (202, text.to_owned()));
    }
    let since = Instant::now();
    let mut held = gateway.raw("plain");
    held.send(&post("/", &[], "too much"));
    assert!(!held.has_input_within(Duration::from_secs(8)), "it was not held");
    let (status, head, _) = answered(&mut held);
    assert!(status == 503 && head.contains("\r\nRetry-After: 1"), "{head}");
    assert!(since.elapsed() < Duration::from_secs(12), "it was held for {:?}", since.elapsed());
    gateway.wait_for_log("refused with 503: not every destination has room now: link plc had no room within 10s");
    // One that comes again is held until there is room, and the room has only what the link has.
    held.send(&post("/", &[], "3"));
    assert!(!held.has_input_within(Duration::from_secs(1)), "it was not held");
    remote.come();
    let mut linked = remote.accept();
    assert_eq!(answered(&mut held).0, 202);
    assert_eq!([linked.text(), linked.text(), linked.text()], ["1", "2", "3"]);
    assert_eq!(room.text(), "3");
}

#[test]
fn a_stop_answers_requests_and_ends_connections_that_have_none() {
    let mut gateway = start();
    let mut idle = gateway.raw("plain");
    idle.send(&post("/rooms/7", &[], "x"));
    assert_eq!(answered(&mut idle).0, 202);
    let mut begun = gateway.raw("plain");
    begun.send(b"POST /rooms/7 HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(begun.head(), "HTTP/1.1 100 Continue");
    let mut client = gateway.client(Wire::Plain, "/rooms/7");
    let since = Instant::now();
    gateway.signal(Signal::USR2);
    gateway.wait_for_log("draining: closing ");
    begun.send(b"ok");
    let (status, head, _) = answered(&mut begun);
    assert!(status == 503 && head.contains("\r\nConnection: close"), "{head}");
    idle.end();
    client.closed_with(1012, "Service restart");
    assert!(gateway.wait().success());
    assert!(since.elapsed() < Duration::from_secs(9), "it took {:?}", since.elapsed());
}

#[test]
fn a_body_that_does_not_come_is_given_up_and_one_that_ends_early_is_no_message() {
    let gateway = start();
    let mut reader = gateway.client(Wire::Plain, "/rooms/7");
    let head = "POST /rooms/7 HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n";
    let mut slow = gateway.raw("plain");
    slow.send(head.as_bytes());
    let since = Instant::now();
    // A byte now and then is no reason to wait for longer.
    while !slow.has_input_within(Duration::from_millis(200)) {
        let _ = slow.try_send(b"x");
        assert!(since.elapsed() < Duration::from_secs(5), "it is still waited for");
    }
    assert_eq!(answered(&mut slow).0, 408);
    assert!(since.elapsed() >= Duration::from_secs(1), "it was given up after {:?}", since.elapsed());
    let mut early = gateway.raw("plain");
    early.send(head.as_bytes());
    early.send(b"half of it");
    early.end_sending();
    early.end();
    // What is longer than it said is the next request, and no message.
    let mut longer = gateway.raw("plain");
    longer.send(&[post("/rooms/7", &[], "in time"), b"and more\r\n\r\n".to_vec()].concat());
    assert_eq!(answered(&mut longer).0, 202);
    assert_eq!(answered(&mut longer).0, 400);
    assert_eq!(reader.text(), "in time");
    gateway.client(Wire::Plain, "/rooms/7").send_text("the end");
    assert_eq!(reader.text(), "the end");
}

#[test]
fn hundreds_of_connections_that_say_nothing_more_keep_nobody_out_and_leave_nothing() {
    let gateway =
        Gateway::start(&format!("[gateway]\nhandshake_timeout = \"1s\"\nmax_handshakes = 20\n{CONFIG}{LISTENERS}"));
    let (threads, descriptors) = (gateway.threads(), gateway.descriptors());
    let mut connections = Vec::new();
    for number in 0..300 {
        let mut client = gateway.raw("plain");
        let whole = post("/rooms/7", &[], "x");
        match number % 3 {
            // One that waits for its next request, one that has begun it, and one that has not sent its body.
            0 => client.send(&whole),
            1 => client.send(&[&whole[..], b"POST /rooms/7 HTT"].concat()),
            _ => client.send(&post("/rooms/7", &[], &"x".repeat(50))[..90]),
        }
        if number % 3 < 2 {
            assert_eq!(answered(&mut client).0, 202);
        }
        connections.push(client);
        if number % 50 == 0 {
            let mut canary = gateway.client(Wire::Plain, "/canary");
            canary.send_text("x");
            assert_eq!(canary.text(), "x");
        }
    }
    assert_eq!(once(&gateway, &post("/rooms/7", &[], "x")).0, 202);
    drop(connections);
    eventually("everything is given back", Duration::from_secs(10), || {
        gateway.threads() <= threads && gateway.descriptors() <= descriptors
    });
}

/// A file of tests/clients.
fn source(name: &str) -> PathBuf {
    Path::new("tests/clients").join(name).canonicalize().unwrap()
}

/// Runs a script for this gateway, where its program is installed.
fn runs(mut command: Command, gateway: &Gateway) -> Option<String> {
    command.args([gateway.port("plain").to_string()]);
    if process_is_missing(&command) {
        eprintln!("skipped: {:?} is not installed", command.get_program());
        return None;
    }
    let output = process::run(&mut command, Duration::from_secs(90));
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}{stderr}");
    Some(stdout.into_owned())
}

fn process_is_missing(command: &Command) -> bool {
    Command::new(command.get_program()).arg("--version").output().is_err()
}

/// An example of docs/http.md for this gateway, as a file of its own.
fn example(gateway: &Gateway, language: &str, name: &str) -> PathBuf {
    let text = block_with(language, "temperature")
        .replace("/readings/", "/rooms/")
        .replace("8080", &gateway.port("plain").to_string());
    let file = gateway.file(name);
    std::fs::write(&file, text).unwrap();
    file
}

#[test]
fn the_examples_of_the_document_work_as_they_stand() {
    let gateway = start();
    let mut reader = gateway.client(Wire::Plain, "/rooms/7");
    let file = example(&gateway, "sh", "example.sh");
    if runs(by("sh", &file), &gateway).is_some() && !process_is_missing(&Command::new("curl")) {
        assert_eq!(reader.text(), "{\"temperature\": 21.5}");
    }
    for (program, language, name, texts) in [
        ("python3", "python", "example.py", ["{\"temperature\": 21.5}", "{\"temperature\": 21.6}"]),
        ("node", "javascript", "example.mjs", ["{\"temperature\":21.5}", "{\"temperature\":21.6}"]),
    ] {
        let file = example(&gateway, language, name);
        if runs(by(program, &file), &gateway).is_some() {
            assert_eq!([reader.text(), reader.text()], texts, "{program}");
        }
    }
}

fn by(program: &str, file: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg(file);
    command
}

#[test]
fn curl_python_and_node_keep_their_connection() {
    let gateway = start();
    let mut reader = gateway.client(Wire::Plain, "/rooms/7");
    for (program, script) in [("python3", "poster.py"), ("node", "poster.js")] {
        let Some(said) = runs(by(program, &source(script)), &gateway) else { continue };
        for number in 0..20 {
            assert_eq!(reader.text(), format!("{program} {number}"));
        }
        assert_eq!(said.trim(), "1 connection", "{program}");
    }
    let mut curl = Command::new("curl");
    let url = format!("http://127.0.0.1:{}/rooms/7", gateway.port("plain"));
    // Long enough that curl asks before it sends it.
    let body = "x".repeat(900);
    curl.args(["-sSv", "-d", &body, &url, &url, "-H", "Expect: 100-continue"]);
    if !process_is_missing(&curl) {
        let output = process::run(&mut curl, Duration::from_secs(20));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.stdout, b"{\"accepted\":1}{\"accepted\":1}", "{said}");
        assert_eq!(said.matches("100 Continue").count(), 2, "{said}");
        assert!(said.contains("Re-using existing") || said.contains("Reusing existing"), "{said}");
        assert_eq!([reader.text(), reader.text()], [body.clone(), body]);
    }
}

#[test]
fn a_page_of_its_own_may_post_in_chromium_and_a_foreign_one_may_not() {
    let gateway = start();
    let mut reader = gateway.client(Wire::Plain, "/any");
    if !Path::new("target/clients/node").exists() {
        eprintln!("skipped: run tests/install-clients.sh");
        return;
    }
    let Some(said) = runs(by("node", &source("chromium_posts.js")), &gateway) else { return };
    assert_eq!(said, "own: 202\nforeign: failed\nforeign text: failed\nforeign, any: 202\n");
    assert_eq!(reader.text(), "{\"from\":\"foreign\"}");
    let scrape = Scrape::of(gateway.admin_port());
    // That of text/plain was sent without a question, and refused all the same.
    assert_eq!(scrape.value("wsgate_posts_total{endpoint=\"/rooms/{room}\",status=\"202\"}"), 1.0);
    assert_eq!(scrape.value("wsgate_posts_total{endpoint=\"/rooms/{room}\",status=\"403\"}"), 2.0);
}

#[test]
fn many_connections_post_and_stay_without_a_place_on_the_endpoint() {
    const CONNECTIONS: usize = 1000;
    let gateway = start();
    let port = gateway.port("plain");
    let mut open = Vec::new();
    let since = Instant::now();
    for _ in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(&post("/any", &[], "x")).unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 202");
        open.push(stream);
    }
    crate::harness::measured(
        "POST",
        format!(
            "{CONNECTIONS} connections posted and stayed, in {:.1?}; {} KiB",
            since.elapsed(),
            gateway.memory_kib()
        ),
    );
}
