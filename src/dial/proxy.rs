//! Through an HTTP proxy: which one, if any, and the CONNECT that makes it a tunnel (RFC 9110 section 9.3.6).

use std::fmt;
use std::io::Write;
use std::net::IpAddr;

use super::attempt::Attempt;
use super::error::{Cause, DialError, ProxyCause};
use super::mask::Secrets;
use super::response::{ReadHeadError, ServerRefusal, is_end, read_head};
use super::upgrade::basic;
use super::wire::Wire;
use crate::http::head::ResponseHeadError;
use crate::path::percent_decoded;
use crate::url::{Protocol, Url, is_scheme, proxy_without_user};

/// A proxy, from a URL that was checked. It has no `Debug`: the authorization is a secret.
#[derive(Clone)]
pub(super) struct HttpProxy {
    /// Without the brackets of an IPv6 address.
    pub(super) host: String,
    pub(super) port: u16,
    authorization: Option<String>,
    /// As it may be shown.
    pub(super) shown: String,
}

/// A proxy that was named and cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ProxyUrlError {
    /// As it may be shown.
    pub(super) shown: String,
    pub(super) problem: String,
}

impl fmt::Display for ProxyUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failed to use the proxy '{}': {}", self.shown, self.problem)
    }
}

impl std::error::Error for ProxyUrlError {}

/// Reads `http://[user:password@]host[:port]`; without a scheme it is http, as curl has it.
pub(super) fn parse(text: &str) -> Result<HttpProxy, ProxyUrlError> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if !is_scheme(scheme) || rest[authority.len()..].contains('@') {
        // Where the password ends cannot be told.
        let problem = "its user or password has a '/', '?' or '#' (write it percent-encoded: '%2F', '%3F', '%23')";
        return Err(ProxyUrlError { shown: proxy_without_user(text), problem: problem.to_owned() });
    }
    let (user, place) = authority.rsplit_once('@').map_or((None, authority), |(user, place)| (Some(user), place));
    let shown = match place.split_once(':') {
        // Who has forgotten what follows the password has it where a port stands.
        Some((host, port))
            if user.is_none()
                && !host.is_empty()
                && !port.starts_with(|c: char| c.is_ascii_digit())
                && !place.starts_with('[') =>
        {
            format!("{scheme}://{host}:***")
        }
        _ => format!("{scheme}://{place}"),
    };
    let unusable = |problem: &str| ProxyUrlError { shown: shown.clone(), problem: problem.to_owned() };
    if !scheme.eq_ignore_ascii_case("http") {
        return Err(unusable("only proxies over plain HTTP are supported (write 'http://HOST:PORT')"));
    }
    let (host, port) = split_authority(place).map_err(|problem| unusable(&problem))?;
    let authorization = match user {
        None => None,
        Some(user) => {
            let decoded = percent_decoded(user).ok_or_else(|| {
                unusable("its user or password has a '%' without two hex digits after it (write '%25')")
            })?;
            Some(basic(&decoded))
        }
    };
    Ok(HttpProxy { host, port: port.unwrap_or(80), authorization, shown })
}

/// The proxy that the environment names for a server, which `lookup` reads.
pub(super) fn from_environment(
    Url { protocol, secure, host, port, .. }: &Url,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<HttpProxy>, ProxyUrlError> {
    let variable = |name: &str| {
        // A program that serves CGI has every header "Proxy" of a client as HTTP_PROXY ("httpoxy").
        let forged = name == "http_proxy" && lookup("REQUEST_METHOD").is_some();
        let upper = || (!forged).then(|| lookup(&name.to_ascii_uppercase())).flatten();
        lookup(name).filter(|value| !value.is_empty()).or_else(upper).filter(|value| !value.is_empty())
    };
    let names: &[&str] = match (protocol, secure) {
        (Protocol::WebSocket, true) => &["wss_proxy", "https_proxy", "all_proxy"],
        (Protocol::WebSocket, false) => &["ws_proxy", "http_proxy", "all_proxy"],
        (Protocol::Http, true) => &["https_proxy", "all_proxy"],
        (Protocol::Http, false) => &["http_proxy", "all_proxy"],
    };
    let Some(url) = names.iter().find_map(|name| variable(name)) else { return Ok(None) };
    if is_this_machine(host) || variable("no_proxy").is_some_and(|list| is_exempt(&list, host, *port)) {
        return Ok(None);
    }
    parse(&url).map(Some)
}

/// Reads `HOST`, `HOST:PORT` or `[IPv6]:PORT`; the host comes without brackets.
fn split_authority(text: &str) -> Result<(String, Option<u16>), String> {
    let (host, rest) = match text.strip_prefix('[') {
        Some(inside) => inside.split_once(']').ok_or("its host has no closing ']'")?,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let is_address = host.parse::<IpAddr>().is_ok();
    if host.is_empty() || (text.starts_with('[') && !is_address) || !host.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("it has no host (write 'http://HOST:PORT')".into());
    }
    let port = match rest.strip_prefix(':') {
        Some(digits) if !digits.is_empty() => {
            Some(digits.parse().ok().filter(|port| *port > 0).ok_or("its port is not a number from 1 to 65535")?)
        }
        Some(_) => None,
        None if rest.is_empty() => None,
        None => return Err("there is text between its host and its port".into()),
    };
    Ok((host.to_owned(), port))
}

/// No proxy leads back to this machine: to a proxy, localhost is the proxy's own machine.
fn is_this_machine(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether a `no_proxy` list has the server: `*`, a name and all below it, either with a port, an IP address or a
/// network of them.
fn is_exempt(list: &str, host: &str, port: u16) -> bool {
    let ip = host.parse::<IpAddr>().ok();
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    list.split([',', ' ']).map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        if entry == "*" {
            return true;
        }
        if let (Some(ip), Some((network, bits))) = (ip, entry.split_once('/')) {
            return network.parse().is_ok_and(|network| bits.parse().is_ok_and(|bits| is_inside(ip, network, bits)));
        }
        // An IPv6 address without brackets is all colons and has no port.
        if let (Some(ip), Ok(entry)) = (ip, entry.parse::<IpAddr>()) {
            return ip == entry;
        }
        let Ok((name, own_port)) = split_authority(entry.trim_start_matches("*.").trim_start_matches('.')) else {
            return false;
        };
        if own_port.is_some_and(|own| own != port) {
            return false;
        }
        if let Some(ip) = ip {
            return name.parse::<IpAddr>().is_ok_and(|entry| ip == entry);
        }
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        host == name || host.strip_suffix(&name).is_some_and(|rest| rest.ends_with('.'))
    })
}

