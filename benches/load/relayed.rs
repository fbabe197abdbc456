//! The cases of relays: what a relay costs beside the plain echo of the same build, many relayed clients, and some
//! whose client or upstream stops reading.
//!
//! The relay has the server's core for itself. Its upstream, a wsgate that echoes, shares the other one with the
//! generator, so that nothing but the relay is in the relay's CPU time.

use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use crate::cases::{Bench, Figures, IDLE, SETTLE, Span, WARM_UP, connect, micros};
use crate::frame::Messages;
use crate::generator::Generator;
use crate::histogram::Histogram;
use crate::loads::{Echo, Quiet, Until};
use crate::process::{self, Memory, Server};

/// Relay and plain echo take turns so many times in one run: what drifts on the machine cancels out.
const TURNS: u32 = 4;

/// So many clients stop reading, and as many upstreams.
pub(crate) const STOPPED: usize = 4;

/// Messages of those who write to somebody that does not read.
const STOPPED_SIZE: usize = 64 * 1024;

/// How long the others go on between two tries to write more, and after how many vain tries nothing more is taken.
const TURN: Duration = Duration::from_millis(100);
const VAIN_TURNS: u32 = 10;

/// The write timeout of 30 s would end a connection that is stopped for longer.
const STOPPED_DEADLINE: Duration = Duration::from_secs(25);

/// `queue.bytes` of the endpoints below, and the read buffer of 4 KiB that each message in it still has behind it.
const QUEUE_KIB: f64 = 4096.0 + 4.0 * 64.0;

/// What a thread that is held may have in its hands besides: a scratch buffer of 256 KiB, a message on its way, and
/// a part of the next one.
const HANDS_KIB: f64 = 512.0;

/// When all clients are gone their threads have this long to be gone too.
const LEFT_DEADLINE: Duration = Duration::from_secs(10);

/// The CPU time a message of a relay, of a plain echo and of a pump of bytes in the relay's place, in turns.
pub(crate) fn traffic(
    bench: &Bench,
    plain: &Server,
    direct: &mut Generator,
    clients: usize,
    size: usize,
    window: u64,
) -> Result<Figures, String> {
    let (upstream, relay) = start(bench, None)?;
    let relayed = &mut Generator::new(None)?;
    let pump = Server::pump(upstream.address(), bench.cores, &bench.workspace)?;
    let pumped = &mut Generator::new(None)?;
    connect(direct, plain, "/echo", clients)?;
    connect(relayed, &relay, "/relay", clients)?;
    connect(pumped, &pump, "/echo", clients)?;
    let mut direct_load = Echo::new(direct, size, window);
    let mut relayed_load = Echo::new(relayed, size, window);
    let mut pumped_load = Echo::new(pumped, size, window);
    direct_load.run(direct, Until::After(WARM_UP))?;
    relayed_load.run(relayed, Until::After(WARM_UP))?;
    pumped_load.run(pumped, Until::After(WARM_UP))?;
    let turn = Until::After(bench.time / TURNS);
    let mut spans: Option<[Span; 3]> = None;
    let mut upstream_cpu = Duration::ZERO;
    for _ in 0..TURNS {
        let direct = Span::measure(plain, || direct_load.run(direct, turn))?;
        let before = upstream.cpu()?;
        let relayed = Span::measure(&relay, || relayed_load.run(relayed, turn))?;
        upstream_cpu += upstream.cpu()? - before;
        let pumped = Span::measure(&pump, || pumped_load.run(pumped, turn))?;
        let turns = [direct, relayed, pumped];
        match &mut spans {
            None => spans = Some(turns),
            Some(all) => all.iter_mut().zip(&turns).for_each(|(all, turn)| all.add(turn)),
        }
    }
    // A message too many arrives behind the last one that was due.
    Quiet::run(relayed, SETTLE)?;
    let [direct, relayed, pumped] = spans.ok_or("nothing was measured")?;
    let upstream_percent = upstream_cpu.as_secs_f64() / relayed.counted.elapsed.as_secs_f64() * 100.0;
    let values = vec![
        relayed.cpu_per_message(),
        direct.cpu_per_message(),
        relayed.cpu_per_message() / direct.cpu_per_message(),
        pumped.cpu_per_message(),
        pumped.cpu_per_message() / direct.cpu_per_message(),
        relayed.messages_per_second(),
        direct.messages_per_second(),
        relayed.counted.latencies.quantile(0.5),
        relayed.counted.latencies.quantile(0.99),
        relayed.others_percent() - upstream_percent,
    ];
    Ok(Figures { values, note: None })
}

