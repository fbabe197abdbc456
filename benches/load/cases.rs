//! The cases: their names, and how one run of each is measured.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::generator::{Generator, describe_close};
use crate::guard::Credentials;
use crate::loads::{Aftermath, Counted, Echo, FanOut, Flood, Quiet, Until};
use crate::process::{Cores, Kind, Server, Workspace, machine_busy};
use crate::relayed;
use crate::rooms;
use crate::tls;

/// Between the set-up and the first message: whoever joins late by design is there by then.
pub(crate) const SETTLE: Duration = Duration::from_millis(300);
pub(crate) const WARM_UP: Duration = Duration::from_millis(300);
/// Before memory is read, and how long an idle server is watched.
pub(crate) const IDLE: Duration = Duration::from_secs(1);
const MIB: usize = 1024 * 1024;
/// Large messages in flight at one time.
const LARGE_IN_FLIGHT: usize = 8;
const SLOW_SIZE: usize = 64;
const SLOW_WINDOW: u64 = 16;
const SLOW_MESSAGES: u64 = 10_000;

/// One case of the bench.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) work: Work,
    pub(crate) tls: bool,
}

/// What its clients do; sizes are bytes of payload, a window is messages in flight.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    FanOut {
        clients: usize,
        size: usize,
        window: u64,
        publishers: usize,
    },
    Echo {
        clients: usize,
        size: usize,
        window: u64,
    },
    Ingest {
        clients: usize,
        size: usize,
    },
    Idle {
        clients: usize,
    },
    /// Idle memory before and after each client sent 1 MiB.
    Large {
        clients: usize,
    },
    /// Fan-out with and without one client that stops reading.
    Slow {
        clients: usize,
    },
    /// Echo through a relay, beside the plain echo and beside the echo through a pump of bytes.
    Relayed {
        clients: usize,
        size: usize,
        window: u64,
    },
    /// Every client is alone in a room and gets what it sends itself.
    OwnRooms {
        clients: usize,
        size: usize,
        window: u64,
    },
    /// Rooms of two, which send to each other.
    Pairs {
        clients: usize,
        size: usize,
        window: u64,
    },
    /// A quiet room, and new connections, with and without a busy room beside it.
    Beside {
        busy: Busy,
    },
    /// Fan-out to clients of which some read nothing, while their queues fill and when they are full.
    FullQueue {
        stalled: usize,
    },
    /// Relayed clients that come, send one message each, and leave.
    RelayedCrowd {
        clients: usize,
    },
    /// Echo through a relay with and without some whose client or upstream stops reading.
    RelayedStopped {
        clients: usize,
    },
}

/// What goes on in the room beside the quiet one.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Busy {
    /// Senders that send as fast as they may.
    Flood { senders: usize, size: usize, readers: usize },
    /// A fan-out with one message in flight.
    FanOut { readers: usize },
}

impl Busy {
    pub(crate) fn clients(self) -> usize {
        match self {
            Busy::Flood { senders, readers, .. } => senders + readers,
            Busy::FanOut { readers } => readers + 1,
        }
    }
}

/// The kinds of table that results stand in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Group {
    Traffic,
    Rooms,
    Beside,
    FullQueue,
    Relayed,
    RelayedCrowd,
    RelayedStopped,
    Idle,
    Large,
    Slow,
}

