//! From a sender's messages to what others get: formats, targets, and the corks that make one
//! write of all that one read brought.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use crate::config::{EndpointId, Format, LinkId};
use crate::connection::frame::{Cork, Corked, Frame};
use crate::connection::peer::{BlockedOn, Peer};
use crate::connection::read_loop::{Handler, ReadLimits};
use crate::format::{self, Address, Audience, Decoded};
use crate::message::{Kind, Message, Origin};
use crate::route::{OutletId, Place, Target};
use crate::shared::Shared;
use crate::shared::generation::Generation;
use crate::shared::members::Step;
use crate::shared::outlet::Outlet;
use crate::shared::publisher::Publisher;
use crate::shared::registry::Client;
use crate::shared::rooms::LiveRoom;
use crate::shared::tap::Tapped;
use crate::shared::undelivered::Undelivered;
use crate::system::large;

/// Who sends, and what its messages are taken for.
#[derive(Debug, Clone, Copy)]
struct Sender<'a> {
    /// Its connection, whose thread this is.
    peer: &'a Peer,
    /// How it publishes.
    publisher: &'a Publisher,
    /// Who it is, for the formats.
    origin: &'a Origin,
    /// What of its messages does not go where it was to go, because of what is in them.
    undelivered: &'a Undelivered,
    /// The client; `None` is a link's remote.
    client: Option<&'a Client>,
    /// Where it belongs.
    place: Place,
}

/// How a sender's messages are taken, by the settings of its endpoint or link.
#[derive(Debug)]
struct Rules {
    /// The number of the generation that has these settings.
    number: u64,
    /// How it writes.
    format: Format,
    /// Whether it may address clients by `_session`.
    addresses: bool,
    lanes: Vec<Lane>,
    /// Nothing on the way needs another format than the bytes as they came.
    is_verbatim: bool,
}

/// One sender's way out, used by its own thread only.
#[derive(Debug)]
pub struct Dispatch<'a> {
    shared: &'a Shared,
    source: Sender<'a>,
    rules: Rules,
    /// The client whose messages these are, unless they are a link's, and to whom they are shown.
    tapped: Option<(&'a Client, Tapped)>,
}

/// One destination and what has been collected for it.
#[derive(Debug)]
pub struct Lane {
    target: Target,
    /// The outlet, if the target is one.
    outlet: Option<Arc<Outlet>>,
    /// The room that the collected messages go to, if the target is one, or the one that they have picked.
    room: Option<Arc<LiveRoom>>,
    format: Format,
    audience: Audience,
    cork: Cork,
}

impl Lane {
    /// The lane to a target, for senders of this place; `None` where there is no such endpoint or outlet any more.
    pub fn new(shared: &Shared, generation: &Generation, place: Place, target: Target) -> Option<Lane> {
        let of_endpoint = |id: EndpointId| {
            let endpoint = generation.endpoints.get(id)?;
            let audience = if place == Place::Endpoint(id) { Audience::Client } else { Audience::Consumer };
            Some((endpoint.settings.format, audience, Cork::new(endpoint.profile.cork)))
        };
        let of_outlet = |id: OutletId| {
            let outlet = generation.outlets.get(id)?;
            Some((outlet.encoding().format, outlet.encoding().audience, outlet.cork()))
        };
        let (format, audience, cork) = match (&target, place) {
            (Target::Reply, Place::Endpoint(id)) => of_endpoint(id),
            (Target::Reply, Place::Link(id)) => of_outlet(id.into()),
            (Target::Room { room, .. }, _) => of_endpoint(room.endpoint()),
            (Target::Picked(pick), _) => of_endpoint(pick.endpoint()),
            (Target::Outlet(id), _) => of_outlet(*id),
        }?;
        let room = if let Target::Room { room, .. } = &target { Some(shared.rooms.open(room)) } else { None };
        let outlet = if let Target::Outlet(id) = target { generation.outlets.get(id).map(Arc::clone) } else { None };
        Some(Lane { target, outlet, room, format, audience, cork })
    }

    /// Collects a message in the format of the lane's receivers; `whole` is the size of the buffer that it may be a part
    /// of, and `expected` a guess at the bytes that this read brings in all. Says whether there was anything to collect:
    /// a message without a payload is nothing to receivers of payloads.
    pub fn push(&mut self, decoded: &Decoded, origin: &Origin, now: SystemTime, whole: usize, expected: usize) -> bool {
        let message = format::encode_for(self.audience, self.format, decoded, origin, now);
        let is_something = message.is_some();
        // What else the read brings may be for other rooms.
        let expected = if matches!(self.target, Target::Picked(_)) { 0 } else { expected };
        if let Some(message) = message {
            self.cork.push(&own_size(message, whole), expected);
        }
        is_something
    }

