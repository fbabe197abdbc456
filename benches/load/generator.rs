//! The clients: all of them in one thread around one epoll, with one buffer to read into.
//!
//! The generator knows connections and frames; what is sent when, and what has to come back, is a [`Load`].

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use openssl::ssl::SslContext;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use socket2::SockRef;

use crate::frame::{CLOSE, PING, PONG, TEXT, parse_header, push_client_frame};
use crate::histogram::Histogram;
use crate::tls::Session;

/// Holds the largest message of any case and what may come with it.
const BUFFER: usize = 2 * 1024 * 1024;
/// Handshakes under way at one time: enough to keep the server busy, far below any backlog.
const HANDSHAKES: usize = 64;
/// Without any event for so long a load has failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// The key of RFC 6455 section 1.3 and its answer: checking it costs nothing, so it is checked.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &[u8] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// What to send, and what to make of what arrives. An error ends the run.
pub(crate) trait Load {
    /// A text message arrived for `client`, in the read that ended at `now`.
    fn message(&mut self, client: usize, payload: &[u8], now: Instant) -> Result<(), String>;

    /// The handshake of `client` is done.
    fn opened(&mut self, _client: usize, _now: Instant) {}

    /// All messages of that read have been given; the moment to send.
    fn after_read(&mut self, _client: usize, _now: Instant, _generator: &mut Generator) -> Result<(), String> {
        Ok(())
    }

    /// The socket of `client` takes more; only called for clients that [`Generator::watch_writable`] was called for.
    fn writable(&mut self, _client: usize, _generator: &mut Generator) -> Result<(), String> {
        Ok(())
    }

    /// The connection ended, with the code of the server's Close frame or without one.
    fn closed(&mut self, client: usize, code: Option<u16>) -> Result<(), String> {
        Err(format!("client {client} was disconnected ({})", describe_close(code)))
    }

    fn is_done(&self) -> bool;
}

/// Words for a close code.
pub(crate) fn describe_close(code: Option<u16>) -> String {
    code.map_or_else(|| "without a Close frame".to_owned(), |code| format!("close code {code}"))
}

/// How the connections were set up.
pub(crate) struct Setup {
    pub(crate) elapsed: Duration,
    pub(crate) latencies: Histogram,
}

#[derive(PartialEq)]
enum Stage {
    Tls,
    Head,
    Open,
    Closed,
}

struct Client {
    socket: TcpStream,
    tls: Option<Session>,
    path: String,
    stage: Stage,
    /// Received, but not a whole frame yet.
    tail: Vec<u8>,
    /// What the socket would not take.
    unsent: Vec<u8>,
    close_code: Option<u16>,
}

/// See the module.
pub(crate) struct Generator {
    epoll: std::os::fd::OwnedFd,
    events: Vec<epoll::Event>,
    clients: Vec<Client>,
    buffer: Vec<u8>,
    ciphertext: Vec<u8>,
    tls: Option<SslContext>,
    /// Further lines of each request.
    lines: String,
}

