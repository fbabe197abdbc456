//! The opening handshake, server side (RFC 6455 section 4.2): reading the request head under one
//! deadline, judging it, and writing the answer.
//!
//! Whatever arrives gets a correct HTTP answer at once. Bytes that came behind the head belong to
//! the WebSocket and are kept.

use std::fmt::Write as _;
use std::io;
use std::time::Instant;

use openssl::ssl::SslContext;
use tungstenite::handshake::derive_accept_key;

use super::socket::Socket;
use super::tls::{Decrypted, Session};

/// The longest request head we read, in bytes; more is 431.
pub const HEAD_MAX: usize = 16 << 10;

/// The most header fields in a head; more is 431.
const FIELDS_MAX: usize = 100;

/// How much is read at once; nearly every head fits.
const CHUNK: usize = 2048;

/// The longest that a record of a TLS handshake can be, with its header of 5 bytes (RFC 8446 section 5.1).
const RECORD_MAX: usize = 5 + (16 << 10);

/// A stream during its handshake: a socket, and TLS over it if the listener has TLS.
#[derive(Debug)]
pub struct Stream {
    /// The socket.
    pub socket: Socket,
    /// What a TLS session is made of, until the peer has begun one.
    context: Option<SslContext>,
    /// The TLS session, from the peer's first whole record on.
    session: Option<Session>,
}

/// Why no request head could be read.
#[derive(Debug)]
pub enum HeadError {
    /// The deadline passed.
    TimedOut,
    /// More than [`HEAD_MAX`] bytes without an end.
    TooLong,
    /// The peer ended the connection first; `true` if it had sent something.
    Gone(bool),
    /// On a TLS listener the first bytes are not TLS but plain HTTP.
    PlainHttp,
    /// What has arrived cannot become a request, such as TLS on a plain listener.
    NotHttp,
    /// The TLS handshake failed.
    Tls(io::Error),
    /// The socket failed.
    Io(io::Error),
}

/// A request head and what came behind it.
#[derive(Debug)]
pub struct Head {
    /// The head, up to and with the empty line.
    pub bytes: Vec<u8>,
    /// What came after it.
    pub behind: Vec<u8>,
}

impl Stream {
    /// A stream before its handshake; over TLS if there is a context for it.
    pub fn new(socket: Socket, tls: Option<SslContext>) -> Stream {
        Stream { socket, context: tls, session: None }
    }

    /// The socket, and the TLS session over it: there is one after a head has been read over TLS.
    pub fn into_parts(self) -> (Socket, Option<Session>) {
        (self.socket, self.session)
    }

    /// Whether the peer is spoken to over TLS.
    pub fn is_tls(&self) -> bool {
        self.context.is_some() || self.session.is_some()
    }

    /// Goes on without TLS, for a peer that has shown that it speaks none.
    pub fn give_up_tls(&mut self) {
        self.context = None;
        self.session = None;
    }

    /// Does the TLS handshake if there is TLS, then reads up to the end of a request head.
    pub fn read_head(&mut self, deadline: Instant) -> Result<Head, HeadError> {
        let mut input = self.shake_hands(deadline)?;
        loop {
            if let Some(end) = head_end(&input) {
                let behind = input.split_off(end);
                return Ok(Head { bytes: input, behind });
            }
            // Such bytes may never have a line's end: their sender is told at once, not at the deadline.
            if input.first().is_some_and(|&first| !begins_request(first)) {
                return Err(HeadError::NotHttp);
            }
            if input.len() > HEAD_MAX {
                return Err(HeadError::TooLong);
            }
            if self.read_more(&mut input, deadline)? == 0 {
                return Err(HeadError::Gone(!input.is_empty()));
            }
        }
    }

    /// Writes an answer, as far as the socket takes it: nothing was written before, so it takes
    /// every answer of ours whole.
    pub fn write(&mut self, answer: &[u8]) -> io::Result<()> {
        match &mut self.session {
            None => self.socket.send_now(answer).map(drop),
            Some(session) => {
                session.seal(answer)?;
                self.socket.send_now(&session.take_outgoing()).map(drop)
            }
        }
    }

