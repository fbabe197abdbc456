//! WebSockets of the admin listener, over which whoever opens one is shown something until it ends: the feed of the page,
//! and the tail.
//!
//! The thread of the caller reads on, for the Close alone. What is shown is delivered by others, who wait for nobody: a
//! watcher that does not read what it is shown is closed, or is told how much it has missed.

use std::sync::Arc;
use std::time::Duration;

use log::{debug, info};

use crate::admin::access::Who;
use crate::admin::asked::Asked;
use crate::admin::state::{Admin, WATCHERS_MAX};
use crate::admin::watchers::{self, Watcher};
use crate::auth::admin::Right;
use crate::clock;
use crate::config::{QueueSettings, WhenFull};
use crate::connection::frame::{CorkLimits, Frame};
use crate::connection::handshake::Stream;
use crate::connection::keepalive::Keepalive;
use crate::connection::outbox::Limits;
use crate::connection::peer::{Name, Peer};
use crate::connection::read_loop::{Handler, Handshaken, ReadLoop};
use crate::connection::tls::Session;
use crate::http::answer::Answer;
use crate::http::request::{self, Intent, Request};
use crate::id::Id;
use crate::listener::Bound;
use crate::log_kind::ADMIN;
use crate::message::Message;
use crate::permits::Permit;
use crate::shared::profile::Profile;
use crate::shared::tap::TapFilter;

/// The subprotocol that is agreed to, where one is offered: beside it, scripts can offer one that holds their token.
const SUBPROTOCOL: &str = "wsgate.admin";

/// What may wait for a watcher.
const QUEUE_MESSAGES: usize = 1024;
const QUEUE_BYTES: usize = 8 << 20;

/// How long a watcher may be silent before it is pinged, and after the ping.
const HEARTBEAT: Duration = Duration::from_secs(15);
const PONG: Duration = Duration::from_secs(10);

/// A watcher of which the kernel takes nothing for this long is cut.
const WRITE: Duration = Duration::from_secs(10);

/// How long it may take to answer a Close.
const CLOSE: Duration = Duration::from_secs(2);

/// The longest message that it may send: none is expected.
const MESSAGE_MAX: usize = 4 << 10;

/// What a watcher is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Show {
    /// The state, once a second, and who has come and gone.
    Feed,
    /// What clients send, of those that this fits to.
    Tail(TapFilter),
}

impl Show {
    /// The right that it takes to see it.
    pub fn right(&self) -> Right {
        match self {
            Show::Feed => Right::Read,
            Show::Tail(_) => Right::Tail,
        }
    }
}

/// A WebSocket that is about to be opened.
#[derive(Debug)]
pub struct Opening {
    show: Show,
    subprotocol: Option<&'static str>,
    key: String,
    permit: Permit,
}

/// A connection whose request opens a WebSocket.
#[derive(Debug)]
pub struct Watching {
    pub stream: Stream,
    /// The socket that it was accepted on.
    pub bound: Arc<Bound>,
    /// What came behind the request.
    pub behind: Vec<u8>,
    pub opening: Opening,
    pub who: Who,
    /// Where it comes from, for the log.
    pub from: String,
}

/// The parameters of the tail.
pub const TAIL_QUERY: &[&str] = &["endpoint", "path", "client"];

/// `GET /api/v1/feed`.
pub fn feed(_: &Asked<'_>) -> Result<Show, Answer> {
    Ok(Show::Feed)
}

/// `GET /api/v1/tail`.
pub fn tail(asked: &Asked<'_>) -> Result<Show, Answer> {
    let client = asked.query("client").map(str::parse::<Id>).transpose();
    let client = client.map_err(|()| Answer::error(400, "badRequest", "'client' is no id of a client"))?;
    let own = |name| asked.query(name).map(str::to_owned);
    Ok(Show::Tail(TapFilter { endpoint: own("endpoint"), path: own("path"), client }))
}

/// What a request gets that asks for no WebSocket.
pub fn needs_upgrade(_: &Asked<'_>) -> Result<Answer, Answer> {
    Err(not_upgraded())
}

fn not_upgraded() -> Answer {
    let message = "this is a WebSocket: open it with an Upgrade";
    Answer::error(426, "upgradeRequired", message).with_field("Upgrade", "websocket")
}

/// Whether a request asks for a WebSocket.
pub fn is_upgrade(request: &Request<'_>) -> bool {
    matches!(request.intent, Intent::Upgrade { .. })
}