/// All cases, in the order of the tables.
pub(crate) fn all() -> Vec<Case> {
    let plain = |work| Case { work, tls: false };
    let tls = |work| Case { work, tls: true };
    let fan_out = |clients, size, window| Work::FanOut { clients, size, window, publishers: 1 };
    let mut cases = Vec::new();
    for clients in [100, 1_000, 5_000, 10_000] {
        cases.extend([1, 16].map(|window| plain(fan_out(clients, 64, window))));
    }
    cases.extend([256, 1024].map(|size| plain(fan_out(1_000, size, 16))));
    cases.push(plain(Work::FanOut { clients: 1_000, size: 64, window: 1, publishers: 16 }));
    cases.extend([1, 16].map(|window| plain(Work::FanOut { clients: 1_000, size: 64, window, publishers: 32 })));
    for clients in [50, 1_000] {
        cases.extend([1, 16].map(|window| plain(Work::Echo { clients, size: 64, window })));
    }
    // What as many clients that are each alone in a room are compared with.
    cases.extend([100, 5_000].map(|clients| plain(Work::Echo { clients, size: 64, window: 1 })));
    cases.push(plain(Work::Echo { clients: 50, size: 1024, window: 16 }));
    cases.push(plain(Work::Echo { clients: 50, size: 64 * 1024, window: 1 }));
    cases.push(plain(Work::Ingest { clients: 100, size: 128 }));
    cases.extend([1, 16].map(|window| tls(fan_out(1_000, 64, window))));
    cases.extend([1, 16].map(|window| tls(Work::Echo { clients: 50, size: 64, window })));
    cases.extend([1_000, 10_000].map(|clients| plain(Work::Idle { clients })));
    cases.push(tls(Work::Idle { clients: 1_000 }));
    cases.push(plain(Work::Large { clients: 1_000 }));
    cases.push(plain(Work::Slow { clients: 1_000 }));
    for clients in [100, 1_000, 5_000] {
        cases.extend([1, 4].map(|window| plain(Work::OwnRooms { clients, size: 64, window })));
    }
    cases.extend([1, 4].map(|window| plain(Work::Pairs { clients: 1_000, size: 64, window })));
    for busy in [Busy::Flood { senders: 16, size: 1024, readers: 1_000 }, Busy::FanOut { readers: 5_000 }] {
        cases.push(plain(Work::Beside { busy }));
    }
    cases.push(plain(Work::FullQueue { stalled: 10 }));
    cases.extend([1, 16].map(|window| plain(Work::Relayed { clients: 50, size: 64, window })));
    cases.push(plain(Work::Relayed { clients: 50, size: 64 * 1024, window: 1 }));
    cases.push(plain(Work::RelayedCrowd { clients: 1_000 }));
    cases.push(plain(Work::RelayedStopped { clients: 50 }));
    cases
}

/// Cases that run only when they are asked for by name: they want limits raised that most machines have.
pub(crate) fn by_name_only() -> Vec<Case> {
    let idle = |clients| Case { work: Work::Idle { clients }, tls: false };
    vec![idle(15_000), idle(20_000)]
}

impl Case {
    /// How it is called on the command line and in the tables.
    pub(crate) fn name(&self) -> String {
        let name = match self.work {
            Work::FanOut { clients, size, window, publishers: 1 } => format!("fanout-{clients}x{size}-w{window}"),
            Work::FanOut { clients, size, window, publishers } => {
                format!("fanout-{clients}x{size}-w{window}-p{publishers}")
            }
            Work::Echo { clients, size, window } => format!("echo-{clients}x{size}-w{window}"),
            Work::Ingest { clients, size } => format!("ingest-{clients}x{size}"),
            Work::Idle { clients } => format!("idle-{clients}"),
            Work::Large { clients } => format!("large-{clients}"),
            Work::Slow { clients } => format!("slow-{clients}"),
            Work::Relayed { clients, size, window } => format!("relay-{clients}x{size}-w{window}"),
            Work::OwnRooms { clients, size, window } => format!("own-rooms-{clients}x{size}-w{window}"),
            Work::Pairs { clients, size, window } => format!("pairs-{clients}x{size}-w{window}"),
            Work::Beside { busy: Busy::Flood { senders, size, readers } } => {
                format!("beside-flood-{readers}x{size}-p{senders}")
            }
            Work::Beside { busy: Busy::FanOut { readers } } => format!("beside-fanout-{readers}-w1"),
            Work::FullQueue { stalled } => format!("full-queue-{stalled}"),
            Work::RelayedCrowd { clients } => format!("relay-{clients}"),
            Work::RelayedStopped { clients } => format!("relay-stopped-{clients}"),
        };
        if self.tls { format!("tls-{name}") } else { name }
    }

