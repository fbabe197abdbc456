//! The heartbeat: makes the coarse clock tick, and visits every peer when one of its deadlines
//! may have passed. What is due when is said by `pulse.rs`; here it is done.

use std::sync::Arc;

use crossbeam_channel::Receiver;
use log::info;

use crate::clock::{TICK, Ticks};
use crate::connection::keepalive::Verdict;
use crate::connection::peer::Peer;
use crate::shared::Shared;
use crate::system::malloc;

/// Runs until `stop` is disconnected.
pub fn run(shared: &Shared, stop: &Receiver<()>) {
    let ticks = crossbeam_channel::tick(TICK);
    let mut heaps = malloc::Keeper::default();
    loop {
        crossbeam_channel::select! {
            recv(ticks) -> _ => {
                let now = shared.clock.tick();
                sweep(shared, now);
                heaps.come_round(now, shared.connections.left());
            }
            recv(stop) -> _ => return,
        }
    }
}

fn sweep(shared: &Shared, now: Ticks) {
    shared.watch.sweep(now);
    // Closed with a dropping of the socket.
    drop(shared.farewells.take(now));
    for peer in shared.visits.take(now) {
        let Some(next) = peer.upgrade().and_then(|peer| visit(&peer, now)) else { continue };
        shared.visits.add(next, peer);
    }
}

/// Does what is due and says when to come again; `None` if the peer is ending.
fn visit(peer: &Arc<Peer>, now: Ticks) -> Option<Ticks> {
    if peer.outbox.is_closing() {
        return None;
    }
    if let Some((holder, first)) = peer.held_by() {
        if first {
            info!("{peer}: held by {holder}: it is not read until there is room");
        }
        // Its silence is ours.
        return Some(now + 1);
    }
    match peer.pulse.judge(&peer.signs(), now) {
        Verdict::Wait(next) => next,
        Verdict::Ping(next) => {
            peer.outbox.ping();
            Some(next)
        }
        Verdict::Dead => {
            peer.outbox.cut("no sign of life after a ping");
            None
        }
        Verdict::Stuck => {
            peer.outbox.close(Some(1008), "Message not complete in time");
            None
        }
    }
}
