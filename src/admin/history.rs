//! The last hour in numbers, for the charts of the page: a sample every few seconds, the oldest forgotten. Values only.

use std::collections::VecDeque;

use serde::Serialize;

use crate::shared::traffic::Traffic;

/// How many seconds lie between two samples.
pub const STEP: u64 = 5;

/// How many samples are kept: an hour.
const SAMPLES_MAX: usize = (3600 / STEP) as usize;

/// What a gateway counts from its start on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages from clients.
    pub received_messages: u64,
    /// Bytes of their payload.
    pub received_bytes: u64,
    /// Messages to clients that the kernel has taken.
    pub sent_messages: u64,
    /// Bytes to clients that the kernel has taken.
    pub sent_bytes: u64,
    /// Messages to clients that were dropped.
    pub dropped_messages: u64,
}

/// What comes of two counts: how much it was in a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rates {
    pub received_messages: f32,
    pub received_bytes: f32,
    pub sent_messages: f32,
    pub sent_bytes: f32,
    pub dropped_messages: f32,
}

impl Counts {
    /// What some clients have counted.
    pub fn of(traffic: &Traffic) -> Counts {
        Counts {
            received_messages: traffic.received.messages,
            received_bytes: traffic.received.bytes,
            sent_messages: traffic.sent.messages,
            sent_bytes: traffic.sent.bytes,
            dropped_messages: traffic.sent.dropped,
        }
    }

    /// The rates since an earlier count, so many seconds ago. What was counted may have left since: then it is 0.
    pub fn since(&self, earlier: &Counts, seconds: f64) -> Rates {
        let rate = |now: u64, then: u64| {
            if seconds <= 0.0 { 0.0 } else { (now.saturating_sub(then) as f64 / seconds) as f32 }
        };
        Rates {
            received_messages: rate(self.received_messages, earlier.received_messages),
            received_bytes: rate(self.received_bytes, earlier.received_bytes),
            sent_messages: rate(self.sent_messages, earlier.sent_messages),
            sent_bytes: rate(self.sent_bytes, earlier.sent_bytes),
            dropped_messages: rate(self.dropped_messages, earlier.dropped_messages),
        }
    }
}

impl Rates {
    /// Those of all together.
    pub fn sum(all: &[Rates]) -> Rates {
        all.iter().fold(Rates::default(), |sum, one| Rates {
            received_messages: sum.received_messages + one.received_messages,
            received_bytes: sum.received_bytes + one.received_bytes,
            sent_messages: sum.sent_messages + one.sent_messages,
            sent_bytes: sum.sent_bytes + one.sent_bytes,
            dropped_messages: sum.dropped_messages + one.dropped_messages,
        })
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct History {
    samples: VecDeque<(u64, u32, Rates)>,
}

/// The history as JSON has it: for each thing a list of numbers, the oldest first.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Columns {
    /// Seconds since 1970.
    at: Vec<u64>,
    clients: Vec<u32>,
    received_messages: Vec<f32>,
    received_bytes: Vec<f32>,
    sent_messages: Vec<f32>,
    sent_bytes: Vec<f32>,
    dropped_messages: Vec<f32>,
}

impl History {
    /// Adds what holds at this time, in seconds since 1970.
    pub fn add(&mut self, at: u64, clients: usize, rates: Rates) {
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back((at, u32::try_from(clients).unwrap_or(u32::MAX), rates));
    }

    /// All of it.
    pub fn columns(&self) -> Columns {
        let rates = |value: fn(&Rates) -> f32| {
            // More digits than one can see in a chart.
            self.samples.iter().map(|(_, _, rates)| (value(rates) * 10.0).round() / 10.0).collect()
        };
        Columns {
            at: self.samples.iter().map(|(at, _, _)| *at).collect(),
            clients: self.samples.iter().map(|(_, clients, _)| *clients).collect(),
            received_messages: rates(|rates| rates.received_messages),
            received_bytes: rates(|rates| rates.received_bytes),
            sent_messages: rates(|rates| rates.sent_messages),
            sent_bytes: rates(|rates| rates.sent_bytes),
            dropped_messages: rates(|rates| rates.dropped_messages),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_is_kept_and_no_more() {
        let mut history = History::default();
        for second in 0..10_000 {
            let rates = Rates { sent_bytes: second as f32, ..Rates::default() };
            history.add(second * STEP, second as usize, rates);
        }
        let columns = history.columns();
        assert_eq!((columns.at.len(), columns.at[0]), (720, 9_280 * STEP));
        assert_eq!((columns.clients[719], columns.sent_bytes[719]), (9_999, 9_999.0));
    }

    #[test]
    fn a_rate_is_what_was_counted_in_a_second_and_never_negative() {
        let counts = |received_messages, sent_bytes| Counts { received_messages, sent_bytes, ..Counts::default() };
        let rates = counts(30, 5).since(&counts(10, 6), 5.0);
        assert_eq!((rates.received_messages, rates.sent_bytes), (4.0, 0.0));
        assert_eq!(counts(30, 5).since(&counts(10, 1), 0.0), Rates::default());
    }
}
