//! What the steps of one dial have in common: its time, what cancels it, and how they build their errors.

use std::io;
use std::time::{Duration, Instant};

use super::error::{Cause, DialError, ProxyCause, TlsCause};
use super::response::ServerRefusal;
use super::wire::{CancelToken, WaitEnd, Wire};
use crate::url::Protocol;

/// One dial. Each step gets it, waits no longer than it allows, and gives back a whole [`DialError`].
pub(super) struct Attempt<'a> {
    /// What errors call the server.
    url: String,
    /// The time for all steps together.
    time: Duration,
    protocol: Protocol,
    pub(super) deadline: Instant,
    pub(super) cancel: &'a CancelToken,
}

impl<'a> Attempt<'a> {
    /// It begins now.
    pub(super) fn new(url: String, time: Duration, cancel: &'a CancelToken) -> Attempt<'a> {
        Attempt { url, time, protocol: Protocol::WebSocket, deadline: Instant::now() + time, cancel }
    }

    /// What is spoken is another protocol.
    pub(super) fn speaking(self, protocol: Protocol) -> Attempt<'a> {
        Attempt { protocol, ..self }
    }

    /// The scheme of a URL without TLS.
    pub(super) fn plain_scheme(&self) -> &'static str {
        self.protocol.scheme(false)
    }

    /// `what` did not come before the deadline.
    pub(super) fn timed_out(&self, what: &'static str) -> Cause {
        Cause::TimedOut(what, self.time)
    }

    /// Why a read or a write of the wire failed: the caller cancelled it, or a failure of the step, as `failed` has it.
    /// Its cause is that `late` did not come in time, or else `other`.
    pub(super) fn broken(
        &self,
        wire: &Wire,
        late: &'static str,
        other: Cause,
        failed: impl FnOnce(Cause) -> DialError,
    ) -> DialError {
        match wire.wait_end() {
            Some(WaitEnd::Cancelled) => DialError::Cancelled,
            Some(WaitEnd::Deadline) => failed(self.timed_out(late)),
            None => failed(other),
        }
    }

    pub(super) fn bad_request(&self, problem: String) -> DialError {
        DialError::Request { url: self.url.clone(), problem }
    }

    pub(super) fn not_connected(&self, proxy: Option<&str>, cause: Cause) -> DialError {
        DialError::Connect { url: self.url.clone(), proxy: proxy.map(str::to_owned), cause }
    }

    pub(super) fn no_way_through(&self, proxy: &str, cause: ProxyCause) -> DialError {
        DialError::Proxy { url: self.url.clone(), proxy: proxy.to_owned(), cause }
    }

    pub(super) fn not_secured(&self, cause: TlsCause) -> DialError {
        DialError::Tls { url: self.url.clone(), cause }
    }

    pub(super) fn unanswered(&self, cause: Cause) -> DialError {
        DialError::Unanswered { url: self.url.clone(), cause }
    }

    pub(super) fn protocol_broken(&self, problem: impl Into<String>) -> DialError {
        DialError::Protocol { url: self.url.clone(), problem: problem.into() }
    }

    pub(super) fn answer_unusable(&self, problem: impl Into<String>) -> DialError {
        DialError::Answer { url: self.url.clone(), problem: problem.into() }
    }

    pub(super) fn refused(&self, refusal: ServerRefusal) -> DialError {
        DialError::Refused { url: self.url.clone(), refusal: Box::new(refusal) }
    }
}

/// The system denied something that the lookup of `host` needs.
pub(super) fn lookup_not_started(host: &str, error: io::Error) -> DialError {
    let text = format!("failed to start the lookup of '{host}': {}", crate::display::cause(&error));
    DialError::System(Cause::of(text, error))
}
