//! The formats: what a sender's message means, and how it looks to a receiver.
//!
//! A message is [decoded](decode) once in the format of its sender and [encoded](encode) once for each format that is
//! received. Both are pure, and both pass on the sender's own bytes: a value is never parsed and written anew, which
//! would turn long integers into floats, drop duplicate keys and reorder the rest.
//!
//! # What is read
//!
//! | sent in | what it means |
//! | --- | --- |
//! | `payload` | a payload: the text or the bytes, whatever is in them |
//! | `n8n` | the same; JSON in it is recognised by the receiving format |
//! | `message`, a JSON object, as text or binary | a message: its members, of which `payload` is the payload |
//! | `message`, other JSON (`null` and arrays too) | a message whose payload is this value |
//! | `message`, anything else | a message whose payload is the text or the bytes |
//!
//! JSON is RFC 8259 in UTF-8 without a byte order mark. Numbers of any length and size and lone surrogates are valid;
//! nesting beyond 1,024 levels is not JSON to us, and such a message is a text like any other.
//!
//! # What is written
//!
//! | received in | sent in `payload` | sent in `n8n` | sent in `message` |
//! | --- | --- | --- | --- |
//! | `payload` | as it came, without a look or a copy | as it came | the payload, below |
//! | `message` | `{"payload": string or Buffer, "_session"}` | `{"payload": JSON, string or Buffer, "_session"}` | the members, then `_session` |
//! | `n8n` | `{"message": JSON, string or Buffer, "metadata"}` | the same | the same, without `_session` |
//!
//! - A *string* is the text as a JSON string; a *Buffer* is `{"type":"Buffer","data":[1,2,3]}`, the form in which
//!   Node.js and so Node-RED write binary data. "JSON, string or Buffer" is the first of them that fits: the bytes
//!   themselves if they are JSON, a string if they are UTF-8, else a Buffer. Where a payload is a "string or
//!   Buffer", text is a string and binary a Buffer, as in Node-RED.
//! - **The payload of a message, as a payload**: a string is sent as the text that it stands for; a Buffer (with an
//!   array or with base64) as a binary message; any other value as its JSON. A string with a lone surrogate stands for
//!   no text, so its JSON is sent. A message without `payload` is not sent, as in Node-RED; an empty string is, as an
//!   empty message, which Node-RED swallows. Of several `payload` members the last one counts, as in `JSON.parse`.
//! - **`_session`**: what a sender of the format `message` wrote there is removed, all of it: every duplicate, however
//!   its key is escaped, whatever its value. In its place, at the end, stands the sender's own:
//!   `{"type":"websocket","id":"<16 hex digits>"}`, with a `subprotocol` if one was agreed. So nobody can write in
//!   another's name. All other bytes between the
//!   braces are as they came. A `_session` deeper inside is data, and so is one in JSON that is a payload; a
//!   `_Session` is another member.
//! - **`_wsgate`**: over a link the sender's id stands there too, as a string. Node-RED puts a `_session` of its own in
//!   place of ours and takes it out of answers, but passes `_wsgate` on, so an answer finds back. Whatever a sender
//!   writes there is removed like a `_session`, and addresses like one where that is allowed.
//! - **`metadata`**: `clientIp` (not on a Unix socket), `userAgent` and `subprotocol` (if there was one),
//!   `connectedAt` and `timestamp`, the times as JavaScript writes them: `2026-01-31T23:59:59.999Z`.
//! - What is written in `message` and `n8n` is a text message.

mod json;
mod message;
mod n8n;
mod payload;

use std::ops::Range;
use std::time::SystemTime;

use bytes::Bytes;

use crate::config::Format;
use crate::id::Id;
use crate::message::{Kind, Message, Origin};

pub use n8n::{iso_8601, welcome as welcome_n8n};

/// What a sender's message means. It shares the bytes of the message that it was decoded from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    message: Message,
    content: Content,
}

/// Whom the sender wants to reach, as its `_session` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address {
    /// This client.
    Session(Id),
    /// Somebody, but it cannot be said whom: `_session` stands there more than once, is not of the type `websocket` or
    /// holds no id. Such a message is for nobody: what was meant for one client must not reach all of them.
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Content {
    /// The message is a payload: text is a string, binary is bytes.
    Payload,
    /// The message is a payload that is JSON if it looks like it.
    Parsed,
    /// The payload is the JSON value in this range of the message.
    Value(Range<usize>),
    /// The members of a JSON object.
    Object(Object),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Object {
    /// What stands between the braces, without `_session` and `_wsgate`.
    members: Bytes,
    /// The value of the last `payload`, as a range of the message.
    payload: Option<Range<usize>>,
    session: Session,
    carried: Session,
}

/// The `_session`, or the `_wsgate`, that was removed from an object.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Session {
    None,
    /// Its value, as a range of the message.
    One(Range<usize>),
    Several,
}

impl Decoded {
    /// A text that is JSON, as the payload of a message of our own.
    pub fn json(text: Bytes) -> Decoded {
        let whole = 0..text.len();
        Decoded { message: Message { kind: Kind::Text, data: text }, content: Content::Value(whole) }
    }

    /// The client that the sender addresses: the `_session` of a message in the format `message`, or its `_wsgate`.
    ///
    /// `None` if there is neither or if it is `null`. Whether the sender may address anybody is not known here.
    pub fn address(&self) -> Option<Address> {
        match &self.content {
            Content::Object(object) => message::address(&self.message.data, object),
            Content::Payload | Content::Parsed | Content::Value(_) => None,
        }
    }

    /// The value at a path of keys as a text: of the object that a sender of the format `message` wrote, else of the
    /// payload. `None` if nothing is there, or an object, an array or `null`.
    pub fn field(&self, path: &[Box<str>]) -> Option<String> {
        let data = &self.message.data;
        let text = std::str::from_utf8(data).ok()?.as_bytes();
        message::field(text, json::value(text)?, path)
    }
}

/// Reads a message in its sender's format. Every message means something: there are no errors.
pub fn decode(format: Format, message: Message) -> Decoded {
    let content = match format {
        Format::Payload => Content::Payload,
        Format::Message => message::decode(&message),
        Format::N8n => Content::Parsed,
    };
    Decoded { message, content }
}

/// Writes a message in a receiver's format; `origin` is its sender and `now` the time it arrived.
///
/// `None` if there is nothing to send: a message without a payload, for a receiver of payloads.
pub fn encode(format: Format, decoded: &Decoded, origin: &Origin, now: SystemTime) -> Option<Message> {
    match format {
        Format::Payload => payload::encode(decoded),
        Format::Message => Some(message::encode(decoded, origin, false)),
        Format::N8n => Some(n8n::encode(decoded, origin, now)),
    }
}

/// As [`encode`], for the remote of a link: in the format `message` it finds the sender in `_wsgate` too.
pub fn encode_for_link(format: Format, decoded: &Decoded, origin: &Origin, now: SystemTime) -> Option<Message> {
    match format {
        Format::Message => Some(message::encode(decoded, origin, true)),
        _ => encode(format, decoded, origin, now),
    }
}

#[cfg(test)]
mod tests;
