//! Runs one script under every interleaving, and judges what came of each.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc as Shared;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use loom::thread::{self, JoinHandle};

use crate::clock::Clock;
use crate::config::{QueueSettings, WhenFull};
use crate::connection::ending::{Ending, Totals};
use crate::connection::frame::{Control, Frame, Role};
use crate::connection::outbox::audit::assert_over;
use crate::connection::outbox::{Delivery, Limits, Outbox};
use crate::connection::poller::Poller;
use crate::connection::socket::Socket;
use crate::connection::tls::Session;
use crate::kernel::{Line, Peer, boot, kernel};
use crate::message::{Kind, Message};
use crate::peer;
use crate::rules;
use crate::sync::Arc;

/// The bytes of a message on the wire, header included; the second of a pair is one longer.
pub const MESSAGE: usize = 20;

/// What a thread does, step by step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Delivers a frame of so many messages.
    Deliver(u8),
    /// The client's own thread only.
    Reply,
    Pong,
    Ping,
    /// Of so many messages; the numbers ascend, and one thread has all of them.
    Acknowledge(u8),
    Close(u16),
    /// The peer has ended its direction: what is queued is written, and no Close behind it.
    LetGo,
    Cut,
    /// Ciphertext arrives that makes the TLS session itself speak.
    Decrypt,
    /// What the opening does: the 101 and a welcome are held back, the room may deliver from then on, and
    /// then all of it is flushed. Begins the other threads, so it is the first step of the client's own.
    Open,
    /// The clock ticks, and the heartbeat looks at everybody.
    Tick,
}

/// How the client's own thread ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    /// All others are done; then it closes and waits.
    CloseBehindAll,
    /// It closes and waits while the others are at it.
    Close,
    /// As `Close`, and only the heartbeat makes an end of it.
    CloseUntilTick,
    /// It ends without a word, as one that has seen the connection lost.
    Finish,
}

/// What one model runs.
#[derive(Debug, Clone)]
pub struct Script {
    pub line: Line,
    pub bounds: QueueSettings,
    pub tls: bool,
    /// The client's own thread, which is the model's main one.
    pub own: Vec<Step>,
    pub others: Vec<Vec<Step>>,
    /// Not in an exploration in which nothing can stall.
    pub flusher: bool,
    pub last: Last,
    /// How often a thread may be interrupted where it could go on; `None` is as often as there are steps.
    pub preemptions: Option<usize>,
}

/// What was offered to the outbox and what it answered.
#[derive(Debug, Clone, Copy)]
struct Offer {
    sender: u8,
    number: u8,
    messages: u64,
    answer: Delivery,
}

thread_local! {
    /// The flusher's next wake-up is its last.
    static IS_ENDED: Cell<bool> = const { Cell::new(false) };
}

/// An exploration with at most so many preemptions and threads.
pub fn builder(preemptions: Option<usize>, threads: usize) -> loom::model::Builder {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_branches = 5_000;
    builder.max_threads = threads;
    builder
}

/// The thread that goes on with what has stalled.
pub struct Flusher(JoinHandle<()>);

impl Flusher {
    pub fn start(poller: &Arc<Poller>) -> Flusher {
        IS_ENDED.set(false);
        let poller = Arc::clone(poller);
        Flusher(thread::spawn(move || {
            loop {
                poller.wait(None).expect("the model's epoll works").iter().for_each(Outbox::resume);
                if IS_ENDED.get() {
                    return;
                }
            }
        }))
    }

    pub fn end(self, poller: &Poller) {
        IS_ENDED.set(true);
        poller.wake();
        self.0.join().expect("no thread panics");
    }
}

