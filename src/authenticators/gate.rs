//! How many checks run at once: each takes a processor or a service for a while, which others need too.
//!
//! The turns are fair by address. The next one is for a client from the address that has had no turn for the longest time;
//! of these, for the one that has waited the longest. So whoever sends many wrong passwords waits behind all others, and a
//! client of another address waits for one turn, however many they are.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::address::source::Source;
use crate::sync::Mutex;

/// How often a client that waits is asked whether it gives up.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Addresses whose last turn is remembered. One more, and the half of them is forgotten whose turns are the oldest; a
/// forgotten address is as good as one that has had none.
const ADDRESSES_MAX: usize = 1024;

/// Lets at most `limit` in at once; the others wait for their turn, as many as there is room for.
#[derive(Debug)]
pub struct Gate {
    limit: usize,
    waiting_max: usize,
    state: Mutex<State>,
}

/// As long as somebody waits, all turns are taken.
#[derive(Debug, Default)]
struct State {
    inside: usize,
    /// Those who wait, by numbers that grow: in the order in which they came.
    waiting: BTreeMap<u64, Waiting>,
    next: u64,
    turns: LastTurns,
}

#[derive(Debug)]
struct Waiting {
    source: Source,
    /// Tells it that its turn has come. Dropped without a word, it tells that it has to give way.
    call: Sender<()>,
}

/// The last turn of each address, by numbers that grow.
#[derive(Debug, Default)]
struct LastTurns {
    of: HashMap<Source, u64>,
    count: u64,
}

/// A turn; dropping it, also by a panic, ends it.
#[derive(Debug)]
pub struct Turn<'a>(&'a Gate);

impl Gate {
    /// A gate in which nobody is.
    pub fn new(limit: usize) -> Gate {
        Gate { limit, waiting_max: usize::MAX, state: Mutex::default() }
    }

    /// Where this many wait already, nobody else does, unless another address has more than its share of them: then its
    /// last one gives way.
    #[must_use]
    pub fn with_room_for(self, waiting_max: usize) -> Gate {
        Gate { waiting_max, ..self }
    }

