//! The metrics of clients, by endpoint.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::config::EndpointSettings;
use crate::connection::peer::BlockedOn;
use crate::histogram::Reading;
use crate::metrics::families::Families;
use crate::shared::Shared;
use crate::shared::auth_failures::AuthFailure;
use crate::shared::counts::Worded;
use crate::shared::endpoint_counters::{CLOSE_CODES, EndpointCounters, POST_STATUSES};
use crate::shared::generation::Generation;
use crate::shared::registry::Client;
use crate::shared::traffic::Traffic;

/// What an endpoint has counted, and its clients at one moment.
#[derive(Debug, Clone)]
struct EndpointSample {
    path: String,
    clients: u64,
    connected: u64,
    disconnects: Vec<u64>,
    traffic: Traffic,
    queued_messages: u64,
    queued_bytes: u64,
    /// Messages in the longest queue of a client.
    longest_queue: u64,
    events_dropped: u64,
    /// By cause; empty where nobody is asked.
    auth_failures: Vec<u64>,
    /// By status; empty where nobody may post.
    posts: Vec<u64>,
    round_trips: Reading,
}

pub(super) fn encode(shared: &Shared, families: &mut Families<'_>) -> fmt::Result {
    let (endpoints, held) = sample(shared);
    connections(&endpoints, families)?;
    messages(&endpoints, families)?;
    queues(&endpoints, families)?;
    families.gauges(
        "wsgate_clients_held",
        "Clients from which nothing has been read for at least half a second because something else has to go on \
         first: the broadcaster, their own outbox (they do not read their answers), the other side of a relay, \
         their rate, or a link.",
        held.iter().map(|(by, count)| ([("by", by.as_str())], *count)),
    )
}

/// All endpoints, those with the same path together, and how many clients are held by what.
fn sample(shared: &Shared) -> (Vec<EndpointSample>, BTreeMap<String, u64>) {
    // Added under the lock of the registry: a client that leaves meanwhile is in one of the two.
    let generation = shared.generation();
    let (clients, mut samples) = shared.registry.all_and(|| {
        let endpoints = generation.endpoints.values();
        endpoints.map(|endpoint| EndpointSample::of(&endpoint.counters, &endpoint.settings)).collect::<Vec<_>>()
    });
    let places: HashMap<_, _> = generation
        .endpoints
        .values()
        .enumerate()
        .map(|(place, endpoint)| (Arc::as_ptr(&endpoint.counters), place))
        .collect();
    let mut held = nobody_is_held(shared, &generation);
    for client in &clients {
        // One whose endpoint was removed is about to leave, and its endpoint has no series any more.
        if let Some(place) = places.get(&Arc::as_ptr(&client.counters)) {
            samples[*place].add_client(client);
        }
        if let Some(by) = client.peer.held_by() {
            *held.entry(holder(shared, by)).or_default() += 1;
        }
    }
    (together(samples), held)
}

/// Adds up endpoints of the same path, which are on different listeners: a series has to be there once.
fn together(samples: Vec<EndpointSample>) -> Vec<EndpointSample> {
    let mut by_path: BTreeMap<String, EndpointSample> = BTreeMap::new();
    for sample in samples {
        match by_path.get_mut(&sample.path) {
            Some(other) => other.add(&sample),
            None => drop(by_path.insert(sample.path.clone(), sample)),
        }
    }
    by_path.into_values().collect()
}

/// Everything that can hold a client, so that each has a series before it does.
fn nobody_is_held(shared: &Shared, generation: &Generation) -> BTreeMap<String, u64> {
    let fixed = [BlockedOn::Broadcaster, BlockedOn::Outbox, BlockedOn::Relay, BlockedOn::Rate];
    let links = generation.links.values().map(|link| BlockedOn::Outlet(link.outlet.number()));
    let stores = generation.stores.values().map(|store| BlockedOn::Store(store.id.0 as u32));
    fixed.into_iter().chain(links).chain(stores).map(|by| (holder(shared, by), 0)).collect()
}

