//! What `send` and `listen` share: from a URL to an open WebSocket, and from there to its close.
//!
//! Resolving, connecting, TLS and the handshake run under one deadline, and Ctrl-C ends each of them.

use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{bounded, never, select};
use data_encoding::BASE64;
use socket2::{SockRef, TcpKeepalive};
use tungstenite::handshake::client::{Request, generate_key, generate_request};
use tungstenite::handshake::derive_accept_key;
use tungstenite::http::StatusCode;
use tungstenite::http::header::{HeaderMap, HeaderName, HeaderValue};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tungstenite::{Message, WebSocket};

use super::exit;
use super::wire::{Failed, Watch, Wire, Woken, connect_one};
use super::wording::{self, Seconds, cause, printable};
use crate::url::{self, Url};

/// The largest message that we send or accept, in bytes.
pub(super) const MESSAGE_MAX: usize = 64 << 20;

/// How long we wait for the answer to our Close; a server that is further away than this is not worth the wait.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// The largest response head that we read.
const HEAD_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 128;

/// How much of the body of a refusal we read, how much of it we show and how long we wait for it.
const BODY_MAX: usize = 4 << 10;
const BODY_SHOWN_MAX: usize = 500;
const BODY_WAIT: Duration = Duration::from_secs(1);

/// How much of a close reason is shown; a Close frame has no room for more.
const REASON_SHOWN_MAX: usize = 123;

/// Whom to call and how, as the command line has it. It has no `Debug`: headers hold secrets.
pub(super) struct DialSettings {
    /// `ws://` or `wss://`; a user and a password in it are sent as Basic authentication.
    pub(super) url: String,
    /// Lines of the form `Name: value`.
    pub(super) headers: Vec<String>,
    /// Offered in this order.
    pub(super) subprotocols: Vec<String>,
    /// A PEM file of certificates to trust besides those of the system.
    pub(super) ca: Option<PathBuf>,
    /// Accept any certificate.
    pub(super) insecure: bool,
    /// From the first lookup to the end of the handshake.
    pub(super) connect_timeout: Duration,
}

/// Checked settings, ready to connect any number of times.
pub(super) struct Dialer {
    url: String,
    target: Url,
    headers: Vec<(HeaderName, HeaderValue)>,
    subprotocols: Vec<String>,
    tls: Option<native_tls::TlsConnector>,
    insecure: bool,
    connect_timeout: Duration,
}

impl Dialer {
    /// Checks everything that can be checked without a network.
    pub(super) fn new(settings: DialSettings) -> Result<Dialer, DialError> {
        let shown = printable(&url::without_user(&settings.url), BODY_SHOWN_MAX);
        let target = url::parse(&settings.url)
            .map_err(|problem| DialError::Usage(format!("failed to read the URL '{shown}': {problem}")))?;
        let headers = settings.headers.iter().map(|line| parse_header(line)).collect::<Result<_, _>>()?;
        for (index, name) in settings.subprotocols.iter().enumerate() {
            if !is_token(name) {
                return Err(DialError::Usage(format!(
                    "failed to offer the subprotocol '{}': it may hold letters, digits and !#$%&'*+-.^_`|~ only \
                     (for several, repeat '--subprotocol')",
                    printable(name, BODY_SHOWN_MAX)
                )));
            }
            if settings.subprotocols[..index].contains(name) {
                return Err(DialError::Usage(format!("failed to offer the subprotocol '{name}' twice: name it once")));
            }
        }
        let tls = if target.secure { Some(tls_connector(&settings)?) } else { None };
        Ok(Dialer {
            url: shown,
            target,
            headers,
            subprotocols: settings.subprotocols,
            tls,
            insecure: settings.insecure,
            connect_timeout: settings.connect_timeout,
        })
    }

    /// The URL as it was given, without user and password.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// What the user should know before the first connection, if anything.
    pub(super) fn warning(&self) -> Option<String> {
        (self.insecure && self.tls.is_some()).then(|| {
            format!(
                "the certificate of '{}' is not checked ('--insecure'): whoever is on the way can read and change \
                 what is sent",
                self.target.host
            )
        })
    }

