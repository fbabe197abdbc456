//! A string of the file, with the variables of the environment that stand in it.

use crate::secret::Secret;

/// A string of the file.
#[derive(Debug, Clone)]
pub(super) struct Text {
    /// What it says, variables of the environment in place.
    pub(super) value: String,
    /// What stands in the file. Messages quote this one: a variable may hold a secret.
    pub(super) written: String,
    /// The values of the variables in it.
    pub(super) variables: Vec<Secret>,
    /// The byte of the text at which it begins.
    pub(super) at: usize,
}

impl Text {
    /// Whether this part of it stands in the file itself: no variable of the environment is in it.
    pub(super) fn has_in_the_clear(&self, part: &str) -> bool {
        let is_in = |variable: &Secret| !variable.expose().is_empty() && part.contains(variable.expose());
        !self.variables.iter().any(is_in)
    }
}
