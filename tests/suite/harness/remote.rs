//! A WebSocket server that the gateway dials, for a link or a relay: its test accepts, reads and answers as it likes,
//! and takes it away.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};
use tungstenite::protocol::CloseFrame;
use tungstenite::{Message, WebSocket};

use super::{DEADLINE, Raw, eventually};

/// A server that may be there or not, always at the same port.
pub(crate) struct Remote {
    /// Bound and never listening: it keeps the port while the server is away.
    _holder: Socket,
    address: SocketAddr,
    listener: Option<TcpListener>,
}

/// One connection of a link, seen from the server. Every wait has a deadline.
pub(crate) struct Linked(pub(crate) WebSocket<TcpStream>);

impl Remote {
    /// A server that is not there yet.
    pub(crate) fn away() -> Remote {
        let holder = bound(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = holder.local_addr().unwrap().as_socket().unwrap();
        Remote { _holder: holder, address, listener: None }
    }

    /// A server that listens.
    pub(crate) fn up() -> Remote {
        let mut remote = Remote::away();
        remote.come();
        remote
    }

    /// What the gateway has to dial.
    pub(crate) fn url(&self) -> String {
        self.url_of("/")
    }

    /// The same with another path, which may have a query.
    pub(crate) fn url_of(&self, path: &str) -> String {
        format!("ws://{}{path}", self.address)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens.
    pub(crate) fn come(&mut self) {
        // A process that another test is starting has a copy of the last listener for a moment.
        eventually("the port is free again", DEADLINE, || {
            let listening = bound(self.address).and_then(|socket| {
                socket.listen(16)?;
                // The deadline of `accept`.
                socket.set_read_timeout(Some(DEADLINE))?;
                Ok(socket)
            });
            self.listener = listening.ok().map(TcpListener::from);
            self.listener.is_some()
        });
    }

    /// Does not listen any more; connections live on.
    pub(crate) fn go(&mut self) {
        self.listener = None;
    }

    /// The next connection, as a stream.
    pub(crate) fn accept_stream(&self) -> TcpStream {
        let listener = self.listener.as_ref().expect("the server is there");
        let (stream, _) = listener.accept().unwrap_or_else(|error| panic!("nobody has connected: {error}"));
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// The next connection, as bytes: the test reads its request and answers it.
    pub(crate) fn accept_raw(&self) -> Raw {
        Raw::accepted(self.accept_stream())
    }

    /// The next connection, its request answered by a 101 that has these lines too; and the request.
    pub(crate) fn upgraded(&self, lines: &[&str]) -> (Raw, String) {
        let mut raw = self.accept_raw();
        let head = raw.head();
        raw.answer_upgrade(&head, lines);
        (raw, head)
    }

    /// Checks that no connection waits to be accepted: one that is made now is the first in line.
    pub(crate) fn expect_nobody(&self) {
        let ours = TcpStream::connect(self.address).unwrap();
        let first = self.accept_stream();
        assert_eq!(first.peer_addr().unwrap(), ours.local_addr().unwrap(), "somebody has connected");
    }

    /// The next connection, its handshake done.
    pub(crate) fn accept(&self) -> Linked {
        Linked(tungstenite::accept(self.accept_stream()).unwrap())
    }
}

impl Linked {
    /// The next message that is no ping or pong.
    pub(crate) fn message(&mut self) -> Message {
        loop {
            match self.0.read().unwrap_or_else(|error| panic!("no message came: {error}")) {
                Message::Ping(_) | Message::Pong(_) => {}
                message => return message,
            }
        }
    }

    /// The next text.
    pub(crate) fn text(&mut self) -> String {
        match self.message() {
            Message::Text(text) => text.to_string(),
            other => panic!("no text but {other:?}"),
        }
    }

    /// The next text, as JSON.
    pub(crate) fn json(&mut self) -> serde_json::Value {
        serde_json::from_str(&self.text()).unwrap()
    }

    /// Sends a text.
    pub(crate) fn send(&mut self, text: impl Into<String>) {
        self.0.send(Message::text(text.into())).unwrap();
    }

    /// Whether nothing comes for this long.
    pub(crate) fn is_quiet_for(&mut self, time: Duration) -> bool {
        self.0.get_ref().set_read_timeout(Some(time)).unwrap();
        let read = self.0.read();
        self.0.get_ref().set_read_timeout(Some(DEADLINE)).unwrap();
        matches!(read, Err(tungstenite::Error::Io(error)) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut))
    }

    /// Expects the link's Close and ends in order.
    pub(crate) fn closed(&mut self) -> Option<CloseFrame> {
        let close = match self.message() {
            Message::Close(close) => close,
            other => panic!("no Close but {other:?}"),
        };
        while self.0.read().is_ok() {}
        close
    }

    /// Is killed: the connection is reset.
    pub(crate) fn reset(self) {
        SockRef::from(self.0.get_ref()).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// The connection ends without a Close.
    pub(crate) fn hang_up(self) {
        let _ = self.0.get_ref().shutdown(Shutdown::Both);
    }
}

/// A socket at this address that does not listen: it keeps the port free for one that will.
pub(super) fn bound(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}
