//! Health checks of load balancers on a listener of clients: who is answered, and what.

use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;

use super::proxies::{haproxy, works};
use crate::harness::{DEADLINE, Gateway, LISTENERS, Raw, Remote, eventually, measured, process, request};

/// The listener of this name in [`LISTENERS`] and the other with health checks, and with these lines.
fn listeners(more: &str) -> String {
    LISTENERS.replace("[[listen]]\n", &format!("[[listen]]\nhealth = \"/healthz\"\n{more}"))
}

/// An endpoint that lets nobody in, by whatever could keep somebody out.
const CLOSED: &str = r#"
[[auth]]
name = "devices"
kind = "tokens"
file = "tokens.txt"
[[endpoint]]
path = "/{room}"
auth = ["devices"]
origins = []
allow_addresses = []
"#;

const READY: &str = "ready\n";

/// The status and the body of the answer to this request.
fn answer(mut client: Raw, request: &str) -> (String, String) {
    client.send(request.as_bytes());
    let (head, body) = client.answer();
    (head[9..12].to_owned(), body)
}

fn check(client: Raw) -> (String, String) {
    answer(client, "GET /healthz HTTP/1.0\r\n\r\n")
}

fn ready() -> (String, String) {
    ("200".to_owned(), READY.to_owned())
}

fn not_ready(why: &str) -> (String, String) {
    ("503".to_owned(), format!("not ready: {why}\n"))
}

/// A gateway in whose directory there are tokens.
fn closed(level: &str, max_connections: usize) -> Gateway {
    let config =
        format!("[gateway]\nmax_connections = {max_connections}\n{}{CLOSED}max_connections = 4\n", listeners(""));
    Gateway::start_with(&config, |command| {
        fs::write(command.get_current_dir().unwrap().join("tokens.txt"), format!("press:{}\n", "0".repeat(64)))
            .unwrap();
        command.env("RUST_LOG", level);
    })
}

#[test]
fn a_check_asks_for_nothing_that_clients_are_asked_for_and_is_not_logged() {
    let gateway = closed("info", 100);
    let page = request("/healthz", &["Origin: https://evil.example", "Authorization: Bearer nonsense"]);
    for (head, expected) in [
        ("GET /healthz HTTP/1.0\r\n\r\n", ready()),
        ("GET /healthz HTTP/1.1\r\nHost: 10.0.0.1\r\nConnection: close\r\n\r\n", ready()),
        ("GET /healthz?a=b HTTP/1.1\r\n\r\n", ready()),
        ("OPTIONS /healthz HTTP/1.0\r\n\r\n", ready()),
        ("HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n", ("200".to_owned(), String::new())),
        (&page, ready()),
    ] {
        for listener in ["plain", "tls"] {
            assert_eq!(answer(gateway.raw(listener), head), expected, "{listener}: {head}");
        }
    }
    let lines = gateway.log().into_iter().filter(|line| line.contains(" client ")).collect::<Vec<_>>();
    assert!(lines.is_empty(), "{lines:?}");
    // The others are refused as ever, and logged.
    let other = answer(gateway.raw("plain"), "GET /healthz/ HTTP/1.0\r\n\r\n");
    assert_eq!(other.0, "505");
    let post = answer(gateway.raw("plain"), "POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(post, ("405".to_owned(), "a health check uses GET, HEAD or OPTIONS\n".to_owned()));
    assert_eq!(answer(gateway.raw("plain"), &request("/healthy", &[])).0, "403");
    gateway.wait_for_log(": refused with 403");
    assert_eq!(gateway.log().iter().filter(|line| line.contains(": refused with")).count(), 2);
}

#[test]
fn a_check_is_in_the_log_at_debug() {
    let gateway = closed("debug", 100);
    assert_eq!(check(gateway.raw("plain")), ready());
    gateway.wait_for_log(": a health check was answered: ready");
}

#[test]
fn a_gateway_without_a_free_connection_says_so_to_checks_too() {
    let gateway = closed("info", 4);
    let held: Vec<_> = (0..4).map(|_| gateway.raw("plain")).collect();
    eventually("a check is refused", DEADLINE, || check(gateway.raw("plain")).0 == "503");
    drop(held);
    eventually("a check is answered again", DEADLINE, || check(gateway.raw("plain")) == ready());
}

#[test]
fn b47_curl_and_its_http_1_0_are_answered() {
    let config = "[[listen]]\nname = \"unix\"\naddress = \"unix:ws.sock\"\nhealth = \"/health/é\"\n";
    let unix = Gateway::start(config);
    let tcp = Gateway::start(&listeners(""));
    for options in [&["--http1.0"][..], &["--http1.1"], &["--http1.0", "--head"], &["--http1.1", "-X", "OPTIONS"]] {
        let socket = unix.file("ws.sock").display().to_string();
        let to_tcp = format!("http://127.0.0.1:{}/healthz", tcp.port("plain"));
        for target in [&[&*to_tcp][..], &["--unix-socket", &socket, "http://any.example/health/%C3%A9"]] {
            let mut command = Command::new("curl");
            let command = command.args(["--silent", "--show-error", "--max-time", "10", "--write-out", "%{http_code}"]);
            let output = process::run(command.args(options).args(target), DEADLINE);
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success() && said.ends_with("200"), "{options:?} {target:?}: {said} {output:?}");
            assert_eq!(said.contains(READY), !options.contains(&"--head"), "{options:?} {target:?}: {said}");
        }
    }
    measured("B47", "curl --http1.0 and --http1.1, GET, HEAD and OPTIONS, over TCP and a Unix socket: 200");
}

