//! The metrics of stores.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::metrics::families::Families;
use crate::shared::Shared;
use crate::shared::store::{LiveStore, Standing, StoreCounters};

pub(super) fn encode(shared: &Shared, families: &mut Families<'_>) -> fmt::Result {
    let generation = shared.generation();
    let stores: Vec<&LiveStore> = generation.stores.values().map(|store| &*store.live).collect();
    state(&stores, families)?;
    files(&stores, families)?;
    messages(&stores, families)
}

/// A series for each store.
fn each<'s, T>(
    stores: &'s [&'s LiveStore],
    value: impl Fn(&LiveStore) -> T,
) -> impl Iterator<Item = ([(&'static str, &'s str); 1], T)> {
    stores.iter().map(move |store| ([("store", &*store.name)], value(store)))
}

fn count(stores: &[&LiveStore], of: fn(&StoreCounters) -> &AtomicU64) -> Vec<u64> {
    stores.iter().map(|store| of(&store.counters).load(Ordering::Relaxed)).collect()
}

fn counted<'s>(
    stores: &'s [&'s LiveStore],
    of: fn(&StoreCounters) -> &AtomicU64,
) -> impl Iterator<Item = ([(&'static str, &'s str); 1], u64)> {
    stores.iter().zip(count(stores, of)).map(|(store, count)| ([("store", &*store.name)], count))
}

fn state(stores: &[&LiveStore], families: &mut Families<'_>) -> fmt::Result {
    let states = stores.iter().flat_map(|store| {
        let now = store.standing().word();
        Standing::WORDS.map(move |word| ([("store", &*store.name), ("state", word)], u64::from(word == now)))
    });
    families.gauges("wsgate_store_state", "1 for the state that the store is in, 0 for the others.", states)?;
    families.gauges(
        "wsgate_store_queue_messages",
        "Messages that wait for the next commit.",
        each(stores, |store| store.queue.depth().0 as u64),
    )?;
    families.gauges(
        "wsgate_store_queue_bytes",
        "Bytes that wait for the next commit.",
        each(stores, |store| store.queue.depth().1 as u64),
    )
}

fn files(stores: &[&LiveStore], families: &mut Families<'_>) -> fmt::Result {
    families.gauges("wsgate_store_messages", "Messages in the file.", counted(stores, |store| &store.messages))?;
    families.gauges("wsgate_store_file_bytes", "Size of the file.", counted(stores, |store| &store.file_bytes))?;
    families.gauges("wsgate_store_wal_bytes", "Size of its write-ahead log.", counted(stores, |store| &store.wal_bytes))
}

fn messages(stores: &[&LiveStore], families: &mut Families<'_>) -> fmt::Result {
    families.counters(
        "wsgate_store_stored_messages",
        "Messages that were stored.",
        counted(stores, |store| &store.stored),
    )?;
    families.counters(
        "wsgate_store_stored_bytes",
        "Bytes of these messages, and 16 for each.",
        counted(stores, |store| &store.stored_bytes),
    )?;
    families.counters(
        "wsgate_store_dropped_messages",
        "Messages for the store that were dropped.",
        counted(stores, |store| &store.dropped),
    )?;
    families.counters(
        "wsgate_store_commit_failures",
        "Attempts to store that failed. They are made again.",
        counted(stores, |store| &store.failures),
    )?;
    families.histograms(
        "wsgate_store_commit_duration_seconds",
        "How long the commits took that succeeded.",
        each(stores, |store| store.counters.commits.read()),
    )
}
