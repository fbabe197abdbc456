//! The life of one client, from the first byte to the last, in its own thread: open, take in what it
//! sends until the end, leave.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use log::{debug, error, info};

use crate::connection::frame::Role;
use crate::dispatch::{Dispatch, Misaddressed};
use crate::intake::{Intake, Received};
use crate::opening::{self, Arrival, Opened, Unopened};
use crate::publisher::Published;
use crate::registry::Client;
use crate::shared::Shared;

/// Runs the whole life of a client.
pub fn run(shared: &Arc<Shared>, arrival: Arrival, from: &str) {
    let id = arrival.id;
    match opening::open(shared, arrival) {
        Ok(opened) => live(shared, opened, from),
        Err(Unopened::Refused(refusal)) => {
            info!("client {id} ({from}): refused with {}: {}", refusal.status, refusal.reason);
        }
        Err(Unopened::AtCapacity(limit)) => {
            info!(
                "client {id} ({from}): closed with 1013: its endpoint has {limit} clients, as `max_connections` says"
            );
        }
        Err(Unopened::Gone(why)) => debug!("client {id} ({from}): {why}"),
    }
}

fn live(shared: &Arc<Shared>, opened: Opened, from: &str) {
    let Opened { registration, is_tls, subprotocol, behind } = opened;
    let client = registration.client();
    let (id, since) = (client.id(), Instant::now());
    let room = shared.routes.show(&client.room);
    match &subprotocol {
        None => info!("client {id} ({from}): connected to '{room}'"),
        Some(subprotocol) => info!("client {id} ({from}): connected to '{room}' with subprotocol '{subprotocol}'"),
    }
    let settings = &shared.endpoints[client.room.endpoint()].settings;
    let mut dispatch = Dispatch::of_client(shared, client);
    let mut intake =
        Intake::new(&client.peer, Role::Server, is_tls, settings.max_message, &shared.clock, &shared.scratch);
    if catch_unwind(AssertUnwindSafe(|| intake.run(behind, &mut dispatch))).is_err() {
        error!("client {id}: its thread panicked; this is a defect of wsgate");
        client.outbox().close(Some(1011), "Internal error");
        client.outbox().wait_closed();
    }
    let Received { messages, bytes } = intake.received();
    let Misaddressed { unknown, denied } = dispatch.misaddressed();
    let (ending, sent) = client.outbox().finish();
    leave(shared, client);
    info!(
        "client {id}: disconnected from '{room}': code {}, reason '{}', after {:.1?}, {messages} messages ({bytes} bytes) received, \
         {} messages ({} bytes) sent, {} dropped",
        ending.code,
        ending.reason,
        since.elapsed(),
        sent.messages,
        sent.bytes,
        sent.dropped,
    );
    if sent.lost > 0 {
        info!("client {id}: {} messages were still queued for it and are lost", sent.lost);
    }
    if unknown + denied > 0 {
        info!("client {id}: of its messages, session_unknown dropped {unknown} and session_denied {denied}");
    }
}

