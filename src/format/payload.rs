//! The format `payload`: the payload of a message and nothing around it.

use std::borrow::Cow;

use bytes::Bytes;

use super::decoded::{Content, Decoded};
use super::json;
use crate::message::{Kind, Message};

pub(super) fn encode(decoded: &Decoded) -> Option<Message> {
    let data = &decoded.message.data;
    match &decoded.content {
        Content::Payload | Content::Parsed | Content::Event => Some(decoded.message.clone()),
        Content::Value(value) => Some(of_value(data.slice(value.clone()))),
        Content::Object(object) => object.payload.clone().map(|payload| of_value(data.slice(payload))),
    }
}

/// The message that a receiver of payloads gets for a payload that is this JSON value.
fn of_value(value: Bytes) -> Message {
    let text = match json::string(&value) {
        // Without escapes the text is the bytes between the quotes, so they are shared and not copied.
        Some(Cow::Borrowed(text)) => value.slice_ref(text.as_bytes()),
        Some(Cow::Owned(text)) => Bytes::from(text),
        None => match json::buffer(&value) {
            Some(bytes) => return Message { kind: Kind::Binary, data: Bytes::from(bytes) },
            None => value,
        },
    };
    Message { kind: Kind::Text, data: text }
}
