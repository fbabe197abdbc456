//! What a server or a proxy answers: reading its head, and of a refusal what it says about it.

use std::fmt;
use std::io::{self, Read};
use std::time::Duration;

use super::mask::Secrets;
use super::wire::Wire;
use crate::display::printable;
use crate::http::head::{ResponseHead, ResponseHeadError, ResponseHeadParser, dechunk, usual_reason};
use crate::url;

/// How much of the body of a refusal is kept. What follows is read only for the rest of a secret that begins before.
const BODY_MAX: usize = 4 << 10;
const BODY_READ_MAX: usize = 2 * BODY_MAX;

/// How long reading it may take.
const BODY_WAIT: Duration = Duration::from_secs(1);

/// How much of a reason is kept.
const REASON_MAX: usize = 123;

/// How much of a refusal's body is shown.
const BODY_SHOWN_MAX: usize = 500;

/// The headers of a refusal that are of use to the caller.
const PASSED_ON: [&str; 5] = ["Retry-After", "WWW-Authenticate", "Location", "Content-Type", "Content-Encoding"];

/// Why there is no head.
#[derive(Debug)]
pub(super) enum ReadHeadError {
    /// What has come is none.
    Wrong(ResponseHeadError),
    /// The stream ended or failed before anything had come.
    Silent(io::Error),
    /// The stream ended or failed later.
    Ended(io::Error),
}

impl From<ResponseHeadError> for ReadHeadError {
    fn from(error: ResponseHeadError) -> ReadHeadError {
        ReadHeadError::Wrong(error)
    }
}

/// Reads up to the end of the head that counts.
pub(super) fn read_head(wire: &mut Wire) -> Result<ResponseHead, ReadHeadError> {
    let mut parser = ResponseHeadParser::default();
    let mut buffer = [0; 4096];
    loop {
        let failed = if parser.is_empty() { ReadHeadError::Silent } else { ReadHeadError::Ended };
        match wire.read(&mut buffer) {
            Ok(0) => {
                // What it has said may be wrong as well, which is the better reason.
                parser.finish()?;
                return Err(failed(io::ErrorKind::UnexpectedEof.into()));
            }
            Ok(count) => {
                if let Some(head) = parser.feed(&buffer[..count])? {
                    return Ok(head);
                }
            }
            Err(error) => return Err(failed(error)),
        }
    }
}

/// Whether an error says that the other side has ended the connection.
pub(super) fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

/// An HTTP answer that is not the one we wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerRefusal {
    /// From 100 to 999.
    pub status: u16,
    /// As sent, safe to show; the usual one of the status if none was sent.
    pub reason: String,
    /// The headers that are of use to the caller: Retry-After, WWW-Authenticate, Location, Content-Type, Content-Encoding;
    /// `***` stands where they repeated a secret of ours.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The beginning of the body, at most 4 KiB, without chunks; `***` stands where it repeated a secret of ours. JSON is
    /// not broken by that: a number has nines instead.
    pub body: Vec<u8>,
    /// Reason and body, also without the secrets of the caller.
    for_logs: (String, Vec<u8>),
}

