//! A store: messages in a SQLite file that anybody may read while wsgate writes it.
//!
//! Here is what is done to the file: opening it under a lock of its own, writing what waits in one transaction, and
//! saying what went wrong in words that say what to do. When that happens is decided by the store's thread. The tables
//! are described in `docs/stores.md`; they are an interface.

pub mod backup;
pub mod error;
mod lock;
pub mod place;
pub mod prune;
pub mod reader;
pub mod record;
pub mod schema;
pub mod writer;
