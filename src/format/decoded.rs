//! What a message means, whatever format it was written in.

use std::ops::Range;

use bytes::Bytes;

use crate::id::Id;
use crate::message::Message;

/// What a sender's message means. It shares its bytes with the message that it was decoded from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    pub(super) message: Message,
    pub(super) content: Content,
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
    Object(Object),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Object {
    /// The bytes between the braces, without `_session` and `_wsgate`.
    pub(super) members: Bytes,
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
    /// The clients of an endpoint.
    Client,
    /// The server of a link: the format `message` then has the sender's id in `_wsgate` too.
    Remote,
}
