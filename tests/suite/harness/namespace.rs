//! Lines that can be cut: two network namespaces of their own and what connects them.
//!
//! A namespace here has no name. It is a descriptor, and goes with the last descriptor, socket and
//! process in it, together with its devices: there is nothing to remove after a panic, and two runs
//! at once share nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::{env, panic, thread};

use nix::sched::{CloneFlags, setns, unshare};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{DEADLINE, process};

/// The address of the gateway's end, from a block that is nobody's (RFC 5737).
pub(crate) const NEAR: &str = "192.0.2.1";
/// The address of the clients' end.
const FAR: &str = "192.0.2.2";

/// A network of its own, with nothing in it but what is put there.
pub(crate) struct Namespace(File);

impl Namespace {
    /// Makes one with a loopback device; or says why this machine cannot.
    pub(crate) fn new() -> Result<Namespace, String> {
        let found = |directory: std::path::PathBuf| directory.join("ip").exists();
        if !env::split_paths(&env::var_os("PATH").unwrap_or_default()).any(found) {
            return Err("there is no `ip` (install iproute2)".to_owned());
        }
        let made = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).map(|()| File::open("/proc/thread-self/ns/net").unwrap())
        });
        let made = made.join().unwrap().map_err(|error| format!("failed to make a network namespace: {error}"));
        let namespace = Namespace(made?);
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Does this in a thread that is inside. The sockets it makes and the processes and threads it
    /// starts stay inside.
    pub(crate) fn within<T: Send>(&self, deed: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
            deed()
        };
        let done = thread::scope(|scope| scope.spawn(inside).join());
        done.unwrap_or_else(|panic| panic::resume_unwind(panic))
    }

    /// How many segments were sent again in here so far, over TCP.
    pub(crate) fn retransmitted(&self) -> u64 {
        let statistics = self.within(|| fs::read_to_string("/proc/thread-self/net/snmp").unwrap());
        let mut lines = statistics.lines().filter_map(|line| line.strip_prefix("Tcp: "));
        let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
        let mut columns = names.split(' ').zip(values.split(' '));
        columns.find(|(name, _)| *name == "RetransSegs").unwrap().1.parse().unwrap()
    }

    /// Runs `ip` inside, with these words as its arguments; or says why that failed.
    fn ip(&self, arguments: &str) -> Result<(), String> {
        let run = || process::run(Command::new("ip").args(arguments.split(' ')), DEADLINE);
        let output = self.within(run);
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if output.status.success() { Ok(()) } else { Err(format!("failed to run `ip {arguments}`: {said}")) }
    }

    /// Gives a device its address, in a network of two, and turns it on.
    fn set_up(&self, device: &str, address: &str) {
        self.ip(&format!("address add {address}/30 dev {device}")).unwrap();
        self.ip(&format!("link set {device} up")).unwrap();
    }

    /// What `ip` takes for the name of this namespace.
    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }
}

/// Two namespaces and a cable (a veth pair) between them: as real as a line gets, but all it can do
/// is carry or be cut.
pub(crate) struct Cable {
    /// The gateway's end.
    pub(crate) near: Namespace,
    /// The clients' end.
    pub(crate) far: Namespace,
}

impl Cable {
    /// Lays a cable; or says why this machine cannot.
    pub(crate) fn lay() -> Result<Cable, String> {
        let (near, far) = (Namespace::new()?, Namespace::new()?);
        near.ip(&format!("link add name near type veth peer name far netns {}", far.path()))?;
        near.set_up("near", NEAR);
        far.set_up("far", FAR);
        Ok(Cable { near, far })
    }

    /// Cuts it in both directions. Neither end is told anything: no FIN, no RST, no ICMP.
    pub(crate) fn cut(&self) {
        self.far.ip("link set far down").unwrap();
    }
}

/// Two namespaces and a program between them (`lossy_line.py`) that carries every packet, or some.
pub(crate) struct LossyLine {
    /// The gateway's end.
    pub(crate) near: Namespace,
    /// The clients' end.
    pub(crate) far: Namespace,
    carrier: Child,
    answers: BufReader<ChildStdout>,
}

/// What a lossy line has done so far, in packets.
#[derive(Debug)]
pub(crate) struct Carried {
    pub(crate) carried: u64,
    pub(crate) lost: u64,
}

impl LossyLine {
    /// Lays a line that loses nothing yet; or says why this machine cannot. The same seed loses the
    /// same packets of the same sequence.
    pub(crate) fn lay(seed: u64) -> Result<LossyLine, String> {
        let device = OpenOptions::new().read(true).write(true).open("/dev/net/tun");
        device.map_err(|error| format!("failed to open '/dev/net/tun': {error}"))?;
        let (near, far) = (Namespace::new()?, Namespace::new()?);
        let mut command = Command::new("python3");
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/suite/harness/lossy_line.py")).arg(seed.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let started = near.within(|| command.spawn());
        let mut carrier = started.map_err(|error| format!("failed to start python3: {error}"))?;
        let answers = BufReader::new(carrier.stdout.take().unwrap());
        let mut line = LossyLine { near, far, carrier, answers };
        assert_eq!(line.answer(), "ready");
        line.near.ip(&format!("link set far netns {}", line.far.path())).unwrap();
        line.near.set_up("near", NEAR);
        line.far.set_up("far", FAR);
        Ok(line)
    }

    /// Loses from now on these parts of the packets, from 0 to 1; says what has been carried so far.
    pub(crate) fn lose(&mut self, to_clients: f64, to_gateway: f64) -> Carried {
        // One write, so that the program reads the whole of it.
        let loss = format!("{to_clients} {to_gateway}\n");
        self.carrier.stdin.as_ref().unwrap().write_all(loss.as_bytes()).unwrap();
        let answer = self.answer();
        let (carried, lost) = answer.split_once(' ').unwrap();
        Carried { carried: carried.parse().unwrap(), lost: lost.parse().unwrap() }
    }

    fn answer(&mut self) -> String {
        // An answer is one write, so the whole line is there when anything is.
        let deadline = Timespec::try_from(DEADLINE).unwrap();
        let ready = poll(&mut [PollFd::new(self.answers.get_ref(), PollFlags::IN)], Some(&deadline)).unwrap();
        assert!(ready > 0, "the line's program has not answered within {DEADLINE:?}");
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "the line's program has ended: {:?}", self.carrier.try_wait());
        line.trim_end().to_owned()
    }
}

impl Drop for LossyLine {
    fn drop(&mut self) {
        // An error says that it has ended already.
        let _ = self.carrier.kill();
        let _ = self.carrier.wait();
    }
}
