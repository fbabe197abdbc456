//! Who was there first: a receiver of events that connects is told of the clients that are there already.
//!
//! It is told by its own thread, one client after the other as it takes them, and never of one that it has been told has
//! gone. Whoever connects meanwhile may be told of twice.

use std::sync::Arc;
use std::vec;

use crate::config::{EndpointId, EventKind};
use crate::connection::frame::Frame;
use crate::connection::peer::BlockedOn;
use crate::dispatch::Lane;
use crate::events::json::{self, What};
use crate::events::subject;
use crate::format::Decoded;
use crate::id::Id;
use crate::route::{OutletId, Place, Room, Target};
use crate::shared::Shared;
use crate::shared::endpoint::Endpoint;
use crate::shared::registry::{Client, Presence};
use crate::table::Table;

/// A receiver of events.
#[derive(Debug)]
pub enum Receiver {
    /// A client of this room, with this id.
    Client(Room, Id),
    /// A link.
    Outlet(OutletId),
}

/// The clients that a receiver has yet to be told of.
#[derive(Debug)]
pub struct Present {
    receiver: Receiver,
    left: vec::IntoIter<Id>,
}

impl Present {
    /// Those that are there now.
    pub fn new(shared: &Shared, receiver: Receiver, place: Place) -> Present {
        let generation = shared.generation();
        let tells = |(id, endpoint): (EndpointId, &Arc<Endpoint>)| {
            let tells = endpoint.settings.events.contains(&EventKind::Present) && generation.routes.leads(id, place);
            tells.then_some((id, ()))
        };
        let tells: Table<EndpointId, ()> = generation.endpoints.iter().filter_map(tells).collect();
        let left = if tells.is_empty() {
            Vec::new()
        } else {
            // Only the paths are compared under the lock; which room a client's events go to is looked at later.
            shared.registry.ids(|client| tells.get(client.room.endpoint()).is_some())
        };
        Present { receiver, left: left.into_iter() }
    }

    /// The next one as an event, and whether it is still there.
    pub fn next(&mut self, shared: &Shared) -> Option<(Frame, Arc<Presence>)> {
        loop {
            let Some(client) = shared.registry.find(self.left.next()?) else { continue };
            let presence = Arc::clone(&client.presence);
            if !presence.is_here() {
                continue;
            }
            if let Some(frame) = self.event(shared, &client) {
                return Some((frame, presence));
            }
        }
    }

    /// The event for the receiver, if it is one of the client's destinations.
    fn event(&self, shared: &Shared, client: &Client) -> Option<Frame> {
        let (generation, own) = (shared.generation(), client.room.endpoint());
        let is_meant = |target: &Target| match (target, &self.receiver) {
            (Target::Room { room, .. }, Receiver::Client(other, id)) => room == other && client.id() != *id,
            (Target::Outlet(outlet), Receiver::Outlet(other)) => outlet == other,
            _ => false,
        };
        let target = client.targets(&generation.routes).into_iter().find(is_meant)?;
        let subprotocol = client.origin.subprotocol.as_deref().map(str::to_owned);
        let what = What::Present { subprotocol, present: true };
        let since = client.origin.connected_at;
        let event = json::to_json(&subject(generation.endpoint(own), client), Some(client.id()), &what, since);
        let mut lane = Lane::new(shared, &generation, Place::Endpoint(own), target)?;
        lane.push(&Decoded::event(event.into()), &client.origin, since, 0, 0);
        lane.take().1.as_slice().first().cloned()
    }
}

/// Those that a client is to be told of that is joining its room. To be called behind the join, so that nobody is missed,
/// and before the client sees its 101, so that it is not told of those that come after it.
pub fn present_for(shared: &Shared, client: &Client) -> Present {
    let room = &client.room.path;
    let receiver = Receiver::Client(room.clone(), client.id());
    match client.rights.receive {
        true => Present::new(shared, receiver, Place::Endpoint(room.endpoint())),
        false => Present { receiver, left: Vec::new().into_iter() },
    }
}

/// Tells a client of those that are there. It waits as long as the client takes nothing, or until its connection ends.
#[inline(never)]
pub fn tell_who_is_present(shared: &Shared, client: &Client, mut present: Present) {
    while let Some((frame, presence)) = present.next(shared) {
        let tell = || client.outbox().tell(&frame, || presence.is_here());
        if !client.peer.while_blocked_on(BlockedOn::Outbox, tell) {
            return;
        }
    }
}
