//! A connection as a state machine: the real reader and the real outbox over a real socket whose other end does what
//! the input says. We are the server of a client or, with the bit 0x20 of the first byte, the client of a server, as a
//! link is.
//!
//! Input: a program. Its first bytes are the settings, then each step is a byte that says what happens and the bytes
//! that it needs: the peer sends well-formed frames or anything else, we read as many bytes as there are or fewer,
//! others deliver, the peer reads or does not, the kernel takes more or less at a time, the flusher and the
//! heartbeat get their turn. All of it runs in one thread, so a finding can be repeated. The socket is one end of a
//! pair of Unix sockets with the smallest buffers that the kernel permits: what it takes of a write ends anywhere in a frame,
//! and `WouldBlock` is the rule.
//!
//! What has to come of it is known exactly: `incoming.rs` parses what the peer sent on its own, `outgoing.rs` knows
//! which bytes may arrive at the peer next, what fits into the outbox and what its policy drops.

#![no_main]

mod incoming;
mod outgoing;

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use rustix::net::RecvFlags;
use rustix::net::sockopt::set_socket_send_buffer_size;
use wsgate::internals::clock::Clock;
use wsgate::internals::config::{QueueSettings, WhenFull};
use wsgate::internals::connection::close::Violation;
use wsgate::internals::connection::frame::{Cork, CorkLimits, Frame, Role};
use wsgate::internals::connection::outbox::{Limits, Outbox};
use wsgate::internals::connection::poller::Poller;
use wsgate::internals::connection::reader::{Reader, Sink};
use wsgate::internals::connection::socket::Socket;
use wsgate::internals::id::Id;
use wsgate::internals::message::{Kind, Message};

use incoming::{Event, Incoming};
use outgoing::{Entry, Outgoing, Unmasked, encoded};

/// The most steps of one program.
const STEPS: usize = 200;

/// The most that the peer sends.
const SENT_MAX: usize = 256 << 10;

/// More than a socket of ours holds.
const PEEK: usize = 64 << 10;

const GREETING: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";

fuzz_target!(|data: &[u8]| {
    let mut program = Program(data);
    let Some(mut world) = World::new(&mut program) else { return };
    for _ in 0..STEPS {
        let Some(step) = program.byte() else { break };
        world.step(step, &mut program);
        world.observe();
    }
    world.end(data.first().is_some_and(|byte| byte & 0x80 != 0));
});

/// The input that is left.
struct Program<'a>(&'a [u8]);

impl<'a> Program<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    /// The next byte; 0 behind the end.
    fn number(&mut self) -> usize {
        usize::from(self.byte().unwrap_or(0))
    }

    /// A size in bytes: mostly small, up to 28 KiB.
    fn size(&mut self) -> usize {
        match self.number() {
            small @ 0..200 => small,
            large => (large - 199) * 512 + self.number(),
        }
    }

    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        bytes
    }
}

/// A connection, its peer and what is known of both.
struct World {
    /// Ours.
    role: Role,
    outbox: Arc<Outbox>,
    poller: Arc<Poller>,
    clock: Arc<Clock>,
    reader: Reader,
    /// Whether we still read: not after the peer's Close, a violation or the end of the stream.
    reads: bool,
    cork: CorkLimits,
    /// `None` when the peer is gone.
    peer: Option<UnixStream>,
    /// What the peer has sent so far.
    sent: usize,
    /// How much of the bytes that the kernel has for the peer were observed already.
    peeked: usize,
    unmasked: Unmasked,
    buffer: Vec<u8>,
    incoming: Incoming,
    outgoing: Outgoing,
    number: u32,
}

/// What one read brings.
#[derive(Default)]
struct Turn {
    events: Vec<Event>,
}

impl Sink for Turn {
    fn message(&mut self, message: Message) {
        self.events.push(Event::Message(message.kind, message.data.to_vec()));
    }

    fn ping(&mut self, payload: Bytes) {
        self.events.push(Event::Ping(payload.to_vec()));
    }
}

