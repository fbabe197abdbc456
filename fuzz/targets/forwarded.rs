//! What proxies say of a request: read from the right, whatever a client has put before it.
//!
//! Input: lines of text. The first is the list of trusted proxies, with commas; the others are the lines of a header.

#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use wsgate::internals::address::list::AddressList;
use wsgate::internals::http::forwarded::{Said, Unreadable, forwarded, x_forwarded};

fuzz_target!(|data: &[u8]| {
    let mut lines = data.split(|byte| *byte == b'\n');
    let trusted = lines.next().and_then(|line| std::str::from_utf8(line).ok()).map(|line| line.replace(',', "\n"));
    let Ok(trusted) = AddressList::parse(&trusted.unwrap_or_default()) else { return };
    let lines: Vec<Vec<u8>> = lines.map(<[u8]>::to_vec).collect();
    let read: [fn(&[Vec<u8>], &AddressList) -> Result<Said, Unreadable>; 2] =
        [|lines, trusted| x_forwarded(lines, &[], &[], trusted), forwarded];
    for read in read {
        let said = read(&lines, &trusted);
        let Ok(whole) = &said else { continue };
        sound(whole, &trusted);
        // Where the way ends at somebody who is not trusted, nothing that he has sent before counts.
        if whole.way.first().is_some_and(|first| !trusted.contains(*first)) {
            for forged in ["6.6.6.6", "for=6.6.6.6;host=evil", "for=\"", ",,;;\"", "\u{fffd}"] {
                let with = [&[forged.as_bytes().to_vec()], &lines[..]].concat();
                assert_eq!(read(&with, &trusted), said, "{forged}");
            }
        }
    }
    // A host and a scheme of one proxy.
    if let Ok(said) = x_forwarded(&[b"192.0.2.1".to_vec()], &[], &lines, &trusted) {
        sound(&said, &trusted);
    }
});

fn sound(said: &Said, trusted: &AddressList) {
    let believed = said.way.iter().skip(1);
    assert!(believed.into_iter().all(|proxy| trusted.contains(*proxy)), "{said:?}");
    assert!(said.way.iter().flatten().all(|address: &IpAddr| *address == address.to_canonical()));
    if let Some(host) = &said.host {
        assert!(!host.is_empty() && !host.contains(|c: char| c.is_control() || c.is_whitespace() || c == '@'), "{host:?}");
    }
}
