//! Messages as the body of a request: one by itself, or several as NDJSON or a JSON array.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::config::BatchFormat;
use crate::connection::frame::Frame;
use crate::connection::header::Header;
use crate::format::write_buffer;
use crate::message::{Kind, Message};

const JSON: &str = "application/json";

/// A message that is to be posted.
#[derive(Debug, Clone)]
pub(super) struct Numbered {
    /// Among all of its link.
    pub(super) number: u64,
    pub(super) message: Message,
}

/// The messages of a frame for a link that posts, which is not masked.
pub(super) fn messages(frame: &Frame) -> Vec<Message> {
    let encoded = match frame.as_one() {
        Some(bytes) => Cow::Borrowed(bytes),
        None => Cow::Owned(frame.slices(0).iter().flat_map(|slice| slice.to_vec()).collect()),
    };
    let (mut rest, mut messages) = (&*encoded, Vec::new());
    while let Some(header) = Header::parse(rest) {
        let end = header.len.saturating_add(usize::try_from(header.payload).unwrap_or(usize::MAX));
        let Some(payload) = rest.get(header.len..end) else { break };
        if header.is_data() {
            messages.push(Message { kind: header.kind(), data: Bytes::copy_from_slice(payload) });
        }
        rest = &rest[end..];
    }
    messages
}

/// The type and the body for one message by itself: as it stands, which is JSON where it can be.
pub(super) fn alone(message: &Message) -> (&'static str, Vec<u8>) {
    let content_type = match message.kind {
        Kind::Binary => "application/octet-stream",
        Kind::Text if value(&message.data).is_some() => JSON,
        Kind::Text => "text/plain; charset=utf-8",
    };
    (content_type, message.data.to_vec())
}

/// The type and the body for several messages. What is no JSON becomes a string of it, and what is binary what Node.js
/// makes of a Buffer.
pub(super) fn together(batch: &[Numbered], format: BatchFormat) -> (&'static str, Vec<u8>) {
    let mut body = Vec::with_capacity(batch.iter().map(|numbered| numbered.message.data.len() + 1).sum::<usize>() + 2);
    let (content_type, begin, between, end) = match format {
        BatchFormat::Ndjson => ("application/x-ndjson", "", "\n", "\n"),
        BatchFormat::Json => (JSON, "[", ",", "]"),
    };
    body.extend_from_slice(begin.as_bytes());
    for (at, Numbered { message, .. }) in batch.iter().enumerate() {
        if at > 0 {
            body.extend_from_slice(between.as_bytes());
        }
        push(&mut body, message);
    }
    body.extend_from_slice(end.as_bytes());
    (content_type, body)
}

/// Adds a message as a JSON value on one line.
fn push(body: &mut Vec<u8>, message: &Message) {
    match (message.kind, std::str::from_utf8(&message.data)) {
        (Kind::Text, Ok(text)) => match value(&message.data) {
            // In JSON a line can end only between the parts of a value, where a blank is as good.
            Some(value) => {
                body.extend(value.bytes().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }))
            }
            None => serde_json::to_writer(body, text).expect("a Vec takes every byte"),
        },
        _ => write_buffer(body, &message.data),
    }
}

/// The JSON value that a text is.
fn value(text: &[u8]) -> Option<&str> {
    serde_json::from_slice::<&RawValue>(text).ok().map(RawValue::get)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::frame::{Cork, CorkLimits};

    fn text(text: &str) -> Message {
        Message { kind: Kind::Text, data: text.as_bytes().to_vec().into() }
    }

    fn binary(bytes: &[u8]) -> Message {
        Message { kind: Kind::Binary, data: bytes.to_vec().into() }
    }

    #[test]
    fn the_messages_of_a_frame_are_those_that_were_joined_in_it() {
        let long = "x".repeat(70_000);
        let sent = [text("a"), binary(&[0, 1]), text(""), text(&"y".repeat(200)), text(&long)];
        let mut cork = Cork::new(CorkLimits::for_queue(1000, 1 << 20));
        sent.iter().for_each(|message| cork.push(message, 0));
        let found: Vec<Message> = cork.take().as_slice().iter().flat_map(messages).collect();
        assert_eq!(found, sent);
        assert_eq!(messages(&Frame::message(&text(&long))), [text(&long)]);
    }

    #[test]
    fn one_by_itself_is_posted_as_it_stands() {
        for (message, content_type) in [
            (text(" {\"a\":\n1} "), "application/json"),
            (text("12"), "application/json"),
            (text("{a"), "text/plain; charset=utf-8"),
            (text(""), "text/plain; charset=utf-8"),
            (binary(b"{}"), "application/octet-stream"),
        ] {
            assert_eq!(alone(&message), (content_type, message.data.to_vec()));
        }
    }

    #[test]
    fn several_are_each_a_value_of_json_on_one_line() {
        let sent = [text("{\"a\":\r\n 1}"), text("no \"JSON\"\n"), binary(&[7, 255])];
        let batch: Vec<_> = (0..).zip(sent).map(|(number, message)| Numbered { number, message }).collect();
        let (ndjson, json) = (together(&batch, BatchFormat::Ndjson), together(&batch, BatchFormat::Json));
        let values = ["{\"a\":   1}", "\"no \\\"JSON\\\"\\n\"", "{\"type\":\"Buffer\",\"data\":[7,255]}"];
        assert_eq!(String::from_utf8(ndjson.1).unwrap(), values.map(|value| format!("{value}\n")).concat());
        assert_eq!(String::from_utf8(json.1).unwrap(), format!("[{}]", values.join(",")));
        assert_eq!((ndjson.0, json.0), ("application/x-ndjson", "application/json"));
    }
}
