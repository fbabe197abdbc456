//! What an identity may do on an endpoint: the rules of its `allow`. A rule.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::path::is_value;

/// What a client may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights {
    /// Send messages.
    pub send: bool,
    /// Get messages.
    pub receive: bool,
}

impl Rights {
    /// Those of a client of which nothing else is said.
    pub const ALL: Rights = Rights { send: true, receive: true };
}

/// One entry of `allow`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The names that it is for.
    pub who: Glob,
    /// The paths that it is for.
    pub path: Glob,
    /// What the claims must hold: for each name one of these values.
    pub claims: BTreeMap<String, Vec<Value>>,
    /// What it allows.
    pub rights: Rights,
}

impl Rule {
    fn fits(&self, name: &str, claims: &Map<String, Value>, path: &str) -> bool {
        self.who.matches(name, name) && self.path.matches(path, name) && fits_claims(&self.claims, claims)
    }
}

/// Whether each claim has one of the values that are wanted of it.
pub(super) fn fits_claims(wanted: &BTreeMap<String, Vec<Value>>, claims: &Map<String, Value>) -> bool {
    wanted.iter().all(|(name, wanted)| {
        claims.get(name).is_some_and(|claim| wanted.iter().any(|value| holds(name, claim, value)))
    })
}

/// Whether a claim is this value, or a list with it. The words of `scope` are a list too (RFC 8693 section 4.2).
fn holds(name: &str, claim: &Value, wanted: &Value) -> bool {
    match claim {
        Value::Array(values) => values.contains(wanted),
        Value::String(scope) if name == "scope" => scope.split(' ').any(|word| Some(word) == wanted.as_str()),
        claim => claim == wanted,
    }
}

/// What the first rule that fits allows; `None` if none does.
pub fn decide(rules: &[Rule], name: &str, claims: &Map<String, Value>, path: &str) -> Option<Rights> {
    rules.iter().find(|rule| rule.fits(name, claims, path)).map(|rule| rule.rights)
}

/// A text in which `*` stands for any characters, also none, and `{identity}` for the client's own name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    /// The texts between the stars.
    parts: Vec<Vec<Piece>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Identity,
}

const IDENTITY: &str = "{identity}";

impl Glob {
    /// Reads one. What else stands in braces is text.
    pub fn new(text: &str) -> Glob {
        let part = |part: &str| {
            let mut pieces = Vec::new();
            for (index, text) in part.split(IDENTITY).enumerate() {
                pieces.extend((index > 0).then_some(Piece::Identity));
                pieces.extend((!text.is_empty()).then(|| Piece::Text(text.to_owned())));
            }
            pieces
        };
        Glob { parts: text.split('*').map(part).collect() }
    }

    /// Whether it is `*`.
    pub fn is_all(&self) -> bool {
        self.parts.len() > 1 && self.parts.iter().all(Vec::is_empty)
    }

    /// Whether this text is one that it stands for. An identity that is no value of a path stands for nothing: with a
    /// slash in it, it would reach the paths of others.
    pub(super) fn matches(&self, text: &str, identity: &str) -> bool {
        if self.parts.iter().flatten().any(|piece| *piece == Piece::Identity) && !is_value(identity) {
            return false;
        }
        let filled = |pieces: &Vec<Piece>| -> String {
            let text = |piece: &Piece| match piece {
                Piece::Text(text) => text.clone(),
                Piece::Identity => identity.to_owned(),
            };
            pieces.iter().map(text).collect()
        };
        let parts: Vec<String> = self.parts.iter().map(filled).collect();
        let (Some((first, rest)), Some(last)) = (parts.split_first(), parts.last()) else { return false };
        if rest.is_empty() {
            return text == first;
        }
        let Some(inner) = text.strip_prefix(&**first).and_then(|text| text.strip_suffix(&**last)) else { return false };
        let mut left = inner;
        rest[..rest.len() - 1].iter().all(|part| match left.split_once(&**part) {
            Some((_, behind)) => {
                left = behind;
                true
            }
            None => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_text_and_an_identity_is_itself() {
        for (glob, text, identity, expected) in [
            ("*", "", "", true),
            ("*", "a/b", "x", true),
            ("a", "a", "x", true),
            ("a", "ab", "x", false),
            ("press-*", "press-3", "x", true),
            ("press-*", "press-", "x", true),
            ("press-*", "xpress-3", "x", false),
            ("*-3", "press-3", "x", true),
            ("a*a", "a", "x", false),
            ("a*a", "aa", "x", true),
            ("a*b*c", "a-b-c", "x", true),
            ("a*b*c", "acb", "x", false),
            ("a*b*b", "ab", "x", false),
            ("/devices/{identity}", "/devices/7", "7", true),
            ("/devices/{identity}", "/devices/8", "7", false),
            ("/devices/{identity}/*", "/devices/7/up", "7", true),
            ("/{identity}/{identity}", "/7/7", "7", true),
            // A name is a text, whatever it holds.
            ("/devices/{identity}", "/devices/8", "*", false),
            ("/devices/{identity}", "/devices/*", "*", true),
            ("/devices/{identity}", "/devices/{identity}", "{identity}", true),
            ("/devices/{identity}", "/devices/8/7", "8/7", false),
            ("/devices/{identity}", "/devices/..", "..", false),
            ("/devices/{other}", "/devices/{other}", "x", true),
        ] {
            assert_eq!(Glob::new(glob).matches(text, identity), expected, "{glob} {text} {identity}");
        }
        assert!(
            Glob::new("*").is_all() && Glob::new("**").is_all() && !Glob::new("").is_all() && !Glob::new("a*").is_all()
        );
    }

    fn rule(who: &str, path: &str, claims: &[(&str, &[Value])], send: bool, receive: bool) -> Rule {
        let claims = claims.iter().map(|(name, values)| ((*name).to_owned(), values.to_vec())).collect();
        Rule { who: Glob::new(who), path: Glob::new(path), claims, rights: Rights { send, receive } }
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let rules = [
            rule("press-*", "/devices/{identity}", &[], true, false),
            rule("*", "/dash", &[("group", &["staff".into(), "ops".into()]), ("level", &[3.into()])], false, true),
            rule("*", "*", &[("scope", &["ws:all".into()])], true, true),
            rule("press-9", "*", &[], true, true),
        ];
        let rights = |send, receive| Some(Rights { send, receive });
        for (name, claims, path, expected) in [
            ("press-3", "{}", "/devices/press-3", rights(true, false)),
            ("press-3", "{}", "/devices/press-4", None),
            ("press-9", "{}", "/devices/press-9", rights(true, false)),
            ("press-9", "{}", "/devices/press-3", rights(true, true)),
            ("ada", r#"{"group":"staff","level":3}"#, "/dash", rights(false, true)),
            ("ada", r#"{"group":["x","ops"],"level":3}"#, "/dash", rights(false, true)),
            ("ada", r#"{"group":"staff"}"#, "/dash", None),
            ("ada", r#"{"group":"staffs","level":3}"#, "/dash", None),
            ("ada", r#"{"group":"staff","level":"3"}"#, "/dash", None),
            ("ada", r#"{"group":"a staff","level":3}"#, "/dash", None),
            ("ada", r#"{"scope":"a ws:all"}"#, "/x", rights(true, true)),
            ("ada", r#"{"scope":"ws:allow"}"#, "/x", None),
        ] {
            let claims = serde_json::from_str(claims).unwrap();
            assert_eq!(decide(&rules, name, &claims, path), expected, "{name} {path}");
        }
        assert_eq!(decide(&[], "ada", &Map::new(), "/"), None);
    }
}
