//! `[[auth]]`: how clients are authenticated.

use std::ops::Index;
use std::path::{Path, PathBuf};

use crate::auth::FileKind;
use crate::auth::certificate::IdentityFrom;
use crate::auth::credentials::{Places, Scheme};
use crate::auth::jwt::JwtSettings;

/// An `[[auth]]`, by its index in the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AuthId(pub usize);

impl Index<AuthId> for Vec<AuthSettings> {
    type Output = AuthSettings;

    fn index(&self, id: AuthId) -> &AuthSettings {
        &self[id.0]
    }
}

/// `[[auth]]`: one way to authenticate clients.
#[derive(Debug, Clone, PartialEq)]
pub struct AuthSettings {
    /// What endpoints and the log call it.
    pub name: String,
    /// How credentials are checked, and against what.
    pub kind: AuthKind,
    /// Where they are looked for.
    pub places: Places,
}

/// How credentials are checked, and against what.
#[derive(Debug, Clone, PartialEq)]
pub enum AuthKind {
    /// `tokens`: against a file of SHA-256 digests.
    Tokens(PathBuf),
    /// `basic`: users and passwords, against an htpasswd file.
    Basic(PathBuf),
    /// `jwt`: signed tokens, against a file with the keys of their issuer.
    Jwt(JwtSettings, PathBuf),
    /// `certificate`: the certificate that the client has shown to its listener, which has checked it.
    Certificate(IdentityFrom),
}

impl AuthKind {
    /// How a credential of this kind is called in Authorization; `None` if it is not in the request at all.
    pub fn scheme(&self) -> Option<Scheme> {
        match self {
            AuthKind::Tokens(_) | AuthKind::Jwt(..) => Some(Scheme::Bearer),
            AuthKind::Basic(_) => Some(Scheme::Basic),
            AuthKind::Certificate(_) => None,
        }
    }

    /// The file that it is checked against, if there is one, and what that holds.
    pub fn file(&self) -> Option<(FileKind, &Path)> {
        match self {
            AuthKind::Tokens(file) => Some((FileKind::Tokens, file)),
            AuthKind::Basic(file) => Some((FileKind::Basic, file)),
            AuthKind::Jwt(jwt, file) => Some((FileKind::Jwt(jwt.algorithm), file)),
            AuthKind::Certificate(_) => None,
        }
    }
}
