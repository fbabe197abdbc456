//! A TCP connection whose every wait is one `poll`, and what else can end such a wait: a deadline, Ctrl-C, and that
//! nobody reads our output any more.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Socket, Type};

use super::wording::Seconds;

/// A server that takes no byte for this long is not going to.
const WRITE_STALL: Duration = Duration::from_secs(30);

/// What ended a wait from our side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Woken {
    /// The time was over.
    Deadline,
    /// Ctrl-C.
    Stop,
    /// Nobody reads our standard output any more.
    OutputClosed,
}

/// What a wait watches besides its socket.
#[derive(Clone, Default)]
pub(super) struct Watch {
    /// Ctrl-C; without it the signal ends the process, as the system does it.
    pub(super) stop: Option<Arc<Stop>>,
    /// Whether to notice that the reader of standard output is gone.
    pub(super) output: bool,
}

/// Ctrl-C as something that can be waited for.
pub(super) struct Stop {
    /// Readable once stopped, for `poll`.
    wake: UnixStream,
    /// Disconnected once stopped, for channels.
    stopped: Receiver<()>,
}

impl Stop {
    /// From here on the first Ctrl-C stops in good order, and the second one ends the process at once.
    /// It fails if the system has no descriptor or thread left, or if it was called before.
    pub(super) fn on_interrupt() -> io::Result<Arc<Stop>> {
        let (wake, waker) = UnixStream::pair()?;
        let (alive, stopped): (Sender<()>, _) = bounded(0);
        let ends = Mutex::new(Some((waker, alive)));
        ctrlc::set_handler(move || {
            // Dropping both ends is the signal.
            if ends.lock().unwrap_or_else(PoisonError::into_inner).take().is_none() {
                std::process::exit(0);
            }
        })
        .map_err(io::Error::other)?;
        Ok(Arc::new(Stop { wake, stopped }))
    }

    /// Disconnected once stopped, for a `select`.
    pub(super) fn channel(&self) -> &Receiver<()> {
        &self.stopped
    }

    /// Whether Ctrl-C was pressed.
    pub(super) fn is_set(&self) -> bool {
        self.stopped.try_recv() == Err(TryRecvError::Disconnected)
    }
}

/// Sleeps for `duration`, or less if `watch` has news, which is then returned.
pub(super) fn sleep(duration: Duration, watch: &Watch) -> Woken {
    match wait(None, watch, Some(Instant::now() + duration)) {
        Err(Failed::Woken(woken)) => woken,
        // Nothing can be ready when nothing is waited for, and a `poll` that fails is as good as the end of the sleep.
        Ok(()) | Err(Failed::Io(_)) => Woken::Deadline,
    }
}

/// A TCP connection whose reads and writes wait as long as `deadline` and `watch` allow. A wait that ends for one of
/// them is a `WouldBlock`, after which TLS and tungstenite can go on where they were.
pub(super) struct Wire {
    tcp: TcpStream,
    deadline: Option<Instant>,
    watch: Watch,
    woken: Option<Woken>,
}

impl Wire {
    /// `tcp` is non-blocking.
    pub(super) fn new(tcp: TcpStream, deadline: Instant, watch: Watch) -> Wire {
        Wire { tcp, deadline: Some(deadline), watch, woken: None }
    }

    /// From here on waits end at `deadline`, or never by time.
    pub(super) fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
        self.woken = None;
    }

    /// The deadline comes after `time` at the latest.
    pub(super) fn cap_deadline(&mut self, time: Duration) {
        let soon = Instant::now() + time;
        self.deadline = Some(self.deadline.map_or(soon, |deadline| deadline.min(soon)));
    }

    /// What ended the last wait from our side, since the deadline was set.
    pub(super) fn woken(&self) -> Option<Woken> {
        self.woken
    }

    /// From here on nothing but the time counts, and there is little of it.
    pub(super) fn hurry(&mut self, time: Duration) {
        self.deadline = Some(Instant::now() + time);
        self.watch = Watch::default();
        self.woken = None;
    }

    fn wait(&mut self, flags: PollFlags, deadline: Option<Instant>) -> io::Result<()> {
        wait(Some((&self.tcp, flags)), &self.watch, deadline).map_err(|failed| match failed {
            Failed::Woken(woken) => {
                self.woken = Some(woken);
                io::ErrorKind::WouldBlock.into()
            }
            Failed::Io(error) => error,
        })
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // A server that never pauses never makes us wait, and the deadline has to hold for it too.
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            self.woken = Some(Woken::Deadline);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        loop {
            match self.tcp.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait(PollFlags::IN, self.deadline)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

impl Write for Wire {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        loop {
            match self.tcp.write(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let stall = Instant::now() + WRITE_STALL;
                    let first = self.deadline.map_or(stall, |deadline| deadline.min(stall));
                    if let Err(error) = self.wait(PollFlags::OUT, Some(first)) {
                        if self.woken == Some(Woken::Deadline) && first == stall {
                            let text = format!("the server took no data for {}", Seconds(WRITE_STALL));
                            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
                        }
                        return Err(error);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Why a wait did not end with a ready socket.
pub(super) enum Failed {
    /// The wait was ended from our side.
    Woken(Woken),
    /// The system refused.
    Io(io::Error),
}

/// Waits until the socket is ready, the deadline is over or the watch has news.
fn wait(socket: Option<(&TcpStream, PollFlags)>, watch: &Watch, deadline: Option<Instant>) -> Result<(), Failed> {
    let stdout = io::stdout();
    loop {
        let left = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
            Some(Duration::ZERO) => return Err(Failed::Woken(Woken::Deadline)),
            Some(left) => Some(Timespec::try_from(left).map_err(|error| Failed::Io(io::Error::other(error)))?),
            None => None,
        };
        let mut waits = Vec::with_capacity(3);
        if let Some(stop) = &watch.stop {
            waits.push((PollFd::new(&stop.wake, PollFlags::IN), Some(Woken::Stop)));
        }
        if watch.output {
            // No flags: only that the other end is gone is reported.
            waits.push((PollFd::new(&stdout, PollFlags::empty()), Some(Woken::OutputClosed)));
        }
        if let Some((socket, flags)) = socket {
            waits.push((PollFd::new(socket, flags), None));
        }
        let (mut fds, meanings): (Vec<_>, Vec<_>) = waits.into_iter().unzip();
        match poll(&mut fds, left.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Failed::Io(error.into())),
        }
        let ready = fds.iter().zip(meanings).find(|(fd, _)| !fd.revents().is_empty());
        match ready {
            Some((_, Some(woken))) => return Err(Failed::Woken(woken)),
            Some((_, None)) => return Ok(()),
            None => {}
        }
    }
}

/// Connects to one address; the stream is non-blocking.
pub(super) fn connect_one(address: SocketAddr, watch: &Watch, deadline: Instant) -> Result<TcpStream, Failed> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).map_err(Failed::Io)?;
    socket.set_nonblocking(true).map_err(Failed::Io)?;
    match socket.connect(&address.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
        Err(error) => return Err(Failed::Io(error)),
    }
    let tcp = TcpStream::from(socket);
    wait(Some((&tcp, PollFlags::OUT)), watch, Some(deadline))?;
    match tcp.take_error().map_err(Failed::Io)? {
        Some(error) => Err(Failed::Io(error)),
        None => Ok(tcp),
    }
}
