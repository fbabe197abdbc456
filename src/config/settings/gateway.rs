//! `[gateway]`: limits and deadlines of the whole process.

use std::time::Duration;

use super::log::LogSettings;
use crate::limit::Rate;

/// `[gateway]`: limits and deadlines of the whole process.
#[derive(Debug, Clone, PartialEq)]
pub struct GatewaySettings {
    /// What it is called, so that it knows its sessions from those of other gateways. Default: the name of the machine
    /// and the addresses of its listeners.
    pub name: Option<String>,
    /// Clients at once over all listeners; the next one gets 503. Default 10,000, at least 1.
    pub max_connections: usize,
    /// Connections at once from one address (of IPv6: a network of 64 bits); the next one gets 429. `None` is no limit but
    /// `max_connections`. Default.
    pub max_address_connections: Option<usize>,
    /// Connections that one address may open; one more gets 429. `None` does not limit them. Default.
    pub address_rate: Option<Rate>,
    /// Wrong credentials from one address; one more gets 429 unseen. `None` does not limit them. Default 20 in 10 s.
    pub failed_credentials: Option<FailedCredentials>,
    /// Bytes of memory; above that nobody is let in, and the clients that hold most are closed. `None` is no limit. Default.
    pub memory: Option<usize>,
    /// Connections at once whose handshake is not finished; the next one takes the place of an old one. Default 1,024.
    pub max_handshakes: usize,
    /// From accept to the end of the request head, TLS included. Default 10 s.
    pub handshake_timeout: Duration,
    /// From our Close frame to the peer's answer; then the socket is cut. Default 5 s.
    pub close_timeout: Duration,
    /// How long a stop waits for what is queued to be written. Default 10 s.
    pub drain_timeout: Duration,
    /// How long the addresses of a server's name are kept. Zero does not keep them. Default 5 s.
    pub resolve_cache: Duration,
    /// Threads that write broadcasts; 0 lets the broadcaster write itself. Default: cores - 2, at most 8.
    pub deliverers: usize,
    /// Address space of a client thread's stack, in bytes; only touched pages cost memory.
    /// Default 256 KiB, at least 128 KiB: deep JSON aborts the process on less.
    pub client_stack: usize,
    /// `[log]`: what the log shows, and in which form.
    pub log: LogSettings,
}

impl Default for GatewaySettings {
    fn default() -> GatewaySettings {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        GatewaySettings {
            name: None,
            max_connections: 10_000,
            max_address_connections: None,
            address_rate: None,
            failed_credentials: Some(FailedCredentials::default()),
            memory: None,
            max_handshakes: 1024,
            handshake_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(10),
            resolve_cache: Duration::from_secs(5),
            deliverers: cores.saturating_sub(2).min(8),
            client_stack: 256 << 10,
            log: LogSettings::default(),
        }
    }
}

/// `failed_credentials = { most, within }`: the wrong credentials that one address may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailedCredentials {
    /// So many, at least 1. Default 20.
    pub most: u64,
    /// In so long. Default 10 s.
    pub within: Duration,
}

impl Default for FailedCredentials {
    fn default() -> FailedCredentials {
        FailedCredentials { most: 20, within: Duration::from_secs(10) }
    }
}
