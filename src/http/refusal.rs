//! The answers that end a connection before it is a WebSocket, wsgate's own and those of a relay's server: how they look
//! on the wire.

use std::fmt;
use std::time::SystemTime;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

use super::head::usual_reason;

/// An answer of wsgate that ends the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// An HTTP status of 400 or more.
    pub status: u16,
    /// One sentence, which is the body.
    pub reason: String,
    /// What the operator can do about it, for the log alone: it may name what is configured. It may be empty.
    pub advice: String,
    /// What a 401 asks for: a WWW-Authenticate header for each.
    pub challenges: Vec<&'static str>,
    /// After how many seconds it is worth to come again, for a 429 or 503. Default 1.
    pub retry_after: u64,
}

/// Whether an answer has its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// As usual.
    Whole,
    /// As HEAD demands; the head is the same (RFC 9110 section 9.3.2).
    LeftOut,
}

impl Refusal {
    /// A refusal with this status and body.
    pub fn new(status: u16, reason: impl Into<String>) -> Refusal {
        Refusal { status, reason: reason.into(), advice: String::new(), challenges: Vec::new(), retry_after: 1 }
    }

    /// The same, with advice for the log.
    pub fn with_advice(self, advice: String) -> Refusal {
        Refusal { advice, ..self }
    }

    /// A 401 that asks for credentials of these kinds.
    pub fn asking(self, challenges: Vec<&'static str>) -> Refusal {
        Refusal { challenges, ..self }
    }

    /// A 429 or 503 that says after how many seconds it is worth to come again.
    pub fn with_retry_after(self, seconds: u64) -> Refusal {
        Refusal { retry_after: seconds, ..self }
    }

    /// A line for the peer.
    pub fn body(&self) -> String {
        let more = if self.advice.is_empty() { "" } else { " (the log of wsgate says what to do)" };
        format!("{}{more}\n", self.reason)
    }

    /// The whole HTTP answer at this time.
    pub fn to_http(&self, now: SystemTime, body: Body) -> Vec<u8> {
        let phrase = usual_reason(self.status);
        let extra = match self.status {
            405 => "Allow: GET\r\n".to_owned(),
            426 => "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n".to_owned(),
            429 | 503 => format!("Retry-After: {}\r\n", self.retry_after),
            _ => String::new(),
        };
        let challenges: String =
            self.challenges.iter().map(|challenge| format!("WWW-Authenticate: {challenge}\r\n")).collect();
        // RFC 9110 section 7.8: an Upgrade field goes with the connection option of that name.
        let connection = if self.status == 426 { "upgrade, close" } else { "close" };
        let (status, text) = (self.status, self.body());
        let length = text.len();
        let mut answer = format!(
            "HTTP/1.1 {status} {phrase}\r\nDate: {}\r\nConnection: {connection}\r\n{extra}{challenges}\
             Content-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\r\n",
            http_date(now)
        );
        if body == Body::Whole {
            answer.push_str(&text);
        }
        answer.into_bytes()
    }
}

/// For the log.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refusal { status, reason, advice, .. } = self;
        write!(f, "refused with {status}: {reason}")?;
        if advice.is_empty() { Ok(()) } else { write!(f, ": {advice}") }
    }
}

/// A server's refusal as an answer of our own, on a connection that ends with it.
pub fn pass_on(status: u16, reason: &str, headers: &[(String, Vec<u8>)], body: &[u8], now: SystemTime) -> Vec<u8> {
    let date = http_date(now);
    let mut answer = format!("HTTP/1.1 {status} {reason}\r\nDate: {date}\r\nConnection: close\r\n").into_bytes();
    for (name, value) in headers {
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            answer.extend_from_slice(part);
        }
    }
    answer.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
    answer.extend_from_slice(body);
    answer
}

/// A time as the Date header has it (RFC 9110 section 5.6.7). One beyond the year 9999 is that of 1970.
pub(super) fn http_date(at: SystemTime) -> String {
    let at = Timestamp::try_from(at).unwrap_or_default();
    DateTimePrinter::new().timestamp_to_rfc9110_string(&at).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_a_server_is_passed_on_whole() {
        let headers = [("Retry-After".to_owned(), b"7".to_vec()), ("Content-Type".to_owned(), b"text/plain".to_vec())];
        assert_eq!(
            String::from_utf8(pass_on(503, "Later", &headers, b"busy", SystemTime::UNIX_EPOCH)).unwrap(),
            "HTTP/1.1 503 Later\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nConnection: close\r\nRetry-After: 7\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nbusy"
        );
    }

    #[test]
    fn a_401_asks_for_what_would_be_right() {
        let refusal = Refusal::new(401, "why").asking(vec!["Bearer realm=\"x\"", "Basic realm=\"x\""]);
        let answer = String::from_utf8(refusal.to_http(SystemTime::UNIX_EPOCH, Body::Whole)).unwrap();
        assert!(answer.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "{answer}");
        let asked = "\r\nWWW-Authenticate: Bearer realm=\"x\"\r\nWWW-Authenticate: Basic realm=\"x\"\r\n";
        assert!(answer.contains(asked), "{answer}");
    }

    #[test]
    fn a_refusal_is_a_whole_http_answer() {
        let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(784_111_777);
        let answer = |body| String::from_utf8(Refusal::new(426, "why").to_http(at, body)).unwrap();
        let head = "HTTP/1.1 426 Upgrade Required\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nConnection: upgrade, close\r\n\
                    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nContent-Type: text/plain; charset=utf-8\r\n\
                    Content-Length: 4\r\n\r\n";
        assert_eq!(answer(Body::Whole), format!("{head}why\n"));
        assert_eq!(answer(Body::LeftOut), head);
    }
}
