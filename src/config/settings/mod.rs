//! What the operator means: every option of the configuration, checked and with its default.
//!
//! These types are values only. How they are written down is in `raw/`; here each field says
//! its unit and its bounds, and the `Default`s are the one place that holds the defaults.

mod addresses;
mod admin;
mod auth;
mod dial;
mod endpoint;
mod gateway;
mod link;
mod listener;
mod log;
mod queue;
mod relay;
mod route;
mod store;

pub use addresses::{AddressRules, AddressSource, ClientAddress};
pub use admin::AdminSettings;
pub use auth::{AuthId, AuthKind, AuthServer, AuthSettings, CalloutSettings, JwksSettings, KeySource};
pub use dial::{DialSettings, DialTls, Proxy};
pub use endpoint::{
    Ack, AtCapacity, EndpointSettings, IdentityLimit, Origins, RateSettings, Refuse, Welcome, WhenIdentityFull,
    WhenOver,
};
pub use gateway::{FailedCredentials, GatewaySettings};
pub use link::{
    BackoffSettings, BatchFormat, BatchSettings, HttpLinkSettings, LinkQueueSettings, LinkSettings, OutletPolicy,
};
pub use listener::{ClientCertificates, Hosts, ListenAddress, ListenerSettings, ListenerTls, TlsSettings};
pub use log::{LogFormat, LogLevels, LogSettings};
pub use queue::{QueueSettings, WhenFull};
pub use relay::RelaySettings;
pub use route::{Destination, EndpointId, EventKind, Format, LinkDestination, LinkId, RoomSource, StoreId};
pub use store::{Durability, StoreQueueSettings, StoreSettings};

/// Everything `wsgate serve` runs on.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// What holds for the whole process.
    pub gateway: GatewaySettings,
    /// The addresses we accept on; at least one.
    pub listeners: Vec<ListenerSettings>,
    /// The paths that clients connect to; at least one, no two of the same shape on one listener.
    pub endpoints: Vec<EndpointSettings>,
    /// The connections that we dial and redial; no two of the same name.
    pub links: Vec<LinkSettings>,
    /// The files that keep messages; no two of the same name or path.
    pub stores: Vec<StoreSettings>,
    /// The ways to authenticate clients; no two of the same name.
    pub auths: Vec<AuthSettings>,
    /// Where wsgate is looked at and changed while it runs.
    pub admin: AdminSettings,
    /// What is probably not what was meant, each with its place in the file; empty for the defaults.
    pub warnings: Vec<String>,
}

impl Settings {
    /// What this gateway is called among others: by `machine`, an identity of the machine, if it has no name.
    pub fn name(&self, machine: &str) -> String {
        let addresses = || self.listeners.iter().map(|listener| listener.address.to_string());
        let own = self.gateway.name.clone();
        own.unwrap_or_else(|| [machine.to_owned()].into_iter().chain(addresses()).collect::<Vec<_>>().join("\n"))
    }

    /// How many clients can be relayed at once; each has a second thread and a second socket.
    pub fn most_relayed(&self) -> usize {
        let relays = self.endpoints.iter().filter(|endpoint| endpoint.relay.is_some());
        let most = relays.map(|endpoint| endpoint.max_connections).fold(0, usize::saturating_add);
        most.min(self.gateway.max_connections)
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            gateway: GatewaySettings::default(),
            listeners: vec![ListenerSettings::default()],
            endpoints: vec![EndpointSettings::default()],
            links: Vec::new(),
            stores: Vec::new(),
            auths: Vec::new(),
            admin: AdminSettings::default(),
            warnings: Vec::new(),
        }
    }
}
