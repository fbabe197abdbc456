//! Runs one script of a connection that we dial, lose and replace under every interleaving, and judges what came of
//! each: over all connections every message arrives once and in order.

use std::sync::Arc as Shared;
use std::sync::atomic::{AtomicU64, Ordering};

use loom::thread::{self, JoinHandle};

use crate::clock::Clock;
use crate::config::QueueSettings;
use crate::connection::ending::Totals;
use crate::connection::frame::{Frame, Role};
use crate::connection::outbox::audit::assert_over;
use crate::connection::outbox::{Limits, Outbox};
use crate::connection::poller::Poller;
use crate::connection::socket::Socket;
use crate::connection::tls::Session;
use crate::dial::reconnecting::ReconnectingOutbox;
use crate::kernel::{Line, boot, kernel};
use crate::message::{Kind, Message};
use crate::peer;
use crate::rules;
use crate::scenario::{Flusher, MESSAGE, builder};
use crate::sync::Arc;

/// What a masked frame has in front of a short payload.
const HEADER: usize = 6;

/// How a connection ends for the thread that reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Its reading fails.
    Broken,
    /// It reads until somebody has cut the socket.
    Cut,
    /// The peer has ended its direction: it waits until all is written that will be.
    HungUp,
    /// The peer's Close is answered behind what is queued.
    Closed,
}

/// What others do to the connection of the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touch {
    Ping,
    /// A text that waits for nobody and is not sent again.
    Text,
    Cut,
    /// There shall be no further connection.
    End,
}

/// What one model runs.
#[derive(Debug, Clone)]
pub struct Script {
    /// The connections, one after the other, and how each ends.
    pub losses: Vec<(Line, Loss)>,
    /// The one behind them, which takes all that is left. Without it there will be no further connection.
    pub last: Option<Line>,
    pub bounds: QueueSettings,
    pub tls: bool,
    /// What is sent: frames of so many messages.
    pub sends: Vec<u8>,
    /// Begins when the first connection is there.
    pub touches: Vec<Touch>,
    pub preemptions: Option<usize>,
}

/// What all threads know.
struct World {
    upstream: ReconnectingOutbox,
    clock: Arc<Clock>,
    poller: Arc<Poller>,
}

