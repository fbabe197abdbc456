//! Who a client is, once it has been authenticated.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::display::is_misleading;

/// The longest name of an identity, in bytes.
pub const NAME_BYTES_MAX: usize = 256;

/// An authenticated client, as its messages and events name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// What it is called; [`is_name`] holds for it.
    pub name: Box<str>,
    /// What its credential says of it, as far as the operator wants it told.
    pub claims: BTreeMap<String, Value>,
    /// Where it comes from, so that a reload can take it away.
    pub proof: Proof,
    /// `"identity":...` and, if there are some, `,"claims":{...}`: made once for each client, since it is in every
    /// message.
    members: Box<str>,
}

/// What stands behind an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proof {
    /// The number of the `[[auth]]` that it was checked by.
    pub auth: usize,
    /// A SHA-256 of what it was checked against: an entry of a file, or a key. It shows no secret.
    pub digest: [u8; 32],
}

impl Identity {
    /// An identity of this name.
    pub fn new(name: &str, claims: BTreeMap<String, Value>, proof: Proof) -> Identity {
        // Written into one buffer: what is allocated beside it and freed, malloc keeps at hand in the client's thread.
        let mut members = b"\"identity\":".to_vec();
        write_json(&mut members, name);
        if !claims.is_empty() {
            members.extend_from_slice(b",\"claims\":");
            write_json(&mut members, &claims);
        }
        let members = String::from_utf8(members).expect("JSON is text");
        Identity { name: name.into(), claims, proof, members: members.into() }
    }

    /// The members of JSON that tell of it, at least one.
    pub fn members(&self) -> &str {
        &self.members
    }
}

fn write_json(into: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    serde_json::to_writer(into, value).expect("keys are texts and nothing in it can fail");
}

/// Whether a client can be called this: it stands in log lines, in messages and in a header of relays.
pub fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len()) && text.trim() == text && !text.contains(is_misleading)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_told_in_json() {
        let proof = Proof { auth: 0, digest: [0; 32] };
        let plain = Identity::new("press \"3\"", BTreeMap::new(), proof);
        assert_eq!(plain.members(), r#""identity":"press \"3\"""#);
        let claims = [("group".to_owned(), Value::from("staff")), ("level".to_owned(), Value::from(3))].into();
        let claimed = Identity::new("a", claims, proof);
        assert_eq!(claimed.members(), r#""identity":"a","claims":{"group":"staff","level":3}"#);
    }

    #[test]
    fn a_name_is_a_line_that_shows_what_it_is() {
        for (text, expected) in [
            ("press-3", true),
            ("00:1B:44:11:3A:B7", true),
            ("Ünal Öz", true),
            ("a/b", true),
            ("", false),
            (" a", false),
            ("a\n", false),
            ("a\u{202e}b", false),
            (&"x".repeat(256), true),
            (&"x".repeat(257), false),
        ] {
            assert_eq!(is_name(text), expected, "{text:?}");
        }
    }
}
