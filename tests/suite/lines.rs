//! Real lines that break: cut without a sign in both directions or in one, or losing packets. Clients at the
//! dead end are disconnected in time, the others do not notice, and a line that only loses packets costs no client its
//! connection.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use native_tls::{Certificate, TlsConnector};
use tungstenite::{Error, Message, WebSocket};

use crate::harness::{
    Cable, Canary, Carried, DEADLINE, Gateway, LossyLine, NEAR, Namespace, Raw, eventually, masked, measured,
};

/// The listener "plain" is for clients that do not use the line and must not notice it.
const CONFIG: &str = r#"
[[listen]]
name = "plain"
address = "127.0.0.1:0"

[[listen]]
name = "line"
address = "192.0.2.1:0"

[[listen]]
name = "line with TLS"
address = "192.0.2.1:0"
tls = { certificate = "cert.pem", private_key = "key.pem" }

[[endpoint]]
path = "/canary"
to = ["reply"]
heartbeat = "off"

[[endpoint]]
path = "/clock"
to = ["reply"]
heartbeat = "1s"

[[endpoint]]
path = "/quiet"
to = ["reply"]
heartbeat = "1s"
pong_timeout = "1s"

[[endpoint]]
path = "/feed"
to = ["endpoint:/fed"]
heartbeat = "off"

[[endpoint]]
path = "/fed"
heartbeat = "1s"
pong_timeout = "1s"
write_timeout = "2s"

[[endpoint]]
path = "/off"
to = ["others"]
heartbeat = "off"
write_timeout = "2s"

[[endpoint]]
path = "/echo"
to = ["reply"]
heartbeat = "2s"
pong_timeout = "60s"
write_timeout = "60s"

[[endpoint]]
path = "/publish"
to = ["endpoint:/news"]
heartbeat = "off"

[[endpoint]]
path = "/news"
heartbeat = "2s"
pong_timeout = "60s"
write_timeout = "60s"
"#;

/// What a case grants on top of a deadline.
const GRACE: Duration = Duration::from_secs(3);

/// The latest that a dead client may be gone: heartbeat and pong timeout, of a second each.
const SILENT_MAX: Duration = Duration::from_secs(2).saturating_add(GRACE);

/// The same for one for which something waits: the write timeout.
const UNTAKEN_MAX: Duration = Duration::from_secs(2).saturating_add(GRACE);

/// A good client on the line: the one of tungstenite, which answers pings whenever it reads.
struct Device {
    socket: TcpStream,
    websocket: WebSocket<Box<dyn ReadWrite>>,
    /// The longest that it has waited for a number.
    waited: Duration,
}

trait ReadWrite: Read + Write + Send {}
impl<T: Read + Write + Send> ReadWrite for T {}

/// How a device reaches the gateway over the line.
struct Ways {
    plain: u16,
    tls: u16,
    connector: TlsConnector,
}

impl Ways {
    fn to(gateway: &Gateway) -> Ways {
        let authority = Certificate::from_pem(&fs::read(gateway.file("ca.pem")).unwrap()).unwrap();
        let connector = TlsConnector::builder().add_root_certificate(authority).build().unwrap();
        Ways { plain: gateway.port("line"), tls: gateway.port("line with TLS"), connector }
    }

    /// Connects this many from inside `end`, every second one with TLS.
    fn connect(&self, end: &Namespace, count: usize, path: &str) -> Vec<Device> {
        end.within(|| (0..count).map(|number| self.device(number % 2 == 1, path)).collect())
    }

    fn device(&self, has_tls: bool, path: &str) -> Device {
        let socket = TcpStream::connect((NEAR, if has_tls { self.tls } else { self.plain })).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.set_write_timeout(Some(DEADLINE)).unwrap();
        let stream = socket.try_clone().unwrap();
        let stream: Box<dyn ReadWrite> =
            if has_tls { Box::new(self.connector.connect("localhost", stream).unwrap()) } else { Box::new(stream) };
        let (websocket, _) = tungstenite::client(format!("ws://gateway{path}"), stream).unwrap();
        Device { socket, websocket, waited: Duration::ZERO }
    }
}

