//! The first part of a client's life: from an accepted socket to a client in its room, or to an
//! answer that says why not.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use log::info;

use crate::client::admission::{self, Admission};
use crate::config::{AtCapacity, EventKind, ListenerSettings, Welcome};
use crate::connection::frame::{Frame, Role};
use crate::connection::handshake::{Head, HeadError, Stream};
use crate::connection::peer::Name;
use crate::connection::read_loop::Handshaken;
use crate::connection::tls::Session;
use crate::events::json::What;
use crate::events::tell_of_client;
use crate::format;
use crate::http::refusal::Refusal;
use crate::http::request::{self, Request};
use crate::id::Id;
use crate::message::{Kind, Message, Origin};
use crate::permits::Permit;
use crate::relay::reach::{ClientRequest, ReachError, Reached, reach};
use crate::shared::handshakes::HandshakePlace;
use crate::shared::members::Step;
use crate::shared::places::{Full, Place};
use crate::shared::publisher::Publisher;
use crate::shared::registry::{Client, Registration};
use crate::shared::{Endpoint, Shared};

/// How long a refused peer may take to read why.
const LINGER: Duration = Duration::from_secs(2);

/// How many bytes of a User-Agent are kept: it is in every message of the format `n8n`.
const USER_AGENT_MAX: usize = 256;

/// A connection as the accept loop hands it over.
#[derive(Debug)]
pub struct Incoming {
    /// Its id, and the client's if it becomes one.
    pub id: Id,
    /// The connected socket, with a TLS session if the listener has TLS.
    pub stream: Stream,
    /// The peer's address; `None` on a Unix socket.
    pub address: Option<IpAddr>,
    /// The listener it came through.
    pub listener: Arc<ListenerSettings>,
    /// It counts as a connection.
    pub connection: Permit,
    /// It counts as a handshake, until it has said all that it has to say.
    pub handshake: Option<HandshakePlace>,
}

/// A client in its room.
#[derive(Debug)]
pub struct Admitted {
    /// Its place in the registry.
    pub registration: Registration,
    /// The subprotocol that was agreed.
    pub subprotocol: Option<String>,
    /// How its connection stands.
    pub handshaken: Handshaken,
    /// Its upstream, if its endpoint is a relay.
    pub reached: Option<Reached>,
}

/// Why a connection did not become a client.
#[derive(Debug)]
pub enum Rejected {
    /// It was told so, with this status and reason.
    Refused(Refusal),
    /// It was let in only to be closed with 1013: there is no place for it.
    AtCapacity(Full),
    /// It ended before it had asked for anything, or the connection failed.
    Gone(String),
}

/// Opens a connection within the handshake timeout. Apart from its caller, on whose stack its own would lie from then on.
#[inline(never)]
pub fn open(shared: &Arc<Shared>, mut incoming: Incoming) -> Result<Admitted, Rejected> {
    let deadline = Instant::now() + shared.settings.gateway.handshake_timeout;
    let head = match incoming.stream.read_head(deadline) {
        Ok(head) => head,
        Err(error) => return Err(refuse_unread(&mut incoming.stream, error, shared)),
    };
    let Head { bytes, behind } = head;
    let refuse = |stream: &mut Stream, refusal: Refusal| {
        answer(stream, &refusal.to_http());
        Err(Rejected::Refused(refusal))
    };
    let request = match request::judge(&bytes) {
        Ok(request) => request,
        Err(refusal) => return refuse(&mut incoming.stream, refusal),
    };
    let endpoints: Vec<_> = shared.endpoints.iter().map(|endpoint| &endpoint.settings).collect();
    let admission = match admission::admit(&request, &shared.routes, &endpoints, &incoming.listener) {
        Ok(admission) => admission,
        Err(refusal) => return refuse(&mut incoming.stream, refusal),
    };
    if shared.is_stopping() {
        return refuse(&mut incoming.stream, stopping());
    }
    let endpoint = &shared.endpoints[admission.room.endpoint()];
    let place = take_place(&mut incoming, &admission, endpoint)?;
    let reached = match (&endpoint.dialer, &endpoint.settings.relay) {
        (Some(dialer), Some(relay)) => {
            // It has done its part. However many wait for a slow upstream, their endpoint bounds them, and
            // clients of other endpoints get in meanwhile.
            incoming.handshake = None;
            place.waits_on(|| incoming.stream.socket.as_fd().try_clone_to_owned().ok());
            let is_tls = incoming.stream.is_tls();
            let (socket, room, from) = (incoming.stream.socket.as_fd(), &admission.room, incoming.address);
            let asked = ClientRequest { socket, head: &bytes, request: &request, room, from, is_tls };
            match reach(shared, dialer, relay, &asked) {
                Ok(reached) => Some(reached),
                Err(ReachError::Gone) if place.is_replaced() => {
                    return refuse(&mut incoming.stream, Refusal::new(503, "a newer client has taken its place"));
                }
                Err(ReachError::Gone) => {
                    return Err(Rejected::Gone("it left before its upstream had answered".to_owned()));
                }
                Err(ReachError::Refused { refusal, answer: bytes }) => {
                    answer(&mut incoming.stream, &bytes);
                    return Err(Rejected::Refused(refusal));
                }
            }
        }
        _ => None,
    };
    let admission = match &reached {
        // It is the upstream that agrees.
        Some(reached) => Admission { subprotocol: reached.dialed.subprotocol.clone(), ..admission },
        None => admission,
    };
    let asked = Asked::new(shared, &admission, &request);
    let admitted = enter(shared, incoming, admission, endpoint, asked, place, behind)?;
    Ok(Admitted { reached, ..admitted })
}

