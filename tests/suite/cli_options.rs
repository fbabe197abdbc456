//! What `send`, `listen`, `serve` and `check` can be told on the command line, and what they tell: the real binary.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;

use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket};

use crate::harness::command::{
    DEADLINE, Running, echo, expect_normal_close, next, read_request, report, run, serve, serve_answer, serve_close,
    serve_echo, serve_messages, serve_websocket, start, start_with,
};
use crate::harness::{Gateway, process};

/// The first line of standard error, while the command goes on; the rest is dropped.
fn first_told(running: &mut Running) -> String {
    let mut stderr = BufReader::new(running.stderr.take().unwrap());
    let (sender, told) = channel();
    thread::spawn(move || {
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        let _ = sender.send(line);
        let _ = stderr.read_to_end(&mut Vec::new());
    });
    told.recv_timeout(DEADLINE).expect("a line within the deadline")
}

#[test]
fn b37_send_and_listen_follow_the_proxy_of_the_environment() {
    let (sender, seen) = channel();
    // A proxy that is the server as well.
    let proxy = serve(move |mut stream| {
        let _ = sender.send(read_request(&mut stream));
        stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").unwrap();
        if let Ok(socket) = tungstenite::accept(stream) {
            echo(socket);
        }
    });
    let proxy = proxy.replace("ws://", "http://");
    let environment = [("http_proxy", proxy.as_str()), ("no_proxy", "other.invalid")];
    let url = "ws://plc.invalid:8080/x";
    let connect = "CONNECT plc.invalid:8080 HTTP/1.1\r\n";
    let finished = start_with(&["send", url, "hello"], &environment).finish();
    finished.expect(0, &[]);
    assert_eq!(finished.stdout(), "hello\n");
    assert!(seen.recv_timeout(DEADLINE).unwrap().starts_with(connect));
    let listening = start_with(&["listen", "--send", "hello", "-n", "1", "--raw", url], &environment).finish();
    listening.expect(0, &[]);
    assert_eq!(listening.stdout(), "hello\n");
    seen.recv_timeout(DEADLINE).unwrap();
    // Named here, it needs no environment; an exempt host and "off" go straight, to a name that does not exist.
    run(&["send", "--proxy", proxy.trim_end_matches('/'), url, "x"]).expect(0, &[]);
    seen.recv_timeout(DEADLINE).unwrap();
    start_with(&["send", "ws://other.invalid/", "x"], &environment).finish().expect(68, &["other.invalid"]);
    start_with(&["send", "--proxy", "off", url, "x"], &environment).finish().expect(68, &["plc.invalid"]);
    run(&["send", "--proxy", "socks5://p:1", url, "x"]).expect(64, &["--proxy", "http://HOST:PORT"]);
    assert!(seen.try_recv().is_err());
}

/// A server with a welcome, which then answers each message with these.
fn serve_welcome(answers: &'static [&'static str]) -> String {
    serve_websocket(move |mut socket| {
        socket.send(Message::text("{\"type\":\"welcome\"}")).unwrap();
        while let Ok(message) = socket.read() {
            if message.is_text() {
                answers.iter().for_each(|answer| socket.send(Message::text(*answer)).unwrap());
            }
        }
    })
}

