//! wsgate: a WebSocket gateway of plain blocking threads.
//!
//! The modules, in reading order; each one imports only from those below it.

pub mod clock;
pub mod config;
pub mod connection;
pub mod id;
pub mod message;
pub mod path;
