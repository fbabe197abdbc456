//! Starting and stopping: every long-lived thread, in order.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use log::{error, info, warn};
use rustix::event::{EventfdFlags, eventfd};

use crate::accept;
use crate::admin::{self, AdminThread};
use crate::authenticators::{AuthError, Auths};
use crate::broadcaster::{self, Deliverers};
use crate::clock;
use crate::config::{EndpointSettings, LinkId, LinkSettings, ListenerSettings, Settings};
use crate::connection::poller::Poller;
use crate::dial::{Dialer, Resolver, SetupError};
use crate::display::count;
use crate::flusher;
use crate::heartbeat;
use crate::jwks;
use crate::link;
use crate::listener::{ListenError, Listener, listeners};
use crate::log_kind::{CONFIG, LISTENERS, RELAYS};
use crate::reload::{ReloadRequest, Reloaded, Reloads};
use crate::shared::Shared;
use crate::shared::generation::Generation;
use crate::shared::rooms::{Ready, Rooms};
use crate::system::limits;
use crate::system::passed_sockets::PassedSocket;
use crate::system::thread::spawn_vital;
use crate::system::watchdog::{Progress, Watchdog};

/// How often a stop looks whether a link has sent what waits for it.
const LINK_SLICE: Duration = Duration::from_millis(5);

/// What links have for that at least, however long the clients took.
const LINK_PATIENCE: Duration = Duration::from_millis(250);

/// What a reload does not do, for the log.
const RESTART: &str = "the configuration itself is read only at a start";

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
    jwks: Vec<JoinHandle<()>>,
    links: Vec<LinkThreads>,
    listeners: Vec<Listening>,
    admin: Option<AdminThread>,
    reloads: Reloads,
}

#[derive(Debug)]
struct LinkThreads {
    id: LinkId,
    dialler: JoinHandle<()>,
    sender: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Listening {
    listener: Arc<Listener>,
    thread: JoinHandle<()>,
}

/// Why a gateway did not start. Nothing of it is left running.
#[derive(Debug)]
pub enum StartError {
    /// There is no listener for an address.
    Listen(ListenError),
    /// A file of credentials is not as it was when the configuration was read.
    Auth(AuthError),
    /// A link or a relay cannot dial with its settings.
    Dial {
        /// Which.
        who: String,
        cause: SetupError,
    },
    /// The system refused a thread or another resource.
    System {
        /// What was wanted.
        what: &'static str,
        cause: io::Error,
    },
}

/// What the system says when it refuses this.
fn system(what: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |cause| StartError::System { what, cause }
}

impl Gateway {
    /// Binds every listener, or takes the sockets that were `passed` for them, then starts every thread, those that others
    /// rely on first. The accept loops feed the watchdog, if there is one.
    pub fn start(
        mut settings: Settings,
        passed: Vec<PassedSocket>,
        watchdog: Option<&Arc<Watchdog>>,
    ) -> Result<Gateway, StartError> {
        let relayed = settings.most_relayed();
        limits::raise_descriptors(settings.gateway.max_connections, relayed);
        settings.gateway.max_connections = limits::within_mappings(settings.gateway.max_connections, relayed);
        let resolver = Resolver::keeping(settings.gateway.resolve_cache);
        let relays = settings.endpoints.iter().map(|endpoint| relay_dialer(endpoint, &resolver));
        let relays = relays.collect::<Result<Vec<_>, _>>()?;
        let links = settings.links.iter().map(|link| link_dialer(link, &resolver));
        let links = links.collect::<Result<Vec<_>, _>>()?;
        let auths = Auths::new(&settings.auths, &resolver).map_err(StartError::Auth)?;
        let listeners = listeners(&settings.listeners, passed).map_err(StartError::Listen)?;
        let admin = admin::bind(&settings).map_err(StartError::Listen)?;

        let (rooms, ready) = Rooms::new();
        let poller = Arc::new(Poller::new().map_err(system("create an epoll"))?);
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(io::Error::from);
        let stop = Arc::new(stop.map_err(system("create an eventfd"))?);
        let shared = Arc::new(Shared::new(settings, auths, relays, rooms, poller, stop));
        let mut gateway = Gateway::of(shared);
        let auths = gateway.shared.generation().auths.reloadable().collect::<Vec<_>>();
        auths.into_iter().for_each(|auth| gateway.reloads.add(auth));
        match gateway.start_threads(ready, links, listeners, admin, watchdog) {
            Ok(()) => Ok(gateway),
            Err(error) => {
                gateway.stop();
                Err(error)
            }
        }
    }

    /// A gateway none of whose threads runs.
    fn of(shared: Arc<Shared>) -> Gateway {
        Gateway {
            shared,
            flusher: None,
            flusher_ended: Arc::default(),
            deliverers: Vec::new(),
            broadcaster: None,
            heartbeat: None,
            heartbeat_stop: None,
            jwks: Vec::new(),
            links: Vec::new(),
            listeners: Vec::new(),
            admin: None,
            reloads: Reloads::default(),
        }
    }

