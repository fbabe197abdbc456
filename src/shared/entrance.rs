//! The way by which a client has come in, and whether it is still open to it after a reload.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::connection::server_tls::ServerTls;
use crate::connection::trust_review::Proved;
use crate::shared::addresses::{AddressGate, Door, Shut};

/// The way by which a client has come in.
#[derive(Debug)]
pub struct Entrance {
    /// The name of its listener.
    listener: Arc<str>,
    /// Where its socket comes from, which may be a proxy; `None` is a Unix socket.
    socket: Option<IpAddr>,
    /// Its certificate, and who has verified it. Few have one.
    certificate: Option<Box<(Arc<ServerTls>, Proved)>>,
}

/// Why a client may not be here any longer. Shown, it goes on after "its access was withdrawn: ".
#[derive(Debug)]
pub enum Withdrawn {
    /// What it came in with is not in the file any more.
    Credential,
    /// Its endpoint asks for other credentials than its own.
    Auth,
    /// What its endpoint allows it has changed.
    Rights,
    /// A list of addresses keeps it out.
    Address(Shut),
    /// Its certificate is revoked, or not trusted any more.
    Certificate(String),
}

impl Entrance {
    /// The way through this door.
    pub fn new(door: &Door, socket: Option<IpAddr>, certificate: Option<Box<(Arc<ServerTls>, Proved)>>) -> Entrance {
        Entrance { listener: Arc::clone(&door.name), socket, certificate }
    }

    /// The name of its listener.
    pub fn listener(&self) -> &str {
        &self.listener
    }

    /// Whether a client of this address would still come in through its listener as it is now, to an endpoint with these
    /// lists.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, door: &Door, address: Option<IpAddr>, of_endpoint: &AddressGate) -> Result<(), Withdrawn> {
        // The word of a proxy that is not trusted any more does not count.
        let is_believed = door.open(self.socket).map_err(Withdrawn::Address)?.is_some();
        let address = if is_believed { address } else { self.socket };
        door.rules.check(address).map_err(Withdrawn::Address)?;
        of_endpoint.check(address).map_err(Withdrawn::Address)?;
        match self.certificate.as_deref() {
            Some((tls, proved)) => tls.review(proved).map_err(Withdrawn::Certificate),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Withdrawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Withdrawn::Credential => f.write_str("its credential is not valid any more"),
            Withdrawn::Auth => f.write_str("\"auth\" of its endpoint does not take its credential any more"),
            Withdrawn::Rights => f.write_str("\"allow\" of its endpoint is another one"),
            Withdrawn::Address(shut) => shut.fmt(f),
            Withdrawn::Certificate(why) => f.write_str(why),
        }
    }
}
