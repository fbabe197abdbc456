//! Sockets that systemd has opened and passes on (socket activation).

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{DEADLINE, Gateway, Raw, by_way_of, eventually, masked, measured, request};

/// Opens sockets, passes them on as systemd does, and becomes the program: `KIND=NAME` for each, then `--` and the command.
/// The last of the two that are one socket is kept by a child, as systemd keeps what it passes on.
const PASS: &str = r#"
import os, socket, sys, time
words = sys.argv[1:sys.argv.index("--")]
command = sys.argv[sys.argv.index("--") + 1:]
names, kept = [], []
for word in words:
    kind, name = word.split("=", 1)
    family = socket.AF_UNIX if "unix" in kind else socket.AF_INET
    s = socket.socket(family, socket.SOCK_DGRAM if "udp" in kind else socket.SOCK_STREAM)
    s.bind(os.path.join(os.getcwd(), "passed.sock") if family == socket.AF_UNIX else ("127.0.0.1", 0))
    if "udp" not in kind and "closed" not in kind:
        s.listen(100)
    names.append(name)
    kept.append(s)
if os.fork() == 0:
    # The supervisor: it keeps the sockets for as long as the test has its directory.
    os.setsid()
    directory = os.getcwd()
    os.close(1), os.close(2)
    while os.path.exists(directory):
        time.sleep(0.1)
    os._exit(0)
copies = [os.dup(s.fileno()) for s in kept]
for number, copy in enumerate(os.dup2(copy, 100 + number) for number, copy in enumerate(copies)):
    os.dup2(copy, 3 + number, inheritable=True)
for number in range(3 + len(kept), 200):
    try:
        os.close(number)
    except OSError:
        pass
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(kept)), LISTEN_FDNAMES=":".join(names))
os.execvp(command[0], command)
"#;

const NAMES: &str = "[[listen]]\nname = \"plain\"\naddress = \"127.0.0.1:0\"\n[[listen]]\nname = \"tls\"\naddress = \"127.0.0.1:0\"\n\
                     tls = { certificate = \"cert.pem\", private_key = \"key.pem\" }\n[[listen]]\nname = \"local\"\n\
                     address = \"unix:passed.sock\"\n";

const ECHO: &str = "[[endpoint]]\npath = \"/\"\nto = [\"reply\"]\n";

fn is_missing() -> bool {
    let is_missing = Command::new("python3").arg("--version").output().is_err();
    if is_missing {
        measured("O4", "skipped: python3 is not installed");
    }
    is_missing
}

/// Changes a command so that these sockets are passed to it.
fn passing(sockets: &[&str], command: &mut Command) {
    by_way_of(&[&["python3", "-c", PASS], sockets, &["--"]].concat(), command);
}

/// What a gateway says that does not start with these sockets, and its exit code.
fn refused(config: &str, sockets: &[&str]) -> (String, Option<i32>) {
    let mut gateway = Gateway::launch(config, |command| passing(sockets, command));
    let code = gateway.wait().code();
    let log = gateway.whole_log();
    (log.into_iter().find(|line| line.contains("ERROR")).unwrap_or_default(), code)
}

fn echoes(mut client: Raw) {
    client.upgrade("/", &[]);
    client.send(&masked(0x81, b"passed"));
    assert_eq!(client.text(), "passed");
}

#[test]
fn o4_sockets_that_are_passed_are_those_of_the_listeners_by_name() {
    if is_missing() {
        return;
    }
    // In another order than the configuration has.
    let sockets = ["unix=local", "tcp=tls", "tcp=plain"];
    let mut gateway = Gateway::start_with(&format!("{NAMES}{ECHO}"), |command| passing(&sockets, command));
    echoes(gateway.raw("plain"));
    echoes(gateway.raw("tls"));
    echoes(Raw::unix(&gateway.file("passed.sock")));
    // They are the supervisor's. It goes on with them: who connects now waits for the next process.
    let (port, socket) = (gateway.port("plain"), gateway.file("passed.sock"));
    assert_eq!(gateway.terminate().code(), Some(0));
    let mut waiting = Raw::plain(port);
    waiting.send(request("/", &[]).as_bytes());
    assert!(!waiting.has_input_within(Duration::from_millis(100)), "nobody is there to answer");
    UnixStream::connect(&socket).expect("the file is not removed, and somebody listens");
    measured("O4", "TCP, TLS and Unix sockets passed by name; after the stop they still take connections");
}

#[test]
fn o4_sockets_that_do_not_fit_the_listeners_are_named() {
    if is_missing() {
        return;
    }
    let plain = "[[listen]]\nname = \"plain\"\naddress = \"127.0.0.1:0\"\n";
    for (config, sockets, words) in [
        (plain, &["tcp=plain", "tcp=extra"][..], &["\"extra\"", "no [[listen]] is called so"][..]),
        (plain, &["tcp=plain", "tcp=plain"], &["two sockets \"plain\""]),
        (plain, &["tcp=wsgate.socket"], &["\"wsgate.socket\"", "FileDescriptorName="]),
        (NAMES, &["tcp=plain", "tcp=tls"], &["none for listener \"local\"", "FileDescriptorName=local"]),
        (plain, &["udp=plain"], &["\"plain\"", "no stream socket", "ListenStream="]),
        (plain, &["tcp-closed=plain"], &["\"plain\"", "no socket that listens"]),
        (plain, &["unix=plain"], &["\"plain\"", "passed.sock", "address = \"127.0.0.1:0\""]),
        (
            "[[listen]]\nname = \"plain\"\naddress = \"127.0.0.1:9\"\n",
            &["tcp=plain"],
            &["is at \"127.0.0.1:", "address = \"127.0.0.1:9\""],
        ),
    ] {
        let (line, code) = refused(config, sockets);
        assert!(words.iter().all(|word| line.contains(word)), "{sockets:?}: {line:?}");
        assert_eq!(code, Some(78), "{sockets:?}: {line}");
    }
}

#[test]
fn o4_sockets_of_another_process_are_left_alone() {
    let gateway = Gateway::start_with("[[listen]]\nname = \"plain\"\naddress = \"127.0.0.1:0\"\n", |command| {
        command.env("LISTEN_FDS", "2").env("LISTEN_PID", "1").env("LISTEN_FDNAMES", "a:b");
    });
    gateway.raw("plain").upgrade("/", &[]);
}

#[test]
fn o4_systemds_own_tool_passes_a_socket() {
    if Command::new("systemd-socket-activate").arg("--version").output().is_err() {
        return measured("O4", "skipped: systemd-socket-activate is not installed");
    }
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("ws.sock");
    let config = format!("[[listen]]\nname = \"main\"\naddress = \"unix:{}\"\n{ECHO}", socket.display());
    let gateway = Gateway::launch(&config, |command| {
        let option = format!("--listen={}", socket.display());
        by_way_of(&["systemd-socket-activate", "--fdname=main", &option], command);
    });
    // It starts the program for the first connection.
    wait_for(&socket);
    echoes(Raw::unix(&socket));
    gateway.wait_for_log("listener \"main\": accepting on ");
    gateway.signal(Signal::TERM);
}

fn wait_for(socket: &Path) {
    eventually("the socket is there", DEADLINE, || fs::symlink_metadata(socket).is_ok());
}
