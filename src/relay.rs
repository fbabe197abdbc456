//! A relay: a client with a connection of its own to another server, its upstream.
//!
//! The client's thread reads the client and writes to the upstream; a second thread, `relay ID`, reads
//! the upstream and writes to the client. Each of them waits while the other side takes nothing,
//! and does not read meanwhile: a slow side slows the other one, and memory stays bounded.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use log::{info, warn};

use crate::backoff;
use crate::config::RelaySettings;
use crate::connection::frame::{Cork, Frame, Role};
use crate::connection::handshake::{self, Request};
use crate::connection::outbox::Outbox;
use crate::connection::reader::Close;
use crate::dial::{self, DialError, Dialed, Dialer, Names, RequestExtras, Woken};
use crate::id::Id;
use crate::intake::{Handler, Incoming, Intake, Received};
use crate::message::Message;
use crate::peer::{Holder, Name, Peer};
use crate::registry::Client;
use crate::route::Room;
use crate::shared::{Endpoint, Shared};
use crate::thread::spawn_joined;
use crate::upstream::Upstream;
use crate::url;
use crate::wording::Seconds;

/// The waits between attempts to reach an upstream again: clients wait for it, so they are short.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MOST: Duration = Duration::from_secs(2);

/// What a client is told whose upstream was lost without a Close (RFC 6455 section 7.4.1; 1006 itself
/// must not be sent).
const UPSTREAM_LOST: (Option<u16>, &str) = (Some(1011), "Upstream connection lost");

/// What an upstream is told whose client was lost.
const CLIENT_LOST: (Option<u16>, &str) = (Some(1001), "Client connection lost");

/// The upstream of a client that is about to be let in, and how to reach it again.
#[derive(Debug)]
pub struct Reached {
    /// The connection.
    pub dialed: Dialed,
    /// What its request has of the client's.
    pub extras: RequestExtras,
}

/// Why no upstream was reached: what the log says, and what the client is answered.
#[derive(Debug)]
pub struct Unreached {
    /// Status and reason.
    pub refusal: handshake::Refusal,
    /// The whole HTTP answer: the upstream's own, where it gave one.
    pub answer: Vec<u8>,
}

/// The client's request, as far as its upstream hears of it.
#[derive(Debug)]
pub struct Asked<'a> {
    /// Its head, which was judged to be good.
    pub head: &'a [u8],
    /// The same, taken apart.
    pub request: &'a Request<'a>,
    /// The room that it leads to.
    pub room: &'a Room,
    /// Where it comes from.
    pub from: Option<IpAddr>,
    /// Whether it came over TLS.
    pub is_tls: bool,
}

/// Dials the upstream for a client that is about to be let in. What the upstream answers instead of a
/// 101 the client gets too.
pub fn reach(shared: &Shared, dialer: &Dialer, relay: &RelaySettings, asked: &Asked<'_>) -> Result<Reached, Unreached> {
    let unreached = |status, reason: String| {
        let refusal = handshake::Refusal::new(status, reason);
        Unreached { answer: refusal.to_http(), refusal }
    };
    let extras = extras(shared, relay, asked).map_err(|problem| unreached(502, problem))?;
    match dialer.dial(&extras, &shared.until_stop()) {
        Ok(dialed) => Ok(Reached { dialed, extras }),
        Err(DialError::Stopped) => Err(unreached(503, "the server is shutting down".to_owned())),
        Err(error) => {
            let why = error.with(&Names::CONFIGURATION).to_string();
            warn!("relay '{}': {why}", shared.routes.show(asked.room));
            Err(match error {
                DialError::Refused { refusal, .. } if refusal.status >= 300 => Unreached {
                    answer: passed_on_answer(&refusal),
                    refusal: handshake::Refusal::new(refusal.status, "its upstream answered so"),
                },
                error if error.is_timeout() => unreached(504, "the upstream did not answer in time".to_owned()),
                _ => unreached(502, "the upstream cannot be reached".to_owned()),
            })
        }
    }
}

/// An upstream's refusal as an answer of our own, on a connection that ends with it.
fn passed_on_answer(refusal: &dial::Refusal) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 {} {}\r\nConnection: close\r\n", refusal.status, refusal.reason).into_bytes();
    for (name, value) in &refusal.headers {
        answer.extend_from_slice(name.as_bytes());
        answer.extend_from_slice(b": ");
        answer.extend_from_slice(value);
        answer.extend_from_slice(b"\r\n");
    }
    answer.extend_from_slice(format!("Content-Length: {}\r\n\r\n", refusal.body.len()).as_bytes());
    answer.extend_from_slice(&refusal.body);
    answer
}

