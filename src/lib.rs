//! wsgate: a WebSocket gateway of plain blocking threads.
//!
//! The modules, in reading order; each one imports only from those below it.

// Arguments and commands.
mod cli;

// Start and stop.
mod gateway;

// What operators look at it with, and change it by.
mod admin;

// The threads, and what each client, relay and link does.
mod accept;
mod broadcaster;
mod client;
mod flusher;
mod heartbeat;
mod jwks;
mod link;
mod relay;
mod store_thread;

// From a sender to its destinations.
mod dispatch;
mod events;

// What is counted, for others to read.
mod metrics;

// What two threads may touch.
mod shared;

// Rules: values in, value out.
mod approach;
mod format;
mod route;

// Whose credential this is.
mod authenticators;

// Addresses that we accept on, and connections that we open.
mod dial;
mod listener;

// Files of messages.
mod store;

// What the log shows, and how it gets out.
mod logging;

// One WebSocket, both ways.
mod connection;

// From a file to settings.
mod config;

// The rules of authentication.
mod auth;

// What the heads of a handshake say.
mod http;

// Leaves.
mod address;
mod certificate;
mod clock;
mod display;
mod errand;
mod histogram;
mod id;
mod identity;
mod limit;
mod log_kind;
mod log_loss;
mod message;
mod path;
mod pem;
mod permits;
mod reload;
mod secret;
mod sync;
mod system;
mod table;
mod template;
mod url;

pub use cli::run;

/// What the tests, benches and fuzz targets of this package use of its inside. It is no interface: it changes as they do.
#[doc(hidden)]
#[rustfmt::skip] // A module to a line.
pub mod internals {
    pub mod auth {
        pub use crate::authenticators::Auths;
        pub use crate::auth::credentials::{Credential, Place, Places, Scheme, find};
        pub mod jwk { pub use crate::auth::jwk::{Algorithm, KeySet}; }
        pub mod jwt { pub use crate::auth::jwt::{JwtSettings, verify}; }
    }
    pub mod address {
        pub mod list { pub use crate::address::list::{AddressList, Entry, ListError}; }
        pub mod proxy_header { pub use crate::address::proxy_header::{ProxyHeader, ProxyHeaderError, parse}; }
    }
    pub mod cli { pub use crate::cli::check::report as check; pub use crate::cli::import::translate as import; }
    pub mod approach { pub use crate::approach::AskedHost; }
    pub mod client { pub use crate::client::admission::admit; }
    pub mod clock { pub use crate::clock::{Clock, Ticks}; }
    pub mod config { pub use crate::config::{
        ConfigError, DialSettings, DialTls, EndpointId, EndpointSettings, Format, LinkId, ListenerSettings, Origins, Proxy, QueueSettings,
        Settings, TlsSettings, WhenFull, parse,
    }; }
    pub mod connection {
        pub mod close { pub use crate::connection::close::{Close, Violation}; }
        pub mod ending { pub use crate::connection::ending::{Ending, Totals}; }
        pub mod frame { pub use crate::connection::frame::{Cork, CorkLimits, Frame, Role}; }
        pub mod handshake { pub use crate::connection::handshake::{Head, HeadError, Stream}; }
        pub mod keepalive { pub use crate::connection::keepalive::PingState; }
        pub mod outbox { pub use crate::connection::outbox::{Delivery, Limits, Outbox}; }
        pub mod poller { pub use crate::connection::poller::Poller; }
        pub mod queue { pub use crate::connection::queue::Queue; }
        pub mod reader { pub use crate::connection::reader::{Reader, Sink}; }
        pub mod socket { pub use crate::connection::socket::Socket; }
        pub mod tls { pub use crate::connection::tls::{Decrypted, DialHandshake, DialStep, Session}; }
    }
    pub mod dial { pub use crate::dial::{
        CancelToken, DialError, Dialed, Dialer, Hints, HttpClient, HttpRequest, RequestExtras, Resolver, ServerRefusal, Wire,
    }; }
    pub mod format { pub use crate::format::{Address, Audience, decode, encode, encode_for}; }
    pub mod http {
        pub mod body { pub use crate::http::body::{AnswerBody, BodyError}; }
        pub mod head { pub use crate::http::head::{ResponseHead, ResponseHeadParser}; }
        pub mod forwarded { pub use crate::http::forwarded::{Said, Unreadable, forwarded, x_forwarded}; }
        pub mod posted { pub use crate::http::posted::Form; }
        pub mod refusal { pub use crate::http::refusal::{Body, Refusal}; }
        pub mod request { pub use crate::http::request::{HEAD_MAX, Intent, Request, accept, header_values, judge}; }
    }
    pub mod id { pub use crate::id::Id; }
    pub mod logging { pub use crate::config::{LogLevels, LogSettings}; pub use crate::logging::{ask_levels, configure}; }
    pub mod message { pub use crate::message::{Kind, Message, Origin}; }
    pub mod path { pub use crate::path::{Pattern, VALUE_BYTES_MAX}; }
    pub mod route { pub use crate::route::{Place, Routes}; }
    pub mod secret { pub use crate::secret::Secret; }
    pub mod shared { pub use crate::shared::{Shared, generation::Parts, rooms::Rooms}; }
    pub mod url { pub use crate::url::{Protocol, parse, parse_as}; }
}