impl Device {
    /// Reads on until all is over. Says whether the connection has ended before.
    fn live(mut self, over: &AtomicBool) -> bool {
        // How soon it notices that all is over.
        self.socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        while !over.load(Ordering::Relaxed) {
            match self.websocket.read() {
                Err(Error::Io(error)) if is_late(&error) => {}
                Err(_) => return true,
                Ok(_) => {}
            }
        }
        false
    }

    /// Waits as long as the loss of packets may make it wait.
    fn has_patience(&self) {
        self.socket.set_read_timeout(Some(PATIENCE)).unwrap();
        self.socket.set_write_timeout(Some(PATIENCE)).unwrap();
    }

    /// The number in the next message.
    fn number(&mut self) -> u64 {
        let asked = Instant::now();
        loop {
            match self.websocket.read().expect("a live client is not cut, and hears everything") {
                Message::Binary(bytes) => {
                    self.waited = self.waited.max(asked.elapsed());
                    return u64::from_be_bytes(bytes[..8].try_into().unwrap());
                }
                Message::Ping(_) => {}
                message => panic!("no number but {message:?}"),
            }
        }
    }
}

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// A message with a number, of this many bytes.
fn numbered(number: u64, length: usize) -> Vec<u8> {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.resize(length, b'n');
    bytes
}

/// Tells the devices that all is over when it is dropped: also in a panic, or their threads would be
/// waited for in vain.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The line, unless this machine has no means for it, which is said.
fn laid<T>(line: Result<T, String>) -> Option<T> {
    line.map_err(|why| measured("F11", format!("skipped: {why}"))).ok()
}

/// Waits until this many clients of the path are gone, with something to do after each, and says how
/// long after `cut` they were.
fn departures(
    gateway: &Gateway,
    path: &str,
    count: usize,
    cut: Instant,
    mut after_each: impl FnMut(),
) -> Vec<Duration> {
    let gone = format!("disconnected from '{path}'");
    let departure = |number| {
        gateway.wait_for_logs(&gone, number);
        let gone = cut.elapsed();
        after_each();
        gone
    };
    (1..=count).map(departure).collect()
}

/// Waits until the gateway has no more threads and descriptors than it had.
fn are_back(gateway: &Gateway, before: (usize, usize)) {
    eventually("threads and descriptors are back", DEADLINE, || (gateway.threads(), gateway.descriptors()) == before);
}

/// All of them were gone by then; their figures.
fn in_time(what: &str, gone: &[Duration], latest: Duration) -> String {
    let [first, middle, last] = [gone[0], gone[gone.len() / 2], gone[gone.len() - 1]].map(|gone| gone.as_secs_f64());
    assert!(gone[gone.len() - 1] <= latest, "{what}: the last was gone after {last:.1} s");
    format!("{what}: {} of {} gone after {first:.1}/{middle:.1}/{last:.1} s", gone.len(), gone.len())
}

/// Waits for three pings of the heartbeat, after which a client that does not answer is gone, and checks that none is.
fn all_answer_three_pings(gateway: &Gateway, near: &Namespace) {
    let mut clock = beside(gateway, near, "/clock");
    (0..3).for_each(|_| clock.pinged());
    let log = gateway.log();
    assert!(!log.iter().any(|line| line.contains("disconnected")), "gone before the line was cut: {log:#?}");
}

/// A client that does not use the line.
fn beside(gateway: &Gateway, near: &Namespace, path: &str) -> Raw {
    let mut client = near.within(|| gateway.raw("plain"));
    client.upgrade(path, &[]);
    client
}

