//! From a name to addresses, under a deadline.
//!
//! `getaddrinfo` has no deadline, so it runs in threads of its own, for which a dial waits only until its deadline: a
//! few of them for all dialers of a gateway, started when they are needed and gone when they are not. A lookup that
//! hangs costs its thread and nothing else; the limits of the system's resolver end it.

use std::collections::VecDeque;
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

/// How many of these one name may have, so that a name that hangs leaves threads to the others.
const THREADS_A_NAME: usize = 2;

/// Names that wait for a thread; a caller beyond that is told at once that the resolver is busy.
const QUEUE: usize = 1024;

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
}

/// What asks the system; a test has one that hangs.
type LookUp = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

#[derive(Debug, Default)]
struct PoolState {
    queue: VecDeque<Weak<Question>>,
    /// The names that the system is being asked for, one for each thread that waits for it.
    asked: Vec<String>,
    threads: usize,
    idle: usize,
    /// The resolver is gone: the threads end.
    over: bool,
}

/// A name on its way through the pool. Only the caller owns it: once the caller has given up, it is not looked up any
/// more.
#[derive(Debug)]
struct Question {
    host: String,
    port: u16,
    progress: Mutex<Progress>,
    /// Readable once it is answered.
    answered: OwnedFd,
}

#[derive(Debug)]
enum Progress {
    /// No thread has had the time yet.
    Queued,
    /// The system has been asked.
    Asked,
    Answered(io::Result<Vec<SocketAddr>>),
}

impl Resolver {
    /// A pool without threads; they come with the names.
    pub fn new() -> Arc<Resolver> {
        Resolver::with(|host, port| (host, port).to_socket_addrs().map(Vec::from_iter))
    }

