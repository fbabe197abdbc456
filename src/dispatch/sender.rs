//! Who sends messages, and what they are taken for.

use crate::message::Origin;
use crate::route::{Place, Room, Routes, Target};
use crate::shared::endpoint_counters::EndpointCounters;
use crate::shared::publisher::Publisher;
use crate::shared::registry::Client;
use crate::shared::sending::{Post, Sending};
use crate::shared::tap::Tappable;
use crate::shared::undelivered::Undelivered;

/// A request whose messages are to be handed over.
#[derive(Debug, Clone, Copy)]
pub struct PostSender<'a> {
    /// For how long it waits, and what became of that.
    pub post: &'a Post<'a>,
    /// How it publishes.
    pub publisher: &'a Publisher,
    /// Who it is, for the formats.
    pub origin: &'a Origin,
    /// What of its messages does not go where it was to go, because of what is in them.
    pub undelivered: &'a Undelivered,
    /// The counters of its endpoint.
    pub counters: &'a EndpointCounters,
    /// Where it posts to.
    pub room: &'a Room,
}

/// See the module's documentation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sender<'a> {
    /// Its connection or request, whose thread this is.
    pub(super) by: Sending<'a>,
    /// How it publishes.
    pub(super) publisher: &'a Publisher,
    /// Who it is, for the formats.
    pub(super) origin: &'a Origin,
    /// What of its messages does not go where it was to go, because of what is in them.
    pub(super) undelivered: &'a Undelivered,
    /// Of which kind it is.
    pub(super) kind: SenderKind<'a>,
    /// Where it belongs.
    pub(super) place: Place,
}

/// Of which kind a sender is.
#[derive(Debug, Clone, Copy)]
pub(super) enum SenderKind<'a> {
    Client(&'a Client),
    /// One that posts over HTTP to an endpoint, with its room.
    Poster(&'a EndpointCounters, &'a Room),
    /// The remote of a link.
    Remote,
}

impl<'a> Sender<'a> {
    /// Where its messages go.
    pub(super) fn targets(&self, routes: &Routes) -> Vec<Target> {
        match (self.kind, self.place) {
            (SenderKind::Client(client), _) => client.targets(routes),
            (SenderKind::Poster(_, room), _) => {
                let identity = self.origin.identity.as_ref().map(|identity| &*identity.name);
                let mut targets = routes.targets(room, identity);
                targets.retain(|target| *target != Target::Reply);
                targets
            }
            (SenderKind::Remote, Place::Link(id)) => routes.targets_of_link(id),
            (SenderKind::Remote, Place::Endpoint(_)) => Vec::new(),
        }
    }

    /// As operators are shown its messages, unless they are a link's.
    pub(super) fn tappable(&self) -> Option<Tappable<'a>> {
        match self.kind {
            SenderKind::Client(client) => Some(client.tappable()),
            SenderKind::Poster(counters, room) => {
                let identity = self.origin.identity.as_ref().map(|identity| &*identity.name);
                Some(Tappable { id: self.origin.session, endpoint: &counters.path, room, identity })
            }
            SenderKind::Remote => None,
        }
    }
}
