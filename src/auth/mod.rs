//! Who a client is: what an `[[auth]]` is, what it has read from its file, and whether a credential is right.

pub mod allow;
pub mod credentials;
pub mod file;
mod gate;
mod htpasswd;
pub mod jwk;
pub mod jwt;
pub mod tokens;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Map, Value};

use crate::identity::{Identity, Proof};
use crate::reload::{Fresh, Reloadable};
use crate::secret::Secret;
use crate::sync::Mutex;
use credentials::{Credential, Places, Scheme};
use file::FileError;
use gate::Gate;
use htpasswd::Passwords;
use jwk::KeySet;
use jwt::{Flaw, JwtSettings};
use tokens::Tokens;

/// `[[auth]]`: one way to authenticate clients.
#[derive(Debug, Clone, PartialEq)]
pub struct AuthSettings {
    /// What endpoints and the log call it.
    pub name: String,
    /// How credentials are checked.
    pub kind: AuthKind,
    /// What they are checked against.
    pub file: PathBuf,
    /// Where they are looked for.
    pub places: Places,
}

/// How credentials are checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthKind {
    /// `tokens`: against a file of SHA-256 digests.
    Tokens,
    /// `basic`: users and passwords, against an htpasswd file.
    Basic,
    /// `jwt`: signed tokens, against the keys of their issuer.
    Jwt(JwtSettings),
}

impl AuthKind {
    /// How a credential of this kind is called in Authorization.
    pub fn scheme(&self) -> Scheme {
        match self {
            AuthKind::Tokens | AuthKind::Jwt(_) => Scheme::Bearer,
            AuthKind::Basic => Scheme::Basic,
        }
    }
}

/// What was read from the file of an `[[auth]]`.
#[derive(Debug)]
pub enum Keys {
    /// Of the kind `tokens`.
    Tokens(Tokens),
    /// Of the kind `basic`.
    Basic(Passwords),
    /// Of the kind `jwt`.
    Jwt(KeySet),
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

    fn holds(&self, Identity { name, proof, .. }: &Identity) -> bool {
        match self {
            Keys::Tokens(tokens) => tokens.holds(name, &proof.digest),
            Keys::Basic(users) => users.holds(name, &proof.digest),
            Keys::Jwt(keys) => keys.holds(&proof.digest),
        }
    }
}

/// Reads the file of an `[[auth]]`.
pub fn read(settings: &AuthSettings) -> Result<Keys, FileError> {
    let text = file::read(&settings.file)?;
    match &settings.kind {
        AuthKind::Tokens => Ok(Keys::Tokens(Tokens::parse(&text)?)),
        AuthKind::Basic => {
            let mut key = [0; 32];
            getrandom::fill(&mut key).map_err(|error| FileError::Unreadable(io::Error::other(error.to_string())))?;
            Ok(Keys::Basic(Passwords::parse(&text, key)?))
        }
        AuthKind::Jwt(jwt) => Ok(Keys::Jwt(KeySet::parse(&text, jwt.algorithm)?)),
    }
}

/// An `[[auth]]` while the gateway runs.
#[derive(Debug)]
pub struct Auth {
    /// What it is.
    pub settings: AuthSettings,
    index: usize,
    /// What is valid now. It is replaced as a whole, and whoever checks has taken it out.
    keys: Arc<Mutex<Arc<Keys>>>,
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
    pub left: Option<Duration>,
}

/// Why a credential was not found to be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotChecked {
    /// It is wrong, for a reason that goes on after "it " if there is more to say.
    Wrong(Option<Flaw>),
    /// So many passwords wait to be checked that its turn did not come in time.
    Busy,
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
            let keys = Arc::new(Mutex::new(Arc::new(read_named(settings)?)));
            Ok(Arc::new(Auth { settings: settings.clone(), index, keys, gate: Arc::clone(&gate) }))
        };
        Ok(Auths(settings.iter().enumerate().map(auth).collect::<Result<_, AuthError>>()?))
    }

    /// The one with this index in the settings.
    pub fn get(&self, index: usize) -> &Auth {
        &self.0[index]
    }

    /// All of them, to be read again.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Auth>> {
        self.0.iter()
    }

    /// Whether what stands behind an identity is still valid.
    pub fn holds(&self, identity: &Identity) -> bool {
        self.0[identity.proof.auth].keys().holds(identity)
    }
}