    /// Waits for a turn of a client from this address, or until `give_up`, which is asked a few times a second and before
    /// the turn itself; not at all where too many wait.
    pub fn enter(&self, address: Option<IpAddr>, give_up: impl Fn() -> bool) -> Option<Turn<'_>> {
        let source = Source::of(address);
        let mut state = self.state.lock();
        let turn = if state.inside < self.limit {
            state.begin(source);
            drop(state);
            Turn(self)
        } else {
            let (number, called) = state.line_up(source, self.waiting_max)?;
            drop(state);
            self.wait(number, &called, &give_up)?
        };
        (!give_up()).then_some(turn)
    }

    fn wait(&self, number: u64, called: &Receiver<()>, give_up: impl Fn() -> bool) -> Option<Turn<'_>> {
        loop {
            if give_up() {
                self.state.lock().waiting.remove(&number);
                // It may have been called just now: then its turn goes to the next one.
                drop(called.try_recv().map(|()| Turn(self)));
                return None;
            }
            match called.recv_timeout(LOOK_EVERY) {
                Ok(()) => return Some(Turn(self)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }
}

impl State {
    fn begin(&mut self, source: Source) {
        self.inside += 1;
        self.turns.note(source);
    }

    /// One more waits, by this number, until it is called.
    fn line_up(&mut self, source: Source, waiting_max: usize) -> Option<(u64, Receiver<()>)> {
        if self.waiting.len() >= waiting_max {
            let last = self.last_of_most(source)?;
            self.waiting.remove(&last);
        }
        let (call, called) = bounded(1);
        let number = self.next;
        self.next += 1;
        self.waiting.insert(number, Waiting { source, call });
        Some((number, called))
    }

    /// The last one of the address from which most wait, if these are more than there are then from this source.
    fn last_of_most(&self, source: Source) -> Option<u64> {
        let mut waiting: HashMap<Source, (usize, u64)> = HashMap::new();
        for (number, Waiting { source, .. }) in &self.waiting {
            let (count, last) = waiting.entry(*source).or_default();
            (*count, *last) = (*count + 1, *number);
        }
        let own = waiting.get(&source).map_or(0, |(count, _)| *count);
        let (most, last) = waiting.into_values().max()?;
        (most > own + 1).then_some(last)
    }

    /// A turn has ended: the next one begins.
    fn end(&mut self) {
        self.inside -= 1;
        let next = self.waiting.iter().min_by_key(|(number, waiting)| (self.turns.last(waiting.source), **number));
        let Some(Waiting { source, call }) =
            next.map(|(number, _)| *number).and_then(|next| self.waiting.remove(&next))
        else {
            return;
        };
        self.begin(source);
        call.try_send(()).expect("it is called once, and leaves the line before it stops listening");
    }
}

impl LastTurns {
    /// The number of the last turn of a source; 0 if none is known.
    fn last(&self, source: Source) -> u64 {
        self.of.get(&source).copied().unwrap_or_default()
    }

    fn note(&mut self, source: Source) {
        self.count += 1;
        self.of.insert(source, self.count);
        if self.of.len() > ADDRESSES_MAX {
            let mut numbers: Vec<_> = self.of.values().copied().collect();
            let (_, middle, _) = numbers.select_nth_unstable(ADDRESSES_MAX / 2);
            let middle = *middle;
            self.of.retain(|_, number| *number > middle);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.state.lock().end();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Instant;

    use super::*;

    fn address(last: u32) -> Option<IpAddr> {
        Some(IpAddr::from(last.to_be_bytes()))
    }

    #[test]
    fn so_many_are_in_at_once_and_the_others_have_their_turn_or_give_up() {
        let gate = Gate::new(2);
        let (most, now, turns) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        let deadline = Instant::now() + Duration::from_secs(10);
        let is_late = || Instant::now() > deadline;
        std::thread::scope(|scope| {
            for number in 0..8 {
                let (gate, most, now, turns) = (&gate, &most, &now, &turns);
                scope.spawn(move || {
                    let _turn = gate.enter(address(number / 2), is_late).expect("a turn comes");
                    most.fetch_max(now.fetch_add(1, Ordering::AcqRel) + 1, Ordering::AcqRel);
                    std::thread::park_timeout(Duration::from_millis(2));
                    now.fetch_sub(1, Ordering::AcqRel);
                    turns.fetch_add(1, Ordering::AcqRel);
                });
            }
        });
        assert!(most.load(Ordering::Acquire) <= 2 && turns.load(Ordering::Acquire) == 8);
        let full = [gate.enter(None, is_late), gate.enter(None, is_late)];
        assert!(full.iter().all(Option::is_some) && gate.enter(None, || true).is_none());
        drop(full);
        // Also who gives up at its turn leaves it to the next one.
        assert!((0..3).all(|_| gate.enter(None, || true).is_none()));
        assert!(gate.enter(None, is_late).is_some());
    }

    /// Lines up clients of these addresses behind one of address 0 that has a turn, and ends the turns one after the
    /// other: who got them, by their places in the line.
    fn order(state: &mut State, sources: &[u32]) -> Vec<usize> {
        state.begin(Source::of(address(0)));
        let line = |source: &u32| state.line_up(Source::of(address(*source)), usize::MAX).unwrap().1;
        let line: Vec<_> = sources.iter().map(line).collect();
        let order = (0..sources.len()).map(|_| {
            state.end();
            let called: Vec<_> = (0..line.len()).filter(|place| line[*place].try_recv().is_ok()).collect();
            assert_eq!(called.len(), 1);
            called[0]
        });
        let order = order.collect();
        state.end();
        assert!(state.inside == 0 && state.waiting.is_empty());
        order
    }

    #[test]
    fn s26_the_turns_go_round_the_addresses() {
        let mut state = State::default();
        assert_eq!(order(&mut state, &[1, 1, 1, 2, 2, 3]), [0, 3, 5, 1, 4, 2]);
        // Who has just had one waits for those who have not.
        assert_eq!(order(&mut state, &[3, 2, 1, 4, 0]), [3, 0, 1, 2, 4]);
        // Of one address, in the order in which they came.
        assert_eq!(order(&mut state, &[5, 5, 5]), [0, 1, 2]);
    }

    #[test]
    fn s26_only_the_last_turns_are_remembered() {
        let mut turns = LastTurns::default();
        let numbers = 0..10 * ADDRESSES_MAX as u32;
        numbers.clone().for_each(|number| turns.note(Source::of(address(number))));
        assert!((ADDRESSES_MAX / 2..=ADDRESSES_MAX).contains(&turns.of.len()));
        let known = |number: u32| turns.last(Source::of(address(number))) > 0;
        assert!(!known(0) && numbers.rev().take(ADDRESSES_MAX / 2).all(known));
    }

    #[test]
    fn s26_where_too_many_wait_the_address_with_the_most_gives_way() {
        let mut state = State::default();
        let mut line_up = |last: u32| state.line_up(Source::of(address(last)), 4).map(|(_, called)| called);
        let mut many: Vec<_> = (0..4).map(|_| line_up(1).unwrap()).collect();
        let gives_way =
            |called: &Receiver<()>| called.recv_timeout(Duration::ZERO) == Err(RecvTimeoutError::Disconnected);
        assert!(line_up(1).is_none(), "its own address has the most");
        let second = line_up(2).unwrap();
        assert!(gives_way(&many.pop().unwrap()) && !many.iter().any(gives_way));
        let third = line_up(3).unwrap();
        assert!(gives_way(&many.pop().unwrap()) && !many.iter().any(gives_way));
        // From now on it would be no fairer.
        assert!([1, 2, 3].map(&mut line_up).iter().all(Option::is_none));
        assert!(!gives_way(&second) && !gives_way(&third));
    }

    #[test]
    fn only_so_many_wait() {
        let gate = Gate::new(1).with_room_for(1);
        let deadline = Instant::now() + Duration::from_secs(10);
        let is_late = || Instant::now() > deadline;
        let turn = gate.enter(address(1), is_late);
        std::thread::scope(|scope| {
            let second = scope.spawn(|| gate.enter(address(2), is_late).is_some());
            while gate.state.lock().waiting.is_empty() {
                assert!(!is_late(), "it does not wait");
                std::thread::yield_now();
            }
            assert!(gate.enter(address(3), is_late).is_none(), "a third one waits");
            drop(turn);
            assert!(second.join().unwrap());
        });
        let _turn = gate.enter(address(1), is_late).expect("all have left");
        assert!(gate.enter(address(1), || true).is_none() && gate.state.lock().waiting.is_empty());
    }
}
