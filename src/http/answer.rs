//! The answers of the admin listener: how they look on the wire.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::SystemTime;

use serde::Serialize;
use serde_json::json;

use super::head::usual_reason;
use super::refusal::{Body, Refusal, http_date};

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// From 200 to 599.
    pub status: u16,
    /// What the body is; without a meaning where it is empty.
    pub content_type: &'static str,
    /// The header fields beside those that every answer has.
    pub fields: Vec<(&'static str, String)>,
    /// The body; a 204 has none.
    pub body: Cow<'static, [u8]>,
}

/// Whether another request may follow on the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Another one may follow.
    Next,
    /// The connection ends.
    End,
}

impl Answer {
    /// 200 with a text.
    pub fn text(text: impl Into<String>) -> Answer {
        let body = Cow::Owned(text.into().into_bytes());
        Answer { status: 200, content_type: "text/plain; charset=utf-8", fields: Vec::new(), body }
    }

    /// 200 with a value as JSON.
    pub fn json(value: &impl Serialize) -> Answer {
        let text = serde_json::to_vec(value).expect("values of the API have text keys and finite numbers");
        Answer { status: 200, content_type: "application/json", fields: Vec::new(), body: text.into() }
    }

    /// 200 with these bytes.
    pub fn bytes(content_type: &'static str, bytes: &'static [u8]) -> Answer {
        Answer { status: 200, content_type, fields: Vec::new(), body: Cow::Borrowed(bytes) }
    }

    /// 204.
    pub fn nothing() -> Answer {
        Answer { status: 204, content_type: "", fields: Vec::new(), body: Cow::Borrowed(&[]) }
    }

    /// Why not: JSON with a word for programs and a sentence for people.
    pub fn error(status: u16, code: &str, message: &str) -> Answer {
        Answer { status, ..Answer::json(&json!({ "error": { "code": code, "message": message } })) }
    }

    /// The same with another status.
    pub fn with_status(self, status: u16) -> Answer {
        Answer { status, ..self }
    }

    /// The same with another header field.
    pub fn with_field(mut self, name: &'static str, value: impl Into<String>) -> Answer {
        self.fields.push((name, value.into()));
        self
    }

    /// The whole answer at this time.
    pub fn to_http(&self, now: SystemTime, body: Body, then: Then) -> Vec<u8> {
        let (status, date) = (self.status, http_date(now));
        let connection = if then == Then::Next { "keep-alive" } else { "close" };
        let mut head = format!(
            "HTTP/1.1 {status} {}\r\nDate: {date}\r\nConnection: {connection}\r\nX-Content-Type-Options: nosniff\r\n",
            usual_reason(status)
        );
        if self.fields.iter().all(|(name, _)| *name != "Cache-Control") {
            head.push_str("Cache-Control: no-store\r\n");
        }
        for (name, value) in &self.fields {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if !self.body.is_empty() {
            let _ = write!(head, "Content-Type: {}\r\n", self.content_type);
        }
        // RFC 9110 section 8.6: a 204 has no length, and that of a 304 would be the one that a 200 has.
        if !matches!(status, 204 | 304) {
            let _ = write!(head, "Content-Length: {}\r\n", self.body.len());
        }
        head.push_str("\r\n");
        let mut answer = head.into_bytes();
        if body == Body::Whole {
            answer.extend_from_slice(&self.body);
        }
        answer
    }
}

impl From<&Refusal> for Answer {
    /// What a caller is told: without the advice, which is for the log.
    fn from(refusal: &Refusal) -> Answer {
        let mut answer = Answer::error(refusal.status, code(refusal.status), &refusal.reason);
        if matches!(refusal.status, 429 | 503) {
            answer = answer.with_field("Retry-After", refusal.retry_after.to_string());
        }
        for challenge in &refusal.challenges {
            answer = answer.with_field("WWW-Authenticate", *challenge);
        }
        answer
    }
}

/// The word for programs that a status has by itself.
fn code(status: u16) -> &'static str {
    match status {
        401 => "unauthorized",
        403 => "forbidden",
        404 => "notFound",
        405 => "methodNotAllowed",
        408 => "timeout",
        409 => "conflict",
        411 => "lengthRequired",
        413 => "tooLarge",
        415 => "unsupportedMediaType",
        429 => "tooManyFailures",
        503 => "unavailable",
        _ => "badRequest",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(answer: &Answer, body: Body, then: Then) -> String {
        String::from_utf8(answer.to_http(SystemTime::UNIX_EPOCH, body, then)).unwrap()
    }

    #[test]
    fn an_answer_is_written_whole_or_without_its_body() {
        let head = "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nConnection: keep-alive\r\n\
                    X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\nContent-Type: application/json\r\n\
                    Content-Length: 7\r\n\r\n";
        let answer = Answer::json(&json!({ "a": 1 }));
        assert_eq!(written(&answer, Body::Whole, Then::Next), format!("{head}{{\"a\":1}}"));
        assert_eq!(written(&answer, Body::LeftOut, Then::Next), head);
        let nothing = written(&Answer::nothing(), Body::Whole, Then::End);
        assert!(nothing.contains("204 No Content\r\n") && nothing.contains("Connection: close\r\n"), "{nothing}");
        assert!(!nothing.contains("\r\nContent-"), "{nothing}");
    }

    #[test]
    fn a_refusal_is_an_error_without_its_advice() {
        let refusal = Refusal::new(401, "who?").with_advice("secret".to_owned()).asking(vec!["Bearer"]);
        let answer = written(&Answer::from(&refusal), Body::Whole, Then::End);
        assert!(answer.contains("\r\nWWW-Authenticate: Bearer\r\n"), "{answer}");
        assert!(answer.ends_with(r#"{"error":{"code":"unauthorized","message":"who?"}}"#), "{answer}");
    }
}
