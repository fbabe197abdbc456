//! The heartbeat: makes the coarse clock tick, and visits every peer when one of its deadlines
//! may have passed. What is due when is said by `keepalive.rs`; here it is done.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::Receiver;
use log::info;

use crate::clock::{TICK, Ticks};
use crate::connection::keepalive::Action;
use crate::connection::peer::Peer;
use crate::log_kind::QUEUES;
use crate::shared::Shared;
use crate::shared::generation::Generation;
use crate::shared::memory::MemoryWatch;
use crate::shared::visit::Visit;
use crate::system::malloc;

/// Visits of peers that have left that may be kept, beside a few for each connection. Such a visit may be a day away, and
/// what is left of the peer stays in memory until then.
const STALE_MAX: usize = 1024;

/// Runs until `stop` is disconnected.
pub fn run(shared: &Shared, stop: &Receiver<()>) {
    let ticks = crossbeam_channel::tick(TICK);
    let mut trimmer = malloc::Trimmer::default();
    let mut generation = shared.generation();
    let mut memory = MemoryWatch::new(generation.gateway.memory);
    loop {
        crossbeam_channel::select! {
            recv(ticks) -> _ => {
                let now = shared.clock.tick();
                let newer = shared.newer_generation(generation.number);
                sweep(shared, now, newer.as_ref().unwrap_or(&generation), newer.is_some());
                if let Some(newer) = newer {
                    if newer.gateway.memory != generation.gateway.memory {
                        memory = MemoryWatch::new(newer.gateway.memory);
                        shared.is_short_of_memory.store(false, Ordering::Relaxed);
                    }
                    generation = newer;
                }
                memory.iter_mut().for_each(|memory| memory.check_in(shared));
                trimmer.check_in(now, shared.connections.released());
            }
            recv(stop) -> _ => return,
        }
    }
}

/// Visits whom it is time for, or everybody where the generation `is_new`: it may have changed what is due when.
fn sweep(shared: &Shared, now: Ticks, generation: &Generation, is_new: bool) {
    shared.poller.sweep(now);
    // Closed with a dropping of the socket.
    drop(shared.lingering.take_due(now));
    for mut planned in shared.visits.take_due(if is_new { Ticks::MAX } else { now }) {
        planned.take_up(generation);
        let Some(next) = planned.peer().and_then(|peer| visit(shared, &peer, now)) else { continue };
        shared.visits.add_at(next, planned);
    }
    // A relayed client has two.
    if shared.visits.len() > 3 * shared.connections.in_use() + STALE_MAX {
        shared.visits.retain(Visit::is_wanted);
    }
}

/// Does what is due and says when to come again; `None` if the peer is ending.
fn visit(shared: &Shared, peer: &Arc<Peer>, now: Ticks) -> Option<Ticks> {
    if peer.outbox.is_closing() {
        return None;
    }
    // Also of a peer whose thread waits: that wait ends with it.
    let activity = peer.activity();
    if activity.is_expired(now) {
        peer.expire();
        return None;
    }
    if peer.blocked_on().is_some() {
        if let Some(what) = peer.report_blocked() {
            info!(
                target: QUEUES, client = peer.client_id(), link = peer.link_name();
                "{peer}: held by {}: wsgate reads nothing from it until there is room", shared.name_of(what)
            );
        }
        // Its silence is ours.
        return Some(now + 1);
    }
    match peer.keepalive().judge(&activity, now) {
        // A reload may yet give it something that is due.
        Action::Wait(next) => Some(next.unwrap_or(Ticks::MAX)),
        Action::Ping(next) => {
            peer.ping();
            Some(next)
        }
        Action::Dead => {
            peer.outbox.abort("no sign of life after a ping");
            None
        }
        Action::Expired => {
            peer.expire();
            None
        }
        Action::Stuck => {
            peer.outbox.close(Some(1008), "Message not complete in time");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::config::{EndpointId, Settings};
    use crate::connection::peer::Name;
    use crate::connection::poller::Poller;
    use crate::connection::socket::Socket;
    use crate::route::Place;
    use crate::shared::generation::Parts;
    use crate::shared::rooms::Rooms;

    #[test]
    fn c15_of_peers_that_have_left_little_is_kept_however_late_they_would_be_visited() {
        let poller = Arc::new(Poller::new().unwrap());
        let stop = rustix::event::eventfd(0, rustix::event::EventfdFlags::empty()).unwrap();
        let shared =
            Shared::new(Settings::default(), Parts::bare(&Settings::default()), Rooms::new().0, poller, Arc::new(stop));
        let generation = shared.generation();
        let profile = &generation.endpoint(EndpointId(0)).profile;
        let peer = |id: u64| {
            let (ours, _) = UnixStream::pair().unwrap();
            let place = Place::Endpoint(EndpointId(0));
            shared.add_peer(Name::Client, id.into(), (Socket::new(ours), None), profile, Some((place, 1)), None)
        };
        let here = peer(1);
        for id in 2..5 * STALE_MAX as u64 {
            drop(peer(id));
        }
        // As if all had been visited once, and were to be visited next in a day.
        for visit in shared.visits.take_due(Ticks::MAX) {
            shared.visits.add_at(shared.clock.now() + 172_800, visit);
        }
        sweep(&shared, shared.clock.tick(), &generation, false);
        assert_eq!(shared.visits.len(), 1, "more is kept than that of the peer that is here");
        assert_eq!(shared.visits.take_due(Ticks::MAX)[0].peer().map(|peer| peer.id()), Some(here.id()));
    }
}
