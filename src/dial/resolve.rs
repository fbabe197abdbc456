//! From a name to addresses, under a deadline.
//!
//! `getaddrinfo` has no deadline, so it runs in threads of its own, for which a dial waits only until its deadline: a
//! few of them for all dialers of a gateway, started when they are needed and gone when they are not. A lookup that
//! hangs costs its thread and nothing else; the limits of the system's resolver end it.
//!
//! All who ask for the same name at once share one lookup, and its addresses are kept for a short time. A failure is not
//! kept.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFlags, eventfd};

use super::attempt::{Attempt, lookup_not_started};
use super::error::{Cause, DialError};
use super::wire::{WaitEnd, WaitError, wait};
use crate::sync::{Mutex, MutexGuard, Signal};
use crate::system::thread;

/// Names that are looked up at once. More would only help if that many names were slow at the same time.
const THREADS: usize = 4;

/// Names that wait for a thread; a caller beyond that is told at once that the resolver is busy.
const QUEUE: usize = 1024;

/// Names whose addresses are kept; those of a further one are not.
const KEPT: usize = 1024;

/// A thread that has had nothing to do for this long ends.
const IDLE: Duration = Duration::from_secs(10);

/// A small pool of threads that look names up, shared by all dialers.
pub struct Resolver {
    pool: Arc<Pool>,
}

struct Pool {
    state: Mutex<PoolState>,
    /// Signalled when there is work, and at the end.
    work: Signal,
    look_up: Box<LookUp>,
    /// For how long addresses are kept.
    keep: Duration,
}

/// What asks the system; a test has one that hangs.
type LookUp = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

#[derive(Debug, Default)]
struct PoolState {
    /// The names that somebody waits for.
    lookups: HashMap<String, Lookup>,
    /// Those of them that no thread has had the time for yet.
    queue: VecDeque<String>,
    kept: HashMap<String, Kept>,
    threads: usize,
    idle: usize,
    /// The resolver is gone: the threads end.
    over: bool,
}

/// A name on its way through the pool.
#[derive(Debug, Default)]
struct Lookup {
    /// Whether the system has been asked.
    is_asked: bool,
    /// Only the callers own them: once all have given up, the name is not looked up any more.
    callers: Vec<Weak<Caller>>,
}

/// Who waits for the addresses of a name.
#[derive(Debug)]
struct Caller {
    answer: Mutex<Option<Answer>>,
    /// Readable once it is answered.
    answered: OwnedFd,
}

/// What a lookup brings, for each of its callers. The ports are 0.
type Answer = Result<Arc<[SocketAddr]>, Arc<io::Error>>;

#[derive(Debug)]
struct Kept {
    addresses: Arc<[SocketAddr]>,
    until: Instant,
}

impl Resolver {
    /// A pool without threads; they come with the names. No addresses are kept.
    pub fn new() -> Arc<Resolver> {
        Resolver::keeping(Duration::ZERO)
    }

    /// The same, which keeps addresses for this time.
    pub fn keeping(keep: Duration) -> Arc<Resolver> {
        Resolver::with(keep, |host| (host, 0).to_socket_addrs().map(Vec::from_iter))
    }

