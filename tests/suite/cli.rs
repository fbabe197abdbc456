//! `wsgate send` and `wsgate listen` as a user has them: the real binary against small servers that behave as told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv6Addr, TcpListener};
use std::sync::mpsc::channel;
use std::time::Duration;

use tungstenite::handshake::server::{Request, Response};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tungstenite::{Message, accept_hdr};

use crate::harness::command::{
    DEADLINE, closed_port, echo, expect_normal_close, next, read_request, report, run, run_with_input, serve,
    serve_answer, serve_close, serve_echo, serve_messages, serve_on, serve_tls, serve_websocket, start,
};
use crate::harness::pass;

// send

#[test]
fn send_prints_the_answer_and_closes_in_good_order() {
    let (sender, seen) = channel();
    let url = serve_websocket(move |mut socket| {
        let message = socket.read().unwrap();
        sender.send(message).unwrap();
        socket.send(Message::text("pong é")).unwrap();
        report(&mut socket, &sender);
    });
    let finished = run(&["send", &url, "hello"]);
    finished.expect(0, &[]);
    assert_eq!(finished.stdout(), "pong é\n");
    assert_eq!(finished.stderr, "");
    assert_eq!(next(&seen), Message::text("hello"));
    expect_normal_close(&seen);
}

#[test]
fn send_without_an_answer_says_what_was_sent() {
    let (url, seen) = serve_messages(vec![]);
    let finished = run(&["send", "--wait", "50ms", &url, "hello"]);
    finished.expect(0, &[]);
    assert_eq!(finished.stderr, format!("sent 5 bytes (text) to {url}; no answer within 50ms\n"));
    assert_eq!(finished.stdout(), "");
    assert_eq!(next(&seen), Message::text("hello"));
    expect_normal_close(&seen);
}

#[test]
fn send_with_no_wait_delivers_and_does_not_wait() {
    let (url, seen) = serve_messages(vec![]);
    let finished = run(&["send", "--wait", "0", "--binary", &url, "x"]);
    finished.expect(0, &[]);
    assert_eq!(finished.stderr, format!("sent 1 byte (binary) to {url}\n"));
    assert_eq!(next(&seen), Message::binary(&b"x"[..]));
    expect_normal_close(&seen);
}

#[test]
fn send_stops_waiting_although_the_server_never_pauses() {
    let url = serve_websocket(|mut socket| while socket.send(Message::Ping(vec![0; 100].into())).is_ok() {});
    let finished = run(&["send", "--wait", "100ms", &url, "x"]);
    finished.expect(0, &["no answer within 100ms"]);
    assert!(finished.took < Duration::from_secs(8), "{finished:?}");
}

#[test]
fn send_reads_standard_input_for_a_dash_or_nothing() {
    let url = serve_echo();
    for (input, output) in [("a\nb\n", "a\nb\n"), ("a\r\n", "a\n"), ("a", "a\n"), ("a\n\n", "a\n\n"), ("", "\n")] {
        for arguments in [&["send", &url][..], &["send", &url, "-"]] {
            let finished = run_with_input(arguments, input.as_bytes());
            finished.expect(0, &[]);
            assert_eq!(finished.stdout(), output, "{input:?}");
        }
    }
}

#[test]
fn send_binary_passes_every_byte() {
    let url = serve_echo();
    let bytes = b"\xff\x00\r\n\n";
    let finished = run_with_input(&["send", "--binary", &url], bytes);
    finished.expect(0, &[]);
    assert_eq!(finished.stdout, bytes);
}

#[test]
fn send_of_text_that_is_not_utf8_suggests_binary() {
    let finished = run_with_input(&["send", "ws://127.0.0.1:9/"], b"ab\xff");
    finished.expect(65, &["not UTF-8 at byte 2", "--binary"]);
}

#[test]
fn send_takes_a_message_of_many_megabytes_both_ways() {
    let url = serve(|stream| {
        let config = WebSocketConfig::default().max_frame_size(None);
        echo(tungstenite::accept_with_config(stream, Some(config)).unwrap());
    });
    let bytes = vec![b'm'; 20 << 20];
    let finished = run_with_input(&["send", "--binary", "--wait", "15s", &url], &bytes);
    finished.expect(0, &[]);
    assert!(finished.stdout == bytes, "{} bytes came back", finished.stdout.len());
}

