//! A generation: what a configuration makes of a gateway, as a whole and immutable. A reload puts another one in its place.
//!
//! Endpoints and links keep their ids from one generation to the next, so rooms, which know their endpoint by its id,
//! outlive them. What has not changed is the same object in both.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::authenticators::Auths;
use crate::config::{
    AdminSettings, AuthId, Destination, EndpointId, EndpointSettings, Format, GatewaySettings, LinkId, LinkSettings,
    ListenerSettings, Numbers, Settings, StoreId, StoreSettings,
};
use crate::dial::Dialer;
use crate::listener::Bound;
use crate::route::{OutletId, Place, Routes};
use crate::shared::addresses::Door;
use crate::shared::endpoint::Endpoint;
use crate::shared::link::Link;
use crate::shared::outlet::Outlet;
use crate::shared::profile::Profile;
use crate::shared::store::{Store, StoreFile};
use crate::sync::Mutex;
use crate::table::Table;

/// See the module's documentation.
#[derive(Debug)]
pub struct Generation {
    /// Larger than those of all before it.
    pub number: u64,
    /// What holds for the whole process.
    pub gateway: GatewaySettings,
    /// The listeners, in the order of the settings.
    pub doors: Vec<Arc<Door>>,
    /// Who is answered by the admin listener.
    pub admin: AdminSettings,
    /// The admin listener, if there is one.
    pub admin_door: Option<Arc<Door>>,
    /// Which path leads where.
    pub routes: Routes,
    /// The endpoints.
    pub endpoints: Table<EndpointId, Arc<Endpoint>>,
    /// Those that were removed, for as long as somebody of theirs is here.
    leaving: Table<EndpointId, Arc<Endpoint>>,
    /// How clients are authenticated.
    pub auths: Auths,
    /// The links.
    pub links: Table<LinkId, Arc<Link>>,
    /// What routes can send to besides rooms.
    pub outlets: Table<OutletId, Arc<Outlet>>,
    /// The files that keep messages.
    pub stores: Table<StoreId, Arc<Store>>,
    /// The numbers of the next endpoint, link, store and `[[auth]]` that are new: each is given once.
    next: [usize; 4],
}

/// What settings need besides themselves, read and set up.
#[derive(Debug, Default)]
pub struct Parts {
    /// How clients are authenticated, by the numbers that the settings have.
    pub auths: Auths,
    /// The listeners, in the order of the settings.
    pub doors: Vec<Arc<Door>>,
    /// The admin listener, if there is to be one.
    pub admin_door: Option<Arc<Door>>,
    /// The dialers of the endpoints that are relays; one entry for each endpoint.
    pub relays: Vec<Option<Arc<Dialer>>>,
    /// The dialers of the links; one entry for each link. `None` is never dialled.
    pub links: Vec<Option<Arc<Dialer>>>,
    /// The files of the stores that are new; one entry for each store.
    pub stores: Vec<Option<StoreFile>>,
}

impl Parts {
    /// Nothing: whatever these settings name is not there.
    pub fn bare(settings: &Settings) -> Parts {
        let door = |listener: &ListenerSettings| Arc::new(Door::new(Arc::new(listener.clone()), None, None));
        Parts {
            auths: Auths::default(),
            doors: settings.listeners.iter().map(door).collect(),
            admin_door: None,
            relays: vec![None; settings.endpoints.len()],
            links: vec![None; settings.links.len()],
            stores: settings.stores.iter().map(|_| None).collect(),
        }
    }
}

impl Generation {
    /// That of a gateway that is about to start.
    pub fn first(settings: Settings, parts: Parts) -> Generation {
        let nothing = Generation::nothing();
        let numbers = nothing.numbers(&settings);
        nothing.next(settings, &numbers, parts)
    }

    /// What is before the first one.
    pub fn nothing() -> Generation {
        Generation {
            number: 0,
            gateway: GatewaySettings::default(),
            admin: AdminSettings::default(),
            admin_door: None,
            doors: Vec::new(),
            routes: Routes::default(),
            endpoints: Table::default(),
            leaving: Table::default(),
            auths: Auths::default(),
            links: Table::default(),
            outlets: Table::default(),
            stores: Table::default(),
            next: [0; 4],
        }
    }