    /// Ends a refused connection so that the peer can read why: our direction is shut down, and
    /// what it still sends is discarded until it ends or the deadline passes. Closing with unread
    /// bytes would make the kernel reset the connection and the answer with it.
    pub fn linger(&mut self, deadline: Instant) {
        if let Some(session) = &mut self.session {
            session.say_goodbye();
            let goodbye = session.take_outgoing();
            let _ = self.socket.send_now(&goodbye);
        }
        self.socket.shutdown_write();
        let mut discarded = [0; CHUNK];
        while let Ok(1..) = recv_until(&self.socket, &mut discarded, deadline) {}
    }

    /// Whether the peer is to be spoken to over TLS and cannot be yet.
    pub fn is_secret_not_agreed(&self) -> bool {
        self.context.is_some() || self.session.as_ref().is_some_and(|session| !session.is_ready())
    }

    /// As [`linger`](Stream::linger), for a peer with which no TLS session came about: it has been
    /// sent the alert that says why.
    pub fn abandon(&mut self, deadline: Instant) {
        self.give_up_tls();
        self.linger(deadline);
    }

    /// The TLS handshake; returns what the client has sent behind it already.
    fn shake_hands(&mut self, deadline: Instant) -> Result<Vec<u8>, HeadError> {
        let Some(context) = self.context.clone() else { return Ok(Vec::new()) };
        let mut cipher = self.first_record(deadline)?;
        let session = Session::new(&context).map_err(|error| HeadError::Tls(error.into()))?;
        let session = self.session.insert(session);
        self.context = None;
        loop {
            let done = session.handshake(&cipher);
            let outgoing = session.take_outgoing();
            if !outgoing.is_empty() {
                self.socket.send_now(&outgoing).map_err(HeadError::Io)?;
            }
            if done.map_err(HeadError::Tls)? {
                let mut input = Vec::new();
                decrypt_all(session, &[], &mut input)?;
                return Ok(input);
            }
            cipher.clear();
            if recv_behind(&self.socket, &mut cipher, deadline)? == 0 {
                return Err(HeadError::Gone(true));
            }
        }
    }

    /// The peer's first TLS record, whole unless it is none, and what came with it. A session costs twenty times
    /// what these bytes do, so it is made only for a peer that has said all of its first words.
    fn first_record(&self, deadline: Instant) -> Result<Vec<u8>, HeadError> {
        let mut cipher = Vec::new();
        loop {
            if recv_behind(&self.socket, &mut cipher, deadline)? == 0 {
                return Err(HeadError::Gone(!cipher.is_empty()));
            }
            if looks_like_http(&cipher) {
                return Err(HeadError::PlainHttp);
            }
            if is_record_whole(&cipher) {
                return Ok(cipher);
            }
        }
    }

    fn read_more(&mut self, input: &mut Vec<u8>, deadline: Instant) -> Result<usize, HeadError> {
        let Some(session) = &mut self.session else { return recv_behind(&self.socket, input, deadline) };
        let mut cipher = vec![0; CHUNK];
        loop {
            let count = recv_until(&self.socket, &mut cipher, deadline)?;
            if count == 0 {
                return Ok(0);
            }
            let decrypted = decrypt_all(session, &cipher[..count], input)?;
            if decrypted > 0 || session.is_ended_by_peer() {
                return Ok(decrypted);
            }
        }
    }
}

/// Reads what is there, or waits for it, but not beyond the deadline.
fn recv_until(socket: &Socket, buffer: &mut [u8], deadline: Instant) -> Result<usize, HeadError> {
    loop {
        // Looked at first: a peer that never stops sending would never be late.
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(HeadError::TimedOut);
        }
        match socket.recv_now(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result.map_err(HeadError::Io),
        }
        socket.wait_readable(left).map_err(HeadError::Io)?;
    }
}

/// As [`recv_until`], behind what is there already.
fn recv_behind(socket: &Socket, input: &mut Vec<u8>, deadline: Instant) -> Result<usize, HeadError> {
    let have = input.len();
    input.resize(have + CHUNK, 0);
    let count = recv_until(socket, &mut input[have..], deadline);
    input.truncate(have + count.as_ref().copied().unwrap_or(0));
    count
}

