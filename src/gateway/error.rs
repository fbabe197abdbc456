//! Why a gateway did not start, or a reload was refused.

use std::fmt;
use std::io;

use crate::authenticators::AuthError;
use crate::dial::SetupError;
use crate::listener::ListenError;
use crate::store::error::Refused;

/// Why a gateway did not start. Nothing of it is left running.
#[derive(Debug)]
pub enum StartError {
    /// There is no listener for an address.
    Listen(ListenError),
    /// A file of credentials is not as it was when the configuration was read.
    Auth(AuthError),
    /// A link or a relay cannot dial with its settings.
    Dial {
        /// Which.
        who: String,
        cause: SetupError,
    },
    /// The file of a store cannot be used.
    Store {
        /// The name of the store.
        name: String,
        cause: Refused,
    },
    /// The system refused a thread or another resource.
    System {
        /// What was wanted.
        what: &'static str,
        cause: io::Error,
    },
}

/// What the system says when it refuses this.
pub(super) fn system(what: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |cause| StartError::System { what, cause }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Listen(error) => error.fmt(f),
            StartError::Auth(error) => error.fmt(f),
            StartError::Dial { who, cause } => write!(f, "failed to set up {who}: {cause}"),
            StartError::Store { name, cause } => write!(f, "failed to open the store '{name}': {cause}"),
            StartError::System { what, cause } => write!(f, "failed to {what}: {cause}"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StartError::Listen(error) => error.source(),
            StartError::Auth(error) => error.source(),
            StartError::Dial { cause, .. } => Some(cause),
            StartError::Store { cause, .. } => Some(cause),
            StartError::System { cause, .. } => Some(cause),
        }
    }
}
