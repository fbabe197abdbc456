//! The blocking accept loop, one per listener: take a connection, count it, give it a thread.
//!
//! Nothing here waits for a peer, and no error ends or spins the loop: out of descriptors it
//! pauses, out of threads or places it refuses one client.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use log::{error, info, warn};
use rustix::event::Timespec;
use socket2::SockAddr;

use crate::address::source::Source;
use crate::client;
use crate::client::incoming::Incoming;
use crate::clock;
use crate::connection::handshake::Stream;
use crate::connection::socket::Socket;
use crate::display;
use crate::http::refusal::{Body, Refusal};
use crate::id::Id;
use crate::listener::{Bound, Waited};
use crate::log_kind::REFUSALS;
use crate::shared::Shared;
use crate::shared::address_places::{AddressFull, Counted};
use crate::shared::addresses::Door;
use crate::shared::counts::Worded;
use crate::shared::handshake_failures::Failure;
use crate::shared::refused::{CAUSES, Cause};
use crate::system::thread::spawn_client;
use crate::system::watchdog::WatchdogHandle;

/// The first pause when the system has no descriptor or memory left, doubled up to the second.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How long a refused connection is kept open at the most, so that the peer can read why.
const LINGER: Duration = Duration::from_secs(1);

/// Accepts until the gateway stops, or has no listener any more for this socket. Where there is a watchdog, it is this loop
/// that feeds it.
pub fn run(shared: &Arc<Shared>, bound: &Arc<Bound>, mut handle: Option<WatchdogHandle>) {
    let mut trouble = Trouble::default();
    // Each cause has its own lines, so that none hides another.
    let mut refusals: [Refusals; CAUSES] = Default::default();
    let mut given_way = Refusals::default();
    let generation = shared.generation();
    let Some(mut door) = generation.door_at(bound).map(Arc::clone) else { return };
    let mut number = generation.number;
    drop(generation);
    loop {
        if (handle.is_some() || bound.is_passed()) && !wait(shared, bound, &mut handle) {
            return;
        }
        let accepted = bound.socket.accept();
        if shared.is_stopping() {
            return;
        }
        if let Some(newer) = shared.newer_generation(number) {
            number = newer.number;
            match newer.door_at(bound) {
                Some(newer) => door = Arc::clone(newer),
                None => return,
            }
        }
        match accepted {
            Ok((socket, peer)) => {
                trouble.is_over(&door.name);
                shared.counters.count_accepted();
                match admit(shared, &door, socket, &peer) {
                    Ok(None) => {}
                    Ok(Some(source)) => {
                        shared.refused.count(Cause::Handshakes);
                        let limit = shared.handshakes.limit();
                        let why = format!("{limit} handshakes are not finished, and most of them come from {source}");
                        given_way.log(&door.name, &why);
                    }
                    Err((socket, no)) => {
                        shared.refused.count(no.cause);
                        shared.counters.handshake_failures.count(Failure::Limit);
                        refusals[no.cause.number()].log(&door.name, &no.why);
                        refuse(shared, socket, &door, &no.refusal);
                    }
                }
            }
            Err(error) if is_exhaustion(&error) => trouble.pause(&door.name, &error),
            // The connection ended before it was accepted, or a signal came: the next one is another.
            Err(_) => {}
        }
    }
}

/// Waits until there is something to accept, and comes round often enough for the watchdog meanwhile. `false` when the
/// listener is closed.
fn wait(shared: &Shared, bound: &Bound, handle: &mut Option<WatchdogHandle>) -> bool {
    loop {
        let timeout = handle.as_mut().and_then(|handle| {
            handle.check_in(shared.clock.now());
            Timespec::try_from(handle.interval()).ok()
        });
        match bound.wait(timeout.as_ref()) {
            Waited::Ready => return true,
            Waited::TimedOut => {}
            Waited::Closed => return false,
        }
    }
}

/// Why a connection gets no thread.
struct No {
    cause: Cause,
    /// For the log.
    why: String,
    /// For the peer.
    refusal: Box<Refusal>,
}

impl No {
    /// The gateway has no more to give.
    fn at_capacity(cause: Cause, why: String) -> No {
        No { cause, why, refusal: Box::new(Refusal::new(503, "the server is at capacity")) }
    }

    /// Its address has had enough.
    fn of_address(full: &AddressFull) -> No {
        No { cause: full.cause(), why: full.to_string(), refusal: Box::new(full.refusal()) }
    }
}

/// Counts a connection, for its address too if that `is_known`.
fn count(shared: &Shared, address: Option<IpAddr>, is_known: bool) -> Result<Counted, No> {
    // An address that has enough takes no place of others for a moment either.
    let of_address = match is_known {
        true => shared.address_places.enter(address, Instant::now()).map_err(|full| No::of_address(&full))?,
        false => None,
    };
    if shared.is_short_of_memory.load(Ordering::Relaxed) {
        return Err(No::at_capacity(Cause::Memory, "more memory is used than \"memory\" allows".to_owned()));
    }
    let no = || {
        No::at_capacity(
            Cause::Gateway,
            format!("the gateway has {}", display::count(shared.connections.limit(), "connection")),
        )
    };
    Ok(Counted::new(shared.connections.try_acquire().ok_or_else(no)?, of_address))
}