/// What a client's request says of it to those who get its messages.
struct Asked {
    user_agent: Option<Arc<str>>,
    description: Option<Arc<str>>,
}

impl Asked {
    fn new(shared: &Shared, admission: &Admission<'_>, request: &Request<'_>) -> Asked {
        let (routes, room) = (&shared.routes, &admission.room);
        let describe = || format::describe(&routes.show(room).to_string(), routes.parameters(room), request.query);
        Asked {
            user_agent: request.user_agent.map(|agent| agent[..agent.floor_char_boundary(USER_AGENT_MAX)].into()),
            description: shared.endpoints[room.endpoint()].describes.then(describe),
        }
    }
}

/// Takes a place on the endpoint and in the room, perhaps that of an old client, which does not have to agree.
fn take_place(incoming: &mut Incoming, admission: &Admission<'_>, endpoint: &Endpoint) -> Result<Place, Rejected> {
    let (place, replaced) = match endpoint.places.take(&admission.room, incoming.id) {
        Ok(taken) => taken,
        Err(full) => return Err(at_capacity(&mut incoming.stream, admission, endpoint, full)),
    };
    if let Some(replaced) = replaced {
        info!("client {}: its place is given to client {}", replaced.id(), incoming.id);
        replaced.close();
    }
    Ok(place)
}

/// Makes a client of an admitted connection and has it join its room.
fn enter(
    shared: &Arc<Shared>,
    incoming: Incoming,
    admission: Admission<'_>,
    endpoint: &Endpoint,
    asked: Asked,
    place: Place,
    behind: Vec<u8>,
) -> Result<Admitted, Rejected> {
    let Incoming { id, stream, address, connection, handshake, .. } = incoming;
    let is_finished = handshake.is_none_or(HandshakePlace::finish);
    let Some((socket, mut session)) = stream.into_parts().filter(|_| is_finished) else {
        return Err(Rejected::Gone("its handshake had to give way to a newer one".to_owned()));
    };
    let is_tls = session.is_some();
    let is_session_ended = session.as_mut().is_some_and(Session::is_ended_by_peer);
    let peer = shared.add_peer(Name::Client, id, socket, session, &endpoint.profile);
    let connected_at = SystemTime::now();
    let subprotocol = admission.subprotocol.as_deref().map(Arc::from);
    let Asked { user_agent, description } = asked;
    let origin = Origin { session: id, client_ip: address, user_agent, subprotocol, connected_at, description };
    let (room, publisher) = (shared.rooms.open(&admission.room), Publisher::of_sender(&shared.budget));
    let client = Arc::new(Client { room, publisher, peer, origin });
    let Some(registration) = shared.registry.register(Arc::clone(&client), connection, place) else {
        let refusal = stopping();
        client.outbox().enqueue(Frame::joined(refusal.to_http().into(), 0));
        client.outbox().flush();
        client.outbox().abort("the server is shutting down");
        return Err(Rejected::Refused(refusal));
    };
    // The order of the next steps is a promise. The 101 and the welcome wait in the outbox before the room can deliver
    // anything, and they are written only once the join is on its way: a client that has seen the 101 misses nothing
    // that is published from then on. And its destinations hear of it before they can get anything from it.
    let answer = request::accept(admission.key, admission.subprotocol.as_deref());
    client.outbox().enqueue(Frame::joined(answer.into(), 0));
    if let Some(welcome) = welcome(&endpoint.settings.welcome, connected_at) {
        client.outbox().enqueue(Frame::message(&welcome));
    }
    let connected = || What::Connected { subprotocol: admission.subprotocol.clone() };
    tell_of_client(shared, &client, EventKind::Connect, connected);
    shared.step(&client.peer, &client.publisher, &client.room, Step::Join(Arc::clone(client.outbox())));
    client.outbox().flush();
    registration.place().open(client.outbox());
    let handshaken = Handshaken { is_tls, behind, is_session_ended };
    Ok(Admitted { registration, subprotocol: admission.subprotocol, handshaken, reached: None })
}

