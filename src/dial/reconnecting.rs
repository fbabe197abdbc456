//! An outbox that outlives its connection: a dialled connection can be lost and replaced, and what was sent is neither
//! lost with it nor out of order.

use crate::config::QueueSettings;
use crate::connection::ending::{Ending, Totals};
use crate::connection::frame::Frame;
use crate::connection::outbox::Outbox;
use crate::connection::queue::Queue;
use crate::sync::{Arc, Mutex, MutexGuard, Signal};

/// The way to a server, over one connection after the other. One thread sends, another connects.
///
/// The guarantee: what [`send`](ReconnectingOutbox::send) has taken goes out in order. When a connection is lost, what
/// the kernel had not taken goes out first over the next one; a message that was sent in part is sent again from its
/// beginning. What the kernel had taken may or may not have arrived.
#[derive(Debug, Default)]
pub struct ReconnectingOutbox {
    /// How much a sender may leave here while there is no connection; without bounds it waits for one.
    bounds: Option<QueueSettings>,
    state: Mutex<LineState>,
    changed: Signal,
}

#[derive(Debug, Default)]
struct LineState {
    current: Option<Arc<Outbox>>,
    /// What the last connection has not sent, and what was left here since.
    unsent: Queue,
    /// There will be no further connection.
    over: bool,
}

impl ReconnectingOutbox {
    /// One where a sender does not wait for a connection as long as these bounds have room.
    pub fn with_room(bounds: QueueSettings) -> ReconnectingOutbox {
        ReconnectingOutbox { bounds: Some(bounds), ..ReconnectingOutbox::default() }
    }

    /// From now on everything goes through `outbox`. `first` goes out before the rest, and is not sent again over the
    /// next connection if it holds no messages.
    pub fn connected(&self, outbox: &Arc<Outbox>, first: impl IntoIterator<Item = Frame>) {
        let mut state = self.lock();
        first.into_iter().chain(state.unsent.unsent().0).for_each(|frame| outbox.enqueue(frame));
        state.current = Some(Arc::clone(outbox));
        drop(state);
        self.changed.notify_all();
        outbox.flush();
    }

    /// The connection is over; keeps what it has not sent for the next one.
    pub fn lost(&self, outbox: &Outbox) -> (Ending, Totals) {
        // This comes first: a sender that finds it closed waits for the next connection, not for this one.
        let (ending, totals, unsent) = outbox.reclaim();
        let mut state = self.lock();
        state.current = None;
        unsent.into_iter().for_each(|frame| state.unsent.push(frame));
        drop(state);
        self.changed.notify_all();
        (ending, totals)
    }

    /// There will be no further connection, and every wait for one ends. Returns how many messages are lost by that.
    pub fn end(&self) -> usize {
        let mut state = self.lock();
        state.over = true;
        let lost = state.unsent.clear();
        drop(state);
        self.changed.notify_all();
        lost
    }

    /// There may be further connections after all.
    pub fn begin_again(&self) {
        self.lock().over = false;
    }

    /// Whether there will be no further connection.
    pub fn is_over(&self) -> bool {
        self.lock().over
    }

    /// The connection of this moment.
    pub fn current(&self) -> Option<Arc<Outbox>> {
        self.lock().current.clone()
    }

    /// Sends a frame, waiting for a connection and for room in it. `false` when there will be no
    /// connection any more, or when `give_up` says so, which is asked every 250 ms of a wait and
    /// whenever a connection ends. It must not wait, and may use any lock: none is held meanwhile.
    pub fn send(&self, frame: &Frame, give_up: impl Fn() -> bool) -> bool {
        let mut state = self.lock();
        loop {
            let tried = state.current.clone();
            if let Some(outbox) = &tried {
                drop(state);
                if outbox.reply_unless(frame, &give_up) {
                    return true;
                }
                state = self.lock();
            }
            if state.over {
                return false;
            }
            let has_room = || self.bounds.is_some_and(|bounds| state.unsent.fits(frame, &bounds));
            if state.current.is_none() && has_room() {
                state.unsent.push(frame.clone());
                return true;
            }
            // An outbox that is closing stays the current one until its thread has ended.
            let tried = tried.as_ref().map(Arc::as_ptr);
            let must_wait = |state: &LineState| !state.over && state.current.as_ref().map(Arc::as_ptr) == tried;
            let Some(changed) = self.changed.wait_while(&self.state, state, must_wait, &give_up) else { return false };
            state = changed;
        }
    }

    /// Waits until a connection has taken all that was left here, or none will come. `give_up` as in
    /// [`send`](ReconnectingOutbox::send).
    pub fn wait_until_taken(&self, give_up: impl Fn() -> bool) {
        let must_wait = |state: &LineState| !state.unsent.is_empty() && !state.over;
        drop(self.changed.wait_while(&self.state, self.lock(), must_wait, give_up));
    }

    fn lock(&self) -> MutexGuard<'_, LineState> {
        self.state.lock()
    }
}

