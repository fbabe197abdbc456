//! What the lock of an outbox guards: the queue, who writes, how far the connection has ended; and the small steps on it
//! that are made under the lock.

use std::io;

use crate::clock::Ticks;
use crate::config::QueueSettings;
use crate::connection::ending::{EndCause, Ending, Totals};
use crate::connection::frame::{Frame, Role};
use crate::connection::queue::{Offer, Queue, Taken};
use crate::connection::record_writer::{RecordWriter, Sealed};
use crate::connection::tls::Session;

/// The most frames and (nearly) the most bytes of one write.
const BATCH_FRAMES: usize = 64;
const BATCH_BYTES: usize = 64 << 10;

/// The bounds and deadlines of an outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// An outbox at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// What it has done since the connection came about.
    pub totals: Totals,
    /// Messages that the kernel does not have yet.
    pub messages: usize,
    /// Bytes that the kernel does not have yet.
    pub bytes: usize,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) limits: Limits,
    pub(super) queue: Queue,
    pub(super) stage: Stage,
    /// Somebody writes right now, without the lock.
    pub(super) writing: bool,
    /// The socket takes nothing: the flusher will go on.
    pub(super) stalled: bool,
    /// What is not sent at the end is wanted back, see [`reclaim`](super::Outbox::reclaim).
    pub(super) keeps: bool,
    /// When the kernel last took a byte, or was first offered one since; meaningful while stalled.
    pub(super) progress: Ticks,
    /// A ping is queued and has not left yet.
    pub(super) ping_asked: bool,
    /// When the last ping left; 0 if none has.
    pub(super) ping_left: Ticks,
    pub(super) totals: Totals,
    pub(super) tls: Option<Box<RecordWriter>>,
    pub(super) end: Option<Box<End>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
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
pub(super) struct End {
    pub(super) ending: Ending,
    /// When the connection is cut.
    pub(super) deadline: Ticks,
    /// When what is queued is given up for the Close.
    pub(super) hurry_at: Ticks,
    pub(super) last: Last,
}

/// What the peer gets at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    /// A Close of ours. If it cannot leave, the peer has none.
    Close,
    /// The answer to the peer's Close. That it may not leave changes nothing.
    Answer,
    /// No Close.
    Nothing,
}

/// How long before its deadline a connection gives up what is queued, so that the peer still learns why it ends. A
/// deadline that is nearer than twice that is halved.
const HURRY: Ticks = 3;

impl End {
    /// One that is over at `deadline`.
    pub(super) fn new(ending: Ending, now: Ticks, deadline: Ticks, last: Last) -> End {
        let span = deadline.saturating_sub(now);
        let hurry_at = deadline.saturating_sub(HURRY.min(span.div_ceil(2)));
        End { ending, deadline, hurry_at, last }
    }

    /// The connection was cut before our Close left: the peer has none.
    fn lose_close(&mut self) {
        let Ending { code, reason, .. } = &mut self.ending;
        if self.last == Last::Close {
            *reason = format!("{reason} (the Close with {code} never left)");
            *code = 1006;
        }
    }
}

/// What a writer carries to the kernel while the lock is free.
pub(super) enum Load<'f> {
    /// One frame that was counted but not queued.
    One(&'f Frame),
    Frames(Taken),
    Sealed(Sealed),
}

impl State {
    /// That of a connection whose handshake is done, over TLS if it has a session.
    pub(super) fn new(role: Role, session: Option<Session>, limits: Limits) -> State {
        State {
            limits,
            queue: Queue::default(),
            stage: Stage::Open,
            writing: false,
            stalled: false,
            keeps: role == Role::Client,
            progress: 0,
            ping_asked: false,
            ping_left: 0,
            totals: Totals::default(),
            tls: session.map(|session| Box::new(RecordWriter::new(session))),
            end: None,
        }
    }

    /// What was done so far, and how much is queued.
    pub(super) fn status(&self) -> Status {
        let (messages, bytes) = self.queue.depth();
        Status { totals: self.totals, messages, bytes }
    }

