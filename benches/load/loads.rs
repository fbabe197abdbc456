//! What the clients do: the traffic of each case, in closed loop, with every message accounted for.
//!
//! A load starts from quiet and ends in quiet: when its time is up nothing new is sent and it is done once everything
//! has arrived. So what the server's CPU clock shows between two loads belongs to exactly the messages counted.

use std::time::{Duration, Instant};

use crate::frame::{CLOSE, Messages, push_client_frame};
use crate::generator::{Generator, Load};
use crate::histogram::Histogram;

/// When a load stops sending.
#[derive(Clone, Copy)]
pub(crate) enum Until {
    After(Duration),
    /// So many messages were sent by each source.
    Messages(u64),
}

/// What a load brought about.
pub(crate) struct Counted {
    /// Messages that arrived and were checked (for an ingest: that were sent, in an orderly closed connection).
    pub(crate) messages: u64,
    pub(crate) elapsed: Duration,
    pub(crate) latencies: Histogram,
}

/// Publishers that send `window` messages when everybody has the last ones; all other clients of the room receive.
pub(crate) struct FanOut {
    messages: Messages,
    window: u64,
    until: Until,
    /// The clients that publish are the last ones of the generator, so many.
    publishers: usize,
    clients: usize,
    /// So many clients read nothing and are not waited for.
    left_out: usize,
    /// Number of the next message of a publisher to each client: `client * publishers + source`.
    expected: Vec<u64>,
    /// By publisher: number of its next message, deliveries still out, time of its last write.
    sources: Vec<Source>,
    running: usize,
    ready: Vec<usize>,
    batch: Vec<u8>,
    began: Instant,
    counted: Counted,
}

struct Source {
    next: u64,
    first: u64,
    out: u64,
    sent_at: Instant,
}

impl FanOut {
    /// Over all clients of the generator, of which the last `publishers` publish.
    pub(crate) fn new(generator: &Generator, size: usize, window: u64, publishers: usize) -> FanOut {
        let now = Instant::now();
        let sources = (0..publishers).map(|_| Source { next: 0, first: 0, out: 0, sent_at: now }).collect();
        let clients = generator.len();
        FanOut {
            messages: Messages::new(size),
            window,
            until: Until::Messages(0),
            publishers,
            clients,
            left_out: 0,
            expected: vec![0; clients * publishers],
            sources,
            running: 0,
            ready: Vec::new(),
            batch: Vec::new(),
            began: now,
            counted: nothing_yet(),
        }
    }

    /// Does not wait for this many clients, which the generator has frozen.
    pub(crate) fn leave_out(&mut self, clients: usize) {
        self.left_out = clients;
    }

    /// Waits for one of them again, from the next message on.
    pub(crate) fn take_back(&mut self, client: usize) {
        self.left_out -= 1;
        for (source, its) in self.sources.iter().enumerate() {
            self.expected[client * self.publishers + source] = its.next;
        }
    }

    /// Messages that the first publisher has sent so far.
    pub(crate) fn published(&self) -> u64 {
        self.sources[0].next
    }

    pub(crate) fn run(&mut self, generator: &mut Generator, until: Until) -> Result<Counted, String> {
        self.until = until;
        self.began = Instant::now();
        self.running = self.publishers;
        for source in 0..self.publishers {
            self.sources[source].first = self.sources[source].next;
            self.publish(source, generator)?;
        }
        generator.run(self)?;
        let mut counted = std::mem::replace(&mut self.counted, nothing_yet());
        counted.elapsed = self.began.elapsed();
        Ok(counted)
    }

    fn publish(&mut self, source: usize, generator: &mut Generator) -> Result<(), String> {
        let its = &mut self.sources[source];
        self.batch.clear();
        for _ in 0..self.window {
            self.messages.push(&mut self.batch, source, its.next);
            its.next += 1;
        }
        let receivers = self.clients - 1 - self.left_out;
        its.out = self.window * receivers as u64;
        its.sent_at = Instant::now();
        generator.send(self.clients - self.publishers + source, &self.batch)
    }

    fn goes_on(&self, source: &Source, now: Instant) -> bool {
        match self.until {
            Until::After(time) => now - self.began < time,
            Until::Messages(count) => source.next - source.first < count,
        }
    }
}

impl Load for FanOut {
    fn message(&mut self, client: usize, payload: &[u8], now: Instant) -> Result<(), String> {
        let (source, number) = self.messages.check(payload)?;
        let expected = self.expected.get_mut(client * self.publishers + source).ok_or("received a foreign message")?;
        in_order(*expected, number)?;
        *expected += 1;
        let its = &mut self.sources[source];
        self.counted.latencies.record(now - its.sent_at);
        self.counted.messages += 1;
        its.out = its.out.checked_sub(1).ok_or("received a message too many")?;
        if its.out == 0 {
            self.ready.push(source);
        }
        Ok(())
    }

