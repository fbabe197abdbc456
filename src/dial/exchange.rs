//! One request to an HTTP server and its answer, over a connection of its own that is dialled as those of links are.
//!
//! A library would bring its own sockets, its own TLS and threads that wait for nobody but their own timeouts. What is
//! needed here beside the dialler is a head to write, and a head and a body to read.

use std::fmt::Write as _;
use std::io::{self, Read, Write};

use super::attempt::Attempt;
use super::error::{Cause, DialError};
use super::response::{ReadHeadError, is_end, read_head};
use super::wire::Wire;
use crate::http::body::{AnswerBody, BodyError};
use crate::http::head::{ResponseHead, ResponseHeadError};
use crate::secret::Secret;

/// What a server is asked.
#[derive(Debug, Clone, Copy)]
pub enum HttpRequest<'a> {
    /// What is there.
    Get,
    /// What it makes of this JSON.
    PostJson(&'a [u8]),
    /// To take this. Another request may follow on the connection.
    Post(Posted<'a>),
    /// What this method makes of a body of this type, if there is one.
    Other(&'a str, Option<(&'a str, &'a [u8])>),
}

/// What is posted.
#[derive(Debug, Clone, Copy)]
pub struct Posted<'a> {
    /// The type of the body, unless the settings have one.
    pub content_type: &'a str,
    /// The Idempotency-Key: the same for what is posted again.
    pub key: &'a str,
    /// The whole body.
    pub body: &'a [u8],
}

/// A request of any kind.
#[derive(Debug, Clone, Copy)]
pub struct HttpCall<'a> {
    /// In upper case.
    pub method: &'a str,
    /// It begins with `/` and is percent-encoded.
    pub path_and_query: &'a str,
    /// The type of the body, and the body.
    pub body: Option<(&'a str, &'a [u8])>,
}

/// An answer, whatever it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpAnswer {
    /// From 200 to 999.
    pub status: u16,
    /// The whole body.
    pub body: Vec<u8>,
}

/// What all requests of a client have in common.
pub(super) struct RequestHead<'a> {
    pub(super) authority: &'a str,
    pub(super) path_and_query: &'a str,
    /// The value of Authorization, unless a header of that name is among `headers`.
    pub(super) authorization: Option<&'a str>,
    /// They replace those that would be sent otherwise.
    pub(super) headers: &'a [(String, Secret)],
}

/// A whole request, its body included.
pub(super) fn request(asked: HttpRequest<'_>, parts: &RequestHead<'_>) -> Vec<u8> {
    let has = |name: &str| parts.headers.iter().any(|(own, _)| own.eq_ignore_ascii_case(name));
    let (method, body, content_type, key) = match asked {
        HttpRequest::Get => ("GET", None, None, None),
        HttpRequest::PostJson(body) => ("POST", Some(body), Some("application/json"), None),
        HttpRequest::Post(Posted { content_type, key, body }) => ("POST", Some(body), Some(content_type), Some(key)),
        HttpRequest::Other(method, body) => (method, body.map(|(_, body)| body), body.map(|(of, _)| of), None),
    };
    let mut head = format!("{method} {} HTTP/1.1\r\n", parts.path_and_query);
    let mut add = |name: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = write!(head, "{name}: {value}\r\n");
    };
    let usual = [
        ("Host", Some(parts.authority)),
        ("User-Agent", Some(concat!("wsgate/", env!("CARGO_PKG_VERSION")))),
        ("Accept", Some("application/json")),
        ("Accept-Encoding", Some("identity")),
        ("Authorization", parts.authorization),
        ("Content-Type", content_type),
        ("Idempotency-Key", key),
    ];
    let usual = usual.into_iter().filter(|(name, _)| !has(name));
    usual.for_each(|(name, value)| value.into_iter().for_each(|value| add(name, value)));
    if key.is_none() {
        // One connection for each: none is found dead that was kept, and nothing has to be sent twice.
        add("Connection", "close");
    }
    body.iter().for_each(|body| add("Content-Length", &body.len().to_string()));
    parts.headers.iter().for_each(|(name, value)| add(name, value.expose()));
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body.unwrap_or_default());
    bytes
}

/// Sends a request and reads the head of its answer.
pub(super) fn exchange(request: &[u8], wire: &mut Wire, attempt: &Attempt<'_>) -> Result<ResponseHead, DialError> {
    // A server may answer before it has read all of it, and close.
    let sent = wire.write_all(request).and_then(|()| wire.flush());
    if let Some(error) = sent.err().filter(|error| !is_end(error)) {
        return Err(broken(wire, error, "the request was not taken", "", attempt));
    }
    read_head(wire).map_err(|error| match error {
        ReadHeadError::Wrong(error) => attempt.answer_unusable(match error {
            ResponseHeadError::NotHttp(start) if !wire.is_secure() && matches!(start[..], [0x15 | 0x16, 3, ..]) => {
                "the server speaks TLS on this port (use https://)".to_owned()
            }
            ResponseHeadError::NotHttp(_) => "it is not HTTP".to_owned(),
            ResponseHeadError::Malformed(problem) => format!("it is not HTTP: {problem}"),
            ResponseHeadError::TooLarge => "its head is too large".to_owned(),
        }),
        ReadHeadError::Silent(error) => {
            let hint = if wire.is_secure() { "" } else { " (if this is a TLS port, use https://)" };
            broken(wire, error, "no answer", hint, attempt)
        }
        ReadHeadError::Ended(error) => broken(wire, error, "no answer", "", attempt),
    })
}

/// The body behind a head, of at most `max` bytes.
pub(super) fn read_body(
    mut head: ResponseHead,
    max: usize,
    wire: &mut Wire,
    attempt: &Attempt<'_>,
) -> Result<Vec<u8>, DialError> {
    let unusable = |error: BodyError| attempt.answer_unusable(format!("its body cannot be read: {error}"));
    let mut came = std::mem::take(&mut head.behind);
    let mut body = AnswerBody::new(&head, max).map_err(unusable)?;
    let mut buffer = [0; 4096];
    loop {
        body.feed(&came).map_err(unusable)?;
        if body.is_complete() {
            break;
        }
        match wire.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => came = buffer[..count].to_vec(),
            Err(error) => return Err(broken(wire, error, "no complete answer", "", attempt)),
        }
    }
    body.finish().map_err(unusable)
}

/// A stream that has failed, or was given up because `late` did not come in time. `hint` goes on after that the server has
/// closed it.
fn broken(wire: &Wire, error: io::Error, late: &'static str, hint: &str, attempt: &Attempt<'_>) -> DialError {
    let other = match is_end(&error) {
        true => Cause::of(format!("the server closed the connection without a complete answer{hint}"), error),
        false => Cause::io(error),
    };
    attempt.broken(wire, late, other, |cause| attempt.unanswered(cause))
}
