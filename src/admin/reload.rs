//! Reloading, for whoever asks over the admin listener.

use std::time::Duration;

use serde_json::json;

use crate::admin::asked::Asked;
use crate::http::answer::Answer;
use crate::reload::ReloadRequest;

/// How long a reload is waited for: its files may be on a slow disk.
const PATIENCE: Duration = Duration::from_secs(60);

/// `POST /api/v1/reload`: does what SIGHUP does, and says what came of it.
pub fn reload(asked: &Asked<'_>) -> Result<Answer, Answer> {
    let (request, reloaded) = ReloadRequest::new();
    if asked.admin.reloads.try_send(request).is_err() {
        return Err(Answer::error(409, "conflict", "another reload waits already"));
    }
    match reloaded.recv_timeout(PATIENCE) {
        Ok(Ok(read)) => Ok(Answer::json(&json!({ "reloaded": read }))),
        Ok(Err(wrong)) => {
            let error = json!({ "code": "reloadFailed", "message": "nothing has changed", "mistakes": wrong });
            Err(Answer::json(&json!({ "error": error })).with_status(422))
        }
        Err(_) => {
            let why = "the reload has not ended, or wsgate stops: the log says what came of it";
            Err(Answer::error(503, "unavailable", why).with_field("Retry-After", "1"))
        }
    }
}
