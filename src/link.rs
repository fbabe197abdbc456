//! A link: one thread dials, reads until the connection ends, and dials again; another one sends
//! what waits for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use log::{error, info, warn};

use crate::config::{EventKind, LinkId};
use crate::connection::frame::{Frame, Role};
use crate::connection::outbox::Outbox;
use crate::connection::peer::{Name, Peer};
use crate::connection::read_loop::{Handshaken, ReadLoop, Received};
use crate::dial::backoff;
use crate::dial::{DialError, Dialed, Dialer, Hints, RequestExtras, WaitEnd};
use crate::dispatch::{Dispatch, Misaddressed, tell_of_link};
use crate::display::Seconds;
use crate::events::json::{self as event, Disconnected, Failed, What};
use crate::id::Id;
use crate::message::{Kind, Message, Origin};
use crate::shared::Shared;
use crate::shared::link::{Link, LinkState, NOT_DIALLED};
use crate::shared::send_queue::Next;

/// Dials and reads until the gateway stops, or until the link is given up.
pub fn run(shared: &Arc<Shared>, index: LinkId, dialer: &Dialer) {
    let link = &shared.links[index];
    let cancel = &shared.until_stop();
    if let Some(host) = dialer.unverified() {
        warn!(
            "link {link}: the certificate of '{host}' is not checked (`verify = false`): whoever is on the way can read and change what is sent"
        );
    }
    let backoff = &link.settings.backoff;
    let mut failures = 0;
    let ended = loop {
        link.set_state(LinkState::Dialling);
        let ended = match dialer.dial(&RequestExtras::default(), cancel) {
            Ok(dialed) => {
                let since = Instant::now();
                let ended = live(shared, index, dialed);
                // Whoever was up for long enough has not failed; whoever is lost at once has, or
                // a server that lets everybody in only to throw them out would never be given up.
                failures = if since.elapsed() < backoff.reset_after { failures + 1 } else { 0 };
                ended
            }
            Err(DialError::Cancelled) => return end(link),
            Err(error) => {
                link.counters.failures.fetch_add(1, Ordering::Relaxed);
                failures += 1;
                let why = error.with(&Hints::CONFIGURATION).to_string();
                Ended { step: error.step(), why, code: None, is_bad: true }
            }
        };
        if shared.is_stopping() {
            return end(link);
        }
        if backoff.attempts.is_some_and(|most| failures >= most) {
            break ended;
        }
        let wait = backoff::random_wait(backoff.first, backoff.most, failures.saturating_sub(1));
        warn!("link {link}: {}; dialling again in {}", ended.why, Seconds(wait));
        ended.tell(shared, index, failures, Some(wait));
        link.set_state(LinkState::Waiting(Instant::now() + wait, ended.why));
        if cancel.sleep(wait) == WaitEnd::Cancelled {
            return end(link);
        }
    };
    let plural = if failures == 1 { "" } else { "s" };
    error!("link {link}: {}; given up after {failures} attempt{plural}, as `attempts` says", ended.why);
    ended.tell(shared, index, failures, None);
    link.set_state(LinkState::GivenUp(ended.why));
    end(link);
}

/// Why a link is not connected.
struct Ended {
    /// The step of the dial that failed.
    step: &'static str,
    why: String,
    /// The close code, if it was connected.
    code: Option<u16>,
    /// It is told as an error.
    is_bad: bool,
}

impl Ended {
    fn tell(&self, shared: &Shared, index: LinkId, failures: u32, retry_in: Option<Duration>) {
        if !self.is_bad {
            return;
        }
        let state = if retry_in.is_some() { event::LinkState::Waiting } else { event::LinkState::GivenUp };
        let failed = || Failed { step: self.step, cause: self.why.clone(), code: self.code, failures, retry_in };
        tell_of_link(shared, index, None, EventKind::Error, || (state, What::Failed(failed())));
    }
}

/// There will be no further connection: what waits for one is dropped and counted.
fn end(link: &Link) {
    let lost = link.queue.abandon() + link.upstream.end();
    if lost > 0 {
        warn!("link {link}: {lost} messages were still waiting for it and are lost");
        link.counters.dropped.fetch_add(lost as u64, Ordering::Relaxed);
    }
}

