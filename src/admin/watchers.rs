//! Those who watch over a WebSocket of the admin listener, until their connection ends.

use std::sync::Arc;

use log::info;

use crate::admin::access::{self, Who};
use crate::auth::admin::Right;
use crate::connection::peer::Peer;
use crate::connection::server_tls::ServerTls;
use crate::connection::trust_review::Proved;
use crate::id::Id;
use crate::listener::Bound;
use crate::log_kind::ADMIN;
use crate::shared::entrance::Withdrawn;
use crate::shared::generation::Generation;
use crate::sync::Mutex;

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Watchers(Mutex<Vec<Arc<Watcher>>>);

/// One of them, and by what it came.
#[derive(Debug)]
pub struct Watcher {
    pub peer: Arc<Peer>,
    /// The socket that it was accepted on.
    pub bound: Arc<Bound>,
    /// Its certificate, and who has verified it.
    pub certificate: Option<Box<(Arc<ServerTls>, Proved)>>,
    pub who: Who,
    /// The right that it takes to see what it is shown.
    pub right: Right,
}

/// Somebody among them, until it is dropped.
#[derive(Debug)]
pub struct Entered<'a> {
    watchers: &'a Watchers,
    id: Id,
}

impl Watchers {
    /// One more.
    pub fn enter(&self, watcher: Watcher) -> Entered<'_> {
        let id = watcher.peer.id();
        self.0.lock().push(Arc::new(watcher));
        Entered { watchers: self, id }
    }

    /// Closes those who would not be let in by this generation: with 1008, or with 1001 if the listener by which they came
    /// is gone.
    pub fn review(&self, generation: &Generation) {
        let watchers = self.0.lock().clone();
        for watcher in watchers.iter().filter(|watcher| !watcher.peer.outbox.is_closing()) {
            if generation.admin_door_at(&watcher.bound).is_none() {
                watcher.peer.outbox.close(Some(1001), "Endpoint removed");
            } else if let Err(why) = watcher.check(generation) {
                watcher.peer.outbox.close(Some(1008), "Access withdrawn");
                info!(target: ADMIN, "admin: {}: its access was withdrawn: {why}", watcher.peer);
            }
        }
    }

    /// Closes all.
    pub fn end(&self) {
        let watchers = self.0.lock().clone();
        watchers.iter().for_each(|watcher| end(&watcher.peer));
    }
}

impl Watcher {
    fn check(&self, generation: &Generation) -> Result<(), Withdrawn> {
        if let Some((tls, proved)) = self.certificate.as_deref() {
            tls.review(proved).map_err(Withdrawn::Certificate)?;
        }
        access::review(&self.who, self.right, generation)
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
