//! Requests that do not become a WebSocket: each gets a correct HTTP answer at once, never
//! silence, and no other client notices.

use std::time::{Duration, Instant};

use crate::harness::{Attack, Frame, Gateway, LISTENERS, Raw, Wire, masked, measured, request};

/// [`LISTENERS`] are added to it.
const CONFIG: &str = r#"
[gateway]
handshake_timeout = "1s"

[[endpoint]]
path = "/canary"
to = ["reply"]

[[endpoint]]
path = "/rooms/{room}"
to = ["reply"]
subprotocols = ["chat.v2", "chat.v1"]

[[endpoint]]
path = "/listed"
origins = ["https://dash.example"]

[[endpoint]]
path = "/any"
origins = "any"
"#;

fn start() -> Gateway {
    Gateway::start(&format!("{CONFIG}{LISTENERS}"))
}

/// The deadline of a handshake, and how much later its answer may come on a busy machine.
const HANDSHAKE: Duration = Duration::from_secs(1);
const LATE: Duration = Duration::from_secs(2);

fn status(head: &str) -> u16 {
    head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no status in {head:?}"))
}

/// Checks that an answer is whole: a body of the length it says, and the end announced.
fn check_whole((head, body): &(String, String)) {
    assert!(head.contains(&format!("\r\nContent-Length: {}", body.len())), "{head}\n{body}");
    assert!(head.contains("close"), "{head}");
}

/// The name of a bad request, its bytes, the status it gets, and what the head of the answer holds.
type Case<'a> = (&'a str, Vec<u8>, u16, &'a str);

/// Sends each of these over plain and TLS, and expects a whole answer at once.
fn each_is_answered(attack: &mut Attack<'_>, gateway: &Gateway, cases: &[Case<'_>]) {
    for (name, bytes, expected, holds) in cases {
        for listener in ["plain", "tls"] {
            let mut client = gateway.raw(listener);
            let since = Instant::now();
            client.send(bytes);
            let answer = client.answer();
            assert_eq!(status(&answer.0), *expected, "{name} over {listener}: {answer:?}");
            assert!(answer.0.contains(holds), "{name} over {listener}: {answer:?}");
            assert!(since.elapsed() < HANDSHAKE, "{name} over {listener} was answered at the deadline");
            check_whole(&answer);
            attack.check_echo(name);
        }
    }
}

/// A request that is good but for one header line more.
fn with_line(line: &str) -> Vec<u8> {
    request("/canary", &[line]).into_bytes()
}

/// A request that is good but for one replacement.
fn spoilt(from: &str, to: &str) -> Vec<u8> {
    let good = request("/canary", &[]);
    assert!(good.contains(from), "{from:?} is not in {good:?}");
    good.replacen(from, to, 1).into_bytes()
}

/// The beginning of a ClientHello. No line ends in it, so the gateway must not wait for one.
fn hello() -> Vec<u8> {
    [&[22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 200]].concat()
}

const KEY_LINE: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

#[test]
fn h5_each_of_13_bad_requests_is_answered_with_its_status_at_once() {
    let cases: [Case<'_>; 13] = [
        ("a wrong method", spoilt("GET", "POST"), 405, "\r\nAllow: GET"),
        ("an old version", spoilt("Version: 13", "Version: 8"), 426, "\r\nSec-WebSocket-Version: 13"),
        ("no version", spoilt("Sec-WebSocket-Version: 13\r\n", ""), 426, "\r\nSec-WebSocket-Version: 13"),
        ("a short key", spoilt("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="), 400, ""),
        ("no key", spoilt(KEY_LINE, ""), 400, ""),
        ("two keys", with_line(KEY_LINE.trim_end()), 400, ""),
        ("no upgrade", spoilt("Upgrade: websocket\r\n", ""), 426, "\r\nUpgrade: websocket"),
        ("no connection header", spoilt("Connection: Upgrade\r\n", ""), 400, ""),
        ("no host", spoilt("Host: localhost\r\n", ""), 400, ""),
        ("a zero byte", with_line("X: a\0b"), 400, ""),
        ("a bare carriage return", with_line("X: a\rY: b"), 400, ""),
        ("a folded line", spoilt("Host: localhost", "Host: local\r\n host"), 400, ""),
        ("TLS bytes", hello(), 400, ""),
    ];
    let gateway = start();
    let mut attack = Attack::begin("H5", &gateway);
    each_is_answered(&mut attack, &gateway, &cases);
    attack.end(format!("{} of {} answered with 4xx, over plain and TLS", cases.len(), cases.len()));
}

