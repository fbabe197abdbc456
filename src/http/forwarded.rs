//! What proxies in front say of a request: `Forwarded` (RFC 7239), or `X-Forwarded-For` with `X-Forwarded-Proto` and
//! `X-Forwarded-Host`.
//!
//! Each proxy appends what it has seen, so only the end of such a header is known to be true: from the right, each
//! element is believed because the one who appended it is trusted. What stands before the first address that is not
//! trusted can be made up by that one, and is not looked at.

use std::net::IpAddr;

use super::refusal::Refusal;
use super::token::{is_token, split_port};
use crate::address::list::{AddressList, UNIX};

/// The most parameters of an element: RFC 7239 knows four. Each is compared with those before it, and a client behind a proxy
/// could write thousands.
const PARAMETERS_MAX: usize = 32;

/// How many characters of an element stand in the answer and the log.
const SHOWN: usize = 100;

/// What the trusted proxies say. All of it is empty if they say nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Said {
    /// The way of the request: the client, then the proxies that it came through, without the one that has connected. The
    /// last is whom that one names. `None` is a Unix socket.
    pub way: Vec<Option<IpAddr>>,
    /// Whether the client speaks TLS, if they say so.
    pub is_tls: Option<bool>,
    /// The host that the client has asked for, if they say so.
    pub host: Option<String>,
}

/// An element that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    header: &'static str,
    element: String,
}

impl From<Unreadable> for Refusal {
    fn from(Unreadable { header, element }: Unreadable) -> Refusal {
        let advice =
            "a proxy under \"trusted_proxies\" has written it, or has passed on what it should replace or append to";
        Refusal::new(400, format!("the {header} header has '{element:.SHOWN$}', which cannot be read"))
            .with_advice(advice.to_owned())
    }
}

/// Reads the three headers; each is all its lines, in order.
///
/// # Errors
/// An element that counts and cannot be read.
pub fn x_forwarded(
    forwarded_for: &[Vec<u8>],
    proto: &[Vec<u8>],
    host: &[Vec<u8>],
    trusted: &AddressList,
) -> Result<Said, Unreadable> {
    const FOR: &str = "X-Forwarded-For";
    let mut way = Vec::new();
    for element in elements_from_right(forwarded_for) {
        let address = node(element).ok_or_else(|| unreadable(FOR, element))?;
        way.push(address);
        if !trusted.contains(address) {
            break;
        }
    }
    way.reverse();
    // A proxy appends to these too, or replaces them, or leaves them to the next one: as many from the right are true as
    // there are proxies that are trusted.
    let of_client = |lines| elements_from_right(lines).take(way.len().max(1)).last();
    let is_tls = of_client(proto)
        .map(|element| is_secure(element).ok_or_else(|| unreadable("X-Forwarded-Proto", element)))
        .transpose()?;
    let host = of_client(host)
        .map(|element| host_of(element).ok_or_else(|| unreadable("X-Forwarded-Host", element)))
        .transpose()?;
    Ok(Said { is_tls, host, way })
}

/// Reads a `Forwarded` header, all its lines in order.
///
/// # Errors
/// An element that counts and cannot be read. A quoted text may hold commas, so a line with a mistake is one element.
pub fn forwarded(lines: &[Vec<u8>], trusted: &AddressList) -> Result<Said, Unreadable> {
    const FORWARDED: &str = "Forwarded";
    let mut said = Said::default();
    'lines: for line in lines.iter().rev() {
        let elements = text(line).and_then(elements_of_forwarded);
        for element in elements.ok_or_else(|| unreadable(FORWARDED, line))?.iter().rev() {
            let whole = || unreadable(FORWARDED, line);
            let address = element.node.as_deref().and_then(|node| self::node(node.as_bytes())).ok_or_else(whole)?;
            said.way.push(address);
            let (proto, host) = (element.proto.as_deref(), element.host.as_deref());
            // Those of the first proxy count, which has them from the client; but not each proxy says them.
            if let Some(proto) = proto {
                said.is_tls = Some(is_secure(proto.as_bytes()).ok_or_else(whole)?);
            }
            if let Some(host) = host {
                said.host = Some(host_of(host.as_bytes()).ok_or_else(whole)?);
            }
            if !trusted.contains(address) {
                break 'lines;
            }
        }
    }
    said.way.reverse();
    Ok(said)
}

