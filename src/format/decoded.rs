//! What a message means, whatever format it was written in.

use std::ops::Range;

use bytes::Bytes;

use crate::id::Id;
use crate::message::{Message, Origin};

/// What a sender's message means. It shares its bytes with the message that it was decoded from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    pub(super) message: Message,
    pub(super) content: Content,
    /// Sessions of other gateways that the message is about, as far as its sender may name any.
    pub(super) carried: Vec<Id>,
}

/// The client that the sender wants to reach, according to the `_session` that it wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address {
    /// The client with this session id.
    Session(Id),
    /// An unknown client: there is more than one `_session`, it is not of the type `websocket` or it holds no id. No
    /// client may get such a message: what was meant for one client must not reach all of them.
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// The message is a payload: text is a string, binary is bytes.
    Payload,
    /// The message is a payload; a receiver that takes JSON gets it as JSON if it is valid JSON.
    Parsed,
    /// The payload is the JSON value in this range of the message.
    Value(Range<usize>),
    /// The message is an event of the gateway's own, and JSON.
    Event,
    Object(Object),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Object {
    /// The bytes between the braces, without `_session`, `_wsgate` and `_event`.
    pub(super) members: Bytes,
    /// One of them has a key of the description.
    pub(super) is_describing: bool,
    /// Where the value of the last `payload` is in the message.
    pub(super) payload: Option<Range<usize>>,
    pub(super) session: RemovedMember,
    pub(super) carried: RemovedMember,
}

/// The `_session` or `_wsgate` that was removed from an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RemovedMember {
    None,
    /// Where its value is in the message.
    One(Range<usize>),
    Several,
}

/// Who reads what is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// The clients of the sender's own room, or one client.
    Client,
    /// The clients of an endpoint that is a destination: they get the description of the sender.
    Consumer,
    /// The server of a link: it gets the description, and in the format `message` the sender's id in `_wsgate` too.
    Remote,
}

impl Audience {
    /// The description of a sender, if this audience gets it.
    pub(super) fn description(self, origin: &Origin) -> Option<&str> {
        origin.description.get().map(|description| &**description).filter(|_| self != Audience::Client)
    }
}
