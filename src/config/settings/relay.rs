//! `relay` of an endpoint: each client gets its own connection to another server.

use std::time::Duration;

use crate::url::{PathTemplate, Url};

use super::dial::DialSettings;

/// `relay = { url, ... }` of an endpoint: every client gets its own connection to another server.
#[derive(Debug, Clone, PartialEq)]
pub struct RelaySettings {
    /// The server and how to dial it. A client's connection has the path of `path` instead of that of the URL.
    pub dial: DialSettings,
    /// The path and query of a client's connection. Each place in it has the index of the endpoint's parameter whose
    /// value is put there.
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
