//! The head of an HTTP answer, and the body of one that refuses.

use std::io::{self, Read};
use std::time::Duration;

use super::error::Refusal;
use super::wire::Wire;
use crate::display::printable;

/// The largest head that we read, and the most fields in it.
const HEAD_MAX: usize = 64 << 10;
const FIELDS_MAX: usize = 128;

/// How much of the body of a refusal we read, and how long we wait for it.
const BODY_MAX: usize = 4 << 10;
const BODY_WAIT: Duration = Duration::from_secs(1);

/// How much of a reason is kept.
const REASON_MAX: usize = 123;

/// The headers of a refusal that whoever asked us to dial can use.
const PASSED_ON: [&str; 5] = ["Retry-After", "WWW-Authenticate", "Location", "Content-Type", "Content-Encoding"];

/// An answer without its body.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: u16,
    reason: String,
    fields: Vec<(String, Vec<u8>)>,
    /// What came after it.
    pub(super) behind: Vec<u8>,
}

/// Why there is no head.
#[derive(Debug)]
pub(super) enum HeadError {
    /// What has come, the first bytes of it, cannot become HTTP.
    NotHttp(Vec<u8>),
    /// It began well.
    Malformed(httparse::Error),
    TooLarge,
    /// The stream ended or failed before anything had come.
    Silent(io::Error),
    /// The stream ended or failed later.
    Ended(io::Error),
}

/// Reads up to the end of the head that counts: a server may send interim answers before it (RFC 9110 section 15.2).
pub(super) fn read(wire: &mut Wire) -> Result<Head, HeadError> {
    let mut received = Vec::new();
    let (mut interim, mut parsed, mut seen) = (0, 0, 0);
    loop {
        let start = &received[..received.len().min(5)];
        if !b"HTTP/".starts_with(start) {
            return Err(HeadError::NotHttp(start.to_vec()));
        }
        // However little a read brings, each byte is parsed a few times at most.
        let is_due = received.len() >= (2 * parsed).min(HEAD_MAX) || has_empty_line(&received[seen.max(3) - 3..]);
        if is_due && let Some(head) = parse(&received)? {
            if !head.is_interim() {
                return Ok(head);
            }
            interim += received.len() - head.behind.len();
            if interim > HEAD_MAX {
                return Err(HeadError::TooLarge);
            }
            received = head.behind;
            (parsed, seen) = (0, 0);
            continue;
        }
        if is_due {
            parsed = received.len();
        }
        seen = received.len();
        let mut buffer = [0; 4096];
        let failed = if received.is_empty() { HeadError::Silent } else { HeadError::Ended };
        match wire.read(&mut buffer) {
            Ok(0) => {
                // What it has said may be wrong as well, which is the better reason.
                parse(&received)?;
                return Err(failed(io::ErrorKind::UnexpectedEof.into()));
            }
            Ok(count) => received.extend_from_slice(&buffer[..count]),
            Err(error) => return Err(failed(error)),
        }
    }
}

/// Whether a head may end in these bytes.
fn has_empty_line(bytes: &[u8]) -> bool {
    let at_line_end = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| &bytes[at + 1..]);
    at_line_end.into_iter().any(|rest| rest.starts_with(b"\n") || rest.starts_with(b"\r\n"))
}

/// The head, if it is all there.
fn parse(received: &[u8]) -> Result<Option<Head>, HeadError> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut answer = httparse::Response::new(&mut fields);
    match answer.parse(received) {
        Ok(httparse::Status::Complete(len)) => Ok(Some(Head {
            status: answer.code.unwrap_or_default(),
            reason: answer.reason.unwrap_or_default().to_owned(),
            fields: answer.headers.iter().map(|field| (field.name.to_owned(), field.value.to_vec())).collect(),
            behind: received[len..].to_vec(),
        })),
        Ok(httparse::Status::Partial) if received.len() < HEAD_MAX => Ok(None),
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => Err(HeadError::TooLarge),
        Err(error) => Err(HeadError::Malformed(error)),
    }
}

/// Whether an error says that the other side is gone, whatever the reason.
pub(super) fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