#[test]
fn f11_clients_whose_cable_is_cut_are_gone_after_two_intervals_and_the_others_never_notice() {
    const DEVICES: usize = 20;
    let Some(cable) = laid(Cable::lay()) else { return };
    let gateway = cable.near.within(|| Gateway::start(CONFIG));
    let mut canary = cable.near.within(|| Canary::connect(&gateway));
    canary.check_echo("the start");
    let before = (gateway.threads(), gateway.descriptors());
    let devices = Ways::to(&gateway).connect(&cable.far, DEVICES, "/quiet");

    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let end = Over(&over);
        let lives: Vec<_> = devices.into_iter().map(|device| scope.spawn(|| device.live(&over))).collect();
        all_answer_three_pings(&gateway, &cable.near);

        let cut = Instant::now();
        cable.cut();
        let gone = departures(&gateway, "/quiet", DEVICES, cut, || canary.check_echo("a cut"));
        measured("F11", in_time("cable cut, quiet clients", &gone, SILENT_MAX));
        let dead = gateway.wait_for_logs("code 1006, reason 'no sign of life after a ping'", DEVICES);
        assert_eq!(dead.len(), DEVICES, "{dead:#?}");
        are_back(&gateway, before);
        drop(end);
        for life in lives {
            assert!(!life.join().unwrap(), "the cut was to be a silent one, but a client was told");
        }
    });
}

/// Which end hears nothing of the other any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deaf {
    Gateway,
    Clients,
}

#[test]
fn f11_clients_that_the_gateway_cannot_hear_are_gone_in_time() {
    one_way(Deaf::Gateway);
}

#[test]
fn f11_clients_that_the_gateway_cannot_reach_are_gone_in_time() {
    one_way(Deaf::Clients);
}

/// Three kinds of clients lose one direction of their line: quiet ones, ones for which more is
/// published than the kernel takes, and quiet ones of an endpoint without a heartbeat.
fn one_way(deaf: Deaf) {
    const QUIET: usize = 20;
    const FED: usize = 6;
    const OFF: usize = 2;
    let Some(mut line) = laid(LossyLine::lay(SEED)) else { return };
    let gateway = line.near.within(|| Gateway::start(CONFIG));
    let mut canary = line.near.within(|| Canary::connect(&gateway));
    let [mut to_fed, mut to_off] = ["/feed", "/off"].map(|path| beside(&gateway, &line.near, path));
    canary.check_echo("the start");
    let before = (gateway.threads(), gateway.descriptors());
    let ways = Ways::to(&gateway);
    let devices =
        [(QUIET, "/quiet"), (FED, "/fed"), (OFF, "/off")].map(|(count, path)| ways.connect(&line.far, count, path));

    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let end = Over(&over);
        let lives = devices.map(|devices| -> Vec<_> {
            devices.into_iter().map(|device| scope.spawn(|| device.live(&over))).collect()
        });
        all_answer_three_pings(&gateway, &line.near);

        let cut = Instant::now();
        match deaf {
            Deaf::Gateway => line.lose(0.0, 1.0),
            Deaf::Clients => line.lose(1.0, 0.0),
        };
        let fed = scope.spawn(|| {
            for number in 0..100 {
                to_fed.send(&masked(0x82, &numbered(number, 16 << 10)));
            }
            departures(&gateway, "/fed", FED, Instant::now(), || {})
        });
        let quiet = departures(&gateway, "/quiet", QUIET, cut, || canary.check_echo("a cut one way"));
        let fed = fed.join().unwrap();
        let log = gateway.log();
        let off_is_gone = log.iter().any(|line| line.contains("disconnected from '/off'"));
        assert!(!off_is_gone, "nothing was to be noticed without a heartbeat: {log:#?}");
        let told = Instant::now();
        to_off.send_text("is anybody there?");
        let off = departures(&gateway, "/off", OFF, told, || {});

        let cut = format!("deaf {deaf:?}").to_lowercase();
        measured("F11", in_time(&format!("{cut}, quiet clients"), &quiet, SILENT_MAX));
        measured("F11", in_time(&format!("{cut}, clients with a full queue"), &fed, UNTAKEN_MAX));
        measured("F11", in_time(&format!("{cut}, one message without a heartbeat"), &off, UNTAKEN_MAX));
        are_back(&gateway, before);
        drop(end);
        // A gateway that hears no acknowledgement may or may not get its end across; from one that is
        // not heard no client can know.
        let told = lives.into_iter().flatten().map(|life| life.join().unwrap()).filter(|told| *told).count();
        assert!(deaf == Deaf::Gateway || told == 0, "the line was to be dead, but {told} clients were told");
    });
}

