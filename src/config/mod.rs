//! Configuration: from a TOML file to checked [`Settings`].

mod settings;

pub use settings::{
    AtCapacity, Destination, EndpointSettings, Format, GatewaySettings, ListenAddress, ListenerSettings, Origins,
    QueueSettings, Settings, TlsSettings, Welcome, WhenFull,
};
