//! A gateway under test: the real binary in a directory of its own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::time::{clock_getcpuclockid, clock_gettime};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{DEADLINE, Raw, Wire, certificates, expect_no_secret, process};

/// A running `wsgate serve`. Dropping it kills the process; after a failed test its log is printed, otherwise it is searched
/// for credentials.
pub(crate) struct Gateway {
    child: Child,
    log: Arc<Log>,
    directory: TempDir,
}

/// What the gateway has written to its standard error so far.
#[derive(Default)]
struct Log {
    state: Mutex<LogState>,
    grown: Condvar,
}

#[derive(Default)]
struct LogState {
    lines: Vec<String>,
    ended: bool,
}

/// What the log says of the admin listener, ahead of its address.
pub(crate) const ADMIN_LINE: &str = "admin: answering on ";

/// The port of the address behind this text in a line of the log.
pub(crate) fn port_in(line: &str, text: &str) -> Option<u16> {
    let (_, behind) = line.split_once(text)?;
    behind.split([' ', ',']).next()?.rsplit(':').next()?.parse().ok()
}

impl Gateway {
    /// Starts a gateway on this configuration and waits until each of its listeners accepts.
    ///
    /// Its working directory holds the configuration, as `wsgate.toml`, and `ca.pem`,
    /// `cert.pem` and `key.pem` for TLS listeners.
    pub(crate) fn start(config: &str) -> Gateway {
        Gateway::start_with(config, |_| {})
    }

    /// The same, after `prepare` has changed the command: its environment, its arguments.
    pub(crate) fn start_with(config: &str, prepare: impl FnOnce(&mut Command)) -> Gateway {
        let gateway = Gateway::launch(config, prepare);
        gateway.wait_for_listeners(config);
        gateway
    }

    /// The same under limits of `prlimit`, such as `--nofile=64`.
    pub(crate) fn start_limited(config: &str, limit: &str) -> Gateway {
        let mut command = Command::new("prlimit");
        command.args([limit, env!("CARGO_BIN_EXE_wsgate")]);
        let gateway = Gateway::launch_as(config, command, |_| {});
        gateway.wait_for_listeners(config);
        gateway
    }

    /// The same with this address as its only name server. It needs the right to mount.
    pub(crate) fn start_with_nameserver(config: &str, address: &str) -> Gateway {
        let mut command = Command::new("unshare");
        let script = "echo \"nameserver $0\" > resolv.conf && mount --bind resolv.conf /etc/resolv.conf && exec \"$@\"";
        command.args(["--mount", "sh", "-c", script, address, env!("CARGO_BIN_EXE_wsgate")]);
        let gateway = Gateway::launch_as(config, command, |_| {});
        gateway.wait_for_listeners(config);
        gateway
    }

    /// The same as systemd starts a service: a variable of the environment says where standard error leads.
    pub(crate) fn start_as_journaled(config: &str) -> Gateway {
        let mut command = Command::new("sh");
        let script = "JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) exec \"$0\" \"$@\"";
        command.args(["-c", script, env!("CARGO_BIN_EXE_wsgate")]);
        let gateway = Gateway::launch_as(config, command, |_| {});
        gateway.wait_for_listeners(config);
        gateway
    }

    /// Starts the process and waits for nothing.
    pub(crate) fn launch(config: &str, prepare: impl FnOnce(&mut Command)) -> Gateway {
        Gateway::launch_as(config, Command::new(env!("CARGO_BIN_EXE_wsgate")), prepare)
    }

    /// The log names listeners one by one, so the configuration says how many to await.
    fn wait_for_listeners(&self, config: &str) {
        let listeners = config.lines().filter(|line| line.trim() == "[[listen]]").count().max(1);
        self.wait_for_logs(": accepting on ", listeners);
    }

