//! What the operator means: every option of the configuration, checked and with its default.
//!
//! These types are values only. How they are written down is in `raw/`; here each field says
//! its unit and its bounds, and [`Settings::default`] is the one place that holds the defaults.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::secret::Secret;
use crate::url;

/// Everything `wsgate serve` runs on.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// What holds for the whole process.
    pub gateway: GatewaySettings,
    /// The addresses we accept on; at least one.
    pub listeners: Vec<ListenerSettings>,
    /// The paths that clients connect to; at least one, no two of the same shape.
    pub endpoints: Vec<EndpointSettings>,
    /// The connections that we dial and redial; no two of the same name.
    pub links: Vec<LinkSettings>,
}

/// `[gateway]`: limits and deadlines of the whole process.
#[derive(Debug, Clone, PartialEq)]
pub struct GatewaySettings {
    /// Clients at once over all listeners; the next one gets 503. Default 10,000, at least 1.
    pub max_connections: usize,
    /// Connections at once whose handshake is not finished; the next one gets 503. Default 1,024.
    pub max_handshakes: usize,
    /// From accept to the end of the request head, TLS included. Default 10 s.
    pub handshake_timeout: Duration,
    /// From our Close frame to the peer's answer; then the socket is cut. Default 5 s.
    pub close_timeout: Duration,
    /// How long a stop waits for what is queued to be written. Default 10 s.
    pub drain_timeout: Duration,
    /// Threads that write broadcasts; 0 lets the broadcaster write itself. Default: cores - 2, at most 8.
    pub deliverers: usize,
    /// Address space of a client thread's stack, in bytes; only touched pages cost memory.
    /// Default 256 KiB, at least 128 KiB: deep JSON aborts the process on less.
    pub client_stack: usize,
    /// What the log shows unless RUST_LOG says otherwise. Default info.
    pub log_level: log::LevelFilter,
}

/// `[[listen]]`: one address.
#[derive(Debug, Clone, PartialEq)]
pub struct ListenerSettings {
    /// The name by which endpoints and log lines call it. Default: the address as written.
    pub name: String,
    /// Where it binds.
    pub address: ListenAddress,
    /// TLS instead of plain, if set.
    pub tls: Option<TlsSettings>,
}

/// An address a listener can bind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// `"127.0.0.1:8080"`, `"[::1]:8080"`; port 0 lets the system choose.
    Tcp(SocketAddr),
    /// `"unix:/run/wsgate/ws.sock"`.
    Unix(PathBuf),
}

impl ListenAddress {
    /// Whether only this machine can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            ListenAddress::Tcp(address) => address.ip().is_loopback(),
            ListenAddress::Unix(_) => true,
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Tcp(address) => write!(f, "{address}"),
            ListenAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// `tls = { certificate = ..., private_key = ... }`: PEM files, read at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// The certificate chain, leaf first.
    pub certificate: PathBuf,
    /// The leaf's private key.
    pub private_key: PathBuf,
}

/// `[[endpoint]]`: one path and all that holds for its clients.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointSettings {
    /// The path pattern: `/`, `/echo`, `/rooms/{room}`.
    pub path: String,
    /// The listeners it is reachable on, by name; `None` is all of them.
    pub listen: Option<BTreeSet<String>>,
    /// Where its clients' messages go; empty: they are read, checked and discarded. A relay has none.
    pub to: Vec<Destination>,
    /// The server to which each client gets a connection of its own.
    pub relay: Option<RelaySettings>,
    /// How its clients write and read messages.
    pub format: Format,
    /// What a client is sent first.
    pub welcome: Welcome,
    /// The subprotocols we agree to, in our order of preference.
    pub subprotocols: Vec<String>,
    /// Clients at once on this endpoint. Default 100.
    pub max_connections: usize,
    /// What the client beyond `max_connections` gets.
    pub at_capacity: AtCapacity,
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
    /// Which browser pages may connect.
    pub origins: Origins,
    /// Whether its clients may address other clients by `_session`. Default false.
    pub address_sessions: bool,
    /// What happens to its clients and is told to its destinations, the reply left out.
    pub events: BTreeSet<EventKind>,
}

/// `relay = { url, ... }` of an endpoint: every client gets its own connection to another server.
#[derive(Debug, Clone, PartialEq)]
pub struct RelaySettings {
    /// How to reach it; a `{name}` in the path of its URL is filled in by [`url::fill`] with the client's parameter.
    pub dial: DialSettings,
    /// The URL for people: variables of the environment as they are written, neither password nor query.
    pub shown: String,
    /// The headers of the client's request that are sent on, by name.
    pub forward_headers: Vec<String>,
    /// Whether the query of the client's request is sent on. Default true.
    pub forward_query: bool,
    /// How long a client is kept while its server cannot be reached; `None` closes it at once. Default `None`.
    pub hold: Option<Duration>,
}

