//! Lists of addresses, against a naive reading of the same text.
//!
//! Input: lines of text. The last is an address that is looked for, those before it are the list.

#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use wsgate::internals::address::list::{AddressList, Entry, ListError};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (list, asked) = text.rsplit_once('\n').unwrap_or(("", text));
    let asked = asked.parse::<IpAddr>().ok();
    let mut wrong = None;
    let mut is_in = false;
    for (number, line) in list.trim_start_matches('\u{feff}').lines().enumerate() {
        let entry = line.split('#').next().unwrap_or_default().trim();
        match naive(entry) {
            _ if entry.is_empty() => {}
            None => wrong = wrong.or(Some(number + 1)),
            Some(entry) => is_in |= has(&entry, asked),
        }
    }
    match AddressList::parse(list) {
        Ok(parsed) => {
            assert_eq!(wrong, None, "{list:?}");
            assert_eq!(parsed.contains(asked), is_in, "{asked:?} in {list:?}");
        }
        Err(ListError::Line { line, why, .. }) => {
            assert_eq!(wrong, Some(line), "{list:?}");
            advises(&why.advice);
        }
        Err(error) => panic!("{error}"),
    }
});

/// What is advised first is an entry.
fn advises(advice: &str) {
    if let Some(entry) = advice.strip_prefix("write \"").and_then(|rest| rest.split('"').next()) {
        assert!(Entry::parse(entry).is_ok(), "{advice}");
    }
}

/// The bits of an address, and how many of them count; `None` is a Unix socket.
type Naive = Option<(String, usize)>;

fn naive(text: &str) -> Option<Naive> {
    if text == "unix" {
        return Some(None);
    }
    let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
    let address: IpAddr = address.parse().ok()?;
    let all = bits(address);
    let length = match length {
        None => all.len(),
        Some(length) => length.parse::<usize>().ok().filter(|number| number.to_string() == length)?,
    };
    let is_network = length <= all.len() && all[length..].bytes().all(|bit| bit == b'0');
    let is_mapped = address.to_canonical() != address && length >= 96;
    let own = if is_mapped { (all[96..].to_owned(), length - 96) } else { (all, length) };
    is_network.then_some(Some(own))
}

fn has(entry: &Naive, asked: Option<IpAddr>) -> bool {
    match (entry, asked.map(|address| bits(address.to_canonical()))) {
        (None, None) => true,
        (Some((bits, length)), Some(asked)) => bits.len() == asked.len() && bits[..*length] == asked[..*length],
        _ => false,
    }
}

fn bits(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("{:032b}", address.to_bits()),
        IpAddr::V6(address) => format!("{:0128b}", address.to_bits()),
    }
}