#[test]
fn send_tells_why_the_server_closed_with_an_error() {
    let url = serve_websocket(|mut socket| {
        let _ = socket.read();
        let reason = "no\u{1b}[31m\nright".into();
        socket.close(Some(CloseFrame { code: CloseCode::Policy, reason })).unwrap();
        while socket.read().is_ok() {}
    });
    let finished = run(&["send", "--wait", "5s", &url, "x"]);
    finished.expect(77, &["closed by the server, code 1008 \"no\\u{1b}[31m\\nright\""]);
    assert!(!finished.stderr.contains('\u{1b}'));
    // Without a wait it stands in the Close that crosses ours.
    run(&["send", "--wait", "0", &serve_close(1013, "full"), "x"]).expect(75, &["code 1013 \"full\""]);
}

#[test]
fn send_takes_a_normal_close_without_an_answer_for_success() {
    let finished = run(&["send", &serve_close(1000, "bye"), "x"]);
    finished.expect(0, &["closed by the server without an answer (code 1000 \"bye\")"]);
}

#[test]
fn headers_and_subprotocols_reach_the_server() {
    let (sender, seen) = channel();
    let url = serve(move |mut stream| {
        let _ = sender.send(read_request(&mut stream));
    });
    let url = url + "path/x?y=z%20";
    let header = ["-H", "X-A: 1", "--header", "X-A:2", "-H", "Host: other", "-H", "Authorization: Bearer t:k"];
    run(&[&["send", &url, "x", "--subprotocol", "one", "-p", "two"][..], &header].concat());
    let request = seen.recv_timeout(DEADLINE).unwrap();
    assert!(request.starts_with("GET /path/x?y=z%20 HTTP/1.1\r\n"), "{request}");
    let lower = request.to_lowercase();
    for line in ["x-a: 1", "x-a: 2", "host: other", "authorization: bearer t:k", "sec-websocket-protocol: one, two"] {
        assert_eq!(lower.matches(&format!("\r\n{line}\r\n")).count(), 1, "{line} in {request}");
    }
}

#[test]
fn a_user_in_the_url_is_sent_as_basic_and_never_shown() {
    let (sender, seen) = channel();
    let url = serve(move |mut stream| {
        let _ = sender.send(read_request(&mut stream));
    });
    let url = url.replace("ws://", "ws://me:s%3Acret@");
    let finished = run(&["send", &url, "x"]);
    let request = seen.recv_timeout(DEADLINE).unwrap();
    // "me:s:cret" in Base64.
    assert!(request.to_lowercase().contains("\r\nauthorization: basic bwu6czpjcmv0\r\n"), "{request}");
    assert!(finished.stderr.contains("ws://***@127.0.0.1"), "{}", finished.stderr);
    assert!(!finished.stderr.contains("cret"), "{}", finished.stderr);
}

#[test]
fn the_subprotocol_that_the_server_chose_is_told() {
    let url = serve(|stream| {
        #[expect(clippy::result_large_err, reason = "the type is tungstenite's")]
        let choose = |_: &Request, mut response: Response| {
            response.headers_mut().insert("Sec-WebSocket-Protocol", "two".parse().unwrap());
            Ok(response)
        };
        if let Ok(socket) = accept_hdr(stream, choose) {
            echo(socket);
        }
    });
    run(&["send", &url, "x", "-p", "one", "-p", "two"]).expect(0, &["the server chose the subprotocol 'two'"]);
    run(&["send", &url, "x", "-p", "one"]).expect(76, &["'two'", "not offered"]);
    run(&["send", &url, "x"]).expect(76, &["'two'", "not offered"]);
    run(&["send", &serve_echo(), "x", "-p", "one"]).expect(76, &["agreed to none", "one"]);
}

#[test]
fn a_host_name_with_several_addresses_is_tried_until_one_answers() {
    let url = serve_echo().replace("127.0.0.1", "localhost");
    run(&["send", &url, "x"]).expect(0, &[]);
}