fn holder(shared: &Shared, by: BlockedOn) -> String {
    match by {
        BlockedOn::Broadcaster => "broadcaster".to_owned(),
        BlockedOn::Outbox => "outbox".to_owned(),
        BlockedOn::Relay => "relay".to_owned(),
        BlockedOn::Rate => "rate".to_owned(),
        // Its name in the log: `link plc`, `store readings`.
        BlockedOn::Outlet(_) | BlockedOn::Store(_) => shared.name_of(by),
    }
}

impl EndpointSample {
    /// What was counted of an endpoint's clients that have left, and of all of them.
    fn of(counters: &EndpointCounters, settings: &EndpointSettings) -> EndpointSample {
        let auth_failures = counters.auth_failures.all().map(|(_, count)| count);
        EndpointSample {
            path: counters.path.clone(),
            clients: 0,
            connected: counters.connected(),
            disconnects: counters.disconnects().collect(),
            traffic: counters.left(),
            queued_messages: 0,
            queued_bytes: 0,
            longest_queue: 0,
            events_dropped: counters.events_dropped.load(Ordering::Relaxed),
            auth_failures: if settings.auth.is_empty() { Vec::new() } else { auth_failures.collect() },
            posts: if settings.post { counters.posts().collect() } else { Vec::new() },
            round_trips: counters.round_trips.read(),
        }
    }

    fn add_client(&mut self, client: &Client) {
        let (traffic, status) = client.traffic();
        self.clients += 1;
        self.traffic += traffic;
        self.queued_messages += status.messages as u64;
        self.queued_bytes += status.bytes as u64;
        self.longest_queue = self.longest_queue.max(status.messages as u64);
    }

    fn add(&mut self, other: &EndpointSample) {
        self.clients += other.clients;
        self.connected += other.connected;
        self.traffic += other.traffic;
        self.queued_messages += other.queued_messages;
        self.queued_bytes += other.queued_bytes;
        self.longest_queue = self.longest_queue.max(other.longest_queue);
        self.events_dropped += other.events_dropped;
        self.round_trips.add(&other.round_trips);
        self.disconnects.iter_mut().zip(&other.disconnects).for_each(|(count, more)| *count += more);
        let pairs = [(&mut self.auth_failures, &other.auth_failures), (&mut self.posts, &other.posts)];
        for (counts, more) in pairs {
            if counts.is_empty() {
                counts.clone_from(more);
            } else {
                counts.iter_mut().zip(more).for_each(|(count, more)| *count += more);
            }
        }
    }

    fn label(&self) -> [(&'static str, &str); 1] {
        [("endpoint", &self.path)]
    }

    fn labels<'l>(&'l self, label: &'static str, value: &'l str) -> [(&'static str, &'l str); 2] {
        [("endpoint", &self.path), (label, value)]
    }

    /// Messages that were dropped, by reason.
    fn dropped(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let sent = [("queue_full", self.traffic.sent.dropped), ("disconnected", self.traffic.sent.lost)];
        sent.into_iter().chain(self.traffic.undelivered.by_reason())
    }
}

