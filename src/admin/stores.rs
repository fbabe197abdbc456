//! The stores: a list of them, and each by its name.

use std::sync::atomic::Ordering;

use serde::Serialize;

use crate::admin::asked::Asked;
use crate::admin::clients::Page;
use crate::http::answer::Answer;
use crate::shared::store::Store;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreInfo {
    name: String,
    path: String,
    /// `disk` or `os`.
    durability: &'static str,
    /// `open`, `locked`, `full` or `failed`.
    state: &'static str,
    /// Why it does not store.
    reason: Option<String>,
    messages: u64,
    file_bytes: u64,
    wal_bytes: u64,
    queued_messages: usize,
    queued_bytes: usize,
    /// Since the start.
    stored_messages: u64,
    dropped_messages: u64,
}

/// `GET /api/v1/stores`.
pub fn list(asked: &Asked<'_>) -> Result<Answer, Answer> {
    let generation = asked.admin.shared.generation();
    Ok(Answer::json(&Page { items: generation.stores.values().map(|store| describe(store)).collect(), next: None }))
}

/// `GET /api/v1/stores/{name}`.
pub fn show(asked: &Asked<'_>) -> Result<Answer, Answer> {
    let (name, generation) = (asked.parameter(0)?, asked.admin.shared.generation());
    let store = generation.stores.values().find(|store| *store.live.name == *name);
    let store = store.ok_or_else(|| Answer::error(404, "notFound", "no store has this name"))?;
    Ok(Answer::json(&describe(store)))
}

fn describe(store: &Store) -> StoreInfo {
    let (standing, (queued_messages, queued_bytes)) = (store.live.standing(), store.live.queue.depth());
    let counters = &store.live.counters;
    StoreInfo {
        name: store.live.name.to_string(),
        path: store.settings.path.display().to_string(),
        durability: store.settings.durability.word(),
        state: standing.word(),
        reason: standing.why().map(str::to_owned),
        messages: counters.messages.load(Ordering::Relaxed),
        file_bytes: counters.file_bytes.load(Ordering::Relaxed),
        wal_bytes: counters.wal_bytes.load(Ordering::Relaxed),
        queued_messages,
        queued_bytes,
        stored_messages: counters.stored.load(Ordering::Relaxed),
        dropped_messages: counters.dropped.load(Ordering::Relaxed),
    }
}
