//! Starting and stopping: every long-lived thread, in order.

mod changes;
mod error;
mod prepare;
mod reload;
mod threads;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use log::{info, warn};
use rustix::event::{EventfdFlags, eventfd};

use crate::admin::Errands;
use crate::broadcaster::{self, Deliverers};
use crate::clock;
use crate::config::{ListenerSettings, Settings};
use crate::connection::poller::Poller;
use crate::dial::Resolver;
use crate::display::count;
use crate::errand::Errand;
use crate::flusher;
use crate::heartbeat;
use crate::listener::Bound;
use crate::log_kind::{ADMIN, LISTENERS};
use crate::reload::Reloaded;
use crate::shared::Shared;
use crate::shared::addresses::Door;
use crate::shared::drain::Draining;
use crate::shared::generation::Generation;
use crate::shared::rooms::{Ready, Rooms};
use crate::system::limits;
use crate::system::passed_sockets::PassedSocket;
use crate::system::thread::spawn_vital;
use crate::system::watchdog::{Progress, Watchdog};
pub use error::StartError;
use error::system;
use prepare::{Prepared, prepare};
use threads::{AdminThreads, Issuing, LinkThreads, Listening, NewThreads, Running, Serves, StoreThread};

/// How often a stop looks whether a link has sent what waits for it.
const LINK_SLICE: Duration = Duration::from_millis(5);

/// What links have for that at least, however long the clients took.
const LINK_PATIENCE: Duration = Duration::from_millis(250);

/// What stores have to store what waits for them at least.
const STORE_PATIENCE: Duration = Duration::from_secs(1);

/// How long the clients that outlived the drain have to notice that their connections were aborted.
const ABORT_PATIENCE: Duration = Duration::from_secs(1);

/// A running gateway, or the part of it that has started.
#[derive(Debug)]
pub struct Gateway {
    /// What its threads share.
    pub shared: Arc<Shared>,
    flusher: Option<JoinHandle<()>>,
    flusher_ended: Arc<AtomicBool>,
    deliverers: Vec<JoinHandle<()>>,
    broadcaster: Option<JoinHandle<()>>,
    heartbeat: Option<JoinHandle<()>>,
    /// Dropped, it ends the heartbeat.
    heartbeat_stop: Option<Sender<()>>,
    issuers: Vec<Issuing>,
    stores: Vec<StoreThread>,
    links: Vec<LinkThreads>,
    listeners: Vec<Listening>,
    /// The threads of listeners that a reload has closed; they end by themselves.
    closed: Vec<JoinHandle<()>>,
    admin: Option<AdminThreads>,
    /// What others ask for. One of each can wait while another one is done; whoever asks for a third is told so.
    errands: Errands,
    reloads: Receiver<Errand<Reloaded>>,
    drains: Receiver<Errand<Draining>>,
    resolver: Arc<Resolver>,
    watchdog: Option<Arc<Watchdog>>,
}

impl Gateway {
    /// Binds every listener, or takes the sockets that were `passed` for them, then starts every thread, those that others
    /// rely on first. The accept loops feed the watchdog, if there is one.
    pub fn start(
        mut settings: Settings,
        passed: Vec<PassedSocket>,
        watchdog: Option<&Arc<Watchdog>>,
    ) -> Result<Gateway, StartError> {
        fit_into_the_system(&mut settings);
        let resolver = Resolver::keeping(settings.gateway.resolve_cache);
        let prepared = prepare(settings, &Generation::nothing(), &resolver, passed);
        let Prepared { settings, parts, .. } = prepared.map_err(|mut errors| errors.swap_remove(0))?;

        let (rooms, ready) = Rooms::new();
        let poller = Arc::new(Poller::new().map_err(system("create an epoll"))?);
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(io::Error::from);
        let stop = Arc::new(stop.map_err(system("create an eventfd"))?);
        let shared = Arc::new(Shared::new(settings, parts, rooms, poller, stop));
        let (reloads, drains) = (crossbeam_channel::bounded(1), crossbeam_channel::bounded(1));
        let mut gateway = Gateway {
            shared,
            flusher: None,
            flusher_ended: Arc::default(),
            deliverers: Vec::new(),
            broadcaster: None,
            heartbeat: None,
            heartbeat_stop: None,
            issuers: Vec::new(),
            stores: Vec::new(),
            links: Vec::new(),
            listeners: Vec::new(),
            closed: Vec::new(),
            admin: None,
            errands: Errands { reloads: reloads.0, drains: drains.0 },
            reloads: reloads.1,
            drains: drains.1,
            resolver,
            watchdog: watchdog.map(Arc::clone),
        };
        match gateway.start_threads(ready) {
            Ok(()) => Ok(gateway),
            Err(error) => {
                gateway.stop();
                Err(error)
            }
        }
    }

