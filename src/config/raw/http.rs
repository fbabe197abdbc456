//! The keys about the head of a request: headers, subprotocols and our own origin, as they are written in
//! the file.

use std::fs;
use std::net::Ipv6Addr;
use std::path::Path;

use crate::config::mistake::cause;
use crate::config::secret_file::warn_if_for_everybody;
use crate::config::section::Value;
use crate::http::token::{Reserved, is_token, reserved, split_port, value_of_file};
use crate::secret::{Secret, names_a_secret};

use super::dial_keys::DialKeys;

/// Headers that a relay sends about its client.
const FORWARDED_HEADERS: [&str; 4] = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-wsgate-identity"];

/// Why a request of ours cannot have this header, if so; the text goes on after the name.
pub(super) fn header_problem(name: &str, of_relay: bool) -> Option<String> {
    if !is_token(name) {
        return Some("is no name of a header: use letters, digits and \"-\", no spaces".to_owned());
    }
    if of_relay && FORWARDED_HEADERS.iter().any(|own| name.eq_ignore_ascii_case(own)) {
        return Some("is set for each client by the relay itself: remove it".to_owned());
    }
    let advice = match reserved(name)? {
        Reserved::ByHandshake => "the handshake sets it itself, remove it",
        Reserved::ForBody => "the request of a handshake has no body, remove it",
        Reserved::ForAnswer => "only the answer to a handshake has it, remove it",
        Reserved::ForExtensions => "wsgate offers no extensions, remove it",
        Reserved::ForSubprotocols => {
            "write a link's subprotocols in its key \"subprotocols\"; a relay offers those of its client"
        }
    };
    Some(format!("cannot be set: {advice}"))
}

/// The headers of requests that we make: `{ Name = "value", Other = { file = "other.txt" } }`.
pub(super) fn headers(value: &Value<'_>, base_dir: &Path, keys: &DialKeys) -> Vec<RawHeader> {
    let mut headers: Vec<RawHeader> = Vec::new();
    for (at, name, entry) in value.entries(keys.headers, "\"value\"").unwrap_or_default() {
        if let Some(problem) = header_problem(name, keys.of_relay) {
            entry.mistake_at(at, problem);
        } else if let Some(earlier) = headers.iter().find(|header| header.name.eq_ignore_ascii_case(name)) {
            entry.mistake_at(at, format_args!("is the same header as {:?}: remove one", earlier.name));
        } else if let Some(value) = header_value(name, &entry, base_dir, keys) {
            let (value, secrets) = value;
            headers.push(RawHeader { name: name.to_owned(), value, secrets, at });
        }
    }
    headers
}

/// A header of our requests and the place of its name.
pub(crate) struct RawHeader {
    pub(crate) name: String,
    pub(crate) value: Secret,
    /// What in it comes from files and variables of the environment.
    pub(crate) secrets: Vec<Secret>,
    pub(crate) at: usize,
}

/// The value, and what in it comes from files and variables of the environment.
fn header_value(name: &str, value: &Value<'_>, base_dir: &Path, keys: &DialKeys) -> Option<(Secret, Vec<Secret>)> {
    // Also none of the control characters above ASCII, which HTTP would allow: no text holds them on purpose.
    let fits = |text: &str| !text.contains(|c: char| c.is_control() && c != '\t');
    if !value.is_table() {
        let text = value.text()?;
        if !fits(&text.value) {
            value.mistake("holds a control character, which no header can: write it on one line");
            return None;
        }
        if names_a_secret(name) && text.has_in_the_clear(&text.value) {
            value.shows_a_secret("{ file = \"NAME\" } or \"${NAME}\" in its place");
        }
        return Some((Secret::new(text.value), text.variables));
    }
    let file = value.section(keys.header_file)?.require("file")?;
    let text = file.text()?;
    let place = base_dir.join(&text.value);
    let shown = if text.value == text.written { place.display().to_string() } else { text.written };
    let read = match fs::read(&place) {
        Ok(bytes) => bytes,
        Err(error) => {
            let cause = cause(&error);
            file.mistake(format_args!("names {shown:?}, which cannot be read: {cause} (check path and permissions)"));
            return None;
        }
    };
    warn_if_for_everybody(&file, file.at(), &shown, &place);
    match value_of_file(read) {
        Some(line) => Some((Secret::new(&*line), vec![Secret::new(line)])),
        None => {
            file.mistake(format_args!("names {shown:?}, which is not one line of text: put the header's value there"));
            None
        }
    }
}

