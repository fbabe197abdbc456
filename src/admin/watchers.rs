//! Those who watch over a WebSocket of the admin listener, until their connection ends.

use std::sync::Arc;

use crate::connection::peer::Peer;
use crate::id::Id;
use crate::identity::Identity;
use crate::sync::Mutex;

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Watchers(Mutex<Vec<Watcher>>);

#[derive(Debug, Clone)]
struct Watcher {
    peer: Arc<Peer>,
    identity: Option<Arc<Identity>>,
}

/// Somebody among them, until it is dropped.
#[derive(Debug)]
pub struct Entered<'a> {
    watchers: &'a Watchers,
    id: Id,
}

impl Watchers {
    /// One more.
    pub fn enter(&self, peer: &Arc<Peer>, identity: Option<Arc<Identity>>) -> Entered<'_> {
        self.0.lock().push(Watcher { peer: Arc::clone(peer), identity });
        Entered { watchers: self, id: peer.id() }
    }

    /// Closes those whose credential is good no more, which `holds` says.
    pub fn review(&self, holds: impl Fn(&Identity) -> bool) {
        let watchers = self.0.lock().clone();
        for Watcher { peer, identity } in watchers {
            if identity.is_some_and(|identity| !holds(&identity)) {
                peer.outbox.close(Some(1008), "Access withdrawn");
            }
        }
    }

    /// Closes all.
    pub fn end(&self) {
        let watchers = self.0.lock().clone();
        watchers.iter().for_each(|watcher| end(&watcher.peer));
    }
}

/// Closes one because the admin listener ends.
pub fn end(watcher: &Peer) {
    watcher.outbox.close(Some(1001), "Server shutting down");
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.watchers.0.lock().retain(|watcher| watcher.peer.id() != self.id);
    }
}
