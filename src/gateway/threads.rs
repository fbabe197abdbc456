//! The threads that come and go with stores, links, listeners and issuers of keys. New ones are started before a generation is put in
//! force, so that nothing is half done where the system has no further thread, and do nothing until then.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};

use crate::accept;
use crate::admin::{self, Admin, Errands};
use crate::authenticators::issuer_keys::IssuerKeys;
use crate::config::{LinkId, StoreId};
use crate::jwks;
use crate::link::{self, Own};
use crate::listener::Bound;
use crate::shared::Shared;
use crate::shared::generation::Generation;
use crate::shared::store::Store;
use crate::store_thread;
use crate::system::thread::spawn_vital;
use crate::system::watchdog::Watchdog;

/// The threads of a link.
#[derive(Debug)]
pub(super) struct LinkThreads {
    pub(super) own: Own,
    /// One that posts has none.
    pub(super) dialler: Option<JoinHandle<()>>,
    pub(super) sender: JoinHandle<()>,
}

/// The thread of a store.
#[derive(Debug)]
pub(super) struct StoreThread {
    pub(super) store: Arc<Store>,
    pub(super) thread: JoinHandle<()>,
}

/// The thread of a socket that was bound.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) bound: Arc<Bound>,
    pub(super) thread: JoinHandle<()>,
    pub(super) serves: Serves,
}

/// Whom a listener serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Serves {
    Clients,
    /// It is the admin listener.
    Operators,
}

/// What the admin listener tells, wherever it listens, and the thread that looks at it.
#[derive(Debug)]
pub(super) struct AdminThreads {
    admin: Arc<Admin>,
    sampler: JoinHandle<()>,
    /// Disconnected, it ends the sampler.
    sampler_stop: Sender<()>,
}

/// The thread of an issuer.
#[derive(Debug)]
pub(super) struct Issuing {
    pub(super) keys: Arc<IssuerKeys>,
    pub(super) thread: JoinHandle<()>,
}

/// Threads that wait to begin. Dropped, they end.
#[derive(Debug)]
pub(super) struct NewThreads {
    pub(super) issuers: Vec<Issuing>,
    pub(super) stores: Vec<StoreThread>,
    pub(super) links: Vec<LinkThreads>,
    pub(super) listeners: Vec<Listening>,
    /// `None` if they run already, or there is no admin listener.
    pub(super) admin: Option<AdminThreads>,
    gate: Gate,
}

impl NewThreads {
    /// Those of what this generation has and what runs lacks.
    pub(super) fn start(
        shared: &Arc<Shared>,
        generation: &Generation,
        before: &Running<'_>,
        watchdog: Option<&Arc<Watchdog>>,
        errands: &Errands,
    ) -> io::Result<NewThreads> {
        let (issuers, stores, links, listeners) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut new = NewThreads { issuers, stores, links, listeners, admin: None, gate: Gate::closed() };
        for (name, keys) in generation.auths.issuers().filter(|(_, keys)| !before.has_issuer(keys)) {
            let (shared, owned, of_thread) = (Arc::clone(shared), name.to_owned(), Arc::clone(keys));
            let body = new.gate.before(move || jwks::run(&shared, &owned, &of_thread));
            new.issuers.push(Issuing { keys: Arc::clone(keys), thread: spawn_vital(&format!("jwks {name}"), body)? });
        }
        for (_, store) in generation.stores.iter().filter(|(id, _)| !before.has_store(*id)) {
            let (shared, of_thread, number) = (Arc::clone(shared), Arc::clone(store), generation.number);
            let body = new.gate.before(move || store_thread::run(&shared, of_thread, number));
            let thread = spawn_vital(&format!("store {}", store.live.name), body)?;
            new.stores.push(StoreThread { store: Arc::clone(store), thread });
        }
        let links = generation.links.iter().filter(|(id, _)| !before.has_link(*id));
        for own in links.filter_map(|(id, _)| Own::of(generation, id)) {
            new.links.push(new.link(shared, own)?);
        }
        let bound = generation.doors.iter().filter_map(|door| door.socket.as_ref());
        for bound in bound.filter(|bound| !before.has_socket(bound)) {
            let (shared, of_thread, handle) = (Arc::clone(shared), Arc::clone(bound), watchdog.map(Watchdog::handle));
            let body = new.gate.before(move || accept::run(&shared, &of_thread, handle));
            let thread = spawn_vital(&format!("accept {}", bound.bound_address()), body)?;
            new.listeners.push(Listening { bound: Arc::clone(bound), thread, serves: Serves::Clients });
        }
        let of_admin = generation.admin_door.as_ref().and_then(|door| door.socket.as_ref());
        if let Some(bound) = of_admin.filter(|bound| !before.has_socket(bound)) {
            let admin = match before.admin {
                Some(running) => Arc::clone(&running.admin),
                None => Arc::clone(&new.admin.insert(AdminThreads::start(shared, errands, &new.gate)?).admin),
            };
            let of_thread = Arc::clone(bound);
            let body = new.gate.before(move || admin::run(&admin, &of_thread));
            let thread = spawn_vital(&format!("admin {}", bound.bound_address()), body)?;
            new.listeners.push(Listening { bound: Arc::clone(bound), thread, serves: Serves::Operators });
        }
        Ok(new)
    }