    fn start_threads(
        &mut self,
        ready: Receiver<Ready>,
        links: Vec<Dialer>,
        listeners: Vec<Listener>,
        admin: Option<Listener>,
        watchdog: Option<&Arc<Watchdog>>,
    ) -> Result<(), StartError> {
        let clock = Arc::clone(&self.shared.clock);
        let watched = || watchdog.map(|watchdog| watchdog.watch(clock.now())).unwrap_or_default();
        let flusher = start_flusher(&self.shared, &self.flusher_ended, watched());
        self.flusher = Some(flusher.map_err(system("start the flusher"))?);
        let deliverers = self.start_deliverers(watched).map_err(system("start a deliverer"))?;
        let broadcaster = start_broadcaster(&self.shared, ready, deliverers, watched());
        self.broadcaster = Some(broadcaster.map_err(system("start the broadcaster"))?);
        self.start_heartbeat().map_err(system("start the heartbeat"))?;
        if let Some(listener) = admin {
            self.start_admin(listener).map_err(system("start the admin listener"))?;
        }
        // Before the first client: its token may need the keys.
        self.start_jwks().map_err(system("start a thread for the keys of an issuer"))?;
        for (index, dialer) in links.into_iter().enumerate() {
            self.start_link(LinkId(index), dialer).map_err(system("start a link"))?;
        }
        let generation = self.shared.generation();
        let lists = generation.endpoints.values().flat_map(|endpoint| endpoint.addresses.of_files());
        lists.for_each(|list| self.reloads.add(list as _));
        for endpoint in generation.endpoints.values() {
            let owner = format!("relay of {:?}", endpoint.settings.path.to_string());
            let files = endpoint.dialer.as_ref().and_then(|dialer| dialer.reloadable(owner));
            files.into_iter().for_each(|files| self.reloads.add(files));
        }
        for listener in listeners {
            self.start_listener(listener, watchdog).map_err(system("start an accept loop"))?;
        }
        self.shared.set_started();
        Ok(())
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

    fn start_jwks(&mut self) -> io::Result<()> {
        for (name, keys) in self.shared.generation().auths.issuers() {
            let (shared, owned, keys) = (Arc::clone(&self.shared), name.to_owned(), Arc::clone(keys));
            self.jwks.push(spawn_vital(&format!("jwks {name}"), move || jwks::run(&shared, &owned, &keys))?);
        }
        Ok(())
    }

    fn start_link(&mut self, id: LinkId, dialer: Dialer) -> io::Result<()> {
        let (link, _) = self.shared.link(id);
        let name = &link.name;
        let files = dialer.reloadable(format!("link {name:?}"));
        files.into_iter().for_each(|files| self.reloads.add(files));
        let (of_dialler, of_sender) = (Arc::clone(&self.shared), Arc::clone(&self.shared));
        let dialler = spawn_vital(&format!("link {name}"), move || link::run(&of_dialler, id, &dialer))?;
        let sender = spawn_vital(&format!("send {name}"), move || link::send(&of_sender, id));
        let (sender, failed) = match sender {
            Ok(sender) => (Some(sender), Ok(())),
            Err(error) => (None, Err(error)),
        };
        self.links.push(LinkThreads { id, dialler, sender });
        failed
    }

    fn start_listener(&mut self, listener: Listener, watchdog: Option<&Arc<Watchdog>>) -> io::Result<()> {
        let (bound, listener) = (listener.bound_address(), Arc::new(listener));
        let (accepting, shared) = (Arc::clone(&listener), Arc::clone(&self.shared));
        let handle = watchdog.map(Watchdog::handle);
        let thread = spawn_vital(&format!("accept {bound}"), move || accept::run(&shared, &accepting, handle))?;
        let (name, secured) = (&listener.settings.name, if listener.tls.is_some() { " (TLS)" } else { "" });
        let both = if listener.settings.address.is_dual_stack() { " (IPv4 and IPv6)" } else { "" };
        info!(target: LISTENERS, listener = name; "listener \"{name}\": accepting on {bound}{both}{secured}");
        self.shared.listening.begin(&listener);
        warn_if_open(&self.shared.generation(), &listener.settings, &bound);
        if let Some(tls) = &listener.tls {
            self.reloads.add(Arc::clone(tls) as _);
        }
        self.shared.generation().door(name).of_files().for_each(|list| self.reloads.add(list as _));
        self.listeners.push(Listening { listener, thread });
        Ok(())
    }

    fn start_admin(&mut self, listener: Listener) -> io::Result<()> {
        let admin = AdminThread::start(&self.shared, listener, self.reloads.asking())?;
        admin.listener().tls.iter().for_each(|tls| self.reloads.add(Arc::clone(tls) as _));
        self.admin = Some(admin);
        Ok(())
    }

    /// Reads the files that the settings name again, all or none, and logs in one line what came of it. The settings
    /// themselves stay as they are.
    pub fn reload(&self) -> Reloaded {
        let read = self.reloads.run();
        self.shared.counters.reloads.count(read.is_ok());
        let withdrawn = match &read {
            Ok(_) => self.shared.registry.all().iter().filter(|client| self.shared.close_if_withdrawn(client)).count(),
            Err(_) => 0,
        };
        if withdrawn > 0 {
            info!(target: CONFIG, "reload: closing {} whose access was withdrawn", count(withdrawn, "client"));
        }
        match &read {
            Ok(read) if read.is_empty() => info!(target: CONFIG, "reload: there is no file to read again; {RESTART}"),
            Ok(read) => info!(target: CONFIG, "reload: read again {}; {RESTART}", read.join("; ")),
            Err(wrong) => error!(target: CONFIG, "reload: failed, and nothing has changed: {}", wrong.join("; ")),
        }
        read
    }

    /// The reloads that are asked for over the admin listener; each is to be done and answered.
    pub fn asked_reloads(&self) -> &Receiver<ReloadRequest> {
        self.reloads.asked()
    }

    /// Stops in the reverse order: no new clients, close the old with 1001 behind what is queued for
    /// them, and after the drain timeout abort the rest; then the threads, those that others rely on last.
    pub fn stop(mut self) {
        let drain = self.shared.generation().gateway.drain_timeout;
        let deadline = Instant::now() + drain;
        self.shared.begin_stopping();
        self.stop_listeners();
        self.stop_clients(drain, deadline);
        self.stop_links(deadline);
        // It has told of the stop until here.
        self.admin.take().into_iter().for_each(AdminThread::stop);
        self.shared.generation().auths.issuers().for_each(|(_, keys)| keys.end());
        join(self.jwks.drain(..));
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

    fn stop_listeners(&mut self) {
        self.listeners.iter().for_each(|listening| listening.listener.close());
        join(self.listeners.drain(..).map(|listening| listening.thread));
    }

    fn stop_clients(&self, drain: Duration, deadline: Instant) {
        let registry = &self.shared.registry;
        info!("stopping: closing {}, for at most {drain:?}", count(registry.len(), "client"));
        self.shared.rooms.stop(self.shared.clock.now().saturating_add(clock::ticks(drain)));
        let left = registry.wait_empty(deadline);
        if left > 0 {
            warn!("stopping: {} did not close in time: their connections are cut", count(left, "client"));
            registry.all().iter().for_each(|client| client.outbox().abort("the server has stopped"));
            registry.wait_empty(Instant::now() + ABORT_PATIENCE);
        }
    }

    /// Lets the links send what waits for them, at most until the deadline, and ends them. Where clients have used up
    /// the time, what can be sent at once still is.
    fn stop_links(&mut self, deadline: Instant) {
        let deadline = deadline.max(Instant::now() + LINK_PATIENCE);
        let generation = self.shared.generation();
        let Generation { links, outlets, .. } = &*generation;
        links.values().for_each(|link| outlets[link.outlet].end());
        for LinkThreads { id, sender, .. } in &self.links {
            let is_sent = || sender.as_ref().is_some_and(JoinHandle::is_finished);
            while !is_sent() && Instant::now() < deadline {
                std::thread::sleep(LINK_SLICE);
            }
            links[*id].say_goodbye(is_sent());
        }
        // All have heard it by now: remotes that do not answer are waited for together.
        for LinkThreads { id, dialler, sender } in self.links.drain(..) {
            join([dialler]);
            join(sender);
            links[id].counters.log(&outlets[links[id].outlet]);
        }
    }
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

fn link_dialer(link: &LinkSettings, resolver: &Arc<Resolver>) -> Result<Dialer, StartError> {
    let dialer = Dialer::new(&link.dial, Arc::clone(resolver));
    dialer
        .map(|dialer| dialer.shown_as(&link.shown))
        .map_err(|cause| StartError::Dial { who: format!("link '{}'", link.name), cause })
}

fn relay_dialer(endpoint: &EndpointSettings, resolver: &Arc<Resolver>) -> Result<Option<Dialer>, StartError> {
    let Some(relay) = &endpoint.relay else { return Ok(None) };
    let failed = |cause| StartError::Dial { who: format!("the relay of '{}'", endpoint.path), cause };
    let dialer = Dialer::new(&relay.dial, Arc::clone(resolver)).map_err(failed)?;
    if let Some(host) = dialer.unverified() {
        warn!(
            target: RELAYS, endpoint = endpoint.path.as_str();
            "relay of '{}': the certificate of '{host}' is not checked (`verify = false`): anyone on the network \
             path can read and change the data", endpoint.path
        );
    }
    Ok(Some(dialer.shown_as(&relay.shown)))
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Listen(error) => error.fmt(f),
            StartError::Auth(error) => error.fmt(f),
            StartError::Dial { who, cause } => write!(f, "failed to set up {who}: {cause}"),
            StartError::System { what, cause } => write!(f, "failed to {what}: {cause}"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StartError::Listen(error) => error.source(),
            StartError::Auth(error) => error.source(),
            StartError::Dial { cause, .. } => Some(cause),
            StartError::System { cause, .. } => Some(cause),
        }
    }
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
        let address = gateway.listeners[0].listener.bound_address();
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
