//! The metrics of links.

use std::fmt;
use std::sync::atomic::Ordering;

use crate::histogram::Reading;
use crate::metrics::families::Families;
use crate::shared::Shared;
use crate::shared::generation::Generation;
use crate::shared::link::Link;
use crate::shared::traffic::Traffic;

/// A link at one moment.
struct LinkSample<'l> {
    name: &'l str,
    is_up: bool,
    connects: u64,
    failures: u64,
    traffic: Traffic,
    /// Messages and bytes.
    queued: (usize, usize),
    dropped: u64,
    refused: u64,
    events_dropped: u64,
    round_trips: Reading,
}

impl<'l> LinkSample<'l> {
    fn of(generation: &Generation, link: &'l Link) -> LinkSample<'l> {
        let (counters, outlet) = (&link.counters, &generation.outlets[link.outlet]);
        let (is_up, traffic) = counters.traffic();
        LinkSample {
            name: &link.name,
            is_up,
            connects: counters.connects(),
            failures: counters.failures(),
            traffic,
            queued: outlet.depth(),
            dropped: outlet.dropped(),
            refused: counters.refused(),
            events_dropped: counters.events_dropped.load(Ordering::Relaxed),
            round_trips: counters.round_trips.read(),
        }
    }
}

pub(super) fn encode(shared: &Shared, families: &mut Families<'_>) -> fmt::Result {
    let generation = shared.generation();
    let links: Vec<_> = generation.links.values().map(|link| LinkSample::of(&generation, link)).collect();
    state(&links, families)?;
    traffic(&links, families)
}

fn state(links: &[LinkSample<'_>], families: &mut Families<'_>) -> fmt::Result {
    let each = |value: fn(&LinkSample<'_>) -> u64| links.iter().map(move |link| ([("link", link.name)], value(link)));
    families.gauges(
        "wsgate_link_up",
        "1 while the link is connected, or while its HTTP server takes messages, else 0.",
        each(|link| link.is_up.into()),
    )?;
    let attempts = links.iter().flat_map(|link| {
        let result = |result| [("link", link.name), ("result", result)];
        [(result("ok"), link.connects), (result("failed"), link.failures)]
    });
    families.counters("wsgate_link_attempts", "Attempts to connect the link, by result.", attempts)?;
    families.gauges(
        "wsgate_link_queue_messages",
        "Messages that wait for the link in its queue.",
        each(|link| link.queued.0 as u64),
    )?;
    families.gauges(
        "wsgate_link_queue_bytes",
        "Bytes that wait for the link in its queue.",
        each(|link| link.queued.1 as u64),
    )?;
    families.histograms(
        "wsgate_link_ping_round_trip_seconds",
        "From a ping, or a request that was confirmed, to the answer of the link's server.",
        links.iter().map(|link| ([("link", link.name)], link.round_trips.clone())),
    )
}

fn traffic(links: &[LinkSample<'_>], families: &mut Families<'_>) -> fmt::Result {
    let each = |value: fn(&Traffic) -> u64| links.iter().map(move |link| ([("link", link.name)], value(&link.traffic)));
    families.counters(
        "wsgate_link_received_messages",
        "Messages from the link's server.",
        each(|traffic| traffic.received.messages),
    )?;
    families.counters(
        "wsgate_link_received_bytes",
        "Bytes of the payload of these messages.",
        each(|traffic| traffic.received.bytes),
    )?;
    families.counters(
        "wsgate_link_sent_messages",
        "Messages to the link's server that the kernel has taken.",
        each(|traffic| traffic.sent.messages),
    )?;
    families.counters(
        "wsgate_link_sent_bytes",
        "Bytes to the link's server that the kernel has taken, before encryption.",
        each(|traffic| traffic.sent.bytes),
    )?;
    let dropped = links.iter().flat_map(|link| {
        let undelivered = link.traffic.undelivered.by_reason();
        let reasons = [("queue_full", link.dropped), ("refused", link.refused)].into_iter().chain(undelivered);
        reasons.map(|(reason, count)| ([("link", link.name), ("reason", reason)], count))
    });
    families.counters(
        "wsgate_link_dropped_messages",
        "Messages that were dropped, by reason: queue_full and refused (by an HTTP server, for themselves) are for \
         messages to the link, the others for messages from it.",
        dropped,
    )?;
    families.counters(
        "wsgate_link_dropped_events",
        "Events of the link for which a destination had no room.",
        links.iter().map(|link| ([("link", link.name)], link.events_dropped)),
    )
}
