//! Whose credential this is: each `[[auth]]` while the gateway runs, with what it checks against or whom it asks.

mod answers;
mod attempt;
mod callout;
mod error;
mod gate;
pub mod issuer_keys;
mod key_file;

pub use attempt::Attempt;
pub use error::AuthError;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use log::warn;
use serde_json::{Map, Value};

use crate::auth::answer::Answer;
use crate::auth::certificate::{self, IdentityFrom};
use crate::auth::credentials::{Credential, Place, Scheme};
use crate::auth::jwk::KeySet;
use crate::auth::jwt::{self, Flaw};
use crate::auth::{FileKind, Keys};
use crate::certificate::ClientCertificate;
use crate::config::{AuthKind, AuthServer, AuthSettings, KeySource};
use crate::dial::{HttpClient, Resolver};
use crate::http::refusal::Refusal;
use crate::identity::{Identity, Proof};
use crate::reload::{Fresh, Reloadable};
use crate::secret::Secret;
use callout::{Callout, Declined, Told};
use gate::Gate;
use issuer_keys::{IssuerKeys, NoKeys};
use key_file::KeyFile;

/// After how many seconds it is worth to come again where a server does not answer.
const RETRY_AFTER: u64 = 5;

/// An `[[auth]]` while the gateway runs.
#[derive(Debug)]
pub struct Auth {
    /// What it is.
    pub settings: AuthSettings,
    index: usize,
    source: Source,
    /// How many passwords are checked at once.
    gate: Arc<Gate>,
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

/// What a right credential stands for.
#[derive(Debug)]
pub struct Checked {
    /// Who it is.
    pub identity: Identity,
    /// All that the credential says.
    pub claims: Map<String, Value>,
    /// Whether finding out has left something in its thread: a password was hashed, a signature checked, or a service asked
    /// over TLS.
    pub is_heavy: bool,
    /// For how long it is good; `None` is for ever.
    pub left: Option<Left>,
}

/// For how long a credential is good from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// The time.
    pub time: Duration,
    /// What its client is told when that is over.
    pub reason: &'static str,
}

impl Left {
    fn of_token(time: Duration) -> Left {
        Left { time, reason: "Token expired" }
    }
}

/// Why a credential was not found to be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotChecked {
    /// It is wrong, for a reason that goes on after "it " if there is more to say.
    Wrong(Option<Flaw>),
    /// Its service refuses the client, with 401 or 403.
    Refused(u16),
    /// Its turn came, and by then nobody listened to it any more.
    Unheard(Refusal),
    /// The client has left while it waited.
    Gone,
    /// It could not be found out.
    Unknown {
        /// Why, for the peer.
        reason: &'static str,
        /// The same for the log; it may be empty.
        advice: String,
        /// After how many seconds it is worth to come again.
        retry_after: u64,
    },
}

/// What came of the credentials that an `[[auth]]` has looked at.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Who is behind the first right one.
    pub right: Option<(Shown, Checked)>,
    /// Why those before it, or all, are none.
    pub wrong: Vec<(Shown, NotChecked)>,
}

/// What a client has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// A credential that stands there.
    At(Place),
    /// All that its service is told of.
    ToService,
    /// Its certificate, which nobody can guess.
    Certificate,
}

/// All of them, in the order of the settings.
#[derive(Debug, Default)]
pub struct Auths(Vec<Arc<Auth>>);

impl Auths {
    /// Reads the files of each; names of servers are looked up by `resolver`.
    pub fn new(settings: &[AuthSettings], resolver: &Arc<Resolver>) -> Result<Auths, AuthError> {
        let gate = Arc::new(Gate::for_passwords());
        let auth = |(index, settings): (usize, &AuthSettings)| {
            let (settings, gate) = (settings.clone(), Arc::clone(&gate));
            Ok(Arc::new(Auth { source: Source::of(&settings, resolver)?, settings, index, gate }))
        };
        Ok(Auths(settings.iter().enumerate().map(auth).collect::<Result<_, AuthError>>()?))
    }

    /// The one with this index in the settings.
    pub fn get(&self, index: usize) -> &Auth {
        &self.0[index]
    }

    /// What of all of them is read again.
    pub fn reloadable(&self) -> impl Iterator<Item = Arc<dyn Reloadable>> {
        self.0.iter().flat_map(|auth| {
            let owner = format!("[[auth]] {:?}", auth.settings.name);
            match &auth.source {
                Source::File(file) => vec![Arc::clone(file) as Arc<dyn Reloadable>],
                Source::Issuer(keys) => {
                    keys.reloadable(&owner).into_iter().chain([AskAgain::of(owner, keys)]).collect()
                }
                Source::Service(callout) => callout.reloadable(owner).into_iter().collect(),
                Source::Certificate(_) => Vec::new(),
            }
        })
    }

