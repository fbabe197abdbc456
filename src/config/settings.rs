//! What the operator means: every option of the configuration, checked and with its default.
//!
//! These types are values only. How they are written down is in `raw/`; here each field says
//! its unit and its bounds, and [`Settings::default`] is the one place that holds the defaults.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Everything `wsgate serve` runs on.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// What holds for the whole process.
    pub gateway: GatewaySettings,
    /// The addresses we accept on; at least one.
    pub listeners: Vec<ListenerSettings>,
    /// The paths that clients connect to; at least one, no two of the same shape.
    pub endpoints: Vec<EndpointSettings>,
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
    /// Where its clients' messages go; empty: they are read, checked and discarded.
    pub to: Vec<Destination>,
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
    /// parameter names; the sender's values pick the room.
    Endpoint(String),
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
        }
    }
}

impl Default for QueueSettings {
    fn default() -> QueueSettings {
        QueueSettings { messages: 4096, bytes: 4 << 20, when_full: WhenFull::default() }
    }
}
