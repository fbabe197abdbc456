//! A link as others see it: its outlet's number, its connection, and what it has counted.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use log::info;
use rustix::event::{EventfdFlags, eventfd};

use crate::config::{LinkId, LinkSettings};
use crate::connection::outbox::Outbox;
use crate::connection::peer::Peer;
use crate::dial::reconnecting::ReconnectingOutbox;
use crate::dial::{CancelToken, Dialer};
use crate::format::Audience;
use crate::histogram::Histogram;
use crate::route::OutletId;
use crate::shared::endpoint_counters::round_trips;
use crate::shared::outlet::{Encoding, Outlet};
use crate::shared::profile::Profile;
use crate::shared::send_queue::Bounds;
use crate::shared::traffic::{Successive, Traffic};
use crate::shared::undelivered::Undelivered;
use crate::sync::Mutex;

/// What the remote is told when we end its connection in good order.
pub const GOODBYE: &str = "Going away";

/// A link while the gateway runs. What is in an `Arc` lives on when a reload changes the rest.
#[derive(Debug)]
pub struct Link {
    pub settings: LinkSettings,
    /// Its name, for threads and log lines.
    pub name: Arc<str>,
    /// What its senders hand messages to.
    pub outlet: OutletId,
    /// How its server is dialled; `None` where nothing ever is.
    pub dialer: Option<Arc<Dialer>>,
    /// Its connection, one after the other.
    pub upstream: Arc<ReconnectingOutbox>,
    pub profile: Profile,
    pub counters: Arc<LinkCounters>,
    end: Arc<LinkEnd>,
}

/// How a link stands, whatever its settings are.
#[derive(Debug)]
struct LinkEnd {
    /// Goodbye was said to the remote.
    is_over: AtomicBool,
    /// The configuration has it no more: when what waits for it is given up.
    removed: OnceLock<Instant>,
    last_failure: Mutex<Option<LastFailure>>,
    /// Readable while it is to be dialled at once.
    redial: Option<Arc<OwnedFd>>,
}

/// Why a link was not connected, or not any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastFailure {
    /// As the log has it.
    pub why: String,
    /// When that was.
    pub at: SystemTime,
    /// Whether it is dialled no more, unless somebody asks for it.
    pub is_given_up: bool,
}

/// What a link has counted since the start.
#[derive(Debug)]
pub struct LinkCounters {
    connects: AtomicU64,
    /// Attempts to connect that failed.
    failures: AtomicU64,
    /// Messages that an HTTP server has refused for themselves.
    refused: AtomicU64,
    /// What its connections have sent and received.
    traffic: Mutex<Successive>,
    /// From a ping to its pong.
    pub round_trips: Arc<Histogram>,
    /// Events of the link for which a destination had no room.
    pub events_dropped: AtomicU64,
}

impl LinkEnd {
    fn new() -> LinkEnd {
        LinkEnd {
            is_over: AtomicBool::new(false),
            removed: OnceLock::new(),
            last_failure: Mutex::default(),
            // Without a descriptor for it the link works, and only nobody can hurry it.
            redial: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok().map(Arc::new),
        }
    }
}

impl LinkEnd {
    /// Ends waits; `false` if it cannot.
    fn wake(&self) -> bool {
        let Some(redial) = &self.redial else { return false };
        // It fails only when it was asked for before.
        let _ = rustix::io::write(redial, &1u64.to_ne_bytes());
        true
    }
}

impl Link {
    /// A link that has not been dialled yet.
    pub fn new(id: LinkId, settings: LinkSettings, dialer: Option<Arc<Dialer>>, close_timeout: Duration) -> Link {
        Link {
            name: settings.name.as_str().into(),
            outlet: id.into(),
            dialer,
            upstream: Arc::default(),
            profile: Profile::of_link(&settings, close_timeout),
            counters: Arc::default(),
            end: Arc::new(LinkEnd::new()),
            settings,
        }
    }

    /// The same link with other settings.
    pub fn changed(&self, settings: LinkSettings, dialer: Option<Arc<Dialer>>, close_timeout: Duration) -> Link {
        Link {
            name: Arc::clone(&self.name),
            outlet: self.outlet,
            dialer,
            upstream: Arc::clone(&self.upstream),
            profile: Profile::of_link(&settings, close_timeout),
            counters: Arc::clone(&self.counters),
            end: Arc::clone(&self.end),
            settings,
        }
    }

