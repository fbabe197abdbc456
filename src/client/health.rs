//! Health checks on a listener with `health`: they are answered before anything that is asked of a client.

use std::time::SystemTime;

use crate::client::incoming::{Incoming, check_address};
use crate::client::rejection::{LastWords, Rejection, Why};
use crate::config::{ClientAddress, ListenerSettings};
use crate::http::health::HealthCheck;
use crate::shared::Shared;

/// Answers a health check, if this head is one.
pub(super) fn answer(shared: &Shared, incoming: &Incoming, head: &[u8]) -> Result<(), Rejection> {
    if let Some(answer) = answer_to(shared, &incoming.door.settings, head) {
        return Err(answer);
    }
    // A proxy may check whether we are there. For more, its own address has to be let in.
    let is_of_proxy = incoming.door.settings.client_address == ClientAddress::ProxyProtocol && !incoming.is_named;
    if is_of_proxy { check_address(incoming) } else { Ok(()) }
}

#[inline(never)]
fn answer_to(shared: &Shared, listener: &ListenerSettings, head: &[u8]) -> Option<Rejection> {
    let path = listener.health.as_ref()?;
    let check = HealthCheck::parse(head, |asked| path.matches(asked).is_some())?;
    let readiness = shared.readiness();
    let answer = check.answer(readiness.is_ready(), &readiness.in_public(), SystemTime::now());
    Some(Rejection { failure: None, why: Why::Checked(readiness), last_words: LastWords::Answer(answer) })
}