    /// Connects; an error says which step failed. `watch` ends it early with [`DialError::Woken`].
    pub(super) fn dial(&self, watch: &Watch) -> Result<Connection, DialError> {
        let deadline = Instant::now() + self.connect_timeout;
        let addresses = self.resolve(watch, deadline)?;
        let tcp = self.connect(&addresses, watch, deadline)?;
        // Small messages go out at once; a peer that vanished is noticed after a minute, even if we only listen.
        let keepalive = TcpKeepalive::new()
            .with_time(Duration::from_secs(30))
            .with_interval(Duration::from_secs(10))
            .with_retries(3);
        let socket = SockRef::from(&tcp);
        let _ = socket.set_tcp_nodelay(true);
        let _ = socket.set_tcp_keepalive(&keepalive);
        let wire = Wire::new(tcp, deadline, watch.clone());
        let mut stream = match &self.tls {
            None => Stream::Plain(wire),
            Some(connector) => Stream::Tls(Box::new(self.tls_handshake(connector, wire)?)),
        };
        let (behind_head, subprotocol) = self.handshake(&mut stream)?;
        stream.wire().set_deadline(None);
        let config = WebSocketConfig::default()
            .read_buffer_size(64 << 10)
            .max_message_size(Some(MESSAGE_MAX))
            .max_frame_size(Some(MESSAGE_MAX));
        let socket = WebSocket::from_partially_read(stream, behind_head, Role::Client, Some(config));
        Ok(Connection { socket, url: self.url.clone(), subprotocol })
    }

