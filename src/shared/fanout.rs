//! Messages for a room's clients, joined into as few frames as the queues of the room's endpoint allow.

use std::ops::Range;
use std::sync::Arc;

use log::warn;

use crate::connection::frame::{CorkLimits, Frame, join};
use crate::connection::outbox::{Delivery, Outbox};
use crate::id::Id;
use crate::log_kind::QUEUES;
use crate::shared::credit::Reservation;

/// A frame for a room, and who does not get it.
#[derive(Debug)]
pub struct Entry {
    pub except: Option<Id>,
    pub frame: Frame,
    /// Given back when the frame is in all outboxes.
    pub reservation: Option<Reservation>,
}

/// Entries for the same clients, ready to be delivered.
#[derive(Debug)]
pub struct Fanout {
    /// For everybody whom nothing excludes: the entries joined as far as the limits go.
    joined: Vec<Frame>,
    /// Where the entries lie in `joined`, in order.
    parts: Vec<Part>,
    /// The places of those whom an entry excludes, with the number of the entry, in order.
    excluded: Vec<(usize, usize)>,
    /// The bytes that each client gets.
    bytes: usize,
    _reservations: Vec<Reservation>,
}

/// An entry in the frame that it was joined into.
#[derive(Debug, Clone)]
struct Part {
    /// Which of the joined frames.
    frame: usize,
    bytes: Range<usize>,
    messages: u32,
}

impl Fanout {
    /// Joins these entries; `place_of` is where a client stands in the room, if it is there.
    pub fn new(entries: Vec<Entry>, limits: &CorkLimits, place_of: impl Fn(Id) -> Option<usize>) -> Fanout {
        let mut fanout = Fanout {
            joined: Vec::new(),
            parts: Vec::new(),
            excluded: Vec::new(),
            bytes: entries.iter().map(|entry| entry.frame.len()).sum(),
            _reservations: Vec::new(),
        };
        let mut group = Vec::new();
        let (mut messages, mut bytes) = (0, 0);
        for (number, Entry { except, frame, reservation }) in entries.into_iter().enumerate() {
            fanout.excluded.extend(except.and_then(&place_of).map(|place| (place, number)));
            fanout._reservations.extend(reservation);
            if !group.is_empty() && !limits.admit(messages + frame.messages(), bytes + frame.len()) {
                fanout.joined.push(join(std::mem::take(&mut group)));
                (messages, bytes) = (0, 0);
            }
            let range = bytes..bytes + frame.len();
            fanout.parts.push(Part { frame: fanout.joined.len(), bytes: range, messages: frame.messages() as u32 });
            (messages, bytes) = (messages + frame.messages(), bytes + frame.len());
            group.push(frame);
        }
        fanout.joined.push(join(group));
        fanout.excluded.sort_unstable();
        fanout
    }

    /// The bytes that each client gets.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Delivers to the clients at these places of the room.
    pub fn deliver(&self, outboxes: &[Arc<Outbox>], places: Range<usize>) {
        let first = self.excluded.partition_point(|(place, _)| *place < places.start);
        let mut excluded = &self.excluded[first..];
        for place in places {
            let own = excluded.iter().take_while(|(excluded, _)| *excluded == place).count();
            if own == 0 {
                deliver_to(&outboxes[place], &self.joined);
            } else {
                deliver_to(&outboxes[place], &self.without(&excluded[..own]));
                excluded = &excluded[own..];
            }
        }
    }

    /// The joined frames without these entries, in slices of the same memory.
    fn without(&self, excluded: &[(usize, usize)]) -> Vec<Frame> {
        let mut frames = Vec::with_capacity(self.joined.len() + excluded.len());
        let mut numbers = excluded.iter().map(|(_, number)| *number).peekable();
        let mut at = 0;
        for (index, joined) in self.joined.iter().enumerate() {
            let end = at + self.parts[at..].iter().take_while(|part| part.frame == index).count();
            let mut kept = at;
            while let Some(number) = numbers.next_if(|number| *number < end) {
                frames.extend(self.slice(joined, kept..number));
                kept = number + 1;
            }
            frames.extend(self.slice(joined, kept..end));
            at = end;
        }
        frames
    }

