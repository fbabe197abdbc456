//! Reloading, for whoever asks over the admin listener.

use serde_json::json;

use crate::admin::asked::Asked;
use crate::admin::errands;
use crate::http::answer::Answer;

/// `POST /api/v1/reload`: does what SIGHUP does, and says what came of it.
pub fn reload(asked: &Asked<'_>) -> Result<Answer, Answer> {
    match errands::run(&asked.admin.errands.reloads, "reload")? {
        Ok(read) => Ok(Answer::json(&json!({ "reloaded": read }))),
        Err(wrong) => {
            let error = json!({ "code": "reloadFailed", "message": "nothing has changed", "mistakes": wrong });
            Err(Answer::json(&json!({ "error": error })).with_status(422))
        }
    }
}
