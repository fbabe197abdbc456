//! A sender's way into a store: its messages as they came, collected until all that a read has brought is parsed.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::config::StoreId;
use crate::connection::peer::BlockedOn;
use crate::dispatch::sender::{Sender, SenderKind};
use crate::message::{Kind, Origin};
use crate::route::{Place, Room, Target};
use crate::shared::generation::Generation;
use crate::shared::receipt::Receipt;
use crate::shared::sending::Sending;
use crate::shared::store::Store;
use crate::store::record::{Batch, Source};

/// One store and what has been collected for it.
#[derive(Debug)]
pub(super) struct StoreLane {
    store: Arc<Store>,
    source: Arc<Source>,
    /// Who is told once they are stored.
    receipt: Option<Arc<Receipt>>,
    collected: Option<Batch>,
}

/// The lanes into those of the targets that are stores.
pub(super) fn of(
    generation: &Generation,
    source: &Sender<'_>,
    receipt: Option<&Arc<Receipt>>,
    targets: &[Target],
) -> Vec<StoreLane> {
    let store = |target: &Target| if let Target::Store(id) = target { generation.stores.get(*id) } else { None };
    let mut stores = targets.iter().filter_map(store).peekable();
    if stores.peek().is_none() {
        return Vec::new();
    }
    let room = match source.kind {
        SenderKind::Client(client) => Some(&client.room.path),
        SenderKind::Poster(_, room) => Some(room),
        SenderKind::Remote => None,
    };
    let sender = match (source.place, room) {
        (Place::Endpoint(id), Some(room)) => {
            client(generation.endpoint(id).settings.path.as_str(), room, source.origin)
        }
        (Place::Link(id), _) => link(&generation.links[id].name, source.origin),
        (Place::Endpoint(_), None) => return Vec::new(),
    };
    stores.map(|store| StoreLane::new(store, &sender, receipt)).collect()
}

impl StoreLane {
    /// The lane into a store, for messages of this source.
    fn new(store: &Arc<Store>, source: &Arc<Source>, receipt: Option<&Arc<Receipt>>) -> StoreLane {
        let receipt = receipt.map(Arc::clone);
        StoreLane { store: Arc::clone(store), source: Arc::clone(source), receipt, collected: None }
    }

    /// Which store it leads to.
    pub(super) fn store(&self) -> StoreId {
        self.store.id
    }

    /// Collects a message; `expected` is a guess at the bytes that this read brings in all.
    pub(super) fn push(&mut self, kind: Kind, payload: &[u8], expected: usize) {
        let collected = self.collected.get_or_insert_with(|| Batch::new(&self.source, SystemTime::now()));
        collected.push(kind, payload, expected);
    }

    /// Hands over what was collected, and waits for room where the store says so. It is lost if the sender gives up
    /// meanwhile.
    pub(super) fn hand_over(&mut self, by: Sending<'_>) {
        let Some(batch) = self.collected.take() else { return };
        self.receipt.iter().for_each(|receipt| receipt.hand_over(batch.messages()));
        let push = || self.store.live.push(batch, self.receipt.clone(), || by.gives_up());
        if !by.while_blocked_on(self.blocked(), push) {
            by.note_refused(self.blocked());
        }
    }

    /// Waits until all that was handed over is stored and acknowledged, at most until the deadline if there is one.
    pub(super) fn wait_stored(&self, by: Sending<'_>, deadline: Option<Instant>) {
        let Some(receipt) = &self.receipt else { return };
        by.while_blocked_on(self.blocked(), || receipt.wait(deadline, || by.gives_up()));
    }

    /// What the sender's thread is blocked on while it waits here.
    fn blocked(&self) -> BlockedOn {
        BlockedOn::Store(u32::try_from(self.store.id.0).expect("no configuration has two billion stores"))
    }
}

/// Who sends, as a store has it: a client in its room at the endpoint of this path.
fn client(path: &str, room: &Room, origin: &Origin) -> Arc<Source> {
    Arc::new(Source {
        endpoint: path.into(),
        room: Some(room.to_string().into()),
        session: origin.session.to_string().into(),
        address: origin.client_ip.map(|address| address.to_string().into()),
        identity: origin.identity.as_ref().map(|identity| identity.name.clone()),
    })
}

/// Who sends, as a store has it: the server of a link.
fn link(name: &str, origin: &Origin) -> Arc<Source> {
    let (endpoint, session) = (format!("link:{name}").into(), origin.session.to_string().into());
    Arc::new(Source { endpoint, room: None, session, address: None, identity: None })
}
