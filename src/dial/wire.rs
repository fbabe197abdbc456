//! A stream whose every wait is one `poll`, which a deadline or a cancel token can end.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::connection::socket::Socket;
use crate::connection::tls::{Decrypted, Session};
use crate::display::Seconds;

/// How long a server may take no byte before a write fails.
const WRITE_STALL: Duration = Duration::from_secs(30);

/// How much ciphertext is read at once: a whole TLS record.
const CIPHER_BYTES: usize = 17 << 10;

/// What ended a wait from our side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitEnd {
    /// The time was over.
    Deadline,
    /// The token was cancelled.
    Cancelled,
}

/// What cancels a wait, besides its socket and its deadline. It watches descriptors and reads from none of them, so that
/// one descriptor can end the waits of any number of threads.
#[derive(Clone, Default)]
pub struct CancelToken {
    ends: Vec<(Arc<dyn AsFd + Send + Sync>, PollFlags)>,
}

impl CancelToken {
    /// It is cancelled as soon as `fd` can be read or has reached its end: an eventfd, one end of a socket pair.
    #[must_use]
    pub fn until_readable(mut self, fd: Arc<dyn AsFd + Send + Sync>) -> CancelToken {
        self.ends.push((fd, PollFlags::IN));
        self
    }

    /// It is cancelled as soon as the other end of `fd` is closed.
    #[must_use]
    pub fn until_abandoned(mut self, fd: Arc<dyn AsFd + Send + Sync>) -> CancelToken {
        // No flags: only that the other end is gone is reported.
        self.ends.push((fd, PollFlags::empty()));
        self
    }

    /// It is cancelled as soon as the other end of the stream `fd` has ended its direction, even if something of it is
    /// unread.
    #[must_use]
    pub fn until_hung_up(mut self, fd: Arc<dyn AsFd + Send + Sync>) -> CancelToken {
        self.ends.push((fd, PollFlags::RDHUP));
        self
    }

    /// Sleeps for `duration`, or until it is cancelled; says which.
    pub fn sleep(&self, duration: Duration) -> WaitEnd {
        match wait(None, self, Some(Instant::now() + duration)) {
            Err(WaitError::Ended(end)) => end,
            // Nothing can be ready when nothing is waited for, and a `poll` that fails is as good as the end of the
            // sleep.
            Ok(()) | Err(WaitError::Io(_)) => WaitEnd::Deadline,
        }
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CancelToken({})", self.ends.len())
    }
}

/// Why a wait did not end with what was waited for.
#[derive(Debug)]
pub(super) enum WaitError {
    /// The wait was ended from our side.
    Ended(WaitEnd),
    /// The system refused.
    Io(io::Error),
}

/// Waits until `fd` is ready, the deadline is over or the token is cancelled.
pub(super) fn wait(
    fd: Option<(&dyn AsFd, PollFlags)>,
    cancel: &CancelToken,
    deadline: Option<Instant>,
) -> Result<(), WaitError> {
    wait_any(fd.as_slice(), cancel, deadline).map(drop)
}

/// Waits until one of `fds` is ready, and says which, the deadline is over or the token is cancelled.
fn wait_any(
    fds: &[(&dyn AsFd, PollFlags)],
    cancel: &CancelToken,
    deadline: Option<Instant>,
) -> Result<usize, WaitError> {
    loop {
        let left = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
            Some(Duration::ZERO) => return Err(WaitError::Ended(WaitEnd::Deadline)),
            Some(left) => Some(Timespec::try_from(left).map_err(|error| WaitError::Io(io::Error::other(error)))?),
            None => None,
        };
        let mut polled: Vec<_> =
            cancel.ends.iter().map(|(fd, flags)| PollFd::from_borrowed_fd(fd.as_fd(), *flags)).collect();
        polled.extend(fds.iter().map(|(fd, flags)| PollFd::from_borrowed_fd(fd.as_fd(), *flags)));
        match poll(&mut polled, left.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(WaitError::Io(error.into())),
        }
        match polled.iter().position(|fd| !fd.revents().is_empty()) {
            Some(at) if at < cancel.ends.len() => return Err(WaitError::Ended(WaitEnd::Cancelled)),
            Some(at) => return Ok(at - cancel.ends.len()),
            None => {}
        }
    }
}

