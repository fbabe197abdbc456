//! What the gateway dials: the steps of a dial against real servers and against those that behave as told.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use openssl::ssl::{NameType, SslAcceptor, SslMethod, SslStream, SslVerifyMode, SslVersion};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;
use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};
use wsgate::internals::config::{DialSettings, Proxy, TlsSettings};
use wsgate::internals::connection::tls::{Decrypted, DialHandshake, DialStep, Session};
use wsgate::internals::dial::{CancelToken, DialError, Dialed, Dialer, Hints, RequestExtras, Resolver, Wire};
use wsgate::internals::secret::Secret;
use wsgate::internals::url;

use crate::harness::{DEADLINE, Gateway, LISTENERS, measured};

/// A dial that has to end by its deadline has this one.
const SHORT: Duration = Duration::from_millis(300);

fn settings(url: &str) -> DialSettings {
    DialSettings { connect_timeout: DEADLINE, proxy: Proxy::Off, ..DialSettings::new(url::parse(url).unwrap()) }
}

fn dial(settings: &DialSettings) -> Result<Dialed, DialError> {
    dial_with(settings, &RequestExtras::default())
}

fn dial_with(settings: &DialSettings, extras: &RequestExtras) -> Result<Dialed, DialError> {
    Dialer::new(settings, Resolver::new()).unwrap().dial(extras, &CancelToken::default())
}

/// The dial failed in this step, and says so in these words, with the names of the configuration.
fn expect(result: Result<Dialed, DialError>, step: &str, words: &[&str]) -> DialError {
    let error = result.map(drop).unwrap_err();
    let told = error.with(&Hints::CONFIGURATION).to_string();
    assert_eq!(error.step(), step, "{told}");
    for word in words {
        assert!(told.contains(word), "'{word}' is missing in {told}");
    }
    assert!(!told.contains('\u{1b}') && !told.contains('\n'), "{told:?}");
    error
}

/// A server that gives each connection to `behave`, each in a thread of its own.
fn serve(behave: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let behave = Arc::new(behave);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, behave) = (stream.unwrap(), Arc::clone(&behave));
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            stream.set_write_timeout(Some(DEADLINE)).unwrap();
            thread::spawn(move || behave(stream));
        }
    });
    address
}

fn read_head(stream: &mut impl Read) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// Answers every request with these bytes; what was asked is in the channel.
fn serve_answer(answer: impl Into<Vec<u8>>) -> (SocketAddr, Receiver<String>) {
    let answer = answer.into();
    let (sender, asked) = channel();
    let address = serve(move |mut stream| {
        let _ = sender.send(read_head(&mut stream));
        let _ = stream.write_all(&answer);
    });
    (address, asked)
}

fn accept_of(head: &str) -> String {
    let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
    tungstenite::handshake::derive_accept_key(key.as_bytes())
}

/// Sends a text through an open connection and expects it back.
fn expect_echo(dialed: Dialed) {
    let Dialed { socket, session, behind, .. } = dialed;
    let wire = Wire::new(socket, session, Some(Instant::now() + DEADLINE), CancelToken::default());
    let mut socket = WebSocket::from_partially_read(wire, behind, Role::Client, None);
    for text in ["hello".to_owned(), "long ".repeat(20_000)] {
        socket.send(Message::text(text.clone())).unwrap();
        assert_eq!(socket.read().unwrap(), Message::text(text));
    }
}

#[test]
fn our_own_gateway_is_dialled_plain_and_over_tls() {
    let gateway = Gateway::start(&format!("[[endpoint]]\npath = \"/\"\nto = [\"reply\"]\n{LISTENERS}"));
    expect_echo(dial(&settings(&format!("ws://127.0.0.1:{}/", gateway.port("plain")))).unwrap());
    let mut secure = settings(&format!("wss://localhost:{}/", gateway.port("tls")));
    expect(dial(&secure), "tls", &["not trusted", "`ca`"]);
    secure.tls.ca = Some(gateway.file("ca.pem"));
    expect_echo(dial(&secure).unwrap());
}

// The request

