//! From a sender's messages to what others get: formats, targets, and the corks that make one
//! write of all that one read brought.

mod sender;
mod store_lane;

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;

use crate::config::{Ack, EndpointId, Format, LinkId, StoreId};
use crate::connection::close::Close;
use crate::connection::frame::{Cork, Corked, Frame};
use crate::connection::peer::{BlockedOn, Peer};
use crate::connection::read_loop::{Handler, ReadLimits};
use crate::dispatch::store_lane::StoreLane;
use crate::format::{self, Address, Audience, Decoded};
use crate::message::{Kind, Message, Origin};
use crate::route::{OutletId, Place, Target};
use crate::shared::Shared;
use crate::shared::generation::Generation;
use crate::shared::members::Step;
use crate::shared::outlet::Outlet;
use crate::shared::publisher::Publisher;
use crate::shared::receipt::Receipt;
use crate::shared::registry::Client;
use crate::shared::rooms::LiveRoom;
use crate::shared::sending::Sending;
use crate::shared::tap::Tapped;
use crate::shared::undelivered::Undelivered;
use crate::system::large;
pub use sender::PostSender;
use sender::{Sender, SenderKind};

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
    /// Those into stores, which get the messages as they came.
    stores: Vec<StoreLane>,
    /// Nothing on the way needs another format than the bytes as they came.
    is_verbatim: bool,
}

/// One sender's way out, used by its own thread only.
#[derive(Debug)]
pub struct Dispatch<'a> {
    shared: &'a Shared,
    source: Sender<'a>,
    rules: Rules,
    /// What it is told of its messages that are stored, if it is: from its first message to its last.
    receipt: Option<Arc<Receipt>>,
    /// To whom its messages are shown, unless they are a link's.
    tapped: Option<Tapped>,
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
    /// The lane to a target, for senders of this place; `None` where there is no such endpoint or outlet any more, and for
    /// a store.
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
            (Target::Store(_), _) => None,
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
            Target::Store(_) => unreachable!("a store has a lane of its own kind"),
        }
    }

    /// What was collected, for the target that it goes to.
    pub fn take(&mut self) -> (&Target, Corked) {
        (&self.target, self.cork.take())
    }

    /// Hands over what was collected. What cannot be, because its destination takes nothing any more or the sender's
    /// connection ends while it waits for room, is lost.
    fn hand_over(&mut self, shared: &Shared, by: Sending<'_>, publisher: &Publisher) {
        if self.cork.is_empty() {
            return;
        }
        let corked = self.cork.take();
        let to_room = |room: &Option<Arc<LiveRoom>>, except, frame: &Frame| {
            room.iter().for_each(|room| shared.publish(by, publisher, room, except, frame));
        };
        for frame in corked.as_slice() {
            match &self.target {
                Target::Reply => {
                    // What is posted has no replies.
                    let Sending::Peer(peer) = by else { continue };
                    peer.while_blocked_on(BlockedOn::Outbox, || peer.outbox.reply(frame));
                }
                Target::Room { except_sender, .. } => to_room(&self.room, except_sender.then(|| by.id()), frame),
                Target::Picked(_) => to_room(&self.room, None, frame),
                Target::Outlet(id) => {
                    let blocked_on = BlockedOn::Outlet(id.number());
                    let push = || self.outlet.iter().all(|outlet| outlet.push(frame, || by.gives_up()));
                    if !by.while_blocked_on(blocked_on, push) {
                        by.note_refused(blocked_on);
                    }
                }
                Target::Store(_) => unreachable!("a store has a lane of its own kind"),
            }
        }
    }
}

