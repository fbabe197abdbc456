//! Whether the gateway is to be sent new clients, for load balancers.

use std::fmt;
use std::sync::Arc;

use super::Shared;
use super::link::Link;

/// Why new clients had better go elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotReady {
    /// Not everything has started yet.
    Starting,
    /// It stops, and lets nobody in.
    Stopping,
    /// This link is down, and clients need it.
    LinkDown(Arc<str>),
}

impl Shared {
    /// Whether new clients find all that they need.
    ///
    /// # Errors
    /// Why not.
    pub fn readiness(&self) -> Result<(), NotReady> {
        if self.is_stopping() {
            return Err(NotReady::Stopping);
        }
        if !self.has_started() {
            return Err(NotReady::Starting);
        }
        let is_missing = |link: &&Arc<Link>| link.settings.required && link.upstream.current().is_none();
        match self.generation().links.values().find(is_missing) {
            Some(link) => Err(NotReady::LinkDown(Arc::clone(&link.name))),
            None => Ok(()),
        }
    }
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotReady::Starting => f.write_str("wsgate is starting"),
            NotReady::Stopping => f.write_str("wsgate is stopping"),
            NotReady::LinkDown(name) => write!(f, "link {name} is down"),
        }
    }
}
