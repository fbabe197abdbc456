//! A well-behaved client beside the hostile ones: it has to get its echo in time, whatever they do.

use std::time::{Duration, Instant};

use super::{Frame, Gateway, Raw, masked};

/// The longest that an echo may take while others misbehave.
const PROMPT: Duration = Duration::from_millis(500);

/// A client of the endpoint `/canary`, which replies.
pub(crate) struct Canary(Raw);

impl Canary {
    /// Connects it, before anything hostile happens.
    pub(crate) fn enter(gateway: &Gateway) -> Canary {
        let mut client = gateway.raw("plain");
        client.upgrade("/canary", &[]);
        Canary(client)
    }

    /// Checks that its echo comes in time.
    pub(crate) fn sing(&mut self, after: &str) {
        let asked = Instant::now();
        self.0.send(&masked(0x81, b"still alive?"));
        assert_eq!(self.0.frame(), Frame::text("still alive?"), "after {after}");
        let took = asked.elapsed();
        assert!(took < PROMPT, "after {after} the canary waited {took:?}");
    }
}
