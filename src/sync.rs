//! What the threads around an outbox wait for each other with: std's own.
//!
//! The outbox, the watch and the upstream import it from here, because the model checker in `model/` compiles
//! these same files with its own in this place.

pub use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
