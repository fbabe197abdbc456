//! Lists of addresses, and what a listener takes for the address of a client.

use std::path::PathBuf;
use std::sync::Arc;

use crate::address::list::AddressList;

/// A list, written in the configuration or in a file of its own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AddressSource {
    /// The list as it was read.
    pub list: Arc<AddressList>,
    /// The file that it is from, if it is.
    pub file: Option<PathBuf>,
}

/// `allow_addresses` and `deny_addresses`: who may come by their address.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AddressRules {
    /// These alone; `None` is everybody. Default: everybody.
    pub allow: Option<AddressSource>,
    /// These not, even where they are allowed. Default: nobody.
    pub deny: Option<AddressSource>,
}

/// `client_address`: what says where a client comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientAddress {
    /// The socket.
    #[default]
    Socket,
    /// `X-Forwarded-For`, of a trusted proxy.
    XForwardedFor,
    /// `Forwarded` (RFC 7239), of a trusted proxy.
    Forwarded,
    /// A header of the PROXY protocol, which must come first, from a trusted proxy.
    ProxyProtocol,
}

impl ClientAddress {
    /// The word for it in a configuration.
    pub fn word(self) -> &'static str {
        match self {
            ClientAddress::Socket => "socket",
            ClientAddress::XForwardedFor => "x-forwarded-for",
            ClientAddress::Forwarded => "forwarded",
            ClientAddress::ProxyProtocol => "proxy_protocol",
        }
    }
}
