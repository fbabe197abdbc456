//! The opening handshake, client side (RFC 6455 section 4.1): our request, and what the server makes of it.
//!
//! It is not that of tungstenite, which drops the stream when the server refuses, and with it the body that says why.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use data_encoding::BASE64;
use tungstenite::handshake::client::generate_key;
use tungstenite::handshake::derive_accept_key;

use super::attempt::Attempt;
use super::error::{Cause, DialError};
use super::response::{ReadHeadError, ServerRefusal, is_end, read_head};
use super::wire::Wire;
use crate::display::{self, printable};
use crate::http::head::{ResponseHead, ResponseHeadError};
use crate::http::token::{is_header_value, is_token, reserved};

/// How much is shown of a subprotocol or of the name of a header.
const SHOWN_MAX: usize = 123;

/// A request that is ready to be sent, and what its answer has to fit.
pub(super) struct UpgradeRequest {
    text: Vec<u8>,
    key: String,
    offered: Vec<String>,
    /// Whether a server may agree to no subprotocol although some were offered.
    may_agree_to_none: bool,
}

/// What a request is made of.
pub(super) struct RequestParts<'a> {
    pub(super) path_and_query: &'a str,
    pub(super) authority: &'a str,
    pub(super) origin: Option<&'a str>,
    /// The value of Authorization, unless a header of that name is among `headers`.
    pub(super) authorization: Option<&'a str>,
    /// They replace those that we would send.
    pub(super) headers: Vec<(&'a str, &'a [u8])>,
    pub(super) subprotocols: &'a [String],
    pub(super) may_agree_to_none: bool,
}

impl UpgradeRequest {
    /// The request with a new key. The error says which part cannot be sent.
    pub(super) fn new(parts: RequestParts<'_>) -> Result<UpgradeRequest, String> {
        let path = parts.path_and_query;
        if !path.starts_with('/') || path.contains('#') || !path.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("its path has a character that must be percent-encoded".into());
        }
        for (name, value) in &parts.headers {
            check_header(name, value)?;
        }
        for name in parts.subprotocols {
            if !is_token(name) {
                return Err(format!("'{}' cannot be a subprotocol", printable(name, SHOWN_MAX)));
            }
        }
        let key = generate_key();
        let has = |name: &str| parts.headers.iter().any(|(own, _)| own.eq_ignore_ascii_case(name));
        let mut head = format!("GET {path} HTTP/1.1\r\n");
        let mut add = |name: &str, value: &str| {
            // Writing to a string cannot fail.
            let _ = write!(head, "{name}: {value}\r\n");
        };
        if !has("host") {
            add("Host", parts.authority);
        }
        add("Connection", "Upgrade");
        add("Upgrade", "websocket");
        add("Sec-WebSocket-Version", "13");
        add("Sec-WebSocket-Key", &key);
        if !parts.subprotocols.is_empty() {
            add("Sec-WebSocket-Protocol", &parts.subprotocols.join(", "));
        }
        for (name, value) in [("Origin", parts.origin), ("Authorization", parts.authorization)] {
            if let Some(value) = value.filter(|_| !has(name)) {
                check_header(name, value.as_bytes())?;
                add(name, value);
            }
        }
        if !has("user-agent") {
            add("User-Agent", concat!("wsgate/", env!("CARGO_PKG_VERSION")));
        }
        let mut text = head.into_bytes();
        for (name, value) in &parts.headers {
            text.extend_from_slice(name.as_bytes());
            text.extend_from_slice(b": ");
            text.extend_from_slice(value);
            text.extend_from_slice(b"\r\n");
        }
        text.extend_from_slice(b"\r\n");
        Ok(UpgradeRequest {
            text,
            key,
            offered: parts.subprotocols.to_vec(),
            may_agree_to_none: parts.may_agree_to_none,
        })
    }
}

