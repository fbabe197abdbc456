//! Starting and stopping: every long-lived thread, in order.

use std::fmt;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use log::{info, warn};
use openssl::ssl::SslContext;
use rustix::event::{EventfdFlags, eventfd};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, SockAddr, Type};

use crate::accept::{self, Listener};
use crate::broadcaster::{self, Shards};
use crate::clock;
use crate::config::{EndpointSettings, LinkId, LinkSettings, ListenAddress, ListenerSettings, Settings};
use crate::connection::poller::Poller;
use crate::connection::socket::SEND_BUFFER;
use crate::connection::tls;
use crate::dial::{Dialer, Resolver, SetupError};
use crate::flusher;
use crate::heartbeat;
use crate::link;
use crate::shared::Shared;
use crate::shared::link::Link;
use crate::shared::publisher::{self, Published};
use crate::system::thread::spawn_vital;
use crate::system::watchdog::Watchdog;

/// Connections that the kernel keeps for us until they are accepted.
const BACKLOG: i32 = 4096;

/// Descriptors besides those of clients: listeners, epoll, logs, and what the libraries open.
const SPARE_DESCRIPTORS: u64 = 64;

/// How often a stop looks whether a link has sent what waits for it.
const LINK_SLICE: Duration = Duration::from_millis(5);

/// What links have for that at least, however long the clients took.
const LINK_PATIENCE: Duration = Duration::from_millis(250);

/// How long the clients that outlived the drain have to notice that they were cut.
const CUT_PATIENCE: Duration = Duration::from_secs(1);

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    shared: Arc<Shared>,
    listeners: Vec<Listening>,
    links: Vec<LinkThreads>,
    heartbeat: JoinHandle<()>,
    broadcaster: JoinHandle<()>,
    deliverers: Vec<JoinHandle<()>>,
    flusher: JoinHandle<()>,
    flusher_ended: Arc<AtomicBool>,
    /// Dropped, it ends the heartbeat.
    heartbeat_stop: Sender<()>,
}

#[derive(Debug)]
struct LinkThreads {
    dialler: JoinHandle<()>,
    sender: JoinHandle<()>,
}

#[derive(Debug)]
struct Listening {
    name: Arc<str>,
    address: ListenAddress,
    socket: Arc<socket2::Socket>,
    thread: JoinHandle<()>,
}

/// Why a gateway did not start. Nothing of it is left running.
#[derive(Debug)]
pub enum StartError {
    /// A listener's address cannot be bound.
    Bind {
        /// The address as configured.
        address: String,
        /// What the system says.
        cause: io::Error,
    },
    /// A listener's certificate or key is not usable.
    Tls {
        /// The listener.
        listener: String,
        /// Which files, and what is wrong with them.
        cause: String,
    },
    /// A link or a relay cannot dial with its settings.
    Dial {
        /// Which.
        who: String,
        /// What is wrong.
        cause: SetupError,
    },
    /// The system refused a thread or another resource.
    System {
        /// What was wanted.
        what: &'static str,
        /// What the system says.
        cause: io::Error,
    },
}

