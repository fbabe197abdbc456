//! Why requests were not authenticated, each with a word for the metrics.

use crate::shared::counts::Counts;

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

/// All of them, each with its word, in the order of their numbers.
pub const ALL: [(AuthFailure, &str); 6] = [
    (AuthFailure::Missing, "missing"),
    (AuthFailure::Wrong, "wrong"),
    (AuthFailure::Malformed, "malformed"),
    (AuthFailure::Forbidden, "forbidden"),
    (AuthFailure::Unavailable, "unavailable"),
    (AuthFailure::LockedOut, "locked_out"),
];

/// How many requests failed for each cause.
#[derive(Debug, Default)]
pub struct AuthFailures(Counts<{ ALL.len() }>);

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

impl AuthFailures {
    /// Counts one.
    pub fn count(&self, failure: AuthFailure) {
        self.0.count(failure as usize);
    }

    /// How many there were for each cause, with its word.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        ALL.iter().map(|(_, word)| *word).zip(self.0.all())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_counted_by_itself() {
        let failures = AuthFailures::default();
        for (number, (failure, _)) in ALL.iter().enumerate() {
            assert_eq!(*failure as usize, number);
            (0..number).for_each(|_| failures.count(*failure));
        }
        assert!(failures.all().map(|(_, count)| count).eq(0..ALL.len() as u64));
    }
}
