//! A connection before it is a client: what its peer says first, and from where it comes, as far as its listener cares.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::address::list::AddressList;
use crate::approach::{self, Approach};
use crate::client::rejection::{LastWords, Rejection, Why, unread};
use crate::config::ClientAddress;
use crate::connection::handshake::{Head, Stream};
use crate::http::refusal::Refusal;
use crate::http::request::Request;
use crate::id::Id;
use crate::shared::Shared;
use crate::shared::address_places::{AddressFull, Counted};
use crate::shared::addresses::{Door, Shut};
use crate::shared::handshake_failures::Failure;
use crate::shared::handshakes::HandshakePlace;

/// A connection as the accept loop hands it over.
#[derive(Debug)]
pub struct Incoming {
    /// Its id, and the client's if it becomes one.
    pub id: Id,
    /// The connected socket, with a TLS session if the listener has TLS.
    pub stream: Stream,
    /// The client's address, as far as it is known by now: at first that of the socket, `None` on a Unix socket.
    pub address: Option<IpAddr>,
    /// The address of the socket.
    pub socket_address: Option<IpAddr>,
    /// The client's for the log, with the port, and the proxy that it came through.
    pub from: String,
    /// The path of its endpoint for the log, once its request has led to one.
    pub endpoint: Option<String>,
    /// The listener it came through.
    pub door: Arc<Door>,
    /// The proxies that may say whose connection it is, if it comes from one of them.
    pub trusted: Option<Arc<AddressList>>,
    /// Whether one of them has said it.
    pub is_named: bool,
    /// It counts as a connection.
    pub connection: Counted,
    /// It counts as a handshake, until it has said all that it has to say.
    pub handshake: Option<HandshakePlace>,
}

/// How a connection stands before a request says whose it is: a proxy may send those of many clients over one.
#[derive(Debug)]
pub(super) struct Unnamed {
    address: Option<IpAddr>,
    from: String,
    is_named: bool,
}

impl Incoming {
    /// How it stands now.
    pub(super) fn unnamed(&self) -> Unnamed {
        Unnamed { address: self.address, from: self.from.clone(), is_named: self.is_named }
    }

    /// The next request is to say anew whose it is.
    pub(super) fn forget_name(&mut self, unnamed: &Unnamed) {
        let Unnamed { address, from, is_named } = unnamed;
        (self.address, self.is_named, self.endpoint) = (*address, *is_named, None);
        self.from.clone_from(from);
    }

    /// A proxy has said whose connection this is.
    fn is_from(&mut self, address: Option<IpAddr>, shown: &str) {
        self.address = address;
        self.is_named = true;
        self.from = format!("{shown} via {}", self.from);
        if let Some(handshake) = &mut self.handshake {
            handshake.move_to(address);
        }
    }
}

/// Reads what a peer has to say first: whose connection it is, if it is a proxy that says so before all else, and a
/// request.
#[inline(never)]
pub(super) fn hear(shared: &Shared, incoming: &mut Incoming, deadline: Instant) -> Result<Head, Rejection> {
    if incoming.door.settings.client_address == ClientAddress::ProxyProtocol {
        match incoming.stream.read_proxy_header(deadline) {
            Ok(Some(client)) => incoming.is_from(Some(client.ip()), &client.to_string()),
            // The proxy's own connection, as to check whether we are there.
            Ok(None) => return read_head(shared, incoming, deadline),
            Err(error) => return Err(unread(&mut incoming.stream, error, shared)),
        }
        check_address(incoming)?;
    }
    read_head(shared, incoming, deadline)
}

fn read_head(shared: &Shared, incoming: &mut Incoming, deadline: Instant) -> Result<Head, Rejection> {
    incoming.stream.read_head(deadline).map_err(|error| unread(&mut incoming.stream, error, shared))
}

/// Closes a connection without an answer if its address, as far as it is known by now, may not come.
pub(super) fn check_address(incoming: &Incoming) -> Result<(), Rejection> {
    let shut = |shut| Rejection { failure: Some(Failure::Address), why: Why::Shut(shut), last_words: LastWords::None };
    incoming.door.rules.check(incoming.address).map_err(shut)
}

/// How the client of a request has come, and whether it may by its address.
#[inline(never)]
pub(super) fn approach(incoming: &mut Incoming, head: &[u8], request: &Request<'_>) -> Result<Approach, Refusal> {
    let (by, socket) = (incoming.door.settings.client_address, (incoming.address, incoming.stream.is_tls()));
    let approach = approach::approach(by, incoming.trusted.as_deref(), socket, head, request)?;
    // Otherwise it was judged before.
    if incoming.trusted.is_some() && by != ClientAddress::ProxyProtocol {
        if approach.is_named {
            incoming.is_from(approach.address, &shown(approach.address));
        }
        incoming
            .door
            .rules
            .check(approach.address)
            .map_err(|shut| may_not_come(&shut, "[[listen]]", &incoming.door.settings.name))?;
    }
    Ok(approach)
}

/// Counts a connection for the address that a proxy has named; that of a socket was counted before. A proxy that connects
/// on its own behalf, to check whether we are there, is not limited.
#[inline(never)]
pub(super) fn count_address(
    shared: &Shared,
    incoming: &mut Incoming,
    address: Option<IpAddr>,
) -> Result<(), AddressFull> {
    if incoming.is_named {
        incoming.connection.is_from(shared.address_places.enter(address, Instant::now())?);
    }
    Ok(())
}

/// The answer to a client that a list under this table keeps out.
pub(super) fn may_not_come(shut: &Shut, table: &str, name: &str) -> Refusal {
    Refusal::new(403, "this address may not connect").with_advice(format!("{shut}, under {table} '{name}'"))
}

/// An address for the log.
fn shown(address: Option<IpAddr>) -> String {
    address.map_or_else(|| "unix".to_owned(), |address| address.to_string())
}
