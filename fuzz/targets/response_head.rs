//! The answer to a dialled upgrade: the real dial, over the loopback, with a server that answers what the input says.
//!
//! Input: what the server sends, first byte to last. Wherever it holds `{accept}` the server puts the value that fits
//! the key of the request.

#![no_main]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;

use libfuzzer_sys::fuzz_target;
use tungstenite::handshake::derive_accept_key;
use wsgate::internals::config::{DialSettings, Proxy};
use wsgate::internals::dial::{CancelToken, DialError, Dialed, Dialer, Hints, RequestExtras, Resolver, ServerRefusal};
use wsgate::internals::url;

const OFFERED: [&str; 2] = ["chat.v1", "x"];

const PLACEHOLDER: &[u8] = b"{accept}";

/// The most of a head, and of a refusal's body, that is read.
const HEAD_MAX: usize = 64 << 10;
const BODY_MAX: usize = 4 << 10;

/// Connections that have ended keep their ports for a minute, so that one address would run out of them.
const ADDRESSES: u8 = 250;

struct Server {
    dialers: Vec<Dialer>,
    turn: AtomicUsize,
    /// What is to be answered to the next connection, and what was.
    next: Sender<Vec<u8>>,
    answered: Mutex<Receiver<Answered>>,
}

struct Answered {
    sent: Vec<u8>,
    /// What fits the key of the request.
    accept: String,
}

static SERVER: LazyLock<Server> = LazyLock::new(|| {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a free port");
    let port = listener.local_addr().expect("it has one").port();
    let (next, answers) = channel::<Vec<u8>>();
    let (done, answered) = channel();
    thread::spawn(move || {
        for answer in answers {
            let (stream, _) = listener.accept().expect("somebody dials");
            done.send(serve(stream, &answer)).expect("somebody asks");
        }
    });
    let resolver = Resolver::new();
    let dialer = |address| {
        let settings = DialSettings {
            subprotocols: OFFERED.map(str::to_owned).to_vec(),
            proxy: Proxy::Off,
            ..DialSettings::new(url::parse(&format!("ws://127.0.0.{address}:{port}/")).expect("a good URL"))
        };
        Dialer::new(&settings, Arc::clone(&resolver)).expect("the settings are good")
    };
    let dialers = (1..=ADDRESSES).map(dialer).collect();
    Server { dialers, turn: AtomicUsize::new(0), next, answered: Mutex::new(answered) }
});

/// Answers a request.
fn serve(mut stream: TcpStream, answer: &[u8]) -> Answered {
    let (mut request, mut piece) = (Vec::new(), [0; 4096]);
    while !request.ends_with(b"\r\n\r\n") {
        let count = stream.read(&mut piece).expect("a request comes");
        assert!(count > 0, "the request has no end");
        request.extend_from_slice(&piece[..count]);
    }
    let request = String::from_utf8(request).expect("the request is text");
    let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).expect("it has a key");
    let accept = derive_accept_key(key.as_bytes());
    let mut sent = Vec::new();
    let mut rest = answer;
    while let Some(at) = rest.windows(PLACEHOLDER.len()).position(|window| window == PLACEHOLDER) {
        sent.extend_from_slice(&rest[..at]);
        sent.extend_from_slice(accept.as_bytes());
        rest = &rest[at + PLACEHOLDER.len()..];
    }
    sent.extend_from_slice(rest);
    // Whoever has read enough may have hung up.
    let _ = stream.write_all(&sent).and_then(|()| stream.shutdown(Shutdown::Write));
    Answered { sent, accept }
}

