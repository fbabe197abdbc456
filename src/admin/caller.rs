//! One connection to the admin listener: its requests, one after the other, and their answers.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use log::{debug, info};
use socket2::SockAddr;

use crate::address::source::Source;
use crate::admin::access::{self, AccessRequest, Who};
use crate::admin::asked::Asked;
use crate::admin::guard;
use crate::admin::routes::{self, Found, Route};
use crate::admin::state::Admin;
use crate::admin::watch::{self, Opening, Watching};
use crate::auth::credentials::Places;
use crate::client::authenticate::Denied;
use crate::connection::handshake::{Head, HeadError, Stream};
use crate::connection::server_tls::ServerTls;
use crate::connection::socket::Socket;
use crate::http::answer::{Answer, Then};
use crate::http::call::{self, Call};
use crate::http::refusal::{Body, Refusal};
use crate::http::request::{self, Request};
use crate::listener::Bound;
use crate::log_kind::ADMIN;
use crate::shared::generation::Generation;
use crate::shared::handshakes::HandshakePlace;

/// How long a connection may wait for its next request.
const IDLE: Duration = Duration::from_secs(75);

/// Requests on one connection; the last is answered with `Connection: close`.
const REQUESTS_MAX: usize = 1000;

/// The longest body, in bytes; more is 413.
pub const BODY_MAX: usize = 1 << 20;

/// A peer that takes an answer more slowly is cut.
const WRITE: Duration = Duration::from_secs(20);

/// How long a peer whose connection ends may take to read why.
const LINGER: Duration = Duration::from_secs(2);

/// How many characters of a path stand in the log.
const SHOWN: usize = 200;

/// A connection.
#[derive(Debug)]
pub struct Caller {
    stream: Stream,
    /// The socket that it was accepted on.
    bound: Arc<Bound>,
    /// Where it comes from; `None` is a Unix socket.
    address: Option<IpAddr>,
    /// The same for the log.
    from: String,
    /// Its place among those that wait. `None` while its request is worked on, which nobody's place depends on.
    place: Option<HandshakePlace>,
}

/// What becomes of a request.
enum Outcome {
    /// It is answered. Bytes that came behind it belong to the next one.
    Answered { answer: Answer, body: Body, then: Then, behind: Vec<u8> },
    /// It opens a WebSocket, over which no further request comes. Bytes that came behind it belong to that.
    Watches { opening: Box<Opening>, who: Who, behind: Vec<u8> },
    /// There is nobody to answer.
    Gone,
}

/// What a request that was heard to its end comes to.
enum Heard {
    Answer(Answer),
    Opening(Box<Opening>),
}

/// Why a request gets no answer of its route.
enum Unheard {
    Answer(Answer),
    Gone,
}

impl From<Answer> for Unheard {
    fn from(answer: Answer) -> Unheard {
        Unheard::Answer(answer)
    }
}

impl From<Refusal> for Unheard {
    fn from(refusal: Refusal) -> Unheard {
        Unheard::Answer(Answer::from(&refusal))
    }
}

impl Caller {
    /// A connection that was accepted. Says from where another one has given way to it, if one had to.
    pub fn new(
        admin: &Admin,
        bound: &Arc<Bound>,
        tls: Option<Arc<ServerTls>>,
        socket: socket2::Socket,
        peer: &SockAddr,
    ) -> (Caller, Option<Source>) {
        let socket = Arc::new(Socket::new(socket));
        let peer = peer.as_socket().map(|address| SocketAddr::new(address.ip().to_canonical(), address.port()));
        let (place, displaced) = admin.waiting.enter(peer.map(|peer| peer.ip()), &socket);
        let caller = Caller {
            stream: Stream::new(socket, tls),
            bound: Arc::clone(bound),
            address: peer.map(|peer| peer.ip()),
            from: peer.map_or_else(|| "unix".to_owned(), |peer| peer.to_string()),
            place: Some(place),
        };
        (caller, displaced)
    }

