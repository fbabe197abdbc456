//! Which socket that the supervisor has passed is which listener's.

use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use socket2::{SockAddr, Socket};

use crate::config::{ListenAddress, ListenerSettings};
use crate::system::passed_sockets::{NotListening, PassedSocket};

/// How the sockets that the supervisor passes differ from the listeners.
#[derive(Debug)]
pub enum PassedError {
    /// It cannot be a listener.
    Kind { name: String, why: NotListening },
    /// No listener is called so, or it has one already.
    TooMany { name: String, is_second: bool },
    /// None is called like this listener.
    TooFew { listener: String },
    /// It listens elsewhere than the configuration says.
    Address { name: String, address: String, configured: String },
    /// The system does not say where it listens, or does not let it be set up.
    System { name: String, cause: io::Error },
}

/// The socket of each listener: the one that has its name and is where its settings say.
///
/// # Errors
/// What is wrong with a socket, or that one is missing.
pub(super) fn match_up(all: &[ListenerSettings], passed: Vec<PassedSocket>) -> Result<Vec<Socket>, PassedError> {
    let mut sockets: Vec<Option<Socket>> = all.iter().map(|_| None).collect();
    for PassedSocket { name, listening } in passed {
        let at = all.iter().position(|listener| listener.name == name);
        let Some(at) = at.filter(|at| sockets[*at].is_none()) else {
            return Err(PassedError::TooMany { name, is_second: at.is_some() });
        };
        let socket = match listening {
            Ok(socket) => socket,
            Err(why) => return Err(PassedError::Kind { name, why }),
        };
        let bound = match socket.local_addr() {
            Ok(bound) => bound,
            Err(cause) => return Err(PassedError::System { name, cause }),
        };
        if !is_at(&all[at].address, &bound) {
            let (address, configured) = (shown(&bound), all[at].address.to_string());
            return Err(PassedError::Address { name, address, configured });
        }
        sockets[at] = Some(socket);
    }
    let missing = |listener: &ListenerSettings| PassedError::TooFew { listener: listener.name.clone() };
    all.iter().zip(sockets).map(|(listener, socket)| socket.ok_or_else(|| missing(listener))).collect()
}

/// Whether this is where the configuration says; port 0 is every port.
fn is_at(configured: &ListenAddress, bound: &SockAddr) -> bool {
    match configured {
        ListenAddress::Tcp(address) => bound
            .as_socket()
            .is_some_and(|bound| bound.ip() == address.ip() && [0, bound.port()].contains(&address.port())),
        ListenAddress::Unix(path) => {
            bound.as_pathname().is_some_and(|bound| bound == path || is_same_file(bound, path))
        }
    }
}

/// An address of a socket as the configuration writes it.
fn shown(address: &SockAddr) -> String {
    match (address.as_socket(), address.as_pathname()) {
        (Some(address), _) => address.to_string(),
        (None, Some(path)) => ListenAddress::Unix(path.to_owned()).to_string(),
        (None, None) => "an address without a path".to_owned(),
    }
}

/// Whether both paths lead to one file.
fn is_same_file(one: &Path, other: &Path) -> bool {
    let id = |path| std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    id(one).is_some_and(|file| id(other) == Some(file))
}

impl fmt::Display for PassedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PassedError::Kind { name, why } => write!(f, "the supervisor passes {name:?}, which is {why}"),
            PassedError::TooMany { name, is_second: false } => write!(
                f,
                "the supervisor passes a socket {name:?}, and no [[listen]] is called so: write name = {name:?} in its \
                 [[listen]], or FileDescriptorName= with the name of a [[listen]] in the socket unit"
            ),
            PassedError::TooMany { name, is_second: true } => write!(
                f,
                "the supervisor passes two sockets {name:?}: give each a socket unit of its own, with the name of its \
                 [[listen]] as FileDescriptorName="
            ),
            PassedError::TooFew { listener } => write!(
                f,
                "the supervisor passes sockets, but none for listener {listener:?}: add a socket unit with \
                 FileDescriptorName={listener}, or remove the [[listen]]"
            ),
            PassedError::Address { name, address, configured } => write!(
                f,
                "the socket {name:?} that the supervisor passes is at {address:?}, but the [[listen]] of this name has \
                 address = {configured:?}: write the same in both"
            ),
            PassedError::System { name, cause } => {
                write!(f, "failed to set up the socket {name:?} that the supervisor passes: {cause}")
            }
        }
    }
}

impl std::error::Error for PassedError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            PassedError::System { cause, .. } => Some(cause),
            _ => None,
        }
    }
}
