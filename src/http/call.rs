//! A request that opens no WebSocket, as its head says it: its method, its target, its body's length, and what a browser
//! says of where it comes from.

use std::borrow::Cow;

use super::refusal::Refusal;
use super::request::{FIELDS_MAX, Fields, Intent, Request, RequestTarget, take_apart};
use crate::path::percent_decoded;

/// A request, borrowed from its head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call<'a> {
    /// As sent, in upper case as HTTP has it.
    pub method: &'a str,
    /// The target without the query, as sent.
    pub path: &'a str,
    /// The query, without its `?`.
    pub query: Option<&'a str>,
    /// The Host header, or what stands in its place in the target; HTTP/1.0 needs none.
    pub host: Option<&'a str>,
    /// The Origin header; browsers send one with what is no plain GET.
    pub origin: Option<&'a str>,
    /// The Sec-Fetch-Site header, which browsers send to addresses of this machine and over TLS.
    pub fetch_site: Option<&'a str>,
    /// What a browser asks before it sends a request of a page of another origin (Access-Control-Request-Headers): the
    /// names of the headers that the request would have. `None` if it does not ask.
    pub preflight: Option<&'a str>,
    /// The User-Agent header.
    pub user_agent: Option<&'a str>,
    /// The Content-Type header.
    pub content_type: Option<&'a str>,
    /// The Content-Encoding header: how the body is compressed.
    pub content_encoding: Option<&'a str>,
    /// The If-None-Match header: what the caller has already.
    pub if_none_match: Option<&'a str>,
    /// The bytes of its body.
    pub body_len: usize,
    /// Whether its head has a Content-Length.
    pub has_length: bool,
    /// Whether it waits for 100 before it sends its body (RFC 9110 section 10.1.1).
    pub expects_continue: bool,
    /// Whether another request may follow on its connection.
    pub keeps_alive: bool,
}

/// The method and the path that a head asks for, whatever else is wrong with it.
pub fn asked(head: &[u8]) -> Option<(&str, &str)> {
    let mut fields = vec![httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut fields);
    // A fault behind the first line leaves what that line says.
    let _ = parsed.parse(head);
    let RequestTarget { path, .. } = RequestTarget::parse(parsed.path?).ok()?;
    Some((parsed.method?, path))
}

/// Reads a request from its head. HTTP/1.0 is good too: health checks speak it. `body_max` is the longest body, in bytes.
///
/// # Errors
/// 400 for what is no HTTP, for a host or a length that is there twice, and for a body in both forms; 411 for a body
/// in chunks, 413 for one that is too long, 417 for another expectation than 100, 431 for too many fields, 505 for
/// another version of HTTP.
pub fn parse(head: &[u8], body_max: usize) -> Result<Call<'_>, Refusal> {
    // The parser takes LF alone for the end of a line; then another reader may see other lines, and another end.
    if head.iter().zip(head.iter().skip(1)).any(|(before, byte)| *byte == b'\n' && *before != b'\r') {
        return Err(Refusal::new(400, "the lines of a request end in CR LF"));
    }
    let mut fields = vec![httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut fields);
    take_apart(&mut parsed, head, |error| match error {
        httparse::Error::Version => Refusal::new(505, "only HTTP/1.1 and HTTP/1.0 are supported"),
        error => Refusal::new(400, format!("not a valid HTTP request: {error}")),
    })?;
    let is_1_1 = parsed.version == Some(1);
    let target = parsed.path.unwrap_or_default();
    let method = parsed.method.unwrap_or_default();
    // RFC 9112 section 3.2.4: OPTIONS may ask about the whole server.
    let RequestTarget { authority, path } = match (method, target) {
        ("OPTIONS", "*") => RequestTarget { authority: None, path: "*" },
        _ => RequestTarget::parse(target)?,
    };
    let fields = Fields(parsed.headers);
    let host = fields.once("Host")?;
    if is_1_1 && host.is_none() {
        return Err(Refusal::new(400, "the Host header is missing"));
    }
    let expects_continue = match fields.once("Expect")? {
        None => false,
        Some(expected) if expected.eq_ignore_ascii_case("100-continue") => is_1_1,
        Some(_) => return Err(Refusal::new(417, "no other expectation than 100-continue is known")),
    };
    let length = body_len(&fields, body_max)?;
    let is_preflight = fields.all("Access-Control-Request-Method").next().is_some();
    Ok(Call {
        method,
        path,
        query: target.split_once('?').map(|(_, query)| query),
        host: authority.or(host),
        origin: fields.once("Origin")?,
        fetch_site: fields.once("Sec-Fetch-Site")?,
        preflight: is_preflight.then(|| fields.first("Access-Control-Request-Headers").unwrap_or_default()),
        user_agent: fields.first("User-Agent"),
        content_type: fields.once("Content-Type")?,
        content_encoding: fields.once("Content-Encoding")?,
        if_none_match: fields.first("If-None-Match"),
        body_len: length.unwrap_or(0),
        has_length: length.is_some(),
        expects_continue,
        keeps_alive: is_1_1 && !fields.has_token("Connection", "close"),
    })
}

/// How long the body is, if the head says so. Lengths that can be understood in two ways are how requests are smuggled (RFC 9112 section 6.3).
fn body_len(fields: &Fields<'_, '_>, body_max: usize) -> Result<Option<usize>, Refusal> {
    let length = fields.once("Content-Length")?;
    if fields.all("Transfer-Encoding").next().is_some() {
        return Err(match length {
            Some(_) => Refusal::new(400, "both Content-Length and Transfer-Encoding"),
            None => Refusal::new(411, "a body needs a Content-Length, chunks are not taken"),
        });
    }
    let Some(length) = length else { return Ok(None) };
    // A number that is too large for us is a number; with a sign it is none.
    let is_number = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    match length.parse::<usize>() {
        _ if !is_number => Err(Refusal::new(400, "the Content-Length header is no number")),
        Ok(length) if length <= body_max => Ok(Some(length)),
        _ => Err(Refusal::new(413, format!("a body has at most {body_max} bytes"))),
    }
}

