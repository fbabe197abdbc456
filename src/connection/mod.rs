//! One WebSocket connection: its handshake, what it reads, what it writes.

pub mod frame;
pub mod handshake;
pub mod large;
pub mod outbox;
pub mod queue;
pub mod reader;
pub mod sealer;
pub mod socket;
pub mod tls;
pub mod watch;