impl Rules {
    /// What the sender's endpoint or link says in this generation; `None` where it has none.
    fn of(
        shared: &Shared,
        generation: &Generation,
        source: &Sender<'_>,
        receipt: Option<&Arc<Receipt>>,
    ) -> Option<Rules> {
        let (format, addresses) = match source.place {
            Place::Endpoint(id) => {
                let settings = &generation.endpoint(id).settings;
                (settings.format, settings.address_sessions)
            }
            Place::Link(id) => (generation.links.get(id)?.settings.format, true),
        };
        let targets = source.targets(&generation.routes);
        let stores = store_lane::of(generation, source, receipt, &targets);
        let lane = |target| Lane::new(shared, generation, source.place, target);
        let mut lanes: Vec<_> = targets.into_iter().filter_map(lane).collect();
        // Most have one, and would have memory for four.
        lanes.shrink_to_fit();
        // Replies first: the own outbox is flushed before anything else may hold this thread. What is posted goes to
        // outlets first: they may have no room for it, and then rooms had better not have it either.
        lanes.sort_by_key(|lane| match (&lane.target, source.kind) {
            (Target::Reply, _) => 0,
            (Target::Outlet(_), SenderKind::Poster(..)) => 1,
            _ => 2,
        });
        let is_verbatim = format == Format::Payload
            && lanes.iter().all(|lane| lane.format == Format::Payload && !matches!(lane.target, Target::Picked(_)));
        Some(Rules { number: generation.number, format, addresses, lanes, stores, is_verbatim })
    }

    /// Those of a sender whose endpoint or link is gone: its messages go nowhere.
    fn nowhere(number: u64) -> Rules {
        Rules {
            number,
            format: Format::Payload,
            addresses: false,
            lanes: Vec::new(),
            stores: Vec::new(),
            is_verbatim: true,
        }
    }
}

impl<'a> Dispatch<'a> {
    /// The way out of a client.
    pub fn of_client(shared: &'a Shared, client: &'a Client) -> Dispatch<'a> {
        let Client { publisher, origin, undelivered, .. } = client;
        let (by, place) = (Sending::Peer(&client.peer), Place::Endpoint(client.room.endpoint()));
        let source = Sender { by, publisher, origin, undelivered, kind: SenderKind::Client(client), place };
        Dispatch { tapped: Some(Tapped::default()), ..Dispatch::new(shared, source) }
    }

    /// The way out of a request over HTTP. Whether everything was handed over is said by its `Post::refused`.
    pub fn of_post(shared: &'a Shared, sender: PostSender<'a>) -> Dispatch<'a> {
        let PostSender { post, publisher, origin, undelivered, counters, room } = sender;
        let (by, place) = (Sending::Post(post), Place::Endpoint(room.endpoint()));
        let source = Sender { by, publisher, origin, undelivered, kind: SenderKind::Poster(counters, room), place };
        Dispatch { tapped: Some(Tapped::default()), ..Dispatch::new(shared, source) }
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
        let (by, kind) = (Sending::Peer(peer), SenderKind::Remote);
        Dispatch::new(shared, Sender { by, publisher, origin, undelivered, kind, place: Place::Link(id) })
    }

    fn new(shared: &'a Shared, source: Sender<'a>) -> Dispatch<'a> {
        let generation = shared.generation();
        let receipt = match source.kind {
            SenderKind::Client(client) if generation.endpoint(client.room.endpoint()).settings.ack == Ack::Stored => {
                Some(Arc::new(Receipt::new(client.outbox())))
            }
            _ => None,
        };
        let rules = Rules::of(shared, &generation, &source, receipt.as_ref());
        let rules = rules.unwrap_or_else(|| Rules::nowhere(generation.number));
        Dispatch { shared, source, rules, receipt, tapped: None }
    }

    /// From now on what this generation says holds. What was collected before goes out by what held then. A sender whose
    /// endpoint or link is gone goes on as before until it is closed.
    #[cold]
    fn take_up(&mut self, generation: &Generation) -> Option<ReadLimits> {
        self.hand_over();
        self.rules.number = generation.number;
        if let SenderKind::Client(client) = self.source.kind {
            client.describe(generation.endpoint(client.room.endpoint()));
        }
        let profile = generation.profile(self.source.place)?;
        let rules = Rules::of(self.shared, generation, &self.source, self.receipt.as_ref())?;
        let stores = |rules: &Rules| rules.stores.iter().map(StoreLane::store).collect::<Vec<StoreId>>();
        if self.receipt.is_some() && stores(&rules) != stores(&self.rules) {
            // The messages that are stored are counted in their order, also where the next ones go elsewhere.
            self.wait_stored(None);
        }
        self.rules = rules;
        Some(ReadLimits { max_message: profile.max_message, intake: profile.intake })
    }

    /// Hands over what was collected: to every destination, whatever becomes of the others. A request ends at the first
    /// that has no room for it.
    fn hand_over(&mut self) {
        let Dispatch { shared, source: Sender { by, publisher, kind, .. }, rules, .. } = self;
        // What is posted goes to stores first, as to outlets. Else they are the last: one that is full holds this thread,
        // and nobody else is to wait for it.
        let is_posted = matches!(kind, SenderKind::Poster(..));
        if is_posted {
            rules.stores.iter_mut().for_each(|lane| lane.hand_over(*by));
        }
        for lane in &mut rules.lanes {
            if by.is_refused() {
                return;
            }
            lane.hand_over(shared, *by, publisher);
        }
        if !is_posted {
            rules.stores.iter_mut().for_each(|lane| lane.hand_over(*by));
        }
    }

    /// Waits until what was handed over to the stores is acknowledged, if it ever is.
    fn wait_stored(&self, deadline: Option<Instant>) {
        self.rules.stores.iter().for_each(|lane| lane.wait_stored(self.source.by, deadline));
    }

    /// Collects a message for the stores.
    #[inline]
    fn store(&mut self, kind: Kind, payload: &[u8], expected: usize) {
        self.rules.stores.iter_mut().for_each(|lane| lane.push(kind, payload, expected));
    }

    /// Shows a message to the operators that want to see it.
    #[inline]
    fn show(&mut self, kind: Kind, payload: &[u8]) {
        let Dispatch { source, tapped, .. } = self;
        if let Some(tapped) = tapped {
            tapped.show(|| source.tappable(), kind, payload);
        }
    }

    /// Sends a message to the one client that it addresses, if that client's messages come here.
    fn address(&mut self, address: Address, decoded: &Decoded, whole: usize) {
        let Sender { by: from, undelivered, .. } = self.source;
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
        self.shared.step(self.source.by, self.source.publisher, &to.room, step);
    }
}

