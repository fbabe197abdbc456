//! Who hands messages over, as those see it that may make it wait for room: a connection that lasts, or one request over
//! HTTP, which has no outbox of its own.

use std::fmt;
use std::sync::OnceLock;
use std::time::Instant;

use crate::connection::peer::{BlockedOn, Peer};
use crate::id::Id;
use crate::shared::posts::Posts;

/// See the module's documentation.
#[derive(Debug, Clone, Copy)]
pub enum Sending<'a> {
    /// The connection of a client or a link, whose thread this is.
    Peer(&'a Peer),
    /// A request, whose thread this is.
    Post(&'a Post<'a>),
}

/// A request whose messages are being handed over.
#[derive(Debug)]
pub struct Post<'a> {
    /// That of its connection.
    id: Id,
    /// Until when it waits for room.
    until: Instant,
    posts: &'a Posts,
    /// What had no room for it in time.
    refused: OnceLock<BlockedOn>,
}

impl<'a> Post<'a> {
    /// One that waits for room until then, or until the gateway stops.
    pub fn new(id: Id, until: Instant, posts: &'a Posts) -> Post<'a> {
        Post { id, until, posts, refused: OnceLock::new() }
    }

    /// What had no room for one of its messages in time. What comes behind that was handed over to nobody.
    pub fn refused(&self) -> Option<BlockedOn> {
        self.refused.get().copied()
    }
}

impl Sending<'_> {
    /// The id of the connection.
    pub fn id(self) -> Id {
        match self {
            Sending::Peer(peer) => peer.id(),
            Sending::Post(post) => post.id,
        }
    }

    /// Whether a wait for room is over: the connection is ending, or the request has waited for long enough.
    pub fn gives_up(self) -> bool {
        match self {
            Sending::Peer(peer) => peer.outbox.is_closing(),
            Sending::Post(post) => Instant::now() >= post.until || post.posts.are_over(),
        }
    }

    /// Marks a connection's thread as blocked while `work` may block. A request has nobody who would take it for dead.
    pub fn while_blocked_on<T>(self, what: BlockedOn, work: impl FnOnce() -> T) -> T {
        match self {
            Sending::Peer(peer) => peer.while_blocked_on(what, work),
            Sending::Post(_) => work(),
        }
    }

    /// Something was not taken for want of room. A connection that gives up is ending; a request is answered so.
    pub fn note_refused(self, by: BlockedOn) {
        if let Sending::Post(post) = self {
            // The first one is the reason.
            let _ = post.refused.set(by);
        }
    }

    /// Whether nothing more is to be handed over.
    pub fn is_refused(self) -> bool {
        match self {
            Sending::Peer(_) => false,
            Sending::Post(post) => post.refused.get().is_some(),
        }
    }

    /// As [`Peer::client_id`].
    pub fn client_id(self) -> Option<String> {
        match self {
            Sending::Peer(peer) => peer.client_id(),
            Sending::Post(post) => Some(post.id.to_string()),
        }
    }

    /// As [`Peer::link_name`].
    pub fn link_name(&self) -> Option<&str> {
        match self {
            Sending::Peer(peer) => peer.link_name(),
            Sending::Post(_) => None,
        }
    }
}

impl<'a> From<&'a Peer> for Sending<'a> {
    fn from(peer: &'a Peer) -> Sending<'a> {
        Sending::Peer(peer)
    }
}

/// What the log calls it.
impl fmt::Display for Sending<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sending::Peer(peer) => peer.fmt(f),
            Sending::Post(post) => write!(f, "client {}", post.id),
        }
    }
}
