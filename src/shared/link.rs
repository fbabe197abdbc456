//! The links as others see them: what is handed to them, how they are, and what they have counted.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use log::warn;

use crate::clock;
use crate::config::{LinkSettings, QueueSettings, WhenDown, WhenFull};
use crate::connection::frame::{CorkLimits, Frame};
use crate::connection::keepalive::Keepalive;
use crate::connection::outbox::{Limits, Outbox};
use crate::dial::reconnecting::ReconnectingOutbox;
use crate::shared::send_queue::{Enqueued, SendQueue};
use crate::sync::Mutex;

/// What the remote is told when the gateway stops.
const GOODBYE: &str = "Going away";

/// Why messages for a link are dropped that was given up, or whose gateway stops.
pub const NOT_DIALLED: &str = "it is not dialled any more";

/// A link while the gateway runs.
#[derive(Debug)]
pub struct Link {
    /// As configured.
    pub settings: LinkSettings,
    /// Its name, for threads and log lines.
    pub name: Arc<str>,
    /// What waits for it.
    pub queue: SendQueue,
    /// Its connection, one after the other.
    pub upstream: ReconnectingOutbox,
    /// The bounds of a connection's outbox.
    pub limits: Limits,
    /// The deadlines of a connection.
    pub keepalive: Keepalive,
    /// How much is joined into one frame for it.
    pub cork: CorkLimits,
    /// What it has counted.
    pub counters: Counters,
    dropped_while_down: AtomicU64,
    /// Goodbye was said to the remote.
    is_over: AtomicBool,
    state: Mutex<LinkState>,
}

/// How a link is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkState {
    /// It is being dialled.
    Dialling,
    /// It is connected, since then, with this subprotocol.
    Up(Instant, Option<String>),
    /// It is dialled again at this time; why it is not connected.
    Waiting(Instant, String),
    /// It is not dialled any more; why.
    GivenUp(String),
}

/// What a link has counted since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections that came about.
    pub connects: AtomicU64,
    /// Attempts that failed.
    pub failures: AtomicU64,
    /// Messages from the remote.
    pub received: AtomicU64,
    /// Messages that a connection's kernel has taken.
    pub sent: AtomicU64,
    /// Messages that were dropped because the link was down and its queue full, or given up.
    pub dropped: AtomicU64,
    /// Messages from the remote for which a destination had no room of that name.
    pub unroutable: AtomicU64,
    /// Events of the link for which a destination had no room.
    pub events_dropped: AtomicU64,
}

impl Link {
    /// A link that has not been dialled yet.
    pub fn new(settings: &LinkSettings, close_timeout: Duration) -> Link {
        let queue = &settings.queue;
        let when_full = match queue.when_full {
            WhenDown::DropNewest => WhenFull::DropNewest,
            WhenDown::DropOldest | WhenDown::Block => WhenFull::DropOldest,
        };
        let bounds = QueueSettings { messages: queue.messages, bytes: queue.bytes, when_full };
        Link {
            name: settings.name.as_str().into(),
            queue: SendQueue::new(bounds, queue.when_full == WhenDown::Block),
            upstream: ReconnectingOutbox::default(),
            limits: Limits {
                // Messages wait for room here; what does not wait, a ping of text, must not drive them out.
                queue: QueueSettings { when_full: WhenFull::DropNewest, ..QueueSettings::default() },
                write_timeout: settings.write_timeout.map(clock::ticks),
                close_timeout: clock::ticks(close_timeout),
            },
            keepalive: Keepalive {
                heartbeat: settings.heartbeat.map(clock::ticks),
                pong_timeout: clock::ticks(settings.pong_timeout),
                message_timeout: settings.message_timeout.map(clock::ticks),
            },
            cork: CorkLimits::for_queue(queue.messages, queue.bytes),
            counters: Counters::default(),
            dropped_while_down: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            state: Mutex::new(LinkState::Dialling),
            settings: settings.clone(),
        }
    }

