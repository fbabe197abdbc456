//! `[[listen]]`.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use crate::config::section::{Keys, Section, Text, Value};
use crate::config::settings::{ListenAddress, ListenerSettings};

use super::tls::{TLS, identity};

/// What the kernel takes as the path of a Unix socket, its closing zero byte left out.
const UNIX_PATH_BYTES_MAX: usize = 107;

pub(crate) static LISTEN: Keys = Keys {
    table: "[[listen]]",
    keys: &[
        ("address", "\"127.0.0.1:8080\""),
        ("name", "\"main\""),
        ("tls", "{ certificate = \"server.pem\", private_key = \"server.key\" }"),
    ],
};

/// A `[[listen]]` and where its parts stand.
pub(crate) struct RawListener {
    pub(crate) settings: ListenerSettings,
    /// The place of the name, or of what the name was taken from.
    pub(crate) name_at: usize,
    pub(crate) address_at: usize,
    /// Whether name and address are what was meant; a wrong one is compared with nothing.
    pub(crate) valid: bool,
}

pub(super) fn listener(section: &Section<'_>, base_dir: &Path) -> RawListener {
    let mut settings = ListenerSettings::default();
    let mut valid = true;
    let mut address_at = section.at;
    if let Some(value) = section.get("address") {
        address_at = value.at();
        let text = value.text();
        let address = text.as_ref().and_then(|text| listen_address(&value, text, base_dir));
        valid &= address.is_some();
        // The name is what was written, not how we would write it.
        settings.name = text.map_or(settings.name, |text| text.value);
        settings.address = address.unwrap_or(settings.address);
    }
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
    settings.tls =
        section.get("tls").and_then(|value| value.section(&TLS)).and_then(|section| identity(&section, base_dir));
    RawListener { settings, name_at, address_at, valid }
}

fn line_of_text(text: &str) -> bool {
    !text.trim().is_empty() && !text.contains(char::is_control)
}

fn listen_address(value: &Value<'_>, text: &Text, base_dir: &Path) -> Option<ListenAddress> {
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
    let advice = match text.value.rsplit_once(':') {
        _ if text.value.parse::<Ipv4Addr>().is_ok() => format!("a port is missing, write \"{written}:8080\""),
        _ if text.value.parse::<Ipv6Addr>().is_ok() => format!("write \"[{written}]:8080\""),
        _ if text.value.contains("//") => "write the IP address and the port only, \"127.0.0.1:8080\"".to_owned(),
        Some((_, port)) if port.parse::<u16>().is_err() => "the port is a number up to 65535".to_owned(),
        Some(("" | "*", port)) => format!("write \"0.0.0.0:{port}\" for every IPv4 address of this machine"),
        Some(("localhost", port)) => format!("names are not looked up, write \"127.0.0.1:{port}\" or \"[::1]:{port}\""),
        Some(_) => "names are not looked up, write the IP address".to_owned(),
        None => "write an IP address and a port, \"127.0.0.1:8080\", or \"unix:/path/of/socket\"".to_owned(),
    };
    value.mistake(format_args!("is {written:?}, which is no address to listen on: {advice}"));
    None
}