#[test]
fn h5_other_bad_requests_are_answered_with_their_status_at_once() {
    let cases: [Case<'_>; 13] = [
        ("HTTP/1.0", spoilt("HTTP/1.1", "HTTP/1.0"), 505, ""),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), 505, ""),
        ("a plain GET elsewhere", b"GET /nowhere HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(), 404, ""),
        ("an upgrade elsewhere", spoilt("/canary", "/nowhere"), 404, ""),
        ("two hosts", with_line("Host: elsewhere"), 400, ""),
        ("two hosts and a whole target", spoilt("/canary HTTP/1.1", "http://h/canary HTTP/1.1\r\nHost: h"), 400, ""),
        ("two origins", with_line("Origin: http://a\r\nOrigin: http://b"), 400, ""),
        ("a body", with_line("Content-Length: 5"), 400, ""),
        ("a chunked body", with_line("Transfer-Encoding: chunked"), 400, ""),
        ("an asterisk as target", spoilt("/canary", "*"), 400, ""),
        ("an authority as target", spoilt("/canary", "localhost:80"), 400, ""),
        ("a folded line that could be a header", spoilt("Host: localhost", "Host: a\r\n\tOrigin: b"), 400, ""),
        ("garbage", b"\x01\x02\r\n\r\n".to_vec(), 400, ""),
    ];
    let gateway = start();
    let mut attack = Attack::begin("H5", &gateway);
    each_is_answered(&mut attack, &gateway, &cases);
    attack.end(format!("{} more answered", cases.len()));
}

/// What a head that is too large may cost at most, its canary included.
const CHEAP: Duration = Duration::from_millis(200);

#[test]
fn h3_a_header_of_1_mib_gets_431_and_costs_no_processor_time() {
    let gateway = start();
    for (name, byte) in [("letters", "y"), ("spaces", " ")] {
        for listener in ["plain", "tls"] {
            let mut attack = Attack::begin("H3", &gateway);
            let mut client = gateway.raw(listener);
            client.send(&with_line(&format!("Sec-WebSocket-Protocol: {}", byte.repeat(1 << 20))));
            let answer = client.answer();
            assert_eq!(status(&answer.0), 431, "{answer:?}");
            check_whole(&answer);
            drop(client);
            attack.gives_back_within(LATE);
            let spent = attack.spent();
            assert!(spent < CHEAP, "{spent:?} of processor time for {name} over {listener}");
            attack.check_echo(name);
            attack.end(format!("1 MiB of {name} over {listener}: 431"));
        }
    }
}

#[test]
fn h3_a_head_of_one_byte_a_packet_is_not_parsed_anew_for_each() {
    let gateway = start();
    let mut attack = Attack::begin("H3", &gateway);
    let mut client = gateway.raw("plain");
    for byte in with_line(&format!("X: {}", "y".repeat(4 << 10))) {
        client.send(&[byte]);
    }
    assert_eq!(status(&client.head()), 101);
    let spent = attack.spent();
    assert!(spent < CHEAP, "{spent:?} of processor time");
    attack.check_echo("a head in packets of a byte");
    attack.end("a head of 4 KiB in packets of a byte: 101");
}

#[test]
fn h4_2000_headers_get_431() {
    // 12 KB are within the limit of bytes, 28 KB are not.
    let cases =
        [("short", with_line(&["X: y"; 2000].join("\r\n"))), ("long", with_line(&["X-Long: yyyy"; 2000].join("\r\n")))];
    let cases = cases.map(|(name, bytes)| (name, bytes, 431, ""));
    let gateway = start();
    let mut attack = Attack::begin("H4", &gateway);
    each_is_answered(&mut attack, &gateway, &cases);
    let spent = attack.spent();
    assert!(spent < CHEAP, "{spent:?} of processor time");
    attack.end("2,000 headers, short and long, over plain and TLS: 431");
}

