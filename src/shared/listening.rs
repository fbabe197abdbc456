//! The listeners that accept, with the addresses that they were given.

use crate::shared::generation::Generation;

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

impl Generation {
    /// The listeners that accept, in the order of the settings.
    pub fn listening(&self) -> Vec<Bound> {
        let bound = self.doors.iter().filter_map(|door| {
            let address = door.socket.as_ref()?.bound_address();
            Some(Bound { name: door.settings.name.clone(), address, is_tls: door.tls.is_some() })
        });
        bound.collect()
    }
}
