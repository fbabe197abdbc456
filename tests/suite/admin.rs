//! The admin listener: who is answered, over which connections, and what health checks see.

use std::time::Instant;

use serde_json::Value;

use crate::auth::files_of;
use crate::harness::{Canary, DEADLINE, Gateway, LISTENERS, Raw, Wire, eventually, expect_no_secret, measured};

/// A free port for the admin listener.
pub(crate) const ADMIN: &str = "[admin]\naddress = \"127.0.0.1:0\"\n";

const CONFIG: &str = r#"
[[endpoint]]
path = "/canary"
to = ["reply"]

[[endpoint]]
path = "/rooms/{room}"
heartbeat = "off"
max_connections = 3
"#;

/// One connection to the admin listener, over which several requests can go.
pub(crate) struct Caller {
    raw: Raw,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (own, value) = line.split_once(": ")?;
            own.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// The code of an error.
    pub(crate) fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_else(|| panic!("no code in {self:?}")).to_owned()
    }
}

impl Caller {
    pub(crate) fn of(gateway: &Gateway) -> Caller {
        Caller::over(Raw::plain(gateway.admin_port()))
    }

    pub(crate) fn over(raw: Raw) -> Caller {
        Caller { raw }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.raw.send(bytes);
    }

    /// Asks with these further lines of the head, and this body if there is one.
    pub(crate) fn ask_with(&mut self, method: &str, path: &str, lines: &[&str], body: Option<&[u8]>) -> Answer {
        let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        let length = body.map(|body| format!("Content-Length: {}\r\n", body.len())).unwrap_or_default();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{lines}{length}\r\n");
        self.raw.send(&[head.as_bytes(), body.unwrap_or_default()].concat());
        self.answer(method)
    }

    pub(crate) fn get(&mut self, path: &str) -> Answer {
        self.ask_with("GET", path, &[], None)
    }

    /// The next answer.
    pub(crate) fn answer(&mut self, method: &str) -> Answer {
        let head = self.raw.head();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Answer { status, head, body: String::new() };
        let length = answer.header("Content-Length").map_or(0, |length| length.parse().unwrap());
        if method != "HEAD" {
            answer.body = String::from_utf8(self.raw.bytes(length)).unwrap();
        }
        expect_no_secret("an answer of the admin listener", &answer.body);
        answer
    }

    /// The connection ends, in order.
    pub(crate) fn end(&mut self) {
        self.raw.end();
    }
}

/// Sends these bytes on a connection of their own; the status of the answer.
fn status_of(gateway: &Gateway, bytes: &str) -> u16 {
    let mut caller = Caller::of(gateway);
    caller.send(bytes.as_bytes());
    caller.answer("GET").status
}

fn start(more: &str) -> Gateway {
    Gateway::start(&format!("{CONFIG}{LISTENERS}{ADMIN}{more}"))
}

#[test]
fn health_checks_are_answered_over_http_1_0_and_1_1_with_get_head_and_options() {
    let mut gateway = start("");
    let mut caller = Caller::of(&gateway);
    let alive = caller.get("/healthz");
    assert_eq!((alive.status, &*alive.body), (200, "ok\n"));
    let head = caller.ask_with("HEAD", "/readyz", &[], None);
    assert_eq!((head.status, head.header("Content-Length")), (200, Some("6")));
    let options = caller.ask_with("OPTIONS", "/healthz", &[], None);
    assert_eq!((options.status, options.header("Allow")), (204, Some("GET, HEAD, OPTIONS")));
    // HAProxy's `option httpchk` sends this, which asks about the page.
    let mut old = Caller::of(&gateway);
    old.send(b"OPTIONS / HTTP/1.0\r\n\r\n");
    assert_eq!(old.answer("OPTIONS").status, 204);
    let mut old = Caller::of(&gateway);
    old.send(b"GET /readyz HTTP/1.0\r\n\r\n");
    let ready = old.answer("GET");
    assert_eq!((ready.status, &*ready.body, ready.header("Connection")), (200, "ready\n", Some("close")));
    old.end();

    // A client that does not answer the Close keeps the gateway stopping, which load balancers are told.
    let _silent = gateway.client(Wire::Plain, "/canary");
    gateway.signal(rustix::process::Signal::TERM);
    eventually("the gateway is not ready any more", DEADLINE, || Caller::of(&gateway).get("/readyz").status == 503);
    let stopping = Caller::of(&gateway).get("/readyz");
    assert_eq!((stopping.code(), Caller::of(&gateway).get("/healthz").status), ("notReady".to_owned(), 200));
    assert!(gateway.wait().success());
    assert!(!gateway.whole_log().iter().any(|line| line.contains("/healthz") || line.contains("/readyz")));
}

