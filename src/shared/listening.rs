//! The listeners that accept, with the addresses that they were given.

use crate::listener::Listener;
use crate::sync::Mutex;

/// All of them, in the order in which they began.
#[derive(Debug, Default)]
pub struct Listening(Mutex<Vec<Bound>>);

/// A listener that accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// Its name in the configuration.
    pub name: String,
    /// Its address, with the port that was bound.
    pub address: String,
    /// Whether it speaks TLS.
    pub is_tls: bool,
}

impl Listening {
    /// One more accepts, in the place of an earlier one of this name.
    pub fn begin(&self, listener: &Listener) {
        let (name, address) = (listener.settings.name.clone(), listener.bound_address());
        let bound = Bound { name, address, is_tls: listener.tls.is_some() };
        let mut all = self.0.lock();
        match all.iter_mut().find(|known| known.name == bound.name) {
            Some(known) => *known = bound,
            None => all.push(bound),
        }
    }

    /// Those that accept now.
    pub fn all(&self) -> Vec<Bound> {
        self.0.lock().clone()
    }
}
