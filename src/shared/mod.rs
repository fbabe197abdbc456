//! What all threads of one gateway share. There is nothing global: two gateways in one process
//! would not know of each other.

pub mod address_places;
pub mod addresses;
pub mod auth_failures;
pub mod counters;
pub mod counts;
pub mod credit;
pub mod drain;
pub mod endpoint;
pub mod endpoint_counters;
pub mod entrance;
pub mod failures;
pub mod fanout;
pub mod generation;
pub mod handshake_failures;
pub mod handshakes;
pub mod identities;
pub mod link;
pub mod listening;
pub mod members;
pub mod memory;
pub mod outlet;
pub mod places;
pub mod post_rates;
pub mod posts;
pub mod profile;
pub mod publisher;
pub mod readiness;
pub mod receipt;
pub mod refused;
pub mod registry;
pub mod rooms;
pub mod send_queue;
pub mod sending;
pub mod store;
pub mod store_queue;
pub mod summary;
pub mod tap;
pub mod timers;
pub mod traffic;
pub mod turn;
pub mod undelivered;
pub mod visit;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use log::info;
use serde_json::Map;

use crate::auth::allow::{self, Rights};
use crate::clock::Clock;
use crate::config::{EndpointSettings, GatewaySettings, Settings, StoreId};
use crate::connection::buffer_pool::BufferPool;
use crate::connection::frame::Frame;
use crate::connection::outbox::Outbox;
use crate::connection::peer::{BlockedOn, Name, Peer};
use crate::connection::poller::Poller;
use crate::connection::socket::Socket;
use crate::connection::tls::Session;
use crate::dial::CancelToken;
use crate::histogram::Histogram;
use crate::id::{Id, Mark};
use crate::identity::Identity;
use crate::log_kind::DISCONNECTS;
use crate::permits::{Permit, Semaphore};
use crate::route::{OutletId, Place};
use crate::shared::address_places::AddressPlaces;
use crate::shared::addresses::Door;
use crate::shared::counters::Counters;
use crate::shared::credit::Budget;
use crate::shared::endpoint::Endpoint;
use crate::shared::entrance::Withdrawn;
use crate::shared::failures::Failures;
use crate::shared::generation::{Generation, InForce, Parts};
use crate::shared::handshakes::Handshakes;
use crate::shared::link::Link;
use crate::shared::members::Step;
use crate::shared::posts::Posts;
use crate::shared::profile::Profile;
use crate::shared::publisher::Publisher;
use crate::shared::readiness::{Life, Readiness, Stage};
use crate::shared::refused::Refused;
use crate::shared::registry::{Client, Registry};
use crate::shared::rooms::{Item, LiveRoom, Rooms};
use crate::shared::sending::Sending;
use crate::shared::store::Standing;
use crate::shared::tap::Tap;
use crate::shared::timers::TimerQueue;
use crate::shared::visit::Visit;
use crate::system::machine;

/// How many refused connections are kept open for a moment so that their peers can read why. More
/// are closed at once, and may lose the answer.
const LINGERING_MAX: usize = 64;

/// The shared state of a running gateway.
#[derive(Debug)]
pub struct Shared {
    /// What its ids end with.
    pub mark: Mark,
    /// What the configuration makes of it.
    in_force: InForce,
    /// Who is here.
    pub registry: Arc<Registry>,
    /// All connections that were accepted, until their thread ends.
    pub connections: Arc<Semaphore>,
    /// What each address has of them.
    pub address_places: Arc<AddressPlaces>,
    /// How many were refused because of a limit.
    pub refused: Refused,
    /// What the gateway as a whole has counted.
    pub counters: Counters,
    /// Which addresses have sent wrong credentials.
    pub failures: Failures,
    /// Whether the process has more memory than it may.
    pub is_short_of_memory: AtomicBool,
    /// Those whose handshake is not done.
    pub handshakes: Arc<Handshakes>,
    /// Those that post over HTTP.
    pub posts: Posts,
    /// Where clients are, and the way to the broadcaster.
    pub rooms: Arc<Rooms>,
    /// What all senders may have on its way to rooms.
    pub budget: Arc<Budget>,
    /// What operators are shown of what clients send.
    pub tap: Tap,
    /// How events are published.
    pub events: Publisher,
    /// Stalled and closing outboxes.
    pub poller: Arc<Poller>,
    /// The coarse clock.
    pub clock: Arc<Clock>,
    /// Which peer the heartbeat visits when.
    pub visits: TimerQueue<Visit>,
    /// Large read buffers, lent.
    pub buffers: BufferPool,
    /// Connections that were refused without a thread, until they are closed.
    pub lingering: TimerQueue<(Arc<Socket>, Permit)>,
    /// How many of them there may be.
    pub lingering_permits: Arc<Semaphore>,
    life: Life,
    stop: Arc<OwnedFd>,
}

