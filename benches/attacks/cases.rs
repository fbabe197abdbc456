//! The cases: their gateways, and how each is measured.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::attackers::Attack;
use crate::credentials::{self, Credentials, Wrong};
use crate::feed;
use crate::generator::Generator;
use crate::good::{Good, IN_ROOM, Seen};
use crate::process::{self, Cores, Server, Workspace};
use crate::services::{self, Services};
use crate::tls;

/// The well-behaved clients where all of them fit.
const GOOD: usize = 100;
/// Of 64 descriptors the gateway needs a dozen itself, and some are left to be fought for.
const GOOD_OF_64: usize = 30;
/// The gateway's own threads, the well-behaved clients' and 53 to be fought for.
const THREADS: usize = 160 + IN_ROOM;
/// A user that nobody is, for a limit that counts all threads of a user.
const USER: u32 = 64_007;
/// The round before the one that counts: it fills what is filled once, such as the allocator's arenas.
const WARM_UP: Duration = Duration::from_secs(5);
/// How long the gateway may take to be as it was.
const RECOVERY: Duration = Duration::from_secs(15);
/// What memory may stay up after an attack: arenas of the allocator that it filled differently from the last time.
const MEMORY_MARGIN_KIB: u64 = 4096;

/// What an attack that is to cost no memory may cost.
const NO_MEMORY_KIB: u64 = 1024;
/// What a gateway that may use 256 MiB may have at the most.
const FED_KIB: u64 = 300 << 10;

/// Messages that a client of `/rated` may send in a second.
pub(crate) const RATE: u32 = 100;

/// One case of the bench.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    attack: Attack,
    /// Do the well-behaved speak TLS?
    tls: bool,
    /// Those that expect echoes; the room comes on top.
    good: usize,
    /// How much more memory there may be under attack, if that is judged.
    pub(crate) more_max_kib: Option<u64>,
    /// How much memory there may be at any time, if that is judged.
    pub(crate) peak_max_kib: Option<u64>,
    /// Does the 99th percentile of the echoes have to stay near that of the quiet run? Then it also counts if it is below
    /// what others may have.
    pub(crate) near_quiet: bool,
    /// Lines under `[gateway]`.
    settings: &'static str,
    /// Further tables. `{proxied}` is a port for those that come through a proxy.
    sections: &'static str,
    limit: Limit,
}

/// What the system gives the gateway.
#[derive(Clone, Copy)]
enum Limit {
    None,
    Descriptors,
    Threads,
}

/// The queue of the last endpoint: that of the consumer in the example of ingestion (docs/examples.md).
const ROOM_QUEUE: &str = "queue = { messages = 65536, bytes = \"64MiB\", when_full = \"drop_oldest\" }\n";

const HELD: &str = "max_handshakes = 4096\n";

/// All well-behaved clients come from one address too.
const FEW_AN_ADDRESS: &str = "max_address_connections = 200\naddress_rate = { per_second = 200, burst = 400 }\n";

const PROXIED: &str = r#"
[[listen]]
address = "127.0.0.1:{proxied}"
client_address = "proxy_protocol"
trusted_proxies = ["127.0.0.0/8"]
"#;

const RATED: &str = r#"
[[endpoint]]
path = "/rated"
to = ["reply"]
rate = { messages = 100, when_over = "delay" }
"#;

/// So many addresses that none of them is locked out.
const SPREAD: u32 = 1000;

const fn knocks(wrong: Wrong, per_second: u32, addresses: u32) -> Attack {
    Attack::Knocks { wrong, per_second, addresses }
}

