//! The reading half of a live connection, in its own thread: read, parse, hand over, repeat, until the end.

use std::io;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use crate::clock::Clock;
use crate::connection::frame::{Control, Frame, Role, append_control};
use crate::connection::outbox::Outbox;
use crate::connection::reader::{Close, Reader, Sink};
use crate::connection::tls::Decrypted;
use crate::message::Message;
use crate::peer::Peer;
use crate::scratch::ScratchPool;

/// What is read at a time while little arrives. It lies on the thread's stack.
const READ: usize = 2 << 10;

/// How much plaintext is decrypted at a time: a TLS record at most.
const PLAIN: usize = 16 << 10;

/// How many reads a connection that has ended may still have waiting for us: closing a socket with
/// unread bytes would reset it, and the peer would lose our last words.
const LEFTOVERS: usize = 64;

/// Where what a peer sends goes.
pub trait Handler {
    /// A message; `expected` is a guess at the bytes that this read brings in all.
    fn message(&mut self, message: Message, expected: usize);

    /// A read has brought messages, and all of them were handed over.
    fn flush(&mut self);
}

/// What a peer sent over its life.
#[derive(Debug, Clone, Copy, Default)]
pub struct Received {
    /// Messages.
    pub messages: u64,
    /// Bytes of payload.
    pub bytes: u64,
}

/// The reading half of a connection.
#[derive(Debug)]
pub struct Intake<'a> {
    peer: &'a Peer,
    role: Role,
    is_tls: bool,
    clock: &'a Clock,
    scratch: &'a ScratchPool,
    reader: Reader,
    received: Received,
    close: Option<Close>,
}

/// Whether there is more to read.
#[derive(Debug, PartialEq, Eq)]
enum Flow {
    Go,
    End,
}

