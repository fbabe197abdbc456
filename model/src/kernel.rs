//! The kernel below the connections: sockets with small buffers, their peers, and epoll's one-shot
//! registrations of them. It does what Linux does where the outbox can tell the difference.
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
    state: Mutex<State>,
    /// Signalled when a peer or a reader of ours may find something.
    readable: Condvar,
    /// Signalled when whoever waits on epoll may find something.
    event: Condvar,
    /// One for each socket, touched by every call that sends: two of them at the same time are a finding.
    sending: Vec<UnsafeCell<()>>,
}

#[derive(Debug, Default)]
struct State {
    sockets: Vec<SocketState>,
    /// The eventfd, which stays readable.
    woken: bool,
}

#[derive(Debug)]
struct SocketState {
    line: Line,
    /// Everything that was ever taken.
    wire: Vec<u8>,
    /// How much of it the peer has read.
    read: usize,
    shut_write: bool,
    shut_both: bool,
    /// Whether epoll knows the socket, and the data to report once, if armed.
    registered: bool,
    armed: Option<u64>,
    /// The connection's thread has ended; how many calls have sent something since.
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

/// Begins an execution, with a socket over each of these lines. Sockets are called by their places.
pub fn boot(lines: &[Line]) {
    let sockets = lines.iter().map(|line| SocketState::over(*line)).collect();
    let kernel = Kernel {
        state: Mutex::new(State { sockets, woken: false }),
        readable: Condvar::new(),
        event: Condvar::new(),
        sending: lines.iter().map(|_| UnsafeCell::new(())).collect(),
    };
    KERNEL.set(Some(Arc::new(kernel)));
}

impl SocketState {
    fn over(line: Line) -> SocketState {
        SocketState {
            line,
            wire: Vec::new(),
            read: 0,
            shut_write: false,
            shut_both: false,
            registered: false,
            armed: None,
            finished: false,
            sent_late: 0,
        }
    }

    fn is_broken(&self) -> bool {
        self.line.breaks_after.is_some_and(|bytes| self.wire.len() >= bytes)
    }

    fn free(&self) -> usize {
        self.line.capacity - (self.wire.len() - self.read)
    }

    /// Whether epoll has something to say of the socket. An end is always said.
    fn is_ready(&self) -> bool {
        self.free() >= self.line.writable_from || self.shut_both || self.is_broken()
    }

    /// What epoll reports of the socket.
    fn event(&mut self) -> Option<u64> {
        self.armed?;
        if let Peer::Reads(bytes) = self.line.peer {
            while !self.is_ready() {
                self.read += bytes.min(self.wire.len() - self.read);
            }
        }
        if self.is_ready() { self.armed.take() } else { None }
    }
}

impl Kernel {
    fn lock(&self) -> loom::sync::MutexGuard<'_, State> {
        self.state.lock().expect("the kernel does not panic")
    }

    /// `send(MSG_DONTWAIT)`.
    pub fn send(&self, socket: usize, bytes: &[u8]) -> io::Result<usize> {
        self.sending[socket].with_mut(|_| ());
        let state = &mut self.lock().sockets[socket];
        // A cut may come at any time, the end of our direction only when all is written.
        assert!(!state.shut_write || state.shut_both, "something is written after our direction has ended");
        if state.shut_both || state.is_broken() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        assert!(!bytes.is_empty(), "a call for nothing");
        let count = bytes.len().min(state.free()).min(state.line.most_a_call);
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.wire.extend_from_slice(&bytes[..count]);
        state.sent_late += usize::from(state.finished);
        self.readable.notify_all();
        Ok(count)
    }

    pub fn shutdown_write(&self, socket: usize) {
        self.lock().sockets[socket].shut_write = true;
        self.readable.notify_all();
    }

    pub fn shutdown_both(&self, socket: usize) {
        self.lock().sockets[socket].shut_both = true;
        self.readable.notify_all();
        self.event.notify_all();
    }

    /// The peer's part: reads at most `most` bytes; 0 is the end.
    pub fn peer_reads(&self, socket: usize, most: usize) -> usize {
        let mut guard = self.lock();
        loop {
            let state = &mut guard.sockets[socket];
            let count = most.min(state.wire.len() - state.read);
            if count > 0 {
                state.read += count;
                self.event.notify_all();
                return count;
            }
            if state.shut_write || state.shut_both || state.is_broken() {
                return 0;
            }
            guard = self.readable.wait(guard).expect("the kernel does not panic");
        }
    }

    /// Our own reading from a peer that says nothing: returns when the socket is cut.
    pub fn read_until_cut(&self, socket: usize) {
        let mut guard = self.lock();
        while !guard.sockets[socket].shut_both {
            guard = self.readable.wait(guard).expect("the kernel does not panic");
        }
    }

    /// `EPOLL_CTL_ADD` and `EPOLL_CTL_MOD` with `EPOLLOUT | EPOLLONESHOT`; `None` if the socket is not (or is already) there.
    pub fn arm(&self, socket: usize, data: u64, is_new: bool) -> Option<Result<(), ()>> {
        let state = &mut self.lock().sockets[socket];
        if state.registered == is_new {
            return None;
        }
        if state.line.refuses_watch {
            return Some(Err(()));
        }
        state.registered = true;
        state.armed = Some(data);
        self.event.notify_all();
        Some(Ok(()))
    }

    /// `epoll_wait`: the data of the sockets that are ready, and whether the eventfd was written to.
    pub fn wait(&self) -> (Vec<u64>, bool) {
        let mut state = self.lock();
        loop {
            let ready: Vec<u64> = state.sockets.iter_mut().filter_map(SocketState::event).collect();
            if !ready.is_empty() || state.woken {
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
    pub fn finished(&self, socket: usize) {
        self.lock().sockets[socket].finished = true;
    }

    /// How many calls have sent something since [`finished`](Kernel::finished).
    pub fn sent_late(&self, socket: usize) -> usize {
        self.lock().sockets[socket].sent_late
    }

    /// Whether the socket was cut.
    pub fn is_shut(&self, socket: usize) -> bool {
        self.lock().sockets[socket].shut_both
    }

    /// Whether our direction has ended.
    pub fn is_shut_for_writing(&self, socket: usize) -> bool {
        self.lock().sockets[socket].shut_write
    }

    /// Everything that was ever taken.
    pub fn wire(&self, socket: usize) -> Vec<u8> {
        self.lock().sockets[socket].wire.clone()
    }
}
