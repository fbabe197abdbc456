//! `relay` of an endpoint.

use std::path::Path;

use crate::config::section::{Keys, Section};
use crate::config::settings::RelaySettings;

use super::dial::{RawDial, dial};
use super::dial_keys::OF_RELAY;
use super::http::header_names;

pub(crate) static RELAY: Keys = Keys {
    table: "relay of [[endpoint]]",
    keys: &[
        ("url", "\"ws://127.0.0.1:9000/dev\""),
        ("headers", "{ Authorization = \"Bearer abc\" }"),
        ("forward_headers", "[\"Authorization\"]"),
        ("forward_query", "true"),
        ("connect_timeout", "\"10s\""),
        ("hold", "\"30s\""),
        ("proxy", "\"environment\""),
        ("origin", "\"https://dash.example\""),
        ("tls", "{ verify = true }"),
    ],
};

/// The `relay` of an endpoint and where its parts stand.
pub(crate) struct RawRelay {
    /// The places in its path are resolved later.
    pub(crate) settings: RelaySettings,
    pub(crate) dial: RawDial,
    /// The names under `forward_headers`, each with its place.
    pub(crate) forward_headers: Vec<(String, usize)>,
}

pub(super) fn relay(section: &Section<'_>, base_dir: &Path) -> RawRelay {
    let dial = dial(section, base_dir, &OF_RELAY);
    let mut settings = RelaySettings::new(dial.settings.url.clone());
    settings.dial = dial.settings.clone();
    settings.shown = dial.shown.clone();
    let forward_headers = section.get("forward_headers").map(|v| header_names(&v, true)).unwrap_or_default();
    settings.forward_headers = forward_headers.iter().map(|(name, _)| name.clone()).collect();
    section.read("forward_query", &mut settings.forward_query, |v| v.boolean());
    section.read("hold", &mut settings.hold, |v| v.duration_or_off());
    RawRelay { settings, dial, forward_headers }
}
