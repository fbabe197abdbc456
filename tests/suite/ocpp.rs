//! Chargers that speak OCPP with a central system, with the packages that people use for it, through the relay of the
//! documents.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::documents::config_with;
use crate::harness::{Gateway, Raw, eventually, request};
use crate::real_clients::{installed, source};

/// Half of them speak OCPP 1.6, half 2.0.1.
const CHARGERS: usize = 200;

/// The longest that a program may take for its next line: two hundred TLS handshakes in one Python process are slow.
const PATIENCE: Duration = Duration::from_secs(120);

/// A program that answers lines with lines.
struct Program {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Program {
    fn start(script: &str, arguments: &[&str], certificates: Option<&Gateway>) -> Program {
        let mut command = Command::new(installed("target/clients/python/bin/python"));
        command.args(["-W", "error"]).arg(source(script)).args(arguments);
        if let Some(gateway) = certificates {
            command.env("SSL_CERT_FILE", gateway.file("ca.pem"));
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Program { input: child.stdin.take().unwrap(), child, lines }
    }

    fn tell(&mut self) {
        self.input.write_all(b"go\n").unwrap();
    }

    fn line(&mut self) -> String {
        let line = self.lines.recv_timeout(PATIENCE);
        line.unwrap_or_else(|error| panic!("no line: {error}; status {:?}", self.child.try_wait()))
    }

    /// Ends it and waits until it has ended.
    fn end(mut self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A central system on this port, or on a free one, and its port.
fn central(port: &str) -> (Program, String) {
    let mut central = Program::start("tests/clients/ocpp_central.py", &[port], None);
    let port = central.line();
    (central, port)
}

#[test]
fn two_hundred_chargers_stay_connected_while_their_central_system_restarts() {
    let (mut system, port) = central("0");
    let config = config_with("[endpoint.relay]\nurl = \"ws://10.0.0.5:9000/ocpp/{station}\"");
    let gateway = Gateway::start(
        &config
            .replace("0.0.0.0:9443", "127.0.0.1:0")
            .replace("server.pem", "cert.pem")
            .replace("server.key", "key.pem")
            .replace("10.0.0.5:9000", &format!("127.0.0.1:{port}"))
            .replace("[endpoint.relay]\n", "[endpoint.relay]\nproxy = \"off\"\n"),
    );
    let url = format!("wss://localhost:{}/ocpp", gateway.port("127.0.0.1:0"));
    let mut chargers = Program::start("tests/clients/ocpp_chargers.py", &[&url, &CHARGERS.to_string()], Some(&gateway));
    assert_eq!(chargers.line(), "ready");
    let calls_go_both_ways = |chargers: &mut Program, system: &mut Program| {
        system.tell();
        assert_eq!(system.line(), CHARGERS.to_string());
        chargers.tell();
        assert_eq!(chargers.line(), "ok");
    };
    calls_go_both_ways(&mut chargers, &mut system);

    // In order, with 1001, and then without a word.
    for signal in [Signal::TERM, Signal::KILL] {
        let descriptors = gateway.descriptors();
        system.end(signal);
        let is_lost = || gateway.descriptors() <= descriptors - CHARGERS;
        eventually("the gateway knows of every charger that its central system is away", PATIENCE, is_lost);
        // Calls that are made meanwhile are answered as soon as it is back.
        chargers.tell();
        (system, _) = central(&port);
        assert_eq!(chargers.line(), "ok");
        calls_go_both_ways(&mut chargers, &mut system);
    }
    // A wrong password is the central system's to refuse.
    let mut stranger = Raw::tls(gateway.port("127.0.0.1:0"), &gateway.file("ca.pem"));
    stranger.send(request("/ocpp/DE*ABC*E0", &["Authorization: Basic c3RyYW5nZXI6d3Jvbmc="]).as_bytes());
    let (head, _) = stranger.answer();
    assert!(head.starts_with("HTTP/1.1 401 ") && head.contains("WWW-Authenticate: Basic realm=\"chargers\""), "{head}");
    calls_go_both_ways(&mut chargers, &mut system);
    assert!(!gateway.log().iter().any(|line| line.contains("disconnected")), "a charger was disconnected");
}
