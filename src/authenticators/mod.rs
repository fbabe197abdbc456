//! Whose credential this is: each `[[auth]]` while the gateway runs, with what it checks against or whom it asks.

mod answers;
mod ask_again;
mod attempt;
mod callout;
mod check;
mod error;
mod gate;
pub mod issuer_keys;
mod key_file;
mod token_threads;
mod verdict;

pub use attempt::Attempt;
pub use error::AuthError;
pub use verdict::{Checked, Left, NotChecked, Shown};

use std::path::Path;
use std::sync::Arc;

use log::warn;

use crate::auth::FileKind;
use crate::auth::certificate::IdentityFrom;
use crate::auth::credentials::Scheme;
use crate::config::{AuthId, AuthKind, AuthServer, AuthSettings, KeySource};
use crate::dial::{HttpClient, Resolver};
use crate::identity::Identity;
use crate::reload::Reloadable;
use crate::table::Table;
use ask_again::AskAgain;
use callout::Callout;
use gate::Gate;
use issuer_keys::IssuerKeys;
use key_file::KeyFile;
use token_threads::TokenThreads;

/// An `[[auth]]` while the gateway runs.
#[derive(Debug)]
pub struct Auth {
    /// What it is.
    pub settings: AuthSettings,
    id: AuthId,
    source: Source,
    shared: Arc<Processors>,
}

/// What checks have of the processors. All `[[auth]]` share it, also those of the next generation.
#[derive(Debug)]
struct Processors {
    /// How many passwords are checked at once.
    passwords: Gate,
    tokens: TokenThreads,
}

/// What credentials are checked against.
#[derive(Debug)]
enum Source {
    /// What was read from a file.
    File(Arc<KeyFile>),
    /// What was loaded from the URL of an issuer.
    Issuer(Arc<IssuerKeys>),
    /// A service is asked.
    Service(Box<Callout>),
    /// The listener has checked the certificate, in which this name counts.
    Certificate(IdentityFrom),
}

/// All of them.
#[derive(Debug, Default)]
pub struct Auths(Table<AuthId, Arc<Auth>>);

impl Auths {
    /// Reads the files of each; names of servers are looked up by `resolver`. Each has the number of its place in the
    /// settings.
    pub fn new(settings: &[AuthSettings], resolver: &Arc<Resolver>) -> Result<Auths, AuthError> {
        let shared = Arc::new(Processors::new());
        let auth = |(index, settings): (usize, &AuthSettings)| {
            let id = AuthId(index);
            Ok((id, Arc::new(Auth::new(id, settings, resolver, &shared)?)))
        };
        Ok(Auths(settings.iter().enumerate().map(auth).collect::<Result<_, AuthError>>()?))
    }

    /// Those that take the place of these: with other settings, by their numbers. What has not changed is the same, and what
    /// has is read anew.
    pub fn next<'s>(
        &self,
        settings: impl Iterator<Item = (AuthId, &'s AuthSettings)>,
        resolver: &Arc<Resolver>,
    ) -> Result<Auths, Vec<AuthError>> {
        let shared =
            self.0.values().next().map_or_else(|| Arc::new(Processors::new()), |auth| Arc::clone(&auth.shared));
        let (mut auths, mut wrong) = (Vec::new(), Vec::new());
        for (id, settings) in settings {
            match self.0.get(id).filter(|auth| auth.settings == *settings) {
                Some(same) => auths.push((id, Arc::clone(same))),
                None => match Auth::new(id, settings, resolver, &shared) {
                    Ok(auth) => auths.push((id, Arc::new(auth))),
                    Err(error) => wrong.push(error),
                },
            }
        }
        if wrong.is_empty() { Ok(Auths(auths.into_iter().collect())) } else { Err(wrong) }
    }

    /// The one of this number.
    pub fn get(&self, id: AuthId) -> Option<&Arc<Auth>> {
        self.0.get(id)
    }

    /// All of them with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (AuthId, &Arc<Auth>)> {
        self.0.iter()
    }

    /// Those whose keys are loaded from a URL, each with its name.
    pub fn issuers(&self) -> impl Iterator<Item = (&str, &Arc<IssuerKeys>)> {
        self.0.values().filter_map(|auth| Some((&*auth.settings.name, auth.issuer()?)))
    }

    /// Whether what stands behind an identity is still valid.
    pub fn holds(&self, identity: &Identity) -> bool {
        let Some(auth) = self.0.get(AuthId(identity.proof.auth)) else { return false };
        match &auth.source {
            Source::File(file) => file.keys().holds(identity),
            Source::Issuer(keys) => keys.holds(&identity.proof.digest),
            // It has said for how long; and a certificate is for its listener to judge.
            Source::Service(_) | Source::Certificate(_) => true,
        }
    }
}

impl Processors {
    /// Half of the processors for each of them, but one at least: the other half goes on serving clients.
    fn new() -> Processors {
        let half = (std::thread::available_parallelism().map_or(1, |cores| cores.get()) / 2).max(1);
        Processors { passwords: Gate::new(half), tokens: TokenThreads::new(half) }
    }
}

