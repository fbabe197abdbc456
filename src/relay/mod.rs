//! A relay: a client with a connection of its own to another server, its upstream.
//!
//! The client's thread reads the client and writes to the upstream; a second thread, `relay ID`, reads
//! the upstream and writes to the client. Each of them waits while the other side takes nothing,
//! and does not read meanwhile: a slow side slows the other one, and memory stays bounded.

pub mod reach;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use log::{error, info, warn};

use crate::connection::close::Close;
use crate::connection::frame::{Cork, Frame};
use crate::connection::peer::{BlockedOn, Name, Peer};
use crate::connection::read_loop::{Handler, Handshaken, ReadLimits, ReadLoop};
use crate::dial::backoff;
use crate::dial::reconnecting::ReconnectingOutbox;
use crate::dial::{DialError, Dialed, Hints, RequestExtras, WaitEnd};
use crate::display::{Seconds, count_were};
use crate::id::Id;
use crate::log_kind::UPSTREAMS;
use crate::message::{Kind, Message};
use crate::relay::reach::Reached;
use crate::route::Place;
use crate::shared::Shared;
use crate::shared::endpoint::Endpoint;
use crate::shared::generation::Generation;
use crate::shared::profile::Profile;
use crate::shared::registry::Client;
use crate::shared::tap::Tapped;
use crate::system::thread::spawn_joined;

/// The waits between attempts to reach an upstream again: clients wait for it, so they are short.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MOST: Duration = Duration::from_secs(2);

/// An upstream that was there for as long has restarted well: the next loss is a new one. One that comes
/// and goes sooner is the same trouble still, and the client is not kept any longer for it.
const STEADY: Duration = Duration::from_secs(2);

/// What a client is told whose upstream was lost without a Close (RFC 6455 section 7.4.1; 1006 itself
/// must not be sent).
const UPSTREAM_LOST: Said<'_> = (Some(1011), "Upstream connection lost");

/// What a client is told whose upstream has sent a Close that cannot be passed on: it is not the client who broke a rule.
const UPSTREAM_WRONG: Said<'_> = (Some(1011), "Upstream sent an invalid close code");

/// What an upstream is told whose client was lost.
const CLIENT_LOST: Said<'_> = (Some(1001), "Client connection lost");

/// What an upstream is told whose client has sent a Close that cannot be passed on.
const CLIENT_WRONG: Said<'_> = (Some(1001), "Client sent an invalid close code");

/// What both threads of a running relay know.
struct Side {
    shared: Arc<Shared>,
    client: Arc<Client>,
    upstream: ReconnectingOutbox,
    extras: RequestExtras,
    /// What the client was told that is agreed: every further upstream has to agree to it too.
    subprotocol: Option<String>,
}

/// A connection to the upstream, before its first frame.
struct UpstreamConnection {
    peer: Arc<Peer>,
    handshaken: Handshaken,
}

/// For how long a client is still kept, and how often its upstream has failed it since.
struct Patience {
    until: Instant,
    failures: u32,
}

/// Ends the upstream with the client, also when the client's thread panics: nobody else would.
struct Leave<'a>(&'a Side);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.leave(None);
    }
}

/// Relays until either side has ended. Says for how long the client was not read because it had sent more than it may.
#[inline(never)]
pub fn run(shared: &Arc<Shared>, client: &Arc<Client>, reached: Reached, handshaken: Handshaken) -> Duration {
    let Reached { mut dialed, extras } = reached;
    let (shared, client) = (Arc::clone(shared), Arc::clone(client));
    let subprotocol = dialed.subprotocol.take();
    let (hold, profile) = hold_and_profile(&shared.endpoint_of(&client));
    let upstream = match hold {
        // A client that is kept is still read, and so answered when it pings, until there is much of it.
        Some(_) => ReconnectingOutbox::with_room(profile.limits.queue),
        None => ReconnectingOutbox::default(),
    };
    let side = Arc::new(Side { shared, client, upstream, extras, subprotocol });
    let Side { shared, client, upstream, .. } = &*side;
    let leave = Leave(&side);
    let thread = side.connect(dialed).and_then(|connection| start(&side, connection));
    if let Err(error) = &thread {
        warn!(target: UPSTREAMS, client:% = client.id(); "client {}: failed to start the thread of its relay: {error}", client.id());
        // What it sends from here on is read for its Close alone.
        client.outbox().close(Some(1013), "Server at capacity");
    }
    let (cork, tapped) = (Cork::masked(profile.cork), Tapped::default());
    let mut to_upstream = ToUpstream { side: &side, thread: thread.ok(), cork, number: 0, tapped };
    let mut read_loop = ReadLoop::new(&client.peer, profile.max_message, &shared.buffers).within(profile.intake);
    read_loop.run(handshaken, &mut to_upstream);
    // This is for whoever has not closed: a Close has been passed on before it was answered.
    drop(leave);
    // Nothing is read or written any more. This ends a dial on its behalf.
    client.outbox().abort("it has left");
    if to_upstream.thread.is_some() {
        // It has at most the close timeout left, and belongs to this client for as long.
        to_upstream.join();
    } else if let Some(outbox) = upstream.current() {
        upstream.lost(&outbox);
    }
    read_loop.held()
}

