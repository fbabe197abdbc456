//! What goes into the head of a request, or is judged there: subprotocols, origins.

use std::net::Ipv6Addr;

use crate::config::section::Value;
use crate::config::settings::Origins;

pub(super) fn subprotocols(value: &Value<'_>) -> Option<Vec<String>> {
    let mut subprotocols = Vec::new();
    for text in value.texts()? {
        // A token of RFC 7230, section 3.2.6: it goes into a header as it is.
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if text.value.is_empty() || !text.value.bytes().all(token) {
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

pub(super) fn origins(value: &Value<'_>) -> Option<Origins> {
    if value.is_string() {
        let text = value.text()?;
        match &*text.value {
            "same" => return Some(Origins::Same),
            "any" => return Some(Origins::Any),
            _ => value.mistake(format_args!(
                "cannot be {:?}: write \"same\", \"any\" or a list, for example origins = [\"https://dash.example\"]",
                text.written
            )),
        }
        return None;
    }
    let mut origins = Vec::new();
    for text in value.texts()? {
        match origin(&text.value) {
            Some(origin) => origins.push(origin),
            None => value.mistake_at(
                text.at,
                format_args!(
                    "has {:?}, which is no origin: write scheme://host or scheme://host:port, without a path, for \
                     example \"https://dash.example\"",
                    text.written
                ),
            ),
        }
    }
    Some(Origins::List(origins))
}

/// `scheme://host[:port]` as browsers send it: lower case, without the port that the scheme implies.
fn origin(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let (scheme, authority) = text.split_once("://")?;
    let in_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.chars().all(in_scheme) {
        return None;
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            address.parse::<Ipv6Addr>().ok()?;
            (&authority[..address.len() + 2], port)
        }
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let in_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if host.is_empty() || (!host.starts_with('[') && !host.chars().all(in_host)) {
        return None;
    }
    if port.is_empty() {
        return Some(format!("{scheme}://{host}"));
    }
    let port = port.strip_prefix(':')?;
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