    fn with(
        keep: Duration,
        look_up: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Arc<Resolver> {
        let pool = Pool { state: Mutex::default(), work: Signal::default(), look_up: Box::new(look_up), keep };
        Arc::new(Resolver { pool: Arc::new(pool) })
    }

    /// The addresses of a host, in the order in which they should be tried; at least one.
    pub(super) fn resolve(&self, host: &str, port: u16, attempt: &Attempt<'_>) -> Result<Vec<SocketAddr>, DialError> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let failed = |cause| DialError::Resolve { host: host.to_owned(), cause };
        let answer = match self.pool.kept(host) {
            Some(addresses) => Ok(addresses),
            None => self.look_up(host, attempt)?,
        };
        match answer {
            Ok(addresses) if addresses.is_empty() => Err(failed(Cause::text("the name has no address"))),
            Ok(addresses) => {
                let with_port = |address: &SocketAddr| {
                    let mut address = *address;
                    address.set_port(port);
                    address
                };
                Ok(addresses.iter().map(with_port).collect())
            }
            Err(error) => Err(failed(Cause::of(crate::display::cause(&error), error))),
        }
    }

    /// None of the addresses of this host could be reached: whoever asks next asks the system, since they may have changed.
    pub(super) fn forget(&self, host: &str) {
        self.pool.lock().kept.remove(host);
    }

    fn look_up(&self, host: &str, attempt: &Attempt<'_>) -> Result<Answer, DialError> {
        let answered = eventfd(0, EventfdFlags::CLOEXEC).map_err(|error| lookup_not_started(host, error.into()))?;
        let caller = Arc::new(Caller { answer: Mutex::default(), answered });
        self.pool.ask(host, &caller)?;
        let late = || DialError::Resolve { host: host.to_owned(), cause: attempt.timed_out("no answer") };
        match wait(Some((&caller.answered, PollFlags::IN)), attempt.cancel, Some(attempt.deadline)) {
            Ok(()) => caller.answer.lock().take().ok_or_else(late),
            Err(WaitError::Ended(WaitEnd::Cancelled)) => Err(DialError::Cancelled),
            Err(WaitError::Ended(WaitEnd::Deadline)) => {
                let is_queued = self.pool.lock().lookups.get(host).is_some_and(|lookup| !lookup.is_asked);
                Err(if is_queued { busy(host) } else { late() })
            }
            Err(WaitError::Io(error)) => Err(lookup_not_started(host, error)),
        }
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("state", &self.pool.state).finish_non_exhaustive()
    }
}

impl Drop for Resolver {
    /// Its threads end as soon as the system has answered them; nobody waits for that.
    fn drop(&mut self) {
        self.pool.lock().over = true;
        self.pool.work.notify_all();
    }
}

/// All threads hang with other names.
fn busy(host: &str) -> DialError {
    DialError::Resolve { host: host.to_owned(), cause: Cause::text("busy resolving other names") }
}

impl Caller {
    fn tell(&self, answer: Answer) {
        *self.answer.lock() = Some(answer);
        // An eventfd that has never been written to takes this.
        let _ = rustix::io::write(&self.answered, &1u64.to_ne_bytes());
    }
}

impl Lookup {
    fn add(&mut self, caller: &Arc<Caller>) {
        if self.callers.len() == self.callers.capacity() {
            // Where a name hangs, callers come and give up for as long as it does.
            self.callers.retain(|caller| caller.strong_count() > 0);
        }
        self.callers.push(Arc::downgrade(caller));
    }

    fn is_abandoned(&self) -> bool {
        !self.is_asked && self.callers.iter().all(|caller| caller.strong_count() == 0)
    }
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock()
    }

    /// The addresses that are known of a host.
    fn kept(&self, host: &str) -> Option<Arc<[SocketAddr]>> {
        let mut state = self.lock();
        let kept = state.kept.get(host)?;
        if Instant::now() < kept.until {
            return Some(Arc::clone(&kept.addresses));
        }
        state.kept.remove(host);
        None
    }

    /// Has a caller wait for a name: with others who do, or else in the queue. Starts a thread if all are busy.
    fn ask(self: &Arc<Pool>, host: &str, caller: &Arc<Caller>) -> Result<(), DialError> {
        let mut state = self.lock();
        if let Some(lookup) = state.lookups.get_mut(host) {
            lookup.add(caller);
            return Ok(());
        }
        if state.queue.len() >= QUEUE {
            state.forget_abandoned();
            if state.queue.len() >= QUEUE {
                return Err(busy(host));
            }
        }
        let mut lookup = Lookup::default();
        lookup.add(caller);
        state.lookups.insert(host.to_owned(), lookup);
        state.queue.push_back(host.to_owned());
        let start = state.idle < state.queue.len() && state.threads < THREADS;
        state.threads += usize::from(start);
        drop(state);
        self.work.notify_one();
        if start {
            let pool = Arc::clone(self);
            if let Err(error) = thread::spawn_helper("resolve", move || pool.run()) {
                let mut state = self.lock();
                state.threads -= 1;
                // Another thread takes it in its turn, if there is one.
                if state.threads == 0 {
                    let error = Arc::new(error);
                    // There is nobody to answer those who wait beside this one either.
                    state.queue.clear();
                    let callers = state.lookups.drain().flat_map(|(_, lookup)| lookup.callers).collect::<Vec<_>>();
                    drop(state);
                    let others = callers.iter().filter_map(Weak::upgrade).filter(|other| !Arc::ptr_eq(other, caller));
                    others.for_each(|other| other.tell(Err(Arc::clone(&error))));
                    return Err(lookup_not_started(host, io::Error::new(error.kind(), error)));
                }
            }
        }
        Ok(())
    }

