//! `[admin]`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::auth::admin::{AdminRule, Right};
use crate::auth::allow::Glob;
use crate::config::remedy;
use crate::config::section::{Keys, Section, Value};
use crate::config::settings::{AdminSettings, ListenAddress};
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
        let address = address(&value, base_dir);
        valid = address.is_some();
        if let Some(address) = address {
            settings.listener = address.map(AdminSettings::listener_at);
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

/// An address; `Some(None)` is none, `None` a wrong one.
fn address(value: &Value<'_>, base_dir: &Path) -> Option<Option<ListenAddress>> {
    let is_off = value.is_off_or("an address")?;
    let text = value.text_or(|port| remedy::address(None, Some(port)));
    match is_off {
        true => Some(None),
        false => listen_address(value, &text?, base_dir).map(Some),
    }
}

/// Where an admin listener is, for whoever asks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AdminPlace {
    /// `None` is no admin listener.
    pub(crate) address: Option<ListenAddress>,
    /// The file of its certificate, if it is over TLS.
    pub(crate) certificate: Option<PathBuf>,
}

impl Default for AdminPlace {
    fn default() -> AdminPlace {
        AdminPlace { address: AdminSettings::default().listener.map(|listener| listener.address), certificate: None }
    }
}

/// Reads only this.
pub(super) fn place(section: &Section<'_>, base_dir: &Path) -> AdminPlace {
    let mut place = AdminPlace::default();
    if let Some(address) = section.get("address").and_then(|value| address(&value, base_dir)) {
        place.address = address;
    }
    let tls = section.get("tls").and_then(|value| value.section(&TLS));
    let certificate = tls.and_then(|section| section.get("certificate")).and_then(|value| value.text());
    place.certificate = certificate.map(|text| base_dir.join(&text.value));
    place
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