impl<'a> Intake<'a> {
    /// The reading half of `peer`, at our end, `role`, for messages of at most `max_message` bytes.
    pub fn new(
        peer: &'a Peer,
        role: Role,
        is_tls: bool,
        max_message: usize,
        clock: &'a Clock,
        scratch: &'a ScratchPool,
    ) -> Intake<'a> {
        let reader = Reader::new(role, max_message);
        Intake { peer, role, is_tls, clock, scratch, reader, received: Received::default(), close: None }
    }

    /// What has arrived so far.
    pub fn received(&self) -> Received {
        self.received
    }

    /// Reads until the connection has ended, and gives back the peer's Close, if that is how it ended.
    /// `behind` is what came behind the handshake.
    pub fn run(&mut self, behind: Vec<u8>, handler: &mut impl Handler) -> Option<Close> {
        if !behind.is_empty() && self.consume(&behind, handler) == Flow::End {
            return self.close.take();
        }
        drop(behind);
        let mut buffer = [0; READ];
        loop {
            let flow = match self.receive(&mut buffer) {
                Ok(0) => self.lost("the peer ended the connection without a Close"),
                Ok(count) if count == READ => match self.take(&buffer, handler) {
                    Flow::Go => self.read_rest(handler),
                    Flow::End => Flow::End,
                },
                Ok(count) => self.take(&buffer[..count], handler),
                Err(error) => self.lost(&format!("failed to read: {error}")),
            };
            if flow == Flow::End {
                return self.close.take();
            }
        }
    }

    /// Blocks until something arrives.
    ///
    /// A TLS peer's thread first lets the others run and looks again. Measured: with 50 clients that
    /// each wait for their answer, the next request is there by then, and not being put to sleep and
    /// woken saves a quarter of the processor time. Plain clients, which take less time each, gain nothing.
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let socket = self.peer.outbox.socket();
        if self.is_tls {
            std::thread::yield_now();
            match socket.recv_now(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
        }
        socket.recv(buffer)
    }

    /// Much is arriving: reads on in large pieces until the socket is empty.
    #[inline(never)]
    fn read_rest(&mut self, handler: &mut impl Handler) -> Flow {
        let mut scratch = self.scratch.borrow();
        loop {
            match self.peer.outbox.socket().recv_now(&mut scratch) {
                Ok(0) => return self.lost("the peer ended the connection without a Close"),
                Ok(count) => {
                    if self.take(&scratch[..count], handler) == Flow::End {
                        return Flow::End;
                    }
                    if count < scratch.len() {
                        return Flow::Go;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Flow::Go,
                Err(error) => return self.lost(&format!("failed to read: {error}")),
            }
        }
    }

    /// Takes what one read brought, decrypted if need be.
    fn take(&mut self, bytes: &[u8], handler: &mut impl Handler) -> Flow {
        self.peer.heard.store(self.clock.now(), Ordering::Relaxed);
        if !self.is_tls {
            return self.consume(bytes, handler);
        }
        let mut plain = vec![0; bytes.len().min(PLAIN)];
        let mut cipher = bytes;
        loop {
            match self.peer.outbox.decrypt(cipher, &mut plain) {
                Ok(Decrypted::Plain(count)) => {
                    if self.consume(&plain[..count], handler) == Flow::End {
                        return Flow::End;
                    }
                }
                Ok(Decrypted::NeedMore) => return Flow::Go,
                Ok(Decrypted::Closed) => return self.lost("the peer ended the TLS session without a Close"),
                Err(error) => return self.lost(&format!("TLS failed: {error}")),
            }
            cipher = &[];
        }
    }

    /// Parses and hands over. What one read brought goes on together.
    fn consume(&mut self, bytes: &[u8], handler: &mut impl Handler) -> Flow {
        let mut turn = Turn {
            peer: self.peer,
            handler,
            // After our Close the peer may still send; it is read for its Close alone.
            is_closing: self.peer.outbox.has_close(),
            expected: bytes.len(),
            received: Received::default(),
            pongs: Pongs::new(self.role),
        };
        let end = self.reader.read(bytes, &mut turn);
        let Turn { received, pongs, .. } = turn;
        self.received.messages += received.messages;
        self.received.bytes += received.bytes;
        pongs.send(&self.peer.outbox);
        if received.messages > 0 {
            handler.flush();
        } else {
            self.reader.rest();
        }
        match end {
            Ok(None) => {
                self.note_begun();
                Flow::Go
            }
            Ok(Some(close)) => self.closed_by_peer(close),
            Err(violation) => {
                self.peer.outbox.close(Some(violation.code), &violation.reason);
                self.discard_until_end()
            }
        }
    }

    /// Notes for the heartbeat when the message began of which a part has arrived.
    fn note_begun(&self) {
        let begun = &self.peer.message_begun;
        if !self.reader.is_inside_message() {
            begun.store(0, Ordering::Relaxed);
        } else if begun.load(Ordering::Relaxed) == 0 {
            // The present tick: this thread may have been held since the read.
            begun.store(self.clock.now(), Ordering::Relaxed);
        }
    }

    /// The peer's Close is answered with the same code (RFC 6455 section 5.5.1) behind all that is queued.
    fn closed_by_peer(&mut self, close: Close) -> Flow {
        let outbox = &self.peer.outbox;
        outbox.close(close.code, &close.reason);
        outbox.wait_closed();
        let mut buffer = [0; READ];
        for _ in 0..LEFTOVERS {
            if !matches!(outbox.socket().recv_now(&mut buffer), Ok(1..)) {
                break;
            }
        }
        self.close = Some(close);
        Flow::End
    }

    /// After a violation nothing can be understood any more: waits for the peer to have read why,
    /// at most until the close deadline.
    fn discard_until_end(&self) -> Flow {
        let mut buffer = [0; READ];
        while let Ok(1..) = self.peer.outbox.socket().recv(&mut buffer) {}
        Flow::End
    }

    fn lost(&self, why: &str) -> Flow {
        self.peer.outbox.cut(why);
        Flow::End
    }
}

/// What one read brings.
struct Turn<'t, H> {
    peer: &'t Peer,
    handler: &'t mut H,
    is_closing: bool,
    /// The bytes read, a guess at what will be sent.
    expected: usize,
    received: Received,
    pongs: Pongs,
}

impl<H: Handler> Sink for Turn<'_, H> {
    fn message(&mut self, message: Message) {
        self.received.messages += 1;
        self.received.bytes += message.data.len() as u64;
        // It has ended. Handing it on may hold this thread, which is not the peer's fault.
        self.peer.message_begun.store(0, Ordering::Relaxed);
        if !self.is_closing {
            self.handler.message(message, self.expected);
        }
    }

    fn ping(&mut self, payload: Bytes) {
        self.pongs.answer(&payload);
    }
}

/// The answers to the pings of one read.
#[derive(Debug)]
struct Pongs {
    role: Role,
    all: Vec<u8>,
    latest: usize,
}

impl Pongs {
    fn new(role: Role) -> Pongs {
        Pongs { role, all: Vec::new(), latest: 0 }
    }

    fn answer(&mut self, payload: &[u8]) {
        self.latest = self.all.len();
        append_control(self.role, &mut self.all, Control::Pong, payload);
    }

    fn send(self, outbox: &std::sync::Arc<Outbox>) {
        if self.all.is_empty() {
            return;
        }
        let all = Bytes::from(self.all);
        let latest = || Frame::joined(Bytes::copy_from_slice(&all[self.latest..]), 0);
        outbox.pong(&Frame::joined(all.clone(), 0), latest);
    }
}
