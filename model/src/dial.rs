//! The gateway's `src/dial/`, as far as one outbox after the other reaches.

#[path = "../../src/dial/reconnecting.rs"]
pub mod reconnecting;
