//! Ids of clients: 64 bits from the operating system's random generator, written as 16 hex digits.

use std::fmt;
use std::str::FromStr;

/// The id of a client, which is also its session id. Nobody can guess one, and none is 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(u64);

impl Id {
    /// A new id; an error means that the system has no random generator.
    pub fn random() -> Result<Id, getrandom::Error> {
        loop {
            match getrandom::u64()? {
                0 => {}
                number => return Ok(Id(number)),
            }
        }
    }

    /// The id as a number, for keys that only take one.
    pub fn as_u64(self) -> u64 {
        self.0
    }
}

impl From<u64> for Id {
    fn from(number: u64) -> Id {
        Id(number)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Id {
    type Err = ();

    /// Exactly 16 lower-case hex digits, as [`Display`](fmt::Display) writes them.
    fn from_str(text: &str) -> Result<Id, ()> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() != 16 || !text.bytes().all(hex) {
            return Err(());
        }
        u64::from_str_radix(text, 16).map(Id).map_err(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_what_it_writes() {
        for number in [0, 1, 0xdead_beef, u64::MAX] {
            let id = Id::from(number);
            assert_eq!(id.to_string().parse(), Ok(id));
        }
    }

    #[test]
    fn only_sixteen_lower_case_hex_digits_are_an_id() {
        for text in ["", "0", "000000000000000g", "00000000000000000", "+00000000000000f", "ABCDEFABCDEFABCD"] {
            assert_eq!(text.parse::<Id>(), Err(()), "{text}");
        }
    }
}
