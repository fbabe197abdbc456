//! The admin listener: where operators and their programs look at wsgate and change it while it runs.
//!
//! One thread accepts; each connection has a thread for as long as it lasts. Nothing here holds a thread of a client, a
//! link or the broadcaster: what is asked of them is asked as a client's thread would, with a bound on how long it waits.

mod access;
mod asked;
mod caller;
mod clients;
mod document;
mod drain;
mod errands;
mod feed;
mod guard;
mod health;
mod history;
mod info;
mod levels;
mod links;
mod messages;
mod metrics;
mod page;
mod reload;
mod routes;
mod sampler;
mod settings;
mod state;
mod stores;
mod watch;
mod watchers;

use std::sync::Arc;

use crate::accept::{Refusals, Trouble, is_exhaustion};
use crate::admin::caller::Caller;
use crate::admin::state::WAITING_MAX;
use crate::listener::Bound;
use crate::system::thread::spawn_client;

pub use caller::BODY_MAX;
pub use errands::Errands;
pub use sampler::run as sample;
pub use state::Admin;

/// The stack of a caller's thread, in bytes of address space.
const STACK: usize = 512 << 10;

/// Accepts callers until the admin listener ends, or is elsewhere.
pub fn run(admin: &Arc<Admin>, bound: &Arc<Bound>) {
    let (mut trouble, mut refusals, mut given_way) = (Trouble::default(), Refusals::default(), Refusals::default());
    let generation = admin.shared.generation();
    let Some(mut door) = generation.admin_door_at(bound).map(Arc::clone) else { return };
    let mut of_generation = generation.number;
    drop(generation);
    for number in 1_u64.. {
        let accepted = bound.socket.accept();
        if admin.has_ended() {
            return;
        }
        if let Some(newer) = admin.shared.newer_generation(of_generation) {
            of_generation = newer.number;
            match newer.admin_door_at(bound) {
                Some(newer) => door = Arc::clone(newer),
                None => return,
            }
        }
        let name = &door.name;
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_exhaustion(&error) => {
                trouble.pause(name, &error);
                continue;
            }
            // The connection ended before it was accepted, or a signal came.
            Err(_) => continue,
        };
        trouble.is_over(name);
        let (caller, displaced) = Caller::new(admin, bound, door.tls.clone(), socket, &peer);
        if let Some(source) = displaced {
            given_way.log(name, &format!("{WAITING_MAX} connections wait, and most of them come from {source}"));
        }
        let Some(place) = admin.place() else {
            refusals.log(name, "there are too many connections");
            continue;
        };
        let of_thread = Arc::clone(admin);
        let work = Box::new((caller, place));
        let started = spawn_client(format!("caller {number}"), STACK, work, move |work| {
            let (caller, place) = *work;
            let watching = caller.run(&of_thread);
            // Those who watch have places of their own.
            drop(place);
            watching.into_iter().for_each(|watching| watch::run(&of_thread, watching));
        });
        if let Err((error, _)) = started {
            refusals.log(name, &format!("failed to start a thread: {error}"));
        }
    }
}