    pub(crate) fn group(&self) -> Group {
        match self.work {
            Work::FanOut { .. } | Work::Echo { .. } | Work::Ingest { .. } => Group::Traffic,
            Work::OwnRooms { .. } | Work::Pairs { .. } => Group::Rooms,
            Work::Beside { .. } => Group::Beside,
            Work::FullQueue { .. } => Group::FullQueue,
            Work::Idle { .. } => Group::Idle,
            Work::Large { .. } => Group::Large,
            Work::Slow { .. } => Group::Slow,
            Work::Relayed { .. } => Group::Relayed,
            Work::RelayedCrowd { .. } => Group::RelayedCrowd,
            Work::RelayedStopped { .. } => Group::RelayedStopped,
        }
    }

    /// Is this server measured in this case?
    pub(crate) fn applies_to(&self, kind: &Kind) -> bool {
        // The baselines speak no TLS, keep their largest buffer for ever, and the floor has no queue for a slow client.
        let for_baselines = !self.tls && matches!(self.group(), Group::Traffic | Group::Idle);
        let for_peers = matches!(self.group(), Group::Traffic | Group::Idle | Group::Large);
        match kind {
            Kind::Wsgate => true,
            Kind::Guarded(_) => matches!(self.group(), Group::Traffic | Group::Idle),
            Kind::Peer { tls, .. } => *tls == self.tls && for_peers,
            Kind::Floor => for_baselines,
            // Two threads a client: at 10,000 it reaches the limit of memory mappings and loses clients.
            Kind::Naive => for_baselines && self.clients() < 10_000,
        }
    }

    /// Connections that it needs, publishers included.
    pub(crate) fn clients(&self) -> usize {
        match self.work {
            Work::FanOut { clients, publishers, .. } => clients + publishers,
            Work::Slow { clients } => clients + 1,
            Work::Beside { busy } => busy.clients() + rooms::QUIET,
            Work::FullQueue { stalled } => stalled + 2,
            Work::Relayed { clients, .. } => 3 * clients,
            Work::RelayedStopped { clients } => clients + relayed::STOPPED,
            Work::Echo { clients, .. }
            | Work::OwnRooms { clients, .. }
            | Work::Pairs { clients, .. }
            | Work::Ingest { clients, .. }
            | Work::Idle { clients }
            | Work::Large { clients }
            | Work::RelayedCrowd { clients } => clients,
        }
    }
}

/// The figures of one run, by name, in the order of [`columns`].
#[derive(Default)]
pub(crate) struct Figures {
    pub(crate) values: Vec<f64>,
    /// What cannot be said in numbers.
    pub(crate) note: Option<String>,
}