    /// The life of a thread.
    fn run(&self) {
        let mut state = self.lock();
        let mut is_late = false;
        while !state.over {
            if let Some(host) = state.next() {
                is_late = false;
                drop(state);
                let answer = (self.look_up)(&host).map(Arc::from).map_err(Arc::new);
                state = self.lock();
                let callers = state.answered(&host, &answer, self.keep);
                drop(state);
                callers.iter().filter_map(Weak::upgrade).for_each(|caller| caller.tell(answer.clone()));
                state = self.lock();
                continue;
            }
            if is_late {
                break;
            }
            state.idle += 1;
            let deadline = Instant::now() + IDLE;
            state = self.work.wait_for(state, IDLE);
            state.idle -= 1;
            is_late = Instant::now() >= deadline;
        }
        state.threads -= 1;
    }
}

impl PoolState {
    /// The next name for which somebody still waits; it counts as asked.
    fn next(&mut self) -> Option<String> {
        while let Some(host) = self.queue.pop_front() {
            if self.lookups.get(&host).is_some_and(Lookup::is_abandoned) {
                self.lookups.remove(&host);
            } else if let Some(lookup) = self.lookups.get_mut(&host) {
                lookup.is_asked = true;
                return Some(host);
            }
        }
        None
    }

    fn forget_abandoned(&mut self) {
        self.lookups.retain(|_, lookup| !lookup.is_abandoned());
        let lookups = &self.lookups;
        self.queue.retain(|host| lookups.contains_key(host));
    }

