//! An endpoint as others see it: its settings, its places, and what it has counted.

use std::sync::Arc;
use std::time::Duration;

use crate::config::EndpointSettings;
use crate::dial::Dialer;
use crate::shared::addresses::LiveRules;
use crate::shared::endpoint_counters::EndpointCounters;
use crate::shared::places::Places;
use crate::shared::profile::Profile;

/// An endpoint while it runs.
#[derive(Debug)]
pub struct Endpoint {
    pub settings: EndpointSettings,
    /// Which addresses may come in.
    pub addresses: LiveRules,
    /// The places for its clients.
    pub places: Arc<Places>,
    /// Those for clients that still wait for their server, where a relay's new client can replace an old one: it does so
    /// only once its server has let it in, or whoever knows a path could throw out its client without a password.
    pub waiting: Option<Arc<Places>>,
    /// Whether its clients are described to their destinations: one of them is elsewhere and takes more than payloads.
    pub describes: bool,
    /// What holds for their connections.
    pub profile: Profile,
    /// How to reach the server that its clients are relayed to, if they are.
    pub dialer: Option<Dialer>,
    /// What it has counted. It goes on in the endpoint that takes its place.
    pub counters: Arc<EndpointCounters>,
}

impl Endpoint {
    /// An endpoint where nobody is yet.
    pub fn new(
        settings: EndpointSettings,
        dialer: Option<Dialer>,
        close_timeout: Duration,
        describes: bool,
    ) -> Endpoint {
        Endpoint {
            dialer,
            describes,
            counters: Arc::new(EndpointCounters::new(settings.path.to_string())),
            addresses: LiveRules::new(&format!("endpoint '{}'", settings.path), &settings.addresses),
            places: Places::new(&settings),
            waiting: (settings.relay.is_some() && settings.replaces()).then(|| Places::new(&settings)),
            profile: Profile::of_endpoint(&settings, close_timeout),
            settings,
        }
    }
}