    /// The addresses of the host. `getaddrinfo` has no deadline, so it runs in a thread of its own that we leave behind
    /// when it takes too long; the resolver's own limits end it.
    fn resolve(&self, watch: &Watch, deadline: Instant) -> Result<Vec<SocketAddr>, DialError> {
        if let Ok(ip) = self.target.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, self.target.port)]);
        }
        let failed = |cause: String| DialError::Resolve { host: self.target.host.clone(), cause };
        // Room for the one answer, so that the thread never waits for us.
        let (answer_to, answer) = bounded(1);
        let (host, port) = (self.target.host.clone(), self.target.port);
        thread::Builder::new()
            .name("resolve".into())
            .spawn(move || {
                let _ = answer_to.send((host.as_str(), port).to_socket_addrs().map(Vec::from_iter));
            })
            .map_err(|error| DialError::System(format!("failed to start a thread: {}", cause(&error))))?;
        let stopped = watch.stop.as_ref().map_or_else(never, |stop| stop.channel().clone());
        select! {
            recv(answer) -> result => match result {
                Ok(Ok(addresses)) if addresses.is_empty() => Err(failed("the name has no address".into())),
                Ok(Ok(addresses)) => Ok(addresses),
                Ok(Err(error)) => Err(failed(cause(&error))),
                Err(_) => Err(failed("the resolver ended without an answer".into())),
            },
            recv(stopped) -> _ => Err(DialError::Woken),
            recv(crossbeam_channel::at(deadline)) -> _ => Err(failed(format!(
                "no answer within {} (see '--connect-timeout')", Seconds(self.connect_timeout)
            ))),
        }
    }

    /// The first address that lets us in. Each gets its share of the time that is left, so that one silent address
    /// does not hide a good one behind it.
    fn connect(&self, addresses: &[SocketAddr], watch: &Watch, deadline: Instant) -> Result<TcpStream, DialError> {
        let mut best: Option<io::Error> = None;
        for (index, address) in addresses.iter().enumerate() {
            let now = Instant::now();
            let share = deadline.saturating_duration_since(now) / (addresses.len() - index) as u32;
            match connect_one(*address, watch, now + share) {
                Ok(tcp) => return Ok(tcp),
                Err(Failed::Woken(Woken::Deadline)) => {
                    best.get_or_insert_with(|| io::ErrorKind::TimedOut.into());
                }
                Err(Failed::Woken(_)) => return Err(DialError::Woken),
                // A host without IPv6 fails on the first address of many names; that is not what the user wants to read.
                Err(Failed::Io(error)) => {
                    if best.as_ref().is_none_or(is_local_trouble) {
                        best = Some(error);
                    }
                }
            }
        }
        let error = best.expect("a resolved name has an address");
        let text = match error.kind() {
            io::ErrorKind::ConnectionRefused => "connection refused (is the server running?)".into(),
            io::ErrorKind::TimedOut => {
                format!("no answer within {} (see '--connect-timeout')", Seconds(self.connect_timeout))
            }
            _ => cause(&error),
        };
        Err(DialError::Connect { url: self.url.clone(), cause: text })
    }

    fn tls_handshake(
        &self,
        connector: &native_tls::TlsConnector,
        wire: Wire,
    ) -> Result<native_tls::TlsStream<Wire>, DialError> {
        let failed = |cause: String| DialError::Tls { url: self.url.clone(), cause };
        match connector.connect(&self.target.host, wire) {
            Ok(stream) => Ok(stream),
            Err(native_tls::HandshakeError::WouldBlock(half)) => match half.get_ref().woken() {
                Some(Woken::Stop | Woken::OutputClosed) => Err(DialError::Woken),
                _ => {
                    Err(failed(format!("no answer within {} (see '--connect-timeout')", Seconds(self.connect_timeout))))
                }
            },
            Err(native_tls::HandshakeError::Failure(error)) => Err(failed(tls_cause(&error, &self.target.host))),
        }
    }

    /// The opening handshake (RFC 6455 section 4.1); returns the bytes behind the head and the agreed subprotocol.
    ///
    /// It is our own around tungstenite's request, because tungstenite drops the stream when the server refuses, and
    /// with it the body that says why.
    fn handshake(&self, stream: &mut Stream) -> Result<(Vec<u8>, Option<String>), DialError> {
        let (request, key) = generate_request(self.request()?)
            .map_err(|error| DialError::Usage(format!("failed to build the request for '{}': {error}", self.url)))?;
        stream
            .write_all(&request)
            .and_then(|()| stream.flush())
            .map_err(|error| self.unanswered(stream, &error, false))?;

        let mut received = Vec::new();
        let head_len = loop {
            if let Some(hint) = not_http(&received, self.tls.is_some()) {
                return Err(self.protocol(hint));
            }
            let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
            match httparse::Response::new(&mut headers).parse(&received) {
                Ok(httparse::Status::Complete(len)) => break len,
                Ok(httparse::Status::Partial) if received.len() < HEAD_MAX => {}
                Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                    return Err(self.protocol("the head of the server's answer is too large"));
                }
                Err(error) => {
                    return Err(self.protocol(&format!("the server's answer is not HTTP: {error}")));
                }
            }
            let mut buffer = [0; 4096];
            match stream.read(&mut buffer) {
                Ok(0) => {
                    return Err(self.unanswered(stream, &io::ErrorKind::UnexpectedEof.into(), received.is_empty()));
                }
                Ok(n) => received.extend_from_slice(&buffer[..n]),
                Err(error) => return Err(self.unanswered(stream, &error, received.is_empty())),
            }
        };
        let behind_head = received.split_off(head_len);
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut head = httparse::Response::new(&mut headers);
        head.parse(&received).map_err(|error| self.protocol(&format!("the server's answer is not HTTP: {error}")))?;
        if head.code != Some(StatusCode::SWITCHING_PROTOCOLS.as_u16()) {
            return Err(self.refused(&head, behind_head, stream));
        }
        let subprotocol = self.check_upgrade(&head, &key)?;
        Ok((behind_head, subprotocol))
    }

    fn request(&self) -> Result<Request, DialError> {
        let mut request = Request::new(());
        *request.uri_mut() = self.target.path_and_query.parse().expect("the path was read as part of a URL");
        let headers = request.headers_mut();
        let value = |text: &str| {
            HeaderValue::from_str(text).map_err(|_| DialError::Usage(format!("failed to send '{text}' in a header")))
        };
        headers.insert("host", value(&self.target.authority())?);
        headers.insert("connection", HeaderValue::from_static("Upgrade"));
        headers.insert("upgrade", HeaderValue::from_static("websocket"));
        headers.insert("sec-websocket-version", HeaderValue::from_static("13"));
        headers.insert("sec-websocket-key", value(&generate_key())?);
        headers.insert("user-agent", HeaderValue::from_static(concat!("wsgate/", env!("CARGO_PKG_VERSION"))));
        if let Some((user, password)) = &self.target.user {
            let credential = BASE64.encode(format!("{user}:{}", password.expose()).as_bytes());
            headers.insert("authorization", value(&format!("Basic {credential}"))?);
        }
        let mut own = HeaderMap::new();
        for (name, value) in &self.headers {
            own.append(name, value.clone());
        }
        // What the user sets replaces what we set; what the user sets twice is sent twice.
        for name in own.keys() {
            headers.remove(name);
        }
        for (name, value) in &own {
            headers.append(name, value.clone());
        }
        if !self.subprotocols.is_empty() {
            headers.insert("sec-websocket-protocol", value(&self.subprotocols.join(", "))?);
        }
        Ok(request)
    }

    /// The checks of RFC 6455 section 4.1 on a 101.
    fn check_upgrade(&self, head: &httparse::Response, key: &str) -> Result<Option<String>, DialError> {
        if !header(head, "upgrade").any(|value| value.eq_ignore_ascii_case("websocket")) {
            return Err(self.protocol("the server's 101 lacks 'Upgrade: websocket'"));
        }
        let is_upgrade = |value: &str| value.split(',').any(|token| token.trim().eq_ignore_ascii_case("upgrade"));
        if !header(head, "connection").any(|value| is_upgrade(&value)) {
            return Err(self.protocol("the server's 101 lacks 'Connection: Upgrade'"));
        }
        if !header(head, "sec-websocket-accept").eq([derive_accept_key(key.as_bytes())]) {
            return Err(self.protocol("the server's 'Sec-WebSocket-Accept' does not fit our key (a cache on the way?)"));
        }
        if header(head, "sec-websocket-extensions").any(|value| !value.is_empty()) {
            return Err(self.protocol("the server turned on an extension that was not offered"));
        }
        let mut agreed = header(head, "sec-websocket-protocol");
        match (agreed.next(), agreed.next()) {
            (None, _) if self.subprotocols.is_empty() => Ok(None),
            // Browsers end the connection here too: both sides would speak different languages.
            (None, _) => Err(self.protocol(&format!(
                "the server agreed to none of the offered subprotocols ({})",
                self.subprotocols.join(", ")
            ))),
            (Some(name), None) if self.subprotocols.contains(&name) => Ok(Some(name)),
            (Some(name), _) => Err(self.protocol(&format!(
                "the server chose the subprotocol '{}', which was not offered",
                printable(&name, REASON_SHOWN_MAX)
            ))),
        }
    }

    /// Reads what the server has to say about its refusal, as far as it is short and comes soon.
    fn refused(&self, head: &httparse::Response, mut body: Vec<u8>, stream: &mut Stream) -> DialError {
        let status = head.code.and_then(|code| StatusCode::from_u16(code).ok()).unwrap_or_default();
        let length = header(head, "content-length").next().and_then(|value| value.parse::<usize>().ok());
        let chunked = header(head, "transfer-encoding").any(|value| value.to_ascii_lowercase().contains("chunked"));
        let wanted = length.unwrap_or(BODY_MAX).min(BODY_MAX);
        stream.wire().cap_deadline(BODY_WAIT);
        let mut buffer = [0; 1024];
        while body.len() < wanted && !(chunked && body.ends_with(b"0\r\n\r\n")) {
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(n) => body.extend_from_slice(&buffer[..n]),
            }
        }
        if chunked {
            body = dechunk(&body);
        }
        body.truncate(wanted);
        let location = header(head, "location").next().filter(|_| status.is_redirection());
        DialError::Refused {
            url: self.url.clone(),
            status,
            reason: head.reason.filter(|reason| !reason.is_empty()).map(|reason| printable(reason, REASON_SHOWN_MAX)),
            location: location.map(|location| printable(&location, BODY_SHOWN_MAX)),
            body: printable(String::from_utf8_lossy(&body).trim(), BODY_SHOWN_MAX),
        }
    }

    fn protocol(&self, problem: &str) -> DialError {
        DialError::Protocol { url: self.url.clone(), problem: problem.into() }
    }

    /// The stream ended or failed before the whole answer was there.
    fn unanswered(&self, stream: &mut Stream, error: &io::Error, nothing_came: bool) -> DialError {
        let cause = match stream.wire().woken() {
            Some(Woken::Deadline) => {
                format!("no answer to the handshake within {} (see '--connect-timeout')", Seconds(self.connect_timeout))
            }
            Some(_) => return DialError::Woken,
            None => match error.kind() {
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                    let hint = match (nothing_came, &self.tls) {
                        (true, None) => " (is this a TLS port? then use wss://)",
                        _ => "",
                    };
                    format!("the server closed the connection without an answer{hint}")
                }
                _ => wording::cause(error),
            },
        };
        DialError::Unanswered { url: self.url.clone(), cause }
    }
}

