//! From a sender's messages to what others get: formats, targets, and the corks that make one
//! write of all that one read brought.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use bytes::Bytes;
use log::{info, warn};

use crate::config::{EventKind, Format, LinkId};
use crate::connection::frame::{Cork, Frame};
use crate::connection::peer::{BlockedOn, Peer};
use crate::connection::read_loop::Handler;
use crate::events::json::{self as event, LinkState, Subject, What};
use crate::format::{self, Address, Decoded};
use crate::message::{Message, Origin};
use crate::route::{Place, Room, Target};
use crate::shared::Shared;
use crate::shared::publisher::Published;
use crate::shared::registry::Client;
use crate::system::large;

/// Who sends, and what its messages are taken for.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Its connection, whose thread this is.
    pub peer: &'a Peer,
    /// Who it is, for the formats.
    pub origin: &'a Origin,
    /// Where it belongs.
    pub place: Place,
    /// How it writes.
    pub format: Format,
    /// Whether it may address clients by `_session`.
    pub addresses: bool,
}

/// One sender's way out, used by its own thread only.
#[derive(Debug)]
pub struct Dispatch<'a> {
    shared: &'a Shared,
    source: Source<'a>,
    lanes: Vec<Lane>,
    /// Nothing on the way needs another format than the bytes as they came.
    is_verbatim: bool,
    misaddressed: Misaddressed,
}

/// One destination and what has been collected for it.
#[derive(Debug)]
struct Lane {
    target: Target,
    /// The room that the collected messages have picked, where that is how the target works.
    picked: Option<Room>,
    format: Format,
    cork: Cork,
}

impl Lane {
    /// The lane to a target for senders of this place.
    fn new(shared: &Shared, place: Place, target: Target) -> Lane {
        let place = match &target {
            Target::Reply => place,
            Target::Room { room, .. } => Place::Endpoint(room.endpoint()),
            Target::Picked(pick) => Place::Endpoint(pick.endpoint()),
            Target::Link(index) => Place::Link(*index),
        };
        let (format, cork) = match place {
            Place::Endpoint(index) => {
                let endpoint = &shared.endpoints[index];
                (endpoint.settings.format, Cork::new(endpoint.cork))
            }
            Place::Link(index) => {
                let link = &shared.links[index];
                (link.settings.format, Cork::masked(link.cork))
            }
        };
        Lane { target, picked: None, format, cork }
    }

    /// Hands over what was collected. What cannot be, because its destination takes nothing any more or the sender's
    /// connection ends while it waits for room, is lost.
    fn hand_over(&mut self, shared: &Shared, peer: &Peer) {
        if self.cork.is_empty() {
            return;
        }
        let corked = self.cork.take();
        let to_room = |room: &Room, except, frame: &Frame| {
            publish(shared, peer, Published::Frame { room: room.clone(), except, frame: frame.clone() });
        };
        for frame in corked.as_slice() {
            match &self.target {
                Target::Reply => {
                    peer.while_blocked_on(BlockedOn::Outbox, || shared.clock.now(), || peer.outbox.reply(frame));
                }
                Target::Room { room, except_sender } => to_room(room, except_sender.then(|| peer.id()), frame),
                Target::Picked(_) => self.picked.iter().for_each(|room| to_room(room, None, frame)),
                Target::Link(index) => {
                    let push = || shared.links[*index].push(frame, || peer.outbox.is_closing());
                    peer.while_blocked_on(BlockedOn::Link, || shared.clock.now(), push);
                }
            }
        }
    }
}