#[test]
fn info_has_what_the_server_info_of_n8n_has() {
    let gateway = start("");
    let _client = gateway.client(Wire::Plain, "/rooms/7");
    let info = Caller::of(&gateway).get("/api/v1/info").json();
    assert_eq!(info["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((info["isReady"].as_bool(), info["clients"].as_u64()), (Some(true), Some(1)));
    let room = &info["endpoints"][1];
    let port = gateway.port("plain");
    assert_eq!(room["path"], "/rooms/{room}");
    assert_eq!((room["port"].as_u64(), room["activeConnections"].as_u64()), (Some(port.into()), Some(1)));
    assert_eq!((room["maxConnections"].as_u64(), room["heartbeatEnabled"].as_bool()), (Some(3), Some(false)));
    assert_eq!(room["serverUrl"], format!("ws://127.0.0.1:{port}/rooms/{{room}}"));
    assert_eq!(info["endpoints"][0]["heartbeatEnabled"], true);
}

#[test]
fn s16_a_page_that_a_browser_has_opened_reaches_nothing() {
    let gateway = start("");
    let port = gateway.admin_port();
    for lines in [
        "Host: evil.example".to_owned(),
        format!("Host: evil.example:{port}\r\nOrigin: http://evil.example:{port}"),
        format!("Host: 127.0.0.1:{port}\r\nOrigin: http://evil.example"),
        format!("Host: 127.0.0.1:{port}\r\nOrigin: null"),
        format!("Host: 127.0.0.1:{port}\r\nSec-Fetch-Site: cross-site"),
        format!("Host: 127.0.0.1:{port}\r\nSec-Fetch-Site: same-site"),
    ] {
        assert_eq!(status_of(&gateway, &format!("GET /api/v1/info HTTP/1.1\r\n{lines}\r\n\r\n")), 403, "{lines}");
    }
    let own = format!("Host: 127.0.0.1:{port}\r\nOrigin: http://127.0.0.1:{port}\r\nSec-Fetch-Site: same-origin");
    assert_eq!(status_of(&gateway, &format!("GET /api/v1/info HTTP/1.1\r\n{own}\r\n\r\n")), 200);
    for answer in [Caller::of(&gateway).get("/healthz"), Caller::of(&gateway).get("/none")] {
        assert!(!answer.head.to_ascii_lowercase().contains("access-control"), "{answer:?}");
        assert_eq!(answer.header("X-Content-Type-Options"), Some("nosniff"));
    }
}

#[test]
fn s16_requests_that_can_be_understood_in_two_ways_are_refused() {
    let gateway = start("[gateway]\nhandshake_timeout = \"1s\"\n");
    let post = |lines: &str| format!("GET /healthz HTTP/1.1\r\nHost: h.localhost\r\n{lines}\r\n").replace("h.l", "l");
    for (request, status) in [
        (post("Content-Length: 1\r\nContent-Length: 1\r\n"), 400),
        (post("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), 400),
        (post("Transfer-Encoding: chunked\r\n"), 411),
        (post("Content-Length: 2097152\r\n"), 413),
        (post("Content-Length: 10\r\n") + "half", 408),
        (post("").replace("GET", "POST"), 405),
        (post("Content-Length: 0\r\n").replace("GET", "POST"), 405),
        (post("").replace("/healthz", "/healthz?token=hunter2"), 400),
        (post("").replace("/healthz", "/healthz?x=1"), 400),
        (post("").replace("HTTP/1.1", "HTTP/3.0"), 505),
        ("GET /healthz HTTP/1.1\r\nHost: localhost\r\n".to_owned(), 408),
        ("\x16\x03\x01\x02\x00\x01".to_owned(), 400),
        ("nonsense\r\n\r\n".to_owned(), 400),
        (format!("GET /healthz HTTP/1.1\r\nX: {}", "x".repeat(20 << 10)), 431),
    ] {
        assert_eq!(status_of(&gateway, &request), status, "{request:.300}");
    }
}

#[test]
fn several_requests_go_over_one_connection_also_at_once() {
    let gateway = start("");
    let mut caller = Caller::of(&gateway);
    for _ in 0..3 {
        assert_eq!(caller.get("/healthz").header("Connection"), Some("keep-alive"));
    }
    let one = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc";
    caller.send(one.repeat(20).as_bytes());
    for _ in 0..20 {
        assert_eq!(caller.answer("GET").status, 200);
    }
    assert_eq!(caller.ask_with("GET", "/none", &["Connection: close"], None).status, 404);
    caller.end();
    // What was refused before its body was read ends the connection, or the body would be the next request.
    let mut caller = Caller::of(&gateway);
    caller.send(b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 18\r\n\r\nGET / HTTP/1.1\r\n\r\n");
    assert_eq!(caller.answer("POST").header("Connection"), Some("close"));
    caller.end();
}

#[test]
fn s16_a_thousand_silent_connections_keep_nobody_out_and_no_client_notices() {
    let gateway = start("");
    let mut canary = Canary::connect(&gateway);
    let (threads, port) = (gateway.threads(), gateway.admin_port());
    let silent: Vec<Raw> = (0..1000).map(|_| Raw::plain(port)).collect();
    let begun = Instant::now();
    for _ in 0..20 {
        assert_eq!(Caller::of(&gateway).get("/api/v1/info").status, 200);
        canary.check_echo("a request to the admin listener");
    }
    let took = begun.elapsed() / 20;
    let more = gateway.threads() - threads;
    assert!(more <= 64, "{more} more threads");
    measured("S16", format!("a request beside 1000 silent connections takes {took:.1?}, with {more} threads more"));
    gateway.wait_for_log("connections wait, and most of them come from 127.0.0.1");
    drop(silent);
    eventually("their threads have ended", DEADLINE, || gateway.threads() <= threads + 1);
    Canary::check_new_client(&gateway);
}

#[test]
fn s2_a_credential_is_asked_for_and_each_right_by_itself() {
    let tokens = ["prometheus", "nobody", "stranger"].map(|name| (name, format!("hunter2-{name}")));
    let files = files_of(&tokens.each_ref().map(|(name, token)| (*name, token.as_str())));
    let file = files.path().join("tokens.txt").display().to_string();
    let config = format!(
        "{CONFIG}{LISTENERS}[[auth]]\nname = \"ops\"\nkind = \"tokens\"\nfile = {file:?}\nquery = \"token\"\n{ADMIN}\
         auth = [\"ops\"]\nallow = [{{ who = \"prometheus\", rights = \"read\" }}, {{ who = \"nobody\", rights = \"tail\" }}]\n"
    );
    let gateway = Gateway::start(&config);
    let status = |lines: &[&str], path: &str| Caller::of(&gateway).ask_with("GET", path, lines, None).status;
    assert_eq!(status(&[], "/healthz"), 200);
    for (lines, expected) in [
        (&["Authorization: Bearer hunter2-prometheus"][..], 200),
        (&["Authorization: Bearer hunter2-nobody"], 403),
        (&["Authorization: Bearer hunter2-stranger"], 403),
        (&["Authorization: Bearer hunter2-wrong"], 401),
        (&["Cookie: token=hunter2-prometheus"], 401),
        (&[], 401),
    ] {
        assert_eq!(status(lines, "/api/v1/info"), expected, "{lines:?}");
    }
    assert_eq!(status(&[], "/api/v1/info?token=hunter2-prometheus"), 400);
    let refused = Caller::of(&gateway).get("/api/v1/info");
    assert_eq!(refused.header("WWW-Authenticate"), Some("Bearer realm=\"wsgate\""));
}

#[test]
fn the_default_address_that_is_taken_is_a_warning_and_a_written_one_an_error() {
    // Taken by this test, or by whatever else runs here.
    let _taken = std::net::TcpListener::bind("127.0.0.1:8081");
    // The harness writes no table where the text has one.
    let gateway = Gateway::start(&format!("# no [admin]\n{CONFIG}{LISTENERS}"));
    let line = gateway.wait_for_log("wsgate runs without its admin listener");
    assert!(line.contains("WARN") && line.contains("failed to bind '127.0.0.1:8081'"), "{line}");
    Canary::check_new_client(&gateway);
    let mut refused = Gateway::launch(&format!("{CONFIG}{LISTENERS}[admin]\n"), |_| {});
    assert_eq!(refused.wait().code(), Some(69));
    assert!(refused.whole_log().iter().any(|line| line.contains("failed to bind '127.0.0.1:8081'")));
}

#[test]
fn it_answers_over_a_unix_socket_and_over_tls() {
    let gateway = Gateway::start(&format!("{CONFIG}{LISTENERS}[admin]\naddress = \"unix:admin.sock\"\n"));
    gateway.wait_for_log("admin: answering on unix:");
    let mut caller = Caller::over(Raw::unix(&gateway.file("admin.sock")));
    caller.send(b"GET /api/v1/info HTTP/1.1\r\nHost: any.example\r\n\r\n");
    assert_eq!(caller.answer("GET").json()["endpoints"][0]["path"], "/canary");

    let tls = "tls = { certificate = \"cert.pem\", private_key = \"key.pem\" }\n";
    let gateway = start(tls);
    let mut caller = Caller::over(Raw::tls(gateway.admin_port(), &gateway.file("ca.pem")));
    for _ in 0..3 {
        assert_eq!(caller.get("/api/v1/info").json()["endpoints"][0]["path"], "/canary");
    }
    // An answer of many records, over one connection.
    let document = caller.get("/api/v1/openapi.json");
    assert!(document.body.len() > 20_000 && document.json()["openapi"] == "3.1.0");
}

#[test]
fn certificates_that_are_required_let_in_and_no_others() {
    let tls = "tls = { certificate = \"cert.pem\", private_key = \"key.pem\", client_ca = \"ca.pem\" }\n";
    let gateway = start(tls);
    let mut stranger = Raw::tls(gateway.admin_port(), &gateway.file("ca.pem"));
    assert!(
        stranger.try_send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").is_err()
            || stranger.is_gone_within(DEADLINE)
    );
    gateway.wait_for_log("TLS handshake failed");
}

#[test]
fn an_idle_admin_listener_is_two_threads() {
    let (with, without) = (start(""), Gateway::start(&format!("{CONFIG}{LISTENERS}")));
    Canary::check_new_client(&without);
    Canary::check_new_client(&with);
    let is_quiet = || with.threads() == without.threads() + 2;
    eventually("there are two threads more, and none of clients", DEADLINE, is_quiet);
    // A caller that has gone leaves nothing behind.
    assert_eq!(Caller::of(&with).get("/api/v1/info").status, 200);
    eventually("the thread of the caller has ended", DEADLINE, is_quiet);
}
