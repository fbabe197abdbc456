//! Where messages and events go, and what messages look like.

use std::ops::Index;

use crate::template::Template;

/// An endpoint, by its index in the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EndpointId(pub usize);

/// A link, by its index in the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LinkId(pub usize);

/// Lists that have an entry for each endpoint, or for each link, in the order of the settings.
macro_rules! indexes {
    ($id:ty: $($list:ty),*) => {$(
        impl<T> Index<$id> for $list {
            type Output = T;

            fn index(&self, id: $id) -> &T {
                &self[id.0]
            }
        }
    )*};
}

indexes!(EndpointId: [T], Vec<T>);
indexes!(LinkId: [T], Vec<T>);

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
    /// `link:NAME`: to the remote of a link.
    Link(LinkId),
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
    /// `disconnect`: its connection has ended.
    Disconnect,
    /// `error`: it could not connect, or its connection ended with an error.
    Error,
}
