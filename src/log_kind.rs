//! The kinds of log lines of which peers decide how many there are. Each is a target of the `log` crate, by which the log
//! shows only the first of them in every second and counts the rest.

/// Clients that were let in.
pub const CONNECTS: &str = "wsgate::connects";
/// Clients that have left, and what their end has cost.
pub const DISCONNECTS: &str = "wsgate::disconnects";
/// Requests that were refused.
pub const REFUSALS: &str = "wsgate::refusals";
/// TLS handshakes that failed.
pub const HANDSHAKES: &str = "wsgate::handshakes";
/// What happens to the upstreams of relayed clients.
pub const UPSTREAMS: &str = "wsgate::upstreams";
/// Clients whose queue is full, or who are held because another one is.
pub const QUEUES: &str = "wsgate::queues";
/// What happens to the services that are asked who clients are.
pub const SERVICES: &str = "wsgate::services";
/// What is asked of the admin listener.
pub const ADMIN: &str = "wsgate::admin";

/// All of them, each with what the log calls it.
pub const ALL: [(&str, &str); 8] = [
    (CONNECTS, "connects"),
    (DISCONNECTS, "disconnects"),
    (REFUSALS, "refusals"),
    (HANDSHAKES, "failed TLS handshakes"),
    (UPSTREAMS, "relays"),
    (QUEUES, "full queues"),
    (SERVICES, "services of [[auth]]"),
    (ADMIN, "the admin listener"),
];