/// The life of one connection; says how it ended.
fn live(shared: &Arc<Shared>, index: LinkId, dialed: Dialed) -> Ended {
    let link = &shared.links[index];
    let Dialed { socket, session, behind, subprotocol } = dialed;
    let id = match Id::random() {
        Ok(id) => id,
        Err(error) => {
            let why = format!("failed to make an id: {error}");
            return Ended { step: "system", why, code: None, is_bad: true };
        }
    };
    if let Some(timeout) = link.settings.write_timeout {
        socket.set_user_timeout(timeout);
    }
    let (is_tls, since) = (session.is_some(), Instant::now());
    let (clock, poller) = (Arc::clone(&shared.clock), Arc::clone(&shared.poller));
    let outbox = Arc::new(Outbox::new(id, Role::Client, socket, session, link.limits, clock, poller));
    let now = shared.clock.now();
    let peer = Arc::new(Peer::new(Name::Link(Arc::clone(&link.name)), Arc::clone(&outbox), link.keepalive, now));
    let origin = Origin {
        session: id,
        client_ip: None,
        user_agent: None,
        subprotocol: subprotocol.as_deref().map(Arc::from),
        connected_at: SystemTime::now(),
    };
    shared.visits.add_at(now + 1, Arc::downgrade(&peer));
    match &subprotocol {
        None => info!("link {link}: connected to '{}' as {id}", link.settings.shown),
        Some(subprotocol) => {
            info!("link {link}: connected to '{}' as {id} with subprotocol '{subprotocol}'", link.settings.shown);
        }
    }
    link.counters.connects.fetch_add(1, Ordering::Relaxed);
    link.set_state(LinkState::Up(since, subprotocol.clone()));
    link.upstream.connected(&outbox, link.settings.open_messages.iter().map(|text| unkept(text.expose())));
    link.queue.set_up(true);
    link.repeat_goodbye(&outbox);
    link.say_what_was_dropped();
    let connected = || (event::LinkState::Up, What::Connected { subprotocol });
    tell_of_link(shared, index, Some(&origin), EventKind::Connect, connected);

    let mut dispatch = Dispatch::of_link(shared, index, &peer, &origin);
    let settings = &link.settings;
    let mut read_loop = ReadLoop::new(&peer, Role::Client, settings.max_message, &shared.clock, &shared.buffers);
    let handshaken = Handshaken { is_tls, behind, is_session_ended: false };
    if catch_unwind(AssertUnwindSafe(|| read_loop.run(handshaken, &mut dispatch))).is_err() {
        error!("link {link}: its thread panicked; this is a defect of wsgate");
        outbox.close(Some(1011), "Internal error");
        outbox.wait_closed();
    }
    let Received { messages, bytes } = read_loop.received();
    link.queue.set_up(false);
    let (ending, sent) = link.upstream.lost(&outbox);
    link.counters.received.fetch_add(messages, Ordering::Relaxed);
    link.counters.sent.fetch_add(sent.messages, Ordering::Relaxed);
    let duration = since.elapsed();
    info!(
        "link {link}: disconnected: code {}, reason '{}', after {duration:.1?}, {messages} messages ({bytes} bytes) received, \
         {} messages ({} bytes) sent",
        ending.code, ending.reason, sent.messages, sent.bytes,
    );
    let Misaddressed { unknown, denied, unroutable } = dispatch.misaddressed();
    link.counters.unroutable.fetch_add(unroutable, Ordering::Relaxed);
    if unknown + denied + unroutable > 0 {
        info!(
            "link {link}: of its messages, session_unknown dropped {unknown}, session_denied {denied} and unroutable {unroutable}"
        );
    }
    let why = format!("the connection ended with code {} ('{}')", ending.code, ending.reason);
    let (code, is_bad) = (Some(ending.code), event::is_bad_end(ending.code));
    let disconnected = || {
        let disconnected = Disconnected::new(ending, duration, (messages, bytes), sent);
        (event::LinkState::Down, What::Disconnected(disconnected))
    };
    tell_of_link(shared, index, Some(&origin), EventKind::Disconnect, disconnected);
    Ended { step: "connection", why, code, is_bad }
}

/// Sends what waits for a link, and its application ping, until the link ends.
pub fn send(shared: &Shared, index: LinkId) {
    let link = &shared.links[index];
    let ping = link.settings.ping.as_ref();
    let mut due = ping.map(|(_, every)| Instant::now() + *every);
    loop {
        match link.queue.take(due) {
            Next::Frame(frame) => {
                if !link.upstream.send(&frame, || false) {
                    link.count_dropped(frame.messages(), NOT_DIALLED);
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