impl Script {
    /// Runs it in every interleaving and says how many there were. Panics at the first that is wrong.
    pub fn explore(self) -> u64 {
        let executions = Shared::new(AtomicU64::new(0));
        let counted = Shared::clone(&executions);
        builder(self.preemptions, self.threads()).check(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            self.run();
        });
        executions.load(Ordering::Relaxed)
    }

    fn run(&self) {
        boot(&[self.line]);
        rules::set_bounds(self.bounds);
        // One tick is enough for every deadline.
        let limits = Limits { queue: self.bounds, write_timeout: Some(1), close_timeout: 1 };
        let clock = Arc::new(Clock::new());
        let poller = Arc::new(Poller::new().expect("the model has descriptors"));
        let session = self.tls.then(Session::default);
        let (of_clock, of_poller) = (Arc::clone(&clock), Arc::clone(&poller));
        let socket = Socket::of_kernel(0);
        let outbox = Arc::new(Outbox::new(7.into(), Role::Server, socket, session, limits, of_clock, of_poller));
        let mut actor = Actor { sender: 0, outbox, poller, clock, offers: Vec::new() };

        let peer =
            (self.line.peer == Peer::Thread).then(|| thread::spawn(|| while kernel().peer_reads(0, MESSAGE) > 0 {}));
        let mut own = &self.own[..];
        if own.first() == Some(&Step::Open) {
            actor.hold();
        }
        let flusher = self.flusher.then(|| Flusher::start(&actor.poller));
        let others: Vec<JoinHandle<Vec<Offer>>> = (1..)
            .zip(&self.others)
            .map(|(sender, steps)| {
                let mut other = actor.another(sender);
                let steps = steps.clone();
                thread::spawn(move || {
                    steps.into_iter().for_each(|step| other.act(step));
                    other.offers
                })
            })
            .collect();
        if own.first() == Some(&Step::Open) {
            actor.outbox.flush();
            rules::set_holding(false);
            own = &own[1..];
        }
        own.iter().for_each(|step| actor.act(*step));

        let join = |handle: JoinHandle<Vec<Offer>>| handle.join().expect("no thread panics");
        let (mut behind, mut left) = (Vec::new(), others);
        if self.last == Last::CloseBehindAll {
            behind = left.drain(..).flat_map(join).collect();
        }
        if self.last != Last::Finish {
            actor.act(Step::Close(1000));
        }
        let heartbeat = (self.last == Last::CloseUntilTick).then(|| {
            let mut heartbeat = actor.another(u8::MAX);
            thread::spawn(move || heartbeat.act(Step::Tick))
        });
        if self.last != Last::Finish {
            actor.outbox.wait_closed();
        }
        let (ending, totals) = actor.outbox.finish();
        kernel().finished(0);

        behind.extend(left.into_iter().flat_map(join));
        if let Some(heartbeat) = heartbeat {
            heartbeat.join().expect("no thread panics");
        }
        let Actor { outbox, poller, mut offers, .. } = actor;
        offers.extend(behind);
        if let Some(flusher) = flusher {
            flusher.end(&poller);
        }
        let has_cut = self.others.iter().any(|steps| steps.contains(&Step::Cut));
        assert!(kernel().is_shut(0) || !has_cut, "a cut has left the socket open: its reader would not return");
        kernel().shutdown_both(0);
        if let Some(peer) = peer {
            peer.join().expect("no thread panics");
        }
        poller.sweep(u32::MAX);
        assert_over(outbox);
        assert_eq!(kernel().sent_late(0), 0, "something was written after the end");
        self.judge(&offers, &ending, totals);
    }

    /// The threads that it starts, and the client's own.
    fn threads(&self) -> usize {
        let helpers = [self.flusher, self.line.peer == Peer::Thread, self.last == Last::CloseUntilTick];
        1 + self.others.len() + helpers.into_iter().filter(|runs| *runs).count()
    }

    /// Whether nothing in it can end the connection before its Close is out.
    fn ends_in_order(&self) -> bool {
        let cuts = |steps: &Vec<Step>| steps.iter().any(|step| matches!(step, Step::Cut | Step::Tick));
        matches!(self.last, Last::Close | Last::CloseBehindAll)
            && !self.others.iter().any(cuts)
            && !cuts(&self.own)
            && self.line.breaks_after.is_none()
            && !self.line.refuses_watch
    }

    fn judge(&self, offers: &[Offer], ending: &Ending, totals: Totals) {
        let (frames, is_whole) = peer::frames(Role::Server, &self.plaintext());
        let told = || format!("{offers:?} {ending:?} {totals:?} {frames:?}");

        let closes = frames.iter().filter(|frame| frame.0 == 0x88).count();
        let is_last = frames.last().is_some_and(|frame| frame.0 == 0x88);
        assert!(closes <= 1 && (closes == 0 || (is_last && is_whole)), "the Close is not the last: {}", told());
        if self.ends_in_order() {
            assert!(kernel().is_shut_for_writing(0), "our direction stays open: {}", told());
            let is_let_go = self.own.contains(&Step::LetGo);
            assert!(is_whole && is_last != is_let_go, "it did not end with its Close: {}", told());
            assert_eq!(ending.code == 1006, is_let_go, "{}", told());
        }

        self.judge_acknowledgements(&frames, told);
        let mut last: HashMap<u8, u8> = HashMap::new();
        let mut arrived = 0;
        for (_, payload) in frames.iter().filter(|frame| frame.0 == 0x82) {
            let (sender, place) = (payload[0], payload[1]);
            assert!(last.insert(sender, place).is_none_or(|before| before < place), "out of order: {}", told());
            assert!(payload[2..].iter().all(|byte| *byte == sender), "damaged: {}", told());
            let known = offers.iter().find(|offer| offer.sender == sender && offer.number == place / 8);
            assert_ne!(known.expect("it was offered").answer, Delivery::Closed, "refused and sent: {}", told());
            arrived += 1;
        }
        // Of joined messages some may be out when the line breaks in the middle; they count when all are.
        let joined = offers.iter().map(|offer| offer.messages - 1).max().unwrap_or(0) * u64::from(!is_whole);
        let counted = totals.messages..=totals.messages + joined;
        assert!(counted.contains(&arrived), "{arrived} messages arrived: {}", told());

        let taken: u64 =
            offers.iter().filter(|offer| offer.answer != Delivery::Closed).map(|offer| offer.messages).sum();
        assert_eq!(taken, totals.messages + totals.dropped + totals.lost, "written, dropped, lost: {}", told());
        if self.ends_in_order() {
            assert_eq!(totals.lost, 0, "lost: {}", told());
        }
        if !self.tls {
            assert_eq!(totals.bytes, kernel().wire(0).len() as u64, "{}", told());
        }

        let count = |wanted: fn(&Delivery) -> bool| offers.iter().filter(|offer| wanted(&offer.answer)).count();
        let too_slow = count(|answer| *answer == Delivery::TooSlow);
        let firsts = count(|answer| matches!(answer, Delivery::Dropped { first: true }));
        let drops = count(|answer| matches!(answer, Delivery::Dropped { .. }));
        match self.bounds.when_full {
            WhenFull::Disconnect => {
                assert_eq!(drops, 0, "{}", told());
                assert_eq!(too_slow > 0, totals.dropped > 0, "{}", told());
                if self.last == Last::CloseBehindAll {
                    assert_eq!(too_slow > 0, ending.code == 1008, "it was not closed for it: {}", told());
                }
            }
            WhenFull::DropOldest | WhenFull::DropNewest => {
                assert_eq!(too_slow, 0, "{}", told());
                assert_eq!((drops > 0, firsts), (totals.dropped > 0, usize::from(totals.dropped > 0)), "{}", told());
            }
        }
        // Nobody loses anything while all that is offered fits at once.
        let size: usize = offers.iter().map(|offer| offer.messages as usize * (MESSAGE + 1)).sum();
        let messages: u64 = offers.iter().map(|offer| offer.messages).sum();
        if messages as usize <= self.bounds.messages && size + rules::CONTROLS <= self.bounds.bytes {
            assert_eq!(totals.dropped, 0, "dropped although there was room: {}", told());
        }
    }

    /// They arrive in order, and where nothing comes after the last one but the Close it arrives.
    fn judge_acknowledgements(&self, frames: &[(u8, Vec<u8>)], told: impl Fn() -> String) {
        let arrived: Vec<u8> = frames.iter().filter(|frame| frame.0 == 0x81).map(|frame| frame.1[0]).collect();
        assert!(arrived.is_sorted_by(|before, after| before < after), "acknowledgements out of order: {}", told());
        let steps = || self.others.iter().flatten().chain(&self.own);
        let count = |step: &Step| if let Step::Acknowledge(count) = step { Some(*count) } else { None };
        let closes_itself = steps().any(|step| matches!(step, Step::Close(_) | Step::LetGo));
        if self.ends_in_order() && self.last == Last::CloseBehindAll && !closes_itself {
            assert_eq!(arrived.last().copied(), steps().filter_map(count).max(), "the last acknowledgement: {}", told());
        }
    }

    /// What the peer got, decrypted if need be.
    fn plaintext(&self) -> Vec<u8> {
        let wire = kernel().wire(0);
        if !self.tls {
            return wire;
        }
        let (plain, ended_in_order) = peer::decrypted(&wire);
        if self.ends_in_order() {
            assert!(ended_in_order, "the session did not end in order");
        }
        plain
    }
}