/// No header may end its line, and none may take part in the handshake. The error does not show the value.
pub(super) fn check_header(name: &str, value: &[u8]) -> Result<(), String> {
    let shown = printable(name, SHOWN_MAX);
    if !is_token(name) {
        return Err(format!("'{shown}' is not the name of a header"));
    }
    if reserved(name).is_some() {
        return Err(format!("the header '{shown}' cannot be set in a handshake"));
    }
    if !is_header_value(value) {
        return Err(format!("the value of the header '{shown}' holds a control character"));
    }
    Ok(())
}

/// The value of Authorization for `user:password` (RFC 7617).
pub(super) fn basic(user_and_password: &[u8]) -> String {
    format!("Basic {}", BASE64.encode(user_and_password))
}

/// Sends the request and reads the answer: what came behind it, and the subprotocol that was agreed.
pub(super) fn upgrade(
    request: &UpgradeRequest,
    wire: &mut Wire,
    attempt: &Attempt<'_>,
) -> Result<(Vec<u8>, Option<String>), DialError> {
    let ended = |wire: &Wire, error: io::Error, hint: &str| {
        let other = match is_end(&error) {
            true => Cause::of(format!("the server closed the connection without an answer{hint}"), error),
            false => Cause::of(broken(&error), error),
        };
        attempt.broken(wire, "no answer to the handshake", other, |cause| attempt.unanswered(cause))
    };
    wire.write_all(&request.text).and_then(|()| wire.flush()).map_err(|error| ended(wire, error, ""))?;
    let head = read_head(wire).map_err(|error| match error {
        ReadHeadError::Wrong(error) => attempt.protocol_broken(match error {
            ResponseHeadError::NotHttp(start) => not_http(&start, wire.is_secure()).to_owned(),
            ResponseHeadError::Malformed(problem) => format!("the server's answer is not HTTP: {problem}"),
            ResponseHeadError::TooLarge => "the head of the server's answer is too large".to_owned(),
        }),
        ReadHeadError::Silent(error) => {
            let hint = if wire.is_secure() { "" } else { " (if this is a TLS port, use wss://)" };
            ended(wire, error, hint)
        }
        ReadHeadError::Ended(error) => ended(wire, error, ""),
    })?;
    if head.status != 101 {
        return Err(attempt.refused(ServerRefusal::read(head, wire)));
    }
    let subprotocol = check(request, &head).map_err(|problem| attempt.protocol_broken(problem))?;
    Ok((head.behind, subprotocol))
}

/// The checks of RFC 6455 section 4.1 on a 101.
fn check(request: &UpgradeRequest, head: &ResponseHead) -> Result<Option<String>, String> {
    if !head.values("upgrade").any(|value| value.eq_ignore_ascii_case("websocket")) {
        return Err("the server's 101 lacks 'Upgrade: websocket'".into());
    }
    let is_upgrade = |value: &str| value.split(',').any(|token| token.trim().eq_ignore_ascii_case("upgrade"));
    if !head.values("connection").any(|value| is_upgrade(&value)) {
        return Err("the server's 101 lacks 'Connection: Upgrade'".into());
    }
    if !head.values("sec-websocket-accept").eq([derive_accept_key(request.key.as_bytes())]) {
        return Err("the server's 'Sec-WebSocket-Accept' does not match the key of the request (is there a cache in \
                    between?)"
            .into());
    }
    if head.values("sec-websocket-extensions").any(|value| !value.is_empty()) {
        return Err("the server turned on an extension that was not offered".into());
    }
    let mut agreed = head.values("sec-websocket-protocol");
    match (agreed.next(), agreed.next()) {
        (None, _) if request.offered.is_empty() || request.may_agree_to_none => Ok(None),
        // Browsers end the connection here too: both sides would speak different languages.
        (None, _) => {
            Err(format!("the server agreed to none of the offered subprotocols ({})", request.offered.join(", ")))
        }
        (Some(name), None) if request.offered.contains(&name) => Ok(Some(name)),
        (Some(name), _) => {
            Err(format!("the server chose the subprotocol '{}', which was not offered", printable(&name, SHOWN_MAX)))
        }
    }
}

