//! Links to HTTP servers: each message arrives, in order, whatever the server answers and however often it is away.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::harness::http_server::{HttpServer, Reply, Request};
use crate::harness::scrape::Scrape;
use crate::harness::{DEADLINE, Gateway, LISTENERS, Raw, Wire, eventually, pass};

/// A gateway whose clients at `/` send to a link to this URL, with more lines for it.
fn start(url: &str, more: &str) -> Gateway {
    Gateway::start(&format!(
        "[gateway]\ndrain_timeout = \"2s\"\n[admin]\naddress = \"127.0.0.1:0\"\n{LISTENERS}\
         [[endpoint]]\npath = \"/\"\nto = [\"link:hook\"]\n\
         [[link]]\nname = \"hook\"\nurl = \"{url}\"\nbackoff = {{ first = \"50ms\", most = \"100ms\" }}\n{more}\n"
    ))
}

fn client(gateway: &Gateway) -> Raw {
    gateway.client(Wire::Plain, "/")
}

/// The value of a header of a request.
fn header<'r>(request: &'r Request, name: &str) -> &'r str {
    let found = request.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    found.unwrap_or_else(|| panic!("no {name} in {}", request.head))
}

fn bodies(requests: &[Request]) -> Vec<&str> {
    requests.iter().map(|request| &*request.body).collect()
}

/// The series of the link `hook`.
fn value(gateway: &Gateway, metric: &str) -> f64 {
    Scrape::of(gateway.admin_port()).value(metric)
}

#[test]
fn each_message_is_a_request_with_its_type_and_a_key_of_its_own() {
    let server = HttpServer::up(|_| Reply::of(204, ""));
    let gateway = start(&server.url("/in?x=1"), "headers = { X-Of = \"press\" }");
    let mut client = client(&gateway);
    for text in ["{\"a\":1}", "hello", "[2]"] {
        client.send_text(text);
    }
    client.send_frame(0x82, b"\x01\x02");
    let requests = server.wait_for_requests(4);
    assert_eq!(bodies(&requests), ["{\"a\":1}", "hello", "[2]", "\x01\x02"]);
    let types: Vec<_> = requests.iter().map(|request| header(request, "Content-Type")).collect();
    let [json, text, binary] = ["application/json", "text/plain; charset=utf-8", "application/octet-stream"];
    assert_eq!(types, [json, text, json, binary]);
    let keys: Vec<_> = requests.iter().map(|request| header(request, "Idempotency-Key")).collect();
    let (origin, _) = keys[0].rsplit_once('-').unwrap();
    assert_eq!(keys, [1, 2, 3, 4].map(|number| format!("{origin}-{number}")));
    assert!(origin.len() == 16 && origin.bytes().all(|byte| byte.is_ascii_hexdigit()), "{origin}");
    let head = &requests[0].head;
    assert!(head.starts_with("POST /in?x=1 HTTP/1.1\r\n") && header(&requests[0], "X-Of") == "press", "{head}");
    eventually("they are counted", DEADLINE, || {
        value(&gateway, "wsgate_link_sent_messages_total{link=\"hook\"}") == 4.0
    });
    assert_eq!(value(&gateway, "wsgate_link_up{link=\"hook\"}"), 1.0);
}

#[test]
fn a_batch_is_one_request_in_its_format() {
    for (format, content_type, expected) in [
        ("ndjson", "application/x-ndjson", "{\"a\":  1}\n\"no JSON\"\n3\n"),
        ("json", "application/json", "[{\"a\":  1},\"no JSON\",3]"),
    ] {
        let server = HttpServer::up(|_| Reply::of(200, "ok"));
        let batch = format!("batch = {{ messages = 3, wait = \"5s\", format = \"{format}\" }}");
        let gateway = start(&server.url("/"), &batch);
        let mut client = client(&gateway);
        let since = Instant::now();
        for text in ["{\"a\":\n 1}", "no JSON", "3"] {
            client.send_text(text);
        }
        let request = server.wait_for_requests(1).remove(0);
        assert!(since.elapsed() < Duration::from_secs(5), "a full batch waited");
        assert_eq!((&*request.body, header(&request, "Content-Type")), (expected, content_type));
        assert!(header(&request, "Idempotency-Key").ends_with("-1-3"), "{}", request.head);
    }
    // What does not fill a batch goes when its time is over.
    let server = HttpServer::up(|_| Reply::of(200, "ok"));
    let gateway = start(&server.url("/"), "batch = { wait = \"200ms\" }");
    client(&gateway).send_text("1");
    assert_eq!(server.wait_for_requests(1)[0].body, "1\n");
}

