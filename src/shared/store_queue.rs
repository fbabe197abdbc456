//! The bounded queue of a store: what its senders have handed over and its thread has not taken yet.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{OutletPolicy, StoreQueueSettings};
use crate::shared::receipt::Receipt;
use crate::store::record::Batch;
use crate::sync::{Mutex, MutexGuard, Signal};

/// What became of messages that were handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handed {
    /// All are queued, and will be stored.
    Taken,
    /// The queue is full: this many messages, older ones or of these, were dropped by policy.
    Dropped(usize),
    /// The sender gave up; its messages are dropped.
    GivenUp,
    /// The queue accepts nothing any more; the messages are dropped.
    Ended,
}

/// What a store's thread finds.
#[derive(Debug)]
pub enum Next {
    /// What goes into one commit, at least one message.
    Taken(Taken),
    /// Nothing until the deadline.
    Nothing,
    /// Nothing any more.
    End,
}

/// What was taken for one commit.
#[derive(Debug, Default)]
pub struct Taken {
    /// The messages.
    pub batches: Vec<Batch>,
    /// Who is told of each batch once it is stored, in the same order.
    pub receipts: Vec<Option<Arc<Receipt>>>,
}

/// How much goes into one commit.
#[derive(Debug, Clone, Copy)]
pub struct Portion {
    /// Messages, and those that come with them in one read.
    pub messages: usize,
    /// Bytes, with the same exception.
    pub bytes: usize,
    /// How long a commit waits for more.
    pub gather: Duration,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct StoreQueue {
    state: Mutex<State>,
    /// Notified when there is something to take: for the store's thread.
    filled: Signal,
    /// Notified when there is room, to one sender that waits at a time: each that leaves room tells the next one.
    emptied: Signal,
    /// Notified when what was taken is settled.
    settled: Signal,
}

#[derive(Debug)]
struct State {
    bounds: StoreQueueSettings,
    batches: VecDeque<(Batch, Option<Arc<Receipt>>)>,
    /// Messages and bytes in them.
    messages: usize,
    bytes: usize,
    /// Batches that were queued since the start.
    handed: u64,
    /// How many of these are stored or dropped. Those that the thread has taken are not yet.
    done: u64,
    is_ended: bool,
    /// When the thread gives up what it could not store, once the queue has ended.
    until: Option<Instant>,
}

impl State {
    /// Whether it is within the bounds with these messages; empty, it takes those of any one read.
    fn fits(&self, batch: &Batch) -> bool {
        self.batches.is_empty()
            || (self.messages + batch.messages() <= self.bounds.messages
                && self.bytes + batch.bytes() <= self.bounds.bytes)
    }

    fn push(&mut self, batch: Batch, receipt: Option<Arc<Receipt>>) {
        self.messages += batch.messages();
        self.bytes += batch.bytes();
        self.handed += 1;
        self.batches.push_back((batch, receipt));
    }

    fn pop(&mut self) -> Option<(Batch, Option<Arc<Receipt>>)> {
        let (batch, receipt) = self.batches.pop_front()?;
        self.messages -= batch.messages();
        self.bytes -= batch.bytes();
        Some((batch, receipt))
    }

    /// Drops the oldest messages, as few as have to be, until `batch` fits; says how many that were.
    fn make_room_for(&mut self, batch: &Batch) -> usize {
        let mut dropped = 0;
        while !self.fits(batch)
            && let Some((mut oldest, receipt)) = self.pop()
        {
            let room = (
                self.bounds.messages.saturating_sub(self.messages + batch.messages()),
                self.bounds.bytes.saturating_sub(self.bytes + batch.bytes()),
            );
            dropped += oldest.drop_first(room.0, room.1);
            if oldest.is_empty() {
                self.done += 1;
            } else {
                self.messages += oldest.messages();
                self.bytes += oldest.bytes();
                self.batches.push_front((oldest, receipt));
            }
        }
        dropped
    }

    fn has_a_portion(&self, portion: &Portion) -> bool {
        self.messages >= portion.messages || self.bytes >= portion.bytes || self.is_ended
    }
}

impl StoreQueue {
    /// An empty one.
    pub fn new(bounds: StoreQueueSettings) -> StoreQueue {
        let state = State {
            bounds,
            batches: VecDeque::new(),
            messages: 0,
            bytes: 0,
            handed: 0,
            done: 0,
            is_ended: false,
            until: None,
        };
        let [filled, emptied, settled] = [(); 3].map(|()| Signal::default());
        StoreQueue { state: Mutex::new(state), filled, emptied, settled }
    }

