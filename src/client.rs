//! The life of one client, from the first byte to the last, in its own thread: open, then read,
//! dispatch, repeat, until the end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use log::{debug, error, info};

use crate::connection::frame::{Control, Frame, append_control};
use crate::connection::outbox::Decrypted;
use crate::connection::reader::{Event, Reader};
use crate::dispatch::Dispatch;
use crate::opening::{self, Arrival, Opened, Unopened};
use crate::publisher::Published;
use crate::registry::Client;
use crate::shared::Shared;

/// What is read at a time while little arrives. It lies on the thread's stack.
const READ: usize = 2 << 10;

/// How much plaintext is decrypted at a time: a TLS record at most.
const PLAIN: usize = 16 << 10;

/// How many reads a connection that has ended may still have waiting for us: closing a socket with
/// unread bytes would reset it, and the peer would lose our last words.
const LEFTOVERS: usize = 64;

/// Runs the whole life of a client.
pub fn run(shared: &Arc<Shared>, arrival: Arrival, from: &str) {
    let id = arrival.id;
    match opening::open(shared, arrival) {
        Ok(opened) => live(shared, opened, from),
        Err(Unopened::Refused(refusal)) => {
            info!("client {id} ({from}): refused with {}: {}", refusal.status, refusal.reason);
        }
        Err(Unopened::AtCapacity(limit)) => {
            info!(
                "client {id} ({from}): closed with 1013: its endpoint has {limit} clients, as `max_connections` says"
            );
        }
        Err(Unopened::Gone(why)) => debug!("client {id} ({from}): {why}"),
    }
}

fn live(shared: &Arc<Shared>, opened: Opened, from: &str) {
    let Opened { registration, is_tls, subprotocol, behind } = opened;
    let client = registration.client();
    let (id, since) = (client.id(), Instant::now());
    let room = shared.routes.show(&client.room);
    match &subprotocol {
        None => info!("client {id} ({from}): connected to '{room}'"),
        Some(subprotocol) => info!("client {id} ({from}): connected to '{room}' with subprotocol '{subprotocol}'"),
    }
    let mut connection = Connection::new(shared, client, is_tls);
    if catch_unwind(AssertUnwindSafe(|| connection.read_until_end(behind))).is_err() {
        error!("client {id}: its thread panicked; this is a defect of wsgate");
        client.outbox.close(Some(1011), "Internal error");
        client.outbox.wait_closed();
    }
    let Received { messages, bytes } = connection.received;
    // However long the broadcaster is busy: a client that did not leave would stay in its room for ever.
    shared.publisher.publish(Published::Leave { room: client.room.clone(), id }, || false);
    let (ending, sent) = client.outbox.finish();
    info!(
        "client {id}: disconnected from '{room}': code {}, reason '{}', after {:.1?}, {messages} messages ({bytes} bytes) received, \
         {} messages ({} bytes) sent, {} dropped",
        ending.code,
        ending.reason,
        since.elapsed(),
        sent.messages,
        sent.bytes,
        sent.dropped,
    );
}

/// What a client sent over its life.
#[derive(Debug, Clone, Copy, Default)]
struct Received {
    messages: u64,
    /// Of payload.
    bytes: u64,
}

/// The reading half of a live client.
struct Connection<'a> {
    shared: &'a Shared,
    client: &'a Arc<Client>,
    is_tls: bool,
    reader: Reader,
    dispatch: Dispatch<'a>,
    received: Received,
}

/// Whether there is more to read.
#[derive(Debug, PartialEq, Eq)]
enum Flow {
    Go,
    End,
}

