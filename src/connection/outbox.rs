//! A client's outbox: the bounded queue of what it has yet to get, and the writing of it.
//!
//! Whoever delivers, writes: it pushes under a short lock, and if nobody else is writing it takes
//! a batch out, releases the lock, and hands the batch to the kernel without waiting. Only one
//! thread writes at a time (`writing`); the others leave their frame behind and go. What the
//! kernel does not take stays queued and counted, and the flusher goes on when the socket can
//! (`stalled`). No lock is held over a system call.
//!
//! The order on the wire is the order of the pushes, except that a pong or ping goes out at the
//! next frame boundary. The Close is always last: after it nothing is accepted.

use std::io;

use super::ending::{EndCause, Ending, Totals};
use super::frame::{Control, Frame, Role};
use super::keepalive::PingState;
use super::poller::Poller;
use super::queue::{Offer, Queue, Taken};
use super::record_writer::{RecordWriter, Sealed};
use super::socket::Socket;
use super::tls::{Decrypted, Session};
use crate::clock::{Clock, Ticks};
use crate::config::QueueSettings;
use crate::id::Id;
use crate::sync::{Arc, Mutex, MutexGuard, Signal};

/// The most frames and (nearly) the most bytes of one write.
const BATCH_FRAMES: usize = 64;
const BATCH_BYTES: usize = 64 << 10;

/// How many batches a deliverer writes before it leaves the rest to the flusher: a client with
/// much to get must not keep a thread from the others.
const ROUNDS: usize = 2;

/// The bounds and deadlines of an outbox.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Messages, bytes, and what happens at them.
    pub queue: QueueSettings,
    /// No byte taken for this long: cut. `None` waits for ever.
    pub write_timeout: Option<Ticks>,
    /// From the Close to the end of the connection.
    pub close_timeout: Ticks,
}

/// What became of a frame that was delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// It is written or queued, nothing was lost.
    Taken,
    /// Messages were dropped by policy; `first` if none had been before.
    Dropped {
        /// Whether these are the first that this client lost.
        first: bool,
    },
    /// The outbox was full and its policy is `disconnect`: it is closing now.
    TooSlow,
    /// It is closing or gone and takes nothing more.
    Closed,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Outbox {
    state: Mutex<State>,
    /// Notified when bytes leave or the stage changes.
    changed: Signal,
    socket: Socket,
    role: Role,
    id: Id,
    limits: Limits,
    clock: Arc<Clock>,
    poller: Arc<Poller>,
}

#[derive(Debug)]
struct State {
    queue: Queue,
    stage: Stage,
    /// Somebody writes right now, without the lock.
    writing: bool,
    /// The socket takes nothing: the flusher will go on.
    stalled: bool,
    /// What is not sent at the end is wanted back, see [`Outbox::reclaim`].
    keeps: bool,
    /// When the kernel last took a byte, or was first offered one since; meaningful while stalled.
    progress: Ticks,
    /// A ping is queued and has not left yet.
    ping_asked: bool,
    /// When the last ping left; 0 if none has.
    ping_left: Ticks,
    totals: Totals,
    tls: Option<Box<RecordWriter>>,
    end: Option<Box<End>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// Frames are accepted.
    Open,
    /// The last frame is queued, which is the Close if there is to be one; nothing is accepted behind it.
    Closing,
    /// The last frame is written and our direction shut down.
    Closed,
    /// The socket is shut down in both directions; nothing will be written.
    Aborted,
}

#[derive(Debug)]
struct End {
    ending: Ending,
    deadline: Ticks,
}

/// What a writer carries to the kernel while the lock is free.
enum Load<'f> {
    /// One frame that was counted but not queued.
    One(&'f Frame),
    Frames(Taken),
    Sealed(Sealed),
}

impl Outbox {
    /// An empty outbox over a connected socket, whose TLS handshake is done if it has a session.
    pub fn new(
        id: Id,
        role: Role,
        socket: Socket,
        session: Option<Session>,
        limits: Limits,
        clock: Arc<Clock>,
        poller: Arc<Poller>,
    ) -> Outbox {
        let tls = session.map(|session| Box::new(RecordWriter::new(session)));
        let state = State {
            queue: Queue::default(),
            stage: Stage::Open,
            writing: false,
            stalled: false,
            keeps: role == Role::Client,
            progress: 0,
            ping_asked: false,
            ping_left: 0,
            totals: Totals::default(),
            tls,
            end: None,
        };
        Outbox { state: Mutex::new(state), changed: Signal::default(), socket, role, id, limits, clock, poller }
    }

    /// The id of the client it belongs to.
    pub fn id(&self) -> Id {
        self.id
    }

    /// Which end of the connection it is.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The clock of its deadlines.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The socket below; only the client's own thread reads it.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Delivers a frame from somebody else. Never waits: a full outbox does what its policy says.
    pub fn deliver(self: &Arc<Self>, frame: &Frame) -> Delivery {
        let mut state = self.lock();
        if state.is_idle_for(frame) {
            self.write(state, Some(frame));
            return Delivery::Taken;
        }
        if state.stage != Stage::Open {
            return Delivery::Closed;
        }
        let delivery = match state.queue.offer(frame, &self.limits.queue) {
            Offer::Taken => Delivery::Taken,
            Offer::Dropped(count) => {
                let first = state.totals.dropped == 0;
                state.totals.dropped += count as u64;
                Delivery::Dropped { first }
            }
            Offer::TooSlow => {
                state.totals.dropped += frame.messages() as u64;
                drop(state);
                self.close(Some(1008), "Too slow");
                return Delivery::TooSlow;
            }
        };
        self.write(state, None);
        delivery
    }

    /// Queues a frame without writing it: what must reach the client before anything that
    /// others may deliver from now on.
    pub fn enqueue(&self, frame: Frame) {
        self.lock().queue.push(frame);
    }

