//! Draining, for whoever asks over the admin listener.

use serde::Serialize;

use crate::admin::asked::Asked;
use crate::admin::errands;
use crate::format::iso_8601;
use crate::http::answer::Answer;
use crate::shared::drain::Draining;
use crate::shared::readiness::Stage;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DrainInfo {
    /// Whether it had begun before this request.
    already_draining: bool,
    clients: usize,
    /// When the last client is closed.
    until: String,
    /// After which time at most wsgate has ended.
    ends_within_seconds: f64,
}

/// `POST /api/v1/drain`: does what SIGUSR2 does. Of a drain that has begun it says how that stands.
pub fn drain(asked: &Asked<'_>) -> Result<Answer, Answer> {
    // Nobody does errands any more.
    if asked.admin.shared.stage() == Stage::Stopping {
        return Err(Answer::error(409, "conflict", "wsgate stops already"));
    }
    let Draining { had_begun, clients, until, ends_within } = errands::run(&asked.admin.errands.drains, "drain")?;
    let info = DrainInfo {
        already_draining: had_begun,
        clients,
        until: iso_8601(until),
        ends_within_seconds: ends_within.as_millis() as f64 / 1000.0,
    };
    Ok(Answer::json(&info).with_status(202))
}
