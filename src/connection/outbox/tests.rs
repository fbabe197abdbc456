//! What reaches the peer, in which order, and what becomes of the rest.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::config::WhenFull;
use crate::config::{ListenerTls, TlsSettings};
use crate::connection::handshake::Stream;
use crate::connection::server_tls::ServerTls;

const PATIENCE: Duration = Duration::from_secs(10);

fn outbox(socket: Socket, session: Option<Session>, bytes: usize) -> Arc<Outbox> {
    let queue = QueueSettings { messages: 64, bytes, when_full: WhenFull::DropOldest };
    let limits = Limits { queue, write_timeout: Some(60), close_timeout: 10 };
    Arc::new(Outbox::new(
        7.into(),
        Role::Server,
        socket,
        session,
        limits,
        Arc::default(),
        Arc::new(Poller::new().unwrap()),
    ))
}

fn plain_pair() -> (Socket, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_read_timeout(Some(PATIENCE)).unwrap();
    (Socket::new(ours), theirs)
}

/// A TLS connection whose handshake is done.
fn tls_pair() -> (Socket, Session, openssl::ssl::SslStream<UnixStream>) {
    let directory = tempfile::tempdir().unwrap();
    let (certificate, private_key) = (directory.path().join("c.pem"), directory.path().join("k.pem"));
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&private_key, made.signing_key.serialize_pem()).unwrap();
    let files = TlsSettings { certificate, private_key };
    let tls = Arc::new(ServerTls::load(String::new(), &ListenerTls::of(files)).unwrap());
    let (socket, theirs) = plain_pair();
    let client = thread::spawn(move || {
        let mut connector = SslConnector::builder(SslMethod::tls()).unwrap();
        connector.set_verify(SslVerifyMode::NONE);
        let mut stream = connector.build().connect("localhost", theirs).unwrap();
        stream.write_all(b"\r\n\r\n").unwrap();
        stream
    });
    let mut stream = Stream::new(Arc::new(socket), Some(tls));
    stream.read_head(Instant::now() + PATIENCE).unwrap();
    let (socket, session) = stream.into_parts().unwrap();
    (socket, session.unwrap(), client.join().unwrap())
}

fn numbered(sender: u8, number: u32, len: usize) -> Vec<u8> {
    let mut data = vec![sender; 5 + len];
    data[1..5].copy_from_slice(&number.to_be_bytes());
    data
}

fn message(sender: u8, number: u32, len: usize) -> Frame {
    let data = numbered(sender, number, len).into();
    Frame::message(&crate::message::Message { kind: crate::message::Kind::Binary, data })
}

/// Reads server frames up to the end of the stream: (opcode, payload).
fn read_frames(mut stream: impl Read, pause_every: usize) -> Vec<(u8, Vec<u8>)> {
    let (mut wire, mut piece) = (Vec::new(), [0; 8192]);
    for turn in 1.. {
        match stream.read(&mut piece).unwrap() {
            0 => break,
            count => wire.extend_from_slice(&piece[..count]),
        }
        if turn % pause_every == 0 {
            thread::park_timeout(Duration::from_millis(1));
        }
    }
    let (frames, is_whole) = parse(&wire);
    assert!(is_whole, "the last frame was cut off");
    frames
}

/// Server frames, (opcode, payload), and whether the last is whole.
fn parse(mut rest: &[u8]) -> (Vec<(u8, Vec<u8>)>, bool) {
    let mut frames = Vec::new();
    loop {
        let (header, len) = match *rest {
            [] => return (frames, true),
            [_, 126, high, low, ..] => (4, usize::from(u16::from_be_bytes([high, low]))),
            [_, len @ ..=125, ..] => (2, usize::from(len)),
            [_, 127, ..] => panic!("nobody sent so much"),
            _ => return (frames, false),
        };
        let Some(payload) = rest.get(header..header + len) else { return (frames, false) };
        frames.push((rest[0], payload.to_vec()));
        rest = &rest[header + len..];
    }
}

