//! A visit of the heartbeat to a peer, and what holds for that one's connection.

use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::connection::peer::Peer;
use crate::route::Place;
use crate::shared::generation::Generation;

/// Whom the heartbeat visits. It keeps nobody here: a peer that has left gives its descriptor back at once.
#[derive(Debug, Clone)]
pub struct Visit {
    peer: Weak<Peer>,
    /// The endpoint or link whose settings hold for it, if that is so, and the number of the generation of which they are.
    of: Option<(Place, u64)>,
}

impl Visit {
    /// To a peer, perhaps with the settings that the place has in the generation of this number.
    pub fn new(peer: &Arc<Peer>, of: Option<(Place, u64)>) -> Visit {
        Visit { peer: Arc::downgrade(peer), of }
    }

    /// The peer, if it is still there.
    pub fn peer(&self) -> Option<Arc<Peer>> {
        self.peer.upgrade()
    }

    /// Whether the peer is still there.
    pub fn is_wanted(&self) -> bool {
        self.peer.strong_count() > 0
    }

    /// From now on what this generation says holds for the peer, if it says something: one whose endpoint or link is gone
    /// keeps what it has, and is closed.
    pub fn take_up(&mut self, generation: &Generation) {
        let Some((place, number)) = &mut self.of else { return };
        if std::mem::replace(number, generation.number) == generation.number {
            return;
        }
        let (Some(profile), Some(peer)) = (generation.profile(*place), self.peer.upgrade()) else { return };
        let before = peer.outbox.set_limits(profile.limits);
        if before.write_timeout != profile.limits.write_timeout {
            // Zero is none.
            peer.outbox.socket().set_user_timeout(profile.write_timeout.unwrap_or(Duration::ZERO));
        }
        peer.set_keepalive(profile.keepalive);
    }
}
