//! `[[store]]`.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use crate::config::section::{Keys, Section, Value};
use crate::config::settings::{Durability, OutletPolicy, StoreQueueSettings, StoreSettings};

use super::bounds::{QUEUE_BYTES, QUEUE_MESSAGES};
use super::route::is_name;

pub(crate) static STORE: Keys = Keys {
    table: "[[store]]",
    keys: &[
        ("name", "\"readings\""),
        ("path", "\"readings.db\""),
        ("durability", "\"disk\""),
        ("gather", "\"0ms\""),
        ("queue", "{ messages = 16384, bytes = \"16MiB\", when_full = \"block\" }"),
        ("wal_limit", "\"256MiB\""),
    ],
};
pub(crate) static QUEUE: Keys = Keys {
    table: "queue of [[store]]",
    keys: &[("messages", "16384"), ("bytes", "\"16MiB\""), ("when_full", "\"block\"")],
};

const DURABILITIES: [(&str, Durability); 2] = [("disk", Durability::Disk), ("os", Durability::Os)];
const GATHER: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(10);
const WAL_LIMIT: RangeInclusive<usize> = 16 << 20..=64 << 30;

/// A `[[store]]` and where its parts stand.
pub(crate) struct RawStore {
    pub(crate) settings: StoreSettings,
    pub(crate) name_at: usize,
    /// The place of `path`; `None` if it is missing or wrong.
    pub(crate) path_at: Option<usize>,
    /// Whether the name is what was meant; a wrong one is compared with nothing.
    pub(crate) valid: bool,
}

pub(super) fn store(section: &Section<'_>, base_dir: &Path) -> RawStore {
    let name_value = section.require("name");
    let name = name_value.and_then(|value| store_name(&value));
    let path_value = section.require("path");
    let path = path_value.and_then(|value| file(&value));
    let path_at = path_value.filter(|_| path.is_some()).map(|value| value.at());
    let valid = name.is_some();
    let mut settings = StoreSettings::new(&name.unwrap_or_default(), base_dir.join(path.unwrap_or_default()));
    section.read("durability", &mut settings.durability, |v| v.choice(&DURABILITIES));
    section.read("gather", &mut settings.gather, |v| v.duration_within(GATHER));
    section.read("wal_limit", &mut settings.wal_limit, |v| v.size(WAL_LIMIT).map(|bytes| bytes as u64));
    if let Some(section) = section.get("queue").and_then(|value| value.section(&QUEUE)) {
        queue(&section, &mut settings.queue);
    }
    RawStore { settings, name_at: name_value.map_or(section.at, |value| value.at()), path_at, valid }
}

fn store_name(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    if is_name(&text.value) {
        return Some(text.value);
    }
    value.mistake(format_args!(
        "is {:?}, but the name of a store has only letters, digits, \"-\" and \"_\", 128 at most: write for example \
         name = \"readings\"",
        text.written
    ));
    None
}

fn file(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    if text.value.is_empty() || text.value.ends_with('/') {
        value.mistake(format_args!(
            "is {:?}, but must be a file: write for example path = \"readings.db\"",
            text.written
        ));
        return None;
    }
    Some(text.value)
}

fn queue(section: &Section<'_>, settings: &mut StoreQueueSettings) {
    let policies = [
        ("block", OutletPolicy::Block),
        ("drop_oldest", OutletPolicy::DropOldest),
        ("drop_newest", OutletPolicy::DropNewest),
    ];
    section.read("messages", &mut settings.messages, |v| v.integer(QUEUE_MESSAGES));
    section.read("bytes", &mut settings.bytes, |v| v.size(QUEUE_BYTES));
    section.read("when_full", &mut settings.when_full, |v| v.choice(&policies));
}