    /// Hands a frame over to be sent; waits as the link's queue demands. What is dropped is counted.
    pub fn push(&self, frame: &Frame, give_up: impl Fn() -> bool) {
        match self.queue.push(frame, give_up) {
            Enqueued::Taken => {}
            Enqueued::Dropped(count) => self.count_dropped(count, "it is down and its queue is full"),
            Enqueued::Refused if self.queue.is_ended() => self.count_dropped(frame.messages(), NOT_DIALLED),
            Enqueued::Refused => self.count_dropped(frame.messages(), "a sender that waited for it has ended"),
        }
    }

    /// Counts messages that will not be sent, and says so when they are the first since it was up.
    pub fn count_dropped(&self, messages: usize, why: &str) {
        self.counters.dropped.fetch_add(messages as u64, Ordering::Relaxed);
        if messages > 0 && self.dropped_while_down.fetch_add(messages as u64, Ordering::Relaxed) == 0 {
            warn!("link {self}: {why}: messages for it are dropped from now on");
        }
    }

    /// Says how many were dropped while it was down, now that it is up.
    pub fn say_what_was_dropped(&self) {
        match self.dropped_while_down.swap(0, Ordering::Relaxed) {
            0 => {}
            dropped => warn!("link {self}: while it was down {dropped} messages were dropped"),
        }
    }

    /// Takes nothing any more. What waits is still sent if it is up; if it is down, its own thread drops it.
    pub fn begin_stopping(&self) {
        self.queue.end();
    }

    /// Says goodbye to the remote, if there is one and all was sent; else ends the connection at once.
    pub fn say_goodbye(&self, all_sent: bool) {
        // First: a connection that comes about right now is not seen here, but sees this.
        self.is_over.store(true, Ordering::SeqCst);
        match self.upstream.current() {
            Some(outbox) if all_sent => outbox.close(Some(1001), GOODBYE),
            Some(outbox) => outbox.abort("the gateway has stopped"),
            None => {}
        }
    }

    /// A connection has come about: if goodbye was said before anybody could hear it, it is said now.
    pub fn repeat_goodbye(&self, outbox: &Arc<Outbox>) {
        if self.is_over.load(Ordering::SeqCst) {
            outbox.close(Some(1001), GOODBYE);
        }
    }

    /// How it is.
    pub fn state(&self) -> LinkState {
        self.state.lock().clone()
    }

    /// Says how it is; its own thread does.
    pub fn set_state(&self, state: LinkState) {
        *self.state.lock() = state;
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::connection::frame::Role;
    use crate::connection::poller::Poller;
    use crate::connection::socket::Socket;
    use crate::message::{Kind, Message};

    fn link() -> Link {
        let text = "[[link]]\nname = \"up\"\nurl = \"ws://localhost/\"";
        let settings = crate::config::parse(text, "test.toml", ".".as_ref()).unwrap();
        Link::new(&settings.links[0], Duration::from_secs(5))
    }

    fn connect(link: &Link) -> (Arc<Outbox>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (clock, poller) = (Arc::default(), Arc::new(Poller::new().unwrap()));
        let outbox = Outbox::new(1.into(), Role::Client, Socket::new(ours), None, link.limits, clock, poller);
        (Arc::new(outbox), theirs)
    }

    #[test]
    fn what_does_not_wait_for_room_drives_out_no_message() {
        let (outbox, _theirs) = connect(&link());
        let message = Message { kind: Kind::Binary, data: vec![0; 1 << 20].into() };
        for _ in 0..4 {
            outbox.enqueue(Frame::message(&message));
        }
        // The kernel takes a part of it, but not enough for a ping of this length.
        outbox.deliver(&Frame::joined(vec![0; 2 << 20].into(), 0));
        outbox.abort("enough");
        let (_, totals, unsent) = outbox.reclaim();
        assert_eq!((totals.dropped, unsent.iter().map(Frame::messages).sum::<usize>()), (0, 4));
    }

    #[test]
    fn a_connection_that_comes_about_while_goodbye_is_said_hears_it() {
        for comes_first in [true, false] {
            let link = link();
            let (outbox, _theirs) = connect(&link);
            if comes_first {
                link.upstream.connected(&outbox, []);
            }
            link.say_goodbye(true);
            assert_eq!(outbox.has_close(), comes_first);
            link.upstream.connected(&outbox, []);
            link.repeat_goodbye(&outbox);
            assert!(outbox.has_close());
        }
    }
}