impl ServerRefusal {
    /// Reads what the other side says about its refusal, as far as it is short and comes soon.
    pub(super) fn read(head: ResponseHead, wire: &mut Wire) -> ServerRefusal {
        let is_chunked = head.is_chunked();
        let wanted = head.content_length().unwrap_or(BODY_READ_MAX).min(BODY_READ_MAX);
        let ResponseHead { status, reason, fields, behind: mut body } = head;
        wire.cap_deadline(BODY_WAIT);
        let mut buffer = [0; 1024];
        while body.len() < wanted && !(is_chunked && body.ends_with(b"0\r\n\r\n")) {
            match wire.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(count) => body.extend_from_slice(&buffer[..count]),
            }
        }
        if is_chunked {
            body = dechunk(&body);
        }
        body.truncate(wanted);
        let reason = if reason.is_empty() { usual_reason(status).to_owned() } else { reason };
        let is_passed_on = |name: &str| PASSED_ON.iter().any(|known| name.eq_ignore_ascii_case(known));
        let headers = fields.into_iter().filter(|(name, _)| is_passed_on(name)).collect();
        ServerRefusal { status, reason, headers, body, for_logs: Default::default() }
    }

    /// Takes out of it what it repeats of the request, and cuts what is too long: `ours` must never be shown, `theirs` came
    /// from the caller and must only be kept out of logs.
    pub(super) fn hide(&mut self, ours: &Secrets, theirs: &Secrets) {
        // The other headers say how long to wait and what the body is: a secret that stands there is a common word.
        for (name, value) in &mut self.headers {
            if ["Location", "WWW-Authenticate"].iter().any(|known| name.eq_ignore_ascii_case(known)) {
                *value = ours.hide(value, usize::MAX);
            }
        }
        let reason = ours.hide(self.reason.as_bytes(), usize::MAX);
        self.body = ours.hide(&self.body, BODY_MAX);
        let text = |reason: &[u8]| printable(&String::from_utf8_lossy(reason), REASON_MAX);
        self.reason = text(&reason);
        self.for_logs = (text(&theirs.hide(&reason, usize::MAX)), theirs.hide(&self.body, BODY_MAX));
    }

    /// The first value of a header, safe to show.
    pub fn header(&self, name: &str) -> Option<String> {
        let (_, value) = self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name))?;
        Some(printable(&String::from_utf8_lossy(value), BODY_SHOWN_MAX))
    }
}

impl fmt::Display for ServerRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "answered {}", self.status)?;
        let (reason, body) = &self.for_logs;
        if !reason.is_empty() {
            write!(f, " {reason}")?;
        }
        if let Some(location) = self.header("location").filter(|_| (300..400).contains(&self.status)) {
            let location = url::fit_to_show(&location);
            // The body usually repeats the new address, with its query.
            return write!(f, ", moved to '{location}' (redirects are not followed: use the new address)");
        }
        let body = String::from_utf8_lossy(body);
        match body.trim() {
            "" => Ok(()),
            body => write!(f, ": {}", printable(body, BODY_SHOWN_MAX)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b19_a_refusal_repeats_no_secret_of_ours() {
        let cut = "x".repeat(BODY_MAX - 6);
        let body = format!("no token 'a b c' of ?token=a%20b%20c&id=12 for Bearer abcdef of ?theirs {cut} abcdef")
            .into_bytes();
        let headers = vec![
            ("Location".to_owned(), b"https://h/dev/?token=a%20b%20c&id=12".to_vec()),
            ("Content-Type".to_owned(), b"text/a b c".to_vec()),
        ];
        let reason = "Moved for abcdef and ?theirs".into();
        let mut refusal = ServerRefusal { status: 301, reason, headers, body, for_logs: Default::default() };
        let (mut ours, mut theirs) = (Secrets::default(), Secrets::default());
        ours.add_query("/?token=a%20b%20c&id=12");
        ours.add_header("Authorization", b"Bearer abcdef");
        theirs.add(b"?theirs");
        refusal.hide(&ours, &theirs);
        assert_eq!(refusal.headers[0].1, b"https://h/dev/?***");
        assert_eq!(refusal.headers[1].1, b"text/a b c");
        assert_eq!(refusal.reason, "Moved for *** and ?theirs");
        assert_eq!(refusal.for_logs.0, "Moved for *** and ***");
        let text = String::from_utf8(refusal.body).unwrap();
        assert!(text.starts_with("no token '***' of ?*** for *** of ?theirs xxx"), "{text}");
        assert!(text.ends_with('x') && text.len() < BODY_MAX, "{text}");
        assert!(refusal.for_logs.1.starts_with(b"no token '***' of ?*** for *** of *** xxx"));
    }
}