/// An open WebSocket.
pub(super) struct Connection {
    socket: WebSocket<Stream>,
    url: String,
    subprotocol: Option<String>,
}

/// One data message from the peer.
#[derive(Debug)]
pub(super) enum Received {
    /// Text, which is valid UTF-8.
    Text(tungstenite::Utf8Bytes),
    /// Binary.
    Binary(tungstenite::Bytes),
}

impl Received {
    /// The payload: text with a line end behind it, binary as it is.
    pub(super) fn write_raw(&self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Received::Text(text) => out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")),
            Received::Binary(data) => out.write_all(data),
        }
    }
}

/// Why there will be no further message, or none for now.
#[derive(Debug)]
pub(super) enum End {
    /// The peer closed in an orderly way.
    Closed(Closed),
    /// The wait was ended from our side.
    Woken,
    /// The connection or the protocol broke.
    Failed(DialError),
}

impl Connection {
    /// The subprotocol that the server chose.
    pub(super) fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// Sends one message; it has been handed to the system when this returns.
    pub(super) fn send(&mut self, message: Message) -> Result<(), End> {
        self.socket.get_mut().wire().set_deadline(None);
        self.socket.send(message).map_err(|error| self.end(error))
    }

    /// The next data message; pings are answered on the way. Without a `deadline` it waits for ever.
    pub(super) fn receive(&mut self, deadline: Option<Instant>) -> Result<Received, End> {
        self.socket.get_mut().wire().set_deadline(deadline);
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => return Ok(Received::Text(text)),
                Ok(Message::Binary(data)) => return Ok(Received::Binary(data)),
                Ok(Message::Close(frame)) => {
                    // Our half of the closing handshake is written by this flush.
                    self.socket.get_mut().wire().hurry(CLOSE_WAIT);
                    let _ = self.socket.flush();
                    return Err(End::Closed(Closed::from(frame)));
                }
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
                Err(error) => return Err(self.end(error)),
            }
        }
    }

    /// Closes with 1000 and waits briefly for the peer's own Close, which is returned. Messages that come meanwhile
    /// are dropped, and Ctrl-C does not end this.
    pub(super) fn close(mut self) -> Option<Closed> {
        self.socket.get_mut().wire().hurry(CLOSE_WAIT);
        let normal = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        if self.socket.close(Some(normal)).is_err() {
            return None;
        }
        let closed = loop {
            match self.socket.read() {
                Ok(Message::Close(frame)) => break Some(Closed::from(frame)),
                Ok(_) => {}
                Err(_) => break None,
            }
        };
        if let Stream::Tls(tls) = self.socket.get_mut() {
            // Without it a careful server takes the end of the connection for an attack.
            let _ = tls.shutdown();
        }
        closed
    }

    /// What an error of tungstenite means to us. A broken protocol is answered with the Close code that says so, which
    /// tungstenite does not do.
    fn end(&mut self, error: tungstenite::Error) -> End {
        use tungstenite::Error;
        use tungstenite::error::{CapacityError, ProtocolError};
        let url = self.url.clone();
        let (code, problem) = match error {
            Error::Io(error) => {
                return match self.socket.get_mut().wire().woken() {
                    Some(_) if error.kind() == io::ErrorKind::WouldBlock => End::Woken,
                    _ => End::Failed(DialError::Lost { url, cause: cause(&error) }),
                };
            }
            Error::ConnectionClosed | Error::AlreadyClosed => return End::Closed(Closed::from(None)),
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
                let cause = "the server ended it without a Close".into();
                return End::Failed(DialError::Lost { url, cause });
            }
            Error::Capacity(CapacityError::MessageTooLong { size, .. }) => {
                (CloseCode::Size, format!("a message of {size} bytes is over the limit of {MESSAGE_MAX} bytes"))
            }
            Error::Utf8(_) => (CloseCode::Invalid, "a text message is not valid UTF-8".into()),
            other => (CloseCode::Protocol, other.to_string()),
        };
        self.socket.get_mut().wire().hurry(CLOSE_WAIT);
        let _ = self.socket.close(Some(CloseFrame { code, reason: "".into() }));
        End::Failed(DialError::Protocol { url, problem })
    }
}