#[test]
fn what_the_server_cannot_take_now_is_sent_again_with_the_same_key_and_in_order() {
    let tried = Arc::new(AtomicUsize::new(0));
    let server = HttpServer::up({
        let tried = Arc::clone(&tried);
        move |_| match tried.fetch_add(1, Ordering::AcqRel) {
            0 => Reply::of(500, "broken"),
            1 => Reply::Bytes(b"HTTP/1.1 429 Slow\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n".to_vec()),
            2 => Reply::Silence,
            3 => Reply::of(408, ""),
            4 => Reply::Bytes(b"no HTTP".to_vec()),
            5 => {
                Reply::Bytes(b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\nContent-Length: 0\r\n\r\n".to_vec())
            }
            _ => Reply::of(200, "ok"),
        }
    });
    let gateway = start(&server.url("/"), "answer_timeout = \"500ms\"");
    let mut client = client(&gateway);
    let since = Instant::now();
    ["1", "2", "3"].iter().for_each(|text| client.send_text(text));
    let requests = server.wait_for_requests(9);
    assert_eq!(bodies(&requests), ["1", "1", "1", "1", "1", "1", "1", "2", "3"]);
    let keys: Vec<_> = requests.iter().map(|request| header(request, "Idempotency-Key")).collect();
    assert!(keys[..7].iter().all(|key| *key == keys[0]), "{keys:?}");
    assert!(since.elapsed() > Duration::from_millis(1500), "neither Retry-After nor the deadline was kept");
    gateway.wait_for_log("redirects are not followed, so correct the URL; posting again in");
    gateway.wait_for_log("answers again, after 6 failures");
    let log = gateway.log();
    assert!(log.iter().any(|line| line.contains("429") && line.contains("posting again in 1")), "{log:#?}");
}

#[test]
fn what_is_refused_for_itself_is_set_aside_and_blocks_nothing_also_in_a_batch() {
    for batch in ["", "batch = { messages = 4, wait = \"1s\" }"] {
        let server = HttpServer::up(|request: &Request| match request.body.contains("bad") {
            true => Reply::of(422, "no"),
            false => Reply::of(200, "ok"),
        });
        let gateway = start(&server.url("/"), batch);
        let mut client = client(&gateway);
        ["1", "2", "\"bad\"", "4"].iter().for_each(|text| client.send_text(text));
        gateway.wait_for_log("message 3 is set aside");
        let taken = |requests: &[Request]| {
            let good = requests.iter().filter(|request| !request.body.contains("bad"));
            good.map(|request| request.body.trim().to_owned()).collect::<Vec<_>>()
        };
        eventually("the others have arrived", DEADLINE, || taken(&server.requests()) == ["1", "2", "4"]);
        let refused = "wsgate_link_dropped_messages_total{link=\"hook\",reason=\"refused\"}";
        eventually("it is counted", DEADLINE, || value(&gateway, refused) == 1.0);
        assert_eq!(value(&gateway, "wsgate_link_up{link=\"hook\"}"), 1.0);
    }
}

#[test]
fn a_server_that_is_away_and_comes_back_loses_nothing_that_waits() {
    let mut server = HttpServer::away(|_| Reply::of(200, "ok"));
    let gateway = start(&server.url("/"), "");
    let mut client = client(&gateway);
    let mut sent = 0;
    for _ in 0..4 {
        for _ in 0..20 {
            client.send_text(&sent.to_string());
            sent += 1;
        }
        eventually("the link is down", DEADLINE, || value(&gateway, "wsgate_link_up{link=\"hook\"}") == 0.0);
        server.come();
        eventually("all have arrived", DEADLINE, || server.requests().len() >= sent);
        client.send_text(&sent.to_string());
        sent += 1;
        eventually("all have arrived", DEADLINE, || server.requests().len() >= sent);
        server.go();
    }
    // One that was taken and not confirmed comes again, with the same key.
    let mut by_key = BTreeMap::new();
    for request in server.requests() {
        let body = by_key.entry(header(&request, "Idempotency-Key").to_owned()).or_insert_with(|| request.body.clone());
        assert_eq!(*body, request.body);
    }
    let mut numbers: Vec<usize> = by_key.values().map(|body| body.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..sent).collect::<Vec<_>>());
}

