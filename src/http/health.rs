//! Health checks of load balancers: which requests are one, and what they are answered.
//!
//! A check is judged less strictly than a request for a WebSocket. HAProxy's `option httpchk` speaks HTTP/1.0, and with
//! `HTTP/1.1` it sends no Host. The connection ends with the answer, so nothing that stands behind the head is ever read
//! as a request.

use std::time::SystemTime;

use super::refusal::{Body, http_date};
use super::request::{FIELDS_MAX, RequestTarget};

/// The methods that are answered.
const METHODS: &str = "GET, HEAD, OPTIONS";

/// A request at the path of health checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthCheck {
    /// Whether its method is one of the three.
    is_method_known: bool,
    body: Body,
}

impl HealthCheck {
    /// The check that this head is, if it is HTTP/1.0 or 1.1 and its path `is_path`.
    pub fn parse(head: &[u8], is_path: impl Fn(&str) -> bool) -> Option<HealthCheck> {
        // On the heap: a client thread's stack keeps every page that it ever touched.
        let mut fields = vec![httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut parsed = httparse::Request::new(&mut fields);
        // What the parser ends elsewhere, or not at all, is for the judge of requests to refuse.
        let Ok(httparse::Status::Complete(end)) = parsed.parse(head) else { return None };
        let RequestTarget { path, .. } = RequestTarget::parse(parsed.path.unwrap_or_default()).ok()?;
        if end != head.len() || !is_path(path) {
            return None;
        }
        let method = parsed.method.unwrap_or_default();
        let body = if method == "HEAD" { Body::LeftOut } else { Body::Whole };
        Some(HealthCheck { is_method_known: METHODS.split(", ").any(|known| known == method), body })
    }

    /// The whole HTTP answer at this time: 200 or 503 with these words as its body, 405 for another method.
    pub fn answer(self, is_ready: bool, words: &str, now: SystemTime) -> Vec<u8> {
        let (status, words) = match (self.is_method_known, is_ready) {
            (false, _) => ("405 Method Not Allowed", "a health check uses GET, HEAD or OPTIONS"),
            (true, true) => ("200 OK", words),
            (true, false) => ("503 Service Unavailable\r\nRetry-After: 1", words),
        };
        let mut answer = format!(
            "HTTP/1.1 {status}\r\nDate: {}\r\nConnection: close\r\nAllow: {METHODS}\r\nCache-Control: no-store\r\n\
             Content-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\r\n",
            http_date(now),
            words.len() + 1
        );
        if self.body == Body::Whole {
            answer.push_str(words);
            answer.push('\n');
        }
        answer.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_path(path: &str) -> bool {
        path == "/healthz"
    }

    /// The answer of a gateway that is ready, if it takes this for a check.
    fn answer(head: &str, is_ready: bool) -> Option<String> {
        let check = HealthCheck::parse(head.as_bytes(), is_path)?;
        let words = if is_ready { "ready" } else { "not ready: draining" };
        Some(String::from_utf8(check.answer(is_ready, words, SystemTime::UNIX_EPOCH)).unwrap())
    }

    #[test]
    fn a_check_is_answered_whole() {
        let head = "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nConnection: close\r\nAllow: GET, HEAD, OPTIONS\r\n\
                    Cache-Control: no-store\r\nContent-Type: text/plain; charset=utf-8\r\n";
        for (request, is_ready, status, length, body) in [
            ("GET /healthz HTTP/1.0\r\n\r\n", true, "200 OK", 6, "ready\n"),
            ("GET /healthz?from=lb HTTP/1.1\r\nHost: x\r\n\r\n", true, "200 OK", 6, "ready\n"),
            ("GET http://gate.example/healthz HTTP/1.1\r\n\r\n", true, "200 OK", 6, "ready\n"),
            ("OPTIONS /healthz HTTP/1.0\r\n\r\n", true, "200 OK", 6, "ready\n"),
            ("HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n", true, "200 OK", 6, ""),
            (
                "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
                false,
                "503 Service Unavailable\r\nRetry-After: 1",
                20,
                "not ready: draining\n",
            ),
            ("HEAD /healthz HTTP/1.0\r\n\r\n", false, "503 Service Unavailable\r\nRetry-After: 1", 20, ""),
            (
                "POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n",
                true,
                "405 Method Not Allowed",
                41,
                "a health check uses GET, HEAD or OPTIONS\n",
            ),
        ] {
            let expected = format!("HTTP/1.1 {status}\r\n{head}Content-Length: {length}\r\n\r\n{body}");
            assert_eq!(answer(request, is_ready), Some(expected), "{request}");
        }
    }

    #[test]
    fn anything_else_is_no_check() {
        for request in [
            "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET /healthz/ HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET /HEALTHZ HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET /healthz#x HTTP/1.1\r\nHost: x\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET /healthz HTTP/2.0\r\n\r\n",
            "GET /healthz HTTP/1.1\r\nHost: x\n\r\n\r\n",
            "GET /healthz HTTP/1.1\r\n: x\r\n\r\n",
            "nothing",
        ] {
            assert_eq!(answer(request, true), None, "{request}");
        }
    }
}
