//! `[[listen]]`.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use crate::config::remedy;
use crate::config::section::{Keys, Section, Value};
use crate::config::settings::{ClientAddress, Hosts, ListenAddress, ListenerSettings};
use crate::config::text::Text;
use crate::path::Pattern;

use super::addresses::{addresses, rules};
use super::origins::hosts;
use super::tls::{TLS, listener_tls};

/// What the kernel takes as the path of a Unix socket, its closing zero byte left out.
const UNIX_PATH_BYTES_MAX: usize = 107;

pub(crate) static LISTEN: Keys = Keys {
    table: "[[listen]]",
    keys: &[
        ("address", "\"127.0.0.1:8080\""),
        ("name", "\"main\""),
        ("hosts", "[\"gate.example\"]"),
        ("allow_addresses", "[\"10.0.0.0/8\"]"),
        ("deny_addresses", "[\"10.0.0.7\"]"),
        ("client_address", "\"x-forwarded-for\""),
        ("trusted_proxies", "[\"127.0.0.1\"]"),
        ("tls", "{ certificate = \"server.pem\", private_key = \"server.key\" }"),
        ("health", "\"/healthz\""),
    ],
};

/// A `[[listen]]` and where its parts stand.
pub(crate) struct RawListener {
    pub(crate) settings: ListenerSettings,
    /// The place of the name, or of what the name was taken from.
    pub(crate) name_at: usize,
    pub(crate) address_at: usize,
    /// The place of `client_address` if it says that proxies are believed.
    pub(crate) client_address_at: Option<usize>,
    /// The place of `trusted_proxies` if it is written, and whether it is what was meant.
    pub(crate) trusted_proxies: Option<(usize, bool)>,
    /// The place of `health` if it is a path.
    pub(crate) health_at: Option<usize>,
    /// Whether it asks clients for a certificate, in whatever way that is written.
    pub(crate) has_client_ca: bool,
    /// Whether name and address are what was meant; a wrong one is compared with nothing.
    pub(crate) valid: bool,
}

pub(super) fn listener(section: &Section<'_>, base_dir: &Path) -> RawListener {
    let mut settings = ListenerSettings::default();
    let mut valid = true;
    let mut address_at = section.at;
    if let Some(value) = section.get("address") {
        address_at = value.at();
        let text = value.text_or(|port| remedy::address(None, Some(port)));
        let address = text.as_ref().and_then(|text| listen_address(&value, text, base_dir));
        valid &= address.is_some();
        // The name is what was written, not how we would write it.
        settings.name = text.map_or(settings.name, |text| text.value);
        settings.address = address.unwrap_or(settings.address);
    }
    settings.hosts = Hosts::default_of(&settings.address);
    section.read("hosts", &mut settings.hosts, |v| hosts(&v));
    settings.addresses = rules(section, base_dir);
    let by =
        [ClientAddress::Socket, ClientAddress::XForwardedFor, ClientAddress::Forwarded, ClientAddress::ProxyProtocol];
    let by = by.map(|by| (by.word(), by));
    let client_address = section.get("client_address");
    let is_by_proxy = |by: &ClientAddress| *by != ClientAddress::Socket;
    let chosen = client_address.and_then(|value| value.choice(&by));
    settings.client_address = chosen.unwrap_or_default();
    let client_address_at = client_address.filter(|_| chosen.as_ref().is_some_and(is_by_proxy)).map(|value| value.at());
    let trusted_proxies = section.get("trusted_proxies").map(|value| {
        let trusted = addresses(&value, base_dir);
        let is_meant = trusted.is_some() && (client_address.is_none() || chosen.is_some());
        settings.trusted_proxies = trusted.unwrap_or_default();
        (value.at(), is_meant)
    });
    let mut name_at = address_at;
    if let Some(value) = section.get("name") {
        name_at = value.at();
        let name = value.text().and_then(|text| match line_of_text(&text.value) {
            true => Some(text.value),
            false => {
                value.mistake("must be a word or more, without control characters: write for example name = \"main\"");
                None
            }
        });
        valid &= name.is_some();
        settings.name = name.unwrap_or(settings.name);
    }
    let tls = section.get("tls").and_then(|value| value.section(&TLS));
    let has_client_ca = tls.as_ref().is_some_and(|section| section.get("client_ca").is_some());
    settings.tls = tls.and_then(|section| listener_tls(&section, base_dir));
    let health = section.get("health");
    settings.health = health.and_then(|value| health_path(&value));
    let health_at = health.filter(|_| settings.health.is_some()).map(|value| value.at());
    RawListener { settings, name_at, address_at, client_address_at, trusted_proxies, health_at, has_client_ca, valid }
}

