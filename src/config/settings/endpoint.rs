//! `[[endpoint]]`: a path and the options of its clients.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::auth::allow::Rule;
use crate::path::Pattern;

use super::addresses::AddressRules;
use super::auth::AuthId;
use super::listener::ListenerSettings;
use super::queue::QueueSettings;
use super::relay::RelaySettings;
use super::route::{Destination, EventKind, Format};

/// `[[endpoint]]`: one path and the options of its clients.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointSettings {
    /// The paths that lead to it: `/`, `/echo`, `/rooms/{room}`.
    pub path: Pattern,
    /// The listeners it is reachable on, by name; `None` is all of them.
    pub listen: Option<BTreeSet<String>>,
    /// Where its clients' messages go; empty: they are read, checked and discarded. A relay has none.
    pub to: Vec<Destination>,
    /// The server that each client gets its own connection to; `None`: it is no relay.
    pub relay: Option<RelaySettings>,
    /// How its clients write and read messages.
    pub format: Format,
    /// What a client is sent first.
    pub welcome: Welcome,
    /// The subprotocols we agree to, in our order of preference.
    pub subprotocols: Vec<String>,
    /// Clients at once on this endpoint. Default 100.
    pub max_connections: usize,
    /// Clients at once in each of its rooms; `None` is no limit but `max_connections`.
    pub max_room_connections: Option<usize>,
    /// What the client beyond `max_connections` or `max_room_connections` gets.
    pub at_capacity: AtCapacity,
    /// What each identity has at once; `None` does not limit it. Default.
    pub identity_limit: Option<IdentityLimit>,
    /// Bytes of one message, fragments together; more is 1009. Default 1 MiB.
    pub max_message: usize,
    /// Ping a client that was quiet for this long; `None` never pings. Default 30 s.
    pub heartbeat: Option<Duration>,
    /// From the moment the ping left to any received data. Default 10 s.
    pub pong_timeout: Duration,
    /// A message that has begun must have arrived by then; `None` waits for ever. Default 60 s.
    pub message_timeout: Option<Duration>,
    /// No byte taken by the client's kernel for this long: it is too slow. Default 30 s.
    pub write_timeout: Option<Duration>,
    /// The bounds of each client's outbox.
    pub queue: QueueSettings,
    /// How fast each client may send; `None` does not limit it. Default.
    pub rate: Option<RateSettings>,
    /// Which browser pages may connect.
    pub origins: Origins,
    /// Which addresses may connect.
    pub addresses: AddressRules,
    /// Who is let in: those with a credential that is right for any of these. Empty: everybody.
    pub auth: Vec<AuthId>,
    /// What those may do who are let in: the first rule that fits decides, and without one nobody is. `None`: all.
    pub allow: Option<Vec<Rule>>,
    /// What those get who are not let in.
    pub refuse: Refuse,
    /// Whether its clients may address other clients by `_session`. Default false.
    pub address_sessions: bool,
    /// Whether it takes messages by POST too. Default false.
    pub post: bool,
    /// Bytes of the body of one POST; more is 413. `None` is the larger of 1 MiB and `max_message`.
    pub max_body: Option<usize>,
    /// Whether its clients may pick a room of a destination by a field of their messages. Default false.
    pub choose_rooms: bool,
    /// Whether its clients are told which of their messages are stored. Default `Off`.
    pub ack: Ack,
    /// The events of its clients that its destinations get; `reply` gets none.
    pub events: BTreeSet<EventKind>,
}

impl EndpointSettings {
    /// Whether clients of this listener can reach it.
    pub fn is_on(&self, listener: &ListenerSettings) -> bool {
        self.listen.as_ref().is_none_or(|names| names.contains(&listener.name))
    }

    /// Bytes of the body of one POST.
    pub fn body_max(&self) -> usize {
        self.max_body.unwrap_or_else(|| self.max_message.max(1 << 20))
    }

    /// Whether a client may lose its place to a new one.
    pub fn replaces(&self) -> bool {
        let by_identity = self.identity_limit.is_some_and(|limit| limit.when_full == WhenIdentityFull::Replace);
        by_identity || self.at_capacity == AtCapacity::Replace
    }
}

impl Default for EndpointSettings {
    fn default() -> EndpointSettings {
        EndpointSettings {
            path: Pattern::root(),
            listen: None,
            to: vec![Destination::Broadcast],
            relay: None,
            format: Format::default(),
            welcome: Welcome::default(),
            subprotocols: Vec::new(),
            max_connections: 100,
            max_room_connections: None,
            at_capacity: AtCapacity::default(),
            identity_limit: None,
            max_message: 1 << 20,
            heartbeat: Some(Duration::from_secs(30)),
            pong_timeout: Duration::from_secs(10),
            message_timeout: Some(Duration::from_secs(60)),
            write_timeout: Some(Duration::from_secs(30)),
            queue: QueueSettings::default(),
            rate: None,
            origins: Origins::default(),
            addresses: AddressRules::default(),
            auth: Vec::new(),
            allow: None,
            refuse: Refuse::default(),
            address_sessions: false,
            post: false,
            max_body: None,
            choose_rooms: false,
            ack: Ack::default(),
            events: BTreeSet::new(),
        }
    }
}

/// What clients are told of their messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ack {
    /// Nothing.
    #[default]
    Off,
    /// How many of them are stored.
    Stored,
}

/// `rate = { messages, bytes, burst, when_over }`: what one client may send in a second. At least one of the two is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateSettings {
    /// Messages and control frames.
    pub messages: Option<u64>,
    /// Bytes of frames, their headers included.
    pub bytes: Option<u64>,
    /// The time for which a client that was quiet may send at once. Default 2 s.
    pub burst: Duration,
    /// What becomes of a client that sends more.
    pub when_over: WhenOver,
}

/// What becomes of a client that sends more than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenOver {
    /// It is not read until it may.
    #[default]
    Delay,
    /// It is closed with 1008 "Too many messages".
    Close,
}

/// What a client is sent right after the 101.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Welcome {
    /// Nothing.
    #[default]
    Off,
    /// n8n's welcome message with the time.
    N8n,
    /// This text, as it is.
    Text(String),
}

/// What the client beyond an endpoint's `max_connections` or `max_room_connections` gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AtCapacity {
    /// 101, then Close 1013.
    #[default]
    Close,
    /// 503 with Retry-After.
    Refuse,
    /// The place of the client that has been connected for the longest time, which is closed with 1008 "Replaced".
    Replace,
}

/// `max_identity_connections` and `when_identity_full`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdentityLimit {
    /// Clients of one identity at once on the endpoint, at least one.
    pub connections: usize,
    /// What the next one gets.
    pub when_full: WhenIdentityFull,
}

/// What the client beyond an endpoint's `max_identity_connections` gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenIdentityFull {
    /// 429 with Retry-After.
    #[default]
    Refuse,
    /// The place of the client of this identity that has been connected for the longest time, which is closed with 1008
    /// "Replaced".
    Replace,
}

/// What a client gets that is not let in by `auth`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Refuse {
    /// 401 or 403.
    #[default]
    Answer,
    /// 101, then Close 4401 or 4403: a web page learns no status, but a close code.
    Close,
}

/// Which `Origin` headers an endpoint accepts; a request without one is no browser and is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// These alone.
    List {
        /// Those whose host and port are those of the Host header.
        same: bool,
        /// Exactly these, in the form that `http/origin.rs` gives them: `https://dash.example`.
        others: Vec<String>,
    },
    /// Every page may connect.
    Any,
}

impl Default for Origins {
    fn default() -> Origins {
        Origins::List { same: true, others: Vec::new() }
    }
}