impl<'a> Call<'a> {
    /// The same as a request that opens nothing, in which credentials are looked for.
    pub fn as_request(&self) -> Request<'a> {
        Request {
            path: self.path,
            query: self.query,
            host: self.host.unwrap_or_default(),
            origin: self.origin,
            user_agent: self.user_agent,
            subprotocols: Vec::new(),
            intent: Intent::Plain,
        }
    }

    /// The parameters of the query, decoded, in order.
    ///
    /// # Errors
    /// 400 for one that is no UTF-8.
    pub fn parameters(&self) -> Result<Vec<(String, String)>, Refusal> {
        let parts = self.query.unwrap_or_default().split('&').filter(|part| !part.is_empty());
        parts
            .map(|part| {
                let (name, value) = part.split_once('=').unwrap_or((part, ""));
                Ok((form_decoded(name)?, form_decoded(value)?))
            })
            .collect()
    }
}

/// A part of a query as forms write it: with `+` for a blank.
fn form_decoded(text: &str) -> Result<String, Refusal> {
    let text = if text.contains('+') { Cow::Owned(text.replace('+', " ")) } else { Cow::Borrowed(text) };
    let no_text = || Refusal::new(400, "the query is not percent-encoded UTF-8");
    percent_decoded(&text).and_then(|bytes| String::from_utf8(bytes.into_owned()).ok()).ok_or_else(no_text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(head: &[u8]) -> Result<Call<'_>, Refusal> {
        super::parse(head, 1 << 20)
    }

    #[test]
    fn a_request_is_understood() {
        let head = "POST /api/v1/publish/a%20b?x=1+2&y&%7A=%C3%BC HTTP/1.1\r\nHost: h:1\r\nOrigin: http://h:1\r\n\
                    Content-Length: 5\r\nContent-Type: text/plain\r\nSec-Fetch-Site: none\r\nExpect: 100-continue\r\n\r\n";
        let call = parse(head.as_bytes()).unwrap();
        assert_eq!((call.method, call.path, call.host), ("POST", "/api/v1/publish/a%20b", Some("h:1")));
        assert_eq!((call.body_len, call.content_type, call.origin), (5, Some("text/plain"), Some("http://h:1")));
        assert!(call.expects_continue && call.keeps_alive && call.fetch_site == Some("none"));
        let parameters = call.parameters().unwrap();
        let parameters: Vec<_> = parameters.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(parameters, [("x", "1 2"), ("y", ""), ("z", "ü")]);
    }

    #[test]
    fn what_is_asked_for_is_known_although_the_rest_is_wrong() {
        for (head, expected) in [
            ("PUT /a?b HTTP/1.1\r\nHost: h\r\n\r\n", Some(("PUT", "/a"))),
            ("POST http://h/a HTTP/1.0\r\n\r\n", Some(("POST", "/a"))),
            ("POST /a HTTP/1.1\r\nHost h\r\n\r\n", Some(("POST", "/a"))),
            ("POST /a HTTP/1.1\r\nA: b\r\n c\r\n\r\n", Some(("POST", "/a"))),
            ("POST * HTTP/1.1\r\n\r\n", None),
            ("nonsense", None),
        ] {
            assert_eq!(asked(head.as_bytes()), expected, "{head}");
        }
    }

    #[test]
    fn http_1_0_is_one_request_and_needs_no_host() {
        for head in ["GET /healthz HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"] {
            assert!(!parse(head.as_bytes()).unwrap().keeps_alive, "{head}");
        }
        let call = parse(b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        assert_eq!((call.path, call.keeps_alive), ("*", true));
        let whole = parse(b"GET http://there:1/x HTTP/1.1\r\nHost: here\r\n\r\n").unwrap();
        assert_eq!((whole.host, whole.path), (Some("there:1"), "/x"));
    }

    #[test]
    fn each_fault_has_its_status() {
        for (line, status) in [
            ("Content-Length: 5\r\nContent-Length: 5\r\n", 400),
            ("Content-Length: 5, 5\r\n", 400),
            ("Content-Length: +5\r\n", 400),
            ("Content-Length: -1\r\n", 400),
            ("Content-Length: \r\n", 400),
            ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400),
            ("Transfer-Encoding: chunked\r\n", 411),
            ("", 0),
            ("Content-Length: 1048576\r\n", 0),
            ("Content-Length: 1048577\r\n", 413),
            ("Content-Length: 99999999999999999999999\r\n", 413),
            ("Content-Length: 0\r\nExpect: 200-ok\r\n", 417),
            ("Content-Length: 0\r\nHost: again\r\n", 400),
            ("Content-Length: 0\n\r\n", 400),
            ("Content-Length: 0\nA: b\r\n", 400),
        ] {
            let head = format!("POST / HTTP/1.1\r\nHost: h\r\n{line}\r\n");
            assert_eq!(parse(head.as_bytes()).map_or_else(|refusal| refusal.status, |_| 0), status, "{line:?}");
        }
        for (head, status) in [
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505),
            ("GET * HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            ("GET /#x HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            ("nonsense\r\n\r\n", 400),
        ] {
            assert_eq!(parse(head.as_bytes()).unwrap_err().status, status, "{head}");
        }
        assert!(parse(b"GET /?a=%ff HTTP/1.1\r\nHost: h\r\n\r\n").unwrap().parameters().is_err());
    }
}
