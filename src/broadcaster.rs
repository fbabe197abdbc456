//! The broadcaster: takes the rooms in which something waits, in turns, and delivers it.
//!
//! What waits in a room is joined, so that sixteen waiting messages, from one sender or from sixteen, are one write per
//! client. A large room is delivered to in slices, between which other rooms have their turns. The slices go to the
//! deliverers; with none, the broadcaster writes itself. Delivering never waits for a client, so these threads wait for
//! nothing but work.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use crate::clock::Clock;
use crate::config::EndpointId;
use crate::connection::frame::CorkLimits;
use crate::shared::Shared;
use crate::shared::generation::Generation;
use crate::shared::rooms::{LiveRoom, Ready};
use crate::shared::turn::{Places, SLICE, Turn};
use crate::system::watchdog::Progress;
use crate::table::Table;

/// Slices that wait for each deliverer. Full: the broadcaster waits for them; the deliverers themselves wait for nobody.
const SLICES: usize = 4;

/// How long it may take to let others run, and for how long that is left out after it took longer. 32 senders take a
/// fraction of a millisecond; with 50 clients that flood, a message waited for 20 to 70.
const YIELD_MAX: Duration = Duration::from_millis(2);
const CROWDED: Duration = Duration::from_secs(10);

/// Runs until the rooms have ended.
pub fn run(shared: &Shared, ready: &Receiver<Ready>, deliverers: Option<&Deliverers>, progress: &Progress) {
    let clock = &shared.clock;
    let mut broadcaster = Broadcaster {
        shared,
        joining: Joining::of(&shared.generation()),
        deliverers,
        turns: VecDeque::new(),
        clock,
        progress,
        crowded_until: None,
    };
    broadcaster.run(ready);
    // Senders wait for what was taken from them.
    for left in ready.try_iter() {
        if let Ready::Room(room, _) = left {
            room.abandon();
        }
    }
}

