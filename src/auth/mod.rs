//! Who a client is: the rules of each kind of `[[auth]]`, what their files hold, and what a client may do.

pub mod admin;
pub mod allow;
pub mod answer;
pub mod certificate;
pub mod credentials;
mod digest;
pub mod file;
pub mod htpasswd;
pub mod jwk;
pub mod jwt;
pub mod tokens;

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::identity::{Identity, Proof};
use file::FileError;
use htpasswd::Passwords;
use jwk::{Algorithm, KeySet};
use tokens::Tokens;

/// What a file of credentials holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// Names and SHA-256 digests of tokens.
    Tokens,
    /// Users and hashes of passwords, as htpasswd writes them.
    Basic,
    /// The keys of an issuer, those of one algorithm if there is one here.
    Jwt(Option<Algorithm>),
}

/// What was read from the file of an `[[auth]]`.
#[derive(Debug)]
pub enum Keys {
    /// Of the kind `tokens`.
    Tokens(Tokens),
    /// Of the kind `basic`.
    Basic(Passwords),
    /// Of the kind `jwt`.
    Jwt(Arc<KeySet>),
}

impl Keys {
    /// What is probably not meant in the file, for the operator; the text goes on after the name of the file.
    pub fn doubt(&self) -> Option<&'static str> {
        match self {
            Keys::Basic(users) if users.is_mixed() => Some(
                "in which checks cost more for some users than for others, so that the time tells which users there are: \
                 hash all passwords with one kind and one cost",
            ),
            Keys::Basic(_) | Keys::Tokens(_) | Keys::Jwt(_) => None,
        }
    }

    /// Whether other users of the machine must not read the file. Public keys are for everybody.
    pub fn are_secret(&self) -> bool {
        match self {
            Keys::Tokens(_) | Keys::Basic(_) => true,
            Keys::Jwt(keys) => keys.has_secret(),
        }
    }

    /// Whether what stands behind an identity is still there.
    pub fn holds(&self, Identity { name, proof: Proof { digest, .. }, .. }: &Identity) -> bool {
        match self {
            Keys::Tokens(tokens) => tokens.holds(name, digest),
            Keys::Basic(users) => users.holds(name, digest),
            Keys::Jwt(keys) => keys.holds(digest),
        }
    }
}

/// Reads a file of credentials.
pub fn read(kind: FileKind, file: &Path) -> Result<Keys, FileError> {
    let text = file::read(file)?;
    match kind {
        FileKind::Tokens => Ok(Keys::Tokens(Tokens::parse(&text)?)),
        FileKind::Basic => {
            let mut key = [0; 32];
            getrandom::fill(&mut key).map_err(|error| FileError::Unreadable(io::Error::other(error.to_string())))?;
            Ok(Keys::Basic(Passwords::parse(&text, key)?))
        }
        FileKind::Jwt(algorithm) => Ok(Keys::Jwt(KeySet::parse(&text, algorithm)?.into())),
    }
}
