//! The kernel below one connection: a socket with a small buffer, its peer, and epoll's one-shot
//! registration of it. It does what Linux does where the outbox can tell the difference.
//!
//! Each execution of a model has its own. All its threads run on one thread of the system, one at a time, so
//! that they find it through a thread-local.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::sync::{Condvar, Mutex};

/// How the socket and its peer behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// How many bytes the socket holds until the peer reads them.
    pub capacity: usize,
    /// How much one call takes at most, although there is room for more.
    pub most_a_call: usize,
    /// How much must be free for the socket to count as writable, at least 1.
    pub writable_from: usize,
    pub peer: Peer,
    /// Whether epoll refuses to register it, as it does when the system is out of memory.
    pub refuses_watch: bool,
    /// After so many bytes the line is broken: every call fails.
    pub breaks_after: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A thread of the model reads.
    Thread,
    /// Reads so many bytes whenever somebody waits for the socket: one thread fewer to interleave.
    Reads(usize),
    /// Reads nothing, ever.
    Stalled,
}

#[derive(Debug)]
pub struct Kernel {
    line: Line,
    state: Mutex<State>,
    /// Signalled when the peer may find something to read.
    readable: Condvar,
    /// Signalled when whoever waits on epoll may find something.
    event: Condvar,
    /// Touched by every call that sends: two of them at the same time are a finding.
    sending: UnsafeCell<()>,
}

#[derive(Debug, Default)]
struct State {
    /// Everything that was ever taken.
    wire: Vec<u8>,
    /// How much of it the peer has read.
    read: usize,
    shut_write: bool,
    shut_both: bool,
    /// Whether epoll knows the socket, and the data to report once, if armed.
    registered: bool,
    armed: Option<u64>,
    /// The eventfd, which stays readable.
    woken: bool,
    /// The client's thread has ended; how many calls have sent something since.
    finished: bool,
    sent_late: usize,
}

thread_local! {
    static KERNEL: RefCell<Option<Arc<Kernel>>> = const { RefCell::new(None) };
}

/// The kernel of this execution.
pub fn kernel() -> Arc<Kernel> {
    KERNEL.with_borrow(|kernel| kernel.clone()).expect("an execution begins with its kernel")
}

/// Begins an execution.
pub fn boot(line: Line) {
    let kernel = Kernel {
        line,
        state: Mutex::default(),
        readable: Condvar::new(),
        event: Condvar::new(),
        sending: UnsafeCell::new(()),
    };
    KERNEL.set(Some(Arc::new(kernel)));
}

impl Line {
    fn is_broken(&self, state: &State) -> bool {
        self.breaks_after.is_some_and(|bytes| state.wire.len() >= bytes)
    }

    fn free(&self, state: &State) -> usize {
        self.capacity - (state.wire.len() - state.read)
    }

    /// Whether epoll has something to say of the socket. An end is always said.
    fn is_ready(&self, state: &State) -> bool {
        self.free(state) >= self.writable_from || state.shut_both || self.is_broken(state)
    }
}

impl Kernel {
    fn lock(&self) -> loom::sync::MutexGuard<'_, State> {
        self.state.lock().expect("the kernel does not panic")
    }

    /// `send(MSG_DONTWAIT)`.
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.sending.with_mut(|_| ());
        let mut state = self.lock();
        // A cut may come at any time, the end of our direction only when all is written.
        assert!(!state.shut_write || state.shut_both, "something is written after our direction has ended");
        if state.shut_both || self.line.is_broken(&state) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        assert!(!bytes.is_empty(), "a call for nothing");
        let count = bytes.len().min(self.line.free(&state)).min(self.line.most_a_call);
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.wire.extend_from_slice(&bytes[..count]);
        state.sent_late += usize::from(state.finished);
        self.readable.notify_all();
        Ok(count)
    }

    pub fn shutdown_write(&self) {
        self.lock().shut_write = true;
        self.readable.notify_all();
    }

    pub fn shutdown_both(&self) {
        self.lock().shut_both = true;
        self.readable.notify_all();
        self.event.notify_all();
    }

    /// The peer's part: reads at most `most` bytes; 0 is the end.
    pub fn peer_reads(&self, most: usize) -> usize {
        let mut state = self.lock();
        loop {
            let count = most.min(state.wire.len() - state.read);
            if count > 0 {
                state.read += count;
                self.event.notify_all();
                return count;
            }
            if state.shut_write || state.shut_both || self.line.is_broken(&state) {
                return 0;
            }
            state = self.readable.wait(state).expect("the kernel does not panic");
        }
    }

    /// `EPOLL_CTL_ADD` and `EPOLL_CTL_MOD` with `EPOLLOUT | EPOLLONESHOT`; `None` if the socket is not (or is already) there.
    pub fn arm(&self, data: u64, is_new: bool) -> Option<Result<(), ()>> {
        let mut state = self.lock();
        if state.registered == is_new {
            return None;
        }
        if self.line.refuses_watch {
            return Some(Err(()));
        }
        state.registered = true;
        state.armed = Some(data);
        self.event.notify_all();
        Some(Ok(()))
    }

    /// `epoll_wait`: the data of the socket if it is ready, and whether the eventfd was written to.
    pub fn wait(&self) -> (Option<u64>, bool) {
        let mut state = self.lock();
        loop {
            if let (Some(_), Peer::Reads(bytes)) = (state.armed, self.line.peer)
                && !self.line.is_ready(&state)
            {
                state.read += bytes.min(state.wire.len() - state.read);
                continue;
            }
            let ready = if self.line.is_ready(&state) { state.armed.take() } else { None };
            if ready.is_some() || state.woken {
                return (ready, state.woken);
            }
            state = self.event.wait(state).expect("the kernel does not panic");
        }
    }

    /// Writes to the eventfd.
    pub fn wake(&self) {
        self.lock().woken = true;
        self.event.notify_all();
    }

    /// From now on nothing new may be sent.
    pub fn finished(&self) {
        self.lock().finished = true;
    }

    /// How many calls have sent something since [`finished`](Kernel::finished).
    pub fn sent_late(&self) -> usize {
        self.lock().sent_late
    }

    /// Whether the socket was cut.
    pub fn is_shut(&self) -> bool {
        self.lock().shut_both
    }

    /// Whether our direction has ended.
    pub fn is_shut_for_writing(&self) -> bool {
        self.lock().shut_write
    }

    /// Everything that was ever taken.
    pub fn wire(&self) -> Vec<u8> {
        self.lock().wire.clone()
    }
}