#[test]
fn b38_send_can_leave_out_a_welcome_and_print_several_answers() {
    let url = serve_welcome(&["{\"n\":1.10}", "two", "three"]);
    let first = run(&["send", &url, "x"]);
    assert_eq!(first.stdout(), "{\"type\":\"welcome\"}\n");
    let finished = run(&["send", "--skip", "1", &url, "x"]);
    finished.expect(0, &[]);
    assert_eq!((finished.stdout(), finished.stderr.as_str()), ("{\"n\":1.10}\n", ""));
    let finished = run(&["send", "--skip", "1", "--count", "2", "--json", &url, "x"]);
    finished.expect(0, &[]);
    let lines = [r#"{"message":{"n":1.10},"data":"{\"n\":1.10}"}"#, r#"{"message":"two","data":"two"}"#];
    assert_eq!(finished.stdout().lines().collect::<Vec<_>>(), lines);
    let finished = run(&["send", "--skip", "3", "-n", "5", "--wait", "100ms", &url, "x"]);
    finished.expect(0, &["sent 1 byte (text) to ", "; 1 of 5 answers within 100ms"]);
    assert_eq!(finished.stdout(), "three\n");
    run(&["send", "--skip", "9", "--wait", "100ms", &url, "x"]).expect(0, &["; no answer within 100ms"]);
    run(&["send", "--count", "0", &url, "x"]).expect(64, &["--count"]);
}

#[test]
fn b38_the_welcome_of_an_endpoint_is_left_out() {
    let gateway = Gateway::start(
        "[[listen]]\nname = \"plain\"\naddress = \"127.0.0.1:0\"\n[[endpoint]]\npath = \"/\"\nto = [\"reply\"]\nwelcome = \"hi\"\n",
    );
    let url = format!("ws://127.0.0.1:{}/", gateway.port("plain"));
    assert_eq!(run(&["send", "--skip", "1", &url, "x"]).stdout(), "x\n");
}

#[test]
fn b39_listen_sends_what_the_server_wants_first_on_each_connection() {
    let (sender, seen) = channel();
    let url = serve_websocket(move |mut socket| {
        for _ in 0..2 {
            sender.send(socket.read().unwrap()).unwrap();
        }
        let _ = socket.close(None);
        while socket.read().is_ok() {}
    });
    let running = start(&["listen", "--reconnect", "--send", "{\"op\":1}", "--send", "two", &url]);
    for _ in 0..2 {
        assert_eq!(next(&seen), Message::text("{\"op\":1}"));
        assert_eq!(next(&seen), Message::text("two"));
    }
    running.interrupt();
    running
        .finish()
        .expect(0, &["connected to 'ws://127.0.0.1", "closed by the server, no code; connecting again in "]);
}

#[test]
fn b39_lines_of_standard_input_are_messages_and_their_end_changes_nothing() {
    let (sender, seen) = channel();
    let url = serve_websocket(move |mut socket| {
        while let Ok(message) = socket.read() {
            let is_last = message == Message::text("last");
            let _ = sender.send(message);
            if is_last {
                socket.send(Message::text("still there?")).unwrap();
            }
        }
    });
    let mut running = start(&["listen", "--stdin", "--raw", &url]);
    running.type_in(b"one\r\nt");
    assert_eq!(next(&seen), Message::text("one"));
    running.type_in(b"wo\n\n\xff\nlast");
    assert_eq!(next(&seen), Message::text("two"));
    assert_eq!(next(&seen), Message::text(""));
    drop(running.stdin.take());
    assert_eq!(next(&seen), Message::text("last"));
    assert_eq!(running.line(), "still there?\n");
    running.interrupt();
    let words = ["line 4 of standard input is not sent: it is not UTF-8 at byte 0", "has ended: closed, code 1000"];
    running.finish().expect(0, &words);
    expect_normal_close(&seen);
}

#[test]
fn b39_without_the_option_standard_input_is_not_read() {
    let (url, seen) = serve_messages(vec![Message::text("hello")]);
    let mut running = start(&["listen", "--raw", &url]);
    running.type_in(b"not a message\n");
    assert_eq!(running.line(), "hello\n");
    running.interrupt();
    running.finish().expect(0, &[]);
    expect_normal_close(&seen);
}

#[test]
fn b39_more_lines_than_the_server_takes_at_once_come_back_whole_and_in_order() {
    let url = serve_echo();
    let mut running = start(&["listen", "--stdin", "--raw", "--count", "20000", &url]);
    let mut stdin = running.stdin.take().unwrap();
    // It answers while it is being sent to: whoever sends first and reads later waits for ever.
    thread::spawn(move || {
        for number in 0..20_000 {
            if stdin.write_all(format!("{number} {}\n", "x".repeat(1000)).as_bytes()).is_err() {
                return;
            }
        }
    });
    let finished = running.finish();
    finished.expect(0, &[]);
    let numbers = finished.stdout().lines().map(|line| line.split_once(' ').unwrap().0.parse::<u32>().unwrap());
    assert!(numbers.eq(0..20_000), "{} bytes", finished.stdout.len());
}

#[test]
fn b39_a_server_that_never_pauses_does_not_keep_a_line_from_being_sent() {
    let (sender, seen) = channel();
    let flood = b"\x81\x01m".repeat(1 << 14);
    let url = serve(move |stream| {
        let mut socket = tungstenite::accept(stream).unwrap();
        let mut reading = WebSocket::from_raw_socket(
            socket.get_ref().try_clone().unwrap(),
            tungstenite::protocol::Role::Server,
            None,
        );
        let sender = sender.clone();
        thread::spawn(move || report(&mut reading, &sender));
        while socket.get_mut().write_all(&flood).is_ok() {}
    });
    let mut running = start(&["listen", "--stdin", "--raw", &url]);
    assert_eq!(running.line(), "m\n");
    let mut rest = running.stdout.take().unwrap();
    thread::spawn(move || std::io::copy(&mut rest, &mut std::io::sink()));
    running.type_in(b"enough\n");
    assert_eq!(next(&seen), Message::text("enough"));
    running.interrupt();
    running.finish().expect(0, &[]);
}

#[test]
fn b39_events_are_lines_of_json_as_in_the_client_of_n8n() {
    let url = serve_websocket(|mut socket| {
        socket.send(Message::text("[1]")).unwrap();
        let _ = socket.close(Some(CloseFrame { code: CloseCode::Policy, reason: "no".into() }));
        while socket.read().is_ok() {}
    });
    let finished = run(&["listen", "--events", &url]);
    finished.expect(77, &[]);
    let lines = [
        r#"{"event":"open"}"#,
        r#"{"event":"message","message":[1],"data":"[1]"}"#,
        r#"{"event":"close","code":1008,"reason":"no"}"#,
    ];
    assert_eq!(finished.stdout().lines().collect::<Vec<_>>(), lines);
    let finished = run(&["listen", "--events", &serve_websocket(drop)]);
    finished.expect(74, &[]);
    let lines: Vec<_> = finished.stdout().lines().collect();
    assert!(lines[1].starts_with(r#"{"event":"error","cause":"failed to keep"#), "{lines:?}");
    assert_eq!(lines[2], r#"{"event":"close","code":1006,"reason":""}"#);
    let finished = run(&["listen", "--events", &serve_answer("HTTP/1.1 401 No\r\n\r\n")]);
    finished.expect(77, &[]);
    assert!(finished.stdout().starts_with(r#"{"event":"error","cause":"failed to open"#), "{finished:?}");
    run(&["listen", &serve_close(1001, "bye")]).expect(0, &["has ended: closed by the server, code 1001 \"bye\""]);
}

#[test]
fn b40_a_header_can_come_from_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let (sender, seen) = channel();
    let url = serve(move |mut stream| {
        let _ = sender.send(read_request(&mut stream));
    });
    let token = format!("Authorization: {}", file("token", b"Bearer hunter2\r\n"));
    let finished = run(&["listen", "--header-file", &token, &url]);
    assert!(seen.recv_timeout(DEADLINE).unwrap().contains("\r\nauthorization: Bearer hunter2\r\n"));
    assert!(!finished.stderr.contains("hunter2"), "{finished:?}");
    let lines = format!("Authorization: {}", file("lines", b"one\ntwo\n"));
    run(&["send", "--header-file", &lines, &url, "x"]).expect(66, &["authorization", "not one line"]);
    run(&["send", "--header-file", "A: /no/such", &url, "x"]).expect(66, &["'/no/such'", "no such file"]);
    run(&["send", "--header-file", "Upgrade: /no/such", &url, "x"]).expect(64, &["handshake sets it itself"]);
    run(&["send", "--header-file", "A", &url, "x"]).expect(64, &["'Name: FILE'"]);
}

#[test]
fn b40_a_unix_socket_is_dialled_and_the_url_says_what_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ws.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let (sender, seen) = channel();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut head = [0; 1024];
        let count = stream.read(&mut head).unwrap();
        sender.send(String::from_utf8_lossy(&head[..count]).into_owned()).unwrap();
    });
    let socket = path.to_str().unwrap();
    run(&["send", "--unix-socket", socket, "ws://plc.invalid/x?y", "x"]).expect(69, &["plc.invalid"]);
    let request = seen.recv_timeout(DEADLINE).unwrap().to_lowercase();
    assert!(request.starts_with("get /x?y http/1.1\r\n") && request.contains("\r\nhost: plc.invalid\r\n"), "{request}");
    run(&["send", "--unix-socket", "/no/such", "ws://h/", "x"]).expect(69, &["no such file"]);

    let config = format!("[[listen]]\naddress = \"unix:{socket}2\"\n[[endpoint]]\npath = \"/\"\nto = [\"reply\"]\n");
    let _gateway = Gateway::start(&config);
    assert_eq!(run(&["send", "--unix-socket", &format!("{socket}2"), "ws://localhost/", "hello"]).stdout(), "hello\n");
}

#[test]
fn b40_a_server_that_wants_a_certificate_gets_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let client = rcgen::generate_simple_self_signed(["operator".to_owned()]).unwrap();
    fs::write(path("client.pem"), client.cert.pem()).unwrap();
    fs::write(path("client.key"), client.signing_key.serialize_pem()).unwrap();
    let server = rcgen::generate_simple_self_signed(["plc.example".to_owned()]).unwrap();
    fs::write(path("server.pem"), server.cert.pem()).unwrap();

    let mut acceptor = openssl::ssl::SslAcceptor::mozilla_intermediate_v5(openssl::ssl::SslMethod::tls()).unwrap();
    let own = openssl::x509::X509::from_pem(server.cert.pem().as_bytes()).unwrap();
    let key = openssl::pkey::PKey::private_key_from_pem(server.signing_key.serialize_pem().as_bytes()).unwrap();
    acceptor.set_certificate(&own).unwrap();
    acceptor.set_private_key(&key).unwrap();
    let known = openssl::x509::X509::from_pem(client.cert.pem().as_bytes()).unwrap().to_der().unwrap();
    let must_show = openssl::ssl::SslVerifyMode::PEER | openssl::ssl::SslVerifyMode::FAIL_IF_NO_PEER_CERT;
    acceptor.set_verify_callback(must_show, move |_, chain| {
        chain.current_cert().is_some_and(|shown| shown.to_der().unwrap() == known)
    });
    let acceptor = acceptor.build();
    let url = serve(move |stream| {
        if let Ok(stream) = acceptor.accept(stream)
            && let Ok(socket) = tungstenite::accept(stream)
        {
            echo(socket);
        }
    });
    let url = url.replace("ws:", "wss:");
    let (ca, certificate, key) = (path("server.pem"), path("client.pem"), path("client.key"));
    let common = ["send", "--ca", &ca, "--server-name", "plc.example", &url, "x"];
    let with = [&common[..], &["--certificate", &certificate, "--private-key", &key]].concat();
    let finished = run(&with);
    finished.expect(0, &[]);
    assert_eq!(finished.stdout(), "x\n");
    assert_ne!(run(&common).code, Some(0), "a connection without the certificate");
    run(&["send", "--certificate", &certificate, &url, "x"]).expect(64, &["--private-key"]);
    let wrong = ["send", "--certificate", &certificate, "--private-key", &certificate, &url, "x"];
    run(&wrong).expect(66, &["client.pem"]);
    let plain = ["send", "--certificate", &certificate, "--private-key", &key, "ws://h/", "x"];
    run(&plain).expect(64, &["'--certificate'", "has no TLS"]);
    run(&["send", "--server-name", "https://plc", &url, "x"]).expect(64, &["--server-name"]);
}

#[test]
fn b41_serve_and_check_take_the_file_without_the_option() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("x.toml");
    fs::write(&file, "[[listen]]\naddress = \"192.0.2.1:1\"\n").unwrap();
    let file = file.to_str().unwrap();
    let plain = run(&["check", file]);
    plain.expect(0, &[]);
    assert_eq!(plain.stdout(), run(&["check", "--config", file]).stdout());
    assert!(plain.stdout().contains("192.0.2.1:1"));
    // It has read the file: the address is none of this machine.
    run(&["serve", file]).expect(69, &["192.0.2.1:1"]);
    run(&["serve", file, "--config", file]).expect(64, &["cannot be used with"]);
    run(&["check", "/no/such.toml"]).expect(78, &["/no/such.toml"]);
}