/// The Close frame of the peer.
#[derive(Debug)]
pub(super) struct Closed {
    /// 1005 when the frame had none (RFC 6455 section 7.1.5).
    code: u16,
    reason: String,
}

impl Closed {
    /// A normal ending: 1000, 1001, or a Close without a code, which is what most programs send when they just close.
    pub(super) fn is_normal(&self) -> bool {
        matches!(self.code, 1000 | 1001 | 1005)
    }

    fn exit_code(&self) -> u8 {
        match self.code {
            1002 | 1003 | 1007 => exit::PROTOCOL,
            1008 => exit::NO_PERMISSION,
            1009 => exit::DATA,
            1012 | 1013 => exit::TEMPORARY,
            _ => exit::UNAVAILABLE,
        }
    }
}

impl From<Option<CloseFrame>> for Closed {
    fn from(frame: Option<CloseFrame>) -> Closed {
        match frame {
            Some(frame) => Closed { code: frame.code.into(), reason: frame.reason.as_str().into() },
            None => Closed { code: 1005, reason: String::new() },
        }
    }
}

impl fmt::Display for Closed {
    /// `1008 "reason"`, safe for a terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            1005 => f.write_str("no code"),
            code if self.reason.is_empty() => write!(f, "code {code}"),
            code => write!(f, "code {code} \"{}\"", printable(&self.reason, REASON_SHOWN_MAX)),
        }
    }
}

