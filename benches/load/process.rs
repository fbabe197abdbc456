//! The servers that are measured: started on their core, read from `/proc`, ended.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::time::ClockId;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use socket2::{Domain, Socket, Type};

const START_DEADLINE: Duration = Duration::from_secs(15);

/// A kind of server to measure.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// The release binary of this project.
    Wsgate,
    /// The same with authentication, rules and a rate that is never reached.
    Guarded(Guard),
    /// [`crate::floor`], in a process of its own.
    Floor,
    /// [`crate::naive`], in a process of its own.
    Naive,
    /// A command line with `{port}`, and for a TLS server `{cert}` and `{key}`, to fill in.
    Peer { name: String, command: String, tls: bool },
}

/// How clients authenticate; the files and what clients send are in `guard.rs`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Guard {
    /// By a token.
    Tokens,
    /// By a token that is signed with ES256.
    Es256,
}

impl Guard {
    fn auth(self) -> &'static str {
        match self {
            Guard::Tokens => "[[auth]]\nname = \"door\"\nkind = \"tokens\"\nfile = \"tokens.txt\"\n",
            Guard::Es256 => "[[auth]]\nname = \"door\"\nkind = \"jwt\"\nfile = \"es256.pem\"\n",
        }
    }
}

/// What every endpoint of a guarded gateway has. The first rule fits nobody.
const GUARDED: &str = "auth = [\"door\"]\n\
    allow = [{ who = \"*-7\", path = \"/{identity}/*\" }, { who = \"bench-*\", path = \"/*\" }]\n\
    rate = { messages = 1000000000, bytes = \"64GiB\" }\n";

impl Kind {
    pub(crate) fn name(&self) -> &str {
        match self {
            Kind::Wsgate => "wsgate",
            Kind::Guarded(Guard::Tokens) => "tokens",
            Kind::Guarded(Guard::Es256) => "es256",
            Kind::Floor => "floor",
            Kind::Naive => "naive",
            Kind::Peer { name, .. } => name,
        }
    }
}

/// The cores that servers and generator run on: the same one where there is no second.
#[derive(Clone, Copy)]
pub(crate) struct Cores {
    pub(crate) server: usize,
    pub(crate) generator: usize,
}

impl Cores {
    /// The first two of the cores that this process may use.
    pub(crate) fn of_this_machine() -> Cores {
        let allowed = sched_getaffinity(None).unwrap_or_default();
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        let server = cores.next().unwrap_or(0);
        Cores { server, generator: cores.next().unwrap_or(server) }
    }

    /// For a server that the measured one needs, and that is not to take its time.
    pub(crate) fn beside_the_generator(self) -> Cores {
        Cores { server: self.generator, generator: self.generator }
    }

    pub(crate) fn is_one(self) -> bool {
        self.server == self.generator
    }
}

/// Moves this thread, and what it starts from now on, to one core.
pub(crate) fn pin(core: usize) -> Result<(), String> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).map_err(|cause| format!("failed to move to core {core}: {cause}"))
}

/// Raises the soft limit of open files to the hard one and returns it.
pub(crate) fn raise_file_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// A listener with a backlog that a burst of connections does not overflow; `std` has 128.
pub(crate) fn listen(port: u16) -> Result<TcpListener, String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let open = || -> std::io::Result<TcpListener> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(4096)?;
        Ok(socket.into())
    };
    open().map_err(|cause| format!("failed to listen on '{address}': {cause}"))
}

/// What a server has used so far.
#[derive(Clone, Copy, Default)]
pub(crate) struct Memory {
    /// Its share of memory, in KiB.
    pub(crate) pss_kib: u64,
    /// The most that it has ever had, with what it shares with others.
    pub(crate) peak_kib: u64,
    pub(crate) threads: u64,
}

/// A directory for configurations, certificates and logs, removed at the end.
pub(crate) struct Workspace {
    path: PathBuf,
}