/// Gives a connection its thread, or itself back with the reason why not. Says from where a handshake has given way to
/// it, if one had to.
fn admit(
    shared: &Arc<Shared>,
    door: &Arc<Door>,
    socket: socket2::Socket,
    peer: &SockAddr,
) -> Result<Option<Source>, (Arc<Socket>, No)> {
    let socket = Arc::new(Socket::new(socket));
    let peer = peer.as_socket().map(|address| (address.ip().to_canonical(), address.port()));
    let from = peer.map_or_else(|| "unix".to_owned(), |peer| SocketAddr::from(peer).to_string());
    let address = peer.map(|(address, _)| address);
    let trusted = match door.open(address) {
        Ok(trusted) => trusted,
        Err(shut) => {
            let name = &door.name;
            info!(target: REFUSALS, listener = name, address = from; "listener \"{name}\": closed a connection from {from} without an answer: {shut}");
            shared.counters.handshake_failures.count(Failure::Address);
            return Ok(None);
        }
    };
    // One that a proxy has yet to name is asked for then.
    let connection = match count(shared, address, trusted.is_none()) {
        Ok(connection) => connection,
        Err(no) => return Err((socket, no)),
    };
    let id = match Id::random(shared.mark) {
        Ok(id) => id,
        Err(error) => return Err((socket, No::at_capacity(Cause::System, error.to_string()))),
    };
    let (handshake, given_way) = shared.handshakes.enter(address, &socket);
    let incoming = Box::new(Incoming {
        id,
        stream: Stream::new(socket, door.tls.clone()),
        address,
        socket_address: address,
        from,
        endpoint: None,
        door: Arc::clone(door),
        trusted,
        is_named: false,
        connection,
        handshake: Some(handshake),
    });
    let (name, stack, of_thread) =
        (format!("client {id}"), shared.generation().gateway.client_stack, Arc::clone(shared));
    match spawn_client(name, stack, incoming, move |incoming| client::run(&of_thread, incoming)) {
        Ok(()) => Ok(given_way),
        Err((error, incoming)) => {
            let why = format!("failed to start a thread: {error}");
            Err((incoming.stream.socket, No::at_capacity(Cause::System, why)))
        }
    }
}

/// Whether accepting failed for want of descriptors or memory, which others may give back.
pub fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let exhaustion = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    error.raw_os_error().is_some_and(|code| exhaustion.iter().any(|errno| errno.raw_os_error() == code))
}

/// The pauses while the system is exhausted. The log has at most one line a second of them, and one more at the end of those
/// that it has told of.
#[derive(Debug, Default)]
pub struct Trouble {
    pause: Option<Duration>,
    logged: Option<Instant>,
    is_told: bool,
}

impl Trouble {
    /// Waits before the next try, longer each time.
    pub fn pause(&mut self, listener: &str, error: &io::Error) {
        let pause = self.pause.map_or(PAUSE_MIN, |pause| (pause * 2).min(PAUSE_MAX));
        let now = Instant::now();
        let is_news = self.pause.is_none() || pause == PAUSE_MAX;
        if is_news && self.logged.is_none_or(|logged| now.duration_since(logged) >= Duration::from_secs(1)) {
            (self.logged, self.is_told) = (Some(now), true);
            error!(
                listener = listener;
                "listener \"{listener}\": failed to accept: {error} (raise the limit of open files, or lower `max_connections`)"
            );
        }
        self.pause = Some(pause);
        std::thread::sleep(pause);
    }

    /// A connection was accepted again.
    pub fn is_over(&mut self, listener: &str) {
        if self.pause.take().is_some() && std::mem::take(&mut self.is_told) {
            info!(listener = listener; "listener \"{listener}\": accepting connections again");
        }
    }
}

/// The log of refusals of one cause: one line a second, so that a storm of refusals is no storm of lines.
#[derive(Debug, Default)]
pub struct Refusals {
    logged: Option<Instant>,
    unlogged: u64,
}

impl Refusals {
    /// One more was refused.
    pub fn log(&mut self, listener: &str, why: &str) {
        let now = Instant::now();
        if self.logged.is_some_and(|logged| now.duration_since(logged) < Duration::from_secs(1)) {
            self.unlogged += 1;
            return;
        }
        self.logged = Some(now);
        match std::mem::take(&mut self.unlogged) {
            0 => warn!(listener = listener; "listener \"{listener}\": refused a connection: {why}"),
            more => warn!(
                listener = listener; "listener \"{listener}\": refused a connection, and {more} before it: {why}"
            ),
        }
    }
}

/// Answers on a plain listener, and leaves the closing to the heartbeat: closed at once, with
/// its request unread, the connection would be reset and the answer lost. On a TLS listener there
/// is no way to say it.
fn refuse(shared: &Shared, socket: Arc<Socket>, door: &Door, refusal: &Refusal) {
    let is_told = || socket.send_now(&refusal.to_http(SystemTime::now(), Body::Whole)).is_ok();
    if door.tls.is_some() || !is_told() {
        return;
    }
    socket.shutdown_write();
    if let Some(permit) = shared.lingering_permits.try_acquire() {
        shared.lingering.add_at(shared.clock.now() + clock::ticks(LINGER), (socket, permit));
    }
}