/// What went wrong; each has its exit code.
#[derive(Debug)]
pub(super) enum DialError {
    /// The command line is wrong; trying again does not help.
    Usage(String),
    /// The file of `--ca` is unreadable or holds no certificate; trying again does not help.
    Ca { path: PathBuf, cause: String },
    /// The host name has no address that we could find.
    Resolve { host: String, cause: String },
    /// No address of the host let us in.
    Connect { url: String, cause: String },
    /// The TLS handshake failed, or the certificate is not trusted.
    Tls { url: String, cause: String },
    /// The server ended the connection or said nothing before its answer was complete.
    Unanswered { url: String, cause: String },
    /// The server answered with something else than 101.
    Refused { url: String, status: StatusCode, reason: Option<String>, location: Option<String>, body: String },
    /// The server broke the protocol.
    Protocol { url: String, problem: String },
    /// An open connection broke.
    Lost { url: String, cause: String },
    /// The server closed with a code that is not a normal ending.
    Closed { url: String, closed: Closed },
    /// The system denied us something.
    System(String),
    /// Not a failure: the wait was ended from our side.
    Woken,
}

impl DialError {
    /// The exit code after sysexits.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            DialError::Usage(_) => exit::USAGE,
            DialError::Ca { .. } => exit::NO_INPUT,
            DialError::Resolve { .. } => exit::NO_HOST,
            DialError::Connect { .. } | DialError::Tls { .. } | DialError::Unanswered { .. } => exit::UNAVAILABLE,
            DialError::Refused { status, .. } => match status.as_u16() {
                401 | 403 | 407 => exit::NO_PERMISSION,
                _ => exit::UNAVAILABLE,
            },
            DialError::Protocol { .. } => exit::PROTOCOL,
            DialError::Lost { .. } => exit::IO,
            DialError::Closed { closed, .. } => closed.exit_code(),
            DialError::System(_) => exit::SYSTEM,
            DialError::Woken => 0,
        }
    }
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DialError::Usage(text) | DialError::System(text) => f.write_str(text),
            DialError::Ca { path, cause } => {
                write!(f, "failed to read certificates from '{}': {cause}", path.display())
            }
            DialError::Resolve { host, cause } => write!(f, "failed to resolve '{host}': {cause}"),
            DialError::Connect { url, cause } => write!(f, "failed to connect to '{url}': {cause}"),
            DialError::Tls { url, cause } => write!(f, "failed to secure '{url}': {cause}"),
            DialError::Unanswered { url, cause } => write!(f, "failed to open '{url}': {cause}"),
            DialError::Protocol { url, problem } => write!(f, "failed to speak WebSocket with '{url}': {problem}"),
            DialError::Refused { url, status, reason, location, body } => {
                let reason = reason.as_deref().or(status.canonical_reason()).unwrap_or_default();
                write!(f, "failed to open '{url}': the server answered {}", status.as_u16())?;
                if !reason.is_empty() {
                    write!(f, " {reason}")?;
                }
                if let Some(location) = location {
                    write!(f, ", moved to '{location}' (redirects are not followed: use the new address)")?;
                }
                if !body.is_empty() {
                    write!(f, ": {body}")?;
                }
                Ok(())
            }
            DialError::Lost { url, cause } => write!(f, "failed to keep the connection to '{url}': {cause}"),
            DialError::Closed { url, closed } => {
                write!(f, "failed to stay connected to '{url}': closed by the server, {closed}")
            }
            DialError::Woken => f.write_str("stopped"),
        }
    }
}