impl<'a> Connection<'a> {
    fn new(shared: &'a Shared, client: &'a Arc<Client>, is_tls: bool) -> Connection<'a> {
        let settings = &shared.endpoints[client.room.endpoint()].settings;
        let reader = Reader::new(settings.max_message);
        Connection {
            shared,
            client,
            is_tls,
            reader,
            dispatch: Dispatch::new(shared, client),
            received: Received::default(),
        }
    }

    fn read_until_end(&mut self, behind: Vec<u8>) {
        if !behind.is_empty() && self.consume(&behind) == Flow::End {
            return;
        }
        drop(behind);
        let mut buffer = [0; READ];
        loop {
            let flow = match self.client.outbox.socket().recv(&mut buffer) {
                Ok(0) => self.lost("the peer ended the connection without a Close"),
                Ok(count) if count == READ => match self.take(&buffer) {
                    Flow::Go => self.read_rest(),
                    Flow::End => Flow::End,
                },
                Ok(count) => self.take(&buffer[..count]),
                Err(error) => self.lost(&format!("failed to read: {error}")),
            };
            if flow == Flow::End {
                return;
            }
        }
    }

    /// Much is arriving: reads on in large pieces until the socket is empty.
    #[inline(never)]
    fn read_rest(&mut self) -> Flow {
        let mut scratch = self.shared.scratch.borrow();
        loop {
            match self.client.outbox.socket().recv_now(&mut scratch) {
                Ok(0) => return self.lost("the peer ended the connection without a Close"),
                Ok(count) => {
                    if self.take(&scratch[..count]) == Flow::End {
                        return Flow::End;
                    }
                    if count < scratch.len() {
                        return Flow::Go;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Flow::Go,
                Err(error) => return self.lost(&format!("failed to read: {error}")),
            }
        }
    }

    /// Takes what one read brought, decrypted if need be.
    fn take(&mut self, bytes: &[u8]) -> Flow {
        if !self.is_tls {
            return self.consume(bytes);
        }
        let mut plain = vec![0; bytes.len().min(PLAIN)];
        let mut cipher = bytes;
        loop {
            match self.client.outbox.decrypt(cipher, &mut plain) {
                Ok(Decrypted::Plain(count)) => {
                    if self.consume(&plain[..count]) == Flow::End {
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

    /// Parses and dispatches. What one read brought goes out together.
    fn consume(&mut self, bytes: &[u8]) -> Flow {
        self.client.heard.store(self.shared.clock.now(), Ordering::Relaxed);
        let closing = self.client.outbox.is_closing();
        let mut input = bytes;
        let mut pongs = Pongs::default();
        let mut messages = 0;
        let end = loop {
            match self.reader.next(&mut input) {
                // After our Close the peer may still send; it is read for its Close alone.
                Ok(Some(Event::Message(_))) if closing => {}
                Ok(Some(Event::Message(message))) => {
                    messages += 1;
                    self.received.bytes += message.data.len() as u64;
                    self.dispatch.message(message, bytes.len());
                }
                Ok(Some(Event::Ping(payload))) => pongs.answer(&payload),
                Ok(Some(Event::Pong)) => {}
                Ok(Some(Event::Close(code, reason))) => break Some(Ok((code, reason))),
                Ok(None) => break None,
                Err(violation) => break Some(Err(violation)),
            }
        };
        self.received.messages += messages;
        pongs.send(self.client);
        if messages > 0 {
            self.dispatch.flush();
        } else {
            self.reader.rest();
        }
        match end {
            None => {
                self.note_begun(messages > 0);
                Flow::Go
            }
            Some(Ok((code, reason))) => self.closed_by_peer(code, &reason),
            Some(Err(violation)) => {
                self.client.outbox.close(Some(violation.code), &violation.reason);
                self.discard_until_end()
            }
        }
    }

    /// Notes for the heartbeat when the message began of which a part has arrived. The clock is asked
    /// anew: the messages before it may have held this thread for long, and that is not its time.
    fn note_begun(&self, is_another: bool) {
        let now = self.shared.clock.now();
        let begun = &self.client.message_begun;
        if !self.reader.is_inside_message() {
            begun.store(0, Ordering::Relaxed);
        } else if is_another || begun.load(Ordering::Relaxed) == 0 {
            begun.store(now, Ordering::Relaxed);
        }
    }

    /// The peer's Close is answered with the same code (RFC 6455 section 5.5.1) behind all that is queued.
    fn closed_by_peer(&self, code: Option<u16>, reason: &str) -> Flow {
        let outbox = &self.client.outbox;
        outbox.close(code, reason);
        outbox.wait_closed();
        let mut buffer = [0; READ];
        for _ in 0..LEFTOVERS {
            if !matches!(outbox.socket().recv_now(&mut buffer), Ok(1..)) {
                break;
            }
        }
        Flow::End
    }

    /// After a violation nothing can be understood any more: waits for the peer to have read why,
    /// at most until the close deadline.
    fn discard_until_end(&self) -> Flow {
        let mut buffer = [0; READ];
        while let Ok(1..) = self.client.outbox.socket().recv(&mut buffer) {}
        Flow::End
    }

    fn lost(&self, why: &str) -> Flow {
        self.client.outbox.cut(why);
        Flow::End
    }
}

/// The answers to the pings of one read.
#[derive(Debug, Default)]
struct Pongs {
    all: Vec<u8>,
    latest: usize,
}

impl Pongs {
    fn answer(&mut self, payload: &[u8]) {
        self.latest = self.all.len();
        append_control(&mut self.all, Control::Pong, payload);
    }

    fn send(self, client: &Client) {
        if self.all.is_empty() {
            return;
        }
        let all = Bytes::from(self.all);
        let latest = || Frame::joined(Bytes::copy_from_slice(&all[self.latest..]), 0);
        client.outbox.pong(&Frame::joined(all.clone(), 0), latest);
    }
}
