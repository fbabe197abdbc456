//! Lists of addresses and networks (CIDR, RFC 4632 and RFC 4291 section 2.3): how they are written, and what is in one.
//!
//! An IPv6 address that stands for one of IPv4 (`::ffff:10.0.0.7`) is that one, in a list and in a question.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The most entries of a list. A list of all networks of the internet's routers has about as many.
pub const ENTRIES_MAX: usize = 1_000_000;

/// The word for connections over a Unix socket, which have no address.
pub const UNIX: &str = "unix";

/// A set of addresses. A question costs a binary search, however long the list is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AddressList {
    /// Whether connections over a Unix socket are in it.
    unix: bool,
    /// First and last address of each range: sorted, and no two meet.
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

/// One entry of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Every connection over a Unix socket.
    Unix,
    /// The addresses of IPv4 from the first to the last.
    V4(u32, u32),
    /// The same of IPv6.
    V6(u128, u128),
}

/// A text that is no entry of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryError {
    /// What to write instead.
    pub advice: String,
}

/// What is wrong with the text of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListError {
    /// A line is no entry.
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        why: EntryError,
        /// How many more lines are none.
        more: usize,
    },
    /// It has more than `ENTRIES_MAX` entries.
    TooLong,
    /// Nothing is written there, not even a comment: it may be half written, and means nobody only if it says so.
    Empty,
    /// It is not UTF-8.
    NotText,
}

impl AddressList {
    /// A list of these.
    pub fn new(entries: impl IntoIterator<Item = Entry>) -> AddressList {
        let mut list = AddressList::default();
        for entry in entries {
            match entry {
                Entry::Unix => list.unix = true,
                Entry::V4(first, last) => list.v4.push((first, last)),
                Entry::V6(first, last) => list.v6.push((first, last)),
            }
        }
        list.v4 = merged(list.v4, |last| last.checked_add(1));
        list.v6 = merged(list.v6, |last| last.checked_add(1));
        list
    }

    /// Reads a list with an entry a line. What follows a `#` is a comment.
    ///
    /// # Errors
    /// The first line that is no entry.
    pub fn parse(text: &str) -> Result<AddressList, ListError> {
        let (mut entries, mut wrong, mut more) = (Vec::new(), None, 0);
        for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let entry = line.split('#').next().unwrap_or_default().trim();
            if entry.is_empty() {
                continue;
            }
            match Entry::parse(entry) {
                Ok(_) if entries.len() == ENTRIES_MAX => return Err(ListError::TooLong),
                Ok(entry) => entries.push(entry),
                Err(why) if wrong.is_none() => wrong = Some((number + 1, why)),
                Err(_) => more += 1,
            }
        }
        match wrong {
            Some((line, why)) => Err(ListError::Line { line, why, more }),
            None => Ok(AddressList::new(entries)),
        }
    }

    /// Reads the content of a file in this way.
    ///
    /// # Errors
    /// As [`parse`](AddressList::parse), and for a file in which nothing is written.
    pub fn of_file(content: &[u8]) -> Result<AddressList, ListError> {
        let text = std::str::from_utf8(content).map_err(|_| ListError::NotText)?;
        if text.trim().is_empty() {
            return Err(ListError::Empty);
        }
        AddressList::parse(text)
    }

    /// Whether this address is in it; `None` is that of a Unix socket.
    pub fn contains(&self, address: Option<IpAddr>) -> bool {
        match address.map(|address| address.to_canonical()) {
            None => self.unix,
            Some(IpAddr::V4(address)) => is_in(&self.v4, address.to_bits()),
            Some(IpAddr::V6(address)) => is_in(&self.v6, address.to_bits()),
        }
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        !self.unix && self.v4.is_empty() && self.v6.is_empty()
    }
}

/// Sorts ranges and joins those that overlap or follow each other.
fn merged<T: Ord + Copy>(mut ranges: Vec<(T, T)>, next: impl Fn(T) -> Option<T>) -> Vec<(T, T)> {
    ranges.sort_unstable();
    let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(before) if next(before.1).is_none_or(|next| first <= next) => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged.shrink_to_fit();
    merged
}