impl Workspace {
    /// Creates the directory with a fresh certificate for loopback in it.
    pub(crate) fn new() -> Result<Workspace, String> {
        let path = std::env::temp_dir().join(format!("wsgate-load-{}", std::process::id()));
        let workspace = Workspace { path };
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names)
            .map_err(|cause| format!("failed to make a certificate: {cause}"))?;
        let write = || -> std::io::Result<()> {
            fs::create_dir_all(&workspace.path)?;
            fs::write(workspace.certificate(), made.cert.pem())?;
            fs::write(workspace.private_key(), made.signing_key.serialize_pem())
        };
        write().map_err(|cause| format!("failed to write to '{}': {cause}", workspace.path.display()))?;
        Ok(workspace)
    }

    pub(crate) fn certificate(&self) -> PathBuf {
        self.path.join("cert.pem")
    }

    fn private_key(&self) -> PathBuf {
        self.path.join("key.pem")
    }

    /// The `[[listen]]` of a configuration.
    pub(crate) fn listener(&self, port: u16, tls: bool) -> String {
        let listen_tls = if tls {
            let (certificate, key) = (self.certificate(), self.private_key());
            format!("tls = {{ certificate = \"{}\", private_key = \"{}\" }}\n", certificate.display(), key.display())
        } else {
            String::new()
        };
        format!("[[listen]]\naddress = \"127.0.0.1:{port}\"\n{listen_tls}")
    }

    /// Writes a configuration of wsgate and returns where it is.
    pub(crate) fn write_config(&self, config: &str) -> Result<PathBuf, String> {
        self.write("wsgate.toml", config)
    }

    /// Writes a file of this name beside the configuration and returns where it is.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf, String> {
        let path = self.path.join(name);
        fs::write(&path, text).map_err(|cause| format!("failed to write '{}': {cause}", path.display()))?;
        Ok(path)
    }

    /// A copy of the release binary that every user can start, wherever the build directory is.
    pub(crate) fn public_binary(&self) -> Result<PathBuf, String> {
        let path = self.path.join("wsgate");
        fs::copy(env!("CARGO_BIN_EXE_wsgate"), &path)
            .map_err(|cause| format!("failed to write '{}': {cause}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A running server; killed when dropped.
pub(crate) struct Server {
    child: Child,
    clock: ClockId,
    address: SocketAddr,
    log: PathBuf,
}

impl Server {
    /// Starts a server on its core and a free port, and waits until it accepts.
    pub(crate) fn start(kind: &Kind, tls: bool, cores: Cores, workspace: &Workspace) -> Result<Server, String> {
        let port = free_port()?;
        Server::launch(command(kind, port, tls, workspace)?, port, cores, workspace)
    }

    /// Starts wsgate with what `sections` says behind its listener, on a free port.
    pub(crate) fn wsgate(sections: &str, cores: Cores, workspace: &Workspace) -> Result<Server, String> {
        let port = free_port()?;
        let config = format!("{}{sections}", head(port, false, workspace));
        Server::launch(wsgate(&config, workspace)?, port, cores, workspace)
    }

    /// Starts [`crate::pump`] to `upstream`, in a process of its own, on a free port.
    pub(crate) fn pump(upstream: SocketAddr, cores: Cores, workspace: &Workspace) -> Result<Server, String> {
        let port = free_port()?;
        let mut command = Command::new(this_program()?);
        command.arg("--serve-pump").arg(port.to_string()).arg("--upstream").arg(upstream.to_string());
        Server::launch(command, port, cores, workspace)
    }

    /// Starts this command, which is to accept on `port`, on the server's core, and waits until it does.
    pub(crate) fn launch(
        mut command: Command,
        port: u16,
        cores: Cores,
        workspace: &Workspace,
    ) -> Result<Server, String> {
        let log = workspace.path.join(format!("{port}.log"));
        let output = File::create(&log).map_err(|cause| format!("failed to create '{}': {cause}", log.display()))?;
        let errors = output.try_clone().map_err(|cause| format!("failed to open '{}': {cause}", log.display()))?;
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        // Inherited, so that no thread of the server ever runs elsewhere.
        pin(cores.server)?;
        let child = command.spawn();
        pin(cores.generator)?;
        let child = child.map_err(|cause| format!("failed to start {command:?}: {cause}"))?;
        let pid = nix::unistd::Pid::from_raw(child.id() as i32);
        let clock = ClockId::pid_cpu_clock_id(pid);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut server = Server { child, clock: ClockId::CLOCK_MONOTONIC, address, log };
        server.clock = clock.map_err(|cause| format!("failed to find the server's CPU clock: {cause}"))?;
        server.wait_until_it_accepts()?;
        Ok(server)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// CPU time of all its threads, past ones included.
    pub(crate) fn cpu(&self) -> Result<Duration, String> {
        self.clock.now().map(Duration::from).map_err(|cause| format!("failed to read the server's CPU clock: {cause}"))
    }

    pub(crate) fn memory(&self) -> Result<Memory, String> {
        let process = PathBuf::from(format!("/proc/{}", self.child.id()));
        let pss_kib = field(&process.join("smaps_rollup"), "Pss:")?;
        let threads = field(&process.join("status"), "Threads:")?;
        let peak_kib = field(&process.join("status"), "VmHWM:")?;
        Ok(Memory { pss_kib, peak_kib, threads })
    }

    /// How many descriptors it has open.
    pub(crate) fn descriptors(&self) -> Result<u64, String> {
        let directory = format!("/proc/{}/fd", self.child.id());
        let entries = fs::read_dir(&directory).map_err(|cause| format!("failed to read '{directory}': {cause}"))?;
        Ok(entries.count() as u64)
    }

    /// The last line that it wrote, to explain a failure.
    pub(crate) fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("").to_owned()
    }

    fn wait_until_it_accepts(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            if TcpStream::connect_timeout(&self.address, Duration::from_secs(1)).is_ok() {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("the server ended at once ({status}): {}", self.last_words()));
            }
            if Instant::now() > deadline {
                return Err(format!("the server did not accept within {START_DEADLINE:?}: {}", self.last_words()));
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> Result<u16, String> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|cause| format!("failed to find a free port: {cause}"))
}

/// What every configuration of wsgate begins with: it takes all that come.
fn head(port: u16, tls: bool, workspace: &Workspace) -> String {
    let listener = workspace.listener(port, tls);
    format!("[gateway]\nmax_connections = 30000\n[log]\nlevel = \"warn\"\n{listener}")
}

/// What wsgate runs on: every path takes all that come, or all that its guard lets in.
fn config(port: u16, tls: bool, guard: Option<Guard>, workspace: &Workspace) -> String {
    let mut config = head(port, tls, workspace);
    config += guard.map_or("", Guard::auth);
    let endpoints = [
        ("/echo", "\"reply\""),
        ("/broadcast", "\"others\""),
        ("/ingest", ""),
        ("/own/{room}", "\"broadcast\""),
        ("/pairs/{room}", "\"others\""),
        ("/quiet", "\"broadcast\""),
        ("/feed", "\"endpoint:/busy\""),
        ("/busy", "\"others\""),
        ("/deep", "\"others\""),
    ];
    for (endpoint, to) in endpoints {
        config += &format!("[[endpoint]]\npath = \"{endpoint}\"\nto = [{to}]\nmax_connections = 30000\n");
        config += guard.map_or("", |_| GUARDED);
    }
    // The last one, whose clients may stop reading.
    config + "queue = { messages = 65536, bytes = \"256MiB\", when_full = \"drop_oldest\" }\nwrite_timeout = \"off\"\n"
}

fn wsgate(config: &str, workspace: &Workspace) -> Result<Command, String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wsgate"));
    command.arg("serve").arg("--config").arg(workspace.write_config(config)?);
    Ok(command)
}

fn command(kind: &Kind, port: u16, tls: bool, workspace: &Workspace) -> Result<Command, String> {
    let mut command;
    match kind {
        Kind::Wsgate => command = wsgate(&config(port, tls, None, workspace), workspace)?,
        Kind::Guarded(guard) => command = wsgate(&config(port, tls, Some(*guard), workspace), workspace)?,
        Kind::Floor => {
            command = Command::new(this_program()?);
            command.arg("--serve-floor").arg(port.to_string());
        }
        Kind::Naive => {
            command = Command::new(this_program()?);
            command.arg("--serve-naive").arg(port.to_string());
        }
        Kind::Peer { command: line, .. } => {
            let fill = |word: &str| {
                word.replace("{port}", &port.to_string())
                    .replace("{cert}", &workspace.certificate().to_string_lossy())
                    .replace("{key}", &workspace.private_key().to_string_lossy())
            };
            let mut words = line.split_whitespace().map(fill);
            command = Command::new(words.next().ok_or("the command of the peer is empty")?);
            command.args(words);
        }
    }
    Ok(command)
}

fn this_program() -> Result<PathBuf, String> {
    std::env::current_exe().map_err(|cause| format!("failed to find the bench itself: {cause}"))
}

/// Time that all cores together have been busy with anything, since boot.
pub(crate) fn machine_busy() -> Duration {
    // USER_HZ is 100 on every Linux that Rust runs on.
    const TICK: Duration = Duration::from_millis(10);
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks: Vec<u32> = stat.lines().next().unwrap_or("").split(' ').filter_map(|word| word.parse().ok()).collect();
    // user, nice, system, then idle and iowait, then irq and softirq.
    ticks.iter().enumerate().filter(|(at, _)| matches!(at, 0..=2 | 5 | 6)).map(|(_, ticks)| TICK * *ticks).sum()
}

fn field(file: &Path, name: &str) -> Result<u64, String> {
    let text = fs::read_to_string(file).map_err(|cause| format!("failed to read '{}': {cause}", file.display()))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .ok_or_else(|| format!("failed to find '{name}' in '{}'", file.display()))
}