/// The path of health checks, which is one path.
fn health_path(value: &Value<'_>) -> Option<Pattern> {
    let text = value.text()?;
    match Pattern::parse(&text.value) {
        Ok(pattern) if pattern.names().next().is_none() => Some(pattern),
        Ok(_) => {
            value.mistake(format_args!(
                "is {:?}, but it is one path and has no parameters: write for example \"/healthz\"",
                text.written
            ));
            None
        }
        Err(error) => {
            value.mistake(format_args!("is {:?}: {error}", text.written));
            None
        }
    }
}

fn line_of_text(text: &str) -> bool {
    !text.trim().is_empty() && !text.contains(char::is_control)
}

pub(super) fn listen_address(value: &Value<'_>, text: &Text, base_dir: &Path) -> Option<ListenAddress> {
    let written = &text.written;
    if let Some(path) = text.value.strip_prefix("unix:") {
        let socket = base_dir.join(path);
        if path.is_empty() || path.ends_with('/') || path.contains(char::is_control) {
            value.mistake(format_args!(
                "is {written:?}, which names no file: write for example \"unix:/run/wsgate/ws.sock\""
            ));
            return None;
        }
        if socket.as_os_str().len() > UNIX_PATH_BYTES_MAX {
            value.mistake(format_args!(
                "is {written:?}, but the path of a socket has at most {UNIX_PATH_BYTES_MAX} bytes: choose a shorter one"
            ));
            return None;
        }
        return Some(ListenAddress::Unix(socket));
    }
    if let Ok(address) = text.value.parse::<SocketAddr>() {
        return Some(ListenAddress::Tcp(address));
    }
    let advice = advice_on(&text.value, written);
    value.mistake(format_args!("is {written:?}, which is no address to listen on: {advice}"));
    None
}

/// What to write instead of this text, which no variable may have changed.
fn advice_on(value: &str, written: &str) -> String {
    let line = |host: Option<&str>, port: Option<&str>| format!("write address = {}", remedy::address(host, port));
    let bare = value.split_once("//").map_or(value, |(_, rest)| rest.split('/').next().unwrap_or_default());
    let is_port = |text: &str| text.parse::<u16>().is_ok();
    match bare.rsplit_once(':') {
        _ if value != written => "write an IP address and a port, \"127.0.0.1:8080\"".to_owned(),
        _ if bare.parse::<IpAddr>().is_ok() => format!("a port is missing, {}", line(Some(bare), None)),
        None if is_port(bare) => line(None, Some(bare)),
        Some((_, port)) if !is_port(port) => "the port is a number up to 65535".to_owned(),
        Some((host @ ("" | "*" | "localhost"), port)) => {
            line(Some(if host.is_empty() { "*" } else { host }), Some(port))
        }
        Some((host, port)) if host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() => line(Some(host), Some(port)),
        None if bare == "localhost" => line(None, None),
        Some(_) => "names are not looked up, write the IP address".to_owned(),
        None => "write an IP address and a port, \"127.0.0.1:8080\", or \"unix:/path/of/socket\"".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b30_an_address_that_was_meant_is_found() {
        for (text, advice) in [
            ("8080", "write address = \"127.0.0.1:8080\""),
            (":8080", "write address = \"0.0.0.0:8080\""),
            ("*:80", "write address = \"0.0.0.0:80\""),
            ("localhost:80", "write address = \"127.0.0.1:80\""),
            ("localhost", "write address = \"127.0.0.1:8080\""),
            ("0.0.0.0", "a port is missing, write address = \"0.0.0.0:8080\""),
            ("::1", "a port is missing, write address = \"[::1]:8080\""),
            ("ws://10.0.0.7:80/x", "write address = \"10.0.0.7:80\""),
            ("plc.local:80", "names are not looked up"),
            ("1.2.3.4:99999", "the port is a number"),
            ("here", "write an IP address and a port"),
        ] {
            assert!(advice_on(text, text).starts_with(advice), "{text}: {}", advice_on(text, text));
        }
    }
}