/// What bytes are that cannot become an HTTP answer.
fn not_http(start: &[u8], tls: bool) -> &'static str {
    // A TLS server answers a plain request with an alert or a handshake record of version 3.x.
    if !tls && matches!(start, [0x15 | 0x16, 3, ..]) {
        "the server speaks TLS on this port (use wss://)"
    } else {
        "the server's answer is not HTTP (is a WebSocket server on this port?)"
    }
}

/// A stream that broke. With TLS 1.3 a server refuses our certificate only now, in an alert of which OpenSSL makes
/// `error:NUMBER:LIBRARY:FUNCTION:REASON:...`.
fn broken(error: &io::Error) -> String {
    let text = error.to_string();
    match text.strip_prefix("error:").and_then(|rest| rest.split(':').nth(3)) {
        Some(reason) if !reason.is_empty() => format!("the server ended the TLS session: {reason}"),
        _ => display::cause(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts<'a>() -> RequestParts<'a> {
        RequestParts {
            path_and_query: "/a?b",
            authority: "h:1",
            origin: Some("https://o"),
            authorization: Some("Basic x"),
            headers: Vec::new(),
            subprotocols: &[],
            may_agree_to_none: false,
        }
    }

    fn text(parts: RequestParts) -> String {
        String::from_utf8(UpgradeRequest::new(parts).unwrap().text).unwrap()
    }

    #[test]
    fn a_header_of_one_s_own_replaces_ours() {
        let request = text(parts());
        assert!(
            request.starts_with("GET /a?b HTTP/1.1\r\nHost: h:1\r\n") && request.ends_with("\r\n\r\n"),
            "{request}"
        );
        for line in ["Origin: https://o", "Authorization: Basic x", "User-Agent: wsgate/"] {
            assert!(request.contains(&format!("\r\n{line}")), "{line} in {request}");
        }
        let headers: Vec<(&str, &[u8])> =
            vec![("host", b"x"), ("AUTHORIZATION", b"Bearer t"), ("x-a", b"1"), ("X-A", b"\xff")];
        let request = UpgradeRequest::new(RequestParts { headers, ..parts() }).unwrap().text;
        let request = String::from_utf8_lossy(&request).to_lowercase();
        for (name, lines) in [("host", 1), ("authorization", 1), ("x-a", 2), ("origin", 1)] {
            assert_eq!(request.matches(&format!("\r\n{name}: ")).count(), lines, "{request}");
        }
        assert!(request.contains("authorization: bearer t\r\n"));
    }

    #[test]
    fn nothing_that_is_asked_for_can_break_out_of_its_line() {
        for (name, value) in [
            ("A", &b"b\r\nC: d"[..]),
            ("A", b"\0"),
            ("A: b", b"c"),
            ("", b"c"),
            ("Upgrade", b"x"),
            ("sec-websocket-KEY", b"x"),
            ("Content-Length", b"3"),
        ] {
            let problem = UpgradeRequest::new(RequestParts { headers: vec![(name, value)], ..parts() }).err().unwrap();
            assert!(!problem.contains('\n'), "{problem}");
        }
        for path in ["", "a", "/a b", "/a\r\nB: c", "/a#b", "/\u{e9}"] {
            assert!(UpgradeRequest::new(RequestParts { path_and_query: path, ..parts() }).is_err(), "{path:?}");
        }
        assert!(UpgradeRequest::new(RequestParts { subprotocols: &["a,b".to_owned()], ..parts() }).is_err());
        assert!(UpgradeRequest::new(RequestParts { origin: Some("a\nb"), ..parts() }).is_err());
    }

    #[test]
    fn an_alert_of_tls_reads_as_a_sentence() {
        let alert = "error:0A00045C:SSL routines:ssl3_read_bytes:tlsv13 alert certificate required:ssl/x.c:1:SSL alert";
        assert_eq!(
            broken(&io::Error::other(alert)),
            "the server ended the TLS session: tlsv13 alert certificate required"
        );
        assert_eq!(broken(&io::Error::from_raw_os_error(113)), "no route to host");
    }
}