/// The names of headers that a relay passes on, or that a service is told, each with its place.
pub(super) fn header_names(value: &Value<'_>, of_relay: bool) -> Vec<(String, usize)> {
    let mut names: Vec<(String, usize)> = Vec::new();
    for text in value.words().unwrap_or_default() {
        if let Some(problem) = header_problem(&text.value, of_relay) {
            value.mistake_at(text.at, format_args!("has {:?}, which {problem}", text.written));
        } else if names.iter().any(|(name, _)| name.eq_ignore_ascii_case(&text.value)) {
            value.mistake_at(text.at, format_args!("has {:?} twice: remove one", text.written));
        } else {
            names.push((text.value, text.at));
        }
    }
    names
}

/// The one origin that we name in our requests.
pub(super) fn own_origin(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    let origin = origin(&text.value);
    if origin.is_none() {
        value.mistake(format_args!(
            "is {:?}, which is no origin: write scheme://host or scheme://host:port, without a path, for example \
             \"https://dash.example\"",
            text.written
        ));
    }
    origin
}

pub(super) fn subprotocols(value: &Value<'_>) -> Option<Vec<String>> {
    let mut subprotocols = Vec::new();
    for text in value.words()? {
        if !is_token(&text.value) {
            value.mistake_at(
                text.at,
                format_args!(
                    "has {:?}, which is no subprotocol: use letters, digits and !#$%&'*+-.^_`|~ only, no spaces",
                    text.written
                ),
            );
        } else if subprotocols.contains(&text.value) {
            value.mistake_at(text.at, format_args!("has {:?} twice: remove one", text.written));
        } else {
            subprotocols.push(text.value);
        }
    }
    Some(subprotocols)
}

/// `scheme://host[:port]` as browsers send it: lower case, without the port that the scheme implies.
pub(super) fn origin(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let (scheme, authority) = text.split_once("://")?;
    let in_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.chars().all(in_scheme) {
        return None;
    }
    let (host, port) = split_port(authority);
    let in_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let is_host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(in_host),
    };
    if !is_host {
        return None;
    }
    let Some(port) = port else { return Some(format!("{scheme}://{host}")) };
    let number = port.parse::<u16>().ok().filter(|_| port.bytes().all(|b| b.is_ascii_digit()))?;
    Some(match (scheme, number) {
        ("http", 80) | ("https", 443) => format!("{scheme}://{host}"),
        _ => format!("{scheme}://{host}:{number}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_brought_into_the_form_that_browsers_send() {
        let cases = [
            ("https://dash.example", Some("https://dash.example")),
            ("HTTPS://Dash.Example", Some("https://dash.example")),
            ("http://10.0.0.7:8080", Some("http://10.0.0.7:8080")),
            ("https://dash.example:443", Some("https://dash.example")),
            ("http://dash.example:80", Some("http://dash.example")),
            ("http://dash.example:443", Some("http://dash.example:443")),
            ("http://[::1]:3000", Some("http://[::1]:3000")),
            ("http://[::1]", Some("http://[::1]")),
            ("chrome-extension://abcdef", Some("chrome-extension://abcdef")),
            ("", None),
            ("null", None),
            ("*", None),
            ("https://*.example", None),
            ("dash.example", None),
            ("//dash.example", None),
            ("https://", None),
            ("https://dash.example/", None),
            ("https://dash.example/x", None),
            ("https://user@dash.example", None),
            ("https://dash.example:", None),
            ("https://dash.example:+1", None),
            ("https://dash.example:65536", None),
            ("https://[::1", None),
            ("https://[x]", None),
            ("https://[::1]x", None),
            ("https://dash.example\r\nx", None),
        ];
        for (text, expected) in cases {
            assert_eq!(origin(text).as_deref(), expected, "{text:?}");
        }
    }
}
