//! One request with messages: whether it is let in, as a client would be, and what becomes of its body.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use log::{debug, info};
use serde_json::json;

use crate::approach::AskedHost;
use crate::client::admission;
use crate::client::asked::Asked;
use crate::client::authenticate::{Access, Denied};
use crate::client::identify::{Requester, identify};
use crate::client::incoming::{Incoming, Unnamed, approach, check_address, count_address, may_not_come};
use crate::client::origin;
use crate::client::rejection::{leaving, too_many};
use crate::config::{ClientAddress, EndpointSettings, Origins};
use crate::connection::handshake::{Head, HeadError};
use crate::connection::intake::IntakeLimits;
use crate::connection::peer::Received;
use crate::connection::read_loop::Handler;
use crate::dispatch::{Dispatch, PostSender};
use crate::display::count;
use crate::http::answer::{Answer, Then};
use crate::http::call::{self, Call};
use crate::http::cors;
use crate::http::posted::Form;
use crate::http::refusal::{Body, Refusal};
use crate::http::request;
use crate::log_kind::REFUSALS;
use crate::message::{Message, Origin};
use crate::route::Room;
use crate::shared::Shared;
use crate::shared::endpoint::Endpoint;
use crate::shared::endpoint_counters::EndpointCounters;
use crate::shared::generation::Generation;
use crate::shared::places::Visitor;
use crate::shared::post_rates::{PostRates, Who};
use crate::shared::posts::Busy;
use crate::shared::publisher::Publisher;
use crate::shared::sending::Post;
use crate::shared::undelivered::Undelivered;

/// How long messages wait for room on their way to their destinations. Then the answer is 503.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a body may take without a `message_timeout`.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What is there to be asked for at an endpoint with `post`.
const METHODS: &str = "GET, POST, OPTIONS";

/// How many characters of a path stand in the log.
const SHOWN: usize = 200;

/// The requests of one connection.
#[derive(Debug)]
pub(super) struct Requests {
    /// How the connection stands before a request says whose it is.
    unnamed: Unnamed,
    /// Whom a proxy has named last, if it has: the connection counts for that address.
    counted: Option<Option<IpAddr>>,
    connected_at: SystemTime,
}

/// What a request is answered.
#[derive(Debug)]
pub(super) struct Answered<'a> {
    pub(super) answer: Answer,
    pub(super) body: Body,
    pub(super) then: Then,
    /// What has come behind the request.
    pub(super) behind: Vec<u8>,
    /// A stop waits until the answer to messages that were taken is on its way.
    pub(super) busy: Option<Busy<'a>>,
}

/// Why a request has no messages that were taken.
enum Untaken {
    /// It is answered so, which is no refusal.
    Answered(Answer),
    Refused(Refusal),
    /// There is nobody to answer.
    Gone,
}

impl From<Refusal> for Untaken {
    fn from(refusal: Refusal) -> Untaken {
        Untaken::Refused(refusal)
    }
}

/// What was found out about a request on the way, for its answer and for the metrics.
#[derive(Debug, Default)]
struct Known<'s> {
    /// Those of its endpoint.
    counters: Option<Arc<EndpointCounters>>,
    /// What its answer says to a page of another origin.
    cors: Vec<(&'static str, String)>,
    /// Its body was read.
    is_whole: bool,
    /// Its messages are being taken.
    busy: Option<Busy<'s>>,
}

/// A request that is let in.
struct Granted {
    room: Room,
    counters: Arc<EndpointCounters>,
    origin: Origin,
    form: Form,
    message_max: usize,
    body_timeout: Duration,
    /// What its client may post, where that is limited.
    rate: Option<(Arc<PostRates>, Who, IntakeLimits)>,
    /// Its place on the endpoint.
    _place: Visitor,
}

impl Requests {
    /// Those of a connection whose first head was read.
    pub(super) fn new(incoming: &Incoming) -> Requests {
        Requests { unnamed: incoming.unnamed(), counted: None, connected_at: SystemTime::now() }
    }

    /// A request begins, which may be another client's than the last one.
    pub(super) fn begin(&self, incoming: &mut Incoming) {
        incoming.forget_name(&self.unnamed);
    }

