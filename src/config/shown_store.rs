//! A store's settings as JSON.

use serde_json::{Value, json};

use super::settings::StoreSettings;
use super::units::{write_duration, write_size};

/// All of them, each under the name that it has in the file.
pub(super) fn store(store: &StoreSettings) -> Value {
    json!({
        "name": store.name,
        "path": store.path,
        "durability": store.durability.word(),
        "gather": write_duration(store.gather),
        "queue": {
            "messages": store.queue.messages,
            "bytes": write_size(store.queue.bytes as u64),
            "when_full": store.queue.when_full.word(),
        },
        "wal_limit": write_size(store.wal_limit),
    })
}