impl Head {
    /// Whether another answer follows; none does behind a 101, which ends HTTP on the connection.
    fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }

    /// The values of a header, in order.
    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = String> {
        self.fields
            .iter()
            .filter(move |(own, _)| own.eq_ignore_ascii_case(name))
            .map(|(_, value)| String::from_utf8_lossy(value).trim().to_owned())
    }

    /// Reads what the other side has to say about its refusal, as far as it is short and comes soon.
    pub(super) fn into_refusal(self, wire: &mut Wire) -> Refusal {
        let length = self.values("content-length").next().and_then(|value| value.parse::<usize>().ok());
        let chunked = self.values("transfer-encoding").any(|value| value.to_ascii_lowercase().contains("chunked"));
        let wanted = length.unwrap_or(BODY_MAX).min(BODY_MAX);
        wire.cap_deadline(BODY_WAIT);
        let mut body = self.behind;
        let mut buffer = [0; 1024];
        while body.len() < wanted && !(chunked && body.ends_with(b"0\r\n\r\n")) {
            match wire.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(count) => body.extend_from_slice(&buffer[..count]),
            }
        }
        if chunked {
            body = dechunk(&body);
        }
        body.truncate(wanted);
        let reason = match &self.reason[..] {
            "" => usual_reason(self.status).to_owned(),
            reason => printable(reason, REASON_MAX),
        };
        let headers = self
            .fields
            .into_iter()
            .filter(|(name, _)| PASSED_ON.iter().any(|known| name.eq_ignore_ascii_case(known)))
            .collect();
        Refusal { status: self.status, reason, headers, told: body.clone(), body }
    }
}

fn usual_reason(status: u16) -> &'static str {
    let status = tungstenite::http::StatusCode::from_u16(status).ok();
    status.and_then(|status| status.canonical_reason()).unwrap_or_default()
}

/// The data of a chunked body (RFC 9112 section 7.1), as much of it as is there.
fn dechunk(mut body: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    while let Ok(httparse::Status::Complete((start, size))) = httparse::parse_chunk_size(body) {
        let rest = &body[start..];
        let len = usize::try_from(size).unwrap_or(usize::MAX).min(rest.len());
        data.extend_from_slice(&rest[..len]);
        if len == 0 {
            break;
        }
        body = rest.get(len + 2..).unwrap_or_default();
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunked_body_is_joined_as_far_as_it_came() {
        assert_eq!(dechunk(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"), b"abcde");
        assert_eq!(dechunk(b"ffffffffffffffff\r\nabc"), b"abc");
        assert_eq!(dechunk(b"3\r\nabc"), b"abc");
        assert_eq!(dechunk(b"zz"), b"");
    }

    #[test]
    fn an_empty_line_is_seen_wherever_it_is() {
        for whole in [&b"x: y\r\n\r\nz"[..], b"\n\n", b"\r\n\r\n", b"a\n\r\n", b"a\r\n\n\n"] {
            assert!(has_empty_line(whole), "{whole:?}");
        }
        for part in [&b""[..], b"\n", b"x\r\n\r", b"\r\n", b"\n \n", b"\r\r\r"] {
            assert!(!has_empty_line(part), "{part:?}");
        }
    }

    #[test]
    fn a_head_is_complete_or_not_yet_or_wrong() {
        let head = parse(b"HTTP/1.1 200 OK\r\nA: 1\r\na:  2 \r\n\r\nrest").unwrap().unwrap();
        assert_eq!((head.status, &head.behind[..]), (200, &b"rest"[..]));
        assert!(head.values("A").eq(["1", "2"]));
        assert!(parse(b"HTTP/1.1 200 OK\r\nA").unwrap().is_none());
        assert!(matches!(parse(b"HTTP/1.1 2x"), Err(HeadError::Malformed(_))));
        assert!(matches!(parse(&[b"HTTP/1.1 200 O", &b"K".repeat(HEAD_MAX)[..]].concat()), Err(HeadError::TooLarge)));
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: 1\r\n".repeat(FIELDS_MAX + 1));
        assert!(matches!(parse(many.as_bytes()), Err(HeadError::TooLarge)));
    }
}
