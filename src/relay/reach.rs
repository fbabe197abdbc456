//! Reaching the upstream of a client before the client is let in.
//!
//! The client gets its 101 only once its upstream has sent one, or what the upstream answers instead.

use std::borrow::Cow;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::SystemTime;

use log::warn;

use crate::approach::Approach;
use crate::auth::credentials::Places;
use crate::config::RelaySettings;
use crate::dial::{DialError, Dialed, Hints, RequestExtras};
use crate::http::refusal::{Body, Refusal, pass_on};
use crate::http::request::{self, Request};
use crate::identity::Identity;
use crate::log_kind::UPSTREAMS;
use crate::path::Pattern;
use crate::route::Room;
use crate::shared::Shared;
use crate::shared::endpoint::Endpoint;

/// What tells an upstream who its client is. No client can set it: `forward_headers` cannot name it.
const IDENTITY_HEADER: &str = "X-Wsgate-Identity";

/// The upstream of a client that is about to be let in, and how to reach it again.
#[derive(Debug)]
pub struct Reached {
    /// The connection.
    pub dialed: Dialed,
    /// What its request has of the client's.
    pub extras: RequestExtras,
}

/// Why no upstream was reached.
#[derive(Debug)]
pub enum ReachError {
    /// What the client is answered.
    Refused {
        /// Status and reason, for the log.
        refusal: Refusal,
        /// The whole HTTP answer: the upstream's own, where it gave one.
        answer: Vec<u8>,
    },
    /// The client did not wait for it.
    Gone,
}

/// The client's request, as far as its upstream hears of it.
#[derive(Debug)]
pub struct ClientRequest<'a> {
    /// Where it came from: nobody dials any longer for a client that is gone.
    pub socket: BorrowedFd<'a>,
    /// Its head, which was judged to be good.
    pub head: &'a [u8],
    /// The same, taken apart.
    pub request: &'a Request<'a>,
    /// Where it may hold credentials for us, which are not for its upstream.
    pub secrets: Vec<&'a Places>,
    /// Who sent it, if its endpoint authenticates clients.
    pub identity: Option<&'a Identity>,
    /// The endpoint and the room that it leads to.
    pub endpoint: &'a Endpoint,
    pub room: &'a Room,
    /// How it has come.
    pub approach: &'a Approach,
}

/// Dials the upstream for a client that is about to be let in. What the upstream answers instead of a
/// 101 the client gets too.
pub fn reach(shared: &Shared, relay: &RelaySettings, asked: &ClientRequest<'_>) -> Result<Reached, ReachError> {
    let unreached = |status, reason: String| {
        let refusal = Refusal::new(status, reason);
        ReachError::Refused { answer: refusal.to_http(SystemTime::now(), Body::Whole), refusal }
    };
    let extras = extras(relay, &asked.endpoint.settings.path, asked);
    let Some(dialer) = &asked.endpoint.dialer else {
        return Err(unreached(502, "its endpoint has no upstream".to_owned()));
    };
    let socket = asked.socket.try_clone_to_owned();
    let socket = socket.map_err(|error| unreached(503, format!("failed to watch its connection: {error}")))?;
    match dialer.dial(&extras, &shared.until_stop().until_hung_up(Arc::new(socket))) {
        Ok(dialed) => Ok(Reached { dialed, extras }),
        Err(DialError::Cancelled) if shared.is_stopping() => {
            Err(unreached(503, "the server is shutting down".to_owned()))
        }
        Err(DialError::Cancelled) => Err(ReachError::Gone),
        // Of the client's own making, so it is no warning.
        Err(DialError::Request { problem, .. }) => {
            Err(unreached(400, format!("its request cannot be passed on: {problem}")))
        }
        Err(error) => {
            let why = error.with(&Hints::CONFIGURATION).to_string();
            warn!(target: UPSTREAMS, endpoint = asked.endpoint.settings.path.as_str(); "relay '{}': {why}", asked.room);
            Err(match error {
                DialError::Refused { refusal, .. } if refusal.status >= 300 => ReachError::Refused {
                    answer: pass_on(
                        refusal.status,
                        &refusal.reason,
                        &refusal.headers,
                        &refusal.body,
                        SystemTime::now(),
                    ),
                    refusal: Refusal::new(refusal.status, "this is the answer of its upstream"),
                },
                error if error.is_timeout() => unreached(504, "the upstream did not answer in time".to_owned()),
                _ => unreached(502, "the upstream cannot be reached".to_owned()),
            })
        }
    }
}

/// What the upstream's request has of the client's.
fn extras(relay: &RelaySettings, pattern: &Pattern, asked: &ClientRequest<'_>) -> RequestExtras {
    let ClientRequest { head, request, secrets, identity, approach, .. } = asked;
    let segments = pattern.written(request.path);
    let mut path_and_query = relay.path.fill(|&index| segments[index]);
    let query = secrets.iter().fold(Cow::Borrowed(request.query.unwrap_or_default()), |query, places| {
        places.query_without(&query).into_owned().into()
    });
    if relay.forward_query && !query.is_empty() {
        path_and_query.push(if path_and_query.contains('?') { '&' } else { '?' });
        path_and_query.push_str(&query);
    }
    let mut headers = Vec::new();
    for name in &relay.forward_headers {
        for value in request::header_values(head, name) {
            let rest = match name.eq_ignore_ascii_case("cookie") {
                true => secrets.iter().try_fold(value, |value, places| places.cookies_without(value)),
                false => Some(value),
            };
            headers.extend(rest.map(|value| (name.clone(), value)));
        }
    }
    let mut set = |name: &str, value: String| headers.push((name.to_owned(), value.into_bytes()));
    // What the client itself has sent of these is not among them, unless a trusted proxy stands for it.
    if !approach.way.is_empty() {
        let way: Vec<String> = approach.way.iter().map(ToString::to_string).collect();
        set("X-Forwarded-For", way.join(", "));
    }
    set("X-Forwarded-Proto", if approach.is_tls { "https" } else { "http" }.to_owned());
    set("X-Forwarded-Host", approach.host.name.clone());
    if let Some(identity) = identity {
        set(IDENTITY_HEADER, identity.name.to_string());
    }
    let is_secret = |name: &str| secrets.iter().any(|places| places.is_subprotocol(name));
    let subprotocols =
        request.subprotocols.iter().filter(|name| !is_secret(name)).map(|&name| name.to_owned()).collect();
    RequestExtras { path_and_query: Some(path_and_query), headers, subprotocols: Some(subprotocols), origin: None }
}
