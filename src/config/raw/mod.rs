//! What is written: every table and key of the file, read value by value into the settings, with
//! the places that later checks need. What the values mean together is judged in `relations/`.

pub(super) mod addresses;
pub(super) mod admin;
pub(super) mod allow;
pub(super) mod auth;
mod bounds;
pub(super) mod dial;
pub(super) mod dial_keys;
pub(super) mod endpoint;
pub(super) mod gateway;
mod http;
pub(super) mod link;
pub(super) mod listen;
pub(super) mod log;
mod origins;
pub(super) mod relay;
pub(super) mod route;
pub(super) mod store;
pub(super) mod tls;
mod words;

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::aliases;
use super::mistake::Report;
use super::section::{Keys, Value, nearest};
use super::settings::GatewaySettings;

use admin::{ADMIN, AdminPlace, RawAdmin};
use auth::{AUTH, RawAuth};
use endpoint::{ENDPOINT, RawEndpoint};
use gateway::GATEWAY;
use link::{LINK, RawLink};
use listen::{LISTEN, RawListener};
use log::{LOG, RawLog};
use store::{RawStore, STORE};

pub(super) static ROOT: Keys = Keys {
    table: "the file",
    keys: &[
        ("gateway", "[gateway]"),
        ("log", "[log]"),
        ("listen", "[[listen]]"),
        ("endpoint", "[[endpoint]]"),
        ("link", "[[link]]"),
        ("store", "[[store]]"),
        ("auth", "[[auth]]"),
        ("admin", "[admin]"),
    ],
};
/// The tables that stand at the top of the file.
static TABLES: [&Keys; 8] = [&GATEWAY, &LOG, &LISTEN, &ENDPOINT, &LINK, &STORE, &AUTH, &ADMIN];

/// The file as it was read. A value that was wrong has its default, and its mistake is reported.
#[derive(Default)]
pub(super) struct Raw {
    pub(super) gateway: GatewaySettings,
    pub(super) log: RawLog,
    /// Empty without a `[[listen]]`.
    pub(super) listeners: Vec<RawListener>,
    /// Empty without an `[[endpoint]]`.
    pub(super) endpoints: Vec<RawEndpoint>,
    pub(super) links: Vec<RawLink>,
    pub(super) stores: Vec<RawStore>,
    pub(super) auths: Vec<RawAuth>,
    /// `None` without an `[admin]`.
    pub(super) admin: Option<RawAdmin>,
}

/// Reads the whole file. Relative paths of files are relative to `base_dir`.
pub(super) fn read<'a>(root: &'a DeTable<'a>, base_dir: &Path, report: &'a Report<'a>) -> Raw {
    for (key, value) in root {
        let name: &str = key.get_ref();
        if !ROOT.keys.iter().any(|(known, _)| *known == name) {
            report.mistake(key.span().start, unknown_at_top(name, is_table(value.get_ref()), root));
        }
    }
    let value = |key: &'static str| Value::of_file(report, &ROOT, root, key);
    let mut raw = Raw::default();
    if let Some(section) = value("gateway").and_then(|value| value.table(&GATEWAY, &TABLES)) {
        gateway::gateway(&section, &mut raw.gateway);
    }
    if let Some(section) = value("log").and_then(|value| value.table(&LOG, &TABLES)) {
        raw.log = log::log(&section);
    }
    let admin = value("admin").and_then(|value| value.table(&ADMIN, &TABLES));
    raw.admin = admin.map(|section| admin::admin(&section, base_dir));
    let tables = |key, keys| value(key).map(|value| value.tables(keys, &TABLES)).unwrap_or_default();
    raw.listeners = tables("listen", &LISTEN).iter().map(|section| listen::listener(section, base_dir)).collect();
    raw.endpoints = tables("endpoint", &ENDPOINT).iter().map(|section| endpoint::endpoint(section, base_dir)).collect();
    raw.links = tables("link", &LINK).iter().map(|section| link::link(section, base_dir)).collect();
    raw.stores = tables("store", &STORE).iter().map(|section| store::store(section, base_dir)).collect();
    raw.auths = tables("auth", &AUTH).iter().map(|section| auth::auth(section, base_dir)).collect();
    raw
}

/// Reads where the admin listener is, and nothing else.
pub(super) fn read_admin_place<'a>(root: &'a DeTable<'a>, base_dir: &Path, report: &'a Report<'a>) -> AdminPlace {
    let admin = Value::of_file(report, &ROOT, root, "admin").and_then(|value| value.table(&ADMIN, &TABLES));
    admin.map(|section| admin::place(&section, base_dir)).unwrap_or_default()
}

/// `[name]` or `[[name]]`, as opposed to `name = value`.
fn is_table(value: &DeValue<'_>) -> bool {
    match value {
        DeValue::Table(_) => true,
        DeValue::Array(entries) => entries.iter().any(|entry| entry.get_ref().is_table()),
        _ => false,
    }
}

fn unknown_at_top(name: &str, is_table: bool, root: &DeTable<'_>) -> String {
    if !is_table {
        let what = format!("unknown key {name:?} before the first table");
        if let Some(advice) = aliases::advice("file", name, root) {
            return format!("{what}: {advice}");
        }
        return match TABLES.iter().find(|table| table.keys.iter().any(|(known, _)| *known == name)) {
            Some(table) => format!("{what}: did you mean to put it under {}?", table.table),
            None => format!("{what}: remove it, or put it under the table that it belongs to"),
        };
    }
    if name == "relay" {
        return "a relay belongs to an endpoint: write relay = { url = \"ws://...\" } under [[endpoint]]".to_owned();
    }
    if matches!(name, "bridge" | "cluster") {
        return format!("this build has no {name:?}: remove the table");
    }
    let what = format!("unknown table {name:?}");
    if let Some(advice) = aliases::table_advice(name) {
        return format!("{what}: {advice}");
    }
    let meant = nearest(name, ROOT.keys.iter().map(|(known, _)| *known))
        .and_then(|near| ROOT.keys.iter().find(|(known, _)| *known == near));
    match meant {
        Some((_, table)) => format!("{what}: did you mean {table}?"),
        None => {
            let tables = TABLES.iter().map(|table| table.table).collect::<Vec<_>>();
            format!("{what}: remove it, or use one of {}", tables.join(", "))
        }
    }
}