#[test]
fn h6_no_path_leads_out_of_the_endpoints() {
    let gateway = start();
    let mut attack = Attack::begin("H6", &gateway);
    let long = format!("/rooms/{}", "x".repeat(8 << 10));
    let paths = [
        "/../canary",
        "/rooms/..",
        "/rooms/%2e%2e",
        "/rooms/.",
        "/rooms/a%2fb",
        "/rooms/%2F",
        "/rooms/a/../../canary",
        "/../../../../etc/passwd",
        "/..%2f..%2f..%2fetc%2fpasswd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/..\\..\\etc\\passwd",
        "/rooms/",
        "/rooms/%00",
        "/rooms/%0d%0aX:y",
        "/rooms/%",
        "/rooms/%zz",
        "/rooms/%ff",
        "//canary",
        "/canary/",
        "/canary%00",
        "/wsgate.toml",
        "/etc/passwd",
        "/proc/self/environ",
        "file:///etc/passwd",
        "http://localhost/etc/passwd",
        "http://localhost/../etc/passwd",
        "http://localhost",
        "http:///canary",
        "http://user@localhost/canary",
        "ftp://localhost/canary",
        "localhost/canary",
        &long,
    ];
    for path in paths {
        let mut client = gateway.raw("plain");
        let since = Instant::now();
        client.send(request(path, &[]).as_bytes());
        let answer = client.answer();
        assert!([400, 404].contains(&status(&answer.0)), "{path}: {answer:?}");
        assert!(since.elapsed() < HANDSHAKE, "{path} was answered at the deadline");
        check_whole(&answer);
        let is_ours = ["there is no endpoint at '", "the request target ", "not a valid HTTP request"];
        assert!(is_ours.iter().any(|begin| answer.1.starts_with(begin)) && answer.1.len() < 300, "{path}: {answer:?}");
        attack.check_echo(path);
    }
    let mut client = gateway.raw("plain");
    client.upgrade("/rooms/a%20b?token=%2e%2e/", &[]);
    attack.end(format!("{} paths: 400 or 404, at once", paths.len()));
}

#[test]
fn h6_a_whole_uri_is_routed_by_its_path_and_its_host_is_the_one_that_counts() {
    let gateway = start();
    let mut attack = Attack::begin("H6", &gateway);
    for listener in ["plain", "tls"] {
        for target in ["http://localhost/canary", "HTTP://elsewhere:81/canary?x=/../y", "https://[::1]/canary"] {
            let mut client = gateway.raw(listener);
            client.upgrade(target, &[]);
            client.send_text("routed");
            assert_eq!(client.text(), "routed", "{target}");
        }
    }
    for (target, origin, expected) in [
        ("http://127.9.9.9/canary", "http://127.9.9.9", 101),
        // That is the Host header, which the target outdoes.
        ("http://there/canary", "http://localhost", 403),
        ("http://there:81/canary", "http://there", 403),
    ] {
        let mut client = gateway.raw("plain");
        client.send(request(target, &[&format!("Origin: {origin}")]).as_bytes());
        assert_eq!(status(&client.head()), expected, "{origin} on {target}");
        attack.check_echo(target);
    }
    attack.end("a whole URI as target: routed by its path, its host checked against the origin");
}

/// The clients of a slow or silent handshake, half of them each over plain and TLS.
const SLOW: usize = 50;