/// A deliverer's loop.
pub fn deliver(clock: &Clock, slices: &Receiver<Slice>, progress: &Progress) {
    loop {
        progress.come_round(clock.now());
        let next = match progress.pause() {
            None => slices.recv().map_err(RecvTimeoutError::from),
            Some(pause) => slices.recv_timeout(pause),
        };
        match next {
            Ok(Slice { turn, places }) => {
                progress.come_round(clock.now());
                turn.deliver(places);
                end(turn);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// The way to the deliverers.
#[derive(Debug)]
pub struct Deliverers {
    slices: Sender<Slice>,
}

/// What a deliverer does next.
#[derive(Debug)]
pub struct Slice {
    turn: Arc<Turn>,
    places: Places,
}

/// The way to so many deliverers, and what they take from, each whatever comes next.
pub fn deliverers(count: usize) -> (Deliverers, Receiver<Slice>) {
    let (slices, receiver) = crossbeam_channel::bounded(SLICES * count);
    (Deliverers { slices }, receiver)
}

impl Deliverers {
    /// Has them deliver what the turn is at, from the slice `first` on.
    fn deliver(&self, mut turn: Turn, first: Places) {
        let slices = turn.slices_from(first);
        let turn = Arc::new(turn);
        for places in slices {
            // They end only after the broadcaster, or with the whole process.
            drop(self.slices.send(Slice { turn: Arc::clone(&turn), places }));
        }
        end(turn);
    }
}

/// Ends a turn, if nobody else is at it any more.
fn end(turn: Arc<Turn>) {
    if let Some(room) = Arc::into_inner(turn).and_then(Turn::end) {
        room.schedule();
    }
}

struct Broadcaster<'a> {
    shared: &'a Shared,
    joining: Joining,
    deliverers: Option<&'a Deliverers>,
    /// The rooms that have something to be delivered, in the order of their turns.
    turns: VecDeque<Next>,
    clock: &'a Clock,
    progress: &'a Progress,
    /// Letting others run takes too long, until then.
    crowded_until: Option<Instant>,
}

/// How much may be joined for the clients of each endpoint, by the generation of this number.
struct Joining {
    number: u64,
    limits: Table<EndpointId, CorkLimits>,
}

impl Joining {
    fn of(generation: &Generation) -> Joining {
        let limits = generation.endpoints.iter().map(|(id, endpoint)| (id, endpoint.profile.cork));
        Joining { number: generation.number, limits: limits.collect() }
    }

    /// For clients of an endpoint that is there no more nothing is joined: their queues may be small.
    fn limits(&self, endpoint: EndpointId) -> CorkLimits {
        self.limits.get(endpoint).copied().unwrap_or(CorkLimits::ONE_MESSAGE)
    }
}

/// What a room's turn begins with.
enum Next {
    /// What waits in it, since then.
    Begin(Arc<LiveRoom>, Instant),
    /// The rest of a turn.
    GoOn(Box<Turn>),
}

impl Broadcaster<'_> {
    fn run(&mut self, ready: &Receiver<Ready>) {
        loop {
            if self.turns.is_empty() {
                let come_round = || self.progress.come_round(self.clock.now());
                let Some(first) = self.shared.rooms.next_ready(ready, self.progress.pause(), come_round) else {
                    return;
                };
                if !self.add(first) {
                    return;
                }
            }
            self.progress.come_round(self.clock.now());
            if let Some(newer) = self.shared.newer_generation(self.joining.number) {
                self.joining = Joining::of(&newer);
            }
            if self.turns.iter().any(|next| matches!(next, Next::Begin(..))) {
                self.let_others_publish();
            }
            for more in ready.try_iter() {
                if !self.add(more) {
                    return;
                }
            }
            for _ in 0..self.turns.len() {
                if let Some(next) = self.turns.pop_front() {
                    self.take(next);
                }
            }
        }
    }

    /// Other senders that are about to publish get to do so: what is published now is joined. Beside threads that are busy
    /// with other things, clients that flood for one, that takes as long as each of them has its slice; it is left out then.
    fn let_others_publish(&mut self) {
        if self.crowded_until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        let began = Instant::now();
        std::thread::yield_now();
        self.crowded_until = (began.elapsed() > YIELD_MAX).then(|| Instant::now() + CROWDED);
    }

    /// Lines up what is ready; `false` at the end.
    fn add(&mut self, ready: Ready) -> bool {
        match ready {
            Ready::Room(room, since) => self.turns.push_back(Next::Begin(room, since)),
            Ready::End => return false,
        }
        true
    }

    /// Delivers about a slice, and lines up the room again if it has more.
    fn take(&mut self, next: Next) {
        let mut turn = match next {
            Next::GoOn(turn) => turn,
            Next::Begin(room, since) => match Turn::begin(room, since) {
                Some(turn) => Box::new(turn),
                None => return,
            },
        };
        let mut delivered = 0;
        while delivered < SLICE {
            match (turn.next_slice(|endpoint| self.joining.limits(endpoint)), self.deliverers) {
                (None, _) => {
                    return self.turns.extend(turn.end().map(|room| Next::Begin(room, Instant::now())));
                }
                (Some(places), Some(deliverers)) => return deliverers.deliver(*turn, places),
                (Some(places), None) => {
                    delivered += places.len();
                    turn.deliver(places);
                }
            }
        }
        self.turns.push_back(Next::GoOn(turn));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::*;
    use crate::config::Settings;
    use crate::connection::frame::Frame;
    use crate::connection::peer::Name;
    use crate::connection::poller::Poller;
    use crate::connection::socket::Socket;
    use crate::id::Id;
    use crate::route::Place;
    use crate::shared::generation::Parts;
    use crate::shared::members::Step;
    use crate::shared::publisher::Publisher;
    use crate::shared::rooms::Rooms;

    const LEN: usize = 50;

    /// A gateway's state with one endpoint, `/{room}`.
    fn shared() -> (Arc<Shared>, Receiver<Ready>) {
        let text = "[[endpoint]]\npath = \"/{room}\"\nto = [\"broadcast\"]\n";
        let settings: Settings = crate::config::parse(text, "test.toml", std::path::Path::new("")).unwrap();
        let (rooms, ready) = Rooms::new();
        let stop = rustix::event::eventfd(0, rustix::event::EventfdFlags::empty()).unwrap();
        let poller = Arc::new(Poller::new().unwrap());
        let parts = Parts::bare(&settings);
        (Arc::new(Shared::new(settings, parts, rooms, poller, Arc::new(stop))), ready)
    }

    fn room(shared: &Shared, path: &str) -> Arc<LiveRoom> {
        shared.rooms.open(&shared.generation().routes.find(path, |_| true).unwrap())
    }

    /// A client that has joined a room, and where what it gets can be read.
    fn join(shared: &Shared, room: &Arc<LiveRoom>, id: u64) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let generation = shared.generation();
        let (profile, of) = (&generation.endpoint(EndpointId(0)).profile, Some((Place::Endpoint(EndpointId(0)), 1)));
        let peer = shared.add_peer(Name::Client, id.into(), (Socket::new(ours), None), profile, of, None);
        let publisher = Publisher::of_sender(&shared.budget);
        assert!(publisher.try_step(room, Step::Join(Arc::clone(&peer.outbox))).is_ok());
        theirs
    }

    /// The message `number` of a sender.
    fn frame(sender: usize, number: usize) -> Frame {
        let mut bytes = vec![sender as u8; LEN];
        bytes[1] = number as u8;
        Frame::joined(bytes.into(), 1)
    }

    /// Rooms of several sizes, each with senders that publish at the same time: all clients of a room see the same
    /// order, and each sender's own.
    fn order_holds(deliverers: usize) {
        const SENDERS: usize = 4;
        // So few that the sockets take all of them: nobody resumes an outbox here.
        const MESSAGES: usize = 30;
        let (shared, ready) = shared();
        let (way, slices) = super::deliverers(deliverers.max(1));
        std::thread::scope(|scope| {
            for _ in 0..deliverers {
                let (shared, slices) = (Arc::clone(&shared), slices.clone());
                scope.spawn(move || deliver(&shared.clock, &slices, &Progress::default()));
            }
            let broadcaster = {
                let shared = Arc::clone(&shared);
                let way = (deliverers > 0).then_some(way);
                scope.spawn(move || run(&shared, &ready, way.as_ref(), &Progress::default()))
            };
            let _ending = Ending(&shared);
            let mut id = 0;
            let mut clients = |room: &Arc<LiveRoom>, count: usize| -> Vec<_> {
                id += count as u64;
                (0..count as u64).map(|place| join(&shared, room, id - place)).collect()
            };
            let rooms: Vec<_> = ["/one", "/few", "/many"].iter().map(|path| room(&shared, path)).collect();
            let readers: Vec<_> = rooms.iter().zip([1, 3, 200]).map(|(room, count)| clients(room, count)).collect();
            for room in rooms.iter().flat_map(|room| std::iter::repeat_n(room, SENDERS)).enumerate() {
                let (sender, room) = (room.0 % SENDERS, Arc::clone(room.1));
                let publisher = Publisher::of_sender(&shared.budget);
                scope.spawn(move || {
                    for number in 0..MESSAGES {
                        let frame = frame(sender, number);
                        assert!(
                            publisher.try_publish(&room, None, &frame)
                                || publisher.publish(&room, None, &frame, || false)
                        );
                    }
                });
            }
            for readers in readers {
                let mut orders = readers.into_iter().map(|mut reader| {
                    let mut got = vec![0; SENDERS * MESSAGES * LEN];
                    reader.read_exact(&mut got).unwrap();
                    got.chunks(LEN).map(|message| (message[0], message[1])).collect::<Vec<_>>()
                });
                let first = orders.next().unwrap();
                for sender in 0..SENDERS {
                    let own: Vec<_> =
                        first.iter().filter(|(by, _)| usize::from(*by) == sender).map(|(_, n)| *n).collect();
                    assert_eq!(own, (0..MESSAGES).map(|number| number as u8).collect::<Vec<_>>());
                }
                assert!(orders.all(|order| order == first), "two clients of a room saw different orders");
            }
            shared.rooms.end();
            broadcaster.join().unwrap();
        });
    }

    /// Ends the broadcaster however a test ends, or it would wait for it.
    struct Ending<'a>(&'a Shared);

    impl Drop for Ending<'_> {
        fn drop(&mut self) {
            self.0.rooms.end();
        }
    }

    #[test]
    fn all_clients_of_a_room_see_the_same_order() {
        order_holds(0);
        order_holds(3);
    }

    #[test]
    fn c3_a_sender_whose_messages_are_not_delivered_is_held_and_no_other() {
        let (shared, ready) = shared();
        let (way, slices) = super::deliverers(1);
        let room = room(&shared, "/many");
        let readers: Vec<_> = (1..=200).map(|id| join(&shared, &room, id)).collect();
        let broadcaster = {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || run(&shared, &ready, Some(&way), &Progress::default()))
        };
        let publisher = Publisher::of_sender(&shared.budget);
        let accepted = (0..1000).take_while(|number| publisher.try_publish(&room, None, &frame(0, *number))).count();
        assert!(accepted < 1000, "the deliverer does nothing, and the sender is not held");
        // In another room messages, joins and leaves go on, without the deliverer.
        let quiet = self::room(&shared, "/few");
        let mut two = [join(&shared, &quiet, 301), join(&shared, &quiet, 302)];
        let other = Publisher::of_sender(&shared.budget);
        for number in 0..100 {
            assert!(other.try_publish(&quiet, Some(301.into()), &frame(1, number)));
        }
        two[1].read_exact(&mut [0; 100 * LEN]).unwrap();
        other.leave(&quiet, 301.into(), || false);
        assert_eq!(quiet.clients(), [Id::from(302)]);
        // The deliverer catches up: the sender goes on.
        let clock = Arc::clone(&shared.clock);
        let deliverer = std::thread::spawn(move || deliver(&clock, &slices, &Progress::default()));
        assert!(publisher.publish(&room, None, &frame(0, accepted), || false));
        for mut reader in readers {
            reader.read_exact(&mut vec![0; (accepted + 1) * LEN]).unwrap();
        }
        shared.rooms.end();
        broadcaster.join().unwrap();
        deliverer.join().unwrap();
    }
}
