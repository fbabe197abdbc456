//! Whose credential this is: each `[[auth]]` while the gateway runs, with what it checks against.

mod gate;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Map, Value};

use crate::auth::credentials::{Credential, Scheme};
use crate::auth::file::FileError;
use crate::auth::jwk::KeySet;
use crate::auth::jwt::{self, Flaw};
use crate::auth::{self, Keys, certificate};
use crate::certificate::ClientCertificate;
use crate::config::{AuthKind, AuthSettings};
use crate::http::refusal::Refusal;
use crate::identity::{Identity, Proof};
use crate::reload::{Fresh, Reloadable};
use crate::secret::Secret;
use crate::sync::Mutex;
use gate::Gate;

/// An `[[auth]]` while the gateway runs.
#[derive(Debug)]
pub struct Auth {
    /// What it is.
    pub settings: AuthSettings,
    index: usize,
    /// What is valid now, if it has a file. It is replaced as a whole, and whoever checks has taken it out.
    keys: Option<Arc<Mutex<Arc<Keys>>>>,
    gate: Arc<Gate>,
}

/// What a right credential stands for.
#[derive(Debug)]
pub struct Checked {
    /// Who it is.
    pub identity: Identity,
    /// All that the credential says.
    pub claims: Map<String, Value>,
    /// Whether it took a password hash to find out.
    pub is_hashed: bool,
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

/// Why a credential was not found to be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotChecked {
    /// It is wrong, for a reason that goes on after "it " if there is more to say.
    Wrong(Option<Flaw>),
    /// So many passwords wait to be checked that its turn did not come in time.
    Busy,
    /// Its turn came, and by then nobody listened to it any more.
    Unheard(Refusal),
    /// The client has left while it waited.
    Gone,
}

/// What an attempt to come in is bound to.
pub struct Attempt<'a> {
    /// A password whose turn has not come by then is not checked.
    pub deadline: Instant,
    /// Whether credentials of this peer are still looked at. It is asked again when a password's turn has come: many wait
    /// at once, and those before it may have been wrong.
    pub is_heard: &'a dyn Fn() -> Result<(), Refusal>,
    /// Is told once if a credential was wrong.
    pub has_failed: &'a dyn Fn(),
    /// Whether the client has left: no password is checked for it then.
    pub has_left: &'a dyn Fn() -> bool,
}

/// All of them, in the order of the settings.
#[derive(Debug, Default)]
pub struct Auths(Vec<Arc<Auth>>);

/// A file of an `[[auth]]` that cannot be used.
#[derive(Debug)]
pub struct AuthError {
    name: String,
    file: PathBuf,
    cause: FileError,
}

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AuthError { name, file, cause } = self;
        write!(f, "[[auth]] {name:?} names '{}', {cause}", file.display())
    }
}

impl std::error::Error for AuthError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

impl Auths {
    /// Reads the file of each.
    pub fn new(settings: &[AuthSettings]) -> Result<Auths, AuthError> {
        let gate = Arc::new(Gate::for_passwords());
        let auth = |(index, settings): (usize, &AuthSettings)| {
            let keys = read_named(settings)?.map(|keys| Arc::new(Mutex::new(Arc::new(keys))));
            Ok(Arc::new(Auth { settings: settings.clone(), index, keys, gate: Arc::clone(&gate) }))
        };
        Ok(Auths(settings.iter().enumerate().map(auth).collect::<Result<_, AuthError>>()?))
    }

    /// The one with this index in the settings.
    pub fn get(&self, index: usize) -> &Auth {
        &self.0[index]
    }

    /// Those with a file, to be read again.
    pub fn of_files(&self) -> impl Iterator<Item = &Arc<Auth>> {
        self.0.iter().filter(|auth| auth.keys.is_some())
    }

    /// Whether what stands behind an identity is still valid; that of a certificate is for its listener to say.
    pub fn holds(&self, identity: &Identity) -> bool {
        self.0[identity.proof.auth].keys().is_none_or(|keys| keys.holds(identity))
    }
}

impl Reloadable for Auth {
    fn read_again(&self) -> Result<Fresh, String> {
        let fresh = read_named(&self.settings).map_err(|error| error.to_string())?.map(Arc::new);
        let keys = self.keys.clone();
        let file = self.settings.kind.file().map(|(_, file)| file.display().to_string()).unwrap_or_default();
        let what = format!("[[auth]] {:?}: '{file}'", self.settings.name);
        let replace = move || keys.into_iter().zip(fresh).for_each(|(keys, fresh)| *keys.lock() = fresh);
        Ok(Fresh { what, apply: Box::new(replace) })
    }
}

fn read_named(settings: &AuthSettings) -> Result<Option<Keys>, AuthError> {
    let Some((kind, file)) = settings.kind.file() else { return Ok(None) };
    let failed = |cause| AuthError { name: settings.name.clone(), file: file.to_owned(), cause };
    auth::read(kind, file).map(Some).map_err(failed)
}