    /// The numbers that what the settings hold has in the next generation: an endpoint that of the one with the same shape of
    /// path and the same listeners, or else with the same shape if there is only one, but a relay never that of another
    /// endpoint, whose clients have no server; a link or an `[[auth]]` that of the one
    /// with the same name; a store that of the one with the same name and file.
    pub fn numbers(&self, settings: &Settings) -> Numbers {
        let [mut next_endpoint, mut next_link, mut next_store, mut next_auth] = self.next;
        let mut endpoints: Vec<Option<EndpointId>> = vec![None; settings.endpoints.len()];
        let known = || self.endpoints.iter().chain(self.leaving.iter());
        for is_exact in [true, false] {
            for (at, new) in settings.endpoints.iter().enumerate() {
                let is_like = |old: &EndpointSettings, new: &EndpointSettings| {
                    let is_same_kind = old.relay.is_some() == new.relay.is_some();
                    is_same_kind && old.path.same_shape(&new.path) && (!is_exact || old.listen == new.listen)
                };
                let mut fits =
                    known().filter(|(id, old)| !endpoints.contains(&Some(*id)) && is_like(&old.settings, new));
                let (found, another) = (fits.next().map(|(id, _)| id), fits.next().is_some());
                let rivals = settings.endpoints.iter().zip(&endpoints).filter(|(_, id)| id.is_none());
                let has_rival = rivals.filter(|(other, _)| other.path.same_shape(&new.path)).count() > 1;
                if endpoints[at].is_none() && (is_exact || !another && !has_rival) {
                    endpoints[at] = found;
                }
            }
        }
        Numbers {
            endpoints: endpoints
                .into_iter()
                .map(|id| id.unwrap_or_else(|| EndpointId(give(&mut next_endpoint))))
                .collect(),
            links: settings
                .links
                .iter()
                .map(|new| {
                    // What is dialled is no longer the same link where it is posted to from now on, or the other way round.
                    let is_same = |old: &LinkSettings| old.name == new.name && old.http.is_some() == new.http.is_some();
                    let same = self.links.iter().find(|(_, old)| is_same(&old.settings));
                    same.map_or_else(|| LinkId(give(&mut next_link)), |(id, _)| id)
                })
                .collect(),
            stores: settings
                .stores
                .iter()
                .map(|new| {
                    let same = self.stores.iter().find(|(_, old)| is_same_file(&old.settings, new));
                    same.map_or_else(|| StoreId(give(&mut next_store)), |(id, _)| id)
                })
                .collect(),
            auths: settings
                .auths
                .iter()
                .map(|new| {
                    let same = self.auths.iter().find(|(_, old)| old.settings.name == new.name);
                    same.map_or_else(|| AuthId(give(&mut next_auth)), |(id, _)| id)
                })
                .collect(),
        }
    }

    /// The generation after this one, of settings that have these numbers already. What has not changed is the same as here.
    pub fn next(&self, settings: Settings, numbers: &Numbers, parts: Parts) -> Generation {
        let Settings { gateway, endpoints, links, stores, admin, .. } = settings;
        let formats = Formats::of(numbers, &endpoints, &links);
        let close_timeout = gateway.close_timeout;
        let is_same_time = close_timeout == self.gateway.close_timeout;
        let endpoint = |((id, settings), dialer): ((EndpointId, EndpointSettings), Option<Arc<Dialer>>)| {
            let describes = formats.describe(&settings);
            let endpoint = match self.known_endpoint(id) {
                None => Arc::new(Endpoint::new(settings, dialer, close_timeout, describes)),
                Some(old) if is_same_time && old.is(&settings, &dialer, describes) => Arc::clone(old),
                Some(old) => Arc::new(old.changed(settings, dialer, close_timeout, describes)),
            };
            (id, endpoint)
        };
        let link = |((id, settings), dialer): ((LinkId, LinkSettings), Option<Arc<Dialer>>)| {
            let link = match self.links.get(id) {
                None => Arc::new(Link::new(id, settings, dialer, close_timeout)),
                Some(old) if is_same_time && old.is(&settings, &dialer) => Arc::clone(old),
                Some(old) => Arc::new(old.changed(settings, dialer, close_timeout)),
            };
            (id, link)
        };
        let store = |((id, settings), file)| (id, self.next_store(id, settings, file));
        let endpoints = numbers.endpoints.iter().copied().zip(endpoints).zip(parts.relays).map(endpoint);
        let endpoints: Table<EndpointId, _> = endpoints.collect();
        let links: Table<LinkId, _> = numbers.links.iter().copied().zip(links).zip(parts.links).map(link).collect();
        let removed = self.endpoints.iter().filter(|(id, _)| endpoints.get(*id).is_none());
        let leaving = self.leaving.iter().filter(|(id, old)| endpoints.get(*id).is_none() && old.has_somebody());
        let leaving: Table<_, _> = removed.chain(leaving).map(|(id, old)| (id, Arc::clone(old))).collect();
        let outlet = |link: &Arc<Link>| match self.outlets.get(link.outlet) {
            Some(old) => (link.outlet, Arc::clone(old)),
            None => (link.outlet, Arc::new(Link::outlet(&link.settings))),
        };
        let all = endpoints.iter().chain(leaving.iter()).map(|(id, endpoint)| (id, &endpoint.settings));
        let after = |last: Option<usize>, next: usize| last.map_or(next, |last| next.max(last + 1));
        Generation {
            number: self.number + 1,
            gateway,
            admin,
            admin_door: parts.admin_door,
            doors: parts.doors,
            routes: Routes::of(all, links.iter().map(|(id, link)| (id, &link.settings))),
            outlets: links.values().map(outlet).collect(),
            stores: numbers.stores.iter().copied().zip(stores).zip(parts.stores).map(store).collect(),
            next: [
                after(numbers.endpoints.iter().map(|id| id.0).max(), self.next[0]),
                after(numbers.links.iter().map(|id| id.0).max(), self.next[1]),
                after(numbers.stores.iter().map(|id| id.0).max(), self.next[2]),
                after(numbers.auths.iter().map(|id| id.0).max(), self.next[3]),
            ],
            endpoints,
            leaving,
            auths: parts.auths,
            links,
        }
    }

