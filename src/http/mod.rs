//! HTTP/1.1 as far as a WebSocket handshake, messages by POST, the admin listener and our own requests need it: what a
//! request and an answer say, and what may stand in them.
//! Rules only: bytes and texts go in, values come out. Reading and writing them is for `connection/handshake.rs` (a
//! client's request) and `dial/` (a server's answer).

pub mod answer;
pub mod body;
pub mod call;
pub mod cors;
pub mod forwarded;
pub mod head;
pub mod health;
pub mod misplaced;
pub mod origin;
pub mod posted;
pub mod refusal;
pub mod request;
pub mod retry_after;
pub mod token;