    /// Answers its requests until it ends, or until it becomes something that watches.
    pub fn run(mut self, admin: &Admin) -> Option<Watching> {
        let mut behind = Vec::new();
        for number in 1..=REQUESTS_MAX {
            let is_first = number == 1;
            if !is_first && behind.is_empty() && !self.stream.socket.wait_readable(IDLE).unwrap_or(false) {
                return None;
            }
            let deadline = Instant::now() + admin.shared.generation().gateway.handshake_timeout;
            let head = match is_first {
                true => self.stream.read_head(deadline),
                false => self.stream.read_next_head(behind, deadline),
            };
            let outcome = match head {
                Ok(head) => self.hear(admin, head, deadline),
                Err(error) => self.unread(error),
            };
            let (answer, body, then, next) = match outcome {
                Outcome::Answered { answer, body, then, behind } => (answer, body, then, behind),
                Outcome::Watches { opening, who, behind } => {
                    let Caller { stream, bound, from, .. } = self;
                    return Some(Watching { stream, bound, behind, opening: *opening, who, from });
                }
                Outcome::Gone => return None,
            };
            let then = if number == REQUESTS_MAX || !admin.is_at(&self.bound) { Then::End } else { then };
            // Whoever takes an answer slowly keeps no other out.
            if self.place.is_none() {
                self.place = Some(admin.waiting.enter(self.address, &self.stream.socket).0);
            }
            let answer = answer.to_http(SystemTime::now(), body, then);
            if self.stream.write_all(&answer, Instant::now() + WRITE).is_err() {
                return None;
            }
            if then == Then::End {
                self.stream.linger(Instant::now() + LINGER);
                return None;
            }
            behind = next;
        }
        None
    }

    /// Hears a request to its end and has it answered.
    fn hear(&mut self, admin: &Admin, head: Head, deadline: Instant) -> Outcome {
        let body = if request::is_head(&head.bytes) { Body::LeftOut } else { Body::Whole };
        let refused = |answer| Outcome::Answered { answer, body, then: Then::End, behind: Vec::new() };
        let call = match call::parse(&head.bytes, BODY_MAX) {
            Ok(call) => call,
            Err(refusal) => {
                info!(target: ADMIN, "admin: {}: {refusal}", self.from);
                return refused(Answer::from(&refusal));
            }
        };
        let mut who = Who::default();
        let mut input = head.behind;
        let heard = self.answer(admin, &call, &head.bytes, &mut who, &mut input, deadline);
        let (answer, is_whole) = match heard {
            Ok(Heard::Opening(opening)) => return Outcome::Watches { opening, who, behind: input },
            Ok(Heard::Answer(answer)) => (answer, true),
            Err(Unheard::Answer(answer)) => (answer, false),
            Err(Unheard::Gone) => return Outcome::Gone,
        };
        self.log(&call, &who, &answer);
        // A body that was not read would be taken for the next request.
        let is_next = call.keeps_alive && (is_whole || call.body_len == 0);
        let behind = input.split_off(if is_whole { call.body_len } else { 0 });
        Outcome::Answered { answer, body, then: if is_next { Then::Next } else { Then::End }, behind }
    }

    /// The answer to a request. Whether it is let in is found out before its body is read.
    fn answer(
        &mut self,
        admin: &Admin,
        call: &Call<'_>,
        head: &[u8],
        who: &mut Who,
        input: &mut Vec<u8>,
        deadline: Instant,
    ) -> Result<Heard, Unheard> {
        // One generation says all that is to be known of the caller.
        let generation = admin.shared.generation();
        let Some(door) = generation.admin_door_at(&self.bound).filter(|_| !admin.has_ended()) else {
            return Err(Unheard::Gone);
        };
        guard::check(call, &door.settings)?;
        let (route, parameters) = match routes::find(call.method, call.path) {
            Found::Route(route, parameters) => (route, parameters),
            Found::Answer(answer) => return Err(answer.into()),
        };
        let query = call.parameters()?;
        let query = guard::query(query, route.query)?;
        // Its head has what a WebSocket needs, or it is an ordinary request.
        let request = route.watch.map(|_| request::judge(head)).transpose()?;
        if let Some(right) = route.right {
            *who = self.identify(admin, &generation, call, request.as_ref(), head, deadline)?;
            access::check(who, right)?;
        }
        drop(generation);
        self.read_body(call, input, deadline)?;
        if !self.place.take().is_some_and(HandshakePlace::finish) {
            debug!("admin: {}: its connection had to give way to a newer one", self.from);
            return Err(Unheard::Gone);
        }
        let Some(_busy) = admin.busy.try_acquire() else {
            return Err(Answer::error(503, "busy", "too many requests are worked on")
                .with_field("Retry-After", "1")
                .into());
        };
        let (content_type, body) = (call.content_type, &input[..call.body_len]);
        let (path, if_none_match) = (call.path, call.if_none_match);
        let asked = Asked { admin, path, if_none_match, parameters, query, content_type, body };
        if let (Some(show), Some(request)) = (route.watch, request.filter(watch::is_upgrade)) {
            return Ok(Heard::Opening(Box::new(watch::open(admin, show(&asked)?, &request)?)));
        }
        Ok(Heard::Answer((route.run)(&asked).unwrap_or_else(|error| error)))
    }

