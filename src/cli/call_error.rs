//! Why `send` or `listen` has no connection any more: what it says, and its exit code.

use std::fmt;

use tungstenite::protocol::CloseFrame;

use super::exit;
use crate::dial::{self, Hints, ProxyCause, ServerRefusal, SetupError};
use crate::display::printable;

/// How much of a close reason is shown; a Close frame has no room for more.
const REASON_SHOWN_MAX: usize = 123;

/// What the settings of a dial are called here.
const NAMES: Hints = Hints {
    connect_timeout: "'--connect-timeout'",
    unknown_issuer: "trust its issuer with '--ca FILE', or accept any certificate with '--insecure'",
    other_name: "use the name that it was issued for, write that name as '--server-name', or accept any with '--insecure'",
};

/// The Close frame of the peer.
#[derive(Debug)]
pub(super) struct Closed {
    /// 1005 when the frame had none (RFC 6455 section 7.1.5).
    code: u16,
    reason: String,
}

impl Closed {
    pub(super) fn code(&self) -> u16 {
        self.code
    }

    /// As it was sent.
    pub(super) fn reason(&self) -> &str {
        &self.reason
    }

    /// A normal ending: 1000, 1001, or a Close without a code, which is what most programs send when they just close.
    pub(super) fn is_normal(&self) -> bool {
        matches!(self.code, 1000 | 1001 | 1005)
    }

    fn exit_code(&self) -> u8 {
        match self.code {
            1002 | 1003 | 1007 => exit::PROTOCOL,
            1008 => exit::NO_PERMISSION,
            1009 => exit::DATA,
            1012 | 1013 => exit::TEMPORARY,
            _ => exit::UNAVAILABLE,
        }
    }
}

impl From<Option<CloseFrame>> for Closed {
    fn from(frame: Option<CloseFrame>) -> Closed {
        match frame {
            Some(frame) => Closed { code: frame.code.into(), reason: frame.reason.as_str().into() },
            None => Closed { code: 1005, reason: String::new() },
        }
    }
}

impl fmt::Display for Closed {
    /// `1008 "reason"`, safe for a terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            1005 => f.write_str("no code"),
            code if self.reason.is_empty() => write!(f, "code {code}"),
            code => write!(f, "code {code} \"{}\"", printable(&self.reason, REASON_SHOWN_MAX)),
        }
    }
}

/// Why a command has no connection, or has lost it; each has its exit code.
#[derive(Debug)]
pub(super) enum CallError {
    /// The command line is wrong; trying again does not help.
    Usage(String),
    /// The settings cannot be used, a file of them for one; trying again does not help.
    Setup(SetupError),
    /// A file that the command line names cannot be used; trying again does not help.
    File { text: String },
    /// The connection was not opened.
    Dial(dial::DialError),
    /// The server broke the protocol.
    Protocol { url: String, problem: String },
    /// An open connection broke.
    Lost { url: String, cause: String },
    /// The server closed with a code that is not a normal ending.
    Closed { url: String, closed: Closed },
    /// Not a failure: the caller cancelled it.
    Cancelled,
}

impl CallError {
    /// The exit code after sysexits.
    pub(super) fn exit_code(&self) -> u8 {
        use dial::DialError;
        match self {
            CallError::Usage(_) | CallError::Setup(SetupError::Setting(_)) => exit::USAGE,
            CallError::File { .. } | CallError::Setup(SetupError::File { .. }) => exit::NO_INPUT,
            CallError::Setup(SetupError::Tls(_)) => exit::SYSTEM,
            CallError::Dial(error) => match error {
                DialError::Request { .. } => exit::USAGE,
                DialError::Resolve { .. } => exit::NO_HOST,
                DialError::Refused { refusal, .. } => refused(refusal),
                DialError::Proxy { cause: ProxyCause::Refused(refusal), .. } => refused(refusal),
                DialError::Connect { .. }
                | DialError::Proxy { .. }
                | DialError::Tls { .. }
                | DialError::Unanswered { .. } => exit::UNAVAILABLE,
                DialError::Protocol { .. } | DialError::Answer { .. } => exit::PROTOCOL,
                DialError::System(_) => exit::SYSTEM,
                DialError::Cancelled => 0,
            },
            CallError::Protocol { .. } => exit::PROTOCOL,
            CallError::Lost { .. } => exit::IO,
            CallError::Closed { closed, .. } => closed.exit_code(),
            CallError::Cancelled => 0,
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Usage(text) | CallError::File { text } => f.write_str(text),
            CallError::Setup(error) => error.fmt(f),
            CallError::Dial(error) => {
                error.with(&NAMES).fmt(f)?;
                let refusal = match error {
                    dial::DialError::Refused { refusal, .. } => Some(refusal),
                    dial::DialError::Proxy { cause: ProxyCause::Refused(refusal), .. } => Some(refusal),
                    _ => None,
                };
                match refusal.and_then(|refusal| refusal.header("Retry-After")) {
                    Some(when) => write!(f, " (Retry-After: {when})"),
                    None => Ok(()),
                }
            }
            CallError::Protocol { url, problem } => write!(f, "failed to speak WebSocket with '{url}': {problem}"),
            CallError::Lost { url, cause } => write!(f, "failed to keep the connection to '{url}': {cause}"),
            CallError::Closed { url, closed } => {
                write!(f, "failed to stay connected to '{url}': closed by the server, {closed}")
            }
            CallError::Cancelled => f.write_str("stopped"),
        }
    }
}

impl std::error::Error for CallError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            CallError::Setup(error) => error.source(),
            CallError::Dial(error) => error.source(),
            _ => None,
        }
    }
}

/// An HTTP answer in the place of a connection: one that asks us to try again is like a Close with 1013.
fn refused(refusal: &ServerRefusal) -> u8 {
    match refusal.status {
        401 | 403 | 407 => exit::NO_PERMISSION,
        429 => exit::TEMPORARY,
        503 if refusal.header("Retry-After").is_some() => exit::TEMPORARY,
        _ => exit::UNAVAILABLE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_close_code_has_its_exit_code() {
        for (code, normal, exit_code) in
            [(1000, true, 69), (1001, true, 69), (1002, false, 76), (1008, false, 77), (1013, false, 75)]
        {
            let closed = Closed { code, reason: String::new() };
            assert_eq!((closed.is_normal(), closed.exit_code()), (normal, exit_code), "{code}");
        }
    }
}