// The causes are texts for a person, so there is no source to give.
impl std::error::Error for DialError {}

/// Plain or TLS.
enum Stream {
    Plain(Wire),
    Tls(Box<native_tls::TlsStream<Wire>>),
}

impl Stream {
    fn wire(&mut self) -> &mut Wire {
        match self {
            Stream::Plain(wire) => wire,
            Stream::Tls(tls) => tls.get_mut(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(wire) => wire.read(buffer),
            Stream::Tls(tls) => tls.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(wire) => wire.write(buffer),
            Stream::Tls(tls) => tls.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(wire) => wire.flush(),
            Stream::Tls(tls) => tls.flush(),
        }
    }
}

/// Errors that say more about this host than about the server.
fn is_local_trouble(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrNotAvailable, HostUnreachable, NetworkUnreachable, Unsupported};
    matches!(error.kind(), AddrNotAvailable | HostUnreachable | NetworkUnreachable | Unsupported)
}

/// Reads `Name: value`.
fn parse_header(line: &str) -> Result<(HeaderName, HeaderValue), DialError> {
    let failed = |problem: &str| {
        DialError::Usage(format!("failed to use the header '{}': {problem}", printable(line, BODY_SHOWN_MAX)))
    };
    let (name, value) = line.split_once(':').ok_or_else(|| failed("it has no colon (write 'Name: value')"))?;
    let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| failed("its name is not a header name"))?;
    match name.as_str() {
        "sec-websocket-protocol" => return Err(failed("use '--subprotocol' for it")),
        "connection" | "upgrade" | "sec-websocket-key" | "sec-websocket-version" | "sec-websocket-extensions" => {
            return Err(failed("the handshake sets it itself"));
        }
        _ => {}
    }
    let value =
        HeaderValue::from_bytes(value.trim().as_bytes()).map_err(|_| failed("its value holds a control character"))?;
    Ok((name, value))
}

/// A token of HTTP (RFC 9110 section 5.6.2), which a subprotocol is.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

fn tls_connector(settings: &DialSettings) -> Result<native_tls::TlsConnector, DialError> {
    let mut builder = native_tls::TlsConnector::builder();
    builder.min_protocol_version(Some(native_tls::Protocol::Tlsv12));
    if let Some(path) = &settings.ca {
        let failed = |cause: String| DialError::Ca { path: path.clone(), cause };
        let pem = fs::read(path).map_err(|error| failed(cause(&error)))?;
        let certificates = native_tls::Certificate::stack_from_pem(&pem).map_err(|error| failed(error.to_string()))?;
        if certificates.is_empty() {
            return Err(failed("it holds no certificate (PEM: '-----BEGIN CERTIFICATE-----')".into()));
        }
        for certificate in certificates {
            builder.add_root_certificate(certificate);
        }
    }
    builder.danger_accept_invalid_certs(settings.insecure).danger_accept_invalid_hostnames(settings.insecure);
    builder.build().map_err(|error| DialError::System(format!("failed to set up TLS: {error}")))
}

