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
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::frame::Frame;
use super::queue::{Offer, Queue, Taken};
use super::socket::Socket;
use super::tls::Session;
use super::watch::Watch;
use crate::clock::{Clock, Ticks};
use crate::config::QueueSettings;
use crate::id::Id;

/// The most frames and (nearly) the most bytes of one write.
const BATCH_FRAMES: usize = 64;
const BATCH_BYTES: usize = 64 << 10;

/// How much is encrypted ahead of the socket: one TLS record.
const SEAL_BYTES: usize = 16 << 10;

/// How many batches a deliverer writes before it leaves the rest to the flusher: a client with
/// much to get must not keep a thread from the others.
const ROUNDS: usize = 2;

/// How often a thread that waits for room looks again; it is woken earlier when there is some.
const WAIT_SLICE: Duration = Duration::from_millis(250);

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

/// Why and how a connection ended; the first reason stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// The close code: what was sent or received, 1005 for a Close without one, 1006 for none at all.
    pub code: u16,
    /// The reason that was sent or received, or ours for ending it without a Close.
    pub reason: String,
}

/// What an outbox did over its life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Messages handed to the kernel whole.
    pub messages: u64,
    /// Bytes of WebSocket frames handed to the kernel.
    pub bytes: u64,
    /// Messages dropped by policy.
    pub dropped: u64,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Outbox {
    state: Mutex<State>,
    /// Signalled when bytes leave or the stage changes, if somebody waits.
    changed: Condvar,
    socket: Socket,
    id: Id,
    limits: Limits,
    clock: Arc<Clock>,
    watch: Arc<Watch>,
}

#[derive(Debug)]
struct State {
    queue: Queue,
    stage: Stage,
    /// Somebody writes right now, without the lock.
    writing: bool,
    /// The socket takes nothing: the flusher will go on.
    stalled: bool,
    /// A thread waits on `changed`.
    waiting: bool,
    /// When the kernel last took a byte; meaningful while stalled.
    progress: Ticks,
    /// A ping is queued and has not left yet.
    ping_asked: bool,
    /// When the last ping left; 0 if none has.
    ping_left: Ticks,
    totals: Totals,
    tls: Option<Box<Tls>>,
    end: Option<Box<End>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// Frames are accepted.
    Open,
    /// The Close is queued; nothing is accepted behind it.
    Closing,
    /// The Close is written and our direction shut down.
    Closed,
    /// The socket is shut down in both directions; nothing will be written.
    Cut,
}

#[derive(Debug)]
struct End {
    ending: Ending,
    deadline: Ticks,
}

/// A TLS session and the one batch that is sealed but not yet with the kernel. What the batch
/// holds is still counted, and no policy drops it.
#[derive(Debug)]
struct Tls {
    session: Session,
    sealed: Vec<u8>,
    sealed_written: usize,
    holds: Option<(Taken, usize)>,
    said_goodbye: bool,
}

/// What a writer carries to the kernel while the lock is free.
enum Load {
    Frames(Taken),
    Sealed(Vec<u8>, usize),
}

/// What a read of the TLS session gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decrypted {
    /// This many bytes of plaintext; there may be more.
    Plain(usize),
    /// The session has to be fed first.
    NeedMore,
    /// The peer has ended the session in order.
    Closed,
}

impl Outbox {
    /// An empty outbox over a connected socket, whose TLS handshake is done if it has a session.
    pub fn new(
        id: Id,
        socket: Socket,
        session: Option<Session>,
        limits: Limits,
        clock: Arc<Clock>,
        watch: Arc<Watch>,
    ) -> Outbox {
        let tls = session.map(|session| {
            Box::new(Tls { session, sealed: Vec::new(), sealed_written: 0, holds: None, said_goodbye: false })
        });
        let state = State {
            queue: Queue::default(),
            stage: Stage::Open,
            writing: false,
            stalled: false,
            waiting: false,
            progress: 0,
            ping_asked: false,
            ping_left: 0,
            totals: Totals::default(),
            tls,
            end: None,
        };
        Outbox { state: Mutex::new(state), changed: Condvar::new(), socket, id, limits, clock, watch }
    }