/// What the upstream's request has of the client's.
fn extras(shared: &Shared, relay: &RelaySettings, asked: &Asked<'_>) -> Result<RequestExtras, String> {
    let Asked { head, request, room, from, is_tls } = asked;
    let value = |name: &str| {
        let parameter = shared.routes.parameters(room).find(|(own, _)| *own == name);
        parameter.map_or("", |(_, value)| value)
    };
    let mut path_and_query = url::parse(&url::fill(&relay.dial.url, value)?)?.path_and_query;
    if let Some(query) = request.query.filter(|query| relay.forward_query && !query.is_empty()) {
        path_and_query.push(if path_and_query.contains('?') { '&' } else { '?' });
        path_and_query.push_str(query);
    }
    let mut headers = Vec::new();
    for name in &relay.forward_headers {
        headers.extend(handshake::header_values(head, name).into_iter().map(|value| (name.clone(), value)));
    }
    let mut set = |name: &str, value: String| headers.push((name.to_owned(), value.into_bytes()));
    if let Some(from) = from {
        set("X-Forwarded-For", from.to_string());
    }
    set("X-Forwarded-Proto", if *is_tls { "https" } else { "http" }.to_owned());
    set("X-Forwarded-Host", request.host.to_owned());
    let subprotocols = request.subprotocols.iter().map(|&name| name.to_owned()).collect();
    Ok(RequestExtras { path_and_query: Some(path_and_query), headers, subprotocols: Some(subprotocols), origin: None })
}

/// The upstream side of a running relay.
struct Side {
    shared: Arc<Shared>,
    client: Arc<Client>,
    upstream: Arc<Upstream>,
    extras: RequestExtras,
}

/// Relays until either side has ended.
pub fn run(shared: &Arc<Shared>, client: &Arc<Client>, reached: Reached, incoming: Incoming) -> Received {
    let endpoint = &shared.endpoints[client.room.endpoint()];
    let upstream = Arc::new(Upstream::default());
    let thread = match start(shared, client, &upstream, reached) {
        Ok(thread) => thread,
        Err(error) => {
            warn!("client {}: failed to start the thread of its relay: {error}", client.id());
            client.outbox().close(Some(1013), "Server at capacity");
            client.outbox().wait_closed();
            return Received::default();
        }
    };
    let mut to_upstream = ToUpstream { shared, client, upstream: &upstream, cork: Cork::masked(endpoint.cork) };
    let settings = &endpoint.settings;
    let mut intake = Intake::new(&client.peer, Role::Server, settings.max_message, &shared.clock, &shared.scratch);
    let close = intake.run(incoming, &mut to_upstream);
    let (code, reason) = passed_on(close.as_ref(), CLIENT_LOST);
    if let Some(outbox) = upstream.current() {
        outbox.close(code, reason);
    }
    upstream.end();
    // It has at most the close timeout left, and belongs to this client for as long.
    let _ = thread.join();
    intake.received()
}

/// What one side is told of the other side's Close.
fn passed_on<'a>(close: Option<&'a Close>, lost: (Option<u16>, &'a str)) -> (Option<u16>, &'a str) {
    close.map_or(lost, |close| (close.code, &*close.reason))
}

fn start(
    shared: &Arc<Shared>,
    client: &Arc<Client>,
    upstream: &Arc<Upstream>,
    reached: Reached,
) -> io::Result<JoinHandle<()>> {
    let Reached { dialed, extras } = reached;
    let (shared, client, upstream) = (Arc::clone(shared), Arc::clone(client), Arc::clone(upstream));
    let (name, stack) = (format!("relay {}", client.id()), shared.settings.gateway.client_stack);
    let side = Side { shared, client, upstream, extras };
    spawn_joined(name, stack, move || side.run(dialed))
}

impl Side {
    /// Reads the upstream and those that take its place, until there is none any more.
    fn run(&self, dialed: Dialed) {
        let client = self.client.outbox();
        let mut dialed = Some(dialed);
        while let Some(connection) = dialed.take() {
            let close = self.live(connection);
            if client.is_closing() {
                break;
            }
            let (code, reason) = passed_on(close.as_ref(), UPSTREAM_LOST);
            match self.endpoint().settings.relay.as_ref().and_then(|relay| relay.hold) {
                Some(hold) if is_restart(close.as_ref()) => dialed = self.reach_again(hold, reason),
                _ => {}
            }
            if dialed.is_none() {
                client.close(code, reason);
            }
        }
        self.upstream.end();
    }