    /// Writes what is queued as far as the socket takes it.
    pub fn flush(self: &Arc<Self>) {
        self.write(self.lock(), None);
    }

    /// Sends the client's own replies; called by its own thread only, which waits here while the
    /// outbox has no room: a client that does not read its answers is not read either. The wait
    /// ends when there is room, or with `false` when the connection is ending.
    pub fn reply(self: &Arc<Self>, frame: &Frame) -> bool {
        self.reply_unless(frame, || false)
    }

    /// As [`reply`](Outbox::reply), for what another peer sent: the wait also ends with `false` when that
    /// one is gone, which `give_up` says. It is asked at least every 250 ms of the wait, must not wait, and may
    /// use any lock: none is held meanwhile.
    pub fn reply_unless(self: &Arc<Self>, frame: &Frame, give_up: impl Fn() -> bool) -> bool {
        let state = self.lock();
        if state.is_idle_for(frame) {
            self.write(state, Some(frame));
            return true;
        }
        let must_wait = |state: &State| state.stage == Stage::Open && !state.queue.fits(frame, &self.limits.queue);
        let Some(mut state) = self.changed.wait_while(&self.state, state, must_wait, give_up) else { return false };
        if state.stage != Stage::Open {
            return false;
        }
        state.queue.push(frame.clone());
        self.write(state, None);
        true
    }

    /// Answers pings: all of them if nothing is queued, else only the latest, at the next frame
    /// boundary (RFC 6455 section 5.5.3 allows it, and a flood of pings stays one frame).
    pub fn pong(self: &Arc<Self>, all: &Frame, latest: impl FnOnce() -> Frame) {
        let mut state = self.lock();
        if state.is_idle_for(all) {
            self.write(state, Some(all));
        } else if state.stage == Stage::Open {
            state.queue.set_pong(latest());
            self.write(state, None);
        }
    }

    /// Asks the peer for a sign of life.
    pub fn ping(self: &Arc<Self>) {
        let mut state = self.lock();
        if state.stage == Stage::Open {
            state.queue.set_ping(Frame::control(self.role, Control::Ping, &[]));
            state.ping_asked = true;
            self.write(state, None);
        }
    }

    /// The heartbeat's view: whether a ping waits to be written, or when the last one left.
    pub fn ping_state(&self) -> PingState {
        let state = self.lock();
        match state.ping_left {
            _ if state.ping_asked => PingState::Waits,
            0 => PingState::None,
            left => PingState::Left(left),
        }
    }

    /// Ends the connection in order: the Close goes out behind what is queued, then our direction
    /// is shut down. The close deadline runs from now. Without a code the Close is empty, as the
    /// answer to an empty one is.
    pub fn close(self: &Arc<Self>, code: Option<u16>, reason: &str) {
        self.close_within(code, reason, self.limits.close_timeout);
    }

    /// As [`close`](Outbox::close), with a deadline of its own.
    pub fn close_within(self: &Arc<Self>, code: Option<u16>, reason: &str, within: Ticks) {
        self.end(Some(Frame::close(self.role, code, reason)), code.unwrap_or(1005), reason, within);
    }

    /// Ends the connection of a peer that has said its last word without a Close, but may still read:
    /// what is queued is written, within the close deadline, and no Close behind it.
    pub fn finish_writing(self: &Arc<Self>, reason: &str) {
        self.end(None, 1006, reason, self.limits.close_timeout);
    }

    fn end(self: &Arc<Self>, last: Option<Frame>, code: u16, reason: &str, within: Ticks) {
        let mut state = self.lock();
        if state.stage != Stage::Open {
            return;
        }
        state.stage = Stage::Closing;
        last.into_iter().for_each(|frame| state.queue.push(frame));
        state.end_with(code, reason, EndCause::Ended, self.clock.now().saturating_add(within));
        self.changed.notify_all();
        self.write(state, None);
        self.poller.closing(self);
    }

    /// Ends the connection at once, without a Close: for peers that are gone.
    pub fn abort(&self, reason: &str) {
        self.abort_locked(self.lock(), reason);
    }

    /// As [`abort`](Outbox::abort), because a read or write failed. TCP fails them too when the peer's kernel takes
    /// nothing for the write timeout (`TCP_USER_TIMEOUT`).
    pub fn abort_for(&self, failed: &str, error: &io::Error) {
        self.fail_locked(self.lock(), failed, error);
    }

    /// Whether the connection has been told to end.
    pub fn is_closing(&self) -> bool {
        self.lock().stage != Stage::Open
    }

    /// Whether nothing is written any more, whatever is queued.
    pub fn is_aborted(&self) -> bool {
        self.lock().stage == Stage::Aborted
    }

    /// Whether a Close was given to it: from then on what the peer sends is not wanted. A connection
    /// that was cut has none, and what the peer sent before it was lost is still good.
    pub fn has_close(&self) -> bool {
        self.lock().end.as_ref().is_some_and(|end| end.ending.code != 1006)
    }

    /// Blocks until everything is written that will be: the last frame is out, or the socket is cut.
    /// The close deadline bounds the wait, so the connection must be closing.
    pub fn wait_closed(&self) {
        let mut state = self.lock();
        debug_assert_ne!(state.stage, Stage::Open);
        while state.stage < Stage::Closed {
            state = self.changed.wait(state);
        }
    }

    /// The connection's thread has ended: nothing is written any more. Says how it ended and what it did.
    pub fn finish(&self) -> (Ending, Totals) {
        self.finish_locked(self.lock())
    }