/// One thread of a model.
struct Actor {
    sender: u8,
    outbox: Arc<Outbox>,
    poller: Arc<Poller>,
    clock: Arc<Clock>,
    offers: Vec<Offer>,
}

impl Actor {
    fn another(&self, sender: u8) -> Actor {
        let (outbox, poller, clock) = (Arc::clone(&self.outbox), Arc::clone(&self.poller), Arc::clone(&self.clock));
        Actor { sender, outbox, poller, clock, offers: Vec::new() }
    }

    fn act(&mut self, step: Step) {
        match step {
            Step::Deliver(messages) => self.offer(messages, |outbox, frame| outbox.deliver(frame)),
            Step::Reply => self.offer(1, |outbox, frame| match outbox.reply(frame) {
                true => Delivery::Taken,
                false => Delivery::Closed,
            }),
            Step::Pong => {
                let pong = Frame::control(Role::Server, Control::Pong, b"p");
                self.outbox.pong(&pong, || pong.clone());
            }
            Step::Ping => self.outbox.ping(),
            Step::Acknowledge(count) => {
                self.outbox.acknowledge(Frame::joined(Bytes::copy_from_slice(&[0x81, 1, count]), 0));
            }
            Step::Close(code) => self.outbox.close(Some(code), "end"),
            Step::LetGo => self.outbox.finish_writing("the peer has ended its direction"),
            Step::Cut => self.outbox.abort("gone"),
            Step::Decrypt => drop(self.outbox.decrypt(&[1], &mut [])),
            Step::Tick => self.poller.sweep(self.clock.tick()),
            Step::Open => unreachable!("it is the first of the client's own thread"),
        }
    }

