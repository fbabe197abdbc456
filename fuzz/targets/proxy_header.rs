//! The header of the PROXY protocol: read whole, read in pieces, and as the beginning of a connection.
//!
//! Input: what a peer sends, first byte to last.

#![no_main]

use std::io::Write;
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use wsgate::internals::address::proxy_header::{ProxyHeader, ProxyHeaderError, parse};
use wsgate::internals::connection::handshake::{Head, HeadError, Stream};
use wsgate::internals::connection::socket::Socket;

/// The most bytes of a header that are waited for.
const HEADER_MAX: usize = 16 + 4096;

fuzz_target!(|data: &[u8]| {
    // Whatever is said of a beginning is said of all that follows.
    let mut said = None;
    for end in 0..=data.len().min(HEADER_MAX + 1) {
        let parsed = parse(&data[..end]);
        match &said {
            None if parsed != Ok(None) => said = Some(parsed),
            None => assert!(end < HEADER_MAX, "more is waited for"),
            Some(before) => assert_eq!(*before, parsed, "at {end}"),
        }
    }
    if let Some(Ok(Some(header))) = said {
        sound(data, header);
    }
    agrees_on_a_connection(data, said.unwrap_or(Ok(None)));
});

/// What a header says stands in it.
fn sound(data: &[u8], ProxyHeader { len, client }: ProxyHeader) {
    assert!((8..=HEADER_MAX).contains(&len) && len <= data.len());
    let header = &data[..len];
    let Some(client) = client else { return };
    assert_eq!(client.ip(), client.ip().to_canonical());
    if header.starts_with(b"PROXY ") {
        let line = std::str::from_utf8(header).expect("it is text");
        let words: Vec<&str> = line.trim_end().split(' ').collect();
        assert_eq!(words.len(), 6, "{line:?}");
        assert_eq!(words[2].parse::<IpAddr>().map(|address| address.to_canonical()), Ok(client.ip()), "{line:?}");
        assert_eq!(words[4], client.port().to_string(), "{line:?}");
    } else {
        let octets = match header[13] >> 4 {
            1 => header[16..20].to_vec(),
            _ => header[16..32].to_vec(),
        };
        let address = match client.ip() {
            IpAddr::V4(address) if octets.len() == 4 => address.octets().to_vec(),
            IpAddr::V4(address) => address.to_ipv6_mapped().octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        assert_eq!((header[12], octets), (0x21, address));
    }
}

/// A connection that begins so, with a request behind it, of which nothing is lost.
fn agrees_on_a_connection(data: &[u8], said: Result<Option<ProxyHeader>, ProxyHeaderError>) {
    let (ours, mut theirs) = UnixStream::pair().expect("a socket pair");
    theirs.set_nonblocking(true).expect("a socket can be made so");
    if theirs.write(data).ok() != Some(data.len()) {
        return;
    }
    theirs.shutdown(std::net::Shutdown::Write).expect("the socket is connected");
    let mut stream = Stream::new(Arc::new(Socket::new(ours)), None);
    let deadline = Instant::now() + Duration::from_secs(10);
    match (stream.read_proxy_header(deadline), said) {
        (Ok(client), Ok(Some(header))) => {
            assert_eq!(client, header.client);
            if let Ok(Head { bytes, behind }) = stream.read_head(deadline) {
                assert!(data[header.len..].starts_with(&[&bytes[..], &behind].concat()), "bytes are lost or changed");
            }
        }
        (Err(HeadError::ProxyHeader(error)), Err(expected)) => assert_eq!(error, expected),
        (Err(HeadError::Silent), Ok(None)) => assert!(data.is_empty()),
        (Err(HeadError::Incomplete), Ok(None)) => assert!(!data.is_empty()),
        (read, said) => panic!("{read:?} and {said:?}"),
    }
}