    fn start_threads(&mut self, ready: Receiver<Ready>) -> Result<(), StartError> {
        let (watchdog, clock) = (self.watchdog.clone(), Arc::clone(&self.shared.clock));
        let watched = || watchdog.as_ref().map(|watchdog| watchdog.watch(clock.now())).unwrap_or_default();
        let flusher = start_flusher(&self.shared, &self.flusher_ended, watched());
        self.flusher = Some(flusher.map_err(system("start the flusher"))?);
        let deliverers = self.start_deliverers(watched).map_err(system("start a deliverer"))?;
        let broadcaster = start_broadcaster(&self.shared, ready, deliverers, watched());
        self.broadcaster = Some(broadcaster.map_err(system("start the broadcaster"))?);
        self.start_heartbeat().map_err(system("start the heartbeat"))?;
        let generation = self.shared.generation();
        let threads = self
            .start_new(&generation)
            .map_err(system("start a thread of an issuer, a store, a link or a listener"))?;
        // They all run; a client or a health check that comes first must not be told that they do not.
        self.shared.set_started();
        self.begin(threads, &generation);
        Ok(())
    }

    /// The reloads that are asked for over the admin listener; each is to be done and answered.
    pub fn asked_reloads(&self) -> Receiver<Errand<Reloaded>> {
        self.reloads.clone()
    }

    /// The same of drains.
    pub fn asked_drains(&self) -> Receiver<Errand<Draining>> {
        self.drains.clone()
    }

