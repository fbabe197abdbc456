//! An attack from beginning to end: what it costs the gateway, and whether a well-behaved client
//! notices anything of it.

use std::fmt::Display;
use std::time::{Duration, Instant};

use super::{Canary, Gateway, Raw, eventually, measured};

/// An attack on a gateway that has the endpoint `/canary` (which replies) on the listener "plain".
///
/// What is asked of it while it lasts is asked about the time since [`begin`](Attack::begin).
pub(crate) struct Attack<'g> {
    case: &'static str,
    gateway: &'g Gateway,
    canary: Canary,
    memory_kib: usize,
    processor: Duration,
    threads: usize,
    descriptors: usize,
}

impl<'g> Attack<'g> {
    /// Connects the canary and notes what the gateway takes before anything hostile happens. The
    /// case is an id of the table of cases, such as "F1".
    pub(crate) fn begin(case: &'static str, gateway: &'g Gateway) -> Attack<'g> {
        let mut canary = Canary::connect(gateway);
        canary.check_echo("nothing yet");
        Attack {
            case,
            gateway,
            canary,
            memory_kib: gateway.memory_kib(),
            processor: gateway.processor_time(),
            threads: gateway.threads(),
            descriptors: gateway.descriptors(),
        }
    }

    /// Checks that the canary has its echo in time, now; `after` says what has just been done to it.
    pub(crate) fn check_echo(&mut self, after: &str) {
        self.canary.check_echo(after);
    }

    /// How much memory it costs, in KiB.
    pub(crate) fn grown_kib(&self) -> usize {
        self.gateway.memory_kib().saturating_sub(self.memory_kib)
    }

    /// How much processor time it has cost, the canary's included.
    pub(crate) fn spent(&self) -> Duration {
        self.gateway.processor_time().saturating_sub(self.processor)
    }

    /// Checks that it costs less memory than this, in KiB.
    pub(crate) fn costs_less_than_kib(&self, limit: usize) {
        let grown = self.grown_kib();
        assert!(grown < limit, "{}: +{grown} KiB, which is not less than {limit}", self.case);
    }

    /// Waits until each of these connections has been cut, none later than this after it began, with an echo of the canary
    /// after each. Gives the shortest and the longest time.
    pub(crate) fn cuts_within(&mut self, limit: Duration, connections: Vec<(Raw, Instant)>) -> (Duration, Duration) {
        let (mut shortest, mut longest) = (limit, Duration::ZERO);
        for (mut client, since) in connections {
            assert!(client.is_gone_within(limit), "{}: a connection was not cut", self.case);
            let took = since.elapsed();
            assert!(took < limit, "{}: cut after {took:?}", self.case);
            (shortest, longest) = (shortest.min(took), longest.max(took));
            self.check_echo("a connection that was cut");
        }
        (shortest, longest)
    }

    /// Waits until every thread and descriptor is back; how many are there now is what was there before.
    pub(crate) fn gives_back_within(&self, limit: Duration) {
        eventually("threads and descriptors are back", limit, || {
            self.gateway.threads() <= self.threads && self.gateway.descriptors() <= self.descriptors
        });
    }

    /// Ends it: the canary still sings, a new client gets in, and what was measured is printed.
    pub(crate) fn end(mut self, figure: impl Display) {
        let (grown, spent) = (self.grown_kib(), self.spent());
        self.canary.check_echo("the end of the attack");
        Canary::check_new_client(self.gateway);
        let worst = self.canary.worst();
        measured(
            self.case,
            format!("{figure}; +{grown} KiB, {spent:.0?} of processor time, canary within {worst:.0?}"),
        );
    }
}
