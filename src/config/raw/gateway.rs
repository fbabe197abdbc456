//! `[gateway]`.

use std::ops::RangeInclusive;

use crate::config::section::{Keys, Section, Value};
use crate::config::settings::{FailedCredentials, GatewaySettings};
use crate::limit::Rate;

use super::bounds::{CONNECTIONS, PER_SECOND};

const DELIVERERS: RangeInclusive<usize> = 0..=64;
const FAILURES: RangeInclusive<usize> = 1..=1_000_000;
const MEMORY: RangeInclusive<usize> = 16 << 20..=1 << 40;
const CLIENT_STACK: RangeInclusive<usize> = 128 << 10..=64 << 20;

pub(crate) static GATEWAY: Keys = Keys {
    table: "[gateway]",
    keys: &[
        ("name", "\"plant-1\""),
        ("max_connections", "10000"),
        ("max_address_connections", "100"),
        ("address_rate", "{ per_second = 50, burst = 100 }"),
        ("failed_credentials", "{ most = 20, within = \"10s\" }"),
        ("memory", "\"256MiB\""),
        ("max_handshakes", "1024"),
        ("handshake_timeout", "\"10s\""),
        ("close_timeout", "\"5s\""),
        ("drain_timeout", "\"10s\""),
        ("resolve_cache", "\"5s\""),
        ("deliverers", "2"),
        ("client_stack", "\"256KiB\""),
    ],
};
pub(crate) static ADDRESS_RATE: Keys =
    Keys { table: "address_rate of [gateway]", keys: &[("per_second", "50"), ("burst", "100")] };
pub(crate) static FAILED_CREDENTIALS: Keys =
    Keys { table: "failed_credentials of [gateway]", keys: &[("most", "20"), ("within", "\"10s\"")] };

pub(super) fn gateway(section: &Section<'_>, settings: &mut GatewaySettings) {
    section.read("name", &mut settings.name, |v| name(&v).map(Some));
    section.read("max_connections", &mut settings.max_connections, |v| v.integer(CONNECTIONS));
    section.read("max_address_connections", &mut settings.max_address_connections, |v| v.integer_or_off(CONNECTIONS));
    section.read("address_rate", &mut settings.address_rate, |v| address_rate(&v));
    section.read("failed_credentials", &mut settings.failed_credentials, |v| failed_credentials(&v));
    section.read("memory", &mut settings.memory, |v| {
        if v.bare().as_deref() == Some("off") { Some(None) } else { v.size(MEMORY).map(Some) }
    });
    section.read("max_handshakes", &mut settings.max_handshakes, |v| v.integer(CONNECTIONS));
    section.read("handshake_timeout", &mut settings.handshake_timeout, |v| v.duration());
    section.read("close_timeout", &mut settings.close_timeout, |v| v.duration());
    section.read("drain_timeout", &mut settings.drain_timeout, |v| v.duration());
    if let Some(value) = section.get("resolve_cache") {
        settings.resolve_cache = value.duration_or_off().map_or(settings.resolve_cache, Option::unwrap_or_default);
    }
    section.read("client_stack", &mut settings.client_stack, |v| v.size(CLIENT_STACK));
    if let Some(value) = section.get("deliverers") {
        if !value.is_string() {
            settings.deliverers = value.integer(DELIVERERS).unwrap_or(settings.deliverers);
        } else if let Some(text) = value.text().filter(|text| text.value != "auto") {
            value.mistake(format_args!("cannot be {:?}: write \"auto\" or a number", text.written));
        }
    }
}

fn address_rate(value: &Value<'_>) -> Option<Option<Rate>> {
    if value.is_off()? {
        return Some(None);
    }
    let section = value.section(&ADDRESS_RATE)?;
    let mut rate = Rate { per_second: 0, burst: 0 };
    let number = |value: Value<'_>| value.integer(PER_SECOND).map(|number| number as u64);
    let (per_second, burst) = (section.require("per_second")?, section.get("burst"));
    rate.per_second = number(per_second)?;
    rate.burst = burst.map_or(Some(2 * rate.per_second), number)?;
    Some(Some(rate))
}

fn failed_credentials(value: &Value<'_>) -> Option<Option<FailedCredentials>> {
    if value.is_off()? {
        return Some(None);
    }
    let section = value.section(&FAILED_CREDENTIALS)?;
    let mut limit = FailedCredentials::default();
    section.read("most", &mut limit.most, |v| v.integer(FAILURES).map(|most| most as u64));
    section.read("within", &mut limit.within, |v| v.duration());
    Some(Some(limit))
}

fn name(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    if text.value.is_empty() {
        value.mistake("is empty: give each of your gateways a name of its own, or remove it");
        return None;
    }
    Some(text.value)
}
