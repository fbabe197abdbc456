//! `[admin]`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::auth::admin::{AdminRule, Right};
use crate::auth::allow::Glob;
use crate::config::remedy;
use crate::config::section::{Keys, Section, Value};
use crate::config::settings::AdminSettings;
use crate::config::text::Text;

use super::allow::{claims, who};
use super::listen::listen_address;
use super::origins::hosts;
use super::tls::listener_tls;

pub(crate) static ADMIN: Keys = Keys {
    table: "[admin]",
    keys: &[
        ("address", "\"127.0.0.1:8081\""),
        ("hosts", "[\"gate.example\"]"),
        ("tls", "{ certificate = \"server.pem\", private_key = \"server.key\" }"),
        ("auth", "[\"operators\"]"),
        ("allow", "[{ who = \"prometheus\", rights = [\"read\"] }, { rights = [\"read\", \"tail\", \"act\"] }]"),
    ],
};
pub(crate) static TLS: Keys = Keys { table: "tls of [admin]", keys: super::tls::TLS.keys };
pub(crate) static ALLOW: Keys = Keys {
    table: "allow of [admin]",
    keys: &[("who", "\"prometheus\""), ("rights", "[\"read\"]"), ("claims", "{ group = \"ops\" }")],
};

/// An `[admin]` and where its parts stand.
pub(crate) struct RawAdmin {
    /// `auth` is missing in them.
    pub(crate) settings: AdminSettings,
    /// The place of the address, or of the table without one.
    pub(crate) address_at: usize,
    /// Whether the address is what was meant; a wrong one is compared with nothing.
    pub(crate) valid: bool,
    /// The names in `auth`, if it is written.
    pub(crate) auth: Option<Vec<Text>>,
    /// The place of `allow`, if it is written.
    pub(crate) allow_at: Option<usize>,
    /// The first key that says something of a listener, and its place.
    pub(crate) of_listener: Option<(&'static str, usize)>,
}

pub(super) fn admin(section: &Section<'_>, base_dir: &Path) -> RawAdmin {
    let mut settings = AdminSettings { is_wanted: true, ..AdminSettings::default() };
    let (mut valid, mut address_at) = (true, section.at);
    if let Some(value) = section.get("address") {
        address_at = value.at();
        let is_off = value.is_off_or("an address");
        let text = is_off.and_then(|_| value.text_or(|port| remedy::address(None, Some(port))));
        let address = text.filter(|_| is_off == Some(false)).and_then(|text| listen_address(&value, &text, base_dir));
        valid = is_off == Some(true) || address.is_some();
        match (is_off, address) {
            (Some(true), _) => settings.listener = None,
            (_, Some(address)) => settings.listener = Some(AdminSettings::listener_at(address)),
            (_, None) => {}
        }
    }
    // They are read, and their mistakes told, also where there is no listener.
    let own_hosts = section.get("hosts").and_then(|value| hosts(&value));
    let tls = section.get("tls").and_then(|value| value.section(&TLS));
    let tls = tls.and_then(|section| listener_tls(&section, base_dir));
    if let Some(listener) = &mut settings.listener {
        listener.tls = tls;
        listener.hosts = own_hosts.unwrap_or_else(|| listener.hosts.clone());
    }
    let auth = section.get("auth").map(|value| names(&value));
    let allow = section.get("allow");
    settings.allow = allow.as_ref().map(|value| Arc::new(rules(value)));
    let of_listener = ["hosts", "tls", "auth", "allow"].into_iter().find_map(|key| Some((key, section.get(key)?.at())));
    RawAdmin { settings, address_at, valid, auth, allow_at: allow.map(|value| value.at()), of_listener }
}

fn names(value: &Value<'_>) -> Vec<Text> {
    if value.is_empty_list() {
        value.mistake("is empty, so nobody could get in: name an [[auth]], or remove the key");
    }
    value.words().unwrap_or_default()
}

fn rules(value: &Value<'_>) -> Vec<AdminRule> {
    if value.is_empty_list() {
        value.mistake(
            "is empty, so nobody could do anything: write a rule, or remove the key to allow everything to whoever is \
             authenticated",
        );
    }
    value.sections(&ALLOW).unwrap_or_default().iter().map(rule).collect()
}

fn rule(section: &Section<'_>) -> AdminRule {
    let mut rule = AdminRule { who: Glob::new("*"), claims: BTreeMap::new(), rights: Right::all() };
    section.read("who", &mut rule.who, |v| who(&v));
    section.read("rights", &mut rule.rights, |v| v.choices(&Right::WORDS));
    section.read("claims", &mut rule.claims, |v| claims(&v, "claims in allow of [admin]"));
    rule
}