impl<'a> Dispatch<'a> {
    /// The way out of a client.
    pub fn of_client(shared: &'a Shared, client: &'a Client) -> Dispatch<'a> {
        let endpoint = &shared.endpoints[client.room.endpoint()];
        let source = Source {
            peer: &client.peer,
            origin: &client.origin,
            place: Place::Endpoint(client.room.endpoint()),
            format: endpoint.settings.format,
            addresses: endpoint.settings.address_sessions,
        };
        Dispatch::new(shared, source, shared.routes.targets(&client.room))
    }

    /// The way out of a link's remote.
    pub fn of_link(shared: &'a Shared, index: LinkId, peer: &'a Peer, origin: &'a Origin) -> Dispatch<'a> {
        let format = shared.links[index].settings.format;
        let source = Source { peer, origin, place: Place::Link(index), format, addresses: true };
        Dispatch::new(shared, source, shared.routes.targets_of_link(index))
    }

    fn new(shared: &'a Shared, source: Source<'a>, targets: Vec<Target>) -> Dispatch<'a> {
        let mut lanes: Vec<_> = targets.into_iter().map(|target| Lane::new(shared, source.place, target)).collect();
        // Replies first: the own outbox is flushed before anything else may hold this thread.
        lanes.sort_by_key(|lane| lane.target != Target::Reply);
        let is_verbatim = source.format == Format::Payload
            && lanes.iter().all(|lane| lane.format == Format::Payload && !matches!(lane.target, Target::Picked(_)));
        Dispatch { shared, source, lanes, is_verbatim, misaddressed: Misaddressed::default() }
    }

    /// Hands over what was collected: to every destination, whatever becomes of the others.
    fn hand_over(&mut self) {
        let Dispatch { shared, source: Source { peer, .. }, lanes, .. } = self;
        lanes.iter_mut().for_each(|lane| lane.hand_over(shared, peer));
    }

    /// How many of the sender's messages were dropped because of whom they addressed.
    pub fn misaddressed(&self) -> Misaddressed {
        self.misaddressed
    }

    /// Sends a message to the one client that it addresses, if that client's messages come here.
    fn address(&mut self, address: Address, decoded: &Decoded, whole: usize) {
        let Address::Session(id) = address else {
            let why = format_args!("session_unknown: its _session names no session");
            return self.misaddressed.count(self.source.peer, why, |counts| &mut counts.unknown);
        };
        let Some(to) = self.shared.registry.find(id) else {
            let why = format_args!("session_unknown: {id} is not connected");
            return self.misaddressed.count(self.source.peer, why, |counts| &mut counts.unknown);
        };
        let there = to.room.endpoint();
        if !self.shared.routes.leads(there, self.source.place) {
            let why = format_args!("session_denied: {id} is on an endpoint that does not send here");
            return self.misaddressed.count(self.source.peer, why, |counts| &mut counts.denied);
        }
        let format = self.shared.endpoints[there].settings.format;
        let message = format::encode(format, decoded, self.source.origin, SystemTime::now());
        let Some(message) = message.map(|message| own_size(message, whole)) else { return };
        // What was collected before goes first: what one sender sends arrives in its order.
        self.hand_over();
        // Its own size: the message may be a part of a buffer that is larger.
        let frame = Frame::message(&Message { data: Bytes::copy_from_slice(&message.data), ..message });
        publish(self.shared, self.source.peer, Published::To { outbox: Arc::clone(to.outbox()), frame });
    }
}

impl Handler for Dispatch<'_> {
    /// Collects a message for its destinations.
    fn message(&mut self, message: Message, expected: usize) {
        if self.is_verbatim {
            for lane in &mut self.lanes {
                lane.cork.push(&message, expected);
            }
            return;
        }
        let whole = message.data.len();
        let decoded = format::decode(self.source.format, message);
        if self.source.addresses
            && let Some(address) = decoded.address()
        {
            return self.address(address, &decoded, whole);
        }
        let now = SystemTime::now();
        for lane in &mut self.lanes {
            if let Target::Picked(pick) = &lane.target {
                let Some(room) = pick.room(|path| decoded.field(path)) else {
                    let why = format_args!("unroutable: it picks no room of a destination");
                    self.misaddressed.count(self.source.peer, why, |counts| &mut counts.unroutable);
                    continue;
                };
                if lane.picked.as_ref() != Some(&room) {
                    lane.hand_over(self.shared, self.source.peer);
                    lane.picked = Some(room);
                }
            }
            if let Some(message) = encode(lane, &decoded, self.source.origin, now, whole) {
                lane.cork.push(&message, expected);
            }
        }
    }

    fn flush(&mut self) {
        self.hand_over();
    }
}

/// Messages that were dropped because of whom or what they named.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Misaddressed {
    /// A session that is not here, or none that can be.
    pub unknown: u64,
    /// A client whose endpoint does not send to the sender's.
    pub denied: u64,
    /// No room of a link's destination: a field is missing, or is no value of a parameter.
    pub unroutable: u64,
}

/// How many misaddressed messages of one client are logged; the rest is only counted.
const MISADDRESSED_LOGGED: u64 = 10;

impl Misaddressed {
    fn count(&mut self, from: &Peer, why: fmt::Arguments<'_>, which: impl Fn(&mut Misaddressed) -> &mut u64) {
        *which(self) += 1;
        if self.unknown + self.denied + self.unroutable <= MISADDRESSED_LOGGED {
            info!("{from}: {why}; the message is dropped");
        }
    }
}

/// A message in the format of a lane's receivers; `whole` is the size of the buffer that it may be a part of.
fn encode(lane: &Lane, decoded: &Decoded, origin: &Origin, now: SystemTime, whole: usize) -> Option<Message> {
    let encode = match &lane.target {
        Target::Link(_) => format::encode_for_link,
        _ => format::encode,
    };
    Some(own_size(encode(lane.format, decoded, origin, now)?, whole))
}