/// Who has what to say over which line, and how it ends.
#[derive(Debug, Clone)]
struct Schedule {
    line: Line,
    /// What the kernel is asked to hold at most.
    kernel_buffer: usize,
    bounds: QueueSettings,
    /// The frames of each deliverer: how many messages, and how long each.
    deliverers: Vec<Vec<(u32, usize)>>,
    own: Vec<Own>,
    /// How much the peer reads at a time, over and over; at 0 it pauses.
    reads: Vec<usize>,
    end: Ends,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Unix,
    Tcp,
    Tls,
}

/// What the client's own thread does.
#[derive(Debug, Clone, Copy)]
enum Own {
    Reply(usize),
    Pong,
    Ping,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    CloseBehindAll,
    Close,
    Cut,
    Finish,
}

fn schedules() -> impl Strategy<Value = Schedule> {
    let own = prop_oneof![6 => (0usize..3000).prop_map(Own::Reply), 1 => Just(Own::Pong), 1 => Just(Own::Ping)];
    let frame = (1u32..4, prop_oneof![3 => 0usize..200, 1 => 200usize..1300]);
    let policy = prop_oneof![Just(WhenFull::DropOldest), Just(WhenFull::DropNewest), Just(WhenFull::Disconnect)];
    let end = prop_oneof![3 => Just(Ends::CloseBehindAll), 1 => Just(Ends::Close), 1 => Just(Ends::Cut), 1 => Just(Ends::Finish)];
    // Any one frame is within the bounds: what is larger is allowed in an empty outbox alone.
    let bounds = (3usize..60, 4_000usize..30_000, policy);
    let lists = (vec(vec(frame, 1..150), 1..4), vec(own, 0..60), vec(0usize..5000, 1..10));
    let line = prop_oneof![Just(Line::Unix), Just(Line::Tcp), Just(Line::Tls)];
    (line, 1usize..20_000, bounds, lists, end).prop_map(|(line, kernel_buffer, bounds, lists, end)| {
        let (messages, bytes, when_full) = bounds;
        let (deliverers, own, mut reads) = lists;
        // It gets on.
        reads.push(1000);
        Schedule {
            line,
            kernel_buffer,
            bounds: QueueSettings { messages, bytes, when_full },
            deliverers,
            own,
            reads,
            end,
        }
    })
}

impl Schedule {
    fn connect(&self) -> (Socket, Option<Session>, Box<dyn Read + Send>) {
        let (socket, session, theirs): (_, _, Box<dyn Read + Send>) = match self.line {
            Line::Unix => {
                let (socket, theirs) = plain_pair();
                (socket, None, Box::new(theirs))
            }
            Line::Tls => {
                let (socket, session, theirs) = tls_pair();
                (socket, Some(session), Box::new(theirs))
            }
            Line::Tcp => {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                theirs.set_read_timeout(Some(PATIENCE)).unwrap();
                socket2::SockRef::from(&theirs).set_recv_buffer_size(self.kernel_buffer).unwrap();
                (Socket::new(listener.accept().unwrap().0), None, Box::new(theirs))
            }
        };
        socket2::SockRef::from(&socket).set_send_buffer_size(self.kernel_buffer).unwrap();
        (socket, session, theirs)
    }

    /// Reads to the end, however it comes.
    fn read(&self, mut theirs: impl Read) -> Vec<u8> {
        let mut wire = Vec::new();
        for most in self.reads.iter().cycle() {
            if *most == 0 {
                thread::park_timeout(Duration::from_millis(1));
                continue;
            }
            let begin = wire.len();
            wire.resize(begin + most, 0);
            let count = theirs.read(&mut wire[begin..]).unwrap_or(0);
            wire.truncate(begin + count);
            if count == 0 {
                break;
            }
        }
        wire
    }