    /// Which threads of issuers, stores, links and listeners there are.
    fn running(&self) -> Running<'_> {
        Running {
            issuers: &self.issuers,
            stores: &self.stores,
            links: &self.links,
            listeners: &self.listeners,
            admin: self.admin.as_ref(),
        }
    }

    /// Starts the threads of what this generation has and does not run yet.
    fn start_new(&self, generation: &Generation) -> io::Result<NewThreads> {
        NewThreads::start(&self.shared, generation, &self.running(), self.watchdog.as_ref(), &self.errands)
    }

    /// Has new threads begin with this generation, which is in force.
    fn begin(&mut self, mut threads: NewThreads, generation: &Generation) {
        threads.begin();
        self.issuers.append(&mut threads.issuers);
        self.stores.append(&mut threads.stores);
        self.links.append(&mut threads.links);
        self.admin = threads.admin.take().or(self.admin.take());
        threads.listeners.iter().for_each(|listening| log_begin(generation, &listening.bound));
        self.listeners.append(&mut threads.listeners);
    }

    /// `None` if there are none, and the broadcaster delivers itself.
    fn start_deliverers(&mut self, watched: impl Fn() -> Arc<Progress>) -> io::Result<Option<Deliverers>> {
        let count = self.shared.generation().gateway.deliverers;
        if count == 0 {
            return Ok(None);
        }
        let (deliverers, slices) = broadcaster::deliverers(count);
        for number in 0..count {
            let (clock, slices, progress) = (Arc::clone(&self.shared.clock), slices.clone(), watched());
            let body = move || broadcaster::deliver(&clock, &slices, &progress);
            self.deliverers.push(spawn_vital(&format!("deliver {number}"), body)?);
        }
        Ok(Some(deliverers))
    }

    fn start_heartbeat(&mut self) -> io::Result<()> {
        let (stop, stopped) = crossbeam_channel::bounded(0);
        let shared = Arc::clone(&self.shared);
        self.heartbeat = Some(spawn_vital("heartbeat", move || heartbeat::run(&shared, &stopped))?);
        self.heartbeat_stop = Some(stop);
        Ok(())
    }

    /// Stops in the reverse order: no new clients, close the old with 1001 behind what is queued for
    /// them, and after the drain timeout abort the rest; then the threads, those that others rely on last.
    pub fn stop(mut self) {
        let drain = self.shared.generation().gateway.drain_timeout;
        let deadline = Instant::now() + drain;
        self.shared.begin_stopping();
        self.stop_listeners(Serves::Clients);
        self.flush_stores(drain);
        self.stop_clients(drain, deadline);
        self.stop_links(deadline);
        self.stop_stores(deadline);
        // It has told of the stop until here.
        self.admin.iter().for_each(AdminThreads::begin_end);
        self.stop_listeners(Serves::Operators);
        join(self.closed.drain(..));
        self.admin.take().into_iter().for_each(AdminThreads::stop);
        self.issuers.iter().for_each(|issuing| issuing.keys.end());
        join(self.issuers.drain(..).map(|issuing| issuing.thread));
        drop(self.heartbeat_stop.take());
        join(self.heartbeat.take());
        self.shared.rooms.end();
        join(self.broadcaster.take());
        join(self.deliverers.drain(..));
        self.flusher_ended.store(true, Ordering::Release);
        self.shared.poller.wake();
        join(self.flusher.take());
        if !self.shared.refused.is_none() {
            info!("connections refused because of limits: {}", self.shared.refused);
        }
        info!("stopped");
    }

    fn stop_listeners(&mut self, of: Serves) {
        let those = self.listeners.extract_if(.., |listening| listening.serves == of).collect::<Vec<_>>();
        those.iter().for_each(|listening| listening.bound.close());
        join(those.into_iter().map(|listening| listening.thread));
    }

    /// Stores what clients have sent before they are told of the stop: for at most half of the time that they have.
    fn flush_stores(&self, drain: Duration) {
        let deadline = Instant::now() + drain / 2;
        self.stores.iter().for_each(|threads| threads.store.live.flush(deadline));
    }

    /// Lets the stores store what waits for them, at most until the deadline, and closes them. Nobody sends any more.
    fn stop_stores(&mut self, deadline: Instant) {
        let deadline = deadline.max(Instant::now() + STORE_PATIENCE);
        self.stores.iter().for_each(|threads| threads.store.live.queue.end(deadline));
        join(self.stores.drain(..).map(|threads| threads.thread));
    }

    fn stop_clients(&self, drain: Duration, deadline: Instant) {
        let (registry, posts) = (&self.shared.registry, &self.shared.posts);
        info!("stopping: closing {}, for at most {drain:?}", count(registry.len(), "client"));
        self.shared.rooms.stop(self.shared.clock.now().saturating_add(clock::ticks(drain)));
        let left = registry.wait_empty(deadline);
        if left > 0 {
            warn!("stopping: {} did not close in time: their connections are cut", count(left, "client"));
            registry.all().iter().for_each(|client| client.outbox().abort("the server has stopped"));
            registry.wait_empty(Instant::now() + ABORT_PATIENCE);
        }
        // They wait for no room any more, and what they have taken is still to go out over links.
        posts.wait_none(deadline.max(Instant::now() + ABORT_PATIENCE));
    }

    /// Lets the links send what waits for them, at most until the deadline, and ends them. Where clients have used up
    /// the time, what can be sent at once still is.
    fn stop_links(&mut self, deadline: Instant) {
        let deadline = deadline.max(Instant::now() + LINK_PATIENCE);
        self.links.iter().for_each(|threads| threads.own.outlet.end());
        for LinkThreads { own, sender, .. } in &self.links {
            while !sender.is_finished() && Instant::now() < deadline {
                std::thread::sleep(LINK_SLICE);
            }
            own.link.say_goodbye(sender.is_finished());
        }
        // All have heard it by now: remotes that do not answer are waited for together.
        for LinkThreads { own, dialler, sender } in self.links.drain(..) {
            join(dialler.into_iter().chain([sender]));
            own.link.counters.log(&own.outlet);
        }
    }
}

