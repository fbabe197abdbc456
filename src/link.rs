//! A link: one thread dials, reads until the connection ends, and dials again; another one sends
//! what waits for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use log::{error, info, warn};

use crate::config::{EventKind, LinkId};
use crate::connection::ending::{EndCause, Ending};
use crate::connection::frame::Frame;
use crate::connection::peer::{Name, Peer, Received};
use crate::connection::read_loop::{Handshaken, ReadLoop};
use crate::dial::backoff::random_wait;
use crate::dial::{DialError, Dialed, Dialer, Hints, RequestExtras, WaitEnd};
use crate::dispatch::Dispatch;
use crate::display::{Seconds, count};
use crate::events::json::{Disconnected, Failed, LinkState, What};
use crate::events::present::{Present, Receiver};
use crate::events::tell_of_link;
use crate::id::Id;
use crate::message::{Kind, Message, Origin};
use crate::route::Place;
use crate::shared::Shared;
use crate::shared::link::LastFailure;
use crate::shared::publisher::Publisher;
use crate::shared::send_queue::Next;
use crate::shared::traffic::Traffic;

/// Dials and reads until the gateway stops, or until the link is given up.
pub fn run(shared: &Arc<Shared>, id: LinkId, dialer: &Dialer) {
    let (link, outlet) = shared.link(id);
    if let Some(host) = dialer.unverified() {
        warn!(
            link = outlet.link_name();
            "{outlet}: the certificate of '{host}' is not checked (`verify = false`): anyone on the network path can \
             read and change the data"
        );
    }
    dial_and_read(shared, id, dialer);
    // There will be no further connection: what waits for one is dropped and counted.
    outlet.abandon(link.upstream.end());
}

fn dial_and_read(shared: &Arc<Shared>, id: LinkId, dialer: &Dialer) {
    let (link, outlet) = shared.link(id);
    let backoff = &link.settings.backoff;
    let cancel = &shared.until_stop();
    let mut failures = 0;
    loop {
        let failure = match dialer.dial(&RequestExtras::default(), cancel) {
            Ok(dialed) => {
                let ended = live(shared, id, dialed);
                // A connection that lasted has not failed. One that is lost at once has, or a server that lets everybody
                // in only to throw them out would never be given up; and so has one that took nothing any more.
                let has_failed = ended.lasted < backoff.reset_after || ended.cause == EndCause::WriteTimeout;
                failures = if has_failed { failures + 1 } else { 0 };
                ended.failure
            }
            Err(DialError::Cancelled) => return,
            Err(error) => {
                link.counters.failed();
                failures += 1;
                let why = error.with(&Hints::CONFIGURATION).to_string();
                LinkFailure { step: error.step(), why, code: None, is_error: true }
            }
        };
        if shared.is_stopping() {
            return;
        }
        if backoff.attempts.is_some_and(|most| failures >= most) {
            let attempts = count(failures, "attempt");
            error!(
                link = outlet.link_name();
                "{outlet}: {}; given up after {attempts}, as `attempts` says", failure.why
            );
            link.failed(failure.kept(true));
            return failure.tell(shared, id, failures, None);
        }
        let wait = random_wait(backoff.first, backoff.most, failures.saturating_sub(1));
        warn!(link = outlet.link_name(); "{outlet}: {}; dialling again in {}", failure.why, Seconds(wait));
        link.failed(failure.kept(false));
        failure.tell(shared, id, failures, Some(wait));
        if link.until_redial(shared.until_stop()).sleep(wait) == WaitEnd::Cancelled {
            if shared.is_stopping() {
                return;
            }
            link.redials();
            info!(link = outlet.link_name(); "{outlet}: dialling at once, as was asked for");
        }
    }
}

/// Why a link is not connected.
struct LinkFailure {
    /// The step of the dial that failed.
    step: &'static str,
    why: String,
    /// The close code, if it was connected.
    code: Option<u16>,
    /// Whether it is told as an event of the kind `error`.
    is_error: bool,
}

impl LinkFailure {
    /// As the link keeps it, for whoever looks.
    fn kept(&self, is_given_up: bool) -> LastFailure {
        LastFailure { why: self.why.clone(), at: SystemTime::now(), is_given_up }
    }

    fn tell(&self, shared: &Shared, id: LinkId, failures: u32, retry_in: Option<Duration>) {
        if !self.is_error {
            return;
        }
        let state = if retry_in.is_some() { LinkState::Waiting } else { LinkState::GivenUp };
        let failed = || Failed { step: self.step, cause: self.why.clone(), code: self.code, failures, retry_in };
        tell_of_link(shared, id, None, EventKind::Error, || (state, What::Failed(failed())));
    }
}

/// How a connection of a link was.
struct Lived {
    lasted: Duration,
    cause: EndCause,
    failure: LinkFailure,
}