/// Whether the first `bits` of two addresses are the same.
fn is_inside(ip: IpAddr, network: IpAddr, bits: u32) -> bool {
    match (ip, network) {
        (IpAddr::V4(ip), IpAddr::V4(network)) if bits <= 32 => {
            (ip.to_bits() ^ network.to_bits()).checked_shr(32 - bits).unwrap_or(0) == 0
        }
        (IpAddr::V6(ip), IpAddr::V6(network)) if bits <= 128 => {
            (ip.to_bits() ^ network.to_bits()).checked_shr(128 - bits).unwrap_or(0) == 0
        }
        _ => false,
    }
}

/// Has the proxy connect to the server: from here on, what is written to the wire reaches the server.
pub(super) fn tunnel(
    proxy: &HttpProxy,
    host: &str,
    port: u16,
    wire: &mut Wire,
    attempt: &Attempt<'_>,
) -> Result<(), DialError> {
    let failed = |cause| attempt.no_way_through(&proxy.shown, cause);
    let protocol = |problem: &str| failed(ProxyCause::Protocol(problem.to_owned()));
    let request = connect_request(proxy, host, port);
    let head = wire.write_all(request.as_bytes()).map_err(ReadHeadError::Ended).and_then(|()| read_head(wire));
    let head = head.map_err(|error| match error {
        ReadHeadError::Wrong(error) => match error {
            ResponseHeadError::TooLarge => protocol("the head of its answer is too large"),
            ResponseHeadError::NotHttp(_) => protocol("its answer is not HTTP (is a proxy on this port?)"),
            ResponseHeadError::Malformed(problem) => protocol(&format!("its answer is not HTTP: {problem}")),
        },
        ReadHeadError::Ended(error) | ReadHeadError::Silent(error) => {
            let other = match is_end(&error) {
                true => Cause::of("the proxy closed the connection without an answer", error),
                false => Cause::io(error),
            };
            attempt.broken(wire, "no answer to CONNECT", other, |cause| failed(ProxyCause::Unanswered(cause)))
        }
    })?;
    if !(200..300).contains(&head.status) {
        let mut refusal = ServerRefusal::read(head, wire);
        let mut ours = Secrets::default();
        if let Some(authorization) = &proxy.authorization {
            ours.add_header("Proxy-Authorization", authorization.as_bytes());
        }
        refusal.hide(&ours, &Secrets::default());
        return Err(failed(ProxyCause::Refused(Box::new(refusal))));
    }
    // We speak first, TLS or not, so nothing can have come through yet.
    if !head.behind.is_empty() {
        return Err(protocol("it sent data too early, before the server could answer"));
    }
    Ok(())
}