#[test]
fn an_ipv6_address_is_a_host() {
    // A machine without IPv6 has nothing to test here.
    let Ok(listener) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) else { return };
    let address = serve_on(listener, |stream| echo(tungstenite::accept(stream).unwrap()));
    let finished = run(&["send", &format!("ws://{address}"), "x"]);
    finished.expect(0, &[]);
    assert_eq!(finished.stdout(), "x\n");
}

// Errors and their causes

#[test]
fn wrong_usage_is_64_and_says_what_to_write() {
    run(&["send", "http://h/x", "y"]).expect(64, &["did you mean 'ws://h/x'?"]);
    let finished = run(&["send", "ws://me:secret@h:x/", "y"]);
    finished.expect(64, &["'ws://***@h:x/'", "port"]);
    assert!(!finished.stderr.contains("secret"));
    run(&["listen", "h:80"]).expect(64, &["did you mean 'ws://h:80'?"]);
    run(&["listen", "ws://h/", "-H", "Upgrade: x"]).expect(64, &["'Upgrade: x'", "handshake sets it itself"]);
    run(&["listen", "ws://h/", "-p", "a,b"]).expect(64, &["'a,b'", "repeat '--subprotocol'"]);
    run(&["listen", "ws://h/", "--count", "0"]).expect(64, &["--count"]);
    run(&["send", "ws://h/", "--wait", "5"]).expect(64, &["--wait", "unit is missing"]);
    run(&["send", "ws://h/", "--connect-timeout", "0"]).expect(64, &["--connect-timeout"]);
    run(&["listen"]).expect(64, &["<URL>"]);
    run(&["lisen"]).expect(64, &["listen"]);
    run(&[]).expect(64, &["Usage"]);
}

#[test]
fn a_refused_connection_is_69() {
    let (_held, url) = closed_port();
    let text = format!("error: failed to connect to '{url}': connection refused (is the server running?)\n");
    for command in ["send", "listen"] {
        let finished = run(&[command, &url]);
        finished.expect(69, &[]);
        assert_eq!(finished.stderr, text);
    }
}

#[test]
fn an_unknown_host_is_68() {
    run(&["send", "ws://no.such.host.invalid/", "x"]).expect(68, &["failed to resolve 'no.such.host.invalid': "]);
}

#[test]
fn a_refusal_shows_status_and_body_safely() {
    let answer = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 20\r\n\r\ntoken \u{1b}]0;x\u{7} expired+ignored";
    let url = serve_answer(answer);
    let finished = run(&["send", &url, "x"]);
    let text =
        format!("failed to open '{url}': the server answered 401 Unauthorized: token \\u{{1b}}]0;x\\u{{7}} expire");
    finished.expect(77, &[&text]);
    assert!(!finished.stderr.contains('\u{1b}'));

    let chunked = "HTTP/1.1 503 Full\r\nTransfer-Encoding: chunked\r\n\r\n5\r\ncome \r\n5\r\nlater\r\n0\r\n\r\n";
    run(&["send", &serve_answer(chunked), "x"]).expect(69, &["the server answered 503 Full: come later\n"]);

    let moved = "HTTP/1.1 301 Moved Permanently\r\nLocation: wss://h/new\r\nContent-Length: 0\r\n\r\n";
    run(&["send", &serve_answer(moved), "x"]).expect(69, &["301 Moved Permanently", "'wss://h/new'"]);

    let long = format!("HTTP/1.1 404 Not Found\r\n\r\n{}", "long ".repeat(100_000));
    let finished = run(&["send", &serve_answer(long), "x"]);
    finished.expect(69, &["404 Not Found: long long", "..."]);
    assert!(finished.stderr.len() < 1000, "{}", finished.stderr.len());
}

#[test]
fn the_body_of_a_refusal_is_read_although_it_comes_later() {
    let url = serve(|mut stream| {
        read_request(&mut stream);
        stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\n").unwrap();
        stream.flush().unwrap();
        // A pause in which the head is read alone.
        pass(Duration::from_millis(50));
        stream.write_all(b"later").unwrap();
        let _ = stream.read(&mut [0]);
    });
    run(&["listen", &url]).expect(77, &["403 Forbidden: later\n"]);
}

