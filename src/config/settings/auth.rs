//! `[[auth]]`: how clients are authenticated.

use std::ops::Index;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::certificate::IdentityFrom;
use crate::auth::credentials::{Places, Scheme};
use crate::auth::jwt::JwtSettings;

use super::dial::DialSettings;

/// An `[[auth]]`, numbered as endpoints are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    /// `jwt`: signed tokens, against the keys of their issuer.
    Jwt(Arc<JwtSettings>, KeySource),
    /// `http`: a service of the operator's own is asked.
    Http(Box<CalloutSettings>),
    /// `certificate`: the certificate that the client has shown to its listener, which has checked it.
    Certificate(IdentityFrom),
}

/// Where the keys of an issuer are.
#[derive(Debug, Clone, PartialEq)]
pub enum KeySource {
    /// In a file.
    File(PathBuf),
    /// At a URL.
    Url(Box<JwksSettings>),
}

/// A server that an `[[auth]]` asks.
#[derive(Debug, Clone, PartialEq)]
pub struct AuthServer {
    /// How it is dialled. Its `connect_timeout` is the time for a whole answer; default 5 s.
    pub dial: DialSettings,
    /// Its URL for people.
    pub shown: String,
}

/// `jwks_url`: the keys of an issuer that are loaded from a URL.
#[derive(Debug, Clone, PartialEq)]
pub struct JwksSettings {
    /// Where they are.
    pub server: AuthServer,
    /// How often they are loaded, at least 1 s. Default 10 min.
    pub refresh_interval: Duration,
    /// For how long the last good ones serve, from when they came; at least `refresh_interval`. Default 24 h.
    pub stale_for: Duration,
}

impl JwksSettings {
    /// The keys of this server, with every default.
    pub fn new(server: AuthServer) -> JwksSettings {
        let (refresh_interval, stale_for) = (Duration::from_secs(10 * 60), Duration::from_secs(24 * 60 * 60));
        JwksSettings { server, refresh_interval, stale_for }
    }
}

/// `kind = "http"`: a service that says who a client is.
#[derive(Debug, Clone, PartialEq)]
pub struct CalloutSettings {
    /// What is asked.
    pub server: AuthServer,
    /// The headers of a client's request that it is told.
    pub forward_headers: Vec<String>,
    /// The claims that messages and events have.
    pub claims: Vec<String>,
    /// How many clients it is asked about at once. Default 16, 1 to 1024.
    pub max_requests: usize,
    /// For how long an answer is kept that lets a client in; zero is not at all. Default zero.
    pub cache_for: Duration,
}

impl CalloutSettings {
    /// This server with every default.
    pub fn new(server: AuthServer) -> CalloutSettings {
        let (forward_headers, claims) = (Vec::new(), Vec::new());
        CalloutSettings { server, forward_headers, claims, max_requests: 16, cache_for: Duration::ZERO }
    }
}

impl AuthKind {
    /// How a credential of this kind is called in Authorization; `None` if it is not in the request at all.
    pub fn scheme(&self) -> Option<Scheme> {
        match self {
            AuthKind::Tokens(_) | AuthKind::Jwt(..) | AuthKind::Http(_) => Some(Scheme::Bearer),
            AuthKind::Basic(_) => Some(Scheme::Basic),
            AuthKind::Certificate(_) => None,
        }
    }
}
