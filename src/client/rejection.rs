//! Connections that do not become clients: why not, and what their peers are told before the end.

use std::time::SystemTime;

use log::{debug, info, warn};

use crate::client::admission::Admission;
use crate::client::authenticate;
use crate::config::{AtCapacity, EndpointSettings, Refuse};
use crate::connection::frame::{Frame, Role};
use crate::connection::handshake::{HeadError, Stream};
use crate::http::refusal::{Body, Refusal};
use crate::http::request::{self, Request};
use crate::http::token::is_token;
use crate::id::Id;
use crate::identity::Identity;
use crate::log_kind::{HANDSHAKES, REFUSALS};
use crate::shared::Shared;
use crate::shared::address_places::AddressFull;
use crate::shared::addresses::Shut;
use crate::shared::endpoint::Endpoint;
use crate::shared::generation::Generation;
use crate::shared::handshake_failures::Failure;
use crate::shared::identities::IdentityFull;
use crate::shared::places::Full;
use crate::shared::readiness::Readiness;
use crate::shared::refused::Cause;

/// Why a connection does not become a client, and what its peer is told before the end.
#[derive(Debug)]
pub(super) struct Rejection {
    /// For the metrics; `None` if it did not want to become one.
    pub(super) failure: Option<Failure>,
    /// For the log.
    pub(super) why: Why,
    /// For the peer.
    pub(super) last_words: LastWords,
}

impl Rejection {
    /// The same for a reason that its status does not tell.
    pub(super) fn because_of(self, failure: Failure) -> Rejection {
        Rejection { failure: Some(failure), ..self }
    }

    /// That of a connection whose peer has left, or was lost.
    pub(super) fn gone(why: String) -> Rejection {
        Rejection { failure: Some(Failure::Gone), why: Why::Gone(why), last_words: LastWords::None }
    }
}

#[derive(Debug)]
pub(super) enum LastWords {
    /// There is nothing to say, or no way to say it.
    None,
    /// A whole answer.
    Answer(Vec<u8>),
    /// The TLS session has sent the alert that says why.
    Alert,
}

#[derive(Debug)]
pub(super) enum Why {
    /// It is told so, with this status and reason.
    Refused(Refusal),
    /// It is let in only to be closed with 1013: there is no place for it.
    AtCapacity(Full),
    /// It is let in only to be closed with this code: it is not who may be here.
    Unauthorized(u16, Box<Refusal>),
    /// It is closed without an answer: its address may not connect.
    Shut(Shut),
    /// It ended before it had asked for anything, or the connection failed.
    Gone(String),
    /// No TLS session came about.
    TlsFailed(String),
    /// It has only asked whether the gateway is ready, and is told.
    Checked(Readiness),
}

impl Why {
    /// Logs why the connection with this id, from there, and to this endpoint if its request has led to one, does not
    /// become a client.
    pub(super) fn log(&self, id: Id, from: &str, endpoint: Option<&str>) {
        macro_rules! log {
            ($log:ident, $target:expr, $($text:tt)+) => {
                $log!(
                    target: $target, client:% = id, address = from, endpoint = endpoint;
                    "client {id} ({from}): {}", format_args!($($text)+)
                )
            };
        }
        match self {
            Why::Refused(refusal) => log!(info, REFUSALS, "{refusal}"),
            Why::AtCapacity(full) => log!(info, REFUSALS, "closed with 1013: {full}"),
            Why::Unauthorized(code, refusal) => {
                let Refusal { reason, advice, .. } = &**refusal;
                log!(info, REFUSALS, "closed with {code}: {reason}: {advice}");
            }
            Why::Shut(shut) => log!(info, REFUSALS, "closed without an answer: {shut}"),
            Why::Gone(why) => log!(debug, module_path!(), "{why}"),
            Why::Checked(readiness) => log!(debug, module_path!(), "a health check was answered: {readiness}"),
            Why::TlsFailed(why) => log!(info, HANDSHAKES, "TLS handshake failed: {why}"),
        }
    }
}

/// What a client is answered whose address has enough.
pub(super) fn too_many(shared: &Shared, full: &AddressFull) -> Refusal {
    shared.refused.count(full.cause());
    full.refusal().with_advice(full.to_string())
}

/// What a client is answered that comes while the gateway drains or stops.
pub(super) fn leaving(shared: &Shared) -> Refusal {
    if shared.is_stopping() {
        return Refusal::new(503, "the server is shutting down");
    }
    let seconds = shared.generation().gateway.drain_timeout.as_secs();
    Refusal::new(503, "the server is about to restart").with_retry_after(seconds.max(1))
}

/// A refusal that is answered as such.
pub(super) fn refused(refusal: Refusal) -> Rejection {
    refused_as(refusal, &[])
}

/// A refusal that is answered as such, and if with 403, then for this reason.
pub(super) fn forbidden(refusal: Refusal, failure: Failure) -> Rejection {
    match refusal.status {
        403 => refused(refusal).because_of(failure),
        _ => refused(refusal),
    }
}

/// A refusal that is answered as the method in this head demands.
#[inline(never)]
pub(super) fn refused_as(refusal: Refusal, head: &[u8]) -> Rejection {
    let body = if request::is_head(head) { Body::LeftOut } else { Body::Whole };
    let last_words = LastWords::Answer(refusal.to_http(SystemTime::now(), body));
    Rejection { failure: Some(Failure::of_status(refusal.status)), why: Why::Refused(refusal), last_words }
}

