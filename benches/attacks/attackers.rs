//! The attackers: threads beside the well-behaved clients, on the same core and behind them in line.
//!
//! What an attack sends is bounded by what the gateway takes, or by a pace of its own where only the generator's core
//! would burn. Whoever is cut or refused comes again.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::setpriority_process;
use socket2::{Domain, SockRef, Socket, Type};

use crate::credentials::{Credentials, Wrong};
use crate::feed;
use crate::frame::{Messages, TEXT, push_client_frame};
use crate::generator::{Generator, Load};
use crate::key_updates;
use crate::knocks;
use crate::process::Workspace;
use crate::tls::{self, Session};

/// The attackers come last in line for their core.
const PRIORITY: i32 = 19;
const PATIENCE: Duration = Duration::from_secs(2);
/// Every socket that is held open is looked after this often.
const ROUND: Duration = Duration::from_secs(1);
/// Threads of a storm; each has one connection at a time.
const STORM_THREADS: usize = 4;
/// Payload of a ping: many small ones cost the gateway more than few large ones.
const PING_SIZE: usize = 8;
const MIB: usize = 1024 * 1024;
/// The clients of the room that do read.
const ROOM_READERS: usize = 10;
/// Small messages, of which a queue takes many, and enough of them to fill it within the first round.
const ROOM_SIZE: usize = 64;
const ROOM_BATCH: u64 = 16;
/// Between two batches for the room.
const ROOM_INTERVAL: Duration = Duration::from_millis(1);
/// A small window, or the kernel would hold most of what is not read.
const SILENT_BUFFER: usize = 4096;
/// Bytes of a text in a flood of texts: two in each character.
const TEXT_SIZE: usize = 64 * 1024;
/// Bytes of a message of a client that sends too many, and of its echo's header.
const RATED_SIZE: usize = 64;
const ECHO_HEADER: usize = 2;
/// The beginnings of PROXY headers, of both versions.
const HALF_PROXY_HEADERS: [&[u8]; 2] = [b"PROXY TCP4 192.0.2.1 ", b"\r\n\r\n\0\r\nQUIT\n\x21\x11"];

/// What attackers do.
#[derive(Clone, Copy)]
pub(crate) enum Attack {
    /// Request heads that come a byte a second.
    Slowloris { sockets: usize },
    /// Half a ClientHello, or a whole one, and then nothing.
    StalledTls { sockets: usize },
    /// Connections that are closed at once, after the 101, or with a Close.
    Storm,
    /// The same with resets, at once, in the request, or in a message.
    ResetStorm,
    /// Pings without an end.
    Pings { sockets: usize },
    /// Messages of 1 MiB in fragments of one byte.
    Fragments { sockets: usize },
    /// Long texts without an end.
    Texts { sockets: usize },
    /// Texts of 1 MiB whose last byte is what makes them wrong.
    LateErrors { sockets: usize },
    /// Requests for new TLS keys, whose answers are never read.
    KeyUpdates { sockets: usize },
    /// Clients of a busy room that never read.
    NeverRead { sockets: usize },
    /// Clients that open a WebSocket and keep it, as many as get in.
    Crowd { sockets: usize },
    /// The same from one address that nobody else has.
    OneAddress { sockets: usize },
    /// Half a header of the PROXY protocol, and then nothing.
    HalfProxyHeaders { sockets: usize },
    /// Requests with wrong credentials, from so many addresses in turns.
    Knocks { wrong: Wrong, per_second: u32, addresses: u32 },
    /// One client that sends this often in a second, more than it may.
    OverRate { per_second: u32 },
    /// Clients that read nothing, each of which is sent messages of its own.
    Feed { sockets: usize },
}

/// What an attack has done.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) connections: AtomicU64,
    /// Connections that the gateway refused or cut, or that came to nothing.
    pub(crate) ended: AtomicU64,
    /// Bytes, frames, or whatever the attack consists of.
    pub(crate) units: AtomicU64,
}

/// An attack under way.
pub(crate) struct Running {
    attack: Attack,
    tally: Arc<Tally>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<u64, String>>>,
    since: Instant,
}

/// An attack that is over.
pub(crate) struct Done {
    /// In words and figures.
    pub(crate) what: String,
    /// Messages that the well-behaved part of the attack lost: the readers of the room.
    pub(crate) lost: u64,
}

