//! One end of a connection that sends exactly the bytes that the test says, right or wrong. It is a client, or a server
//! that the gateway dials.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use native_tls::{Certificate, TlsConnector};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, StreamOwned};
use socket2::{Domain, SockAddr, Socket, Type};

use super::{DEADLINE, Flow, expect_no_secret};

/// The key of every handshake here, with the answer that RFC 6455 section 1.3 works out for it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The receive buffer of a client that is meant to fall behind, in bytes; the kernel doubles it.
const NARROW: usize = 4 << 10;

/// One connection, plain or TLS. Every read has a deadline.
pub(crate) struct Raw {
    stream: Box<dyn ReadWrite>,
    /// The socket beneath, for deadlines and half-closing.
    socket: Socket,
    side: Side,
    /// What has arrived and was not asked for yet.
    inbox: Vec<u8>,
}

/// Which end it is: a client masks its frames, a server does not.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

trait ReadWrite: Read + Write + Send {}
impl<T: Read + Write + Send> ReadWrite for T {}

/// One frame as it came off the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    /// FIN, the reserved bits and the opcode, as they stand in the first byte.
    pub(crate) first: u8,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// A whole text message.
    pub(crate) fn text(payload: &str) -> Frame {
        Frame { first: 0x81, payload: payload.as_bytes().to_vec() }
    }

    /// A whole binary message.
    pub(crate) fn binary(payload: &[u8]) -> Frame {
        Frame { first: 0x82, payload: payload.to_vec() }
    }

    /// A Close with a code and a reason.
    pub(crate) fn close(code: u16, reason: &str) -> Frame {
        Frame { first: 0x88, payload: [&code.to_be_bytes()[..], reason.as_bytes()].concat() }
    }
}

/// A server's frame: `first` is the first byte as it goes out.
pub(crate) fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(first, payload.len());
    frame.extend(payload);
    frame
}

/// A socket that connects from this address.
fn bound_to(source: Ipv4Addr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket
}

/// The first byte of a frame and the length of its payload.
fn header(first: u8, length: usize) -> Vec<u8> {
    let mut header = vec![first];
    match length {
        0..=125 => header.push(length as u8),
        126..=0xffff => {
            header.push(126);
            header.extend((length as u16).to_be_bytes());
        }
        _ => {
            header.push(127);
            header.extend((length as u64).to_be_bytes());
        }
    }
    header
}

/// A client's frame: `first` is the first byte as it goes out, the mask is always the same.
pub(crate) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
    let mut frame = header(first, payload.len());
    frame[1] |= 0x80;
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

impl Raw {
    /// Connects to a plain listener.
    pub(crate) fn plain(port: u16) -> Raw {
        Raw::over(connect(port))
    }

    /// Connects to a plain listener from this address of the machine's own.
    pub(crate) fn plain_from(source: Ipv4Addr, port: u16) -> Raw {
        Raw::over(connect_with(bound_to(source), &loopback(port)))
    }

    /// Connects to a plain listener with a receive buffer of a few KiB: when such a client stops
    /// reading, the gateway soon knows.
    pub(crate) fn narrow(port: u16) -> Raw {
        Raw::over(connect_to(&loopback(port), Some(NARROW)))
    }

    /// Connects to a plain listener on the IPv6 loopback address.
    pub(crate) fn ipv6(port: u16) -> Raw {
        Raw::over(connect_to(&SocketAddr::from((Ipv6Addr::LOCALHOST, port)).into(), None))
    }

    /// Connects to a plain listener on a Unix socket.
    pub(crate) fn unix(path: &Path) -> Raw {
        Raw::over(connect_to(&SockAddr::unix(path).unwrap(), None))
    }

    fn over(socket: Socket) -> Raw {
        Raw { stream: Box::new(socket.try_clone().unwrap()), socket, side: Side::Client, inbox: Vec::new() }
    }

    /// The server's end of a connection that was accepted.
    pub(super) fn accepted(stream: TcpStream) -> Raw {
        Raw { side: Side::Server, ..Raw::over(stream.into()) }
    }

    /// Connects to a TLS listener and trusts what the authority in this PEM file signed.
    pub(crate) fn tls(port: u16, ca: &Path) -> Raw {
        Raw::tls_over(connector(ca), || connect(port))
    }