/// Names of the figures of a group: key for the JSON, title for the table.
pub(crate) fn columns(group: Group) -> &'static [(&'static str, &'static str)] {
    match group {
        Group::Traffic | Group::Rooms => &[
            ("cpu_us_per_message", "CPU µs a message"),
            ("messages_per_second", "messages/s"),
            ("p50_ms", "p50 ms"),
            ("p99_ms", "p99 ms"),
            ("generator_percent", "generator %"),
            ("others_percent", "others %"),
        ],
        Group::Idle => &[
            ("pss_kib_per_client", "PSS KiB a client"),
            ("connections_per_second", "connections/s"),
            ("setup_cpu_us", "CPU µs a connection"),
            ("handshake_p50_ms", "handshake p50 ms"),
            ("handshake_p99_ms", "handshake p99 ms"),
            ("threads", "threads"),
            ("idle_cpu_ms_per_second", "idle CPU ms/s"),
        ],
        Group::Large => &[
            ("pss_kib_before", "PSS KiB a client before"),
            ("pss_kib_after", "after 1 MiB each"),
            ("pss_kib_more", "more"),
        ],
        Group::Slow => &[
            ("p99_ms_without", "p99 ms, all read"),
            ("p99_ms_with", "p99 ms, one does not"),
            ("p99_ratio", "ratio"),
            ("cpu_us_without", "CPU µs a message, all read"),
            ("cpu_us_with", "CPU µs a message, one does not"),
            ("lost_by_the_others", "lost by the others"),
            ("dropped_for_the_slow_one", "dropped for the slow one"),
        ],
        Group::Beside => &[
            ("p50_ms_alone", "p50 ms, alone"),
            ("p99_ms_alone", "p99 ms, alone"),
            ("p50_ms_beside", "p50 ms, beside"),
            ("p99_ms_beside", "p99 ms, beside"),
            ("connect_p50_ms_alone", "connect p50 ms, alone"),
            ("connect_p99_ms_alone", "connect p99 ms, alone"),
            ("connect_p50_ms_beside", "connect p50 ms, beside"),
            ("connect_p99_ms_beside", "connect p99 ms, beside"),
            ("busy_per_second", "deliveries/s of the busy room"),
        ],
        Group::FullQueue => &[
            ("cpu_us_filling", "CPU µs a message, the queues fill"),
            ("cpu_us_full", "CPU µs a message, the queues are full"),
            ("ratio", "times"),
            ("pss_mib_full", "PSS MiB, the queues are full"),
        ],
        Group::Relayed => &[
            ("cpu_us_per_message", "relay, CPU µs a message"),
            ("plain_cpu_us_per_message", "plain echo, CPU µs a message"),
            ("ratio", "times"),
            ("pump_cpu_us_per_message", "pump, CPU µs a message"),
            ("pump_ratio", "times the plain echo"),
            ("messages_per_second", "relay, messages/s"),
            ("plain_messages_per_second", "plain echo, messages/s"),
            ("p50_ms", "p50 ms"),
            ("p99_ms", "p99 ms"),
            ("others_percent", "others %"),
        ],
        Group::RelayedCrowd => &[
            ("pss_kib_per_client", "PSS KiB a client, idle"),
            ("pss_kib_per_client_after", "after a message each"),
            ("connections_per_second", "connections/s"),
            ("setup_cpu_us", "CPU µs a connection"),
            ("handshake_p99_ms", "handshake p99 ms"),
            ("threads", "threads"),
            ("descriptors", "descriptors"),
            ("threads_left", "threads afterwards"),
            ("descriptors_left", "descriptors afterwards"),
        ],
        Group::RelayedStopped => &[
            ("p99_ms_without", "p99 ms, all read"),
            ("p99_ms_clients", "p99 ms, clients do not"),
            ("p99_ms_upstreams", "p99 ms, upstreams do not"),
            ("pss_kib_per_client", "PSS KiB a stopped client"),
            ("pss_kib_per_client_bound", "of at most"),
            ("pss_kib_per_upstream", "PSS KiB a stopped upstream"),
            ("pss_kib_per_upstream_bound", "of at most "),
        ],
    }
}

/// What a run needs besides the case and the server.
pub(crate) struct Bench {
    pub(crate) cores: Cores,
    pub(crate) workspace: Workspace,
    pub(crate) credentials: Credentials,
    /// How long messages are sent in one run.
    pub(crate) time: Duration,
}

impl Bench {
    /// One run: a fresh server, fresh clients.
    pub(crate) fn measure(&self, case: &Case, kind: &Kind) -> Result<Figures, String> {
        let server = Server::start(kind, case.tls, self.cores, &self.workspace)?;
        let context = if case.tls { Some(tls::context()?) } else { None };
        let mut generator = Generator::new(context)?;
        if let Kind::Guarded(guard) = kind {
            generator = generator.authorized(self.credentials.of(*guard));
        }
        self.measure_work(case.work, &server, generator).map_err(|what| match server.last_words() {
            words if words.is_empty() => what,
            words => format!("{what} (the server's last words: {words})"),
        })
    }