impl World {
    fn new(program: &mut Program<'_>) -> Option<World> {
        let first = program.byte()?;
        let role = if first & 0x20 == 0 { Role::Server } else { Role::Client };
        let when_full = [WhenFull::DropOldest, WhenFull::DropNewest, WhenFull::Disconnect][usize::from(first % 3)];
        let queue = QueueSettings { messages: 2 + program.number(), bytes: 1024 + 256 * program.number(), when_full };
        let write_timeout = (first & 0x40 == 0).then(|| 2 + u32::from(first >> 2 & 7));
        let limits = Limits { queue, write_timeout, close_timeout: 3 };
        let max_message = 1 + 128 * program.number();
        let (ours, peer) = UnixStream::pair().expect("a socket pair");
        peer.set_nonblocking(true).expect("a socket can be made so");
        set_socket_send_buffer_size(&ours, 0).expect("the kernel takes its least");
        let clock = Arc::new(Clock::new());
        let poller = Arc::new(Poller::new().expect("an epoll"));
        // It is never to block: whatever it reports, it reports at once.
        poller.wake();
        let socket = Socket::new(ours);
        let (of_clock, of_poller) = (Arc::clone(&clock), Arc::clone(&poller));
        let outbox = Arc::new(Outbox::new(Id::from(1), role, socket, None, limits, of_clock, of_poller));
        let mut world = World {
            role,
            outbox,
            poller,
            reader: Reader::new(role, max_message),
            reads: true,
            cork: CorkLimits::for_queue(queue.messages, queue.bytes),
            peer: Some(peer),
            sent: 0,
            peeked: 0,
            unmasked: Unmasked::new(role),
            buffer: vec![0; PEEK],
            incoming: Incoming::new(role, max_message),
            outgoing: Outgoing::new(role, limits, clock.now()),
            number: 0,
            clock,
        };
        // The 101 of a server, the opening message of a link.
        let greeting = match role {
            Role::Server => GREETING.to_vec(),
            Role::Client => encoded(role, 0x81, b"hello"),
        };
        world.outbox.enqueue(Frame::joined(Bytes::from(greeting.clone()), 0));
        world.outgoing.push(Entry { bytes: greeting, messages: 0 });
        world.outbox.flush();
        world.observe();
        Some(world)
    }

    fn step(&mut self, step: u8, program: &mut Program<'_>) {
        match step % 20 {
            0 => {
                let count = program.number();
                self.send(program.bytes(count));
            }
            1 | 2 => self.send_frame(program),
            3 | 4 => {
                let most = program.size();
                self.read(most);
            }
            5 | 6 => {
                let len = program.size();
                let message = self.message(len);
                self.deliver(&self.frame(&message), vec![message]);
            }
            7 => {
                let (count, len) = (program.number() % 100, program.number());
                self.deliver_joined(count, len);
            }
            8 => {
                for _ in 0..program.number() % 100 {
                    let message = self.message(0);
                    self.deliver(&self.frame(&message), vec![message]);
                    self.observe();
                }
            }
            9 => {
                let len = program.size();
                self.reply(len);
            }
            10 => {
                self.outbox.ping();
                self.outgoing.ping();
            }
            11 | 12 => {
                let most = program.size();
                self.peer_reads(most);
            }
            13 | 14 => self.flush(),
            15 => {
                let size = 2304 + 8 * program.number();
                set_socket_send_buffer_size(self.outbox.socket(), size).expect("the kernel takes any size");
            }
            16 => {
                for _ in 0..program.number() % 8 {
                    self.tick();
                    self.observe();
                }
            }
            17 => {
                let code = [None, Some(1000), Some(1001), Some(1011)][program.number() % 4];
                let reason = "é".repeat(program.number());
                let reason = if code.is_some() { &reason[..] } else { "" };
                let within = program.number() as u32 % 8;
                self.outbox.close_by(code, reason, self.clock.now() + within);
                self.outgoing.close(code, reason, within, false);
            }
            18 => match program.number() {
                0..64 => self.abort("as the program says"),
                64..128 => {
                    if let Some(peer) = &self.peer {
                        let _ = peer.shutdown(Shutdown::Write);
                    }
                }
                128..160 => self.peer = None,
                _ => {}
            },
            _ => self.check(),
        }
    }

    /// The peer sends as far as the kernel takes it.
    fn send(&mut self, mut bytes: &[u8]) {
        let Some(peer) = &mut self.peer else { return };
        while !bytes.is_empty() && self.sent < SENT_MAX {
            let Ok(count) = peer.write(bytes) else { return };
            self.sent += count;
            bytes = &bytes[count..];
        }
    }

    /// A frame that is well-formed where the program does not say otherwise.
    fn send_frame(&mut self, program: &mut Program<'_>) {
        let first = program.byte().unwrap_or(0x82);
        let len = program.size();
        let pattern = [0; 4].map(|_| program.byte().unwrap_or(b'x'));
        let mut frame = vec![first];
        let is_wrong = program.number() == 0xFF;
        let masked = if is_wrong == (self.role == Role::Client) { 0x80 } else { 0 };
        match len {
            0..126 => frame.push(masked | len as u8),
            _ => {
                frame.push(masked | 126);
                frame.extend_from_slice(&(len as u16).to_be_bytes());
            }
        }
        let mask = if masked == 0 { [0; 4] } else { [1, 2, 3, 4] };
        if masked != 0 {
            frame.extend_from_slice(&mask);
        }
        frame.extend((0..len).map(|at| pattern[at % 4] ^ mask[at % 4]));
        self.send(&frame);
    }