/// For how long an endpoint's clients are kept without an upstream, and what holds for their connections. An endpoint itself
/// is not kept for as long as a client lives: a reload may replace it.
fn hold_and_profile(endpoint: &Endpoint) -> (Option<Duration>, Profile) {
    (endpoint.settings.relay.as_ref().and_then(|relay| relay.hold), endpoint.profile)
}

/// A code and a reason for a Close.
type Said<'a> = (Option<u16>, &'a str);

/// What one side is told of the other side's Close: `lost` if there was none, `wrong` if it must not be passed on.
fn passed_on<'a>(close: Option<&'a Close>, lost: Said<'a>, wrong: Said<'a>) -> Said<'a> {
    match close {
        None => lost,
        Some(close) if close.is_valid() => (close.code, &close.reason),
        Some(_) => wrong,
    }
}

fn start(side: &Arc<Side>, connection: UpstreamConnection) -> io::Result<JoinHandle<()>> {
    let (name, stack) = (format!("relay {}", side.client.id()), side.shared.generation().gateway.client_stack);
    let side = Arc::clone(side);
    spawn_joined(name, stack, move || {
        if catch_unwind(AssertUnwindSafe(|| side.run(connection))).is_err() {
            error!(client:% = side.client.id(); "relay {}: its thread panicked; this is a defect of wsgate", side.client.id());
            side.client.outbox().close(Some(1011), "Internal error");
            side.leave(None);
        }
    })
}

impl Side {
    /// Reads the upstream and those that take its place, until there is none any more.
    fn run(&self, first: UpstreamConnection) {
        let client = self.client.outbox();
        let mut patience: Option<Patience> = None;
        let mut connection = first;
        loop {
            let since = Instant::now();
            let (close, is_restart) = self.live(connection);
            if client.is_closing() || self.upstream.is_over() || self.shared.is_stopping() {
                // The client ends by itself, a stop has its own words for it, and both end the upstream.
                break;
            }
            let (hold, _) = hold_and_profile(&self.endpoint());
            let again = hold.filter(|_| is_restart).and_then(|hold| {
                let is_steady = since.elapsed() >= STEADY;
                let patience = match &mut patience {
                    Some(patience) if !is_steady => {
                        patience.failures += 1;
                        patience
                    }
                    patience => patience.insert(Patience { until: Instant::now() + hold, failures: 0 }),
                };
                info!(
                    target: UPSTREAMS, client:% = self.client.id(), endpoint = self.path();
                    "client {}: its upstream is gone: it is kept for at most {}", self.client.id(), Seconds(hold)
                );
                self.reach_again(patience)
            });
            connection = match again {
                Some(connection) => connection,
                None if self.shared.is_stopping() => break,
                None => {
                    let (code, reason) = passed_on(close.as_ref(), UPSTREAM_LOST, UPSTREAM_WRONG);
                    client.close(code, reason);
                    break;
                }
            };
        }
        self.count_lost();
    }

    /// Makes a connection the way to the upstream.
    fn connect(&self, dialed: Dialed) -> io::Result<UpstreamConnection> {
        let Side { shared, client, upstream, .. } = self;
        let Dialed { socket, session, behind, .. } = dialed;
        let id = Id::random(shared.mark).map_err(|error| io::Error::other(error.to_string()))?;
        let is_tls = session.is_some();
        let (generation, of) = (shared.generation(), client.room.endpoint());
        let (profile, place) = (&generation.endpoint(of).profile, Place::Endpoint(of));
        let peer = shared.add_peer(
            Name::Relay(client.id()),
            id,
            (socket, session),
            profile,
            Some((place, generation.number)),
            None,
        );
        let outbox = &peer.outbox;
        upstream.connected(outbox, []);
        if upstream.is_over() {
            // The client left while this was dialled, and may not have seen it.
            outbox.close(CLIENT_LOST.0, CLIENT_LOST.1);
        }
        Ok(UpstreamConnection { peer, handshaken: Handshaken { is_tls, behind, is_session_ended: false } })
    }