    fn launch_as(config: &str, mut command: Command, prepare: impl FnOnce(&mut Command)) -> Gateway {
        let directory = tempfile::tempdir().unwrap();
        certificates::write(directory.path());
        // Only one of all gateways could have the default address of the admin listener.
        let no_admin = if config.contains("[admin]") { "" } else { "\n[admin]\naddress = \"off\"\n" };
        fs::write(directory.path().join("wsgate.toml"), format!("{config}{no_admin}")).unwrap();

        command.args(["serve", "--config", "wsgate.toml"]).current_dir(directory.path());
        command.env_remove("RUST_LOG").env_remove("JOURNAL_STREAM");
        if config.contains("[[auth]]") {
            // Whatever it may say of credentials.
            command.env("RUST_LOG", "debug");
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        prepare(&mut command);
        let mut child = command.spawn().unwrap();

        let log = Arc::new(Log::default());
        let stderr = BufReader::new(child.stderr.take().unwrap());
        thread::spawn({
            let log = Arc::clone(&log);
            move || {
                for line in stderr.split(b'\n').map_while(Result::ok) {
                    log.push(String::from_utf8_lossy(&line).into_owned());
                }
                log.end();
            }
        });

        Gateway { child, log, directory }
    }

    /// The TCP port on which the listener of this name accepts.
    pub(crate) fn port(&self, listener: &str) -> u16 {
        self.port_behind(&format!("listener \"{listener}\": accepting on "))
    }

    /// The TCP port of its admin listener.
    pub(crate) fn admin_port(&self) -> u16 {
        self.port_behind(ADMIN_LINE)
    }

    fn port_behind(&self, words: &str) -> u16 {
        let line = self.wait_for_log(words);
        port_in(&line, words).unwrap_or_else(|| panic!("no port in the log line {line:?}"))
    }

    /// A client of the listener of this name; "tls" is the one with TLS.
    pub(crate) fn raw(&self, listener: &str) -> Raw {
        let port = self.port(listener);
        if listener == "tls" { Raw::tls(port, &self.file("ca.pem")) } else { Raw::plain(port) }
    }

    /// How many threads it has now.
    pub(crate) fn threads(&self) -> usize {
        self.entries("task")
    }

    /// How many descriptors it has open now.
    pub(crate) fn descriptors(&self) -> usize {
        self.entries("fd")
    }

    fn entries(&self, directory: &str) -> usize {
        fs::read_dir(format!("/proc/{}/{directory}", self.child.id())).unwrap().count()
    }

    /// The processor time that it has used so far, threads that have ended included.
    pub(crate) fn processor_time(&self) -> Duration {
        let clock = clock_getcpuclockid(nix::unistd::Pid::from_raw(self.child.id() as i32)).unwrap();
        clock_gettime(clock).unwrap().into()
    }

    /// What it holds in memory now, in KiB.
    pub(crate) fn memory_kib(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// A file of its working directory.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Waits until a line of the log holds `text` and returns the first such line.
    pub(crate) fn wait_for_log(&self, text: &str) -> String {
        self.log.wait(text, |lines| lines.iter().find(|line| line.contains(text)).cloned())
    }

    /// Waits until this many lines of the log hold `text` and returns them, and those that are more.
    pub(crate) fn wait_for_logs(&self, text: &str, count: usize) -> Vec<String> {
        self.log.wait(&format!("{count} times {text:?}"), |lines| {
            let found: Vec<_> = lines.iter().filter(|line| line.contains(text)).cloned().collect();
            (found.len() >= count).then_some(found)
        })
    }

    /// The log so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().lines.clone()
    }

    /// The log of a gateway that has ended, to its last line.
    pub(crate) fn whole_log(&self) -> Vec<String> {
        let state = self.log.lock();
        let (state, waited) = self.log.grown.wait_timeout_while(state, DEADLINE, |state| !state.ended).unwrap();
        assert!(!waited.timed_out(), "the log has no end");
        state.lines.clone()
    }

    /// The id that the gateway has given this client, from the line of its log.
    pub(crate) fn id_of(&self, client: &Raw) -> String {
        let connected = format!(":{}): connected", client.own_port());
        let id = |line: &str| line.split("client ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
        self.log.wait(&connected, |lines| {
            let mut ids = lines.iter().filter(|line| line.contains(&connected)).map(|line| id(line));
            // A client that has ended may have had the same port.
            ids.find(|id| !lines.iter().any(|line| line.contains(&format!("client {id}: disconnected"))))
        })
    }

    /// Connects over this kind of wire, to the listener of the same name, and upgrades.
    pub(crate) fn client(&self, wire: Wire, path: &str) -> Raw {
        let mut client = match wire {
            Wire::Plain => Raw::plain(self.port("plain")),
            Wire::Tls => Raw::tls(self.port("tls"), &self.file("ca.pem")),
        };
        client.upgrade(path, &[]);
        client
    }

    /// As [`client`](Gateway::client), with a receive buffer of a few KiB: when such a client stops
    /// reading, the gateway soon knows.
    pub(crate) fn narrow_client(&self, wire: Wire, path: &str) -> Raw {
        let mut client = match wire {
            Wire::Plain => Raw::narrow(self.port("plain")),
            Wire::Tls => Raw::narrow_tls(self.port("tls"), &self.file("ca.pem")),
        };
        client.upgrade(path, &[]);
        client
    }

    /// The number of the process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal; SIGTERM is the one that ends it in order.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until the process has ended by itself; the longest drain is within this deadline.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let status = process::wait(&mut self.child, 2 * DEADLINE);
        status.unwrap_or_else(|| panic!("the gateway has not ended within {:?}", 2 * DEADLINE))
    }

    /// Ends it with SIGTERM, which drains, and returns how it ended.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // An error says that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- the gateway's log\n{}\n---", self.log.lock().lines.join("\n"));
        } else {
            self.log.lock().lines.iter().for_each(|line| expect_no_secret("the gateway's log", line));
        }
    }
}

impl Log {
    fn push(&self, line: String) {
        self.lock().lines.push(line);
        self.grown.notify_all();
    }

    fn end(&self) {
        self.lock().ended = true;
        self.grown.notify_all();
    }

    /// Waits until `find` finds something in the lines so far.
    fn wait<T>(&self, what: &str, find: impl Fn(&[String]) -> Option<T>) -> T {
        let late = Instant::now() + DEADLINE;
        let mut state = self.lock();
        loop {
            if let Some(found) = find(&state.lines) {
                return found;
            }
            assert!(!state.ended, "the gateway ended before its log had: {what}");
            let left = late.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the log has not had within {DEADLINE:?}: {what}");
            state = self.grown.wait_timeout(state, left).unwrap().0;
        }
    }

    /// A failed wait poisons the lock, but its lines are still good, and are printed then.
    fn lock(&self) -> MutexGuard<'_, LogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
