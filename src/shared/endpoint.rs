//! An endpoint as others see it: its settings, its places, and what it has counted.

use std::sync::Arc;
use std::time::Duration;

use crate::config::EndpointSettings;
use crate::dial::Dialer;
use crate::shared::addresses::AddressGate;
use crate::shared::endpoint_counters::EndpointCounters;
use crate::shared::places::Places;
use crate::shared::post_rates::PostRates;
use crate::shared::profile::Profile;

/// An endpoint while it runs. What is in an `Arc` lives on when a reload changes the rest.
#[derive(Debug)]
pub struct Endpoint {
    pub settings: EndpointSettings,
    /// Which addresses may come in.
    pub addresses: AddressGate,
    /// The places for its clients.
    pub places: Arc<Places>,
    /// Those for clients that still wait for their server, where a relay's new client can replace an old one: it does so
    /// only once its server has let it in, or whoever knows a path could throw out its client without a password.
    pub waiting: Option<Arc<Places>>,
    /// What each of its clients has posted, where that is limited.
    pub post_rates: Arc<PostRates>,
    /// Whether its clients are described to their destinations: one of them is elsewhere and takes more than payloads.
    pub describes: bool,
    /// What holds for their connections.
    pub profile: Profile,
    /// How to reach the server that its clients are relayed to, if they are.
    pub dialer: Option<Arc<Dialer>>,
    /// What it has counted. It goes on in the endpoint that takes its place.
    pub counters: Arc<EndpointCounters>,
}

impl Endpoint {
    /// An endpoint where nobody is yet.
    pub fn new(
        settings: EndpointSettings,
        dialer: Option<Arc<Dialer>>,
        close_timeout: Duration,
        describes: bool,
    ) -> Endpoint {
        Endpoint {
            dialer,
            describes,
            counters: Arc::new(EndpointCounters::new(settings.path.to_string())),
            addresses: AddressGate::new(&settings.addresses),
            places: Places::new(&settings),
            post_rates: Arc::default(),
            waiting: (settings.relay.is_some() && settings.replaces()).then(|| Places::new(&settings)),
            profile: Profile::of_endpoint(&settings, close_timeout),
            settings,
        }
    }

    /// The same endpoint with other settings: its clients keep their places, and it goes on counting. The limits of the places
    /// are still the old ones, see [`limit_places`](Endpoint::limit_places).
    pub fn changed(
        &self,
        settings: EndpointSettings,
        dialer: Option<Arc<Dialer>>,
        close_timeout: Duration,
        describes: bool,
    ) -> Endpoint {
        let new = Endpoint::new(settings, dialer, close_timeout, describes);
        Endpoint {
            places: Arc::clone(&self.places),
            post_rates: Arc::clone(&self.post_rates),
            waiting: new.waiting.map(|new| self.waiting.clone().unwrap_or(new)),
            counters: Arc::clone(&self.counters),
            ..new
        }
    }

    /// Whether it has these settings, and what comes with them.
    pub fn is(&self, settings: &EndpointSettings, dialer: &Option<Arc<Dialer>>, describes: bool) -> bool {
        let is_same_dialer = self.dialer.as_ref().map(Arc::as_ptr) == dialer.as_ref().map(Arc::as_ptr);
        self.settings == *settings && is_same_dialer && self.describes == describes
    }

    /// Whether somebody has a place here, or may be about to take one.
    pub fn has_somebody(self: &Arc<Self>) -> bool {
        // In this order: whoever is about to take a place has the generation, and so this, until it has taken it.
        Arc::strong_count(self) > 1 || self.places.in_use() > 0
    }

    /// From now on the limits of its settings hold for its places.
    pub fn limit_places(&self) {
        self.places.change(&self.settings);
        self.waiting.iter().for_each(|waiting| waiting.change(&self.settings));
    }
}