#[test]
fn what_is_asked_for_is_sent_and_the_settings_have_the_last_word() {
    let (address, asked) = serve_answer("HTTP/1.1 404 Not Found\r\n\r\n");
    let mut settings = settings(&format!("ws://me:s%3Acret@{address}/base?token=hidden"));
    settings.headers = vec![("X-Key".into(), Secret::new("fixed"))];
    settings.subprotocols = vec!["one".into(), "two".into()];
    settings.origin = Some("https://ours".into());
    let error = expect(dial(&settings), "refused", &["404 Not Found", "ws://***@127.0.0.1"]);
    assert!(!error.to_string().contains("cret") && !error.to_string().contains("hidden"), "{error}");
    let request = asked.recv_timeout(DEADLINE).unwrap();
    for line in [
        "GET /base?token=hidden HTTP/1.1",
        &format!("Host: {address}"),
        // "me:s:cret" in Base64.
        "Authorization: Basic bWU6czpjcmV0",
        "X-Key: fixed",
        "Sec-WebSocket-Protocol: one, two",
        "Origin: https://ours",
    ] {
        assert_eq!(request.lines().filter(|own| own == &line).count(), 1, "{line} in {request}");
    }

    let extras = RequestExtras {
        path_and_query: Some("/dev/7?x=1".into()),
        headers: vec![("x-key".into(), b"forged".to_vec()), ("AUTHORIZATION".into(), b"Bearer t".to_vec())],
        subprotocols: Some(vec!["theirs".into()]),
        origin: Some("https://theirs".into()),
    };
    expect(dial_with(&settings, &extras), "refused", &["/dev/7'"]);
    let request = asked.recv_timeout(DEADLINE).unwrap();
    for line in [
        "GET /dev/7?x=1 HTTP/1.1",
        "X-Key: fixed",
        "AUTHORIZATION: Bearer t",
        "Sec-WebSocket-Protocol: theirs",
        "Origin: https://theirs",
    ] {
        assert_eq!(request.lines().filter(|own| own == &line).count(), 1, "{line} in {request}");
    }
    assert!(!request.contains("forged") && !request.contains("Basic"), "{request}");

    // A relay's URL has places for values, which its extras fill.
    let template = DialSettings { url: url::parse(&format!("ws://{address}/dev/{{id}}")).unwrap(), ..settings.clone() };
    let dialer = Dialer::new(&template, Resolver::new()).unwrap().shown_as("ws://plc/dev/{id}");
    let error = dialer.dial(&extras, &CancelToken::default());
    expect(error, "refused", &["failed to open 'ws://plc/dev/{id}'"]);
    assert_eq!(asked.recv_timeout(DEADLINE).unwrap().lines().next(), Some("GET /dev/7?x=1 HTTP/1.1"));

    for extras in [
        RequestExtras { path_and_query: Some("/a\r\nB: c".into()), ..RequestExtras::default() },
        RequestExtras { headers: vec![("A".into(), b"b\r\nC: d".to_vec())], ..RequestExtras::default() },
        RequestExtras { headers: vec![("Upgrade".into(), b"h2c".to_vec())], ..RequestExtras::default() },
    ] {
        expect(dial_with(&settings, &extras), "request", &[]);
    }
    assert!(asked.try_recv().is_err(), "something was sent");
}

