//! What happens to clients and links, told to the destinations of their routes that ask for it.
//!
//! An event never waits and displaces no message: a destination that has no room for it right now does not get it.

pub mod json;
pub mod present;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use log::warn;

use crate::config::{EventKind, LinkId};
use crate::dispatch::Lane;
use crate::events::json::{LinkState, Subject, What};
use crate::format::Decoded;
use crate::message::Origin;
use crate::route::{Place, Target};
use crate::shared::Shared;
use crate::shared::endpoint::Endpoint;
use crate::shared::generation::Generation;
use crate::shared::link::Link;
use crate::shared::registry::Client;

/// Tells a client's destinations what happened to it, if its endpoint is to tell that.
pub fn tell_of_client(shared: &Shared, client: &Client, kind: EventKind, what: impl FnOnce() -> What) {
    let (generation, id) = (shared.generation(), client.room.endpoint());
    let endpoint = generation.endpoint(id);
    if !endpoint.settings.events.contains(&kind) {
        return;
    }
    let event = json::to_json(&subject(endpoint, client), Some(client.id()), &what(), SystemTime::now());
    let lost =
        tell(shared, &generation, Place::Endpoint(id), client.targets(&generation.routes), &client.origin, event);
    count_lost(&endpoint.counters.events_dropped, lost, || format!("endpoint '{}'", endpoint.settings.path));
}

fn subject<'a>(endpoint: &'a Endpoint, client: &'a Client) -> Subject<'a> {
    let (path, room, identity) = (&endpoint.settings.path, &client.room.path, client.origin.identity.as_ref());
    Subject::Client {
        endpoint: path.as_str(),
        path: room.to_string(),
        parameters: room.parameters(path).collect(),
        client_ip: client.origin.client_ip,
        user_agent: client.origin.user_agent.as_deref(),
        identity: identity.map(|identity| &*identity.name),
        claims: identity.map(|identity| &identity.claims).filter(|claims| !claims.is_empty()),
    }
}

/// Tells a link's destinations what happened to it, if it is to tell that. `origin` is its connection, if there was one.
pub fn tell_of_link(
    shared: &Shared,
    (id, link): (LinkId, &Link),
    origin: Option<&Origin>,
    kind: EventKind,
    what: impl FnOnce() -> (LinkState, What),
) {
    if !link.settings.events.contains(&kind) {
        return;
    }
    let generation = shared.generation();
    let (state, what) = what();
    let subject = Subject::Link { link: &link.name, url: &link.settings.shown, state };
    let now = SystemTime::now();
    let event = json::to_json(&subject, origin.map(|origin| origin.session), &what, now);
    // Nobody has the session 0, so an answer to it reaches nobody.
    let nobody = || Origin {
        session: 0.into(),
        client_ip: None,
        user_agent: None,
        subprotocol: None,
        connected_at: now,
        identity: None,
        description: Default::default(),
    };
    let origin = origin.cloned().unwrap_or_else(nobody);
    let lost = tell(shared, &generation, Place::Link(id), generation.routes.targets_of_link(id), &origin, event);
    count_lost(&link.counters.events_dropped, lost, || format!("link {}", link.name));
}

/// Counts events that were dropped, and says so when they are the first.
fn count_lost(counter: &AtomicU64, lost: u64, who: impl FnOnce() -> String) {
    if lost > 0 && counter.fetch_add(lost, Ordering::Relaxed) == 0 {
        warn!("{}: a destination has no room for an event: an event never waits for room, so it is dropped", who());
    }
}

/// Hands an event to those of these targets that have room for it right now. Says how many had not.
fn tell(
    shared: &Shared,
    generation: &Generation,
    place: Place,
    targets: Vec<Target>,
    origin: &Origin,
    event: String,
) -> u64 {
    let decoded = Decoded::event(event.into());
    let mut lost = 0;
    for target in targets {
        // The subject itself is not told, what picks its room by a field of a message finds none here, and a store keeps
        // messages.
        let is_own = match (&target, place) {
            (Target::Reply | Target::Picked(_) | Target::Store(_), _) => true,
            (Target::Outlet(outlet), Place::Link(link)) => *outlet == link.into(),
            _ => false,
        };
        if is_own {
            continue;
        }
        let Some(mut lane) = Lane::new(shared, generation, place, target) else { continue };
        lane.push(&decoded, origin, SystemTime::now(), 0, 0);
        let (target, corked) = lane.take();
        for frame in corked.as_slice() {
            let is_taken = match target {
                // Where nobody is, nobody misses it.
                Target::Room { room, .. } => shared
                    .rooms
                    .find(room)
                    .is_none_or(|room| shared.events.try_publish(&room, Some(origin.session), frame)),
                Target::Outlet(id) => generation.outlets.get(*id).is_none_or(|outlet| outlet.try_push(frame)),
                Target::Reply | Target::Picked(_) | Target::Store(_) => unreachable!("they were left out"),
            };
            lost += u64::from(!is_taken);
        }
    }
    lost
}
