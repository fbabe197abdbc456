//! `[[link]]`: a connection that we dial, and dial again when it is lost.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::secret::Secret;
use crate::url::Url;

use super::dial::DialSettings;
use super::route::{EventKind, Format, LinkDestination};

/// `[[link]]`: a connection that we dial and redial.
#[derive(Debug, Clone, PartialEq)]
pub struct LinkSettings {
    /// How destinations, rooms and log lines call it: letters, digits, `-` and `_`.
    pub name: String,
    /// The server and how to dial it.
    pub dial: DialSettings,
    /// The URL for people: variables of the environment as they are written, neither password nor query.
    pub shown: String,
    /// Where the messages of the remote go.
    pub to: Vec<LinkDestination>,
    /// How the remote writes and reads messages.
    pub format: Format,
    /// Bytes of one message, fragments together; more is 1009. Default 1 MiB.
    pub max_message: usize,
    /// Ping a remote that was quiet for this long; `None` never pings. Default 30 s.
    pub heartbeat: Option<Duration>,
    /// From the moment the ping left to any received data. Default 10 s.
    pub pong_timeout: Duration,
    /// A message that has begun must have arrived by then; `None` waits for ever. Default 60 s.
    pub message_timeout: Option<Duration>,
    /// No byte taken by the remote for this long: the connection is cut. Default 30 s.
    pub write_timeout: Option<Duration>,
    /// A text that is sent at this interval while connected.
    pub ping: Option<(String, Duration)>,
    /// Texts that are sent in this order after every connect; secrets, because many of them log in.
    pub open_messages: Vec<Secret>,
    /// The bounds of what waits for the remote while the link is down.
    pub queue: LinkQueueSettings,
    /// When it is dialled again.
    pub backoff: BackoffSettings,
    /// How it posts, if its server is an HTTP server.
    pub http: Option<HttpLinkSettings>,
    /// Whether a message may come back to where it came from. Default false.
    pub allow_loop: bool,
    /// Whether the gateway is not ready for clients while it is down. Default false.
    pub required: bool,
    /// Its events that its destinations get; `reply` gets none.
    pub events: BTreeSet<EventKind>,
}

impl LinkSettings {
    /// A link to this URL with every default.
    pub fn new(name: &str, url: Url) -> LinkSettings {
        LinkSettings {
            name: name.to_owned(),
            shown: url.shown(),
            dial: DialSettings::new(url),
            to: Vec::new(),
            format: Format::default(),
            max_message: 1 << 20,
            heartbeat: Some(Duration::from_secs(30)),
            pong_timeout: Duration::from_secs(10),
            message_timeout: Some(Duration::from_secs(60)),
            write_timeout: Some(Duration::from_secs(30)),
            ping: None,
            open_messages: Vec::new(),
            queue: LinkQueueSettings::default(),
            backoff: BackoffSettings::default(),
            http: None,
            allow_loop: false,
            required: false,
            events: BTreeSet::new(),
        }
    }

    /// How often a `ping_message` is sent unless `ping_every` says otherwise.
    pub const PING_EVERY: Duration = Duration::from_secs(25);
}

/// `queue = { messages, bytes, when_full, when_slow }` of a link: what waits for its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkQueueSettings {
    /// Messages queued at once. Default 4,096, at least 2.
    pub messages: usize,
    /// Bytes queued at once; an empty queue takes any one frame. Default 4 MiB.
    pub bytes: usize,
    /// What happens to the next message while the link is down. Default `DropOldest`.
    pub when_full: OutletPolicy,
    /// What happens to the next message while the link is up and its server does not take what it gets. Default `Block`.
    pub when_slow: OutletPolicy,
}

impl Default for LinkQueueSettings {
    fn default() -> LinkQueueSettings {
        let (when_full, when_slow) = (OutletPolicy::DropOldest, OutletPolicy::Block);
        LinkQueueSettings { messages: 4096, bytes: 4 << 20, when_full, when_slow }
    }
}

/// How a link posts what it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpLinkSettings {
    /// From the request to the head of its answer. Default 10 s.
    pub answer_timeout: Duration,
    /// How messages are joined; `None` posts each by itself. Default.
    pub batch: Option<BatchSettings>,
}

impl Default for HttpLinkSettings {
    fn default() -> HttpLinkSettings {
        HttpLinkSettings { answer_timeout: Duration::from_secs(10), batch: None }
    }
}

/// `batch = { messages, bytes, wait, format }` of a link that posts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchSettings {
    /// Messages in one request at most. Default 100.
    pub messages: usize,
    /// Bytes of their payloads at most; one message always fits. Default 256 KiB.
    pub bytes: usize,
    /// How long the first one waits for others. Default 100 ms.
    pub wait: Duration,
    /// The form of the body.
    pub format: BatchFormat,
}

impl Default for BatchSettings {
    fn default() -> BatchSettings {
        let wait = Duration::from_millis(100);
        BatchSettings { messages: 100, bytes: 256 << 10, wait, format: BatchFormat::default() }
    }
}

/// The form of a body with several messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BatchFormat {
    /// A JSON value on each line.
    #[default]
    Ndjson,
    /// A JSON array.
    Json,
}

/// What happens to a message for an outlet whose queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutletPolicy {
    /// The oldest queued messages make room.
    DropOldest,
    /// The new message is dropped.
    DropNewest,
    /// Its sender waits, and wsgate reads nothing from it meanwhile.
    Block,
}

impl OutletPolicy {
    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            OutletPolicy::DropOldest => "drop_oldest",
            OutletPolicy::DropNewest => "drop_newest",
            OutletPolicy::Block => "block",
        }
    }
}

/// `backoff = { ... }`: how long a link waits before it dials again; the wait is random, up to a bound that doubles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackoffSettings {
    /// The bound after the first failure. Default 500 ms.
    pub first: Duration,
    /// The most that the bound grows to. Default 60 s, at least `first`.
    pub most: Duration,
    /// Being connected for this long makes the next failure the first one again. Default 30 s.
    pub reset_after: Duration,
    /// Failures in a row after which the link is given up; `None`: never. Default `None`.
    pub attempts: Option<u32>,
}

impl Default for BackoffSettings {
    fn default() -> BackoffSettings {
        BackoffSettings {
            first: Duration::from_millis(500),
            most: Duration::from_secs(60),
            reset_after: Duration::from_secs(30),
            attempts: None,
        }
    }
}