fuzz_target!(|data: &[u8]| {
    let server = &*SERVER;
    server.next.send(data.to_vec()).expect("the server runs");
    let turn = server.turn.fetch_add(1, Ordering::Relaxed);
    let dialed = server.dialers[turn % server.dialers.len()].dial(&RequestExtras::default(), &CancelToken::default());
    // The connection of a dial that has failed is closed by now: a server that still writes ends.
    let dialed = dialed.map(|dialed| (opened(&dialed), dialed.subprotocol));
    let Answered { sent, accept } = server.answered.lock().expect("one at a time").recv().expect("the server runs");
    let sent = behind_interim(&sent);
    let mut fields = [httparse::EMPTY_HEADER; 128];
    let mut answer = httparse::Response::new(&mut fields);
    let end = match answer.parse(sent) {
        Ok(httparse::Status::Complete(end)) if sent.starts_with(b"HTTP/") => Some(end),
        _ => None,
    };
    let agreed = end.filter(|_| answer.code == Some(101)).and_then(|_| agreed(answer.headers, &accept));
    match dialed {
        Ok((behind, subprotocol)) => {
            assert_eq!(subprotocol, agreed, "{}", String::from_utf8_lossy(sent));
            assert!(subprotocol.is_some(), "whoever offers subprotocols wants one");
            assert_eq!(behind, sent[end.expect("its head is whole")..], "bytes behind the head are lost or changed");
        }
        Err(error) => {
            let told = error.with(&Hints::CONFIGURATION).to_string();
            assert!(!told.contains(char::is_control), "{told:?}");
            match error {
                DialError::Refused { refusal, .. } => {
                    let end = end.expect("a refusal has a head");
                    assert!(answer.code == Some(refusal.status) && refusal.status != 101, "{told}");
                    is_from(&refusal, answer.headers, &sent[end..]);
                }
                DialError::Protocol { .. } => {
                    let is_short = end.is_some_and(|end| end <= HEAD_MAX);
                    assert!(agreed.is_none() || !is_short, "a good answer is not taken: {told}");
                }
                DialError::Unanswered { .. } => assert!(end.is_none(), "the answer was there: {told}"),
                error => panic!("{error:?}"),
            }
        }
    }
});

/// What stands behind the answers that another one follows (RFC 9110 section 15.2).
fn behind_interim(mut sent: &[u8]) -> &[u8] {
    loop {
        let mut fields = [httparse::EMPTY_HEADER; 128];
        let mut answer = httparse::Response::new(&mut fields);
        match answer.parse(sent) {
            Ok(httparse::Status::Complete(end))
                if sent.starts_with(b"HTTP/") && matches!(answer.code, Some(100 | 102..=199)) =>
            {
                sent = &sent[end..];
            }
            _ => return sent,
        }
    }
}

/// What came behind the head: what was read with it, and what is still in the socket.
fn opened(dialed: &Dialed) -> Vec<u8> {
    assert!(dialed.session.is_none());
    let (mut behind, mut piece) = (dialed.behind.clone(), [0; 4096]);
    loop {
        match dialed.socket.recv(&mut piece) {
            Ok(0) => return behind,
            Ok(count) => behind.extend_from_slice(&piece[..count]),
            Err(error) => panic!("the stream broke: {error}"),
        }
    }
}

fn values(fields: &[httparse::Header<'_>], name: &str) -> Vec<String> {
    let fields = fields.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
    fields.map(|field| String::from_utf8_lossy(field.value).trim().to_owned()).collect()
}

/// The subprotocol of an answer that agrees to all that was asked for (RFC 6455 section 4.1).
fn agreed(fields: &[httparse::Header<'_>], accept: &str) -> Option<String> {
    let is_upgrade = |value: &String| value.split(',').any(|token| token.trim().eq_ignore_ascii_case("upgrade"));
    let is_good = values(fields, "upgrade").iter().any(|value| value.eq_ignore_ascii_case("websocket"))
        && values(fields, "connection").iter().any(is_upgrade)
        && values(fields, "sec-websocket-accept") == [accept]
        && values(fields, "sec-websocket-extensions").iter().all(String::is_empty);
    match &values(fields, "sec-websocket-protocol")[..] {
        [one] if is_good && OFFERED.contains(&&**one) => Some(one.clone()),
        _ => None,
    }
}

/// What is passed on of a refusal stood in it.
fn is_from(refusal: &ServerRefusal, fields: &[httparse::Header<'_>], body: &[u8]) {
    assert!(refusal.body.len() <= BODY_MAX, "{} bytes", refusal.body.len());
    let is_chunked =
        values(fields, "transfer-encoding").iter().any(|value| value.to_ascii_lowercase().contains("chunked"));
    assert!(is_chunked || body.starts_with(&refusal.body), "a body that nobody sent");
    assert!(!refusal.reason.contains(char::is_control), "{:?}", refusal.reason);
    for (name, value) in &refusal.headers {
        assert!(fields.iter().any(|field| field.name == name && field.value == value), "{name}");
        assert!(!value.contains(&b'\r') && !value.contains(&b'\n'), "{name}");
    }
}
