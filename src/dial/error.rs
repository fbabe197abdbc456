//! Why a dial failed, step by step, and how that reads for whoever can do something about it.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::display::{Seconds, printable};
use crate::url;

/// How much of a refusal's body is shown.
const BODY_SHOWN_MAX: usize = 500;

/// How the settings that an error speaks of are called where they were written.
#[derive(Debug)]
pub struct Hints {
    /// The setting of the time for a whole dial.
    pub connect_timeout: &'static str,
    /// What to do about a certificate whose issuer is not trusted.
    pub unknown_issuer: &'static str,
    /// What to do about a certificate for another name.
    pub other_name: &'static str,
}

impl Hints {
    /// The names of the configuration file.
    pub const CONFIGURATION: Hints = Hints {
        connect_timeout: "`connect_timeout`",
        unknown_issuer: "trust its issuer with `ca` in `tls`",
        other_name: "use the name that it was issued for, or say it with `server_name` in `tls`",
    };
}

/// Why nobody can be dialled with these settings; trying again does not help.
#[derive(Debug)]
pub enum SetupError {
    /// The URL, a header or the proxy cannot be used.
    Setting(String),
    /// A file is unreadable or holds something else.
    File {
        /// What was to be read, such as "certificates".
        what: &'static str,
        /// From where.
        path: PathBuf,
        /// Why not.
        problem: String,
    },
    /// The TLS library refuses.
    Tls(String),
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SetupError::Setting(text) => f.write_str(text),
            SetupError::File { what, path, problem } => {
                write!(f, "failed to read {what} from '{}': {problem}", path.display())
            }
            SetupError::Tls(problem) => write!(f, "failed to set up TLS: {problem}"),
        }
    }
}

// The causes are texts for a person, so there is no source to give.
impl std::error::Error for SetupError {}

/// What went wrong in which step. `Display` says it without hints; [`DialError::with`] adds them.
///
/// Unless [`Dialer::shown_as`](super::Dialer::shown_as) says otherwise, no URL in it holds user info or a query: both
/// can be secrets, and these errors go to logs.
#[derive(Debug)]
pub enum DialError {
    /// What was asked for this time makes no request: a path or a header with characters that it must not hold.
    Request {
        /// Whom we would have dialled.
        url: String,
        /// What is wrong.
        problem: String,
    },
    /// A host name, that of the server or of the proxy, has no address that we could find.
    Resolve {
        /// The name.
        host: String,
        /// Why not.
        cause: Cause,
    },
    /// No address of the server or of the proxy let us in.
    Connect {
        /// Whom we wanted.
        url: String,
        /// The proxy, if that is who did not let us in.
        proxy: Option<String>,
        /// Why not.
        cause: Cause,
    },
    /// The proxy cannot be used, or did not lead us to the server.
    Proxy {
        /// Whom we wanted.
        url: String,
        /// The proxy, without user info.
        proxy: String,
        /// Why not.
        cause: ProxyCause,
    },
    /// The TLS handshake failed, or the certificate is not trusted.
    Tls {
        /// With whom.
        url: String,
        /// Why.
        cause: TlsCause,
    },
    /// The server ended the connection or said nothing before its answer was complete.
    Unanswered {
        /// Who.
        url: String,
        /// How.
        cause: Cause,
    },
    /// The server answered with something else than 101.
    Refused {
        /// Who.
        url: String,
        /// What it said.
        refusal: Box<Refusal>,
    },
    /// The server broke the protocol.
    Protocol {
        /// Who.
        url: String,
        /// What it did.
        problem: String,
    },
    /// The system denied us a thread, a descriptor or the like.
    System(String),
    /// Not a failure: the caller cancelled it.
    Stopped,
}

/// Why a step failed that others can be asked about too.
#[derive(Debug)]
pub enum Cause {
    /// What did not come within the time for the whole dial.
    TimedOut(&'static str, Duration),
    /// In words.
    Other(String),
}

/// What a proxy has to do with it.
#[derive(Debug)]
pub enum ProxyCause {
    /// Its URL is none that we can use.
    Url(String),
    /// It ended the connection or said nothing.
    Unanswered(Cause),
    /// It answered with something that is no answer to CONNECT.
    Protocol(String),
    /// It does not let us through.
    Refused(Box<Refusal>),
}

/// Why a connection could not be secured.
#[derive(Debug)]
pub enum TlsCause {
    /// The certificate is not for the name that we asked for.
    OtherName {
        /// What the check said.
        why: String,
        /// What we asked for.
        name: String,
    },
    /// The certificate is not valid at this time.
    Time(String),
    /// Whoever issued the certificate is not trusted, or something else is wrong with it.
    Untrusted(String),
    /// The handshake did not come to its end.
    Handshake(Cause),
}

/// An HTTP answer that is not the one we wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// From 100 to 999.
    pub status: u16,
    /// As sent, safe to show; the usual one of the status if none was sent.
    pub reason: String,
    /// Those that mean something to whoever asked us to dial: Retry-After, WWW-Authenticate, Location,
    /// Content-Type, Content-Encoding; `***` stands where they repeated a secret of ours.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The beginning of the body, at most 4 KiB, without chunks; `***` stands where it repeated a secret of ours.
    pub body: Vec<u8>,
    /// As the body, with nothing in it either that came from whoever asked us to dial: for logs.
    pub(super) told: Vec<u8>,
}

