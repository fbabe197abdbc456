//! Messages of operators: to one client, to a room, or to all rooms of a pattern.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use serde_json::json;

use crate::admin::asked::Asked;
use crate::config::{EndpointId, Format};
use crate::connection::frame::Frame;
use crate::format::{Audience, decode, encode_for};
use crate::http::answer::Answer;
use crate::message::{Kind, Message, Origin};
use crate::path::{Segment, is_value, percent_decoded};
use crate::route::Room;
use crate::shared::generation::Generation;
use crate::shared::members::Step;
use crate::shared::publisher::Publisher;
use crate::shared::rooms::LiveRoom;

/// How long a message waits for room among what is on its way to rooms.
const PATIENCE: Duration = Duration::from_secs(5);

/// Binary messages have this type; all others are text.
const BINARY: &str = "application/octet-stream";

/// `POST /api/v1/clients/{id}/send`: the body is a message for this client, behind what was published for its room.
pub fn send(asked: &Asked<'_>) -> Result<Answer, Answer> {
    let client = asked.client()?;
    let frame = Frame::message(&message(asked)?);
    if !client.rights.receive || client.outbox().is_closing() {
        let why = if client.rights.receive { "the client is leaving" } else { "this client may not receive messages" };
        return Err(Answer::error(409, "conflict", why));
    }
    let publisher = Publisher::of_sender(&asked.admin.shared.budget);
    step(asked, &publisher, &client.room, Step::To(Arc::clone(client.outbox()), frame))?;
    Ok(Answer::json(&json!({ "id": client.id().to_string() })).with_status(202))
}

/// Has a step happen in a room, in its order.
///
/// # Errors
/// 503 where too much is on its way to rooms for too long.
pub fn step(asked: &Asked<'_>, publisher: &Publisher, room: &Arc<LiveRoom>, step: Step) -> Result<(), Answer> {
    let deadline = Instant::now() + PATIENCE;
    let give_up = || Instant::now() >= deadline || asked.admin.has_ended();
    publisher.try_step(room, step).or_else(|step| match publisher.step(room, step, give_up) {
        true => Ok(()),
        false => Err(busy()),
    })
}

/// `POST /api/v1/publish/{path}`: the body is a payload for everybody in the room of this path, or in all rooms of a path
/// with parameters, in the format of the endpoint and as from nobody.
pub fn publish(asked: &Asked<'_>) -> Result<Answer, Answer> {
    let shared = &asked.admin.shared;
    let generation = shared.generation();
    let wanted = Wanted::find(&generation, asked.parameters.first().copied().unwrap_or_default())?;
    let message = message(asked)?;
    let (mut rooms, mut clients) = (HashMap::new(), 0_usize);
    for client in shared.registry.all().iter().filter(|client| client.rights.receive && client.has_begun()) {
        if wanted.contains(&client.room.path) {
            rooms.entry(Arc::as_ptr(&client.room)).or_insert_with(|| Arc::clone(&client.room));
            clients += 1;
        }
    }
    let publisher = Publisher::of_sender(&shared.budget);
    let deadline = Instant::now() + PATIENCE;
    let give_up = || Instant::now() >= deadline || asked.admin.has_ended();
    let mut frames: HashMap<EndpointId, Option<Frame>> = HashMap::new();
    for room in rooms.values() {
        // One that a reload has removed has no format any more, and its clients are about to leave.
        let Some(endpoint) = generation.endpoints.get(room.endpoint()) else { continue };
        let format = endpoint.settings.format;
        let frame = frames.entry(room.endpoint()).or_insert_with(|| encode(format, &message));
        if let Some(frame) = frame
            && !publisher.try_publish(room, None, frame)
            && !publisher.publish(room, None, frame, give_up)
        {
            return Err(busy());
        }
    }
    Ok(Answer::json(&json!({ "clients": clients })))
}

fn busy() -> Answer {
    let why = "too much is on its way to clients: not all of them get it";
    Answer::error(503, "busy", why).with_field("Retry-After", "1")
}

