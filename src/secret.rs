//! Text that is used and never shown: passwords, tokens, headers that may hold one; and the names of such texts.

use std::fmt;

/// In these words, names say that the value of a parameter or a header is a secret.
const SECRET_WORDS: [&str; 9] =
    ["token", "secret", "passw", "apikey", "jwt", "credential", "signature", "authorization", "cookie"];

/// Names that say so only as a whole.
const SECRET_NAMES: [&str; 7] = ["auth", "key", "pass", "pwd", "sig", "ticket", "xkey"];

/// Whether the name of a parameter or a header says that its value is not for everybody.
pub fn names_a_secret(name: &str) -> bool {
    let name: String = name.chars().filter(|c| c.is_alphanumeric()).map(|c| c.to_ascii_lowercase()).collect();
    SECRET_NAMES.contains(&&*name) || SECRET_WORDS.iter().any(|word| name.contains(word))
}

/// A secret. What prints it, in logs, in errors or with `{:?}`, prints `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a text out of sight.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself, for the wire only.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_shown() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?} {:?}", Some(&secret)), "*** *** Some(***)");
        assert_eq!(secret.expose(), "hunter2");
    }
}