/// Clients that come, send one message each, and leave, and what the relay has of them.
pub(crate) fn crowd(bench: &Bench, clients: usize) -> Result<Figures, String> {
    let (_upstream, relay) = start(bench, None)?;
    let mut generator = Generator::new(None)?;
    let (before, descriptors_before) = (relay.memory()?, relay.descriptors()?);
    let cpu_before = relay.cpu()?;
    let setup = generator.connect(relay.address(), "/relay", clients)?;
    let setup_cpu = relay.cpu()? - cpu_before;
    Quiet::run(&mut generator, IDLE)?;
    let idle = relay.memory()?;
    Echo::new(&generator, 64, 1).run(&mut generator, Until::Messages(1))?;
    Quiet::run(&mut generator, IDLE)?;
    let (after, descriptors) = (relay.memory()?, relay.descriptors()?);
    drop(generator);
    let deadline = Instant::now() + LEFT_DEADLINE;
    let (threads_left, descriptors_left) = loop {
        let left = (relay.memory()?.threads, relay.descriptors()?);
        if left.0 <= before.threads && left.1 <= descriptors_before {
            break left;
        }
        if Instant::now() > deadline {
            return Err(format!(
                "{} threads and {} descriptors are left of {} and {} before",
                left.0, left.1, before.threads, descriptors_before
            ));
        }
        thread::sleep(Duration::from_millis(50));
    };
    let count = clients as f64;
    let per_client = |memory: &Memory| (memory.pss_kib as f64 - before.pss_kib as f64) / count;
    let values = vec![
        per_client(&idle),
        per_client(&after),
        count / setup.elapsed.as_secs_f64(),
        micros(setup_cpu) / count,
        setup.latencies.quantile(0.99),
        after.threads as f64,
        descriptors as f64,
        threads_left as f64,
        descriptors_left as f64,
    ];
    Ok(Figures { values, note: None })
}

/// Echo through a relay: with all reading, then beside clients that do not read, then beside upstreams that do not.
pub(crate) fn stopped(bench: &Bench, generator: &mut Generator, clients: usize) -> Result<Figures, String> {
    let stopped_upstream = StoppedUpstream::start(STOPPED)?;
    let (_upstream, relay) = start(bench, Some(stopped_upstream.address))?;
    connect(generator, &relay, "/relay", clients + STOPPED)?;
    connect(generator, &relay, "/stopped", STOPPED)?;
    let stopped_clients = clients..clients + STOPPED;
    let of_stopped_upstreams = clients + STOPPED..clients + 2 * STOPPED;
    let mut load = Echo::new(generator, 64, 16);
    load.run_clients(0..clients, generator, Until::After(WARM_UP))?;
    let without = load.run_clients(0..clients, generator, Until::After(bench.time))?;
    let mut beside = |stopped: std::ops::Range<usize>| {
        let before = relay.memory()?.pss_kib;
        let mut flood = StoppedFlood::new(stopped, generator)?;
        let (most, p99_ms) = flood.run(&relay, generator, |generator| {
            load.run_clients(0..clients, generator, Until::After(TURN)).map(|counted| counted.latencies)
        })?;
        Ok::<_, String>(((most as f64 - before as f64) / STOPPED as f64, p99_ms))
    };
    let (client_kib, beside_clients_ms) = beside(stopped_clients)?;
    let (upstream_kib, beside_upstreams_ms) = beside(of_stopped_upstreams)?;
    // What comes back for a client that does not read fills both outboxes and holds both threads.
    let (client_bound, upstream_bound) = (2.0 * (QUEUE_KIB + HANDS_KIB), QUEUE_KIB + HANDS_KIB);
    for (what, kib, bound) in [("client", client_kib, client_bound), ("upstream", upstream_kib, upstream_bound)] {
        if kib > bound {
            return Err(format!("a stopped {what} takes {kib:.0} KiB of the relay, of at most {bound}"));
        }
    }
    let values = vec![
        without.latencies.quantile(0.99),
        beside_clients_ms,
        beside_upstreams_ms,
        client_kib,
        client_bound,
        upstream_kib,
        upstream_bound,
    ];
    Ok(Figures { values, note: None })
}