impl Shared {
    /// The state of a gateway that is about to start.
    ///
    /// `stop` becomes readable when the gateway stops.
    pub fn new(settings: Settings, parts: Parts, rooms: Arc<Rooms>, poller: Arc<Poller>, stop: Arc<OwnedFd>) -> Shared {
        let budget = Arc::default();
        Shared {
            mark: Mark::of(&settings.name(&machine::identity())),
            registry: Arc::default(),
            connections: Semaphore::new(settings.gateway.max_connections),
            address_places: AddressPlaces::new(settings.gateway.max_address_connections, settings.gateway.address_rate),
            refused: Refused::default(),
            counters: Counters::new(),
            failures: Failures::new(settings.gateway.failed_credentials),
            is_short_of_memory: AtomicBool::new(false),
            handshakes: Handshakes::new(settings.gateway.max_handshakes),
            posts: Posts::new(settings.gateway.max_connections),
            rooms,
            tap: Tap::default(),
            events: Publisher::of_events(&budget),
            budget,
            poller,
            clock: Arc::default(),
            visits: TimerQueue::new(),
            buffers: BufferPool::default(),
            lingering: TimerQueue::new(),
            lingering_permits: Semaphore::new(LINGERING_MAX),
            life: Life::default(),
            stop,
            in_force: InForce::new(Generation::first(settings, parts)),
        }
    }

    /// What the configuration makes of the gateway now. Whoever may wait for long must not keep it meanwhile: it would
    /// stay in memory.
    pub fn generation(&self) -> Arc<Generation> {
        self.in_force.get()
    }

    /// The same, if it is another one than that of this `number`; that it is not costs one load.
    #[inline]
    pub fn newer_generation(&self, number: u64) -> Option<Arc<Generation>> {
        self.in_force.newer(number)
    }

    /// Whether the gateway has been told to stop.
    pub fn is_stopping(&self) -> bool {
        self.life.is_at_least(Stage::Stopping)
    }

    /// Where the gateway is in its life.
    pub fn stage(&self) -> Stage {
        self.life.stage()
    }

    /// From now on clients are welcome: all threads run.
    pub fn set_started(&self) {
        self.life.advance(Stage::Running);
    }

    /// Whether load balancers should send clients here, and why not.
    pub fn readiness(&self) -> Readiness {
        let generation = self.generation();
        let required = generation.links.values().filter(|link| link.settings.required);
        let down = required.filter(|link| !link.is_up());
        let stores = generation.stores.values().map(|store| (Arc::clone(&store.live.name), store.live.standing()));
        let unfit = stores.filter(|(_, standing)| *standing != Standing::Open);
        Readiness::of(
            self.stage(),
            down.map(|link| Arc::clone(&link.name)),
            unfit.map(|(name, standing)| (name, standing.word())),
        )
    }

    /// The endpoint of a client that is here.
    pub fn endpoint_of(&self, client: &Client) -> Arc<Endpoint> {
        Arc::clone(self.generation().endpoint(client.room.endpoint()))
    }

    /// Whether nobody is let in any more.
    pub fn lets_nobody_in(&self) -> bool {
        self.life.is_at_least(Stage::Draining)
    }