    /// The life of one connection to the upstream; gives back its Close, and whether the upstream may
    /// soon be there again.
    fn live(&self, connection: UpstreamConnection) -> (Option<Close>, bool) {
        let Side { shared, client, upstream, .. } = self;
        let UpstreamConnection { peer, handshaken } = connection;
        let (_, profile) = hold_and_profile(&self.endpoint());
        let mut to_client = ToClient { side: self, peer: &peer, cork: Cork::new(profile.cork), number: 0 };
        let mut read_loop = ReadLoop::new(&peer, profile.max_message, &shared.buffers);
        let close = read_loop.run(handshaken, &mut to_client);
        let (ending, _) = upstream.lost(&peer.outbox);
        if !client.outbox().is_closing() {
            info!(target: UPSTREAMS, client:% = client.id(), endpoint = self.path(); "{peer}: the upstream is gone: {ending}");
        }
        let is_restart = match &close {
            // It was lost; or else we closed it because of what it sent, which it would send again.
            None => ending.code == 1006,
            Some(close) => matches!(close.code, Some(1001 | 1012 | 1013)),
        };
        (close, is_restart)
    }

    /// Dials the upstream again and again while the client is kept.
    fn reach_again(&self, patience: &mut Patience) -> Option<UpstreamConnection> {
        let id = self.client.id();
        let endpoint = self.endpoint();
        let dialer = endpoint.dialer.as_ref()?;
        let cancel = self.shared.until_stop().until_hung_up(Arc::clone(&self.client.peer) as _);
        let mut error = "its upstream ended each connection at once".to_owned();
        loop {
            let left = patience.until.saturating_duration_since(Instant::now());
            if let Some(failures) = patience.failures.checked_sub(1) {
                let wait = backoff::random_wait(RETRY_FIRST, RETRY_MOST, failures);
                if cancel.sleep(wait.min(left)) == WaitEnd::Cancelled {
                    return None;
                }
            }
            let left = patience.until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                warn!(
                    target: UPSTREAMS, client:% = id, endpoint = self.path();
                    "client {id}: it is closed, because no new connection to its upstream opened in time: {error}"
                );
                return None;
            }
            error = match dialer.dial_within(left, &self.extras, &cancel) {
                Ok(dialed) if dialed.subprotocol != self.subprotocol => {
                    "its upstream agrees to another subprotocol than before".to_owned()
                }
                Ok(dialed) => match self.connect(dialed) {
                    Ok(connection) => {
                        info!(target: UPSTREAMS, client:% = id, endpoint = self.path(); "client {id}: its upstream is back");
                        return Some(connection);
                    }
                    Err(error) => error.to_string(),
                },
                Err(DialError::Cancelled) => return None,
                Err(error) => error.with(&Hints::CONFIGURATION).to_string(),
            };
            patience.failures += 1;
        }
    }

    /// The client's side is over, with this Close or lost: so is the upstream, which is told.
    fn leave(&self, close: Option<&Close>) {
        // In this order: a connection that comes up meanwhile finds that it is over, or is found here.
        self.count_lost();
        let Some(outbox) = self.upstream.current() else { return };
        let (code, reason) = passed_on(close, CLIENT_LOST, CLIENT_WRONG);
        outbox.close(code, reason);
        if close.is_none() && self.shared.is_stopping() {
            // A client that a stop has cut had all the time that there is: none is left for an answer.
            outbox.abort("the gateway has stopped");
        }
    }

    /// There will be no further upstream.
    fn count_lost(&self) {
        let lost = self.upstream.end();
        if lost > 0 {
            info!(
                target: UPSTREAMS, client:% = self.client.id(), endpoint = self.path();
                "relay {}: {} still queued for its upstream and got lost", self.client.id(), count_were(lost, "message")
            );
        }
    }

    /// The path of the endpoint for the log.
    fn path(&self) -> String {
        self.endpoint().settings.path.to_string()
    }

    /// What this generation allows either side, whose number and cork these are.
    #[cold]
    fn limits(&self, generation: &Generation, number: &mut u64, cork: &mut Cork) -> Option<ReadLimits> {
        *number = generation.number;
        let profile = generation.profile(Place::Endpoint(self.client.room.endpoint()))?;
        cork.set_limits(profile.cork);
        Some(ReadLimits { max_message: profile.max_message, intake: profile.intake })
    }

    fn endpoint(&self) -> Arc<Endpoint> {
        self.shared.endpoint_of(&self.client)
    }
}