    /// The id of the client it belongs to.
    pub fn id(&self) -> Id {
        self.id
    }

    /// The socket below; only the client's own thread reads it.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Delivers a frame from somebody else. Never waits: a full outbox does what its policy says.
    pub fn deliver(self: &Arc<Self>, frame: &Frame) -> Delivery {
        let mut state = self.lock();
        if state.is_idle() {
            self.write_one(state, frame);
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
        self.pump(state);
        delivery
    }

    /// Queues a frame without writing it: what must reach the client before anything that
    /// others may deliver from now on.
    pub fn hold(&self, frame: Frame) {
        self.lock().queue.push(frame);
    }

    /// Writes what is queued as far as the socket takes it.
    pub fn flush(self: &Arc<Self>) {
        self.pump(self.lock());
    }

    /// Sends the client's own replies; called by its own thread only, which waits here while the
    /// outbox has no room: a client that does not read its answers is not read either. The wait
    /// ends when there is room, or with `false` when the connection is ending.
    pub fn reply(self: &Arc<Self>, frame: &Frame) -> bool {
        let mut state = self.lock();
        if state.is_idle() {
            self.write_one(state, frame);
            return true;
        }
        while state.stage == Stage::Open && !state.queue.fits(frame, &self.limits.queue) {
            state = self.wait(state);
        }
        if state.stage != Stage::Open {
            return false;
        }
        state.queue.push(frame.clone());
        self.pump(state);
        true
    }

    /// Answers pings: all of them if nothing is queued, else only the latest, at the next frame
    /// boundary (RFC 6455 section 5.5.3 allows it, and a flood of pings stays one frame).
    pub fn pong(self: &Arc<Self>, all: &Frame, latest: impl FnOnce() -> Frame) {
        let mut state = self.lock();
        if state.is_idle() {
            self.write_one(state, all);
        } else if state.stage == Stage::Open {
            state.queue.set_pong(latest());
            self.pump(state);
        }
    }

    /// Asks the peer for a sign of life.
    pub fn ping(self: &Arc<Self>) {
        let mut state = self.lock();
        if state.stage == Stage::Open {
            state.queue.set_ping();
            state.ping_asked = true;
            self.pump(state);
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
        let mut state = self.lock();
        if state.stage != Stage::Open {
            return;
        }
        state.stage = Stage::Closing;
        state.queue.push(Frame::close(code, reason));
        let deadline = self.clock.now().saturating_add(within);
        state.end_with(code.unwrap_or(1005), reason, deadline);
        self.changed.notify_all();
        self.pump(state);
        self.watch.closing(self);
    }

    /// Ends the connection at once, without a Close: for peers that are gone.
    pub fn cut(&self, reason: &str) {
        let mut state = self.lock();
        state.end_with(1006, reason, 0);
        self.cut_locked(state);
    }

    /// Whether the connection has been told to end.
    pub fn is_closing(&self) -> bool {
        self.lock().stage != Stage::Open
    }

    /// Blocks until everything is written that will be: the Close is out, or the socket is cut.
    /// The close deadline bounds the wait, so the connection must be closing.
    pub fn wait_closed(&self) {
        let mut state = self.lock();
        debug_assert_ne!(state.stage, Stage::Open);
        while state.stage < Stage::Closed {
            state = self.wait(state);
        }
    }

    /// The client's thread has ended: nothing is written any more. Says how it ended and what it did.
    pub fn finish(&self) -> (Ending, Totals) {
        let mut state = self.lock();
        state.stage = Stage::Cut;
        state.queue.clear();
        let end = state.end.take();
        let totals = state.totals;
        drop(state);
        self.watch.forget(self);
        let ending = end.map_or(Ending { code: 1006, reason: "connection lost".to_owned() }, |end| end.ending);
        (ending, totals)
    }

    /// The flusher's part: the socket takes bytes again.
    pub fn resume(self: &Arc<Self>) {
        let mut state = self.lock();
        state.stalled = false;
        self.pump(state);
    }

    /// Cuts a stalled outbox of which the kernel has taken nothing for the write timeout.
    pub(super) fn check_write_deadline(&self, now: Ticks) {
        let state = self.lock();
        let Some(timeout) = self.limits.write_timeout else { return };
        if state.stalled && now.saturating_sub(state.progress) >= timeout {
            drop(state);
            self.cut("Too slow: nothing was taken within the write timeout");
        }
    }

    /// Cuts a closing outbox that is over its deadline; says whether it has to be watched further.
    pub(super) fn check_close_deadline(&self, now: Ticks) -> bool {
        let state = self.lock();
        if state.stage == Stage::Cut {
            return false;
        }
        let over = state.end.as_ref().is_some_and(|end| now >= end.deadline);
        if over {
            self.cut_locked(state);
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
            self.pump(state);
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No step under the lock leaves the state half changed, so a poisoned lock is still good.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.waiting = true;
        let (mut state, _) = self.changed.wait_timeout(state, WAIT_SLICE).unwrap_or_else(PoisonError::into_inner);
        state.waiting = false;
        state
    }

    fn cut_locked(&self, mut state: MutexGuard<'_, State>) {
        state.stage = Stage::Cut;
        state.queue.clear();
        drop(state);
        self.socket.shutdown_both();
        self.changed.notify_all();
    }

    /// The short way for the common case: nothing is queued, and one frame is written without
    /// touching the queue.
    fn write_one<'a>(self: &'a Arc<Self>, mut state: MutexGuard<'a, State>, frame: &Frame) {
        state.writing = true;
        state.queue.count(frame);
        drop(state);
        let sent = match frame.as_one() {
            Some(bytes) => self.socket.send_now(bytes),
            None => self.socket.send_slices_now(&frame.slices(0)),
        };
        let mut state = self.lock();
        state.writing = false;
        let count = *sent.as_ref().unwrap_or(&0);
        let done = state.queue.settle_one(frame, count);
        self.sent(state, sent, done, 1);
    }

    /// Writes what is queued, at most `ROUNDS` batches, unless somebody else is at it.
    fn pump<'a>(self: &'a Arc<Self>, state: MutexGuard<'a, State>) {
        self.write_round(state, 0);
    }

    fn write_round<'a>(self: &'a Arc<Self>, mut state: MutexGuard<'a, State>, round: usize) {
        if state.writing || state.stalled || state.stage >= Stage::Closed {
            return;
        }
        if round == ROUNDS && state.has_work() {
            return self.stall(state);
        }
        let Some(load) = state.load() else { return self.ran_empty(state) };
        state.writing = true;
        drop(state);
        let sent = match &load {
            Load::Frames(taken) => self.send_frames(taken),
            Load::Sealed(sealed, written) => self.socket.send_now(&sealed[*written..]),
        };
        let mut state = self.lock();
        state.writing = false;
        let count = *sent.as_ref().unwrap_or(&0);
        let done = state.settle(load, count);
        self.sent(state, sent, done, round + 1);
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

    /// What follows a write: account it, and go on, wait for the socket, or give up.
    fn sent<'a>(
        self: &'a Arc<Self>,
        mut state: MutexGuard<'a, State>,
        sent: io::Result<usize>,
        (messages, bytes): (usize, usize),
        round: usize,
    ) {
        state.totals.messages += messages as u64;
        state.totals.bytes += bytes as u64;
        if state.stage == Stage::Cut {
            return state.queue.clear();
        }
        match sent {
            Ok(_) => {
                state.progress = self.clock.now();
                if state.ping_asked && !state.has_work() {
                    state.ping_asked = false;
                    state.ping_left = state.progress;
                }
                if state.waiting {
                    self.changed.notify_all();
                }
                if state.has_work() || state.stage != Stage::Open {
                    self.write_round(state, round);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.stall(state);
            }
            Err(error) => {
                state.end_with(1006, &format!("failed to write: {error}"), 0);
                self.cut_locked(state);
            }
        }
    }

    /// Leaves the rest to the flusher.
    fn stall(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        state.stalled = true;
        drop(state);
        self.watch.arm(self);
        // The client may have ended in between and will not be there to disarm it.
        if self.lock().stage == Stage::Cut {
            self.watch.forget(self);
        }
    }

    /// Everything is written. If it ends with the Close, so does our direction.
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

/// What the heartbeat needs to know of pings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PingState {
    /// None was ever sent.
    None,
    /// One waits behind what the socket does not take; the write deadline guards that.
    Waits,
    /// The last one left at this tick.
    Left(Ticks),
}

impl State {
    /// Whether a frame can be written without touching the queue.
    fn is_idle(&self) -> bool {
        self.stage == Stage::Open && !self.writing && !self.stalled && self.tls.is_none() && self.queue.is_empty()
    }

