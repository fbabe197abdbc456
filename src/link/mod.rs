//! A link: one thread dials, reads until the connection ends, and dials again; another one sends
//! what waits for it. A link to an HTTP server has one thread, which posts: see `post.rs`.

mod batch;
pub mod post;

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
use crate::shared::generation::Generation;
use crate::shared::link::{GOODBYE, LastFailure, Link};
use crate::shared::outlet::Outlet;
use crate::shared::publisher::Publisher;
use crate::shared::send_queue::Next;
use crate::shared::traffic::Traffic;

/// How often a link that waits to dial again looks whether its settings have changed.
const SLICE: Duration = Duration::from_millis(250);

/// A link as its threads know it: by the settings that hold now, or by the last ones if it was removed.
#[derive(Debug, Clone)]
pub struct Own {
    /// Which it is.
    pub id: LinkId,
    /// Its settings, and what of it outlives them.
    pub link: Arc<Link>,
    /// What its senders hand messages to.
    pub outlet: Arc<Outlet>,
    /// The number of the generation that has these settings.
    number: u64,
}

impl Own {
    /// The link of this id, if the generation has it.
    pub fn of(generation: &Generation, id: LinkId) -> Option<Own> {
        let link = Arc::clone(generation.links.get(id)?);
        let outlet = Arc::clone(&generation.outlets[link.outlet]);
        Some(Own { id, link, outlet, number: generation.number })
    }

    /// Takes up the settings that hold now.
    fn take_up(&mut self, shared: &Shared) {
        let Some(newer) = shared.newer_generation(self.number) else { return };
        self.number = newer.number;
        if let Some(link) = newer.links.get(self.id) {
            self.link = Arc::clone(link);
        }
    }

    /// Whether it is to be dialled in another way by now.
    fn is_outdated(&self, shared: &Shared) -> bool {
        let newer = shared.newer_generation(self.number);
        newer.is_some_and(|newer| newer.links.get(self.id).is_some_and(|link| !link.is_dialled_like(&self.link)))
    }

    /// Whether it will not be dialled again.
    fn has_ended(&self, shared: &Shared) -> bool {
        shared.is_stopping() || self.link.is_over()
    }
}

/// Dials and reads until the gateway stops, or until the link is removed.
pub fn run(shared: &Arc<Shared>, mut own: Own) {
    dial_and_read(shared, &mut own);
    // There will be no further connection: what waits for one is dropped and counted.
    own.outlet.abandon(own.link.upstream.end());
}

fn dial_and_read(shared: &Arc<Shared>, own: &mut Own) {
    let cancel = &shared.until_stop();
    let mut failures = 0;
    let mut warned: Option<Arc<Dialer>> = None;
    while !own.has_ended(shared) {
        own.take_up(shared);
        let Some(dialer) = own.link.dialer.clone() else { return };
        if warned.as_ref().is_none_or(|warned| !Arc::ptr_eq(warned, &dialer)) {
            warn_if_unverified(own, &dialer);
            warned = Some(Arc::clone(&dialer));
        }
        let dialled = Arc::clone(&own.link);
        let failure = match dialer.dial(&RequestExtras::default(), cancel) {
            Ok(dialed) => {
                let ended = live(shared, own, dialed);
                // A connection that lasted has not failed. One that is lost at once has, or a server that lets everybody
                // in only to throw them out would never be given up; and so has one that took nothing any more.
                let reset_after = own.link.settings.backoff.reset_after;
                let has_failed = ended.lasted < reset_after || ended.cause == EndCause::WriteTimeout;
                failures = if has_failed { failures + 1 } else { 0 };
                ended.failure
            }
            Err(DialError::Cancelled) => return,
            Err(error) => {
                own.link.counters.failed();
                failures += 1;
                let why = error.with(&Hints::CONFIGURATION).to_string();
                LinkFailure { step: error.step(), why, code: None, is_error: true }
            }
        };
        own.take_up(shared);
        if !own.link.is_dialled_like(&dialled) {
            // What has failed is dialled no more.
            failures = 0;
            continue;
        }
        if own.has_ended(shared) {
            return;
        }
        let then = match own.link.settings.backoff.attempts {
            Some(most) if failures >= most => give_up(shared, own, failure, failures),
            _ => wait_to_dial_again(shared, own, failure, failures),
        };
        match then {
            Then::Again => {}
            Then::Afresh => failures = 0,
            Then::Never => return,
        }
    }
}