    fn measure_work(&self, work: Work, server: &Server, mut generator: Generator) -> Result<Figures, String> {
        let generator = &mut generator;
        match work {
            Work::FanOut { clients, size, window, publishers } => {
                connect(generator, server, "/broadcast", clients + publishers)?;
                let mut load = FanOut::new(generator, size, window, publishers);
                load.run(generator, Until::After(WARM_UP))?;
                let span = Span::measure(server, || load.run(generator, Until::After(self.time)))?;
                // A message too many arrives behind the last one that was due.
                Quiet::run(generator, SETTLE)?;
                span.figures()
            }
            Work::Echo { clients, size, window } => {
                connect(generator, server, "/echo", clients)?;
                let mut load = Echo::new(generator, size, window);
                load.run(generator, Until::After(WARM_UP))?;
                let span = Span::measure(server, || load.run(generator, Until::After(self.time)))?;
                // A message too many arrives behind the last one that was due.
                Quiet::run(generator, SETTLE)?;
                span.figures()
            }
            Work::OwnRooms { clients, size, window } => rooms::own(self, server, generator, clients, size, window),
            Work::Pairs { clients, size, window } => rooms::pairs(self, server, generator, clients, size, window),
            Work::Beside { busy } => rooms::beside(self, server, generator, busy),
            Work::FullQueue { stalled } => rooms::full_queue(server, generator, stalled),
            Work::Ingest { clients, size } => {
                connect(generator, server, "/ingest", clients)?;
                Span::measure(server, || Flood::new(generator, size).run(generator, self.time))?.figures()
            }
            Work::Idle { clients } => idle(clients, server, generator),
            Work::Large { clients } => large(clients, server, generator),
            Work::Slow { clients } => slow(clients, server, generator),
            Work::Relayed { clients, size, window } => relayed::traffic(self, server, generator, clients, size, window),
            Work::RelayedCrowd { clients } => relayed::crowd(self, clients),
            Work::RelayedStopped { clients } => relayed::stopped(self, generator, clients),
        }
    }
}

pub(crate) fn connect(generator: &mut Generator, server: &Server, path: &str, count: usize) -> Result<(), String> {
    generator.connect(server.address(), path, count)?;
    Quiet::run(generator, SETTLE)
}

fn idle(clients: usize, server: &Server, generator: &mut Generator) -> Result<Figures, String> {
    let (memory_before, cpu_before) = (server.memory()?, server.cpu()?);
    let setup = generator.connect(server.address(), "/echo", clients)?;
    let cpu_connected = server.cpu()?;
    Quiet::run(generator, IDLE)?;
    let memory = server.memory()?;
    let (began, cpu_began) = (Instant::now(), server.cpu()?);
    Quiet::run(generator, IDLE)?;
    let (elapsed, idle_cpu) = (began.elapsed(), server.cpu()? - cpu_began);
    let count = clients as f64;
    let values = vec![
        (memory.pss_kib as f64 - memory_before.pss_kib as f64) / count,
        count / setup.elapsed.as_secs_f64(),
        micros(cpu_connected - cpu_before) / count,
        setup.latencies.quantile(0.5),
        setup.latencies.quantile(0.99),
        memory.threads as f64,
        micros(idle_cpu) / 1e3 / elapsed.as_secs_f64(),
    ];
    Ok(Figures { values, note: None })
}

fn large(clients: usize, server: &Server, generator: &mut Generator) -> Result<Figures, String> {
    let empty = server.memory()?.pss_kib as f64;
    generator.connect(server.address(), "/echo", clients)?;
    Quiet::run(generator, IDLE)?;
    let per_client = |pss_kib: u64| (pss_kib as f64 - empty) / clients as f64;
    let before = per_client(server.memory()?.pss_kib);
    let mut load = Echo::new(generator, MIB, 1);
    for first in (0..clients).step_by(LARGE_IN_FLIGHT) {
        let last = clients.min(first + LARGE_IN_FLIGHT);
        load.run_clients(first..last, generator, Until::Messages(1))?;
    }
    Quiet::run(generator, IDLE)?;
    let after = per_client(server.memory()?.pss_kib);
    Ok(Figures { values: vec![before, after, after - before], note: None })
}