/// A series for each endpoint.
fn each(
    endpoints: &[EndpointSample],
    value: impl Fn(&EndpointSample) -> u64,
) -> impl Iterator<Item = ([(&'static str, &str); 1], u64)> {
    endpoints.iter().map(move |endpoint| (endpoint.label(), value(endpoint)))
}

fn connections(endpoints: &[EndpointSample], families: &mut Families<'_>) -> fmt::Result {
    families.gauges(
        "wsgate_clients",
        "Clients that are connected now.",
        each(endpoints, |endpoint| endpoint.clients),
    )?;
    families.counters(
        "wsgate_clients_connected",
        "Clients that have connected.",
        each(endpoints, |endpoint| endpoint.connected),
    )?;
    let codes: Vec<String> = CLOSE_CODES.iter().map(u16::to_string).chain(["other".to_owned()]).collect();
    let disconnects = endpoints.iter().flat_map(|endpoint| {
        let counts = codes.iter().zip(&endpoint.disconnects);
        counts.map(|(code, count)| (endpoint.labels("code", code), *count))
    });
    families.counters(
        "wsgate_clients_disconnected",
        "Clients whose connection has ended, by close code: 1005 is a Close without a code, 1006 an end without a \
         Close, other are all codes from 3000 on.",
        disconnects,
    )?;
    let failures = endpoints.iter().flat_map(|endpoint| {
        let counts = AuthFailure::ALL.iter().zip(&endpoint.auth_failures);
        counts.map(|((_, cause), count)| (endpoint.labels("cause", cause), *count))
    });
    families.counters(
        "wsgate_auth_failures",
        "Requests to an endpoint with auth that were not let in, by cause.",
        failures,
    )?;
    let statuses: Vec<String> = POST_STATUSES.iter().map(u16::to_string).chain(["other".to_owned()]).collect();
    let posts = endpoints.iter().flat_map(|endpoint| {
        let counts = statuses.iter().zip(&endpoint.posts);
        counts.map(|(status, count)| (endpoint.labels("status", status), *count))
    });
    families.counters("wsgate_posts", "Requests to an endpoint with post, by the status of the answer.", posts)?;
    families.histograms(
        "wsgate_ping_round_trip_seconds",
        "From a ping to the client's answer, with what the ping waited for a socket that took nothing.",
        endpoints.iter().map(|endpoint| (endpoint.label(), endpoint.round_trips.clone())),
    )
}

fn messages(endpoints: &[EndpointSample], families: &mut Families<'_>) -> fmt::Result {
    families.counters(
        "wsgate_received_messages",
        "Messages from clients, over WebSockets and by POST.",
        each(endpoints, |endpoint| endpoint.traffic.received.messages),
    )?;
    families.counters(
        "wsgate_received_bytes",
        "Bytes of the payload of these messages.",
        each(endpoints, |endpoint| endpoint.traffic.received.bytes),
    )?;
    families.counters(
        "wsgate_sent_messages",
        "Messages to clients that the kernel has taken.",
        each(endpoints, |endpoint| endpoint.traffic.sent.messages),
    )?;
    families.counters(
        "wsgate_sent_bytes",
        "Bytes to clients that the kernel has taken, with the answer to the handshake and before encryption.",
        each(endpoints, |endpoint| endpoint.traffic.sent.bytes),
    )?;
    let dropped = endpoints
        .iter()
        .flat_map(|endpoint| endpoint.dropped().map(|(reason, count)| (endpoint.labels("reason", reason), count)));
    families.counters(
        "wsgate_dropped_messages",
        "Messages that were dropped, by reason. For messages to clients: queue_full (see when_full), disconnected \
         (still queued at the end of the connection). For messages from clients: session_unknown, session_denied, \
         unroutable, without_payload.",
        dropped,
    )?;
    families.counters(
        "wsgate_dropped_events",
        "Events of clients for which a destination had no room.",
        each(endpoints, |endpoint| endpoint.events_dropped),
    )
}

fn queues(endpoints: &[EndpointSample], families: &mut Families<'_>) -> fmt::Result {
    families.gauges(
        "wsgate_outbox_messages",
        "Messages that wait in the queues of all clients.",
        each(endpoints, |endpoint| endpoint.queued_messages),
    )?;
    families.gauges(
        "wsgate_outbox_bytes",
        "Bytes that wait in the queues of all clients. What waits for many is in memory once, and counts for each \
         here.",
        each(endpoints, |endpoint| endpoint.queued_bytes),
    )?;
    families.gauges(
        "wsgate_outbox_messages_max",
        "Messages in the longest queue of a client.",
        each(endpoints, |endpoint| endpoint.longest_queue),
    )
}
