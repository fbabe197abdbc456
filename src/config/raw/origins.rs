//! The keys about where web pages come from: the origins of an endpoint, and the names of a listener's host.

use crate::config::section::Value;
use crate::config::settings::{Hosts, Origins};
use crate::config::text::Text;
use crate::http::origin::{Place, canonical, is_listable};
use crate::http::token::split_port;

use super::http::origin;

pub(super) fn origins(value: &Value<'_>) -> Option<Origins> {
    if value.is_boolean() {
        let meant = if value.boolean()? { "\"any\"" } else { "[]" };
        value.mistake(format_args!("must be \"same\", \"any\" or a list: write origins = {meant}"));
        return None;
    }
    if value.is_string() {
        let text = value.text()?;
        match &*text.value {
            "same" => return Some(Origins::default()),
            "any" => return Some(Origins::Any),
            _ => value.mistake(format_args!("cannot be {:?}: {}", text.written, origins_advice(&text.written))),
        }
        return None;
    }
    let (mut same, mut others) = (false, Vec::new());
    for text in value.texts()? {
        if text.value == "same" {
            same = true;
        } else if is_listable(&text.value) {
            others.push(canonical(&text.value));
            warn_of(value, &text);
        } else {
            let advice = origin_advice(&text.written);
            value.mistake_at(text.at, format_args!("has {:?}, which no request can bring: {advice}", text.written));
        }
    }
    Some(Origins::List { same, others })
}

/// What no browser sends may be meant for a device, or for a web page.
fn warn_of(value: &Value<'_>, text: &Text) {
    let sent = canonical(&text.value);
    let is_of_browser = match Place::of(&sent) {
        Some(place) => place.path.is_empty() && !matches!(place.scheme, "ws" | "wss"),
        None => matches!(&*sent, "null" | "file://"),
    };
    let Some(meant) = meant_origin(&text.value).filter(|meant| !is_of_browser && *meant != sent) else { return };
    let meant = if text.value == text.written { format!("write {meant:?}") } else { "write its origin".to_owned() };
    value.warning_at(
        text.at,
        format_args!("has {:?}, which some devices send, but no browser: for a web page {meant}", text.written),
    );
}

/// What to write for all of `origins`.
fn origins_advice(written: &str) -> String {
    match &*written.to_ascii_lowercase() {
        "*" | "all" | "everyone" => return "write origins = \"any\"".to_owned(),
        "none" | "off" | "" => return "write origins = []".to_owned(),
        _ => {}
    }
    let meant = |text: &str| match text {
        "null" | "file://" => Some(text.to_owned()),
        _ => meant_origin(text),
    };
    let meant: Option<Vec<String>> = written.split(',').map(|text| meant(text.trim())).collect();
    match meant {
        Some(meant) => format!("write origins = {meant:?}"),
        None => "write \"same\", \"any\" or a list, for example origins = [\"https://dash.example\"]".to_owned(),
    }
}

/// What to write for one of them.
fn origin_advice(written: &str) -> String {
    match written {
        "*" => "write origins = \"any\", without a list".to_owned(),
        "any" => "write origins = \"any\", without a list".to_owned(),
        _ if written.contains('*') => {
            "there are no wildcards, list each origin, for example \"https://dash.example\"".to_owned()
        }
        _ => meant_origin(written.trim()).map_or_else(
            || "write what the Origin header of the request says, for example \"https://dash.example\"".to_owned(),
            |meant| format!("write {meant:?}"),
        ),
    }
}

/// The origin of the page at a URL, or of a host alone.
fn meant_origin(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("https", text));
    let scheme = match &*scheme.to_ascii_lowercase() {
        "ws" => "http".to_owned(),
        "wss" => "https".to_owned(),
        scheme => scheme.to_owned(),
    };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // A word alone is no host that pages come from.
    origin(&format!("{scheme}://{host}")).filter(|_| host.contains(['.', ':']) || host == "localhost")
}

/// The names that the host of a listener has.
pub(super) fn hosts(value: &Value<'_>) -> Option<Hosts> {
    if value.is_string() && value.text()?.value == "any" {
        return Some(Hosts::Any);
    }
    let mut names = Vec::new();
    for text in value.words()? {
        match host(&text.value) {
            Some(name) => names.push(name),
            None => {
                let advice = host_advice(&text.written);
                value.mistake_at(text.at, format_args!("has {:?}, which is no name of a host: {advice}", text.written));
            }
        }
    }
    Some(Hosts::Named(names))
}

/// A name, or `*.` and the end of names.
fn host(text: &str) -> Option<String> {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let in_label = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let is_label = |label: &str| !label.is_empty() && label.chars().all(in_label);
    name.split('.').all(is_label).then(|| text.to_ascii_lowercase())
}

fn host_advice(written: &str) -> String {
    if matches!(written, "*" | "any" | "all") {
        return "write hosts = \"any\", without a list".to_owned();
    }
    let bare = written.split_once("://").map_or(written, |(_, rest)| rest);
    let bare = split_port(bare.split('/').next().unwrap_or_default()).0;
    match host(bare) {
        Some(name) => format!("write {name:?}"),
        None => "write a name without a port, for example \"gate.example\" or \"*.gate.example\"".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b30_an_origin_that_was_meant_is_found() {
        for (written, advice) in [
            ("*", "write origins = \"any\""),
            ("https://a.example", "write origins = [\"https://a.example\"]"),
            ("a.example, https://b.example/x", "write origins = [\"https://a.example\", \"https://b.example\"]"),
            ("wss://a.example:8443/ws", "write origins = [\"https://a.example:8443\"]"),
            ("null", "write origins = [\"null\"]"),
            ("none", "write origins = []"),
            ("some", "write \"same\", \"any\" or a list"),
        ] {
            assert!(origins_advice(written).starts_with(advice), "{written}: {}", origins_advice(written));
        }
        for (written, advice) in [
            ("*", "write origins = \"any\", without a list"),
            ("any", "write origins = \"any\", without a list"),
            (" https://a.example", "write \"https://a.example\""),
            ("https://*.example", "there are no wildcards"),
            ("", "write what the Origin header"),
        ] {
            assert!(origin_advice(written).starts_with(advice), "{written}: {}", origin_advice(written));
        }
    }

    #[test]
    fn c7_a_host_is_a_name_or_the_end_of_names() {
        for (written, name) in [
            ("gate.example", Some("gate.example")),
            ("Gate.Example", Some("gate.example")),
            ("gate", Some("gate")),
            ("*.gate.example", Some("*.gate.example")),
            ("*", None),
            ("*.", None),
            ("a.*.b", None),
            ("gate.example.", None),
            ("gate.example:80", None),
            ("https://gate.example", None),
            ("", None),
        ] {
            assert_eq!(host(written).as_deref(), name, "{written}");
        }
        for (written, advice) in [
            ("*", "write hosts = \"any\""),
            ("https://gate.example:8443/x", "write \"gate.example\""),
            ("gate.example:80", "write \"gate.example\""),
            ("a b", "write a name without a port"),
        ] {
            assert!(host_advice(written).starts_with(advice), "{written}: {}", host_advice(written));
        }
    }
}