    /// From now on nobody is let in, and who is there stays for now.
    pub fn begin_draining(&self) {
        self.life.advance(Stage::Draining);
        self.registry.close();
        self.posts.end_idle();
    }

    /// From now on nobody is let in.
    pub fn begin_stopping(&self) {
        self.life.advance(Stage::Stopping);
        self.registry.close();
        self.posts.end();
        // It fails only when it was done before.
        let _ = rustix::io::write(&self.stop, &1u64.to_ne_bytes());
    }

    /// Closes a client with 1008 if it would not be let in any more, or with 1001 if its endpoint or listener is gone, and says
    /// whether it has closed it with 1008. `judged` is the generation by which it was let in, or which held until now.
    pub fn close_if_withdrawn(&self, client: &Client, judged: &Generation) -> bool {
        let generation = self.generation();
        let id = client.room.endpoint();
        let door = generation.door(client.entrance.listener());
        let here =
            door.zip(generation.endpoints.get(id)).filter(|(door, endpoint)| endpoint.settings.is_on(&door.settings));
        let Some((door, endpoint)) = here else {
            // Behind what was published for it.
            client
                .room
                .push(Item::Step(Step::Close(Arc::clone(client.outbox()), 1001, "Endpoint removed".into()), None));
            return false;
        };
        let before = judged.known_endpoint(id).unwrap_or(endpoint);
        let Err(why) = check_access(client, &generation, (door, endpoint), &before.settings) else { return false };
        info!(target: DISCONNECTS, client:% = client.id(); "client {}: its access was withdrawn: {why}", client.id());
        client.outbox().close(Some(1008), "Access withdrawn");
        true
    }

    /// Puts the next generation in force. Everybody who is here is judged by it, and those are closed who would not be let in
    /// any more; returns how many that are whose access was withdrawn.
    pub fn replace_generation(&self, next: Arc<Generation>) -> usize {
        let before = self.generation();
        self.hold_to(&next.gateway);
        next.endpoints.values().for_each(|endpoint| endpoint.limit_places());
        for (id, link) in next.links.iter() {
            if before.links.get(id).is_some_and(|old| !Arc::ptr_eq(old, link)) {
                let (encoding, bounds) = Link::outlet_settings(&link.settings);
                next.outlets[link.outlet].change(encoding, bounds);
            }
        }
        for (id, store) in next.stores.iter() {
            if before.stores.get(id).is_some_and(|old| !Arc::ptr_eq(old, store)) {
                store.live.queue.set_bounds(store.settings.queue);
            }
        }
        self.in_force.replace(Arc::clone(&next));
        self.visits.all().iter_mut().for_each(|visit| visit.take_up(&next));
        self.registry.all().iter().filter(|client| self.close_if_withdrawn(client, &before)).count()
    }

    /// From now on these are the limits of the whole process. Nobody who is here is thrown out for one.
    fn hold_to(&self, settings: &GatewaySettings) {
        self.connections.set_limit(settings.max_connections);
        self.address_places.set_limits(settings.max_address_connections, settings.address_rate);
        self.failures.set_limit(settings.failed_credentials);
        self.handshakes.set_limit(settings.max_handshakes);
    }

    /// What ends a dial, or a wait for the next one, when the gateway stops.
    pub fn until_stop(&self) -> CancelToken {
        CancelToken::default().until_readable(Arc::clone(&self.stop) as _)
    }

    /// Makes a peer of a connection whose handshake is done, for which the settings of an endpoint or a link may hold, as the
    /// generation of this number has them. The heartbeat visits it from now on. Its `round_trips` are
    /// counted there, if at all.
    pub fn add_peer(
        &self,
        name: Name,
        id: Id,
        (socket, session): (Socket, Option<Session>),
        profile: &Profile,
        of: Option<(Place, u64)>,
        round_trips: Option<&Arc<Histogram>>,
    ) -> Arc<Peer> {
        if let Some(timeout) = profile.write_timeout {
            socket.set_user_timeout(timeout);
        }
        let (clock, poller) = (Arc::clone(&self.clock), Arc::clone(&self.poller));
        let outbox = Arc::new(Outbox::new(id, name.role(), socket, session, profile.limits, clock, poller));
        let now = self.clock.now();
        let peer = Arc::new(Peer::new(name, outbox, profile.keepalive, now).counting(round_trips));
        self.visits.add_at(now + 1, Visit::new(&peer, of));
        peer
    }