/// What the model checker looks at whenever the lock is free.
#[cfg(wsgate_model)]
#[path = "../../model/src/audit_upstream.rs"]
mod audit;

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc;
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::config::WhenFull;
    use crate::connection::frame::Role;
    use crate::connection::outbox::Limits;
    use crate::connection::poller::Poller;
    use crate::connection::socket::Socket;
    use crate::message::{Kind, Message};

    const LEN: usize = 5000;

    const ROOM: QueueSettings = QueueSettings { messages: 8, bytes: 1 << 20, when_full: WhenFull::DropOldest };

    fn connect(poller: &Arc<Poller>, id: u64) -> (Arc<Outbox>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let limits = Limits { queue: ROOM, write_timeout: None, close_timeout: 10 };
        let clock = Arc::default();
        let outbox = Outbox::new(id.into(), Role::Client, Socket::new(ours), None, limits, clock, Arc::clone(poller));
        (Arc::new(outbox), theirs)
    }

    fn numbered(number: u32) -> Frame {
        let data = [&number.to_be_bytes()[..], &[0; LEN]].concat().into();
        Frame::message(&Message { kind: Kind::Binary, data })
    }

    /// The numbers of the messages that have arrived whole, up to the end of the stream.
    fn arrived(mut theirs: UnixStream) -> Vec<u32> {
        let mut wire = Vec::new();
        theirs.read_to_end(&mut wire).unwrap();
        wire.chunks_exact(4 + 4 + LEN).map(|frame| u32::from_be_bytes(frame[4..8].try_into().unwrap())).collect()
    }

    #[test]
    fn over_any_number_of_connections_everything_arrives_once_and_in_order() {
        const MESSAGES: u32 = 2000;
        let upstream = Arc::new(ReconnectingOutbox::default());
        let poller = Arc::new(Poller::new().unwrap());
        let sender = {
            let upstream = Arc::clone(&upstream);
            thread::spawn(move || (0..MESSAGES).all(|number| upstream.send(&numbered(number), || false)))
        };
        let mut all = Vec::new();
        for connection in 1.. {
            let (outbox, theirs) = connect(&poller, connection);
            upstream.connected(&outbox, []);
            // Nobody reads: whatever fits is in the kernel, the rest waits, and the sender with it.
            let deadline = Instant::now() + Duration::from_secs(10);
            let is_last = loop {
                assert!(Instant::now() < deadline, "neither full nor done");
                // Asked first: whoever has finished stalls nothing any more.
                let has_finished = sender.is_finished();
                if !poller.is_empty() {
                    break false;
                }
                if has_finished {
                    break true;
                }
                thread::yield_now();
            };
            outbox.abort("the line is down");
            let (ending, _) = upstream.lost(&outbox);
            assert_eq!(ending.code, 1006);
            drop(outbox);
            all.extend(arrived(theirs));
            if is_last {
                break;
            }
        }
        assert!(sender.join().unwrap());
        assert_eq!(all, (0..MESSAGES).collect::<Vec<_>>());
    }

    #[test]
    fn what_opens_a_connection_goes_first_and_only_once() {
        let upstream = ReconnectingOutbox::default();
        let poller = Arc::new(Poller::new().unwrap());
        let (first, theirs) = connect(&poller, 1);
        upstream.connected(&first, [Frame::joined(vec![1; 4].into(), 0)]);
        drop(theirs);
        assert!(upstream.send(&numbered(7), || false));
        assert_eq!(upstream.lost(&first).0.code, 1006);
        let (second, mut theirs) = connect(&poller, 2);
        upstream.connected(&second, [Frame::joined(vec![2; 4].into(), 0)]);
        let mut opening = [0; 4];
        theirs.read_exact(&mut opening).unwrap();
        assert_eq!(opening, [2; 4]);
        second.abort("enough");
        assert_eq!(arrived(theirs), [7]);
    }

    #[test]
    fn nobody_waits_for_a_connection_that_will_not_come() {
        let upstream = Arc::new(ReconnectingOutbox::default());
        assert!(!upstream.send(&numbered(1), || true));
        let sender = {
            let upstream = Arc::clone(&upstream);
            thread::spawn(move || upstream.send(&numbered(1), || false))
        };
        assert_eq!(upstream.end(), 0);
        assert!(!sender.join().unwrap());
    }

    #[test]
    fn whoever_is_asked_whether_to_give_up_may_look_at_what_is_waited_for() {
        let upstream = Arc::new(ReconnectingOutbox::with_room(QueueSettings { messages: 1, ..ROOM }));
        assert!(upstream.send(&numbered(1), || false));
        let (done, all_done) = mpsc::channel();
        let waiter = {
            let upstream = Arc::clone(&upstream);
            thread::spawn(move || {
                let gives_up = || !upstream.is_over() && upstream.current().is_none();
                assert!(!upstream.send(&numbered(2), gives_up));
                upstream.wait_until_taken(gives_up);
                done.send(()).unwrap();
            })
        };
        all_done.recv_timeout(Duration::from_secs(10)).expect("it asks with its lock in hand");
        waiter.join().unwrap();
    }
}