fn decrypt_all(session: &mut Session, cipher: &[u8], input: &mut Vec<u8>) -> Result<usize, HeadError> {
    let before = input.len();
    let mut plain = vec![0; CHUNK];
    let mut cipher = cipher;
    loop {
        match session.read(cipher, &mut plain).map_err(HeadError::Tls)? {
            Decrypted::Plain(count) => input.extend_from_slice(&plain[..count]),
            Decrypted::NeedMore | Decrypted::Closed => return Ok(input.len() - before),
        }
        cipher = &[];
    }
}

/// Where the head ends, if it does: behind the first empty line.
fn head_end(input: &[u8]) -> Option<usize> {
    input.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// Whether a TLS handshake record is all there. What is no such record never gets whole: it is for the session to
/// refuse.
fn is_record_whole(cipher: &[u8]) -> bool {
    const HANDSHAKE: u8 = 22;
    match *cipher {
        [HANDSHAKE, _, _, high, low, ..] => {
            let whole = 5 + usize::from(u16::from_be_bytes([high, low]));
            whole > RECORD_MAX || cipher.len() >= whole
        }
        [HANDSHAKE, ..] => false,
        _ => true,
    }
}

/// Whether these bytes begin like a request line. A TLS record begins with 22.
fn looks_like_http(bytes: &[u8]) -> bool {
    bytes.iter().take(3).all(u8::is_ascii_uppercase)
}

/// Whether a request can begin with this byte: with a method, or with the empty line that RFC 9112
/// section 2.2 forgives.
fn begins_request(byte: u8) -> bool {
    byte.is_ascii_graphic() || matches!(byte, b'\r' | b'\n')
}

/// A request to open a WebSocket, or not, as its head says. Borrowed from the head.
#[derive(Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The target without the query: what the endpoints are matched against.
    pub path: &'a str,
    /// The query, without its `?`.
    pub query: Option<&'a str>,
    /// The Host header, or what stands in its place in the target (RFC 9112 section 3.2.2).
    pub host: &'a str,
    /// The Origin header; browsers always send one.
    pub origin: Option<&'a str>,
    /// The User-Agent header.
    pub user_agent: Option<&'a str>,
    /// The subprotocols offered, in the client's order.
    pub subprotocols: Vec<&'a str>,
    /// What the peer wants; only `Upgrade` can become a WebSocket.
    pub intent: Intent<'a>,
}

/// What a well-formed request wants.
#[derive(Debug, PartialEq, Eq)]
pub enum Intent<'a> {
    /// To open a WebSocket; the key is valid.
    Upgrade {
        /// Sec-WebSocket-Key as sent.
        key: &'a str,
    },
    /// A plain GET.
    Plain,
}

/// An answer that ends the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// One sentence for whoever reads the body.
    pub reason: String,
}

impl Refusal {
    /// A refusal with this status and body.
    pub fn new(status: u16, reason: impl Into<String>) -> Refusal {
        Refusal { status, reason: reason.into() }
    }

    /// The whole HTTP answer.
    pub fn to_http(&self) -> Vec<u8> {
        let phrase = match self.status {
            400 => "Bad Request",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            408 => "Request Timeout",
            426 => "Upgrade Required",
            431 => "Request Header Fields Too Large",
            502 => "Bad Gateway",
            504 => "Gateway Timeout",
            505 => "HTTP Version Not Supported",
            _ => "Service Unavailable",
        };
        let extra = match self.status {
            405 => "Allow: GET\r\n",
            426 => "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
            503 => "Retry-After: 1\r\n",
            _ => "",
        };
        // RFC 9110 section 7.8: an Upgrade field goes with the connection option of that name.
        let connection = if self.status == 426 { "upgrade, close" } else { "close" };
        let Refusal { status, reason } = self;
        let length = reason.len() + 1;
        format!(
            "HTTP/1.1 {status} {phrase}\r\nConnection: {connection}\r\n{extra}Content-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {length}\r\n\r\n{reason}\n"
        )
        .into_bytes()
    }
}

/// The values of a header in a head that was judged to be good.
pub fn header_values(head: &[u8], name: &str) -> Vec<Vec<u8>> {
    let mut fields = vec![httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut fields);
    match parsed.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) | Err(_) => return Vec::new(),
    }
    let named = parsed.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
    named.map(|field| field.value.to_vec()).collect()
}