    /// Who it is. `request` is the same as `call`, if it may open a WebSocket.
    fn identify(
        &self,
        admin: &Admin,
        generation: &Generation,
        call: &Call<'_>,
        request: Option<&Request<'_>>,
        head: &[u8],
        deadline: Instant,
    ) -> Result<Who, Unheard> {
        // A script can set no header of a WebSocket.
        let places = Places { subprotocol: request.is_some(), ..Places::default() };
        let plain = call.as_request();
        let asked = AccessRequest { call, request: request.unwrap_or(&plain), places: &places, head };
        let who = access::identify(&admin.shared, generation, &self.stream, &asked, self.address, deadline);
        who.map_err(|denied| match denied {
            Denied::Refused(_, refusal) => {
                info!(target: ADMIN, "admin: {}: {refusal}", self.from);
                refusal.into()
            }
            Denied::Gone => Unheard::Gone,
        })
    }

    fn read_body(&mut self, call: &Call<'_>, input: &mut Vec<u8>, deadline: Instant) -> Result<(), Unheard> {
        if call.expects_continue && input.len() < call.body_len {
            let _ = self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n", deadline);
        }
        self.stream.read_body(input, call.body_len, deadline).map_err(|error| match error {
            HeadError::TimedOut => Refusal::new(408, "the body did not come in time").into(),
            _ => Unheard::Gone,
        })
    }

    /// What becomes of a connection of which no request could be read.
    fn unread(&mut self, error: HeadError) -> Outcome {
        let refusal = match error {
            HeadError::TimedOut => Refusal::new(408, "no complete request came in time"),
            HeadError::TooLong => {
                Refusal::new(431, format!("the request head is longer than {} bytes", request::HEAD_MAX))
            }
            HeadError::Misplaced(other) => {
                if self.stream.is_secret_not_agreed() {
                    self.stream.give_up_tls();
                }
                Refusal::new(400, other.advice())
            }
            HeadError::Tls(error) => {
                info!(target: ADMIN, "admin: {}: TLS handshake failed: {error}", self.from);
                self.stream.abandon(Instant::now() + LINGER);
                return Outcome::Gone;
            }
            HeadError::Silent | HeadError::Incomplete | HeadError::ProxyHeader(_) | HeadError::Io(_) => {
                return Outcome::Gone;
            }
        };
        info!(target: ADMIN, "admin: {}: {refusal}", self.from);
        if self.stream.is_secret_not_agreed() {
            // There is no way to say it in.
            return Outcome::Gone;
        }
        Outcome::Answered { answer: Answer::from(&refusal), body: Body::Whole, then: Then::End, behind: Vec::new() }
    }

    /// What changes something and what is refused is worth a line; whoever only looks would fill the log.
    fn log(&self, call: &Call<'_>, who: &Who, answer: &Answer) {
        let (from, method, path, status) = (&self.from, call.method, call.path, answer.status);
        let who = who.name.as_deref().map(|name| format!(" as '{name}'")).unwrap_or_default();
        let is_looking = matches!(method, "GET" | "HEAD" | "OPTIONS");
        if is_looking && (status < 400 || Route::is_health(path)) {
            debug!("admin: {from}{who}: {method} {path:.SHOWN$}: {status}");
        } else {
            info!(target: ADMIN, "admin: {from}{who}: {method} {path:.SHOWN$}: {status}");
        }
    }
}
