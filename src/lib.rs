//! wsgate: a WebSocket gateway of plain blocking threads.
//!
//! The modules, in reading order; each one imports only from those below it in the layers.

// Wiring: from arguments to running threads.
pub mod cli;
pub mod gateway;

// Threads: a file and a name each, as `ps -T` shows it.
pub mod accept;
pub mod broadcaster;
pub mod client;
pub mod flusher;
pub mod heartbeat;
pub mod link;

// What a client's thread does on its way in and out.
pub mod dispatch;
pub mod intake;
pub mod opening;
pub mod relay;

// Shared state: what the threads meet through.
pub mod heaps;
pub mod links;
pub mod peer;
pub mod publisher;
pub mod registry;
pub mod scratch;
pub mod shared;
pub mod upstream;
pub mod waiting;
pub mod watchdog;
pub mod wheel;

// Rules: values in, value out.
pub mod admission;
pub mod event;
pub mod format;
pub mod pulse;
pub mod route;

// Connections that we open.
pub mod dial;

// One WebSocket connection.
pub mod connection;

// Leaves.
pub mod backoff;
pub mod clock;
pub mod config;
pub mod gate;
pub mod id;
pub mod message;
pub mod path;
pub mod secret;
pub mod sync;
pub mod template;
pub mod thread;
pub mod url;
pub mod wording;
