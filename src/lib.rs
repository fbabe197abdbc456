//! wsgate: a WebSocket gateway of plain blocking threads.
//!
//! The modules, in reading order; each one imports only from those below it.

pub mod config;
pub mod format;
pub mod id;
pub mod message;
