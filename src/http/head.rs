//! The head of an HTTP answer: parsing it as it comes in, and the body that follows one which refuses.

/// The largest head that is read, and the most fields in it.
pub const HEAD_MAX: usize = 64 << 10;
const FIELDS_MAX: usize = 128;

/// An answer without its body.
#[derive(Debug)]
pub struct ResponseHead {
    /// From 100 to 999.
    pub status: u16,
    /// As sent; it may be empty.
    pub reason: String,
    /// The header fields, in order.
    pub fields: Vec<(String, Vec<u8>)>,
    /// What came after it.
    pub behind: Vec<u8>,
}

/// Why what has come cannot become a head.
#[derive(Debug)]
pub enum ResponseHeadError {
    /// It does not begin like HTTP; these are its first bytes.
    NotHttp(Vec<u8>),
    /// It began well.
    Malformed(httparse::Error),
    /// It is longer than [`HEAD_MAX`], or has too many fields.
    TooLarge,
}

/// Finds the head that counts in what a server sends piece by piece: it may send interim answers before that one (RFC
/// 9110 section 15.2).
#[derive(Debug, Default)]
pub struct ResponseHeadParser {
    /// What has come since the last interim answer.
    received: Vec<u8>,
    /// The length of all interim answers.
    interim: usize,
    /// How much there was when it was parsed last.
    parsed: usize,
    /// How much was looked through for an empty line.
    seen: usize,
}

impl ResponseHeadParser {
    /// Goes on with what has come next; gives the head once it is complete.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Option<ResponseHead>, ResponseHeadError> {
        self.received.extend_from_slice(bytes);
        loop {
            let start = &self.received[..self.received.len().min(5)];
            if !b"HTTP/".starts_with(start) {
                return Err(ResponseHeadError::NotHttp(start.to_vec()));
            }
            // However little a piece brings, each byte is parsed a few times at most.
            let is_due = self.received.len() >= (2 * self.parsed).min(HEAD_MAX)
                || has_empty_line(&self.received[self.seen.max(3) - 3..]);
            if is_due && let Some(head) = parse(&self.received)? {
                if !head.is_interim() {
                    return Ok(Some(head));
                }
                self.interim += self.received.len() - head.behind.len();
                if self.interim > HEAD_MAX {
                    return Err(ResponseHeadError::TooLarge);
                }
                self.received = head.behind;
                (self.parsed, self.seen) = (0, 0);
                continue;
            }
            if is_due {
                self.parsed = self.received.len();
            }
            self.seen = self.received.len();
            return Ok(None);
        }
    }

    /// Whether nothing has come, or nothing since the last interim answer.
    pub fn is_empty(&self) -> bool {
        self.received.is_empty()
    }

    /// Nothing more will come. An error says that what has come is wrong as well.
    pub fn finish(&self) -> Result<(), ResponseHeadError> {
        parse(&self.received).map(drop)
    }
}

impl ResponseHead {
    /// Whether another answer follows; none does behind a 101, which ends HTTP on the connection.
    fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }

    /// The values of a header, in order.
    pub fn values(&self, name: &str) -> impl Iterator<Item = String> {
        self.fields
            .iter()
            .filter(move |(own, _)| own.eq_ignore_ascii_case(name))
            .map(|(_, value)| String::from_utf8_lossy(value).trim().to_owned())
    }

    /// How long the body is, if the head says so.
    pub fn content_length(&self) -> Option<usize> {
        self.values("content-length").next().and_then(|value| value.parse().ok())
    }

    /// Whether the body comes in chunks.
    pub fn is_chunked(&self) -> bool {
        self.values("transfer-encoding").any(|value| value.to_ascii_lowercase().contains("chunked"))
    }
}

/// What a status usually means; empty for an unknown one.
pub fn usual_reason(status: u16) -> &'static str {
    let status = tungstenite::http::StatusCode::from_u16(status).ok();
    status.and_then(|status| status.canonical_reason()).unwrap_or_default()
}

/// The data of a chunked body (RFC 9112 section 7.1), as much of it as is there.
pub fn dechunk(mut body: &[u8]) -> Vec<u8> {
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

/// Whether a head may end in these bytes.
fn has_empty_line(bytes: &[u8]) -> bool {
    let at_line_end = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| &bytes[at + 1..]);
    at_line_end.into_iter().any(|rest| rest.starts_with(b"\n") || rest.starts_with(b"\r\n"))
}

/// The head, if it is all there.
fn parse(received: &[u8]) -> Result<Option<ResponseHead>, ResponseHeadError> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut answer = httparse::Response::new(&mut fields);
    match answer.parse(received) {
        Ok(httparse::Status::Complete(len)) => Ok(Some(ResponseHead {
            status: answer.code.unwrap_or_default(),
            reason: answer.reason.unwrap_or_default().to_owned(),
            fields: answer.headers.iter().map(|field| (field.name.to_owned(), field.value.to_vec())).collect(),
            behind: received[len..].to_vec(),
        })),
        Ok(httparse::Status::Partial) if received.len() < HEAD_MAX => Ok(None),
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => Err(ResponseHeadError::TooLarge),
        Err(error) => Err(ResponseHeadError::Malformed(error)),
    }
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
        use ResponseHeadError::{Malformed, TooLarge};
        let head = parse(b"HTTP/1.1 200 OK\r\nA: 1\r\na:  2 \r\n\r\nrest").unwrap().unwrap();
        assert_eq!((head.status, &head.behind[..]), (200, &b"rest"[..]));
        assert!(head.values("A").eq(["1", "2"]));
        assert!(parse(b"HTTP/1.1 200 OK\r\nA").unwrap().is_none());
        assert!(matches!(parse(b"HTTP/1.1 2x"), Err(Malformed(_))));
        assert!(matches!(parse(&[b"HTTP/1.1 200 O", &b"K".repeat(HEAD_MAX)[..]].concat()), Err(TooLarge)));
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: 1\r\n".repeat(FIELDS_MAX + 1));
        assert!(matches!(parse(many.as_bytes()), Err(TooLarge)));
    }

    #[test]
    fn interim_answers_are_passed_over_however_the_bytes_come() {
        let sent = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nA: 1\r\n\r\nHTTP/1.1 101 Go\r\n\r\nrest";
        for step in [1, 3, 20, sent.len()] {
            let mut parser = ResponseHeadParser::default();
            let mut pieces = sent.chunks(step);
            let head = pieces.find_map(|piece| parser.feed(piece).unwrap()).unwrap();
            let behind = [&head.behind[..], &pieces.flatten().copied().collect::<Vec<_>>()].concat();
            assert_eq!((head.status, &*head.reason, &behind[..]), (101, "Go", &b"rest"[..]), "{step}");
        }
        let mut parser = ResponseHeadParser::default();
        assert!(parser.feed(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap().is_none() && parser.is_empty());
        assert!(matches!(parser.feed(b"\x15\x03\x01"), Err(ResponseHeadError::NotHttp(_))));
    }
}
