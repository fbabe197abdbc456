//! What all threads of one gateway share. There is nothing global: two gateways in one process
//! would not know of each other.

pub mod address_places;
pub mod addresses;
pub mod credit;
pub mod entrance;
pub mod failures;
pub mod fanout;
pub mod handshakes;
pub mod identities;
pub mod link;
pub mod members;
pub mod memory;
pub mod outlet;
pub mod places;
pub mod profile;
pub mod publisher;
pub mod refused;
pub mod registry;
pub mod rooms;
pub mod send_queue;
pub mod timers;
pub mod turn;

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use log::info;

use crate::authenticators::Auths;
use crate::clock::Clock;
use crate::config::{Destination, EndpointSettings, Format, LinkId, Settings};
use crate::connection::buffer_pool::BufferPool;
use crate::connection::frame::Frame;
use crate::connection::outbox::Outbox;
use crate::connection::peer::{BlockedOn, Name, Peer};
use crate::connection::poller::Poller;
use crate::connection::socket::Socket;
use crate::connection::tls::Session;
use crate::dial::{CancelToken, Dialer};
use crate::id::{Id, Mark};
use crate::log_kind::DISCONNECTS;
use crate::permits::{Permit, Semaphore};
use crate::route::Routes;
use crate::shared::address_places::AddressPlaces;
use crate::shared::addresses::{Door, LiveRules};
use crate::shared::credit::Budget;
use crate::shared::entrance::Withdrawn;
use crate::shared::failures::Failures;
use crate::shared::handshakes::Handshakes;
use crate::shared::link::Link;
use crate::shared::members::Step;
use crate::shared::outlet::Outlets;
use crate::shared::places::Places;
use crate::shared::profile::Profile;
use crate::shared::publisher::Publisher;
use crate::shared::refused::Refused;
use crate::shared::registry::{Client, Registry};
use crate::shared::rooms::{LiveRoom, Rooms};
use crate::shared::timers::TimerQueue;
use crate::system::machine;

/// How many refused connections are kept open for a moment so that their peers can read why. More
/// are closed at once, and may lose the answer.
const LINGERING_MAX: usize = 64;

/// The shared state of a running gateway.
#[derive(Debug)]
pub struct Shared {
    /// What it runs on.
    pub settings: Settings,
    /// What its ids end with.
    pub mark: Mark,
    /// Which path leads where.
    pub routes: Routes,
    /// The endpoints, in the order of the settings.
    pub endpoints: Vec<Endpoint>,
    /// How clients are authenticated, in the order of the settings.
    pub auths: Auths,
    /// What the listeners know of addresses, in the order of the settings.
    pub doors: Vec<Arc<Door>>,
    /// The links, in the order of the settings.
    pub links: Vec<Link>,
    /// What routes can send to besides rooms.
    pub outlets: Outlets,
    /// Who is here.
    pub registry: Arc<Registry>,
    /// All connections that were accepted, until their thread ends.
    pub connections: Arc<Semaphore>,
    /// What each address has of them.
    pub address_places: Arc<AddressPlaces>,
    /// How many were refused before they had a thread.
    pub refused: Refused,
    /// Which addresses have sent wrong credentials.
    pub failures: Failures,
    /// Whether the process has more memory than it may.
    pub is_short_of_memory: AtomicBool,
    /// Those whose handshake is not done.
    pub handshakes: Arc<Handshakes>,
    /// Where clients are, and the way to the broadcaster.
    pub rooms: Arc<Rooms>,
    /// What all senders may have on its way to rooms.
    pub budget: Arc<Budget>,
    /// How events are published.
    pub events: Publisher,
    /// Stalled and closing outboxes.
    pub poller: Arc<Poller>,
    /// The coarse clock.
    pub clock: Arc<Clock>,
    /// Which peer the heartbeat visits when. A timer keeps nobody here: a peer that has left gives its descriptor back
    /// at once.
    pub visits: TimerQueue<Weak<Peer>>,
    /// Large read buffers, lent.
    pub buffers: BufferPool,
    /// Connections that were refused without a thread, until they are closed.
    pub lingering: TimerQueue<(Arc<Socket>, Permit)>,
    /// How many of them there may be.
    pub lingering_permits: Arc<Semaphore>,
    stopping: AtomicBool,
    stop: Arc<OwnedFd>,
}