#[test]
fn b42_a_signal_to_stop_sends_a_close() {
    for signal in [Signal::TERM, Signal::INT] {
        let (url, seen) = serve_messages(vec![Message::text("hello")]);
        let mut running = start(&["listen", "--raw", &url]);
        assert_eq!(running.line(), "hello\n");
        running.signal(signal);
        running.finish().expect(0, &["has ended: closed, code 1000"]);
        expect_normal_close(&seen);
    }
    // A server that never answers holds it for a moment only.
    let url = serve_websocket(|mut socket| {
        socket.send(Message::text("hello")).unwrap();
        while matches!(socket.get_mut().read(&mut [0; 64]), Ok(1..)) {}
    });
    let mut running = start(&["listen", "--raw", &url]);
    assert_eq!(running.line(), "hello\n");
    running.signal(Signal::TERM);
    running.finish().expect(0, &["the server did not answer the Close"]);
}

#[test]
fn b42_a_terminal_gets_no_control_character_and_a_pipe_gets_all() {
    let text = "a\u{9b}2J\u{1b}]0;x\u{7}\u{202e}b";
    for (arguments, shown) in [
        (
            &["send", "--json"][..],
            r#"{"message":"a\u009b2J\u001b]0;x\u0007\u202eb","data":"a\u009b2J\u001b]0;x\u0007\u202eb"}"#,
        ),
        (&["send"], r"a\u{9b}2J\u{1b}]0;x\u{7}\u{202e}b"),
        (
            &["listen", "-n1"],
            r#"{"message":"a\u009b2J\u001b]0;x\u0007\u202eb","data":"a\u009b2J\u001b]0;x\u0007\u202eb"}"#,
        ),
        (&["listen", "-n1", "--raw"], r"a\u{9b}2J\u{1b}]0;x\u{7}\u{202e}b"),
    ] {
        let (url, _seen) = serve_messages(vec![Message::text(text)]);
        let data = if arguments[0] == "send" { &["x"][..] } else { &[] };
        let arguments = [arguments, &[url.as_str()], data].concat();
        assert_eq!(at_terminal(&arguments), format!("{shown}\r\n"), "{arguments:?}");
        let piped = run(&arguments);
        let is_raw = !shown.starts_with('{');
        assert!(if is_raw { piped.stdout() == format!("{text}\n") } else { piped.stdout().contains('\u{9b}') });
    }
    // What a server or the user says in an error.
    run(&["send", "ws://h/", "x", "-H", "a\u{9b}b"]).expect(64, &["'a\\u{9b}b'"]);
    let finished = run(&["listen", &serve_close(1000, "a\u{85}")]);
    finished.expect(0, &["\"a\\u{85}\""]);
}