/// Leaves the room, however long the broadcaster takes to hear of it: a client that it does not know
/// to be gone keeps its outbox and its socket open for ever.
fn leave(shared: &Shared, client: &Client) {
    shared.publisher.publish(Published::Leave { room: client.room.clone(), id: client.id() }, || false);
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::config::Settings;
    use std::sync::atomic::Ordering;

    use crate::connection::frame::{Control, Frame};
    use crate::connection::outbox::Outbox;
    use crate::connection::socket::Socket;
    use crate::connection::watch::Watch;
    use crate::message::Origin;
    use crate::peer::{Name, Peer};
    use crate::publisher::{self, Publications};

    fn arrive(settings: Settings) -> (Arc<Shared>, Publications, Arc<Client>, UnixStream) {
        let (publisher, publications) = publisher::channel();
        let shared = Arc::new(Shared::new(settings, publisher, Arc::new(Watch::new().unwrap())));
        let (ours, theirs) = UnixStream::pair().unwrap();
        let id = 7.into();
        let (clock, watch) = (Arc::clone(&shared.clock), Arc::clone(&shared.watch));
        let outbox =
            Arc::new(Outbox::new(id, Role::Server, Socket::new(ours), None, shared.endpoints[0].limits, clock, watch));
        let origin = Origin { session: id, client_ip: None, user_agent: None, connected_at: SystemTime::now() };
        let room = shared.routes.find("/", |_| true).unwrap();
        let peer = Arc::new(Peer::new(Name::Client, outbox, shared.endpoints[0].pulse, 1));
        let client = Arc::new(Client { room, peer, origin });
        (shared, publications, client, theirs)
    }

    /// Takes in `bytes`, then what the socket has, until its end.
    fn take_in(shared: &Shared, client: &Client, bytes: &[u8]) {
        let mut intake = Intake::new(&client.peer, Role::Server, false, 1 << 20, &shared.clock, &shared.scratch);
        intake.run(bytes.to_vec(), &mut Dispatch::of_client(shared, client));
    }

    #[test]
    fn the_time_for_which_a_client_was_held_is_not_held_against_its_message() {
        let (shared, publications, client, theirs) = arrive(Settings::default());
        let room = client.room.clone();
        while shared.publisher.try_publish(Published::Leave { room: room.clone(), id: 1.into() }).is_ok() {}
        let thread = {
            let (shared, client) = (Arc::clone(&shared), Arc::clone(&client));
            std::thread::spawn(move || {
                let whole_and_a_part = [0x82, 0x81, 0, 0, 0, 0, b'x', 0x82, 0x85, 0, 0];
                take_in(&shared, &client, &whole_and_a_part);
            })
        };
        let deadline = Instant::now() + Duration::from_secs(5);
        while client.peer.held_by().is_none() {
            assert!(Instant::now() < deadline, "it was not held");
            std::thread::park_timeout(Duration::from_millis(1));
        }
        while shared.clock.now() < 100 {
            shared.clock.tick();
        }
        assert!(publications.take(&mut Vec::new(), 256).is_some());
        drop(theirs);
        thread.join().unwrap();
        assert_eq!(client.peer.message_begun.load(Ordering::Relaxed), 100);
    }

    #[test]
    fn what_a_client_sent_before_a_write_to_it_failed_is_passed_on() {
        let (shared, publications, client, theirs) = arrive(Settings::default());
        drop(theirs);
        client.outbox().deliver(&Frame::control(Role::Server, Control::Ping, &[]));
        assert!(client.outbox().is_closing(), "the write did not fail");
        let message = [0x82, 0x81, 0, 0, 0, 0, b'x'];
        take_in(&shared, &client, &message);
        shared.publisher.publish(Published::End, || false);
        let mut batch = Vec::new();
        assert!(publications.take(&mut batch, 256).is_some());
        assert!(matches!(batch[0], Published::Frame { .. }), "{batch:?}");
    }

    #[test]
    fn a_client_leaves_its_room_although_the_broadcaster_is_behind() {
        let (shared, publications, client, _theirs) = arrive(Settings::default());
        let (room, id) = (client.room.clone(), client.id());
        while shared.publisher.try_publish(Published::Leave { room: room.clone(), id: 1.into() }).is_ok() {}
        client.outbox().cut("it is gone");
        let (ended, end) = std::sync::mpsc::channel();
        let thread = {
            let (shared, client) = (Arc::clone(&shared), Arc::clone(&client));
            std::thread::spawn(move || {
                leave(&shared, &client);
                ended.send(()).unwrap();
            })
        };
        assert!(end.recv_timeout(Duration::from_millis(600)).is_err(), "it gave up");
        let mut batch = Vec::new();
        let is_ours = |entry: &Published| matches!(entry, Published::Leave { id: left, .. } if *left == id);
        let deadline = Instant::now() + Duration::from_secs(5);
        while !batch.iter().any(is_ours) && Instant::now() < deadline {
            batch.clear();
            assert!(publications.take(&mut batch, 256).is_some());
        }
        assert!(batch.iter().any(is_ours));
        end.recv_timeout(Duration::from_secs(5)).unwrap();
        thread.join().unwrap();
    }
}
