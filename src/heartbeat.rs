//! The heartbeat: makes the coarse clock tick, and visits every peer when one of its deadlines
//! may have passed. What is due when is said by `keepalive.rs`; here it is done.

use std::sync::Arc;

use crossbeam_channel::Receiver;
use log::info;

use crate::clock::{TICK, Ticks};
use crate::connection::keepalive::Action;
use crate::connection::peer::Peer;
use crate::shared::Shared;
use crate::system::malloc;

/// Runs until `stop` is disconnected.
pub fn run(shared: &Shared, stop: &Receiver<()>) {
    let ticks = crossbeam_channel::tick(TICK);
    let mut trimmer = malloc::Trimmer::default();
    loop {
        crossbeam_channel::select! {
            recv(ticks) -> _ => {
                let now = shared.clock.tick();
                sweep(shared, now);
                trimmer.check_in(now, shared.connections.released());
            }
            recv(stop) -> _ => return,
        }
    }
}

fn sweep(shared: &Shared, now: Ticks) {
    shared.poller.sweep(now);
    // Closed with a dropping of the socket.
    drop(shared.lingering.take_due(now));
    for peer in shared.visits.take_due(now) {
        let Some(next) = peer.upgrade().and_then(|peer| visit(shared, &peer, now)) else { continue };
        shared.visits.add_at(next, peer);
    }
}

/// Does what is due and says when to come again; `None` if the peer is ending.
fn visit(shared: &Shared, peer: &Arc<Peer>, now: Ticks) -> Option<Ticks> {
    if peer.outbox.is_closing() {
        return None;
    }
    if peer.blocked_on().is_some() {
        if let Some(what) = peer.report_blocked() {
            info!("{peer}: held by {}: wsgate reads nothing from it until there is room", shared.name_of(what));
        }
        // Its silence is ours.
        return Some(now + 1);
    }
    match peer.keepalive.judge(&peer.activity(), now) {
        Action::Wait(next) => next,
        Action::Ping(next) => {
            peer.outbox.ping();
            Some(next)
        }
        Action::Dead => {
            peer.outbox.abort("no sign of life after a ping");
            None
        }
        Action::Stuck => {
            peer.outbox.close(Some(1008), "Message not complete in time");
            None
        }
    }
}
