//! A drain: nobody is let in, and those who are there are closed one after the other, evenly over a time. So they come to
//! other gateways one after the other too.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use log::info;

use crate::clock;
use crate::display::count;
use crate::id::Id;
use crate::shared::Shared;
use crate::shared::members::Step;
use crate::shared::rooms::Item;
use crate::shared::summary::stop_takes;

/// How often it is looked who is due, and whether all have left.
const PAUSE: Duration = Duration::from_millis(20);

/// How a drain stands, for whoever has asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draining {
    /// Whether it had begun before.
    pub had_begun: bool,
    /// How many clients are here.
    pub clients: usize,
    /// When the last of them is closed.
    pub until: SystemTime,
    /// How long it takes at most until the process has ended.
    pub ends_within: Duration,
}

/// A drain that has begun.
#[derive(Debug)]
pub struct Drain {
    /// Those who are still to be closed, in no order.
    clients: std::vec::IntoIter<Id>,
    total: usize,
    began: Instant,
    over: Duration,
    close_timeout: Duration,
}

impl Drain {
    /// Lets nobody in from now on. The clients that are there are closed over `drain_timeout`.
    pub fn begin(shared: &Shared) -> Drain {
        shared.begin_draining();
        let clients = shared.registry.ids(|_| true);
        let generation = shared.generation();
        let (over, close_timeout) = (generation.gateway.drain_timeout, generation.gateway.close_timeout);
        info!("draining: closing {} with 1012, evenly over {over:?}", count(clients.len(), "client"));
        Drain { total: clients.len(), clients: clients.into_iter(), began: Instant::now(), over, close_timeout }
    }

    /// How it stands; `had_begun` is whether it had begun before somebody asked for it.
    pub fn stands(&self, shared: &Shared, had_begun: bool) -> Draining {
        let left = |time: Duration| time.saturating_sub(self.began.elapsed());
        Draining {
            had_begun,
            clients: shared.registry.len(),
            until: SystemTime::now() + left(self.over),
            ends_within: left(self.longest()) + stop_takes(shared),
        }
    }

    /// Closes who is due by now. Says after how long to come again; `None` when all have left, or should have.
    pub fn step(&mut self, shared: &Shared) -> Option<Duration> {
        let elapsed = self.began.elapsed();
        let left_over = self.total - due(self.total, elapsed, self.over);
        while self.clients.len() > left_over
            && let Some(id) = self.clients.next()
        {
            close(shared, id);
        }
        let is_late = elapsed > self.longest();
        (!shared.registry.is_empty() && !is_late).then_some(PAUSE)
    }

    /// How long it takes at most, until the stop behind it.
    fn longest(&self) -> Duration {
        self.over + self.close_timeout + 2 * clock::TICK
    }
}

/// Closes a client behind what waits for it, in its room and in its queue. One that does not answer is cut by its close
/// deadline.
fn close(shared: &Shared, id: Id) {
    // It may have left by itself.
    let Some(client) = shared.registry.find(id) else { return };
    let step = Step::Close(Arc::clone(client.outbox()), 1012, "Service restart".into());
    client.room.push(Item::Step(step, None));
}

/// How many of so many clients are due after this time: the first at once, the last before all of it is over.
fn due(total: usize, elapsed: Duration, over: Duration) -> usize {
    if elapsed >= over {
        return total;
    }
    let begun = total as u128 * elapsed.as_nanos() / over.as_nanos();
    (begun as usize + 1).min(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_due_evenly() {
        let over = Duration::from_secs(10);
        let seconds = Duration::from_secs_f64;
        for (total, at, expected) in [
            (0, 0.0, 0),
            (1, 0.0, 1),
            (1000, 0.0, 1),
            (1000, 1.0, 101),
            (1000, 5.0, 501),
            (1000, 9.99, 1000),
            (3, 3.0, 1),
            (3, 3.4, 2),
            (3, 6.7, 3),
            (1000, 10.0, 1000),
            (1000, 99.0, 1000),
        ] {
            assert_eq!(due(total, seconds(at), over), expected, "{total} after {at} s");
        }
        assert_eq!(due(7, Duration::ZERO, Duration::ZERO), 7);
    }
}