/// What a peer gets of which no request could be read.
pub(super) fn unread(stream: &mut Stream, error: HeadError, shared: &Shared) -> Rejection {
    let no_tls = |why| Rejection { failure: Some(Failure::Tls), why: Why::TlsFailed(why), last_words: LastWords::None };
    let refusal = match error {
        HeadError::TimedOut => {
            let timeout = shared.generation().gateway.handshake_timeout;
            Refusal::new(408, format!("no complete request within {timeout:?}"))
        }
        HeadError::TooLong => Refusal::new(431, format!("the request head is longer than {} bytes", request::HEAD_MAX)),
        HeadError::ProxyHeader(error) => {
            // What would be said in the session that was not begun yet nobody could read.
            let advice = "the proxy has to send it (HAProxy: \"send-proxy-v2\" in the server line; nginx: \
                          \"proxy_protocol on\"), or remove client_address under this [[listen]]";
            let refusal = Refusal::new(400, error.to_string()).with_advice(advice.to_owned());
            return if stream.is_tls() {
                Rejection {
                    failure: Some(Failure::BadRequest),
                    why: Why::Refused(refusal),
                    last_words: LastWords::None,
                }
            } else {
                refused(refusal)
            };
        }
        HeadError::Misplaced(other) => {
            // It was before any session, which has said nothing yet: what follows must not be encrypted.
            if stream.is_secret_not_agreed() {
                stream.give_up_tls();
            }
            Refusal::new(400, other.advice())
        }
        // As a client does that does not like our certificate.
        HeadError::Incomplete if stream.is_secret_not_agreed() => {
            return no_tls("the client has ended the connection".to_owned());
        }
        HeadError::Incomplete => return Rejection::gone("it left in the middle of its request".to_owned()),
        HeadError::Silent => return Rejection::gone("it left without a request".to_owned()),
        HeadError::Tls(error) => {
            return Rejection { last_words: LastWords::Alert, ..no_tls(error.to_string()) };
        }
        HeadError::Io(error) => return Rejection::gone(format!("failed to read its request: {error}")),
    };
    if stream.is_secret_not_agreed() {
        // There is no way to say it in.
        return no_tls(refusal.reason);
    }
    refused(refusal)
}

/// What the client gets that is not let in by who it is, as the endpoint says.
#[inline(never)]
pub(super) fn unauthorized(
    generation: &Generation,
    admission: &Admission<'_>,
    request: &Request<'_>,
    endpoint: &Endpoint,
    refusal: Refusal,
) -> Rejection {
    let (code, reason) = match (endpoint.settings.refuse, refusal.status) {
        (Refuse::Close, 401) => (4401, "Unauthorized"),
        (Refuse::Close, 403) => (4403, "Forbidden"),
        _ => return refused(refusal).because_of(Failure::Authentication),
    };
    // A relay's server is not asked, and a browser wants an answer to what it has offered.
    let secrets = authenticate::places(&generation.auths, &endpoint.settings);
    let is_secret = |name: &str| secrets.iter().any(|places| places.is_subprotocol(name));
    let is_answer = |name: &str| endpoint.dialer.is_some() && is_token(name) && !is_secret(name);
    let offered = || request.subprotocols.iter().copied().find(|name| is_answer(name));
    let subprotocol = admission.subprotocol.as_deref().or_else(offered);
    let last_words = LastWords::Answer(only_to_close(admission.key, subprotocol, code, reason));
    Rejection { failure: Some(Failure::Authentication), why: Why::Unauthorized(code, Box::new(refusal)), last_words }
}

/// What the client gets for which there is no place, as the endpoint says.
pub(super) fn no_place(
    shared: &Shared,
    admission: &Admission<'_>,
    endpoint: &EndpointSettings,
    full: Full,
    identity: Option<&Identity>,
) -> Rejection {
    let (what, reason) = match full {
        Full::Identity(identity_full) => {
            shared.refused.count(Cause::Identity);
            if let (IdentityFull::Contested { is_first: true, .. }, Some(identity)) = (identity_full, identity) {
                warn!(
                    target: REFUSALS, endpoint = endpoint.path.as_str();
                    "endpoint '{}': {full}: '{}' gets 429 for a while (give each client a name of its own, or raise \
                     max_identity_connections)",
                    endpoint.path, identity.name
                );
            }
            let refusal = Refusal::new(429, "there are too many connections of this identity");
            return refused(refusal.with_retry_after(identity_full.retry_after()).with_advice(full.to_string()));
        }
        Full::Room(_) => ("room", "Room at capacity"),
        Full::Endpoint(_) | Full::Leaving(_) => ("endpoint", "Server at capacity"),
    };
    match endpoint.at_capacity {
        AtCapacity::Refuse | AtCapacity::Replace => refused(Refusal::new(503, format!("this {what} is at capacity"))),
        AtCapacity::Close => {
            let answer = only_to_close(admission.key, admission.subprotocol.as_deref(), 1013, reason);
            Rejection {
                failure: Some(Failure::Capacity),
                why: Why::AtCapacity(full),
                last_words: LastWords::Answer(answer),
            }
        }
    }
}

/// A 101 with a Close behind it.
fn only_to_close(key: &str, subprotocol: Option<&str>, code: u16, reason: &str) -> Vec<u8> {
    let mut answer = request::accept(key, subprotocol);
    for slice in Frame::close(Role::Server, Some(code), reason).slices(0) {
        answer.extend_from_slice(&slice);
    }
    answer
}
