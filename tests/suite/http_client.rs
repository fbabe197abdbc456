//! The client for HTTP servers, which services and issuers are asked with: its ways, its bounds, and what it says.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use wsgate::internals::config::{DialSettings, DialTls, Proxy};
use wsgate::internals::dial::{CancelToken, DialError, Hints, HttpClient, HttpRequest, Resolver};
use wsgate::internals::secret::Secret;
use wsgate::internals::url::{Protocol, parse_as};

use crate::harness::http_server::{HttpServer, Reply};
use crate::harness::{DEADLINE, certificates, pass};

const BODY_MAX: usize = 1000;

fn settings(url: &str) -> DialSettings {
    let url = parse_as(Protocol::Http, url).unwrap();
    DialSettings { connect_timeout: DEADLINE, proxy: Proxy::Off, ..DialSettings::new(url) }
}

fn ask_within(settings: &DialSettings, time: Duration, cancel: &CancelToken) -> Result<String, DialError> {
    let client = HttpClient::new(settings, Resolver::new(), BODY_MAX).unwrap();
    client.ask(HttpRequest::Get, time, cancel).map(|body| String::from_utf8(body).unwrap())
}

fn ask(settings: &DialSettings) -> Result<String, String> {
    ask_within(settings, DEADLINE, &CancelToken::default()).map_err(|error| error.with(&Hints::AUTH).to_string())
}

/// Passes on what comes, until the end.
fn copy(mut from: TcpStream, mut to: TcpStream) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Write);
    })
}

#[test]
fn a_request_goes_over_tls_through_a_proxy_to_a_name_that_only_it_knows() {
    let directory = tempfile::tempdir().unwrap();
    certificates::write(directory.path());
    let server = HttpServer::tls(directory.path(), |_| Reply::of(200, "there"));
    let upstream = server.url("").replace("https://localhost:", "127.0.0.1:");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = listener.local_addr().unwrap();
    let (told, asked) = channel();
    let passing = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        told.send(String::from_utf8(head).unwrap()).unwrap();
        stream.write_all(b"HTTP/1.1 200 Go\r\n\r\n").unwrap();
        let server = TcpStream::connect(upstream).unwrap();
        let back = copy(server.try_clone().unwrap(), stream.try_clone().unwrap());
        copy(stream, server).join().unwrap();
        back.join().unwrap();
    });
    let settings = DialSettings {
        proxy: Proxy::Url(Secret::new(format!("http://{proxy}"))),
        tls: DialTls {
            ca: Some(directory.path().join("ca.pem")),
            server_name: Some("localhost".to_owned()),
            ..DialTls::default()
        },
        ..settings("https://me:secret@login.invalid/keys?a=b")
    };
    assert_eq!(ask(&settings).as_deref(), Ok("there"));
    let asked = asked.recv_timeout(DEADLINE).unwrap();
    assert!(asked.starts_with("CONNECT login.invalid:443 HTTP/1.1\r\n"), "{asked}");
    let head = server.requests().pop().unwrap().head;
    assert!(head.starts_with("GET /keys?a=b HTTP/1.1\r\nHost: login.invalid\r\n"), "{head}");
    assert!(head.contains("\r\nAuthorization: Basic bWU6c2VjcmV0\r\n") && !head.contains("Content-"), "{head}");
    passing.join().unwrap();
}

#[test]
fn each_way_in_which_a_request_fails_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    certificates::write(directory.path());
    let plain = HttpServer::up(|_| Reply::of(200, "there"));
    let tls = HttpServer::tls(directory.path(), |_| Reply::of(200, "there"));
    let failed = |url: &str, words: &str| {
        let told = ask(&settings(url)).unwrap_err();
        assert!(told.contains(words) && !told.contains("hidden"), "{words}: {told}");
    };
    assert_eq!(ask(&settings(&plain.url("/"))).as_deref(), Ok("there"));
    failed(&tls.url("/"), "the certificate is not trusted: ");
    failed(&tls.url("/"), "(trust its issuer with `ca` in `tls`)");
    failed(&tls.url("/").replace("https:", "http:"), "(if this is a TLS port, use https://)");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let without_tls = format!("https://{}/", listener.local_addr().unwrap());
    let refusing = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    });
    failed(&without_tls, "(if the port is not encrypted, use http://)");
    refusing.join().unwrap();
    failed("http://login.invalid/", "failed to resolve 'login.invalid'");
    let moved = "HTTP/1.1 301 Moved\r\nLocation: https://new/?token=hidden\r\nContent-Length: 6\r\n\r\nhidden";
    for (reply, words) in [
        (Reply::Bytes(moved.into()), "moved to 'https://new/?***' (redirects are not followed: use the new address)"),
        (Reply::of(500, "out of order"), "the server answered 500 Whatever: out of order"),
        (Reply::of(200, &"x".repeat(BODY_MAX + 1)), "its body cannot be read: it is longer than 1000 bytes"),
        (Reply::Bytes(b"SSH-2.0-x\r\n".to_vec()), "failed to use the answer of"),
        (
            Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Le".to_vec()),
            "the server closed the connection without a complete",
        ),
    ] {
        plain.answers(move |_| reply.clone());
        failed(&plain.url("/?token=hidden"), words);
    }
    let (line, longest) = (format!("X: {}\r\n", "y".repeat(1000)), "x".repeat(BODY_MAX));
    let answer = format!("HTTP/1.1 200 OK\r\n{}Content-Length: 1000\r\n\r\n{longest}", line.repeat(20));
    plain.answers(move |_| Reply::Bytes(answer.clone().into_bytes()));
    assert_eq!(ask(&settings(&plain.url("/"))), Ok(longest));
}

#[test]
fn a_request_ends_at_its_deadline_and_when_it_is_cancelled() {
    // A byte again and again: each wait is short, and all of them together are not.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let slow = settings(&format!("http://{}/", listener.local_addr().unwrap()));
    let dripping = thread::spawn(move || {
        for stream in listener.incoming().take(2) {
            let mut stream = stream.unwrap();
            let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n";
            let mut rest = head.iter().chain(std::iter::repeat(&b'x'));
            while rest.next().is_some_and(|byte| stream.write_all(&[*byte]).is_ok()) {
                pass(Duration::from_millis(5));
            }
        }
    });
    let since = Instant::now();
    let error = ask_within(&slow, Duration::from_millis(600), &CancelToken::default()).unwrap_err();
    assert!(error.is_timeout() && error.to_string().contains("no complete answer within 600ms"), "{error}");
    assert!((500..3000).contains(&since.elapsed().as_millis()), "{:?}", since.elapsed());

    let stop = Arc::new(eventfd(0, EventfdFlags::empty()).unwrap());
    let cancel = CancelToken::default().until_readable(Arc::clone(&stop) as _);
    let cancelling = thread::spawn(move || {
        pass(Duration::from_millis(100));
        rustix::io::write(&*stop, &1u64.to_ne_bytes()).unwrap();
    });
    let since = Instant::now();
    assert!(matches!(ask_within(&slow, DEADLINE, &cancel), Err(DialError::Cancelled)));
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
    cancelling.join().unwrap();
    dripping.join().unwrap();
}
