//! Why an `[[auth]]` cannot be set up.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::auth::file::FileError;
use crate::dial::SetupError;

/// An `[[auth]]` that cannot be set up.
#[derive(Debug)]
pub enum AuthError {
    /// Its file is not as it was when the configuration was read.
    File { name: String, file: PathBuf, cause: FileError },
    /// Its server cannot be dialled with these settings.
    Server { name: String, cause: SetupError },
    /// There are no random numbers, or no threads.
    System { name: String, cause: io::Error },
}

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AuthError::File { name, file, cause } => write!(f, "[[auth]] {name:?} names '{}', {cause}", file.display()),
            AuthError::Server { name, cause } => write!(f, "failed to set up [[auth]] {name:?}: {cause}"),
            AuthError::System { name, cause } => write!(f, "failed to set up [[auth]] {name:?}: {cause}"),
        }
    }
}

impl std::error::Error for AuthError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            AuthError::File { cause, .. } => Some(cause),
            AuthError::Server { cause, .. } => Some(cause),
            AuthError::System { cause, .. } => Some(cause),
        }
    }
}
