//! `relay` of an endpoint: a server for each of its clients.

use std::time::Duration;

use crate::url::{PathTemplate, Url};

use super::dial::DialSettings;

/// `relay = { url, ... }` of an endpoint: every client gets its own connection to another server.
#[derive(Debug, Clone, PartialEq)]
pub struct RelaySettings {
    /// How to reach it. The path of its URL is that of no client: see `path`.
    pub dial: DialSettings,
    /// The path and query that a client's connection asks for. Each place in it has the index of the endpoint's parameter
    /// whose value stands there.
    pub path: PathTemplate<usize>,
    /// The URL for people: variables of the environment as they are written, neither password nor query.
    pub shown: String,
    /// The headers of the client's request that are sent on, by name.
    pub forward_headers: Vec<String>,
    /// Whether the query of the client's request is sent on. Default true.
    pub forward_query: bool,
    /// How long a client is kept while its server cannot be reached; `None` closes it at once. Default `None`.
    pub hold: Option<Duration>,
}

impl RelaySettings {
    /// A relay to this URL with every default.
    pub fn new(url: Url) -> RelaySettings {
        RelaySettings {
            path: PathTemplate::fixed(&url.path_and_query),
            shown: url.shown(),
            dial: DialSettings::new(url),
            forward_headers: Vec::new(),
            forward_query: true,
            hold: None,
        }
    }
}