    /// Whether a writer would find something to carry.
    fn has_work(&self) -> bool {
        self.queue.has_waiting() || self.tls.as_ref().is_some_and(|tls| tls.has_work())
    }

    /// The first reason for the end stays.
    fn end_with(&mut self, code: u16, reason: &str, deadline: Ticks) {
        if self.end.is_none() {
            self.end = Some(Box::new(End { ending: Ending { code, reason: reason.to_owned() }, deadline }));
        }
    }

    /// What to carry to the kernel next.
    fn load(&mut self) -> Option<Load> {
        let Some(tls) = &mut self.tls else {
            return self.queue.take(BATCH_FRAMES, BATCH_BYTES).map(Load::Frames);
        };
        if tls.sealed.is_empty() {
            tls.seal(&mut self.queue, self.stage == Stage::Closing);
        }
        (!tls.sealed.is_empty()).then(|| Load::Sealed(std::mem::take(&mut tls.sealed), tls.sealed_written))
    }

    /// Accounts a load of which the kernel took `count` bytes; returns the messages and bytes done.
    fn settle(&mut self, load: Load, count: usize) -> (usize, usize) {
        match (load, &mut self.tls) {
            (Load::Frames(taken), _) => self.queue.settle(taken, count),
            (Load::Sealed(sealed, written), Some(tls)) if written + count < sealed.len() => {
                tls.sealed = sealed;
                tls.sealed_written = written + count;
                (0, 0)
            }
            (Load::Sealed(..), Some(tls)) => {
                tls.sealed_written = 0;
                tls.holds.take().map_or((0, 0), |(taken, plain)| self.queue.settle(taken, plain))
            }
            (Load::Sealed(..), None) => (0, 0),
        }
    }
}

impl Tls {
    fn has_work(&self) -> bool {
        !self.sealed.is_empty() || self.session.has_outgoing()
    }

    /// Seals the next batch, or what the session itself has to say. At the end of a closing
    /// connection that is its close_notify.
    fn seal(&mut self, queue: &mut Queue, closing: bool) {
        if let Some(taken) = queue.take(BATCH_FRAMES, SEAL_BYTES) {
            let mut plain = Vec::with_capacity(SEAL_BYTES);
            let mut offset = taken.offset;
            for slice in taken.frames.iter().flat_map(|frame| frame.slices(std::mem::take(&mut offset))) {
                let room = SEAL_BYTES - plain.len();
                plain.extend_from_slice(&slice[..slice.len().min(room)]);
            }
            self.session.seal(&plain);
            self.holds = Some((taken, plain.len()));
        } else if closing && !self.said_goodbye {
            self.said_goodbye = true;
            self.session.say_goodbye();
        }
        self.sealed = self.session.take_outgoing();
    }
}