fn is_in<T: Ord + Copy>(ranges: &[(T, T)], address: T) -> bool {
    let at = ranges.partition_point(|(first, _)| *first <= address);
    at > 0 && address <= ranges[at - 1].1
}

impl Entry {
    /// Reads `10.0.0.7`, `10.0.0.0/8`, `2001:db8::/32` or `unix`.
    ///
    /// # Errors
    /// What to write instead, also for a network whose address has bits behind its prefix: what was meant is not clear.
    pub fn parse(text: &str) -> Result<Entry, EntryError> {
        if text == UNIX {
            return Ok(Entry::Unix);
        }
        let (address, length) = text.split_once('/').map_or((text, None), |(address, rest)| (address, Some(rest)));
        let Ok(address) = address.parse::<IpAddr>() else { return Err(EntryError { advice: meant(text) }) };
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let length = match length.map(|text| prefix_length(text, bits)) {
            None => bits,
            Some(Some(length)) => length,
            Some(None) => return Err(EntryError { advice: meant(text) }),
        };
        let canonical = address.to_canonical();
        let entry = match (address, canonical) {
            (IpAddr::V4(address), _) => Entry::v4(address, length),
            // What is shorter than the prefix of all such addresses is a network of IPv6, and none of them is in it.
            (IpAddr::V6(_), IpAddr::V4(address)) if length >= 96 => Entry::v4(address, length - 96),
            (IpAddr::V6(address), _) => Entry::v6(address, length),
        };
        entry.map_err(|network| {
            let length = if network.is_ipv4() && address.is_ipv6() { length - 96 } else { length };
            EntryError { advice: format!("write \"{network}/{length}\" or \"{address}\"") }
        })
    }

    /// The network of this address, or its first address where that is another one.
    fn v4(address: Ipv4Addr, length: u32) -> Result<Entry, IpAddr> {
        let host = u32::MAX.checked_shr(length).unwrap_or(0);
        let bits = address.to_bits();
        match bits & host {
            0 => Ok(Entry::V4(bits, bits | host)),
            _ => Err(Ipv4Addr::from_bits(bits & !host).into()),
        }
    }

    fn v6(address: Ipv6Addr, length: u32) -> Result<Entry, IpAddr> {
        let host = u128::MAX.checked_shr(length).unwrap_or(0);
        let bits = address.to_bits();
        match bits & host {
            0 => Ok(Entry::V6(bits, bits | host)),
            _ => Err(Ipv6Addr::from_bits(bits & !host).into()),
        }
    }
}

/// The length of a prefix, as digits alone.
fn prefix_length(text: &str, bits: u32) -> Option<u32> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|length| is_number && *length <= bits)
}

/// What to write for a text that is no entry.
fn meant(text: &str) -> String {
    if let Some(entry) = meant_entry(text).filter(|entry| Entry::parse(entry).is_ok()) {
        return format!("write \"{entry}\"");
    }
    match text {
        "*" | "any" | "all" => "write \"0.0.0.0/0\" for every address of IPv4, and \"::/0\" for IPv6".to_owned(),
        "localhost" => "names are not looked up, write \"127.0.0.1\" and \"::1\"".to_owned(),
        _ if is_range(text) => "a range has no form of its own, write the networks that it consists of".to_owned(),
        _ => "write an IP address or a network, for example \"10.0.0.7\" or \"10.0.0.0/8\"; names are not looked up"
            .to_owned(),
    }
}

fn is_range(text: &str) -> bool {
    let is_address = |text: &str| text.trim().parse::<IpAddr>().is_ok();
    text.split_once('-').is_some_and(|(first, last)| is_address(first) && is_address(last))
}

