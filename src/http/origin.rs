//! The Origin header (RFC 6454 section 7), and the host that a request names: which of them can be compared, and what
//! their parts are.

use std::net::{IpAddr, Ipv6Addr};

use super::token::split_port;

/// The parts of an origin that has a host: `https://host:port`, perhaps with a path, as some devices send it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// As sent.
    pub scheme: &'a str,
    /// Without the port; an IPv6 address in its brackets.
    pub host: &'a str,
    /// As sent, if there is one. It need not be a number.
    pub port: Option<&'a str>,
    /// What is behind the port, its slash included.
    pub path: &'a str,
}

impl<'a> Place<'a> {
    /// The parts of this text. A user's name before the host can make one host look like another (RFC 9110 section
    /// 4.2.4), so what has one has no parts.
    pub fn of(origin: &'a str) -> Option<Place<'a>> {
        let (scheme, rest) = origin.split_once("://")?;
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (host, port) = split_port(authority);
        (!host.is_empty() && !authority.contains('@')).then_some(Place { scheme, host, port, path })
    }

    /// The port of the scheme, for the four schemes whose hosts are those of the network.
    pub fn default_port(&self) -> Option<&'static str> {
        let is = |scheme| self.scheme.eq_ignore_ascii_case(scheme);
        match () {
            () if is("http") || is("ws") => Some("80"),
            () if is("https") || is("wss") => Some("443"),
            () => None,
        }
    }
}

/// The form in which origins are compared: lower case, without the port that the scheme implies, and without the slash
/// that is the whole path of a URL.
pub fn canonical(origin: &str) -> String {
    let lower = origin.to_ascii_lowercase();
    let behind_scheme = lower.split_once("://").and_then(|(_, rest)| rest.strip_suffix('/'));
    let whole = match behind_scheme {
        Some(authority) if !authority.contains('/') => &lower[..lower.len() - 1],
        _ => &lower,
    };
    match Place::of(whole) {
        Some(place) if place.port.is_some() && place.port == place.default_port() => {
            format!("{}://{}{}", place.scheme, place.host, place.path)
        }
        _ => whole.to_owned(),
    }
}

/// Whether this text can stand in a list of origins. The words with a meaning of their own cannot, nor can what no header
/// brings, nor a `*`, which people take for a wildcard.
pub fn is_listable(text: &str) -> bool {
    !text.is_empty()
        && text.trim() == text
        && !matches!(text, "any" | "same")
        && !text.contains(|c: char| c.is_control() || c == '*')
}

/// Whether a host is this machine, by whatever name that no other machine can have.
pub fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || address(host).is_some_and(|address| address.to_canonical().is_loopback())
}

/// Whether a host is written as an address, so that no name server has a say in it.
pub fn is_address(host: &str) -> bool {
    address(host).is_some()
}

fn address(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => host.parse().ok().filter(IpAddr::is_ipv4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_compared_in_the_form_that_browsers_send() {
        for (sent, compared) in [
            ("https://dash.example", "https://dash.example"),
            ("HTTPS://Dash.Example", "https://dash.example"),
            ("https://dash.example/", "https://dash.example"),
            ("https://dash.example:443", "https://dash.example"),
            ("wss://dash.example:443/", "wss://dash.example"),
            ("http://dash.example:80", "http://dash.example"),
            ("ws://dash.example:80/x", "ws://dash.example/x"),
            ("http://dash.example:443", "http://dash.example:443"),
            ("http://[::1]:3000", "http://[::1]:3000"),
            ("http://[::1]:80", "http://[::1]"),
            ("https://github.com/gilmaimon/TinyWebsockets", "https://github.com/gilmaimon/tinywebsockets"),
            ("chrome-extension://ABC", "chrome-extension://abc"),
            ("app://x:80", "app://x:80"),
            ("file://", "file://"),
            ("file:///", "file://"),
            ("null", "null"),
            ("", ""),
            ("http://", "http://"),
            ("http://a@b:80", "http://a@b:80"),
            ("http://:80", "http://:80"),
        ] {
            assert_eq!(canonical(sent), compared, "{sent}");
            assert_eq!(canonical(compared), compared, "{compared}");
        }
    }

    #[test]
    fn the_place_of_an_origin_is_its_host_and_port() {
        let place = |scheme, host, port, path| Some(Place { scheme, host, port, path });
        for (origin, expected, default_port) in [
            ("http://here:8080", place("http", "here", Some("8080"), ""), Some("80")),
            ("WSS://here/ws?x", place("WSS", "here", None, "/ws?x"), Some("443")),
            ("ws://[::1]", place("ws", "[::1]", None, ""), Some("80")),
            ("app://here", place("app", "here", None, ""), None),
            ("https://here@evil", None, None),
            ("file:///", None, None),
            ("null", None, None),
        ] {
            assert_eq!(Place::of(origin), expected, "{origin}");
            assert_eq!(expected.and_then(|place| place.default_port()), default_port, "{origin}");
        }
    }

    #[test]
    fn a_host_is_this_machine_or_an_address_or_a_name() {
        for (host, loopback, address) in [
            ("localhost", true, false),
            ("LocalHost", true, false),
            ("127.0.0.1", true, true),
            ("127.9.9.9", true, true),
            ("[::1]", true, true),
            ("[::ffff:127.0.0.1]", true, true),
            ("10.0.0.7", false, true),
            ("[fe80::1]", false, true),
            ("localhost.evil.example", false, false),
            ("127.0.0.1.evil.example", false, false),
            ("::1", false, false),
            ("[10.0.0.7]", false, false),
            ("", false, false),
        ] {
            assert_eq!((is_loopback(host), is_address(host)), (loopback, address), "{host}");
        }
    }

    #[test]
    fn what_no_header_brings_cannot_be_listed() {
        for text in ["null", "file://", "https://a/b", "a", "chrome-extension://abc", "https://münchen.example"] {
            assert!(is_listable(text), "{text}");
        }
        for text in ["", " ", "a ", "a\tb", "a\nb", "*", "https://*.a", "any", "same"] {
            assert!(!is_listable(text), "{text}");
        }
    }
}
