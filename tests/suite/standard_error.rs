//! Standard error that takes nothing: a full disk, a closed pipe, a reader that has stopped. Log lines are lost
//! there, and nothing else.

use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, BufReader, PipeReader, PipeWriter};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::harness::{DEADLINE, Frame, Raw, eventually, masked, measured, process, request};

/// The longest that an echo may take.
const PROMPT: Duration = Duration::from_millis(500);

/// A gateway of whose log nothing can be read, so that it listens where we know: on a Unix socket.
struct Mute {
    child: Child,
    directory: TempDir,
}

impl Mute {
    fn start(stderr: impl Into<Stdio>) -> Mute {
        let directory = tempfile::tempdir().unwrap();
        let config = format!(
            "[log]\nlines_per_second = \"off\"\n[[listen]]\naddress = \"unix:{}/ws.sock\"\n[[endpoint]]\npath = \"/\"\nto = [\"reply\"]\n",
            directory.path().display()
        );
        fs::write(directory.path().join("wsgate.toml"), config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_wsgate"));
        command.args(["serve", "--config", "wsgate.toml"]).current_dir(directory.path()).env_remove("RUST_LOG");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn().unwrap();
        let mute = Mute { child, directory };
        let socket = mute.directory.path().join("ws.sock");
        eventually("it accepts", DEADLINE, || std::os::unix::net::UnixStream::connect(&socket).is_ok());
        mute
    }

    fn raw(&self) -> Raw {
        Raw::unix(&self.directory.path().join("ws.sock"))
    }

    fn client(&self) -> Raw {
        let mut client = self.raw();
        client.upgrade("/", &[]);
        client
    }

    /// Leaves a line of more than 1 KiB in the log.
    fn be_refused(&self) {
        let mut client = self.raw();
        client.send(request("/", &[&format!("Origin: http://{}.example", "x".repeat(4000))]).as_bytes());
        assert!(client.head().starts_with("HTTP/1.1 403 "));
    }

    /// How many clients have a thread now.
    fn client_threads(&self) -> usize {
        let threads = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let name = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("comm"));
        // A thread that has no name any more has ended.
        threads.filter_map(|thread| name(thread.unwrap()).ok()).filter(|name| name.starts_with("client ")).count()
    }

    /// Stops it with SIGTERM and returns how long that took.
    fn stop(&mut self) -> Duration {
        let told = Instant::now();
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let status = process::wait(&mut self.child, DEADLINE).expect("it has not ended in time");
        assert_eq!(status.code(), Some(0));
        told.elapsed()
    }
}

impl Drop for Mute {
    fn drop(&mut self) {
        // An error says that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks for an echo and returns how long it took.
fn check_echo(canary: &mut Raw) -> Duration {
    let asked = Instant::now();
    canary.send(&masked(0x81, b"still alive?"));
    assert_eq!(canary.message(), Frame::text("still alive?"));
    asked.elapsed()
}

/// What a client notices while others come, go and are refused this often; the longest wait for an echo.
fn disturb(gateway: &Mute, times: usize) -> Duration {
    let mut canary = gateway.client();
    let mut longest = Duration::ZERO;
    for round in 0..times {
        gateway.be_refused();
        if round % 10 == 0 {
            drop(gateway.client());
            longest = longest.max(check_echo(&mut canary));
        }
    }
    assert!(longest < PROMPT, "the canary waited {longest:?}");
    // Their last lines are written after their last answers.
    eventually("all but the canary have gone", DEADLINE, || gateway.client_threads() == 1);
    longest
}

/// A pipe of which this process keeps only the reading end.
fn pipe() -> (PipeReader, PipeWriter) {
    io::pipe().unwrap()
}

#[test]
fn l8_a_log_on_a_full_disk_loses_its_lines_and_delays_no_client() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut gateway = Mute::start(full);
    let longest = disturb(&gateway, 100);
    measured("L8", format!("/dev/full: the canary waited {longest:.1?} at the most"));
    gateway.stop();
}

#[test]
fn l8_a_log_to_a_closed_pipe_loses_its_lines_and_delays_no_client() {
    let (reader, writer) = pipe();
    let mut gateway = Mute::start(writer);
    drop(reader);
    let longest = disturb(&gateway, 100);
    measured("L8", format!("a closed pipe: the canary waited {longest:.1?} at the most"));
    gateway.stop();
}

#[test]
fn l8_a_log_that_is_not_read_delays_no_client_and_missing_lines_are_counted() {
    const REFUSALS: usize = 6000;
    let (reader, writer) = pipe();
    let mut gateway = Mute::start(writer);
    let longest = disturb(&gateway, REFUSALS);
    // The reader goes on, and the log ends when the gateway does. Before the backlog is worked off there
    // would be no room for the lines of the stop.
    let (caught_up, gap) = mpsc::channel();
    let reading = thread::spawn(move || {
        let mut lines = Vec::new();
        for line in BufReader::new(reader).lines().map(Result::unwrap) {
            if line.contains(" lines are missing here") {
                caught_up.send(()).unwrap();
            }
            lines.push(line);
        }
        lines
    });
    gap.recv_timeout(DEADLINE).unwrap();
    gateway.stop();
    let lines = reading.join().unwrap();
    let gaps: Vec<u64> = lines
        .iter()
        .filter_map(|line| line.split_once("log: ")?.1.split_once(" lines are missing here")?.0.parse().ok())
        .collect();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    let count = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
    // A refusal is one line, a client that came and went is two; the canary came, and left at the end.
    let refused = count(": refused with 403");
    let clients = count(": connected to ") + count(": disconnected from ");
    assert_eq!((refused + clients) as u64 + gaps[0], (REFUSALS + 2 * (REFUSALS / 10 + 1)) as u64);
    assert!(lines.last().unwrap().ends_with(" stopped"), "{:?}", lines.last());
    measured(
        "L8",
        format!(
            "a pipe that is not read: the canary waited {longest:.1?} at the most, {} lines missing, all counted",
            gaps[0]
        ),
    );
}

#[test]
fn l8_a_gateway_whose_log_is_not_read_stops_in_time() {
    let (reader, writer) = pipe();
    let mut gateway = Mute::start(writer);
    let mut canary = gateway.client();
    // More than the pipe holds.
    (0..200).for_each(|_| gateway.be_refused());
    check_echo(&mut canary);
    drop(canary);
    let took = gateway.stop();
    measured("L8", format!("a stop while nobody reads the log: {took:.1?}"));
    assert!(took < Duration::from_secs(3), "{took:?}");
    drop(reader);
}

#[test]
fn l8_a_pipe_that_does_not_block_loses_no_line() {
    const REFUSALS: usize = 500;
    let (reader, writer) = pipe();
    fcntl_setfl(&writer, fcntl_getfl(&writer).unwrap() | OFlags::NONBLOCK).unwrap();
    let mut gateway = Mute::start(writer);
    disturb(&gateway, REFUSALS);
    let reading = thread::spawn(move || BufReader::new(reader).lines().map(Result::unwrap).collect::<Vec<_>>());
    gateway.stop();
    let lines = reading.join().unwrap();
    assert_eq!(lines.iter().filter(|line| line.contains(": refused with 403")).count(), REFUSALS);
    assert!(lines.last().unwrap().ends_with(" stopped"), "{:?}", lines.last());
}
