//! Authentication by a service that is asked.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use data_encoding::BASE64URL_NOPAD;
use serde_json::json;

use crate::auth::files_of;
use crate::harness::http_server::{HttpServer, Reply, Request};
use crate::harness::{Attack, DEADLINE, Gateway, LISTENERS, Raw, certificates, eventually, request};

/// A configuration whose endpoint `/` asks this server; `auth` is more of the `[[auth]]`, `more` stands behind it.
fn config(server: &HttpServer, auth: &str, more: &str) -> String {
    format!(
        "[gateway]\nfailed_credentials = \"off\"\n{LISTENERS}[[auth]]\nname = \"service\"\nkind = \"http\"\nurl = {:?}\n{auth}\n\
         [[endpoint]]\npath = \"/\"\nto = [\"reply\"]\nauth = [\"service\"]\nsubprotocols = [\"chat\"]\n{more}\n",
        server.url("/check?key=of-the-url")
    )
}

fn start(config: &str) -> Gateway {
    Gateway::start_with(config, |command| {
        command.env("RUST_LOG", "debug");
    })
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

/// The head of the answer to a request with this line.
fn answer(mut client: Raw, target: &str, line: &str) -> String {
    client.send(request(target, &[line]).as_bytes());
    client.head()
}

fn status(client: Raw, target: &str, line: &str) -> String {
    answer(client, target, line)[9..12].to_owned()
}

/// Lets in whoever brings this token, from wherever, as ada.
fn ada(token: &'static str) -> impl Fn(&Request) -> Reply {
    move |request| {
        let question = request.json();
        let is_right = question["credentials"].as_object().unwrap().values().any(|text| text == token);
        if is_right { Reply::of(200, r#"{"identity":"ada"}"#) } else { Reply::of(401, "") }
    }
}

#[test]
fn a_service_says_who_a_client_is_from_each_place_over_plain_and_tls() {
    let directory = tempfile::tempdir().unwrap();
    certificates::write(directory.path());
    let ca = format!("tls = {{ ca = {:?} }}\n", directory.path().join("ca.pem").display().to_string());
    for (server, auth) in
        [(HttpServer::up(ada("the-token")), ""), (HttpServer::tls(directory.path(), ada("the-token")), &*ca)]
    {
        let places = "cookie = \"session\"\nquery = \"token\"\nsubprotocol = true\nforward_headers = [\"X-Id\", \"Cookie\"]\n\
                      headers = { X-Key = \"of-the-gateway\" }\n";
        let gateway = start(&config(&server, &format!("{places}{auth}"), ""));
        let encoded = BASE64URL_NOPAD.encode(b"the-token");
        for (target, line, place) in [
            ("/", bearer("the-token"), "authorization"),
            ("/", "Cookie: session=the-token; theme=dark".to_owned(), "cookie"),
            ("/?token=the-token", "X-Id: 7".to_owned(), "query"),
            ("/", format!("Sec-WebSocket-Protocol: chat, wsgate.bearer.{encoded}"), "subprotocol"),
        ] {
            for listener in ["plain", "tls"] {
                assert_eq!(status(gateway.raw(listener), target, &line), "101", "{place}");
                let Request { head, body } = server.requests().pop().unwrap();
                let question: serde_json::Value = serde_json::from_str(&body).unwrap();
                let mut headers = json!({});
                match place {
                    "cookie" => headers["cookie"] = "session=the-token; theme=dark".into(),
                    "query" => headers["x-id"] = "7".into(),
                    _ => {}
                }
                let expected = json!({
                    "auth": "service", "credentials": { place: "the-token" }, "address": "127.0.0.1", "endpoint": "/",
                    "path": "/", "origin": null, "headers": headers,
                });
                assert_eq!(question, expected);
                assert!(head.starts_with("POST /check?key=of-the-url HTTP/1.1\r\n"), "{head}");
                for line in ["Content-Type: application/json", "X-Key: of-the-gateway", "Connection: close"] {
                    assert!(head.contains(&format!("\r\n{line}\r\n")), "{line}: {head}");
                }
            }
        }
        gateway.wait_for_log(" as 'ada'");
        assert_eq!(status(gateway.raw("plain"), "/", &bearer("another-token")), "401");
        let asked = server.requests().len();
        assert_eq!(status(gateway.raw("plain"), "/", "X-Other: y"), "401");
        assert_eq!(status(gateway.raw("plain"), "/", "Authorization: Basic YTpi"), "401");
        assert_eq!(server.requests().len(), asked, "it was asked about clients that bring nothing");
        assert_eq!(status(gateway.raw("plain"), "/", "X-Id: 8"), "401");
        assert_eq!(server.requests().len(), asked + 1);
        gateway.wait_for_logs("this endpoint asks for a credential: it has none", 2);
        gateway.wait_for_logs("the service of \"service\" answers 401", 2);
        let log = gateway.log().join("\n");
        for secret in ["the-token", "another-token", "of-the-gateway", "of-the-url", &encoded] {
            assert!(!log.contains(secret), "{secret} in {log}");
        }
    }
}

#[test]
fn what_a_service_refuses_is_refused_and_all_else_lets_nobody_in() {
    let server = HttpServer::up(|_| Reply::Silence);
    let gateway = start(&config(&server, "answer_timeout = \"500ms\"", ""));
    let check = |expected: &str, words: &str| {
        let head = answer(gateway.raw("plain"), "/", &bearer("the-token"));
        assert_eq!(&head[9..12], expected, "{words}");
        assert_eq!(head.contains("\r\nRetry-After: 5"), expected == "503", "{head}");
        assert_eq!(head.contains("\r\nWWW-Authenticate: Bearer "), expected == "401", "{head}");
        gateway.wait_for_log(words);
    };
    check("503", "no answer within 500ms (see `answer_timeout`)");
    let long = format!(r#"{{"identity":"{}"}}"#, "x".repeat(257));
    let huge = format!(r#"{{"identity":"ada","more":"{}"}}"#, "x".repeat(64 << 10));
    // Whatever it repeats of the question must not come into the log.
    let repeated = "no such token: the-token";
    for (reply, expected, words) in [
        (Reply::of(401, repeated), "401", "the service of \"service\" answers 401"),
        (Reply::of(403, repeated), "403", "the service of \"service\" answers 403"),
        (Reply::of(500, repeated), "503", "the server answered 500 Internal Server Error"),
        (Reply::of(404, repeated), "503", "the server answered 404 Not Found"),
        (
            Reply::Bytes(b"HTTP/1.1 302 the-token\r\nLocation: /login?the-token\r\nContent-Length: 0\r\n\r\n".to_vec()),
            "503",
            "the server answered 302 Found (redirects are not followed)",
        ),
        (Reply::Bytes(b"HTTP/1.1 204 OK\r\n\r\n".to_vec()), "503", "its answer is no JSON object"),
        (Reply::of(200, "the-token"), "503", "its answer is no JSON object"),
        (Reply::of(200, r#"{"name":"the-token"}"#), "503", "its answer has no \"identity\" that is a name"),
        (Reply::of(200, &long), "503", "a text of 1 to 256 bytes"),
        (Reply::of(200, r#"{"identity":"ada","expires_in":-1}"#), "503", "has an end that is over"),
        (Reply::of(200, &huge), "503", "its body cannot be read: it is longer than 65536 bytes"),
        (Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}".to_vec()), "503", "in the middle of it"),
        (Reply::Bytes(b"the-token\r\n\r\n".to_vec()), "503", "it is not HTTP"),
        (Reply::Bytes(Vec::new()), "503", "closed the connection without a complete answer"),
        (
            Reply::Endless(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
            "503",
            "longer than 65536 bytes",
        ),
        (Reply::Endless(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"), "503", "its head is too large"),
        (Reply::Endless(b"HTTP/1.1 200 OK\r\n\r\n", b"xxxxxxxx"), "503", "longer than 65536 bytes"),
    ] {
        server.answers(move |_| reply.clone());
        check(expected, words);
    }
    server.answers(ada("the-token"));
    assert_eq!(status(gateway.raw("plain"), "/", &bearer("the-token")), "101");
    drop(server);
    check("503", "connection refused");
    let log = gateway.log();
    assert!(!log.iter().any(|line| line.contains("the-token")), "{log:?}");
    let told = |words: &str| log.iter().filter(|line| line.contains(words)).count();
    // It goes well and badly in turns: one line for each change.
    assert_eq!((told("it lets nobody in until its service answers"), told("answers again")), (3, 2), "{log:?}");
}

#[test]
fn claims_decide_and_an_answer_that_ends_ends_its_connection() {
    let server = HttpServer::up(|request| match request.json()["credentials"]["authorization"].as_str() {
        Some("short") => Reply::of(200, r#"{"identity":"ada","claims":{"group":"ops","secret":1},"expires_in":1}"#),
        _ => Reply::of(200, r#"{"identity":"eve","claims":{"group":["staff"]}}"#),
    });
    let more = "format = \"message\"\nallow = [{ claims = { group = \"ops\" } }]\nheartbeat = \"off\"";
    let gateway = start(&config(&server, "claims = [\"group\"]", more));
    assert_eq!(status(gateway.raw("plain"), "/", &bearer("long")), "403");
    let mut client = gateway.raw("plain");
    client.upgrade("/", &[&bearer("short")]);
    client.send_text("{\"payload\":1}");
    let told = serde_json::from_str::<serde_json::Value>(&client.text()).unwrap()["_session"].take();
    assert_eq!((&told["identity"], &told["claims"]), (&"ada".into(), &json!({ "group": "ops" })), "{told}");
    client.closed_with(1008, "Token expired");
}

#[test]
fn an_answer_is_kept_for_its_time_and_a_refusal_is_not() {
    let server = HttpServer::up(ada("right"));
    let endpoint = "[[endpoint]]\npath = \"/other\"\nto = [\"reply\"]\nauth = [\"service\"]";
    let gateway = start(&config(&server, "cache_for = \"1s\"", endpoint));
    let asked = |target: &str, token: &str| {
        let before = server.requests().len();
        (status(gateway.raw("plain"), target, &bearer(token)), server.requests().len() - before)
    };
    let kept_since = Instant::now();
    assert_eq!(asked("/", "right"), ("101".to_owned(), 1));
    for _ in 0..5 {
        let (status, asked) = asked("/", "right");
        assert!(status == "101" && (asked == 0 || kept_since.elapsed() > Duration::from_millis(900)), "{asked}");
    }
    assert_eq!(asked("/other", "right").1, 1, "another path is another question");
    for _ in 0..2 {
        assert_eq!(asked("/", "wrong"), ("401".to_owned(), 1));
    }
    eventually("it is asked again", DEADLINE, || asked("/", "right").1 == 1);
}

#[test]
fn one_right_credential_suffices_while_the_service_of_another_is_dead() {
    let files = files_of(&[("bob", "the-token")]);
    let server = HttpServer::away(ada("x"));
    let file = files.path().join("tokens.txt").display().to_string();
    let config = config(&server, "", "").replace("auth = [\"service\"]", "auth = [\"service\", \"tokens\"]");
    let gateway = start(&format!("{config}[[auth]]\nname = \"tokens\"\nkind = \"tokens\"\nfile = {file:?}\n"));
    let mut client = gateway.raw("plain");
    client.upgrade("/", &[&bearer("the-token")]);
    gateway.wait_for_log(" as 'bob'");
    assert_eq!(status(gateway.raw("plain"), "/", &bearer("another")), "503", "it may have been right");
}

#[test]
fn s24_a_service_that_never_answers_holds_nobody_else_and_few_threads() {
    let server = HttpServer::up(|_| Reply::Silence);
    let limits = "max_requests = 4\nanswer_timeout = \"9s\"";
    let endpoint = "[[endpoint]]\npath = \"/canary\"\nto = [\"reply\"]";
    let config = config(&server, limits, endpoint).replace("[gateway]\n", "[gateway]\nhandshake_timeout = \"5s\"\n");
    let gateway = Gateway::start(&config);
    let mut attack = Attack::begin("S24", &gateway);
    let threads = gateway.threads();
    let mut clients: Vec<Raw> = (0..500).map(|_| gateway.raw("plain")).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(request("/", &[&bearer(&number.to_string())]).as_bytes());
    }
    server.wait_for_requests(4);
    attack.check_echo("500 clients that a dead service is asked about");
    // Those that are asked about, those that wait, and those that are on their way out; long before the deadline of all.
    eventually("few are held", Duration::from_secs(3), || gateway.threads() <= threads + 4 + 16 + 4);
    attack.check_echo("most of them were refused");
    let statuses: Vec<String> = clients.iter_mut().map(|client| client.head()[9..12].to_owned()).collect();
    assert!(statuses.iter().all(|status| status == "503"), "{statuses:?}");
    // One that was given up may not have gone there when the next one comes.
    assert!(server.most_at_once() <= 4 + 4, "{} at once", server.most_at_once());
    drop(clients);
    attack.gives_back_within(DEADLINE);
    attack.end("500 clients of a service that never answers");
}

#[test]
fn who_leaves_while_the_service_is_asked_makes_room_for_the_next() {
    let server = HttpServer::up(|request| match request.body.contains("patient") {
        true => Reply::of(200, r#"{"identity":"ada"}"#),
        false => Reply::Silence,
    });
    let gateway = start(&config(&server, "max_requests = 1\nanswer_timeout = \"9s\"", ""));
    let mut leaves = gateway.raw("plain");
    leaves.send(request("/", &[&bearer("leaves")]).as_bytes());
    server.wait_for_requests(1);
    let mut patient = gateway.raw("plain");
    patient.send(request("/", &[&bearer("patient")]).as_bytes());
    drop(leaves);
    let since = Instant::now();
    assert!(patient.head().starts_with("HTTP/1.1 101 "));
    assert!(since.elapsed() < Duration::from_secs(5), "it waited for somebody who had left");
    assert!(!gateway.log().iter().any(|line| line.contains("it lets nobody in")), "nothing is wrong with the service");
}

#[test]
fn a_stop_does_not_wait_for_a_service() {
    let server = HttpServer::up(|_| Reply::Silence);
    let mut gateway = start(&config(&server, "max_requests = 2\nanswer_timeout = \"9s\"", ""));
    let mut clients: Vec<Raw> = (0..4).map(|_| gateway.raw("plain")).collect();
    clients.iter_mut().for_each(|client| client.send(request("/", &[&bearer("x")]).as_bytes()));
    server.wait_for_requests(2);
    let since = Instant::now();
    assert_eq!(gateway.terminate().code(), Some(0));
    assert!(since.elapsed() < Duration::from_secs(3), "it took {:?}", since.elapsed());
}

#[test]
fn the_service_of_the_manual_works() {
    let manual = fs::read_to_string("docs/authentication.md").unwrap();
    let (_, service) = manual.split_once("```python\n").expect("an example of a service");
    let (service, _) = service.split_once("```").unwrap();
    let last = "ThreadingHTTPServer((\"127.0.0.1\", 9000), Service).serve_forever()";
    assert!(service.contains(last), "{service}");
    let any_port = "server = ThreadingHTTPServer((\"127.0.0.1\", 0), Service)\nprint(server.server_port, flush=True)\n\
                    server.serve_forever()";
    let mut child = Command::new("python3")
        .args(["-c", &service.replace(last, any_port)])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("python3 is not installed");
    let mut port = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
    let url = format!("http://127.0.0.1:{}/", port.trim());
    let told = thread::spawn(move || {
        let gateway = start(&format!(
            "{LISTENERS}[[auth]]\nname = \"accounts\"\nkind = \"http\"\nurl = {url:?}\n\
             [[endpoint]]\npath = \"/\"\nto = [\"reply\"]\nauth = [\"accounts\"]\n"
        ));
        let mut client = gateway.raw("plain");
        client.upgrade("/", &[&bearer("the-token-of-ada")]);
        client.send_text("hello");
        assert_eq!(client.text(), "hello");
        gateway.wait_for_log(" as 'ada'");
        assert_eq!(status(gateway.raw("tls"), "/", &bearer("another")), "401");
    })
    .join();
    child.kill().unwrap();
    child.wait().unwrap();
    told.unwrap_or_else(|cause| std::panic::resume_unwind(cause));
}
