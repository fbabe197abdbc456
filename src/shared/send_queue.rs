//! The bounded queue of an outlet: what its senders have handed over and its thread has not taken yet.
//!
//! Whether the outlet is up or down and what a full queue does about that are decided at the same place under one lock,
//! so a sender that waits when the outlet goes down is let go if it need not wait any more.

use std::time::{Duration, Instant};

use crate::config::{OutletPolicy, QueueSettings, WhenFull};
use crate::connection::frame::Frame;
use crate::connection::queue::{Offer, Queue};
use crate::sync::{Mutex, MutexGuard, Signal};

/// For how long a queue that is about to end takes what other threads had read for it before.
const ON_ITS_WAY: Duration = Duration::from_millis(250);

/// The bounds of a queue and what happens to the next message at them.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Messages queued at once.
    pub messages: usize,
    /// Bytes queued at once; an empty queue takes any one frame.
    pub bytes: usize,
    /// While the outlet is down.
    pub while_down: OutletPolicy,
    /// While it is up and does not take what it gets.
    pub while_slow: OutletPolicy,
}

impl Bounds {
    /// The bounds as those of the queue itself.
    fn to_queue(self, when_full: WhenFull) -> QueueSettings {
        QueueSettings { messages: self.messages, bytes: self.bytes, when_full }
    }
}

/// What became of a frame that was handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enqueued {
    /// Its messages will be given out.
    Taken,
    /// The outlet is down and its queue full: this many messages were dropped by policy.
    DroppedWhileDown(usize),
    /// The outlet does not take what it gets and its queue is full: this many messages were dropped by policy.
    DroppedWhileSlow(usize),
    /// The sender gave up; its messages are dropped.
    GivenUp,
    /// The queue accepts nothing any more, or is closed; the messages are dropped.
    Ended,
}

/// What an outlet's thread finds.
#[derive(Debug)]
pub enum Next {
    /// It is up again: this comes before the first frame that is given out since.
    Up,
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
    state: Mutex<QueueState>,
    /// Notified when there is something to take: for the outlet's thread.
    filled: Signal,
    /// Notified when there is room, to one sender that waits at a time: each that leaves room tells the next one.
    /// A thousand that were told at once would find room for one.
    emptied: Signal,
}

#[derive(Debug)]
struct QueueState {
    bounds: Bounds,
    queue: Queue,
    is_up: bool,
    /// It came up, and its thread has not been told.
    has_come_up: bool,
    is_ended: bool,
    /// It takes nothing for now: the outlet is given up, and may begin again.
    is_closed: bool,
    /// When what is queued is given out no more, once it has ended.
    until: Option<Instant>,
    /// It is about to end: when it does. Nobody waits for room any more.
    ends: Option<Instant>,
    /// Its thread is to look whether something has changed.
    is_called: bool,
}

impl QueueState {
    /// The policy that holds now.
    fn policy(&self) -> OutletPolicy {
        if self.is_up { self.bounds.while_slow } else { self.bounds.while_down }
    }

    /// Whether it takes anything.
    fn is_open(&self) -> bool {
        !self.is_ended && !self.is_closed
    }
}

impl SendQueue {
    /// An empty queue of an outlet that is down.
    pub fn new(bounds: Bounds) -> SendQueue {
        let state = QueueState {
            bounds,
            queue: Queue::default(),
            is_up: false,
            has_come_up: false,
            is_ended: false,
            is_closed: false,
            until: None,
            ends: None,
            is_called: false,
        };
        SendQueue { state: Mutex::new(state), filled: Signal::default(), emptied: Signal::default() }
    }

