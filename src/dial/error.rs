//! Why a dial failed, step by step, and how that reads for the person who can do something about it.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::response::ServerRefusal;
use crate::display::{self, Seconds};

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
        other_name: "use the name that it was issued for, or write that name as `server_name` in `tls`",
    };

    /// The names under `[[auth]]`.
    pub const AUTH: Hints = Hints { connect_timeout: "`answer_timeout`", ..Hints::CONFIGURATION };
}

/// Why these settings cannot be used for any dial; trying again does not help.
#[derive(Debug)]
pub enum SetupError {
    /// The URL, a header or the proxy cannot be used.
    Setting(String),
    /// A file is unreadable or holds something else.
    File {
        /// What was to be read, such as "certificates".
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: Cause,
    },
    /// The TLS library refuses.
    Tls(Cause),
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SetupError::Setting(text) => f.write_str(text),
            SetupError::File { what, path, problem } => {
                write!(f, "failed to read {what} from '{}': {}", path.display(), problem.with(None))
            }
            SetupError::Tls(problem) => write!(f, "failed to set up TLS: {}", problem.with(None)),
        }
    }
}

impl Error for SetupError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            SetupError::Setting(_) => None,
            SetupError::File { problem, .. } | SetupError::Tls(problem) => problem.source(),
        }
    }
}

/// What went wrong in which step. `Display` says it without hints; [`DialError::with`] adds them.
///
/// `url` is that of the server as it may be shown. Unless [`Dialer::shown_as`](super::Dialer::shown_as) says otherwise,
/// it holds no user info and no query: both can be secrets, and these errors go to logs.
#[derive(Debug)]
pub enum DialError {
    /// What was asked for this time makes no request: a path or a header with characters that it must not hold.
    Request {
        /// The server.
        url: String,
        /// What is wrong.
        problem: String,
    },
    /// No address was found for a host name, that of the server or of the proxy.
    Resolve {
        /// The name.
        host: String,
        /// What the resolver says.
        cause: Cause,
    },
    /// No address of the server or of the proxy accepted a connection.
    Connect {
        /// The server.
        url: String,
        /// The proxy, if the connection was to the proxy.
        proxy: Option<String>,
        /// What went wrong with the address that says most about it.
        cause: Cause,
    },
    /// The proxy cannot be used, or did not lead to the server.
    Proxy {
        /// The server.
        url: String,
        /// The proxy, without user info.
        proxy: String,
        /// What it did.
        cause: ProxyCause,
    },
    /// The TLS handshake failed, or the certificate is not trusted.
    Tls {
        /// The server.
        url: String,
        /// Which of the two, and why.
        cause: TlsCause,
    },
    /// The server ended the connection or said nothing before its answer was complete.
    Unanswered {
        /// The server.
        url: String,
        /// How it ended.
        cause: Cause,
    },
    /// The server answered with something else than 101.
    Refused {
        /// The server.
        url: String,
        /// What it said.
        refusal: Box<ServerRefusal>,
    },
    /// The server broke the protocol.
    Protocol {
        /// The server.
        url: String,
        /// What it did.
        problem: String,
    },
    /// The answer of an HTTP server cannot be used.
    Answer {
        /// The server.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The system denied us a thread, a descriptor or the like.
    System(Cause),
    /// Not a failure: the caller cancelled it.
    Cancelled,
}

/// Why a step failed, where more than one step can fail for it.
#[derive(Debug)]
pub enum Cause {
    /// What did not come within the time for the whole dial.
    TimedOut(&'static str, Duration),
    /// Anything else.
    Other {
        /// What happened, for a person.
        text: String,
        /// The error that the text is about, if it was one of the system or of a library.
        source: Option<Box<dyn Error + Send + Sync>>,
    },
}

impl Cause {
    /// What wsgate found by itself.
    pub(super) fn text(text: impl Into<String>) -> Cause {
        Cause::Other { text: text.into(), source: None }
    }

    /// An error, in other words than its own.
    pub(super) fn of(text: impl Into<String>, error: impl Into<Box<dyn Error + Send + Sync>>) -> Cause {
        Cause::Other { text: text.into(), source: Some(error.into()) }
    }

    /// An error of the system, in the words of the system.
    pub(super) fn io(error: io::Error) -> Cause {
        Cause::of(display::cause(&error), error)
    }

    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Cause::Other { source: Some(source), .. } => Some(&**source),
            Cause::Other { source: None, .. } | Cause::TimedOut(..) => None,
        }
    }

    fn with<'a>(&'a self, hints: Option<&'a Hints>) -> WithHints<'a, Cause> {
        WithHints { of: self, hints }
    }
}

/// What a proxy has to do with a failure.
#[derive(Debug)]
pub enum ProxyCause {
    /// Its URL cannot be used.
    Url(String),
    /// It ended the connection or said nothing.
    Unanswered(Cause),
    /// It answered with something that is no answer to CONNECT.
    Protocol(String),
    /// It refused to connect to the server.
    Refused(Box<ServerRefusal>),
}

/// Why a connection could not be secured.
#[derive(Debug)]
pub enum TlsCause {
    /// The certificate is not for the name that was asked for.
    OtherName {
        /// What the check said.
        why: Cause,
        /// What was asked for.
        name: String,
    },
    /// The certificate is not valid at this time.
    Time(Cause),
    /// The issuer of the certificate is not trusted, or something else is wrong with it.
    Untrusted(Cause),
    /// The handshake did not come to its end.
    Handshake(Cause),
}

impl DialError {
    /// Whether something did not come in time.
    pub fn is_timeout(&self) -> bool {
        matches!(self.cause(), Some(Cause::TimedOut(..)))
    }

