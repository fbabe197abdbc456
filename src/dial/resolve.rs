//! From a name to addresses, under a deadline.
//!
//! `getaddrinfo` has none, so it runs in threads that can be left alone with it: a few of them for all dialers of a
//! gateway, started when they are needed and gone when they are not. A resolver that hangs costs these threads and
//! nothing else; the resolver's own limits end it.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFlags, eventfd};

use super::wire::{CancelToken, WaitEnd, WaitError, wait};
use crate::sync::{Mutex, MutexGuard, Signal};
use crate::system::thread;

/// Names that are looked up at once. More would only help if that many names were slow at the same time.
const THREADS: usize = 4;

/// Of these, how many one name may have: one that hangs is not to keep all others from being looked up.
const THREADS_A_NAME: usize = 2;

/// Names that wait for a thread; beyond it a caller is told at once that we are busy.
const QUEUE: usize = 1024;

/// A thread that has had nothing to do for so long ends.
const IDLE: Duration = Duration::from_secs(10);

/// A small pool of threads that look names up, shared by all who dial.
#[derive(Debug)]
pub struct Resolver {
    pool: Arc<Pool>,
}

#[derive(Debug)]
struct Pool {
    state: Mutex<State>,
    /// Signalled when there is work, and at the end.
    work: Signal,
    look_up: LookUp,
}

/// What asks the system; a test has one that hangs.
type LookUp = fn(&str, u16) -> io::Result<Vec<SocketAddr>>;

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Weak<Question>>,
    /// What the system is asked right now, by each thread that is at it.
    asked: Vec<String>,
    threads: usize,
    idle: usize,
    over: bool,
}

/// A name on its way through the pool. Only the caller owns it: when he has given up nobody looks it up any more.
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

/// Why there are no addresses.
#[derive(Debug)]
pub(super) enum Unresolved {
    /// The resolver said no, in its own words.
    Failed(io::Error),
    /// The name is there and has no address.
    Empty,
    /// The resolver has not answered in time.
    TimedOut,
    /// All threads hang with other names.
    Busy,
    /// The system denied us a thread or a descriptor.
    System(io::Error),
    /// The caller cancelled it.
    Stopped,
}

impl Resolver {
    /// A pool without threads; they come with the names.
    pub fn new() -> Arc<Resolver> {
        Resolver::with(|host, port| (host, port).to_socket_addrs().map(Vec::from_iter))
    }

    fn with(look_up: LookUp) -> Arc<Resolver> {
        let pool = Pool { state: Mutex::default(), work: Signal::default(), look_up };
        Arc::new(Resolver { pool: Arc::new(pool) })
    }

    /// The addresses of a host, in the order in which they should be tried; at least one.
    pub(super) fn resolve(
        &self,
        host: &str,
        port: u16,
        cancel: &CancelToken,
        deadline: Instant,
    ) -> Result<Vec<SocketAddr>, Unresolved> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let answered = eventfd(0, EventfdFlags::CLOEXEC).map_err(|error| Unresolved::System(error.into()))?;
        let question =
            Arc::new(Question { host: host.to_owned(), port, progress: Mutex::new(Progress::Queued), answered });
        self.pool.ask(&question)?;
        match wait(Some((&question.answered, PollFlags::IN)), cancel, Some(deadline)) {
            Ok(()) => {}
            Err(WaitError::Ended(WaitEnd::Cancelled)) => return Err(Unresolved::Stopped),
            Err(WaitError::Ended(WaitEnd::Deadline)) => {
                let is_asked = self.pool.lock().asked.contains(&question.host);
                return Err(match *question.progress() {
                    Progress::Queued if !is_asked => Unresolved::Busy,
                    _ => Unresolved::TimedOut,
                });
            }
            Err(WaitError::Io(error)) => return Err(Unresolved::System(error)),
        }
        match std::mem::replace(&mut *question.progress(), Progress::Queued) {
            Progress::Answered(Ok(addresses)) if addresses.is_empty() => Err(Unresolved::Empty),
            Progress::Answered(Ok(addresses)) => Ok(addresses),
            Progress::Answered(Err(error)) => Err(Unresolved::Failed(error)),
            Progress::Queued | Progress::Asked => Err(Unresolved::TimedOut),
        }
    }
}

impl Drop for Resolver {
    /// Its threads end as soon as they are back from the system; nobody waits for that.
    fn drop(&mut self) {
        self.pool.lock().over = true;
        self.pool.work.notify_all();
    }
}

