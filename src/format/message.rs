//! The format `message`: Node-RED's "entire message", a JSON object with `payload` and `_session`.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

use super::decoded::{Address, Audience, Content, Decoded, Object, RemovedMember};
use super::{description, json};
use crate::id::{Id, Mark};
use crate::message::{Kind, Message, Origin};

/// How many sessions of other gateways are kept for the receivers: one for each gateway on the way back.
const CARRIED_MAX: usize = 8;

pub(super) fn decode(message: &Message) -> Content {
    let text = &message.data;
    // The scanner must be given UTF-8. Text messages are UTF-8: the reader refuses any other.
    if message.kind == Kind::Binary && std::str::from_utf8(text).is_err() {
        return Content::Payload;
    }
    if let Some(object) = object(text) {
        return Content::Object(object);
    }
    match json::value(text) {
        Some(value) => Content::Value(value),
        None => Content::Payload,
    }
}

/// To other endpoints and to the servers of links it describes its sender; to these it also names it in `_wsgate`, for the
/// answer.
pub(super) fn encode(decoded: &Decoded, origin: &Origin, audience: Audience) -> Message {
    let data = &decoded.message.data;
    let mut out = Vec::with_capacity(data.len() + 110 + audience.description(origin).map_or(0, str::len));
    out.push(b'{');
    let description = audience.description(origin);
    match &decoded.content {
        // The description is ours: nobody describes itself.
        Content::Object(object) if object.is_describing && description.is_some() => {
            out.extend_from_slice(&undescribed(&object.members));
        }
        Content::Object(object) => out.extend_from_slice(&object.members),
        Content::Event => {
            out.extend_from_slice(br#""payload":"#);
            out.extend_from_slice(data);
            out.extend_from_slice(br#","_event":true"#);
        }
        Content::Value(value) => {
            out.extend_from_slice(br#""payload":"#);
            out.extend_from_slice(&data[value.clone()]);
        }
        Content::Parsed => {
            out.extend_from_slice(br#""payload":"#);
            json::write_parsed(&mut out, data);
        }
        Content::Payload => {
            out.extend_from_slice(br#""payload":"#);
            match (decoded.message.kind, std::str::from_utf8(data)) {
                (Kind::Text, Ok(text)) => json::write_string(&mut out, text),
                _ => json::write_buffer(&mut out, data),
            }
        }
    }
    // There is no comma after nothing; between the braces of an empty object there may be white space.
    if out[1..].trim_ascii().is_empty() {
        out.truncate(1);
    } else {
        out.push(b',');
    }
    if let Some(description) = description {
        out.extend_from_slice(description.as_bytes());
        out.push(b',');
    }
    if audience == Audience::Remote || !decoded.carried.is_empty() {
        let own = (audience == Audience::Remote).then_some(&origin.session);
        let ids: Vec<_> = own.into_iter().chain(&decoded.carried).map(Id::to_string).collect();
        out.extend_from_slice(br#""_wsgate":""#);
        out.extend_from_slice(ids.join(" ").as_bytes());
        out.extend_from_slice(br#"","#);
    }
    write_session(&mut out, origin);
    out.push(b'}');
    Message { kind: Kind::Text, data: Bytes::from(out) }
}

/// The member that says who the sender is.
fn write_session(out: &mut Vec<u8>, origin: &Origin) {
    out.extend_from_slice(br#""_session":{"type":"websocket","id":""#);
    out.extend_from_slice(origin.session.to_string().as_bytes());
    out.push(b'"');
    if let Some(subprotocol) = &origin.subprotocol {
        out.extend_from_slice(br#","subprotocol":"#);
        json::write_string(out, subprotocol);
    }
    if let Some(identity) = &origin.identity {
        out.push(b',');
        out.extend_from_slice(identity.members().as_bytes());
    }
    out.push(b'}');
}

/// What a message names.
pub(super) struct Named {
    pub(super) address: Option<Address>,
    /// Each once, at most [`CARRIED_MAX`].
    pub(super) of_others: Vec<Id>,
}

/// The sessions that a message names. `_session` counts before `_wsgate`.
pub(super) fn named(text: &[u8], object: &Object, own: Mark) -> Named {
    let unknown = Named { address: Some(Address::Unknown), of_others: Vec::new() };
    let Some(session) = ids(text, &object.session, |value| Some(vec![session_id(value)?])) else { return unknown };
    let is_ours = |id: &Id| id.mark() == own;
    let carried = match ids(text, &object.carried, carried_ids) {
        Some(carried) => carried,
        None if session.iter().any(is_ours) => Vec::new(),
        None => return unknown,
    };
    let all = || session.iter().chain(&carried).copied();
    let mut of_others: Vec<Id> = Vec::new();
    for id in all().filter(|id| !is_ours(id)) {
        if of_others.len() < CARRIED_MAX && !of_others.contains(&id) {
            of_others.push(id);
        }
    }
    Named { address: all().find(is_ours).map(Address::Session), of_others }
}

/// The ids in a removed member; `None` if it is there and has none that can be told.
fn ids(text: &[u8], member: &RemovedMember, read: impl Fn(&[u8]) -> Option<Vec<Id>>) -> Option<Vec<Id>> {
    match member {
        RemovedMember::None => Some(Vec::new()),
        RemovedMember::One(value) if &text[value.clone()] == b"null" => Some(Vec::new()),
        RemovedMember::One(value) => read(&text[value.clone()]),
        RemovedMember::Several => None,
    }
}

/// The ids in the value of `_wsgate`.
fn carried_ids(value: &[u8]) -> Option<Vec<Id>> {
    json::string(value)?.split(' ').map(|id| id.parse().ok()).collect()
}

/// The id in the value of `_session`, which must be an object with exactly one `type`, `websocket`, and one `id`.
fn session_id(value: &[u8]) -> Option<Id> {
    let (mut types, mut ids) = (Vec::new(), Vec::new());
    json::object(value, |member| {
        let key = &value[member.key];
        if json::string_is(key, "type") {
            types.push(member.value);
        } else if json::string_is(key, "id") {
            ids.push(member.value);
        }
    })?;
    match (&types[..], &ids[..]) {
        ([kind], [id]) if json::string_is(&value[kind.clone()], "websocket") => {
            json::string(&value[id.clone()])?.parse().ok()
        }
        _ => None,
    }
}

/// The value at a path of keys, as a text: a string without quotes and escapes, a number or a boolean as written.
pub(super) fn field(text: &[u8], value: Range<usize>, path: &[Box<str>]) -> Option<String> {
    let [first, deeper @ ..] = path else {
        let value = &text[value];
        return match value.first()? {
            b'"' => json::string(value).map(Cow::into_owned),
            b'{' | b'[' | b'n' => None,
            _ => String::from_utf8(value.to_vec()).ok(),
        };
    };
    let mut found = None;
    json::object(&text[value.clone()], |member| {
        if json::string_is(&text[value.clone()][member.key], first) {
            found = Some(value.start + member.value.start..value.start + member.value.end);
        }
    })?;
    field(text, found?, deeper)
}

/// Takes a JSON object apart. `None` if `text` is not a JSON object.
fn object(text: &Bytes) -> Option<Object> {
    let mut kept = Kept::new(text);
    let mut payload = None;
    let mut is_describing = false;
    let (mut session, mut carried, mut event) = (RemovedMember::None, RemovedMember::None, RemovedMember::None);
    let whole = json::object(text, |member| {
        let key = json::string(&text[member.key]);
        let removed = match key.as_deref() {
            Some("_session") => Some(&mut session),
            Some("_wsgate") => Some(&mut carried),
            Some("_event") => Some(&mut event),
            _ => None,
        };
        if let Some(removed) = removed {
            *removed = match removed {
                RemovedMember::None => RemovedMember::One(member.value),
                _ => RemovedMember::Several,
            };
            return kept.leave_out(member.span);
        }
        if key.as_deref() == Some("payload") {
            payload = Some(member.value);
        }
        is_describing |= is_of_description(key.as_deref());
        kept.keep(member.span);
    })?;
    let members = match kept.spliced {
        Some(kept) => Bytes::from(kept),
        None => text.slice(whole.start + 1..whole.end - 1),
    };
    Some(Object { members, is_describing, payload, session, carried })
}

fn is_of_description(key: Option<&str>) -> bool {
    key.is_some_and(|key| description::KEYS.contains(&key))
}

/// The members of an object, without those that have a key of the description.
fn undescribed(members: &[u8]) -> Vec<u8> {
    let text = [b"{", members, b"}"].concat();
    let mut kept = Kept::new(&text);
    json::object(&text, |member| {
        let key = json::string(&text[member.key]);
        if is_of_description(key.as_deref()) { kept.leave_out(member.span) } else { kept.keep(member.span) }
    });
    kept.spliced.unwrap_or_else(|| members.to_vec())
}

/// The members of an object that are kept, copied only from the first one on that is not.
struct Kept<'t> {
    text: &'t [u8],
    /// Where the first member begins.
    open: Option<usize>,
    spliced: Option<Vec<u8>>,
}

impl<'t> Kept<'t> {
    fn new(text: &'t [u8]) -> Kept<'t> {
        Kept { text, open: None, spliced: None }
    }

    fn keep(&mut self, span: Range<usize>) {
        self.open.get_or_insert(span.start);
        if let Some(kept) = &mut self.spliced {
            if !kept.is_empty() {
                kept.push(b',');
            }
            kept.extend_from_slice(&self.text[span]);
        }
    }

    fn leave_out(&mut self, span: Range<usize>) {
        let open = *self.open.get_or_insert(span.start);
        // What is before it, without the comma between them.
        let before = || self.text[open..span.start].strip_suffix(b",").unwrap_or_default().to_vec();
        self.spliced.get_or_insert_with(before);
    }
}
