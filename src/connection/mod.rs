//! One WebSocket, both ways: its handshake, what it reads, what it writes.

pub mod buffer_pool;
pub mod client_trust;
pub mod close;
mod collected;
pub mod ending;
pub mod frame;
pub mod handler;
pub mod handshake;
pub mod header;
pub mod intake;
pub mod keepalive;
pub mod outbox;
pub mod peer;
pub mod poller;
mod pongs;
pub mod queue;
pub mod read_loop;
mod read_turn;
pub mod reader;
pub mod record_writer;
pub mod server_names;
pub mod server_tls;
pub mod socket;
pub mod tls;
pub mod trust_review;
