//! The format `n8n`: the `message` and `metadata` that n8n's WebSocket server trigger gives to a workflow.

use std::time::SystemTime;

use bytes::Bytes;
use jiff::Timestamp;

use super::decoded::{Audience, Content, Decoded};
use super::json;
use crate::message::{Kind, Message, Origin};

/// The message that n8n's trigger sends to each new client, with the time `now` in it.
pub fn welcome(now: SystemTime) -> Message {
    let text = format!(
        r#"{{"type":"welcome","message":"Connected to n8n WebSocket server","timestamp":"{}"}}"#,
        iso_8601(now)
    );
    Message { kind: Kind::Text, data: Bytes::from(text) }
}

pub(super) fn encode(decoded: &Decoded, origin: &Origin, audience: Audience, now: SystemTime) -> Message {
    let data = &decoded.message.data;
    let description = audience.description(origin);
    let mut out = Vec::with_capacity(data.len() + 256 + description.map_or(0, str::len));
    out.extend_from_slice(br#"{"message":"#);
    match &decoded.content {
        Content::Payload | Content::Parsed => json::write_parsed(&mut out, data),
        Content::Event => out.extend_from_slice(data),
        Content::Value(value) => out.extend_from_slice(&data[value.clone()]),
        Content::Object(object) => {
            out.push(b'{');
            out.extend_from_slice(&object.members);
            out.push(b'}');
        }
    }
    out.extend_from_slice(br#","metadata":{"#);
    if let Some(address) = origin.client_ip {
        out.extend_from_slice(format!(r#""clientIp":"{address}","#).as_bytes());
    }
    if let Some(user_agent) = &origin.user_agent {
        out.extend_from_slice(br#""userAgent":"#);
        json::write_string(&mut out, user_agent);
        out.push(b',');
    }
    if let Some(subprotocol) = &origin.subprotocol {
        out.extend_from_slice(br#""subprotocol":"#);
        json::write_string(&mut out, subprotocol);
        out.push(b',');
    }
    if let Some(identity) = &origin.identity {
        out.extend_from_slice(identity.members().as_bytes());
        out.push(b',');
    }
    if let Some(description) = description {
        out.extend_from_slice(format!(r#""session":"{}","#, origin.session).as_bytes());
        out.extend_from_slice(description.as_bytes());
        out.push(b',');
    }
    if decoded.content == Content::Event {
        out.extend_from_slice(br#""event":true,"#);
    }
    let times = format!(r#""connectedAt":"{}","timestamp":"{}"}}}}"#, iso_8601(origin.connected_at), iso_8601(now));
    out.extend_from_slice(times.as_bytes());
    Message { kind: Kind::Text, data: Bytes::from(out) }
}

/// The time in UTC with milliseconds, as JavaScript's `toISOString` writes it.
pub fn iso_8601(time: SystemTime) -> String {
    // Only a time beyond the year 9999 is out of range.
    let timestamp = Timestamp::try_from(time).unwrap_or(Timestamp::MAX);
    format!("{timestamp:.3}")
}
