//! wsgate: a WebSocket gateway of plain blocking threads.
//!
//! The modules, in reading order; each one imports only from those below it.

pub mod cli;
pub mod config;
pub mod id;
pub mod message;