/// Judges a request head by itself: is it HTTP/1.1, a GET, and if it wants a WebSocket, is
/// everything there that RFC 6455 section 4.2.1 demands, once?
pub fn judge(head: &[u8]) -> Result<Request<'_>, Refusal> {
    // On the heap: a client thread's stack keeps every page that it ever touched.
    let mut fields = vec![httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut fields);
    match parsed.parse(head) {
        // The parser forgives a line that ends in LF alone (RFC 9112 section 2.2 lets it). Then the head may
        // end for it before it ends for us, and what stands between would be read by nobody.
        Ok(httparse::Status::Complete(end)) if end < head.len() => {
            return Err(Refusal::new(400, "the lines of a request end in CR LF"));
        }
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(Refusal::new(400, "the request head is not complete")),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Refusal::new(431, format!("more than {FIELDS_MAX} header fields")));
        }
        Err(httparse::Error::Version) => return Err(Refusal::new(505, "only HTTP/1.1 is spoken here")),
        Err(error) => return Err(Refusal::new(400, format!("not a valid HTTP request: {error}"))),
    }
    if parsed.version != Some(1) {
        return Err(Refusal::new(505, "HTTP/1.0 cannot be upgraded: use HTTP/1.1"));
    }
    if parsed.method != Some("GET") {
        return Err(Refusal::new(405, "a WebSocket is opened with GET"));
    }
    let target = parsed.path.unwrap_or_default();
    let Target { authority, path } = Target::parse(target)?;
    let fields = Fields(parsed.headers);
    let host = fields.once("Host")?.ok_or_else(|| Refusal::new(400, "the Host header is missing"))?;
    fields.no_body()?;
    Ok(Request {
        path,
        query: target.split('#').next().and_then(|target| target.split_once('?')).map(|(_, query)| query),
        host: authority.unwrap_or(host),
        origin: fields.once("Origin")?,
        user_agent: fields.first("User-Agent"),
        subprotocols: fields.tokens("Sec-WebSocket-Protocol"),
        intent: fields.intent()?,
    })
}

/// A request target without its query.
#[derive(Debug, PartialEq, Eq)]
struct Target<'a> {
    /// Host and port, if the target names them.
    authority: Option<&'a str>,
    path: &'a str,
}

impl<'a> Target<'a> {
    /// A path, or a whole http or https URI: RFC 9112 section 3.2.2 demands that a server take both, and RFC 6455
    /// section 4.1 lets a client send either.
    fn parse(target: &'a str) -> Result<Target<'a>, Refusal> {
        let target = target.split(['?', '#']).next().unwrap_or_default();
        if target.starts_with('/') {
            return Ok(Target { authority: None, path: target });
        }
        let is_http = |scheme: &str| scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
        let Some((_, rest)) = target.split_once("://").filter(|(scheme, _)| is_http(scheme)) else {
            return Err(Refusal::new(400, "the request target must be a path that begins with '/', or an http URI"));
        };
        let (authority, path) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
        // A user's name before the host is how one host is made to look like another (RFC 9110 section 4.2.4).
        if split_port(authority).0.is_empty() || authority.contains('@') {
            return Err(Refusal::new(400, "the request target names no host, or a user"));
        }
        Ok(Target { authority: Some(authority), path })
    }
}

/// Splits `name:port`; the colons of an IPv6 address are inside its brackets.
pub fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (authority, None),
    }
}

/// The header fields of one request. Names are compared without case.
struct Fields<'h, 'a>(&'h [httparse::Header<'a>]);