/// The life of one connection; says how it ended.
fn live(shared: &Arc<Shared>, id: LinkId, dialed: Dialed) -> Lived {
    let (link, outlet) = shared.link(id);
    let Dialed { socket, session, behind, subprotocol } = dialed;
    let session_id = match Id::random(shared.mark) {
        Ok(session_id) => session_id,
        Err(error) => {
            let why = format!("failed to make an id: {error}");
            let failure = LinkFailure { step: "system", why, code: None, is_error: true };
            return Lived { lasted: Duration::ZERO, cause: EndCause::Ended, failure };
        }
    };
    let (is_tls, since) = (session.is_some(), Instant::now());
    let (name, counters) = (Name::Link(Arc::clone(&link.name)), &link.counters);
    let peer = shared.add_peer(name, session_id, socket, session, &link.profile, Some(&counters.round_trips));
    let undelivered = Arc::default();
    counters.connected(&peer, &undelivered);
    let origin = Origin {
        session: session_id,
        client_ip: None,
        user_agent: None,
        subprotocol: subprotocol.as_deref().map(Arc::from),
        connected_at: SystemTime::now(),
        identity: None,
        description: None,
    };
    came_up(shared, id, &peer, &origin, subprotocol);

    let publisher = Publisher::of_sender(&shared.budget);
    let mut dispatch = Dispatch::of_link(shared, id, &peer, &publisher, &origin, &undelivered);
    let mut read_loop = ReadLoop::new(&peer, link.profile.max_message, &shared.buffers);
    let handshaken = Handshaken { is_tls, behind, is_session_ended: false };
    if catch_unwind(AssertUnwindSafe(|| read_loop.run(handshaken, &mut dispatch))).is_err() {
        error!(link = peer.link_name(); "{peer}: its thread panicked; this is a defect of wsgate");
        peer.outbox.close(Some(1011), "Internal error");
        peer.outbox.wait_closed();
    }
    outlet.set_down();
    let (ending, _) = link.upstream.lost(&peer.outbox);
    let life = Life { lasted: since.elapsed(), traffic: counters.disconnected() };
    went_down(shared, id, &origin, ending, &life)
}

/// What a connection of a link did.
struct Life {
    lasted: Duration,
    traffic: Traffic,
}

/// Lets what waits go out over a new connection, and says that it is there.
fn came_up(shared: &Shared, id: LinkId, peer: &Peer, origin: &Origin, subprotocol: Option<String>) {
    let (link, outlet) = shared.link(id);
    let (session, shown) = (origin.session, &link.settings.shown);
    match &subprotocol {
        None => info!(link = peer.link_name(); "{peer}: connected to '{shown}' as {session}"),
        Some(subprotocol) => {
            info!(link = peer.link_name(); "{peer}: connected to '{shown}' as {session} with subprotocol '{subprotocol}'");
        }
    }
    link.upstream.connected(&peer.outbox, link.settings.open_messages.iter().map(|text| unkept(text.expose())));
    outlet.set_up();
    link.repeat_goodbye(&peer.outbox);
    let connected = || (LinkState::Up, What::Connected { subprotocol });
    tell_of_link(shared, id, Some(origin), EventKind::Connect, connected);
}

/// Says what a connection did, and that it has ended.
fn went_down(shared: &Shared, id: LinkId, origin: &Origin, ending: Ending, life: &Life) -> Lived {
    let (_, outlet) = shared.link(id);
    let Life { lasted, traffic: Traffic { received: Received { messages, bytes }, sent, undelivered } } = life;
    info!(
        link = outlet.link_name();
        "{outlet}: disconnected: {ending}, after {lasted:.1?}, {} ({}) received, {} ({}) sent",
        count(*messages, "message"), count(*bytes, "byte"), count(sent.messages, "message"), count(sent.bytes, "byte"),
    );
    if !undelivered.is_empty() {
        info!(link = outlet.link_name(); "{outlet}: {undelivered}");
    }
    let why = format!("the connection ended with code {} ('{}')", ending.code, ending.reason);
    let failure = LinkFailure { step: "connection", why, code: Some(ending.code), is_error: ending.is_bad() };
    let cause = ending.cause;
    let disconnected = || {
        let disconnected = Disconnected::new(ending, *lasted, (*messages, *bytes), *sent);
        (LinkState::Down, What::Disconnected(disconnected))
    };
    tell_of_link(shared, id, Some(origin), EventKind::Disconnect, disconnected);
    Lived { lasted: *lasted, cause, failure }
}

/// Sends what waits for a link, and its application ping, until the link ends.
pub fn send(shared: &Shared, id: LinkId) {
    let (link, outlet) = shared.link(id);
    let ping = link.settings.ping.as_ref();
    let mut due = ping.map(|(_, every)| Instant::now() + *every);
    let who_is_present = || Present::new(shared, Receiver::Outlet(link.outlet), Place::Link(id));
    let mut present = None;
    loop {
        // Those that are there take turns with what waits.
        let told = present.as_mut().and_then(|present: &mut Present| present.next(shared));
        let next = match &told {
            Some((frame, _)) => {
                link.upstream.send(frame, || false);
                outlet.take(Some(Instant::now()))
            }
            None => outlet.take(due),
        };
        match next {
            Next::Up => present = Some(who_is_present()),
            Next::Frame(frame) => {
                if !link.upstream.send(&frame, || false) {
                    outlet.count_ended(frame.messages());
                }
            }
            Next::Nothing => {}
            Next::End => return,
        }
        if let (Some((text, every)), Some(at)) = (ping, &mut due)
            && Instant::now() >= *at
        {
            *at = Instant::now() + *every;
            // One that is not connected is not pinged, and a ping waits for nobody.
            if let Some(outbox) = link.upstream.current() {
                outbox.deliver(&unkept(text));
            }
        }
    }
}

/// A text of our own: one that is not sent again over another connection, and no policy drops.
fn unkept(text: &str) -> Frame {
    let message = Message { kind: Kind::Text, data: text.to_owned().into() };
    let encoded: Vec<u8> = Frame::masked(message).slices(0).iter().flat_map(|slice| slice.to_vec()).collect();
    Frame::joined(encoded.into(), 0)
}