#[test]
fn a_server_that_never_answers_is_left_at_the_deadline() {
    let url = serve(|mut stream| while matches!(stream.read(&mut [0; 512]), Ok(1..)) {});
    for url in [url.clone(), url.replace("ws:", "wss:")] {
        let finished = run(&["send", "--connect-timeout", "200ms", &url, "x"]);
        finished.expect(69, &["no answer", "within 200ms", "--connect-timeout"]);
        assert!(finished.took < Duration::from_secs(5), "{finished:?}");
    }
}

#[test]
fn a_server_of_another_kind_is_named_as_such() {
    run(&["send", &serve_answer("220 mail ready\r\n"), "x"]).expect(76, &["not HTTP"]);
    run(&["send", &serve_answer(b"\x15\x03\x01\x00\x02\x02\x16".to_vec()), "x"]).expect(76, &["use wss://"]);
    run(&["send", &serve_answer(""), "x"]).expect(69, &["closed the connection without an answer"]);
    let endless = format!("HTTP/1.1 101 X\r\nA: {}", "a".repeat(100_000));
    run(&["send", &serve_answer(endless), "x"]).expect(76, &["head", "too large"]);
    let plain = serve(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        let _ = stream.read(&mut [0; 512]);
    });
    run(&["send", &plain.replace("ws:", "wss:"), "x"]).expect(69, &["does not speak TLS", "ws://"]);
}

#[test]
fn a_wrong_upgrade_is_a_protocol_error() {
    let accept = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
    let wrong_key = format!("{accept}Sec-WebSocket-Accept: AAAA\r\n\r\n");
    run(&["send", &serve_answer(wrong_key), "x"]).expect(76, &["Sec-WebSocket-Accept"]);
    run(&["send", &serve_answer("HTTP/1.1 101 X\r\n\r\n"), "x"]).expect(76, &["Upgrade: websocket"]);
}

// TLS

#[test]
fn a_certificate_that_nobody_trusts_is_refused_with_what_to_do() {
    let (url, file) = serve_tls("127.0.0.1", echo);
    let finished = run(&["send", &url, "x"]);
    finished.expect(69, &[&url, "the certificate is not trusted: self", "--ca FILE", "--insecure"]);
    std::fs::remove_file(file).unwrap();
}

#[test]
fn a_certificate_of_one_s_own_authority_is_trusted() {
    let (url, file) = serve_tls("127.0.0.1", echo);
    let finished = run(&["send", "--ca", file.to_str().unwrap(), &url, "x"]);
    finished.expect(0, &[]);
    assert_eq!((finished.stdout(), finished.stderr.as_str()), ("x\n", ""));
    std::fs::remove_file(file).unwrap();
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let (url, file) = serve_tls("elsewhere.example", echo);
    let finished = run(&["send", "--ca", file.to_str().unwrap(), &url, "x"]);
    finished.expect(69, &["mismatch", "it is not for '127.0.0.1'"]);
    std::fs::remove_file(file).unwrap();
}

#[test]
fn insecure_accepts_any_certificate_and_warns() {
    let (url, file) = serve_tls("elsewhere.example", echo);
    let finished = run(&["send", "--insecure", &url, "x"]);
    finished.expect(0, &["warning: the certificate of '127.0.0.1' is not checked"]);
    assert_eq!(finished.stdout(), "x\n");
    std::fs::remove_file(file).unwrap();
}

#[test]
fn a_wait_over_tls_ends_and_the_connection_still_closes() {
    let (sender, seen) = channel();
    let (url, file) = serve_tls("127.0.0.1", move |mut socket| {
        socket.send(Message::text("hello")).unwrap();
        report(&mut socket, &sender);
    });
    let ca = file.to_str().unwrap();
    let mut running = start(&["listen", "--raw", "--ca", ca, &url]);
    assert_eq!(running.line(), "hello\n");
    running.interrupt();
    running.finish().expect(0, &[]);
    expect_normal_close(&seen);
    std::fs::remove_file(file).unwrap();
}

#[test]
fn a_ca_file_without_certificates_is_66() {
    run(&["send", "--ca", "/dev/null", "wss://127.0.0.1:9/", "x"]).expect(66, &["'/dev/null'", "no certificate"]);
    run(&["send", "--ca", "/no/such", "wss://127.0.0.1:9/", "x"]).expect(66, &["'/no/such'", "no such file"]);
}