#[test]
fn h1_a_slowloris_gets_408_at_the_deadline() {
    let gateway = start();
    let mut attack = Attack::begin("H1", &gateway);
    let bytes = request("/canary", &[]).into_bytes();
    // All TLS handshakes first, each has the deadline to itself.
    let mut clients: Vec<_> = (0..SLOW)
        .map(|number| (gateway.raw(if number % 2 == 0 { "tls" } else { "plain" }), Instant::now(), None))
        .collect();
    // Each byte comes well within the deadline, so only a total one ends this.
    for byte in &bytes {
        for (client, since, answered) in clients.iter_mut().filter(|(.., answered)| answered.is_none()) {
            let _ = client.try_send(&[*byte]);
            if client.has_input_within(Duration::from_millis(1)) {
                *answered = Some(since.elapsed());
            }
        }
        attack.check_echo("a byte of each");
        if clients.iter().all(|(.., answered)| answered.is_some()) {
            break;
        }
    }
    let mut latest = Duration::ZERO;
    for (client, _, answered) in &mut clients {
        let took = answered.expect("a client was not cut");
        assert!(took < HANDSHAKE + LATE, "answered after {took:?}");
        latest = latest.max(took);
        let answer = client.answer();
        assert_eq!(status(&answer.0), 408, "{answer:?}");
        check_whole(&answer);
    }
    drop(clients);
    attack.gives_back_within(HANDSHAKE + LATE);
    attack.end(format!("{SLOW} of {SLOW} got 408, the last after {latest:.1?} of {HANDSHAKE:?}"));
}

#[test]
fn h1_half_a_request_gets_408_at_the_deadline() {
    let gateway = start();
    let mut attack = Attack::begin("H1", &gateway);
    for listener in ["plain", "tls"] {
        let since = Instant::now();
        let mut client = gateway.raw(listener);
        client.send(&request("/canary", &[]).as_bytes()[..50]);
        let answer = client.answer();
        let took = since.elapsed();
        assert_eq!(status(&answer.0), 408, "{answer:?}");
        check_whole(&answer);
        assert!((HANDSHAKE * 8 / 10..HANDSHAKE + LATE).contains(&took), "answered after {took:?}");
        attack.check_echo("half a request");
    }
    attack.end("half a request over plain and TLS: 408 at the deadline");
}

#[test]
fn h2_silent_connections_are_ended_at_the_deadline() {
    let gateway = start();
    let mut attack = Attack::begin("H2", &gateway);
    // Bytes, not a TLS session: on the TLS port the handshake itself is what never comes.
    let silent = (0..SLOW)
        .map(|number| (Raw::plain(gateway.port(if number % 2 == 0 { "plain" } else { "tls" })), Instant::now()))
        .collect();
    attack.check_echo("silent connections");
    let (_, latest) = attack.cuts_within(HANDSHAKE + LATE, silent);
    attack.gives_back_within(HANDSHAKE + LATE);
    attack.end(format!("{SLOW} of {SLOW} cut, the last after {latest:.1?} of {HANDSHAKE:?}"));
}

#[test]
fn h9_resets_right_after_the_connect_do_not_end_the_accept_loop() {
    let gateway = start();
    let mut attack = Attack::begin("H9", &gateway);
    for round in 0..300 {
        Raw::plain(gateway.port(if round % 3 == 0 { "tls" } else { "plain" })).reset();
        if round % 10 == 0 {
            attack.check_echo("resets");
        }
    }
    attack.gives_back_within(HANDSHAKE + LATE);
    attack.end("300 resets");
}

#[test]
fn h10_frames_in_the_same_packet_as_the_request_are_answered() {
    let gateway = start();
    for wire in Wire::BOTH {
        let mut client = gateway.raw(if wire == Wire::Tls { "tls" } else { "plain" });
        let frames = [masked(0x89, b"x"), masked(0x81, b"eager")].concat();
        client.send(&[request("/canary", &[]).as_bytes(), &frames].concat());
        assert_eq!(status(&client.head()), 101);
        assert_eq!(client.frame(), Frame { first: 0x8a, payload: b"x".to_vec() });
        assert_eq!(client.frame(), Frame::text("eager"));
    }
    measured("H10", "101, pong and echo, over plain and TLS");
}