/// What a command prints whose standard output is a terminal.
pub(crate) fn at_terminal(arguments: &[&str]) -> String {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
    let window = File::options().read(true).write(true).open(name).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_wsgate"));
    command.args(arguments).stdin(Stdio::null()).stdout(window).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    // The command keeps the descriptors that it gives to the child.
    drop(command);
    let status = process::wait(&mut child, DEADLINE);
    if status.is_none() {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert_eq!(status.and_then(|status| status.code()), Some(0), "{arguments:?}");
    // What a terminal holds is read up to the error that says that nobody has it open any more.
    let mut shown = Vec::new();
    let _ = File::from(terminal).read_to_end(&mut shown);
    String::from_utf8(shown).unwrap()
}

#[test]
fn b43_a_server_that_asks_to_be_tried_again_is_75() {
    let later = "HTTP/1.1 503 Full\r\nRetry-After: 30\r\nContent-Length: 0\r\n\r\n";
    for command in ["send", "listen"] {
        run(&[command, &serve_answer(later)]).expect(75, &["503 Full", "(Retry-After: 30)"]);
    }
    run(&["send", &serve_answer("HTTP/1.1 429 Slow Down\r\n\r\n"), "x"]).expect(75, &["429"]);
    run(&["send", &serve_answer("HTTP/1.1 503 Down\r\n\r\n"), "x"]).expect(69, &["503 Down"]);
    let gateway = Gateway::start(
        "[gateway]\nmax_connections = 1\n[[listen]]\nname = \"plain\"\naddress = \"127.0.0.1:0\"\n[[endpoint]]\npath = \"/\"\nto = []\n",
    );
    let url = format!("ws://127.0.0.1:{}/", gateway.port("plain"));
    let mut first = start(&["listen", &url]);
    assert!(first_told(&mut first).starts_with("connected to "));
    run(&["send", &url, "x"]).expect(75, &["503"]);
}

#[test]
fn b44_a_wrong_url_says_what_to_write_also_in_a_configuration() {
    for (url, words) in [
        ("ws://gate:8080:8080", "more than one port (did you mean 'ws://gate:8080'?)"),
        ("ws:gate", "did you mean 'ws://gate'?"),
        ("ws://[fe80::1%eth0]/", "zone, '%eth0'"),
        ("ws://g\u{e4}te.example/", "begin with 'xn--'"),
        (" ws://gate/ ", "blanks around it (write 'ws://gate/')"),
    ] {
        run(&["send", url, "x"]).expect(64, &[words]);
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("x.toml");
        fs::write(&file, format!("[[link]]\nname = \"l\"\nurl = \"{url}\"\nto = []\n")).unwrap();
        run(&["check", file.to_str().unwrap()]).expect(78, &[words]);
    }
}
