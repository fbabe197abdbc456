//! A link's queue: what its senders have handed over and its connection has not taken yet.
//!
//! While the link is up a full queue holds the sender, as a slow client holds nobody but a slow
//! server may. While it is down the queue does what its policy says. Both are decided at the
//! same place under one lock, so a sender that is held when the link goes down is let go.

use std::time::Instant;

use crate::config::QueueSettings;
use crate::connection::frame::Frame;
use crate::connection::queue::{Offer, Queue};
use crate::sync::{Mutex, MutexGuard, Signal};

/// What became of a frame that was handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enqueued {
    /// It will be sent.
    Taken,
    /// The link is down and its queue full: this many messages were dropped by policy.
    Dropped(usize),
    /// The sender gave up, or the link takes nothing any more; its messages are dropped.
    Refused,
}

/// What the link's sending thread finds.
#[derive(Debug)]
pub enum Next {
    /// A frame to send.
    Frame(Frame),
    /// Nothing until the deadline.
    Nothing,
    /// Nothing any more.
    End,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct SendQueue {
    bounds: QueueSettings,
    /// Down or not, a full queue holds the sender.
    always_holds: bool,
    state: Mutex<State>,
    /// Signalled when there is something to take: for the link's sending thread.
    filled: Signal,
    /// Signalled when there is room, to one held sender at a time: each that leaves room tells the next one.
    /// A thousand that were told at once would find room for one.
    emptied: Signal,
}

#[derive(Debug, Default)]
struct State {
    queue: Queue,
    is_up: bool,
    is_ended: bool,
}

impl SendQueue {
    /// An empty queue of a link that is down.
    pub fn new(bounds: QueueSettings, always_holds: bool) -> SendQueue {
        SendQueue {
            bounds,
            always_holds,
            state: Mutex::default(),
            filled: Signal::default(),
            emptied: Signal::default(),
        }
    }

    /// Hands a frame over; waits for room while that is what a full queue does. `give_up` is asked
    /// every 250 ms; it must not wait, and may use any lock: none is held meanwhile.
    pub fn push(&self, frame: &Frame, give_up: impl Fn() -> bool) -> Enqueued {
        let must_wait = |state: &State| {
            let holds = state.is_up || self.always_holds;
            holds && !state.is_ended && !state.queue.fits(frame, &self.bounds)
        };
        let Some(mut state) = self.emptied.wait_while(&self.state, self.lock(), must_wait, give_up) else {
            // This sender may have been told of room that another one can use.
            self.emptied.notify_one();
            return Enqueued::Refused;
        };
        if state.is_ended {
            return Enqueued::Refused;
        }
        let handed = match state.queue.offer_each(frame, &self.bounds) {
            Offer::Taken => Enqueued::Taken,
            Offer::Dropped(count) => Enqueued::Dropped(count),
            Offer::TooSlow => Enqueued::Refused,
        };
        drop(state);
        self.filled.notify_one();
        self.emptied.notify_one();
        handed
    }

    /// Hands a frame over if less than half of the room is taken: for what must neither hold anybody
    /// nor drive out messages.
    pub fn try_push(&self, frame: &Frame) -> bool {
        let half = QueueSettings { messages: self.bounds.messages / 2, bytes: self.bounds.bytes / 2, ..self.bounds };
        let mut state = self.lock();
        let fits = !state.is_ended && state.queue.fits(frame, &half);
        if fits {
            state.queue.push(frame.clone());
            self.filled.notify_one();
        }
        fits
    }

    /// The next frame, which then counts no more; waits for one until `deadline`, or for ever.
    ///
    /// Nothing is given out while the link is down: what waits is for its policy to drop.
    pub fn take(&self, deadline: Option<Instant>) -> Next {
        let mut state = self.lock();
        loop {
            if state.is_up
                && let Some(taken) = state.queue.take(1, usize::MAX)
            {
                let frame = taken.frames[0].clone();
                state.queue.settle(taken, frame.len());
                drop(state);
                self.emptied.notify_one();
                return Next::Frame(frame);
            }
            if state.is_ended && state.queue.is_empty() {
                return Next::End;
            }
            let Some(changed) = self.filled.wait_until(state, deadline) else { return Next::Nothing };
            state = changed;
        }
    }

    /// Says whether the link is up.
    pub fn set_up(&self, is_up: bool) {
        self.lock().is_up = is_up;
        self.tell_all();
    }