/// All cases, in the order of the table.
pub(crate) const ALL: [Case; 26] = [
    case("slowloris", Attack::Slowloris { sockets: 2000 }).with(HELD),
    case("slowloris-refused", Attack::Slowloris { sockets: 2000 }),
    case("stalled-tls", Attack::StalledTls { sockets: 2000 }).over_tls().with(HELD),
    case("stalled-tls-refused", Attack::StalledTls { sockets: 2000 }).over_tls(),
    case("connect-close", Attack::Storm),
    case("ping-flood", Attack::Pings { sockets: 50 }),
    case("fragments", Attack::Fragments { sockets: 50 }),
    case("text-flood", Attack::Texts { sockets: 50 }),
    case("late-utf8", Attack::LateErrors { sockets: 50 }),
    case("key-updates", Attack::KeyUpdates { sockets: 4 }).over_tls().at_most_more(NO_MEMORY_KIB),
    case("reset", Attack::ResetStorm),
    case("never-read", Attack::NeverRead { sockets: 50 }),
    case("64-descriptors", Attack::Crowd { sockets: 500 }).under(Limit::Descriptors, GOOD_OF_64),
    case("threads", Attack::Crowd { sockets: 500 }).under(Limit::Threads, GOOD),
    case("one-address", Attack::OneAddress { sockets: 5000 }).with(FEW_AN_ADDRESS).near_quiet(),
    case("half-proxy-headers", Attack::HalfProxyHeaders { sockets: 2000 }).with(HELD).beside(PROXIED).near_quiet(),
    case("wrong-tokens", knocks(Wrong::Token, 1000, 1)).beside(credentials::SECTIONS).near_quiet(),
    case("wrong-tokens-spread", knocks(Wrong::Token, 1000, SPREAD)).beside(credentials::SECTIONS).near_quiet(),
    case("wrong-passwords", knocks(Wrong::Password, 200, 1)).beside(credentials::SECTIONS),
    case("wrong-passwords-spread", knocks(Wrong::Password, 200, 200)).beside(credentials::SECTIONS),
    case("unknown-kid", knocks(Wrong::UnknownKid, 1000, SPREAD)).beside(credentials::SECTIONS).near_quiet(),
    case("wrong-signature", knocks(Wrong::Signature, 1000, SPREAD)).beside(credentials::SECTIONS),
    case("callout-hangs", knocks(Wrong::Asked, 500, SPREAD)).beside(services::SECTIONS).near_quiet(),
    case("unknown-kid-url", knocks(Wrong::UnknownKidOfIssuer, 1000, SPREAD)).beside(services::SECTIONS).near_quiet(),
    case("over-rate", Attack::OverRate { per_second: 10 * RATE }).beside(RATED).near_quiet(),
    case("memory", Attack::Feed { sockets: 1000 }).with("memory = \"256MiB\"\n").beside(feed::SECTIONS).below(FED_KIB),
];

const fn case(name: &'static str, attack: Attack) -> Case {
    Case {
        name,
        attack,
        tls: false,
        good: GOOD,
        more_max_kib: None,
        peak_max_kib: None,
        near_quiet: false,
        settings: "",
        sections: "",
        limit: Limit::None,
    }
}

impl Case {
    const fn with(mut self, settings: &'static str) -> Case {
        self.settings = settings;
        self
    }

    const fn beside(mut self, sections: &'static str) -> Case {
        self.sections = sections;
        self
    }

    const fn over_tls(mut self) -> Case {
        self.tls = true;
        self
    }

    const fn at_most_more(mut self, kib: u64) -> Case {
        self.more_max_kib = Some(kib);
        self
    }

    const fn below(mut self, kib: u64) -> Case {
        self.peak_max_kib = Some(kib);
        self
    }

    const fn near_quiet(mut self) -> Case {
        self.near_quiet = true;
        self
    }

    const fn under(mut self, limit: Limit, good: usize) -> Case {
        self.limit = limit;
        self.good = good;
        self
    }
}

/// What the gateway has at one moment.
#[derive(Clone, Copy)]
pub(crate) struct Holdings {
    pub(crate) threads: u64,
    pub(crate) descriptors: u64,
    /// Its share of memory.
    pub(crate) memory_kib: u64,
    /// The most memory that it has had so far.
    pub(crate) peak_kib: u64,
}

impl Holdings {
    fn of(server: &Server) -> Result<Holdings, String> {
        let memory = server.memory()?;
        Ok(Holdings {
            threads: memory.threads,
            descriptors: server.descriptors()?,
            memory_kib: memory.pss_kib,
            peak_kib: memory.peak_kib,
        })
    }

    /// Is it as it was before?
    pub(crate) fn is_back(&self, before: &Holdings) -> bool {
        self.threads <= before.threads
            && self.descriptors <= before.descriptors
            && self.memory_kib <= before.memory_kib + MEMORY_MARGIN_KIB
    }
}