    /// What a client's thread does when its read returns: answers to pings first, then what the messages bring (here
    /// each comes back), then the end, if it is one.
    fn read(&mut self, most: usize) {
        if !self.reads || most == 0 {
            return;
        }
        let mut buffer = vec![0; most];
        let count = match self.outbox.socket().recv_now(&mut buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
            Ok(count) if count > 0 => count,
            _ => {
                self.reads = false;
                return self.abort("the peer ended the connection without a Close");
            }
        };
        let mut turn = Turn::default();
        let is_closing = self.outbox.has_close();
        let expected_of = buffer[..count].to_vec();
        let end = self.reader.read(&mut buffer[..count], &mut turn);
        let expected = self.incoming.read(&expected_of, end.as_ref());
        assert!(turn.events == expected, "read {:?} instead of {expected:?}", turn.events);

        let pings =
            turn.events.iter().filter_map(|event| if let Event::Ping(data) = event { Some(data) } else { None });
        let pongs: Vec<_> = pings.map(|payload| encoded(self.role, 0x8A, payload)).collect();
        if let Some(latest) = pongs.last() {
            let joined = |bytes: &[u8]| Frame::joined(Bytes::copy_from_slice(bytes), 0);
            self.outbox.pong(&joined(&pongs.concat()), || joined(latest));
            self.outgoing.pong(pongs.concat(), latest.clone());
            self.observe();
        }
        if !is_closing {
            self.echo(turn.events);
        }
        if end == Ok(None) {
            assert_eq!(self.reader.is_inside_message(), self.incoming.is_inside_message());
            return;
        }
        self.reads = false;
        let (code, reason, is_answer) = match end {
            Ok(close) => {
                let close = close.expect("it has ended");
                self.outbox.answer_close(&close);
                (close.answer().0, close.answer().1.to_owned(), true)
            }
            Err(Violation { code, reason }) => {
                self.outbox.close(Some(code), &reason);
                (Some(code), reason, false)
            }
        };
        self.outgoing.close(code, &reason, self.outgoing.limits.close_timeout, is_answer);
    }

    /// Delivers what was read, joined as the broadcaster joins it.
    fn echo(&mut self, events: Vec<Event>) {
        let mut cork = self.cork(self.cork);
        let mut messages = Vec::new();
        for event in events {
            if let Event::Message(kind, data) = event {
                let message = Message { kind, data: data.into() };
                cork.push_owned(message.clone(), 4096);
                messages.push(message);
            }
        }
        let mut messages = messages.into_iter();
        if !cork.is_empty() {
            for frame in cork.take().as_slice() {
                self.deliver(frame, messages.by_ref().take(frame.messages()).collect());
                self.observe();
            }
        }
        assert_eq!(messages.next(), None, "the cork kept a message");
    }

    fn cork(&self, limits: CorkLimits) -> Cork {
        match self.role {
            Role::Server => Cork::new(limits),
            Role::Client => Cork::masked(limits),
        }
    }

    fn frame(&self, message: &Message) -> Frame {
        match self.role {
            Role::Server => Frame::message(message),
            Role::Client => Frame::masked(message.clone()),
        }
    }

    /// A message that no other is like.
    fn message(&mut self, len: usize) -> Message {
        self.number += 1;
        let mut data = self.number.to_be_bytes().to_vec();
        data.resize(4 + len, self.number as u8);
        Message { kind: Kind::Binary, data: data.into() }
    }

    fn deliver(&mut self, frame: &Frame, messages: Vec<Message>) {
        let entry = Entry::of(self.role, &messages);
        assert_eq!((frame.len(), frame.messages()), (entry.bytes.len(), entry.messages));
        assert_eq!(self.outbox.deliver(frame), self.outgoing.deliver(entry), "{:?}", self.outgoing);
    }

    fn deliver_joined(&mut self, count: usize, len: usize) {
        let messages: Vec<_> = (0..count).map(|_| self.message(len)).collect();
        let mut cork = self.cork(CorkLimits::for_queue(1000, 1 << 20));
        messages.iter().for_each(|message| cork.push(message, 0));
        if !cork.is_empty() {
            for frame in cork.take().as_slice() {
                self.deliver(frame, messages.clone());
            }
        }
    }