/// The upstream that echoes, and the relay to it; with `/stopped` to another upstream, if there is one.
fn start(bench: &Bench, stopped: Option<SocketAddr>) -> Result<(Server, Server), String> {
    let endpoint = |path: &str| format!("[[endpoint]]\npath = \"{path}\"\nmax_connections = 30000\n");
    let echo = format!("{}to = [\"reply\"]\n", endpoint("/echo"));
    let upstream = Server::wsgate(&echo, bench.cores.beside_the_generator(), &bench.workspace)?;
    let relay =
        |path: &str, url: String| format!("{}[endpoint.relay]\nurl = \"{url}\"\nproxy = \"off\"\n", endpoint(path));
    let mut endpoints = relay("/relay", format!("ws://{}/echo", upstream.address()));
    if let Some(address) = stopped {
        endpoints += &relay("/stopped", format!("ws://{address}/"));
    }
    let relay = Server::wsgate(&endpoints, bench.cores, &bench.workspace)?;
    Ok((upstream, relay))
}

/// Clients that write for as long as anything is taken, and read nothing.
struct StoppedFlood {
    clients: std::ops::Range<usize>,
    frame: Vec<u8>,
    /// By client: how much of the frame was taken.
    at: Vec<usize>,
}

impl StoppedFlood {
    fn new(clients: std::ops::Range<usize>, generator: &mut Generator) -> Result<StoppedFlood, String> {
        let mut frame = Vec::new();
        Messages::new(STOPPED_SIZE).push(&mut frame, 0, 0);
        clients.clone().try_for_each(|client| generator.freeze(client))?;
        let at = vec![0; clients.len()];
        Ok(StoppedFlood { clients, frame, at })
    }

    /// Until nothing more is taken; the most memory that `relay` had meanwhile in KiB, and the 99th percentile of
    /// what the others did in turns, in ms.
    fn run(
        &mut self,
        relay: &Server,
        generator: &mut Generator,
        mut others: impl FnMut(&mut Generator) -> Result<Histogram, String>,
    ) -> Result<(u64, f64), String> {
        let deadline = Instant::now() + STOPPED_DEADLINE;
        let mut latencies = Histogram::new();
        let (mut most, mut vain) = (0, 0);
        while vain < VAIN_TURNS {
            if Instant::now() > deadline {
                return Err(format!("a stopped reader still takes bytes after {STOPPED_DEADLINE:?}"));
            }
            vain = if self.write(generator)? { 0 } else { vain + 1 };
            latencies.add(&others(generator)?);
            most = most.max(relay.memory()?.pss_kib);
        }
        Ok((most, latencies.quantile(0.99)))
    }

    /// Whether anything was taken.
    fn write(&mut self, generator: &mut Generator) -> Result<bool, String> {
        let mut any = false;
        for (client, at) in self.clients.clone().zip(&mut self.at) {
            loop {
                let sent = generator.send_some(client, &self.frame[*at..])?;
                *at = (*at + sent) % self.frame.len();
                any |= sent > 0;
                if sent == 0 {
                    break;
                }
            }
        }
        Ok(any)
    }
}

/// An upstream that lets clients in and reads nothing of what they send, until it is dropped.
struct StoppedUpstream {
    address: SocketAddr,
    _until: Sender<()>,
}

impl StoppedUpstream {
    /// For so many clients.
    fn start(clients: usize) -> Result<StoppedUpstream, String> {
        let listener: TcpListener = process::listen(0)?;
        let address = listener.local_addr().map_err(|cause| format!("failed to find out a port: {cause}"))?;
        let (until, dropped) = mpsc::channel::<()>();
        thread::spawn(move || {
            let sockets = listener.incoming().take(clients).flatten();
            let connections: Vec<_> = sockets.filter_map(|socket| tungstenite::accept(socket).ok()).collect();
            let _ = dropped.recv();
            drop(connections);
        });
        Ok(StoppedUpstream { address, _until: until })
    }
}
