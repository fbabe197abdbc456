//! Connections that post messages over HTTP: those whose request is being worked on, for which a stop waits, and those
//! that wait for their next one, which it ends.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::connection::socket::Socket;
use crate::shared::handshakes::{HandshakePlace, Handshakes};
use crate::sync::{Mutex, Signal};

/// See the module's documentation.
#[derive(Debug)]
pub struct Posts {
    busy: Mutex<usize>,
    emptied: Signal,
    /// Bounded as all connections are, so that none has to give way.
    idle: Arc<Handshakes>,
    are_over: AtomicBool,
}

/// A request that is being worked on; dropping it, also by a panic, ends that.
#[derive(Debug)]
pub struct Busy<'a>(&'a Posts);

impl Posts {
    /// None yet, of at most so many connections.
    pub fn new(max_connections: usize) -> Posts {
        let idle = Handshakes::new(max_connections);
        Posts { busy: Mutex::default(), emptied: Signal::default(), idle, are_over: AtomicBool::new(false) }
    }

    /// Begins to work on a request.
    pub fn begin(&self) -> Busy<'_> {
        *self.busy.lock() += 1;
        Busy(self)
    }

    /// A connection that waits for its next request: it is shut down when [`end_idle`](Posts::end_idle) is called.
    pub fn idle(&self, address: Option<IpAddr>, socket: &Arc<Socket>) -> HandshakePlace {
        self.idle.enter(address, socket).0
    }

    /// Ends the connections that wait for their next request.
    pub fn end_idle(&self) {
        self.idle.end();
    }

    /// From now on no request waits for room any more.
    pub fn end(&self) {
        self.are_over.store(true, Ordering::Release);
        self.end_idle();
    }

    /// Whether [`end`](Posts::end) was called.
    pub fn are_over(&self) -> bool {
        self.are_over.load(Ordering::Acquire)
    }

    /// Waits until no request is worked on, but not beyond the deadline; says how many are left.
    ///
    /// Those whose bodies still come in are not among them.
    pub fn wait_none(&self, deadline: Instant) -> usize {
        let mut busy = self.busy.lock();
        while *busy > 0 {
            let Some(changed) = self.emptied.wait_until(busy, Some(deadline)) else { return *self.busy.lock() };
            busy = changed;
        }
        0
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let mut busy = self.0.busy.lock();
        *busy -= 1;
        let is_last = *busy == 0;
        drop(busy);
        if is_last {
            self.0.emptied.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_stop_waits_for_requests_and_ends_connections_without_one() {
        let posts = Posts::new(10);
        let busy = posts.begin();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let socket = Arc::new(Socket::new(ours));
        let idle = posts.idle(None, &socket);
        assert_eq!(posts.wait_none(Instant::now() + Duration::from_millis(10)), 1);
        posts.end();
        assert!(posts.are_over() && !idle.finish());
        assert_eq!(std::io::Read::read(&mut &theirs, &mut [0]).unwrap(), 0, "it is still open");
        let left = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| posts.wait_none(Instant::now() + Duration::from_secs(5)));
            drop(busy);
            waiting.join().unwrap()
        });
        assert_eq!(left, 0);
    }
}
