//! The lists of addresses of a running gateway. Each can be replaced as a whole while it runs; a connection is judged by
//! what is there at its beginning, and again after a reload.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::address::list::AddressList;
use crate::config::{AddressRules, AddressSource, ClientAddress, ListenerSettings};
use crate::reload::{Fresh, Reloadable, read_file};
use crate::sync::Mutex;

/// A list that can be read again from its file.
#[derive(Debug)]
pub struct LiveList {
    /// Whose it is and which, for the log.
    owner: String,
    key: &'static str,
    file: Option<PathBuf>,
    list: Arc<Mutex<Arc<AddressList>>>,
}

/// Who may come by their address, at a listener or an endpoint.
#[derive(Debug)]
pub struct LiveRules {
    allow: Option<Arc<LiveList>>,
    deny: Option<Arc<LiveList>>,
}

/// What a listener knows of addresses.
#[derive(Debug)]
pub struct Door {
    /// Who may come in.
    pub rules: LiveRules,
    /// The proxies that may say where a client comes from; `None` where only the socket says so.
    trusted: Option<Arc<LiveList>>,
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

impl LiveList {
    fn new(owner: &str, key: &'static str, source: &AddressSource) -> Arc<LiveList> {
        let list = Arc::new(Mutex::new(Arc::clone(&source.list)));
        Arc::new(LiveList { owner: owner.to_owned(), key, file: source.file.clone(), list })
    }

    /// The list as it is now.
    pub fn current(&self) -> Arc<AddressList> {
        Arc::clone(&self.list.lock())
    }

    fn shut(&self, is_in: bool) -> Shut {
        Shut { key: self.key, is_in, file: self.file.clone() }
    }
}

impl Reloadable for LiveList {
    fn read_again(&self) -> Result<Fresh, String> {
        let Some(file) = &self.file else { return Ok(Fresh { what: String::new(), apply: Box::new(|| {}) }) };
        let what = format!("{}: {:?} of '{}'", self.owner, self.key, file.display());
        let content = read_file(file).map_err(|error| format!("{what}: it cannot be read: {error}"))?;
        let fresh = AddressList::of_file(&content).map_err(|error| format!("{what}: {error}"))?;
        let list = Arc::clone(&self.list);
        // The one that was there is dropped without the lock: it may be long.
        let apply = move || {
            let before = std::mem::replace(&mut *list.lock(), Arc::new(fresh));
            drop(before);
        };
        Ok(Fresh { what, apply: Box::new(apply) })
    }
}

impl LiveRules {
    /// The lists as they were read. `owner` is whose they are, for the log.
    pub fn new(owner: &str, rules: &AddressRules) -> LiveRules {
        let live =
            |key, source: &Option<AddressSource>| source.as_ref().map(|source| LiveList::new(owner, key, source));
        LiveRules { allow: live("allow_addresses", &rules.allow), deny: live("deny_addresses", &rules.deny) }
    }

    /// Judges an address; `None` is that of a Unix socket.
    ///
    /// # Errors
    /// Which list keeps it out. What is denied is so whatever else allows it.
    pub fn check(&self, address: Option<IpAddr>) -> Result<(), Shut> {
        if let Some(deny) = self.deny.as_ref().filter(|deny| deny.current().contains(address)) {
            return Err(deny.shut(true));
        }
        match self.allow.as_ref().filter(|allow| !allow.current().contains(address)) {
            Some(allow) => Err(allow.shut(false)),
            None => Ok(()),
        }
    }

    /// Those that are from files, which can be read again.
    pub fn of_files(&self) -> impl Iterator<Item = Arc<LiveList>> {
        self.allow.iter().chain(&self.deny).filter(|list| list.file.is_some()).map(Arc::clone)
    }
}

impl Door {
    /// The lists of a listener as they were read.
    pub fn new(listener: &ListenerSettings) -> Door {
        let owner = format!("listener {:?}", listener.name);
        let trusted = || LiveList::new(&owner, "trusted_proxies", &listener.trusted_proxies);
        Door {
            rules: LiveRules::new(&owner, &listener.addresses),
            trusted: (listener.client_address != ClientAddress::Socket).then(trusted),
            is_for_proxies: listener.client_address == ClientAddress::ProxyProtocol,
        }
    }

    /// Judges where a socket comes from. Gives the proxies that are trusted, if it is one of them: then it has yet to say
    /// whose connection it is, and that one is to be judged.
    ///
    /// # Errors
    /// Which list keeps it out.
    pub fn open(&self, socket: Option<IpAddr>) -> Result<Option<Arc<AddressList>>, Shut> {
        if let Some(trusted) = &self.trusted {
            let list = trusted.current();
            if list.contains(socket) {
                return Ok(Some(list));
            }
            if self.is_for_proxies {
                return Err(trusted.shut(false));
            }
        }
        self.rules.check(socket).map(|()| None)
    }

    /// The lists that are from files, which can be read again.
    pub fn of_files(&self) -> impl Iterator<Item = Arc<LiveList>> {
        let trusted = self.trusted.iter().filter(|list| list.file.is_some()).map(Arc::clone);
        self.rules.of_files().chain(trusted)
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
            LiveRules::new("a test", &AddressRules { allow: allow.map(source), deny: deny.map(source) })
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

    #[test]
    fn r1_a_list_is_read_again_from_its_file_or_stays() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("proxies.txt");
        let from_file = AddressSource { file: Some(file.clone()), ..source("10.0.0.1") };
        let door = Door::new(&ListenerSettings {
            addresses: AddressRules { allow: None, deny: Some(source("10.0.0.7")) },
            client_address: ClientAddress::ProxyProtocol,
            trusted_proxies: from_file,
            ..ListenerSettings::default()
        });
        let shut = door.open(address("10.0.0.2")).unwrap_err().to_string();
        assert!(shut.starts_with("\"trusted_proxies\" does not have its address (the list in '"), "{shut}");
        assert!(door.open(address("10.0.0.1")).unwrap().is_some() && door.rules.check(address("10.0.0.7")).is_err());
        let [list] = &door.of_files().collect::<Vec<_>>()[..] else { panic!("only one is from a file") };
        for (content, why) in [("", "it is empty"), ("10.0.0.2\n10.0.0.300\n", "line 2 is no address")] {
            std::fs::write(&file, content).unwrap();
            let error = list.read_again().unwrap_err();
            assert!(error.contains("\"trusted_proxies\" of '") && error.contains(why), "{error}");
        }
        std::fs::write(&file, "10.0.0.2\n").unwrap();
        (list.read_again().unwrap().apply)();
        assert!(door.open(address("10.0.0.2")).unwrap().is_some() && door.open(address("10.0.0.1")).is_err());
    }
}