impl Generator {
    /// Without clients; with a `tls` context all of them will speak TLS.
    pub(crate) fn new(tls: Option<SslContext>) -> Result<Generator, String> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(|cause| format!("failed to create an epoll instance: {cause}"))?;
        let (buffer, ciphertext) = (vec![0; BUFFER], vec![0; if tls.is_some() { BUFFER / 2 } else { 0 }]);
        Ok(Generator {
            epoll,
            events: Vec::with_capacity(512),
            clients: Vec::new(),
            buffer,
            ciphertext,
            tls,
            lines: String::new(),
        })
    }

    /// The same with this in the Authorization header of each request.
    pub(crate) fn authorized(self, authorization: &str) -> Generator {
        Generator { lines: format!("Authorization: {authorization}\r\n"), ..self }
    }

    pub(crate) fn len(&self) -> usize {
        self.clients.len()
    }

    /// Adds `count` clients of `path` and returns when all of them are open.
    pub(crate) fn connect(&mut self, address: SocketAddr, path: &str, count: usize) -> Result<Setup, String> {
        self.connect_each(address, count, |_| path.to_owned())
    }

    /// The same with a path for each client; `path` gets the client's index.
    pub(crate) fn connect_each(
        &mut self,
        address: SocketAddr,
        count: usize,
        path: impl Fn(usize) -> String,
    ) -> Result<Setup, String> {
        let began = Instant::now();
        let first = self.clients.len();
        let mut setup = Opening { first, open: 0, wanted: count, latencies: Histogram::new(), starts: Vec::new() };
        while !setup.is_done() {
            while self.clients.len() - first < count && self.clients.len() - first - setup.open < HANDSHAKES {
                setup.starts.push(Instant::now());
                self.start_client(address, path(self.clients.len()))?;
            }
            self.turn_patiently(&mut setup)?;
        }
        Ok(Setup { elapsed: began.elapsed(), latencies: setup.latencies })
    }

    /// Runs a load until it is done.
    pub(crate) fn run(&mut self, load: &mut impl Load) -> Result<(), String> {
        while !load.is_done() {
            self.turn_patiently(load)?;
        }
        Ok(())
    }

    /// One wait for events, at most `wait` long, and what they bring; false when there were none.
    pub(crate) fn turn(&mut self, load: &mut impl Load, wait: Duration) -> Result<bool, String> {
        let timeout = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos().into() };
        self.events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&timeout)) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(true),
            Err(cause) => return Err(format!("failed to wait for events: {cause}")),
        }
        for at in 0..self.events.len() {
            let event = self.events[at];
            let (flags, client) = (event.flags, event.data.u64() as usize);
            if flags.contains(epoll::EventFlags::OUT) {
                self.write_unsent(client)?;
                load.writable(client, self)?;
            }
            if flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR) {
                self.read(client, load)?;
            }
        }
        Ok(!self.events.is_empty())
    }

    /// Sends bytes as they are; what the socket does not take now follows as soon as it does.
    pub(crate) fn send(&mut self, client: usize, bytes: &[u8]) -> Result<(), String> {
        let its = &mut self.clients[client];
        if its.stage == Stage::Closed {
            return Ok(());
        }
        let encrypted;
        let mut bytes = bytes;
        if let Some(tls) = &mut its.tls {
            if its.stage != Stage::Tls {
                tls.write(bytes)?;
            }
            encrypted = tls.take_ciphertext();
            bytes = &encrypted;
        }
        if its.unsent.is_empty() {
            let sent = send_some(&its.socket, bytes).map_err(|cause| format!("client {client}: {cause}"))?;
            bytes = &bytes[sent..];
        }
        if !bytes.is_empty() {
            let was_empty = its.unsent.is_empty();
            its.unsent.extend_from_slice(bytes);
            if was_empty {
                self.watch_writable(client)?;
            }
        }
        Ok(())
    }

    /// Sends what the socket takes of `bytes` now and forgets the rest: for floods that keep their own place.
    pub(crate) fn send_some(&mut self, client: usize, bytes: &[u8]) -> Result<usize, String> {
        send_some(&self.clients[client].socket, bytes).map_err(|cause| format!("client {client}: {cause}"))
    }

    /// Asks for [`Load::writable`] while the socket takes more.
    pub(crate) fn watch_writable(&mut self, client: usize) -> Result<(), String> {
        self.watch(client, epoll::EventFlags::IN | epoll::EventFlags::OUT)
    }

    /// Back to reading alone.
    pub(crate) fn watch_readable(&mut self, client: usize) -> Result<(), String> {
        self.watch(client, epoll::EventFlags::IN)
    }

    /// The client stops reading; its socket stays open.
    pub(crate) fn freeze(&mut self, client: usize) -> Result<(), String> {
        epoll::delete(&self.epoll, &self.clients[client].socket)
            .map_err(|cause| format!("failed to leave client {client} alone: {cause}"))
    }

    /// The client reads again.
    pub(crate) fn thaw(&mut self, client: usize) -> Result<(), String> {
        add(&self.epoll, &self.clients[client].socket, client)
    }

    fn turn_patiently(&mut self, load: &mut impl Load) -> Result<(), String> {
        if self.turn(load, PATIENCE)? {
            Ok(())
        } else {
            Err(format!("nothing arrived for {} s: messages were lost or the server hangs", PATIENCE.as_secs()))
        }
    }

    fn start_client(&mut self, address: SocketAddr, path: String) -> Result<(), String> {
        let index = self.clients.len();
        let failed = |cause: std::io::Error| format!("failed to connect client {index}: {cause}");
        let socket = TcpStream::connect(address).map_err(failed)?;
        socket.set_nodelay(true).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        // A reset at the end, or every run would leave thousands of sockets in TIME_WAIT to the next.
        SockRef::from(&socket).set_linger(Some(Duration::ZERO)).map_err(failed)?;
        add(&self.epoll, &socket, index)?;
        let tls = self.tls.as_ref().map(Session::new).transpose()?;
        let stage = if tls.is_some() { Stage::Tls } else { Stage::Head };
        let (tail, unsent) = (Vec::new(), Vec::new());
        self.clients.push(Client { socket, tls, path, stage, tail, unsent, close_code: None });
        if self.clients[index].tls.is_some() { self.go_on_with_tls(index) } else { self.send_request(index, address) }
    }

    fn send_request(&mut self, client: usize, address: SocketAddr) -> Result<(), String> {
        let (path, lines) = (&self.clients[client].path, &self.lines);
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{lines}\r\n"
        );
        self.send(client, request.as_bytes())
    }

    fn go_on_with_tls(&mut self, client: usize) -> Result<(), String> {
        let its = &mut self.clients[client];
        let Some(tls) = &mut its.tls else { return Ok(()) };
        let done = tls.handshake()?;
        // Whatever the handshake has to say goes out first, the request behind it.
        self.send(client, &[])?;
        if done {
            self.clients[client].stage = Stage::Head;
            let address =
                self.clients[client].socket.peer_addr().map_err(|cause| format!("client {client}: {cause}"))?;
            self.send_request(client, address)?;
        }
        Ok(())
    }

    fn read(&mut self, client: usize, load: &mut impl Load) -> Result<(), String> {
        let its = &mut self.clients[client];
        if its.stage == Stage::Closed {
            return Ok(());
        }
        let kept = its.tail.len();
        self.buffer[..kept].copy_from_slice(&its.tail);
        let into = if its.tls.is_some() { &mut self.ciphertext[..] } else { &mut self.buffer[kept..] };
        let count = match recv(&its.socket, into, RecvFlags::empty()) {
            Ok((_, count)) => count,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(_) => 0,
        };
        if count == 0 {
            return self.end(client, load);
        }
        let mut length = kept + count;
        if let Some(tls) = &mut its.tls {
            tls.feed(&self.ciphertext[..count]);
            if its.stage == Stage::Tls {
                self.go_on_with_tls(client)?;
                if self.clients[client].stage == Stage::Tls {
                    return Ok(());
                }
            }
            let its = &mut self.clients[client];
            let Some(tls) = &mut its.tls else { return Ok(()) };
            // The buffer is twice what was received: all of it fits.
            match tls.read(&mut self.buffer[kept..])? {
                Some(count) => length = kept + count,
                None => return self.end(client, load),
            }
        }
        let now = Instant::now();
        let its = &mut self.clients[client];
        let mut at = 0;
        if its.stage == Stage::Head {
            let Some(head) = take_head(&self.buffer[..length])? else {
                its.tail.clear();
                its.tail.extend_from_slice(&self.buffer[..length]);
                return Ok(());
            };
            its.stage = Stage::Open;
            at = head;
            load.opened(client, now);
        }
        let mut pongs = Vec::new();
        while let Some((first, header, payload)) = parse_header(&self.buffer[at..length]) {
            let frame = &self.buffer[at..length];
            if frame.len() < header + payload {
                break;
            }
            let payload = &frame[header..header + payload];
            at += header + payload.len();
            match first {
                TEXT => load.message(client, payload, now).map_err(|what| format!("client {client} {what}"))?,
                CLOSE => {
                    its.close_code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                    return self.end(client, load);
                }
                PING => push_client_frame(&mut pongs, PONG, payload),
                PONG => {}
                other => return Err(format!("client {client} received a frame that starts with {other:#04x}")),
            }
        }
        if at < length || kept > 0 {
            its.tail.clear();
            its.tail.extend_from_slice(&self.buffer[at..length]);
        }
        if !pongs.is_empty() {
            self.send(client, &pongs)?;
        }
        load.after_read(client, now, self)
    }

    fn end(&mut self, client: usize, load: &mut impl Load) -> Result<(), String> {
        let its = &mut self.clients[client];
        let was = std::mem::replace(&mut its.stage, Stage::Closed);
        // The socket may have been left already, by a client that was frozen.
        let _ = epoll::delete(&self.epoll, &its.socket);
        if was != Stage::Open {
            return Err(format!("client {client} was disconnected before it was open"));
        }
        load.closed(client, its.close_code)
    }

    fn write_unsent(&mut self, client: usize) -> Result<(), String> {
        let its = &mut self.clients[client];
        if its.stage == Stage::Closed || its.unsent.is_empty() {
            return Ok(());
        }
        let sent = send_some(&its.socket, &its.unsent).map_err(|cause| format!("client {client}: {cause}"))?;
        its.unsent.drain(..sent);
        if its.unsent.is_empty() { self.watch_readable(client) } else { Ok(()) }
    }

    fn watch(&mut self, client: usize, flags: epoll::EventFlags) -> Result<(), String> {
        let data = epoll::EventData::new_u64(client as u64);
        epoll::modify(&self.epoll, &self.clients[client].socket, data, flags)
            .map_err(|cause| format!("failed to watch client {client}: {cause}"))
    }
}