    /// As [`finish`](Outbox::finish), for one that we dialled, and gives back the messages that the kernel
    /// has not taken whole, in order: another connection can send them. They do not count as lost.
    pub fn reclaim(&self) -> (Ending, Totals, Vec<Frame>) {
        let mut state = self.lock();
        state.stage = Stage::Aborted;
        while state.writing {
            state = self.changed.wait(state);
        }
        let unsent = state.take_unsent();
        let (ending, totals) = self.finish_locked(state);
        (ending, totals, unsent)
    }

    fn finish_locked(&self, mut state: MutexGuard<'_, State>) -> (Ending, Totals) {
        state.stage = Stage::Aborted;
        state.keeps = false;
        state.forget_queued();
        // Somebody may be in the middle of a write. It does not wait for the peer, and what it does still counts.
        while state.writing {
            state = self.changed.wait(state);
        }
        let end = state.end.take();
        let totals = state.totals;
        drop(state);
        self.poller.forget(self);
        let lost = || Ending { code: 1006, reason: "connection lost".to_owned(), cause: EndCause::Ended };
        let ending = end.map_or_else(lost, |end| end.ending);
        (ending, totals)
    }

    /// The flusher's part: the socket takes bytes again.
    pub fn resume(self: &Arc<Self>) {
        let mut state = self.lock();
        state.stalled = false;
        self.write_batches(state, None);
    }

    /// Cuts a stalled outbox of which the kernel has taken nothing for the write timeout.
    pub(super) fn check_write_deadline(&self, now: Ticks) {
        let mut state = self.lock();
        let Some(timeout) = self.limits.write_timeout else { return };
        if state.stalled && now.saturating_sub(state.progress) >= timeout {
            state.end_with(1006, "Too slow: nothing was taken within the write timeout", EndCause::WriteTimeout, 0);
            self.abort_locked(state, "");
        }
    }

    /// Cuts a closing outbox that is over its deadline; says whether it has to be watched further.
    pub(super) fn check_close_deadline(&self, now: Ticks) -> bool {
        let state = self.lock();
        if state.stage == Stage::Aborted {
            return false;
        }
        let over = state.end.as_ref().is_some_and(|end| now >= end.deadline);
        if over {
            self.abort_locked(state, "over its close deadline");
        }
        !over
    }

    /// Feeds received ciphertext to the TLS session, as much as `cipher` holds, and decrypts into
    /// `plain`. What the session wants to say in return is written. Call it with an empty `cipher`
    /// until it needs more.
    pub fn decrypt(self: &Arc<Self>, cipher: &[u8], plain: &mut [u8]) -> io::Result<Decrypted> {
        let mut state = self.lock();
        let tls = state.tls.as_mut().expect("only a TLS client decrypts");
        let result = tls.session.read(cipher, plain);
        if tls.session.has_outgoing() {
            self.write(state, None);
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    fn fail_locked(&self, mut state: MutexGuard<'_, State>, failed: &str, error: &io::Error) {
        let is_late = error.kind() == io::ErrorKind::TimedOut;
        let cause = if is_late { EndCause::WriteTimeout } else { EndCause::Ended };
        state.end_with(1006, &format!("{failed}: {error}"), cause, 0);
        self.abort_locked(state, "");
    }

    /// The reason is that of the end, if there is none yet.
    fn abort_locked(&self, mut state: MutexGuard<'_, State>, reason: &str) {
        state.end_with(1006, reason, EndCause::Ended, 0);
        state.stage = Stage::Aborted;
        state.forget_queued();
        drop(state);
        self.socket.shutdown_both();
        self.changed.notify_all();
    }

    /// Writes what is queued, unless another thread is at it or the socket is full. `only` is a frame that is written
    /// without touching the queue: the common case, in which nothing is queued (see [`State::is_idle_for`]).
    fn write<'a>(self: &'a Arc<Self>, mut state: MutexGuard<'a, State>, only: Option<&Frame>) {
        if !state.writing && !state.stalled {
            // Nothing was waiting for the kernel: the write deadline runs from now.
            state.progress = self.clock.now();
        }
        self.write_batches(state, only);
    }

    /// The one loop that writes: take a batch, release the lock, send, take the lock, account, and again. After
    /// [`ROUNDS`] batches, or when the socket is full, the flusher goes on.
    fn write_batches<'a>(self: &'a Arc<Self>, mut state: MutexGuard<'a, State>, only: Option<&Frame>) {
        if state.writing || state.stalled || state.stage >= Stage::Closed {
            return;
        }
        let mut load = match only {
            Some(frame) => state.load_one(frame),
            None => state.load(),
        };
        for round in 1.. {
            let carried = match load {
                Ok(Some(carried)) => carried,
                Ok(None) => return self.ran_empty(state),
                Err(error) => return self.fail_locked(state, "failed to encrypt", &error),
            };
            state.writing = true;
            drop(state);
            let sent = self.send(&carried);
            state = self.lock();
            state.writing = false;
            state.account(carried, *sent.as_ref().unwrap_or(&0));
            match sent {
                _ if state.stage == Stage::Aborted => {
                    state.forget_queued();
                    return self.changed.notify_all();
                }
                Ok(_) => state.progress = self.clock.now(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return self.stall(state),
                Err(error) => return self.fail_locked(state, "failed to write", &error),
            }
            self.changed.notify_all();
            if !state.has_work() {
                state.note_ping_left();
                if state.stage == Stage::Open {
                    return;
                }
            } else if round == ROUNDS {
                return self.stall(state);
            }
            load = state.load();
        }
    }

    /// Hands a load to the kernel as far as it takes it now.
    fn send(&self, load: &Load<'_>) -> io::Result<usize> {
        match load {
            Load::One(frame) => match frame.as_one() {
                Some(bytes) => self.socket.send_now(bytes),
                None => self.socket.send_slices_now(&frame.slices(0)),
            },
            Load::Frames(taken) => self.send_frames(taken),
            Load::Sealed(sealed) => self.socket.send_now(sealed.left()),
        }
    }

    fn send_frames(&self, taken: &Taken) -> io::Result<usize> {
        let mut slices = Vec::with_capacity(taken.frames.len() * 2);
        let mut offset = taken.offset;
        for frame in &taken.frames {
            slices.extend(frame.slices(offset).into_iter().filter(|slice| !slice.is_empty()));
            offset = 0;
        }
        self.socket.send_slices_now(&slices)
    }

    /// Leaves the rest to the flusher.
    fn stall(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        state.stalled = true;
        drop(state);
        self.poller.arm(self);
        // The client may have ended in between and will not be there to disarm it.
        if self.lock().stage == Stage::Aborted {
            self.poller.forget(self);
        }
    }

    /// Everything is written. If nothing will follow, our direction ends.
    fn ran_empty(&self, mut state: MutexGuard<'_, State>) {
        if state.stage == Stage::Closing {
            state.stage = Stage::Closed;
            // However long the writing was allowed to take, the answer has the close timeout.
            let answered_by = self.clock.now().saturating_add(self.limits.close_timeout);
            if let Some(end) = &mut state.end {
                end.deadline = end.deadline.min(answered_by);
            }
            drop(state);
            self.socket.shutdown_write();
            self.changed.notify_all();
        }
    }
}

impl State {
    /// Whether a frame can be written without touching the queue.
    fn is_idle_for(&self, frame: &Frame) -> bool {
        self.stage == Stage::Open
            && !self.writing
            && !self.stalled
            && self.queue.is_empty()
            && self.tls.as_ref().is_none_or(|record_writer| RecordWriter::fits_one(frame) && !record_writer.has_work())
    }

