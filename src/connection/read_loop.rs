//! The reading half of a live connection, in its own thread: read, parse, hand over, repeat, until the end.

use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::buffer_pool::BufferPool;
use super::close::{Close, Violation};
use super::frame::LARGE;
pub use super::handler::{Handler, Handshaken, ReadLimits};
use super::intake::{Arrived, Intake, IntakeLimits};
use super::peer::{BlockedOn, Peer, Received};
use super::read_turn::{Expecting, Turn};
use super::reader::Reader;
use super::tls::Decrypted;
use crate::config::WhenOver;

/// What is read at a time while little arrives. It lies on the thread's stack.
const READ: usize = 2 << 10;

/// How much plaintext is decrypted at a time: a TLS record at most.
const PLAIN: usize = 16 << 10;

/// How much of what was read is worked off before the clock is looked at.
const PORTION: usize = 16 << 10;

/// How long a peer whose bytes bring no message works before it lets the others run. Left to the
/// kernel it is a slice of about 3 ms, and whoever wakes up meanwhile waits for half of all that send
/// much: 50 that flooded with pings made the others wait 70 ms. Bytes that bring messages are what we
/// are here for, and a yield every 100 us would cost a quarter of their throughput.
const TURN: Duration = Duration::from_micros(100);

/// How many reads a connection that has ended may still have waiting for us: closing a socket with
/// unread bytes would reset it, and the peer would lose our last words.
const LEFTOVERS: usize = 64;

/// What the log says of a peer that has ended its direction without a Close.
const ENDED: &str = "the peer ended the connection without a Close";
const TLS_ENDED: &str = "the peer ended the TLS session without a Close";

/// The reading half of a connection.
#[derive(Debug)]
pub struct ReadLoop<'a> {
    peer: &'a Peer,
    is_tls: bool,
    buffers: &'a BufferPool,
    reader: Reader,
    received: Received,
    /// For how long the peer was not read because it had sent more than it may.
    held: Duration,
    arrived: Arrived,
    /// How fast it may send, if that is limited.
    intake: Option<Box<Intake>>,
    close: Option<Close>,
}

/// Whether there is more to read.
#[derive(Debug, PartialEq, Eq)]
enum Flow {
    Go,
    End,
}