impl Auth {
    /// What stands before its credentials in Authorization; `None` if they are not in requests.
    pub fn scheme(&self) -> Option<Scheme> {
        self.settings.kind.scheme()
    }

    /// Whose certificate this is, which was verified when its session began.
    pub fn check_certificate(&self, certificate: &ClientCertificate) -> Result<Checked, NotChecked> {
        let AuthKind::Certificate(from) = self.settings.kind else { return Err(NotChecked::Wrong(None)) };
        let judged = certificate::judge(certificate, from, SystemTime::now());
        let (name, left) = judged.map_err(|flaw| NotChecked::Wrong(Some(flaw)))?;
        let proof = Proof { auth: self.index, digest: certificate.fingerprint };
        let identity = Identity::new(name, BTreeMap::new(), proof);
        let left = Left { time: left, reason: "Certificate expired" };
        Ok(Checked { identity, claims: Map::new(), is_hashed: false, left: Some(left) })
    }

    /// Whose credential this is. A password waits for its turn.
    pub fn check(&self, credential: &Credential, attempt: &Attempt<'_>) -> Result<Checked, NotChecked> {
        let checked = |name: &str, digest, is_hashed| {
            let identity = Identity::new(name, BTreeMap::new(), Proof { auth: self.index, digest });
            Checked { identity, claims: Map::new(), is_hashed, left: None }
        };
        match &*self.keys().ok_or(NotChecked::Wrong(None))? {
            Keys::Tokens(tokens) => {
                let (name, digest) = tokens.find(credential.text.expose()).ok_or(NotChecked::Wrong(None))?;
                Ok(checked(name, digest, false))
            }
            Keys::Basic(users) => {
                let (user, password) = user_and_password(credential.text.expose()).ok_or(NotChecked::Wrong(None))?;
                if let Some(digest) = users.remembers(&user, password.expose(), Instant::now()) {
                    return Ok(checked(&user, digest, false));
                }
                let turn = self.gate.enter(|| Instant::now() >= attempt.deadline || (attempt.has_left)());
                let _turn =
                    turn.ok_or_else(|| if (attempt.has_left)() { NotChecked::Gone } else { NotChecked::Busy })?;
                (attempt.is_heard)().map_err(NotChecked::Unheard)?;
                // It may have been found right while this one waited.
                let now = Instant::now();
                let remembered = || users.remembers(&user, password.expose(), now);
                let digest = remembered().or_else(|| users.check(&user, password.expose(), now));
                digest.map(|digest| checked(&user, digest, true)).ok_or(NotChecked::Wrong(None))
            }
            Keys::Jwt(keys) => self.check_jwt(credential.text.expose(), keys),
        }
    }

    fn check_jwt(&self, token: &str, keys: &KeySet) -> Result<Checked, NotChecked> {
        let AuthKind::Jwt(settings, _) = &self.settings.kind else { return Err(NotChecked::Wrong(None)) };
        let verified = jwt::verify(token, keys, settings, SystemTime::now());
        let jwt::Verified { name, claims, left, key } = verified.map_err(|flaw| NotChecked::Wrong(Some(flaw)))?;
        let told = settings.claims.iter().filter_map(|name| Some((name.clone(), claims.get(name)?.clone())));
        let identity = Identity::new(&name, told.collect(), Proof { auth: self.index, digest: key });
        let left = Left { time: left, reason: "Token expired" };
        Ok(Checked { identity, claims, is_hashed: false, left: Some(left) })
    }

    fn keys(&self) -> Option<Arc<Keys>> {
        self.keys.as_ref().map(|keys| Arc::clone(&keys.lock()))
    }
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
    use crate::auth::credentials::{Place, Places};
    use crate::auth::tokens;

    #[test]
    fn what_was_read_again_is_in_force_once_it_is_applied() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("tokens.txt");
        let write = |token| fs::write(&file, tokens::line("a", token)).unwrap();
        write("old");
        let (name, places) = ("devices".to_owned(), Places::default());
        let settings = AuthSettings { name, kind: AuthKind::Tokens(file.clone()), places };
        let auths = Auths::new(&[settings]).unwrap();
        let check = |token| {
            let credential = Credential { place: Place::Cookie, text: Secret::new(token) };
            let attempt =
                Attempt { deadline: Instant::now(), is_heard: &|| Ok(()), has_failed: &|| {}, has_left: &|| false };
            auths.get(0).check(&credential, &attempt).map(|checked| checked.identity)
        };
        let old = check("old").unwrap();
        fs::write(&file, "b").unwrap();
        let problem = auths.get(0).read_again().unwrap_err();
        assert!(
            problem.starts_with("[[auth]] \"devices\" names '") && problem.contains("wrong on line 1: "),
            "{problem}"
        );
        write("new");
        let fresh = auths.get(0).read_again().unwrap();
        assert!(check("new").is_err() && auths.holds(&old));
        (fresh.apply)();
        assert!(check("new").is_ok() && check("old").is_err() && !auths.holds(&old));
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
