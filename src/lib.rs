//! wsgate: a WebSocket gateway of plain blocking threads.
//!
//! The modules, in reading order; each one imports only from those below it.

// Arguments and commands.
pub mod cli;

// Start and stop.
pub mod gateway;
pub mod listener;

// The threads, and what each client, relay and link does.
pub mod accept;
pub mod broadcaster;
pub mod client;
pub mod flusher;
pub mod heartbeat;
pub mod link;
pub mod relay;

// From a sender to its destinations.
pub mod dispatch;
pub mod events;

// What two threads may touch.
pub mod shared;

// Rules: values in, value out.
pub mod format;
pub mod route;

// Connections that we open.
pub mod dial;

// One WebSocket, both ways.
pub mod connection;

// Leaves.
pub mod clock;
pub mod config;
pub mod display;
pub mod http;
pub mod id;
pub mod message;
pub mod path;
pub mod permits;
pub mod secret;
pub mod sync;
pub mod system;
pub mod template;
pub mod url;
