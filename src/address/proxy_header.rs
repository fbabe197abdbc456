//! The header of the PROXY protocol, versions 1 and 2: what a proxy sends before the first byte of its client.
//!
//! The text is <https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The first bytes of version 2.
pub const SIGNATURE_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The first bytes of version 1.
pub const SIGNATURE_V1: &[u8] = b"PROXY ";

/// The longest header of version 1, its CR LF included.
const V1_MAX: usize = 107;

/// The part of a header of version 2 that is always there.
const V2_FIXED: usize = 16;

/// The most bytes behind that part that are taken: addresses, and what a proxy adds to them, which is skipped.
const V2_REST_MAX: usize = 4096;

/// A whole header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyHeader {
    /// How many bytes it has; what follows is the client's.
    pub len: usize,
    /// Where the client comes from. `None`: the proxy speaks for itself, as it does to check whether we are there, or it
    /// knows no address.
    pub client: Option<SocketAddr>,
}

/// Why these bytes begin no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyHeaderError {
    /// They begin something else.
    Other,
    /// They begin like one, and this is wrong.
    Broken(&'static str),
}

/// Reads the header at the beginning of what has come. `None`: more must come.
///
/// # Errors
/// As soon as it is clear that no header can follow.
pub fn parse(begin: &[u8]) -> Result<Option<ProxyHeader>, ProxyHeaderError> {
    let begins = |signature: &[u8]| begin.starts_with(signature) || signature.starts_with(begin);
    match () {
        () if begins(SIGNATURE_V1) => v1(begin),
        () if begins(SIGNATURE_V2) => v2(begin),
        () => Err(ProxyHeaderError::Other),
    }
}

fn v1(begin: &[u8]) -> Result<Option<ProxyHeader>, ProxyHeaderError> {
    let begin = &begin[..begin.len().min(V1_MAX)];
    let Some(end) = begin.iter().position(|byte| *byte == b'\n') else {
        return match begin.len() {
            V1_MAX => Err(ProxyHeaderError::Broken("its line is longer than 107 bytes")),
            _ => Ok(None),
        };
    };
    let Some(line) = begin[..end].strip_suffix(b"\r").and_then(|line| std::str::from_utf8(line).ok()) else {
        return Err(ProxyHeaderError::Broken("its line is no text that ends in CR LF"));
    };
    let client = client_of_v1(line).ok_or(ProxyHeaderError::Broken("its line has no two addresses and two ports"))?;
    Ok(Some(ProxyHeader { len: end + 1, client }))
}

/// The client in a line of version 1; `Some(None)` if the proxy does not know.
fn client_of_v1(line: &str) -> Option<Option<SocketAddr>> {
    let mut words = line.split(' ').skip(1);
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(None);
    }
    let mut address = || match family {
        "TCP4" => words.next()?.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        "TCP6" => words.next()?.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => None,
    };
    let (from, _to) = (address()?, address()?);
    let mut port = || words.next().and_then(port);
    let (from_port, _to_port) = (port()?, port()?);
    words.next().is_none().then(|| Some(place(from, from_port)))
}

/// A port in digits alone, without zeros before it.
fn port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain)
}

fn v2(begin: &[u8]) -> Result<Option<ProxyHeader>, ProxyHeaderError> {
    const LOCAL: u8 = 0;
    const PROXY: u8 = 1;
    // Judged as soon as it is there: nobody has to send the rest of what is refused.
    let Some(version_and_command) = begin.get(12) else { return Ok(None) };
    let (version, command) = (version_and_command >> 4, version_and_command & 15);
    if version != 2 || !matches!(command, LOCAL | PROXY) {
        return Err(ProxyHeaderError::Broken("its version is not 2, or its command is neither LOCAL nor PROXY"));
    }
    let Some(fixed) = begin.get(..V2_FIXED) else { return Ok(None) };
    let rest = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if rest > V2_REST_MAX {
        return Err(ProxyHeaderError::Broken("it is longer than 4 KiB"));
    }
    let len = V2_FIXED + rest;
    let Some(addresses) = begin.get(V2_FIXED..len) else { return Ok(None) };
    let client = if command == LOCAL { None } else { client_of_v2(fixed[13], addresses)? };
    Ok(Some(ProxyHeader { len, client }))
}

/// The client in what follows the fixed part. Over UDP it is the same: a proxy may have it from HTTP/3.
fn client_of_v2(family: u8, addresses: &[u8]) -> Result<Option<SocketAddr>, ProxyHeaderError> {
    const SHORT: ProxyHeaderError = ProxyHeaderError::Broken("it is too short for the addresses that it announces");
    let port = |at: usize| addresses.get(at..at + 2).map(|port| u16::from_be_bytes([port[0], port[1]]));
    match family {
        // What the family's own addresses are nobody knows.
        0x00 => Ok(None),
        0x11 | 0x12 => {
            let from = addresses.first_chunk::<4>().zip(port(8).filter(|_| addresses.len() >= 12));
            let (from, port) = from.ok_or(SHORT)?;
            Ok(Some(place(Ipv4Addr::from(*from).into(), port)))
        }
        0x21 | 0x22 => {
            let from = addresses.first_chunk::<16>().zip(port(32).filter(|_| addresses.len() >= 36));
            let (from, port) = from.ok_or(SHORT)?;
            Ok(Some(place(Ipv6Addr::from(*from).into(), port)))
        }
        0x31 | 0x32 if addresses.len() < 216 => Err(SHORT),
        0x31 | 0x32 => Ok(None),
        _ => Err(ProxyHeaderError::Broken("its address family is unknown")),
    }
}