    /// As [`narrow`](Raw::narrow), to a TLS listener.
    pub(crate) fn narrow_tls(port: u16, ca: &Path) -> Raw {
        Raw::tls_over(connector(ca), || connect_to(&loopback(port), Some(NARROW)))
    }

    /// The same from this address, with these bytes ahead of the TLS, as a proxy sends them.
    pub(crate) fn tls_behind(ahead: &[u8], source: Ipv4Addr, port: u16, ca: &Path) -> Raw {
        let connect = || {
            let socket = bound_to(source);
            let socket = connect_with(socket, &loopback(port));
            (&socket).write_all(ahead).unwrap();
            socket
        };
        Raw::tls_over(connector(ca), connect)
    }

    /// Connects to a TLS listener as this client, which may have a certificate and a ticket of an earlier connection; says
    /// what kind of handshake it was.
    pub(crate) fn secured(port: u16, config: &Arc<ClientConfig>) -> (Raw, HandshakeKind) {
        let socket = connect(port);
        let mut session = ClientConnection::new(Arc::clone(config), "localhost".try_into().unwrap()).unwrap();
        while session.is_handshaking() {
            session.complete_io(&mut &socket).unwrap();
        }
        let kind = session.handshake_kind().unwrap();
        let stream = StreamOwned::new(session, socket.try_clone().unwrap());
        (Raw { stream: Box::new(stream), socket, side: Side::Client, inbox: Vec::new() }, kind)
    }

    /// The socket is connected last: from then on the gateway counts the time.
    fn tls_over(connector: TlsConnector, connect: impl FnOnce() -> Socket) -> Raw {
        let socket = connect();
        let stream = connector.connect("localhost", socket.try_clone().unwrap()).unwrap();
        Raw { stream: Box::new(stream), socket, side: Side::Client, inbox: Vec::new() }
    }

    /// Sends these bytes.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends these bytes, or says why it could not.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends an upgrade request for this path, with more header lines if wanted, and checks
    /// that the answer is the right 101. Returns its head.
    pub(crate) fn upgrade(&mut self, path: &str, headers: &[&str]) -> String {
        self.send(request(path, headers).as_bytes());
        let head = self.head();
        assert!(head.starts_with("HTTP/1.1 101 "), "no 101 but {head:?}");
        let accept = head.lines().find_map(|line| {
            line.to_ascii_lowercase().starts_with("sec-websocket-accept:").then(|| line[21..].trim().to_owned())
        });
        assert_eq!(accept.as_deref(), Some(ACCEPT), "wrong key in {head:?}");
        head
    }

    /// Answers this upgrade request with a 101 that has these lines too.
    pub(crate) fn answer_upgrade(&mut self, head: &str, lines: &[&str]) {
        let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
        let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
        let more: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        let upgrade = "HTTP/1.1 101 Go\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
        self.send(format!("{upgrade}Sec-WebSocket-Accept: {accept}\r\n{more}\r\n").as_bytes());
    }

    /// The head of an HTTP request or answer, without the empty line at its end.
    pub(crate) fn head(&mut self) -> String {
        let length = self.until("an HTTP head", |inbox| {
            inbox.windows(4).position(|window| window == b"\r\n\r\n").map(|position| position + 4)
        });
        let head: Vec<u8> = self.inbox.drain(..length).collect();
        let head = String::from_utf8(head).unwrap().trim_end().to_owned();
        self.is_told("a head", &head);
        head
    }

