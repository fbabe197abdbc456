//! Who is here: every client by its id.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::auth::allow::Rights;
use crate::connection::outbox::{Outbox, Status};
use crate::connection::peer::Peer;
use crate::format;
use crate::id::Id;
use crate::message::Origin;
use crate::route::{Routes, Target};
use crate::shared::address_places::Counted;
use crate::shared::endpoint::Endpoint;
use crate::shared::endpoint_counters::EndpointCounters;
use crate::shared::entrance::Entrance;
use crate::shared::places::Place;
use crate::shared::publisher::Publisher;
use crate::shared::rooms::LiveRoom;
use crate::shared::tap::Tappable;
use crate::shared::traffic::Traffic;
use crate::shared::undelivered::Undelivered;
use crate::sync::{Mutex, MutexGuard, Signal};

/// A client whose handshake is done.
#[derive(Debug)]
pub struct Client {
    /// The room it is in.
    pub room: Arc<LiveRoom>,
    /// How it publishes.
    pub publisher: Publisher,
    /// Its connection.
    pub peer: Arc<Peer>,
    /// Who it is, for the formats.
    pub origin: Origin,
    /// How it came in.
    pub entrance: Entrance,
    /// What it may do.
    pub rights: Rights,
    /// Whether it is here, for those that come later.
    pub presence: Arc<Presence>,
    /// Those of its endpoint.
    pub counters: Arc<EndpointCounters>,
    /// What of its messages has not gone where it was to go, because of what is in them.
    pub undelivered: Undelivered,
    /// Its 101 is ahead of whatever it is sent from now on, and its place in the room is fixed.
    pub begun: AtomicBool,
}

/// Whether a client is here: it was told of as connected, and not yet as disconnected.
#[derive(Debug, Default)]
pub struct Presence(AtomicBool);

impl Presence {
    /// From now on, before anybody is told that it is connected, or that it has gone.
    pub fn set(&self, is_here: bool) {
        self.0.store(is_here, Ordering::Release);
    }

    /// Whether it is here.
    pub fn is_here(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Client {
    /// Its id, which is its session too.
    pub fn id(&self) -> Id {
        self.peer.id()
    }

    /// It has begun: what is sent to it comes behind its 101.
    pub fn set_begun(&self) {
        self.begun.store(true, Ordering::Release);
    }

    /// Whether it has begun; before that nobody but its own thread may send it anything.
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// Where its messages go.
    pub fn targets(&self, routes: &Routes) -> Vec<Target> {
        let mut targets =
            routes.targets(&self.room.path, self.origin.identity.as_ref().map(|identity| &*identity.name));
        targets.retain(|target| self.rights.receive || *target != Target::Reply);
        targets
    }

    /// Describes it to those who get its messages, if its endpoint has come to do so since it connected. What its request asked
    /// for behind the path is not known any more.
    pub fn describe(&self, endpoint: &Endpoint) {
        if endpoint.describes {
            let room = &self.room.path;
            let describe = || format::describe(&room.to_string(), room.parameters(&endpoint.settings.path), None);
            self.origin.description.get_or_init(describe);
        }
    }

    /// Ends its connection: it has sent a message, and must not.
    pub fn close_for_sending(&self) {
        self.outbox().close(Some(1008), "Sending is not allowed");
    }

    /// What it has sent and received so far, and what waits for it.
    pub fn traffic(&self) -> (Traffic, Status) {
        let status = self.outbox().status();
        let (received, undelivered) = (self.peer.received(), self.undelivered.counts());
        (Traffic { received, sent: status.totals, undelivered }, status)
    }

    /// As operators are shown its messages.
    pub fn tappable(&self) -> Tappable<'_> {
        let identity = self.origin.identity.as_ref().map(|identity| &*identity.name);
        Tappable { id: self.id(), endpoint: &self.counters.path, room: &self.room.path, identity }
    }

    /// What it has yet to get.
    pub fn outbox(&self) -> &Arc<Outbox> {
        &self.peer.outbox
    }
}

/// All clients. An entry lives as long as its [`Registration`], which only the client's own thread holds.
#[derive(Debug, Default)]
pub struct Registry {
    state: Mutex<Clients>,
    emptied: Signal,
}

#[derive(Debug, Default)]
struct Clients {
    clients: HashMap<Id, Arc<Client>>,
    /// Nobody is let in any more.
    closed: bool,
}

/// A client's place in the registry; dropping it, also by a panic, leaves.
#[derive(Debug)]
pub struct Registration {
    registry: Arc<Registry>,
    client: Arc<Client>,
    /// Held for as long as the client counts: in the gateway, for its address, and on its endpoint.
    _connection: Counted,
    place: Place,
}

impl Registry {
    /// Enters a client, unless the registry is closed. Whoever was let in before it closed is there
    /// to be waited for.
    pub fn register(self: &Arc<Self>, client: Arc<Client>, connection: Counted, place: Place) -> Option<Registration> {
        let mut state = self.lock();
        if state.closed {
            return None;
        }
        client.counters.count_connected();
        state.clients.insert(client.id(), Arc::clone(&client));
        Some(Registration { registry: Arc::clone(self), client, _connection: connection, place })
    }

    /// Lets nobody in any more.
    pub fn close(&self) {
        self.lock().closed = true;
    }

    /// The client of this id, if it is here.
    pub fn find(&self, id: Id) -> Option<Arc<Client>> {
        self.lock().clients.get(&id).map(Arc::clone)
    }

    /// How many are here.
    pub fn len(&self) -> usize {
        self.lock().clients.len()
    }

    /// Whether nobody is here.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until nobody is here, but not beyond the deadline; says how many are left.
    pub fn wait_empty(&self, deadline: Instant) -> usize {
        let mut state = self.lock();
        while !state.clients.is_empty() {
            let Some(changed) = self.emptied.wait_until(state, Some(deadline)) else { return self.len() };
            state = changed;
        }
        0
    }

    /// The ids of those clients that are here now and `is_meant`, which must not wait nor use a lock.
    pub fn ids(&self, is_meant: impl Fn(&Client) -> bool) -> Vec<Id> {
        self.lock().clients.values().filter(|client| is_meant(client)).map(|client| client.id()).collect()
    }

    /// Every client that is here now.
    pub fn all(&self) -> Vec<Arc<Client>> {
        self.all_and(|| ()).0
    }

    /// Every client that is here now, and what `also` says of the others at the same moment: it must not wait. A client
    /// that leaves is either here or in the counters of its endpoint.
    pub fn all_and<T>(&self, also: impl FnOnce() -> T) -> (Vec<Arc<Client>>, T) {
        let state = self.lock();
        let also = also();
        (state.clients.values().map(Arc::clone).collect(), also)
    }

    fn lock(&self) -> MutexGuard<'_, Clients> {
        self.state.lock()
    }
}

impl Registration {
    /// The client.
    pub fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// Its place on its endpoint.
    pub fn place(&self) -> &Place {
        &self.place
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // Its thread is this one, and its outbox is finished: it counts nothing any more.
        let (traffic, _) = self.client.traffic();
        let mut state = self.registry.lock();
        self.client.counters.add_left(traffic);
        state.clients.remove(&self.client.id());
        if state.clients.is_empty() {
            self.registry.emptied.notify_all();
        }
    }
}