    /// Takes nothing any more; what is queued can still be taken out, once the link is up.
    pub fn end(&self) {
        self.lock().is_ended = true;
        self.tell_all();
    }

    /// Takes nothing any more and forgets what is queued; says how many messages that were.
    pub fn abandon(&self) -> usize {
        let mut state = self.lock();
        state.is_ended = true;
        let lost = state.queue.clear();
        drop(state);
        self.tell_all();
        lost
    }

    /// Whether it takes nothing any more.
    pub fn is_ended(&self) -> bool {
        self.lock().is_ended
    }

    fn tell_all(&self) {
        self.filled.notify_all();
        self.emptied.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::config::WhenFull;

    fn waiting(when_full: WhenFull, always_holds: bool) -> SendQueue {
        SendQueue::new(QueueSettings { messages: 2, bytes: 1 << 20, when_full }, always_holds)
    }

    fn frame(fill: u8) -> Frame {
        Frame::joined(vec![fill; 3].into(), 1)
    }

    fn left(waiting: &SendQueue) -> Vec<u8> {
        let soon = Some(Instant::now());
        waiting.set_up(true);
        std::iter::from_fn(|| match waiting.take(soon) {
            Next::Frame(frame) => frame.as_one().map(|bytes| bytes[0]),
            Next::Nothing | Next::End => None,
        })
        .collect()
    }

    #[test]
    fn down_and_full_it_does_what_its_policy_says() {
        for (when_full, expected) in [(WhenFull::DropOldest, [2, 3]), (WhenFull::DropNewest, [1, 2])] {
            let waiting = waiting(when_full, false);
            assert_eq!(waiting.push(&frame(1), || false), Enqueued::Taken);
            assert_eq!(waiting.push(&frame(2), || false), Enqueued::Taken);
            assert_eq!(waiting.push(&frame(3), || false), Enqueued::Dropped(1));
            assert!(!waiting.try_push(&frame(4)));
            assert_eq!(left(&waiting), expected);
        }
    }

    #[test]
    fn down_and_full_it_drops_no_more_of_a_joined_frame_than_it_has_to() {
        // Messages of 10 bytes on the wire, joined as many as one read brings.
        let message = |number: u8| [&[0x82, 8][..], &[number; 8]].concat();
        let joined = |numbers: std::ops::Range<u8>| {
            let count = numbers.len() as u32;
            Frame::joined(numbers.flat_map(message).collect::<Vec<_>>().into(), count)
        };
        let numbers = |waiting: &SendQueue| -> Vec<u8> {
            waiting.set_up(true);
            let taken = std::iter::from_fn(|| match waiting.take(Some(Instant::now())) {
                Next::Frame(frame) => frame.as_one().map(|bytes| bytes.chunks(10).map(|it| it[9]).collect::<Vec<_>>()),
                Next::Nothing | Next::End => None,
            });
            taken.flatten().collect()
        };
        for (messages, bytes) in [(10, 1 << 20), (1000, 100), (1000, 109), (10, 104)] {
            for (when_full, expected) in [(WhenFull::DropOldest, 6..16), (WhenFull::DropNewest, 0..10)] {
                let waiting = SendQueue::new(QueueSettings { messages, bytes, when_full }, false);
                let mut dropped = 0;
                for group in [0..4, 4..8, 8..12, 12..13, 13..16] {
                    match waiting.push(&joined(group), || false) {
                        Enqueued::Dropped(count) => dropped += count,
                        handed => assert_eq!(handed, Enqueued::Taken),
                    }
                }
                assert_eq!(numbers(&waiting), expected.collect::<Vec<_>>(), "{when_full:?} {messages} {bytes}");
                assert_eq!(dropped, 6);
            }
        }
    }

    #[test]
    fn what_must_not_drive_out_messages_gets_half_of_the_room() {
        let bounds = QueueSettings { messages: 4, bytes: 1 << 20, when_full: WhenFull::DropNewest };
        let waiting = SendQueue::new(bounds, false);
        let taken: Vec<_> = (1..=4).map(|fill| waiting.try_push(&frame(fill))).collect();
        assert_eq!(taken, [true, true, false, false]);
        assert_eq!(waiting.push(&frame(5), || false), Enqueued::Taken);
        assert_eq!(waiting.push(&frame(6), || false), Enqueued::Taken);
        assert_eq!(left(&waiting), [1, 2, 5, 6]);
        waiting.end();
        assert!(!waiting.try_push(&frame(7)));
    }

    #[test]
    fn up_or_always_a_full_queue_holds_its_sender_until_there_is_room() {
        for (is_up, always_holds) in [(true, false), (false, true)] {
            let waiting = Arc::new(waiting(WhenFull::DropOldest, always_holds));
            waiting.set_up(is_up);
            let sender = {
                let waiting = Arc::clone(&waiting);
                thread::spawn(move || (0..100).map(|n| waiting.push(&frame(n), || false)).collect::<Vec<_>>())
            };
            let deadline = Some(Instant::now() + Duration::from_secs(5));
            // Down, it gives nothing out and holds on.
            assert!(is_up || matches!(waiting.take(Some(Instant::now())), Next::Nothing));
            waiting.set_up(true);
            for number in 0..100 {
                let Next::Frame(next) = waiting.take(deadline) else { panic!("nothing came") };
                assert_eq!(next.as_one(), Some(&[number; 3][..]));
            }
            assert!(sender.join().unwrap().iter().all(|handed| *handed == Enqueued::Taken));
        }
    }

    #[test]
    fn of_many_held_senders_each_gets_its_turn() {
        const SENDERS: u8 = 50;
        const EACH: u8 = 40;
        let waiting = Arc::new(waiting(WhenFull::DropOldest, false));
        waiting.set_up(true);
        let frame = |sender, number| Frame::joined(vec![sender, number].into(), 1);
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let waiting = Arc::clone(&waiting);
                thread::spawn(move || {
                    (0..EACH).all(|number| waiting.push(&frame(sender, number), || false) == Enqueued::Taken)
                })
            })
            .collect();
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut next = [0; SENDERS as usize];
        for _ in 0..u32::from(SENDERS) * u32::from(EACH) {
            let Next::Frame(frame) = waiting.take(Some(deadline)) else { panic!("nothing comes any more: {next:?}") };
            let &[sender, number] = frame.as_one().unwrap() else { panic!("{frame:?}") };
            assert_eq!(number, next[usize::from(sender)]);
            next[usize::from(sender)] += 1;
        }
        assert!(senders.into_iter().all(|sender| sender.join().unwrap()));
    }

