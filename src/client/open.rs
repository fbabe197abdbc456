//! The first part of a client's life: from an accepted socket to a client in its room, or to an
//! answer that says why not.
//!
//! The steps on this way are not inlined into each other. A client's stack keeps the pages that it has touched once, for as
//! long as it is there, and it is deepest here: so it should hold what one step needs, and not what all need together.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant, SystemTime};

use log::{debug, info};

use crate::approach::Approach;
use crate::client::admission::{self, Admission};
use crate::client::asked::Asked;
use crate::client::authenticate::{self, Access, Denied};
use crate::client::health;
use crate::client::identify::{Requester, identify};
use crate::client::incoming::{Incoming, approach, count_address, hear, may_not_come};
use crate::client::post;
use crate::client::rejection::{
    LastWords, Rejection, Why, forbidden, leaving, no_place, refused, refused_as, too_many, unauthorized,
};
use crate::config::{EventKind, RelaySettings, Welcome};
use crate::connection::frame::Frame;
use crate::connection::handshake::Head;
use crate::connection::peer::Name;
use crate::connection::read_loop::Handshaken;
use crate::connection::tls::Session;
use crate::events::json::What;
use crate::events::present::{Present, present_for};
use crate::events::tell_of_client;
use crate::format;
use crate::http::refusal::{Body, Refusal};
use crate::http::request::{self, Request};
use crate::identity::Identity;
use crate::log_kind::{CONNECTS, REFUSALS};
use crate::message::{Kind, Message, Origin};
use crate::relay::reach::{ClientRequest, ReachError, Reached, reach};
use crate::route;
use crate::shared::Shared;
use crate::shared::endpoint::Endpoint;
use crate::shared::entrance::Entrance;
use crate::shared::generation::Generation;
use crate::shared::handshake_failures::Failure;
use crate::shared::handshakes::HandshakePlace;
use crate::shared::members::Step;
use crate::shared::places::{Place, Places};
use crate::shared::publisher::Publisher;
use crate::shared::registry::{Client, Registration};
use crate::shared::undelivered::Undelivered;

/// How long a refused peer may take to read why.
const LINGER: Duration = Duration::from_secs(2);

/// A client in its room.
#[derive(Debug)]
pub struct Admitted {
    /// Its place in the registry.
    pub registration: Registration,
    /// Where it comes from, for the log.
    pub from: String,
    /// The subprotocol that was agreed.
    pub subprotocol: Option<String>,
    /// Who was there before it.
    pub present: Present,
    /// How its connection stands.
    pub handshaken: Handshaken,
    /// Its upstream, if its endpoint is a relay.
    pub reached: Option<Reached>,
    /// Whether finding out who it is has left much in this thread.
    pub is_heavy: bool,
}

/// A request that is let in, and what was found and taken for it on the way.
#[derive(Debug)]
struct Granted<'a> {
    /// By which it was judged.
    generation: Arc<Generation>,
    admission: Admission<'a>,
    asked: Asked,
    place: Place,
    reached: Option<Reached>,
}

/// Opens a connection within the handshake timeout, or logs why not and ends it. Apart from its caller, on whose stack
/// its own would lie from then on.
#[inline(never)]
pub fn open(shared: &Arc<Shared>, mut incoming: Box<Incoming>) -> Option<Admitted> {
    let deadline = Instant::now() + shared.generation().gateway.handshake_timeout;
    let heard = hear(shared, &mut incoming, deadline);
    let heard = heard.and_then(|head| post::answer_all(shared, &mut incoming, head, deadline));
    let opened = match heard {
        Ok(Some((Head { bytes, behind }, deadline))) => match judge(shared, &mut incoming, &bytes, deadline) {
            Ok(granted) => return enter(shared, incoming, granted, behind),
            Err(rejection) => rejection,
        },
        Ok(None) => return None,
        Err(rejection) => rejection,
    };
    if let Some(failure) = opened.failure {
        shared.counters.handshake_failures.count(failure);
    }
    reject(incoming, opened);
    None
}