    /// Hands a frame over; waits for room while the policy is to wait. `give_up` is asked every 250 ms of a wait; it must
    /// not wait, and may use any lock: none is held meanwhile.
    pub fn push(&self, frame: &Frame, give_up: impl Fn() -> bool) -> Enqueued {
        let must_wait = |state: &QueueState| {
            // What happens to a frame that does not fit is said by the policy, so here it does not matter.
            let room = state.bounds.to_queue(WhenFull::DropNewest);
            let waits = state.policy() == OutletPolicy::Block && state.is_open() && state.ends.is_none();
            waits && !state.queue.fits(frame, &room)
        };
        let Some(mut state) = self.emptied.wait_while(&self.state, self.lock(), must_wait, give_up) else {
            // This sender may have been told of room that another one can use.
            self.emptied.notify_one();
            return Enqueued::GivenUp;
        };
        if !state.is_open() {
            return Enqueued::Ended;
        }
        let when_full = match state.policy() {
            OutletPolicy::DropOldest => WhenFull::DropOldest,
            // A frame that had to wait fits by now.
            OutletPolicy::DropNewest | OutletPolicy::Block => WhenFull::DropNewest,
        };
        let bounds = state.bounds.to_queue(when_full);
        let enqueued = match state.queue.offer_each(frame, &bounds) {
            Offer::Taken => Enqueued::Taken,
            Offer::Dropped(count) if state.is_up => Enqueued::DroppedWhileSlow(count),
            Offer::Dropped(count) => Enqueued::DroppedWhileDown(count),
            Offer::TooSlow => unreachable!("no outlet is closed because its queue is full"),
        };
        drop(state);
        self.filled.notify_one();
        self.emptied.notify_one();
        enqueued
    }

    /// Hands a frame over if less than half of the room is taken: for what must neither block anybody
    /// nor drive out messages.
    pub fn try_push(&self, frame: &Frame) -> bool {
        let mut state = self.lock();
        let Bounds { messages, bytes, .. } = state.bounds;
        let half = QueueSettings { messages: messages / 2, bytes: bytes / 2, when_full: WhenFull::DropNewest };
        let fits = state.is_open() && state.queue.fits(frame, &half);
        if fits {
            state.queue.push(frame.clone());
            self.filled.notify_one();
        }
        fits
    }

    /// The next frame, which then counts no more; waits for one until `deadline`, or for ever.
    ///
    /// Nothing is given out while the outlet is down: what waits is for its policy to drop.
    pub fn take(&self, deadline: Option<Instant>) -> Next {
        let mut state = self.lock();
        loop {
            if std::mem::take(&mut state.has_come_up) {
                return Next::Up;
            }
            if state.is_up
                && let Some(taken) = state.queue.take(1, usize::MAX)
            {
                let frame = taken.frames[0].clone();
                state.queue.settle(taken, frame.len());
                drop(state);
                self.emptied.notify_one();
                return Next::Frame(frame);
            }
            state.is_ended |= state.ends.is_some_and(|at| Instant::now() >= at);
            if state.is_ended && state.queue.is_empty() {
                return Next::End;
            }
            if std::mem::take(&mut state.is_called) {
                return Next::Nothing;
            }
            let ends = state.ends.filter(|_| !state.is_ended);
            let until = deadline.into_iter().chain(state.until).chain(ends).min();
            let Some(changed) = self.filled.wait_until(state, until) else { return Next::Nothing };
            state = changed;
        }
    }

    /// Other bounds hold from now on. What is queued stays, also where it is more than these allow.
    pub fn set_bounds(&self, bounds: Bounds) {
        let mut state = self.lock();
        state.bounds = bounds;
        state.is_called = true;
        drop(state);
        self.tell_all();
    }

    /// Says whether the outlet is up.
    pub fn set_up(&self, is_up: bool) {
        let mut state = self.lock();
        state.is_up = is_up;
        state.has_come_up = is_up;
        drop(state);
        self.tell_all();
    }

    /// Takes nothing any more; what is queued can still be taken out, once the link is up.
    pub fn end(&self) {
        self.lock().is_ended = true;
        self.tell_all();
    }

