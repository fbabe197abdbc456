//! The formats, each sent into each, against a naive reading of the table in `src/format/mod.rs`.
//!
//! Input: a digit, then the message. The digit says what is sent: 0 a `payload`, 1 a `message`, 2 an `n8n`, as text;
//! 3 to 5 the same, as binary.

#![no_main]

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;
use wsgate::internals::config::Format;
use wsgate::internals::format::{Address, Audience, decode, encode, encode_for};
use wsgate::internals::id::Id;
use wsgate::internals::message::{Kind, Message, Origin};

/// Levels of nesting beyond which a text is not JSON to the gateway.
const DEPTH_MAX: usize = 1024;

const SESSION: u64 = 0x0123_4567_89ab_cdef;
const OWN: &str = r#"{"type":"websocket","id":"0123456789abcdef"}"#;
const DESCRIPTION: &str = r#""path":"/a","parameters":{},"query":{"q":"1"}"#;
const USER_AGENT: &str = "a \"b\"\\\n\u{0}\u{2028}";

fuzz_target!(|data: &[u8]| {
    let Some((&digit, data)) = data.split_first() else { return };
    let from = [Format::Payload, Format::Message, Format::N8n][usize::from(digit % 3)];
    let kind = if digit.wrapping_sub(b'0') % 6 < 3 { Kind::Text } else { Kind::Binary };
    if kind == Kind::Text && std::str::from_utf8(data).is_err() {
        return;
    }
    let sent = Message { kind, data: Bytes::copy_from_slice(data) };
    let meaning = Meaning::of(from, &sent);
    let mut decoded = decode(from, sent.clone());
    let origin = Origin {
        session: Id::from(SESSION),
        client_ip: Some([10, 0, 0, 7].into()),
        user_agent: Some(USER_AGENT.into()),
        subprotocol: None,
        connected_at: SystemTime::UNIX_EPOCH,
        identity: None,
        description: Default::default(),
    };
    let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_772_323_200_007);
    let received = |format| encode(format, &decoded, &origin, now);

    assert_eq!(received(Format::Payload), meaning.as_payload(&sent));

    let message = received(Format::Message).expect("every message can be a message");
    let own = sessions(as_message(&message, &meaning, &sent));
    assert_eq!(own, [OWN], "somebody else's session");
    // Whoever answers to what it received reaches the sender and nobody else.
    let mut answer = decode(Format::Message, message.clone());
    assert_eq!(answer.take_address(Id::from(SESSION).mark()), Some(Address::Session(Id::from(SESSION))));
    if from == Format::Payload {
        let back = encode(Format::Payload, &answer, &origin, now);
        assert_eq!(back.as_ref(), Some(&sent), "a payload is not lossless through a message");
    }

    // Receivers elsewhere get one description, which is ours.
    let sender = Origin { description: OnceLock::from(Arc::from(DESCRIPTION)), ..origin.clone() };
    let described = encode_for(Audience::Consumer, Format::Message, &decoded, &sender, now).expect("it is a message");
    let all = members(json(&described.data).expect("it is JSON")).expect("it is an object");
    for (key, value) in [("path", r#""/a""#), ("parameters", "{}"), ("query", r#"{"q":"1"}"#)] {
        let found: Vec<_> = all.iter().filter(|member| is_string(member.key, key)).map(|member| member.value).collect();
        assert_eq!(found, [value], "{key}");
    }
    assert!(!all.iter().any(|member| is_string(member.key, "_event")), "an event that is none");

    as_n8n(&received(Format::N8n).expect("every message can be an n8n"), &meaning, &sent);

    // Only a `_session` at the top of a message addresses anybody.
    let written = if let Meaning::Object(members) = &meaning { sessions(members.clone()) } else { Vec::new() };
    match (decoded.take_address(Id::from(SESSION).mark()), &written[..]) {
        (None, [] | ["null"]) => {}
        // That of another gateway: 16 hex digits, of which the last four are not ours.
        (None, [one]) => assert!(is_of_another(one), "{one} is nobody"),
        (Some(Address::Unknown), [_, ..]) => {}
        (Some(Address::Session(id)), [one]) => assert!(names(one, &id.to_string()), "{id} is not in {one}"),
        (address, _) => panic!("{address:?} for {written:?}"),
    }
});