    fn with(look_up: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Arc<Resolver> {
        let pool = Pool { state: Mutex::default(), work: Signal::default(), look_up: Box::new(look_up) };
        Arc::new(Resolver { pool: Arc::new(pool) })
    }

    /// The addresses of a host, in the order in which they should be tried; at least one.
    pub(super) fn resolve(&self, host: &str, port: u16, attempt: &Attempt<'_>) -> Result<Vec<SocketAddr>, DialError> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let answered = eventfd(0, EventfdFlags::CLOEXEC).map_err(|error| lookup_not_started(host, error.into()))?;
        let question =
            Arc::new(Question { host: host.to_owned(), port, progress: Mutex::new(Progress::Queued), answered });
        self.pool.ask(&question)?;
        match wait(Some((&question.answered, PollFlags::IN)), attempt.cancel, Some(attempt.deadline)) {
            Ok(()) => {}
            Err(WaitError::Ended(WaitEnd::Cancelled)) => return Err(DialError::Cancelled),
            Err(WaitError::Ended(WaitEnd::Deadline)) => {
                let is_asked = self.pool.lock().asked.contains(&question.host);
                return Err(match *question.progress() {
                    Progress::Queued if !is_asked => question.busy(),
                    _ => question.failed(attempt.timed_out("no answer")),
                });
            }
            Err(WaitError::Io(error)) => return Err(lookup_not_started(host, error)),
        }
        match std::mem::replace(&mut *question.progress(), Progress::Queued) {
            Progress::Answered(Ok(addresses)) if addresses.is_empty() => {
                Err(question.failed(Cause::text("the name has no address")))
            }
            Progress::Answered(Ok(addresses)) => Ok(addresses),
            Progress::Answered(Err(error)) => Err(question.failed(Cause::io(error))),
            Progress::Queued | Progress::Asked => Err(question.failed(attempt.timed_out("no answer"))),
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

impl Question {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock()
    }

    fn failed(&self, cause: Cause) -> DialError {
        DialError::Resolve { host: self.host.clone(), cause }
    }

    /// All threads hang with other names.
    fn busy(&self) -> DialError {
        self.failed(Cause::text("busy resolving other names"))
    }
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock()
    }

    /// Queues a question, and starts a thread for it if all others are busy.
    fn ask(self: &Arc<Pool>, question: &Arc<Question>) -> Result<(), DialError> {
        let mut state = self.lock();
        if state.queue.len() >= QUEUE {
            // Some callers may have given up.
            state.queue.retain(|question| question.strong_count() > 0);
            if state.queue.len() >= QUEUE {
                return Err(question.busy());
            }
        }
        state.queue.push_back(Arc::downgrade(question));
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
                    return Err(lookup_not_started(&question.host, error));
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
            if let Some(question) = state.next() {
                is_late = false;
                state.asked.push(question.host.clone());
                drop(state);
                let host = self.answer(question);
                state = self.lock();
                if let Some(at) = state.asked.iter().position(|asked| *asked == host) {
                    state.asked.swap_remove(at);
                }
                // This one may find another question first.
                self.work.notify_one();
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

    /// Answers a question, and gives its name back.
    fn answer(&self, question: Arc<Question>) -> String {
        *question.progress() = Progress::Asked;
        let (host, port) = (question.host.clone(), question.port);
        // Nothing of the question is held meanwhile: the caller may leave.
        let asker = Arc::downgrade(&question);
        drop(question);
        let addresses = (self.look_up)(&host, port);
        if let Some(question) = asker.upgrade() {
            *question.progress() = Progress::Answered(addresses);
            // An eventfd that has never been written to takes this.
            let _ = rustix::io::write(&question.answered, &1u64.to_ne_bytes());
        }
        host
    }
}

impl PoolState {
    /// The next question whose caller is still there and whose name does not have its threads already.
    fn next(&mut self) -> Option<Arc<Question>> {
        let mut at = 0;
        while at < self.queue.len() {
            match self.queue[at].upgrade() {
                None => {
                    self.queue.remove(at);
                }
                Some(question) if self.may_ask(&question.host) => {
                    self.queue.remove(at);
                    return Some(question);
                }
                Some(_) => at += 1,
            }
        }
        None
    }

    fn may_ask(&self, host: &str) -> bool {
        self.asked.iter().filter(|asked| *asked == host).count() < THREADS_A_NAME
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

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
            let gate = Arc::new(Gate::default());
            let behind = Arc::clone(&gate);
            let resolver = Resolver::with(move |host, port| {
                if host.starts_with("hang") {
                    behind.pass();
                }
                Ok(if host == "none" { Vec::new() } else { vec![SocketAddr::from(([127, 0, 0, 1], port))] })
            });
            Hanging { resolver, gate }
        }

        fn resolve(&self, host: &str, time: Duration) -> Result<Vec<SocketAddr>, DialError> {
            resolve(&self.resolver, host, 1, time)
        }

        /// Asks without waiting for the answer.
        fn ask(&self, host: &str) -> Result<Arc<Question>, DialError> {
            let progress = Mutex::new(Progress::Queued);
            let answered = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
            let question = Arc::new(Question { host: host.into(), port: 1, progress, answered });
            self.resolver.pool.ask(&question).map(|()| question)
        }

        /// Has as many names hang as there are threads.
        fn fill(&self) -> Vec<Arc<Question>> {
            let hanging: Vec<_> =
                (0..THREADS).map(|number| self.ask(&format!("hang-{}", number / THREADS_A_NAME)).unwrap()).collect();
            self.until(|state| state.asked.len() == THREADS);
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
    fn names_that_hang_hold_nobody_beyond_the_deadline_and_the_next_are_told_that_we_are_busy() {
        let hanging = Hanging::new();
        let names = hanging.fill();
        // These names are asked for, so it is they that do not answer.
        for name in &names {
            let found = hanging.resolve(&name.host, millis(50));
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
    fn a_name_that_hangs_does_not_keep_the_others_waiting() {
        let hanging = Hanging::new();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let cancel = CancelToken::default().until_readable(Arc::new(ours));
        std::thread::scope(|scope| {
            for _ in 0..2 * THREADS {
                scope.spawn(|| {
                    let attempt = Attempt::new(String::new(), 12 * PATIENCE, &cancel);
                    let found = hanging.resolver.resolve("hang", 1, &attempt);
                    assert!(matches!(found, Err(DialError::Cancelled)), "{found:?}");
                });
            }
            hanging.until(|state| state.asked.len() == THREADS_A_NAME);
            for _ in 0..100 {
                assert!(hanging.resolve("good", PATIENCE).is_ok());
            }
            // The thread that has answered last may still have to say that it is done.
            hanging.until(|state| state.asked == ["hang", "hang"]);
            drop(theirs);
        });
    }

    #[test]
    fn the_queue_is_bounded_and_forgets_who_has_given_up() {
        let hanging = Hanging::new();
        let _held = hanging.fill();
        let waiting: Vec<_> = (0..QUEUE).map(|_| hanging.ask("hang").unwrap()).collect();
        let found = hanging.ask("good");
        assert!(is_about(&found, BUSY), "{found:?}");
        drop(waiting);
        let good = hanging.ask("good").unwrap();
        hanging.gate.open();
        let late = Some(Instant::now() + PATIENCE);
        assert!(wait(Some((&good.answered, PollFlags::IN)), &CancelToken::default(), late).is_ok());
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