fn slow(clients: usize, server: &Server, generator: &mut Generator) -> Result<Figures, String> {
    connect(generator, server, "/broadcast", clients + 1)?;
    let slow_client = clients / 2;
    let mut load = FanOut::new(generator, SLOW_SIZE, SLOW_WINDOW, 1);
    load.run(generator, Until::After(WARM_UP))?;
    // Half of the run without it comes before the run with it and half behind: what drifts on the machine cancels out.
    let half = Until::Messages(SLOW_MESSAGES / 2);
    let mut without = Span::measure(server, || load.run(generator, half))?;
    generator.freeze(slow_client)?;
    load.leave_out(1);
    let first = load.published();
    let with = Span::measure(server, || load.run(generator, Until::Messages(SLOW_MESSAGES)))?;
    let published = load.published() - first;
    generator.thaw(slow_client)?;
    let mut aftermath = Aftermath::new(SLOW_SIZE, first);
    aftermath.run(generator)?;
    let end = match aftermath.end {
        Some(code) => format!("is disconnected ({})", describe_close(code)),
        None => {
            load.take_back(slow_client);
            "stays connected".to_owned()
        }
    };
    without.add(&Span::measure(server, || load.run(generator, half))?);
    let due = published * (clients as u64 - 1);
    let note = format!("the one that stopped reading gets {} of {published} messages and {end}", aftermath.received);
    let p99 = |span: &Span| span.counted.latencies.quantile(0.99);
    let values = vec![
        p99(&without),
        p99(&with),
        p99(&with) / p99(&without),
        without.cpu_per_message(),
        with.cpu_per_message(),
        (due - with.counted.messages) as f64,
        (published - aftermath.received) as f64,
    ];
    Ok(Figures { values, note: Some(note) })
}

/// A load, and what server, generator and all others used meanwhile.
pub(crate) struct Span {
    pub(crate) counted: Counted,
    server: Duration,
    generator: Duration,
    machine: Duration,
}

impl Span {
    pub(crate) fn measure(server: &Server, load: impl FnOnce() -> Result<Counted, String>) -> Result<Span, String> {
        let (machine, generator, cpu) = (machine_busy(), own_cpu(), server.cpu()?);
        let counted = load()?;
        let cpu = server.cpu()? - cpu;
        let (generator, machine) = (own_cpu() - generator, machine_busy().saturating_sub(machine));
        Ok(Span { counted, server: cpu, generator, machine })
    }

    /// Takes in another one.
    pub(crate) fn add(&mut self, other: &Span) {
        self.counted.messages += other.counted.messages;
        self.counted.elapsed += other.counted.elapsed;
        self.counted.latencies.add(&other.counted.latencies);
        self.server += other.server;
        self.generator += other.generator;
        self.machine += other.machine;
    }

    pub(crate) fn cpu_per_message(&self) -> f64 {
        micros(self.server) / self.counted.messages as f64
    }

    pub(crate) fn figures(self) -> Result<Figures, String> {
        if self.counted.messages == 0 {
            return Err("no message arrived".to_owned());
        }
        let seconds = self.counted.elapsed.as_secs_f64();
        let values = vec![
            self.cpu_per_message(),
            self.messages_per_second(),
            self.counted.latencies.quantile(0.5),
            self.counted.latencies.quantile(0.99),
            self.generator.as_secs_f64() / seconds * 100.0,
            self.others_percent(),
        ];
        Ok(Figures { values, note: None })
    }

    pub(crate) fn messages_per_second(&self) -> f64 {
        self.counted.messages as f64 / self.counted.elapsed.as_secs_f64()
    }

    /// What ran besides server and generator, of one core.
    pub(crate) fn others_percent(&self) -> f64 {
        let others = self.machine.saturating_sub(self.server + self.generator);
        others.as_secs_f64() / self.counted.elapsed.as_secs_f64() * 100.0
    }
}

fn own_cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

pub(crate) fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