// listen

#[test]
fn listen_prints_each_message_as_it_arrives() {
    let (url, seen) = serve_messages(vec![
        Message::text("{\"big\": 12345678901234567890}"),
        Message::Ping(Vec::new().into()),
        Message::text("plain"),
        Message::binary(vec![0, 255]),
    ]);
    let mut running = start(&["listen", &url]);
    let first = r#"{"message":{"big": 12345678901234567890},"data":"{\"big\": 12345678901234567890}"}"#;
    assert_eq!(running.line(), format!("{first}\n"));
    assert_eq!(running.line(), "{\"message\":\"plain\",\"data\":\"plain\"}\n");
    assert_eq!(running.line(), "{\"message\":{\"type\":\"Buffer\",\"data\":[0,255]},\"data\":\"AP8=\"}\n");
    assert!(matches!(next(&seen), Message::Pong(_)));
    running.interrupt();
    running.finish().expect(0, &[]);
    expect_normal_close(&seen);
}

#[test]
fn listen_leaves_json_alone_when_told_to() {
    let (url, _seen) = serve_messages(vec![Message::text("{\"a\":1}")]);
    let finished = run(&["listen", "--json-parse", "false", "--count", "1", &url]);
    finished.expect(0, &[]);
    assert_eq!(finished.stdout(), "{\"message\":\"{\\\"a\\\":1}\",\"data\":\"{\\\"a\\\":1}\"}\n");
}

#[test]
fn listen_stops_after_the_count_and_closes() {
    let (url, seen) = serve_messages((0..5).map(|n| Message::text(n.to_string())).collect());
    let finished = run(&["listen", "--raw", "-n", "3", &url]);
    finished.expect(0, &[]);
    assert_eq!(finished.stdout(), "0\n1\n2\n");
    expect_normal_close(&seen);
}

#[test]
fn listen_raw_prints_binary_as_it_came() {
    let (url, _seen) = serve_messages(vec![Message::binary(&b"\x00\xff"[..]), Message::binary(&b"\n"[..])]);
    let finished = run(&["listen", "--raw", "-n", "2", &url]);
    finished.expect(0, &[]);
    assert_eq!(finished.stdout, b"\x00\xff\n");
}

#[test]
fn listen_ends_as_the_server_closes() {
    for (code, exit_code, words) in [
        (1000, 0, &[][..]),
        (1001, 0, &[]),
        (0, 0, &[]),
        (1008, 77, &["code 1008 \"so\\u{9b}\""]),
        (1009, 65, &["code 1009"]),
        (1011, 69, &["code 1011"]),
        (1013, 75, &["code 1013"]),
        (4000, 69, &["code 4000"]),
    ] {
        run(&["listen", &serve_close(code, "so\u{9b}")]).expect(exit_code, words);
    }
}

#[test]
fn listen_tells_a_lost_connection_from_a_close() {
    let url = serve_websocket(drop);
    run(&["listen", &url]).expect(74, &["without a Close"]);
}

#[test]
fn listen_answers_a_broken_protocol_with_the_close_code() {
    for (bytes, code, words) in [
        (&b"\x81\x81\x00\x00\x00\x00a"[..], CloseCode::Protocol, "masked"),
        (b"\xc1\x01a", CloseCode::Protocol, "Reserved bits"),
        (b"\x81\x01\xff", CloseCode::Invalid, "not valid UTF-8"),
        (b"\x82\x7f\x00\x00\x00\x00\x04\x00\x00\x01", CloseCode::Size, "over the limit of 67108864 bytes"),
    ] {
        let (sender, seen) = channel();
        let url = serve_websocket(move |mut socket| {
            socket.get_mut().write_all(bytes).unwrap();
            report(&mut socket, &sender);
        });
        run(&["listen", &url]).expect(76, &[words]);
        match next(&seen) {
            Message::Close(Some(frame)) => assert_eq!(frame.code, code),
            other => panic!("expected a Close, got {other:?}"),
        }
    }
}