/// What the client sends, on its way to the upstream.
struct ToUpstream<'a> {
    side: &'a Side,
    /// The thread that reads the upstream, until it was waited for.
    thread: Option<JoinHandle<()>>,
    cork: Cork,
    /// To whom what the client sends is shown.
    tapped: Tapped,
    /// The number of the generation whose limits hold.
    number: u64,
}

impl ToUpstream<'_> {
    /// Waits for the end of the upstream.
    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            // Whatever it panicked with, it has said so.
            let _ = thread.join();
        }
    }
}

impl Handler for ToUpstream<'_> {
    const LETS_OTHERS_RUN: bool = true;

    #[inline]
    fn begin(&mut self) -> Option<ReadLimits> {
        self.tapped.begin(&self.side.shared.tap, || Some(self.side.client.tappable()));
        let newer = self.side.shared.newer_generation(self.number)?;
        self.side.limits(&newer, &mut self.number, &mut self.cork)
    }

    fn message(&mut self, message: Message, expected: usize) {
        if !self.side.client.rights.send {
            return self.side.client.close_for_sending();
        }
        self.tapped.show(|| Some(self.side.client.tappable()), message.kind, &message.data);
        self.cork.push_owned(message, expected);
    }

    fn borrowed(&mut self, kind: Kind, payload: &[u8], expected: usize) {
        if !self.side.client.rights.send {
            return self.side.client.close_for_sending();
        }
        self.tapped.show(|| Some(self.side.client.tappable()), kind, payload);
        self.cork.push_borrowed(kind, payload, expected);
    }

    fn flush(&mut self) {
        self.tapped.flush();
        let Side { client, upstream, .. } = self.side;
        let ended = || client.outbox().is_closing();
        let send = |frame: &Frame| client.peer.while_blocked_on(BlockedOn::Relay, || upstream.send(frame, ended));
        self.cork.take().as_slice().iter().all(send);
    }

    /// What the upstream still answers arrives before the client's Close is answered: to the client this
    /// is the upstream's own Close.
    fn closing(&mut self, close: &Close) {
        if self.thread.is_none() {
            // The Close answers ours.
            return;
        }
        let Side { client, upstream, .. } = self.side;
        // What it has sent while it was kept is not lost because it closes.
        let wait = || upstream.wait_until_taken(|| client.outbox().is_closing());
        client.peer.while_blocked_on(BlockedOn::Relay, wait);
        self.side.leave(Some(close));
        // While there is none it may be dialled, which only the client's end ends.
        if upstream.current().is_some() {
            client.peer.while_blocked_on(BlockedOn::Relay, || self.join());
        }
    }
}

/// What the upstream sends, on its way to the client.
struct ToClient<'a> {
    side: &'a Side,
    /// The upstream's.
    peer: &'a Peer,
    cork: Cork,
    /// The number of the generation whose limits hold.
    number: u64,
}

impl Handler for ToClient<'_> {
    /// Our Close is the client's, who still gets what was on its way.
    const AFTER_CLOSE: bool = true;

    const LETS_OTHERS_RUN: bool = true;

    #[inline]
    fn begin(&mut self) -> Option<ReadLimits> {
        let newer = self.side.shared.newer_generation(self.number)?;
        let limits = self.side.limits(&newer, &mut self.number, &mut self.cork)?;
        // A server may send as fast as it likes.
        Some(ReadLimits { intake: None, ..limits })
    }

    fn message(&mut self, message: Message, expected: usize) {
        self.cork.push_owned(message, expected);
    }

    fn borrowed(&mut self, kind: Kind, payload: &[u8], expected: usize) {
        self.cork.push_borrowed(kind, payload, expected);
    }

    fn flush(&mut self) {
        let Side { client, upstream, .. } = self.side;
        // A client that has closed waits for the upstream's answer, and not beyond its close deadline.
        let late = || upstream.is_over() && self.peer.outbox.is_aborted();
        let send =
            |frame: &Frame| self.peer.while_blocked_on(BlockedOn::Relay, || client.outbox().reply_unless(frame, late));
        self.cork.take().as_slice().iter().all(send);
    }
}
