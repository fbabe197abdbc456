//! What a sender may have on its way to rooms: its own credit, and one bound for all senders together.
//!
//! Each sender has a credit of its own, so the backlog of rooms is bounded by who sends, and a sender that floods
//! waits for its own messages alone. The bytes count until the last receiver's outbox has them. A sender without
//! credit waits in its own thread, which then does not read its socket, so TCP tells the client to slow down.

use std::sync::Arc;

use crate::sync::{Mutex, Signal};

/// Frames, joins and leaves of one sender that are on their way. More: the sender waits.
const ENTRIES: usize = 32;

/// Bytes of one sender's frames that are on their way. More: the sender waits; with none on its way it may send any one
/// frame.
const BYTES: usize = 128 << 10;

/// Events of clients and links that are on their way. One more is dropped, because an event waits for nobody.
const EVENTS: usize = 1024;

/// Bytes of all senders' frames that are on their way. More: the next sender waits; with none on its way any one frame
/// is taken.
const TOTAL_BYTES: usize = 64 << 20;

/// Things on their way.
#[derive(Debug, Clone, Copy, Default)]
struct InFlight {
    entries: usize,
    bytes: usize,
}

/// A bound on what is on its way.
#[derive(Debug)]
struct Allowance {
    most: InFlight,
    in_flight: Mutex<InFlight>,
    returned: Signal,
}

impl Allowance {
    fn new(entries: usize, bytes: usize) -> Allowance {
        Allowance { most: InFlight { entries, bytes }, in_flight: Mutex::default(), returned: Signal::default() }
    }

    fn has_room(&self, in_flight: InFlight, bytes: usize) -> bool {
        in_flight.entries == 0 || (in_flight.entries < self.most.entries && in_flight.bytes + bytes <= self.most.bytes)
    }

    fn try_take(&self, bytes: usize) -> bool {
        let mut in_flight = self.in_flight.lock();
        let has_room = self.has_room(*in_flight, bytes);
        if has_room {
            in_flight.entries += 1;
            in_flight.bytes += bytes;
        }
        has_room
    }

    /// Waits for room; `false` if `give_up`.
    fn take(&self, bytes: usize, give_up: impl Fn() -> bool) -> bool {
        let must_wait = |in_flight: &InFlight| !self.has_room(*in_flight, bytes);
        let in_flight = self.returned.wait_while(&self.in_flight, self.in_flight.lock(), must_wait, give_up);
        let Some(mut in_flight) = in_flight else { return false };
        in_flight.entries += 1;
        in_flight.bytes += bytes;
        true
    }

    fn give_back(&self, bytes: usize) {
        let mut in_flight = self.in_flight.lock();
        in_flight.entries -= 1;
        in_flight.bytes -= bytes;
        drop(in_flight);
        self.returned.notify_all();
    }
}

/// The bound for all senders of a gateway together.
#[derive(Debug)]
pub struct Budget(Allowance);

impl Default for Budget {
    fn default() -> Budget {
        Budget(Allowance::new(usize::MAX, TOTAL_BYTES))
    }
}

/// What one sender may have on its way.
#[derive(Debug)]
pub struct Credit {
    own: Allowance,
    budget: Arc<Budget>,
}

impl Credit {
    /// That of a client or of a link's connection.
    pub fn of_sender(budget: Arc<Budget>) -> Arc<Credit> {
        Arc::new(Credit { own: Allowance::new(ENTRIES, BYTES), budget })
    }

    /// That of all events.
    pub fn of_events(budget: Arc<Budget>) -> Arc<Credit> {
        Arc::new(Credit { own: Allowance::new(EVENTS, TOTAL_BYTES), budget })
    }

    /// Takes credit for an entry of so many bytes without waiting; `None` if there is none left.
    pub fn try_take(self: &Arc<Self>, bytes: usize) -> Option<Reservation> {
        if !self.own.try_take(bytes) {
            return None;
        }
        if !self.budget.0.try_take(bytes) {
            self.own.give_back(bytes);
            return None;
        }
        Some(self.reservation(bytes))
    }

    /// Takes credit for an entry of so many bytes, waiting for it as long as it takes or until `give_up` says so, which
    /// is asked every 250 ms.
    pub fn take(self: &Arc<Self>, bytes: usize, give_up: impl Fn() -> bool) -> Option<Reservation> {
        if !self.own.take(bytes, &give_up) {
            return None;
        }
        if !self.budget.0.take(bytes, &give_up) {
            self.own.give_back(bytes);
            return None;
        }
        Some(self.reservation(bytes))
    }

    /// Waits until nothing of this sender is on its way, or until `give_up`.
    pub fn wait_returned(&self, give_up: impl Fn() -> bool) {
        let Allowance { in_flight, returned, .. } = &self.own;
        drop(returned.wait_while(in_flight, in_flight.lock(), |in_flight| in_flight.entries > 0, give_up));
    }

    fn reservation(self: &Arc<Self>, bytes: usize) -> Reservation {
        Reservation { credit: Arc::clone(self), bytes }
    }
}

/// Credit that was taken for an entry; dropping it gives the credit back.
#[derive(Debug)]
pub struct Reservation {
    credit: Arc<Credit>,
    bytes: usize,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.credit.own.give_back(self.bytes);
        self.credit.budget.0.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_has_a_bounded_number_of_entries_on_their_way() {
        let credit = Credit::of_sender(Arc::default());
        let mut taken: Vec<_> = std::iter::from_fn(|| credit.try_take(1)).take(1000).collect();
        assert_eq!(taken.len(), ENTRIES);
        assert!(credit.take(1, || true).is_none());
        taken.pop();
        assert!(credit.try_take(1).is_some());
    }

    #[test]
    fn a_sender_with_nothing_on_its_way_may_send_any_one_frame() {
        let credit = Credit::of_sender(Arc::default());
        let large = credit.try_take(BYTES * 4);
        assert!(large.is_some() && credit.try_take(0).is_none());
        drop(large);
        assert!(credit.try_take(BYTES).is_some());
    }

    #[test]
    fn what_all_senders_have_on_their_way_is_bounded_in_bytes() {
        let budget: Arc<Budget> = Arc::default();
        let senders: Vec<_> = (0..1000).map(|_| Credit::of_sender(Arc::clone(&budget))).collect();
        let taken: Vec<_> = senders.iter().map_while(|credit| credit.try_take(1 << 20)).collect();
        assert_eq!(taken.len(), TOTAL_BYTES >> 20);
        drop(taken);
        assert!(senders.last().is_some_and(|credit| credit.try_take(1).is_some()));
    }
}