impl Attack {
    pub(crate) fn start(self, address: SocketAddr, workspace: &Workspace, credentials: &Arc<Credentials>) -> Running {
        let (tally, stop) = (Arc::new(Tally::default()), Arc::new(AtomicBool::new(false)));
        let count = if matches!(self, Attack::Storm | Attack::ResetStorm) { STORM_THREADS } else { 1 };
        let threads = (0..count)
            .map(|_| {
                let (tally, stop) = (Arc::clone(&tally), Arc::clone(&stop));
                let (certificate, credentials) = (workspace.certificate(), Arc::clone(credentials));
                let attacker = Attacker { address, certificate, credentials, tally, stop };
                thread::spawn(move || attacker.run(self))
            })
            .collect();
        Running { attack: self, tally, stop, threads, since: Instant::now() }
    }
}

impl Running {
    pub(crate) fn stop(self) -> Result<Done, String> {
        let seconds = self.since.elapsed().as_secs_f64();
        self.stop.store(true, Ordering::Relaxed);
        let mut lost = 0;
        for thread in self.threads {
            lost += thread.join().map_err(|_| "an attacker panicked".to_owned())??;
        }
        // Not before: some look only at the end which of theirs were cut.
        let figure = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (connections, ended, units) =
            (figure(&self.tally.connections), figure(&self.tally.ended), figure(&self.tally.units));
        let rate = |count: u64| format!("{}/s", thousands((count as f64 / seconds).round() as u64));
        let many = |count: usize| thousands(count as u64);
        let what = match self.attack {
            Attack::Slowloris { sockets } => format!(
                "{} heads at a byte a second: {} bytes, {} connections, {} of them refused or cut",
                many(sockets),
                rate(units),
                thousands(connections),
                thousands(ended)
            ),
            Attack::StalledTls { sockets } => format!(
                "{} that say half a ClientHello or a whole one and no more: {} connections, {} of them refused or cut",
                many(sockets),
                thousands(connections),
                thousands(ended)
            ),
            Attack::Storm => {
                format!("connect and close, a third each at once, after the 101, by a Close: {}", rate(connections))
            }
            Attack::ResetStorm => {
                format!("connect and reset, a third each at once, in the head, in a message: {}", rate(connections))
            }
            Attack::Pings { sockets } => format!("{sockets} that ping: {} pings", rate(units)),
            Attack::Fragments { sockets } => {
                format!("{sockets} that send 1 MiB in fragments of 1 byte: {} fragments", rate(units))
            }
            Attack::Texts { sockets } => format!("{sockets} that send texts of 64 KiB: {} texts", rate(units)),
            Attack::LateErrors { sockets } => format!(
                "{sockets} that send texts of 1 MiB whose last byte is no UTF-8: {} connections cut",
                rate(ended)
            ),
            Attack::KeyUpdates { sockets } => format!(
                "{sockets} that ask for new TLS keys and read nothing: {} requests, {} cut",
                rate(units),
                thousands(ended)
            ),
            Attack::NeverRead { sockets } => format!(
                "{sockets} that never read in a room with {ROOM_READERS} that do: {} messages of 64 B, {} cut",
                rate(units),
                thousands(ended)
            ),
            Attack::Crowd { sockets } => format!(
                "{sockets} that want in: {} connections ({}), {} of them refused or cut",
                thousands(connections),
                rate(connections),
                thousands(ended)
            ),
            Attack::OneAddress { sockets } => format!(
                "{} that want in, of one address: {}, {} of them refused or cut",
                many(sockets),
                rate(connections),
                rate(ended)
            ),
            Attack::HalfProxyHeaders { sockets } => format!(
                "{} that say half a PROXY header and no more: {} connections, {} of them refused or cut",
                many(sockets),
                thousands(connections),
                thousands(ended)
            ),
            Attack::Knocks { wrong, addresses, .. } => format!(
                "{} {}: {}, {} of them looked at, {} without an answer",
                wrong.name(),
                if addresses == 1 {
                    "from one address".to_owned()
                } else {
                    format!("from {} addresses", thousands(addresses.into()))
                },
                rate(connections),
                rate(units),
                thousands(ended)
            ),
            Attack::OverRate { per_second } => format!(
                "one client that sends {} messages a second and may send {}: {} of them echoed",
                thousands(per_second.into()),
                thousands(crate::cases::RATE.into()),
                rate(units)
            ),
            Attack::Feed { sockets } => format!(
                "{} that read nothing while each is sent 35 KiB/s of its own: {} messages of 1 KiB, {} closed",
                many(sockets),
                rate(units),
                thousands(ended)
            ),
        };
        Ok(Done { what, lost })
    }
}

