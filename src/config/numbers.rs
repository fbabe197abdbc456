//! The numbers of what settings name: those of a configuration that was read are its places in it, and those of a running
//! gateway stay the same from one reload to the next.

use super::settings::{
    AuthId, Destination, EndpointId, EndpointSettings, LinkDestination, LinkId, LinkSettings, Settings, StoreId,
};

/// The number of each endpoint, link, store and `[[auth]]`, in the order of the settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Numbers {
    pub endpoints: Vec<EndpointId>,
    pub links: Vec<LinkId>,
    pub stores: Vec<StoreId>,
    pub auths: Vec<AuthId>,
}

impl Numbers {
    /// Gives these numbers to all that settings which were just read name by their places.
    pub fn give_to(&self, settings: &mut Settings) {
        for EndpointSettings { to, auth, .. } in &mut settings.endpoints {
            to.iter_mut().for_each(|destination| self.give_to_destination(destination));
            auth.iter_mut().for_each(|id| *id = self.auths[id.0]);
        }
        settings.admin.auth.iter_mut().for_each(|id| *id = self.auths[id.0]);
        for LinkSettings { to, .. } in &mut settings.links {
            for destination in to {
                match destination {
                    LinkDestination::Reply => {}
                    LinkDestination::Endpoint { id, .. } => *id = self.endpoints[id.0],
                    LinkDestination::Link(id) => *id = self.links[id.0],
                    LinkDestination::Store(id) => *id = self.stores[id.0],
                }
            }
        }
    }

    fn give_to_destination(&self, destination: &mut Destination) {
        match destination {
            Destination::Reply | Destination::Broadcast | Destination::Others => {}
            Destination::Endpoint { id, .. } | Destination::Picked { id, .. } => *id = self.endpoints[id.0],
            Destination::Link(id) => *id = self.links[id.0],
            Destination::Store(id) => *id = self.stores[id.0],
        }
    }
}
