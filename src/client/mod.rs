//! The life of one client, from the first byte to the last, in its own thread: open, take in what it
//! sends until the end, leave.

pub mod admission;
mod asked;
pub mod authenticate;
mod health;
pub mod identify;
pub mod incoming;
pub mod open;
mod origin;
mod post;
mod rejection;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{error, info};

use crate::client::incoming::Incoming;
use crate::client::open::Admitted;
use crate::config::EventKind;
use crate::connection::peer::Received;
use crate::connection::read_loop::{Handler, Handshaken, ReadLoop};
use crate::dispatch::Dispatch;
use crate::display::{count, count_were};
use crate::events::json::{Disconnected, What};
use crate::events::present::tell_who_is_present;
use crate::events::tell_of_client;
use crate::log_kind::{CONNECTS, DISCONNECTS};
use crate::message::Message;
use crate::relay;
use crate::relay::reach::Reached;
use crate::shared::Shared;
use crate::shared::registry::Client;
use crate::system::thread::spawn_client;

/// Runs the whole life of a client.
pub fn run(shared: &Arc<Shared>, incoming: Box<Incoming>) {
    match open::open(shared, incoming) {
        Some(admitted) if has_left_something(&admitted) => go_on_in_fresh_thread(shared, admitted),
        Some(admitted) => live(shared, admitted, take_in),
        None => {}
    }
}

/// Whether this thread has done a TLS handshake, with the client, with its upstream or with a service, or has hashed a
/// password.
fn has_left_something(admitted: &Admitted) -> bool {
    admitted.is_heavy
        || admitted.handshaken.is_tls
        || admitted.reached.as_ref().is_some_and(|reached| reached.dialed.session.is_some())
}

/// Leaves the rest of a client's life to another thread. What a TLS handshake leaves behind in its thread is more than
/// the session itself: OpenSSL's random generators, what malloc keeps at hand, a page of the stack. It ends with it.
fn go_on_in_fresh_thread(shared: &Arc<Shared>, admitted: Admitted) {
    let name = format!("client {}", admitted.registration.client().id());
    let (stack, of_thread) = (shared.generation().gateway.client_stack, Arc::clone(shared));
    let go_on = move |admitted| live(&of_thread, unboxed(admitted), take_in);
    // Where the system has no further thread, this one goes on.
    if let Err((_, admitted)) = spawn_client(name, stack, Box::new(admitted), go_on) {
        live(shared, unboxed(admitted), take_in);
    }
}

/// What is in a box.
#[expect(clippy::boxed_local, reason = "the box ends here: moved out where it is, it would end with whoever had it")]
fn unboxed<T>(boxed: Box<T>) -> T {
    *boxed
}

/// Takes in what a client sends until its connection has ended, and dispatches it. Says for how long it was not read
/// because it had sent more than it may.
fn take_in(shared: &Arc<Shared>, client: &Arc<Client>, handshaken: Handshaken, reached: Option<Reached>) -> Duration {
    if let Some(reached) = reached {
        return relay::run(shared, client, reached, handshaken);
    }
    let mut read_loop = read_loop(shared, client);
    if !client.rights.send {
        read_loop.run(handshaken, &mut Silenced(client));
        return read_loop.held();
    }
    let mut dispatch = Dispatch::of_client(shared, client);
    read_loop.run(handshaken, &mut dispatch);
    read_loop.held()
}

/// The reading half of a client's connection. Apart from its caller, so that the generation is not kept.
fn read_loop<'a>(shared: &'a Shared, client: &'a Client) -> ReadLoop<'a> {
    let endpoint = shared.endpoint_of(client);
    ReadLoop::new(&client.peer, endpoint.profile.max_message, &shared.buffers).within(endpoint.profile.intake)
}

/// A client that may not send.
struct Silenced<'a>(&'a Client);

impl Handler for Silenced<'_> {
    fn message(&mut self, _: Message, _: usize) {
        self.0.close_for_sending();
    }

    fn flush(&mut self) {}
}