/// One thread of an attack.
pub(crate) struct Attacker {
    pub(crate) address: SocketAddr,
    /// The gateway's.
    pub(crate) certificate: PathBuf,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) tally: Arc<Tally>,
    stop: Arc<AtomicBool>,
}

impl Attacker {
    fn run(&self, attack: Attack) -> Result<u64, String> {
        // Without it they are in line with everybody, no more.
        let _ = setpriority_process(None, PRIORITY);
        match attack {
            Attack::Slowloris { sockets } => {
                let head = self.request("/echo");
                // Never the last byte of it.
                let drip = |at: usize| head.as_bytes().get(at).copied().unwrap_or(b'x');
                self.hold(sockets, || self.connect(), |_| Vec::new(), Some(&drip));
            }
            Attack::StalledTls { sockets } => {
                let hello = client_hello()?;
                let half = |socket: usize| hello[..hello.len() / (1 + socket % 2)].to_vec();
                self.hold(sockets, || self.connect(), half, None);
            }
            Attack::Crowd { sockets } => {
                self.hold(sockets, || self.connect(), |_| self.request("/echo").into_bytes(), None);
            }
            Attack::OneAddress { sockets } => {
                self.hold(sockets, || self.connect_from(0), |_| self.request("/echo").into_bytes(), None);
            }
            Attack::HalfProxyHeaders { sockets } => {
                self.hold(sockets, || self.connect_from(0), |socket| HALF_PROXY_HEADERS[socket % 2].to_vec(), None);
            }
            Attack::Knocks { wrong, per_second, addresses } => knocks::knock(self, wrong, per_second, addresses)?,
            Attack::OverRate { per_second } => self.exceed(per_second)?,
            Attack::Feed { sockets } => feed::feed(self, sockets)?,
            Attack::Storm => self.storm(Self::come_and_go),
            Attack::ResetStorm => self.storm(Self::come_and_reset),
            Attack::Pings { sockets } => {
                let mut ping = Vec::new();
                push_client_frame(&mut ping, crate::frame::PING, &[b'p'; PING_SIZE]);
                self.flood(sockets, &ping.repeat(MIB / ping.len()), ping.len());
            }
            Attack::Fragments { sockets } => {
                let mut message = Vec::new();
                // The first has the kind and no FIN, the last FIN and no kind.
                push_client_frame(&mut message, TEXT & 0x0f, b"f");
                let fragment = message.len();
                (2..MIB).for_each(|_| push_client_frame(&mut message, 0x00, b"f"));
                push_client_frame(&mut message, 0x80, b"f");
                self.flood(sockets, &message, fragment);
            }
            Attack::Texts { sockets } => {
                let mut text = Vec::new();
                push_client_frame(&mut text, TEXT, "é".repeat(TEXT_SIZE / 2).as_bytes());
                self.flood(sockets, &text, text.len());
            }
            Attack::LateErrors { sockets } => {
                let mut wrong = "é".repeat(MIB / 2).into_bytes();
                *wrong.last_mut().ok_or("an empty text")? = 0xff;
                let mut text = Vec::new();
                push_client_frame(&mut text, TEXT, &wrong);
                self.flood(sockets, &text, text.len());
            }
            Attack::KeyUpdates { sockets } => key_updates::flood(self, sockets)?,
            Attack::NeverRead { sockets } => return self.crowd_a_room(sockets),
        }
        Ok(0)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(crate) fn request(&self, path: &str) -> String {
        self.request_with(path, "")
    }

    /// A request with further lines in its head.
    pub(crate) fn request_with(&self, path: &str, lines: &str) -> String {
        format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{lines}\r\n",
            self.address
        )
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let socket = TcpStream::connect_timeout(&self.address, PATIENCE)?;
        socket.set_nodelay(true)?;
        self.tally.connections.fetch_add(1, Ordering::Relaxed);
        Ok(socket)
    }

