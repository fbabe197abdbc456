//! The well-behaved clients: each sends a message about every 100 ms. Most of them expect its echo; ten are in a room,
//! where each of the ten expects every message.
//!
//! The load is open: when a message is sent does not depend on when others were answered, so a gateway that stands
//! still is seen by every message of that time and not by one.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::ops::Range;
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

/// How many of them are in the room; they come behind the others.
pub(crate) const IN_ROOM: usize = 10;

/// All well-behaved clients of a run.
pub(crate) struct Good {
    generator: Generator,
    sent: Sent,
    due: BinaryHeap<Reverse<(Instant, usize)>>,
    random: u64,
}

/// What they saw in one phase.
pub(crate) struct Seen {
    pub(crate) echo: Answers,
    pub(crate) room: Answers,
    /// How much later than it was due each message was sent: what the generator itself was held up.
    pub(crate) lateness: Histogram,
    /// Clients that were disconnected.
    pub(crate) disconnected: u64,
}

/// What came of messages of one kind.
pub(crate) struct Answers {
    pub(crate) latencies: Histogram,
    /// Messages that were due and did not come.
    pub(crate) lost: u64,
}

impl Seen {
    fn new() -> Seen {
        let answers = || Answers { latencies: Histogram::new(), lost: 0 };
        Seen { echo: answers(), room: answers(), lateness: Histogram::new(), disconnected: 0 }
    }
}

impl Good {
    /// Takes over the open clients of a generator, of which the last [`IN_ROOM`] are in the room.
    pub(crate) fn new(generator: Generator) -> Good {
        let clients = generator.len();
        let echoing = clients - IN_ROOM;
        let waiting = (0..echoing + IN_ROOM * IN_ROOM).map(|_| VecDeque::new()).collect();
        let gone = vec![false; clients];
        let sent = Sent { messages: Messages::new(SIZE), echoing, waiting, gone, next: 0, seen: Seen::new() };
        let mut good = Good { generator, sent, due: BinaryHeap::new(), random: 0x9e37_79b9_7f4a_7c15 };
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
            self.generator.turn(&mut self.sent, next.saturating_duration_since(Instant::now()))?;
        }
        at_end();
        let patience = Instant::now() + PATIENCE;
        while self.sent.is_waiting() && Instant::now() < patience {
            self.generator.turn(&mut self.sent, Duration::from_millis(50))?;
        }
        self.sent.give_up();
        Ok(std::mem::replace(&mut self.sent.seen, Seen::new()))
    }

    fn send_due(&mut self, now: Instant) -> Result<(), String> {
        while let Some(Reverse((due, client))) = self.due.peek().copied().filter(|Reverse((due, _))| *due <= now) {
            self.due.pop();
            let mut frame = Vec::new();
            let sent = Instant::now();
            let number = self.sent.begin(client, sent);
            self.sent.messages.push(&mut frame, client, number);
            self.sent.seen.lateness.record(sent - due);
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

/// What has been sent and has not come yet.
struct Sent {
    messages: Messages,
    /// So many clients, the first ones, expect echoes; the others are in the room.
    echoing: usize,
    /// Number and time of the messages that are due, in order: by client that expects its echo, then by member of the
    /// room and sender.
    waiting: Vec<VecDeque<(u64, Instant)>>,
    /// Clients that were disconnected, of which nothing is expected any more.
    gone: Vec<bool>,
    /// The number of the next message, unique in the whole run.
    next: u64,
    seen: Seen,
}

impl Sent {
    fn begin(&mut self, client: usize, now: Instant) -> u64 {
        self.next += 1;
        for place in self.places(client) {
            self.waiting[place].push_back((self.next, now));
        }
        self.next
    }

    /// Where the messages of a client are waited for.
    fn places(&self, client: usize) -> Vec<usize> {
        if client < self.echoing {
            return vec![client];
        }
        let members = (0..IN_ROOM).filter(|member| !self.gone[self.echoing + member]);
        members.map(|member| self.place(self.echoing + member, client)).collect()
    }

    /// Where `client` waits for the messages of `source`, both in the room.
    fn place(&self, client: usize, source: usize) -> usize {
        self.echoing + (client - self.echoing) * IN_ROOM + (source - self.echoing)
    }

    fn is_waiting(&self) -> bool {
        self.waiting.iter().any(|waiting| !waiting.is_empty())
    }

    fn give_up(&mut self) {
        self.lose(0..self.waiting.len());
    }

    /// Counts what is waited for in these places as lost.
    fn lose(&mut self, places: Range<usize>) {
        for place in places {
            let lost = std::mem::take(&mut self.waiting[place]).len() as u64;
            let answers = if place < self.echoing { &mut self.seen.echo } else { &mut self.seen.room };
            answers.lost += lost;
        }
    }
}

impl Load for Sent {
    fn message(&mut self, client: usize, payload: &[u8], now: Instant) -> Result<(), String> {
        let (source, number) = self.messages.check(payload)?;
        let is_echo = client < self.echoing;
        let place = match is_echo {
            true if source == client => client,
            false if (self.echoing..self.echoing + IN_ROOM).contains(&source) => self.place(client, source),
            _ => return Err(format!("received a message of client {source}")),
        };
        match self.waiting[place].pop_front() {
            Some((expected, sent)) if expected == number => {
                let answers = if is_echo { &mut self.seen.echo } else { &mut self.seen.room };
                answers.latencies.record(now - sent);
                Ok(())
            }
            expected => Err(format!("received message {number} of client {source} instead of {expected:?}")),
        }
    }

    fn closed(&mut self, client: usize, _code: Option<u16>) -> Result<(), String> {
        self.seen.disconnected += 1;
        self.gone[client] = true;
        if client < self.echoing {
            self.lose(client..client + 1);
        } else {
            // What it sent may be lost as well, and the others will say so.
            let first = self.place(client, self.echoing);
            self.lose(first..first + IN_ROOM);
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        !self.is_waiting()
    }
}