/// A failed TLS handshake in the words of a person; OpenSSL's own are a line of numbers and file names.
fn tls_cause(error: &native_tls::Error, host: &str) -> String {
    let text = error.to_string();
    let source = std::error::Error::source(error);
    let stack = source.and_then(|source| source.downcast_ref::<openssl::error::ErrorStack>());
    let reason = stack.and_then(|stack| stack.errors().first()).and_then(|error| error.reason()).unwrap_or(&text);
    if reason.contains("certificate verify failed") {
        // The reason of the verification stands in the last parentheses.
        let why = text.rsplit_once('(').map_or("not trusted", |(_, why)| why.trim_end_matches(')'));
        let to_do = if why.contains("mismatch") {
            format!("it is not for '{host}': use the name that it was issued for, or '--insecure' to accept any")
        } else {
            "trust its issuer with '--ca FILE', or accept any certificate with '--insecure'".into()
        };
        return format!("the certificate is not trusted: {why} ({to_do})");
    }
    if ["wrong version number", "packet length too long", "http request"].iter().any(|known| reason.contains(known)) {
        return "the server does not speak TLS on this port (is it plain? then use ws://)".into();
    }
    match source.and_then(|source| source.downcast_ref::<io::Error>()) {
        Some(error) => cause(error),
        None if reason.contains("unexpected eof") || reason.contains("unexpected EOF") => {
            "the server closed the connection in the TLS handshake".into()
        }
        None => reason.to_owned(),
    }
}

/// Bytes that cannot become an HTTP answer, with what they are.
fn not_http(received: &[u8], tls: bool) -> Option<&'static str> {
    let start = &received[..received.len().min(5)];
    if start.is_empty() || b"HTTP/".starts_with(start) {
        return None;
    }
    // A TLS server answers a plain request with an alert or a handshake record of version 3.x.
    let is_tls = !tls && matches!(start, [0x15 | 0x16, 3, ..]);
    Some(if is_tls {
        "the server speaks TLS on this port (use wss://)"
    } else {
        "the server's answer is not HTTP (is a WebSocket server on this port?)"
    })
}

fn header<'a>(head: &'a httparse::Response, name: &'a str) -> impl Iterator<Item = String> + 'a {
    head.headers
        .iter()
        .filter(move |header| header.name.eq_ignore_ascii_case(name))
        .map(|header| String::from_utf8_lossy(header.value).trim().to_owned())
}

/// The data of a chunked body (RFC 9112 section 7.1), as much of it as is there.
fn dechunk(mut body: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    while let Ok(httparse::Status::Complete((start, size))) = httparse::parse_chunk_size(body) {
        let rest = &body[start..];
        let len = usize::try_from(size).unwrap_or(usize::MAX).min(rest.len());
        data.extend_from_slice(&rest[..len]);
        if len == 0 {
            break;
        }
        body = rest.get(len + 2..).unwrap_or_default();
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunked_body_is_joined_as_far_as_it_came() {
        assert_eq!(dechunk(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"), b"abcde");
        assert_eq!(dechunk(b"ffffffffffffffff\r\nabc"), b"abc");
        assert_eq!(dechunk(b"3\r\nabc"), b"abc");
        assert_eq!(dechunk(b"zz"), b"");
    }

    #[test]
    fn a_header_of_the_handshake_itself_is_refused() {
        for line in
            ["Upgrade: x", "sec-websocket-key: x", "Sec-WebSocket-Protocol: a", "novalue", "a b: c", "a: b\nc: d"]
        {
            assert!(parse_header(line).is_err(), "{line}");
        }
        let (name, value) = parse_header("X-Name:  a: b ").unwrap();
        assert_eq!((name.as_str(), value.as_bytes()), ("x-name", &b"a: b"[..]));
    }

    #[test]
    fn every_close_code_has_its_exit_code() {
        for (code, normal, exit_code) in
            [(1000, true, 69), (1001, true, 69), (1002, false, 76), (1008, false, 77), (1013, false, 75)]
        {
            let closed = Closed { code, reason: String::new() };
            assert_eq!((closed.is_normal(), closed.exit_code()), (normal, exit_code), "{code}");
        }
    }
}
