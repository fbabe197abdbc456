//! The kind `tokens`: a file with the name and the SHA-256 of each token. A rule.
//!
//! A token is looked up by its digest in a hash table. The time that this takes tells nothing that helps to guess one:
//! who tries tokens cannot choose their digests, so however many bits of a digest a clock may betray, the next try is
//! as blind as the first; and the table is keyed at random. Compared byte by byte is only what has the whole digest.

use std::collections::HashMap;

use super::digest::sha256;
use super::file::LineError;
use crate::identity::is_name;

/// The tokens of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    names: HashMap<[u8; 32], Box<str>>,
}

impl Tokens {
    /// Reads lines of `NAME:HEX`. Blank lines and those that begin with `#` are skipped; a name may have several.
    ///
    /// # Errors
    /// The first line that is none of these, or the file itself if it has no token.
    pub fn parse(text: &str) -> Result<Tokens, LineError> {
        let mut names: HashMap<[u8; 32], Box<str>> = HashMap::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |problem: &str| LineError { line: Some(index + 1), problem: problem.to_owned() };
            // The last colon: a name may be an address of hardware.
            let (name, hex) = line.rsplit_once(':').ok_or_else(|| wrong(NO_LINE))?;
            let digest = digest_of_hex(hex.trim()).ok_or_else(|| wrong(NO_LINE))?;
            let name = name.trim();
            if !is_name(name) {
                return Err(wrong(
                    "the name is empty, longer than 256 bytes, or has an invisible character: write another one",
                ));
            }
            match names.insert(digest, name.into()) {
                Some(other) if &*other != name => {
                    return Err(wrong("this token has another name on an earlier line: remove one of them"));
                }
                _ => {}
            }
        }
        if names.is_empty() {
            let problem = "it has no token: add the line that 'wsgate token new NAME' prints on standard error";
            return Err(LineError { line: None, problem: problem.to_owned() });
        }
        Ok(Tokens { names })
    }

    /// Whose token this is, and its digest.
    pub fn find(&self, token: &str) -> Option<(&str, [u8; 32])> {
        let digest = sha256(token.as_bytes());
        self.names.get(&digest).map(|name| (&**name, digest))
    }

    /// Whether the token with this digest still is that of this name.
    pub fn holds(&self, name: &str, digest: &[u8; 32]) -> bool {
        self.names.get(digest).is_some_and(|own| &**own == name)
    }
}

const NO_LINE: &str = "it is not NAME:HEX with 64 hex digits: 'wsgate token new NAME' makes a token and its line, \
                       'wsgate token hash NAME' the line of a token that exists";

/// The line of a file for this token.
pub fn line(name: &str, token: &str) -> String {
    format!("{name}:{}", data_encoding::HEXLOWER.encode(&sha256(token.as_bytes())))
}

fn digest_of_hex(hex: &str) -> Option<[u8; 32]> {
    data_encoding::HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_names_and_digests() {
        let (old, new) = (line("press-3", "old"), line("press-3", "new"));
        let mac = line("00:1B:44:11:3A:B7", "mac");
        let text = format!("# devices\n\n{old}\r\n  {}  \n{mac}\n{mac}", new.to_uppercase().replace("PRESS", "press"));
        let tokens = Tokens::parse(&text).unwrap();
        for (token, name) in [
            ("old", Some("press-3")),
            ("new", Some("press-3")),
            ("mac", Some("00:1B:44:11:3A:B7")),
            ("", None),
            ("ol", None),
            ("old ", None),
            (&old[8..], None),
        ] {
            assert_eq!(tokens.find(token).map(|(name, _)| name), name, "{token:?}");
        }
        assert!(tokens.holds("press-3", &sha256(b"old")) && !tokens.holds("press-4", &sha256(b"old")));
        assert!(!tokens.holds("press-3", &sha256(b"older")));
    }

    #[test]
    fn a_file_that_is_wrong_says_on_which_line() {
        let good = line("a", "x");
        for (text, at) in [
            (String::new(), None),
            ("# only a comment\n\n".to_owned(), None),
            (format!("{good}\nb"), Some(2)),
            (format!("{good}\nb:1234"), Some(2)),
            (format!("{good}\n\nb:{}", "g".repeat(64)), Some(3)),
            (format!(":{}", "0".repeat(64)), Some(1)),
            (good[2..].to_owned(), Some(1)),
            (format!("{good}\n{}", good.replacen('a', "b", 1)), Some(2)),
            (format!("{}:{}", "x".repeat(257), "0".repeat(64)), Some(1)),
            (good[..good.len() - 1].to_owned(), Some(1)),
        ] {
            assert_eq!(Tokens::parse(&text).map_err(|error| error.line), Err(at), "{text}");
        }
    }
}
