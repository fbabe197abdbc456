//! What routing, reading and the outbox cost a message, without the network.
//!
//! `cargo bench --bench core`

use std::hint::black_box;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use wsgate::internals::clock::Clock;
use wsgate::internals::config::{self, QueueSettings};
use wsgate::internals::connection::frame::{Cork, CorkLimits, Frame, Role};
use wsgate::internals::connection::outbox::{Limits, Outbox};
use wsgate::internals::connection::poller::Poller;
use wsgate::internals::connection::queue::Queue;
use wsgate::internals::connection::reader::{Reader, Sink};
use wsgate::internals::connection::socket::Socket;
use wsgate::internals::id::Id;
use wsgate::internals::message::{Kind, Message};
use wsgate::internals::route::Routes;

/// Messages of one read: what a client with 16 requests in flight sends.
const BATCH: usize = 16;

fn message() -> Message {
    Message { kind: Kind::Text, data: Bytes::from_static(&[b'x'; 64]) }
}

fn routing(c: &mut Criterion) {
    let endpoint = |path: &str, to: &[&str]| format!("[[endpoint]]\npath = {path:?}\nto = {to:?}\n");
    let text = [
        endpoint("/", &["broadcast"]),
        endpoint("/rooms/{room}", &["others", "endpoint:/dash/{room}"]),
        endpoint("/rooms/lobby", &["reply"]),
        endpoint("/dash/{room}", &[]),
    ];
    let settings = config::parse(&text.concat(), "bench.toml", Path::new("")).expect("a good configuration");
    let routes = Routes::new(&settings.endpoints, &[]);
    let mut group = c.benchmark_group("route");
    group.bench_function("find a room with a parameter", |b| {
        b.iter(|| routes.find(black_box("/rooms/kitchen"), |_| true));
    });
    let room = routes.find("/rooms/kitchen", |_| true).expect("the endpoint is there");
    group.bench_function("bind two targets", |b| b.iter(|| routes.targets(black_box(&room), None)));
    group.finish();
}

fn outbox(c: &mut Criterion) {
    let bounds = QueueSettings::default();
    let frame = Frame::message(&message());
    let mut group = c.benchmark_group("outbox");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("cork 16 messages", |b| {
        let mut cork = Cork::new(CorkLimits::for_queue(bounds.messages, bounds.bytes));
        b.iter(|| {
            (0..BATCH).for_each(|_| cork.push(&message(), BATCH * 70));
            cork.take()
        });
    });
    group.bench_function("queue, take and settle 16 frames", |b| {
        let mut queue = Queue::default();
        b.iter(|| {
            for _ in 0..BATCH {
                black_box(queue.offer(&frame, &bounds));
            }
            let taken = queue.take(64, 64 << 10).expect("16 frames are queued");
            queue.settle(taken, BATCH * frame.len())
        });
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("deliver one frame to a socket, and read it there", |b| {
        let (ours, mut theirs) = UnixStream::pair().expect("a socket pair");
        let limits = Limits { queue: bounds, write_timeout: None, close_timeout: 10 };
        let poller = Arc::new(Poller::new().expect("an epoll"));
        let outbox = Arc::new(Outbox::new(
            Id::from(1),
            Role::Server,
            Socket::new(ours),
            None,
            limits,
            Arc::new(Clock::new()),
            poller,
        ));
        let mut received = vec![0; frame.len()];
        b.iter(|| {
            black_box(outbox.deliver(&frame));
            theirs.read_exact(&mut received).expect("the frame arrives");
        });
    });
    group.finish();
}

/// Counts what is read.
#[derive(Default)]
struct Count(usize);

impl Sink for Count {
    fn message(&mut self, message: Message) {
        self.0 += message.data.len();
    }

    fn borrowed(&mut self, _kind: Kind, payload: &[u8]) {
        self.0 += payload.len();
    }

    fn ping(&mut self, _payload: Bytes) {}
}

fn reading(c: &mut Criterion) {
    let masked = [&[0x81, 0x80 | 64, 1, 2, 3, 4][..], &[b'x' ^ 1, b'x' ^ 2, b'x' ^ 3, b'x' ^ 4].repeat(16)].concat();
    // Unmasked where it lies, it is text again each time.
    let mut wire = masked.repeat(BATCH);
    let mut group = c.benchmark_group("reader");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("16 text messages of 64 bytes", |b| {
        let mut reader = Reader::new(Role::Server, 1 << 20);
        b.iter(|| {
            let mut count = Count::default();
            reader.read(black_box(&mut wire), &mut count).expect("the frames are valid");
            assert_eq!(count.0, BATCH * 64);
        });
    });
    group.finish();
}

criterion_group!(benches, routing, outbox, reading);
criterion_main!(benches);