fn warn_if_unverified(own: &Own, dialer: &Dialer) {
    if let Some(host) = dialer.unverified() {
        warn!(
            link = own.outlet.link_name();
            "{}: the certificate of '{host}' is not checked (`verify = false`): anyone on the network path can read and \
             change the data",
            own.outlet
        );
    }
}

/// What comes after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// The next attempt.
    Again,
    /// An attempt that is the first one: what has failed before does not count.
    Afresh,
    /// No attempt any more.
    Never,
}

/// Tells that a link is given up, and waits until it is dialled after all: because somebody asks for it, or because a
/// reload has another way to dial it.
fn give_up(shared: &Shared, own: &mut Own, failure: LinkFailure, failures: u32) -> Then {
    let (outlet, attempts) = (Arc::clone(&own.outlet), count(failures, "attempt"));
    error!(link = outlet.link_name(); "{outlet}: {}; given up after {attempts}, as `attempts` says", failure.why);
    own.link.failed(failure.kept(true));
    own.link.give_up(&outlet, 0);
    failure.tell(shared, own, failures, None);
    let then = wait_until(shared, own, None);
    if then != Then::Never {
        own.link.begin_again(&outlet);
    }
    then
}

/// Tells of a failure and waits until the link is to be dialled again.
fn wait_to_dial_again(shared: &Shared, own: &mut Own, failure: LinkFailure, failures: u32) -> Then {
    let (outlet, backoff) = (&own.outlet, &own.link.settings.backoff);
    let wait = random_wait(backoff.first, backoff.most, failures.saturating_sub(1));
    warn!(link = outlet.link_name(); "{outlet}: {}; dialling again in {}", failure.why, Seconds(wait));
    own.link.failed(failure.kept(false));
    failure.tell(shared, own, failures, Some(wait));
    wait_until(shared, own, Some(Instant::now() + wait))
}