    /// The next bytes, so many.
    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        self.until("as many bytes", |inbox| (inbox.len() >= count).then_some(()));
        self.inbox.drain(..count).collect()
    }

    /// The next frame. A client masks everything and a server nothing, which is checked.
    pub(crate) fn frame(&mut self) -> Frame {
        let is_masked = self.side == Side::Server;
        let (header, length) = self.until("a frame", |inbox| {
            let second = *inbox.get(1)?;
            assert_eq!(second >= 0x80, is_masked, "a frame with the wrong masking, its second byte is {second:#04x}");
            let (header, length) = match second & 0x7f {
                126 => (4, u16::from_be_bytes(inbox.get(2..4)?.try_into().unwrap()) as usize),
                127 => (10, u64::from_be_bytes(inbox.get(2..10)?.try_into().unwrap()) as usize),
                length => (2, length as usize),
            };
            let header = header + if is_masked { 4 } else { 0 };
            (inbox.len() >= header + length).then_some((header, length))
        });
        let mut frame = Frame { first: self.inbox[0], payload: self.inbox[header..header + length].to_vec() };
        if is_masked {
            let mask = self.inbox[header - 4..header].iter().cycle();
            frame.payload.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
        }
        self.inbox.drain(..header + length);
        if let Ok(text) = str::from_utf8(&frame.payload) {
            self.is_told("a frame", text);
        }
        frame
    }

    /// A client is told no credential, neither its own nor that of another one.
    fn is_told(&self, what: &str, text: &str) {
        if self.side == Side::Client {
            expect_no_secret(what, text);
        }
    }

    /// Sends a frame as its side does, masked or not.
    pub(crate) fn send_frame(&mut self, first: u8, payload: &[u8]) {
        match self.side {
            Side::Client => self.send(&masked(first, payload)),
            Side::Server => self.send(&unmasked(first, payload)),
        }
    }

    /// Sends a text message.
    pub(crate) fn send_text(&mut self, text: &str) {
        self.send_frame(0x81, text.as_bytes());
    }

    /// The next frame that is no ping; pings before it are answered.
    pub(crate) fn message(&mut self) -> Frame {
        loop {
            let frame = self.frame();
            if frame.first != 0x89 {
                return frame;
            }
            self.send_frame(0x8a, &frame.payload);
        }
    }

    /// Waits for a ping and answers it. To a test this is a clock: it says that the gateway's
    /// heartbeat has gone round.
    pub(crate) fn pinged(&mut self) {
        let ping = self.frame();
        assert_eq!(ping.first, 0x89, "no ping but {ping:?}");
        self.send(&masked(0x8a, &ping.payload));
    }

    /// The text of the next frame that is no ping.
    pub(crate) fn text(&mut self) -> String {
        let frame = self.message();
        assert_eq!(frame.first, 0x81, "no text message but {frame:?}");
        String::from_utf8(frame.payload).unwrap()
    }

    /// Expects this Close, answers it, and expects an orderly end.
    pub(crate) fn closed_with(&mut self, code: u16, reason: &str) {
        let close = Frame::close(code, reason);
        assert_eq!(self.message(), close);
        self.send(&masked(0x88, &close.payload[..2]));
        self.end();
    }

    /// Expects this Close, sends it back as it is, and expects an orderly end.
    pub(crate) fn closed_by(&mut self, close: &Frame) {
        assert_eq!(&self.message(), close);
        self.send_frame(0x88, &close.payload);
        self.end();
    }

    /// Reads on, whatever comes, until the connection has ended, in order or not.
    pub(crate) fn cut_off(&mut self) {
        let late = Instant::now() + DEADLINE;
        loop {
            match self.read(late) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) => {
                    panic!("the connection has not ended within {DEADLINE:?}")
                }
                Err(_) => return,
            }
        }
    }

    /// The port of its own end.
    pub(crate) fn own_port(&self) -> u16 {
        self.socket.local_addr().unwrap().as_socket().unwrap().port()
    }

    fn peer_port(&self) -> u16 {
        self.socket.peer_addr().unwrap().as_socket().unwrap().port()
    }

    /// What it sends.
    pub(crate) fn outgoing(&self) -> Flow {
        Flow { from: self.own_port(), to: self.peer_port() }
    }

    /// What it is sent.
    pub(crate) fn incoming(&self) -> Flow {
        Flow { from: self.peer_port(), to: self.own_port() }
    }

    /// Checks that nothing more comes: an orderly end of the stream, not a reset.
    pub(crate) fn end(&mut self) {
        let late = Instant::now() + DEADLINE;
        while self.read(late).unwrap_or_else(|error| panic!("failed to read up to the end: {error}")) > 0 {}
        assert!(self.inbox.is_empty(), "bytes where the end was due: {:?}", String::from_utf8_lossy(&self.inbox));
    }

    /// A plain connection's sending half, for a thread of its own. It reads nothing.
    pub(crate) fn writer(&self) -> Raw {
        Raw::over(self.socket.try_clone().unwrap())
    }

    /// Ends the narrowness of a [`narrow`](Raw::narrow) client: through a window of a few KiB everything
    /// that waits for it would take long.
    pub(crate) fn widen(&self) {
        self.socket.set_recv_buffer_size(1 << 20).unwrap();
    }

    /// Sends as much of these bytes as the other side takes before it ends the connection.
    pub(crate) fn send_or_end(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// A whole HTTP answer up to the end of the stream: its head and its body.
    pub(crate) fn answer(&mut self) -> (String, String) {
        let head = self.head();
        let late = Instant::now() + DEADLINE;
        while self.read(late).unwrap_or_else(|error| panic!("failed to read behind {head:?}: {error}")) > 0 {}
        let body = String::from_utf8(std::mem::take(&mut self.inbox)).unwrap();
        self.is_told("the body of an answer", &body);
        (head, body)
    }

    /// Whether something has arrived, or the end, within this time; it is kept.
    pub(crate) fn has_input_within(&mut self, within: Duration) -> bool {
        !self.inbox.is_empty() || self.read(Instant::now() + within).is_ok()
    }

    /// Whether the connection has ended within the deadline, in order or by a reset; what still
    /// comes is thrown away.
    pub(crate) fn is_gone_within(&mut self, deadline: Duration) -> bool {
        let late = Instant::now() + deadline;
        loop {
            self.inbox.clear();
            match self.read(late) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
            }
        }
    }

    /// Reads and throws away whatever comes, up to the end of the connection, however long that takes;
    /// only silence has a deadline.
    pub(crate) fn discard_until_end(&mut self) {
        while matches!(self.read(Instant::now() + DEADLINE), Ok(1..)) {
            self.inbox.clear();
        }
    }

    /// Ends the connection with a reset, as a peer does whose process was killed.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.socket).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Ends its own direction on the socket, with no last word of whatever is spoken over it.
    pub(crate) fn end_sending(&self) {
        self.socket.shutdown(Shutdown::Write).unwrap();
    }

    /// The socket itself, to shut it down or to set its options.
    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Reads on until `find` finds what it wants in all that has arrived.
    fn until<T>(&mut self, what: &str, find: impl Fn(&[u8]) -> Option<T>) -> T {
        let late = Instant::now() + DEADLINE;
        loop {
            if let Some(found) = find(&self.inbox) {
                return found;
            }
            let read = self.read(late);
            let seen = String::from_utf8_lossy(&self.inbox[..self.inbox.len().min(200)]);
            match read {
                Ok(0) => panic!("the connection ended before {what} came; it began {seen:?}"),
                Ok(_) => {}
                Err(error) => panic!("failed to read {what}: {error}; it began {seen:?}"),
            }
        }
    }

    /// Reads once into the inbox; 0 is the end of the stream.
    fn read(&mut self, late: Instant) -> io::Result<usize> {
        let left = late.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.socket.set_read_timeout(Some(left))?;
        let mut buffer = [0; 64 << 10];
        match self.stream.read(&mut buffer) {
            // A process that was stopped and goes on.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.read(late),
            Err(error) => Err(error),
            Ok(length) => {
                self.inbox.extend_from_slice(&buffer[..length]);
                Ok(length)
            }
        }
    }
}