impl Gateway {
    /// Binds every listener, then starts every thread, those that others rely on first. The accept loops
    /// keep the watchdog quiet, if there is one.
    pub fn start(mut settings: Settings, watchdog: Option<&Arc<Watchdog>>) -> Result<Gateway, StartError> {
        let system = |what| move |cause| StartError::System { what, cause };
        let relayed = most_relayed(&settings);
        raise_descriptor_limit(settings.gateway.max_connections, relayed);
        limit_to_mappings(&mut settings.gateway.max_connections, relayed);
        let contexts = settings.listeners.iter().map(load_tls).collect::<Result<Vec<_>, _>>()?;
        let resolver = Resolver::new();
        let relays = settings.endpoints.iter().map(|endpoint| relay_dialer(endpoint, &resolver));
        let relays = relays.collect::<Result<Vec<_>, _>>()?;
        let dialers = settings.links.iter().map(|link| link_dialer(link, &resolver));
        let dialers = dialers.collect::<Result<Vec<_>, _>>()?;
        let sockets = settings.listeners.iter().map(bind).collect::<Result<Vec<_>, _>>()?;

        let (publisher, inbox) = publisher::channel();
        let poller = Arc::new(Poller::new().map_err(system("create an epoll"))?);
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(io::Error::from);
        let stop = Arc::new(stop.map_err(system("create an eventfd"))?);
        let shared = Arc::new(Shared::new(settings, relays, publisher, poller, stop));

        let flusher_ended = Arc::new(AtomicBool::new(false));
        let flusher = {
            let (shared, ended) = (Arc::clone(&shared), Arc::clone(&flusher_ended));
            spawn_vital("flusher", move || flusher::run(&shared, || ended.load(Ordering::Acquire)))
                .map_err(system("start the flusher"))?
        };
        let mut deliverers = Vec::new();
        let mut shards = Vec::new();
        for number in 0..shared.settings.gateway.deliverers {
            let (tasks, inbox) = broadcaster::deliverer_channel();
            let name = format!("deliver {number}");
            deliverers
                .push(spawn_vital(&name, move || broadcaster::deliver(&inbox)).map_err(system("start a deliverer"))?);
            shards.push(tasks);
        }
        let limits: Vec<_> = shared.endpoints.iter().map(|endpoint| endpoint.cork).collect();
        let broadcaster = spawn_vital("broadcaster", move || broadcaster::run(&inbox, Shards::new(shards), &limits))
            .map_err(system("start the broadcaster"))?;
        let (heartbeat_stop, stop) = crossbeam_channel::bounded(0);
        let heartbeat = {
            let shared = Arc::clone(&shared);
            spawn_vital("heartbeat", move || heartbeat::run(&shared, &stop)).map_err(system("start the heartbeat"))?
        };
        let links = dialers
            .into_iter()
            .enumerate()
            .map(|(index, dialer)| link(&shared, LinkId(index), dialer))
            .collect::<io::Result<Vec<_>>>()
            .map_err(system("start a link"))?;
        let listeners = sockets
            .into_iter()
            .zip(contexts)
            .enumerate()
            .map(|(index, (socket, tls))| listen(&shared, index, socket, tls, watchdog))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Gateway {
            shared,
            listeners,
            links,
            heartbeat,
            broadcaster,
            deliverers,
            flusher,
            flusher_ended,
            heartbeat_stop,
        })
    }

    /// Where each listener accepts, by name: the configured address with the port that was bound.
    pub fn addresses(&self) -> impl Iterator<Item = (&str, String)> {
        self.listeners.iter().map(|listening| (&*listening.name, bound_address(&listening.address, &listening.socket)))
    }

    /// Stops in the reverse order: no new clients, close the old with 1001 behind what is queued for
    /// them, and after the drain timeout cut the rest; then the threads, those that others rely on last.
    pub fn stop(self) {
        let drain = self.shared.settings.gateway.drain_timeout;
        let deadline = Instant::now() + drain;
        self.shared.begin_stopping();
        for listening in &self.listeners {
            // Wakes the accept loop.
            let _ = listening.socket.shutdown(std::net::Shutdown::Both);
        }
        for Listening { address, thread, .. } in self.listeners {
            let _ = thread.join();
            if let ListenAddress::Unix(path) = address {
                let _ = std::fs::remove_file(path);
            }
        }
        let here = self.shared.registry.len();
        info!("stopping: closing {here} clients, at most {drain:?} long");
        self.shared.publisher.publish(Published::Stop { within: clock::ticks(drain) }, || Instant::now() >= deadline);
        let left = self.shared.registry.wait_empty(deadline);
        if left > 0 {
            warn!("stopping: {left} clients did not end in time and are cut");
            self.shared.registry.all().iter().for_each(|client| client.outbox().abort("the server has stopped"));
            self.shared.registry.wait_empty(Instant::now() + CUT_PATIENCE);
        }
        stop_links(&self.shared, self.links, deadline);
        drop(self.heartbeat_stop);
        let _ = self.heartbeat.join();
        self.shared.publisher.publish(Published::End, || false);
        let _ = self.broadcaster.join();
        for deliverer in self.deliverers {
            let _ = deliverer.join();
        }
        self.flusher_ended.store(true, Ordering::Release);
        self.shared.poller.wake();
        let _ = self.flusher.join();
        info!("stopped");
    }
}