    /// A request begins that is not one of these.
    pub(super) fn end(&self, incoming: &mut Incoming) {
        if self.counted.is_some() {
            incoming.connection.is_from(None);
        }
    }

    /// Hears a request to its end, takes its messages and says how it is answered; `None` if there is nobody to answer.
    pub(super) fn answer<'s>(
        &mut self,
        shared: &'s Arc<Shared>,
        incoming: &mut Incoming,
        head: Head,
        deadline: Instant,
    ) -> Option<Answered<'s>> {
        let Head { bytes: head, behind: mut input } = head;
        let body = if request::is_head(&head) { Body::LeftOut } else { Body::Whole };
        let mut known = Known::default();
        // Whether it is too long depends on its endpoint.
        let parsed = call::parse(&head, usize::MAX);
        let (body_len, keeps_alive) =
            parsed.as_ref().map_or((usize::MAX, false), |call| (call.body_len, call.keeps_alive));
        let taken = match &parsed {
            Ok(call) => self.take(shared, incoming, (call, &head), &mut input, deadline, &mut known),
            Err(refusal) => {
                known.counters = counters_at(shared, incoming, &head);
                Err(refusal.clone().into())
            }
        };
        let mut answer = match taken {
            Ok(messages) => Answer::json(&json!({ "accepted": messages })).with_status(202),
            Err(Untaken::Answered(answer)) => answer,
            Err(Untaken::Refused(refusal)) => {
                log_refusal(incoming, &head, &refusal);
                answer_to(&refusal)
            }
            Err(Untaken::Gone) => return None,
        };
        answer.fields.append(&mut known.cors);
        if answer.status != 204 {
            known.counters.iter().for_each(|counters| counters.count_post(answer.status));
        }
        // A body that was not read would be taken for the next request.
        let is_next = keeps_alive && (known.is_whole || body_len == 0);
        let behind = if is_next { input.split_off(body_len) } else { Vec::new() };
        Some(Answered { answer, body, then: if is_next { Then::Next } else { Then::End }, behind, busy: known.busy })
    }

    /// Takes the messages of a request; says how many.
    fn take<'s>(
        &mut self,
        shared: &'s Arc<Shared>,
        incoming: &mut Incoming,
        (call, head): (&Call<'_>, &[u8]),
        input: &mut Vec<u8>,
        deadline: Instant,
        known: &mut Known<'s>,
    ) -> Result<usize, Untaken> {
        let granted = self.grant(shared, incoming, (call, head), deadline, known)?;
        if !incoming.handshake.take().is_none_or(|handshake| handshake.finish()) {
            return Err(Untaken::Gone);
        }
        read_body(incoming, call, input, Instant::now() + granted.body_timeout)?;
        known.is_whole = true;
        let messages = granted.form.messages(&input[..call.body_len], granted.message_max)?;
        // In this order: a stop waits for it, or it hears of the stop.
        known.busy = Some(shared.posts.begin());
        if shared.lets_nobody_in() {
            return Err(leaving(shared).into());
        }
        dispatch(shared, &granted, &messages)?;
        debug!(
            client:% = incoming.id, address = incoming.from, endpoint = granted.counters.path;
            "client {} ({}): posted {} ({}) to '{}'",
            incoming.id, incoming.from, count(messages.len(), "message"), count(call.body_len, "byte"), granted.room
        );
        Ok(messages.len())
    }

    /// Whether a request is let in, by its head.
    fn grant(
        &mut self,
        shared: &Arc<Shared>,
        incoming: &mut Incoming,
        (call, head): (&Call<'_>, &[u8]),
        deadline: Instant,
        known: &mut Known<'_>,
    ) -> Result<Granted, Untaken> {
        let request = call.as_request();
        // A proxy that speaks on its own behalf is judged by its own address, as with any other request.
        if incoming.door.settings.client_address == ClientAddress::ProxyProtocol && !incoming.is_named {
            check_address(incoming).map_err(|_| Untaken::Gone)?;
        }
        let approach = approach(incoming, head, &request)?;
        if incoming.is_named && self.counted != Some(approach.address) {
            count_address(shared, incoming, approach.address).map_err(|full| too_many(shared, &full))?;
            self.counted = Some(approach.address);
        }
        let generation = shared.generation();
        let settings = |id| generation.endpoints.get(id).map(|endpoint| &endpoint.settings);
        let (_, room) = admission::find(&request, &generation.routes, settings, &incoming.door.settings)?;
        let endpoint = &**generation.endpoint(room.endpoint());
        incoming.endpoint = Some(endpoint.settings.path.as_str().to_owned());
        known.counters = Some(Arc::clone(&endpoint.counters));
        check_page(incoming, &endpoint.settings, call, &approach.host)?;
        known.cors = cors_fields(&endpoint.settings, call);
        check_method(call)?;
        if shared.lets_nobody_in() {
            return Err(leaving(shared).into());
        }
        if shared.is_short_of_memory.load(Ordering::Relaxed) {
            return Err(Refusal::new(503, "the server is at capacity").into());
        }
        let refusal = |shut| may_not_come(&shut, "[[endpoint]]", endpoint.settings.path.as_str());
        endpoint.addresses.check(approach.address).map_err(refusal)?;
        let requester = Requester { stream: &incoming.stream, head, request: &request, address: approach.address };
        let access = identify(shared, &generation, &room, &requester, deadline);
        let access = access.map_err(|denied| match denied {
            Denied::Refused(_, refusal) => Untaken::Refused(refusal),
            Denied::Gone => Untaken::Gone,
        })?;
        self.admit(shared, incoming, (&generation, endpoint, room), call, approach.address, access)
    }

    /// Whether a request may post, and what it posts as, once it is known whose it is.
    fn admit(
        &self,
        shared: &Shared,
        incoming: &Incoming,
        (generation, endpoint, room): (&Generation, &Endpoint, Room),
        call: &Call<'_>,
        address: Option<IpAddr>,
        access: Access,
    ) -> Result<Granted, Untaken> {
        if !access.rights.send {
            let refusal = Refusal::new(403, "this identity may not send here");
            return Err(refusal.with_advice("\"allow\" lets it receive only".to_owned()).into());
        }
        let form = Form::of(call.content_type, call.content_encoding)?;
        if !call.has_length {
            return Err(Refusal::new(411, "a POST needs a Content-Length").into());
        }
        let body_max = endpoint.settings.body_max();
        if call.body_len > body_max {
            return Err(Refusal::new(413, format!("a body has at most {body_max} bytes")).into());
        }
        let name = access.identity.as_ref().map(|identity| &*identity.name);
        let rate =
            endpoint.profile.intake.map(|limits| (Arc::clone(&endpoint.post_rates), Who::new(name, address), limits));
        if let Some((rates, who, limits)) = &rate {
            rates.check(who, limits, Instant::now()).map_err(too_much)?;
        }
        let place = endpoint
            .places
            .visit()
            .map_err(|full| Refusal::new(503, "this endpoint is at capacity").with_advice(full.to_string()))?;
        let asked = Asked::new(shared, generation, &room, &call.as_request(), access);
        let origin = Origin {
            session: incoming.id,
            client_ip: address,
            user_agent: asked.user_agent,
            subprotocol: None,
            connected_at: self.connected_at,
            identity: asked.access.identity,
            description: asked.description,
        };
        Ok(Granted {
            room,
            counters: Arc::clone(&endpoint.counters),
            origin,
            form,
            message_max: endpoint.settings.max_message,
            body_timeout: endpoint.settings.message_timeout.unwrap_or(FOREVER),
            rate,
            _place: place,
        })
    }
}