/// What a wait for more than one thing ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// The socket can be read, or takes something.
    Socket,
    /// The other descriptor can be read.
    Input,
}

/// A connection, plain or TLS, whose reads and writes wait as long as the deadline and the token allow. A wait that
/// ends for one of them is a `WouldBlock`, after which tungstenite can go on where it was.
#[derive(Debug)]
pub struct Wire {
    socket: Socket,
    session: Option<Session>,
    deadline: Option<Instant>,
    cancel: CancelToken,
    wait_end: Option<WaitEnd>,
    /// Whether reads and writes wait at all.
    is_waiting: bool,
    /// Ciphertext on its way out.
    sealed: Vec<u8>,
    /// Room for ciphertext that comes in; nothing without a session.
    cipher: Box<[u8]>,
}

impl Wire {
    /// Over a connected socket, and a session whose handshake is done.
    pub fn new(socket: Socket, session: Option<Session>, deadline: Option<Instant>, cancel: CancelToken) -> Wire {
        let mut wire = Wire {
            socket,
            session: None,
            deadline,
            cancel,
            wait_end: None,
            is_waiting: true,
            sealed: Vec::new(),
            cipher: [].into(),
        };
        if let Some(session) = session {
            wire.secure(session);
        }
        wire
    }

    /// From here on what is written and read goes through `session`.
    pub(super) fn secure(&mut self, session: Session) {
        self.session = Some(session);
        self.cipher = vec![0; CIPHER_BYTES].into();
    }

    /// Whether it goes through a TLS session.
    pub(super) fn is_secure(&self) -> bool {
        self.session.is_some()
    }

    /// The socket and the session; nothing that was written is left here.
    pub(super) fn into_parts(self) -> (Socket, Option<Session>) {
        (self.socket, self.session)
    }

