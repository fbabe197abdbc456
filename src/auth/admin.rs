//! What an identity may do over the admin listener: its rights, and the rules of `allow` under `[admin]`. A rule.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::allow::{Glob, fits_claims};

/// A right of a caller of the admin listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// See the state, the metrics and the configuration.
    Read,
    /// See the messages of clients.
    Tail,
    /// Change something: send, publish, disconnect, redial, reload, set the level of the log.
    Act,
}

impl Right {
    /// All of them, each with its word in the configuration.
    pub const WORDS: [(&'static str, Right); 3] = [("read", Right::Read), ("tail", Right::Tail), ("act", Right::Act)];

    /// Its word in the configuration.
    pub fn word(self) -> &'static str {
        Right::WORDS[self as usize].0
    }

    /// All of them.
    pub fn all() -> BTreeSet<Right> {
        Right::WORDS.iter().map(|(_, right)| *right).collect()
    }
}

/// One entry of `allow` under `[admin]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminRule {
    /// The names that it is for.
    pub who: Glob,
    /// What the claims must hold: for each name one of these values.
    pub claims: BTreeMap<String, Vec<Value>>,
    /// What it allows.
    pub rights: BTreeSet<Right>,
}

/// The rights that the first rule gives that fits; none if none fits.
pub fn decide(rules: &[AdminRule], name: &str, claims: &Map<String, Value>) -> BTreeSet<Right> {
    let fits = |rule: &&AdminRule| rule.who.matches(name, name) && fits_claims(&rule.claims, claims);
    rules.iter().find(fits).map(|rule| rule.rights.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_fits_gives_its_rights_and_no_rule_gives_none() {
        let rule = |who, claims: &[(&str, &str)], rights: &[Right]| AdminRule {
            who: Glob::new(who),
            claims: claims.iter().map(|(name, value)| ((*name).to_owned(), vec![Value::from(*value)])).collect(),
            rights: rights.iter().copied().collect(),
        };
        let rules = [
            rule("prometheus", &[], &[Right::Read]),
            rule("*", &[("group", "ops")], &[Right::Read, Right::Tail, Right::Act]),
            rule("prom*", &[], &[Right::Act]),
        ];
        let words = |name, claims| {
            let rights = decide(&rules, name, &serde_json::from_str(claims).unwrap());
            rights.into_iter().map(Right::word).collect::<Vec<_>>()
        };
        assert_eq!(words("prometheus", "{}"), ["read"]);
        assert_eq!(words("ada", r#"{"group":["x","ops"]}"#), ["read", "tail", "act"]);
        assert_eq!(words("prom", r#"{"group":"x"}"#), ["act"]);
        assert!(words("ada", "{}").is_empty() && words("ada", r#"{"group":"opsx"}"#).is_empty());
        assert!(decide(&[], "ada", &Map::new()).is_empty());
        assert_eq!(Right::all().len(), Right::WORDS.len());
    }
}