/// The body as a message.
fn message(asked: &Asked<'_>) -> Result<Message, Answer> {
    let essence = asked.content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let kind = if essence.eq_ignore_ascii_case(BINARY) { Kind::Binary } else { Kind::Text };
    if kind == Kind::Text && simdutf8::basic::from_utf8(asked.body).is_err() {
        let why = format!("the body is no UTF-8: send binary messages with Content-Type: {BINARY}");
        return Err(Answer::error(400, "badRequest", &why));
    }
    Ok(Message { kind, data: Bytes::copy_from_slice(asked.body) })
}

/// A payload from nobody, as clients of this format get it.
fn encode(format: Format, message: &Message) -> Option<Frame> {
    let now = SystemTime::now();
    // Nobody has the session 0, so an answer to it reaches nobody.
    let nobody = Origin {
        session: 0.into(),
        client_ip: None,
        user_agent: None,
        subprotocol: None,
        connected_at: now,
        identity: None,
        description: Default::default(),
    };
    let payload = decode(Format::Payload, message.clone());
    encode_for(Audience::Client, format, &payload, &nobody, now).map(|message| Frame::message(&message))
}

/// The rooms that a path stands for.
#[derive(Debug)]
struct Wanted {
    /// Each endpoint, with the value that each of its parameters must have; `None` is any.
    endpoints: Vec<(EndpointId, Vec<Option<String>>)>,
}

impl Wanted {
    /// Those of a path as a URL has it, without the slash before it. Slashes may be encoded too: no value of a parameter
    /// has one.
    ///
    /// # Errors
    /// 404 if no endpoint has such a path.
    fn find(generation: &Generation, path: &str) -> Result<Wanted, Answer> {
        let nowhere = || Answer::error(404, "notFound", "there is no endpoint at this path");
        let path = path.replace("%2F", "/").replace("%2f", "/");
        let decode = |part| percent_decoded(part).map(Cow::into_owned).and_then(|bytes| String::from_utf8(bytes).ok());
        let parts: Vec<String> = path.split('/').map(decode).collect::<Option<_>>().ok_or_else(nowhere)?;
        let is_pattern = parts.iter().any(|part| is_parameter(part));
        let endpoints = match is_pattern {
            true => {
                let fitting = generation.endpoints.iter();
                fitting
                    .filter_map(|(id, endpoint)| Some((id, fit(endpoint.settings.path.segments(), &parts)?)))
                    .collect()
            }
            // As clients of each listener find it.
            false => {
                let mut found: Vec<(EndpointId, Vec<Option<String>>)> = Vec::new();
                for listener in generation.doors.iter().map(|door| &door.settings) {
                    let is_on = |id: EndpointId| {
                        generation.endpoints.get(id).is_some_and(|endpoint| endpoint.settings.is_on(listener))
                    };
                    let room = generation.routes.find(&format!("/{path}"), is_on);
                    if let Some(room) = room.filter(|room| found.iter().all(|(id, _)| *id != room.endpoint())) {
                        let values = room.values().iter().map(|value| Some(value.to_string())).collect();
                        found.push((room.endpoint(), values));
                    }
                }
                found
            }
        };
        if endpoints.is_empty() { Err(nowhere()) } else { Ok(Wanted { endpoints }) }
    }

    fn contains(&self, room: &Room) -> bool {
        let Some((_, wanted)) = self.endpoints.iter().find(|(id, _)| *id == room.endpoint()) else { return false };
        wanted.iter().zip(room.values()).all(|(wanted, own)| wanted.as_deref().is_none_or(|wanted| *wanted == **own))
    }
}

fn is_parameter(part: &str) -> bool {
    part.starts_with('{') && part.ends_with('}')
}

/// What the parameters of an endpoint must be for these parts of a path, of which some are parameters themselves.
fn fit(segments: &[Segment], parts: &[String]) -> Option<Vec<Option<String>>> {
    if segments.len() != parts.len() {
        return None;
    }
    let mut values = Vec::new();
    for (segment, part) in segments.iter().zip(parts) {
        match segment {
            Segment::Literal(literal) if **literal == **part => {}
            Segment::Literal(_) => return None,
            Segment::Parameter(_) if is_parameter(part) => values.push(None),
            Segment::Parameter(_) if is_value(part) => values.push(Some(part.clone())),
            Segment::Parameter(_) => return None,
        }
    }
    Some(values)
}