/// Anything shorter is a word that stands in many texts.
const SECRET_MIN: usize = 4;

impl Refusal {
    /// Takes out of the headers and the body what they repeat of the request: `ours` nobody gets to see, `theirs`
    /// no log.
    pub(super) fn hide(&mut self, ours: &[Cow<'_, [u8]>], theirs: &[Cow<'_, [u8]>]) {
        // The others say how long to wait and what the body is: a value of ours there is a word that both have.
        for (name, value) in &mut self.headers {
            if ["Location", "WWW-Authenticate"].iter().any(|known| name.eq_ignore_ascii_case(known)) {
                *value = without(value, ours);
            }
        }
        self.body = without(&self.body, ours);
        self.told = without(&self.body, theirs);
    }

    /// The first value of a header, safe to show.
    pub fn header(&self, name: &str) -> Option<String> {
        let (_, value) = self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name))?;
        Some(printable(&String::from_utf8_lossy(value), BODY_SHOWN_MAX))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "answered {}", self.status)?;
        if !self.reason.is_empty() {
            write!(f, " {}", self.reason)?;
        }
        if let Some(location) = self.header("location").filter(|_| (300..400).contains(&self.status)) {
            let location = url::fit_to_show(&location);
            // The text for people says the same, with all that stands in the new address.
            return write!(f, ", moved to '{location}' (redirects are not followed: use the new address)");
        }
        let body = String::from_utf8_lossy(&self.told);
        match body.trim() {
            "" => Ok(()),
            body => write!(f, ": {}", printable(body, BODY_SHOWN_MAX)),
        }
    }
}

/// A text without these secrets. Of `Bearer TOKEN` the token is one by itself.
fn without(text: &[u8], secrets: &[Cow<'_, [u8]>]) -> Vec<u8> {
    let mut text = text.to_vec();
    for secret in secrets {
        let token = secret.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
        for secret in [&secret[..], token].into_iter().filter(|secret| secret.len() >= SECRET_MIN) {
            let mut from = 0;
            while let Some(at) = text[from..].windows(secret.len()).position(|window| window == secret) {
                text.splice(from + at..from + at + secret.len(), *b"***");
                from += at + 3;
            }
        }
    }
    text
}

impl DialError {
    /// Whether it is about something that did not come in time.
    pub fn is_timeout(&self) -> bool {
        match self {
            DialError::Resolve { cause, .. }
            | DialError::Connect { cause, .. }
            | DialError::Unanswered { cause, .. } => {
                matches!(cause, Cause::TimedOut(..))
            }
            DialError::Proxy { cause: ProxyCause::Unanswered(cause), .. } => matches!(cause, Cause::TimedOut(..)),
            DialError::Tls { cause: TlsCause::Handshake(cause), .. } => matches!(cause, Cause::TimedOut(..)),
            _ => false,
        }
    }

    /// The error with hints in the words of whoever made the settings.
    pub fn with<'a>(&'a self, names: &'a Hints) -> impl fmt::Display + 'a {
        WithHints { error: self, names: Some(names) }
    }

    /// The step that failed, in one word, for a state or a counter.
    pub fn step(&self) -> &'static str {
        match self {
            DialError::Request { .. } => "request",
            DialError::Resolve { .. } => "resolve",
            DialError::Connect { proxy: None, .. } => "connect",
            DialError::Connect { proxy: Some(_), .. } | DialError::Proxy { .. } => "proxy",
            DialError::Tls { .. } => "tls",
            DialError::Unanswered { .. } => "unanswered",
            DialError::Refused { .. } => "refused",
            DialError::Protocol { .. } => "protocol",
            DialError::System(_) => "system",
            DialError::Stopped => "stopped",
        }
    }
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        WithHints { error: self, names: None }.fmt(f)
    }
}

// The causes are texts for a person, so there is no source to give.
impl std::error::Error for DialError {}

struct WithHints<'a> {
    error: &'a DialError,
    names: Option<&'a Hints>,
}