/// Finds out whether a request is let in, and takes its place; a relay's upstream is reached on the way.
#[inline(never)]
fn judge<'a>(
    shared: &Arc<Shared>,
    incoming: &mut Incoming,
    head: &'a [u8],
    deadline: Instant,
) -> Result<Granted<'a>, Rejection> {
    health::answer(shared, incoming, head)?;
    let request = request::judge(head).map_err(|refusal| refused_as(refusal, head))?;
    let generation = shared.generation();
    let (admission, approach) = find_room(shared, incoming, &generation, head, &request)?;
    let requester = Requester { stream: &incoming.stream, head, request: &request, address: approach.address };
    let access = identify(shared, &generation, &admission.room, &requester, deadline)
        .map_err(|denied| not_let_in(&generation, &admission, &request, denied))?;
    grant(shared, incoming, &generation, admission, access, (head, &request, &approach))
}

/// What becomes of a request whose client is not let in by who it is.
#[inline(never)]
fn not_let_in(generation: &Generation, admission: &Admission<'_>, request: &Request<'_>, denied: Denied) -> Rejection {
    match denied {
        Denied::Refused(_, refusal) => {
            let endpoint = generation.endpoint(admission.room.endpoint());
            unauthorized(generation, admission, request, endpoint, refusal)
        }
        Denied::Gone => Rejection::gone("it left while its credentials waited to be checked".to_owned()),
    }
}

/// Takes the place of a request whose client may come, and reaches its upstream.
#[inline(never)]
fn grant<'a>(
    shared: &Arc<Shared>,
    incoming: &mut Incoming,
    generation: &Arc<Generation>,
    admission: Admission<'a>,
    access: Access,
    (head, request, approach): (&[u8], &Request<'_>, &Approach),
) -> Result<Granted<'a>, Rejection> {
    let endpoint = &**generation.endpoint(admission.room.endpoint());
    let places = endpoint.waiting.as_ref().unwrap_or(&endpoint.places);
    let place = take_place(shared, incoming, &admission, (endpoint, places), access.identity.as_ref())?;
    let asked = Asked::new(shared, generation, &admission.room, request, access);
    let granted = Granted { admission, asked, place, reached: None, generation: Arc::clone(generation) };
    match &endpoint.settings.relay {
        None => Ok(granted),
        Some(relay) => with_upstream(shared, incoming, granted, endpoint, relay, (head, request, approach)),
    }
}

/// Finds the room that a request asks for, if its client may come there from where it comes, and how it has come.
#[inline(never)]
fn find_room<'a>(
    shared: &Shared,
    incoming: &mut Incoming,
    generation: &Generation,
    head: &[u8],
    request: &Request<'a>,
) -> Result<(Admission<'a>, Approach), Rejection> {
    let approach = approach(incoming, head, request).map_err(|refusal| forbidden(refusal, Failure::Address))?;
    count_address(shared, incoming, approach.address).map_err(|full| refused(too_many(shared, &full)))?;
    let settings = |id| generation.endpoints.get(id).map(|endpoint| &endpoint.settings);
    let admission = admission::admit(request, &generation.routes, settings, &incoming.door.settings, &approach.host);
    let admission = admission.map_err(|refusal| forbidden(refusal, Failure::Origin))?;
    if shared.lets_nobody_in() {
        return Err(refused(leaving(shared)).because_of(Failure::Stopping));
    }
    let endpoint = &**generation.endpoint(admission.room.endpoint());
    incoming.endpoint = Some(endpoint.settings.path.as_str().to_owned());
    let may_come = endpoint.addresses.check(approach.address);
    let refusal = |shut| may_not_come(&shut, "[[endpoint]]", endpoint.settings.path.as_str());
    may_come.map_err(|shut| forbidden(refusal(shut), Failure::Address))?;
    Ok((admission, approach))
}