    /// The destination, for people.
    fn show(&self) -> String {
        match &self.target {
            Target::Reply => "\"reply\"".to_owned(),
            Target::Room { room, .. } => format!("\"endpoint:{room}\""),
            Target::Picked(pick) => format!("\"{pick}\""),
            Target::Outlet(_) => self.outlet.iter().map(ToString::to_string).collect(),
        }
    }

    /// What was collected, for the target that it goes to.
    pub fn take(&mut self) -> (&Target, Corked) {
        (&self.target, self.cork.take())
    }

    /// Hands over what was collected. What cannot be, because its destination takes nothing any more or the sender's
    /// connection ends while it waits for room, is lost.
    fn hand_over(&mut self, shared: &Shared, peer: &Peer, publisher: &Publisher) {
        if self.cork.is_empty() {
            return;
        }
        let corked = self.cork.take();
        let to_room = |room: &Option<Arc<LiveRoom>>, except, frame: &Frame| {
            room.iter().for_each(|room| shared.publish(peer, publisher, room, except, frame));
        };
        for frame in corked.as_slice() {
            match &self.target {
                Target::Reply => {
                    peer.while_blocked_on(BlockedOn::Outbox, || peer.outbox.reply(frame));
                }
                Target::Room { except_sender, .. } => to_room(&self.room, except_sender.then(|| peer.id()), frame),
                Target::Picked(_) => to_room(&self.room, None, frame),
                Target::Outlet(id) => {
                    let push = || self.outlet.iter().for_each(|outlet| outlet.push(frame, || peer.outbox.is_closing()));
                    peer.while_blocked_on(BlockedOn::Outlet(id.number()), push);
                }
            }
        }
    }
}

impl Rules {
    /// What the sender's endpoint or link says in this generation; `None` where it has none.
    fn of(shared: &Shared, generation: &Generation, source: &Sender<'_>) -> Option<Rules> {
        let (format, addresses, targets) = match (source.place, source.client) {
            (Place::Endpoint(id), Some(client)) => {
                let settings = &generation.endpoint(id).settings;
                (settings.format, settings.address_sessions, client.targets(&generation.routes))
            }
            (Place::Link(id), _) => {
                (generation.links.get(id)?.settings.format, true, generation.routes.targets_of_link(id))
            }
            (Place::Endpoint(_), None) => return None,
        };
        let lane = |target| Lane::new(shared, generation, source.place, target);
        let mut lanes: Vec<_> = targets.into_iter().filter_map(lane).collect();
        // Replies first: the own outbox is flushed before anything else may hold this thread.
        lanes.sort_by_key(|lane| lane.target != Target::Reply);
        let is_verbatim = format == Format::Payload
            && lanes.iter().all(|lane| lane.format == Format::Payload && !matches!(lane.target, Target::Picked(_)));
        Some(Rules { number: generation.number, format, addresses, lanes, is_verbatim })
    }

    /// Those of a sender whose endpoint or link is gone: its messages go nowhere.
    fn nowhere(number: u64) -> Rules {
        Rules { number, format: Format::Payload, addresses: false, lanes: Vec::new(), is_verbatim: true }
    }
}