fn connect_request(proxy: &HttpProxy, host: &str, port: u16) -> String {
    let place = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let mut request = format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n");
    if let Some(authorization) = &proxy.authorization {
        request += &format!("Proxy-Authorization: {authorization}\r\n");
    }
    request + "\r\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::url;

    fn chosen(tls: bool, host: &str, environment: &[(&str, &str)]) -> Option<String> {
        let lookup =
            |name: &str| environment.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).to_owned());
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let url = url::parse(&format!("{}://{host}:443", if tls { "wss" } else { "ws" })).unwrap();
        from_environment(&url, &lookup).unwrap().map(|proxy| format!("{}:{}", proxy.host, proxy.port))
    }

    #[test]
    fn the_environment_names_a_proxy_by_the_scheme_lower_case_first() {
        let all = [("all_proxy", "http://all:1"), ("ALL_PROXY", "http://ALL:1")];
        for (tls, environment, expected) in [
            (true, &[][..], None),
            (true, &[("https_proxy", "http://p:3128")], Some("p:3128")),
            (false, &[("https_proxy", "http://p:3128")], None),
            (true, &[("http_proxy", "http://p:3128")], None),
            (false, &[("http_proxy", "p:3128/")], Some("p:3128")),
            (false, &[("http_proxy", "http://p")], Some("p:80")),
            (true, &[("HTTPS_PROXY", "http://up:1"), ("https_proxy", "http://low:1")], Some("low:1")),
            (true, &[("HTTPS_PROXY", "http://up:1"), ("https_proxy", "")], Some("up:1")),
            (true, &[("WSS_PROXY", "http://wss:1"), ("https_proxy", "http://p:1")], Some("wss:1")),
            (false, &[("ws_proxy", "http://u:p@[::1]:9"), ("http_proxy", "http://p:1")], Some("::1:9")),
            (false, &[("HTTP_PROXY", "http://p:1")], Some("p:1")),
            (false, &[("HTTP_PROXY", "http://p:1"), ("REQUEST_METHOD", "GET")], None),
            (false, &[("http_proxy", "http://p:1"), ("REQUEST_METHOD", "GET")], Some("p:1")),
            (true, &all, Some("all:1")),
            (false, &all[1..], Some("ALL:1")),
            (true, &[("all_proxy", "http://p:1"), ("no_proxy", "x, h.example")], None),
            (true, &[("all_proxy", "http://p:1"), ("NO_PROXY", "*")], None),
        ] {
            assert_eq!(chosen(tls, "h.example", environment).as_deref(), expected, "{tls} {environment:?}");
        }
        for host in ["localhost", "127.0.0.1", "::1"] {
            assert_eq!(chosen(false, host, &[("http_proxy", "http://p:1")]), None);
        }
    }

    #[test]
    fn no_proxy_is_a_list_of_names_addresses_and_networks() {
        for (list, host, exempt) in [
            ("example.com", "example.com", true),
            ("example.com", "a.b.EXAMPLE.com", true),
            ("example.com", "badexample.com", false),
            (".example.com", "example.com", true),
            ("*.example.com", "a.example.com", true),
            ("a.example.com", "example.com", false),
            ("other, example.com:80", "example.com", true),
            ("example.com:81", "example.com", false),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3:80", "10.1.2.3", true),
            ("10.1.2.3:81", "10.1.2.3", false),
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.1.2.3", false),
            ("0.0.0.0/0", "11.1.2.3", true),
            ("10.1.2.2/31", "10.1.2.3", true),
            ("10.0.0.0/33", "10.1.2.3", false),
            ("fd00::/8", "fd12::1", true),
            ("fd00::/8", "fe12::1", false),
            ("fd12::1", "fd12::1", true),
            ("[fd12::1]:80", "fd12::1", true),
            ("0.1.2.3", "10.1.2.3", false),
            ("3", "10.1.2.3", false),
            (" , ,:", "example.com", false),
        ] {
            assert_eq!(is_exempt(list, host, 80), exempt, "{list} {host}");
        }
    }

    #[test]
    fn b19_a_proxy_that_cannot_be_used_says_why_and_hides_who_we_are() {
        for (text, shown) in [
            ("https://me:secret@p:3128", "https://p:3128"),
            ("http://me:secret@a:b:80", "http://a:b:80"),
            ("http://me:secret@[::1:80", "http://[::1:80"),
            ("http://me:secret@[::1]x:80", "http://[::1]x:80"),
            ("http://me:secret@p:0", "http://p:0"),
            ("socks5://p", "socks5://p"),
            ("http://me:secret@:1", "http://:1"),
            ("http://me:secret@p:x", "http://p:x"),
            // Whose end cannot be told.
            ("http://me:secret/x@p:3128", "http://***@p:3128"),
            ("http://me:12/secret@p:3128", "http://***@p:3128"),
            ("me:secret?x@p:3128", "***@p:3128"),
            ("http://me:sec#ret@x@p:3128/", "http://***@p:3128/"),
            ("me:se://cret@p:3128", "***@p:3128"),
            ("http://me:secret", "http://me:***"),
        ] {
            let unusable = parse(text).err().unwrap();
            assert_eq!(unusable.shown, shown);
            assert!(!unusable.problem.contains("secret"), "{unusable:?}");
        }
        let proxy = parse("http://me:s%40cret@p:1").ok().unwrap();
        assert_eq!(proxy.authorization.as_deref(), Some("Basic bWU6c0BjcmV0"));
        assert_eq!(proxy.shown, "http://p:1");
    }
}
