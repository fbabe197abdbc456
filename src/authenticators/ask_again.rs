//! At a reload the URL of an issuer is asked again.

use std::sync::Arc;

use crate::reload::{Fresh, Reloadable};

use super::issuer_keys::IssuerKeys;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct AskAgain {
    owner: String,
    keys: Arc<IssuerKeys>,
}

impl AskAgain {
    /// For these keys; `owner` is whose they are, for the log.
    pub(super) fn of(owner: String, keys: &Arc<IssuerKeys>) -> Arc<dyn Reloadable> {
        Arc::new(AskAgain { owner, keys: Arc::clone(keys) })
    }
}

impl Reloadable for AskAgain {
    fn read_again(&self) -> Result<Fresh, String> {
        let keys = Arc::clone(&self.keys);
        let what = format!("{}: '{}' (it is being asked)", self.owner, keys.shown());
        Ok(Fresh { what, apply: Box::new(move || keys.ask_again()) })
    }
}