/// The entry that was meant by another way to write it.
fn meant_entry(text: &str) -> Option<String> {
    let is_address = |text: &str| text.parse::<IpAddr>().is_ok();
    if let Some((address, rest)) = text.split_once('/') {
        let (address, mask) = (address.parse::<Ipv4Addr>().ok()?, rest.parse::<Ipv4Addr>().ok()?.to_bits());
        let network = Ipv4Addr::from_bits(address.to_bits() & mask);
        return (mask.leading_ones() == mask.count_ones()).then(|| format!("{network}/{}", mask.count_ones()));
    }
    let bare = text.strip_prefix('[').unwrap_or(text).split(']').next().unwrap_or_default();
    let without_zone = bare.split('%').next().unwrap_or_default();
    let without_port = text.rsplit_once(':').map_or(text, |(host, _)| host);
    for meant in [bare, without_zone, without_port] {
        if meant != text && is_address(meant) {
            return Some(meant.to_owned());
        }
    }
    // 10.0.0.*, 10.0.0. and 10.0
    let octets: Vec<&str> = text.split('.').filter(|octet| !matches!(*octet, "*" | "")).collect();
    let are_octets = octets.iter().all(|octet| octet.parse::<u8>().is_ok());
    let first: String = octets.iter().map(|octet| format!("{octet}.")).collect();
    let is_cut = (1..4).contains(&octets.len()) && are_octets && text.contains('.') && first.starts_with(octets[0]);
    let rest = ["0"; 3].get(..4usize.checked_sub(octets.len())?)?.join(".");
    (is_cut && text.starts_with(first.trim_end_matches('.'))).then(|| format!("{first}{rest}/{}", 8 * octets.len()))
}

impl fmt::Display for EntryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.advice)
    }
}

impl std::error::Error for EntryError {}

impl fmt::Display for ListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListError::Line { line, why, more } => {
                let others = match more {
                    0 => String::new(),
                    1 => " (nor is one more line)".to_owned(),
                    more => format!(" (nor are {more} more lines)"),
                };
                write!(f, "line {line} is no address or network{others}: {why}")
            }
            ListError::Empty => f.write_str("it is empty: write a comment (#) if nobody is meant"),
            ListError::NotText => f.write_str("it is not UTF-8 text"),
            ListError::TooLong => write!(f, "it has more than {ENTRIES_MAX} entries: join neighbouring networks"),
        }
    }
}

impl std::error::Error for ListError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn an_address_is_in_its_networks() {
        let list = AddressList::parse(
            "\u{feff}# our own\n10.0.0.0/8\r\n192.0.2.7 # the press\n\n  2001:db8::/32\n::ffff:198.51.100.0/120\n",
        );
        let list = list.unwrap();
        for (text, expected) in [
            ("10.0.0.0", true),
            ("10.255.255.255", true),
            ("9.255.255.255", false),
            ("11.0.0.0", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("::ffff:192.0.2.7", true),
            ("198.51.100.200", true),
            ("198.51.101.0", false),
            ("2001:db8::", true),
            ("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", true),
            ("2001:db9::", false),
            ("::192.0.2.7", false),
        ] {
            assert_eq!(list.contains(address(text)), expected, "{text}");
        }
        assert!(!list.contains(None));
        assert!(AddressList::parse("unix").unwrap().contains(None));
        assert!(AddressList::parse("# nobody\n").unwrap().is_empty());
        // Neither kind is a part of the other.
        let all = AddressList::parse("::/0").unwrap();
        assert!(all.contains(address("::1")) && !all.contains(address("::ffff:10.0.0.7")));
        let all = AddressList::parse("::ffff:0:0/96").unwrap();
        assert!(all.contains(address("10.0.0.7")) && !all.contains(address("::1")));
    }