/// An IPv4 address is one however it is written.
fn place(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address.to_canonical(), port)
}

impl fmt::Display for ProxyHeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProxyHeaderError::Other => f.write_str("no header of the PROXY protocol came first"),
            ProxyHeaderError::Broken(why) => write!(f, "the header of the PROXY protocol is broken: {why}"),
        }
    }
}

impl std::error::Error for ProxyHeaderError {}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header of version 2.
    fn header(version_and_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE_V2, &[version_and_command, family], &length, rest].concat()
    }

    const OF_V4: &[u8] = &[10, 0, 0, 7, 10, 0, 0, 8, 0x12, 0x34, 0, 80];

    fn of_v6(from: &str) -> Vec<u8> {
        let from = from.parse::<Ipv6Addr>().unwrap().octets();
        [&from[..], &Ipv6Addr::LOCALHOST.octets(), &[0x12, 0x34, 0, 80]].concat()
    }

    #[test]
    fn a_header_says_where_the_client_comes_from() {
        let with_more = [OF_V4, &[0x20, 0, 3, 1, 2, 3]].concat();
        for (bytes, client) in [
            (b"PROXY TCP4 10.0.0.7 10.0.0.8 4660 80\r\n".to_vec(), Some("10.0.0.7:4660")),
            (b"PROXY TCP6 2001:db8::1 ::1 4660 80\r\n".to_vec(), Some("[2001:db8::1]:4660")),
            (b"PROXY TCP6 ::ffff:10.0.0.7 ::1 0 80\r\n".to_vec(), Some("10.0.0.7:0")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff:f 1 2 3\r\n".to_vec(), None),
            (header(0x21, 0x11, OF_V4), Some("10.0.0.7:4660")),
            (header(0x21, 0x12, OF_V4), Some("10.0.0.7:4660")),
            (header(0x21, 0x11, &with_more), Some("10.0.0.7:4660")),
            (header(0x21, 0x21, &of_v6("2001:db8::1")), Some("[2001:db8::1]:4660")),
            (header(0x21, 0x21, &of_v6("::ffff:10.0.0.7")), Some("10.0.0.7:4660")),
            (header(0x21, 0x00, &[]), None),
            (header(0x21, 0x31, &[0; 216]), None),
            (header(0x20, 0x11, OF_V4), None),
            (header(0x20, 0xff, &[1, 2, 3]), None),
        ] {
            let client = client.map(|client| client.parse().unwrap());
            let expected = ProxyHeader { len: bytes.len(), client };
            assert_eq!(parse(&[&bytes[..], b"GET / HTTP/1.1"].concat()), Ok(Some(expected)), "{bytes:?}");
            for end in 0..bytes.len() {
                assert_eq!(parse(&bytes[..end]), Ok(None), "{end} of {bytes:?}");
            }
        }
    }

    #[test]
    fn what_is_no_header_is_known_at_once() {
        use ProxyHeaderError::{Broken, Other};
        let long = format!("PROXY UNKNOWN {}", "x".repeat(V1_MAX));
        let over = header(0x21, 0x11, &[0; V2_REST_MAX + 1]);
        for begin in [&b"GET / HTTP/1.1\r\n"[..], b"\x16\x03\x01", b"PROXX", b"proxy ", b"\r\n\r\n\0\r\nQUIX"] {
            assert_eq!(parse(begin), Err(Other), "{begin:?}");
        }
        for begin in [
            &b"PROXY TCP4 10.0.0.7 10.0.0.8 4660 80\n"[..],
            b"PROXY TCP4 10.0.0.7 10.0.0.8 4660\r\n",
            b"PROXY TCP4 10.0.0.7 10.0.0.8 4660 80 1\r\n",
            b"PROXY TCP4 10.0.0.7  10.0.0.8 4660 80\r\n",
            b"PROXY TCP4 10.0.0.07 10.0.0.8 4660 80\r\n",
            b"PROXY TCP4 10.0.0.7 10.0.0.8 04660 80\r\n",
            b"PROXY TCP4 10.0.0.7 10.0.0.8 +4660 80\r\n",
            b"PROXY TCP4 10.0.0.7 10.0.0.8 66000 80\r\n",
            b"PROXY TCP4 ::1 ::1 4660 80\r\n",
            b"PROXY TCP6 10.0.0.7 10.0.0.8 4660 80\r\n",
            b"PROXY UDP4 10.0.0.7 10.0.0.8 4660 80\r\n",
            b"PROXY \r\n",
            b"PROXY \xff\r\n",
            long.as_bytes(),
            &over[..V2_FIXED],
            &header(0x11, 0x11, OF_V4)[..13],
            &header(0x22, 0x11, OF_V4)[..13],
            &header(0x21, 0x11, &OF_V4[..11]),
            &header(0x21, 0x21, &of_v6("::1")[..35]),
            &header(0x21, 0x31, &[0; 215]),
            &header(0x21, 0x41, OF_V4),
        ] {
            assert!(matches!(parse(begin), Err(Broken(_))), "{:?}: {:?}", String::from_utf8_lossy(begin), parse(begin));
        }
    }
}
