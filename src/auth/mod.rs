//! Who a client is: what an `[[auth]]` is, what it has read from its file, and whether a credential is right.

pub mod allow;
pub mod credentials;
pub mod file;
pub mod tokens;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::identity::{Identity, Proof};
use crate::sync::Mutex;
use credentials::{Credential, Places, Scheme};
use file::FileError;
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthKind {
    /// `tokens`: against a file of SHA-256 digests.
    Tokens,
}

impl AuthKind {
    /// How a credential of this kind is called in Authorization.
    pub fn scheme(self) -> Scheme {
        match self {
            AuthKind::Tokens => Scheme::Bearer,
        }
    }
}

/// What was read from the file of an `[[auth]]`.
#[derive(Debug)]
pub enum Keys {
    /// Of the kind `tokens`.
    Tokens(Tokens),
}

/// Reads the file of an `[[auth]]`.
pub fn read(settings: &AuthSettings) -> Result<Keys, FileError> {
    let text = file::read(&settings.file)?;
    match settings.kind {
        AuthKind::Tokens => Ok(Keys::Tokens(Tokens::parse(&text)?)),
    }
}

/// An `[[auth]]` while the gateway runs.
#[derive(Debug)]
pub struct Auth {
    /// What it is.
    pub settings: AuthSettings,
    index: usize,
    /// What is valid now. It is replaced as a whole, and whoever checks has taken it out.
    keys: Mutex<Arc<Keys>>,
}

/// What a right credential stands for.
#[derive(Debug)]
pub struct Checked {
    /// Who it is.
    pub identity: Identity,
    /// All that the credential says.
    pub claims: Map<String, Value>,
}

/// All of them, in the order of the settings.
#[derive(Debug, Default)]
pub struct Auths(Vec<Auth>);

/// Files that were read again, and are not in force yet.
#[derive(Debug)]
pub struct Reread(Vec<Arc<Keys>>);

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
        write!(f, "[[auth]] {name:?} names {:?}, {cause}", file.display().to_string())
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
        let auth = |(index, settings): (usize, &AuthSettings)| {
            Ok(Auth { settings: settings.clone(), index, keys: Mutex::new(Arc::new(read_named(settings)?)) })
        };
        Ok(Auths(settings.iter().enumerate().map(auth).collect::<Result<_, AuthError>>()?))
    }

    /// The one with this index in the settings.
    pub fn get(&self, index: usize) -> &Auth {
        &self.0[index]
    }

    /// Reads every file again, and changes nothing.
    pub fn reread(&self) -> Result<Reread, AuthError> {
        let keys = self.0.iter().map(|auth| read_named(&auth.settings).map(Arc::new));
        Ok(Reread(keys.collect::<Result<_, AuthError>>()?))
    }

    /// Puts what was read again in force, for those that come from now on.
    pub fn replace(&self, reread: Reread) {
        for (auth, keys) in self.0.iter().zip(reread.0) {
            *auth.keys.lock() = keys;
        }
    }

    /// Whether what stands behind an identity is still valid.
    pub fn holds(&self, identity: &Identity) -> bool {
        let Proof { auth, digest } = &identity.proof;
        match &*self.0[*auth].keys() {
            Keys::Tokens(tokens) => tokens.holds(&identity.name, digest),
        }
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

    /// Whose credential this is; `None` for a wrong one.
    pub fn check(&self, credential: &Credential) -> Option<Checked> {
        let proof = |digest| Proof { auth: self.index, digest };
        match &*self.keys() {
            Keys::Tokens(tokens) => {
                let (name, digest) = tokens.find(credential.text.expose())?;
                let identity = Identity::new(name, BTreeMap::new(), proof(digest));
                Some(Checked { identity, claims: Map::new() })
            }
        }
    }

    fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.keys.lock())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::secret::Secret;
    use credentials::Place;

    #[test]
    fn a_reload_takes_all_files_or_none() {
        let directory = tempfile::tempdir().unwrap();
        let settings: Vec<AuthSettings> = ["a", "b"]
            .iter()
            .map(|name| {
                let file = directory.path().join(name);
                fs::write(&file, tokens::line(name, "old")).unwrap();
                AuthSettings { name: (*name).to_owned(), kind: AuthKind::Tokens, file, places: Places::default() }
            })
            .collect();
        let auths = Auths::new(&settings).unwrap();
        let check = |index: usize, token| {
            let checked = auths.get(index).check(&Credential { place: Place::Cookie, text: Secret::new(token) });
            checked.map(|checked| checked.identity)
        };
        let old = check(0, "old").unwrap();
        assert_eq!((&*old.name, check(1, "old").unwrap().proof.auth), ("a", 1));
        fs::write(&settings[0].file, tokens::line("a", "new")).unwrap();
        fs::write(&settings[1].file, "b").unwrap();
        let error = auths.reread().unwrap_err().to_string();
        assert!(error.starts_with("[[auth]] \"b\" names ") && error.contains("wrong on line 1: "), "{error}");
        assert!(check(0, "new").is_none() && auths.holds(&old));
        fs::write(&settings[1].file, tokens::line("b", "new")).unwrap();
        auths.replace(auths.reread().unwrap());
        assert!(check(0, "new").is_some() && check(0, "old").is_none() && check(1, "new").is_some());
        assert!(!auths.holds(&old));
    }
}
