//! wsgate: a WebSocket gateway of plain blocking threads.
//!
//! The modules, in reading order; each one imports only from those below it.

pub mod heartbeat;
pub mod gateway;
pub mod flusher;
pub mod client;
pub mod accept;
pub mod thread;
pub mod shared;
pub mod scratch;
pub mod pulse;
pub mod opening;
pub mod dispatch;
pub mod admission;
pub mod broadcaster;
pub mod clock;
pub mod config;
pub mod connection;
pub mod format;
pub mod gate;
pub mod id;
pub mod message;
pub mod path;
pub mod publisher;
pub mod registry;
pub mod route;
pub mod wheel;