/// From the first line of the log to the last. Whatever happens in `read`, the client leaves: its room, the
/// registry, and its place.
fn live(
    shared: &Arc<Shared>,
    admitted: Admitted,
    read: impl FnOnce(&Arc<Shared>, &Arc<Client>, Handshaken, Option<Reached>) -> Duration,
) {
    let Admitted { registration, from, subprotocol, present, handshaken, reached, .. } = admitted;
    let client = registration.client();
    let since = Instant::now();
    arrived(shared, client, &from, subprotocol);
    drop(from);
    tell_who_is_present(shared, client, present);
    let held = catch_unwind(AssertUnwindSafe(|| read(shared, client, handshaken, reached))).unwrap_or_else(|_| {
        error!(client:% = client.id(); "client {}: its thread panicked; this is a defect of wsgate", client.id());
        client.outbox().close(Some(1011), "Internal error");
        client.outbox().wait_closed();
        Duration::ZERO
    });
    departed(shared, client, since, held);
}

/// Logs that a client is there. A function of its own, as the next, so that what it needs is not on the client's
/// stack from then on.
#[inline(never)]
fn arrived(shared: &Shared, client: &Client, from: &str, subprotocol: Option<String>) {
    let (id, room) = (client.id(), &client.room.path);
    let identity =
        client.origin.identity.as_ref().map(|identity| format!(" as '{}'", identity.name)).unwrap_or_default();
    let subprotocol = subprotocol.map(|name| format!(" with subprotocol '{name}'")).unwrap_or_default();
    let endpoint = endpoint_path(shared, client);
    info!(
        target: CONNECTS, client:% = id, endpoint = endpoint, address = from;
        "client {id} ({from}): connected to '{room}'{identity}{subprotocol}"
    );
}

/// The path of a client's endpoint for the log.
fn endpoint_path(shared: &Shared, client: &Client) -> String {
    shared.endpoint_of(client).settings.path.to_string()
}

/// Ends what is left of a client's connection, lets it leave its room, and says how it was.
#[inline(never)]
fn departed(shared: &Shared, client: &Client, since: Instant, held: Duration) {
    let (id, room) = (client.id(), &client.room.path);
    let Received { messages, bytes } = client.peer.received();
    let undelivered = client.undelivered.counts();
    let endpoint = endpoint_path(shared, client);
    let (ending, sent) = client.outbox().finish();
    client.counters.count_disconnect(ending.code);
    leave(shared, client);
    let duration = since.elapsed();
    info!(
        target: DISCONNECTS, client:% = id, endpoint = endpoint;
        "client {id}: disconnected from '{room}': {ending}, after {duration:.1?}, {} ({}) received, {} ({}) sent, {} dropped",
        count(messages, "message"), count(bytes, "byte"), count(sent.messages, "message"), count(sent.bytes, "byte"), sent.dropped,
    );
    if !held.is_zero() {
        info!(target: DISCONNECTS, client:% = id, endpoint = endpoint; "client {id}: it was held for {held:.1?} by the rate of '{room}'");
    }
    if sent.lost > 0 {
        info!(
            target: DISCONNECTS, client:% = id, endpoint = endpoint;
            "client {id}: {} still queued for it and got lost", count_were(sent.lost, "message")
        );
    }
    if !undelivered.is_empty() {
        info!(target: DISCONNECTS, client:% = id, endpoint = endpoint; "client {id}: {undelivered}");
    }
    client.presence.set(false);
    let disconnected = || Disconnected::new(ending.clone(), duration, (messages, bytes), sent);
    if ending.is_bad() {
        tell_of_client(shared, client, EventKind::Error, || What::Broken(disconnected()));
    }
    tell_of_client(shared, client, EventKind::Disconnect, || What::Disconnected(disconnected()));
}