/// Those of a list of RFC 9110 section 5.6.1, the last first. Empty ones are kept: they stand where something else should.
fn elements_from_right(lines: &[Vec<u8>]) -> impl Iterator<Item = &[u8]> {
    lines.iter().rev().flat_map(|line| line.rsplit(|byte| *byte == b',')).map(|element| element.trim_ascii())
}

fn unreadable(header: &'static str, element: &[u8]) -> Unreadable {
    Unreadable { header, element: String::from_utf8_lossy(element).into_owned() }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// The address of a node (RFC 7239 section 6), with or without its port, and IPv6 also without its brackets; `unix:` is
/// nginx's word for a Unix socket. What names no address, such as `unknown`, is none.
fn node(bytes: &[u8]) -> Option<Option<IpAddr>> {
    let text = text(bytes)?;
    if text.strip_suffix(':') == Some(UNIX) {
        return Some(None);
    }
    let in_brackets = |text: &str| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok().filter(IpAddr::is_ipv6);
    let address = text.parse().ok().or_else(|| match split_port(text) {
        (_, Some(port)) if !is_port(port) => None,
        (host, _) => in_brackets(host).or_else(|| host.parse().ok().filter(IpAddr::is_ipv4)),
    });
    address.map(|address| Some(address.to_canonical()))
}

/// A port, or a word that stands for one.
fn is_port(text: &str) -> bool {
    let is_number = !text.is_empty() && text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_name =
        |rest: &str| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    is_number || text.strip_prefix('_').is_some_and(is_name)
}

/// Whether a scheme is one over TLS.
fn is_secure(bytes: &[u8]) -> Option<bool> {
    let is = |scheme: &str| bytes.eq_ignore_ascii_case(scheme.as_bytes());
    match () {
        () if is("https") || is("wss") => Some(true),
        () if is("http") || is("ws") => Some(false),
        () => None,
    }
}

/// A host with or without its port.
fn host_of(bytes: &[u8]) -> Option<String> {
    let text = text(bytes)?;
    let is_foreign = |c: char| c.is_control() || c.is_whitespace() || "@/?#,\\\"".contains(c);
    (!split_port(text).0.is_empty() && !text.contains(is_foreign)).then(|| text.to_owned())
}

/// The parameters of an element of `Forwarded` that we know.
#[derive(Debug, Default, PartialEq, Eq)]
struct Element {
    node: Option<String>,
    proto: Option<String>,
    host: Option<String>,
}

/// The elements of a line, or none if it is not as RFC 7239 section 4 has it. Blanks around `;` are taken, and values with
/// `:` and brackets need no quotes, as some proxies write them.
fn elements_of_forwarded(line: &str) -> Option<Vec<Element>> {
    let (mut elements, mut rest) = (Vec::new(), line);
    loop {
        let (element, behind) = element_of_forwarded(rest)?;
        elements.push(element);
        match behind.strip_prefix(',') {
            Some(behind) => rest = behind,
            None => return behind.is_empty().then_some(elements),
        }
    }
}

/// The first element, and what is behind it.
fn element_of_forwarded(text: &str) -> Option<(Element, &str)> {
    let (mut element, mut seen, mut rest) = (Element::default(), Vec::new(), text);
    loop {
        rest = rest.trim_start_matches([' ', '\t']);
        if !rest.is_empty() && !rest.starts_with([';', ',']) {
            let (name, behind) = rest.split_once('=')?;
            let name = name.to_ascii_lowercase();
            if !is_token(&name) || seen.contains(&name) || seen.len() >= PARAMETERS_MAX {
                return None;
            }
            let (value, behind) = value_of_forwarded(behind)?;
            match &*name {
                "for" => element.node = Some(value),
                "proto" => element.proto = Some(value),
                "host" => element.host = Some(value),
                _ => {}
            }
            seen.push(name);
            rest = behind.trim_start_matches([' ', '\t']);
        }
        match rest.strip_prefix(';') {
            Some(behind) => rest = behind,
            None => return (rest.is_empty() || rest.starts_with(',')).then_some((element, rest)),
        }
    }
}

/// A value, without its quotes if it has some, and what is behind it.
fn value_of_forwarded(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ';', ' ', '\t']).unwrap_or(text.len());
        let (value, behind) = text.split_at(end);
        return is_token(&value.replace([':', '[', ']'], "")).then(|| (value.to_owned(), behind));
    };
    let (mut value, mut characters) = (String::new(), quoted.char_indices());
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            _ => value.push(character),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusted() -> AddressList {
        AddressList::parse("10.0.0.0/8\n2001:db8::/32\nunix").unwrap()
    }

    fn lines(lines: &[&str]) -> Vec<Vec<u8>> {
        lines.iter().map(|line| line.as_bytes().to_vec()).collect()
    }

    /// The way as text.
    fn way(said: &Said) -> String {
        let show = |address: &Option<IpAddr>| address.map_or("unix".to_owned(), |address| address.to_string());
        said.way.iter().map(show).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn x_forwarded_for_counts_from_the_right_up_to_the_first_that_is_not_trusted() {
        for (given, expected) in [
            (&[][..], Some("")),
            (&["192.0.2.1"], Some("192.0.2.1")),
            (&["6.6.6.6, 192.0.2.1"], Some("192.0.2.1")),
            (&["forged, 192.0.2.1"], Some("192.0.2.1")),
            (&["6.6.6.6,192.0.2.1 ,\t10.0.0.1"], Some("192.0.2.1 10.0.0.1")),
            (&["6.6.6.6", "192.0.2.1", "10.0.0.2, 10.0.0.1"], Some("192.0.2.1 10.0.0.2 10.0.0.1")),
            (&["10.0.0.3", "10.0.0.2"], Some("10.0.0.3 10.0.0.2")),
            (&["192.0.2.1:4711"], Some("192.0.2.1")),
            (&["2001:db9::1"], Some("2001:db9::1")),
            (&["[2001:db9::1]"], Some("2001:db9::1")),
            (&["[2001:db9::1]:4711"], Some("2001:db9::1")),
            (&["::ffff:192.0.2.1"], Some("192.0.2.1")),
            (&["192.0.2.1, unix:"], Some("192.0.2.1 unix")),
            (&["192.0.2.1, "], None),
            (&["192.0.2.1", ""], None),
            (&[""], None),
            (&["unknown"], None),
            (&["unknown, 10.0.0.1"], None),
            (&["_hidden"], None),
            (&["gate.example"], None),
            (&["192.0.2.1:x"], None),
            (&["192.0.2.1 192.0.2.2"], None),
            (&["[192.0.2.1]"], None),
            (&["192.0.2.01"], None),
            (&["\"192.0.2.1\""], None),
        ] {
            let said = x_forwarded(&lines(given), &[], &[], &trusted());
            assert_eq!(said.as_ref().ok().map(way).as_deref(), expected, "{given:?}: {said:?}");
        }
    }

    #[test]
    fn the_other_two_count_for_as_many_proxies() {
        for (given_for, proto, host, expected) in [
            ("192.0.2.1", "https", "gate.example", Ok((Some(true), Some("gate.example")))),
            ("192.0.2.1", "WS", "gate.example:8443", Ok((Some(false), Some("gate.example:8443")))),
            ("192.0.2.1", "https, http", "evil, gate.example", Ok((Some(false), Some("gate.example")))),
            ("192.0.2.1, 10.0.0.1", "https, http", "gate.example", Ok((Some(true), Some("gate.example")))),
            ("192.0.2.1, 10.0.0.1", "http", "a, b, c", Ok((Some(false), Some("b")))),
            ("192.0.2.1", "spdy", "gate.example", Err("X-Forwarded-Proto")),
            ("192.0.2.1", "", "gate.example", Err("X-Forwarded-Proto")),
            ("192.0.2.1", "https", "", Err("X-Forwarded-Host")),
            ("192.0.2.1", "https", "a@b", Err("X-Forwarded-Host")),
            ("192.0.2.1", "https", ":80", Err("X-Forwarded-Host")),
        ] {
            let said = x_forwarded(&lines(&[given_for]), &lines(&[proto]), &lines(&[host]), &trusted());
            let said = said.as_ref().map(|said| (said.is_tls, said.host.as_deref())).map_err(|error| error.header);
            assert_eq!(said, expected, "{given_for} {proto} {host}");
        }
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_has_it() {
        for (given, expected) in [
            (&["for=192.0.2.1"][..], Some("192.0.2.1")),
            (&["For=\"192.0.2.1:4711\";proto=https;by=10.0.0.1"], Some("192.0.2.1 https")),
            (&["for=192.0.2.1:4711"], Some("192.0.2.1")),
            (&["for=\"[2001:db9::1]:_x\";host=gate.example"], Some("2001:db9::1 gate.example")),
            (&["for=[2001:db9::1]"], Some("2001:db9::1")),
            (&["for=\"19\\2.0.2.1\""], Some("192.0.2.1")),
            (&["for=6.6.6.6;host=evil, for=192.0.2.1"], Some("192.0.2.1")),
            (&["for=6.6.6.6", "for=192.0.2.1;host=\"gate.example:8443\""], Some("192.0.2.1 gate.example:8443")),
            (
                &["for=192.0.2.1;proto=https;host=gate.example, for=10.0.0.1;proto=http;host=inside"],
                Some("192.0.2.1 10.0.0.1 https gate.example"),
            ),
            (&["for=192.0.2.1, for=10.0.0.1;proto=https"], Some("192.0.2.1 10.0.0.1 https")),
            (&["for=\"made up, for=6.6.6.6", "for=192.0.2.1"], Some("192.0.2.1")),
            (&["x=\"a, b; c\\\"\" ; for=192.0.2.1 ;"], Some("192.0.2.1")),
            (&["for=\"made up, for=192.0.2.1"], None),
            (&["for=6.6.6.6;x=\", for=\"[2001:db9::1]\""], None),
            (&["for=192.0.2.1;for=192.0.2.2"], None),
            (&["for=unknown"], None),
            (&["for=_hidden"], None),
            (&["proto=https"], None),
            (&["for = 192.0.2.1"], None),
            (&["for"], None),
            (&["for="], None),
            (&[""], None),
            (&["for=192.0.2.1,"], None),
            (&["for=192.0.2.1;proto=\"\""], None),
            (&["for=192.0.2.1;host=\"a b\""], None),
        ] {
            let said = forwarded(&lines(given), &trusted());
            let shown = said.as_ref().ok().map(|said| {
                let proto = said.is_tls.map(|is_tls| if is_tls { " https" } else { " http" }).unwrap_or_default();
                format!("{}{proto}{}", way(said), said.host.as_ref().map(|h| format!(" {h}")).unwrap_or_default())
            });
            assert_eq!(shown.as_deref(), expected, "{given:?}: {said:?}");
        }
    }
    #[test]
    fn h11_an_element_has_only_so_many_parameters() {
        let line =
            |count: usize| (1..count).map(|number| format!("x{number}=y;")).collect::<String>() + "for=192.0.2.1";
        let read = |count| forwarded(&lines(&[&line(count)]), &trusted()).map(|said| way(&said));
        assert_eq!(read(PARAMETERS_MAX).as_deref(), Ok("192.0.2.1"));
        assert!(read(PARAMETERS_MAX + 1).is_err());
    }
}