/// Takes a place for a watcher.
///
/// # Errors
/// 426 for a request that asks for no WebSocket, 503 without a place.
pub fn open(admin: &Admin, show: Show, request: &Request<'_>) -> Result<Opening, Answer> {
    let Intent::Upgrade { key } = request.intent else {
        return Err(not_upgraded());
    };
    let permit = admin.watching.try_acquire().ok_or_else(|| {
        let message = format!("{WATCHERS_MAX} WebSockets of the admin listener are open");
        Answer::error(503, "busy", &message).with_field("Retry-After", "1")
    })?;
    let subprotocol = request.subprotocols.contains(&SUBPROTOCOL).then_some(SUBPROTOCOL);
    Ok(Opening { show, subprotocol, key: key.to_owned(), permit })
}

/// Shows what was asked for until the connection ends.
pub fn run(admin: &Admin, watching: Watching) {
    let Watching { mut stream, bound, behind, opening, who, from } = watching;
    let Opening { show, subprotocol, key, permit: _permit } = opening;
    let shared = &admin.shared;
    let certificate = stream.proved.take();
    let (Some((socket, mut session)), Ok(id)) = (stream.into_parts(), Id::random(shared.mark)) else {
        return debug!("admin: {from}: its connection had to give way to a newer one");
    };
    let is_tls = session.is_some();
    let is_session_ended = session.as_mut().is_some_and(Session::is_ended_by_peer);
    let profile = profile(&show);
    let peer = shared.add_peer(Name::Watcher, id, (socket, session), &profile, None, None);
    who.left.iter().for_each(|left| {
        peer.expire_at(shared.clock.now().saturating_add(clock::ticks(left.time)), left.reason);
    });
    let name = who.name.as_deref().map(|name| format!(" as '{name}'")).unwrap_or_default();
    let shown = match &show {
        Show::Feed => "the feed".to_owned(),
        Show::Tail(_) => "the messages of clients".to_owned(),
    };
    info!(target: ADMIN, "admin: {from}{name}: {peer} is shown {shown}");
    peer.outbox.enqueue(Frame::joined(request::accept(&key, subprotocol).into(), 0));
    let (own_name, rights) = (who.name.clone(), who.rights.iter().map(|right| right.word()).collect());
    let right = show.right();
    let _watching = admin.watchers.enter(Watcher { peer: Arc::clone(&peer), bound, certificate, who, right });
    let handshaken = Handshaken { is_tls, behind, is_session_ended };
    let read = || {
        peer.outbox.flush();
        if admin.has_ended() {
            // The end of the admin listener may not have seen it.
            watchers::end(&peer);
        }
        ReadLoop::new(&peer, profile.max_message, &shared.buffers).run(handshaken, &mut Deaf(&peer));
    };
    match show {
        Show::Feed => {
            let _member = admin.feed.enter(shared, &peer.outbox, own_name.as_deref(), rights);
            read();
        }
        Show::Tail(filter) => {
            let _looking = shared.tap.look(filter, Arc::clone(&peer.outbox));
            read();
        }
    }
    let (ending, _) = peer.outbox.finish();
    info!(target: ADMIN, "admin: {from}{name}: {peer} has ended: {ending}");
}

fn profile(show: &Show) -> Profile {
    // A page that has missed a part of the feed would be wrong from then on. In a tail it is told how much is missing.
    let when_full = if *show == Show::Feed { WhenFull::Disconnect } else { WhenFull::DropNewest };
    let queue = QueueSettings { messages: QUEUE_MESSAGES, bytes: QUEUE_BYTES, when_full };
    Profile {
        limits: Limits { queue, write_timeout: Some(clock::ticks(WRITE)), close_timeout: clock::ticks(CLOSE) },
        keepalive: Keepalive {
            heartbeat: Some(clock::ticks(HEARTBEAT)),
            pong_timeout: clock::ticks(PONG),
            message_timeout: Some(clock::ticks(PONG)),
        },
        cork: CorkLimits::for_queue(QUEUE_MESSAGES, QUEUE_BYTES),
        max_message: MESSAGE_MAX,
        intake: None,
        write_timeout: Some(WRITE),
    }
}

/// A watcher only looks.
struct Deaf<'a>(&'a Peer);

impl Handler for Deaf<'_> {
    fn message(&mut self, _: Message, _: usize) {
        self.0.outbox.close(Some(1008), "Nothing is to be sent here");
    }

    fn flush(&mut self) {}
}