impl<'a> ReadLoop<'a> {
    /// The reading half of `peer`, for messages of at most `max_message` bytes.
    pub fn new(peer: &'a Peer, max_message: usize, buffers: &'a BufferPool) -> ReadLoop<'a> {
        let reader = Reader::new(peer.outbox.role(), max_message);
        let (received, held, arrived) = (Received::default(), Duration::ZERO, Arrived::default());
        ReadLoop { peer, is_tls: false, buffers, reader, received, held, arrived, intake: None, close: None }
    }

    /// The same for a peer that may not send faster than this.
    pub fn within(self, limits: Option<IntakeLimits>) -> ReadLoop<'a> {
        let new = |limits| Box::new(Intake::new(limits, self.peer.outbox.clock().now(), Instant::now()));
        ReadLoop { intake: limits.map(new), ..self }
    }

    /// Other limits hold from now on. What is allowed at once is full where the rate is another one.
    fn set_limits(&mut self, ReadLimits { max_message, intake }: ReadLimits) {
        self.reader.set_max_message(max_message);
        if self.intake.as_ref().map(|intake| intake.limits()) != intake {
            let (arrived, tick) = (self.arrived, self.peer.outbox.clock().now());
            self.intake = intake.map(|limits| Box::new(Intake::from(limits, arrived, tick, Instant::now())));
        }
    }

    /// For how long the peer was not read because it had sent more than it may.
    pub fn held(&self) -> Duration {
        self.held
    }

    /// Reads until the connection has ended, and gives back the peer's Close, if that is how it ended.
    ///
    /// A function of its own, so that the buffer of one kind of client is not on the stack of the others.
    #[inline(never)]
    pub fn run<H: Handler>(&mut self, handshaken: Handshaken, handler: &mut H) -> Option<Close> {
        let Handshaken { is_tls, mut behind, is_session_ended } = handshaken;
        self.is_tls = is_tls;
        if !behind.is_empty() && self.consume(&mut behind, handler) == Flow::End {
            return self.close.take();
        }
        drop(behind);
        if is_session_ended {
            self.ended_by_peer(TLS_ENDED);
            return None;
        }
        let mut buffer = [0; READ];
        loop {
            let lets_others_run = self.is_tls || H::LETS_OTHERS_RUN;
            let flow = if self.intake.is_some() && self.keep_rate() == Flow::End {
                Flow::End
            } else if self.collects() {
                if lets_others_run {
                    std::thread::yield_now();
                }
                self.collect(handler)
            } else {
                match self.receive(&mut buffer, lets_others_run) {
                    Ok(0) => self.ended_by_peer(ENDED),
                    Ok(count) if count == READ && self.reads_large() => match self.take(&mut buffer, handler) {
                        Flow::Go => self.read_rest(handler),
                        Flow::End => Flow::End,
                    },
                    Ok(count) => self.take(&mut buffer[..count], handler),
                    Err(error) => self.lost("failed to read", &error),
                }
            };
            if flow == Flow::End {
                return self.close.take();
            }
        }
    }

    /// Blocks until something arrives.
    ///
    /// A thread that `lets_others_run` does so first: something may be there by then, and not being put to sleep
    /// and woken saves processor time where that is likely. Measured with 50 clients that wait for
    /// their answers: a quarter for TLS; for a relay, whose next bytes come while its hundred threads have their
    /// turns, a quarter with one message in flight and a tenth with 16. Plain clients, which take less time
    /// each, gain nothing. The price: a program that takes all it can get of the same core is let run as well,
    /// and beside it a relay passes on less than half of what it would.
    fn receive(&self, buffer: &mut [u8], lets_others_run: bool) -> io::Result<usize> {
        if lets_others_run {
            std::thread::yield_now();
        }
        self.peer.outbox.socket().recv(buffer)
    }

    /// Counts what has arrived, and holds a peer that has sent more than it may, or closes it. What it has sent behind
    /// our Close is read at once.
    #[inline(never)]
    fn keep_rate(&mut self) -> Flow {
        let Some(intake) = &mut self.intake else { return Flow::Go };
        let time = intake.count(self.arrived, self.peer.outbox.clock().now(), Instant::now);
        if time.is_zero() || self.peer.outbox.is_closing() {
            return Flow::Go;
        }
        match intake.when_over() {
            WhenOver::Delay => {
                let since = Instant::now();
                self.peer.hold(time);
                self.held += since.elapsed();
                Flow::Go
            }
            WhenOver::Close => self.broken_by_peer(&Violation { code: 1008, reason: "Too many messages".to_owned() }),
        }
    }

    /// Whether it may send as much as is read in large pieces: one that may not is read in small ones, so that it owes
    /// little and its Close does not wait for long.
    fn reads_large(&self) -> bool {
        self.intake.as_ref().is_none_or(|intake| intake.allows_large())
    }

    /// Counts what has arrived. One that has to be held is held later, without a large buffer.
    fn is_within_rate(&mut self) -> bool {
        let (arrived, clock) = (self.arrived, self.peer.outbox.clock());
        self.intake
            .as_mut()
            .is_none_or(|intake| intake.count(arrived, clock.now(), Instant::now).is_zero() && intake.allows_large())
    }

    /// Much is arriving: reads on in large pieces until the socket is empty.
    #[inline(never)]
    fn read_rest<H: Handler>(&mut self, handler: &mut H) -> Flow {
        if self.collects() {
            // More is there most of the time: nobody is let run first.
            return self.collect(handler);
        }
        let mut large = self.buffers.borrow();
        let mut turn_began = Instant::now();
        loop {
            match self.peer.outbox.socket().recv_now(&mut large) {
                Ok(0) => return self.ended_by_peer(ENDED),
                Ok(count) => {
                    for portion in large[..count].chunks_mut(PORTION) {
                        let before = self.received.messages;
                        if self.take(portion, handler) == Flow::End {
                            return Flow::End;
                        }
                        if self.received.messages == before && turn_began.elapsed() > TURN {
                            std::thread::yield_now();
                            turn_began = Instant::now();
                        }
                    }
                    if count < large.len() || !self.is_within_rate() || self.collects() {
                        return Flow::Go;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Flow::Go,
                Err(error) => return self.lost("failed to read", &error),
            }
        }
    }

    /// Whether what comes next is received straight into a message that has begun. For the rest of a small one that would
    /// be a system call of its own, which costs more than the copy that it saves.
    fn collects(&mut self) -> bool {
        !self.is_tls && self.reader.collected().is_some_and(|collected| collected.left() >= LARGE)
    }

    /// Blocks until more of a message arrives, and receives it where it stays.
    #[inline(never)]
    fn collect<H: Handler>(&mut self, handler: &mut H) -> Flow {
        let Some(collected) = self.reader.collected() else { return Flow::Go };
        let count = match collected.take_from(|message| self.peer.outbox.socket().recv_behind(message)) {
            Ok(0) => return self.ended_by_peer(ENDED),
            Ok(count) => count,
            Err(error) => return self.lost("failed to read", &error),
        };
        let is_turn_over = collected.is_complete() || collected.is_full();
        self.peer.heard.store(self.peer.outbox.clock().now(), Ordering::Relaxed);
        let flow = self.hand_over(count, handler, |reader, turn| reader.go_on(turn).map(|()| None));
        // There may be more already. A handler that lets others run does so before it waits.
        if flow == Flow::Go && is_turn_over && !H::LETS_OTHERS_RUN {
            std::thread::yield_now();
        }
        flow
    }

    /// Takes what one read brought, decrypted if need be.
    fn take(&mut self, bytes: &mut [u8], handler: &mut impl Handler) -> Flow {
        self.peer.heard.store(self.peer.outbox.clock().now(), Ordering::Relaxed);
        if !self.is_tls {
            return self.consume(bytes, handler);
        }
        let mut plain = vec![0; bytes.len().min(PLAIN)];
        let mut cipher = &*bytes;
        loop {
            let (decrypted, is_behind) = match self.peer.outbox.decrypt(cipher, &mut plain) {
                Ok(read) => read,
                Err(error) => return self.lost("TLS failed", &error),
            };
            if is_behind {
                self.peer.while_blocked_on(BlockedOn::Outbox, || self.peer.outbox.wait_for_session());
            }
            match decrypted {
                Decrypted::Plain(count) => {
                    if self.consume(&mut plain[..count], handler) == Flow::End {
                        return Flow::End;
                    }
                }
                Decrypted::NeedMore => return Flow::Go,
                Decrypted::Closed => return self.ended_by_peer(TLS_ENDED),
            }
            cipher = &[];
        }
    }

    /// Parses and hands over. What one read brought goes on together.
    fn consume(&mut self, bytes: &mut [u8], handler: &mut impl Handler) -> Flow {
        self.hand_over(bytes.len(), handler, |reader, turn| reader.read(bytes, turn))
    }

    /// Hands over what `read` finds in what a read of so many bytes brought.
    fn hand_over<H: Handler>(
        &mut self,
        bytes: usize,
        handler: &mut H,
        read: impl FnOnce(&mut Reader, &mut Turn<'_>) -> Result<Option<Close>, Violation>,
    ) -> Flow {
        if let Some(limits) = handler.begin() {
            self.set_limits(limits);
        }
        let mut next = Expecting { bytes, handler: &mut *handler };
        let is_closing = !H::AFTER_CLOSE && self.peer.outbox.has_close();
        let mut turn = Turn::new(self.peer, &mut next, is_closing);
        let end = read(&mut self.reader, &mut turn);
        let Turn { received, controls, pongs, has_pong, .. } = turn;
        self.arrived.frames += received.messages + controls;
        self.arrived.bytes += bytes as u64;
        self.received.messages += received.messages;
        self.received.bytes += received.bytes;
        if has_pong {
            self.peer.note_pong();
        }
        pongs.send(&self.peer.outbox);
        if received.messages > 0 {
            self.peer.set_received(self.received);
            handler.flush();
        }
        match end {
            Ok(None) => {
                self.note_begun();
                Flow::Go
            }
            Ok(Some(close)) => {
                handler.closing(&close);
                self.closed_by_peer(close)
            }
            Err(violation) => self.broken_by_peer(&violation),
        }
    }

    /// Notes for the heartbeat when the message began of which a part has arrived.
    fn note_begun(&self) {
        let begun = &self.peer.message_begun;
        if !self.reader.is_inside_message() {
            begun.store(0, Ordering::Relaxed);
            return;
        }
        self.peer.unfinished.store(self.reader.unfinished(), Ordering::Relaxed);
        if begun.load(Ordering::Relaxed) == 0 {
            // The present tick: this thread may have been held since the read.
            begun.store(self.peer.outbox.clock().now(), Ordering::Relaxed);
        }
    }

    /// The peer's Close is answered with the same code (RFC 6455 section 5.5.1) behind all that is queued.
    #[inline(never)]
    fn closed_by_peer(&mut self, close: Close) -> Flow {
        let outbox = &self.peer.outbox;
        outbox.answer_close(&close);
        outbox.wait_closed();
        self.discard_leftovers();
        self.close = Some(close);
        Flow::End
    }

    /// Reads what is there already. Apart from its caller, on whose stack its buffer would lie all the time: with this
    /// one and the next an active client's stack was a page larger, and one that closed over TLS two.
    #[inline(never)]
    fn discard_leftovers(&self) {
        let mut buffer = [0; READ];
        for _ in 0..LEFTOVERS {
            if !matches!(self.peer.outbox.socket().recv_now(&mut buffer), Ok(1..)) {
                break;
            }
        }
    }

    /// After a violation nothing can be understood any more: waits for the peer to have read why,
    /// at most until the close deadline.
    #[inline(never)]
    fn broken_by_peer(&self, violation: &Violation) -> Flow {
        let outbox = &self.peer.outbox;
        outbox.close(Some(violation.code), &violation.reason);
        let mut buffer = [0; READ];
        while let Ok(count @ 1..) = outbox.socket().recv(&mut buffer) {
            if count == READ {
                self.discard_rest();
            }
        }
        self.peer.outbox.wait_closed();
        Flow::End
    }

    /// Much is arriving that nobody wants: reads on in large pieces until the socket is empty, and gives way to the others
    /// after each.
    fn discard_rest(&self) {
        let mut large = self.buffers.borrow();
        while matches!(self.peer.outbox.socket().recv_now(&mut large), Ok(1..)) {
            std::thread::yield_now();
        }
    }

    /// The peer sends nothing more, but what it has asked for may still be on its way to it.
    fn ended_by_peer(&self, why: &str) -> Flow {
        self.peer.outbox.finish_writing(why);
        self.peer.outbox.wait_closed();
        Flow::End
    }

    /// Nothing can be read any more, and so nothing written.
    fn lost(&self, failed: &str, error: &io::Error) -> Flow {
        self.peer.outbox.abort_for(failed, error);
        Flow::End
    }
}