#[test]
fn a_gateway_is_not_ready_while_a_required_link_is_down_and_lets_clients_in() {
    let (mut needed, unneeded) = (Remote::away(), Remote::away());
    let link = |name: &str, remote: &Remote, more: &str| {
        format!(
            "[[link]]\nname = \"{name}\"\nurl = \"{}\"\nbackoff = {{ first = \"10ms\", most = \"50ms\" }}\n{more}\n",
            remote.url()
        )
    };
    let links = link("plc", &needed, "required = true") + &link("spare", &unneeded, "");
    let gateway = Gateway::start(&format!("{}{links}", listeners("")));
    let is = |expected: &(String, String)| check(gateway.raw("plain")) == *expected;
    // Strangers are not told what it is called.
    assert_eq!(check(gateway.raw("plain")), not_ready("a required link is down"));
    gateway.raw("plain").upgrade("/", &[]);
    needed.come();
    let linked = needed.accept();
    eventually("it is ready", DEADLINE, || is(&ready()));
    needed.go();
    linked.hang_up();
    eventually("it is not ready any more", DEADLINE, || is(&not_ready("a required link is down")));
}

#[test]
fn b45_haproxy_sends_clients_to_a_gateway_that_is_ready_alone() {
    let mut remote = Remote::away();
    let link = format!(
        "[[link]]\nname = \"plc\"\nurl = \"{}\"\nrequired = true\nbackoff = {{ first = \"10ms\", most = \"50ms\" }}\n",
        remote.url()
    );
    let config = format!(
        "[log]\nlevel = \"debug\"\n[[listen]]\nname = \"main\"\naddress = \"127.0.0.1:0\"\nhosts = [\"gate.example\"]\nhealth = \"/healthz\"\n{link}"
    );
    let gateway = Gateway::start(&config);
    let Some(proxy) = haproxy(&gateway, &[(" check", " check inter 10ms")]) else { return };
    let status = |mut client: Raw| {
        client.send(request("/", &[]).replace("Host: localhost", "Host: gate.example").as_bytes());
        client.head()[9..12].to_owned()
    };
    // HAProxy answers by itself once it has no server.
    eventually("HAProxy takes it for down", DEADLINE, || status(proxy.raw()) == "503");
    gateway.wait_for_logs(": a health check was answered: not ready: link plc is down", 3);
    remote.come();
    let _linked = remote.accept();
    eventually("HAProxy takes it for up", DEADLINE, || status(proxy.raw()) == "101");
    gateway.wait_for_logs(": a health check was answered: ready", 10);
    works(proxy.raw(), "gate.example");
    measured("B45", "option httpchk: down while a required link is down, up with it, and up after 10 checks");
}

#[test]
fn a_listener_answers_no_check_of_an_address_that_may_not_connect() {
    let (denied, proxy) = (Ipv4Addr::new(127, 0, 0, 3), Ipv4Addr::new(127, 0, 0, 2));
    let rules = "allow_addresses = [\"10.0.0.0/8\"]\n";
    let trusted = |by: &str| format!("{rules}client_address = \"{by}\"\ntrusted_proxies = [\"127.0.0.2\"]\n");
    for (lines, ahead) in [
        (trusted("x-forwarded-for"), ""),
        (trusted("forwarded"), ""),
        // The proxy's own connection, as a check of HAProxy's is.
        (trusted("proxy_protocol"), "PROXY UNKNOWN\r\n"),
    ] {
        let gateway = Gateway::start(&listeners(&lines));
        let connect = |from| Raw::plain_from(from, gateway.port("plain"));
        let mut stranger = connect(denied);
        let _ = stranger.try_send(b"GET /healthz HTTP/1.0\r\n\r\n");
        assert!(stranger.is_gone_within(DEADLINE), "{lines}");
        assert_eq!(answer(connect(proxy), &format!("{ahead}GET /healthz HTTP/1.0\r\n\r\n")), ready(), "{lines}");
        // Only this is open to the proxy itself.
        let mut client = connect(proxy);
        client.send(format!("{ahead}{}", request("/", &[])).as_bytes());
        let is_shut = if ahead.is_empty() { client.head().contains(" 403 ") } else { client.is_gone_within(DEADLINE) };
        assert!(is_shut, "{lines}");
    }
    let behind = Gateway::start(&listeners(&trusted("proxy_protocol")));
    let mut named = Raw::plain_from(proxy, behind.port("plain"));
    named.send(b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 80\r\nGET /healthz HTTP/1.0\r\n\r\n");
    assert!(named.is_gone_within(DEADLINE), "the client whom the proxy names may not connect");
}
