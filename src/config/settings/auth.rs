//! `[[auth]]`: see [`AuthSettings`].

use std::ops::Index;

use crate::auth::AuthSettings;

/// An `[[auth]]`, by its index in the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AuthId(pub usize);

impl Index<AuthId> for Vec<AuthSettings> {
    type Output = AuthSettings;

    fn index(&self, id: AuthId) -> &AuthSettings {
        &self[id.0]
    }
}