    /// Hands messages over, with who is told once they are stored; waits for room if that is the policy. `give_up` is asked
    /// every 250 ms of a wait; it must not wait, and may use any lock: none is held meanwhile.
    pub fn push(&self, mut batch: Batch, receipt: Option<Arc<Receipt>>, give_up: impl Fn() -> bool) -> Handed {
        let must_wait =
            |state: &State| state.bounds.when_full == OutletPolicy::Block && !state.is_ended && !state.fits(&batch);
        let Some(mut state) = self.emptied.wait_while(&self.state, self.lock(), must_wait, give_up) else {
            // This sender may have been told of room that another one can use.
            self.emptied.notify_one();
            return Handed::GivenUp;
        };
        if state.is_ended {
            return Handed::Ended;
        }
        let dropped = match state.bounds.when_full {
            _ if state.fits(&batch) => 0,
            OutletPolicy::DropOldest => state.make_room_for(&batch),
            // One that had to wait fits by now.
            OutletPolicy::DropNewest | OutletPolicy::Block => {
                let StoreQueueSettings { messages, bytes, .. } = state.bounds;
                batch.drop_last(messages.saturating_sub(state.messages), bytes.saturating_sub(state.bytes))
            }
        };
        if !batch.is_empty() {
            state.push(batch, receipt);
        }
        drop(state);
        self.filled.notify_one();
        self.emptied.notify_one();
        if dropped == 0 { Handed::Taken } else { Handed::Dropped(dropped) }
    }

    /// Takes what goes into the next commit; waits for it until `deadline`. What is taken is to be [settled](Self::settle).
    pub fn take(&self, portion: &Portion, deadline: Instant) -> Next {
        let mut state = self.lock();
        while state.batches.is_empty() {
            if state.is_ended {
                return Next::End;
            }
            let Some(changed) = self.filled.wait_until(state, Some(deadline)) else { return Next::Nothing };
            state = changed;
        }
        let full = Instant::now() + portion.gather;
        while !portion.gather.is_zero() && !state.has_a_portion(portion) {
            match self.filled.wait_until(state, Some(full)) {
                Some(changed) => state = changed,
                None => {
                    state = self.lock();
                    break;
                }
            }
        }
        let (mut taken, mut messages, mut bytes) = (Taken::default(), 0, 0);
        while messages < portion.messages
            && bytes < portion.bytes
            && let Some((batch, receipt)) = state.pop()
        {
            messages += batch.messages();
            bytes += batch.bytes();
            taken.batches.push(batch);
            taken.receipts.push(receipt);
        }
        drop(state);
        self.emptied.notify_one();
        match taken.batches.is_empty() {
            // Dropped while the lock was free.
            true => Next::Nothing,
            false => Next::Taken(taken),
        }
    }

    /// So many batches that were taken are stored, or given up.
    pub fn settle(&self, batches: usize) {
        self.lock().done += batches as u64;
        self.settled.notify_all();
    }

    /// Waits until all that was handed over before is settled, at most until the deadline; `give_up` as for
    /// [`push`](Self::push). Says whether it is.
    pub fn flush(&self, deadline: Instant, give_up: impl Fn() -> bool) -> bool {
        let state = self.lock();
        let handed = state.handed;
        let must_wait = |state: &State| state.done < handed;
        self.settled.wait_while(&self.state, state, must_wait, || Instant::now() >= deadline || give_up()).is_some()
    }

    /// Lets a time pass before the next attempt to store; `false` if there is none, because the time of the store is over.
    pub fn wait_to_retry(&self, time: Duration) -> bool {
        let next = Instant::now() + time;
        let mut state = self.lock();
        loop {
            let is_over = state.until.is_some_and(|until| Instant::now() >= until);
            if is_over {
                return false;
            }
            let until = state.until.map_or(next, |until| until.min(next));
            let Some(changed) = self.filled.wait_until(state, Some(until)) else {
                if Instant::now() >= next {
                    return true;
                }
                state = self.lock();
                continue;
            };
            state = changed;
        }
    }

    /// Other bounds hold from now on. What is queued stays, also where it is more than these allow.
    pub fn set_bounds(&self, bounds: StoreQueueSettings) {
        self.lock().bounds = bounds;
        self.tell_all();
    }

    /// Takes nothing any more. What is queued is still stored, if that can be until then.
    pub fn end(&self, until: Instant) {
        let mut state = self.lock();
        state.is_ended = true;
        state.until = Some(until);
        drop(state);
        self.tell_all();
    }

    /// Forgets what is queued, once it has ended; says how many messages that were.
    pub fn abandon(&self) -> usize {
        let mut state = self.lock();
        let (lost, batches) = (state.messages, state.batches.len());
        state.batches.clear();
        (state.messages, state.bytes) = (0, 0);
        state.done += batches as u64;
        drop(state);
        self.settled.notify_all();
        lost
    }

