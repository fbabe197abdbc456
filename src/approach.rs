//! How a client has come: from where, and by what name and scheme it has called us; by its socket, or by what a trusted
//! proxy says. A rule.

use std::net::IpAddr;

use crate::address::list::AddressList;
use crate::config::ClientAddress;
use crate::http::forwarded::{self, Said};
use crate::http::refusal::Refusal;
use crate::http::request::{self, Request};

/// How a client has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approach {
    /// The client's address; `None` on a Unix socket.
    pub address: Option<IpAddr>,
    /// Whether a trusted proxy has named it in a header; it may be the proxy's own.
    pub is_named: bool,
    /// The client and the proxies that its request came through, as far as they are trusted.
    pub way: Vec<IpAddr>,
    /// Whether the client speaks TLS.
    pub is_tls: bool,
    /// The host that it asked for.
    pub host: AskedHost,
}

/// The host that a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedHost {
    /// With its port, if it has one.
    pub name: String,
    /// Whether a trusted proxy says so: then no page can have led a browser here by a name of its own.
    pub is_forwarded: bool,
}

/// Finds out how the client of a request has come. `socket` is where its connection comes from, and whether over TLS;
/// `trusted` are the proxies whose word counts, if it comes from one of them.
///
/// # Errors
/// 400 if what counts cannot be read.
pub fn approach(
    by: ClientAddress,
    trusted: Option<&AddressList>,
    (address, is_tls): (Option<IpAddr>, bool),
    head: &[u8],
    request: &Request<'_>,
) -> Result<Approach, Refusal> {
    let values = |name| request::header_values(head, name);
    let said = match (by, trusted) {
        (ClientAddress::XForwardedFor, Some(trusted)) => {
            let [of_client, proto, host] = ["X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host"].map(values);
            forwarded::x_forwarded(&of_client, &proto, &host, trusted)?
        }
        (ClientAddress::Forwarded, Some(trusted)) => forwarded::forwarded(&values("Forwarded"), trusted)?,
        (ClientAddress::Socket | ClientAddress::ProxyProtocol, _) | (_, None) => Said::default(),
    };
    let is_forwarded = said.host.is_some();
    let name = said.host.unwrap_or_else(|| request.host.to_owned());
    Ok(Approach {
        address: said.way.first().copied().unwrap_or(address),
        is_named: !said.way.is_empty(),
        way: said.way.iter().copied().chain([address]).flatten().collect(),
        is_tls: said.is_tls.unwrap_or(is_tls),
        host: AskedHost { name, is_forwarded },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "GET / HTTP/1.1\r\nHost: inside\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 192.0.2.1, 10.0.0.2\r\n\
                        X-Forwarded-Proto: https\r\nX-Forwarded-Host: gate.example\r\n\
                        Forwarded: for=192.0.2.9;proto=https;host=other.example\r\n\r\n";

    #[test]
    fn h11_only_the_header_that_is_named_counts_and_only_from_a_trusted_proxy() {
        let trusted = AddressList::parse("10.0.0.0/8").unwrap();
        let request = request::judge(HEAD.as_bytes()).unwrap();
        let proxy = "10.0.0.1".parse::<IpAddr>().unwrap();
        let expected = |way: &[&str], is_tls, host: &str| {
            let way: Vec<IpAddr> = way.iter().map(|address| address.parse().unwrap()).collect();
            let host = AskedHost { name: host.to_owned(), is_forwarded: host != "inside" };
            Approach { address: way.first().copied(), is_named: way.len() > 1, way, is_tls, host }
        };
        for (by, trusted, approached) in [
            (ClientAddress::Socket, None, expected(&["10.0.0.1"], false, "inside")),
            (ClientAddress::ProxyProtocol, Some(&trusted), expected(&["10.0.0.1"], false, "inside")),
            (ClientAddress::XForwardedFor, None, expected(&["10.0.0.1"], false, "inside")),
            (
                ClientAddress::XForwardedFor,
                Some(&trusted),
                expected(&["192.0.2.1", "10.0.0.2", "10.0.0.1"], true, "gate.example"),
            ),
            (ClientAddress::Forwarded, None, expected(&["10.0.0.1"], false, "inside")),
            (ClientAddress::Forwarded, Some(&trusted), expected(&["192.0.2.9", "10.0.0.1"], true, "other.example")),
        ] {
            let found = approach(by, trusted, (Some(proxy), false), HEAD.as_bytes(), &request);
            assert_eq!(found, Ok(approached), "{by:?} {trusted:?}");
        }
        let broken = HEAD.replace("10.0.0.2", "unknown");
        let request = request::judge(broken.as_bytes()).unwrap();
        let of = |trusted| approach(ClientAddress::XForwardedFor, trusted, (None, false), broken.as_bytes(), &request);
        assert_eq!(of(Some(&trusted)).unwrap_err().status, 400);
        assert!(of(None).is_ok(), "nobody reads it");
    }
}