    #[test]
    fn what_was_meant_is_found() {
        for (text, advice) in [
            ("10.0.0.7/8", "write \"10.0.0.0/8\" or \"10.0.0.7\""),
            ("2001:db8::1/32", "write \"2001:db8::/32\" or \"2001:db8::1\""),
            ("::ffff:10.0.0.1/104", "write \"10.0.0.0/8\" or \"::ffff:10.0.0.1\""),
            ("10.0.0.0/255.0.0.0", "write \"10.0.0.0/8\""),
            ("10.0.0.0/255.0.255.0", "write an IP address or a network"),
            ("10.0.0.0/33", "write an IP address or a network"),
            ("10.0.0.0/08", "write an IP address or a network"),
            ("10.0.0.0/+8", "write an IP address or a network"),
            ("10.0.0.0/", "write an IP address or a network"),
            ("10.0.0.*", "write \"10.0.0.0/24\""),
            ("10.*.*.*", "write \"10.0.0.0/8\""),
            ("10.0.", "write \"10.0.0.0/16\""),
            ("10.0", "write \"10.0.0.0/16\""),
            ("0.09.", "write an IP address or a network"),
            ("*.0.0.10", "write an IP address or a network"),
            ("10.0.0.1-10.0.0.9", "a range has no form of its own"),
            ("10.0.0.7:8080", "write \"10.0.0.7\""),
            ("[2001:db8::1]:8080", "write \"2001:db8::1\""),
            ("[::1]", "write \"::1\""),
            ("fe80::1%eth0", "write \"fe80::1\""),
            ("localhost", "names are not looked up, write \"127.0.0.1\" and \"::1\""),
            ("*", "write \"0.0.0.0/0\""),
            ("gate.example", "write an IP address or a network"),
            ("010.0.0.7", "write an IP address or a network"),
            ("", "write an IP address or a network"),
            (".", "write an IP address or a network"),
        ] {
            let error = Entry::parse(text).unwrap_err();
            assert!(error.advice.starts_with(advice), "{text}: {error}");
        }
    }

    #[test]
    fn the_first_wrong_line_is_named() {
        let error = AddressList::parse("# ours\n10.0.0.0/8\n10.0.0.300\nx\ny").unwrap_err();
        let ListError::Line { line: 3, more: 2, .. } = error else { panic!("{error:?}") };
        assert_eq!(AddressList::of_file(b" \n"), Err(ListError::Empty));
        assert_eq!(AddressList::of_file(b"\xff"), Err(ListError::NotText));
        assert!(AddressList::of_file(b"# nobody").unwrap().is_empty());
        let many = "10.0.0.7\n".repeat(ENTRIES_MAX + 1);
        assert_eq!(AddressList::parse(&many), Err(ListError::TooLong));
    }

    /// An address and how many of its bits count; few different ones, so that they meet.
    fn network() -> impl Strategy<Value = (IpAddr, u32)> {
        let v4 = (0u32..4, 0u32..8, 0u32..=32).prop_map(|(high, low, length)| {
            let bits = (high << 30 | low) & !u32::MAX.checked_shr(length).unwrap_or(0);
            (IpAddr::from(Ipv4Addr::from_bits(bits)), length)
        });
        let v6 = (0u128..4, 0u128..8, 0u32..=128).prop_map(|(high, low, length)| {
            let bits = (high << 126 | low) & !u128::MAX.checked_shr(length).unwrap_or(0);
            (IpAddr::from(Ipv6Addr::from_bits(bits)), length)
        });
        prop_oneof![v4, v6]
    }

    fn somewhere() -> impl Strategy<Value = IpAddr> {
        let v4 = (0u32..4, 0u32..8).prop_map(|(high, low)| Ipv4Addr::from_bits(high << 30 | low));
        let v6 = (0u128..4, 0u128..8).prop_map(|(high, low)| IpAddr::from(Ipv6Addr::from_bits(high << 126 | low)));
        prop_oneof![v4.clone().prop_map(IpAddr::from), v4.prop_map(|v4| v4.to_ipv6_mapped().into()), v6]
    }

    /// The bits of an address, most significant first.
    fn bits(address: IpAddr) -> String {
        match address {
            IpAddr::V4(address) => format!("{:032b}", address.to_bits()),
            IpAddr::V6(address) => format!("{:0128b}", address.to_bits()),
        }
    }

    proptest! {
        #[test]
        fn a_list_has_what_one_of_its_networks_has(
            networks in proptest::collection::vec(network(), 0..12),
            asked in proptest::collection::vec(somewhere(), 1..12),
        ) {
            let text: String = networks.iter().map(|(address, length)| format!("{address}/{length}\n")).collect();
            let list = AddressList::parse(&text).unwrap();
            for asked in asked {
                let asked_bits = bits(asked.to_canonical());
                let has = |(address, length): &(IpAddr, u32)| {
                    let own = bits(*address);
                    own.len() == asked_bits.len() && own[..*length as usize] == asked_bits[..*length as usize]
                };
                prop_assert_eq!(list.contains(Some(asked)), networks.iter().any(has), "{} in {}", asked, text);
            }
        }
    }
}