    /// The part of a joined frame that holds these entries; `None` for none.
    fn slice(&self, joined: &Frame, entries: Range<usize>) -> Option<Frame> {
        let parts = &self.parts[entries];
        let (first, last) = (parts.first()?, parts.last()?);
        let messages = parts.iter().map(|part| part.messages).sum();
        Some(joined.part(first.bytes.start..last.bytes.end, messages))
    }
}

/// Delivers frames to a client, and logs what becomes of them where that is worth a line.
pub fn deliver_to(outbox: &Arc<Outbox>, frames: &[Frame]) {
    match outbox.deliver_all(frames) {
        Delivery::Taken | Delivery::Closed | Delivery::Dropped { first: false } => {}
        Delivery::Dropped { first: true } => {
            warn!(
                target: QUEUES, client:% = outbox.id();
                "client {}: its queue is full: messages for it are dropped from now on, as `when_full` says",
                outbox.id()
            );
        }
        Delivery::TooSlow => {
            warn!(
                target: QUEUES, client:% = outbox.id();
                "client {}: its queue is full: the client is closed, as `when_full` says", outbox.id()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;
    use crate::config::Settings;
    use crate::connection::frame::Role;
    use crate::connection::outbox::Limits;
    use crate::connection::poller::Poller;
    use crate::connection::socket::Socket;

    const CLIENTS: u64 = 6;

    /// A client with this id, and where what it gets can be read.
    fn client(id: u64) -> (Arc<Outbox>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let limits = Limits { queue: Settings::default().endpoints[0].queue, write_timeout: None, close_timeout: 10 };
        let poller = Arc::new(Poller::new().unwrap());
        let outbox = Outbox::new(id.into(), Role::Server, Socket::new(ours), None, limits, Arc::default(), poller);
        (Arc::new(outbox), theirs)
    }

    /// An entry of `len` bytes that begins with its number.
    fn entry(number: usize, except: Option<u64>, len: usize) -> Entry {
        let mut bytes = vec![number as u8; len];
        bytes[0] = b'#';
        Entry { except: except.map(Id::from), frame: Frame::joined(bytes.into(), 1), reservation: None }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

        #[test]
        fn every_client_gets_all_entries_in_order_but_those_that_exclude_it(
            entries in vec((option::of(1..=CLIENTS + 1), 1usize..40), 1..40),
            most in 2usize..20,
            slice in 1usize..8,
        ) {
            let clients: Vec<_> = (1..=CLIENTS).map(client).collect();
            let outboxes: Vec<_> = clients.iter().map(|(outbox, _)| Arc::clone(outbox)).collect();
            let limits = CorkLimits::for_queue(most, most * 40);
            let made = entries.iter().enumerate().map(|(number, (except, len))| entry(number, *except, *len)).collect();
            let fanout = Fanout::new(made, &limits, |id| outboxes.iter().position(|outbox| outbox.id() == id));
            for start in (0..outboxes.len()).step_by(slice) {
                fanout.deliver(&outboxes, start..outboxes.len().min(start + slice));
            }
            for (number, (outbox, mut theirs)) in clients.into_iter().enumerate() {
                let id = number as u64 + 1;
                let kept = entries.iter().enumerate().filter(|(_, (except, _))| *except != Some(id));
                let expected: Vec<u8> = kept
                    .flat_map(|(number, (except, len))| entry(number, *except, *len).frame.as_one().unwrap().to_vec())
                    .collect();
                let messages = entries.iter().filter(|(except, _)| *except != Some(id)).count();
                let mut got = vec![0; expected.len()];
                theirs.read_exact(&mut got).unwrap();
                prop_assert_eq!(got, expected);
                prop_assert_eq!(outbox.finish().1.messages, messages as u64);
            }
        }
    }
}
