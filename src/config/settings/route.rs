//! Where messages and events go, and what messages look like.

use crate::template::Template;

/// An endpoint. A configuration that was read numbers them in its order; in a running gateway each keeps its number for as
/// long as it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(pub usize);

/// A link, numbered as endpoints are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub usize);

/// A store, numbered as endpoints are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreId(pub usize);

/// Where the messages of an endpoint's clients go: one entry of its `to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// `reply`: back to the sender.
    Reply,
    /// `broadcast`: to everybody in the sender's room, the sender too, as Node-RED does.
    Broadcast,
    /// `others`: to everybody in the sender's room but the sender.
    Others,
    /// `endpoint:/path`: to a room of another endpoint, which the sender's values pick.
    Endpoint {
        /// The endpoint that the room belongs to.
        id: EndpointId,
        /// For each of its parameters, which of the sender's has the same name.
        values: Box<[usize]>,
    },
    /// `endpoint:/path`: to a room that each message picks.
    Picked {
        /// The endpoint that the room belongs to.
        id: EndpointId,
        /// Where the values of its parameters come from, as it is written.
        template: Template,
        /// The same, the sender's own parameters found.
        sources: Box<[RoomSource]>,
    },
    /// `link:NAME`: to the remote of a link.
    Link(LinkId),
    /// `store:NAME`: into a store.
    Store(StoreId),
}

/// Where the value of a parameter comes from that picks a room for a client's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoomSource {
    /// The sender's own parameter with this number.
    Own(usize),
    /// Who the sender is.
    Identity,
    /// The keys that lead to it from the root of the message's JSON; at least one.
    Field(Box<[Box<str>]>),
}

/// Where the messages of a link's remote go: one entry of its `to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkDestination {
    /// `reply`: back to the remote.
    Reply,
    /// `endpoint:/path`: to a room of an endpoint.
    Endpoint {
        /// The endpoint that the room belongs to.
        id: EndpointId,
        /// Where the values of its parameters come from.
        template: Template,
    },
    /// `link:NAME`: to the remote of another link.
    Link(LinkId),
    /// `store:NAME`: into a store.
    Store(StoreId),
}

/// How a message looks on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Format {
    /// The bytes as they came.
    #[default]
    Payload,
    /// Node-RED's "entire message": JSON with `payload` and `_session`.
    Message,
    /// n8n's trigger: JSON with `message` and `metadata`.
    N8n,
}

/// An event of a client or a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventKind {
    /// `connect`: it is connected.
    Connect,
    /// `present`: it was connected before the destination was. Clients only.
    Present,
    /// `disconnect`: its connection has ended.
    Disconnect,
    /// `error`: it could not connect, or its connection ended with an error.
    Error,
}