    /// The 101, which is no message (a ping stands for it, so that the wire can be parsed), and a welcome.
    fn hold(&mut self) {
        rules::set_holding(true);
        self.outbox.enqueue(Frame::control(Role::Server, Control::Ping, &[]));
        self.offer(1, |outbox, frame| {
            outbox.enqueue(frame.clone());
            Delivery::Taken
        });
    }

    fn offer(&mut self, messages: u8, offer: impl FnOnce(&Arc<Outbox>, &Frame) -> Delivery) {
        let number = self.offers.len() as u8;
        let frame = frame(self.sender, number, messages);
        let answer = offer(&self.outbox, &frame);
        self.offers.push(Offer { sender: self.sender, number, messages: u64::from(messages), answer });
    }
}

/// A frame of messages that each say who sent them and in which place: eight places a frame.
/// Every other one is in two pieces if it can be.
fn frame(sender: u8, number: u8, messages: u8) -> Frame {
    let message = |at: u8| {
        let mut data = vec![sender; MESSAGE - 2 + usize::from(at % 2)];
        data[1] = number * 8 + at;
        Frame::message(&Message { kind: Kind::Binary, data: data.into() })
    };
    if messages == 1 && number % 2 == 1 {
        return message(0);
    }
    let encoded: Vec<u8> = (0..messages)
        .flat_map(|at| message(at).slices(0).iter().flat_map(|slice| slice.to_vec()).collect::<Vec<_>>())
        .collect();
    Frame::joined(Bytes::from(encoded), u32::from(messages))
}