impl Handler for Dispatch<'_> {
    #[inline]
    fn begin(&mut self) -> Option<ReadLimits> {
        let Dispatch { shared, source, tapped, .. } = self;
        if let Some(tapped) = tapped {
            tapped.begin(&shared.tap, || source.tappable());
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
            self.store(message.kind, &message.data, expected);
            return;
        }
        let whole = message.data.len();
        let as_it_came = (!self.rules.stores.is_empty()).then(|| message.clone());
        let mut decoded = format::decode(self.rules.format, message);
        if self.rules.addresses
            && let Some(address) = decoded.take_address(self.shared.mark)
        {
            return self.address(address, &decoded, whole);
        }
        if let Some(Message { kind, data }) = as_it_came {
            self.store(kind, &data, expected);
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
                    lane.hand_over(shared, source.by, source.publisher);
                    lane.room = shared.rooms.find(&room);
                }
            }
            if lane.push(&decoded, source.origin, now, whole, expected) {
                taken = true;
            } else if !std::mem::replace(&mut has_no_payload, true) {
                undelivered.without_payload(source.by, &lane.show());
            }
        }
        if has_picked_none {
            undelivered.unroutable(source.by, &lines, taken);
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
        self.store(kind, payload, expected);
    }

    /// A client that is told what is stored is told that of all that it has sent before its Close is answered; for no longer
    /// than a Close may take.
    fn closing(&mut self, _close: &Close) {
        if self.receipt.is_some() {
            self.wait_stored(Some(Instant::now() + self.shared.generation().gateway.close_timeout));
        }
    }

    fn flush(&mut self) {
        self.hand_over();
        if let Some(tapped) = &mut self.tapped {
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