impl Reloadable for Auth {
    fn read_again(&self) -> Result<Fresh, String> {
        let fresh = Arc::new(read_named(&self.settings).map_err(|error| error.to_string())?);
        let keys = Arc::clone(&self.keys);
        let what = format!("[[auth]] {:?}: '{}'", self.settings.name, self.settings.file.display());
        Ok(Fresh { what, apply: Box::new(move || *keys.lock() = fresh) })
    }
}

fn read_named(settings: &AuthSettings) -> Result<Keys, AuthError> {
    let AuthSettings { name, file, .. } = settings;
    read(settings).map_err(|cause| AuthError { name: name.clone(), file: file.clone(), cause })
}

impl Auth {
    /// What stands before its credentials in Authorization.
    pub fn scheme(&self) -> Scheme {
        self.settings.kind.scheme()
    }

    /// Whose credential this is. A password waits for its turn until the deadline at most.
    pub fn check(&self, credential: &Credential, deadline: Instant) -> Result<Checked, NotChecked> {
        let checked = |name: &str, digest, is_hashed| {
            let identity = Identity::new(name, BTreeMap::new(), Proof { auth: self.index, digest });
            Checked { identity, claims: Map::new(), is_hashed, left: None }
        };
        match &*self.keys() {
            Keys::Tokens(tokens) => {
                let (name, digest) = tokens.find(credential.text.expose()).ok_or(NotChecked::Wrong(None))?;
                Ok(checked(name, digest, false))
            }
            Keys::Basic(users) => {
                let (user, password) = user_and_password(credential.text.expose()).ok_or(NotChecked::Wrong(None))?;
                if let Some(digest) = users.remembers(&user, password.expose(), Instant::now()) {
                    return Ok(checked(&user, digest, false));
                }
                let _turn = self.gate.enter(deadline).ok_or(NotChecked::Busy)?;
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
        let AuthKind::Jwt(settings) = &self.settings.kind else { return Err(NotChecked::Wrong(None)) };
        let verified = jwt::verify(token, keys, settings, SystemTime::now());
        let jwt::Verified { name, claims, left, key } = verified.map_err(|flaw| NotChecked::Wrong(Some(flaw)))?;
        let told = settings.claims.iter().filter_map(|name| Some((name.clone(), claims.get(name)?.clone())));
        let identity = Identity::new(&name, told.collect(), Proof { auth: self.index, digest: key });
        Ok(Checked { identity, claims, is_hashed: false, left: Some(left) })
    }

    fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.keys.lock())
    }
}

/// What stands behind `Basic` (RFC 7617 section 2).
fn user_and_password(text: &str) -> Option<(String, Secret)> {
    let decoded = String::from_utf8(data_encoding::BASE64.decode(text.as_bytes()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some((user.to_owned(), Secret::new(password)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use credentials::Place;

    #[test]
    fn what_was_read_again_is_in_force_once_it_is_applied() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("tokens.txt");
        let write = |token| fs::write(&file, tokens::line("a", token)).unwrap();
        write("old");
        let (name, places) = ("devices".to_owned(), Places::default());
        let settings = AuthSettings { name, kind: AuthKind::Tokens, file: file.clone(), places };
        let auths = Auths::new(&[settings]).unwrap();
        let check = |token| {
            let credential = Credential { place: Place::Cookie, text: Secret::new(token) };
            auths.get(0).check(&credential, Instant::now()).map(|checked| checked.identity)
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
        ] {
            let read = user_and_password(text);
            let read = read.as_ref().map(|(user, password)| (&**user, password.expose()));
            assert_eq!(read, expected, "{text}");
        }
    }
}