#[test]
fn h7_a_page_of_a_foreign_origin_gets_403_and_the_log_names_it() {
    let gateway = start();
    let mut refused = 0;
    for (path, origin, expected) in [
        ("/canary", "http://localhost", 101),
        ("/canary", "http://evil.example", 403),
        ("/canary", "http://localhost.evil.example", 403),
        ("/canary", "null", 403),
        ("/listed", "https://dash.example", 101),
        ("/listed", "https://dash.example.evil", 403),
        ("/listed", "http://localhost", 403),
        ("/any", "http://evil.example", 101),
        ("/any", "null", 101),
    ] {
        if expected == 403 {
            refused += 1;
        }
        let mut client = gateway.raw("plain");
        client.send(request(path, &[&format!("Origin: {origin}")]).as_bytes());
        assert_eq!(status(&client.head()), expected, "{origin} on {path}");
    }
    gateway.wait_for_log("refused with 403: Origin 'http://evil.example' may not connect to Host 'localhost'");
    measured("H7", format!("403 for {refused} of {refused} foreign origins, `null` and look-alikes too"));
}

#[test]
fn h8_only_a_listed_subprotocol_is_agreed() {
    let offers = [
        ("chat.v1", Some("chat.v1")),
        ("chat.v1, chat.v2", Some("chat.v2")),
        ("a, b\tc", None),
        ("a, x\tb", None),
        ("chat.v1x, CHAT.V2, chat", None),
        ("chat.v1\tx", None),
        ("\"chat.v1\"", None),
        (", ,,", None),
        ("chat.v1;q=1, chat.v2\u{e9}", None),
    ];
    let gateway = start();
    for (offered, agreed) in offers {
        let mut client = gateway.raw("plain");
        let head = client.upgrade("/rooms/1", &[&format!("Sec-WebSocket-Protocol: {offered}")]);
        let echoed: Vec<_> = head.lines().filter_map(|line| line.strip_prefix("Sec-WebSocket-Protocol: ")).collect();
        assert_eq!(echoed, agreed.into_iter().collect::<Vec<_>>(), "{offered}");
        assert_eq!(head.to_ascii_lowercase().matches("sec-websocket-protocol").count(), echoed.len(), "{head}");
    }
    measured("H8", format!("{} of {} offers: no unlisted token in the answer", offers.len(), offers.len()));
}

/// Everything that begins a line, moves a terminal or ends a string, in bytes that a log might be fed.
const FORGED: &str = "FAKE\u{1b}[2J\u{9b}1m\u{2028}\u{202e}";

#[test]
fn s1_whatever_a_client_sends_is_one_printable_line_of_the_log() {
    let gateway = start();
    let mut attack = Attack::begin("S1", &gateway);
    let long = "8".repeat(8 << 10);
    // What is sent, and what of it stands in the line that tells of it.
    let refused = [
        (request("/FAKE%0aFAKE%0d%1b[2J%00", &[]), "/FAKE%0aFAKE"),
        (request(&format!("/{FORGED}"), &[]), "refused with 40"),
        (request("/\u{1b}[2J", &[]), "refused with 400"),
        (request(&format!("/FAKE{long}"), &[]), "/FAKE888"),
        (request("/canary", &[&format!("Origin: http://{}", FORGED.replace('\u{1b}', "\t"))]), "refused with 403"),
        (request("/canary", &[&format!("Origin: http://FAKE{long}")]), "http://FAKE888"),
        (request("/canary", &["Origin: http://a\u{1b}[2J"]), "refused with 400"),
        (request("/canary", &["Origin: http://a\0b"]), "refused with 400"),
        (request("/canary", &["Origin: http://a\nFAKE: b"]), "refused with 403"),
    ];
    for (bytes, shown) in &refused {
        let mut client = gateway.raw("plain");
        client.send(bytes.as_bytes());
        client.answer();
        let mine = gateway.wait_for_log(&format!(":{})", client.own_port()));
        assert!(mine.contains(shown), "{mine}");
        attack.check_echo(shown);
    }
    let reasons = ["a\nFAKE LINE\u{1b}[2J", "\r\n2026-01-01T00:00:00.000Z INFO  FAKE", "a\0b\u{202e}", &long[..123]];
    for reason in reasons {
        let mut client = gateway.raw("plain");
        client.upgrade("/canary", &[]);
        let id = gateway.id_of(&client);
        client.send(&masked(0x88, &Frame::close(1000, reason).payload));
        assert_eq!(client.frame().first, 0x88);
        let line = gateway.wait_for_log(&format!("client {id}: disconnected"));
        assert!(line.contains("code 1000") && line.contains(" dropped"), "{line}");
    }
    // One line for each refusal, two for each client and for the attack's own, nothing else.
    let expected = refused.len() + 2 * reasons.len() + 1;
    gateway.wait_for_logs(" client ", expected);
    let log = gateway.log();
    let told: Vec<_> = log.iter().filter(|line| line.contains(" client ")).collect();
    assert_eq!(told.len(), expected, "{told:#?}");
    for line in &log {
        assert!(line.len() < 1200 && line.starts_with("20"), "{line:?}");
        assert!(!line.contains(['\u{2028}', '\u{202e}']) && line.chars().all(|c| !c.is_control()), "{line:?}");
    }
    attack.end(format!(
        "{} of {} forgeries: one printable line each",
        refused.len() + reasons.len(),
        refused.len() + reasons.len()
    ));
}