/// Leaves the room, however long what happens there takes: a client that the room still knows keeps its outbox and its
/// socket open.
fn leave(shared: &Shared, client: &Client) {
    if !client.rights.receive {
        return;
    }
    client.publisher.leave(&client.room, client.id(), || shared.rooms.has_ended());
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io::{self, Read, Write};
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::Ordering;
    use std::time::SystemTime;

    use crossbeam_channel::Receiver;

    use super::*;
    use crate::auth::allow::Rights;
    use crate::config::{Destination, EndpointId, Settings};
    use crate::connection::frame::{Control, Frame, Role};
    use crate::connection::peer::Name;
    use crate::connection::poller::Poller;
    use crate::connection::socket::Socket;
    use crate::events::present::present_for;
    use crate::message::Origin;
    use crate::route::Place;
    use crate::shared::address_places::Counted;
    use crate::shared::endpoint::Endpoint;
    use crate::shared::entrance::Entrance;
    use crate::shared::generation::Parts;
    use crate::shared::members::Step;
    use crate::shared::publisher::Publisher;
    use crate::shared::rooms::{Item, Ready, Rooms};
    use crate::shared::turn::Turn;
    use crate::shared::undelivered::Undelivered;

    fn arrive(settings: Settings) -> (Arc<Shared>, Receiver<Ready>, Arc<Client>, UnixStream) {
        let (rooms, ready) = Rooms::new();
        let shared = {
            let stop = rustix::event::eventfd(0, rustix::event::EventfdFlags::empty()).unwrap();
            let poller = Arc::new(Poller::new().unwrap());
            let parts = Parts::bare(&settings);
            Arc::new(Shared::new(settings, parts, rooms, poller, Arc::new(stop)))
        };
        let (client, theirs) = arrive_at(&shared, 7);
        (shared, ready, client, theirs)
    }

    fn endpoint(shared: &Shared) -> Arc<Endpoint> {
        Arc::clone(shared.generation().endpoint(EndpointId(0)))
    }

    fn arrive_at(shared: &Shared, id: u64) -> (Arc<Client>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let id = id.into();
        let origin = Origin {
            session: id,
            client_ip: None,
            user_agent: None,
            subprotocol: None,
            connected_at: SystemTime::now(),
            identity: None,
            description: Default::default(),
        };
        let room = shared.rooms.open(&shared.generation().routes.find("/", |_| true).unwrap());
        let of = Some((Place::Endpoint(EndpointId(0)), 1));
        let peer = shared.add_peer(Name::Client, id, (Socket::new(ours), None), &endpoint(shared).profile, of, None);
        let publisher = Publisher::of_sender(&shared.budget);
        let entrance = Entrance::new(&shared.generation().doors[0], None, None);
        let counters = Arc::clone(&endpoint(shared).counters);
        let (rights, presence, undelivered, begun) = (Rights::ALL, Arc::default(), Undelivered::default(), true.into());
        let client = Client { room, publisher, peer, origin, entrance, rights, presence, counters, undelivered, begun };
        let client = Arc::new(client);
        shared.step((&*client.peer).into(), &client.publisher, &client.room, Step::Join(Arc::clone(client.outbox())));
        (client, theirs)
    }

    /// Takes in these bytes, then what the socket has, until its end.
    fn take_in_first(shared: &Arc<Shared>, client: &Arc<Client>, bytes: &[u8]) -> Duration {
        take_in(shared, client, Handshaken { behind: bytes.to_vec(), ..Handshaken::default() }, None)
    }

    #[test]
    fn l6_a_panic_in_one_clients_thread_ends_that_client_alone_with_1011() {
        let (shared, _ready, client, mut theirs) = arrive(Settings::default());
        let (other, others) = arrive_at(&shared, 8);
        let (connections, places) = (&shared.connections, &endpoint(&shared).places);
        let open = |client: &Arc<Client>| {
            let (place, _) = places.take(&client.room.path, None, client.id(), Instant::now()).unwrap();
            let connection = Counted::new(connections.try_acquire().unwrap(), None);
            let registration = shared.registry.register(Arc::clone(client), connection, place).unwrap();
            let (subprotocol, handshaken) = (None, Handshaken::default());
            let (from, present) = ("a test".to_owned(), present_for(&shared, client));
            Admitted { registration, from, subprotocol, present, handshaken, reached: None, is_heavy: false }
        };
        let (panicking, going_on) = (open(&client), open(&other));
        assert_eq!((shared.registry.len(), connections.in_use(), places.in_use()), (2, 2, 2));
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                live(&shared, panicking, |shared, client, _, _| {
                    // In the middle of a message, with a buffer that was lent.
                    client.peer.message_begun.store(1, Ordering::Relaxed);
                    let _lent = shared.buffers.borrow();
                    panic!("as a defect would");
                });
            });
            let mut close = [0; 18];
            theirs.read_exact(&mut close).unwrap();
            assert_eq!(close, *b"\x88\x10\x03\xf3Internal error");
            drop(theirs);
            thread.join().unwrap();
        });
        // It has left everything that it was in.
        assert!(shared.registry.find(client.id()).is_none() && shared.registry.find(other.id()).is_some());
        assert_eq!((shared.registry.len(), connections.in_use(), places.in_use()), (1, 1, 1));
        assert_eq!(other.room.clients(), [other.id()]);
        // The other goes on through the same locks and the same room, and leaves as ever.
        let message = [0x82, 0x81, 0, 0, 0, 0, b'x'];
        drop(others);
        live(&shared, going_on, |shared, client, _, _| take_in_first(shared, client, &message));
        assert!(other.room.clients().is_empty());
        assert_eq!((shared.registry.len(), connections.in_use(), places.in_use()), (0, 0, 0));
        // What both have done stays counted.
        let counters = &endpoint(&shared).counters;
        let ended: Vec<_> = counters.disconnects().collect();
        assert_eq!((counters.connected(), counters.left().received.messages, ended.iter().sum()), (2, 1, 2u64));
        let _ = writeln!(io::stderr(), "L6: 1 of 2 clients ended, with 1011; 0 places lost");
    }

    /// Everything that waits in the room, taken out of it.
    fn take_waiting(client: &Client) -> Vec<Item> {
        let (members, items) = client.room.begin_turn().unwrap();
        client.room.end_turn(members, VecDeque::new());
        items.into()
    }

    #[test]
    fn the_time_for_which_a_client_was_held_is_not_held_against_its_message() {
        let (shared, _ready, client, theirs) = arrive(Settings::default());
        let (members, _) = client.room.begin_turn().unwrap();
        let frame = Frame::joined(vec![0; 10].into(), 1);
        while client.publisher.try_publish(&client.room, None, &frame) {}
        let thread = {
            let (shared, client) = (Arc::clone(&shared), Arc::clone(&client));
            std::thread::spawn(move || {
                let whole_and_a_part = [0x82, 0x81, 0, 0, 0, 0, b'x', 0x82, 0x85, 0, 0];
                take_in_first(&shared, &client, &whole_and_a_part);
            })
        };
        let deadline = Instant::now() + Duration::from_secs(5);
        while client.peer.blocked_on().is_none() {
            assert!(Instant::now() < deadline, "it was not held");
            std::thread::park_timeout(Duration::from_millis(1));
        }
        while shared.clock.now() < 100 {
            shared.clock.tick();
        }
        client.room.end_turn(members, VecDeque::new());
        drop(take_waiting(&client));
        drop(theirs);
        thread.join().unwrap();
        assert_eq!(client.peer.message_begun.load(Ordering::Relaxed), 100);
    }

    #[test]
    fn what_a_client_sent_before_a_write_to_it_failed_is_passed_on() {
        let mut settings = Settings::default();
        settings.endpoints[0].to = vec![Destination::Reply, Destination::Broadcast];
        let (shared, _ready, client, theirs) = arrive(settings);
        drop(theirs);
        client.outbox().deliver(&Frame::control(Role::Server, Control::Ping, &[]));
        assert!(client.outbox().is_closing(), "the write did not fail");
        let (members, _) = client.room.begin_turn().unwrap();
        let message = [0x82, 0x81, 0, 0, 0, 0, b'x'];
        take_in_first(&shared, &client, &message);
        client.room.end_turn(members, VecDeque::new());
        let waiting = take_waiting(&client);
        assert!(matches!(waiting[..], [Item::Frame(_)]), "{waiting:?}");
    }

    #[test]
    fn a_client_leaves_its_room_although_the_broadcaster_is_behind() {
        let (shared, ready, client, _theirs) = arrive(Settings::default());
        let turn = Turn::begin(Arc::clone(&client.room), Instant::now()).unwrap();
        let frame = Frame::joined(vec![0; 10].into(), 1);
        while client.publisher.try_publish(&client.room, None, &frame) {}
        client.outbox().abort("it is gone");
        let (ended, end) = std::sync::mpsc::channel();
        let thread = {
            let (shared, client) = (Arc::clone(&shared), Arc::clone(&client));
            std::thread::spawn(move || {
                leave(&shared, &client);
                ended.send(()).unwrap();
            })
        };
        assert!(end.recv_timeout(Duration::from_millis(600)).is_err(), "it gave up");
        assert!(turn.end().is_some(), "nothing waits");
        let limits = endpoint(&shared).profile.cork;
        let deadline = Instant::now() + Duration::from_secs(5);
        while end.try_recv().is_err() {
            assert!(Instant::now() < deadline, "it does not leave");
            let Some(mut turn) = Turn::begin(Arc::clone(&client.room), Instant::now()) else { continue };
            while let Some(places) = turn.next_slice(|_| limits) {
                turn.deliver(places);
            }
            turn.end();
        }
        assert!(client.room.clients().is_empty());
        thread.join().unwrap();
        drop(ready);
    }
}