    /// Whether a writer would find something to carry.
    fn has_work(&self) -> bool {
        self.queue.has_waiting() || self.tls.as_ref().is_some_and(|tls| tls.has_work())
    }

    /// Gives up what is queued or sealed: the connection has ended. What a writer carries is
    /// accounted when it comes back.
    fn forget_queued(&mut self) {
        if self.keeps {
            return;
        }
        if let Some(record_writer) = &mut self.tls {
            record_writer.give_back(&mut self.queue);
        }
        self.totals.lost += self.queue.clear() as u64;
    }

    /// Takes out the messages that are queued or sealed; those that were written with others, joined to
    /// what is left of them, count as done.
    fn take_unsent(&mut self) -> Vec<Frame> {
        if let Some(record_writer) = &mut self.tls {
            record_writer.give_back(&mut self.queue);
        }
        let (mut unsent, done) = self.queue.unsent();
        self.totals.messages += done as u64;
        unsent.retain(|frame| frame.messages() > 0);
        unsent
    }

    /// The first reason for the end stays.
    fn end_with(&mut self, code: u16, reason: &str, cause: EndCause, deadline: Ticks) {
        if self.end.is_none() {
            self.end = Some(Box::new(End { ending: Ending { code, reason: reason.to_owned(), cause }, deadline }));
        }
    }

    /// What to carry to the kernel next.
    fn load<'f>(&mut self) -> io::Result<Option<Load<'f>>> {
        match &mut self.tls {
            None => Ok(self.queue.take(BATCH_FRAMES, BATCH_BYTES).map(Load::Frames)),
            Some(writer) => Ok(writer.load(&mut self.queue, self.stage == Stage::Closing)?.map(Load::Sealed)),
        }
    }

    /// A frame that goes out without being queued; it counts as if it were.
    fn load_one<'f>(&mut self, frame: &'f Frame) -> io::Result<Option<Load<'f>>> {
        self.queue.count(frame);
        let Some(writer) = &mut self.tls else { return Ok(Some(Load::One(frame))) };
        let sealed = writer.load_one(frame).inspect_err(|_| {
            self.queue.settle_one(frame, 0);
        })?;
        Ok(Some(Load::Sealed(sealed)))
    }

    /// Accounts a load of which the kernel took `count` bytes.
    fn account(&mut self, load: Load<'_>, count: usize) {
        let (messages, bytes) = match (load, &mut self.tls) {
            (Load::One(frame), _) => self.queue.settle_one(frame, count),
            (Load::Frames(taken), _) => self.queue.settle(taken, count),
            (Load::Sealed(sealed), Some(writer)) => writer.settle(&mut self.queue, sealed, count),
            (Load::Sealed(_), None) => unreachable!("only a record writer seals"),
        };
        self.totals.messages += messages as u64;
        self.totals.bytes += bytes as u64;
    }

    /// All that was queued is written: a ping too, if there was one.
    fn note_ping_left(&mut self) {
        if self.ping_asked {
            self.ping_asked = false;
            self.ping_left = self.progress;
        }
    }
}