/// Lets the links send what waits for them, at most until the deadline, and ends them. Where clients have used up the
/// time, what can be sent at once still is.
fn stop_links(shared: &Shared, threads: Vec<LinkThreads>, deadline: Instant) {
    let deadline = deadline.max(Instant::now() + LINK_PATIENCE);
    shared.links.iter().for_each(Link::begin_stopping);
    for (link, LinkThreads { sender, .. }) in shared.links.iter().zip(&threads) {
        while !sender.is_finished() && Instant::now() < deadline {
            std::thread::sleep(LINK_SLICE);
        }
        link.say_goodbye(sender.is_finished());
    }
    // All have heard it by now: remotes that do not answer are waited for together.
    for LinkThreads { dialler, sender } in threads {
        let _ = dialler.join();
        let _ = sender.join();
    }
}

/// Starts the two threads of a link.
fn link(shared: &Arc<Shared>, id: LinkId, dialer: Dialer) -> io::Result<LinkThreads> {
    let name = &shared.links[id].name;
    let sender = {
        let shared = Arc::clone(shared);
        spawn_vital(&format!("send {name}"), move || link::send(&shared, id))?
    };
    let dialler = {
        let shared = Arc::clone(shared);
        spawn_vital(&format!("link {name}"), move || link::run(&shared, id, &dialer))?
    };
    Ok(LinkThreads { dialler, sender })
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
            "relay of '{}': the certificate of '{host}' is not checked (`verify = false`): whoever is on the way can \
             read and change what is sent",
            endpoint.path
        );
    }
    Ok(Some(dialer.shown_as(&relay.shown)))
}

fn listen(
    shared: &Arc<Shared>,
    index: usize,
    socket: socket2::Socket,
    tls: Option<SslContext>,
    watchdog: Option<&Arc<Watchdog>>,
) -> Result<Listening, StartError> {
    let ListenerSettings { name, address, .. } = &shared.settings.listeners[index];
    let (name, address, socket) = (Arc::<str>::from(name.as_str()), address.clone(), Arc::new(socket));
    let bound = bound_address(&address, &socket);
    let secured = if tls.is_some() { " (TLS)" } else { "" };
    let listener = Listener { name: Arc::clone(&name), socket: Arc::clone(&socket), tls };
    let thread = {
        let (shared, handle) = (Arc::clone(shared), watchdog.map(Watchdog::handle));
        spawn_vital(&format!("accept {bound}"), move || accept::run(&shared, &listener, handle))
            .map_err(|cause| StartError::System { what: "start an accept loop", cause })?
    };
    info!("listener \"{name}\": accepting on {bound}{secured}");
    if !address.is_local() {
        warn!("listener \"{name}\": {bound} can be reached from other machines, and nothing authenticates the clients");
    }
    Ok(Listening { name, address, socket, thread })
}

fn load_tls(listener: &ListenerSettings) -> Result<Option<SslContext>, StartError> {
    let Some(files) = &listener.tls else { return Ok(None) };
    let (certificate, private_key) = (&files.certificate, &files.private_key);
    tls::server_context(certificate, private_key).map(Some).map_err(|error| StartError::Tls {
        listener: listener.name.clone(),
        cause: format!("certificate '{}', private key '{}': {error}", certificate.display(), private_key.display()),
    })
}

fn bind(listener: &ListenerSettings) -> Result<socket2::Socket, StartError> {
    let address = &listener.address;
    bind_socket(address).map_err(|cause| StartError::Bind { address: address.to_string(), cause })
}

fn bind_socket(address: &ListenAddress) -> io::Result<socket2::Socket> {
    let (domain, sockaddr) = match address {
        ListenAddress::Tcp(address) => (Domain::for_address(*address), SockAddr::from(*address)),
        ListenAddress::Unix(path) => {
            remove_stale_socket(path);
            (Domain::UNIX, SockAddr::unix(path)?)
        }
    };
    let socket = socket2::Socket::new(domain, Type::STREAM, None)?;
    // What is set here, accepted sockets inherit.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    if let ListenAddress::Tcp(_) = address {
        socket.set_reuse_address(true)?;
        socket.set_tcp_nodelay(true)?;
    }
    socket.bind(&sockaddr)?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Removes the socket file of a process that is gone. One that still answers is left to make the bind fail.
fn remove_stale_socket(path: &Path) {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    if is_socket && std::os::unix::net::UnixStream::connect(path).is_err() {
        let _ = std::fs::remove_file(path);
    }
}

fn bound_address(address: &ListenAddress, socket: &socket2::Socket) -> String {
    match (address, socket.local_addr().ok().and_then(|bound| bound.as_socket())) {
        (ListenAddress::Tcp(_), Some(bound)) => bound.to_string(),
        _ => address.to_string(),
    }
}