    /// Whether it has these settings, and this dialer.
    pub fn is(&self, settings: &LinkSettings, dialer: &Option<Arc<Dialer>>) -> bool {
        self.settings == *settings && self.dialer.as_ref().map(Arc::as_ptr) == dialer.as_ref().map(Arc::as_ptr)
    }

    /// Whether `other`, which may be the same link after a reload, is dialled in the same way.
    pub fn is_dialled_like(&self, other: &Link) -> bool {
        self.dialer.as_ref().map(Arc::as_ptr) == other.dialer.as_ref().map(Arc::as_ptr)
    }

    /// Its outlet, which is down.
    pub fn outlet(settings: &LinkSettings) -> Outlet {
        let (encoding, bounds) = Link::outlet_settings(settings);
        Outlet::new(format!("link {}", settings.name), encoding, bounds)
    }

    /// How its outlet encodes messages, and the bounds of its queue.
    pub fn outlet_settings(settings: &LinkSettings) -> (Encoding, Bounds) {
        let queue = settings.queue;
        let bounds = Bounds {
            messages: queue.messages,
            bytes: queue.bytes,
            while_down: queue.when_full,
            while_slow: queue.when_slow,
        };
        let cork = Profile::of_link(settings, Duration::ZERO).cork;
        // What is posted has no answer that would have to find its way back.
        let audience = if settings.http.is_some() { Audience::Consumer } else { Audience::Remote };
        (Encoding { format: settings.format, audience, cork }, bounds)
    }

    /// The configuration has it no more. What waits for it may still be sent until then.
    pub fn remove(&self, outlet: &Outlet, until: Instant) {
        // It is removed once: a link of the same name that comes later is another one.
        let _ = self.end.removed.set(until);
        outlet.leave(until);
    }

    /// Whether the configuration has it no more.
    pub fn is_removed(&self) -> bool {
        self.end.removed.get().is_some()
    }

    /// Whether it was removed, and the time for what waited is over.
    pub fn is_out_of_time(&self) -> bool {
        self.end.removed.get().is_some_and(|until| Instant::now() >= *until)
    }

    /// How long it has for what waited, if it was removed.
    pub fn time_left(&self) -> Option<Duration> {
        self.end.removed.get().map(|until| until.saturating_duration_since(Instant::now()))
    }

    /// Whether it is connected, or its HTTP server takes messages.
    pub fn is_up(&self) -> bool {
        self.counters.traffic.lock().is_up()
    }

    /// Whether goodbye was said.
    pub fn is_over(&self) -> bool {
        self.end.is_over.load(Ordering::SeqCst)
    }

    /// Has it dial at once: a wait for the next attempt ends, one that is given up begins again, and a connection is closed
    /// with 1000 and replaced. Says whether it will: not once goodbye was said, and not without a descriptor for it.
    pub fn redial(&self) -> bool {
        if self.is_over() || !self.end.wake() {
            return false;
        }
        self.upstream.current().iter().for_each(|outbox| outbox.close(Some(1000), "Redial"));
        true
    }

    /// What ends a wait for the next attempt: `stop`, and whoever asks for a dial.
    pub fn until_redial(&self, stop: CancelToken) -> CancelToken {
        self.end.redial.iter().fold(stop, |token, redial| token.until_readable(Arc::clone(redial) as _))
    }

    /// The dial that was asked for is about to be made.
    pub fn redials(&self) {
        if let Some(redial) = &self.end.redial {
            // It fails only when nobody has asked.
            let _ = rustix::io::read(redial, &mut [0; 8]);
        }
    }

    /// It is dialled no more, unless somebody asks for it: what waits for it is dropped and counted, and so is what comes.
    /// `more` are messages that its thread has.
    pub fn give_up(&self, outlet: &Outlet, more: usize) {
        outlet.close(self.upstream.end() + more);
    }

    /// It is dialled after all.
    pub fn begin_again(&self, outlet: &Outlet) {
        self.end.last_failure.lock().iter_mut().for_each(|failure| failure.is_given_up = false);
        self.upstream.begin_again();
        outlet.open();
    }

    /// Keeps why it is not connected.
    pub fn failed(&self, failure: LastFailure) {
        *self.end.last_failure.lock() = Some(failure);
    }

