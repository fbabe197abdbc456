//! Ids of clients: 48 bits from the operating system's random generator and 16 that all ids of a gateway have in common,
//! written as 16 hex digits.

use std::fmt;
use std::str::FromStr;

/// What the ids of one gateway end with, by which it can tell its own from those of other gateways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(u16);

impl Mark {
    /// The mark of a gateway of this name, the same after each start. One in 65,536 pairs of names has the same mark.
    pub fn of(name: &str) -> Mark {
        // FNV-1a, folded: unlike the hash of the standard library it is the same in every version.
        let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        Mark((hash >> 16) as u16 ^ hash as u16)
    }
}

/// The id of a client, which is also its session id. Nobody can guess one, and none is 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(u64);

impl Id {
    /// A new id of the gateway with this mark; an error means that the system has no random generator.
    pub fn random(Mark(mark): Mark) -> Result<Id, getrandom::Error> {
        loop {
            match getrandom::u64()? >> 16 {
                0 => {}
                number => return Ok(Id(number << 16 | u64::from(mark))),
            }
        }
    }

    /// The mark of the gateway whose id it is.
    pub fn mark(self) -> Mark {
        Mark(self.0 as u16)
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
    fn b18_the_ids_of_a_gateway_have_its_mark() {
        let (one, other) = (Mark::of("one"), Mark::of("other"));
        assert_ne!(one, other);
        // It stays what it is from version to version.
        assert_eq!((one, Mark::of("")), (Mark(0xa3c8), Mark(0x1cd9)));
        let (first, second) = (Id::random(one).unwrap(), Id::random(one).unwrap());
        assert_ne!(first, second);
        assert_eq!((first.mark(), Id::random(other).unwrap().mark()), (one, other));
    }

    #[test]
    fn only_sixteen_lower_case_hex_digits_are_an_id() {
        for text in ["", "0", "000000000000000g", "00000000000000000", "+00000000000000f", "ABCDEFABCDEFABCD"] {
            assert_eq!(text.parse::<Id>(), Err(()), "{text}");
        }
    }
}
