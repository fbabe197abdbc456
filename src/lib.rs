//! wsgate: a WebSocket gateway of plain blocking threads.
//!
//! The modules, in reading order; each one imports only from those below it.

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
