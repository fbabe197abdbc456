//! How many connections were refused because of a limit, by cause.

use std::fmt;

use crate::shared::counts::{Worded, WordedCounts};

/// Why a connection was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The gateway has `max_connections`.
    Gateway,
    /// The process has more memory than `memory` allows.
    Memory,
    /// Its address has `max_address_connections`.
    AddressConnections,
    /// Its address has opened more than `address_rate` allows.
    AddressRate,
    /// Its address has sent more wrong credentials than `failed_credentials` allows.
    FailedCredentials,
    /// Its handshake was not done when `max_handshakes` had to make room for a newer one.
    Handshakes,
    /// Its identity has `max_identity_connections`, or they replace each other all the time.
    Identity,
    /// The system gave no thread, or no random number.
    System,
}

/// How many causes there are.
pub const CAUSES: usize = 8;

/// How many were refused for each cause.
#[derive(Debug, Default)]
pub struct Refused(WordedCounts<Cause, CAUSES>);

impl Worded<CAUSES> for Cause {
    /// The words stand in the log too.
    const ALL: [(Cause, &'static str); CAUSES] = [
        (Cause::Gateway, "max_connections"),
        (Cause::Memory, "memory"),
        (Cause::AddressConnections, "max_address_connections"),
        (Cause::AddressRate, "address_rate"),
        (Cause::FailedCredentials, "failed_credentials"),
        (Cause::Handshakes, "max_handshakes"),
        (Cause::Identity, "max_identity_connections"),
        (Cause::System, "the system"),
    ];

    fn number(self) -> usize {
        self as usize
    }
}

impl Refused {
    /// Counts one.
    pub fn count(&self, cause: Cause) {
        self.0.count(cause);
    }

    /// Whether nobody was refused.
    pub fn is_none(&self) -> bool {
        self.0.all().all(|(_, count)| count == 0)
    }

    /// How many were refused for each cause, with its name.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.all()
    }
}

/// For the log: `3 by max_connections, 4 by address_rate`.
impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.all().filter(|(_, count)| *count > 0).map(|(name, count)| format!("{count} by {name}"));
        f.write_str(&counts.collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l2_the_log_names_the_causes_that_there_were() {
        let refused = Refused::default();
        assert!(refused.is_none());
        for cause in [Cause::AddressRate, Cause::Gateway, Cause::AddressRate] {
            refused.count(cause);
        }
        assert_eq!(refused.to_string(), "1 by max_connections, 2 by address_rate");
    }
}