impl<'a> Dispatch<'a> {
    /// The way out of a client.
    pub fn of_client(shared: &'a Shared, client: &'a Client) -> Dispatch<'a> {
        let (peer, publisher, origin, undelivered) =
            (&*client.peer, &client.publisher, &client.origin, &client.undelivered);
        let place = Place::Endpoint(client.room.endpoint());
        let source = Sender { peer, publisher, origin, undelivered, client: Some(client), place };
        Dispatch { tapped: Some((client, Tapped::default())), ..Dispatch::new(shared, source) }
    }

    /// The way out of a link's remote.
    pub fn of_link(
        shared: &'a Shared,
        id: LinkId,
        peer: &'a Peer,
        publisher: &'a Publisher,
        origin: &'a Origin,
        undelivered: &'a Undelivered,
    ) -> Dispatch<'a> {
        Dispatch::new(shared, Sender { peer, publisher, origin, undelivered, client: None, place: Place::Link(id) })
    }

    fn new(shared: &'a Shared, source: Sender<'a>) -> Dispatch<'a> {
        let generation = shared.generation();
        let rules = Rules::of(shared, &generation, &source).unwrap_or_else(|| Rules::nowhere(generation.number));
        Dispatch { shared, source, rules, tapped: None }
    }

    /// From now on what this generation says holds. What was collected before goes out by what held then. A sender whose
    /// endpoint or link is gone goes on as before until it is closed.
    #[cold]
    fn take_up(&mut self, generation: &Generation) -> Option<ReadLimits> {
        self.hand_over();
        self.rules.number = generation.number;
        if let Some(client) = self.source.client {
            client.describe(generation.endpoint(client.room.endpoint()));
        }
        let profile = generation.profile(self.source.place)?;
        self.rules = Rules::of(self.shared, generation, &self.source)?;
        Some(ReadLimits { max_message: profile.max_message, intake: profile.intake })
    }

    /// Hands over what was collected: to every destination, whatever becomes of the others.
    fn hand_over(&mut self) {
        let Dispatch { shared, source: Sender { peer, publisher, .. }, rules, .. } = self;
        rules.lanes.iter_mut().for_each(|lane| lane.hand_over(shared, peer, publisher));
    }

    /// Shows a message to the operators that want to see it.
    #[inline]
    fn show(&mut self, kind: Kind, payload: &[u8]) {
        if let Some((client, tapped)) = &mut self.tapped {
            tapped.show(client, kind, payload);
        }
    }

    /// Sends a message to the one client that it addresses, if that client's messages come here.
    fn address(&mut self, address: Address, decoded: &Decoded, whole: usize) {
        let Sender { peer: from, undelivered, .. } = self.source;
        let Address::Session(id) = address else {
            return undelivered.unknown(from, format_args!("its _session is not the id of a session"));
        };
        let Some(to) = self.shared.registry.find(id) else {
            return undelivered.unknown(from, format_args!("{id} is not connected"));
        };
        let (generation, there) = (self.shared.generation(), to.room.endpoint());
        let endpoint = Some(generation.endpoint(there)).filter(|_| generation.routes.leads(there, self.source.place));
        let Some(endpoint) = endpoint.filter(|_| to.rights.receive) else {
            return undelivered.denied(from, id);
        };
        let format = endpoint.settings.format;
        let message = format::encode(format, decoded, self.source.origin, SystemTime::now());
        let Some(message) = message.map(|message| own_size(message, whole)) else {
            return undelivered.without_payload(from, &format!("client {id}"));
        };
        // What was collected before goes first: what one sender sends arrives in its order.
        self.hand_over();
        // Its own size: the message may be a part of a buffer that is larger.
        let frame = Frame::message(&Message { data: Bytes::copy_from_slice(&message.data), ..message });
        let step = Step::To(Arc::clone(to.outbox()), frame);
        self.shared.step(self.source.peer, self.source.publisher, &to.room, step);
    }
}

impl Handler for Dispatch<'_> {
    #[inline]
    fn begin(&mut self) -> Option<ReadLimits> {
        if let Some((client, tapped)) = &mut self.tapped {
            tapped.begin(&self.shared.tap, client);
        }
        let newer = self.shared.newer_generation(self.rules.number)?;
        self.take_up(&newer)
    }

    /// Collects a message for its destinations.
    fn message(&mut self, message: Message, expected: usize) {
        self.show(message.kind, &message.data);
        if self.rules.is_verbatim {
            for lane in &mut self.rules.lanes {
                lane.cork.push(&message, expected);
            }
            return;
        }
        let whole = message.data.len();
        let mut decoded = format::decode(self.rules.format, message);
        if self.rules.addresses
            && let Some(address) = decoded.take_address(self.shared.mark)
        {
            return self.address(address, &decoded, whole);
        }
        let Dispatch { shared, source, rules, .. } = self;
        let undelivered = source.undelivered;
        let (now, mut taken, mut lines) = (SystemTime::now(), false, Vec::new());
        let (mut has_picked_none, mut has_no_payload) = (false, false);
        for lane in &mut rules.lanes {
            if let Target::Picked(pick) = &lane.target {
                let room = match pick.room(|path| decoded.field(path)) {
                    Ok(room) => room,
                    Err(why) => {
                        has_picked_none = true;
                        lines.extend(undelivered.is_logged().then(|| why.to_string()));
                        continue;
                    }
                };
                if lane.room.as_ref().is_none_or(|picked| picked.path != room) {
                    lane.hand_over(shared, source.peer, source.publisher);
                    lane.room = shared.rooms.find(&room);
                }
            }
            if lane.push(&decoded, source.origin, now, whole, expected) {
                taken = true;
            } else if !std::mem::replace(&mut has_no_payload, true) {
                undelivered.without_payload(source.peer, &lane.show());
            }
        }
        if has_picked_none {
            undelivered.unroutable(source.peer, &lines, taken);
        }
    }

    fn borrowed(&mut self, kind: Kind, payload: &[u8], expected: usize) {
        if !self.rules.is_verbatim {
            return self.message(Message { kind, data: Bytes::copy_from_slice(payload) }, expected);
        }
        self.show(kind, payload);
        for lane in &mut self.rules.lanes {
            lane.cork.push_borrowed(kind, payload, expected);
        }
    }

    fn flush(&mut self) {
        self.hand_over();
        if let Some((_, tapped)) = &mut self.tapped {
            tapped.flush();
        }
    }
}

fn own_size(message: Message, whole: usize) -> Message {
    if message.data.len() < whole / 2 {
        // A small part would keep the whole alive for as long as it is queued.
        return Message { data: Bytes::copy_from_slice(&message.data), ..message };
    }
    Message { data: large::returning(message.data), ..message }
}
