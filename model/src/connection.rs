//! The gateway's `src/connection/`, as far as an outbox reaches.

#[path = "../../src/connection/frame.rs"]
pub mod frame;
#[path = "../../src/connection/large.rs"]
pub mod large;
#[path = "../../src/connection/outbox.rs"]
pub mod outbox;
#[path = "../../src/connection/queue.rs"]
pub mod queue;
#[path = "../../src/connection/sealer.rs"]
pub mod sealer;
#[path = "../../src/connection/watch.rs"]
pub mod watch;

// In the places of the real ones.
#[path = "socket.rs"]
pub mod socket;
#[path = "tls.rs"]
pub mod tls;