/// `[[link]]`: a connection that we dial and redial.
#[derive(Debug, Clone, PartialEq)]
pub struct LinkSettings {
    /// How destinations, rooms and log lines call it: letters, digits, `-` and `_`.
    pub name: String,
    /// Whom it dials and how.
    pub dial: DialSettings,
    /// The URL for people: variables of the environment as they are written, neither password nor query.
    pub shown: String,
    /// Where goes what the remote sends: `reply`, `endpoint:` (a [`Template`](crate::template::Template)), `link:`.
    pub to: Vec<Destination>,
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
    /// What waits for the remote while it is away.
    pub queue: LinkQueueSettings,
    /// When it is dialled again.
    pub backoff: BackoffSettings,
    /// Whether a message may come back to where it came from. Default false.
    pub allow_loop: bool,
    /// What happens to it and is told to its destinations, the reply left out.
    pub events: BTreeSet<EventKind>,
}

/// Whom to dial and how.
#[derive(Clone, PartialEq)]
pub struct DialSettings {
    /// A good `ws://` or `wss://` URL. It may hold a user and a password, which are sent as Basic.
    pub url: String,
    /// Headers of the request, each name once.
    pub headers: Vec<(String, Secret)>,
    /// Offered in this order.
    pub subprotocols: Vec<String>,
    /// The Origin header, if one is to be sent.
    pub origin: Option<String>,
    /// For name, connection, proxy, TLS and handshake together. Default 10 s.
    pub connect_timeout: Duration,
    /// The way there.
    pub proxy: Proxy,
    /// What holds for `wss://`.
    pub tls: DialTls,
}

impl fmt::Debug for DialSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DialSettings { url, headers, subprotocols, origin, connect_timeout, proxy, tls } = self;
        // A password stands before the host, a token often behind it.
        let server = url::parse(url).map_or_else(|_| "***".to_owned(), |url| url.authority());
        f.debug_struct("DialSettings")
            .field("server", &server)
            .field("headers", headers)
            .field("subprotocols", subprotocols)
            .field("origin", origin)
            .field("connect_timeout", connect_timeout)
            .field("proxy", proxy)
            .field("tls", tls)
            .finish_non_exhaustive()
    }
}

/// The way to a server that we dial.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Proxy {
    /// As the usual variables of the environment say, `no_proxy` among them.
    #[default]
    Environment,
    /// Straight there.
    Off,
    /// Through this one, by CONNECT: `http://[user:password@]host:port`.
    Url(Secret),
}

/// `tls = { ... }` of what we dial: PEM files, read at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialTls {
    /// Certificates to trust besides those of the system.
    pub ca: Option<PathBuf>,
    /// The certificate that we show, and its key.
    pub identity: Option<TlsSettings>,
    /// The name that the server's certificate must have; `None`: the host of the URL.
    pub server_name: Option<String>,
    /// Whether the server's certificate is checked. Default true.
    pub verify: bool,
}

/// `queue = { messages, bytes, when_full }` of a link: what waits while it is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkQueueSettings {
    /// Messages queued at once. Default 4,096, at least 2.
    pub messages: usize,
    /// Bytes queued at once; an empty queue takes any one frame. Default 4 MiB.
    pub bytes: usize,
    /// What happens to the next message.
    pub when_full: WhenDown,
}

/// What happens to a message for a link that is down and whose queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenDown {
    /// The oldest queued messages make room.
    #[default]
    DropOldest,
    /// The new message is dropped.
    DropNewest,
    /// Its sender waits, and is not read meanwhile.
    Block,
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

/// What can happen to a client or a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventKind {
    /// `connect`: it is there.
    Connect,
    /// `disconnect`: it is gone.
    Disconnect,
    /// `error`: it could not come, or ended badly.
    Error,
}

/// `queue = { messages, bytes, when_full }`: an outbox's bounds and what happens at them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueSettings {
    /// Messages queued at once. Default 4,096, at least 2.
    pub messages: usize,
    /// Bytes queued at once; an empty outbox takes any one frame. Default 4 MiB.
    pub bytes: usize,
    /// What a broadcast does when it does not fit.
    pub when_full: WhenFull,
}

/// What happens to a message for a client whose outbox is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// The oldest queued messages make room.
    #[default]
    DropOldest,
    /// The new message is dropped.
    DropNewest,
    /// The client is closed with 1008 "Too slow".
    Disconnect,
}

