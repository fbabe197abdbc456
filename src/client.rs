//! The life of one client, from the first byte to the last, in its own thread: open, then read,
//! dispatch, repeat, until the end.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use log::{debug, error, info};

use crate::connection::frame::{Control, Frame, append_control};
use crate::connection::reader::{Close, Reader, Sink};
use crate::connection::tls::Decrypted;
use crate::dispatch::{Dispatch, Misaddressed};
use crate::message::Message;
use crate::opening::{self, Arrival, Opened, Unopened};
use crate::publisher::Published;
use crate::registry::Client;
use crate::shared::Shared;

/// What is read at a time while little arrives. It lies on the thread's stack.
const READ: usize = 2 << 10;

/// How much plaintext is decrypted at a time: a TLS record at most.
const PLAIN: usize = 16 << 10;

/// How much of what was read is worked off before the clock is looked at.
const PORTION: usize = 16 << 10;

/// How long a client whose bytes bring no message works before it lets the others run. Left to the
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

/// Runs the whole life of a client.
pub fn run(shared: &Arc<Shared>, arrival: Arrival, from: &str) {
    let id = arrival.id;
    match opening::open(shared, arrival) {
        Ok(opened) => {
            live(shared, opened, from, |connection, behind, is_ended| connection.read_until_end(behind, is_ended))
        }
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

/// From the first line of the log to the last. Whatever happens in `read`, the client leaves: its room, the
/// registry, and its place.
fn live(shared: &Arc<Shared>, opened: Opened, from: &str, read: impl FnOnce(&mut Connection<'_>, Vec<u8>, bool)) {
    let Opened { registration, is_tls, subprotocol, behind, is_session_ended } = opened;
    let client = registration.client();
    let (id, since) = (client.id(), Instant::now());
    let room = shared.routes.show(&client.room);
    match &subprotocol {
        None => info!("client {id} ({from}): connected to '{room}'"),
        Some(subprotocol) => info!("client {id} ({from}): connected to '{room}' with subprotocol '{subprotocol}'"),
    }
    let mut connection = Connection::new(shared, client, is_tls);
    if catch_unwind(AssertUnwindSafe(|| read(&mut connection, behind, is_session_ended))).is_err() {
        error!("client {id}: its thread panicked; this is a defect of wsgate");
        client.outbox.close(Some(1011), "Internal error");
        client.outbox.wait_closed();
    }
    let Received { messages, bytes } = connection.received;
    let Misaddressed { unknown, denied } = connection.dispatch.misaddressed();
    let (ending, sent) = client.outbox.finish();
    leave(shared, client);
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
    if sent.lost > 0 {
        info!("client {id}: {} messages were still queued for it and are lost", sent.lost);
    }
    if unknown + denied > 0 {
        info!("client {id}: of its messages, session_unknown dropped {unknown} and session_denied {denied}");
    }
}

/// Leaves the room, however long the broadcaster takes to hear of it: a client that it does not know
/// to be gone keeps its outbox and its socket open for ever.
fn leave(shared: &Shared, client: &Client) {
    shared.publisher.publish(Published::Leave { room: client.room.clone(), id: client.id() }, || false);
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

    fn read_until_end(&mut self, behind: Vec<u8>, is_session_ended: bool) {
        if !behind.is_empty() && self.consume(&behind) == Flow::End {
            return;
        }
        drop(behind);
        if is_session_ended {
            self.ended_by_peer(TLS_ENDED);
            return;
        }
        let mut buffer = [0; READ];
        loop {
            let flow = match self.receive(&mut buffer) {
                Ok(0) => self.ended_by_peer(ENDED),
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

    /// Blocks until something arrives.
    ///
    /// A TLS client's thread first lets the others run and looks again. Measured: with 50 clients that
    /// each wait for their answer, the next request is there by then, and not being put to sleep and
    /// woken saves a quarter of the processor time. Plain clients, which take less time each, gain nothing.
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let socket = self.client.outbox.socket();
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
    fn read_rest(&mut self) -> Flow {
        let mut scratch = self.shared.scratch.borrow();
        let mut turn_began = Instant::now();
        loop {
            match self.client.outbox.socket().recv_now(&mut scratch) {
                Ok(0) => return self.ended_by_peer(ENDED),
                Ok(count) => {
                    for portion in scratch[..count].chunks(PORTION) {
                        let before = self.received.messages;
                        if self.take(portion) == Flow::End {
                            return Flow::End;
                        }
                        if self.received.messages == before && turn_began.elapsed() > TURN {
                            std::thread::yield_now();
                            turn_began = Instant::now();
                        }
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
    fn take(&mut self, bytes: &[u8]) -> Flow {
        self.client.heard.store(self.shared.clock.now(), Ordering::Relaxed);
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
                Ok(Decrypted::Closed) => return self.ended_by_peer(TLS_ENDED),
                Err(error) => return self.lost(&format!("TLS failed: {error}")),
            }
            cipher = &[];
        }
    }

    /// Parses and dispatches. What one read brought goes out together.
    fn consume(&mut self, bytes: &[u8]) -> Flow {
        let mut turn = Turn {
            client: self.client,
            dispatch: &mut self.dispatch,
            // After our Close the peer may still send; it is read for its Close alone.
            is_closing: self.client.outbox.has_close(),
            expected: bytes.len(),
            received: Received::default(),
            pongs: Pongs::default(),
        };
        let end = self.reader.read(bytes, &mut turn);
        let Turn { received, pongs, .. } = turn;
        self.received.messages += received.messages;
        self.received.bytes += received.bytes;
        pongs.send(self.client);
        if received.messages > 0 {
            self.dispatch.flush();
        } else {
            self.reader.rest();
        }
        match end {
            Ok(None) => {
                self.note_begun();
                Flow::Go
            }
            Ok(Some(close)) => self.closed_by_peer(&close),
            Err(violation) => {
                self.client.outbox.close(Some(violation.code), &violation.reason);
                self.discard_until_end()
            }
        }
    }

    /// Notes for the heartbeat when the message began of which a part has arrived.
    fn note_begun(&self) {
        let begun = &self.client.message_begun;
        if !self.reader.is_inside_message() {
            begun.store(0, Ordering::Relaxed);
        } else if begun.load(Ordering::Relaxed) == 0 {
            // The present tick: this thread may have been held since the read.
            begun.store(self.shared.clock.now(), Ordering::Relaxed);
        }
    }

    /// The peer's Close is answered with the same code (RFC 6455 section 5.5.1) behind all that is queued.
    fn closed_by_peer(&self, close: &Close) -> Flow {
        let outbox = &self.client.outbox;
        outbox.close(close.code, &close.reason);
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
        self.client.outbox.wait_closed();
        Flow::End
    }

    /// The peer sends nothing more, but what it has asked for may still be on its way to it.
    fn ended_by_peer(&self, why: &str) -> Flow {
        self.client.outbox.let_go(why);
        self.client.outbox.wait_closed();
        Flow::End
    }

    /// Nothing can be read any more, and so nothing written.
    fn lost(&self, why: &str) -> Flow {
        self.client.outbox.cut(why);
        Flow::End
    }
}

/// What one read brings.
struct Turn<'t, 'a> {
    client: &'t Client,
    dispatch: &'t mut Dispatch<'a>,
    is_closing: bool,
    /// The bytes read, a guess at what will be sent.
    expected: usize,
    received: Received,
    pongs: Pongs,
}

impl Sink for Turn<'_, '_> {
    fn message(&mut self, message: Message) {
        self.received.messages += 1;
        self.received.bytes += message.data.len() as u64;
        // It has ended. Dispatching may hold this thread, which is not the client's fault.
        self.client.message_begun.store(0, Ordering::Relaxed);
        if !self.is_closing {
            self.dispatch.message(message, self.expected);
        }
    }

    fn ping(&mut self, payload: Bytes) {
        self.pongs.answer(&payload);
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::time::SystemTime;

    use super::*;
    use crate::config::Settings;
    use crate::connection::outbox::Outbox;
    use crate::connection::socket::Socket;
    use crate::connection::watch::Watch;
    use crate::message::Origin;
    use crate::publisher::{self, Publications};

    fn arrive(settings: Settings) -> (Arc<Shared>, Publications, Arc<Client>, UnixStream) {
        let (publisher, publications) = publisher::channel();
        let shared = Arc::new(Shared::new(settings, publisher, Arc::new(Watch::new().unwrap())));
        let (client, theirs) = arrive_at(&shared, 7);
        (shared, publications, client, theirs)
    }

    fn arrive_at(shared: &Shared, id: u64) -> (Arc<Client>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let id = id.into();
        let (clock, watch) = (Arc::clone(&shared.clock), Arc::clone(&shared.watch));
        let outbox = Arc::new(Outbox::new(id, Socket::new(ours), None, shared.endpoints[0].limits, clock, watch));
        let origin = Origin { session: id, client_ip: None, user_agent: None, connected_at: SystemTime::now() };
        let room = shared.routes.find("/", |_| true).unwrap();
        (Arc::new(Client::new(room, outbox, origin, 1, 1)), theirs)
    }

    #[test]
    fn l6_a_panic_in_one_clients_thread_ends_that_client_alone_with_1011() {
        let (shared, publications, client, mut theirs) = arrive(Settings::default());
        let (other, _others) = arrive_at(&shared, 8);
        let (connections, places) = (&shared.connections, &shared.endpoints[0].gate);
        let open = |client: &Arc<Client>| {
            let passes = [connections.enter().unwrap(), places.enter().unwrap()];
            let registration = shared.registry.register(Arc::clone(client), passes).unwrap();
            Opened { registration, is_tls: false, subprotocol: None, behind: Vec::new(), is_session_ended: false }
        };
        let (panicking, going_on) = (open(&client), open(&other));
        assert_eq!((shared.registry.len(), connections.inside(), places.inside()), (2, 2, 2));
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                live(&shared, panicking, "a test", |connection, _, _| {
                    // In the middle of a message, with a buffer that was lent.
                    connection.consume(&[0x82, 0x85, 0, 0, 0, 0]);
                    let _lent = connection.shared.scratch.borrow();
                    panic!("as a defect would");
                });
            });
            let mut close = [0; 18];
            theirs.read_exact(&mut close).unwrap();
            assert_eq!(close, *b"\x88\x10\x03\xf3Internal error");
            drop(theirs);
            thread.join().unwrap();
        });
        // It has left everything that it was in.
        assert!(shared.registry.find(client.id()).is_none() && shared.registry.find(other.id()).is_some());
        assert_eq!((shared.registry.len(), connections.inside(), places.inside()), (1, 1, 1));
        let mut batch = Vec::new();
        assert!(publications.take(&mut batch, 256).is_some());
        assert!(matches!(batch[..], [Published::Leave { id, .. }] if id == client.id()), "{batch:?}");
        // The other goes on through the same locks and the same channel, and leaves as ever.
        let message = [0x82, 0x81, 0, 0, 0, 0, b'x'];
        live(&shared, going_on, "a test", |connection, _, _| {
            assert_eq!(connection.consume(&message), Flow::Go);
            connection.lost("it has left");
        });
        assert!(publications.take(&mut batch, 256).is_some());
        assert!(matches!(batch[1..], [Published::Frame { .. }, Published::Leave { .. }]), "{batch:?}");
        assert_eq!((shared.registry.len(), connections.inside(), places.inside()), (0, 0, 0));
        let _ = writeln!(io::stderr(), "L6: 1 of 2 clients ended, with 1011; 0 places lost");
    }

    #[test]
    fn the_time_for_which_a_client_was_held_is_not_held_against_its_message() {
        let (shared, publications, client, _theirs) = arrive(Settings::default());
        let room = client.room.clone();
        while shared.publisher.try_publish(Published::Leave { room: room.clone(), id: 1.into() }).is_ok() {}
        let thread = {
            let (shared, client) = (Arc::clone(&shared), Arc::clone(&client));
            std::thread::spawn(move || {
                let whole_and_a_part = [0x82, 0x81, 0, 0, 0, 0, b'x', 0x82, 0x85, 0, 0];
                Connection::new(&shared, &client, false).consume(&whole_and_a_part)
            })
        };
        let deadline = Instant::now() + Duration::from_secs(5);
        while client.held_by().is_none() {
            assert!(Instant::now() < deadline, "it was not held");
            std::thread::park_timeout(Duration::from_millis(1));
        }
        while shared.clock.now() < 100 {
            shared.clock.tick();
        }
        assert!(publications.take(&mut Vec::new(), 256).is_some());
        assert_eq!(thread.join().unwrap(), Flow::Go);
        assert_eq!(client.message_begun.load(Ordering::Relaxed), 100);
    }

    #[test]
    fn what_a_client_sent_before_a_write_to_it_failed_is_passed_on() {
        let (shared, publications, client, theirs) = arrive(Settings::default());
        drop(theirs);
        client.outbox.deliver(&Frame::control(Control::Ping, &[]));
        assert!(client.outbox.is_closing(), "the write did not fail");
        let message = [0x82, 0x81, 0, 0, 0, 0, b'x'];
        assert_eq!(Connection::new(&shared, &client, false).consume(&message), Flow::Go);
        shared.publisher.publish(Published::End, || false);
        let mut batch = Vec::new();
        assert!(publications.take(&mut batch, 256).is_some());
        assert!(matches!(batch[0], Published::Frame { .. }), "{batch:?}");
    }

    #[test]
    fn a_client_leaves_its_room_although_the_broadcaster_is_behind() {
        let (shared, publications, client, _theirs) = arrive(Settings::default());
        let (room, id) = (client.room.clone(), client.id());
        while shared.publisher.try_publish(Published::Leave { room: room.clone(), id: 1.into() }).is_ok() {}
        client.outbox.cut("it is gone");
        let (ended, end) = std::sync::mpsc::channel();
        let thread = {
            let (shared, client) = (Arc::clone(&shared), Arc::clone(&client));
            std::thread::spawn(move || {
                leave(&shared, &client);
                ended.send(()).unwrap();
            })
        };
        assert!(end.recv_timeout(Duration::from_millis(600)).is_err(), "it gave up");
        let mut batch = Vec::new();
        let is_ours = |entry: &Published| matches!(entry, Published::Leave { id: left, .. } if *left == id);
        let deadline = Instant::now() + Duration::from_secs(5);
        while !batch.iter().any(is_ours) && Instant::now() < deadline {
            batch.clear();
            assert!(publications.take(&mut batch, 256).is_some());
        }
        assert!(batch.iter().any(is_ours));
        end.recv_timeout(Duration::from_secs(5)).unwrap();
        thread.join().unwrap();
    }
}