fn stopping() -> Refusal {
    Refusal::new(503, "the server is shutting down")
}

fn welcome(welcome: &Welcome, now: SystemTime) -> Option<Message> {
    match welcome {
        Welcome::Off => None,
        Welcome::N8n => Some(format::welcome_n8n(now)),
        Welcome::Text(text) => Some(Message { kind: Kind::Text, data: text.clone().into() }),
    }
}

/// What the client gets for which there is no place, as the endpoint says.
fn at_capacity(stream: &mut Stream, admission: &Admission<'_>, endpoint: &Endpoint, full: Full) -> Rejected {
    let (what, reason) = match full {
        Full::Room(_) => ("room", "Room at capacity"),
        Full::Endpoint(_) | Full::Leaving(_) => ("endpoint", "Server at capacity"),
    };
    match endpoint.settings.at_capacity {
        AtCapacity::Refuse | AtCapacity::Replace => {
            let refusal = Refusal::new(503, format!("this {what} is at capacity"));
            answer(stream, &refusal.to_http());
            Rejected::Refused(refusal)
        }
        AtCapacity::Close => {
            let mut bytes = request::accept(admission.key, admission.subprotocol.as_deref());
            for slice in Frame::close(Role::Server, Some(1013), reason).slices(0) {
                bytes.extend_from_slice(&slice);
            }
            answer(stream, &bytes);
            Rejected::AtCapacity(full)
        }
    }
}

/// What a peer gets of which no request could be read.
fn refuse_unread(stream: &mut Stream, error: HeadError, shared: &Shared) -> Rejected {
    let refusal = match error {
        HeadError::TimedOut => {
            let timeout = shared.settings.gateway.handshake_timeout;
            Refusal::new(408, format!("no complete request within {timeout:?}"))
        }
        HeadError::TooLong => Refusal::new(431, format!("the request head is longer than {} bytes", request::HEAD_MAX)),
        HeadError::PlainHttp => {
            // The session has said nothing yet, and what follows must not be encrypted.
            stream.give_up_tls();
            Refusal::new(400, "this port speaks TLS: use https:// or wss://")
        }
        HeadError::NotHttp => {
            Refusal::new(400, "this is not an HTTP request; if it is TLS: this port is not encrypted, use ws://")
        }
        HeadError::Incomplete => return Rejected::Gone("it left in the middle of its request".to_owned()),
        HeadError::Silent => return Rejected::Gone("it left without a request".to_owned()),
        HeadError::Tls(error) => {
            stream.abandon(Instant::now() + LINGER);
            return Rejected::Gone(format!("TLS handshake failed: {error}"));
        }
        HeadError::Io(error) => return Rejected::Gone(format!("failed to read its request: {error}")),
    };
    if stream.is_secret_not_agreed() {
        // There is no way to say it in.
        return Rejected::Gone(refusal.reason);
    }
    answer(stream, &refusal.to_http());
    Rejected::Refused(refusal)
}

/// Writes the last words to a peer and gives it time to read them.
fn answer(stream: &mut Stream, bytes: &[u8]) {
    if stream.write(bytes).is_ok() {
        stream.linger(Instant::now() + LINGER);
    }
}
