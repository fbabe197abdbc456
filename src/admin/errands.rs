//! What callers have the thread do that started the gateway: it alone reloads and drains.

use std::time::Duration;

use crossbeam_channel::Sender;

use crate::errand::Errand;
use crate::http::answer::Answer;
use crate::reload::Reloaded;
use crate::shared::drain::Draining;

/// How long an errand is waited for: the files of a reload may be on a slow disk, and a drain may wait for a reload.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where they are asked for: one of each can wait while another one is done.
#[derive(Debug, Clone)]
pub struct Errands {
    pub reloads: Sender<Errand<Reloaded>>,
    pub drains: Sender<Errand<Draining>>,
}

/// Has an errand done and waits for what comes of it. `what` is its name, for people.
///
/// # Errors
/// 409 where another one waits already, 503 where nothing comes of it in time.
pub fn run<A>(errands: &Sender<Errand<A>>, what: &str) -> Result<A, Answer> {
    let (errand, answered) = Errand::new();
    if errands.try_send(errand).is_err() {
        return Err(Answer::error(409, "conflict", &format!("another {what} waits already")));
    }
    answered.recv_timeout(PATIENCE).map_err(|_| {
        let why = format!("the {what} has not ended, or wsgate stops: the log says what came of it");
        Answer::error(503, "unavailable", &why).with_field("Retry-After", "1")
    })
}
