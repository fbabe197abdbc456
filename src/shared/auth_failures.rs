//! Why requests were not authenticated, each with a word for the metrics.

use crate::shared::counts::{Worded, WordedCounts};

/// Why a request to an endpoint with `auth` was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthFailure {
    /// It has no credential.
    Missing,
    /// None of its credentials is right.
    Wrong,
    /// A place of credentials is filled twice or unreadable.
    Malformed,
    /// Who it is may not connect there.
    Forbidden,
    /// Whether its credential is right could not be found out.
    Unavailable,
    /// Its address has sent too many wrong ones, and none of its is looked at.
    LockedOut,
}

/// How many of them there are.
const KINDS: usize = 6;

/// How many requests failed for each cause.
pub type AuthFailures = WordedCounts<AuthFailure, KINDS>;

impl Worded<KINDS> for AuthFailure {
    const ALL: [(AuthFailure, &'static str); KINDS] = [
        (AuthFailure::Missing, "missing"),
        (AuthFailure::Wrong, "wrong"),
        (AuthFailure::Malformed, "malformed"),
        (AuthFailure::Forbidden, "forbidden"),
        (AuthFailure::Unavailable, "unavailable"),
        (AuthFailure::LockedOut, "locked_out"),
    ];

    fn number(self) -> usize {
        self as usize
    }
}

impl AuthFailure {
    /// What an answer with this HTTP status means.
    pub fn of_status(status: u16) -> AuthFailure {
        match status {
            403 => AuthFailure::Forbidden,
            429 => AuthFailure::LockedOut,
            400 => AuthFailure::Malformed,
            500.. => AuthFailure::Unavailable,
            _ => AuthFailure::Wrong,
        }
    }
}