    #[test]
    fn whoever_is_asked_whether_to_give_up_may_look_at_the_queue() {
        let waiting = Arc::new(waiting(WhenFull::DropOldest, true));
        while waiting.try_push(&frame(1)) {}
        waiting.push(&frame(2), || false);
        let (done, all_done) = std::sync::mpsc::channel();
        let sender = {
            let waiting = Arc::clone(&waiting);
            thread::spawn(move || done.send(waiting.push(&frame(3), || !waiting.is_ended())))
        };
        let handed = all_done.recv_timeout(Duration::from_secs(10)).expect("it asks with its lock in hand");
        assert_eq!(handed, Enqueued::Refused);
        sender.join().unwrap().unwrap();
    }

    #[test]
    fn a_held_sender_is_let_go_when_the_link_goes_down_or_ends_or_it_gives_up() {
        let full = || {
            let waiting = Arc::new(waiting(WhenFull::DropOldest, false));
            waiting.set_up(true);
            waiting.push(&frame(1), || false);
            waiting.push(&frame(2), || false);
            waiting
        };
        let held = |waiting: &Arc<SendQueue>| {
            let waiting = Arc::clone(waiting);
            thread::spawn(move || waiting.push(&frame(3), || false))
        };
        let waiting = full();
        let sender = held(&waiting);
        waiting.set_up(false);
        assert_eq!(sender.join().unwrap(), Enqueued::Dropped(1));
        let waiting = full();
        let sender = held(&waiting);
        waiting.end();
        assert_eq!(sender.join().unwrap(), Enqueued::Refused);
        assert_eq!(left(&waiting), [1, 2]);
        assert!(matches!(waiting.take(None), Next::End));
        let waiting = full();
        waiting.set_up(false);
        waiting.end();
        // Nothing is lost as long as there may be a last connection.
        assert!(matches!(waiting.take(Some(Instant::now())), Next::Nothing));
        assert_eq!(waiting.abandon(), 2);
        assert!(matches!(waiting.take(None), Next::End));
        assert_eq!(full().push(&frame(3), || true), Enqueued::Refused);
        assert_eq!(full().abandon(), 2);
    }
}
