//! A client's outbox: the bounded queue of what it has yet to get, and the writing of it.
//!
//! The thread that delivers a frame writes it: it pushes under a short lock, and if no other thread is
//! writing it takes a batch out, releases the lock, and hands the batch to the kernel without waiting. Only one
//! thread writes at a time (`writing`); the others leave their frame behind and go. What the
//! kernel does not take stays queued and counted, and the flusher goes on when the socket can
//! (`stalled`). No lock is held over a system call.
//!
//! The order on the wire is the order of the pushes, except that a pong or ping goes out at the
//! next frame boundary. The Close is always last: after it nothing is accepted.

mod deadlines;
mod state;
mod writing;

use std::io;

use super::close::Close;
use super::ending::{EndCause, Ending, Totals};
use super::frame::{Control, Frame, Role};
use super::keepalive::PingState;
use super::poller::Poller;
use super::queue::Slot;
use super::socket::Socket;
use super::tls::{Decrypted, Session};
use crate::clock::{Clock, Ticks};
use crate::config::QueueSettings;
use crate::id::Id;
use crate::sync::{Arc, Mutex, MutexGuard, Signal};
pub use state::{Delivery, Limits, Status};
use state::{End, Last, Stage, State};

/// See the module's documentation.
#[derive(Debug)]
pub struct Outbox {
    state: Mutex<State>,
    /// Notified when bytes leave or the stage changes.
    changed: Signal,
    socket: Socket,
    role: Role,
    id: Id,
    clock: Arc<Clock>,
    poller: Arc<Poller>,
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
        let state = State::new(role, session, limits);
        Outbox { state: Mutex::new(state), changed: Signal::default(), socket, role, id, clock, poller }
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
        let delivery = state.offer(frame);
        if delivery == Delivery::TooSlow {
            drop(state);
            self.close(Some(1008), "Too slow");
            return delivery;
        }
        self.write(state, None);
        delivery
    }

    /// As [`deliver`](Outbox::deliver), for several frames: they are written together.
    pub fn deliver_all(self: &Arc<Self>, frames: &[Frame]) -> Delivery {
        if let [frame] = frames {
            return self.deliver(frame);
        }
        let mut state = self.lock();
        if state.stage != Stage::Open {
            return Delivery::Closed;
        }
        let mut delivery = Delivery::Taken;
        for frame in frames {
            match state.offer(frame) {
                Delivery::Taken => {}
                Delivery::TooSlow => {
                    drop(state);
                    self.close(Some(1008), "Too slow");
                    return Delivery::TooSlow;
                }
                dropped if delivery == Delivery::Taken => delivery = dropped,
                _ => {}
            }
        }
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
        self.push_when_fits(frame, |queue| queue, give_up, || true)
    }

    /// As [`reply`](Outbox::reply), for what must not fill the outbox: it waits while half of the room is taken. What is
    /// not wanted any more when there is room is left out: `is_wanted` is asked under the lock, so that nothing that is
    /// delivered once it says no comes before this.
    pub fn tell(self: &Arc<Self>, frame: &Frame, is_wanted: impl Fn() -> bool) -> bool {
        let half =
            |queue: QueueSettings| QueueSettings { messages: queue.messages / 2, bytes: queue.bytes / 2, ..queue };
        self.push_when_fits(frame, half, || false, is_wanted)
    }

    /// Other bounds and deadlines hold from now on; gives back those that held before. What is queued stays in any case.
    pub fn set_limits(&self, limits: Limits) -> Limits {
        let before = std::mem::replace(&mut self.lock().limits, limits);
        // There may be room now for whoever waits.
        self.changed.notify_all();
        before
    }

    fn push_when_fits(
        self: &Arc<Self>,
        frame: &Frame,
        room: impl Fn(QueueSettings) -> QueueSettings,
        give_up: impl Fn() -> bool,
        is_wanted: impl Fn() -> bool,
    ) -> bool {
        let state = self.lock();
        if state.is_idle_for(frame) && is_wanted() {
            self.write(state, Some(frame));
            return true;
        }
        let must_wait =
            |state: &State| state.stage == Stage::Open && !state.queue.fits(frame, &room(state.limits.queue));
        let Some(mut state) = self.changed.wait_while(&self.state, state, must_wait, give_up) else { return false };
        if state.stage != Stage::Open {
            return false;
        }
        if is_wanted() {
            state.queue.push(frame.clone());
            self.write(state, None);
        }
        true
    }

    /// Answers pings: all of them if nothing is queued, else only the latest, at the next frame
    /// boundary (RFC 6455 section 5.5.3 allows it, and a flood of pings stays one frame).
    pub fn pong(self: &Arc<Self>, all: &Frame, latest: impl FnOnce() -> Frame) {
        let mut state = self.lock();
        if state.is_idle_for(all) {
            self.write(state, Some(all));
        } else if state.stage == Stage::Open {
            state.queue.set(Slot::Pong, latest());
            self.write(state, None);
        }
    }

    /// Says to the peer what of its messages is stored, in a frame that says what all earlier ones have said too: one that
    /// still waits is superseded, so a peer that reads nothing has one.
    pub fn acknowledge(self: &Arc<Self>, frame: Frame) {
        let mut state = self.lock();
        if state.stage == Stage::Open {
            // Always by its slot: one that the socket does not take would be overtaken there by the next.
            state.queue.set(Slot::Acknowledgement, frame);
            self.write(state, None);
        }
    }

    /// Asks the peer for a sign of life.
    pub fn ping(self: &Arc<Self>) {
        let mut state = self.lock();
        if state.stage == Stage::Open {
            state.queue.set(Slot::Ping, Frame::control(self.role, Control::Ping, &[]));
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
    /// is shut down. The close deadline runs from now; shortly before it, what is still queued is
    /// given up for the Close. Without a code the Close is empty.
    pub fn close(self: &Arc<Self>, code: Option<u16>, reason: &str) {
        self.close_by(code, reason, self.close_deadline());
    }

    /// As [`close`](Outbox::close), but gives up what is queued at once.
    pub fn close_without_queue(self: &Arc<Self>, code: Option<u16>, reason: &str) {
        self.close(code, reason);
        let mut state = self.lock();
        if state.stage == Stage::Closing {
            state.hurry();
        }
    }

    /// What it has done so far, and how much is queued.
    pub fn status(&self) -> Status {
        self.lock().status()
    }

    /// How many bytes are queued that no other outbox has, and how many in all.
    pub fn held(&self) -> (usize, usize) {
        self.lock().queue.held()
    }

    /// As [`close`](Outbox::close), with a deadline of its own.
    pub fn close_by(self: &Arc<Self>, code: Option<u16>, reason: &str, deadline: Ticks) {
        self.end(code, reason, deadline, Last::Close);
    }

    /// As [`close`](Outbox::close), in answer to the peer's own Close, whatever it says. That is noted too.
    pub fn answer_close(self: &Arc<Self>, close: &Close) {
        let deadline = self.close_deadline();
        let (code, reason) = close.answer();
        self.end(code, reason, deadline, Last::Answer);
        if let Some(end) = &mut self.lock().end {
            end.ending.note_received(close);
        }
    }

    /// Ends the connection of a peer that has said its last word without a Close, but may still read:
    /// what is queued is written, within the close deadline, and no Close behind it.
    pub fn finish_writing(self: &Arc<Self>, reason: &str) {
        let deadline = self.close_deadline();
        self.end(Some(1006), reason, deadline, Last::Nothing);
    }

    /// When a connection that closes now is cut.
    fn close_deadline(&self) -> Ticks {
        self.clock.now().saturating_add(self.lock().limits.close_timeout)
    }

    fn end(self: &Arc<Self>, code: Option<u16>, reason: &str, deadline: Ticks, last: Last) {
        let mut state = self.lock();
        if state.stage != Stage::Open {
            return;
        }
        state.stage = Stage::Closing;
        if last != Last::Nothing {
            state.queue.push(Frame::close(self.role, code, reason));
        }
        let ending =
            Ending { code: code.unwrap_or(1005), reason: reason.to_owned(), cause: EndCause::Ended, received: None };
        state.end_with(End::new(ending, self.clock.now(), deadline, last));
        self.changed.notify_all();
        self.write(state, None);
        self.poller.closing(self);
        // The connection may have ended in between, and nobody would forget it before the heartbeat comes.
        if self.is_aborted() {
            self.poller.forget(self);
        }
    }

    /// Ends the connection at once, without a Close: for peers that are gone.
    pub fn abort(&self, reason: &str) {
        self.cut_locked(self.lock(), reason, EndCause::Ended);
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
        self.lock().end.as_ref().is_some_and(|end| end.last != Last::Nothing)
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
        let reason = || "connection lost".to_owned();
        let lost = || Ending { code: 1006, reason: reason(), cause: EndCause::Ended, received: None };
        let ending = end.map_or_else(lost, |end| end.ending);
        (ending, totals)
    }

    /// The flusher's part: the socket takes bytes again.
    pub fn resume(self: &Arc<Self>) {
        let mut state = self.lock();
        state.stalled = false;
        self.write_batches(state, None);
    }

    /// Feeds received ciphertext to the TLS session, as much as `cipher` holds, and decrypts into
    /// `plain`. What the session wants to say in return is written; says whether so much of it is left that
    /// [`wait_for_session`](Outbox::wait_for_session) has to come before the next read. Call it with an empty `cipher`
    /// until it needs more.
    pub fn decrypt(self: &Arc<Self>, cipher: &[u8], plain: &mut [u8]) -> io::Result<(Decrypted, bool)> {
        let mut state = self.lock();
        let tls = state.tls.as_mut().expect("only a TLS client decrypts");
        let result = tls.session.read(cipher, plain);
        if tls.session.outgoing() == 0 {
            return result.map(|decrypted| (decrypted, false));
        }
        self.write(state, None);
        result.map(|decrypted| (decrypted, self.lock().is_session_behind()))
    }

    /// Waits, in its own thread, until the peer has taken most of what its TLS session has to say: one that asks for
    /// more and reads nothing of it is not read either. The wait ends with the connection, too.
    pub fn wait_for_session(&self) {
        let must_wait = |state: &State| state.stage < Stage::Closed && state.is_session_behind();
        self.changed.wait_while(&self.state, self.lock(), must_wait, || false);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    fn fail_locked(&self, state: MutexGuard<'_, State>, failed: &str, error: &io::Error) {
        let is_late = error.kind() == io::ErrorKind::TimedOut;
        let cause = if is_late { EndCause::WriteTimeout } else { EndCause::Ended };
        self.cut_locked(state, &format!("{failed}: {error}"), cause);
    }

    fn cut_locked(&self, mut state: MutexGuard<'_, State>, reason: &str, cause: EndCause) {
        state.cut(reason, cause);
        drop(state);
        self.socket.shutdown_both();
        self.changed.notify_all();
    }
}

/// What the model checker looks at whenever the lock is free.
#[cfg(wsgate_model)]
#[path = "../../../model/src/audit.rs"]
pub(crate) mod audit;

#[cfg(test)]
mod tests;