/// An endpoint while it runs.
#[derive(Debug)]
pub struct Endpoint {
    pub settings: EndpointSettings,
    /// Which addresses may come in.
    pub addresses: LiveRules,
    /// The places for its clients.
    pub places: Arc<Places>,
    /// Those for clients that still wait for their server, where a relay's new client can replace an old one: it does so
    /// only once its server has let it in, or whoever knows a path could throw out its client without a password.
    pub waiting: Option<Arc<Places>>,
    /// Whether its clients are described to their destinations: one of them is elsewhere and takes more than payloads.
    pub describes: bool,
    /// What holds for their connections.
    pub profile: Profile,
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
        auths: Auths,
        dialers: Vec<Option<Dialer>>,
        rooms: Arc<Rooms>,
        poller: Arc<Poller>,
        stop: Arc<OwnedFd>,
    ) -> Shared {
        let close_timeout = settings.gateway.close_timeout;
        let endpoints = settings.endpoints.iter().zip(dialers);
        let links = settings.links.iter().enumerate();
        let budget = Arc::default();
        Shared {
            routes: Routes::new(&settings.endpoints, &settings.links),
            endpoints: endpoints
                .map(|(endpoint, dialer)| {
                    Endpoint::new(endpoint, dialer, close_timeout, describes(endpoint, &settings))
                })
                .collect(),
            auths,
            doors: settings.listeners.iter().map(|listener| Arc::new(Door::new(listener))).collect(),
            links: links.map(|(index, link)| Link::new(LinkId(index), link, close_timeout)).collect(),
            outlets: Outlets::new(settings.links.iter().map(Link::outlet)),
            registry: Arc::default(),
            connections: Semaphore::new(settings.gateway.max_connections),
            address_places: AddressPlaces::new(settings.gateway.max_address_connections, settings.gateway.address_rate),
            refused: Refused::default(),
            failures: Failures::new(settings.gateway.failed_credentials),
            is_short_of_memory: AtomicBool::new(false),
            handshakes: Handshakes::new(settings.gateway.max_handshakes),
            rooms,
            events: Publisher::of_events(&budget),
            budget,
            poller,
            clock: Arc::default(),
            visits: TimerQueue::new(),
            buffers: BufferPool::default(),
            lingering: TimerQueue::new(),
            lingering_permits: Semaphore::new(LINGERING_MAX),
            stopping: AtomicBool::new(false),
            stop,
            mark: Mark::of(&settings.name(&machine::identity())),
            settings,
        }
    }

    /// Whether the gateway has been told to stop.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// What the listener of this name knows of addresses.
    pub fn door(&self, listener: &str) -> Arc<Door> {
        let at = self.settings.listeners.iter().position(|settings| settings.name == listener);
        Arc::clone(&self.doors[at.expect("it is one of ours")])
    }

    /// From now on nobody is let in.
    pub fn begin_stopping(&self) {
        self.stopping.store(true, Ordering::Release);
        self.registry.close();
        // It fails only when it was done before.
        let _ = rustix::io::write(&self.stop, &1u64.to_ne_bytes());
    }

    /// Closes a client with 1008 if it would not be let in any more, and says whether it has.
    pub fn close_if_withdrawn(&self, client: &Client) -> bool {
        let Err(why) = self.check_access(client) else { return false };
        info!(target: DISCONNECTS, "client {}: its access was withdrawn: {why}", client.id());
        client.outbox().close(Some(1008), "Access withdrawn");
        true
    }

    /// Whether a client would still be let in, as far as a reload can change that.
    fn check_access(&self, client: &Client) -> Result<(), Withdrawn> {
        if client.origin.identity.as_ref().is_some_and(|identity| !self.auths.holds(identity)) {
            return Err(Withdrawn::Credential);
        }
        client.entrance.check(client.origin.client_ip, &self.endpoints[client.room.endpoint()].addresses)
    }

    /// What ends a dial, or a wait for the next one, when the gateway stops.
    pub fn until_stop(&self) -> CancelToken {
        CancelToken::default().until_readable(Arc::clone(&self.stop) as _)
    }

    /// Makes a peer of a connection whose handshake is done. The heartbeat visits it from now on.
    pub fn add_peer(
        &self,
        name: Name,
        id: Id,
        socket: Socket,
        session: Option<Session>,
        profile: &Profile,
    ) -> Arc<Peer> {
        if let Some(timeout) = profile.write_timeout {
            socket.set_user_timeout(timeout);
        }
        let (clock, poller) = (Arc::clone(&self.clock), Arc::clone(&self.poller));
        let outbox = Arc::new(Outbox::new(id, name.role(), socket, session, profile.limits, clock, poller));
        let now = self.clock.now();
        let peer = Arc::new(Peer::new(name, outbox, profile.keepalive, now));
        self.visits.add_at(now + 1, Arc::downgrade(&peer));
        peer
    }

    /// Publishes a frame for a peer, in its own thread, which waits while it has no credit; gives up when the connection
    /// is ending.
    pub fn publish(&self, peer: &Peer, publisher: &Publisher, room: &Arc<LiveRoom>, except: Option<Id>, frame: &Frame) {
        if !publisher.try_publish(room, except, frame) {
            let wait = || publisher.publish(room, except, frame, || peer.outbox.is_closing());
            peer.while_blocked_on(BlockedOn::Broadcaster, wait);
        }
    }

    /// As [`publish`](Shared::publish), for a step.
    pub fn step(&self, peer: &Peer, publisher: &Publisher, room: &Arc<LiveRoom>, step: Step) {
        if let Err(step) = publisher.try_step(room, step) {
            let wait = || publisher.step(room, step, || peer.outbox.is_closing());
            peer.while_blocked_on(BlockedOn::Broadcaster, wait);
        }
    }

    /// What a thread is blocked on, for people.
    pub fn name_of(&self, blocked: BlockedOn) -> String {
        match blocked {
            BlockedOn::Broadcaster => "the broadcaster".to_owned(),
            BlockedOn::Outbox => "its own outbox".to_owned(),
            BlockedOn::Relay => "the other side of its relay".to_owned(),
            BlockedOn::Rate => "its rate".to_owned(),
            BlockedOn::Outlet(number) => self.outlets.numbered(number).map(ToString::to_string).unwrap_or_default(),
        }
    }
}

impl Endpoint {
    fn new(settings: &EndpointSettings, dialer: Option<Dialer>, close_timeout: Duration, describes: bool) -> Endpoint {
        Endpoint {
            dialer,
            describes,
            events_dropped: AtomicU64::new(0),
            addresses: LiveRules::new(&format!("endpoint '{}'", settings.path), &settings.addresses),
            places: Places::new(settings),
            waiting: (settings.relay.is_some() && settings.replaces()).then(|| Places::new(settings)),
            profile: Profile::of_endpoint(settings, close_timeout),
            settings: settings.clone(),
        }
    }
}

/// Whether messages of this endpoint's clients go to another place in a format that describes their sender.
fn describes(endpoint: &EndpointSettings, settings: &Settings) -> bool {
    endpoint.to.iter().any(|destination| match destination {
        Destination::Reply | Destination::Broadcast | Destination::Others => false,
        Destination::Endpoint { id, .. } | Destination::Picked { id, .. } => {
            settings.endpoints[*id].format != Format::Payload
        }
        Destination::Link(id) => settings.links[*id].format != Format::Payload,
    })
}