/// Waits until every new client is open.
struct Opening {
    first: usize,
    open: usize,
    wanted: usize,
    starts: Vec<Instant>,
    latencies: Histogram,
}

impl Load for Opening {
    fn message(&mut self, _client: usize, _payload: &[u8], _now: Instant) -> Result<(), String> {
        Err("received a message before anything was sent".to_owned())
    }

    fn opened(&mut self, client: usize, now: Instant) {
        self.latencies.record(now - self.starts[client - self.first]);
        self.open += 1;
    }

    fn is_done(&self) -> bool {
        self.open == self.wanted
    }
}

fn add(epoll: &std::os::fd::OwnedFd, socket: &TcpStream, client: usize) -> Result<(), String> {
    epoll::add(epoll, socket, epoll::EventData::new_u64(client as u64), epoll::EventFlags::IN)
        .map_err(|cause| format!("failed to watch client {client}: {cause}"))
}

/// One `send`; 0 when the socket takes nothing.
fn send_some(socket: &TcpStream, bytes: &[u8]) -> Result<usize, String> {
    if bytes.is_empty() {
        return Ok(0);
    }
    match send(socket, bytes, SendFlags::NOSIGNAL) {
        Ok(count) => Ok(count),
        Err(Errno::AGAIN | Errno::INTR) => Ok(0),
        Err(cause) => Err(format!("failed to send: {cause}")),
    }
}

/// Length of the response head, `None` while it is incomplete.
fn take_head(bytes: &[u8]) -> Result<Option<usize>, String> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4) else { return Ok(None) };
    let head = &bytes[..end];
    if head.starts_with(b"HTTP/1.1 101") && head.windows(ACCEPT.len()).any(|part| part == ACCEPT) {
        return Ok(Some(end));
    }
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or(head);
    Err(format!("the handshake was refused: {}", String::from_utf8_lossy(line)))
}