impl<'a> Fields<'_, 'a> {
    fn all(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    fn first(&self, name: &str) -> Option<&'a str> {
        self.all(name).next().and_then(|value| std::str::from_utf8(value).ok()).map(str::trim)
    }

    /// A field that must not be repeated: two of them are how requests are smuggled.
    fn once(&self, name: &str) -> Result<Option<&'a str>, Refusal> {
        let mut values = self.all(name);
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(Refusal::new(400, format!("more than one {name} header")));
        }
        let value =
            std::str::from_utf8(value).map_err(|_| Refusal::new(400, format!("the {name} header is not text")))?;
        Ok(Some(value.trim()))
    }

    /// The comma-separated elements of a field that may be repeated.
    fn tokens(&self, name: &str) -> Vec<&'a str> {
        self.all(name)
            .filter_map(|value| std::str::from_utf8(value).ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .filter(|token| !token.is_empty())
            .collect()
    }

    fn has_token(&self, name: &str, wanted: &str) -> bool {
        self.tokens(name).iter().any(|token| token.eq_ignore_ascii_case(wanted))
    }

    /// A GET with a body would leave its body to be read as WebSocket frames.
    fn no_body(&self) -> Result<(), Refusal> {
        let length = self.once("Content-Length")?.unwrap_or("0");
        if length != "0" || self.all("Transfer-Encoding").next().is_some() {
            return Err(Refusal::new(400, "a request with a body cannot be answered here"));
        }
        Ok(())
    }

    fn intent(&self) -> Result<Intent<'a>, Refusal> {
        if !self.has_token("Upgrade", "websocket") {
            return Ok(Intent::Plain);
        }
        if !self.has_token("Connection", "upgrade") {
            return Err(Refusal::new(400, "the Connection header does not say upgrade"));
        }
        match self.once("Sec-WebSocket-Version")? {
            Some("13") => {}
            _ => return Err(Refusal::new(426, "only WebSocket version 13 is spoken here")),
        }
        let key = self.once("Sec-WebSocket-Key")?.unwrap_or_default();
        if !is_key(key) {
            return Err(Refusal::new(400, "the Sec-WebSocket-Key header is not 16 bytes in base64"));
        }
        Ok(Intent::Upgrade { key })
    }
}

/// Whether a key is the base64 form of 16 bytes (RFC 6455 section 4.1): 22 digits and two pads.
fn is_key(key: &str) -> bool {
    let digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.len() == 24 && key.ends_with("==") && key.as_bytes()[..22].iter().all(digit)
}

