//! A message and where it came from.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use bytes::Bytes;

use crate::id::Id;
use crate::identity::Identity;

/// Whether a message is text or binary (RFC 6455 section 5.6); `Text` is valid UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Opcode 1.
    Text,
    /// Opcode 2.
    Binary,
}

/// One complete message, fragments joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Text or binary.
    pub kind: Kind,
    /// The payload; valid UTF-8 if `kind` is `Text`.
    pub data: Bytes,
}

/// The client that a message came from, as the formats that describe it need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Its session.
    pub session: Id,
    /// Its address; `None` on a Unix socket.
    pub client_ip: Option<IpAddr>,
    /// Its User-Agent header, if it sent one, at most 256 bytes of it.
    pub user_agent: Option<Arc<str>>,
    /// The subprotocol that was agreed with it, if one was.
    pub subprotocol: Option<Arc<str>>,
    /// When its handshake ended.
    pub connected_at: SystemTime,
    /// Who it is, if its endpoint authenticates clients.
    pub identity: Option<Arc<Identity>>,
    /// Its path, parameters and query, as members of JSON, where its destinations are told.
    pub description: OnceLock<Arc<str>>,
}
