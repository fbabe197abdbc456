//! The formats: what a sender's message means, and how it looks to a receiver.
//!
//! A message is [decoded](decode) once, in the format of its sender, and [encoded](encode) once for each format in
//! which it is received. Both are pure functions, and both pass on the sender's own bytes. A value is never parsed and
//! written again: that would turn long integers into floats, drop duplicate keys and reorder the rest.
//!
//! # What is read
//!
//! | sent in | what it means |
//! | --- | --- |
//! | `payload` | a payload: the text or the bytes, whatever they hold |
//! | `n8n` | the same; the receiving format recognises JSON in it |
//! | `message`, a JSON object, as text or binary | a message: its members, of which `payload` is the payload |
//! | `message`, other JSON (also `null` and arrays) | a message whose payload is this value |
//! | `message`, anything else | a message whose payload is the text or the bytes |
//!
//! JSON is RFC 8259 in UTF-8 without a byte order mark. Numbers of any length and size are valid, and so are lone
//! surrogates. A text that nests deeper than 1,024 levels is not treated as JSON but as any other text.
//!
//! # What is written
//!
//! | received in | sent in `payload` | sent in `n8n` | sent in `message` |
//! | --- | --- | --- | --- |
//! | `payload` | as it came, neither read nor copied | as it came | the payload, see below |
//! | `message` | `{"payload": string or Buffer, "_session"}` | `{"payload": JSON, string or Buffer, "_session"}` | the members, then `_session` |
//! | `n8n` | `{"message": JSON, string or Buffer, "metadata"}` | the same | the same, without `_session` |
//!
//! - A *string* is the text as a JSON string. A *Buffer* is `{"type":"Buffer","data":[1,2,3]}`, the form in which
//!   Node.js, and therefore Node-RED, writes binary data. "JSON, string or Buffer" is the first of the three that fits:
//!   the bytes themselves if they are JSON, a string if they are UTF-8, else a Buffer. "String or Buffer" is a string
//!   for a text message and a Buffer for a binary one, as in Node-RED.
//! - **The payload of a message, received as a payload**: a string is sent as its text, a Buffer (an array or base64)
//!   as a binary message, any other value as its JSON. A string with a lone surrogate has no text in UTF-8, so its JSON
//!   is sent. A message without `payload` is not sent, as in Node-RED. An empty string is sent as an empty message;
//!   Node-RED drops it. If there are several `payload` members, the last one counts, as in `JSON.parse`.
//! - **`_session`**: every `_session` that a sender wrote in the format `message` is removed, duplicates too, however
//!   its key is escaped and whatever its value is. The sender's own is added at the end:
//!   `{"type":"websocket","id":"<16 hex digits>"}`, with a `subprotocol` if one was agreed, and with `identity` and `claims` if the sender was authenticated. So no client can send in
//!   the name of another one. All other bytes between the braces stay as they came. A `_session` inside another value
//!   or inside JSON that is a payload is data; `_Session` is another member.
//! - **`_wsgate`**: over a link, the sender's id is also in this member, as a string. Node-RED replaces our `_session`
//!   with its own and removes it from answers, but it passes `_wsgate` on, so an answer reaches the sender. A `_wsgate`
//!   that a sender wrote is removed like a `_session`, and it addresses like one where that is allowed.
//! - **`_event`**: an [event](crate::events) has `"_event": true` beside its payload. A sender's own is removed, as its
//!   `_session` is, so an event cannot be forged.
//! - **Other gateways**: the last four digits of an id are those of its gateway. Where addressing is allowed, ids of other
//!   gateways in `_session` and `_wsgate` are data: they follow in `_wsgate`, separated by blanks, behind our own if that
//!   is there. So an answer finds its way back through several gateways, each of which takes out its own. More than
//!   eight are not kept.
//! - **The description**: `path`, `parameters` and `query` of the sender's request, the path and the parameters as in
//!   events, are in what goes to other endpoints and to links. A sender's own members with these keys are removed there.
//!   It is made once for each client ([`describe`]).
//! - **`metadata`**: `clientIp` (not on a Unix socket), `userAgent` (its first 256 bytes) and `subprotocol` (if there was
//!   one), `session` and the description where there is one, `event` if it is one, `connectedAt` and `timestamp`. Times are written as in JavaScript: `2026-01-31T23:59:59.999Z`.
//! - The formats `message` and `n8n` are always written as text messages.

mod decoded;
mod description;
mod json;
mod message;
mod n8n;
mod payload;

use std::time::SystemTime;

use bytes::Bytes;

use crate::config::Format;
use crate::id::Mark;
use crate::message::{Kind, Message, Origin};

use decoded::Content;

pub use decoded::{Address, Audience, Decoded};
pub use description::describe;
pub use json::write_buffer;
pub use n8n::{iso_8601, welcome as welcome_n8n};

impl Decoded {
    /// An event, whose payload is `text`. `text` must be JSON, and no text.
    pub fn event(text: Bytes) -> Decoded {
        let message = Message { kind: Kind::Text, data: text };
        Decoded { message, content: Content::Event, carried: Vec::new() }
    }

    /// The client of the gateway `own` that the sender addresses with the `_session` of a message in the format
    /// `message`, or else with its `_wsgate`. Sessions of other gateways in them are kept for the receivers.
    ///
    /// `None` if neither names one of ours. The caller decides whether the sender may address other clients; if not, it
    /// does not call this.
    pub fn take_address(&mut self, own: Mark) -> Option<Address> {
        let Content::Object(object) = &self.content else { return None };
        let named = message::named(&self.message.data, object, own);
        self.carried = named.of_others;
        named.address
    }

    /// The value at a path of keys, as a text. The path starts at the object that the sender sent.
    ///
    /// `None` if the path leads to nothing, or to an object, an array or `null`.
    pub fn field(&self, path: &[Box<str>]) -> Option<String> {
        let data = &self.message.data;
        let text = std::str::from_utf8(data).ok()?.as_bytes();
        message::field(text, json::value(text)?, path)
    }
}

/// Reads a message in its sender's format. This never fails: what is not valid in the format is a payload.
pub fn decode(format: Format, message: Message) -> Decoded {
    let content = match format {
        Format::Payload => Content::Payload,
        Format::Message => message::decode(&message),
        Format::N8n => Content::Parsed,
    };
    Decoded { message, content, carried: Vec::new() }
}

/// Writes a message in a receiver's format. `origin` is its sender; `now` is the time at which it arrived.
///
/// `None` if there is nothing to send: the receiver takes payloads, and the message has none.
pub fn encode(format: Format, decoded: &Decoded, origin: &Origin, now: SystemTime) -> Option<Message> {
    encode_for(Audience::Client, format, decoded, origin, now)
}

/// As [`encode`], for this audience.
pub fn encode_for(
    audience: Audience,
    format: Format,
    decoded: &Decoded,
    origin: &Origin,
    now: SystemTime,
) -> Option<Message> {
    match format {
        Format::Payload => payload::encode(decoded),
        Format::Message => Some(message::encode(decoded, origin, audience)),
        Format::N8n => Some(n8n::encode(decoded, origin, audience, now)),
    }
}

#[cfg(test)]
mod tests;