    /// The outbox holds no more than its bounds and the few control frames of this schedule.
    fn assert_within_bounds(&self, outbox: &Outbox) {
        let mut bounds = self.bounds;
        bounds.bytes += self.own.len() * 3 + 2 + 125;
        let state = outbox.lock();
        let nothing = Frame::joined(bytes::Bytes::new(), 0);
        assert!(state.queue.fits(&nothing, &bounds), "it is over {bounds:?}: {:?}", state.queue);
    }

    /// Delivers, and returns how many messages were not refused.
    fn deliver(&self, outbox: &Arc<Outbox>, sender: u8, frames: &[(u32, usize)]) -> u64 {
        let (mut number, mut taken) = (0, 0);
        for (messages, len) in frames {
            let mut encoded = Vec::new();
            for _ in 0..*messages {
                message(sender, number, *len).slices(0).iter().for_each(|slice| encoded.extend_from_slice(slice));
                number += 1;
            }
            let answer = match messages {
                1 => outbox.deliver(&message(sender, number - 1, *len)),
                _ => outbox.deliver(&Frame::joined(encoded.into(), *messages)),
            };
            taken += if answer == Delivery::Closed { 0 } else { u64::from(*messages) };
            self.assert_within_bounds(outbox);
        }
        taken
    }

    /// As `deliver`, for the client's own thread.
    fn answer(&self, outbox: &Arc<Outbox>) -> u64 {
        let (mut number, mut taken) = (0, 0);
        for own in &self.own {
            match own {
                Own::Reply(len) => {
                    taken += u64::from(outbox.reply(&message(0, number, *len)));
                    number += 1;
                }
                Own::Pong => {
                    let pong = Frame::control(Role::Server, Control::Pong, b"p");
                    outbox.pong(&pong, || pong.clone());
                }
                Own::Ping => outbox.ping(),
            }
            self.assert_within_bounds(outbox);
        }
        taken
    }