/// The 101 answer to a request with this key (RFC 6455 section 4.2.2).
pub fn accept(key: &str, subprotocol: Option<&str>) -> Vec<u8> {
    let accept = derive_accept_key(key.as_bytes());
    let mut answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n"
    );
    if let Some(subprotocol) = subprotocol {
        let _ = write!(answer, "Sec-WebSocket-Protocol: {subprotocol}\r\n");
    }
    answer.push_str("\r\n");
    answer.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "GET /chat?x=1 HTTP/1.1\r\nHost: here:80\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\
                        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

    #[test]
    fn a_correct_request_is_understood() {
        let head = GOOD.replace(
            "\r\n\r\n",
            "\r\nSec-WebSocket-Protocol: a, b\r\nsec-websocket-protocol: c\r\nOrigin: http://x\r\n\r\n",
        );
        let request = judge(head.as_bytes()).unwrap();
        assert_eq!(request.path, "/chat");
        assert_eq!(request.host, "here:80");
        assert_eq!(request.origin, Some("http://x"));
        assert_eq!(request.subprotocols, ["a", "b", "c"]);
        assert_eq!(request.intent, Intent::Upgrade { key: "dGhlIHNhbXBsZSBub25jZQ==" });
    }

    #[test]
    fn a_whole_uri_is_a_target_and_its_host_stands_in_for_the_header() {
        for (target, path, host) in [
            ("http://there/chat", "/chat", "there"),
            ("HTTPS://there:8443/a/b?c=://d", "/a/b", "there:8443"),
            ("http://[::1]:80/", "/", "[::1]:80"),
            ("http://there", "/", "there"),
            ("http://there?x=/y", "/", "there"),
            ("http://there//etc", "//etc", "there"),
            ("/http://there/", "/http://there/", "here:80"),
        ] {
            let head = GOOD.replace("/chat?x=1", target);
            let request = judge(head.as_bytes()).unwrap();
            assert_eq!((request.path, request.host), (path, host), "{target}");
        }
    }

    #[test]
    fn the_accept_key_is_that_of_the_rfc() {
        let answer = String::from_utf8(accept("dGhlIHNhbXBsZSBub25jZQ==", Some("a"))).unwrap();
        assert!(answer.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{answer}");
        assert!(answer.ends_with("Sec-WebSocket-Protocol: a\r\n\r\n"), "{answer}");
    }

    #[test]
    fn each_fault_has_its_status() {
        let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let table = [
            ("post", GOOD.replace("GET", "POST"), 405),
            ("http/1.0", GOOD.replace("HTTP/1.1", "HTTP/1.0"), 505),
            ("http/2.0", GOOD.replace("HTTP/1.1", "HTTP/2.0"), 505),
            ("no version", GOOD.replace("Sec-WebSocket-Version: 13\r\n", ""), 426),
            ("version 8", GOOD.replace("Version: 13", "Version: 8"), 426),
            ("no key", GOOD.replace(key, ""), 400),
            ("short key", GOOD.replace("dGhlIHNhbXBsZSBub25jZQ==", "abc="), 400),
            ("two keys", GOOD.replace(key, &key.repeat(2)), 400),
            ("no host", GOOD.replace("Host: here:80\r\n", ""), 400),
            ("two hosts", GOOD.replace("Host: here:80\r\n", "Host: a\r\nHost: b\r\n"), 400),
            ("no connection", GOOD.replace("Connection: keep-alive, Upgrade\r\n", ""), 400),
            ("a body", GOOD.replace("\r\n\r\n", "\r\nContent-Length: 5\r\n\r\n"), 400),
            ("chunks", GOOD.replace("\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n"), 400),
            ("another scheme", GOOD.replace("/chat?x=1", "ftp://here/chat"), 400),
            ("no scheme", GOOD.replace("/chat?x=1", "here/chat"), 400),
            ("no authority", GOOD.replace("/chat?x=1", "http:/chat"), 400),
            ("an empty authority", GOOD.replace("/chat?x=1", "http:///chat"), 400),
            ("a port without a host", GOOD.replace("/chat?x=1", "http://:80/chat"), 400),
            ("a user", GOOD.replace("/chat?x=1", "http://here@evil/chat"), 400),
            ("an asterisk", GOOD.replace("/chat?x=1", "*"), 400),
            (
                "a whole target but no host",
                GOOD.replace("/chat?x=1", "http://a/").replace("Host: here:80\r\n", ""),
                400,
            ),
            ("folded line", GOOD.replace("Host: here:80\r\n", "Host: here\r\n :80\r\n"), 400),
            ("an end without CR", GOOD.replacen("here:80\r\n", "here:80\n\r\n", 1), 400),
            ("an end without any CR", GOOD.replacen("here:80\r\n", "here:80\n\n", 1), 400),
            ("a zero byte", GOOD.replace("here", "he\0re"), 400),
            ("garbage", "\x16\x03\x01\x02\r\n\r\n".to_owned(), 400),
            ("many fields", GOOD.replace("\r\n\r\n", &format!("\r\n{}\r\n", "X: y\r\n".repeat(200))), 431),
        ];
        for (name, head, status) in table {
            assert_eq!(judge(head.as_bytes()).map_err(|refusal| refusal.status), Err(status), "{name}");
        }
    }

    #[test]
    fn a_peer_that_never_stops_sending_does_not_outlast_the_deadline() {
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        for _ in 0..4 {
            std::io::Write::write_all(&mut theirs, &[b'x'; CHUNK]).unwrap();
        }
        let mut stream = Stream::new(Socket::new(ours), None);
        let past = Instant::now();
        assert!(matches!(stream.read_head(past), Err(HeadError::TimedOut)));
        stream.linger(past);
        assert_eq!(stream.socket.recv_now(&mut [0; CHUNK]).unwrap(), CHUNK, "it went on reading after the deadline");
    }

    #[test]
    fn a_plain_get_is_no_upgrade() {
        let request = judge(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        assert_eq!(request.intent, Intent::Plain);
    }

    #[test]
    fn a_refusal_is_a_whole_http_answer() {
        let answer = String::from_utf8(Refusal::new(426, "why").to_http()).unwrap();
        assert_eq!(
            answer,
            "HTTP/1.1 426 Upgrade Required\r\nConnection: upgrade, close\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Content-Type: text/plain; charset=utf-8\r\nContent-Length: 4\r\n\r\nwhy\n"
        );
    }
}