    /// Why it was not connected for the last time.
    pub fn last_failure(&self) -> Option<LastFailure> {
        self.end.last_failure.lock().clone()
    }

    /// Says goodbye to the remote, if there is one and all was sent; else ends the connection at once.
    pub fn say_goodbye(&self, all_sent: bool) {
        // First: a connection that comes about right now is not seen here, but sees this.
        self.end.is_over.store(true, Ordering::SeqCst);
        if self.settings.http.is_some() {
            // A request that is on its way ends.
            self.end.wake();
        }
        match self.upstream.current() {
            Some(outbox) if all_sent => outbox.close(Some(1001), GOODBYE),
            Some(outbox) if self.is_removed() => outbox.abort("the link was removed"),
            Some(outbox) => outbox.abort("the gateway has stopped"),
            None => {}
        }
    }

    /// A connection has come about: if goodbye was said before anybody could hear it, it is said now.
    pub fn repeat_goodbye(&self, outbox: &Arc<Outbox>) {
        if self.is_over() {
            outbox.close(Some(1001), GOODBYE);
        }
    }
}

impl LinkCounters {
    /// A connection has come about.
    pub fn connected(&self, peer: &Arc<Peer>, undelivered: &Arc<Undelivered>) {
        self.connects.fetch_add(1, Ordering::Relaxed);
        self.traffic.lock().begin(peer, undelivered);
    }

    /// A connection to an HTTP server has come about.
    pub fn opened(&self) {
        self.connects.fetch_add(1, Ordering::Relaxed);
    }

    /// From now on an HTTP server takes messages, or does not.
    pub fn set_posting(&self, is_posting: bool) {
        self.traffic.lock().set_posting(is_posting);
    }

    /// An HTTP server has taken so many messages, in a body of so many bytes.
    pub fn count_posted(&self, messages: u64, bytes: u64) {
        self.traffic.lock().add_sent(messages, bytes);
    }

    /// An HTTP server has refused so many messages for themselves.
    pub fn count_refused(&self, messages: u64) {
        self.refused.fetch_add(messages, Ordering::Relaxed);
    }

    /// How many messages were refused for themselves.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// An attempt to connect has failed.
    pub fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection has ended, and counts nothing any more. Returns what it has sent and received.
    pub fn disconnected(&self) -> Traffic {
        self.traffic.lock().end()
    }

    /// How many connections have come about.
    pub fn connects(&self) -> u64 {
        self.connects.load(Ordering::Relaxed)
    }

    /// How many attempts to connect have failed.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Whether it is connected, and what all its connections have sent and received until now.
    pub fn traffic(&self) -> (bool, Traffic) {
        let traffic = self.traffic.lock();
        (traffic.is_up(), traffic.traffic())
    }

    /// Says what came together, when the gateway stops.
    pub fn log(&self, outlet: &Outlet) {
        let (_, Traffic { received, sent, undelivered }) = self.traffic();
        info!(
            link = outlet.link_name();
            "{outlet}: since the start {} connections, {} failed attempts; {} messages received ({} unroutable), {} sent, {} dropped; \
             {} events dropped",
            self.connects(),
            self.failures(),
            received.messages,
            undelivered.unroutable,
            sent.messages,
            outlet.dropped(),
            self.events_dropped.load(Ordering::Relaxed),
        );
    }
}

impl Default for LinkCounters {
    fn default() -> LinkCounters {
        LinkCounters {
            connects: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            traffic: Mutex::default(),
            round_trips: round_trips(),
            events_dropped: AtomicU64::new(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::connection::frame::{Frame, Role};
    use crate::connection::poller::Poller;
    use crate::connection::socket::Socket;
    use crate::message::{Kind, Message};

    fn link() -> Link {
        let text = "[[link]]\nname = \"up\"\nurl = \"ws://localhost/\"";
        let settings = crate::config::parse(text, "test.toml", ".".as_ref()).unwrap();
        Link::new(LinkId(0), settings.links[0].clone(), None, Duration::from_secs(5))
    }

    fn connect(link: &Link) -> (Arc<Outbox>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (clock, poller) = (Arc::default(), Arc::new(Poller::new().unwrap()));
        let limits = link.profile.limits;
        let outbox = Outbox::new(1.into(), Role::Client, Socket::new(ours), None, limits, clock, poller);
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
