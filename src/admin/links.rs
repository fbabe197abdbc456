//! The links: a list of them, and each by its name.

use std::sync::Arc;

use serde::Serialize;
use serde_json::json;

use crate::admin::asked::Asked;
use crate::admin::clients::Page;
use crate::format::iso_8601;
use crate::http::answer::Answer;
use crate::shared::generation::Generation;
use crate::shared::link::Link;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkInfo {
    name: String,
    /// Without secrets.
    url: String,
    /// `up`, `down` or `givenUp`.
    state: &'static str,
    required: bool,
    connects: u64,
    failed_attempts: u64,
    /// Over all its connections.
    received_messages: u64,
    received_bytes: u64,
    sent_messages: u64,
    sent_bytes: u64,
    /// Messages that had no room.
    dropped_messages: u64,
    last_failure: Option<Failure>,
}

#[derive(Serialize)]
struct Failure {
    message: String,
    at: String,
}

/// `GET /api/v1/links`.
pub fn list(asked: &Asked<'_>) -> Result<Answer, Answer> {
    let items = look(&asked.admin.shared.generation());
    Ok(Answer::json(&Page { items, next: None }))
}

/// How all of them stand.
pub fn look(generation: &Generation) -> Vec<LinkInfo> {
    generation.links.values().map(|link| describe(generation, link)).collect()
}

/// `GET /api/v1/links/{name}`.
pub fn show(asked: &Asked<'_>) -> Result<Answer, Answer> {
    let link = find(asked)?;
    Ok(Answer::json(&describe(&asked.admin.shared.generation(), &link)))
}

/// `POST /api/v1/links/{name}/redial`: it is dialled at once, also if it was given up; a connection is closed first.
pub fn redial(asked: &Asked<'_>) -> Result<Answer, Answer> {
    let link = find(asked)?;
    if !link.redial() {
        return Err(Answer::error(
            409,
            "conflict",
            "wsgate stops, or had no descriptor to spare for this link: only a restart dials it",
        ));
    }
    Ok(Answer::json(&json!({ "name": *link.name })).with_status(202))
}

/// The link whose name is in the path.
fn find(asked: &Asked<'_>) -> Result<Arc<Link>, Answer> {
    let (name, generation) = (asked.parameter(0)?, asked.admin.shared.generation());
    let link = generation.links.values().find(|link| *link.name == *name);
    link.cloned().ok_or_else(|| Answer::error(404, "notFound", "no link has this name"))
}

fn describe(generation: &Generation, link: &Link) -> LinkInfo {
    let ((is_up, traffic), failure) = (link.counters.traffic(), link.last_failure());
    LinkInfo {
        name: link.name.to_string(),
        url: link.settings.shown.clone(),
        state: match &failure {
            _ if is_up => "up",
            Some(failure) if failure.is_given_up => "givenUp",
            _ => "down",
        },
        required: link.settings.required,
        connects: link.counters.connects(),
        failed_attempts: link.counters.failures(),
        received_messages: traffic.received.messages,
        received_bytes: traffic.received.bytes,
        sent_messages: traffic.sent.messages,
        sent_bytes: traffic.sent.bytes,
        dropped_messages: generation.outlets[link.outlet].dropped(),
        last_failure: failure.map(|failure| Failure { message: failure.why, at: iso_8601(failure.at) }),
    }
}
