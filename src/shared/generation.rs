//! A generation: what a configuration makes of a gateway, as a whole and immutable. A reload puts another one in its place.
//!
//! Endpoints and links keep their ids from one generation to the next, so rooms, which know their endpoint by its id,
//! outlive them. What has not changed is the same object in both.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::authenticators::Auths;
use crate::config::{
    AdminSettings, Destination, EndpointId, EndpointSettings, Format, GatewaySettings, LinkId, LinkSettings,
    ListenerSettings, Settings,
};
use crate::dial::Dialer;
use crate::route::{OutletId, Routes};
use crate::shared::addresses::Door;
use crate::shared::endpoint::Endpoint;
use crate::shared::link::Link;
use crate::shared::outlet::Outlet;
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
    pub listeners: Vec<ListenerSettings>,
    /// Who is answered by the admin listener.
    pub admin: AdminSettings,
    /// Which path leads where.
    pub routes: Routes,
    /// The endpoints.
    pub endpoints: Table<EndpointId, Arc<Endpoint>>,
    /// How clients are authenticated.
    pub auths: Auths,
    /// What the listeners know of addresses, in the order of the settings.
    pub doors: Vec<Arc<Door>>,
    /// The links.
    pub links: Table<LinkId, Arc<Link>>,
    /// What routes can send to besides rooms.
    pub outlets: Table<OutletId, Arc<Outlet>>,
}

impl Generation {
    /// That of a gateway that is about to start. `relays` are the dialers of the endpoints, in their order, of those that
    /// are relays.
    pub fn first(settings: Settings, auths: Auths, relays: Vec<Option<Dialer>>) -> Generation {
        let Settings { gateway, listeners, endpoints, links, admin, .. } = settings;
        let close_timeout = gateway.close_timeout;
        let describes: Vec<bool> = endpoints.iter().map(|endpoint| describes(endpoint, &endpoints, &links)).collect();
        let routes = Routes::new(&endpoints, &links);
        let endpoint = |(settings, (relay, describes)): (EndpointSettings, (Option<Dialer>, bool))| {
            Arc::new(Endpoint::new(settings, relay, close_timeout, describes))
        };
        let endpoints = endpoints.into_iter().zip(relays.into_iter().zip(describes)).map(endpoint);
        let links = links.into_iter().enumerate().map(|(index, link)| (LinkId(index), link));
        let links: Table<LinkId, _> =
            links.map(|(id, settings)| (id, Arc::new(Link::new(id, settings, close_timeout)))).collect();
        Generation {
            number: 1,
            routes,
            endpoints: endpoints.enumerate().map(|(index, endpoint)| (EndpointId(index), endpoint)).collect(),
            auths,
            doors: listeners.iter().map(|listener| Arc::new(Door::new(listener))).collect(),
            outlets: links.values().map(|link| (link.outlet, Arc::new(Link::outlet(&link.settings)))).collect(),
            links,
            gateway,
            listeners,
            admin,
        }
    }

    /// What the listener of this name knows of addresses.
    pub fn door(&self, listener: &str) -> Arc<Door> {
        let at = self.listeners.iter().position(|settings| settings.name == listener);
        Arc::clone(&self.doors[at.expect("it is one of ours")])
    }
}

/// Whether messages of this endpoint's clients go to another place in a format that describes their sender.
fn describes(endpoint: &EndpointSettings, endpoints: &[EndpointSettings], links: &[LinkSettings]) -> bool {
    endpoint.to.iter().any(|destination| match destination {
        Destination::Reply | Destination::Broadcast | Destination::Others => false,
        Destination::Endpoint { id, .. } | Destination::Picked { id, .. } => endpoints[id.0].format != Format::Payload,
        Destination::Link(id) => links[id.0].format != Format::Payload,
    })
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
}
