//! Stories that must hold however the gateway is run: who writes broadcasts, and over which wire.

use std::thread;

use super::Gateway;

/// How a client reaches the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    Plain,
    Tls,
}

impl Wire {
    pub(crate) const BOTH: [Wire; 2] = [Wire::Plain, Wire::Tls];
}

/// A listener for each kind of wire, named as [`Gateway::client`] wants them.
pub(crate) const LISTENERS: &str = r#"
[[listen]]
name = "plain"
address = "127.0.0.1:0"

[[listen]]
name = "tls"
address = "127.0.0.1:0"
tls = { certificate = "cert.pem", private_key = "key.pem" }
"#;

/// Tells a story to two gateways at once: one whose broadcaster writes itself and one with three
/// deliverers. The configuration begins inside `[gateway]`; [`LISTENERS`] are added to it.
pub(crate) fn with_any_deliverers(config: &str, story: impl Fn(&Gateway) + Sync) {
    thread::scope(|scope| {
        for deliverers in [0, 3] {
            let story = &story;
            let config = format!("[gateway]\ndeliverers = {deliverers}\n{config}\n{LISTENERS}");
            let name = format!("with {deliverers} deliverers");
            let told = thread::Builder::new().name(name).spawn_scoped(scope, move || story(&Gateway::start(&config)));
            told.unwrap();
        }
    });
}