#[test]
fn an_endless_or_late_answer_does_no_harm() {
    let server = HttpServer::up(|request: &Request| match &*request.body {
        "endless" => Reply::Endless(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n", b"xxxxxxxxxxxxxxxx"),
        "until the end" => Reply::Endless(b"HTTP/1.1 200 OK\r\n\r\n", b"xxxxxxxxxxxxxxxx"),
        "chunks" => Reply::Endless(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        _ => Reply::of(200, "ok"),
    });
    let gateway = start(&server.url("/"), "");
    let before = gateway.memory_kib();
    let mut client = client(&gateway);
    let sent = ["endless", "until the end", "chunks", "last"];
    sent.iter().for_each(|text| client.send_text(text));
    assert_eq!(bodies(&server.wait_for_requests(4)), sent);
    eventually("they are taken", DEADLINE, || value(&gateway, "wsgate_link_sent_messages_total{link=\"hook\"}") == 4.0);
    assert!(gateway.memory_kib() < before + 4096, "{} KiB", gateway.memory_kib() - before);
}

#[test]
fn a_stop_sends_what_waits_and_is_held_by_no_server_for_longer_than_its_time() {
    let server = HttpServer::up(|_| {
        pass(Duration::from_millis(20));
        Reply::of(200, "ok")
    });
    let mut gateway = start(&server.url("/"), "");
    let mut sender = client(&gateway);
    (0..20).for_each(|number| sender.send_text(&number.to_string()));
    server.wait_for_requests(1);
    gateway.terminate();
    assert_eq!(server.requests().len(), 20);

    let silent = HttpServer::up(|_| Reply::Silence);
    let mut gateway = start(&silent.url("/"), "answer_timeout = \"60s\"");
    let mut sender = client(&gateway);
    ["1", "2"].iter().for_each(|text| sender.send_text(text));
    silent.wait_for_requests(1);
    let since = Instant::now();
    gateway.terminate();
    assert!(since.elapsed() < Duration::from_secs(6), "the stop took {:?}", since.elapsed());
    let log = gateway.whole_log();
    assert!(log.iter().any(|line| line.contains("2 messages were still queued for it and got lost")), "{log:#?}");
}

#[test]
fn one_connection_is_kept_for_all_requests_by_a_server_that_keeps_it() {
    const SERVER: &str = "
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_POST(self):
        body = self.rfile.read(int(self.headers['Content-Length']))
        print(self.client_address[1], body.decode(), flush=True)
        self.send_response(200)
        self.send_header('Content-Length', '2')
        self.end_headers()
        self.wfile.write(b'ok')
    def log_message(self, *args):
        pass
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
";
    let command = Command::new("python3").args(["-c", SERVER]).stdout(Stdio::piped()).spawn();
    let Ok(mut python) = command else {
        eprintln!("skipped: python3 is not installed");
        return;
    };
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(python.stdout.take().unwrap()));
    let port = lines.next().unwrap().unwrap();
    let gateway = start(&format!("http://127.0.0.1:{port}/"), "");
    let mut client = client(&gateway);
    (0..50).for_each(|number| client.send_text(&number.to_string()));
    let said: Vec<String> = lines.take(50).map(Result::unwrap).collect();
    python.kill().unwrap();
    python.wait().unwrap();
    let (port, _) = said[0].split_once(' ').unwrap();
    assert_eq!(said, (0..50).map(|number| format!("{port} {number}")).collect::<Vec<_>>());
}

#[test]
fn the_http_in_of_node_red_gets_what_clients_send() {
    use crate::harness::NodeRed;
    use crate::harness::node_red::{flows, function};
    use serde_json::json;

    if !Path::new("target/clients/node-red").exists() {
        eprintln!("skipped: run tests/install-clients.sh");
        return;
    }
    let keep = "const seen = global.get('seen') || []; seen.push({ by: 'hook', payload: msg.payload,\n\
                key: msg.req.headers['idempotency-key'] }); global.set('seen', seen); msg.payload = 'ok'; return msg;";
    let node_red = NodeRed::up(&flows(&[json!([
        { "id": "hook", "type": "http in", "z": "the tab", "method": "post", "url": "/hook", "wires": [["keep"]] },
        function("keep", keep, &["answer"]),
        { "id": "answer", "type": "http response", "z": "the tab", "statusCode": "", "headers": {}, "wires": [] },
    ])]));
    let gateway = start(&format!("http://127.0.0.1:{}/hook", node_red.port()), "");
    let mut client = client(&gateway);
    client.send_text("{\"temperature\":21.5}");
    client.send_text("hello");
    let seen = node_red.wait_for_seen("both messages", 2, |seen| seen["by"] == "hook");
    assert_eq!(seen[0]["payload"], json!({ "temperature": 21.5 }), "{seen:?}");
    assert_eq!(seen[1]["payload"], json!("hello"), "{seen:?}");
    assert!(seen[0]["key"].as_str().unwrap().ends_with("-1"), "{seen:?}");
}
