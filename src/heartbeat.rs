//! The heartbeat: makes the coarse clock tick, and visits every client when one of its deadlines
//! may have passed. What is due when is said by `pulse.rs`; here it is done.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::Receiver;
use log::info;

use crate::clock::{TICK, Ticks};
use crate::pulse::{Signs, Verdict};
use crate::registry::Client;
use crate::shared::Shared;

/// Runs until `stop` is disconnected.
pub fn run(shared: &Shared, stop: &Receiver<()>) {
    let ticks = crossbeam_channel::tick(TICK);
    loop {
        crossbeam_channel::select! {
            recv(ticks) -> _ => sweep(shared, shared.clock.tick()),
            recv(stop) -> _ => return,
        }
    }
}

fn sweep(shared: &Shared, now: Ticks) {
    shared.watch.sweep(now);
    // Closed with a dropping of the socket.
    drop(shared.farewells.take(now));
    for client in shared.visits.take(now) {
        let Some(next) = client.upgrade().and_then(|client| visit(shared, &client, now)) else { continue };
        shared.visits.add(next, client);
    }
}

/// Does what is due and says when to come again; `None` if the client is ending.
fn visit(shared: &Shared, client: &Arc<Client>, now: Ticks) -> Option<Ticks> {
    if client.outbox.is_closing() {
        return None;
    }
    if let Some((holder, first)) = client.held_by() {
        if first {
            info!("client {}: held by {holder}: it is not read until there is room", client.id());
        }
        // Its silence is ours.
        return Some(now + 1);
    }
    let signs = Signs {
        first_ping: client.first_ping,
        heard: client.heard.load(Ordering::Relaxed),
        message_begun: client.message_begun.load(Ordering::Relaxed),
        ping: client.outbox.ping_state(),
    };
    match shared.endpoints[client.room.endpoint()].pulse.judge(&signs, now) {
        Verdict::Wait(next) => next,
        Verdict::Ping(next) => {
            client.outbox.ping();
            Some(next)
        }
        Verdict::Dead => {
            client.outbox.cut("no sign of life after a ping");
            None
        }
        Verdict::Stuck => {
            client.outbox.close(Some(1008), "Message not complete in time");
            None
        }
    }
}
