//! What an outbox should do: which bytes come next at the peer, what fits, what is dropped, when it ends.

use std::collections::VecDeque;

use wsgate::internals::clock::Ticks;
use wsgate::internals::config::WhenFull;
use wsgate::internals::connection::ending::{Ending, Totals};
use wsgate::internals::connection::frame::{Frame, Role};
use wsgate::internals::connection::keepalive::PingState;
use wsgate::internals::connection::outbox::{Delivery, Limits};
use wsgate::internals::message::{Kind, Message};

/// Bytes that belong together: nothing comes between them, and they arrive whole or not at all.
#[derive(Debug, Clone)]
pub struct Entry {
    pub bytes: Vec<u8>,
    pub messages: usize,
}

impl Entry {
    pub fn of(role: Role, messages: &[Message]) -> Entry {
        let opcode = |kind| if kind == Kind::Text { 0x81 } else { 0x82 };
        let bytes = messages.iter().flat_map(|message| encoded(role, opcode(message.kind), &message.data)).collect();
        Entry { bytes, messages: messages.len() }
    }

    /// What is left for another connection when this one has `done` bytes: whole frames.
    fn unsent(mut self, done: usize) -> Entry {
        let mut start = 0;
        while start < self.bytes.len() {
            let end = start + frame_len(&self.bytes[start..]);
            if end > done {
                break;
            }
            start = end;
            self.messages -= 1;
        }
        self.bytes.drain(..start);
        self
    }
}

/// A frame as we send it, who are `role`. A client's has the key 0 here, with which a payload stays as it is.
pub fn encoded(role: Role, first: u8, payload: &[u8]) -> Vec<u8> {
    let masked = if role == Role::Client { 0x80 } else { 0 };
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..126 => frame.push(masked | len as u8),
        len @ 126..65536 => frame.extend_from_slice(&[masked | 126, (len >> 8) as u8, len as u8]),
        len => {
            frame.push(masked | 127);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    if role == Role::Client {
        frame.extend_from_slice(&[0; 4]);
    }
    frame.extend_from_slice(payload);
    frame
}

/// The length of the frame that these bytes begin with.
fn frame_len(bytes: &[u8]) -> usize {
    let number = |count: usize| bytes[2..2 + count].iter().fold(0, |number, byte| number << 8 | usize::from(*byte));
    let key = if bytes[1] & 0x80 == 0 { 0 } else { 4 };
    key + match bytes[1] & 0x7F {
        126 => 4 + number(2),
        127 => 10 + number(8),
        len => 2 + usize::from(len),
    }
}

/// Takes the masks off a stream of a client's frames: what is left is as if every key were 0. A server's stream passes.
pub struct Unmasked {
    role: Role,
    /// What has come of the present frame's header.
    header: Vec<u8>,
    key: [u8; 4],
    /// How much of the present payload has come, and how much is still to come.
    at: usize,
    left: usize,
}

impl Unmasked {
    pub fn new(role: Role) -> Unmasked {
        Unmasked { role, header: Vec::new(), key: [0; 4], at: 0, left: 0 }
    }

    pub fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        if self.role == Role::Server {
            return bytes.to_vec();
        }
        bytes.iter().map(|byte| self.next(*byte)).collect()
    }

    fn next(&mut self, byte: u8) -> u8 {
        if self.left > 0 {
            let plain = byte ^ self.key[self.at % 4];
            (self.at, self.left) = (self.at + 1, self.left - 1);
            return plain;
        }
        self.header.push(byte);
        let size = match self.header.get(1).map(|second| second & 0x7F) {
            None => return byte,
            Some(126) => 8,
            Some(127) => 14,
            Some(_) => 6,
        };
        assert!(self.header[1] & 0x80 != 0, "a client's frame is not masked");
        let is_of_key = self.header.len() > size - 4;
        if self.header.len() == size {
            self.left = frame_len(&self.header) - size;
            self.at = 0;
            self.key.copy_from_slice(&self.header[size - 4..]);
            self.header.clear();
        }
        if is_of_key { 0 } else { byte }
    }
}

/// How long before its deadline a connection drops what is queued for the Close.
const HURRY: Ticks = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Open,
    Closing,
    Closed,
    Aborted,
}

#[derive(Debug)]
pub struct Outgoing {
    role: Role,
    pub limits: Limits,
    /// The peer is gone: when that was noticed is the kernel's business.
    pub is_vague: bool,
    stage: Stage,
    now: Ticks,
    /// What the kernel has not got at all, without pong and ping.
    pending: VecDeque<Entry>,
    /// What the kernel has in part, and how many bytes of it.
    begun: Option<(Entry, usize)>,
    /// The latest pong, and the next ping: they come at the next boundary.
    pong: Option<Vec<u8>>,
    ping: bool,
    ping_state: PingState,
    /// When the kernel last took something, or was first offered something.
    progress: Ticks,
    /// What a client has queued when the connection is cut: it goes out over the next one.
    unsent: Vec<Entry>,
    ending: Option<(u16, Option<String>)>,
    deadline: Ticks,
    /// When what is queued is dropped for the Close.
    hurry_at: Ticks,
    has_close: bool,
    is_answer: bool,
    totals: Totals,
}

