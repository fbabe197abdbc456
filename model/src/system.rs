//! The gateway's `src/system/`, as far as an outbox reaches.

#[path = "../../src/system/large.rs"]
pub mod large;