/// The counters of the endpoint that a head asks for of which nothing else can be used.
fn counters_at(shared: &Shared, incoming: &mut Incoming, head: &[u8]) -> Option<Arc<EndpointCounters>> {
    let generation = shared.generation();
    let is_on = |id| generation.endpoints.get(id).is_some_and(|it| it.settings.is_on(&incoming.door.settings));
    let room = generation.routes.find(call::asked(head)?.1, is_on)?;
    let endpoint = generation.endpoint(room.endpoint());
    incoming.endpoint = Some(endpoint.settings.path.as_str().to_owned());
    Some(Arc::clone(&endpoint.counters))
}

/// Whether a page may post. What is no page says no Origin, nor where it comes from.
fn check_page(
    incoming: &Incoming,
    endpoint: &EndpointSettings,
    call: &Call<'_>,
    host: &AskedHost,
) -> Result<(), Refusal> {
    if let Some(origin) = call.origin {
        return origin::check(endpoint, &incoming.door.settings, origin, host);
    }
    let is_foreign = call.fetch_site.is_some_and(|site| !matches!(site, "same-origin" | "none"));
    match is_foreign && endpoint.origins != Origins::Any {
        true => Err(Refusal::new(403, "a page of another site may not post without an Origin")),
        false => Ok(()),
    }
}