impl Question {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock()
    }
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Queues a question, and starts a thread for it if all that there are have something to do.
    fn ask(self: &Arc<Pool>, question: &Arc<Question>) -> Result<(), Unresolved> {
        let mut state = self.lock();
        if state.queue.len() >= QUEUE {
            // Those who asked may have given up.
            state.queue.retain(|question| question.strong_count() > 0);
            if state.queue.len() >= QUEUE {
                return Err(Unresolved::Busy);
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
                // One that is there comes round to it.
                if state.threads == 0 {
                    return Err(Unresolved::System(error));
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

impl State {
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

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unresolved::Failed(error) | Unresolved::System(error) => f.write_str(&crate::display::cause(error)),
            Unresolved::Empty => f.write_str("the name has no address"),
            Unresolved::TimedOut => f.write_str("no answer"),
            Unresolved::Busy => f.write_str("busy resolving other names"),
            Unresolved::Stopped => f.write_str("stopped"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn soon(millis: u64) -> Instant {
        Instant::now() + Duration::from_millis(millis)
    }

    /// A system whose name servers are away for a few names.
    fn slow(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if host.starts_with("hang") {
            std::thread::park_timeout(Duration::from_secs(3));
        }
        Ok(if host == "none" { Vec::new() } else { vec![SocketAddr::from(([127, 0, 0, 1], port))] })
    }

    #[test]
    fn a_name_and_an_address_are_resolved() {
        let resolver = Resolver::new();
        let late = Instant::now() + PATIENCE;
        let found = resolver.resolve("localhost", 80, &CancelToken::default(), late).unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 80), "{found:?}");
        assert_eq!(resolver.pool.lock().threads, 1);
        let found = resolver.resolve("::1", 81, &CancelToken::default(), late).unwrap();
        assert_eq!(found, ["[::1]:81".parse().unwrap()]);
        let found = resolver.resolve("no.such.host.invalid", 1, &CancelToken::default(), late);
        assert!(matches!(found, Err(Unresolved::Failed(_))), "{found:?}");
        let found = Resolver::with(slow).resolve("none", 1, &CancelToken::default(), late);
        assert!(matches!(found, Err(Unresolved::Empty)), "{found:?}");
    }

    #[test]
    fn names_that_hang_hold_nobody_beyond_the_deadline_and_the_next_are_told_that_we_are_busy() {
        let resolver = Resolver::with(slow);
        std::thread::scope(|scope| {
            for number in 0..THREADS {
                let resolver = &resolver;
                scope.spawn(move || {
                    let started = Instant::now();
                    let name = format!("hang-{}", number / THREADS_A_NAME);
                    let found = resolver.resolve(&name, 1, &CancelToken::default(), soon(400));
                    assert!(matches!(found, Err(Unresolved::TimedOut)), "{found:?}");
                    assert!(started.elapsed() < Duration::from_secs(2));
                });
            }
        });
        let found = resolver.resolve("good", 1, &CancelToken::default(), soon(100));
        assert!(matches!(found, Err(Unresolved::Busy)), "{found:?}");
        assert_eq!(resolver.pool.lock().threads, THREADS);
        // An address asks nobody, and a name that waits long enough gets its answer.
        assert!(resolver.resolve("127.0.0.1", 1, &CancelToken::default(), soon(100)).is_ok());
        assert!(resolver.resolve("good", 1, &CancelToken::default(), Instant::now() + PATIENCE).is_ok());
    }

    #[test]
    fn a_name_that_hangs_does_not_keep_the_others_waiting() {
        let resolver = Resolver::with(slow);
        std::thread::scope(|scope| {
            for _ in 0..2 * THREADS {
                scope.spawn(|| {
                    let found = resolver.resolve("hang", 1, &CancelToken::default(), soon(2000));
                    assert!(matches!(found, Err(Unresolved::TimedOut)), "{found:?}");
                });
            }
            let late = Instant::now() + PATIENCE;
            while resolver.pool.lock().asked.len() < THREADS_A_NAME {
                assert!(Instant::now() < late, "no thread has taken it");
                std::thread::yield_now();
            }
            for _ in 0..100 {
                assert!(resolver.resolve("good", 1, &CancelToken::default(), soon(1000)).is_ok());
            }
            assert_eq!(resolver.pool.lock().asked, ["hang", "hang"]);
        });
    }

    #[test]
    fn the_queue_is_bounded_and_forgets_who_has_given_up() {
        let resolver = Resolver::with(slow);
        let ask = |host: &str| {
            let progress = Mutex::new(Progress::Queued);
            let answered = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
            let question = Arc::new(Question { host: host.into(), port: 1, progress, answered });
            resolver.pool.ask(&question).map(|()| question)
        };
        let hanging: Vec<_> =
            (0..THREADS).map(|number| ask(&format!("hang-{}", number / THREADS_A_NAME)).unwrap()).collect();
        let late = Instant::now() + PATIENCE;
        while hanging.iter().any(|question| matches!(*question.progress(), Progress::Queued)) {
            assert!(Instant::now() < late, "no thread has taken it");
            std::thread::yield_now();
        }
        let waiting: Vec<_> = (0..QUEUE).map(|_| ask("hang").unwrap()).collect();
        assert!(matches!(ask("good"), Err(Unresolved::Busy)));
        drop(waiting);
        let good = ask("good").unwrap();
        assert!(wait(Some((&good.answered, PollFlags::IN)), &CancelToken::default(), Some(late)).is_ok());
    }

    #[test]
    fn a_stop_ends_the_wait_at_once() {
        let resolver = Resolver::with(slow);
        let (ours, theirs) = UnixStream::pair().unwrap();
        let cancel = CancelToken::default().until_readable(Arc::new(ours));
        let started = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let found = resolver.resolve("hang", 1, &cancel, Instant::now() + PATIENCE);
                assert!(matches!(found, Err(Unresolved::Stopped)), "{found:?}");
            });
            drop(theirs);
        });
        assert!(started.elapsed() < Duration::from_secs(2));
    }
}
