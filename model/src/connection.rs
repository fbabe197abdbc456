//! The gateway's `src/connection/`, as far as an outbox reaches.

#[path = "../../src/connection/close.rs"]
pub mod close;
#[path = "../../src/connection/ending.rs"]
pub mod ending;
#[path = "../../src/connection/frame.rs"]
pub mod frame;
#[path = "../../src/connection/keepalive.rs"]
pub mod keepalive;
#[path = "../../src/connection/outbox/mod.rs"]
pub mod outbox;
#[path = "../../src/connection/poller.rs"]
pub mod poller;
#[path = "../../src/connection/queue.rs"]
pub mod queue;
#[path = "../../src/connection/record_writer.rs"]
pub mod record_writer;

// In the places of the real ones.
#[path = "socket.rs"]
pub mod socket;
#[path = "tls.rs"]
pub mod tls;
