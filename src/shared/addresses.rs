//! The listeners of a running gateway, and the lists of addresses. A connection is judged at its beginning, and again after a
//! reload.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::address::list::AddressList;
use crate::config::{AddressRules, AddressSource, ClientAddress, ListenerSettings};
use crate::connection::server_tls::ServerTls;
use crate::listener::Bound;

/// A list of addresses, and where it comes from.
#[derive(Debug)]
struct List {
    key: &'static str,
    file: Option<PathBuf>,
    list: Arc<AddressList>,
}

/// Who may come by their address, at a listener or an endpoint.
#[derive(Debug)]
pub struct AddressGate {
    allow: Option<List>,
    deny: Option<List>,
}

/// A listener while it runs: what it does with a connection.
#[derive(Debug)]
pub struct Door {
    pub settings: Arc<ListenerSettings>,
    /// Its name.
    pub name: Arc<str>,
    /// The socket that it accepts on; `None` accepts nobody.
    pub socket: Option<Arc<Bound>>,
    /// Its TLS, if it has any.
    pub tls: Option<Arc<ServerTls>>,
    /// Who may come in.
    pub rules: AddressGate,
    /// The proxies that may say where a client comes from; `None` where only the socket says so.
    trusted: Option<List>,
    /// Whether only they may connect.
    is_for_proxies: bool,
}

/// Why an address may not come in.
#[derive(Debug, PartialEq, Eq)]
pub struct Shut {
    key: &'static str,
    is_in: bool,
    file: Option<PathBuf>,
}

impl List {
    fn of(key: &'static str, source: &AddressSource) -> List {
        List { key, file: source.file.clone(), list: Arc::clone(&source.list) }
    }

    fn shut(&self, is_in: bool) -> Shut {
        Shut { key: self.key, is_in, file: self.file.clone() }
    }
}

impl AddressGate {
    /// The lists of a listener or an endpoint.
    pub fn new(rules: &AddressRules) -> AddressGate {
        let list = |key, source: &Option<AddressSource>| source.as_ref().map(|source| List::of(key, source));
        AddressGate { allow: list("allow_addresses", &rules.allow), deny: list("deny_addresses", &rules.deny) }
    }

    /// Judges an address; `None` is that of a Unix socket.
    ///
    /// # Errors
    /// Which list keeps it out. What is denied is so whatever else allows it.
    pub fn check(&self, address: Option<IpAddr>) -> Result<(), Shut> {
        if let Some(deny) = self.deny.as_ref().filter(|deny| deny.list.contains(address)) {
            return Err(deny.shut(true));
        }
        match self.allow.as_ref().filter(|allow| !allow.list.contains(address)) {
            Some(allow) => Err(allow.shut(false)),
            None => Ok(()),
        }
    }
}

impl Door {
    /// A listener that accepts on this socket.
    pub fn new(settings: Arc<ListenerSettings>, socket: Option<Arc<Bound>>, tls: Option<Arc<ServerTls>>) -> Door {
        let trusted = || List::of("trusted_proxies", &settings.trusted_proxies);
        Door {
            rules: AddressGate::new(&settings.addresses),
            trusted: (settings.client_address != ClientAddress::Socket).then(trusted),
            is_for_proxies: settings.client_address == ClientAddress::ProxyProtocol,
            name: settings.name.as_str().into(),
            socket,
            tls,
            settings,
        }
    }

    /// Whether it accepts on this socket.
    pub fn is_at(&self, socket: &Arc<Bound>) -> bool {
        self.socket.as_ref().is_some_and(|own| Arc::ptr_eq(own, socket))
    }

    /// Judges where a socket comes from. Gives the proxies that are trusted, if it is one of them: then it has yet to say
    /// whose connection it is, and that one is to be judged.
    ///
    /// # Errors
    /// Which list keeps it out.
    pub fn open(&self, socket: Option<IpAddr>) -> Result<Option<Arc<AddressList>>, Shut> {
        if let Some(trusted) = &self.trusted {
            if trusted.list.contains(socket) {
                return Ok(Some(Arc::clone(&trusted.list)));
            }
            if self.is_for_proxies {
                return Err(trusted.shut(false));
            }
        }
        self.rules.check(socket).map(|()| None)
    }
}

impl fmt::Display for Shut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.is_in { "has" } else { "does not have" };
        write!(f, "{:?} {verb} its address", self.key)?;
        match &self.file {
            Some(file) => write!(f, " (the list in '{}')", file.display()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> AddressSource {
        AddressSource { list: Arc::new(AddressList::parse(text).unwrap()), file: None }
    }

    fn address(text: &str) -> Option<IpAddr> {
        text.parse().ok()
    }

    #[test]
    fn deny_wins_and_an_empty_allow_lets_nobody_in() {
        let rules = |allow: Option<&str>, deny: Option<&str>| {
            AddressGate::new(&AddressRules { allow: allow.map(source), deny: deny.map(source) })
        };
        for (allow, deny, who, expected) in [
            (None, None, "10.0.0.7", Ok(())),
            (None, Some(""), "10.0.0.7", Ok(())),
            (Some(""), None, "10.0.0.7", Err("\"allow_addresses\" does not have its address")),
            (Some("10.0.0.0/8"), None, "10.0.0.7", Ok(())),
            (Some("10.0.0.0/8"), None, "11.0.0.7", Err("\"allow_addresses\" does not have its address")),
            (Some("10.0.0.0/8"), None, "unix", Err("\"allow_addresses\" does not have its address")),
            (Some("unix"), None, "unix", Ok(())),
            (Some("10.0.0.0/8"), Some("10.0.0.7"), "10.0.0.7", Err("\"deny_addresses\" has its address")),
            (Some("10.0.0.0/8"), Some("10.0.0.7"), "10.0.0.8", Ok(())),
        ] {
            let judged = rules(allow, deny).check(address(who)).map_err(|shut| shut.to_string());
            assert_eq!(judged, expected.map_err(str::to_owned), "{allow:?} {deny:?} {who}");
        }
    }
}