#[test]
fn what_the_server_sends_behind_its_answer_is_kept() {
    let address = serve(|mut stream| {
        let accept = accept_of(&read_head(&mut stream));
        let head = format!(
            "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Accept: {accept}\
             \r\nSec-WebSocket-Protocol: two\r\n\r\n\u{1}\u{2}frames"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let _ = stream.read(&mut [0]);
    });
    let mut settings = settings(&format!("ws://{address}/"));
    settings.subprotocols = vec!["one".into(), "two".into()];
    let dialed = dial(&settings).unwrap();
    assert_eq!((dialed.behind, dialed.subprotocol), (b"\x01\x02frames".to_vec(), Some("two".to_owned())));
    settings.subprotocols = vec!["one".into()];
    expect(dial(&settings), "protocol", &["'two', which was not offered"]);
}

#[test]
fn interim_answers_come_before_the_one_that_counts() {
    let address = serve(|mut stream| {
        let accept = accept_of(&read_head(&mut stream));
        let head = format!(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 101 X\r\nUpgrade: \
             websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\nframes"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let _ = stream.read(&mut [0]);
    });
    assert_eq!(dial(&settings(&format!("ws://{address}/"))).unwrap().behind, b"frames");
    let (address, _asked) = serve_answer("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 404 Not Found\r\n\r\ngone");
    expect(dial(&settings(&format!("ws://{address}/"))), "refused", &["404 Not Found: gone"]);
    let (address, _asked) = serve_answer("HTTP/1.1 102 Processing\r\n\r\n".repeat(10_000));
    expect(dial(&settings(&format!("ws://{address}/"))), "protocol", &["too large"]);
}

#[test]
fn whether_no_subprotocol_will_do_is_decided_by_whoever_asked_for_one() {
    let address = serve(|stream| drop(tungstenite::accept(stream)));
    let mut settings = settings(&format!("ws://{address}/"));
    let extras = RequestExtras { subprotocols: Some(vec!["a".into()]), ..RequestExtras::default() };
    assert_eq!(dial_with(&settings, &extras).unwrap().subprotocol, None);
    settings.subprotocols = vec!["a".into()];
    expect(dial(&settings), "protocol", &["agreed to none of the offered subprotocols (a)"]);
}

// Servers that do not let us in

#[test]
fn a_refusal_has_all_that_a_relay_passes_on() {
    let body = "busy ".repeat(2000);
    let answer = format!(
        "HTTP/1.1 503 Later\u{1b}\r\nRetry-After: 7\r\nWWW-Authenticate: Basic realm=\"x\"\r\nX-Other: y\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .replace('\u{1b}', "");
    let (address, _asked) = serve_answer(answer);
    let error = expect(dial(&settings(&format!("ws://{address}/"))), "refused", &["503 Later: busy busy"]);
    let DialError::Refused { refusal, .. } = error else { panic!("{error}") };
    assert_eq!((refusal.status, &*refusal.reason), (503, "Later"));
    assert_eq!(refusal.header("retry-after").as_deref(), Some("7"));
    assert_eq!(refusal.header("www-authenticate").as_deref(), Some("Basic realm=\"x\""));
    assert_eq!(refusal.headers.len(), 2);
    assert!(refusal.body == body.as_bytes()[..4096], "{} bytes", refusal.body.len());
}

#[test]
fn b19_what_a_refusal_repeats_of_the_request_is_not_shown() {
    let address = serve(|mut stream| {
        let head = read_head(&mut stream);
        let _ = stream.write_all(format!("HTTP/1.1 400 No hidden\r\n\r\nnot for me: {head} hidden").as_bytes());
    });
    let mut settings = settings(&format!("ws://me:hidden@{address}/x?token=hidden"));
    settings.headers = vec![("X-Key".into(), Secret::new("Bearer hidden"))];
    let extras = RequestExtras {
        path_and_query: Some("/y?theirs=concealed".into()),
        headers: vec![("Cookie".into(), b"theirs=concealed".to_vec())],
        ..RequestExtras::default()
    };
    // "me:hidden" in Base64.
    let is_shown = |text: &str| ["hidden", "bWU6aGlkZGVu", "concealed"].iter().any(|secret| text.contains(secret));
    for extras in [RequestExtras::default(), extras.clone()] {
        let error = expect(dial_with(&settings, &extras), "refused", &["not for me: GET /", "X-Key: ***"]);
        assert!(!is_shown(&error.to_string()), "{error}");
    }
    // Whoever asked us to dial gets what is his, and nothing of ours.
    let error = expect(dial_with(&settings, &extras), "refused", &[]);
    let DialError::Refused { refusal, .. } = error else { panic!("{error}") };
    let body = String::from_utf8(refusal.body).unwrap();
    assert!(
        body.contains("Cookie: theirs=concealed") && !body.contains("Bearer hidden") && !body.contains("bWU6"),
        "{body}"
    );
    // A proxy is another one to repeat what it was asked.
    settings.proxy = Proxy::Url(Secret::new(format!("http://me:hidden@{address}")));
    let error = expect(dial(&settings), "proxy", &["not for me: CONNECT"]);
    assert!(!is_shown(&error.to_string()), "{error}");
}

#[test]
fn a_redirect_is_told_and_not_followed() {
    // Many servers repeat the query that they were asked for, in the text for people too.
    let moved = "HTTP/1.1 302 Found\r\nLocation: ws://me:hidden@elsewhere/x?token=hidden\r\nContent-Length: 31\r\n\r\n\
                 <a href=\"/x?token=hidden\">x</a>";
    let (address, asked) = serve_answer(moved);
    let words = ["302 Found, moved to 'ws://***@elsewhere/x?***'"];
    let error = expect(dial(&settings(&format!("ws://{address}/"))), "refused", &words);
    assert!(!error.to_string().contains("hidden"), "{error}");
    assert!(asked.recv_timeout(DEADLINE).is_ok() && asked.try_recv().is_err());
}

#[test]
fn a_server_that_is_none_is_named_as_what_it_is() {
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    expect(dial(&settings(&format!("ws://{closed}/"))), "connect", &["connection refused"]);
    expect(dial(&settings("ws://no.such.host.invalid/")), "resolve", &["failed to resolve 'no.such.host.invalid': "]);
    for (answer, step, words) in [
        (&b"220 mail ready\r\n"[..], "protocol", "not HTTP"),
        (b"\x15\x03\x01\x00\x02\x02\x16", "protocol", "use wss://"),
        (b"HTTP/1.1 101 X\r\nA\x1b: b\r\n\r\n", "protocol", "not HTTP"),
        (b"HTTP/1.1 101 X\r\n\r\n", "protocol", "Upgrade: websocket"),
        (b"", "unanswered", "closed the connection without an answer"),
        (b"HTTP/1.1 101", "unanswered", "closed the connection without an answer"),
    ] {
        let (address, _asked) = serve_answer(answer);
        expect(dial(&settings(&format!("ws://{address}/"))), step, &[words]);
    }
    let (address, _asked) = serve_answer(format!("HTTP/1.1 101 X\r\nA: {}", "a".repeat(1 << 20)));
    expect(dial(&settings(&format!("ws://{address}/"))), "protocol", &["head", "too large"]);
    let curt = serve(|mut stream| drop(stream.read(&mut [0; 4096])));
    expect(dial(&settings(&format!("wss://{curt}/"))), "tls", &["closed the connection in the TLS handshake"]);
    let plain = serve(|mut stream| drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")));
    expect(dial(&settings(&format!("wss://{plain}/"))), "tls", &["does not speak TLS", "ws://"]);
}

#[test]
fn a_server_that_is_silent_or_never_ends_is_left_at_the_deadline_or_at_a_stop() {
    let silent = serve(|mut stream| while matches!(stream.read(&mut [0; 512]), Ok(1..)) {});
    let endless = serve(|mut stream| {
        while stream.write_all(b"H").is_ok() {
            crate::harness::pass(Duration::from_millis(5));
        }
    });
    let drip = serve(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 101 X\r\nA: ");
        while stream.write_all(b"a").is_ok() {
            crate::harness::pass(Duration::from_millis(5));
        }
    });
    let proxy = Proxy::Url(Secret::new(format!("http://{silent}")));
    // A listener whose backlog is full takes no connection and refuses none.
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    full.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    full.listen(0).unwrap();
    let full_address = full.local_addr().unwrap().as_socket().unwrap();
    let _held = TcpStream::connect(full_address).unwrap();
    let cases = [
        (settings(&format!("ws://{full_address}/")), "connect"),
        (settings(&format!("ws://{silent}/")), "unanswered"),
        (settings(&format!("wss://{silent}/")), "tls"),
        (settings(&format!("ws://{drip}/")), "unanswered"),
        (DialSettings { proxy, ..settings("ws://upstream.invalid/") }, "proxy"),
    ];
    for (settings, step) in cases {
        let started = Instant::now();
        let short = DialSettings { connect_timeout: SHORT, ..settings.clone() };
        expect(dial(&short), step, &["no answer", "within 300ms (see `connect_timeout`)"]);
        assert!(started.elapsed() >= SHORT && started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());

        let (ours, theirs) = UnixStream::pair().unwrap();
        let cancel = CancelToken::default().until_readable(Arc::new(ours));
        let dialer = Dialer::new(&settings, Resolver::new()).unwrap();
        let started = Instant::now();
        thread::scope(|scope| {
            let dial = scope.spawn(|| dialer.dial(&RequestExtras::default(), &cancel));
            // Time to come to the step at which it is told to stop.
            crate::harness::pass(Duration::from_millis(100));
            drop(theirs);
            expect(dial.join().unwrap(), "stopped", &[]);
        });
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    }
    expect(dial(&settings(&format!("ws://{endless}/"))), "protocol", &["not HTTP"]);
}

// TLS

/// An authority, and files that it has signed, in a directory of their own.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: TempDir,
}

impl Authority {
    fn new(name: &str) -> Authority {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("ca.pem"), issuer.pem()).unwrap();
        Authority { issuer, directory }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A certificate and its key, both in PEM.
    fn sign(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let mut parameters = CertificateParams::new([name.to_owned()]).unwrap();
        change(&mut parameters);
        let key = KeyPair::generate().unwrap();
        (parameters.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn settings(&self, address: SocketAddr) -> DialSettings {
        let mut settings = settings(&format!("wss://{address}/"));
        settings.tls.ca = Some(self.file("ca.pem"));
        settings
    }
}

/// What a TLS server has seen of a client.
#[derive(Debug, Default)]
struct Seen {
    /// What came through the session.
    bytes: usize,
    server_name: Option<String>,
    certificate: Option<String>,
    /// Why the handshake failed.
    failed: Option<String>,
}

/// A TLS server with this certificate that echoes, and reports each connection when it is over.
fn serve_tls(
    (certificate, key): (String, String),
    change: impl FnOnce(&mut openssl::ssl::SslAcceptorBuilder),
) -> (SocketAddr, Receiver<Seen>) {
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
    builder.set_certificate(&openssl::x509::X509::from_pem(certificate.as_bytes()).unwrap()).unwrap();
    builder.set_private_key(&openssl::pkey::PKey::private_key_from_pem(key.as_bytes()).unwrap()).unwrap();
    change(&mut builder);
    let acceptor = builder.build();
    let (sender, seen) = channel();
    let address = serve(move |stream| {
        let report = match acceptor.accept(stream) {
            Ok(stream) => {
                let ssl = stream.ssl();
                let name = ssl.peer_certificate().map(|own| format!("{:?}", own.subject_name()));
                let server_name = ssl.servername(NameType::HOST_NAME).map(str::to_owned);
                let bytes = echo(stream);
                Seen { bytes, server_name, certificate: name, failed: None }
            }
            Err(error) => Seen { failed: Some(error.to_string()), ..Seen::default() },
        };
        let _ = sender.send(report);
    });
    (address, seen)
}

fn echo(mut stream: SslStream<TcpStream>) -> usize {
    let head = read_head(&mut stream);
    if head.is_empty() {
        return 0;
    }
    let accept = accept_of(&head);
    let answer = format!(
        "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).unwrap();
    let mut socket = WebSocket::from_raw_socket(stream, Role::Server, None);
    while let Ok(message) = socket.read() {
        let _ = socket.send(message);
    }
    head.len()
}

#[test]
fn s8_certificates_that_must_not_be_trusted_are_refused_and_nothing_is_sent() {
    let ours = Authority::new("ours");
    let (others, impostor) = (Authority::new("others"), Authority::new("ours"));
    let own_name = "127.0.0.1";
    let self_signed = rcgen::generate_simple_self_signed([own_name.to_owned()]).unwrap();
    let cases = [
        ("self-signed", (self_signed.cert.pem(), self_signed.signing_key.serialize_pem()), "self-signed certificate"),
        ("wrong host", ours.sign("elsewhere.example", |_| {}), "it is not for '127.0.0.1'"),
        (
            "expired",
            ours.sign(own_name, |parameters| parameters.not_after = rcgen::date_time_ymd(2020, 1, 1)),
            "certificate has expired",
        ),
        ("untrusted CA", others.sign(own_name, |_| {}), "unable to get local issuer certificate"),
        ("untrusted CA of the same name", impostor.sign(own_name, |_| {}), "certificate signature failure"),
    ];
    let mut refused = 0;
    for (kind, certificate, cause) in cases {
        let (address, seen) = serve_tls(certificate, |_| {});
        let mut settings = ours.settings(address);
        let error = expect(dial(&settings), "tls", &["failed to secure", "the certificate is not trusted", cause]);
        let report = seen.recv_timeout(DEADLINE).unwrap();
        assert_eq!(report.bytes, 0, "{kind}: something was sent");
        // The server has been told why, so that its own log says so too.
        let told = report.failed.expect(kind);
        assert!(told.contains("alert"), "{kind}: {told}");
        refused += usize::from(matches!(error, DialError::Tls { .. }));
        // Only who says so accepts it.
        settings.tls.verify = false;
        let dialer = Dialer::new(&settings, Resolver::new()).unwrap();
        assert_eq!(dialer.unverified(), Some(own_name));
        expect_echo(dialer.dial(&RequestExtras::default(), &CancelToken::default()).unwrap());
    }
    measured("S8", format_args!("{refused}/5 certificates refused, 0 bytes of payload sent"));
    assert_eq!(refused, 5);
}

#[test]
fn a_server_may_have_another_name_than_the_host_of_its_url() {
    let ours = Authority::new("ours");
    let (address, seen) = serve_tls(ours.sign("plc.example", |_| {}), |_| {});
    let mut settings = ours.settings(address);
    expect(dial(&settings), "tls", &["it is not for '127.0.0.1'", "`server_name`"]);
    assert_eq!(seen.recv_timeout(DEADLINE).unwrap().server_name, None);
    settings.tls.server_name = Some("plc.example".into());
    expect_echo(dial(&settings).unwrap());
    assert_eq!(seen.recv_timeout(DEADLINE).unwrap().server_name.as_deref(), Some("plc.example"));
}

#[test]
fn a_client_certificate_is_shown_whatever_its_key_looks_like() {
    use openssl::ec::{EcGroup, EcKey};
    use openssl::nid::Nid;
    use openssl::pkey::PKey;
    use openssl::rsa::Rsa;
    use openssl::symm::Cipher;

    let ours = Authority::new("ours");
    let trusted = openssl::x509::X509::from_pem(ours.issuer.pem().as_bytes()).unwrap();
    for newest in [SslVersion::TLS1_3, SslVersion::TLS1_2] {
        let (address, seen) = serve_tls(ours.sign("127.0.0.1", |_| {}), |builder| {
            builder.cert_store_mut().add_cert(trusted.clone()).unwrap();
            builder.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
            builder.set_max_proto_version(Some(newest)).unwrap();
        });
        let mut settings = ours.settings(address);
        // TLS 1.3 tells only after the handshake, and what arrives first, the alert or the end, is up to the network.
        let error = dial(&settings).map(drop).unwrap_err();
        assert!(matches!(error.step(), "tls" | "unanswered"), "{error}");
        assert!(seen.recv_timeout(DEADLINE).unwrap().failed.is_some());

        let rsa = Rsa::generate(2048).unwrap();
        let ec = EcKey::generate(&EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap()).unwrap();
        let pkcs8 = |key: &PKey<_>| key.private_key_to_pem_pkcs8().unwrap();
        let (rsa_pkcs8, ec_pkcs8) =
            (pkcs8(&PKey::from_rsa(rsa.clone()).unwrap()), pkcs8(&PKey::from_ec_key(ec.clone()).unwrap()));
        for (begins, key, pkcs8) in [
            ("-----BEGIN RSA PRIVATE KEY", rsa.private_key_to_pem().unwrap(), &rsa_pkcs8),
            ("-----BEGIN EC PRIVATE KEY", ec.private_key_to_pem().unwrap(), &ec_pkcs8),
            ("-----BEGIN PRIVATE KEY", rsa_pkcs8.clone(), &rsa_pkcs8),
            ("-----BEGIN PRIVATE KEY", ec_pkcs8.clone(), &ec_pkcs8),
        ] {
            assert!(key.starts_with(begins.as_bytes()));
            let mut parameters = CertificateParams::new(Vec::new()).unwrap();
            parameters.distinguished_name.push(rcgen::DnType::CommonName, "press-3");
            let own = KeyPair::from_pem(std::str::from_utf8(pkcs8).unwrap()).unwrap();
            fs::write(ours.file("client.pem"), parameters.signed_by(&own, &ours.issuer).unwrap().pem()).unwrap();
            fs::write(ours.file("client.key"), &key).unwrap();
            settings.tls.identity =
                Some(TlsSettings { certificate: ours.file("client.pem"), private_key: ours.file("client.key") });
            expect_echo(dial(&settings).unwrap());
            let shown = seen.recv_timeout(DEADLINE).unwrap().certificate;
            assert!(shown.as_ref().is_some_and(|name| name.contains("press-3")), "{begins}: {shown:?}");
        }

        // Files that cannot be used are named when the dialer is made, not when it dials.
        let other = ours.sign("other", |_| {}).1;
        let locked = PKey::from_rsa(rsa).unwrap();
        let locked = locked.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"secret").unwrap();
        for (key, words) in [
            (other.as_bytes(), "the private key of another certificate"),
            (&locked, "encrypted"),
            (b"no key", "no private key"),
        ] {
            fs::write(ours.file("client.key"), key).unwrap();
            let told = Dialer::new(&settings, Resolver::new()).err().unwrap().to_string();
            assert!(told.contains("client.key'") && told.contains(words), "{told}");
        }
        fs::remove_file(ours.file("client.pem")).unwrap();
        let told = Dialer::new(&settings, Resolver::new()).err().unwrap().to_string();
        assert!(told.contains("client.pem'") && told.contains("no such file"), "{told}");
    }
}

#[test]
fn a_key_update_in_the_middle_of_a_session_is_answered() {
    let ours = Authority::new("ours");
    let (certificate, key) = ours.sign("127.0.0.1", |_| {});
    fs::write(ours.file("c.pem"), certificate).unwrap();
    fs::write(ours.file("k.pem"), key).unwrap();
    let server = Command::new("openssl")
        .args(["s_server", "-accept", "127.0.0.1:0", "-naccept", "1", "-tls1_3", "-cert", "c.pem", "-key", "k.pem"])
        .current_dir(ours.directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut server) = server else {
        return measured("dial", format_args!("skipped: there is no openssl to ask for a key update"));
    };
    let (mut keyboard, mut screen) = (server.stdin.take().unwrap(), BufReader::new(server.stdout.take().unwrap()));
    let (sender, lines) = channel();
    thread::spawn(move || {
        let mut line = String::new();
        while screen.read_line(&mut line).unwrap_or(0) > 0 {
            let _ = sender.send(std::mem::take(&mut line));
        }
    });
    let wait_for = |wanted: &str| loop {
        let line = lines.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("no line with '{wanted}'"));
        if line.contains(wanted) {
            return line;
        }
    };
    let port: u16 = wait_for("ACCEPT").trim().rsplit(':').next().unwrap().parse().unwrap();
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let trusted = native_tls::Certificate::from_pem(ours.issuer.pem().as_bytes()).unwrap();
    let connector = native_tls::TlsConnector::builder().add_root_certificate(trusted).build().unwrap();
    let mut step = DialHandshake::begin(&connector, "127.0.0.1").unwrap();
    let mut cipher = [0; 4096];
    let mut session = loop {
        match step {
            DialStep::Done(session) => break session,
            DialStep::Waits(mut handshake) => {
                stream.write_all(&handshake.take_outgoing()).unwrap();
                let count = stream.read(&mut cipher).unwrap();
                step = handshake.feed(&cipher[..count]).unwrap();
            }
        }
    };
    stream.write_all(&session.take_outgoing()).unwrap();
    // Feeds all that one read brings; whatever comes out of it is appended.
    let mut feed = |session: &mut Session, stream: &mut TcpStream, plain: &mut Vec<u8>| {
        let count = stream.read(&mut cipher)?;
        let (mut piece, mut part) = (&cipher[..count], [0; 100]);
        while let Decrypted::Plain(count) = session.read(piece, &mut part)? {
            plain.extend_from_slice(&part[..count]);
            piece = &[];
        }
        std::io::Result::Ok(())
    };
    // The server takes the command for one after the handshake only, and only if it comes alone. What it sent before,
    // tickets, is here once it has read from us.
    session.seal(b"with old keys\n").unwrap();
    stream.write_all(&session.take_outgoing()).unwrap();
    wait_for("with old keys");
    let mut plain = Vec::new();
    stream.set_nonblocking(true).unwrap();
    while feed(&mut session, &mut stream, &mut plain).is_ok() {}
    stream.set_nonblocking(false).unwrap();
    keyboard.write_all(b"K\n").unwrap();
    feed(&mut session, &mut stream, &mut plain).unwrap();
    assert!(plain.is_empty(), "{plain:?}");
    keyboard.write_all(b"with new keys\n").unwrap();
    while !plain.ends_with(b"with new keys\n") {
        feed(&mut session, &mut stream, &mut plain).unwrap();
    }
    // OpenSSL answers the update with the next thing that is said.
    session.seal(b"and with ours\n").unwrap();
    let said = session.take_outgoing();
    let first = 5 + usize::from(u16::from_be_bytes([said[3], said[4]]));
    assert!(first < said.len(), "the update is not answered");
    stream.write_all(&said).unwrap();
    wait_for("and with ours");
    session.say_goodbye();
    stream.write_all(&session.take_outgoing()).unwrap();
    drop(stream);
    server.kill().unwrap();
    server.wait().unwrap();
}

// Proxies

/// A proxy that connects to `upstream` whatever it is asked for; what it was asked is in the channel.
fn serve_proxy(upstream: SocketAddr) -> (SocketAddr, Receiver<String>) {
    let (sender, asked) = channel();
    let address = serve(move |mut client| {
        let _ = sender.send(read_head(&mut client));
        let mut server = TcpStream::connect(upstream).unwrap();
        client
            .write_all(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 Connection established\r\nVia: a test\r\n\r\n")
            .unwrap();
        let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        thread::spawn(move || {
            let _ = std::io::copy(&mut from_client, &mut to_server);
            let _ = to_server.shutdown(std::net::Shutdown::Write);
        });
        let _ = std::io::copy(&mut server, &mut client);
        let _ = client.shutdown(std::net::Shutdown::Both);
    });
    (address, asked)
}

#[test]
fn a_proxy_leads_to_servers_whose_names_only_it_knows() {
    let ours = Authority::new("ours");
    let plain = serve(|stream| {
        let mut socket = tungstenite::accept(stream).unwrap();
        while let Ok(message) = socket.read() {
            let _ = socket.send(message);
        }
    });
    let (secure, seen) = serve_tls(ours.sign("upstream.invalid", |_| {}), |_| {});
    for (url, upstream, place) in [
        ("ws://upstream.invalid/x", plain, "upstream.invalid:80"),
        ("ws://[2001:db8::1]:81/x", plain, "[2001:db8::1]:81"),
        ("wss://upstream.invalid/x", secure, "upstream.invalid:443"),
    ] {
        let (proxy, asked) = serve_proxy(upstream);
        let mut settings = settings(url);
        settings.tls.ca = Some(ours.file("ca.pem"));
        settings.proxy = Proxy::Url(Secret::new(format!("http://me:s%40cret@{proxy}")));
        expect_echo(dial(&settings).unwrap());
        let request = asked.recv_timeout(DEADLINE).unwrap();
        let head = format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n");
        assert!(request.starts_with(&head), "{request}");
        assert!(request.contains("\r\nProxy-Authorization: Basic bWU6c0BjcmV0\r\n"), "{request}");
    }
    assert_eq!(seen.recv_timeout(DEADLINE).unwrap().server_name.as_deref(), Some("upstream.invalid"));
}

#[test]
fn a_proxy_that_does_not_lead_anywhere_says_why() {
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let through = |proxy: SocketAddr| {
        let mut settings = settings("ws://upstream.invalid/x?token=hidden");
        settings.proxy = Proxy::Url(Secret::new(format!("http://me:secret@{proxy}")));
        let result = dial(&settings);
        if let Err(error) = &result {
            assert!(!error.to_string().contains("secret") && !error.to_string().contains("hidden"), "{error}");
        }
        result
    };
    expect(through(closed), "proxy", &["to the proxy 'http://127.0.0.1", "connection refused"]);
    for (answer, words) in [
        (
            "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 8\r\n\r\nwho\u{1b}[2Jare you",
            &["the proxy answered 407 Proxy Authentication Required: who\\u{1b}[2J"][..],
        ),
        ("HTTP/1.1 502 Bad Gateway\r\n\r\nno such host", &["answered 502 Bad Gateway: no such host"]),
        ("SOCKS\r\n\r\n", &["not HTTP"]),
        ("", &["closed the connection without an answer"]),
        ("HTTP/1.1 200 OK\r\n\r\nearly", &["before the server could"]),
    ] {
        let (proxy, _asked) = serve_answer(answer);
        expect(through(proxy), "proxy", words);
    }
    let mut settings = settings("ws://h/");
    settings.proxy = Proxy::Url(Secret::new("socks5://me:secret@p:1"));
    let told = Dialer::new(&settings, Resolver::new()).err().unwrap().to_string();
    assert!(told.contains("failed to use the proxy 'socks5://p:1': ") && !told.contains("secret"), "{told}");
}