/// Reaches the upstream of a request that is let in.
#[inline(never)]
fn with_upstream<'a>(
    shared: &Arc<Shared>,
    incoming: &mut Incoming,
    granted: Granted<'a>,
    endpoint: &Endpoint,
    relay: &RelaySettings,
    (head, request, approach): (&[u8], &Request<'_>, &Approach),
) -> Result<Granted<'a>, Rejection> {
    let Granted { generation, admission, asked, place, .. } = granted;
    // It has done its part. However many wait for a slow upstream, their endpoint bounds them, and clients of other
    // endpoints get in meanwhile.
    incoming.handshake = None;
    // Nobody is asked for one whose identity gets no place afterwards.
    let identity = asked.access.identity.as_ref();
    let may_come = endpoint.places.check(identity.map(|identity| &**identity), Instant::now());
    may_come
        .map_err(|full| no_place(shared, &admission, &endpoint.settings, full, identity.map(|identity| &**identity)))?;
    place.waits_on(|| incoming.stream.socket.as_fd().try_clone_to_owned().ok());
    let client = ClientRequest {
        socket: incoming.stream.socket.as_fd(),
        head,
        request,
        secrets: authenticate::places(&generation.auths, &endpoint.settings),
        identity: identity.map(|identity| &**identity),
        endpoint,
        room: &admission.room,
        approach,
    };
    match reach(shared, relay, &client) {
        Ok(reached) => {
            let place = match &endpoint.waiting {
                None => place,
                Some(_) if place.is_replaced() => return Err(refused(replaced())),
                Some(_) => take_place(shared, incoming, &admission, (endpoint, &endpoint.places), identity)?,
            };
            // It is the upstream that agrees.
            let admission = Admission { subprotocol: reached.dialed.subprotocol.clone(), ..admission };
            Ok(Granted { admission, asked, place, reached: Some(reached), generation })
        }
        Err(ReachError::Gone) if place.is_replaced() => Err(refused(replaced())),
        Err(ReachError::Gone) => Err(Rejection::gone("it left before its upstream had answered".to_owned())),
        Err(ReachError::Refused { refusal, answer }) => {
            let (why, last_words) = (Why::Refused(refusal), LastWords::Answer(answer));
            Err(Rejection { failure: Some(Failure::Upstream), why, last_words })
        }
    }
}

/// What a client is answered that waits for its upstream when a newer one comes.
fn replaced() -> Refusal {
    Refusal::new(503, "a newer client has taken its place")
}

/// Says the last words, logs why, and gives the peer time to read them. In this order: whoever looks for the reason
/// finds it at once.
#[inline(never)]
fn reject(mut incoming: Box<Incoming>, Rejection { why, last_words, .. }: Rejection) {
    let is_said = matches!(&last_words, LastWords::Answer(answer) if incoming.stream.write(answer).is_ok());
    why.log(incoming.id, &incoming.from, incoming.endpoint.as_deref());
    let deadline = Instant::now() + LINGER;
    match last_words {
        LastWords::Answer(_) if is_said => incoming.stream.linger(deadline),
        LastWords::Alert => incoming.stream.abandon(deadline),
        LastWords::Answer(_) | LastWords::None => {}
    }
}

/// Takes a place on the endpoint, in the room and of the identity, perhaps that of an old client, which does not have to
/// agree.
#[inline(never)]
fn take_place(
    shared: &Shared,
    incoming: &Incoming,
    admission: &Admission<'_>,
    (endpoint, places): (&Endpoint, &Arc<Places>),
    identity: Option<&Arc<Identity>>,
) -> Result<Place, Rejection> {
    let taken = places.take(&admission.room, identity, incoming.id, Instant::now());
    let no = |full| no_place(shared, admission, &endpoint.settings, full, identity.map(|identity| &**identity));
    let (place, replaced) = taken.map_err(no)?;
    for replaced in replaced {
        info!(
            target: CONNECTS, client:% = replaced.id(), endpoint = incoming.endpoint.as_deref();
            "client {}: its place is given to client {}", replaced.id(), incoming.id
        );
        replaced.close();
    }
    Ok(place)
}