fn own_size(message: Message, whole: usize) -> Message {
    if message.data.len() < whole / 2 {
        // A small part would keep the whole alive for as long as it is queued.
        return Message { data: Bytes::copy_from_slice(&message.data), ..message };
    }
    Message { data: large::returning(message.data), ..message }
}

/// Tells a client's destinations what happened to it, if its endpoint is to tell that.
pub fn tell_of_client(shared: &Shared, client: &Client, kind: EventKind, what: impl FnOnce() -> What) {
    let place = client.room.endpoint();
    let endpoint = &shared.endpoints[place];
    if !endpoint.settings.events.contains(&kind) {
        return;
    }
    let subject = Subject::Client {
        endpoint: endpoint.settings.path.as_str(),
        path: shared.routes.show(&client.room).to_string(),
        parameters: shared.routes.parameters(&client.room).collect(),
        client_ip: client.origin.client_ip,
        user_agent: client.origin.user_agent.as_deref(),
    };
    let event = event::to_json(&subject, Some(client.id()), &what(), SystemTime::now());
    let targets = shared.routes.targets(&client.room);
    let lost = tell(shared, Place::Endpoint(place), targets, &client.origin, event);
    if lost > 0 && endpoint.events_dropped.fetch_add(lost, Ordering::Relaxed) == 0 {
        let path = &endpoint.settings.path;
        warn!("endpoint '{path}': {NO_ROOM_FOR_EVENTS}");
    }
}

/// Tells a link's destinations what happened to it, if it is to tell that. `origin` is its connection, if there was one.
pub fn tell_of_link(
    shared: &Shared,
    index: LinkId,
    origin: Option<&Origin>,
    kind: EventKind,
    what: impl FnOnce() -> (LinkState, What),
) {
    let link = &shared.links[index];
    if !link.settings.events.contains(&kind) {
        return;
    }
    let (state, what) = what();
    let subject = Subject::Link { link: &link.name, url: &link.settings.shown, state };
    let now = SystemTime::now();
    let event = event::to_json(&subject, origin.map(|origin| origin.session), &what, now);
    // Nobody has the session 0, so an answer to it reaches nobody.
    let nobody =
        || Origin { session: 0.into(), client_ip: None, user_agent: None, subprotocol: None, connected_at: now };
    let origin = origin.cloned().unwrap_or_else(nobody);
    let lost = tell(shared, Place::Link(index), shared.routes.targets_of_link(index), &origin, event);
    if lost > 0 && link.counters.events_dropped.fetch_add(lost, Ordering::Relaxed) == 0 {
        warn!("link {link}: {NO_ROOM_FOR_EVENTS}");
    }
}

/// What the log says of the first event that is dropped.
const NO_ROOM_FOR_EVENTS: &str = "a destination has no room for an event: events wait for nobody, and are dropped";

/// Hands an event to those of these targets that have room for it right now. Says how many had not.
fn tell(shared: &Shared, place: Place, targets: Vec<Target>, origin: &Origin, event: String) -> u64 {
    let decoded = Decoded::json(event.into());
    let mut lost = 0;
    for target in targets {
        // Whom it happened to is not told, and what picks its room by a field of a message has none here.
        let is_own = target == Target::Reply || matches!(target, Target::Link(index) if place == Place::Link(index));
        if is_own || matches!(target, Target::Picked(_)) {
            continue;
        }
        let mut lane = Lane::new(shared, place, target);
        let Some(message) = encode(&lane, &decoded, origin, SystemTime::now(), 0) else { continue };
        lane.cork.push(&message, message.data.len());
        let frame = lane.cork.take();
        for frame in frame.as_slice() {
            let is_taken = match &lane.target {
                Target::Room { room, .. } => {
                    let (except, frame) = (Some(origin.session), frame.clone());
                    shared.publisher.try_publish(Published::Frame { room: room.clone(), except, frame }).is_ok()
                }
                Target::Link(index) => shared.links[*index].queue.try_push(frame),
                Target::Reply | Target::Picked(_) => unreachable!("they were left out"),
            };
            lost += u64::from(!is_taken);
        }
    }
    lost
}

/// Publishes, held by the broadcaster while its channel is full; gives up when the connection is ending.
pub fn publish(shared: &Shared, peer: &Peer, published: Published) {
    let Err(published) = shared.publisher.try_publish(published) else { return };
    let wait = || shared.publisher.publish(published, || peer.outbox.is_closing());
    peer.while_blocked_on(BlockedOn::Broadcaster, || shared.clock.now(), wait);
}