impl fmt::Display for WithHints<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cause = |cause| Reason { cause, names: self.names };
        match self.error {
            DialError::Request { url, problem } => write!(f, "failed to build the request for '{url}': {problem}"),
            DialError::Resolve { host, cause: why } => write!(f, "failed to resolve '{host}': {}", cause(why)),
            DialError::Connect { url, proxy: None, cause: why } => {
                write!(f, "failed to connect to '{url}': {}", cause(why))
            }
            DialError::Connect { url, proxy: Some(proxy), cause: why } => {
                write!(f, "failed to connect to the proxy '{proxy}' for '{url}': {}", cause(why))
            }
            DialError::Proxy { url, proxy, cause: why } => {
                write!(f, "failed to reach '{url}' through the proxy '{proxy}': ")?;
                match why {
                    ProxyCause::Url(problem) | ProxyCause::Protocol(problem) => f.write_str(problem),
                    ProxyCause::Unanswered(why) => cause(why).fmt(f),
                    ProxyCause::Refused(refusal) => write!(f, "the proxy {refusal}"),
                }
            }
            DialError::Tls { url, cause: why } => {
                write!(f, "failed to secure '{url}': ")?;
                match (why, self.names) {
                    (TlsCause::OtherName { why, name }, names) => {
                        write!(f, "the certificate is not trusted: {why} (it is not for '{name}'")?;
                        names.map_or(Ok(()), |names| write!(f, ": {}", names.other_name))?;
                        f.write_str(")")
                    }
                    (TlsCause::Time(why), _) => write!(
                        f,
                        "the certificate is not trusted: {why} (it has to be renewed, or the clock of this machine is \
                         wrong)"
                    ),
                    (TlsCause::Untrusted(why), names) => {
                        write!(f, "the certificate is not trusted: {why}")?;
                        names.map_or(Ok(()), |names| write!(f, " ({})", names.unknown_issuer))
                    }
                    (TlsCause::Handshake(why), _) => cause(why).fmt(f),
                }
            }
            DialError::Unanswered { url, cause: why } => write!(f, "failed to open '{url}': {}", cause(why)),
            DialError::Refused { url, refusal } => write!(f, "failed to open '{url}': the server {refusal}"),
            DialError::Protocol { url, problem } => write!(f, "failed to speak WebSocket with '{url}': {problem}"),
            DialError::System(text) => f.write_str(text),
            DialError::Stopped => f.write_str("stopped"),
        }
    }
}

struct Reason<'a> {
    cause: &'a Cause,
    names: Option<&'a Hints>,
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cause {
            Cause::TimedOut(what, time) => {
                write!(f, "{what} within {}", Seconds(*time))?;
                self.names.map_or(Ok(()), |names| write!(f, " (see {})", names.connect_timeout))
            }
            Cause::Other(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_repeats_no_secret_of_ours() {
        let body = b"no token 'a b c' of ?token=a%20b%20c&id=12 for Bearer abcdef".to_vec();
        let headers = vec![
            ("Location".to_owned(), b"https://h/dev/?token=a%20b%20c&id=12".to_vec()),
            ("Content-Type".to_owned(), b"text/a b c".to_vec()),
        ];
        let mut refusal = Refusal { status: 301, reason: "Moved".into(), headers, told: body.clone(), body };
        let ours = [&b"token=a%20b%20c&id=12"[..], b"a%20b%20c", b"a b c", b"12", b"Bearer abcdef"].map(Cow::from);
        refusal.hide(&ours, &[Cow::from(&b"of ?"[..])]);
        assert_eq!(refusal.headers[0].1, b"https://h/dev/?***");
        assert_eq!(refusal.headers[1].1, b"text/a b c");
        assert_eq!(refusal.body, b"no token '***' of ?*** for ***");
        assert_eq!(refusal.told, b"no token '***' ****** for ***");
    }

    #[test]
    fn an_error_has_the_hints_of_whoever_made_the_settings_or_none() {
        let late = DialError::Connect {
            url: "ws://h/".into(),
            proxy: None,
            cause: Cause::TimedOut("no answer", Duration::from_millis(1500)),
        };
        assert_eq!(late.to_string(), "failed to connect to 'ws://h/': no answer within 1500ms");
        let told = late.with(&Hints::CONFIGURATION).to_string();
        assert_eq!(told, "failed to connect to 'ws://h/': no answer within 1500ms (see `connect_timeout`)");
        let cause = TlsCause::OtherName { why: "hostname mismatch".into(), name: "h".into() };
        let other = DialError::Tls { url: "wss://h/".into(), cause };
        let text = "failed to secure 'wss://h/': the certificate is not trusted: hostname mismatch (it is not for 'h'";
        assert_eq!(other.to_string(), format!("{text})"));
        let told = other.with(&Hints::CONFIGURATION).to_string();
        assert!(told.starts_with(&format!("{text}: use the name ")) && told.contains("`server_name`"), "{told}");
    }
}
