//! Who a client is that asks to be let in: what `authenticate.rs` is told of it and of the gateway, and what comes of its
//! refusals.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::authenticators::Attempt;
use crate::client::authenticate::{self, Access, Denied, authenticate};
use crate::config::EndpointSettings;
use crate::connection::handshake::Stream;
use crate::dial::CancelToken;
use crate::http::refusal::Refusal;
use crate::http::request::Request;
use crate::route::Room;
use crate::shared::Shared;
use crate::shared::auth_failures::AuthFailure;
use crate::shared::generation::Generation;
use crate::shared::refused::Cause;

/// Whoever sends a request, by its connection, the head of its request and its address.
#[derive(Debug, Clone, Copy)]
pub(super) struct Requester<'a> {
    pub(super) stream: &'a Stream,
    pub(super) head: &'a [u8],
    pub(super) request: &'a Request<'a>,
    pub(super) address: Option<IpAddr>,
}

/// Who sends a request for this room, if its endpoint asks, unless its address has sent too many wrong credentials.
#[inline(never)]
pub(super) fn identify(
    shared: &Shared,
    generation: &Generation,
    room: &Room,
    requester: &Requester<'_>,
    deadline: Instant,
) -> Result<Access, Denied> {
    let Requester { stream, head, request, address } = *requester;
    let endpoint = generation.endpoint(room.endpoint());
    if endpoint.settings.auth.is_empty() {
        return Ok(Access::of_anybody());
    }
    let is_heard = || not_locked_out(shared, address);
    let failures = &endpoint.counters.auth_failures;
    is_heard().map_err(|refusal| {
        failures.count(AuthFailure::LockedOut);
        Denied::Refused(AuthFailure::LockedOut, refusal)
    })?;
    let takes_certificates = authenticate::takes_certificates(&generation.auths, &endpoint.settings);
    let certificate = takes_certificates.then(|| stream.client_certificate()).flatten();
    let attempt = Attempt {
        head,
        request,
        certificate: certificate.as_ref(),
        looks_at_claims: authenticate::looks_at_claims(&endpoint.settings),
        address,
        endpoint: endpoint.settings.path.as_str(),
        path: &room.to_string(),
        deadline,
        cancel: &until_nobody_waits(shared, generation, stream, &endpoint.settings),
        is_heard: &is_heard,
        has_failed: &|| shared.failures.count(address, Instant::now()),
        has_left: &|| stream.socket.wait_hung_up(Duration::ZERO),
    };
    let access = authenticate(&generation.auths, &endpoint.settings, &attempt);
    if let Err(Denied::Refused(failure, _)) = &access {
        failures.count(*failure);
    }
    access
}

/// What ends the wait for a service that is asked who a client is: the stop, or that the client has left.
#[inline(never)]
fn until_nobody_waits(
    shared: &Shared,
    generation: &Generation,
    stream: &Stream,
    endpoint: &EndpointSettings,
) -> CancelToken {
    if !authenticate::asks_a_service(&generation.auths, endpoint) {
        return CancelToken::default();
    }
    let token = shared.until_stop();
    match stream.socket.as_fd().try_clone_to_owned() {
        Ok(socket) => token.until_hung_up(Arc::new(socket)),
        // It waits as long as for any other.
        Err(_) => token,
    }
}

/// Whether a credential from this address is looked at.
///
/// # Errors
/// 429.
pub fn not_locked_out(shared: &Shared, address: Option<IpAddr>) -> Result<(), Refusal> {
    let Some(seconds) = shared.failures.locked_out(address, Instant::now()) else { return Ok(()) };
    shared.refused.count(Cause::FailedCredentials);
    let refusal = Refusal::new(429, "there were too many wrong credentials from this address");
    Err(refusal.with_retry_after(seconds).with_advice("see \"failed_credentials\" in [gateway]".to_owned()))
}