    fn next_store(&self, id: StoreId, settings: StoreSettings, file: Option<StoreFile>) -> Arc<Store> {
        match self.stores.get(id) {
            None => Arc::new(Store::new(id, settings, file)),
            Some(old) if old.settings == settings => Arc::clone(old),
            Some(old) => Arc::new(old.changed(settings)),
        }
    }

    /// An endpoint of which somebody is here, or that was found in this generation.
    pub fn endpoint(&self, id: EndpointId) -> &Arc<Endpoint> {
        self.known_endpoint(id).expect("an endpoint is known for as long as somebody of it is here")
    }

    /// An endpoint that is there, or of which somebody may still be here.
    pub fn known_endpoint(&self, id: EndpointId) -> Option<&Arc<Endpoint>> {
        self.endpoints.get(id).or_else(|| self.leaving.get(id))
    }

    /// What holds for the connections of an endpoint or a link, if it is there.
    pub fn profile(&self, place: Place) -> Option<&Profile> {
        match place {
            Place::Endpoint(id) => self.known_endpoint(id).map(|endpoint| &endpoint.profile),
            Place::Link(id) => self.links.get(id).map(|link| &link.profile),
        }
    }

    /// The listener of this name.
    pub fn door(&self, listener: &str) -> Option<&Arc<Door>> {
        self.doors.iter().find(|door| door.settings.name == listener)
    }

    /// The listener that accepts clients on this socket.
    pub fn door_at(&self, socket: &Arc<Bound>) -> Option<&Arc<Door>> {
        self.doors.iter().find(|door| door.is_at(socket))
    }

    /// The admin listener, if it accepts on this socket.
    pub fn admin_door_at(&self, socket: &Arc<Bound>) -> Option<&Arc<Door>> {
        self.admin_door.as_ref().filter(|door| door.is_at(socket))
    }
}

/// Whether both settings are of the same store.
fn is_same_file(old: &StoreSettings, new: &StoreSettings) -> bool {
    (&old.name, &old.path) == (&new.name, &new.path)
}

/// The next number of a row.
fn give(next: &mut usize) -> usize {
    *next += 1;
    *next - 1
}

/// Which formats there are, by the numbers of what has them.
struct Formats {
    endpoints: Table<EndpointId, Format>,
    links: Table<LinkId, Format>,
}

impl Formats {
    fn of(numbers: &Numbers, endpoints: &[EndpointSettings], links: &[LinkSettings]) -> Formats {
        let endpoints = endpoints.iter().map(|endpoint| endpoint.format);
        let links = links.iter().map(|link| link.format);
        Formats {
            endpoints: numbers.endpoints.iter().copied().zip(endpoints).collect(),
            links: numbers.links.iter().copied().zip(links).collect(),
        }
    }

    /// Whether messages of this endpoint's clients go to another place in a format that describes their sender.
    fn describe(&self, endpoint: &EndpointSettings) -> bool {
        endpoint.to.iter().any(|destination| match destination {
            Destination::Reply | Destination::Broadcast | Destination::Others | Destination::Store(_) => false,
            Destination::Endpoint { id, .. } | Destination::Picked { id, .. } => self.endpoints[*id] != Format::Payload,
            Destination::Link(id) => self.links[*id] != Format::Payload,
        })
    }
}

/// The generation that is in force.
#[derive(Debug)]
pub struct InForce {
    generation: Mutex<Arc<Generation>>,
    /// Its number, which is looked at without the lock.
    number: AtomicU64,
}

impl InForce {
    /// From the start.
    pub fn new(generation: Generation) -> InForce {
        let number = AtomicU64::new(generation.number);
        InForce { generation: Mutex::new(Arc::new(generation)), number }
    }

    /// The generation. Whoever may wait for long must not keep it meanwhile: it would stay in memory.
    pub fn get(&self) -> Arc<Generation> {
        Arc::clone(&self.generation.lock())
    }

    /// The generation, if it is another one than that of this `number`; that it is not costs one load.
    #[inline]
    pub fn newer(&self, number: u64) -> Option<Arc<Generation>> {
        (self.number.load(Ordering::Relaxed) != number).then(|| self.get())
    }

    /// Puts another one in force.
    pub fn replace(&self, generation: Arc<Generation>) {
        let mut in_force = self.generation.lock();
        self.number.store(generation.number, Ordering::Relaxed);
        let before = std::mem::replace(&mut *in_force, generation);
        drop(in_force);
        // Without the lock: much may end with it.
        drop(before);
    }
}
