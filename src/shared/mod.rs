//! What all threads of one gateway share. There is nothing global: two gateways in one process
//! would not know of each other.

pub mod link;
pub mod publisher;
pub mod registry;
pub mod send_queue;
pub mod timers;

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::clock::{self, Clock};
use crate::config::{EndpointSettings, Settings};
use crate::connection::buffer_pool::BufferPool;
use crate::connection::frame::CorkLimits;
use crate::connection::keepalive::Keepalive;
use crate::connection::outbox::Limits;
use crate::connection::peer::Peer;
use crate::connection::poller::Poller;
use crate::connection::socket::Socket;
use crate::dial::{self, Dialer};
use crate::permits::{Permit, Semaphore};
use crate::route::Routes;
use crate::shared::link::Link;
use crate::shared::publisher::Publisher;
use crate::shared::registry::Registry;
use crate::shared::timers::TimerQueue;

/// How many refused connections are kept open for a moment so that their peers can read why. More
/// are closed at once, and may lose the answer.
const LINGERING_MAX: usize = 64;

/// The shared state of a running gateway.
#[derive(Debug)]
pub struct Shared {
    /// What it runs on.
    pub settings: Settings,
    /// Which path leads where.
    pub routes: Routes,
    /// The endpoints, in the order of the settings.
    pub endpoints: Vec<Endpoint>,
    /// The links, in the order of the settings.
    pub links: Vec<Link>,
    /// Who is here.
    pub registry: Arc<Registry>,
    /// All connections that were accepted, until their thread ends.
    pub connections: Arc<Semaphore>,
    /// Those whose handshake is not done.
    pub handshakes: Arc<Semaphore>,
    /// The way to the broadcaster.
    pub publisher: Publisher,
    /// Stalled and closing outboxes.
    pub poller: Arc<Poller>,
    /// The coarse clock.
    pub clock: Arc<Clock>,
    /// Whom the heartbeat visits when. An appointment keeps nobody here: a peer that has left
    /// gives its descriptor back at once.
    pub visits: TimerQueue<Weak<Peer>>,
    /// Large read buffers, lent.
    pub buffers: BufferPool,
    /// Connections that were refused without a thread, until they are closed.
    pub lingering: TimerQueue<(Socket, Permit)>,
    /// How many of them there may be.
    pub lingering_permits: Arc<Semaphore>,
    stopping: AtomicBool,
    stop: Arc<OwnedFd>,
}

/// An endpoint while it runs: its settings in the units that the threads use.
#[derive(Debug)]
pub struct Endpoint {
    /// As configured.
    pub settings: EndpointSettings,
    /// Its clients.
    pub places: Arc<Semaphore>,
    /// The bounds of its clients' outboxes.
    pub limits: Limits,
    /// How much is joined into one frame for its clients.
    pub cork: CorkLimits,
    /// When its clients are visited and for what.
    pub keepalive: Keepalive,
    /// How to reach the server that its clients are relayed to, if they are.
    pub dialer: Option<Dialer>,
    /// Events of its clients for which a destination had no room.
    pub events_dropped: AtomicU64,
}

impl Shared {
    /// The state of a gateway that is about to start.
    ///
    /// `dialers` are those of the relays, one for each endpoint that is one. `stop` becomes readable when
    /// the gateway stops.
    pub fn new(
        settings: Settings,
        dialers: Vec<Option<Dialer>>,
        publisher: Publisher,
        poller: Arc<Poller>,
        stop: Arc<OwnedFd>,
    ) -> Shared {
        let close_timeout = settings.gateway.close_timeout;
        Shared {
            routes: Routes::new(&settings.endpoints, &settings.links),
            endpoints: settings
                .endpoints
                .iter()
                .zip(dialers)
                .map(|(endpoint, dialer)| Endpoint::new(endpoint, dialer, close_timeout))
                .collect(),
            links: settings.links.iter().map(|link| Link::new(link, close_timeout)).collect(),
            registry: Arc::default(),
            connections: Semaphore::new(settings.gateway.max_connections),
            handshakes: Semaphore::new(settings.gateway.max_handshakes),
            publisher,
            poller,
            clock: Arc::default(),
            visits: TimerQueue::new(),
            buffers: BufferPool::default(),
            lingering: TimerQueue::new(),
            lingering_permits: Semaphore::new(LINGERING_MAX),
            stopping: AtomicBool::new(false),
            stop,
            settings,
        }
    }

    /// Whether the gateway has been told to stop.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// From now on nobody is let in.
    pub fn begin_stopping(&self) {
        self.stopping.store(true, Ordering::Release);
        self.registry.close();
        // It fails only when it was done before.
        let _ = rustix::io::write(&self.stop, &1u64.to_ne_bytes());
    }

    /// What ends a dial, or a wait for the next one, when the gateway stops.
    pub fn until_stop(&self) -> dial::CancelToken {
        dial::CancelToken::default().until_readable(Arc::clone(&self.stop) as _)
    }
}

impl Endpoint {
    fn new(settings: &EndpointSettings, dialer: Option<Dialer>, close_timeout: Duration) -> Endpoint {
        Endpoint {
            dialer,
            events_dropped: AtomicU64::new(0),
            places: Semaphore::new(settings.max_connections),
            limits: Limits {
                queue: settings.queue,
                write_timeout: settings.write_timeout.map(clock::ticks),
                close_timeout: clock::ticks(close_timeout),
            },
            cork: CorkLimits::for_queue(settings.queue.messages, settings.queue.bytes),
            keepalive: Keepalive {
                heartbeat: settings.heartbeat.map(clock::ticks),
                pong_timeout: clock::ticks(settings.pong_timeout),
                message_timeout: settings.message_timeout.map(clock::ticks),
            },
            settings: settings.clone(),
        }
    }
}