    /// The error with hints, in the words of the place where the settings were written.
    pub fn with<'a>(&'a self, hints: &'a Hints) -> impl fmt::Display + 'a {
        WithHints { of: self, hints: Some(hints) }
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
            DialError::Protocol { .. } | DialError::Answer { .. } => "protocol",
            DialError::System(_) => "system",
            DialError::Cancelled => "stopped",
        }
    }

    fn cause(&self) -> Option<&Cause> {
        match self {
            DialError::Resolve { cause, .. }
            | DialError::Connect { cause, .. }
            | DialError::Proxy { cause: ProxyCause::Unanswered(cause), .. }
            | DialError::Unanswered { cause, .. }
            | DialError::System(cause) => Some(cause),
            DialError::Tls { cause, .. } => match cause {
                TlsCause::OtherName { why, .. } => Some(why),
                TlsCause::Time(why) | TlsCause::Untrusted(why) | TlsCause::Handshake(why) => Some(why),
            },
            DialError::Request { .. }
            | DialError::Proxy { .. }
            | DialError::Refused { .. }
            | DialError::Protocol { .. }
            | DialError::Answer { .. }
            | DialError::Cancelled => None,
        }
    }
}

impl Error for DialError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause().and_then(Cause::source)
    }
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        WithHints { of: self, hints: None }.fmt(f)
    }
}

/// An error, or a part of one, with hints if there are any.
struct WithHints<'a, T> {
    of: &'a T,
    hints: Option<&'a Hints>,
}

impl fmt::Display for WithHints<'_, DialError> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with = |cause| WithHints { of: cause, hints: self.hints };
        match self.of {
            DialError::Request { url, problem } => write!(f, "failed to build the request for '{url}': {problem}"),
            DialError::Resolve { host, cause } => write!(f, "failed to resolve '{host}': {}", with(cause)),
            DialError::Connect { url, proxy: None, cause } => {
                write!(f, "failed to connect to '{url}': {}", with(cause))
            }
            DialError::Connect { url, proxy: Some(proxy), cause } => {
                write!(f, "failed to connect to the proxy '{proxy}' for '{url}': {}", with(cause))
            }
            DialError::Proxy { url, proxy, cause } => {
                let cause = WithHints { of: cause, hints: self.hints };
                write!(f, "failed to reach '{url}' through the proxy '{proxy}': {cause}")
            }
            DialError::Tls { url, cause } => {
                let cause = WithHints { of: cause, hints: self.hints };
                write!(f, "failed to secure '{url}': {cause}")
            }
            DialError::Unanswered { url, cause } => write!(f, "failed to open '{url}': {}", with(cause)),
            DialError::Refused { url, refusal } => write!(f, "failed to open '{url}': the server {refusal}"),
            DialError::Protocol { url, problem } => write!(f, "failed to speak WebSocket with '{url}': {problem}"),
            DialError::Answer { url, problem } => write!(f, "failed to use the answer of '{url}': {problem}"),
            DialError::System(cause) => with(cause).fmt(f),
            DialError::Cancelled => f.write_str("stopped"),
        }
    }
}

impl fmt::Display for WithHints<'_, ProxyCause> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.of {
            ProxyCause::Url(problem) | ProxyCause::Protocol(problem) => f.write_str(problem),
            ProxyCause::Unanswered(cause) => cause.with(self.hints).fmt(f),
            ProxyCause::Refused(refusal) => write!(f, "the proxy {refusal}"),
        }
    }
}

impl fmt::Display for WithHints<'_, TlsCause> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.of {
            TlsCause::Handshake(cause) => return cause.with(self.hints).fmt(f),
            TlsCause::OtherName { why, .. } | TlsCause::Time(why) | TlsCause::Untrusted(why) => why.with(None),
        };
        write!(f, "the certificate is not trusted: {why}")?;
        match (self.of, self.hints) {
            (TlsCause::OtherName { name, .. }, None) => write!(f, " (it is not for '{name}')"),
            (TlsCause::OtherName { name, .. }, Some(hints)) => {
                write!(f, " (it is not for '{name}': {})", hints.other_name)
            }
            (TlsCause::Time(_), _) => f.write_str(" (renew it, or correct the clock of this machine)"),
            (TlsCause::Untrusted(_), Some(hints)) => write!(f, " ({})", hints.unknown_issuer),
            (TlsCause::Untrusted(_), None) | (TlsCause::Handshake(_), _) => Ok(()),
        }
    }
}

impl fmt::Display for WithHints<'_, Cause> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.of {
            Cause::TimedOut(what, time) => {
                write!(f, "{what} within {}", Seconds(*time))?;
                self.hints.map_or(Ok(()), |hints| write!(f, " (see {})", hints.connect_timeout))
            }
            Cause::Other { text, .. } => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let cause = TlsCause::OtherName { why: Cause::text("hostname mismatch"), name: "h".into() };
        let other = DialError::Tls { url: "wss://h/".into(), cause };
        let text = "failed to secure 'wss://h/': the certificate is not trusted: hostname mismatch (it is not for 'h'";
        assert_eq!(other.to_string(), format!("{text})"));
        let told = other.with(&Hints::CONFIGURATION).to_string();
        assert!(told.starts_with(&format!("{text}: use the name ")) && told.contains("`server_name`"), "{told}");
    }

    #[test]
    fn an_error_has_the_error_behind_it_as_its_source() {
        let refused = Cause::of("connection refused", io::Error::from(io::ErrorKind::ConnectionRefused));
        let error = DialError::Connect { url: "ws://h/".into(), proxy: None, cause: refused };
        let source = error.source().and_then(|source| source.downcast_ref::<io::Error>()).unwrap();
        assert_eq!(source.kind(), io::ErrorKind::ConnectionRefused);
        assert!(DialError::System(Cause::text("busy")).source().is_none());
    }
}