/// Waits until this moment, if there is one, or until the link is dialled for another reason or never.
fn wait_until(shared: &Shared, own: &mut Own, due: Option<Instant>) -> Then {
    let cancel = own.link.until_redial(shared.until_stop());
    let waiting = Arc::clone(&own.link);
    loop {
        let left = due.map_or(SLICE, |due| due.saturating_duration_since(Instant::now()));
        if own.link.is_over() {
            return Then::Never;
        }
        if !own.link.is_dialled_like(&waiting) {
            return Then::Afresh;
        }
        if left.is_zero() {
            return Then::Again;
        }
        if cancel.sleep(left.min(SLICE)) == WaitEnd::Cancelled {
            if shared.is_stopping() {
                return Then::Never;
            }
            own.link.redials();
            info!(link = own.outlet.link_name(); "{}: dialling at once, as was asked for", own.outlet);
            return if due.is_none() { Then::Afresh } else { Then::Again };
        }
        own.take_up(shared);
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

    fn tell(&self, shared: &Shared, own: &Own, failures: u32, retry_in: Option<Duration>) {
        if !self.is_error {
            return;
        }
        let state = if retry_in.is_some() { LinkState::Waiting } else { LinkState::GivenUp };
        let failed = || Failed { step: self.step, cause: self.why.clone(), code: self.code, failures, retry_in };
        tell_of_link(shared, (own.id, &own.link), None, EventKind::Error, || (state, What::Failed(failed())));
    }
}

/// How a connection of a link was.
struct Lived {
    lasted: Duration,
    cause: EndCause,
    failure: LinkFailure,
}

/// The life of one connection; says how it ended.
fn live(shared: &Arc<Shared>, own: &Own, dialed: Dialed) -> Lived {
    let Own { id, link, outlet, number } = own;
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
    let (of, round_trips) = (Some((Place::Link(*id), *number)), Some(&counters.round_trips));
    let peer = shared.add_peer(name, session_id, (socket, session), &link.profile, of, round_trips);
    let undelivered = Arc::default();
    counters.connected(&peer, &undelivered);
    let origin = Origin {
        session: session_id,
        client_ip: None,
        user_agent: None,
        subprotocol: subprotocol.as_deref().map(Arc::from),
        connected_at: SystemTime::now(),
        identity: None,
        description: Default::default(),
    };
    came_up(shared, own, &peer, &origin, subprotocol);

    let publisher = Publisher::of_sender(&shared.budget);
    let mut dispatch = Dispatch::of_link(shared, *id, &peer, &publisher, &origin, &undelivered);
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
    went_down(shared, own, &origin, ending, &life)
}

/// What a connection of a link did.
struct Life {
    lasted: Duration,
    traffic: Traffic,
}

/// Lets what waits go out over a new connection, and says that it is there.
fn came_up(shared: &Shared, own: &Own, peer: &Peer, origin: &Origin, subprotocol: Option<String>) {
    let Own { id, link, outlet, .. } = own;
    let (session, shown) = (origin.session, &link.settings.shown);
    // This connection is what was asked for until now.
    link.redials();
    link.upstream.connected(&peer.outbox, link.settings.open_messages.iter().map(|text| unkept(text.expose())));
    // Behind it: who reads this line and asks for another connection must find this one.
    match &subprotocol {
        None => info!(link = peer.link_name(); "{peer}: connected to '{shown}' as {session}"),
        Some(subprotocol) => {
            info!(link = peer.link_name(); "{peer}: connected to '{shown}' as {session} with subprotocol '{subprotocol}'");
        }
    }
    outlet.set_up();
    link.repeat_goodbye(&peer.outbox);
    if own.is_outdated(shared) {
        // A reload that has other settings for it may not have seen this connection.
        peer.outbox.close(Some(1001), GOODBYE);
    }
    let connected = || (LinkState::Up, What::Connected { subprotocol });
    tell_of_link(shared, (*id, link), Some(origin), EventKind::Connect, connected);
}

/// Says what a connection did, and that it has ended.
fn went_down(shared: &Shared, own: &Own, origin: &Origin, ending: Ending, life: &Life) -> Lived {
    let Own { id, link, outlet, .. } = own;
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
    tell_of_link(shared, (*id, link), Some(origin), EventKind::Disconnect, disconnected);
    Lived { lasted: *lasted, cause, failure }
}

/// Sends what waits for a link, and its application ping, until the link ends. One that was removed is told goodbye here,
/// once all is sent or its time is over.
pub fn send(shared: &Shared, mut own: Own) {
    let mut ping = AppPing::of(&own.link);
    let mut present = None;
    loop {
        // Those that are there take turns with what waits.
        let told = present.as_mut().and_then(|present: &mut Present| present.next(shared));
        let next = match &told {
            Some((frame, _)) => {
                own.link.upstream.send(frame, || own.link.is_out_of_time());
                own.outlet.take(Some(Instant::now()))
            }
            None => own.outlet.take(ping.as_ref().map(|ping| ping.due)),
        };
        match next {
            Next::Up => present = Some(Present::new(shared, Receiver::Outlet(own.link.outlet), Place::Link(own.id))),
            Next::Frame(frame) => {
                if !own.link.upstream.send(&frame, || own.link.is_out_of_time()) {
                    own.outlet.count_ended(frame.messages());
                }
            }
            Next::Nothing => {}
            Next::End => {
                if own.link.is_removed() {
                    own.link.say_goodbye(true);
                }
                return;
            }
        }
        if own.link.is_out_of_time() {
            return own.link.say_goodbye(false);
        }
        let before = Arc::clone(&own.link);
        own.take_up(shared);
        if before.settings.ping != own.link.settings.ping {
            ping = AppPing::of(&own.link);
        }
        ping.iter_mut().for_each(|ping| ping.send_if_due(&own.link));
    }
}

/// The `ping_message` of a link.
struct AppPing {
    text: String,
    every: Duration,
    due: Instant,
}

impl AppPing {
    fn of(link: &Link) -> Option<AppPing> {
        let (text, every) = link.settings.ping.clone()?;
        Some(AppPing { text, every, due: Instant::now() + every })
    }

    fn send_if_due(&mut self, link: &Link) {
        let now = Instant::now();
        if now < self.due {
            return;
        }
        self.due = now + self.every;
        // One that is not connected is not pinged, and a ping waits for nobody.
        if let Some(outbox) = link.upstream.current() {
            outbox.deliver(&unkept(&self.text));
        }
    }
}

/// A text of our own: one that is not sent again over another connection, and no policy drops.
fn unkept(text: &str) -> Frame {
    let message = Message { kind: Kind::Text, data: text.to_owned().into() };
    let encoded: Vec<u8> = Frame::masked(message).slices(0).iter().flat_map(|slice| slice.to_vec()).collect();
    Frame::joined(encoded.into(), 0)
}