/// Raises the soft limit of open files to the hard one, and says so if that is too low.
fn raise_descriptor_limit(max_connections: usize, relayed: usize) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    let wanted = (max_connections + relayed) as u64 + SPARE_DESCRIPTORS;
    if let Some(current) = current.filter(|&current| current < wanted) {
        warn!("at most {current} files can be open, fewer than `max_connections` needs ({wanted}): raise LimitNOFILE");
    }
}

/// Lowers `max_connections` to what the kernel's limit of memory mappings has room for, and says so.
///
/// This is not left to a failing spawn: near the limit the stack of a new thread may still be
/// mapped and its signal stack no more, and then the standard library aborts the process.
fn limit_to_mappings(max_connections: &mut usize, relayed: usize) {
    let setting = std::fs::read_to_string("/proc/sys/vm/max_map_count").ok();
    let mappings = setting.and_then(|text| text.trim().parse().ok()).unwrap_or(MAPPINGS_DEFAULT);
    let room = clients_within(mappings, relayed);
    if *max_connections > room {
        warn!(
            "at most {room} clients fit into vm.max_map_count = {mappings}, fewer than `max_connections` ({max_connections}): \
             raise it with sysctl"
        );
        *max_connections = room;
    }
}

/// The kernel's limit of mappings where it does not tell.
const MAPPINGS_DEFAULT: usize = 65_530;

/// What a client takes: the thread's stack and its guard, its signal stack and its guard, and a large buffer.
const MAPPINGS_OF_CLIENT: usize = 5;

/// What is left to everything else: the program, its libraries and heaps, the other threads.
const MAPPINGS_SPARE: usize = 1024;

/// How many clients there is room for, if `relayed` of them have a second thread.
fn clients_within(mappings: usize, relayed: usize) -> usize {
    let threads = mappings.saturating_sub(MAPPINGS_SPARE) / MAPPINGS_OF_CLIENT;
    // Where not even those that are relayed have room, all may be such.
    threads.saturating_sub(relayed).max(threads / 2).max(1)
}

/// How many clients can be relayed at once; each has a second thread and a second socket.
fn most_relayed(settings: &Settings) -> usize {
    let relays = settings.endpoints.iter().filter(|endpoint| endpoint.relay.is_some());
    let most = relays.map(|endpoint| endpoint.max_connections).fold(0, usize::saturating_add);
    most.min(settings.gateway.max_connections)
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Bind { address, cause } => {
                write!(f, "failed to bind '{address}': {cause}")?;
                match cause.kind() {
                    io::ErrorKind::AddrInUse => {
                        write!(f, " (another process listens there: stop it or choose another port)")
                    }
                    io::ErrorKind::PermissionDenied => {
                        write!(f, " (choose a port above 1023, or grant CAP_NET_BIND_SERVICE)")
                    }
                    io::ErrorKind::AddrNotAvailable => write!(f, " (this machine has no such address)"),
                    _ => Ok(()),
                }
            }
            StartError::Tls { listener, cause } => write!(f, "failed to set up TLS for listener '{listener}': {cause}"),
            StartError::Dial { who, cause } => write!(f, "failed to set up {who}: {cause}"),
            StartError::System { what, cause } => write!(f, "failed to {what}: {cause}"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StartError::Bind { cause, .. } | StartError::System { cause, .. } => Some(cause),
            StartError::Dial { cause, .. } => Some(cause),
            StartError::Tls { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn the_limit_of_mappings_bounds_the_clients() {
        let table = [
            (65_530, 0, 12_901),
            (262_144, 0, 52_224),
            (1_024, 0, 1),
            (0, 0, 1),
            (65_530, 900, 12_001),
            (65_530, 6_450, 6_451),
            (65_530, 60_000, 6_450),
        ];
        for (mappings, relayed, clients) in table {
            assert_eq!(clients_within(mappings, relayed), clients, "{mappings}, {relayed} relayed");
        }
    }

    #[test]
    fn a_client_that_has_left_keeps_no_descriptor_until_its_next_ping() {
        let mut settings = Settings::default();
        settings.listeners[0].address = ListenAddress::Tcp(([127, 0, 0, 1], 0).into());
        let gateway = Gateway::start(settings, None).unwrap();
        let (_, address) = gateway.addresses().next().unwrap();
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
