//! `allow` of an endpoint.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use toml::de::DeValue;

use crate::auth::allow::{Glob, Rights, Rule};
use crate::config::section::{Keys, Section, Value};
use crate::identity::NAME_BYTES_MAX;

pub(crate) static ALLOW: Keys = Keys {
    table: "allow of [[endpoint]]",
    keys: &[
        ("who", "\"press-*\""),
        ("path", "\"/devices/{identity}\""),
        ("send", "true"),
        ("receive", "true"),
        ("claims", "{ group = \"staff\" }"),
    ],
};

/// The rules in their order, and where one stands that takes `receive` away.
#[derive(Default)]
pub(crate) struct RawAllow {
    pub(crate) rules: Vec<Rule>,
    pub(crate) at: usize,
    pub(crate) no_receive_at: Option<usize>,
}

pub(super) fn allow(value: &Value<'_>) -> RawAllow {
    let mut allow = RawAllow { at: value.at(), ..RawAllow::default() };
    if value.is_empty_list() {
        value.mistake(
            "is empty, so nobody could get in: write a rule, or remove the key to let in whoever is authenticated",
        );
    }
    for section in value.sections(&ALLOW).unwrap_or_default() {
        let rule = rule(&section);
        if !rule.rights.receive {
            allow.no_receive_at = allow.no_receive_at.or(section.get("receive").map(|value| value.at()));
        }
        if allow.rules.iter().any(|rule| rule.who.is_all() && rule.path.is_all() && rule.claims.is_empty()) {
            section
                .report
                .warning(section.at, "no client gets to this rule: an earlier one fits everybody on every path");
        }
        allow.rules.push(rule);
    }
    allow
}

fn rule(section: &Section<'_>) -> Rule {
    let mut rule = Rule { who: Glob::new("*"), path: Glob::new("*"), claims: BTreeMap::new(), rights: Rights::ALL };
    section.read("who", &mut rule.who, |value| who(&value));
    section.read("path", &mut rule.path, |value| {
        let text = value.text()?;
        let is_path = text.value.starts_with(['/', '*']);
        if !is_path || text.value.replace("{identity}", "").contains(['{', '}', '?', '#']) {
            value.mistake(format_args!(
                "is {:?}, but it is the path of a request, with \"*\" for any characters and {{identity}} for the client's \
                 own name: write for example \"/devices/{{identity}}\"",
                text.written
            ));
            return None;
        }
        Some(Glob::new(&text.value))
    });
    section.read("send", &mut rule.rights.send, |v| v.boolean());
    section.read("receive", &mut rule.rights.receive, |v| v.boolean());
    section.read("claims", &mut rule.claims, |v| claims(&v, "claims in allow of [[endpoint]]"));
    rule
}

/// The names that a rule is for.
pub(super) fn who(value: &Value<'_>) -> Option<Glob> {
    let text = value.text()?;
    let is_good = (1..=NAME_BYTES_MAX).contains(&text.value.len());
    if !is_good || text.value.contains("{identity}") {
        value.mistake(format_args!(
            "is {:?}, but it is the name of an identity, with \"*\" for any characters: write for example \"press-*\"",
            text.written
        ));
        return None;
    }
    Some(Glob::new(&text.value))
}

/// What each claim must be: one value, or one of a list. Messages call the table `table`.
pub(super) fn claims(value: &Value<'_>, table: &'static str) -> Option<BTreeMap<String, Vec<Json>>> {
    let mut claims = BTreeMap::new();
    for (_, name, entry) in value.entries(table, "\"staff\"")? {
        let values = match entry.value.get_ref() {
            DeValue::Array(_) => entry.texts()?.into_iter().map(|text| Json::from(text.value)).collect(),
            DeValue::Boolean(flag) => vec![Json::from(*flag)],
            DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
                Ok(number) => vec![Json::from(number)],
                Err(_) => {
                    entry.mistake("is larger than any number of a claim: write a smaller one");
                    return None;
                }
            },
            _ => vec![Json::from(entry.text()?.value)],
        };
        claims.insert(name.to_owned(), values);
    }
    Some(claims)
}
