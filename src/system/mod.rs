//! The platform's quirks: threads, memory, limits, the supervisor.

pub mod large;
pub mod limits;
pub mod malloc;
pub mod thread;
pub mod watchdog;