impl Source {
    fn of(settings: &AuthSettings, resolver: &Arc<Resolver>) -> Result<Source, AuthError> {
        let name = || settings.name.clone();
        let client = |server: &AuthServer, body_max| {
            let client = HttpClient::new(&server.dial, Arc::clone(resolver), body_max);
            let client = client.map_err(|cause| AuthError::Server { name: name(), cause })?.shown_as(&server.shown);
            if let Some(host) = client.unverified() {
                warn!(
                    "[[auth]] {:?}: the certificate of '{host}' is not checked (`verify = false`): anyone on the network \
                     path can let anybody in",
                    settings.name
                );
            }
            Ok(client)
        };
        let of_file = |kind, file: &Path| Ok(Source::File(Arc::new(KeyFile::new(&settings.name, kind, file)?)));
        match &settings.kind {
            AuthKind::Jwt(jwt, KeySource::Url(jwks)) => {
                let client = client(&jwks.server, issuer_keys::BODY_MAX)?;
                Ok(Source::Issuer(Arc::new(IssuerKeys::new(client, (**jwks).clone(), jwt.algorithm))))
            }
            AuthKind::Http(callout) => {
                let callout = Callout::new(client(&callout.server, callout::BODY_MAX)?, (**callout).clone());
                let callout = callout.map_err(|cause| AuthError::System { name: name(), cause })?;
                Ok(Source::Service(Box::new(callout)))
            }
            AuthKind::Certificate(from) => Ok(Source::Certificate(*from)),
            AuthKind::Tokens(file) => of_file(FileKind::Tokens, file),
            AuthKind::Basic(file) => of_file(FileKind::Basic, file),
            AuthKind::Jwt(jwt, KeySource::File(file)) => of_file(FileKind::Jwt(jwt.algorithm), file),
        }
    }
}

impl Auth {
    fn new(
        id: AuthId,
        settings: &AuthSettings,
        resolver: &Arc<Resolver>,
        shared: &Arc<Processors>,
    ) -> Result<Auth, AuthError> {
        let source = Source::of(settings, resolver)?;
        if let AuthKind::Jwt(..) = settings.kind {
            let started = shared.tokens.start();
            started.map_err(|cause| AuthError::System { name: settings.name.clone(), cause })?;
        }
        Ok(Auth { source, settings: settings.clone(), id, shared: Arc::clone(shared) })
    }

    /// The keys that are loaded from a URL, if they are.
    pub fn issuer(&self) -> Option<&Arc<IssuerKeys>> {
        match &self.source {
            Source::Issuer(keys) => Some(keys),
            Source::File(_) | Source::Service(_) | Source::Certificate(_) => None,
        }
    }

    /// What of it is read again.
    pub fn reloadable(&self) -> Vec<Arc<dyn Reloadable>> {
        let owner = format!("[[auth]] {:?}", self.settings.name);
        match &self.source {
            Source::File(file) => vec![Arc::clone(file) as Arc<dyn Reloadable>],
            Source::Issuer(keys) => keys.reloadable(&owner).into_iter().chain([AskAgain::of(owner, keys)]).collect(),
            Source::Service(callout) => callout.reloadable(owner).into_iter().collect(),
            Source::Certificate(_) => Vec::new(),
        }
    }

    /// What stands before its credentials in Authorization; `None` if they are not in requests.
    pub fn scheme(&self) -> Option<Scheme> {
        self.settings.kind.scheme()
    }

    /// Whether a service is asked, for which somebody waits.
    pub fn asks_a_service(&self) -> bool {
        matches!(self.source, Source::Service(_))
    }

    /// Whether it goes by the certificates of clients.
    pub fn takes_certificates(&self) -> bool {
        matches!(self.source, Source::Certificate(_))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Instant;

    use super::*;
    use crate::auth::credentials::{Credential, Place, Places};
    use crate::auth::tokens;
    use crate::dial::CancelToken;
    use crate::http::request;
    use crate::secret::Secret;

    #[test]
    fn what_was_read_again_is_in_force_once_it_is_applied() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("tokens.txt");
        let write = |token| fs::write(&file, tokens::line("a", token)).unwrap();
        write("old");
        let (name, places) = ("devices".to_owned(), Places::default());
        let settings = AuthSettings { name, kind: AuthKind::Tokens(file.clone()), places };
        let auths = Auths::new(&[settings], &Resolver::new()).unwrap();
        let head = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
        let request = request::judge(head).unwrap();
        let check = |token| {
            let attempt = Attempt {
                head,
                request: &request,
                certificate: None,
                looks_at_claims: false,
                address: None,
                endpoint: "/",
                path: "/",
                deadline: Instant::now(),
                cancel: &CancelToken::default(),
                is_heard: &|| Ok(()),
                has_failed: &|| {},
                has_left: &|| false,
            };
            let credential = Credential { place: Place::Cookie, text: Secret::new(token) };
            auths.get(AuthId(0)).unwrap().check(&[credential], &attempt).right.map(|(_, checked)| checked.identity)
        };
        let file_again = auths.get(AuthId(0)).unwrap().reloadable().remove(0);
        let old = check("old").unwrap();
        fs::write(&file, "b").unwrap();
        let problem = file_again.read_again().unwrap_err();
        assert!(
            problem.starts_with("[[auth]] \"devices\" names '") && problem.contains("wrong on line 1: "),
            "{problem}"
        );
        write("new");
        let fresh = file_again.read_again().unwrap();
        assert!(check("new").is_none() && auths.holds(&old));
        (fresh.apply)();
        assert!(check("new").is_some() && check("old").is_none() && !auths.holds(&old));
    }
}