/// What the losses depend on, besides the order of the packets.
const SEED: u64 = 11;

/// The longest that a live client on a bad line waits for anything: the gateway's own deadline.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn f11_live_clients_on_a_line_that_loses_a_third_are_not_cut_and_lose_nothing() {
    const LOSS: f64 = 0.3;
    const LONG: Duration = Duration::from_secs(15);
    /// Echo clients, and how many of their messages are on the way at once.
    const ECHOES: usize = 10;
    const WINDOW: u64 = 4;
    /// Clients of a broadcast, and how many messages a second it has.
    const READERS: usize = 10;
    const RATE: u32 = 20;
    const MESSAGE: usize = 2 << 10;

    let Some(mut line) = laid(LossyLine::lay(SEED)) else { return };
    let gateway = line.near.within(|| Gateway::start(CONFIG));
    let mut publisher = beside(&gateway, &line.near, "/publish");
    let ways = Ways::to(&gateway);
    let [echoes, readers] =
        [(ECHOES, "/echo"), (READERS, "/news")].map(|(count, path)| ways.connect(&line.far, count, path));
    let published = u64::from(RATE) * LONG.as_secs();

    thread::scope(|scope| {
        line.lose(LOSS, LOSS);
        let begin = Instant::now();
        let echoes: Vec<_> = echoes
            .into_iter()
            .map(|mut device| {
                scope.spawn(move || {
                    device.has_patience();
                    let (mut sent, mut echoed) = (0, 0);
                    loop {
                        let goes_on = begin.elapsed() < LONG;
                        if goes_on && sent - echoed < WINDOW {
                            device.websocket.send(Message::binary(numbered(sent, MESSAGE))).unwrap();
                            sent += 1;
                        } else if echoed < sent {
                            assert_eq!(device.number(), echoed);
                            echoed += 1;
                        } else {
                            return (device, echoed);
                        }
                    }
                })
            })
            .collect();
        let readers: Vec<_> = readers
            .into_iter()
            .map(|mut device| {
                scope.spawn(move || {
                    device.has_patience();
                    (0..published).for_each(|number| assert_eq!(device.number(), number));
                    device
                })
            })
            .collect();
        let pace = crossbeam_channel::tick(Duration::from_secs(1) / RATE);
        for number in 0..published {
            pace.recv().unwrap();
            publisher.send(&masked(0x82, &numbered(number, MESSAGE)));
        }
        // What is on the way may take as long again as it has been waiting already; on a good line
        // that is not for ever.
        let Carried { carried, lost } = line.lose(0.0, 0.0);
        let resent = line.near.retransmitted();
        let echoes: Vec<_> = echoes.into_iter().map(|device| device.join().unwrap()).collect();
        let readers: Vec<_> = readers.into_iter().map(|device| device.join().unwrap()).collect();
        let took = begin.elapsed();
        let waited = echoes.iter().map(|(device, _)| device).chain(&readers).map(|device| device.waited).max().unwrap();

        let log = gateway.log();
        assert!(!log.iter().any(|line| line.contains("disconnected")), "a live client was cut: {log:#?}");
        let part = lost as f64 / (carried + lost) as f64;
        assert!((0.25..0.35).contains(&part), "the line has lost {part:.2} of the packets");
        let echoed: Vec<u64> = echoes.iter().map(|(_, echoed)| *echoed).collect();
        let (fewest, most) = (echoed.iter().min().unwrap(), echoed.iter().max().unwrap());
        measured(
            "F11",
            format!(
                "{:.0} % of {} packets lost: 0 of {} clients cut, {} echoes ({fewest} to {most} a client) and {} news, none \
                 lost, the last after {:.1} s; the longest wait for a message {:.1} s; the gateway sent {resent} segments \
                 again",
                part * 100.0,
                carried + lost,
                echoes.len() + readers.len(),
                echoed.iter().sum::<u64>(),
                published * readers.len() as u64,
                took.as_secs_f64(),
                waited.as_secs_f64(),
            ),
        );
    });
}
