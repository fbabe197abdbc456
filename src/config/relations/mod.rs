//! What the values mean together: names that must exist, things that must differ, options that
//! contradict each other.

mod admin;
mod auth;
mod destination;
mod dial;
mod endpoint;
mod heartbeat;
mod link;
mod listeners;
mod log;
mod loops;
mod relay;
mod store;

use super::mistake::Report;
use super::raw::Raw;
use super::settings::{EndpointSettings, GatewaySettings, LinkSettings, RelaySettings, Settings};

/// Reports every contradiction in what was read, and finds what each name stands for. A name that stands for nothing is
/// reported, and the settings lack what it is part of. They have the default listener or endpoint if the file has none.
pub(super) fn resolve(raw: Raw, report: &Report<'_>) -> Settings {
    listeners::check(&raw.listeners, report);
    listeners::check_used(&raw.listeners, &raw.endpoints, report);
    listeners::check_health(&raw.listeners, &raw.endpoints, report);
    auth::check(&raw, report);
    let (mut of_endpoints, mut of_links) = (Vec::new(), Vec::new());
    for (i, endpoint) in raw.endpoints.iter().enumerate() {
        endpoint::check_shape(&raw.endpoints[..i], endpoint, report);
        listeners::check_names(&raw.listeners, endpoint, report);
        endpoint::check_limits(&raw, endpoint, report);
        endpoint::check_capacity(&raw, endpoint, report);
        endpoint::check_addresses(endpoint, report);
        endpoint::check_post(endpoint, report);
        store::check_ack(&raw, endpoint, report);
        let auth = auth::of_endpoint(&raw, endpoint, report);
        of_endpoints.push((endpoint::route(&raw, endpoint, report), auth, relay::resolve(endpoint, report)));
        if endpoint.relay.is_none() {
            destination::check_events("[[endpoint]]", endpoint.events_at, endpoint::others(endpoint), report);
        }
    }
    for (i, link) in raw.links.iter().enumerate() {
        link::check(&raw.links[..i], link, report);
        of_links.push(link::route(&raw, link, report));
        destination::check_events("[[link]]", link.events_at, link::others(link), report);
    }
    for (i, store) in raw.stores.iter().enumerate() {
        store::check(&raw.stores[..i], store, report);
    }
    log::check(&raw, report);
    loops::check(&raw, report);
    let admin = admin::resolve(&raw, report);

    let defaults = Settings::default();
    let listeners: Vec<_> = raw.listeners.into_iter().map(|listener| listener.settings).collect();
    let endpoints = raw.endpoints.into_iter().zip(of_endpoints);
    let endpoints: Vec<_> = endpoints
        .map(|(endpoint, (to, auth, path))| {
            let relay = endpoint.relay.zip(path).map(|(relay, path)| RelaySettings { path, ..relay.settings });
            EndpointSettings { to, auth, relay, ..endpoint.settings }
        })
        .collect();
    let links = raw.links.into_iter().zip(of_links).map(|(link, to)| LinkSettings { to, ..link.settings }).collect();
    Settings {
        gateway: GatewaySettings { log: raw.log.settings, ..raw.gateway },
        listeners: if listeners.is_empty() { defaults.listeners } else { listeners },
        endpoints: if endpoints.is_empty() { defaults.endpoints } else { endpoints },
        links,
        stores: raw.stores.into_iter().map(|store| store.settings).collect(),
        auths: raw.auths.into_iter().map(|auth| auth.settings).collect(),
        admin,
        warnings: Vec::new(),
    }
}
