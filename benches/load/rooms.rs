//! The cases of rooms: many small ones, a quiet one beside a busy one, and one whose queues are full.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::setpriority_process;
use socket2::SockRef;

use crate::cases::{Bench, Busy, Figures, SETTLE, Span, WARM_UP, connect};
use crate::frame::Messages;
use crate::generator::{Generator, Load};
use crate::histogram::Histogram;
use crate::loads::{Counted, Echo, FanOut, Quiet, Until};
use crate::process::Server;

/// Clients of the quiet room; each gets what one of them sends.
pub(crate) const QUIET: usize = 10;
/// Between two messages of the quiet room, and between two new connections.
const QUIET_INTERVAL: Duration = Duration::from_millis(5);
const CONNECT_INTERVAL: Duration = Duration::from_millis(10);
const QUIET_SIZE: usize = 64;
/// A phase is this many times as long as the traffic of another case: its events are rare.
const PHASE_TIMES: u32 = 5;
/// How long the busy room goes on before and after it is measured against.
const MARGIN: Duration = Duration::from_millis(500);
/// The busy room's clients come behind those that are measured, which share their core.
const PRIORITY: i32 = 19;
const PATIENCE: Duration = Duration::from_secs(5);

/// Messages of the case with full queues: 1 KiB, so that the kernel's buffers hold few thousands of them.
const DEEP_SIZE: usize = 1024;
const DEEP_WINDOW: u64 = 16;
/// `queue.messages` of the endpoint `/deep`.
const DEEP_QUEUE: u64 = 65_536;
/// What the kernel keeps of a client that stops reading, by far.
const DEEP_KERNEL: u64 = 10_000;
/// How many are measured while the queues fill, and when they are full.
const DEEP_MESSAGES: u64 = 40_000;

/// Clients that are alone in their rooms.
pub(crate) fn own(
    bench: &Bench,
    server: &Server,
    generator: &mut Generator,
    clients: usize,
    size: usize,
    window: u64,
) -> Result<Figures, String> {
    generator.connect_each(server.address(), clients, |client| format!("/own/{client}"))?;
    Quiet::run(generator, SETTLE)?;
    let load = Echo::new(generator, size, window);
    traffic(bench, server, generator, load)
}

/// Rooms of two clients, which send to each other.
pub(crate) fn pairs(
    bench: &Bench,
    server: &Server,
    generator: &mut Generator,
    clients: usize,
    size: usize,
    window: u64,
) -> Result<Figures, String> {
    generator.connect_each(server.address(), clients, |client| format!("/pairs/{}", client / 2))?;
    Quiet::run(generator, SETTLE)?;
    let load = Echo::pairs(generator, size, window);
    traffic(bench, server, generator, load)
}

fn traffic(bench: &Bench, server: &Server, generator: &mut Generator, mut load: Echo) -> Result<Figures, String> {
    load.run(generator, Until::After(WARM_UP))?;
    let span = Span::measure(server, || load.run(generator, Until::After(bench.time)))?;
    // A message too many arrives behind the last one that was due.
    Quiet::run(generator, SETTLE)?;
    span.figures()
}

/// A quiet room and new connections, first alone, then beside a busy room.
pub(crate) fn beside(bench: &Bench, server: &Server, generator: &mut Generator, busy: Busy) -> Result<Figures, String> {
    let address = server.address();
    let time = bench.time * PHASE_TIMES;
    connect(generator, server, "/quiet", QUIET)?;
    let mut ticker = Ticker::new();
    let alone = phase(&mut ticker, generator, address, time)?;
    let (ready, is_ready) = channel();
    let room = thread::spawn(move || {
        // Without it they are in line with those that are measured, no more.
        let _ = setpriority_process(None, PRIORITY);
        be_busy(busy, address, time + 2 * MARGIN, &ready)
    });
    // Gone without a word when it has failed.
    let beside = is_ready.recv().ok().map(|()| {
        Quiet::run(generator, MARGIN)?;
        phase(&mut ticker, generator, address, time)
    });
    let counted = room.join().map_err(|_| "the busy room panicked".to_owned())??;
    let beside = beside.ok_or("the busy room never began")??;
    let quantiles = |of: &Histogram| [of.quantile(0.5), of.quantile(0.99)];
    let mut values = Vec::new();
    for histogram in [&alone.deliveries, &beside.deliveries, &alone.connects, &beside.connects] {
        values.extend(quantiles(histogram));
    }
    values.push(counted.messages as f64 / counted.elapsed.as_secs_f64());
    Ok(Figures { values, note: None })
}

