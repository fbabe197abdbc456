//! A well-behaved client beside the hostile ones: it has to get its echo in time, whatever the others do.

use std::time::{Duration, Instant};

use super::{Frame, Gateway, Raw, masked};

/// The longest that an echo may take while others misbehave.
const PROMPT: Duration = Duration::from_millis(500);

/// A client of the endpoint `/canary`, which replies.
pub(crate) struct Canary {
    client: Raw,
    waits: Vec<Duration>,
}

impl Canary {
    /// Connects it, before anything hostile happens.
    pub(crate) fn connect(gateway: &Gateway) -> Canary {
        let mut client = gateway.raw("plain");
        client.upgrade("/canary", &[]);
        Canary { client, waits: Vec::new() }
    }

    /// Checks that a new one gets in and has its pong in time.
    pub(crate) fn check_new_client(gateway: &Gateway) {
        let begun = Instant::now();
        let mut fresh = Canary::connect(gateway);
        fresh.client.send(&masked(0x89, b"there?"));
        assert_eq!(fresh.client.frame(), Frame { first: 0x8a, payload: b"there?".to_vec() });
        let took = begun.elapsed();
        assert!(took < PROMPT, "a fresh canary waited {took:?}");
    }

    /// Checks that its echo comes in time.
    pub(crate) fn check_echo(&mut self, after: &str) {
        let asked = Instant::now();
        self.client.send(&masked(0x81, b"still alive?"));
        assert_eq!(self.client.frame(), Frame::text("still alive?"), "after {after}");
        let took = asked.elapsed();
        assert!(took < PROMPT, "after {after} the canary waited {took:?}");
        self.waits.push(took);
    }

    /// The longest that it has waited so far.
    pub(crate) fn worst(&self) -> Duration {
        self.waits.iter().max().copied().unwrap_or_default()
    }
}