    fn link(&self, shared: &Arc<Shared>, own: Own) -> io::Result<LinkThreads> {
        let (of_dialler, of_sender) = ((Arc::clone(shared), own.clone()), (Arc::clone(shared), own.clone()));
        let (name, posts) = (Arc::clone(&own.link.name), own.link.settings.http.is_some());
        let dial = self.gate.before(move || link::run(&of_dialler.0, of_dialler.1));
        let dialler = if posts { None } else { Some(spawn_vital(&format!("link {name}"), dial)?) };
        let send = self.gate.before(move || match posts {
            true => link::post::run(&of_sender.0, of_sender.1),
            false => link::send(&of_sender.0, of_sender.1),
        });
        let sender = spawn_vital(&format!("send {name}"), send)?;
        Ok(LinkThreads { own, dialler, sender })
    }

    /// Has them begin. They are left to the caller, in each row those of one kind.
    pub(super) fn begin(&mut self) {
        self.gate.open();
    }
}

impl AdminThreads {
    fn start(shared: &Arc<Shared>, errands: &Errands, gate: &Gate) -> io::Result<AdminThreads> {
        let admin = Admin::new(Arc::clone(shared), errands.clone());
        let (sampler_stop, stopped) = crossbeam_channel::bounded(0);
        let sampled = Arc::clone(&admin);
        let sampler = spawn_vital("sampler", gate.before(move || admin::sample(&sampled, &stopped)))?;
        Ok(AdminThreads { admin, sampler, sampler_stop })
    }

    /// Nothing that comes from now on is answered. The listener is to be closed behind it.
    pub(super) fn begin_end(&self) {
        self.admin.begin_end();
    }

    /// Ends it where the gateway goes on, and waits for nobody: whoever has asked for that gets the answer.
    pub(super) fn turn_off(self) {
        self.admin.begin_end();
        self.admin.end_waiting();
        self.end_sampler();
    }

    /// Ends it; answers that are on their way have a second.
    pub(super) fn stop(self) {
        self.admin.end();
        self.end_sampler();
    }

    fn end_sampler(self) {
        drop(self.sampler_stop);
        // One that panicked has ended the process.
        let _ = self.sampler.join();
    }
}

/// The threads that are there.
#[derive(Debug)]
pub(super) struct Running<'a> {
    pub(super) issuers: &'a [Issuing],
    pub(super) stores: &'a [StoreThread],
    pub(super) links: &'a [LinkThreads],
    pub(super) listeners: &'a [Listening],
    pub(super) admin: Option<&'a AdminThreads>,
}

impl Running<'_> {
    fn has_issuer(&self, keys: &Arc<IssuerKeys>) -> bool {
        self.issuers.iter().any(|issuing| Arc::ptr_eq(&issuing.keys, keys))
    }

    fn has_store(&self, id: StoreId) -> bool {
        self.stores.iter().any(|threads| threads.store.id == id)
    }

    fn has_link(&self, id: LinkId) -> bool {
        self.links.iter().any(|threads| threads.own.id == id)
    }

    fn has_socket(&self, bound: &Arc<Bound>) -> bool {
        self.listeners.iter().any(|listening| Arc::ptr_eq(&listening.bound, bound))
    }
}

/// What threads wait at before they begin.
#[derive(Debug)]
struct Gate {
    is_open: Arc<AtomicBool>,
    /// Dropped, it ends every wait.
    hold: Option<Sender<()>>,
    wait: Receiver<()>,
}

impl Gate {
    fn closed() -> Gate {
        let (hold, wait) = crossbeam_channel::bounded(0);
        Gate { is_open: Arc::default(), hold: Some(hold), wait }
    }

    /// Does `body` once it is open, and nothing if it is dropped before.
    fn before(&self, body: impl FnOnce() + Send + 'static) -> impl FnOnce() + Send + 'static {
        let (is_open, wait) = (Arc::clone(&self.is_open), self.wait.clone());
        move || {
            // An error: nothing is ever sent.
            let _ = wait.recv();
            if is_open.load(Ordering::Acquire) {
                body();
            }
        }
    }

    fn open(&mut self) {
        self.is_open.store(true, Ordering::Release);
        self.hold = None;
    }
}
