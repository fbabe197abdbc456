//! Where a peer comes from, as far as it cannot choose: what is fair between peers is fair between these.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// Where connections come from, as far as one peer can choose it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// An address of IPv4, or a network of IPv6 with 64 bits, in which a host has all addresses that it likes.
    Network(IpAddr),
    /// A Unix socket.
    Local,
}

impl Source {
    /// That of an address; `None` is a Unix socket's.
    pub fn of(address: Option<IpAddr>) -> Source {
        match address.map(|address| address.to_canonical()) {
            None => Source::Local,
            Some(IpAddr::V6(address)) => {
                const HOST: u128 = u64::MAX as u128;
                Source::Network(Ipv6Addr::from_bits(address.to_bits() & !HOST).into())
            }
            Some(address) => Source::Network(address),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Network(address @ IpAddr::V4(_)) => address.fmt(f),
            Source::Network(network) => write!(f, "{network}/64"),
            Source::Local => f.write_str("a Unix socket"),
        }
    }
}
