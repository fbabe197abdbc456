//! TLS from outside: a client that speaks it badly, slowly, in an old version or not at all is refused or
//! disconnected in time, and no other client notices.

use std::io::{self, Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use openssl::ssl::{
    HandshakeError, ShutdownResult, ShutdownState, SslConnector, SslMethod, SslStream, SslVerifyMode, SslVersion,
};

use crate::harness::{Attack, DEADLINE, Gateway, LISTENERS, Raw, Wire, eventually, masked, measured, process, request};

/// [`LISTENERS`] are added to it.
const CONFIG: &str = r#"
[gateway]
handshake_timeout = "1s"

[[endpoint]]
path = "/canary"
to = ["reply"]
"#;

/// The deadline of a handshake, and how much later the end may come on a busy machine.
const HANDSHAKE: Duration = Duration::from_secs(1);
const LATE: Duration = Duration::from_secs(2);

fn start() -> Gateway {
    Gateway::start(&format!("{CONFIG}{LISTENERS}"))
}

/// A client of the TLS port that knows only bytes.
fn bytes_to_tls(gateway: &Gateway) -> Raw {
    Raw::plain(gateway.port("tls"))
}

/// The other end of nothing: keeps what a session wants to say.
#[derive(Debug, Default)]
struct Recorder(Vec<u8>);

impl Read for Recorder {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl Write for Recorder {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The ClientHello of a good client.
fn hello() -> Vec<u8> {
    let connector = SslConnector::builder(SslMethod::tls_client()).unwrap().build();
    match connector.connect("localhost", Recorder::default()) {
        Err(HandshakeError::WouldBlock(half)) => half.get_ref().0.clone(),
        other => panic!("a handshake with nobody: {other:?}"),
    }
}

/// Connects with this version of TLS and no other, as low as the library's own security lets it.
fn connect_with(gateway: &Gateway, version: SslVersion) -> Result<SslStream<std::net::TcpStream>, String> {
    let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
    builder.set_verify(SslVerifyMode::NONE);
    builder.set_security_level(0);
    builder.set_cipher_list("ALL:@SECLEVEL=0").unwrap();
    builder.set_min_proto_version(Some(version)).unwrap();
    builder.set_max_proto_version(Some(version)).unwrap();
    let socket = std::net::TcpStream::connect(("127.0.0.1", gateway.port("tls"))).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    builder.build().connect("localhost", socket).map_err(|error| error.to_string())
}

#[test]
fn s7_a_stalled_hello_is_cut_at_the_deadline() {
    let gateway = start();
    let hello = hello();
    let mut attack = Attack::begin("S7", &gateway);
    // Nothing, one byte, half a record, and all of it but its last byte.
    let lengths = [0, 1, hello.len() / 2, hello.len() - 1];
    let stalled = (0..40)
        .map(|number| {
            let since = Instant::now();
            let mut client = bytes_to_tls(&gateway);
            client.send(&hello[..lengths[number % lengths.len()]]);
            (client, since)
        })
        .collect();
    attack.check_echo("stalled hellos");
    let (first, latest) = attack.cuts_within(HANDSHAKE + LATE, stalled);
    assert!(first >= HANDSHAKE * 8 / 10, "cut after {first:?}");
    attack.gives_back_within(HANDSHAKE + LATE);
    attack.end(format!("40 of 40 stalled hellos cut, the last after {latest:.1?} of {HANDSHAKE:?}"));
}

#[test]
fn s7_a_dripped_hello_is_cut_at_the_deadline() {
    let gateway = start();
    let mut attack = Attack::begin("S7", &gateway);
    let since = Instant::now();
    let mut client = bytes_to_tls(&gateway);
    // Each byte comes well within the deadline, so only a total one ends this.
    let hello = hello();
    let sent = hello.iter().take_while(|byte| {
        attack.check_echo("a byte of a hello");
        client.try_send(&[**byte]).is_ok() && !client.has_input_within(HANDSHAKE / 20)
    });
    let sent = sent.count();
    let took = since.elapsed();
    assert!(sent < hello.len() && took < HANDSHAKE + LATE, "{sent} bytes of a hello in {took:?}");
    assert!(client.is_gone_within(HANDSHAKE + LATE));
    attack.gives_back_within(HANDSHAKE + LATE);
    attack.end(format!("a dripped hello cut after {took:.1?} of {HANDSHAKE:?} and {sent} bytes"));
}

#[test]
fn s7_half_handshakes_are_cut_at_the_deadline_and_leave_nothing_behind() {
    let gateway = start();
    let hello = hello();
    let mut attack = Attack::begin("S7", &gateway);
    let mut half: Vec<_> = (0..50)
        .map(|_| {
            let since = Instant::now();
            let mut client = bytes_to_tls(&gateway);
            client.send(&hello);
            assert!(client.has_input_within(DEADLINE), "no ServerHello");
            (client, since)
        })
        .collect();
    attack.check_echo("half handshakes");
    // Half of them are reset, half of them are silent from now on.
    half.drain(25..).for_each(|(client, _)| client.reset());
    let (_, latest) = attack.cuts_within(HANDSHAKE + LATE, half);
    attack.gives_back_within(HANDSHAKE + LATE);
    attack.end(format!("25 of 25 silent half handshakes cut, the last after {latest:.1?} of {HANDSHAKE:?}; 25 reset"));
}

#[test]
fn s7_the_memory_of_half_handshakes_goes_back_to_the_system() {
    let gateway = start();
    let hello = hello();
    let mut attack = Attack::begin("S7", &gateway);
    let mut half: Vec<_> = (0..300).map(|_| bytes_to_tls(&gateway)).collect();
    for client in &mut half {
        client.send(&hello);
    }
    for client in &mut half {
        assert!(client.has_input_within(DEADLINE), "no ServerHello");
    }
    let most = attack.grown_kib();
    half.into_iter().for_each(Raw::reset);
    attack.check_echo("half handshakes");
    // What a crowd has left goes back five seconds after the last time that one had gone, at the latest.
    // A third of it is there to stay: the code of the TLS library, and stacks that are kept for the next threads.
    eventually("the memory is back", 2 * DEADLINE, || attack.grown_kib() < most * 6 / 10);
    let left = attack.grown_kib();
    attack.end(format!("300 half handshakes: +{most} KiB while they lasted, +{left} KiB soon after"));
}

#[test]
fn s7_a_session_without_a_request_gets_408_at_the_deadline() {
    let gateway = start();
    let attack = Attack::begin("S7", &gateway);
    let since = Instant::now();
    let mut client = gateway.raw("tls");
    let (head, _) = client.answer();
    drop(client);
    let took = since.elapsed();
    assert!(head.starts_with("HTTP/1.1 408 "), "{head}");
    assert!((HANDSHAKE * 8 / 10..HANDSHAKE + LATE).contains(&took), "answered after {took:?}");
    attack.gives_back_within(LATE);
    attack.end(format!("a session without a request: 408 after {took:.1?} of {HANDSHAKE:?}"));
}

#[test]
fn s7_plain_http_on_a_tls_port_and_tls_on_a_plain_port_are_told_so() {
    let gateway = start();
    let attack = Attack::begin("S7", &gateway);

    let since = Instant::now();
    let mut plain_on_tls = bytes_to_tls(&gateway);
    plain_on_tls.send(request("/canary", &[]).as_bytes());
    let (head, body) = plain_on_tls.answer();
    assert!(head.starts_with("HTTP/1.1 400 ") && body.contains("wss://"), "{head}\n{body}");

    let mut tls_on_plain = gateway.raw("plain");
    tls_on_plain.send(&hello());
    let (head, body) = tls_on_plain.answer();
    assert!(head.starts_with("HTTP/1.1 400 ") && body.contains("ws://"), "{head}\n{body}");
    assert!(since.elapsed() < HANDSHAKE, "answered only at the deadline");

    let mut garbage_on_tls = bytes_to_tls(&gateway);
    garbage_on_tls.send(&[0xff; 100]);
    assert!(garbage_on_tls.is_gone_within(HANDSHAKE + LATE));
    attack.gives_back_within(HANDSHAKE + LATE);
    attack.end("plain on the TLS port and TLS on the plain port: 400; garbage: cut");
}

#[test]
fn s7_old_versions_of_tls_are_refused_with_an_alert() {
    let gateway = start();
    let mut attack = Attack::begin("S7", &gateway);
    for (name, version) in [("1.0", SslVersion::TLS1), ("1.1", SslVersion::TLS1_1)] {
        let error = connect_with(&gateway, version).err().unwrap_or_else(|| panic!("TLS {name} was accepted"));
        // The alert proves that a hello was sent: without one it would be the library's own refusal.
        assert!(error.contains("alert protocol version"), "TLS {name}: {error}");
        attack.check_echo(name);
    }
    for (name, version) in [("1.2", SslVersion::TLS1_2), ("1.3", SslVersion::TLS1_3)] {
        let mut stream = connect_with(&gateway, version).unwrap_or_else(|error| panic!("TLS {name}: {error}"));
        stream.write_all(request("/canary", &[]).as_bytes()).unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 101");
    }
    attack.gives_back_within(LATE);
    attack.end("1.0 and 1.1 refused with an alert, 1.2 and 1.3 accepted");
}

/// Ends its direction of the session and expects the rest of the answer, and the other direction's end.
fn say_goodbye(mut stream: SslStream<std::net::TcpStream>, rest: &[u8]) {
    assert_eq!(stream.shutdown().unwrap(), ShutdownResult::Sent);
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.ends_with(rest), "{answer:?}");
    assert!(stream.get_shutdown().contains(ShutdownState::RECEIVED), "the socket ended without a close_notify");
}

#[test]
fn a_close_notify_without_a_close_is_answered_with_ours_behind_the_replies() {
    let gateway = start();
    let last = masked(0x81, b"last");
    let echo = b"\x81\x04last";
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let mut later = connect_with(&gateway, version).unwrap();
        later.write_all(request("/canary", &[]).as_bytes()).unwrap();
        let mut head = [0; 12];
        later.read_exact(&mut head).unwrap();
        assert_eq!(&head, b"HTTP/1.1 101");
        later.write_all(&last).unwrap();
        say_goodbye(later, echo);

        // All that it has to say, at once.
        let mut at_once = connect_with(&gateway, version).unwrap();
        at_once.write_all(&[request("/canary", &[]).as_bytes(), &last].concat()).unwrap();
        say_goodbye(at_once, echo);
    }
    for line in gateway.wait_for_logs("disconnected", 4) {
        assert!(line.contains("code 1006, reason 'the peer ended the TLS session without a Close'"), "{line}");
    }
}

#[test]
fn s7_a_renegotiation_is_refused() {
    if Command::new("openssl").arg("version").stdout(Stdio::null()).status().is_err() {
        return measured("S7", "renegotiation skipped: there is no openssl command");
    }
    let gateway = start();
    let mut attack = Attack::begin("S7", &gateway);
    // The client's console: a line with an R asks for a renegotiation.
    let script = format!(
        "printf 'R\\n' | openssl s_client -connect 127.0.0.1:{} -tls1_2 -CAfile ca.pem -servername localhost",
        gateway.port("tls")
    );
    let since = Instant::now();
    let mut client = Command::new("sh");
    client.args(["-c", &script]).current_dir(gateway.file(""));
    let output = process::run(&mut client, DEADLINE);
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(said.contains("RENEGOTIATING"), "{said}");
    assert!(said.contains("no renegotiation") || said.contains("no_renegotiation"), "{said}");
    let took = since.elapsed();
    attack.check_echo("a renegotiation");
    attack.gives_back_within(HANDSHAKE + LATE);
    attack.end(format!("a renegotiation refused after {took:.1?}"));
}

/// What the handshake leaves in its thread is given back with the thread; OpenSSL's session alone has 20 KiB.
#[test]
fn an_idle_client_over_tls_takes_at_most_40_kib() {
    const CLIENTS: usize = 400;
    // Without optimization a thread has more on its stack.
    const MOST: usize = if cfg!(debug_assertions) { 48 } else { 40 };
    let config = format!("[[endpoint]]\npath = \"/\"\nmax_connections = {}\n{LISTENERS}", CLIENTS + 1);
    let gateway = Gateway::start(&config);
    let mut first = gateway.client(Wire::Tls, "/");
    let before = gateway.memory_kib();
    let clients: Vec<_> = (0..CLIENTS).map(|_| gateway.client(Wire::Tls, "/")).collect();
    let each = gateway.memory_kib().saturating_sub(before) / CLIENTS;
    measured("idle", format!("{each} KiB for each of {CLIENTS} clients over TLS"));
    assert!(each <= MOST, "{each} KiB");
    first.send_text("all here");
    for mut client in clients {
        assert_eq!(client.text(), "all here");
    }
}