    /// A reply waits for room, for which there is nobody here to make: it is sent when there is some.
    fn reply(&mut self, len: usize) {
        let message = self.message(len);
        let entry = Entry::of(self.role, std::slice::from_ref(&message));
        if !self.outgoing.is_open() || self.outgoing.fits(&entry) {
            let taken = self.outbox.reply(&self.frame(&message));
            assert_eq!(taken, self.outgoing.is_open());
            if taken {
                self.outgoing.push(entry);
            }
        }
    }

    /// Takes up to `most` bytes off the kernel's hands; 0 is the end of the stream.
    fn peer_reads(&mut self, most: usize) -> Option<usize> {
        let peer = self.peer.as_ref()?;
        let (_, count) = rustix::net::recv(peer, &mut self.buffer[..most], RecvFlags::DONTWAIT).ok()?;
        self.peeked -= count;
        Some(count)
    }

    /// The flusher's turn: goes on if the kernel says that it takes more.
    fn flush(&mut self) {
        for outbox in self.poller.wait(None).expect("an epoll can be waited for") {
            outbox.resume();
        }
    }

    /// The heartbeat's turn.
    fn tick(&mut self) {
        let now = self.clock.tick();
        self.poller.sweep(now);
        self.outgoing.tick(now);
    }

    fn abort(&mut self, why: &str) {
        self.outbox.abort(why);
        self.outgoing.abort(1006);
    }

    /// Compares what the kernel has got since the last look with what it should have got.
    fn observe(&mut self) {
        if let Some(peer) = &self.peer {
            let all = match rustix::net::recv(peer, &mut self.buffer[..], RecvFlags::DONTWAIT | RecvFlags::PEEK) {
                Ok((_, count)) => &self.buffer[..count],
                Err(_) => &[],
            };
            let new = &all[self.peeked..];
            self.peeked = all.len();
            self.outgoing.arrived(&self.unmasked.take(new));
        } else if self.outbox.is_closing() && !self.outbox.has_close() {
            // A write to a peer that is gone fails, and that is the end.
            self.outgoing.abort(1006);
        }
        self.check();
    }

    fn check(&mut self) {
        if self.peer.is_some() {
            self.outgoing.check();
            assert_eq!(self.outbox.is_closing(), !self.outgoing.is_open(), "{:?}", self.outgoing);
            assert_eq!(self.outbox.ping_state(), self.outgoing.ping_state(), "{:?}", self.outgoing);
            assert_eq!(self.outbox.has_close(), self.outgoing.has_close(), "{:?}", self.outgoing);
        }
    }

    /// However it went: there is an end, all that was not dropped has arrived, and nothing is kept.
    fn end(mut self, peer_is_slow: bool) {
        if self.peer.is_none() {
            self.peer_is_gone();
        } else {
            self.outbox.close(Some(1000), "done");
            self.outgoing.close(Some(1000), "done", self.outgoing.limits.close_timeout, false);
            self.observe();
            if peer_is_slow {
                self.deadline_ends_it();
            }
            self.peer_reads_to_the_end();
        }
        self.outbox.wait_closed();
        let (ending, totals, unsent) = match self.role {
            Role::Server => {
                let (ending, totals) = self.outbox.finish();
                (ending, totals, Vec::new())
            }
            Role::Client => self.outbox.reclaim(),
        };
        self.outgoing.compare(&ending, &totals, &unsent);
        // Closing outboxes are watched up to their deadline.
        for _ in 0..16 {
            self.poller.sweep(self.clock.tick());
        }
        assert_eq!(Arc::strong_count(&self.outbox), 1, "somebody keeps the outbox");
    }

    fn deadline_ends_it(&mut self) {
        for _ in 0..8 {
            self.tick();
            self.observe();
        }
        assert!(self.outgoing.is_aborted(), "{:?}", self.outgoing);
    }

    fn peer_reads_to_the_end(&mut self) {
        // The kernel takes something each time that all was read, and no program queues as much as this.
        for _ in 0..10_000 {
            let ended = self.peer_reads(PEEK) == Some(0);
            self.observe();
            if ended {
                assert!(self.outgoing.is_over(), "it ended too early: {:?}", self.outgoing);
                return;
            }
            self.flush();
            self.observe();
        }
        panic!("it never ended: {:?}", self.outgoing);
    }

    fn peer_is_gone(&mut self) {
        let message = self.message(1);
        let was_open = self.outgoing.is_open() && !self.outbox.is_closing();
        self.outbox.deliver(&self.frame(&message));
        self.flush();
        assert!(self.outbox.is_closing(), "a write to nobody went well");
        if was_open {
            self.outgoing.abort(1006);
        }
        // A Close that could not be written any more ends at its deadline.
        for _ in 0..8 {
            self.tick();
        }
        self.outgoing.is_vague = true;
    }
}
