//! A file of credentials and what was read from it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::AuthError;
use crate::auth::{self, FileKind, Keys};
use crate::reload::{Fresh, Reloadable};
use crate::sync::Mutex;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct KeyFile {
    /// The name of its `[[auth]]`.
    name: String,
    kind: FileKind,
    path: PathBuf,
    /// What is valid now. It is replaced as a whole, and whoever checks has taken it out.
    keys: Arc<Mutex<Arc<Keys>>>,
}

impl KeyFile {
    /// Reads the file of the `[[auth]]` of this name.
    pub(super) fn new(name: &str, kind: FileKind, path: &Path) -> Result<KeyFile, AuthError> {
        let keys = read(name, kind, path)?;
        let keys = Arc::new(Mutex::new(Arc::new(keys)));
        Ok(KeyFile { name: name.to_owned(), kind, path: path.to_owned(), keys })
    }

    /// What is valid now.
    pub(super) fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.keys.lock())
    }
}

impl Reloadable for KeyFile {
    fn read_again(&self) -> Result<Fresh, String> {
        let fresh = Arc::new(read(&self.name, self.kind, &self.path).map_err(|error| error.to_string())?);
        let keys = Arc::clone(&self.keys);
        let what = format!("[[auth]] {:?}: '{}'", self.name, self.path.display());
        Ok(Fresh { what, apply: Box::new(move || *keys.lock() = fresh) })
    }
}

fn read(name: &str, kind: FileKind, path: &Path) -> Result<Keys, AuthError> {
    auth::read(kind, path).map_err(|cause| AuthError::File { name: name.to_owned(), file: path.to_owned(), cause })
}
