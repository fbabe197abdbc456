//! An HTTP server that the gateway asks: real HTTP over TCP or TLS, whose answers its test decides. It may be away, and
//! come back at the same port.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use native_tls::{Identity, TlsAcceptor};
use socket2::Socket;

use super::remote::bound;
use super::{DEADLINE, eventually};

/// What it does with a request.
#[derive(Clone)]
pub(crate) enum Reply {
    /// Sends these bytes and ends the connection.
    Bytes(Vec<u8>),
    /// Sends these, the second ones without end, until nobody takes them any more.
    Endless(&'static [u8], &'static [u8]),
    /// Says nothing, until the other side has gone.
    Silence,
}

impl Reply {
    /// An answer with this status and body.
    pub(crate) fn of(status: u16, body: &str) -> Reply {
        let length = body.len();
        Reply::Bytes(format!("HTTP/1.1 {status} Whatever\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes())
    }
}

type Answer = dyn Fn(&Request) -> Reply + Send + Sync;

/// A request that has come.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Request {
    /// Its body, as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// See the module's documentation. Dropping it ends all its threads.
pub(crate) struct HttpServer {
    /// Bound and never listening: it keeps the port while the server is away.
    _holder: Socket,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
    accepting: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

struct Shared {
    answer: Mutex<Arc<Answer>>,
    requests: Mutex<Vec<Request>>,
    /// Requests that are not answered yet, and the most that there were at once.
    open: AtomicUsize,
    most_open: AtomicUsize,
}

impl HttpServer {
    /// A server that answers so.
    pub(crate) fn up(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> HttpServer {
        let mut server = HttpServer::away(answer);
        server.come();
        server
    }

    /// The same over TLS, with the certificate in this directory.
    pub(crate) fn tls(directory: &Path, answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> HttpServer {
        let read = |name: &str| std::fs::read(directory.join(name)).unwrap();
        let identity = Identity::from_pkcs8(&read("cert.pem"), &read("key.pem")).unwrap();
        let mut server = HttpServer::away(answer);
        server.tls = Some(TlsAcceptor::new(identity).unwrap());
        server.come();
        server
    }

    /// A server that is not there yet.
    pub(crate) fn away(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> HttpServer {
        let holder = bound(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = holder.local_addr().unwrap().as_socket().unwrap();
        let (open, most_open) = Default::default();
        let shared = Shared { answer: Mutex::new(Arc::new(answer)), requests: Mutex::default(), open, most_open };
        HttpServer { _holder: holder, address, tls: None, shared: Arc::new(shared), accepting: None }
    }

    /// From now on it answers so.
    pub(crate) fn answers(&self, answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) {
        *self.shared.answer.lock().unwrap() = Arc::new(answer);
    }

    /// Its URL with this path.
    pub(crate) fn url(&self, path: &str) -> String {
        let (scheme, host) = if self.tls.is_some() { ("https", "localhost") } else { ("http", "127.0.0.1") };
        format!("{scheme}://{host}:{}{path}", self.address.port())
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// Waits until there were this many requests, and returns them.
    pub(crate) fn wait_for_requests(&self, count: usize) -> Vec<Request> {
        eventually(&format!("{count} requests"), DEADLINE, || self.requests().len() >= count);
        self.requests()
    }

    /// The most requests that it had at once.
    pub(crate) fn most_at_once(&self) -> usize {
        self.shared.most_open.load(Ordering::Acquire)
    }

    /// Listens.
    pub(crate) fn come(&mut self) {
        let mut listener = None;
        // A process that another test is starting has a copy of the last listener for a moment.
        eventually("the port is free again", DEADLINE, || {
            listener = bound(self.address).and_then(|socket| socket.listen(1024).map(|()| socket)).ok();
            listener.is_some()
        });
        let listener = TcpListener::from(listener.expect("it listens"));
        let is_over = Arc::new(AtomicBool::new(false));
        let (shared, tls, told) = (Arc::clone(&self.shared), self.tls.clone(), Arc::clone(&is_over));
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if told.load(Ordering::Acquire) {
                    return;
                }
                let (shared, tls) = (Arc::clone(&shared), tls.clone());
                let stream = stream.unwrap();
                thread::spawn(move || {
                    // Whoever asks may go away at any time.
                    let _ = serve(&shared, tls.as_ref(), stream);
                });
            }
        });
        self.accepting = Some((is_over, thread));
    }

    /// Does not listen any more.
    pub(crate) fn go(&mut self) {
        if let Some((is_over, thread)) = self.accepting.take() {
            is_over.store(true, Ordering::Release);
            let _ = TcpStream::connect(self.address);
            thread.join().unwrap();
        }
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.go();
    }
}

fn serve(shared: &Shared, tls: Option<&TlsAcceptor>, stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    let socket = stream.try_clone()?;
    match tls {
        None => exchange(shared, stream)?,
        Some(tls) => exchange(shared, tls.accept(stream).map_err(io::Error::other)?)?,
    }
    // Everything that was sent arrives, also where the other side still sends.
    socket.shutdown(Shutdown::Write)?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    let (late, mut rest) = (Instant::now() + Duration::from_secs(2), [0; 4096]);
    while Instant::now() < late && (&socket).read(&mut rest)? > 0 {}
    Ok(())
}

fn exchange(shared: &Shared, mut stream: impl Read + Write) -> io::Result<()> {
    let Some(request) = read_request(&mut stream)? else { return Ok(()) };
    shared.requests.lock().unwrap().push(request.clone());
    let open = shared.open.fetch_add(1, Ordering::AcqRel) + 1;
    shared.most_open.fetch_max(open, Ordering::AcqRel);
    let answer = Arc::clone(&shared.answer.lock().unwrap());
    let done = match answer(&request) {
        Reply::Bytes(bytes) => stream.write_all(&bytes).and_then(|()| stream.flush()),
        Reply::Endless(first, rest) => stream.write_all(first).and_then(|()| {
            loop {
                stream.write_all(rest)?;
            }
        }),
        Reply::Silence => stream.read(&mut [0; 1]).map(drop),
    };
    shared.open.fetch_sub(1, Ordering::AcqRel);
    done
}

fn read_request(stream: &mut impl Read) -> io::Result<Option<Request>> {
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
        if let Some(end) = end {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            let length = length.map_or(0, |length| length.parse().unwrap());
            if bytes.len() >= end + length {
                let body = String::from_utf8(bytes[end..end + length].to_vec()).unwrap();
                return Ok(Some(Request { head, body }));
            }
        }
        match stream.read(&mut piece)? {
            0 => return Ok(None),
            count => bytes.extend_from_slice(&piece[..count]),
        }
    }
}
