//! `[admin]`: where wsgate is looked at and changed while it runs.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::auth::admin::AdminRule;

use super::auth::AuthId;
use super::listener::{Hosts, ListenAddress, ListenerSettings};

/// `[admin]`: the admin listener and whom it answers.
#[derive(Debug, Clone, PartialEq)]
pub struct AdminSettings {
    /// The address that it binds, its TLS, and the names that requests may have in Host; `None` is no admin listener.
    /// Default 127.0.0.1:8081.
    pub listener: Option<ListenerSettings>,
    /// Whether the configuration asks for it. Then a start fails where its address cannot be bound; otherwise the gateway
    /// runs without it. Default false.
    pub is_wanted: bool,
    /// Who is answered: those with a credential that is right for any of these. Empty: everybody, which only an
    /// address of this machine, or certificates that are required, can have.
    pub auth: Vec<AuthId>,
    /// What those may do who are answered: the first rule that fits decides, and without one nothing. `None`: all.
    pub allow: Option<Arc<Vec<AdminRule>>>,
}

impl AdminSettings {
    /// The listener at this address with every other default.
    pub fn listener_at(address: ListenAddress) -> ListenerSettings {
        ListenerSettings {
            name: "admin".to_owned(),
            hosts: Hosts::default_of(&address),
            address,
            ..ListenerSettings::default()
        }
    }
}

impl Default for AdminSettings {
    fn default() -> AdminSettings {
        let address = ListenAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 8081)));
        let listener = Some(AdminSettings::listener_at(address));
        AdminSettings { listener, is_wanted: false, auth: Vec::new(), allow: None }
    }
}