/// What the model checker looks at whenever the lock is free.
#[cfg(wsgate_model)]
#[path = "../../model/src/audit.rs"]
pub(crate) mod audit;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;
    use std::thread;
    use std::time::{Duration, Instant};

    use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::config::WhenFull;
    use crate::connection::handshake::Stream;
    use crate::connection::tls::server_context;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn outbox(socket: Socket, session: Option<Session>, bytes: usize) -> Arc<Outbox> {
        let queue = QueueSettings { messages: 64, bytes, when_full: WhenFull::DropOldest };
        let limits = Limits { queue, write_timeout: Some(60), close_timeout: 10 };
        Arc::new(Outbox::new(
            7.into(),
            Role::Server,
            socket,
            session,
            limits,
            Arc::default(),
            Arc::new(Poller::new().unwrap()),
        ))
    }

    fn plain_pair() -> (Socket, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_read_timeout(Some(PATIENCE)).unwrap();
        (Socket::new(ours), theirs)
    }

    /// A TLS connection whose handshake is done.
    fn tls_pair() -> (Socket, Session, openssl::ssl::SslStream<UnixStream>) {
        let directory = tempfile::tempdir().unwrap();
        let (certificate, key) = (directory.path().join("c.pem"), directory.path().join("k.pem"));
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let context = server_context(&certificate, &key).unwrap();
        let (socket, theirs) = plain_pair();
        let client = thread::spawn(move || {
            let mut connector = SslConnector::builder(SslMethod::tls()).unwrap();
            connector.set_verify(SslVerifyMode::NONE);
            let mut stream = connector.build().connect("localhost", theirs).unwrap();
            stream.write_all(b"\r\n\r\n").unwrap();
            stream
        });
        let mut stream = Stream::new(socket, Some(context));
        stream.read_head(Instant::now() + PATIENCE).unwrap();
        let (socket, session) = stream.into_parts();
        (socket, session.unwrap(), client.join().unwrap())
    }

    fn numbered(sender: u8, number: u32, len: usize) -> Vec<u8> {
        let mut data = vec![sender; 5 + len];
        data[1..5].copy_from_slice(&number.to_be_bytes());
        data
    }

    fn message(sender: u8, number: u32, len: usize) -> Frame {
        let data = numbered(sender, number, len).into();
        Frame::message(&crate::message::Message { kind: crate::message::Kind::Binary, data })
    }

    /// Reads server frames up to the end of the stream: (opcode, payload).
    fn read_frames(mut stream: impl Read, pause_every: usize) -> Vec<(u8, Vec<u8>)> {
        let (mut wire, mut piece) = (Vec::new(), [0; 8192]);
        for turn in 1.. {
            match stream.read(&mut piece).unwrap() {
                0 => break,
                count => wire.extend_from_slice(&piece[..count]),
            }
            if turn % pause_every == 0 {
                thread::park_timeout(Duration::from_millis(1));
            }
        }
        let (frames, is_whole) = parse(&wire);
        assert!(is_whole, "the last frame was cut off");
        frames
    }

    /// Server frames, (opcode, payload), and whether the last is whole.
    fn parse(mut rest: &[u8]) -> (Vec<(u8, Vec<u8>)>, bool) {
        let mut frames = Vec::new();
        loop {
            let (header, len) = match *rest {
                [] => return (frames, true),
                [_, 126, high, low, ..] => (4, usize::from(u16::from_be_bytes([high, low]))),
                [_, len @ ..=125, ..] => (2, usize::from(len)),
                [_, 127, ..] => panic!("nobody sent so much"),
                _ => return (frames, false),
            };
            let Some(payload) = rest.get(header..header + len) else { return (frames, false) };
            frames.push((rest[0], payload.to_vec()));
            rest = &rest[header + len..];
        }
    }

    /// Who has what to say over which line, and how it ends.
    #[derive(Debug, Clone)]
    struct Schedule {
        line: Line,
        /// What the kernel is asked to hold at most.
        kernel_buffer: usize,
        bounds: QueueSettings,
        /// The frames of each deliverer: how many messages, and how long each.
        deliverers: Vec<Vec<(u32, usize)>>,
        own: Vec<Own>,
        /// How much the peer reads at a time, over and over; at 0 it pauses.
        reads: Vec<usize>,
        end: Ends,
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Line {
        Unix,
        Tcp,
        Tls,
    }

    /// What the client's own thread does.
    #[derive(Debug, Clone, Copy)]
    enum Own {
        Reply(usize),
        Pong,
        Ping,
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Ends {
        CloseBehindAll,
        Close,
        Cut,
        Finish,
    }

    fn schedules() -> impl Strategy<Value = Schedule> {
        let own = prop_oneof![6 => (0usize..3000).prop_map(Own::Reply), 1 => Just(Own::Pong), 1 => Just(Own::Ping)];
        let frame = (1u32..4, prop_oneof![3 => 0usize..200, 1 => 200usize..1300]);
        let policy = prop_oneof![Just(WhenFull::DropOldest), Just(WhenFull::DropNewest), Just(WhenFull::Disconnect)];
        let end = prop_oneof![3 => Just(Ends::CloseBehindAll), 1 => Just(Ends::Close), 1 => Just(Ends::Cut), 1 => Just(Ends::Finish)];
        // Any one frame is within the bounds: what is larger is allowed in an empty outbox alone.
        let bounds = (3usize..60, 4_000usize..30_000, policy);
        let lists = (vec(vec(frame, 1..150), 1..4), vec(own, 0..60), vec(0usize..5000, 1..10));
        let line = prop_oneof![Just(Line::Unix), Just(Line::Tcp), Just(Line::Tls)];
        (line, 1usize..20_000, bounds, lists, end).prop_map(|(line, kernel_buffer, bounds, lists, end)| {
            let (messages, bytes, when_full) = bounds;
            let (deliverers, own, mut reads) = lists;
            // It gets on.
            reads.push(1000);
            Schedule {
                line,
                kernel_buffer,
                bounds: QueueSettings { messages, bytes, when_full },
                deliverers,
                own,
                reads,
                end,
            }
        })
    }

    impl Schedule {
        fn connect(&self) -> (Socket, Option<Session>, Box<dyn Read + Send>) {
            let (socket, session, theirs): (_, _, Box<dyn Read + Send>) = match self.line {
                Line::Unix => {
                    let (socket, theirs) = plain_pair();
                    (socket, None, Box::new(theirs))
                }
                Line::Tls => {
                    let (socket, session, theirs) = tls_pair();
                    (socket, Some(session), Box::new(theirs))
                }
                Line::Tcp => {
                    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                    let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                    theirs.set_read_timeout(Some(PATIENCE)).unwrap();
                    socket2::SockRef::from(&theirs).set_recv_buffer_size(self.kernel_buffer).unwrap();
                    (Socket::new(listener.accept().unwrap().0), None, Box::new(theirs))
                }
            };
            socket2::SockRef::from(&socket).set_send_buffer_size(self.kernel_buffer).unwrap();
            (socket, session, theirs)
        }

        /// Reads to the end, however it comes.
        fn read(&self, mut theirs: impl Read) -> Vec<u8> {
            let mut wire = Vec::new();
            for most in self.reads.iter().cycle() {
                if *most == 0 {
                    thread::park_timeout(Duration::from_millis(1));
                    continue;
                }
                let begin = wire.len();
                wire.resize(begin + most, 0);
                let count = theirs.read(&mut wire[begin..]).unwrap_or(0);
                wire.truncate(begin + count);
                if count == 0 {
                    break;
                }
            }
            wire
        }

        /// The outbox holds no more than its bounds and the few control frames of this schedule.
        fn assert_within_bounds(&self, outbox: &Outbox) {
            let mut bounds = self.bounds;
            bounds.bytes += self.own.len() * 3 + 2 + 125;
            let state = outbox.lock();
            let nothing = Frame::joined(bytes::Bytes::new(), 0);
            assert!(state.queue.fits(&nothing, &bounds), "it is over {bounds:?}: {:?}", state.queue);
        }

        /// Delivers, and returns how many messages were not refused.
        fn deliver(&self, outbox: &Arc<Outbox>, sender: u8, frames: &[(u32, usize)]) -> u64 {
            let (mut number, mut taken) = (0, 0);
            for (messages, len) in frames {
                let mut encoded = Vec::new();
                for _ in 0..*messages {
                    message(sender, number, *len).slices(0).iter().for_each(|slice| encoded.extend_from_slice(slice));
                    number += 1;
                }
                let answer = match messages {
                    1 => outbox.deliver(&message(sender, number - 1, *len)),
                    _ => outbox.deliver(&Frame::joined(encoded.into(), *messages)),
                };
                taken += if answer == Delivery::Closed { 0 } else { u64::from(*messages) };
                self.assert_within_bounds(outbox);
            }
            taken
        }

        /// As `deliver`, for the client's own thread.
        fn answer(&self, outbox: &Arc<Outbox>) -> u64 {
            let (mut number, mut taken) = (0, 0);
            for own in &self.own {
                match own {
                    Own::Reply(len) => {
                        taken += u64::from(outbox.reply(&message(0, number, *len)));
                        number += 1;
                    }
                    Own::Pong => {
                        let pong = Frame::control(Role::Server, Control::Pong, b"p");
                        outbox.pong(&pong, || pong.clone());
                    }
                    Own::Ping => outbox.ping(),
                }
                self.assert_within_bounds(outbox);
            }
            taken
        }

        fn run(&self) {
            let (socket, session, theirs) = self.connect();
            let limits = Limits { queue: self.bounds, write_timeout: None, close_timeout: 1000 };
            let poller = Arc::new(Poller::new().unwrap());
            let outbox = Arc::new(Outbox::new(
                7.into(),
                Role::Server,
                socket,
                session,
                limits,
                Arc::default(),
                Arc::clone(&poller),
            ));
            let ended = AtomicBool::new(false);
            let (done, is_done) = mpsc::channel::<()>();
            let (wire, taken, ending, totals) = thread::scope(|scope| {
                scope.spawn(|| {
                    while !ended.load(Ordering::Acquire) {
                        poller.wait().unwrap().iter().for_each(Outbox::resume);
                    }
                });
                // Every wait below ends with a cut, and every wait of the flusher with a wake-up.
                let guarded = Arc::clone(&outbox);
                scope.spawn(move || {
                    if is_done.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
                        guarded.abort("it is stuck");
                    }
                });
                let reader = scope.spawn(|| self.read(theirs));
                let mut deliverers: Vec<_> = (1u8..)
                    .zip(&self.deliverers)
                    .map(|(sender, frames)| {
                        let outbox = &outbox;
                        scope.spawn(move || self.deliver(outbox, sender, frames))
                    })
                    .collect();
                let cutter = (self.end == Ends::Cut).then(|| scope.spawn(|| outbox.abort("it is gone")));
                let mut taken = self.answer(&outbox);
                if self.end == Ends::CloseBehindAll {
                    taken += deliverers.drain(..).map(|thread| thread.join().unwrap()).sum::<u64>();
                }
                if [Ends::Close, Ends::CloseBehindAll].contains(&self.end) {
                    outbox.close(Some(1000), "done");
                    outbox.wait_closed();
                }
                cutter.into_iter().for_each(|thread| thread.join().unwrap());
                let (ending, totals) = outbox.finish();
                taken += deliverers.into_iter().map(|thread| thread.join().unwrap()).sum::<u64>();
                outbox.socket().shutdown_write();
                let wire = reader.join().unwrap();
                ended.store(true, Ordering::Release);
                poller.wake();
                drop(done);
                (wire, taken, ending, totals)
            });
            assert_ne!(ending.reason, "it is stuck");
            assert!(poller.is_empty(), "the poller still holds it");
            assert!(outbox.lock().queue.is_empty(), "something is left, or counted wrongly");
            self.judge(&wire, taken, &ending, totals);
        }

        fn judge(&self, wire: &[u8], taken: u64, ending: &Ending, totals: Totals) {
            let (frames, is_whole) = parse(wire);
            let in_order = [Ends::Close, Ends::CloseBehindAll].contains(&self.end);
            let closes: Vec<_> =
                frames.iter().enumerate().filter(|(_, frame)| frame.0 == 0x88).map(|(at, _)| at).collect();
            if in_order {
                assert!(is_whole && [1000, 1008].contains(&ending.code), "{ending:?}");
                assert_eq!(closes, [frames.len() - 1], "the Close is not the last, or not there once");
                assert_eq!(totals.lost, 0);
            }
            let mut last: HashMap<u8, u32> = HashMap::new();
            let mut received = 0;
            for (_, payload) in frames.iter().filter(|frame| frame.0 == 0x82) {
                let (sender, number) = (payload[0], u32::from_be_bytes(payload[1..5].try_into().unwrap()));
                let is_later = last.insert(sender, number).is_none_or(|before| before < number);
                assert!(is_later, "{sender}: {number} out of order");
                assert!(payload[5..].iter().all(|&byte| byte == sender), "{sender}: {number} is damaged");
                received += 1;
            }
            // Of a frame that was cut off in the middle some messages may be out; it counts as lost.
            let begun = if in_order { 0 } else { 2 };
            assert!((totals.messages..=totals.messages + begun).contains(&received), "{received}: {totals:?}");
            assert_eq!(taken, totals.messages + totals.dropped + totals.lost, "{totals:?}");
            let slow = self.bounds.when_full == WhenFull::Disconnect;
            assert!(!slow || (totals.dropped > 0) == (ending.code == 1008) || !in_order, "{ending:?} {totals:?}");
            if self.line != Line::Tls {
                assert_eq!(totals.bytes, wire.len() as u64);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_the_schedule_the_bounds_hold_and_every_message_is_accounted_for(schedule in schedules()) {
            schedule.run();
        }
    }

    /// Three deliverers, the client's own replies, its pongs and pings, the flusher, and a slow reader.
    fn stress(socket: Socket, session: Option<Session>, theirs: impl Read + Send + 'static) {
        const MESSAGES: u32 = 3000;
        let outbox = outbox(socket, session, 64 << 10);
        let ended = Arc::new(AtomicBool::new(false));
        let flusher = {
            let (poller, ended) = (Arc::clone(&outbox.poller), Arc::clone(&ended));
            thread::spawn(move || {
                while !ended.load(Ordering::Acquire) {
                    poller.wait().unwrap().iter().for_each(Outbox::resume);
                }
            })
        };
        let reader = thread::spawn(move || read_frames(theirs, 4));
        let senders: Vec<_> = (0..4u8)
            .map(|sender| {
                let outbox = Arc::clone(&outbox);
                thread::spawn(move || {
                    for number in 0..MESSAGES {
                        // From one byte to more than a TLS record.
                        let len = (number as usize * 7919 + usize::from(sender) * 31)
                            % if number % 50 == 0 { 40_000 } else { 2_000 };
                        let frame = message(sender, number, len);
                        if sender > 0 {
                            outbox.deliver(&frame);
                            continue;
                        }
                        assert!(outbox.reply(&frame));
                        if number % 3 == 0 {
                            let pong = Frame::control(Role::Server, Control::Pong, b"p");
                            outbox.pong(&pong, || pong.clone());
                        }
                        if number % 100 == 0 {
                            outbox.ping();
                        }
                    }
                })
            })
            .collect();
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        outbox.close(Some(1000), "done");
        outbox.wait_closed();
        let frames = reader.join().unwrap();
        let state = outbox.lock();
        assert_eq!(state.stage, Stage::Closed);
        assert!(state.queue.is_empty() && !state.has_work(), "something is left, or counted wrongly");
        drop(state);
        let (ending, totals) = outbox.finish();
        assert_eq!(ending.code, 1000);
        let closes: Vec<_> = frames.iter().enumerate().filter(|(_, frame)| frame.0 == 0x88).map(|(at, _)| at).collect();
        assert_eq!(closes, [frames.len() - 1], "the Close is not the last, or not there once");
        let mut last: HashMap<u8, u32> = HashMap::new();
        let mut received = 0;
        for (_, payload) in frames.iter().filter(|frame| frame.0 == 0x82) {
            let (sender, number) = (payload[0], u32::from_be_bytes(payload[1..5].try_into().unwrap()));
            assert!(
                last.insert(sender, number).is_none_or(|before| before < number),
                "{sender}: {number} out of order"
            );
            assert!(payload[5..].iter().all(|&byte| byte == sender), "{sender}: {number} is damaged");
            received += 1;
        }
        assert!(totals.dropped > 0, "the reader was not slow");
        assert_eq!(totals.messages, received);
        assert_eq!(received + totals.dropped, u64::from(4 * MESSAGES), "a message is lost that no policy dropped");
        assert!(frames.iter().any(|frame| frame.0 == 0x8A) && frames.iter().any(|frame| frame.0 == 0x89));
        assert!(outbox.poller.is_empty(), "the poller still holds it");
        ended.store(true, Ordering::Release);
        outbox.poller.wake();
        flusher.join().unwrap();
    }

    #[test]
    fn whoever_writes_at_the_same_time_nothing_is_lost_repeated_or_reordered() {
        let (socket, theirs) = plain_pair();
        stress(socket, None, theirs);
    }

    #[test]
    fn whoever_writes_at_the_same_time_over_tls_nothing_is_lost_repeated_or_reordered() {
        let (socket, session, theirs) = tls_pair();
        stress(socket, Some(session), theirs);
    }

    #[test]
    fn what_the_kernel_has_not_taken_whole_is_given_back_in_order() {
        let (plain, plain_end) = plain_pair();
        let (secured, session, secured_end) = tls_pair();
        let ends: [(_, _, Box<dyn Read>); 2] =
            [(plain, None, Box::new(plain_end)), (secured, Some(session), Box::new(secured_end))];
        for (socket, session, mut theirs) in ends {
            let queue = QueueSettings { messages: 64, bytes: 2 << 20, when_full: WhenFull::DropOldest };
            let limits = Limits { queue, write_timeout: Some(60), close_timeout: 10 };
            let poller = Arc::new(Poller::new().unwrap());
            let outbox = Arc::new(Outbox::new(7.into(), Role::Client, socket, session, limits, Arc::default(), poller));
            let given: Vec<Vec<u8>> = (0..60).map(|number| numbered(1, number, 17_000)).collect();
            for number in 0..60 {
                assert_eq!(outbox.deliver(&message(1, number, 17_000)), Delivery::Taken);
            }
            outbox.ping();
            outbox.abort("the line is down");
            let (ending, totals, unsent) = outbox.reclaim();
            assert_eq!((ending.code, totals.lost), (1006, 0));
            assert_eq!(totals.messages as usize + unsent.len(), 60);
            assert!(totals.messages > 0 && unsent.len() > 10, "{totals:?}");
            let frame_len = message(1, 0, 17_000).len();
            let mut wire = Vec::new();
            // A TLS peer misses the close_notify.
            let _ = theirs.read_to_end(&mut wire);
            assert!(wire.len() / frame_len >= totals.messages as usize);
            for (frame, expected) in unsent.iter().zip(&given[totals.messages as usize..]) {
                let bytes: Vec<u8> = frame.slices(0).iter().flat_map(|slice| slice.to_vec()).collect();
                assert!(bytes.ends_with(expected), "out of order");
            }
            assert_eq!(outbox.deliver(&message(1, 60, 0)), Delivery::Closed);
        }
    }

    #[test]
    fn of_joined_messages_those_that_were_written_are_not_given_back_and_count() {
        let (socket, theirs) = plain_pair();
        let queue = QueueSettings { messages: 64, bytes: 2 << 20, when_full: WhenFull::DropOldest };
        let limits = Limits { queue, write_timeout: Some(60), close_timeout: 10 };
        let poller = Arc::new(Poller::new().unwrap());
        let outbox = Arc::new(Outbox::new(7.into(), Role::Client, socket, None, limits, Arc::default(), poller));
        let mut encoded = Vec::new();
        for number in 0..60 {
            message(1, number, 17_000).slices(0).iter().for_each(|slice| encoded.extend_from_slice(slice));
        }
        assert_eq!(outbox.deliver(&Frame::joined(encoded.into(), 60)), Delivery::Taken);
        outbox.abort("the line is down");
        let (_, totals, unsent) = outbox.reclaim();
        let mut wire = Vec::new();
        (&theirs).read_to_end(&mut wire).unwrap();
        let arrived = wire.len() / message(1, 0, 17_000).len();
        assert!((1..60).contains(&arrived), "{arrived} have arrived");
        assert_eq!((totals.messages as usize, unsent[0].messages()), (arrived, 60 - arrived));
    }

    #[test]
    fn whoever_is_asked_whether_to_give_up_may_look_at_the_outbox() {
        let (socket, theirs) = plain_pair();
        let outbox = outbox(socket, None, 1 << 10);
        let (done, all_done) = mpsc::channel();
        let waiter = {
            let outbox = Arc::clone(&outbox);
            thread::spawn(move || {
                // Nobody reads: some time it has no room.
                let gives_up = || !outbox.is_closing() && outbox.ping_state() == PingState::None;
                while outbox.reply_unless(&message(1, 0, 1000), gives_up) {}
                done.send(()).unwrap();
            })
        };
        all_done.recv_timeout(PATIENCE).expect("it asks with its lock in hand");
        waiter.join().unwrap();
        drop(theirs);
    }

    #[test]
    fn the_write_deadline_runs_from_the_first_byte_that_the_kernel_did_not_take() {
        let (socket, _theirs) = plain_pair();
        // Fill the socket to the brim, as if every write so far had been taken whole.
        while socket.send_now(&[0; 4096]).is_ok() {}
        while socket.send_now(&[0]).is_ok() {}
        let outbox = outbox(socket, None, 1 << 20);
        let mut now = 1;
        while now < 1000 {
            now = outbox.clock.tick();
        }
        assert_eq!(outbox.deliver(&message(1, 1, 10)), Delivery::Taken);
        assert!(outbox.lock().stalled);
        outbox.poller.sweep(now + 59);
        assert!(!outbox.is_closing(), "it was cut before it had the write timeout");
        outbox.poller.sweep(now + 60);
        assert!(outbox.is_closing());
    }

    #[test]
    fn a_session_that_seals_nothing_any_more_ends_the_connection() {
        let (socket, mut session, _theirs) = tls_pair();
        session.say_goodbye();
        let outbox = outbox(socket, Some(session), 1 << 20);
        outbox.deliver(&message(1, 1, 10));
        assert!(outbox.is_closing(), "the message is lost and nobody knows");
        let (ending, totals) = outbox.finish();
        assert!(ending.reason.starts_with("failed to encrypt"));
        assert_eq!((totals.messages, totals.lost), (0, 1));
    }

    #[test]
    fn a_queued_message_that_cannot_be_sealed_is_lost_and_counted() {
        let (socket, mut session, _theirs) = tls_pair();
        session.say_goodbye();
        let outbox = outbox(socket, Some(session), 1 << 20);
        outbox.enqueue(message(1, 1, 10));
        outbox.flush();
        assert_eq!(outbox.finish().1.lost, 1);
    }

    #[test]
    fn what_is_sealed_and_not_sent_when_the_connection_is_cut_is_lost_and_counted() {
        let (socket, session, _theirs) = tls_pair();
        let outbox = outbox(socket, Some(session), 1 << 20);
        let mut delivered = 0;
        while !outbox.lock().stalled {
            assert_eq!(outbox.deliver(&message(1, delivered, 10_000)), Delivery::Taken);
            delivered += 1;
        }
        outbox.abort("it is gone");
        assert!(outbox.lock().queue.is_empty(), "what is gone is still counted");
        let totals = outbox.finish().1;
        assert_eq!(totals.messages + totals.lost, u64::from(delivered));
    }
}
