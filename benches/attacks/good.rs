//! The well-behaved clients: each sends a message about every 100 ms and expects its echo.
//!
//! The load is open: when a message is sent does not depend on when others were answered, so a gateway that stands
//! still is seen by every message of that time and not by one.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use crate::frame::Messages;
use crate::generator::{Generator, Load};
use crate::histogram::Histogram;

/// Bytes of a message.
const SIZE: usize = 64;
/// Between two messages of one client, on average; each wait is up to half of it longer or shorter.
const INTERVAL: Duration = Duration::from_millis(100);
/// How long an answer may take before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(5);

/// All well-behaved clients of a run.
pub(crate) struct Good {
    generator: Generator,
    echoes: Echoes,
    due: BinaryHeap<Reverse<(Instant, usize)>>,
    random: u64,
}

/// What they saw in one phase.
pub(crate) struct Seen {
    pub(crate) latencies: Histogram,
    /// How much later than it was due each message was sent: what the generator itself was held up.
    pub(crate) lateness: Histogram,
    pub(crate) sent: u64,
    /// Messages without an answer.
    pub(crate) lost: u64,
    /// Clients that were disconnected.
    pub(crate) disconnected: u64,
}

impl Seen {
    fn new() -> Seen {
        Seen { latencies: Histogram::new(), lateness: Histogram::new(), sent: 0, lost: 0, disconnected: 0 }
    }
}

impl Good {
    /// Takes over the open clients of a generator.
    pub(crate) fn new(generator: Generator) -> Good {
        let clients = generator.len();
        let waiting = (0..clients).map(|_| VecDeque::new()).collect();
        let echoes = Echoes { messages: Messages::new(SIZE), waiting, next: 0, seen: Seen::new() };
        let mut good = Good { generator, echoes, due: BinaryHeap::new(), random: 0x9e37_79b9_7f4a_7c15 };
        good.due.extend((0..clients).map(|client| Reverse((Instant::now(), client))));
        good
    }

    /// Sends for this long, then waits for what is still to come; `at_end` is called in between.
    pub(crate) fn run(&mut self, time: Duration, at_end: impl FnOnce()) -> Result<Seen, String> {
        self.spread();
        let end = Instant::now() + time;
        loop {
            let now = Instant::now();
            if now >= end {
                break;
            }
            self.send_due(now)?;
            let next = self.due.peek().map_or(end, |Reverse((due, _))| (*due).min(end));
            self.generator.turn(&mut self.echoes, next.saturating_duration_since(Instant::now()))?;
        }
        at_end();
        let patience = Instant::now() + PATIENCE;
        while self.echoes.is_waiting() && Instant::now() < patience {
            self.generator.turn(&mut self.echoes, Duration::from_millis(50))?;
        }
        self.echoes.give_up();
        Ok(std::mem::replace(&mut self.echoes.seen, Seen::new()))
    }

    fn send_due(&mut self, now: Instant) -> Result<(), String> {
        while let Some(Reverse((due, client))) = self.due.peek().copied().filter(|Reverse((due, _))| *due <= now) {
            self.due.pop();
            let mut frame = Vec::new();
            let sent = Instant::now();
            let number = self.echoes.send(client, sent);
            self.echoes.messages.push(&mut frame, client, number);
            self.echoes.seen.lateness.record(sent - due);
            self.generator.send(client, &frame)?;
            let wait = INTERVAL.mul_f64(0.5 + self.share());
            self.due.push(Reverse(((due + wait).max(sent), client)));
        }
        Ok(())
    }

    /// Has every client begin somewhere in the next interval: nothing was due between two phases.
    fn spread(&mut self) {
        let now = Instant::now();
        let clients: Vec<usize> = self.due.drain().map(|Reverse((_, client))| client).collect();
        for client in clients {
            let wait = INTERVAL.mul_f64(self.share());
            self.due.push(Reverse((now + wait, client)));
        }
    }

    /// A number from 0 to 1: xorshift, the same in every run.
    fn share(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1u64 << 53) as f64
    }
}

struct Echoes {
    messages: Messages,
    /// Per client: number and time of the messages that have no answer yet.
    waiting: Vec<VecDeque<(u64, Instant)>>,
    /// The number of the next message, unique in the whole run.
    next: u64,
    seen: Seen,
}

impl Echoes {
    fn send(&mut self, client: usize, now: Instant) -> u64 {
        self.seen.sent += 1;
        self.next += 1;
        self.waiting[client].push_back((self.next, now));
        self.next
    }

    fn is_waiting(&self) -> bool {
        self.waiting.iter().any(|waiting| !waiting.is_empty())
    }

    fn give_up(&mut self) {
        for waiting in &mut self.waiting {
            self.seen.lost += waiting.len() as u64;
            waiting.clear();
        }
    }
}

impl Load for Echoes {
    fn message(&mut self, client: usize, payload: &[u8], now: Instant) -> Result<(), String> {
        let (source, number) = self.messages.check(payload)?;
        match self.waiting[client].pop_front() {
            Some((expected, sent)) if (client, expected) == (source, number) => {
                self.seen.latencies.record(now - sent);
                Ok(())
            }
            expected => Err(format!("received message {number} of client {source} instead of {expected:?}")),
        }
    }

    fn closed(&mut self, client: usize, _code: Option<u16>) -> Result<(), String> {
        self.seen.disconnected += 1;
        self.seen.lost += self.waiting[client].len() as u64;
        self.waiting[client].clear();
        Ok(())
    }

    fn is_done(&self) -> bool {
        !self.is_waiting()
    }
}
