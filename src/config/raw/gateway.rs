//! `[gateway]` and `[log]`.

use std::ops::RangeInclusive;

use log::LevelFilter;

use crate::config::section::{Keys, Section};
use crate::config::settings::GatewaySettings;

use super::{CONNECTIONS, set};

const DELIVERERS: RangeInclusive<usize> = 0..=64;
const CLIENT_STACK: RangeInclusive<usize> = 128 << 10..=64 << 20;

pub(in crate::config) static GATEWAY: Keys = Keys {
    table: "[gateway]",
    keys: &[
        ("max_connections", "10000"),
        ("max_handshakes", "1024"),
        ("handshake_timeout", "\"10s\""),
        ("close_timeout", "\"5s\""),
        ("drain_timeout", "\"10s\""),
        ("deliverers", "2"),
        ("client_stack", "\"256KiB\""),
    ],
};
pub(in crate::config) static LOG: Keys = Keys { table: "[log]", keys: &[("level", "\"info\"")] };

pub(super) fn gateway(section: &Section<'_>, settings: &mut GatewaySettings) {
    set(&mut settings.max_connections, section.get("max_connections").and_then(|v| v.integer(CONNECTIONS)));
    set(&mut settings.max_handshakes, section.get("max_handshakes").and_then(|v| v.integer(CONNECTIONS)));
    set(&mut settings.handshake_timeout, section.get("handshake_timeout").and_then(|v| v.duration()));
    set(&mut settings.close_timeout, section.get("close_timeout").and_then(|v| v.duration()));
    set(&mut settings.drain_timeout, section.get("drain_timeout").and_then(|v| v.duration()));
    set(&mut settings.client_stack, section.get("client_stack").and_then(|v| v.size(CLIENT_STACK)));
    if let Some(value) = section.get("deliverers") {
        if !value.is_string() {
            set(&mut settings.deliverers, value.integer(DELIVERERS));
        } else if let Some(text) = value.text().filter(|text| text.value != "auto") {
            value.mistake(format_args!("cannot be {:?}: write \"auto\" or a number", text.written));
        }
    }
}

pub(super) fn log(section: &Section<'_>, settings: &mut GatewaySettings) {
    // No "trace": the release build leaves it out.
    let levels = [
        ("off", LevelFilter::Off),
        ("error", LevelFilter::Error),
        ("warn", LevelFilter::Warn),
        ("info", LevelFilter::Info),
        ("debug", LevelFilter::Debug),
    ];
    set(&mut settings.log_level, section.get("level").and_then(|v| v.choice(&levels)));
}