/// What one case came to.
pub(crate) struct Figures {
    pub(crate) quiet: Seen,
    pub(crate) attacked: Seen,
    pub(crate) what: String,
    /// Share of its core that the gateway used.
    pub(crate) cpu_percent: f64,
    /// Before any attack, before the attack that counts, at its end, and after it.
    pub(crate) cold: Holdings,
    pub(crate) before: Holdings,
    pub(crate) during: Holdings,
    pub(crate) after: Holdings,
    /// How long it took to be back, or was given.
    pub(crate) recovery: Duration,
}

/// What a run needs besides the case.
pub(crate) struct Bench {
    pub(crate) cores: Cores,
    pub(crate) workspace: Workspace,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) services: Services,
    /// How long each attack lasts.
    pub(crate) time: Duration,
}

impl Bench {
    pub(crate) fn measure(&self, case: &Case) -> Result<Figures, String> {
        let proxied = process::free_port()?;
        let server = self.start(case, proxied)?;
        let target = match case.attack {
            Attack::HalfProxyHeaders { .. } => SocketAddr::from((Ipv4Addr::LOCALHOST, proxied)),
            _ => server.address(),
        };
        let attacked = self.attack(case, &server, target);
        attacked.map_err(|what| format!("{what} (the gateway's last words: {})", server.last_words()))
    }

    fn start(&self, case: &Case, proxied: u16) -> Result<Server, String> {
        let port = process::free_port()?;
        let mut config = format!("[gateway]\n{}{}", case.settings, self.workspace.listener(port, case.tls));
        config += &self.services.fill(case.sections).replace("{proxied}", &proxied.to_string());
        for (path, to) in [("/echo", "reply"), ("/good", "broadcast"), ("/room", "others")] {
            config += &format!("[[endpoint]]\npath = \"{path}\"\nto = [\"{to}\"]\nmax_connections = 10000\n");
        }
        config += ROOM_QUEUE;
        let config = self.workspace.write_config(&config)?;
        let binary = self.workspace.public_binary()?;
        let mut command = match case.limit {
            Limit::None => Command::new(&binary),
            Limit::Descriptors => limited(&["prlimit", "--nofile=64:64"]),
            Limit::Threads => {
                let (user, limit) = (format!("--reuid={USER}"), format!("--nproc={THREADS}:{THREADS}"));
                limited(&["setpriv", &user, "--clear-groups", "prlimit", &limit])
            }
        };
        if !matches!(case.limit, Limit::None) {
            command.arg(&binary);
        }
        command.arg("serve").arg("--config").arg(config);
        Server::launch(command, port, self.cores, &self.workspace)
    }

    fn attack(&self, case: &Case, server: &Server, target: SocketAddr) -> Result<Figures, String> {
        let mut generator = Generator::new(if case.tls { Some(tls::context()?) } else { None })?;
        generator.connect(server.address(), "/echo", case.good)?;
        generator.connect(server.address(), "/good", IN_ROOM)?;
        let mut good = Good::new(generator);
        let quiet = good.run(self.time / 3, || {})?;
        let cold = Holdings::of(server)?;

        let warm_up = case.attack.start(target, &self.workspace, &self.credentials);
        good.run(WARM_UP.min(self.time), || {})?;
        warm_up.stop()?;
        let (before, _) = recover(&mut good, server, &cold)?;

        let attack = case.attack.start(target, &self.workspace, &self.credentials);
        let (began, cpu) = (Instant::now(), server.cpu()?);
        let mut cpu_percent = Ok(0.0);
        let mut attacked = good.run(self.time, || {
            cpu_percent = server.cpu().map(|now| (now - cpu).as_secs_f64() / began.elapsed().as_secs_f64() * 100.0);
        })?;
        let during = Holdings::of(server)?;
        let done = attack.stop()?;
        attacked.room.lost += done.lost;
        let (after, recovery) = recover(&mut good, server, &before)?;
        Ok(Figures {
            quiet,
            attacked,
            what: done.what,
            cpu_percent: cpu_percent?,
            cold,
            before,
            during,
            after,
            recovery,
        })
    }
}

fn limited(words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}

/// Goes on without the attackers until the gateway is as it was, or for as long as it may take.
fn recover(good: &mut Good, server: &Server, before: &Holdings) -> Result<(Holdings, Duration), String> {
    let since = Instant::now();
    loop {
        good.run(Duration::from_millis(250), || {})?;
        let now = Holdings::of(server)?;
        if now.is_back(before) || since.elapsed() > RECOVERY {
            return Ok((now, since.elapsed()));
        }
    }
}
