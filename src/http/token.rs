//! What may stand in a head: tokens, header names and values, the headers that are the handshake's own, and the parts
//! of an authority.

/// Whether this is a token (RFC 9110 section 5.6.2), as the name of a header and a subprotocol must be.
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// Whether a header can have this value: it must not end its line.
pub fn is_header_value(value: &[u8]) -> bool {
    value.iter().all(|byte| (*byte >= b' ' && *byte != 0x7f) || *byte == b'\t')
}

/// The value of a header that is a file of its own: one line, without its end. `None` if it is something else.
pub fn value_of_file(bytes: Vec<u8>) -> Option<String> {
    let text = String::from_utf8(bytes).ok()?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    // Also none of the control characters above ASCII, which HTTP would allow: no text holds them on purpose.
    let fits = !line.is_empty() && !line.contains(|c: char| c.is_control() && c != '\t');
    fits.then(|| line.to_owned())
}

/// Why a header of the handshake is not to be set by anybody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserved {
    /// The handshake sets it itself.
    ByHandshake,
    /// It speaks of a body, and the request of a handshake has none.
    ForBody,
    /// Only the answer has it.
    ForAnswer,
    /// It offers extensions, and wsgate offers none.
    ForExtensions,
    /// It offers subprotocols, which have a setting of their own.
    ForSubprotocols,
}

/// The headers that are the handshake's own, and those of a body.
const RESERVED_HEADERS: [(&str, Reserved); 10] = [
    ("connection", Reserved::ByHandshake),
    ("upgrade", Reserved::ByHandshake),
    ("content-length", Reserved::ForBody),
    ("transfer-encoding", Reserved::ForBody),
    ("te", Reserved::ForBody),
    ("sec-websocket-accept", Reserved::ForAnswer),
    ("sec-websocket-key", Reserved::ByHandshake),
    ("sec-websocket-version", Reserved::ByHandshake),
    ("sec-websocket-extensions", Reserved::ForExtensions),
    ("sec-websocket-protocol", Reserved::ForSubprotocols),
];

/// Why a request of ours cannot have a header of this name, if so.
pub fn reserved(name: &str) -> Option<Reserved> {
    RESERVED_HEADERS.iter().find(|(own, _)| name.eq_ignore_ascii_case(own)).map(|(_, why)| *why)
}

/// Splits `host:port`; the colons of an IPv6 address are inside its brackets. Neither part is checked.
pub fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_and_a_value_stay_on_their_line() {
        for (text, token, value) in [
            ("X-Name", true, true),
            ("chat.v1", true, true),
            ("!#$%&'*+-.^_`|~", true, true),
            ("", false, true),
            ("a b", false, true),
            ("a:b", false, true),
            ("a,b", false, true),
            ("a\tb", false, true),
            ("\u{e9}", false, true),
            ("a\r\nb", false, false),
            ("a\0", false, false),
            ("a\u{7f}", false, false),
        ] {
            assert_eq!((is_token(text), is_header_value(text.as_bytes())), (token, value), "{text:?}");
        }
    }

    #[test]
    fn the_headers_of_the_handshake_are_known_in_any_case() {
        for (name, why) in [
            ("Upgrade", Some(Reserved::ByHandshake)),
            ("sec-websocket-KEY", Some(Reserved::ByHandshake)),
            ("Sec-WebSocket-Protocol", Some(Reserved::ForSubprotocols)),
            ("Content-Length", Some(Reserved::ForBody)),
            ("TE", Some(Reserved::ForBody)),
            ("Host", None),
            ("Authorization", None),
        ] {
            assert_eq!(reserved(name), why, "{name}");
        }
    }

    #[test]
    fn a_port_is_what_stands_behind_the_last_colon_that_is_not_in_brackets() {
        for (authority, host, port) in [
            ("h", "h", None),
            ("h:80", "h", Some("80")),
            ("h:", "h", Some("")),
            (":80", "", Some("80")),
            ("[::1]", "[::1]", None),
            ("[::1]:80", "[::1]", Some("80")),
            ("[::1", "[:", Some("1")),
            ("a:b:80", "a:b", Some("80")),
            ("", "", None),
        ] {
            assert_eq!(split_port(authority), (host, port), "{authority}");
        }
    }
}