/// An upgrade request for this path, with more header lines if wanted.
pub(crate) fn request(path: &str, headers: &[&str]) -> String {
    let more: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{more}\r\n"
    )
}

/// A TLS client that trusts this authority. The library reads all roots of the system for each new one,
/// a quarter of a second on a busy machine, so there is one for each authority.
fn connector(ca: &Path) -> TlsConnector {
    static MADE: Mutex<Vec<(PathBuf, TlsConnector)>> = Mutex::new(Vec::new());
    // A test that fails here fails alone.
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, connector)) = made.iter().find(|(known, _)| known == ca) {
        return connector.clone();
    }
    let authority = Certificate::from_pem(&fs::read(ca).unwrap()).unwrap();
    let connector = TlsConnector::builder().add_root_certificate(authority).build().unwrap();
    made.push((ca.to_owned(), connector.clone()));
    connector
}

fn connect(port: u16) -> Socket {
    connect_to(&loopback(port), None)
}

fn loopback(port: u16) -> SockAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()
}

/// Connects; the receive buffer has to be set before, since the handshake announces the window.
fn connect_to(address: &SockAddr, receive_buffer: Option<usize>) -> Socket {
    let socket = Socket::new(Domain::from(i32::from(address.family())), Type::STREAM, None).unwrap();
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes).unwrap();
    }
    connect_with(socket, address)
}

fn connect_with(socket: Socket, address: &SockAddr) -> Socket {
    socket.connect(address).unwrap();
    if !address.is_unix() {
        socket.set_tcp_nodelay(true).unwrap();
    }
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.set_write_timeout(Some(DEADLINE)).unwrap();
    socket
}
