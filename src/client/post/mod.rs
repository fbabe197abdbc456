//! Messages over HTTP: the requests of one connection, one after the other, as long as they are for endpoints with `post`.

mod request;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::client::incoming::Incoming;
use crate::client::post::request::{Answered, Requests};
use crate::client::rejection::{Rejection, unread};
use crate::connection::handshake::{Head, HeadError};
use crate::http::answer::Then;
use crate::http::call;
use crate::shared::Shared;
use crate::shared::handshakes::HandshakePlace;
use crate::shared::refused::Cause;

/// How long a connection may wait for its next request.
const IDLE: Duration = Duration::from_secs(75);

/// A peer that takes an answer more slowly is cut.
const WRITE: Duration = Duration::from_secs(20);

/// How long a peer whose connection ends may take to read why.
const LINGER: Duration = Duration::from_secs(2);

/// Answers the requests of a connection for as long as they are about messages, of which this head is the first that came.
/// Gives back the first one that is not, with its deadline: a proxy may open a WebSocket over a connection that it has
/// posted over. `None` if the connection has ended.
#[inline(never)]
pub(super) fn answer_all(
    shared: &Arc<Shared>,
    incoming: &mut Incoming,
    head: Head,
    deadline: Instant,
) -> Result<Option<(Head, Instant)>, Rejection> {
    // Nearly all are none.
    if head.bytes.starts_with(b"GET ") {
        return Ok(Some((head, deadline)));
    }
    let mut requests = Requests::new(incoming);
    let mut next = Some((head, deadline));
    while let Some((head, deadline)) = next {
        requests.begin(incoming);
        if !is_about_messages(shared, incoming, &head.bytes) {
            requests.end(incoming);
            return Ok(Some((head, deadline)));
        }
        let Some(answered) = requests.answer(shared, incoming, head, deadline) else { return Ok(None) };
        next = match tell(shared, incoming, answered) {
            Some(behind) => next_head(shared, incoming, behind)?,
            None => None,
        };
    }
    Ok(None)
}

/// Whether a request is for an endpoint that takes messages over HTTP, and does not ask for a WebSocket. What else is wrong
/// with it does not matter yet.
fn is_about_messages(shared: &Shared, incoming: &Incoming, head: &[u8]) -> bool {
    let Some((method, path)) = call::asked(head) else { return false };
    let generation = shared.generation();
    let is_reachable = |id| {
        let endpoint = generation.endpoints.get(id);
        endpoint.is_some_and(|endpoint| endpoint.settings.is_on(&incoming.door.settings))
    };
    let room = generation.routes.find(path, is_reachable).filter(|_| method != "GET");
    room.is_some_and(|room| generation.endpoint(room.endpoint()).settings.post)
}

/// Writes an answer. Gives back what has come behind the request, if another one may follow.
fn tell(shared: &Shared, incoming: &mut Incoming, answered: Answered<'_>) -> Option<Vec<u8>> {
    let Answered { answer, body, then, behind, busy } = answered;
    let then = if shared.lets_nobody_in() { Then::End } else { then };
    let answer = answer.to_http(SystemTime::now(), body, then);
    let written = incoming.stream.write_all(&answer, Instant::now() + WRITE);
    drop(busy);
    if written.is_ok() && then == Then::Next {
        return Some(behind);
    }
    if written.is_ok() {
        incoming.stream.linger(Instant::now() + LINGER);
    }
    None
}

/// The head of the next request, with its deadline; `None` if there is none.
fn next_head(shared: &Shared, incoming: &mut Incoming, behind: Vec<u8>) -> Result<Option<(Head, Instant)>, Rejection> {
    if behind.is_empty() && !comes_next(shared, incoming) {
        return Ok(None);
    }
    let deadline = Instant::now() + shared.generation().gateway.handshake_timeout;
    let (place, given_way) = shared.handshakes.enter(incoming.address, &incoming.stream.socket);
    incoming.handshake = Some(place);
    given_way.iter().for_each(|_| shared.refused.count(Cause::Handshakes));
    match incoming.stream.read_next_head(behind, deadline) {
        Ok(head) => Ok(Some((head, deadline))),
        Err(HeadError::Silent) => Ok(None),
        Err(error) => Err(unread(&mut incoming.stream, error, shared)),
    }
}

/// Waits for the next request, and says whether it comes.
fn comes_next(shared: &Shared, incoming: &Incoming) -> bool {
    let socket = &incoming.stream.socket;
    let place = shared.posts.idle(incoming.address, socket);
    // Looked at behind the place: a stop has seen that, or is seen here.
    !shared.lets_nobody_in() && socket.wait_readable(IDLE).unwrap_or(false) && HandshakePlace::finish(place)
}
