//! Locks and waits: std's own, with three rules built in.
//!
//! A lock that a panic left behind is taken by the next thread: no step under a lock of ours leaves its data half changed.
//! A wait is bounded, or its caller says that it has no end. And a [`Signal`] knows whether anybody waits for it, so that
//! a notification that nobody needs costs no system call.
//!
//! The model checker in `model/` compiles the outbox and others with a lock and a condition variable of its own in the
//! place of the first half of this file (`lock.rs`).

mod lock;
mod signal;
mod sleeper;

pub use std::sync::Arc;

pub use lock::{Condvar, Mutex, MutexGuard};
pub use signal::Signal;
pub use sleeper::Sleeper;