    /// The system has answered: gives out those who wait for it. Addresses are kept.
    fn answered(&mut self, host: &str, answer: &Answer, keep: Duration) -> Vec<Weak<Caller>> {
        let now = Instant::now();
        if let Ok(addresses) = answer
            && !keep.is_zero()
            && !addresses.is_empty()
        {
            if self.kept.len() >= KEPT {
                self.kept.retain(|_, kept| now < kept.until);
            }
            if self.kept.len() < KEPT {
                self.kept.insert(host.to_owned(), Kept { addresses: Arc::clone(addresses), until: now + keep });
            }
        }
        self.lookups.remove(host).map(|lookup| lookup.callers).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::dial::wire::CancelToken;

    const PATIENCE: Duration = Duration::from_secs(10);

    const BUSY: &str = "busy resolving other names";

    /// A resolver whose name servers are away for a few names, until the test has ended or opens the gate.
    struct Hanging {
        resolver: Arc<Resolver>,
        gate: Arc<Gate>,
    }

    #[derive(Default)]
    struct Gate {
        is_open: Mutex<bool>,
        opened: Signal,
        /// Lookups so far.
        lookups: AtomicUsize,
    }

    impl Gate {
        fn open(&self) {
            *self.is_open.lock() = true;
            self.opened.notify_all();
        }

        /// Waits longer than any test should, so that one that fails ends too.
        fn pass(&self) {
            let late = Instant::now() + 6 * PATIENCE;
            let give_up = || Instant::now() >= late;
            drop(self.opened.wait_while(&self.is_open, self.is_open.lock(), |is_open| !is_open, give_up));
        }
    }

    impl Hanging {
        fn new() -> Hanging {
            Hanging::keeping(Duration::ZERO)
        }

        fn keeping(keep: Duration) -> Hanging {
            let gate = Arc::new(Gate::default());
            let behind = Arc::clone(&gate);
            let resolver = Resolver::with(keep, move |host| {
                behind.lookups.fetch_add(1, Ordering::Relaxed);
                if host.starts_with("hang") {
                    behind.pass();
                }
                match host {
                    "none" => Ok(Vec::new()),
                    "wrong" => Err(io::ErrorKind::NotFound.into()),
                    _ => Ok(vec![SocketAddr::from(([127, 0, 0, 1], 0))]),
                }
            });
            Hanging { resolver, gate }
        }

        fn resolve(&self, host: &str, time: Duration) -> Result<Vec<SocketAddr>, DialError> {
            resolve(&self.resolver, host, 1, time)
        }

        fn lookups(&self) -> usize {
            self.gate.lookups.load(Ordering::Relaxed)
        }

        /// Asks without waiting for the answer.
        fn ask(&self, host: &str) -> Result<Arc<Caller>, DialError> {
            let answered = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
            let caller = Arc::new(Caller { answer: Mutex::default(), answered });
            self.resolver.pool.ask(host, &caller).map(|()| caller)
        }

        /// Has as many names hang as there are threads.
        fn fill(&self) -> Vec<Arc<Caller>> {
            let hanging: Vec<_> = (0..THREADS).map(|number| self.ask(&format!("hang-{number}")).unwrap()).collect();
            self.until(|state| state.asked().len() == THREADS);
            hanging
        }

        fn until(&self, is_so: impl Fn(&PoolState) -> bool) {
            let late = Instant::now() + PATIENCE;
            while !is_so(&self.resolver.pool.lock()) {
                assert!(Instant::now() < late, "{:?}", self.resolver);
                std::thread::yield_now();
            }
        }
    }

    impl PoolState {
        fn asked(&self) -> Vec<&str> {
            self.lookups.iter().filter(|(_, lookup)| lookup.is_asked).map(|(host, _)| &**host).collect()
        }

        fn callers(&self, host: &str) -> usize {
            self.lookups.get(host).map_or(0, |lookup| lookup.callers.len())
        }
    }

    impl Drop for Hanging {
        fn drop(&mut self) {
            self.gate.open();
        }
    }

    fn resolve(resolver: &Resolver, host: &str, port: u16, time: Duration) -> Result<Vec<SocketAddr>, DialError> {
        resolver.resolve(host, port, &Attempt::new(String::new(), time, &CancelToken::default()))
    }

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn is_timeout(found: &Result<Vec<SocketAddr>, DialError>) -> bool {
        matches!(found, Err(DialError::Resolve { cause: Cause::TimedOut(..), .. }))
    }

    fn is_about<T>(found: &Result<T, DialError>, wanted: &str) -> bool {
        matches!(found, Err(DialError::Resolve { cause: Cause::Other { text, .. }, .. }) if text == wanted)
    }

    #[test]
    fn a_name_and_an_address_are_resolved() {
        let resolver = Resolver::new();
        let found = resolve(&resolver, "localhost", 80, PATIENCE).unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 80), "{found:?}");
        assert_eq!(resolver.pool.lock().threads, 1);
        let found = resolve(&resolver, "::1", 81, PATIENCE).unwrap();
        assert_eq!(found, ["[::1]:81".parse().unwrap()]);
        let found = resolve(&resolver, "no.such.host.invalid", 1, PATIENCE);
        let is_failed = matches!(&found, Err(DialError::Resolve { cause: Cause::Other { source: Some(_), .. }, .. }));
        assert!(is_failed, "{found:?}");
        let found = Hanging::new().resolve("none", PATIENCE);
        assert!(is_about(&found, "the name has no address"), "{found:?}");
    }

    #[test]
    fn b16_all_who_ask_for_a_name_at_once_share_a_lookup() {
        let hanging = Hanging::new();
        let all = 60;
        std::thread::scope(|scope| {
            let callers: Vec<_> = (0..all)
                .map(|port| {
                    let hanging = &hanging;
                    scope.spawn(move || resolve(&hanging.resolver, "hang", port, PATIENCE))
                })
                .collect();
            hanging.until(|state| state.callers("hang") == usize::from(all));
            hanging.gate.open();
            for (port, caller) in (0..all).zip(callers) {
                assert_eq!(caller.join().unwrap().unwrap(), [SocketAddr::from(([127, 0, 0, 1], port))]);
            }
        });
        assert_eq!((hanging.lookups(), hanging.resolver.pool.lock().lookups.len()), (1, 0));
    }

    #[test]
    fn b16_addresses_are_kept_for_their_time_and_failures_are_not() {
        let hanging = Hanging::keeping(PATIENCE * 60);
        for lookups in [1, 1] {
            assert!(hanging.resolve("good", PATIENCE).is_ok());
            assert_eq!(hanging.lookups(), lookups);
        }
        // None of them could be reached.
        hanging.resolver.forget("good");
        assert!(hanging.resolve("good", PATIENCE).is_ok());
        assert_eq!(hanging.lookups(), 2);
        for (name, lookups) in [("none", 3), ("none", 4), ("wrong", 5), ("wrong", 6)] {
            assert!(hanging.resolve(name, PATIENCE).is_err());
            assert_eq!(hanging.lookups(), lookups, "{name}");
        }
        let soon_over = Hanging::keeping(millis(1));
        assert!(soon_over.resolve("good", PATIENCE).is_ok());
        let over = Instant::now() + millis(1);
        while Instant::now() < over {
            std::thread::yield_now();
        }
        assert!(soon_over.resolve("good", PATIENCE).is_ok());
        assert_eq!(soon_over.lookups(), 2);
        let never = Hanging::new();
        assert!(never.resolve("good", PATIENCE).is_ok() && never.resolve("good", PATIENCE).is_ok());
        assert_eq!(never.lookups(), 2);
    }

    #[test]
    fn names_that_hang_hold_nobody_beyond_the_deadline_and_the_next_are_told_that_we_are_busy() {
        let hanging = Hanging::new();
        let _names = hanging.fill();
        // These names are asked for, so it is they that do not answer.
        for number in 0..THREADS {
            let found = hanging.resolve(&format!("hang-{number}"), millis(50));
            assert!(is_timeout(&found), "{found:?}");
        }
        let found = hanging.resolve("good", millis(100));
        assert!(is_about(&found, BUSY), "{found:?}");
        assert_eq!(hanging.resolver.pool.lock().threads, THREADS);
        // An address asks nobody, and a name that waits long enough gets its answer.
        assert!(hanging.resolve("127.0.0.1", millis(100)).is_ok());
        hanging.gate.open();
        assert!(hanging.resolve("good", PATIENCE).is_ok());
    }

    #[test]
    fn a_name_that_hangs_while_a_thread_asks_for_it_times_out() {
        let hanging = Hanging::new();
        // On a machine that is busy with other things no thread may have come to it in so short a time.
        let mut found = [50, 500, 5000].into_iter().map(|time| hanging.resolve("hang", millis(time)));
        let found = found.find(|found| !is_about(found, BUSY)).expect("a thread comes to it in some seconds");
        assert!(is_timeout(&found), "{found:?}");
    }

    #[test]
    fn a_name_that_hangs_does_not_keep_the_others_waiting_and_forgets_who_has_given_up() {
        let hanging = Hanging::new();
        let _first = hanging.ask("hang").unwrap();
        hanging.until(|state| state.asked() == ["hang"]);
        for _ in 0..100 {
            assert!(hanging.resolve("good", PATIENCE).is_ok());
            drop(hanging.ask("hang").unwrap());
        }
        let state = hanging.resolver.pool.lock();
        assert!(state.asked() == ["hang"] && state.callers("hang") < 20, "{state:?}");
    }

    #[test]
    fn the_queue_is_bounded_and_forgets_who_has_given_up() {
        let hanging = Hanging::new();
        let _held = hanging.fill();
        let waiting: Vec<_> = (0..QUEUE).map(|number| hanging.ask(&format!("waits-{number}")).unwrap()).collect();
        let found = hanging.ask("good");
        assert!(is_about(&found, BUSY), "{found:?}");
        drop(waiting);
        let good = hanging.ask("good").unwrap();
        assert_eq!(hanging.resolver.pool.lock().queue, ["good"]);
        hanging.gate.open();
        let late = Some(Instant::now() + PATIENCE);
        assert!(wait(Some((&good.answered, PollFlags::IN)), &CancelToken::default(), late).is_ok());
    }

    #[test]
    fn no_more_names_are_kept_than_there_is_room_for() {
        let hanging = Hanging::keeping(PATIENCE * 60);
        for number in 0..KEPT + 2 {
            assert!(hanging.resolve(&format!("good-{number}"), PATIENCE).is_ok());
        }
        assert_eq!(hanging.resolver.pool.lock().kept.len(), KEPT);
    }

    #[test]
    fn a_stop_ends_the_wait_at_once() {
        let hanging = Hanging::new();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let cancel = CancelToken::default().until_readable(Arc::new(ours));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // The name never answers and the time is far away: nothing else can end this.
                let attempt = Attempt::new(String::new(), 12 * PATIENCE, &cancel);
                let found = hanging.resolver.resolve("hang", 1, &attempt);
                assert!(matches!(found, Err(DialError::Cancelled)), "{found:?}");
            });
            drop(theirs);
        });
    }
}