/// What was seen in one phase.
struct Phase {
    deliveries: Histogram,
    connects: Histogram,
}

fn phase(ticker: &mut Ticker, generator: &mut Generator, address: SocketAddr, time: Duration) -> Result<Phase, String> {
    let connects = thread::spawn(move || connects(address, time));
    let deliveries = ticker.run(generator, time);
    let connects = connects.join().map_err(|_| "the connecting thread panicked".to_owned())??;
    Ok(Phase { deliveries: deliveries?, connects })
}

/// One connection after the other, each from its SYN to its 101.
fn connects(address: SocketAddr, time: Duration) -> Result<Histogram, String> {
    let failed = |cause: std::io::Error| format!("a new connection failed: {cause}");
    let mut histogram = Histogram::new();
    let since = Instant::now();
    for number in 0.. {
        let due = since + CONNECT_INTERVAL * number;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if since.elapsed() >= time {
            break;
        }
        let began = Instant::now();
        let mut socket = TcpStream::connect_timeout(&address, PATIENCE).map_err(failed)?;
        // A reset at the end, or every run would leave thousands of sockets in TIME_WAIT to the next.
        SockRef::from(&socket).set_linger(Some(Duration::ZERO)).map_err(failed)?;
        socket.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        let request = format!(
            "GET /echo HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).map_err(failed)?;
        let mut answer = [0; 12];
        socket.read_exact(&mut answer).map_err(failed)?;
        histogram.record(began.elapsed());
        if &answer != b"HTTP/1.1 101" {
            return Err(format!("a new connection was refused: {}", String::from_utf8_lossy(&answer)));
        }
    }
    Ok(histogram)
}

/// The quiet room: a message at a fixed pace, whatever has become of those before it.
struct Ticker {
    messages: Messages,
    sent: Vec<Instant>,
    /// By client: how many it has received.
    received: [usize; QUIET],
    latencies: Histogram,
}

impl Ticker {
    fn new() -> Ticker {
        Ticker {
            messages: Messages::new(QUIET_SIZE),
            sent: Vec::new(),
            received: [0; QUIET],
            latencies: Histogram::new(),
        }
    }

    fn run(&mut self, generator: &mut Generator, time: Duration) -> Result<Histogram, String> {
        let since = Instant::now();
        let mut frame = Vec::new();
        for number in 0.. {
            let due = since + QUIET_INTERVAL * number;
            loop {
                let left = due.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                generator.turn(self, left)?;
            }
            if since.elapsed() >= time {
                break;
            }
            frame.clear();
            self.messages.push(&mut frame, 0, self.sent.len() as u64);
            self.sent.push(Instant::now());
            generator.send(0, &frame)?;
        }
        // What is lost ends this with an error.
        generator.run(self)?;
        Ok(std::mem::replace(&mut self.latencies, Histogram::new()))
    }
}

impl Load for Ticker {
    fn message(&mut self, client: usize, payload: &[u8], now: Instant) -> Result<(), String> {
        let (_, number) = self.messages.check(payload)?;
        let expected = self.received[client];
        if number != expected as u64 {
            return Err(format!("received message {number} of the quiet room instead of {expected}"));
        }
        self.received[client] += 1;
        self.latencies.record(now - self.sent[expected]);
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.received.iter().all(|received| *received == self.sent.len())
    }
}

/// The busy room, for this long once it is there, which `ready` is told.
fn be_busy(busy: Busy, address: SocketAddr, time: Duration, ready: &Sender<()>) -> Result<Counted, String> {
    let mut generator = Generator::new(None)?;
    let tell = || ready.send(()).map_err(|_| "nobody waits for the busy room".to_owned());
    match busy {
        Busy::FanOut { readers } => {
            generator.connect(address, "/busy", readers + 1)?;
            let mut load = FanOut::new(&generator, QUIET_SIZE, 1, 1);
            tell()?;
            load.run(&mut generator, Until::After(time))
        }
        Busy::Flood { senders, size, readers } => {
            generator.connect(address, "/busy", readers)?;
            generator.connect(address, "/feed", senders)?;
            tell()?;
            Torrent::new(size, readers).run(&mut generator, time)
        }
    }
}

/// Senders that send as fast as their sockets take it to readers that count: what is too much for these is dropped.
struct Torrent {
    chunk: Vec<u8>,
    readers: usize,
    /// By sender: how much of the chunk is sent.
    at: Vec<usize>,
    received: u64,
    end: Instant,
}

impl Torrent {
    fn new(size: usize, readers: usize) -> Torrent {
        let messages = Messages::new(size);
        let mut chunk = Vec::new();
        for number in 0..64 {
            messages.push(&mut chunk, 0, number);
        }
        Torrent { chunk, readers, at: Vec::new(), received: 0, end: Instant::now() }
    }

    fn run(mut self, generator: &mut Generator, time: Duration) -> Result<Counted, String> {
        let began = Instant::now();
        self.end = began + time;
        self.at = vec![0; generator.len() - self.readers];
        for sender in self.readers..generator.len() {
            generator.watch_writable(sender)?;
        }
        generator.run(&mut self)?;
        Ok(Counted { messages: self.received, elapsed: began.elapsed(), latencies: Histogram::new() })
    }
}

impl Load for Torrent {
    fn message(&mut self, _client: usize, _payload: &[u8], _now: Instant) -> Result<(), String> {
        self.received += 1;
        Ok(())
    }

    fn writable(&mut self, client: usize, generator: &mut Generator) -> Result<(), String> {
        // Those that have frames of the generator to send, pongs, are no senders.
        let Some(at) = client.checked_sub(self.readers).and_then(|sender| self.at.get_mut(sender)) else {
            return Ok(());
        };
        *at += generator.send_some(client, &self.chunk[*at..])?;
        if *at == self.chunk.len() {
            *at = 0;
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        Instant::now() >= self.end
    }
}

/// What a message costs in a room where one client reads and the others have stopped, while there is room for it in their
/// queues, and when each one drives out another.
pub(crate) fn full_queue(server: &Server, generator: &mut Generator, stalled: usize) -> Result<Figures, String> {
    connect(generator, server, "/deep", stalled + 2)?;
    let mut load = FanOut::new(generator, DEEP_SIZE, DEEP_WINDOW, 1);
    load.run(generator, Until::After(WARM_UP))?;
    for client in 0..stalled {
        generator.freeze(client)?;
    }
    load.leave_out(stalled);
    load.run(generator, Until::Messages(DEEP_KERNEL))?;
    let filling = Span::measure(server, || load.run(generator, Until::Messages(DEEP_MESSAGES)))?;
    load.run(generator, Until::Messages(DEEP_QUEUE))?;
    let full = Span::measure(server, || load.run(generator, Until::Messages(DEEP_MESSAGES)))?;
    let pss_mib = server.memory()?.pss_kib as f64 / 1024.0;
    let (filling, full) = (filling.cpu_per_message(), full.cpu_per_message());
    Ok(Figures { values: vec![filling, full, full / filling, pss_mib], note: None })
}