    /// The same in a moment: until then it takes what other threads have read for it already, and nobody waits for room.
    /// At `until` its thread is called, if it waits.
    pub fn leave(&self, until: Instant) {
        let mut state = self.lock();
        state.ends = Some(Instant::now() + ON_ITS_WAY);
        state.until = Some(until);
        state.is_called = true;
        drop(state);
        self.tell_all();
    }

    /// Takes nothing any more and forgets what is queued; says how many messages that were.
    pub fn abandon(&self) -> usize {
        self.clear(|state| state.is_ended = true)
    }

    /// As [`abandon`](SendQueue::abandon), until it is opened again. Its thread goes on waiting.
    pub fn close(&self) -> usize {
        self.clear(|state| state.is_closed = true)
    }

    /// Takes what comes from now on, unless it has ended.
    pub fn open(&self) {
        self.lock().is_closed = false;
    }

    fn clear(&self, change: impl FnOnce(&mut QueueState)) -> usize {
        let mut state = self.lock();
        change(&mut state);
        let lost = state.queue.clear();
        drop(state);
        self.tell_all();
        lost
    }

    /// How many messages and bytes wait.
    pub fn depth(&self) -> (usize, usize) {
        self.lock().queue.depth()
    }

    /// Whether nothing waits any more.
    pub fn has_caught_up(&self) -> bool {
        self.lock().queue.is_empty()
    }

