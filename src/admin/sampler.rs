//! The thread that looks at what clients have counted, once a second while a page is open, else every few seconds, and has
//! the history kept and the pages told. It waits for nobody.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::Receiver;

use crate::admin::feed::News;
use crate::admin::history::{Counts, Rates, STEP};
use crate::admin::state::Admin;
use crate::admin::{clients, info, links};
use crate::shared::Shared;
use crate::shared::endpoint_counters::EndpointCounters;
use crate::shared::registry::Client;

const SECOND: Duration = Duration::from_secs(1);

/// Runs until `stop` is disconnected.
pub fn run(admin: &Admin, stop: &Receiver<()>) {
    let (shared, ticks) = (&admin.shared, crossbeam_channel::tick(SECOND));
    let (mut told, mut kept) = (Looked::default(), Looked::default());
    for second in 0_u64.. {
        crossbeam_channel::select! {
            recv(ticks) -> _ => {}
            recv(stop) -> _ => return,
        }
        shared.tap.begin_second();
        let generation = shared.generation();
        admin.watchers.review(&generation);
        let (is_kept, is_told) = (second % STEP == 0, admin.feed.has_pages());
        if !is_kept && !is_told {
            continue;
        }
        let (now, clients) = Looked::at(shared);
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        if is_kept {
            if let Some(rates) = now.since(&kept) {
                admin.feed.keep(since_1970.as_secs(), clients.len(), Rates::sum(&rates));
            }
            kept = now.clone();
        }
        if is_told {
            let endpoint_rates = now.since(&told).unwrap_or_default();
            let (at, rates) = (since_1970.as_millis() as u64, Rates::sum(&endpoint_rates));
            let news = News { at, info: info::look(admin), links: links::look(&generation), rates, endpoint_rates };
            admin.feed.tell(news, &clients, |client| clients::describe(shared, client));
        }
        told = now;
    }
}

/// What had been counted at one moment.
#[derive(Debug, Clone, Default)]
struct Looked {
    /// `None` is before the first look.
    at: Option<Instant>,
    /// By endpoint, in the order of the configuration.
    counts: Vec<(Arc<EndpointCounters>, Counts)>,
}

impl Looked {
    /// Adds up what the clients have counted that are there, and those that have left.
    fn at(shared: &Shared) -> (Looked, Vec<Arc<Client>>) {
        let generation = shared.generation();
        // Under the lock of the registry: a client that leaves meanwhile is in one of the two.
        let (clients, mut traffic) = shared.registry.all_and(|| {
            let endpoints = generation.endpoints.values();
            endpoints.map(|endpoint| endpoint.counters.left()).collect::<Vec<_>>()
        });
        let counters: Vec<_> = generation.endpoints.values().map(|endpoint| Arc::clone(&endpoint.counters)).collect();
        let places: HashMap<_, _> =
            counters.iter().enumerate().map(|(place, counters)| (Arc::as_ptr(counters), place)).collect();
        for client in &clients {
            // One whose endpoint was removed is about to leave.
            if let Some(place) = places.get(&Arc::as_ptr(&client.counters)) {
                traffic[*place] += client.traffic().0;
            }
        }
        let counts = counters.into_iter().zip(traffic.iter().map(Counts::of)).collect();
        (Looked { at: Some(Instant::now()), counts }, clients)
    }

    /// The rates of each endpoint since an earlier look, if there was one. An endpoint that was not there has none yet.
    fn since(&self, earlier: &Looked) -> Option<Vec<Rates>> {
        let seconds = self.at?.duration_since(earlier.at?).as_secs_f64();
        let rates = |(counters, now): &(Arc<EndpointCounters>, Counts)| {
            let then = earlier.counts.iter().find(|(known, _)| Arc::ptr_eq(known, counters));
            then.map_or_else(Rates::default, |(_, then)| now.since(then, seconds))
        };
        Some(self.counts.iter().map(rates).collect())
    }
}