    /// The life of one connection to the upstream; gives back its Close.
    fn live(&self, dialed: Dialed) -> Option<Close> {
        let Side { shared, client, upstream, .. } = self;
        let Dialed { socket, session, behind, .. } = dialed;
        let endpoint = self.endpoint();
        let id = Id::random().ok()?;
        if let Some(timeout) = endpoint.settings.write_timeout {
            socket.set_user_timeout(timeout);
        }
        let is_tls = session.is_some();
        let (clock, watch) = (Arc::clone(&shared.clock), Arc::clone(&shared.watch));
        let outbox = Arc::new(Outbox::new(id, Role::Client, socket, session, endpoint.limits, clock, watch));
        let now = shared.clock.now();
        let peer = Arc::new(Peer::new(Name::Relay(client.id()), Arc::clone(&outbox), endpoint.pulse, now));
        shared.visits.add(now + 1, Arc::downgrade(&peer));
        upstream.connected(&outbox, []);
        let mut to_client = ToClient { shared, client, peer: &peer, cork: Cork::new(endpoint.cork) };
        let settings = &endpoint.settings;
        let mut intake = Intake::new(&peer, Role::Client, settings.max_message, &shared.clock, &shared.scratch);
        let incoming = Incoming { is_tls, behind, is_session_ended: false };
        let close = intake.run(incoming, &mut to_client);
        upstream.lost(&outbox);
        close
    }

    /// Dials the upstream again and again while the client is kept.
    fn reach_again(&self, hold: Duration, why: &str) -> Option<Dialed> {
        let id = self.client.id();
        let until = Instant::now() + hold;
        info!("client {id}: its upstream is gone ({why}): held for at most {}", Seconds(hold));
        let watch = self.shared.until_stop().until_abandoned(Arc::clone(&self.client.peer) as _);
        for failures in 0.. {
            let error = match self.endpoint().dialer.as_ref()?.dial(&self.extras, &watch) {
                Ok(dialed) => {
                    info!("client {id}: its upstream is back");
                    return Some(dialed);
                }
                Err(DialError::Stopped) => return None,
                Err(error) => error.with(&Names::CONFIGURATION).to_string(),
            };
            let wait = backoff::wait(RETRY_FIRST, RETRY_MOST, failures, getrandom::u64().unwrap_or(u64::MAX));
            if Instant::now() + wait >= until {
                warn!("client {id}: its upstream did not come back: {error}");
                return None;
            }
            if watch.sleep(wait) == Woken::Stop {
                return None;
            }
        }
        None
    }

    fn endpoint(&self) -> &Endpoint {
        &self.shared.endpoints[self.client.room.endpoint()]
    }
}

/// Whether an upstream that ended like this may soon be back: it was lost, or said so.
fn is_restart(close: Option<&Close>) -> bool {
    close.is_none_or(|close| matches!(close.code, Some(1001 | 1012 | 1013)))
}

/// What the client sends, on its way to the upstream.
struct ToUpstream<'a> {
    shared: &'a Shared,
    client: &'a Client,
    upstream: &'a Upstream,
    cork: Cork,
}

impl Handler for ToUpstream<'_> {
    fn message(&mut self, message: Message, expected: usize) {
        self.cork.push_owned(message, expected);
    }

    fn flush(&mut self) {
        let ToUpstream { shared, client, upstream, cork } = self;
        let ended = || client.outbox().is_closing();
        let send = |frame: &Frame| {
            client.peer.while_held(Holder::Relay, || shared.clock.now(), || upstream.send(frame, ended))
        };
        cork.take().as_slice().iter().all(send);
    }
}

/// What the upstream sends, on its way to the client.
struct ToClient<'a> {
    shared: &'a Shared,
    client: &'a Client,
    /// The upstream's.
    peer: &'a Peer,
    cork: Cork,
}

impl Handler for ToClient<'_> {
    fn message(&mut self, message: Message, expected: usize) {
        self.cork.push_owned(message, expected);
    }

    fn flush(&mut self) {
        let ToClient { shared, client, peer, cork } = self;
        let send =
            |frame: &Frame| peer.while_held(Holder::Relay, || shared.clock.now(), || client.outbox().reply(frame));
        cork.take().as_slice().iter().all(send);
    }
}