impl Outgoing {
    pub fn new(role: Role, limits: Limits, now: Ticks) -> Outgoing {
        Outgoing {
            role,
            limits,
            is_vague: false,
            stage: Stage::Open,
            now,
            pending: VecDeque::new(),
            begun: None,
            pong: None,
            ping: false,
            ping_state: PingState::None,
            progress: now,
            unsent: Vec::new(),
            ending: None,
            deadline: 0,
            hurry_at: 0,
            has_close: false,
            is_answer: false,
            totals: Totals::default(),
        }
    }

    pub fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    pub fn is_aborted(&self) -> bool {
        self.stage == Stage::Aborted
    }

    /// Whether nothing will arrive any more.
    pub fn is_over(&self) -> bool {
        self.stage >= Stage::Closed
    }

    pub fn has_close(&self) -> bool {
        self.has_close
    }

    pub fn ping_state(&self) -> PingState {
        self.ping_state
    }

    fn queued(&self) -> impl Iterator<Item = &Entry> {
        self.begun.iter().map(|(entry, _)| entry).chain(&self.pending)
    }

    fn has_work(&self) -> bool {
        self.queued().next().is_some() || self.pong.is_some() || self.ping
    }

    fn before(&mut self) {
        if !self.has_work() {
            self.progress = self.now;
        }
    }

    /// Whether an entry is within the bounds. Without a message in it an outbox takes any one entry.
    pub fn fits(&self, entry: &Entry) -> bool {
        let bounds = &self.limits.queue;
        let messages: usize = self.queued().map(|entry| entry.messages).sum();
        let bytes: usize = self.queued().map(|entry| entry.bytes.len()).sum();
        messages == 0 || (messages + entry.messages <= bounds.messages && bytes + entry.bytes.len() <= bounds.bytes)
    }

    pub fn push(&mut self, entry: Entry) {
        self.before();
        self.pending.push_back(entry);
    }

    pub fn deliver(&mut self, entry: Entry) -> Delivery {
        if self.stage != Stage::Open {
            return Delivery::Closed;
        }
        if self.fits(&entry) {
            self.push(entry);
            return Delivery::Taken;
        }
        let first = self.totals.dropped == 0;
        match self.limits.queue.when_full {
            WhenFull::Disconnect => {
                self.totals.dropped += entry.messages as u64;
                self.close(Some(1008), "Too slow", self.limits.close_timeout, false);
                return Delivery::TooSlow;
            }
            WhenFull::DropNewest => self.totals.dropped += entry.messages as u64,
            WhenFull::DropOldest => self.drop_oldest(entry),
        }
        Delivery::Dropped { first }
    }

    /// Drops the oldest that the kernel has nothing of; if that is not enough, drops the new one alone.
    fn drop_oldest(&mut self, entry: Entry) {
        let before = self.pending.clone();
        let mut dropped = 0;
        while !self.fits(&entry) {
            let Some(oldest) = self.pending.iter().position(|entry| entry.messages > 0) else {
                self.pending = before;
                self.totals.dropped += entry.messages as u64;
                return;
            };
            dropped += self.pending.remove(oldest).map_or(0, |entry| entry.messages);
        }
        self.totals.dropped += dropped as u64;
        // The socket is stalled since before, also where nothing of that time is left in the queue.
        self.pending.push_back(entry);
    }

    pub fn pong(&mut self, all: Vec<u8>, latest: Vec<u8>) {
        if self.stage != Stage::Open {
            return;
        }
        if self.has_work() {
            self.pong = Some(latest);
        } else {
            self.push(Entry { bytes: all, messages: 0 });
        }
    }

    pub fn ping(&mut self) {
        if self.stage == Stage::Open {
            self.before();
            self.ping = true;
            self.ping_state = PingState::Waits;
        }
    }

