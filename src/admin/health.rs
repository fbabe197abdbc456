//! Whether wsgate lives, and whether it is to be sent clients.

use crate::admin::asked::Asked;
use crate::http::answer::Answer;

/// `GET /healthz`: it answers, so it lives.
pub fn alive(_: &Asked<'_>) -> Result<Answer, Answer> {
    Ok(Answer::text("ok\n"))
}

/// `GET /readyz`: 503 while new clients had better go elsewhere.
pub fn ready(asked: &Asked<'_>) -> Result<Answer, Answer> {
    let readiness = asked.admin.shared.readiness();
    match readiness.is_ready() {
        true => Ok(Answer::text("ready\n")),
        false => Err(Answer::error(503, "notReady", &readiness.to_string()).with_field("Retry-After", "1")),
    }
}
