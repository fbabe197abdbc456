//! The commands that talk to a server, `send` and `listen`: how they are run, and small servers that behave as told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use native_tls::TlsStream;
use rustix::process::{Pid, Signal, kill_process};
use socket2::{Domain, Socket, Type};
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket};

use super::{expect_no_secret, process};

/// Nothing here takes this long unless it hangs.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A running wsgate, killed when the test forgets it or its deadline is over.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: Option<BufReader<ChildStdout>>,
    pub(crate) stderr: Option<ChildStderr>,
    started: Instant,
}

/// What a wsgate left behind.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
}

impl Finished {
    pub(crate) fn stdout(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    /// It ended with `code` and said all of `words`, on standard error.
    pub(crate) fn expect(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "'{word}' is missing in {self:?}");
        }
        assert!(!self.stderr.contains("panicked"), "{self:?}");
    }
}

pub(crate) fn start(arguments: &[&str]) -> Running {
    start_with(arguments, &[])
}

/// As `start`, with these variables in its environment besides those of the tests.
pub(crate) fn start_with(arguments: &[&str], variables: &[(&str, &str)]) -> Running {
    let mut child = Command::new(env!("CARGO_BIN_EXE_wsgate"))
        .args(arguments)
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take().map(BufReader::new), child.stderr.take());
    Running { child, stdin, stdout, stderr, started: Instant::now() }
}

pub(crate) fn run(arguments: &[&str]) -> Finished {
    start(arguments).finish()
}

pub(crate) fn run_with_input(arguments: &[&str], input: &[u8]) -> Finished {
    let mut running = start(arguments);
    let mut stdin = running.stdin.take().unwrap();
    let input = input.to_vec();
    // The child may end without reading all of it, which is its right.
    thread::spawn(move || {
        let _ = stdin.write_all(&input);
    });
    running.finish()
}

impl Running {
    pub(crate) fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Writes to its standard input, which stays open.
    pub(crate) fn type_in(&mut self, text: &[u8]) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(text).unwrap();
        stdin.flush().unwrap();
    }

    /// The next line of standard output, while the command goes on.
    pub(crate) fn line(&mut self) -> String {
        let mut stdout = self.stdout.take().unwrap();
        let (sender, receiver) = channel();
        thread::spawn(move || {
            let mut line = String::new();
            stdout.read_line(&mut line).unwrap();
            let _ = sender.send((stdout, line));
        });
        let (stdout, line) = receiver.recv_timeout(DEADLINE).expect("a line within the deadline");
        self.stdout = Some(stdout);
        line
    }

    pub(crate) fn finish(mut self) -> Finished {
        drop(self.stdin.take());
        let stdout = read_all(self.stdout.take());
        let stderr = read_all(self.stderr.take());
        let left = DEADLINE.saturating_sub(self.started.elapsed());
        let code = process::wait(&mut self.child, left).expect("still running after the deadline").code();
        let took = self.started.elapsed();
        let stderr = String::from_utf8(stderr.recv_timeout(DEADLINE).unwrap()).unwrap();
        let stdout = stdout.recv_timeout(DEADLINE).unwrap();
        expect_no_secret("standard error", &stderr);
        expect_no_secret("standard output", &String::from_utf8_lossy(&stdout));
        Finished { code, stdout, stderr, took }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_all(source: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut source) = source {
            source.read_to_end(&mut bytes).unwrap();
        }
        let _ = sender.send(bytes);
    });
    receiver
}

/// A server that gives each connection to `behave`, one after the other.
pub(crate) fn serve_on(listener: TcpListener, behave: impl Fn(TcpStream) + Send + 'static) -> SocketAddr {
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            stream.set_write_timeout(Some(DEADLINE)).unwrap();
            behave(stream);
        }
    });
    address
}

pub(crate) fn serve(behave: impl Fn(TcpStream) + Send + 'static) -> String {
    format!("ws://{}/", serve_on(TcpListener::bind("127.0.0.1:0").unwrap(), behave))
}

/// A WebSocket server that does `behave` after the handshake.
pub(crate) fn serve_websocket(behave: impl Fn(WebSocket<TcpStream>) + Send + 'static) -> String {
    serve(move |stream| {
        if let Ok(socket) = tungstenite::accept(stream) {
            behave(socket);
        }
    })
}

/// Sends `messages`, then reports every message that the client sends, its Close too.
pub(crate) fn serve_messages(messages: Vec<Message>) -> (String, Receiver<Message>) {
    let (sender, seen) = channel();
    let url = serve_websocket(move |mut socket| {
        for message in &messages {
            socket.send(message.clone()).unwrap();
        }
        report(&mut socket, &sender);
    });
    (url, seen)
}

pub(crate) fn report<S: Read + Write>(socket: &mut WebSocket<S>, sender: &Sender<Message>) {
    while let Ok(message) = socket.read() {
        let _ = sender.send(message);
    }
}

pub(crate) fn serve_echo() -> String {
    serve_websocket(echo)
}

pub(crate) fn echo<S: Read + Write>(mut socket: WebSocket<S>) {
    while let Ok(message) = socket.read() {
        if message.is_text() || message.is_binary() {
            let _ = socket.send(message);
        }
    }
}

/// Answers every request with these bytes.
pub(crate) fn serve_answer(answer: impl Into<Vec<u8>>) -> String {
    let answer = answer.into();
    serve(move |mut stream| {
        read_request(&mut stream);
        let _ = stream.write_all(&answer);
    })
}

pub(crate) fn read_request(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// Closes with `code`, then waits for the client to be gone.
pub(crate) fn serve_close(code: u16, reason: &'static str) -> String {
    serve_websocket(move |mut socket| {
        let frame = CloseFrame { code: CloseCode::from(code), reason: reason.into() };
        socket.close((code != 0).then_some(frame)).unwrap();
        while socket.read().is_ok() {}
    })
}

/// A port that is ours, but that refuses every connection until it is told to listen.
pub(crate) fn closed_port() -> (Socket, String) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, format!("ws://{address}/"))
}

pub(crate) fn next(seen: &Receiver<Message>) -> Message {
    seen.recv_timeout(DEADLINE).expect("a message within the deadline")
}

pub(crate) fn expect_normal_close(seen: &Receiver<Message>) {
    match next(seen) {
        Message::Close(Some(frame)) => assert_eq!(frame.code, CloseCode::Normal),
        other => panic!("expected a Close, got {other:?}"),
    }
}

/// A server with a certificate for `name` that nobody has signed, and the file of that certificate.
pub(crate) fn serve_tls(
    name: &str,
    behave: impl Fn(WebSocket<TlsStream<TcpStream>>) + Send + 'static,
) -> (String, PathBuf) {
    let certified = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let pem = certified.cert.pem();
    let key = certified.signing_key.serialize_pem();
    let identity = native_tls::Identity::from_pkcs8(pem.as_bytes(), key.as_bytes()).unwrap();
    let acceptor = native_tls::TlsAcceptor::new(identity).unwrap();
    let url = serve(move |stream| {
        if let Ok(stream) = acceptor.accept(stream)
            && let Ok(socket) = tungstenite::accept(stream)
        {
            behave(socket);
        }
    });
    let port = url.rsplit(':').next().unwrap().trim_end_matches('/').to_owned();
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-{port}.pem"));
    std::fs::write(&file, pem).unwrap();
    (url.replace("ws:", "wss:"), file)
}