#[test]
fn listen_ends_at_once_on_an_interrupt_at_every_stage() {
    // In the handshake, of TLS or of WebSocket.
    let (sender, seen) = channel();
    let url = serve(move |mut stream| {
        while matches!(stream.read(&mut [0; 4096]), Ok(1..)) {
            let _ = sender.send(());
        }
    });
    for url in [url.clone(), url.replace("ws:", "wss:")] {
        let running = start(&["listen", &url]);
        seen.recv_timeout(DEADLINE).unwrap();
        running.interrupt();
        let finished = running.finish();
        finished.expect(0, &[]);
        assert!(finished.took < Duration::from_secs(5), "{finished:?}");
    }
    // In the wait between two attempts.
    let (_held, url) = closed_port();
    let mut running = start(&["listen", "--reconnect", &url]);
    let mut stderr = BufReader::new(running.stderr.take().unwrap());
    for _ in 0..3 {
        stderr.read_line(&mut String::new()).unwrap();
    }
    running.interrupt();
    running.finish().expect(0, &[]);
    // While messages come faster than they can be printed, so that nothing ever waits.
    let flood = b"\x81\x01m".repeat(1 << 16);
    let url = serve_websocket(move |mut socket| while socket.get_mut().write_all(&flood).is_ok() {});
    let mut running = start(&["listen", "--raw", &url]);
    assert_eq!(running.line(), "m\n");
    running.interrupt();
    running.finish().expect(0, &[]);
}

#[test]
fn listen_connects_again_and_again_until_interrupted() {
    let (sender, seen) = channel();
    let url = serve(move |stream| {
        let _ = sender.send(());
        if let Ok(mut socket) = tungstenite::accept(stream) {
            let _ = socket.send(Message::text("hello"));
            let _ = socket.close(None);
            while socket.read().is_ok() {}
        }
    });
    let mut running = start(&["listen", "--reconnect", "--raw", &url]);
    for _ in 0..3 {
        seen.recv_timeout(DEADLINE).unwrap();
        assert_eq!(running.line(), "hello\n");
    }
    running.interrupt();
    let finished = running.finish();
    finished.expect(0, &["closed by the server, no code; connecting again in "]);
}

#[test]
fn listen_waits_for_a_server_that_is_not_there_yet() {
    let (port, url) = closed_port();
    let mut running = start(&["listen", "--reconnect", "--count", "1", &url]);
    let mut stderr = BufReader::new(running.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert!(line.contains("connection refused") && line.contains("connecting again in"), "{line}");
    port.listen(16).unwrap();
    serve_on(port.into(), |stream| {
        let mut socket = tungstenite::accept(stream).unwrap();
        socket.send(Message::text("1")).unwrap();
        while socket.read().is_ok() {}
    });
    running.finish().expect(0, &[]);
}

// Pipes and help

#[test]
fn listen_ends_normally_when_nobody_reads_its_output() {
    // A server that says one thing and then nothing, and one that goes on and on.
    let (quiet, seen) = serve_messages(vec![Message::text("one")]);
    let busy = serve_websocket(|mut socket| while socket.send(Message::text("more")).is_ok() {});
    for url in [&quiet, &busy] {
        let mut running = start(&["listen", "--raw", url]);
        assert!(running.line().ends_with('\n'));
        drop(running.stdout.take());
        running.finish().expect(0, &[]);
    }
    expect_normal_close(&seen);
}

#[test]
fn send_and_help_end_normally_when_nobody_reads_their_output() {
    let url = serve_echo();
    for arguments in [&["send", &url, "x"][..], &["--help"], &["listen", "--help"], &["--version"]] {
        let mut running = start(arguments);
        drop(running.stdout.take());
        running.finish().expect(0, &[]);
    }
}

#[test]
fn help_has_examples_and_version_has_the_version() {
    for command in ["serve", "check", "send", "listen"] {
        let finished = run(&["help", command]);
        finished.expect(0, &[]);
        let example = format!("  wsgate {command} ");
        assert!(finished.stdout().contains("Examples:") && finished.stdout().contains(&example), "{finished:?}");
        assert!(finished.stdout().lines().all(|line| line.chars().count() <= 100), "{finished:?}");
    }
    let finished = run(&["--version"]);
    assert_eq!(finished.stdout().lines().next(), Some(concat!("wsgate ", env!("CARGO_PKG_VERSION"))));
}