/// Lowers the number of connections to what the system has room for, and says so.
fn fit_into_the_system(settings: &mut Settings) {
    let relayed = settings.most_relayed();
    limits::raise_descriptors(settings.gateway.max_connections, relayed);
    settings.gateway.max_connections = limits::within_mappings(settings.gateway.max_connections, relayed);
}

/// Says where a listener accepts from now on.
fn log_begin(generation: &Generation, bound: &Arc<Bound>) {
    let address = bound.bound_address();
    if let Some(door) = generation.door_at(bound) {
        let both = if door.settings.address.is_dual_stack() { " (IPv4 and IPv6)" } else { "" };
        info!(
            target: LISTENERS, listener = &*door.name;
            "listener \"{}\": accepting on {address}{both}{}", door.name, secured(door)
        );
        warn_if_open(generation, &door.settings, &address);
    }
    if let Some(door) = generation.admin_door_at(bound) {
        let open = if generation.admin.auth.is_empty() { ", without authentication" } else { "" };
        info!(target: ADMIN, "admin: answering on {address}{}{open}", secured(door));
    }
}

fn secured(door: &Door) -> &'static str {
    if door.tls.is_some() { " (TLS)" } else { "" }
}

/// Says which endpoints of a listener that other machines can reach let everybody in.
fn warn_if_open(generation: &Generation, listener: &ListenerSettings, bound: &str) {
    if listener.address.is_local() || listener.requires_certificates() {
        return;
    }
    let open: Vec<String> = generation
        .endpoints
        .values()
        .map(|endpoint| &endpoint.settings)
        .filter(|endpoint| endpoint.auth.is_empty() && endpoint.is_on(listener))
        .map(|endpoint| format!("'{}'", endpoint.path))
        .collect();
    if !open.is_empty() {
        warn!(
            target: LISTENERS, listener = listener.name;
            "listener \"{}\": {bound} can be reached from other machines, and nothing authenticates the clients of {}",
            listener.name, open.join(", ")
        );
    }
}

/// Waits for the end of threads. One that panicked has ended the process, or has said so.
fn join(threads: impl IntoIterator<Item = JoinHandle<()>>) {
    threads.into_iter().for_each(|thread| drop(thread.join()));
}

fn start_flusher(shared: &Arc<Shared>, ended: &Arc<AtomicBool>, progress: Arc<Progress>) -> io::Result<JoinHandle<()>> {
    let (shared, ended) = (Arc::clone(shared), Arc::clone(ended));
    spawn_vital("flusher", move || flusher::run(&shared, || ended.load(Ordering::Acquire), &progress))
}

fn start_broadcaster(
    shared: &Arc<Shared>,
    ready: Receiver<Ready>,
    deliverers: Option<Deliverers>,
    progress: Arc<Progress>,
) -> io::Result<JoinHandle<()>> {
    let shared = Arc::clone(shared);
    spawn_vital("broadcaster", move || broadcaster::run(&shared, &ready, deliverers.as_ref(), &progress))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;
    use crate::config::ListenAddress;

    #[test]
    fn a_client_that_has_left_keeps_no_descriptor_until_its_next_ping() {
        let mut settings = Settings::default();
        settings.listeners[0].address = ListenAddress::Tcp(([127, 0, 0, 1], 0).into());
        settings.admin.listener = None;
        let gateway = Gateway::start(settings, Vec::new(), None).unwrap();
        let address = gateway.listeners[0].bound.bound_address();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let request = "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        assert!(stream.read(&mut [0; 1024]).unwrap() > 0, "no answer");
        let outbox = Arc::downgrade(gateway.shared.registry.all()[0].outbox());
        // By now its next visit is far away.
        let deadline = Instant::now() + Duration::from_secs(10);
        let visited = gateway.shared.clock.now() + 2;
        while gateway.shared.clock.now() < visited && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(10));
        }
        drop(stream);
        let deadline = Instant::now() + Duration::from_secs(3);
        while outbox.strong_count() > 0 && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(10));
        }
        assert_eq!(outbox.strong_count(), 0, "its socket is still open");
        gateway.stop();
    }
}
