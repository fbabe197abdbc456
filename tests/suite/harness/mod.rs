//! What the tests stand on: a running gateway, certificates for it, and a client that speaks bytes.

mod certificates;
mod gateway;
pub(crate) mod process;
mod raw;
mod story;

pub(crate) use gateway::Gateway;
pub(crate) use raw::{Frame, Raw, masked, request};
pub(crate) use story::{LISTENERS, Wire, with_any_deliverers};

use std::time::Duration;

/// The longest that any single wait of a test may take: far more than a healthy gateway needs
/// on a busy machine, and short enough that a hang shows its log within one test run.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);
