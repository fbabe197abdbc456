//! What comes instead of a request: other protocols on the wrong port, and what a proxy puts before a request. A rule.

use crate::address::proxy_header::{SIGNATURE_V1, SIGNATURE_V2};

/// Another beginning than that of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misplaced {
    /// Plain HTTP on a listener with TLS.
    PlainHttp,
    /// TLS on a listener without.
    Tls,
    /// A header of the PROXY protocol, in either version.
    ProxyProtocol,
    /// Bytes that begin nothing that we know.
    Unknown,
}

impl Misplaced {
    /// What begins with these bytes on a listener without TLS, or in a session, if it is no request.
    pub fn on_plain(begin: &[u8]) -> Option<Misplaced> {
        // RFC 9112 section 2.2 allows empty lines before a request.
        let may_begin_request = |byte: u8| byte.is_ascii_graphic() || matches!(byte, b'\r' | b'\n');
        match begin {
            _ if is_proxy_protocol(begin) => Some(Misplaced::ProxyProtocol),
            [22, 3, ..] => Some(Misplaced::Tls),
            [first, ..] if !may_begin_request(*first) => Some(Misplaced::Unknown),
            _ => None,
        }
    }

    /// What begins with these bytes on a listener with TLS, if it is known and no TLS. A TLS record begins with 22.
    pub fn on_tls(begin: &[u8]) -> Option<Misplaced> {
        match begin {
            _ if is_proxy_protocol(begin) => Some(Misplaced::ProxyProtocol),
            // As the PROXY protocol begins too.
            _ if SIGNATURE_V1.starts_with(begin) => None,
            [a, b, c, ..] if [a, b, c].iter().all(|byte| byte.is_ascii_uppercase()) => Some(Misplaced::PlainHttp),
            _ => None,
        }
    }

    /// What it is and what to do, for the answer and the log.
    pub fn advice(self) -> &'static str {
        match self {
            Misplaced::PlainHttp => "this port speaks TLS: use https:// or wss://",
            Misplaced::Tls => {
                "this is TLS, and this port is not encrypted: use ws:// or http://, or write \"tls\" under its [[listen]]; \
                 a proxy in front must not encrypt (HAProxy: no \"ssl\" in the server line; nginx: proxy_pass http://)"
            }
            Misplaced::ProxyProtocol => {
                "a header of the PROXY protocol came first, which this listener does not take: write client_address = \
                 \"proxy_protocol\" and trusted_proxies under its [[listen]], or remove it in the proxy in front \
                 (HAProxy: no \"send-proxy\" in the server line; nginx: no \"proxy_protocol on\")"
            }
            Misplaced::Unknown => {
                "this is not an HTTP request; if it is TLS: this port is not encrypted, use ws:// or http://"
            }
        }
    }
}

fn is_proxy_protocol(begin: &[u8]) -> bool {
    begin.starts_with(SIGNATURE_V1) || begin.starts_with(SIGNATURE_V2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b3_what_begins_no_request_is_known_by_its_first_bytes() {
        use Misplaced::{PlainHttp, ProxyProtocol, Tls, Unknown};
        for (begin, on_plain, on_tls) in [
            (&b""[..], None, None),
            (b"G", None, None),
            (b"GET / HTTP/1.1", None, Some(PlainHttp)),
            (b"\r\nGET", None, None),
            (b"PRO", None, None),
            (b"PROPFIND / HTTP/1.1", None, Some(PlainHttp)),
            (b"PROXY TCP4 10.0.0.7 10.0.0.8 1 2\r\n", Some(ProxyProtocol), Some(ProxyProtocol)),
            (b"\r\n\r\n\0\r\nQUIT\n\x21", Some(ProxyProtocol), Some(ProxyProtocol)),
            (b"\x16", Some(Unknown), None),
            (b"\x16\x03\x01", Some(Tls), None),
            (b"\x01\x02", Some(Unknown), None),
            (b"\xff", Some(Unknown), None),
        ] {
            assert_eq!((Misplaced::on_plain(begin), Misplaced::on_tls(begin)), (on_plain, on_tls), "{begin:?}");
        }
    }
}