#[test]
fn s3_nothing_that_a_client_sends_becomes_a_header() {
    let gateway = start();
    let forged = [
        request("/rooms/1", &["Sec-WebSocket-Protocol: chat.v1\rX-Forged: 1"]),
        request("/rooms/1", &["Sec-WebSocket-Protocol: chat.v9, X-Forged: 1"]),
        request("/rooms/1", &["Sec-WebSocket-Protocol: chat.v9%0d%0aX-Forged: 1"]),
        request("/rooms/1", &["Sec-WebSocket-Extensions: a\r\n X-Forged: 1"]),
        request("/rooms/%0d%0aX-Forged:%201", &[]),
        request("/nowhere%0d%0aX-Forged:%201", &[]),
        request("/nowhere\rX-Forged:1", &[]),
        request("/canary", &["Origin: http://a\rX-Forged: 1"]),
        request("/canary", &["Origin: http://a\u{85}X-Forged: 1"]),
    ];
    for bytes in &forged {
        let mut client = gateway.raw("plain");
        client.send(bytes.as_bytes());
        let head = client.head();
        assert!(
            !head.to_ascii_lowercase().contains("forged") && !head.contains(['\0', '\u{1b}']),
            "{bytes:?}: {head:?}"
        );
        let names: Vec<_> = head.lines().skip(1).map(|line| line.split(':').next().unwrap()).collect();
        let ours = ["Connection", "Date", "Upgrade", "Sec-WebSocket-Accept", "Content-Type", "Content-Length"];
        assert!(names.iter().all(|name| ours.contains(name)), "{bytes:?}: {head:?}");
    }
    measured("S3", format!("{} of {} injections: not in the head of the answer", forged.len(), forged.len()));
}

#[test]
fn s3_a_configured_value_that_would_become_a_header_is_refused_at_the_start() {
    for value in ["chat\\r\\nX-Forged: 1", "chat\\nX", "chat\\u0000", "a b", "a,b", ""] {
        let config = format!("[[endpoint]]\npath = \"/\"\nsubprotocols = [\"{value}\"]\n");
        let mut gateway = Gateway::launch(&config, |_| {});
        assert_eq!(gateway.wait().code(), Some(78), "{value}");
        assert!(gateway.whole_log().join("\n").contains("is no subprotocol"), "{value}: {:?}", gateway.whole_log());
    }
    measured("S3", "6 of 6 configured values refused at the start");
}

#[test]
fn a_head_that_arrives_in_two_halves_within_the_deadline_is_accepted() {
    let gateway = start();
    for listener in ["plain", "tls"] {
        let mut client = gateway.raw(listener);
        let bytes = [request("/canary", &[]).as_bytes(), &masked(0x81, b"eager")].concat();
        let (first, rest) = bytes.split_at(60);
        client.send(first);
        assert!(!client.has_input_within(HANDSHAKE / 10), "half a request is no request");
        client.send(rest);
        assert_eq!(status(&client.head()), 101);
        assert_eq!(client.frame(), Frame::text("eager"));
    }
}
