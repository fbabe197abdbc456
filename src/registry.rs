//! Who is here: every client by its id, and what others may know of it and ask of it.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::clock::Ticks;
use crate::connection::outbox::Outbox;
use crate::gate::Pass;
use crate::id::Id;
use crate::message::Origin;
use crate::route::Room;

/// A client whose handshake is done.
#[derive(Debug)]
pub struct Client {
    /// The room it is in.
    pub room: Room,
    /// What it has yet to get.
    pub outbox: Arc<Outbox>,
    /// Who it is, for the formats.
    pub origin: Origin,
    /// When its first ping may go out: spread, so that clients that came together are not pinged together.
    pub first_ping: Ticks,
    /// When it was last heard of.
    pub heard: AtomicU32,
    /// When the message began that is arriving now; 0 if none is.
    pub message_begun: AtomicU32,
    held_by: AtomicU8,
}

/// What a client's thread can be held by; its silence then says nothing about the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Holder {
    /// The broadcaster's channel is full.
    Broadcaster = 1,
    /// Its own outbox has no room for its replies: it does not read its answers.
    Outbox = 2,
}

/// Beside the holder: somebody has asked already.
const ASKED: u8 = 0x80;

impl Client {
    /// A client that has just arrived.
    pub fn new(room: Room, outbox: Arc<Outbox>, origin: Origin, now: Ticks, first_ping: Ticks) -> Client {
        Client {
            room,
            outbox,
            origin,
            first_ping,
            heard: AtomicU32::new(now),
            message_begun: AtomicU32::new(0),
            held_by: AtomicU8::new(0),
        }
    }

    /// Its id, which is its session too.
    pub fn id(&self) -> Id {
        self.outbox.id()
    }

    /// Marks it as held while `work` may block, and as heard of when that is over.
    pub fn while_held<T>(&self, holder: Holder, now: impl FnOnce() -> Ticks, work: impl FnOnce() -> T) -> T {
        self.held_by.store(holder as u8, Ordering::Relaxed);
        let result = work();
        self.heard.store(now(), Ordering::Relaxed);
        self.held_by.store(0, Ordering::Relaxed);
        result
    }

    /// What its thread is held by right now, and whether that is asked for the first time.
    pub fn held_by(&self) -> Option<(Holder, bool)> {
        let held = self.held_by.load(Ordering::Relaxed);
        let holder = match held & !ASKED {
            0 => return None,
            holder if holder == Holder::Broadcaster as u8 => Holder::Broadcaster,
            _ => Holder::Outbox,
        };
        // It may have been let go in between: then there was nothing to ask for.
        let first = held & ASKED == 0
            && self.held_by.compare_exchange(held, held | ASKED, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        Some((holder, first))
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Holder::Broadcaster => "broadcaster",
            Holder::Outbox => "its own outbox",
        })
    }
}

/// All clients. An entry lives as long as its [`Registration`], which only the client's own thread holds.
#[derive(Debug, Default)]
pub struct Registry {
    state: Mutex<State>,
    emptied: Condvar,
}

#[derive(Debug, Default)]
struct State {
    clients: HashMap<Id, Arc<Client>>,
    /// Nobody is let in any more.
    closed: bool,
}

/// A client's place in the registry; dropping it, also by a panic, leaves.
#[derive(Debug)]
pub struct Registration {
    registry: Arc<Registry>,
    client: Arc<Client>,
    /// Held for as long as the client counts: in the gateway and on its endpoint.
    _passes: [Pass; 2],
}

impl Registry {
    /// Enters a client, unless the registry is closed. Whoever was let in before it closed is there
    /// to be waited for.
    pub fn register(self: &Arc<Self>, client: Arc<Client>, passes: [Pass; 2]) -> Option<Registration> {
        let mut state = self.lock();
        if state.closed {
            return None;
        }
        state.clients.insert(client.id(), Arc::clone(&client));
        Some(Registration { registry: Arc::clone(self), client, _passes: passes })
    }

    /// Lets nobody in any more.
    pub fn close(&self) {
        self.lock().closed = true;
    }

    /// The client of this id, if it is here.
    pub fn find(&self, id: Id) -> Option<Arc<Client>> {
        self.lock().clients.get(&id).map(Arc::clone)
    }

    /// How many are here.
    pub fn len(&self) -> usize {
        self.lock().clients.len()
    }

    /// Whether nobody is here.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until nobody is here, but not beyond the deadline; says how many are left.
    pub fn wait_empty(&self, deadline: Instant) -> usize {
        let mut state = self.lock();
        while !state.clients.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                break;
            }
            state = self.emptied.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.clients.len()
    }

    /// Every client that is here now.
    pub fn all(&self) -> Vec<Arc<Client>> {
        self.lock().clients.values().map(Arc::clone).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registration {
    /// The client.
    pub fn client(&self) -> &Arc<Client> {
        &self.client
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut state = self.registry.lock();
        state.clients.remove(&self.client.id());
        if state.clients.is_empty() {
            self.registry.emptied.notify_all();
        }
    }
}