    /// How many messages and bytes wait.
    pub fn depth(&self) -> (usize, usize) {
        let state = self.lock();
        (state.messages, state.bytes)
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
    use std::time::SystemTime;

    use super::*;
    use crate::message::Kind;
    use crate::store::record::Source;

    const AT_ONCE: Portion = Portion { messages: 100, bytes: 1 << 20, gather: Duration::ZERO };

    fn batch(texts: &[&str]) -> Batch {
        let source = Source {
            endpoint: "/".into(),
            room: None,
            session: "d44d1d9fdb4ad6d4".into(),
            address: None,
            identity: None,
        };
        let mut batch = Batch::new(&Arc::new(source), SystemTime::UNIX_EPOCH);
        texts.iter().for_each(|text| batch.push(Kind::Text, text.as_bytes(), 0));
        batch
    }

    fn queue(messages: usize, when_full: OutletPolicy) -> StoreQueue {
        StoreQueue::new(StoreQueueSettings { messages, bytes: 1 << 20, when_full })
    }

    fn taken(queue: &StoreQueue) -> Vec<String> {
        let Next::Taken(Taken { batches, .. }) = queue.take(&AT_ONCE, Instant::now()) else { return Vec::new() };
        queue.settle(batches.len());
        let payloads = batches.iter().flat_map(Batch::iter);
        payloads.map(|(_, payload)| String::from_utf8(payload.to_vec()).unwrap()).collect()
    }

    #[test]
    fn a_full_queue_does_what_its_policy_says_to_the_message() {
        for (policy, expected) in
            [(OutletPolicy::DropOldest, ["c", "d", "e"]), (OutletPolicy::DropNewest, ["a", "b", "c"])]
        {
            let queue = queue(3, policy);
            assert_eq!(queue.push(batch(&["a", "b"]), None, || false), Handed::Taken);
            assert_eq!(queue.push(batch(&["c", "d", "e"]), None, || false), Handed::Dropped(2), "{policy:?}");
            assert_eq!(queue.depth().0, 3);
            assert_eq!(taken(&queue), expected, "{policy:?}");
            assert!(queue.flush(Instant::now(), || false));
        }
    }

    #[test]
    fn a_sender_that_is_held_is_let_go_by_room_or_when_it_gives_up() {
        let queue = queue(2, OutletPolicy::Block);
        assert_eq!(queue.push(batch(&["a", "b", "c"]), None, || false), Handed::Taken);
        assert_eq!(queue.push(batch(&["d"]), None, || true), Handed::GivenUp);
        std::thread::scope(|scope| {
            let held = scope.spawn(|| queue.push(batch(&["d"]), None, || false));
            while !queue.emptied.is_awaited() {
                std::thread::yield_now();
            }
            assert_eq!(taken(&queue), ["a", "b", "c"]);
            assert_eq!(held.join().unwrap(), Handed::Taken);
        });
        queue.end(Instant::now());
        assert_eq!(queue.push(batch(&["e"]), None, || false), Handed::Ended);
        assert_eq!(taken(&queue), ["d"]);
        assert!(matches!(queue.take(&AT_ONCE, Instant::now()), Next::End));
        assert!(!queue.wait_to_retry(Duration::from_secs(10)));
    }

    #[test]
    fn a_flush_waits_for_what_was_handed_over_before_it() {
        let queue = queue(9, OutletPolicy::Block);
        queue.push(batch(&["a"]), None, || false);
        assert!(!queue.flush(Instant::now(), || false));
        let Next::Taken(Taken { batches, .. }) = queue.take(&AT_ONCE, Instant::now()) else { panic!("nothing") };
        assert!(!queue.flush(Instant::now(), || false), "what was taken is not yet stored");
        std::thread::scope(|scope| {
            let flush = scope.spawn(|| queue.flush(Instant::now() + Duration::from_secs(10), || false));
            while !queue.settled.is_awaited() {
                std::thread::yield_now();
            }
            queue.settle(batches.len());
            assert!(flush.join().unwrap());
        });
    }

    #[test]
    fn what_comes_within_the_time_to_gather_is_taken_together() {
        let queue = queue(9, OutletPolicy::Block);
        queue.push(batch(&["a"]), None, || false);
        std::thread::scope(|scope| {
            let portion = Portion { messages: 2, gather: Duration::from_secs(10), ..AT_ONCE };
            let queue = &queue;
            let taken = scope.spawn(move || queue.take(&portion, Instant::now()));
            while !queue.filled.is_awaited() {
                std::thread::yield_now();
            }
            queue.push(batch(&["b"]), None, || false);
            assert!(matches!(taken.join().unwrap(), Next::Taken(taken) if taken.batches.len() == 2));
        });
    }
}