/// Makes a client of an admitted connection and has it join its room.
#[inline(never)]
fn enter(shared: &Arc<Shared>, incoming: Box<Incoming>, granted: Granted<'_>, behind: Vec<u8>) -> Option<Admitted> {
    let Granted { generation, admission, asked, place, reached } = granted;
    let endpoint = generation.endpoint(admission.room.endpoint());
    let Incoming { id, mut stream, address, socket_address, from, endpoint: path, door, connection, handshake, .. } =
        *incoming;
    let entrance = Entrance::new(&door, socket_address, stream.proved.take());
    let is_finished = handshake.is_none_or(HandshakePlace::finish);
    let Some((socket, mut session)) = stream.into_parts().filter(|_| is_finished) else {
        debug!(client:% = id, address = from; "client {id} ({from}): its handshake had to give way to a newer one");
        shared.counters.handshake_failures.count(Failure::GaveWay);
        return None;
    };
    let is_tls = session.is_some();
    let is_session_ended = session.as_mut().is_some_and(Session::is_ended_by_peer);
    let counters = Arc::clone(&endpoint.counters);
    let of = Some((route::Place::Endpoint(admission.room.endpoint()), generation.number));
    let round_trips = Some(&counters.round_trips);
    let peer = shared.add_peer(Name::Client, id, (socket, session), &endpoint.profile, of, round_trips);
    asked.expires_at.into_iter().for_each(|(tick, reason)| peer.expire_at(tick, reason));
    let connected_at = SystemTime::now();
    let subprotocol = admission.subprotocol.as_deref().map(Arc::from);
    let Asked { user_agent, description, access: Access { identity, rights, is_heavy, .. }, .. } = asked;
    let origin =
        Origin { session: id, client_ip: address, user_agent, subprotocol, connected_at, identity, description };
    let (room, publisher) = (shared.rooms.open(&admission.room), Publisher::of_sender(&shared.budget));
    let (presence, undelivered, begun) = (Arc::default(), Undelivered::default(), AtomicBool::new(false));
    let client = Client { room, publisher, peer, origin, entrance, rights, presence, counters, undelivered, begun };
    let client = Arc::new(client);
    let Some(registration) = shared.registry.register(Arc::clone(&client), connection, place) else {
        turn_away(shared, &client, &from, path);
        return None;
    };
    // The order of the next steps is a promise. The 101 and the welcome wait in the outbox before the room can deliver
    // anything, and they are written only once the join is on its way: a client that has seen the 101 misses nothing
    // that is published from then on. And its destinations hear of it before they can get anything from it.
    let answer = request::accept(admission.key, admission.subprotocol.as_deref());
    client.outbox().enqueue(Frame::joined(answer.into(), 0));
    if let Some(welcome) = welcome(&endpoint.settings.welcome, connected_at) {
        client.outbox().enqueue(Frame::message(&welcome));
    }
    client.presence.set(true);
    let connected = || What::Connected { subprotocol: admission.subprotocol.clone() };
    tell_of_client(shared, &client, EventKind::Connect, connected);
    if rights.receive {
        shared.step((&*client.peer).into(), &client.publisher, &client.room, Step::Join(Arc::clone(client.outbox())));
    }
    // Whoever sends it something now would write the 101 too, which is right from here on.
    client.set_begun();
    let present = present_for(shared, &client);
    client.outbox().flush();
    registration.place().open(client.outbox());
    // A reload that has taken it away since it was checked may not have seen this client.
    shared.close_if_withdrawn(&client, &generation);
    let handshaken = Handshaken { is_tls, behind, is_session_ended };
    Some(Admitted { registration, from, subprotocol: admission.subprotocol, present, handshaken, reached, is_heavy })
}

/// Answers a client that came while the gateway began to stop.
fn turn_away(shared: &Shared, client: &Client, from: &str, endpoint: Option<String>) {
    let (id, refusal) = (client.id(), leaving(shared));
    client.outbox().enqueue(Frame::joined(refusal.to_http(SystemTime::now(), Body::Whole).into(), 0));
    client.outbox().flush();
    client.outbox().abort("the server is shutting down");
    info!(target: REFUSALS, client:% = id, address = from, endpoint; "client {id} ({from}): {refusal}");
    shared.counters.handshake_failures.count(Failure::Stopping);
}

fn welcome(welcome: &Welcome, now: SystemTime) -> Option<Message> {
    match welcome {
        Welcome::Off => None,
        Welcome::N8n => Some(format::welcome_n8n(now)),
        Welcome::Text(text) => Some(Message { kind: Kind::Text, data: text.clone().into() }),
    }
}