    /// From here on waits end at `deadline`, or never by time.
    pub fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
        self.wait_end = None;
        self.is_waiting = true;
    }

    /// Without waiting, a read or a write that would have to wait is a `WouldBlock` at once, until there is a deadline
    /// again.
    pub fn set_waiting(&mut self, is_waiting: bool) {
        self.is_waiting = is_waiting;
    }

    /// Waits until the socket has something to read, or takes something if `to_write` is set, or `input` can be read.
    pub fn wait_for(&mut self, to_write: bool, input: Option<&dyn AsFd>) -> io::Result<Ready> {
        let of_socket = if to_write { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        let mut fds: Vec<(&dyn AsFd, PollFlags)> = vec![(&self.socket, of_socket)];
        fds.extend(input.map(|input| (input, PollFlags::IN)));
        match wait_any(&fds, &self.cancel, self.deadline) {
            Ok(0) => Ok(Ready::Socket),
            Ok(_) => Ok(Ready::Input),
            Err(failed) => Err(self.ended(failed)),
        }
    }

    /// The deadline comes after `time` at the latest.
    pub(super) fn cap_deadline(&mut self, time: Duration) {
        let soon = Instant::now() + time;
        self.deadline = Some(self.deadline.map_or(soon, |deadline| deadline.min(soon)));
    }

    /// What ended the last wait from our side, since the deadline was set.
    pub fn wait_end(&self) -> Option<WaitEnd> {
        self.wait_end
    }

    /// From here on a wait ends after `time`, and the token is ignored.
    pub fn hurry(&mut self, time: Duration) {
        self.deadline = Some(Instant::now() + time);
        self.cancel = CancelToken::default();
        self.wait_end = None;
        self.is_waiting = true;
    }

    /// Ends a TLS session in good order: without it a careful server takes the end of the connection for an attack.
    pub fn say_goodbye(&mut self) {
        if let Some(session) = &mut self.session {
            session.say_goodbye();
            self.sealed.append(&mut session.take_outgoing());
            let _ = self.flush();
        }
    }

    /// What the session has taken from the socket already; without it, nothing.
    pub(super) fn read_decrypted(&mut self, plain: &mut Vec<u8>) -> io::Result<()> {
        let mut piece = [0; 4096];
        while let Some(session) = &mut self.session {
            match session.read(&[], &mut piece)? {
                Decrypted::Plain(count) => plain.extend_from_slice(&piece[..count]),
                Decrypted::NeedMore | Decrypted::Closed => break,
            }
        }
        Ok(())
    }

    fn wait(&mut self, flags: PollFlags, deadline: Option<Instant>) -> io::Result<()> {
        if !self.is_waiting {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        wait(Some((&self.socket, flags)), &self.cancel, deadline).map_err(|failed| self.ended(failed))
    }

    fn ended(&mut self, failed: WaitError) -> io::Error {
        match failed {
            WaitError::Ended(end) => {
                self.wait_end = Some(end);
                io::ErrorKind::WouldBlock.into()
            }
            WaitError::Io(error) => error,
        }
    }

    /// Reads from the socket itself.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            // Looked at first: a server that never pauses never makes us wait, and the deadline holds for it too.
            if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                self.wait_end = Some(WaitEnd::Deadline);
                return Err(io::ErrorKind::WouldBlock.into());
            }
            match self.socket.recv_now(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait(PollFlags::IN, self.deadline)?,
                result => return result,
            }
        }
    }

    /// Writes to the socket itself; how much of it was taken.
    pub(super) fn transmit(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.socket.send_now(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let stall = Instant::now() + WRITE_STALL;
                    let first = self.deadline.map_or(stall, |deadline| deadline.min(stall));
                    if let Err(error) = self.wait(PollFlags::OUT, Some(first)) {
                        if self.wait_end == Some(WaitEnd::Deadline) && first == stall {
                            let text = format!("the server accepted no data for {}", Seconds(WRITE_STALL));
                            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
                        }
                        return Err(error);
                    }
                }
                result => return result,
            }
        }
    }

    /// Hands the ciphertext that is still here to the system.
    fn drain(&mut self) -> io::Result<()> {
        while !self.sealed.is_empty() {
            let sealed = std::mem::take(&mut self.sealed);
            let taken = self.transmit(&sealed);
            self.sealed = sealed;
            self.sealed.drain(..taken?);
        }
        Ok(())
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(session) = &mut self.session else { return self.receive(buffer) };
        if buffer.is_empty() {
            return Ok(0);
        }
        let mut decrypted = session.read(&[], buffer)?;
        loop {
            // It may have to answer something, an alert for one. That goes out before the next wait, and not now: a wait that
            // ends in vain would lose what was decrypted.
            if let Some(session) = &mut self.session
                && session.outgoing() > 0
            {
                self.sealed.append(&mut session.take_outgoing());
            }
            match decrypted {
                Decrypted::Plain(count) => return Ok(count),
                Decrypted::Closed => return Ok(0),
                Decrypted::NeedMore => match self.drain() {
                    // What it has to answer goes out with the next write: the reader does not wait for it.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock && !self.is_waiting => {}
                    drained => drained?,
                },
            }
            let mut cipher = std::mem::take(&mut self.cipher);
            let count = self.receive(&mut cipher);
            let read = match (&count, &mut self.session) {
                (Ok(count @ 1..), Some(session)) => session.read(&cipher[..*count], buffer),
                _ => Ok(Decrypted::Closed),
            };
            self.cipher = cipher;
            count?;
            decrypted = read?;
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // What was sealed before goes first. A wait that ends here leaves these bytes untouched.
        self.drain()?;
        let Some(session) = &mut self.session else { return self.transmit(bytes) };
        let bytes = &bytes[..bytes.len().min(16 << 10)];
        session.seal(bytes)?;
        self.sealed.append(&mut session.take_outgoing());
        // They are sealed, so they are ours: a wait that ends now must not have them written twice.
        match self.drain() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.drain()
    }
}