    /// Whether a frame can be written without touching the queue.
    pub(super) fn is_idle_for(&self, frame: &Frame) -> bool {
        self.stage == Stage::Open
            && !self.writing
            && !self.stalled
            && self.queue.is_empty()
            && self.tls.as_ref().is_none_or(|record_writer| RecordWriter::fits_one(frame) && !record_writer.has_work())
    }

    /// Queues a frame from somebody else, or does what the policy says, and counts what is dropped.
    pub(super) fn offer(&mut self, frame: &Frame) -> Delivery {
        match self.queue.offer(frame, &self.limits.queue) {
            Offer::Taken => Delivery::Taken,
            Offer::Dropped(count) => {
                let first = self.totals.dropped == 0;
                self.totals.dropped += count as u64;
                Delivery::Dropped { first }
            }
            Offer::TooSlow => {
                self.totals.dropped += frame.messages() as u64;
                Delivery::TooSlow
            }
        }
    }

    /// Whether a writer would find something to carry.
    pub(super) fn has_work(&self) -> bool {
        self.queue.has_waiting() || self.tls.as_ref().is_some_and(|tls| tls.has_work())
    }

    /// Whether the TLS session, if there is one, has more to say than may pile up.
    pub(super) fn is_session_behind(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_behind())
    }

    /// Gives up what is queued or sealed: the connection has ended. What a writer carries is
    /// accounted when it comes back.
    pub(super) fn forget_queued(&mut self) {
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
    pub(super) fn take_unsent(&mut self) -> Vec<Frame> {
        if let Some(record_writer) = &mut self.tls {
            record_writer.give_back(&mut self.queue);
        }
        let (mut unsent, done) = self.queue.unsent();
        self.totals.messages += done as u64;
        unsent.retain(|frame| frame.messages() > 0);
        unsent
    }

    /// The first reason for the end stays.
    pub(super) fn end_with(&mut self, end: End) {
        if self.end.is_none() {
            self.end = Some(Box::new(end));
        }
    }

    /// The connection is cut for this reason, if it has no other.
    pub(super) fn cut(&mut self, reason: &str, cause: EndCause) {
        self.end_with(End::new(
            Ending { code: 1006, reason: reason.to_owned(), cause, received: None },
            0,
            0,
            Last::Nothing,
        ));
        if self.stage == Stage::Closing
            && let Some(end) = &mut self.end
        {
            end.lose_close();
        }
        self.stage = Stage::Aborted;
        self.forget_queued();
    }

    /// Gives up the messages that wait in front of the Close, for a peer that has not read them in time. They count as
    /// lost.
    pub(super) fn hurry(&mut self) {
        if !self.keeps {
            self.totals.lost += self.queue.drop_messages() as u64;
        }
    }

    /// What to carry to the kernel next.
    pub(super) fn load<'f>(&mut self) -> io::Result<Option<Load<'f>>> {
        match &mut self.tls {
            None => Ok(self.queue.take(BATCH_FRAMES, BATCH_BYTES).map(Load::Frames)),
            Some(writer) => Ok(writer.load(&mut self.queue, self.stage == Stage::Closing)?.map(Load::Sealed)),
        }
    }

    /// A frame that goes out without being queued; it counts as if it were.
    pub(super) fn load_one<'f>(&mut self, frame: &'f Frame) -> io::Result<Option<Load<'f>>> {
        self.queue.count(frame);
        let Some(writer) = &mut self.tls else { return Ok(Some(Load::One(frame))) };
        let sealed = writer.load_one(frame).inspect_err(|_| {
            self.queue.settle_one(frame, 0);
        })?;
        Ok(Some(Load::Sealed(sealed)))
    }

    /// Accounts a load of which the kernel took `count` bytes.
    pub(super) fn account(&mut self, load: Load<'_>, count: usize) {
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
    pub(super) fn note_ping_left(&mut self) {
        if self.ping_asked {
            self.ping_asked = false;
            self.ping_left = self.progress;
        }
    }
}