/// What an answer says to a page that may post.
fn cors_fields(endpoint: &EndpointSettings, call: &Call<'_>) -> Vec<(&'static str, String)> {
    call.origin.map(|origin| cors::fields(origin, endpoint.origins == Origins::Any)).unwrap_or_default()
}

/// Answers what asks how to post, and refuses what is no POST.
fn check_method(call: &Call<'_>) -> Result<(), Untaken> {
    match call.method {
        "POST" => Ok(()),
        "OPTIONS" => {
            let mut answer = Answer::nothing().with_field("Allow", METHODS);
            answer.fields.extend(call.origin.and(call.preflight).map(cors::preflight).unwrap_or_default());
            Err(Untaken::Answered(answer))
        }
        _ => Err(Refusal::new(405, "messages are sent with POST, and a WebSocket is opened with GET").into()),
    }
}

fn too_much(wait: Duration) -> Refusal {
    let refusal = Refusal::new(429, "this client has sent too many messages");
    refusal.with_retry_after(wait.as_secs_f64().ceil().max(1.0) as u64).with_advice("see \"rate\"".to_owned())
}

fn read_body(incoming: &mut Incoming, call: &Call<'_>, input: &mut Vec<u8>, deadline: Instant) -> Result<(), Untaken> {
    if call.expects_continue && input.len() < call.body_len {
        let _ = incoming.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n", deadline);
    }
    incoming.stream.read_body(input, call.body_len, deadline).map_err(|error| match error {
        HeadError::TimedOut => Refusal::new(408, "the body did not come in time").into(),
        _ => Untaken::Gone,
    })
}

/// Has the messages of a request go where those of a client would.
fn dispatch(shared: &Shared, granted: &Granted, messages: &[&[u8]]) -> Result<(), Refusal> {
    let Granted { room, counters, origin, form, rate, .. } = granted;
    let bytes = messages.iter().map(|message| message.len()).sum();
    if let Some((rates, who, limits)) = rate {
        rates.count(who.clone(), limits, messages.len(), bytes, Instant::now());
    }
    let (publisher, undelivered) = (Publisher::of_sender(&shared.budget), Undelivered::default());
    let post = Post::new(origin.session, Instant::now() + PATIENCE, &shared.posts);
    let sender = PostSender { post: &post, publisher: &publisher, origin, undelivered: &undelivered, counters, room };
    let mut dispatch = Dispatch::of_post(shared, sender);
    // It has just begun with what holds now.
    let _ = dispatch.begin();
    for message in messages {
        dispatch.message(Message { kind: form.kind(), data: Bytes::copy_from_slice(message) }, bytes);
    }
    dispatch.flush();
    let received = Received { messages: messages.len() as u64, bytes: bytes as u64 };
    counters.add_posted(received, undelivered.counts());
    match post.refused() {
        None => Ok(()),
        Some(by) => {
            let advice = format!("{} had no room within {PATIENCE:?}", shared.name_of(by));
            Err(Refusal::new(503, "not every destination has room now").with_advice(advice))
        }
    }
}

/// The answer to a request that is refused.
fn answer_to(refusal: &Refusal) -> Answer {
    match refusal.status {
        405 => Answer::from(refusal).with_field("Allow", METHODS),
        429 => {
            Answer::error(429, "tooMany", &refusal.reason).with_field("Retry-After", refusal.retry_after.to_string())
        }
        _ => Answer::from(refusal),
    }
}

fn log_refusal(incoming: &Incoming, head: &[u8], refusal: &Refusal) {
    let (method, path) = call::asked(head).unwrap_or_default();
    let (id, from) = (incoming.id, &incoming.from);
    info!(
        target: REFUSALS, client:% = id, address = from, endpoint = incoming.endpoint;
        "client {id} ({from}): {method} '{path:.SHOWN$}' {refusal}"
    );
}