    pub fn close(&mut self, code: Option<u16>, reason: &str, within: Ticks, is_answer: bool) {
        if self.stage != Stage::Open {
            return;
        }
        let mut payload = Vec::new();
        if let Some(code) = code {
            payload.extend_from_slice(&code.to_be_bytes());
            // A control frame has at most 125 bytes, and its text no half characters.
            let fits = reason.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= 123).last();
            payload.extend_from_slice(&reason.as_bytes()[..fits.unwrap_or(0)]);
        }
        self.push(Entry { bytes: encoded(self.role, 0x88, &payload), messages: 0 });
        self.stage = Stage::Closing;
        self.ending = Some((code.unwrap_or(1005), Some(reason.to_owned())));
        self.deadline = self.now + within;
        self.hurry_at = self.deadline - HURRY.min(within.div_ceil(2));
        (self.has_close, self.is_answer) = (true, is_answer);
    }

    pub fn abort(&mut self, code: u16) {
        if self.stage == Stage::Aborted {
            return;
        }
        if self.stage == Stage::Closing
            && !self.is_answer
            && let Some((code, Some(reason))) = &mut self.ending
        {
            *reason = format!("{reason} (the Close with {code} never left)");
            *code = 1006;
        }
        self.stage = Stage::Aborted;
        self.ending.get_or_insert((code, None));
        if self.role == Role::Client {
            let begun = self.begun.take().map(|(entry, done)| (entry.messages, entry, done));
            let begun = begun.filter(|(messages, ..)| *messages > 0).map(|(messages, entry, done)| {
                let unsent = entry.unsent(done);
                self.totals.messages += (messages - unsent.messages) as u64;
                unsent
            });
            self.unsent = begun.into_iter().chain(self.pending.drain(..).filter(|entry| entry.messages > 0)).collect();
        }
        self.totals.lost += self.queued().map(|entry| entry.messages as u64).sum::<u64>();
        (self.pending, self.begun, self.pong, self.ping) = Default::default();
    }

    /// The heartbeat's deadlines.
    pub fn tick(&mut self, now: Ticks) {
        self.now = now;
        let is_live = matches!(self.stage, Stage::Open | Stage::Closing);
        if is_live && self.has_work() && self.limits.write_timeout.is_some_and(|most| now - self.progress >= most) {
            self.abort(1006);
        }
        if matches!(self.stage, Stage::Closing | Stage::Closed) && now >= self.deadline {
            self.abort(1006);
        }
        if self.stage == Stage::Closing && self.role == Role::Server && now >= self.hurry_at {
            let is_lost = |entry: &Entry| entry.messages > 0;
            self.totals.lost +=
                self.pending.iter().filter(|entry| is_lost(entry)).map(|entry| entry.messages as u64).sum::<u64>();
            self.pending.retain(|entry| !is_lost(entry));
        }
    }

    /// Bytes that the kernel has got: exactly those that come next.
    pub fn arrived(&mut self, mut bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.progress = self.now;
        self.totals.bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            let (entry, done) =
                self.begun.take().or_else(|| self.next()).unwrap_or_else(|| panic!("{bytes:?} is nobody's"));
            let count = bytes.len().min(entry.bytes.len() - done);
            assert!(bytes[..count] == entry.bytes[done..done + count], "{bytes:?} instead of {entry:?} from {done}");
            bytes = &bytes[count..];
            match done + count {
                done if done < entry.bytes.len() => self.begun = Some((entry, done)),
                _ => self.totals.messages += entry.messages as u64,
            }
        }
        if self.has_work() {
            return;
        }
        if self.ping_state == PingState::Waits {
            self.ping_state = PingState::Left(self.now);
        }
        if self.stage == Stage::Closing {
            self.stage = Stage::Closed;
            self.deadline = self.deadline.min(self.now + self.limits.close_timeout);
        }
    }

    fn next(&mut self) -> Option<(Entry, usize)> {
        let control = |bytes| Entry { bytes, messages: 0 };
        let role = self.role;
        let pong = self.pong.take().map(control);
        let ping = || std::mem::take(&mut self.ping).then(|| control(encoded(role, 0x89, &[])));
        pong.or_else(ping).or_else(|| self.pending.pop_front()).map(|entry| (entry, 0))
    }

    /// The bounds, for everything that the kernel has not got.
    pub fn check(&self) {
        let bounds = &self.limits.queue;
        let entries = self.queued().filter(|entry| entry.messages > 0);
        let (mut count, mut messages, mut bytes) = (0, 0, 0);
        for entry in entries {
            count += 1;
            messages += entry.messages;
            bytes += entry.bytes.len();
        }
        assert!(count <= 1 || (messages <= bounds.messages && bytes <= bounds.bytes), "{self:?}");
    }

    /// Compares with what the outbox says of its life, and with what it gives back.
    pub fn compare(&self, ending: &Ending, totals: &Totals, unsent: &[Frame]) {
        if self.is_vague {
            assert!(totals.messages >= self.totals.messages && totals.dropped >= self.totals.dropped);
            return;
        }
        assert_eq!(totals, &self.totals);
        assert_eq!(unsent.len(), self.unsent.len(), "{self:?}");
        for (frame, expected) in unsent.iter().zip(&self.unsent) {
            let bytes: Vec<u8> = frame.slices(0).iter().flat_map(|slice| slice.to_vec()).collect();
            assert_eq!(
                (Unmasked::new(self.role).take(&bytes), frame.messages()),
                (expected.bytes.clone(), expected.messages)
            );
        }
        let (code, reason) = self.ending.as_ref().expect("it has ended");
        assert_eq!(ending.code, *code);
        assert!(reason.as_ref().is_none_or(|reason| *reason == ending.reason), "{ending:?} instead of {reason:?}");
    }
}