/// What a message means, as the documentation of the formats says it.
enum Meaning<'a> {
    /// Text is a string, binary is bytes.
    Payload,
    /// JSON if it looks like it.
    Parsed,
    /// A JSON value.
    Value(&'a str),
    /// An object's members.
    Object(Vec<Member<'a>>),
}

impl<'a> Meaning<'a> {
    fn of(from: Format, sent: &'a Message) -> Meaning<'a> {
        match (from, json(&sent.data)) {
            (Format::Payload, _) => Meaning::Payload,
            (Format::N8n, _) => Meaning::Parsed,
            (Format::Message, None) => Meaning::Payload,
            (Format::Message, Some(value)) => members(value).map_or(Meaning::Value(value), Meaning::Object),
        }
    }

    fn as_payload(&self, sent: &Message) -> Option<Message> {
        match self {
            Meaning::Payload | Meaning::Parsed => Some(sent.clone()),
            Meaning::Value(value) => Some(payload(value)),
            Meaning::Object(members) => {
                members.iter().rev().find(|member| is_string(member.key, "payload")).map(|member| payload(member.value))
            }
        }
    }
}

/// The members of what a receiver of the format `message` got, whose other members are those that were sent.
fn as_message<'a>(received: &'a Message, meaning: &Meaning<'_>, sent: &Message) -> Vec<Member<'a>> {
    assert_eq!(received.kind, Kind::Text);
    let text = json(&received.data).expect("it is JSON");
    let all = members(text).expect("it is an object");
    let (session, others) = all.split_last().expect("it has a session");
    assert_eq!(session.key, r#""_session""#, "the session is not the last");
    match meaning {
        Meaning::Object(members) => {
            let kept = members.iter().filter(|member| !is_removed(member.key));
            assert!(kept.map(|member| member.span.trim()).eq(others.iter().map(|member| member.span.trim())), "{text}");
        }
        _ => {
            let [Member { key: r#""payload""#, value, .. }] = others else { panic!("more than a payload: {text}") };
            match meaning {
                Meaning::Value(value_sent) => assert_eq!(value, value_sent),
                Meaning::Parsed => parsed(value, &sent.data),
                _ if sent.kind == Kind::Text => {
                    assert_eq!(string(value).map(String::into_bytes), Some(sent.data.to_vec()))
                }
                _ => assert_eq!(buffer(value), Some(sent.data.to_vec())),
            }
        }
    }
    all
}

fn as_n8n(received: &Message, meaning: &Meaning<'_>, sent: &Message) {
    assert_eq!(received.kind, Kind::Text);
    let text = json(&received.data).expect("it is JSON");
    let all = members(text).expect("it is an object");
    let [Member { key: r#""message""#, value, .. }, Member { key: r#""metadata""#, value: metadata, .. }] = &all[..]
    else {
        panic!("other members: {text}");
    };
    let metadata: serde_json::Value = serde_json::from_str(metadata).expect("it is JSON");
    assert_eq!(metadata["userAgent"], USER_AGENT);
    assert_eq!(metadata["timestamp"], "2026-03-01T00:00:00.007Z");
    match meaning {
        Meaning::Object(members_sent) => {
            let kept = members_sent.iter().filter(|member| !is_removed(member.key));
            let received = members(value).expect("the members are an object");
            assert!(
                kept.map(|member| member.span.trim()).eq(received.iter().map(|member| member.span.trim())),
                "{text}"
            );
        }
        Meaning::Value(value_sent) => assert_eq!(value, value_sent),
        Meaning::Payload | Meaning::Parsed => parsed(value, &sent.data),
    }
}

/// What is written where JSON, a string or a Buffer may stand: the first that fits.
fn parsed(value: &str, sent: &[u8]) {
    match (json(sent), std::str::from_utf8(sent)) {
        (Some(json), _) => assert_eq!(value, json),
        (None, Ok(text)) => assert_eq!(string(value).as_deref(), Some(text)),
        (None, Err(_)) => assert_eq!(buffer(value).as_deref(), Some(sent)),
    }
}

/// A value as a payload.
fn payload(value: &str) -> Message {
    if let Some(text) = string(value) {
        return Message { kind: Kind::Text, data: text.into() };
    }
    match buffer(value) {
        Some(bytes) => Message { kind: Kind::Binary, data: bytes.into() },
        None => Message { kind: Kind::Text, data: Bytes::copy_from_slice(value.as_bytes()) },
    }
}

/// The values of the members that are a `_session`.
fn sessions<'a>(members: Vec<Member<'a>>) -> Vec<&'a str> {
    members.into_iter().filter(|member| is_string(member.key, "_session")).map(|member| member.value).collect()
}

/// Whether a session says `websocket` and this id, each once.
fn names(session: &str, id: &str) -> bool {
    let Some(members) = members(session) else { return false };
    [("type", "websocket"), ("id", id)].iter().all(|(key, value)| {
        let own: Vec<_> = members.iter().filter(|member| is_string(member.key, key)).collect();
        own.len() == 1 && is_string(own[0].value, value)
    })
}

/// Whether a session is one, and not of our gateway.
fn is_of_another(session: &str) -> bool {
    let members = members(session).unwrap_or_default();
    let id = members.iter().find(|member| is_string(member.key, "id")).and_then(|member| string(member.value));
    let is_foreign = |id: &String| id.parse::<Id>().is_ok_and(|id| id.mark() != Id::from(SESSION).mark());
    id.is_some_and(|id| is_foreign(&id) && names(session, &id))
}

/// The one JSON value that a text is, without the white space around it.
fn json(data: &[u8]) -> Option<&str> {
    let value: &RawValue = serde_json::from_slice(data).ok()?;
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in value.get().bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth -= 1,
            _ => {}
        }
        if depth > DEPTH_MAX {
            return None;
        }
    }
    Some(value.get())
}

#[derive(Debug, Clone)]
struct Member<'a> {
    span: &'a str,
    key: &'a str,
    value: &'a str,
}

/// The members of valid JSON, if it is an object.
fn members(object: &str) -> Option<Vec<Member<'_>>> {
    let inner = object.strip_prefix('{')?.strip_suffix('}')?;
    let mut members = Vec::new();
    let (mut start, mut colon) = (0, None);
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for (at, byte) in inner.bytes().chain([b',']).enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth -= 1,
            b':' if depth == 0 => colon = Some(at),
            b',' if depth == 0 => {
                if let Some(colon) = colon.take() {
                    let space = [' ', '\t', '\n', '\r'];
                    let (key, value) = (&inner[start..colon], &inner[colon + 1..at]);
                    let (key, value) = (key.trim_matches(space), value.trim_matches(space));
                    members.push(Member { span: &inner[start..at], key, value });
                }
                start = at + 1;
            }
            _ => {}
        }
    }
    Some(members)
}