/// How a message looks on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Format {
    /// The bytes as they came.
    #[default]
    Payload,
    /// Node-RED's "entire message": JSON with `payload` and `_session`.
    Message,
    /// n8n's trigger: JSON with `message` and `metadata`.
    N8n,
}

/// One entry of a route: where a message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// `reply`: back to the sender.
    Reply,
    /// `broadcast`: to everybody in the sender's room, the sender too, as Node-RED does.
    Broadcast,
    /// `others`: to everybody in the sender's room but the sender.
    Others,
    /// `endpoint:/path`: to a room of the endpoint whose pattern this is, written with the same
    /// parameter names; the sender's values pick the room. In a link's route its braces hold where the values come
    /// from, see [`Template`](crate::template::Template).
    Endpoint(String),
    /// `link:NAME`: to the remote of the link that has this name.
    Link(String),
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

/// What the client beyond an endpoint's `max_connections` gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AtCapacity {
    /// 101, then Close 1013 "Server at capacity".
    #[default]
    Close,
    /// 503 with Retry-After.
    Refuse,
}

/// Which `Origin` headers an endpoint accepts; a request without one is no browser and is accepted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Origins {
    /// The origin's host and port are those of the Host header.
    #[default]
    Same,
    /// Exactly these, lower case, as browsers send them: `https://dash.example`.
    List(Vec<String>),
    /// Every page may connect.
    Any,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            gateway: GatewaySettings::default(),
            listeners: vec![ListenerSettings::default()],
            endpoints: vec![EndpointSettings::default()],
            links: Vec::new(),
        }
    }
}

impl Default for GatewaySettings {
    fn default() -> GatewaySettings {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        GatewaySettings {
            max_connections: 10_000,
            max_handshakes: 1024,
            handshake_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(10),
            deliverers: cores.saturating_sub(2).min(8),
            client_stack: 256 << 10,
            log_level: log::LevelFilter::Info,
        }
    }
}

impl Default for ListenerSettings {
    fn default() -> ListenerSettings {
        let address = SocketAddr::from(([127, 0, 0, 1], 8080));
        ListenerSettings { name: address.to_string(), address: ListenAddress::Tcp(address), tls: None }
    }
}

impl Default for EndpointSettings {
    fn default() -> EndpointSettings {
        EndpointSettings {
            path: "/".to_owned(),
            listen: None,
            to: vec![Destination::Broadcast],
            relay: None,
            format: Format::default(),
            welcome: Welcome::default(),
            subprotocols: Vec::new(),
            max_connections: 100,
            at_capacity: AtCapacity::default(),
            max_message: 1 << 20,
            heartbeat: Some(Duration::from_secs(30)),
            pong_timeout: Duration::from_secs(10),
            message_timeout: Some(Duration::from_secs(60)),
            write_timeout: Some(Duration::from_secs(30)),
            queue: QueueSettings::default(),
            origins: Origins::default(),
            address_sessions: false,
            events: BTreeSet::new(),
        }
    }
}

impl RelaySettings {
    /// A relay to this URL with every default.
    pub fn new(url: &str) -> RelaySettings {
        RelaySettings {
            dial: DialSettings::new(url),
            shown: url::fit_to_show(url),
            forward_headers: Vec::new(),
            forward_query: true,
            hold: None,
        }
    }
}

impl LinkSettings {
    /// A link to this URL with every default.
    pub fn new(name: &str, url: &str) -> LinkSettings {
        LinkSettings {
            name: name.to_owned(),
            dial: DialSettings::new(url),
            shown: url::fit_to_show(url),
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
            allow_loop: false,
            events: BTreeSet::new(),
        }
    }

    /// How often a `ping_message` is sent unless `ping_every` says otherwise.
    pub const PING_EVERY: Duration = Duration::from_secs(25);
}

impl DialSettings {
    /// This URL with every default.
    pub fn new(url: &str) -> DialSettings {
        DialSettings {
            url: url.to_owned(),
            headers: Vec::new(),
            subprotocols: Vec::new(),
            origin: None,
            connect_timeout: Duration::from_secs(10),
            proxy: Proxy::default(),
            tls: DialTls::default(),
        }
    }
}

impl Default for DialTls {
    fn default() -> DialTls {
        DialTls { ca: None, identity: None, server_name: None, verify: true }
    }
}

impl Default for LinkQueueSettings {
    fn default() -> LinkQueueSettings {
        LinkQueueSettings { messages: 4096, bytes: 4 << 20, when_full: WhenDown::default() }
    }
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

impl Default for QueueSettings {
    fn default() -> QueueSettings {
        QueueSettings { messages: 4096, bytes: 4 << 20, when_full: WhenFull::default() }
    }
}
