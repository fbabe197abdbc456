//! The feed of the page: the state once a second, and who has come and gone since, for all pages the same.
//!
//! It begins with the numbers of the last hour, which are kept here also while no page is open.

use std::sync::Arc;

use serde::Serialize;

use crate::admin::history::{Columns, History, Rates};
use crate::connection::frame::Frame;
use crate::connection::outbox::Outbox;
use crate::id::Id;
use crate::message::{Kind, Message};
use crate::shared::Shared;
use crate::shared::registry::Client;
use crate::sync::Mutex;

/// Clients that are told as new in one second. If more have come, pages are told to ask for the list.
const JOINED_MAX: usize = 500;

/// Clients that are told as gone in one second; with more it is the same.
const LEFT_MAX: usize = 5000;

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Feed(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    pages: Vec<Arc<Outbox>>,
    /// The clients that pages know of, sorted; meaningful while there is a page. To sort them and find that they are the
    /// same takes a tenth of the time that a set of 10,000 takes each second.
    known: Vec<Id>,
    history: History,
}

/// A page, until it is dropped.
#[derive(Debug)]
pub struct Member<'a> {
    feed: &'a Feed,
    id: Id,
}

/// The first thing that a page is told.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Hello<'a> {
    r#type: &'static str,
    /// Who it is; `null` where nobody is asked.
    name: Option<&'a str>,
    /// What it may do.
    rights: Vec<&'static str>,
    history: Columns,
}

/// How it stands.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct News<I, L> {
    /// Milliseconds since 1970.
    pub at: u64,
    pub info: I,
    /// The links.
    pub links: L,
    pub rates: Rates,
    /// Those of each endpoint, in the order of `info`.
    pub endpoint_rates: Vec<Rates>,
}

/// Who has come and gone.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Changes<C> {
    joined: Vec<C>,
    left: Vec<String>,
    /// There are more than that: a page had better ask for the list.
    is_incomplete: bool,
}

/// What a page is told each second.
#[derive(Serialize)]
struct Sample<I, L, C> {
    r#type: &'static str,
    #[serde(flatten)]
    news: News<I, L>,
    #[serde(flatten)]
    changes: Changes<C>,
}

impl Feed {
    /// Tells a page from now on, until what is returned is dropped. The first thing that it is told is queued.
    pub fn enter(
        &self,
        shared: &Shared,
        outbox: &Arc<Outbox>,
        name: Option<&str>,
        rights: Vec<&'static str>,
    ) -> Member<'_> {
        let mut state = self.0.lock();
        if state.pages.is_empty() {
            // From here on it is told of each that comes and goes. The list that it asks for is younger.
            state.known = sorted(shared.registry.ids(|_| true));
        }
        let hello = Hello { r#type: "hello", name, rights, history: state.history.columns() };
        outbox.enqueue(frame_of(&hello));
        state.pages.push(Arc::clone(outbox));
        Member { feed: self, id: outbox.id() }
    }

    /// Whether anybody is told.
    pub fn has_pages(&self) -> bool {
        !self.0.lock().pages.is_empty()
    }

    /// Keeps what held at a time, in seconds since 1970.
    pub fn keep(&self, at: u64, clients: usize, rates: Rates) {
        self.0.lock().history.add(at, clients, rates);
    }

    /// Tells all pages. `clients` are those that are here, and `describe` is what is told of one.
    pub fn tell<C: Serialize>(
        &self,
        news: News<impl Serialize, impl Serialize>,
        clients: &[Arc<Client>],
        describe: impl Fn(&Client) -> C,
    ) {
        let (pages, changes) = self.changes(clients, describe);
        let frame = frame_of(&Sample { r#type: "sample", news, changes });
        for page in pages {
            // One that does not read is closed by this, which is all that becomes of it.
            let _ = page.deliver(&frame);
        }
    }

    /// The pages, and who has come and gone since they were last told.
    fn changes<C>(&self, clients: &[Arc<Client>], describe: impl Fn(&Client) -> C) -> (Vec<Arc<Outbox>>, Changes<C>) {
        let present = sorted(clients.iter().map(|client| client.id()).collect());
        let (pages, known) = {
            let mut state = self.0.lock();
            (state.pages.clone(), std::mem::replace(&mut state.known, present.clone()))
        };
        if present == known {
            return (pages, Changes { joined: Vec::new(), left: Vec::new(), is_incomplete: false });
        }
        let is_new = |client: &&Arc<Client>| known.binary_search(&client.id()).is_err();
        let joined: Vec<_> = clients.iter().filter(is_new).collect();
        let left: Vec<_> = known.iter().filter(|id| present.binary_search(id).is_err()).collect();
        let changes = Changes {
            is_incomplete: joined.len() > JOINED_MAX || left.len() > LEFT_MAX,
            joined: joined.into_iter().take(JOINED_MAX).map(|client| describe(client)).collect(),
            left: left.into_iter().take(LEFT_MAX).map(|id| id.to_string()).collect(),
        };
        (pages, changes)
    }
}

impl Drop for Member<'_> {
    fn drop(&mut self) {
        let mut state = self.feed.0.lock();
        state.pages.retain(|outbox| outbox.id() != self.id);
        if state.pages.is_empty() {
            state.known = Vec::new();
        }
    }
}

fn sorted(mut ids: Vec<Id>) -> Vec<Id> {
    ids.sort_unstable();
    ids
}

fn frame_of(value: &impl Serialize) -> Frame {
    let text = serde_json::to_vec(value).expect("its keys are texts and its numbers are finite");
    Frame::message(&Message { kind: Kind::Text, data: text.into() })
}