    fn after_read(&mut self, _client: usize, now: Instant, generator: &mut Generator) -> Result<(), String> {
        while let Some(source) = self.ready.pop() {
            if self.goes_on(&self.sources[source], now) {
                self.publish(source, generator)?;
            } else {
                self.running -= 1;
            }
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.running == 0
    }
}

/// Every client keeps `window` messages in flight and checks what comes back, or what comes to its partner.
pub(crate) struct Echo {
    messages: Messages,
    /// The message of client N arrives at client N xor this: 0 for an echo, 1 for pairs.
    apart: usize,
    window: u64,
    until: Until,
    clients: Vec<EchoClient>,
    in_flight: u64,
    batch: Vec<u8>,
    began: Instant,
    counted: Counted,
}

struct EchoClient {
    sent: u64,
    received: u64,
    /// Arrived in the present read.
    arrived: u64,
    /// When the message with this number modulo the window left.
    sent_at: Vec<Instant>,
    sent_in_run: u64,
}

impl Echo {
    /// Over all clients of the generator.
    pub(crate) fn new(generator: &Generator, size: usize, window: u64) -> Echo {
        Echo::apart(generator, size, window, 0)
    }

    /// The same for pairs of clients, each of which gets what the other one sends.
    pub(crate) fn pairs(generator: &Generator, size: usize, window: u64) -> Echo {
        Echo::apart(generator, size, window, 1)
    }

    fn apart(generator: &Generator, size: usize, window: u64, apart: usize) -> Echo {
        let now = Instant::now();
        let client =
            || EchoClient { sent: 0, received: 0, arrived: 0, sent_at: vec![now; window as usize], sent_in_run: 0 };
        Echo {
            messages: Messages::new(size),
            apart,
            window,
            until: Until::Messages(0),
            clients: std::iter::repeat_with(client).take(generator.len()).collect(),
            in_flight: 0,
            batch: Vec::new(),
            began: now,
            counted: nothing_yet(),
        }
    }

    pub(crate) fn run(&mut self, generator: &mut Generator, until: Until) -> Result<Counted, String> {
        self.run_clients(0..self.clients.len(), generator, until)
    }

    /// The same with some of the clients.
    pub(crate) fn run_clients(
        &mut self,
        clients: std::ops::Range<usize>,
        generator: &mut Generator,
        until: Until,
    ) -> Result<Counted, String> {
        self.until = until;
        self.began = Instant::now();
        for client in clients {
            self.clients[client].sent_in_run = 0;
            self.send(client, self.window, Instant::now(), generator)?;
        }
        generator.run(self)?;
        let mut counted = std::mem::replace(&mut self.counted, nothing_yet());
        counted.elapsed = self.began.elapsed();
        Ok(counted)
    }

    fn send(&mut self, client: usize, count: u64, now: Instant, generator: &mut Generator) -> Result<(), String> {
        let its = &mut self.clients[client];
        self.batch.clear();
        for _ in 0..count {
            self.messages.push(&mut self.batch, client, its.sent);
            its.sent_at[(its.sent % self.window) as usize] = now;
            its.sent += 1;
        }
        its.sent_in_run += count;
        self.in_flight += count;
        generator.send(client, &self.batch)
    }
}

impl Load for Echo {
    fn message(&mut self, client: usize, payload: &[u8], now: Instant) -> Result<(), String> {
        let client = client ^ self.apart;
        let (source, number) = self.messages.check(payload)?;
        // A source has 12 bits.
        if source != client & 0xfff {
            return Err(format!("received a message of client {source}"));
        }
        let its = &mut self.clients[client];
        in_order(its.received, number)?;
        if its.received == its.sent {
            return Err("received a message too many".to_owned());
        }
        self.counted.latencies.record(now - its.sent_at[(number % self.window) as usize]);
        self.counted.messages += 1;
        its.received += 1;
        its.arrived += 1;
        self.in_flight -= 1;
        Ok(())
    }

    fn after_read(&mut self, client: usize, now: Instant, generator: &mut Generator) -> Result<(), String> {
        let client = client ^ self.apart;
        let its = &mut self.clients[client];
        let arrived = std::mem::take(&mut its.arrived);
        let goes_on = match self.until {
            Until::After(time) => now - self.began < time,
            Until::Messages(count) => its.sent_in_run < count,
        };
        if goes_on && arrived > 0 { self.send(client, arrived, now, generator) } else { Ok(()) }
    }