    /// The same from the attackers' address with this number. It is reset at its end, or its port would be taken for a
    /// minute.
    pub(crate) fn connect_from(&self, number: u32) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        let source = Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 1).to_bits() + number);
        socket.bind(&SocketAddr::from((source, 0)).into())?;
        socket.connect_timeout(&self.address.into(), PATIENCE)?;
        let socket = TcpStream::from(socket);
        socket.set_nodelay(true)?;
        reset_at_end(&socket)?;
        self.tally.connections.fetch_add(1, Ordering::Relaxed);
        Ok(socket)
    }

    /// A client whose 101 has been read, which keeps little that it does not read.
    pub(crate) fn narrow(&self, path: &str) -> Result<TcpStream, String> {
        let socket = self.upgrade(path).map_err(|cause| format!("failed to enter '{path}': {cause}"))?;
        let _ = SockRef::from(&socket).set_recv_buffer_size(SILENT_BUFFER);
        Ok(socket)
    }

    /// A client whose 101 has been read.
    pub(crate) fn upgrade(&self, path: &str) -> io::Result<TcpStream> {
        let mut socket = self.connect()?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.write_all(self.request(path).as_bytes())?;
        let mut answer = [0; 12];
        socket.read_exact(&mut answer)?;
        if &answer != b"HTTP/1.1 101" {
            return Err(ErrorKind::ConnectionRefused.into());
        }
        Ok(socket)
    }

    /// Keeps this many sockets open, each visited once a round: it is sent `opening` when it is connected, then one byte
    /// a visit if there is a `drip`; one that was ended comes again.
    fn hold(
        &self,
        sockets: usize,
        connect: impl Fn() -> io::Result<TcpStream>,
        opening: impl Fn(usize) -> Vec<u8>,
        drip: Option<&dyn Fn(usize) -> u8>,
    ) {
        let mut held: Vec<Option<(TcpStream, usize)>> = (0..sockets).map(|_| None).collect();
        let since = Instant::now();
        for visit in 0.. {
            let due = since + ROUND.mul_f64(visit as f64 / sockets as f64);
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if self.is_over() {
                return;
            }
            let socket = visit % sockets;
            let place = &mut held[socket];
            let lives = match place {
                None => connect()
                    .and_then(|stream| open_with(stream, &opening(socket)))
                    .map(|stream| *place = Some((stream, 0))),
                Some((stream, sent)) => discard(stream).and_then(|_| {
                    let Some(drip) = drip else { return Ok(()) };
                    stream.write_all(&[drip(*sent)])?;
                    *sent += 1;
                    self.tally.units.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                }),
            };
            if lives.is_err() {
                *place = None;
                self.tally.ended.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// One connection after the other, each in the next of three ways; what fails is tried again.
    fn storm(&self, once: impl Fn(&Self, usize) -> io::Result<()>) {
        for way in (0..3).cycle() {
            if self.is_over() {
                return;
            }
            if once(self, way).is_err() {
                self.tally.ended.fetch_add(1, Ordering::Relaxed);
                // Out of ports for a moment, or the backlog is full.
                thread::sleep(Duration::from_millis(1));
            }
        }
    }

    fn come_and_go(&self, way: usize) -> io::Result<()> {
        match way {
            0 => self.connect().map(drop),
            1 => self.upgrade("/echo").map(drop),
            _ => {
                let mut socket = self.upgrade("/echo")?;
                let mut close = Vec::new();
                push_client_frame(&mut close, crate::frame::CLOSE, &[3, 232]);
                socket.write_all(&close)?;
                // Up to the end that the gateway makes.
                io::copy(&mut socket, &mut io::sink()).map(drop)
            }
        }
    }

    fn come_and_reset(&self, way: usize) -> io::Result<()> {
        let mut socket = if way == 2 { self.upgrade("/echo")? } else { self.connect()? };
        reset_at_end(&socket)?;
        match way {
            0 => Ok(()),
            1 => {
                let request = self.request("/echo");
                socket.write_all(&request.as_bytes()[..request.len() / 2])
            }
            _ => {
                let mut message = Vec::new();
                push_client_frame(&mut message, TEXT, &[b'm'; 4096]);
                socket.write_all(&message[..message.len() / 2])
            }
        }
    }

    /// This many clients send `stream` again and again, as fast as it is taken, and discard what they are answered.
    fn flood(&self, sockets: usize, stream: &[u8], unit: usize) {
        let mut clients: Vec<Option<(TcpStream, usize)>> = (0..sockets).map(|_| None).collect();
        while !self.is_over() {
            let mut moved = false;
            for place in &mut clients {
                let Some((socket, at)) = place else {
                    *place = self.upgrade("/echo").and_then(flooding).map(|socket| (socket, 0)).ok();
                    continue;
                };
                let end = stream.len().min(*at + (64 << 10));
                let sent = match discard(socket).and_then(|_| socket.write(&stream[*at..end])) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                    Err(_) => {
                        *place = None;
                        self.tally.ended.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    Ok(sent) => sent,
                };
                moved = true;
                self.tally.units.fetch_add(((*at % unit + sent) / unit) as u64, Ordering::Relaxed);
                *at = (*at + sent) % stream.len();
            }
            if !moved {
                let open = clients.iter().flatten().map(|(socket, _)| socket);
                let mut waited: Vec<_> =
                    open.map(|socket| PollFd::new(socket, PollFlags::IN | PollFlags::OUT)).collect();
                let _ = poll(&mut waited, Some(&Timespec { tv_sec: 0, tv_nsec: 10_000_000 }));
            }
        }
    }

    /// One client sends as often as this in a second, and counts its echoes.
    fn exceed(&self, per_second: u32) -> Result<(), String> {
        let failed = |cause: io::Error| format!("the client that sends too many: {cause}");
        let mut socket = self.upgrade("/rated").and_then(flooding).map_err(failed)?;
        let mut message = Vec::new();
        push_client_frame(&mut message, TEXT, &[b'r'; RATED_SIZE]);
        let (since, mut received) = (Instant::now(), 0);
        for number in 0.. {
            let due = since + Duration::from_secs(number) / per_second;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if self.is_over() {
                break;
            }
            received += discard(&mut socket).map_err(failed)?;
            self.tally.units.store((received / (ECHO_HEADER + RATED_SIZE)) as u64, Ordering::Relaxed);
            match socket.write_all(&message) {
                // The gateway reads no faster than it may.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                result => result.map_err(failed)?,
            }
        }
        Ok(())
    }

    /// A room of which most never read; returns how many messages those who do read have lost.
    fn crowd_a_room(&self, sockets: usize) -> Result<u64, String> {
        let silent = (0..sockets).map(|_| self.narrow("/room")).collect::<Result<Vec<_>, String>>()?;
        let mut generator = Generator::new(None)?;
        generator.connect(self.address, "/room", ROOM_READERS + 1)?;
        let publisher = ROOM_READERS;
        let mut room = Room { messages: Messages::new(ROOM_SIZE), published: 0, received: [0; ROOM_READERS] };
        let since = Instant::now();
        while !self.is_over() {
            let due = since + ROOM_INTERVAL.mul_f64((room.published / ROOM_BATCH) as f64);
            while generator.turn(&mut room, due.saturating_duration_since(Instant::now()))? {}
            let mut frame = Vec::new();
            for _ in 0..ROOM_BATCH {
                room.messages.push(&mut frame, publisher, room.published);
                room.published += 1;
            }
            generator.send(publisher, &frame)?;
            self.tally.units.fetch_add(ROOM_BATCH, Ordering::Relaxed);
        }
        let patience = Instant::now() + PATIENCE;
        while !room.is_done() && Instant::now() < patience {
            generator.turn(&mut room, Duration::from_millis(50))?;
        }
        for socket in &silent {
            let is_cut = SockRef::from(socket).take_error().is_ok_and(|error| error.is_some());
            self.tally.ended.fetch_add(is_cut.into(), Ordering::Relaxed);
        }
        Ok(room.received.iter().map(|received| room.published - received).sum())
    }
}

/// The room's readers check that they get every message.
struct Room {
    messages: Messages,
    published: u64,
    received: [u64; ROOM_READERS],
}

impl Load for Room {
    fn message(&mut self, client: usize, payload: &[u8], _now: Instant) -> Result<(), String> {
        let (_, number) = self.messages.check(payload)?;
        let expected = self.received[client];
        if number != expected {
            return Err(format!("received message {number} of the room instead of {expected}"));
        }
        self.received[client] += 1;
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.received.iter().all(|received| *received == self.published)
    }
}

/// Takes what has arrived, and says how many bytes that was; an error when the connection has ended.
pub(crate) fn discard(socket: &mut TcpStream) -> io::Result<usize> {
    let mut buffer = [0; 64 << 10];
    let mut taken = 0;
    loop {
        match socket.read(&mut buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => taken += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(taken),
            Err(error) => return Err(error),
        }
    }
}

/// Sends what a connection begins with.
fn open_with(mut socket: TcpStream, opening: &[u8]) -> io::Result<TcpStream> {
    reset_at_end(&socket)?;
    socket.write_all(opening)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn flooding(socket: TcpStream) -> io::Result<TcpStream> {
    reset_at_end(&socket)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn reset_at_end(socket: &TcpStream) -> io::Result<()> {
    SockRef::from(socket).set_linger(Some(Duration::ZERO))
}

fn client_hello() -> Result<Vec<u8>, String> {
    let mut session = Session::new(&tls::context()?)?;
    session.handshake()?;
    Ok(session.take_ciphertext())
}

/// A count with a comma at every thousand.
pub(crate) fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
