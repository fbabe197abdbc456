//! From a sender's messages to what others get: formats, targets, and the corks that make one
//! write of all that one read brought.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use log::info;

use crate::config::Format;
use crate::connection::frame::{Cork, Frame};
use crate::connection::large;
use crate::format::{self, Address, Decoded};
use crate::intake::Handler;
use crate::message::{Message, Origin};
use crate::peer::{Holder, Peer};
use crate::publisher::Published;
use crate::registry::Client;
use crate::route::{Place, Target};
use crate::shared::Shared;

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
    format: Format,
    cork: Cork,
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
        let mut lanes: Vec<Lane> = shared
            .routes
            .targets(&client.room)
            .into_iter()
            .map(|target| {
                let to = match &target {
                    Target::Reply => endpoint,
                    Target::Room { room, .. } => &shared.endpoints[room.endpoint()],
                    Target::Link(_) => unreachable!("no link is started yet"),
                };
                Lane { target, format: to.settings.format, cork: Cork::new(to.cork) }
            })
            .collect();
        // Replies first: the own outbox is flushed before anything else may hold this thread.
        lanes.sort_by_key(|lane| lane.target != Target::Reply);
        let is_verbatim = source.format == Format::Payload && lanes.iter().all(|lane| lane.format == Format::Payload);
        Dispatch { shared, source, lanes, is_verbatim, misaddressed: Misaddressed::default() }
    }

    /// Hands over what was collected. `false` when the connection is ending.
    fn hand_over(&mut self) -> bool {
        let Dispatch { shared, source: Source { peer, .. }, lanes, .. } = self;
        lanes.iter_mut().filter(|lane| !lane.cork.is_empty()).all(|lane| {
            let corked = lane.cork.take();
            corked.as_slice().iter().all(|frame| match &lane.target {
                Target::Reply => peer.while_held(Holder::Outbox, || shared.clock.now(), || peer.outbox.reply(frame)),
                Target::Room { room, except_sender } => {
                    let (room, frame) = (room.clone(), frame.clone());
                    publish(shared, peer, Published::Frame { room, except: except_sender.then(|| peer.id()), frame })
                }
                Target::Link(_) => unreachable!("no link is started yet"),
            })
        })
    }

    /// How many of the client's messages were dropped because of whom they addressed.
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
        let Some(message) = encode(format, decoded, self.source.origin, SystemTime::now(), whole) else { return };
        // What was collected before goes first: what one sender sends arrives in its order.
        if self.hand_over() {
            // Its own size: the message may be a part of a buffer that is larger.
            let frame = Frame::message(&Message { data: Bytes::copy_from_slice(&message.data), ..message });
            publish(self.shared, self.source.peer, Published::To { outbox: Arc::clone(to.outbox()), frame });
        }
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
            if let Some(message) = encode(lane.format, &decoded, self.source.origin, now, whole) {
                lane.cork.push(&message, expected);
            }
        }
    }

    fn flush(&mut self) {
        self.hand_over();
    }
}

/// Messages that were dropped because of whom they addressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Misaddressed {
    /// A session that is not here, or none that can be.
    pub unknown: u64,
    /// A client whose endpoint does not send to the sender's.
    pub denied: u64,
}

/// How many misaddressed messages of one client are logged; the rest is only counted.
const MISADDRESSED_LOGGED: u64 = 10;

impl Misaddressed {
    fn count(&mut self, from: &Peer, why: fmt::Arguments<'_>, which: impl Fn(&mut Misaddressed) -> &mut u64) {
        *which(self) += 1;
        if self.unknown + self.denied <= MISADDRESSED_LOGGED {
            info!("{from}: {why}; the message is dropped");
        }
    }
}

/// A message in a receiver's format; `whole` is the size of the buffer that it may be a part of.
fn encode(format: Format, decoded: &Decoded, origin: &Origin, now: SystemTime, whole: usize) -> Option<Message> {
    let message = format::encode(format, decoded, origin, now)?;
    if message.data.len() < whole / 2 {
        // A small part would keep the whole alive for as long as it is queued.
        return Some(Message { data: Bytes::copy_from_slice(&message.data), ..message });
    }
    Some(Message { data: large::returning(message.data), ..message })
}

/// Publishes, held by the broadcaster while its channel is full. `false` when the connection is ending.
pub fn publish(shared: &Shared, peer: &Peer, published: Published) -> bool {
    let Err(published) = shared.publisher.try_publish(published) else { return true };
    let wait = || shared.publisher.publish(published, || peer.outbox.is_closing());
    peer.while_held(Holder::Broadcaster, || shared.clock.now(), wait)
}