    fn run(&self) {
        let (socket, session, theirs) = self.connect();
        let limits = Limits { queue: self.bounds, write_timeout: None, close_timeout: 1000 };
        let poller = Arc::new(Poller::new().unwrap());
        let outbox =
            Arc::new(Outbox::new(7.into(), Role::Server, socket, session, limits, Arc::default(), Arc::clone(&poller)));
        let ended = AtomicBool::new(false);
        let (done, is_done) = mpsc::channel::<()>();
        let (wire, taken, ending, totals) = thread::scope(|scope| {
            scope.spawn(|| {
                while !ended.load(Ordering::Acquire) {
                    poller.wait(None).unwrap().iter().for_each(Outbox::resume);
                }
            });
            // Every wait below ends with a cut, and every wait of the flusher with a wake-up.
            let guarded = Arc::clone(&outbox);
            scope.spawn(move || {
                if is_done.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
                    guarded.abort("it is stuck");
                }
            });
            let reader = scope.spawn(|| self.read(theirs));
            let mut deliverers: Vec<_> = (1u8..)
                .zip(&self.deliverers)
                .map(|(sender, frames)| {
                    let outbox = &outbox;
                    scope.spawn(move || self.deliver(outbox, sender, frames))
                })
                .collect();
            let cutter = (self.end == Ends::Cut).then(|| scope.spawn(|| outbox.abort("it is gone")));
            let mut taken = self.answer(&outbox);
            if self.end == Ends::CloseBehindAll {
                taken += deliverers.drain(..).map(|thread| thread.join().unwrap()).sum::<u64>();
            }
            if [Ends::Close, Ends::CloseBehindAll].contains(&self.end) {
                outbox.close(Some(1000), "done");
                outbox.wait_closed();
            }
            cutter.into_iter().for_each(|thread| thread.join().unwrap());
            let (ending, totals) = outbox.finish();
            taken += deliverers.into_iter().map(|thread| thread.join().unwrap()).sum::<u64>();
            outbox.socket().shutdown_write();
            let wire = reader.join().unwrap();
            ended.store(true, Ordering::Release);
            poller.wake();
            drop(done);
            (wire, taken, ending, totals)
        });
        assert_ne!(ending.reason, "it is stuck");
        assert!(poller.is_empty(), "the poller still holds it");
        assert!(outbox.lock().queue.is_empty(), "something is left, or counted wrongly");
        self.judge(&wire, taken, &ending, totals);
    }

    fn judge(&self, wire: &[u8], taken: u64, ending: &Ending, totals: Totals) {
        let (frames, is_whole) = parse(wire);
        let in_order = [Ends::Close, Ends::CloseBehindAll].contains(&self.end);
        let closes: Vec<_> = frames.iter().enumerate().filter(|(_, frame)| frame.0 == 0x88).map(|(at, _)| at).collect();
        if in_order {
            assert!(is_whole && [1000, 1008].contains(&ending.code), "{ending:?}");
            assert_eq!(closes, [frames.len() - 1], "the Close is not the last, or not there once");
            assert_eq!(totals.lost, 0);
        }
        let mut last: HashMap<u8, u32> = HashMap::new();
        let mut received = 0;
        for (_, payload) in frames.iter().filter(|frame| frame.0 == 0x82) {
            let (sender, number) = (payload[0], u32::from_be_bytes(payload[1..5].try_into().unwrap()));
            let is_later = last.insert(sender, number).is_none_or(|before| before < number);
            assert!(is_later, "{sender}: {number} out of order");
            assert!(payload[5..].iter().all(|&byte| byte == sender), "{sender}: {number} is damaged");
            received += 1;
        }
        // Of a frame that was cut off in the middle some messages may be out; it counts as lost.
        let begun = if in_order { 0 } else { 2 };
        assert!((totals.messages..=totals.messages + begun).contains(&received), "{received}: {totals:?}");
        assert_eq!(taken, totals.messages + totals.dropped + totals.lost, "{totals:?}");
        let slow = self.bounds.when_full == WhenFull::Disconnect;
        assert!(!slow || (totals.dropped > 0) == (ending.code == 1008) || !in_order, "{ending:?} {totals:?}");
        if self.line != Line::Tls {
            assert_eq!(totals.bytes, wire.len() as u64);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_schedule_the_bounds_hold_and_every_message_is_accounted_for(schedule in schedules()) {
        schedule.run();
    }
}

/// Three deliverers, the client's own replies, its pongs and pings, the flusher, and a slow reader.
fn stress(socket: Socket, session: Option<Session>, theirs: impl Read + Send + 'static) {
    const MESSAGES: u32 = 3000;
    let outbox = outbox(socket, session, 64 << 10);
    let ended = Arc::new(AtomicBool::new(false));
    let flusher = {
        let (poller, ended) = (Arc::clone(&outbox.poller), Arc::clone(&ended));
        thread::spawn(move || {
            while !ended.load(Ordering::Acquire) {
                poller.wait(None).unwrap().iter().for_each(Outbox::resume);
            }
        })
    };
    let reader = thread::spawn(move || read_frames(theirs, 4));
    let senders: Vec<_> = (0..4u8)
        .map(|sender| {
            let outbox = Arc::clone(&outbox);
            thread::spawn(move || {
                for number in 0..MESSAGES {
                    // From one byte to more than a TLS record.
                    let len = (number as usize * 7919 + usize::from(sender) * 31)
                        % if number % 50 == 0 { 40_000 } else { 2_000 };
                    let frame = message(sender, number, len);
                    if sender > 0 {
                        outbox.deliver(&frame);
                        continue;
                    }
                    assert!(outbox.reply(&frame));
                    if number % 3 == 0 {
                        let pong = Frame::control(Role::Server, Control::Pong, b"p");
                        outbox.pong(&pong, || pong.clone());
                    }
                    if number % 100 == 0 {
                        outbox.ping();
                    }
                    if number % 7 == 0 {
                        outbox.acknowledge(Frame::joined(
                            [vec![0x81, 4], number.to_be_bytes().to_vec()].concat().into(),
                            0,
                        ));
                    }
                }
            })
        })
        .collect();
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    outbox.close(Some(1000), "done");
    outbox.wait_closed();
    let frames = reader.join().unwrap();
    let state = outbox.lock();
    assert_eq!(state.stage, Stage::Closed);
    assert!(state.queue.is_empty() && !state.has_work(), "something is left, or counted wrongly");
    drop(state);
    let (ending, totals) = outbox.finish();
    assert_eq!(ending.code, 1000);
    let closes: Vec<_> = frames.iter().enumerate().filter(|(_, frame)| frame.0 == 0x88).map(|(at, _)| at).collect();
    assert_eq!(closes, [frames.len() - 1], "the Close is not the last, or not there once");
    let acknowledgements: Vec<_> = frames.iter().filter(|frame| frame.0 == 0x81).map(|frame| &frame.1).collect();
    assert!(acknowledgements.is_sorted() && !acknowledgements.is_empty(), "{acknowledgements:?}");
    let mut last: HashMap<u8, u32> = HashMap::new();
    let mut received = 0;
    for (_, payload) in frames.iter().filter(|frame| frame.0 == 0x82) {
        let (sender, number) = (payload[0], u32::from_be_bytes(payload[1..5].try_into().unwrap()));
        assert!(last.insert(sender, number).is_none_or(|before| before < number), "{sender}: {number} out of order");
        assert!(payload[5..].iter().all(|&byte| byte == sender), "{sender}: {number} is damaged");
        received += 1;
    }
    assert!(totals.dropped > 0, "the reader was not slow");
    assert_eq!(totals.messages, received);
    assert_eq!(received + totals.dropped, u64::from(4 * MESSAGES), "a message is lost that no policy dropped");
    assert!(frames.iter().any(|frame| frame.0 == 0x8A) && frames.iter().any(|frame| frame.0 == 0x89));
    assert!(outbox.poller.is_empty(), "the poller still holds it");
    ended.store(true, Ordering::Release);
    outbox.poller.wake();
    flusher.join().unwrap();
}

#[test]
fn whoever_writes_at_the_same_time_nothing_is_lost_repeated_or_reordered() {
    let (socket, theirs) = plain_pair();
    stress(socket, None, theirs);
}

#[test]
fn whoever_writes_at_the_same_time_over_tls_nothing_is_lost_repeated_or_reordered() {
    let (socket, session, theirs) = tls_pair();
    stress(socket, Some(session), theirs);
}

#[test]
fn what_the_kernel_has_not_taken_whole_is_given_back_in_order() {
    let (plain, plain_end) = plain_pair();
    let (secured, session, secured_end) = tls_pair();
    let ends: [(_, _, Box<dyn Read>); 2] =
        [(plain, None, Box::new(plain_end)), (secured, Some(session), Box::new(secured_end))];
    for (socket, session, mut theirs) in ends {
        let queue = QueueSettings { messages: 64, bytes: 2 << 20, when_full: WhenFull::DropOldest };
        let limits = Limits { queue, write_timeout: Some(60), close_timeout: 10 };
        let poller = Arc::new(Poller::new().unwrap());
        let outbox = Arc::new(Outbox::new(7.into(), Role::Client, socket, session, limits, Arc::default(), poller));
        let given: Vec<Vec<u8>> = (0..60).map(|number| numbered(1, number, 17_000)).collect();
        for number in 0..60 {
            assert_eq!(outbox.deliver(&message(1, number, 17_000)), Delivery::Taken);
        }
        outbox.ping();
        outbox.abort("the line is down");
        let (ending, totals, unsent) = outbox.reclaim();
        assert_eq!((ending.code, totals.lost), (1006, 0));
        assert_eq!(totals.messages as usize + unsent.len(), 60);
        assert!(totals.messages > 0 && unsent.len() > 10, "{totals:?}");
        let frame_len = message(1, 0, 17_000).len();
        let mut wire = Vec::new();
        // A TLS peer misses the close_notify.
        let _ = theirs.read_to_end(&mut wire);
        assert!(wire.len() / frame_len >= totals.messages as usize);
        for (frame, expected) in unsent.iter().zip(&given[totals.messages as usize..]) {
            let bytes: Vec<u8> = frame.slices(0).iter().flat_map(|slice| slice.to_vec()).collect();
            assert!(bytes.ends_with(expected), "out of order");
        }
        assert_eq!(outbox.deliver(&message(1, 60, 0)), Delivery::Closed);
    }
}

#[test]
fn of_joined_messages_those_that_were_written_are_not_given_back_and_count() {
    let (socket, theirs) = plain_pair();
    let queue = QueueSettings { messages: 64, bytes: 2 << 20, when_full: WhenFull::DropOldest };
    let limits = Limits { queue, write_timeout: Some(60), close_timeout: 10 };
    let poller = Arc::new(Poller::new().unwrap());
    let outbox = Arc::new(Outbox::new(7.into(), Role::Client, socket, None, limits, Arc::default(), poller));
    let mut encoded = Vec::new();
    for number in 0..60 {
        message(1, number, 17_000).slices(0).iter().for_each(|slice| encoded.extend_from_slice(slice));
    }
    assert_eq!(outbox.deliver(&Frame::joined(encoded.into(), 60)), Delivery::Taken);
    outbox.abort("the line is down");
    let (_, totals, unsent) = outbox.reclaim();
    let mut wire = Vec::new();
    (&theirs).read_to_end(&mut wire).unwrap();
    let arrived = wire.len() / message(1, 0, 17_000).len();
    assert!((1..60).contains(&arrived), "{arrived} have arrived");
    assert_eq!((totals.messages as usize, unsent[0].messages()), (arrived, 60 - arrived));
}

#[test]
fn whoever_is_asked_whether_to_give_up_may_look_at_the_outbox() {
    let (socket, theirs) = plain_pair();
    let outbox = outbox(socket, None, 1 << 10);
    let (done, all_done) = mpsc::channel();
    let waiter = {
        let outbox = Arc::clone(&outbox);
        thread::spawn(move || {
            // Nobody reads: some time it has no room.
            let gives_up = || !outbox.is_closing() && outbox.ping_state() == PingState::None;
            while outbox.reply_unless(&message(1, 0, 1000), gives_up) {}
            done.send(()).unwrap();
        })
    };
    all_done.recv_timeout(PATIENCE).expect("it asks with its lock in hand");
    waiter.join().unwrap();
    drop(theirs);
}

#[test]
fn the_write_deadline_runs_from_the_first_byte_that_the_kernel_did_not_take() {
    let (socket, _theirs) = plain_pair();
    // Fill the socket to the brim, as if every write so far had been taken whole.
    while socket.send_now(&[0; 4096]).is_ok() {}
    while socket.send_now(&[0]).is_ok() {}
    let outbox = outbox(socket, None, 1 << 20);
    let mut now = 1;
    while now < 1000 {
        now = outbox.clock.tick();
    }
    assert_eq!(outbox.deliver(&message(1, 1, 10)), Delivery::Taken);
    assert!(outbox.lock().stalled);
    outbox.poller.sweep(now + 59);
    assert!(!outbox.is_closing(), "it was cut before it had the write timeout");
    outbox.poller.sweep(now + 60);
    assert!(outbox.is_closing());
}

#[test]
fn a_session_that_seals_nothing_any_more_ends_the_connection() {
    let (socket, mut session, _theirs) = tls_pair();
    session.say_goodbye();
    let outbox = outbox(socket, Some(session), 1 << 20);
    outbox.deliver(&message(1, 1, 10));
    assert!(outbox.is_closing(), "the message is lost and nobody knows");
    let (ending, totals) = outbox.finish();
    assert!(ending.reason.starts_with("failed to encrypt"));
    assert_eq!((totals.messages, totals.lost), (0, 1));
}

#[test]
fn a_queued_message_that_cannot_be_sealed_is_lost_and_counted() {
    let (socket, mut session, _theirs) = tls_pair();
    session.say_goodbye();
    let outbox = outbox(socket, Some(session), 1 << 20);
    outbox.enqueue(message(1, 1, 10));
    outbox.flush();
    assert_eq!(outbox.finish().1.lost, 1);
}

#[test]
fn what_is_sealed_and_not_sent_when_the_connection_is_cut_is_lost_and_counted() {
    let (socket, session, _theirs) = tls_pair();
    let outbox = outbox(socket, Some(session), 1 << 20);
    let mut delivered = 0;
    while !outbox.lock().stalled {
        assert_eq!(outbox.deliver(&message(1, delivered, 10_000)), Delivery::Taken);
        delivered += 1;
    }
    outbox.abort("it is gone");
    assert!(outbox.lock().queue.is_empty(), "what is gone is still counted");
    let totals = outbox.finish().1;
    assert_eq!(totals.messages + totals.lost, u64::from(delivered));
}

/// Fills an outbox beyond what its socket takes; how many messages that were.
fn fill(outbox: &Arc<Outbox>) -> u32 {
    let mut delivered = 0;
    while {
        let state = outbox.lock();
        !state.stalled || state.queue.fits(&message(1, 0, 10_000), &state.limits.queue)
    } {
        assert_eq!(outbox.deliver(&message(1, delivered, 10_000)), Delivery::Taken);
        delivered += 1;
    }
    delivered
}

#[test]
fn c14_shortly_before_the_deadline_what_is_queued_is_given_up_for_the_close() {
    let (plain, plain_end) = plain_pair();
    let (secured, session, secured_end) = tls_pair();
    let ends: [(_, _, Box<dyn Read + Send>); 2] =
        [(plain, None, Box::new(plain_end)), (secured, Some(session), Box::new(secured_end))];
    for (socket, session, theirs) in ends {
        let outbox = outbox(socket, session, 1 << 20);
        let delivered = fill(&outbox);
        outbox.close_by(Some(1001), "Server shutting down", 10);
        outbox.poller.sweep(6);
        let queued = outbox.lock().queue.has_waiting() && outbox.lock().totals.lost == 0;
        assert!(queued, "it was given up too soon");
        outbox.poller.sweep(7);
        let flusher = {
            let (outbox, poller) = (Arc::clone(&outbox), Arc::clone(&outbox.poller));
            thread::spawn(move || {
                while outbox.lock().stage < Stage::Closed {
                    poller.wait(None).unwrap().iter().for_each(Outbox::resume);
                }
            })
        };
        let mut frames = read_frames(theirs, usize::MAX);
        flusher.join().unwrap();
        assert_eq!(frames.pop(), Some((0x88, b"\x03\xe9Server shutting down".to_vec())));
        let (ending, totals) = outbox.finish();
        assert_eq!(ending.code, 1001);
        assert!(totals.lost > 10, "{totals:?}");
        assert_eq!((totals.messages, totals.messages + totals.lost), (frames.len() as u64, u64::from(delivered)));
    }
}

#[test]
fn c14_a_close_that_never_left_is_not_said_to_have_been_sent() {
    let (socket, _theirs) = plain_pair();
    let outbox = outbox(socket, None, 1 << 20);
    fill(&outbox);
    outbox.close_by(Some(1001), "Server shutting down", 10);
    outbox.poller.sweep(10);
    let ending = outbox.finish().0;
    assert_eq!((ending.code, &*ending.reason), (1006, "Server shutting down (the Close with 1001 never left)"));
}

#[test]
fn c6_a_connection_that_was_closed_keeps_no_socket_until_the_heartbeat_comes() {
    let (socket, mut theirs) = plain_pair();
    let outbox = outbox(socket, None, 1 << 20);
    outbox.close(Some(1000), "done");
    outbox.wait_closed();
    outbox.finish();
    assert_eq!(Arc::strong_count(&outbox), 1);
    drop(outbox);
    let mut wire = Vec::new();
    theirs.read_to_end(&mut wire).unwrap();
    assert_eq!(wire, b"\x88\x06\x03\xe8done");
}
