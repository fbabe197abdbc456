//! What wsgate is and serves.

use serde::Serialize;

use crate::admin::asked::Asked;
use crate::admin::state::Admin;
use crate::config::ListenAddress;
use crate::format::iso_8601;
use crate::http::answer::Answer;
use crate::shared::endpoint::Endpoint;
use crate::shared::generation::Generation;
use crate::shared::listening::Bound;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Info {
    name: Option<String>,
    version: &'static str,
    started_at: String,
    uptime_seconds: f64,
    is_ready: bool,
    /// All connections that were accepted, those whose handshake is not done included.
    connections: usize,
    max_connections: usize,
    clients: usize,
    listeners: Vec<ListenerInfo>,
    endpoints: Vec<EndpointInfo>,
    links: Vec<LinkSummary>,
}

#[derive(Serialize)]
struct ListenerInfo {
    name: String,
    address: String,
    tls: bool,
}

/// An endpoint, by the names of n8n's server info.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EndpointInfo {
    /// That of the first listener that leads here; `null` for a Unix socket.
    port: Option<u16>,
    path: String,
    active_connections: usize,
    max_connections: usize,
    heartbeat_enabled: bool,
    server_url: Option<String>,
    listeners: Vec<String>,
    /// The server that each client gets a connection of its own to.
    relay: Option<String>,
}

#[derive(Serialize)]
struct LinkSummary {
    name: String,
    url: String,
    up: bool,
}

/// `GET /api/v1/info`.
pub fn info(asked: &Asked<'_>) -> Result<Answer, Answer> {
    Ok(Answer::json(&look(asked.admin)))
}

/// How it stands.
pub fn look(admin: &Admin) -> Info {
    let shared = &admin.shared;
    let generation = shared.generation();
    let bound = generation.listening();
    let links = generation.links.values().map(|link| LinkSummary {
        name: link.settings.name.clone(),
        url: link.settings.shown.clone(),
        up: link.is_up(),
    });
    Info {
        name: generation.gateway.name.clone(),
        version: env!("CARGO_PKG_VERSION"),
        started_at: iso_8601(shared.counters.started()),
        uptime_seconds: shared.counters.uptime().as_millis() as f64 / 1000.0,
        is_ready: shared.readiness().is_ready(),
        connections: shared.connections.in_use(),
        max_connections: shared.connections.limit(),
        clients: shared.registry.len(),
        endpoints: generation.endpoints.values().map(|endpoint| endpoint_info(&generation, endpoint, &bound)).collect(),
        links: links.collect(),
        listeners: bound
            .into_iter()
            .map(|Bound { name, address, is_tls }| ListenerInfo { name, address, tls: is_tls })
            .collect(),
    }
}

fn endpoint_info(generation: &Generation, endpoint: &Endpoint, bound: &[Bound]) -> EndpointInfo {
    let settings = &endpoint.settings;
    let on_it = generation.doors.iter().map(|door| &*door.settings).filter(|listener| settings.is_on(listener));
    let on_it: Vec<_> = on_it
        .filter_map(|listener| Some((listener, bound.iter().find(|bound| bound.name == listener.name)?)))
        .collect();
    let first = on_it.iter().find_map(|(listener, bound)| match listener.address {
        ListenAddress::Tcp(address) => {
            let port = bound.address.rsplit_once(':')?.1.parse::<u16>().ok()?;
            // Every address is none that one could dial.
            let host = match address.ip() {
                ip if ip.is_unspecified() => "localhost".to_owned(),
                ip if ip.is_ipv6() => format!("[{ip}]"),
                ip => ip.to_string(),
            };
            let scheme = if bound.is_tls { "wss" } else { "ws" };
            Some((port, format!("{scheme}://{host}:{port}{}", settings.path)))
        }
        ListenAddress::Unix(_) => None,
    });
    let (port, server_url) = first.unzip();
    EndpointInfo {
        port,
        server_url,
        path: settings.path.to_string(),
        active_connections: endpoint.places.in_use(),
        max_connections: settings.max_connections,
        heartbeat_enabled: settings.heartbeat.is_some(),
        listeners: on_it.iter().map(|(listener, _)| listener.name.clone()).collect(),
        relay: settings.relay.as_ref().map(|relay| relay.shown.clone()),
    }
}
