//! wsgate: a WebSocket gateway of plain blocking threads.
//!
//! The modules, in reading order; each one imports only from those below it.

/// The commands.
pub mod cli {
    pub mod check;
}
pub mod config;
pub mod id;
pub mod message;
pub mod path;