    /// Publishes a frame for a sender, in its own thread, which waits while it has no credit; gives up when the sender
    /// does.
    pub fn publish(
        &self,
        by: Sending<'_>,
        publisher: &Publisher,
        room: &Arc<LiveRoom>,
        except: Option<Id>,
        frame: &Frame,
    ) {
        if !publisher.try_publish(room, except, frame) {
            let wait = || publisher.publish(room, except, frame, || by.gives_up());
            if !by.while_blocked_on(BlockedOn::Broadcaster, wait) {
                by.note_refused(BlockedOn::Broadcaster);
            }
        }
    }

    /// As [`publish`](Shared::publish), for a step.
    pub fn step(&self, by: Sending<'_>, publisher: &Publisher, room: &Arc<LiveRoom>, step: Step) {
        if let Err(step) = publisher.try_step(room, step) {
            let wait = || publisher.step(room, step, || by.gives_up());
            if !by.while_blocked_on(BlockedOn::Broadcaster, wait) {
                by.note_refused(BlockedOn::Broadcaster);
            }
        }
    }

    /// What a thread is blocked on, for people.
    pub fn name_of(&self, blocked: BlockedOn) -> String {
        match blocked {
            BlockedOn::Broadcaster => "the broadcaster".to_owned(),
            BlockedOn::Outbox => "its own outbox".to_owned(),
            BlockedOn::Relay => "the other side of its relay".to_owned(),
            BlockedOn::Rate => "its rate".to_owned(),
            BlockedOn::Store(number) => {
                let stores = &self.generation().stores;
                stores.get(StoreId(number as usize)).map(|store| store.live.to_string()).unwrap_or_default()
            }
            BlockedOn::Outlet(number) => {
                self.generation().outlets.get(OutletId::numbered(number)).map(ToString::to_string).unwrap_or_default()
            }
        }
    }
}

/// Whether a client would still be let in, as far as a reload can change that. `before` are the settings of its endpoint by
/// which it was judged.
fn check_access(
    client: &Client,
    generation: &Generation,
    (door, endpoint): (&Door, &Endpoint),
    before: &EndpointSettings,
) -> Result<(), Withdrawn> {
    let settings = &endpoint.settings;
    let identity = client.origin.identity.as_ref();
    let is_taken = |identity: &Identity| settings.auth.iter().any(|id| id.0 == identity.proof.auth);
    if !settings.auth.is_empty() && !identity.is_some_and(|identity| is_taken(identity)) {
        return Err(Withdrawn::Auth);
    }
    if identity.is_some_and(|identity| is_taken(identity) && !generation.auths.holds(identity)) {
        return Err(Withdrawn::Credential);
    }
    // What its credential says is not kept, so it has to show it again where that may count.
    if settings.allow != before.allow && identity.is_some() && rights(client, settings) != Some(client.rights) {
        return Err(Withdrawn::Rights);
    }
    client.entrance.check(door, client.origin.client_ip, &endpoint.addresses)
}

/// What a client may do by the rules of its endpoint; `None` if nothing, or if that depends on what its credential says.
fn rights(client: &Client, settings: &EndpointSettings) -> Option<Rights> {
    let Some(rules) = &settings.allow else { return Some(Rights::ALL) };
    let name = &client.origin.identity.as_ref()?.name;
    let is_plain = rules.iter().all(|rule| rule.claims.is_empty());
    is_plain.then(|| allow::decide(rules, name, &Map::new(), &client.room.path.to_string())).flatten()
}