    /// Those whose keys are loaded from a URL, each with its name.
    pub fn issuers(&self) -> impl Iterator<Item = (&str, &Arc<IssuerKeys>)> {
        self.0.iter().filter_map(|auth| match &auth.source {
            Source::Issuer(keys) => Some((&*auth.settings.name, keys)),
            Source::File(_) | Source::Service(_) | Source::Certificate(_) => None,
        })
    }

    /// Whether what stands behind an identity is still valid.
    pub fn holds(&self, identity: &Identity) -> bool {
        match &self.0[identity.proof.auth].source {
            Source::File(file) => file.keys().holds(identity),
            Source::Issuer(keys) => keys.holds(&identity.proof.digest),
            // It has said for how long; and a certificate is for its listener to judge.
            Source::Service(_) | Source::Certificate(_) => true,
        }
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

/// On a reload the URL of an issuer is asked again.
#[derive(Debug)]
struct AskAgain {
    owner: String,
    keys: Arc<IssuerKeys>,
}

impl AskAgain {
    fn of(owner: String, keys: &Arc<IssuerKeys>) -> Arc<dyn Reloadable> {
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

impl Auth {
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

    /// Whose credentials these are. All waits end with the deadline.
    pub fn check(&self, credentials: &[Credential], attempt: &Attempt<'_>) -> Verdict {
        let mut verdict = Verdict::default();
        match &self.source {
            Source::File(file) => {
                let keys = file.keys();
                self.check_each(credentials, &mut verdict, |text| self.check_with(&keys, text, attempt));
            }
            Source::Issuer(keys) => {
                self.check_each(credentials, &mut verdict, |text| self.check_issued(text, keys, attempt.deadline));
            }
            Source::Service(callout) if callout.is_concerned(credentials, attempt.head) => {
                verdict.add(Shown::ToService, self.ask(callout, credentials, attempt));
            }
            Source::Service(_) => {}
            Source::Certificate(from) => {
                let checked = attempt.certificate.map(|certificate| self.check_certificate(*from, certificate));
                checked.into_iter().for_each(|checked| verdict.add(Shown::Certificate, checked));
            }
        }
        verdict
    }

    /// Checks one after the other, until one is right.
    fn check_each(
        &self,
        credentials: &[Credential],
        verdict: &mut Verdict,
        check: impl Fn(&str) -> Result<Checked, NotChecked>,
    ) {
        for Credential { place, text } in credentials {
            verdict.add(Shown::At(*place), check(text.expose()));
            if verdict.right.is_some() {
                return;
            }
        }
    }

    /// Whose certificate this is, which was verified when its session began.
    fn check_certificate(&self, from: IdentityFrom, certificate: &ClientCertificate) -> Result<Checked, NotChecked> {
        let judged = certificate::judge(certificate, from, SystemTime::now());
        let (name, time) = judged.map_err(|flaw| NotChecked::Wrong(Some(flaw)))?;
        let left = Some(Left { time, reason: "Certificate expired" });
        Ok(Checked { left, ..self.checked(name, certificate.fingerprint, false) })
    }

    fn check_with(&self, keys: &Keys, text: &str, attempt: &Attempt<'_>) -> Result<Checked, NotChecked> {
        match keys {
            Keys::Tokens(tokens) => {
                let (name, digest) = tokens.find(text).ok_or(NotChecked::Wrong(None))?;
                Ok(self.checked(name, digest, false))
            }
            Keys::Basic(users) => {
                let (user, password) = user_and_password(text).ok_or(NotChecked::Wrong(None))?;
                if let Some(digest) = users.remembers(&user, password.expose(), Instant::now()) {
                    return Ok(self.checked(&user, digest, false));
                }
                let turn = self.gate.enter(|| attempt.is_over());
                let _turn = turn.ok_or_else(|| match (attempt.has_left)() {
                    true => NotChecked::Gone,
                    false => NotChecked::unknown("too many passwords wait to be checked", String::new()),
                })?;
                (attempt.is_heard)().map_err(NotChecked::Unheard)?;
                // It may have been found right while this one waited.
                let now = Instant::now();
                let remembered = || users.remembers(&user, password.expose(), now);
                let digest = remembered().or_else(|| users.check(&user, password.expose(), now));
                digest.map(|digest| self.checked(&user, digest, true)).ok_or(NotChecked::Wrong(None))
            }
            Keys::Jwt(keys) => self.check_jwt(text, keys).map_err(|flaw| NotChecked::Wrong(Some(flaw))),
        }
    }

    fn checked(&self, name: &str, digest: [u8; 32], is_heavy: bool) -> Checked {
        let identity = Identity::new(name, BTreeMap::new(), Proof { auth: self.index, digest });
        Checked { identity, claims: Map::new(), is_heavy, left: None }
    }

    fn check_jwt(&self, token: &str, keys: &KeySet) -> Result<Checked, Flaw> {
        let AuthKind::Jwt(settings, _) = &self.settings.kind else { return Err("is no JWT") };
        let jwt::Verified { name, claims, left, key } = jwt::verify(token, keys, settings, SystemTime::now())?;
        let identity = Identity::new(&name, told(&settings.claims, &claims), Proof { auth: self.index, digest: key });
        Ok(Checked { identity, claims, is_heavy: true, left: Some(Left::of_token(left)) })
    }

    /// As [`check_jwt`](Auth::check_jwt), with keys that may have to be asked for.
    fn check_issued(&self, token: &str, issuer: &IssuerKeys, deadline: Instant) -> Result<Checked, NotChecked> {
        let missing = |why| match why {
            NoKeys::Missing => NotChecked::Unknown {
                reason: "the keys for tokens are missing",
                advice: format!("those of [[auth]] {:?}, see the lines above", self.settings.name),
                retry_after: RETRY_AFTER,
            },
            NoKeys::Crowded => NotChecked::unknown("too many wait for the keys for tokens", String::new()),
        };
        let keys = issuer.current(deadline).map_err(missing)?;
        let checked = match self.check_jwt(token, &keys) {
            Err(jwt::NO_KEY) => match issuer.newer(&keys, deadline).map_err(missing)? {
                Some(keys) => self.check_jwt(token, &keys),
                None => Err(jwt::NO_KEY),
            },
            checked => checked,
        };
        checked.map_err(|flaw| NotChecked::Wrong(Some(flaw)))
    }

    /// Who a service says that this is.
    fn ask(&self, callout: &Callout, credentials: &[Credential], attempt: &Attempt<'_>) -> Result<Checked, NotChecked> {
        match callout.ask(&self.settings.name, credentials, attempt) {
            Ok(Told { answer: Answer { name, claims, left }, is_over_tls }) => {
                let proof = Proof { auth: self.index, digest: [0; 32] };
                let identity = Identity::new(&name, told(callout.claims(), &claims), proof);
                Ok(Checked { identity, claims, is_heavy: is_over_tls, left: left.map(Left::of_token) })
            }
            Err(Declined::Refused(status)) => Err(NotChecked::Refused(status)),
            Err(Declined::Unheard(refusal)) => Err(NotChecked::Unheard(refusal)),
            Err(Declined::Gone) => Err(NotChecked::Gone),
            Err(Declined::Busy) => Err(NotChecked::unknown("too many clients wait to be checked", String::new())),
            Err(Declined::Unanswered(advice)) => Err(NotChecked::Unknown {
                reason: "the service that checks clients does not answer",
                advice,
                retry_after: RETRY_AFTER,
            }),
        }
    }
}

impl Verdict {
    fn add(&mut self, shown: Shown, checked: Result<Checked, NotChecked>) {
        match checked {
            Ok(checked) => self.right = Some((shown, checked)),
            Err(why) => self.wrong.push((shown, why)),
        }
    }
}

impl NotChecked {
    /// It could not be found out for now.
    fn unknown(reason: &'static str, advice: String) -> NotChecked {
        NotChecked::Unknown { reason, advice, retry_after: 1 }
    }
}

/// The claims of these names.
fn told(names: &[String], claims: &Map<String, Value>) -> BTreeMap<String, Value> {
    names.iter().filter_map(|name| Some((name.clone(), claims.get(name)?.clone()))).collect()
}

/// What stands behind `Basic`. RFC 7617 section 2 has no control characters in it; bcrypt takes `a`, a zero and `a` for
/// the password `a`.
fn user_and_password(text: &str) -> Option<(String, Secret)> {
    let decoded = String::from_utf8(data_encoding::BASE64.decode(text.as_bytes()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':').filter(|_| !decoded.contains(char::is_control))?;
    Some((user.to_owned(), Secret::new(password)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::auth::credentials::Places;
    use crate::auth::tokens;
    use crate::dial::CancelToken;
    use crate::http::request;

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
            auths.get(0).check(&[credential], &attempt).right.map(|(_, checked)| checked.identity)
        };
        let file_again = auths.reloadable().next().unwrap();
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

    #[test]
    fn a_user_and_a_password_are_base64_with_a_colon() {
        for (text, expected) in [
            ("YTpi", Some(("a", "b"))),
            ("YTpiOmM=", Some(("a", "b:c"))),
            ("w7w6w6k=", Some(("ü", "é"))),
            ("Og==", Some(("", ""))),
            ("YTpiOmM", None),
            ("YQ==", None),
            ("/zo=", None),
            ("a:b", None),
            ("YTpiAGI=", None),
            ("YQA6Yg==", None),
        ] {
            let read = user_and_password(text);
            let read = read.as_ref().map(|(user, password)| (&**user, password.expose()));
            assert_eq!(read, expected, "{text}");
        }
    }
}