/// Whether the gateway removes a sender's own member with this key.
fn is_removed(key: &str) -> bool {
    ["_session", "_wsgate", "_event"].iter().any(|own| is_string(key, own))
}

fn is_string(value: &str, text: &str) -> bool {
    string(value).is_some_and(|string| string == text)
}

/// What a valid JSON string stands for; `None` for other values, and with half a surrogate pair in it.
fn string(value: &str) -> Option<String> {
    let mut characters = value.strip_prefix('"')?.strip_suffix('"')?.chars();
    let mut units: Vec<u16> = Vec::new();
    while let Some(c) = characters.next() {
        let unit = match c {
            '\\' => match characters.next()? {
                'u' => u16::from_str_radix(&characters.by_ref().take(4).collect::<String>(), 16).ok()?,
                'b' => 8,
                'f' => 12,
                'n' => 10,
                'r' => 13,
                't' => 9,
                other => other as u16,
            },
            c => {
                units.extend_from_slice(c.encode_utf16(&mut [0; 2]));
                continue;
            }
        };
        units.push(unit);
    }
    String::from_utf16(&units).ok()
}

/// The bytes of a Node.js Buffer in JSON: two members, `type` and `data`.
fn buffer(value: &str) -> Option<Vec<u8>> {
    let members = members(value)?;
    let data = |member: &Member<'_>| is_string(member.key, "data");
    let kind = |member: &Member<'_>| is_string(member.key, "type") && is_string(member.value, "Buffer");
    let data = match &members[..] {
        [a, b] if kind(a) && data(b) => b.value,
        [a, b] if data(a) && kind(b) => a.value,
        _ => return None,
    };
    if let Some(text) = string(data) {
        return data_encoding::BASE64.decode(text.as_bytes()).ok();
    }
    let elements: Vec<&RawValue> = serde_json::from_str(data).ok()?;
    let byte = |element: &&RawValue| {
        let digits = element.get();
        if digits.bytes().all(|digit| digit.is_ascii_digit()) { digits.parse().ok() } else { None }
    };
    elements.iter().map(byte).collect()
}