    fn tell_all(&self) {
        self.filled.notify_all();
        self.emptied.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;
    use crate::config::OutletPolicy::{Block, DropNewest, DropOldest};

    fn new(while_down: OutletPolicy, while_slow: OutletPolicy) -> SendQueue {
        SendQueue::new(Bounds { messages: 2, bytes: 1 << 20, while_down, while_slow })
    }

    fn frame(fill: u8) -> Frame {
        Frame::joined(vec![fill; 3].into(), 1)
    }

    /// What there is to take, whether it came up or not.
    fn next(queue: &SendQueue, deadline: Option<Instant>) -> Next {
        match queue.take(deadline) {
            Next::Up => queue.take(deadline),
            next => next,
        }
    }

    fn left(queue: &SendQueue) -> Vec<u8> {
        let soon = Some(Instant::now());
        queue.set_up(true);
        std::iter::from_fn(|| match next(queue, soon) {
            Next::Frame(frame) => frame.as_one().map(|bytes| bytes[0]),
            Next::Nothing | Next::End | Next::Up => None,
        })
        .collect()
    }

    #[test]
    fn down_or_slow_and_full_it_does_what_its_policy_says() {
        for (policy, expected, is_up) in [
            (DropOldest, [2, 3], false),
            (DropNewest, [1, 2], false),
            (DropOldest, [2, 3], true),
            (DropNewest, [1, 2], true),
        ] {
            let queue = if is_up { new(Block, policy) } else { new(policy, Block) };
            queue.set_up(is_up);
            let dropped = if is_up { Enqueued::DroppedWhileSlow(1) } else { Enqueued::DroppedWhileDown(1) };
            assert_eq!(queue.push(&frame(1), || false), Enqueued::Taken);
            assert_eq!(queue.push(&frame(2), || false), Enqueued::Taken);
            assert_eq!(queue.push(&frame(3), || false), dropped);
            assert!(!queue.try_push(&frame(4)));
            assert_eq!(left(&queue), expected);
        }
    }

    #[test]
    fn closed_it_takes_nothing_and_its_thread_waits_until_it_is_opened_or_ended() {
        let queue = new(DropOldest, Block);
        assert_eq!(queue.push(&frame(1), || false), Enqueued::Taken);
        assert_eq!(queue.close(), 1);
        assert_eq!((queue.push(&frame(2), || false), queue.try_push(&frame(2))), (Enqueued::Ended, false));
        assert!(matches!(queue.take(Some(Instant::now())), Next::Nothing));
        queue.open();
        assert_eq!(queue.push(&frame(3), || false), Enqueued::Taken);
        assert_eq!(left(&queue), [3]);
        queue.close();
        queue.end();
        queue.open();
        assert_eq!(queue.push(&frame(4), || false), Enqueued::Ended);
        assert!(matches!(queue.take(None), Next::End));
    }

    #[test]
    fn down_and_full_it_drops_no_more_of_a_joined_frame_than_it_has_to() {
        // Messages of 10 bytes on the wire, joined as many as one read brings.
        let message = |number: u8| [&[0x82, 8][..], &[number; 8]].concat();
        let joined = |numbers: std::ops::Range<u8>| {
            let count = numbers.len() as u32;
            Frame::joined(numbers.flat_map(message).collect::<Vec<_>>().into(), count)
        };
        let numbers = |queue: &SendQueue| -> Vec<u8> {
            queue.set_up(true);
            let taken = std::iter::from_fn(|| match next(queue, Some(Instant::now())) {
                Next::Frame(frame) => frame.as_one().map(|bytes| bytes.chunks(10).map(|it| it[9]).collect::<Vec<_>>()),
                Next::Nothing | Next::End | Next::Up => None,
            });
            taken.flatten().collect()
        };
        for (messages, bytes) in [(10, 1 << 20), (1000, 100), (1000, 109), (10, 104)] {
            for (while_down, expected) in [(DropOldest, 6..16), (DropNewest, 0..10)] {
                let queue = SendQueue::new(Bounds { messages, bytes, while_down, while_slow: Block });
                let mut dropped = 0;
                for group in [0..4, 4..8, 8..12, 12..13, 13..16] {
                    match queue.push(&joined(group), || false) {
                        Enqueued::DroppedWhileDown(count) => dropped += count,
                        handed => assert_eq!(handed, Enqueued::Taken),
                    }
                }
                assert_eq!(numbers(&queue), expected.collect::<Vec<_>>(), "{while_down:?} {messages} {bytes}");
                assert_eq!(dropped, 6);
            }
        }
    }

    #[test]
    fn what_must_not_drive_out_messages_gets_half_of_the_room() {
        let bounds = Bounds { messages: 4, bytes: 1 << 20, while_down: DropNewest, while_slow: Block };
        let queue = SendQueue::new(bounds);
        let taken: Vec<_> = (1..=4).map(|fill| queue.try_push(&frame(fill))).collect();
        assert_eq!(taken, [true, true, false, false]);
        assert_eq!(queue.push(&frame(5), || false), Enqueued::Taken);
        assert_eq!(queue.push(&frame(6), || false), Enqueued::Taken);
        assert_eq!(left(&queue), [1, 2, 5, 6]);
        queue.end();
        assert!(!queue.try_push(&frame(7)));
    }

    #[test]
    fn a_full_queue_blocks_its_sender_until_there_is_room_where_its_policy_says_so() {
        for (is_up, while_down) in [(true, DropOldest), (false, Block)] {
            let queue = Arc::new(new(while_down, Block));
            queue.set_up(is_up);
            let sender = {
                let queue = Arc::clone(&queue);
                thread::spawn(move || (0..100).map(|n| queue.push(&frame(n), || false)).collect::<Vec<_>>())
            };
            let deadline = Some(Instant::now() + Duration::from_secs(5));
            // Down, it gives nothing out.
            assert!(is_up || matches!(next(&queue, Some(Instant::now())), Next::Nothing));
            queue.set_up(true);
            for number in 0..100 {
                let Next::Frame(next) = next(&queue, deadline) else { panic!("nothing came") };
                assert_eq!(next.as_one(), Some(&[number; 3][..]));
            }
            assert!(sender.join().unwrap().iter().all(|handed| *handed == Enqueued::Taken));
        }
    }

    #[test]
    fn about_to_end_it_takes_what_is_on_its_way_and_holds_nobody() {
        let queue = new(Block, Block);
        assert_eq!(queue.push(&frame(1), || false), Enqueued::Taken);
        let late = Instant::now() + Duration::from_secs(10);
        queue.leave(late);
        assert_eq!(queue.push(&frame(2), || false), Enqueued::Taken);
        assert_eq!(queue.push(&frame(3), || false), Enqueued::DroppedWhileDown(1));
        assert!(matches!(queue.take(Some(late)), Next::Nothing), "it was called");
        queue.set_up(true);
        for number in 1..3 {
            let Next::Frame(frame) = next(&queue, Some(late)) else { panic!("nothing came") };
            assert_eq!(frame.as_one(), Some(&[number; 3][..]));
        }
        assert!(matches!(queue.take(Some(late)), Next::End));
        assert!(Instant::now() < late);
        assert_eq!(queue.push(&frame(4), || false), Enqueued::Ended);
    }

    #[test]
    fn of_many_blocked_senders_each_gets_its_turn() {
        const SENDERS: u8 = 50;
        const EACH: u8 = 40;
        let queue = Arc::new(new(DropOldest, Block));
        queue.set_up(true);
        let frame = |sender, number| Frame::joined(vec![sender, number].into(), 1);
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let queue = Arc::clone(&queue);
                thread::spawn(move || {
                    (0..EACH).all(|number| queue.push(&frame(sender, number), || false) == Enqueued::Taken)
                })
            })
            .collect();
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut expected = [0; SENDERS as usize];
        for _ in 0..u32::from(SENDERS) * u32::from(EACH) {
            let Next::Frame(frame) = next(&queue, Some(deadline)) else {
                panic!("nothing comes any more: {expected:?}")
            };
            let &[sender, number] = frame.as_one().unwrap() else { panic!("{frame:?}") };
            assert_eq!(number, expected[usize::from(sender)]);
            expected[usize::from(sender)] += 1;
        }
        assert!(senders.into_iter().all(|sender| sender.join().unwrap()));
    }

    #[test]
    fn a_sender_that_is_asked_whether_it_gives_up_may_look_at_the_queue() {
        let queue = Arc::new(new(Block, Block));
        while queue.try_push(&frame(1)) {}
        queue.push(&frame(2), || false);
        let (done, all_done) = std::sync::mpsc::channel();
        let sender = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || done.send(queue.push(&frame(3), || !queue.has_caught_up())))
        };
        let handed = all_done.recv_timeout(Duration::from_secs(10)).expect("it asks with its lock in hand");
        assert_eq!(handed, Enqueued::GivenUp);
        sender.join().unwrap().unwrap();
    }

    #[test]
    fn a_blocked_sender_goes_on_when_the_outlet_goes_down_or_ends_or_it_gives_up() {
        let full = || {
            let queue = Arc::new(new(DropOldest, Block));
            queue.set_up(true);
            queue.push(&frame(1), || false);
            queue.push(&frame(2), || false);
            queue
        };
        let blocked = |queue: &Arc<SendQueue>| {
            let queue = Arc::clone(queue);
            thread::spawn(move || queue.push(&frame(3), || false))
        };
        let queue = full();
        let sender = blocked(&queue);
        queue.set_up(false);
        assert_eq!(sender.join().unwrap(), Enqueued::DroppedWhileDown(1));
        let queue = full();
        let sender = blocked(&queue);
        queue.end();
        assert_eq!(sender.join().unwrap(), Enqueued::Ended);
        assert_eq!(left(&queue), [1, 2]);
        assert!(matches!(next(&queue, None), Next::End));
        let queue = full();
        queue.set_up(false);
        queue.end();
        // Nothing is lost as long as there may be a last connection.
        assert!(matches!(next(&queue, Some(Instant::now())), Next::Nothing));
        assert_eq!(queue.abandon(), 2);
        assert!(matches!(next(&queue, None), Next::End));
        assert_eq!(full().push(&frame(3), || true), Enqueued::GivenUp);
        assert_eq!(full().abandon(), 2);
    }
}