    fn is_done(&self) -> bool {
        self.in_flight == 0
    }
}

/// Every client sends as fast as its socket takes it, then closes; the orderly end says that all of it was consumed.
pub(crate) struct Flood {
    chunk: Vec<u8>,
    messages_per_chunk: u64,
    clients: Vec<FloodClient>,
    open: usize,
    until: Instant,
    messages: u64,
}

#[derive(Clone)]
struct FloodClient {
    at: usize,
    closing: bool,
}

impl Flood {
    /// Over all clients of the generator.
    pub(crate) fn new(generator: &Generator, size: usize) -> Flood {
        let messages = Messages::new(size);
        let messages_per_chunk = (64 * 1024 / messages.frame_length()).max(1) as u64;
        let mut chunk = Vec::new();
        for number in 0..messages_per_chunk {
            messages.push(&mut chunk, 0, number);
        }
        let clients = vec![FloodClient { at: 0, closing: false }; generator.len()];
        let open = clients.len();
        Flood { chunk, messages_per_chunk, clients, open, until: Instant::now(), messages: 0 }
    }

    pub(crate) fn run(&mut self, generator: &mut Generator, time: Duration) -> Result<Counted, String> {
        let began = Instant::now();
        self.until = began + time;
        for client in 0..self.clients.len() {
            generator.watch_writable(client)?;
        }
        generator.run(self)?;
        Ok(Counted { messages: self.messages, elapsed: began.elapsed(), latencies: Histogram::new() })
    }
}

impl Load for Flood {
    fn message(&mut self, _client: usize, _payload: &[u8], _now: Instant) -> Result<(), String> {
        Err("received a message from an endpoint that routes nowhere".to_owned())
    }

    fn writable(&mut self, client: usize, generator: &mut Generator) -> Result<(), String> {
        let its = &mut self.clients[client];
        if its.closing {
            return Ok(());
        }
        its.at += generator.send_some(client, &self.chunk[its.at..])?;
        if its.at < self.chunk.len() {
            return Ok(());
        }
        its.at = 0;
        self.messages += self.messages_per_chunk;
        if Instant::now() < self.until {
            return Ok(());
        }
        its.closing = true;
        generator.watch_readable(client)?;
        let mut close = Vec::new();
        push_client_frame(&mut close, CLOSE, &1000u16.to_be_bytes());
        generator.send(client, &close)
    }

    fn closed(&mut self, client: usize, code: Option<u16>) -> Result<(), String> {
        if !self.clients[client].closing || code != Some(1000) {
            let what = crate::generator::describe_close(code);
            return Err(format!("client {client} was disconnected in the middle of a flood ({what})"));
        }
        self.open -= 1;
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.open == 0
    }
}

/// Listens to a client that had stopped reading: what it still gets, and how it ends.
pub(crate) struct Aftermath {
    messages: Messages,
    pub(crate) received: u64,
    /// Number of the next message if none is dropped before it.
    next: u64,
    /// How it was disconnected, if it was.
    pub(crate) end: Option<Option<u16>>,
}

impl Aftermath {
    /// Messages of `size` bytes, of which those before number `first` were read.
    pub(crate) fn new(size: usize, first: u64) -> Aftermath {
        Aftermath { messages: Messages::new(size), received: 0, next: first, end: None }
    }

    /// Listens until it is closed or nothing more comes.
    pub(crate) fn run(&mut self, generator: &mut Generator) -> Result<(), String> {
        while !self.is_done() && generator.turn(self, Duration::from_secs(3))? {}
        Ok(())
    }
}

impl Load for Aftermath {
    fn message(&mut self, _client: usize, payload: &[u8], _now: Instant) -> Result<(), String> {
        let (_, number) = self.messages.check(payload)?;
        if number < self.next {
            return Err(format!("received message {number} again or out of order"));
        }
        self.next = number + 1;
        self.received += 1;
        Ok(())
    }

    fn closed(&mut self, _client: usize, code: Option<u16>) -> Result<(), String> {
        self.end = Some(code);
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.end.is_some()
    }
}

/// Clients that only answer pings, for a while.
pub(crate) struct Quiet {
    until: Instant,
}

impl Quiet {
    pub(crate) fn run(generator: &mut Generator, time: Duration) -> Result<(), String> {
        let mut quiet = Quiet { until: Instant::now() + time };
        while !quiet.is_done() {
            let left = quiet.until - Instant::now().min(quiet.until);
            generator.turn(&mut quiet, left)?;
        }
        Ok(())
    }
}

impl Load for Quiet {
    fn message(&mut self, _client: usize, _payload: &[u8], _now: Instant) -> Result<(), String> {
        Err("received a message that nobody sent".to_owned())
    }

    fn is_done(&self) -> bool {
        Instant::now() >= self.until
    }
}

fn nothing_yet() -> Counted {
    Counted { messages: 0, elapsed: Duration::ZERO, latencies: Histogram::new() }
}

fn in_order(expected: u64, number: u64) -> Result<(), String> {
    if number == expected {
        return Ok(());
    }
    Err(format!("received message {number} where {expected} was due: lost, repeated or out of order"))
}