impl Script {
    /// Runs it in every interleaving and says how many there were. Panics at the first that is wrong.
    pub fn explore(self) -> u64 {
        let executions = Shared::new(AtomicU64::new(0));
        let threads = 3 + usize::from(!self.touches.is_empty());
        let counted = Shared::clone(&executions);
        builder(self.preemptions, threads).check(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            self.run();
        });
        executions.load(Ordering::Relaxed)
    }

    fn run(&self) {
        let lines: Vec<Line> = self.losses.iter().map(|(line, _)| *line).chain(self.last).collect();
        boot(&lines);
        rules::set_bounds(self.bounds);
        let poller = Arc::new(Poller::new().expect("the model has descriptors"));
        let flusher = Flusher::start(&poller);
        let world = Arc::new(World { upstream: ReconnectingOutbox::default(), clock: Arc::new(Clock::new()), poller });

        let mut sender = Some({
            let (world, sends) = (Arc::clone(&world), self.sends.clone());
            thread::spawn(move || {
                let frames = (0..).zip(sends).map(|(number, messages)| (frame(number, messages), u64::from(messages)));
                // Whoever was told that there is no way any more sends nothing more.
                frames.take_while(|(frame, _)| world.upstream.send(frame, || false)).map(|sent| sent.1).sum::<u64>()
            })
        });
        let mut touching: Option<JoinHandle<u64>> = None;
        let mut taken = 0;
        let mut outboxes = Vec::new();
        let mut totals: Vec<Totals> = Vec::new();
        let losses = self.losses.iter().map(|(_, loss)| Some(*loss)).chain(self.last.map(|_| None));
        for (place, loss) in losses.enumerate() {
            let outbox = self.connect(&world, place);
            if place == 0 && !self.touches.is_empty() {
                let (world, touches) = (Arc::clone(&world), self.touches.clone());
                touching = Some(thread::spawn(move || touches.iter().map(|touch| world.touch(*touch)).sum()));
            }
            if loss.is_none() {
                taken = sender.take().expect("it was not waited for").join().expect("no thread panics");
            }
            match loss {
                Some(Loss::Broken) => outbox.abort("failed to read"),
                Some(Loss::Cut) => kernel().read_until_cut(place),
                Some(Loss::HungUp) => {
                    outbox.finish_writing("the peer has ended its direction");
                    outbox.wait_closed();
                }
                Some(Loss::Closed) | None => {
                    outbox.close(Some(1000), "end");
                    outbox.wait_closed();
                }
            }
            totals.push(world.upstream.lost(&outbox).1);
            kernel().finished(place);
            outboxes.push(outbox);
        }
        let lost_before = touching.map_or(0, |handle| handle.join().expect("no thread panics"));
        let lost = lost_before + world.upstream.end() as u64;
        // Whoever still waits for a connection is let go by that.
        taken += sender.map_or(0, |sender| sender.join().expect("no thread panics"));

        flusher.end(&world.poller);
        (0..lines.len()).for_each(|place| kernel().shutdown_both(place));
        world.poller.sweep(u32::MAX);
        drop(world);
        outboxes.into_iter().for_each(assert_over);
        let late: usize = (0..lines.len()).map(|place| kernel().sent_late(place)).sum();
        assert_eq!(late, 0, "something was written to a connection that is over");
        self.judge(taken, lost, &totals);
    }

    fn connect(&self, world: &World, place: usize) -> Arc<Outbox> {
        // Nobody ticks: the deadlines are another model's.
        let limits = Limits { queue: self.bounds, write_timeout: None, close_timeout: 1 };
        let session = self.tls.then(Session::default);
        let (socket, clock, poller) = (Socket::of_kernel(place), Arc::clone(&world.clock), Arc::clone(&world.poller));
        let id = 7 + place as u64;
        let outbox = Arc::new(Outbox::new(id.into(), Role::Client, socket, session, limits, clock, poller));
        rules::set_holding(true);
        world.upstream.connected(&outbox, [unkept(place as u8)]);
        rules::set_holding(false);
        if world.upstream.is_over() {
            outbox.close(Some(1000), "over");
        }
        outbox
    }

    fn judge(&self, taken: u64, lost: u64, totals: &[Totals]) {
        let mut arrived = Vec::new();
        let mut told = format!("{taken} taken, {lost} lost at the end, {totals:?}");
        for (place, totals) in totals.iter().enumerate() {
            let wire = kernel().wire(place);
            let plain = if self.tls { peer::decrypted(&wire).0 } else { wire };
            let (frames, is_whole) = peer::frames(Role::Client, &plain);
            told = format!("{told}, {frames:?}");
            let texts: Vec<u8> = frames.iter().filter(|frame| frame.0 == 0x81).map(|frame| frame.1[0]).collect();
            let openings = texts.iter().filter(|text| **text != u8::MAX).count();
            assert!(openings <= 1, "a connection is opened twice: {told}");
            if let Some((first, payload)) = frames.first() {
                assert_eq!((*first, payload[0]), (0x81, place as u8), "something came before the opening: {told}");
            }
            let closes = frames.iter().filter(|frame| frame.0 == 0x88).count();
            let is_last = frames.last().is_some_and(|frame| frame.0 == 0x88);
            assert!(closes == 0 || (closes == 1 && is_last && is_whole), "the Close is not the last: {told}");
            let messages: Vec<&[u8]> =
                frames.iter().filter(|frame| frame.0 == 0x82).map(|frame| &frame.1[..]).collect();
            assert_eq!(messages.len() as u64, totals.messages, "it counts others than it sent: {told}");
            assert_eq!((totals.lost, totals.dropped), (0, 0), "{told}");
            for message in messages {
                assert!(message[1..].iter().all(|byte| *byte == message[0]), "damaged: {told}");
                arrived.push(message[0]);
            }
        }
        let offered: Vec<u8> =
            (0..).zip(&self.sends).flat_map(|(number, messages)| places(number, *messages)).collect();
        assert!(offered.starts_with(&arrived), "lost, doubled or out of order: {arrived:?}, {told}");
        assert_eq!(arrived.len() as u64 + lost, taken, "taken and gone: {told}");
        if self.last.is_some() && !self.touches.contains(&Touch::End) {
            assert_eq!(arrived.len(), offered.len(), "left behind: {told}");
        }
    }
}

impl World {
    /// Does it, and says how many messages were lost by that.
    fn touch(&self, touch: Touch) -> u64 {
        let mut lost = 0;
        if touch == Touch::End {
            lost = self.upstream.end() as u64;
        }
        if let Some(outbox) = self.upstream.current() {
            match touch {
                Touch::Ping => outbox.ping(),
                Touch::Text => drop(outbox.deliver(&unkept(u8::MAX))),
                Touch::Cut => outbox.abort("over a deadline"),
                Touch::End => outbox.close(Some(1000), "over"),
            }
        }
        lost
    }
}

/// A text that is not sent again over another connection.
fn unkept(text: u8) -> Frame {
    let frame = Frame::masked(Message { kind: Kind::Text, data: vec![text].into() });
    Frame::joined(encoded(&frame).into(), 0)
}

/// What the messages of a frame say.
fn places(number: u8, messages: u8) -> impl Iterator<Item = u8> {
    (0..messages).map(move |at| number * 8 + at)
}

/// A frame of messages that each say their place. Every other one is in two pieces if it can be.
fn frame(number: u8, messages: u8) -> Frame {
    let message = |place: u8| {
        let data = vec![place; MESSAGE - HEADER + usize::from(place % 2)];
        Frame::masked(Message { kind: Kind::Binary, data: data.into() })
    };
    if messages == 1 && number % 2 == 1 {
        return message(number * 8);
    }
    let joined: Vec<u8> = places(number, messages).flat_map(|place| encoded(&message(place))).collect();
    Frame::joined(joined.into(), u32::from(messages))
}

fn encoded(frame: &Frame) -> Vec<u8> {
    frame.slices(0).iter().flat_map(|slice| slice.to_vec()).collect()
}
