//! The opening handshake, server side (RFC 6455 section 4.2), as far as it reads and writes: TLS and the request head
//! under one deadline, the answer, and a closing that lets the peer read it. What the head says is for
//! `http/request.rs` to judge.
//!
//! Bytes that came behind the head belong to the WebSocket and are kept.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::server_tls::ServerTls;
use super::socket::Socket;
use super::tls::{Decrypted, Session};
use super::trust_review::Proved;
use crate::address::proxy_header::{self, ProxyHeaderError};
use crate::certificate::ClientCertificate;
use crate::http::misplaced::Misplaced;
use crate::http::request::{HEAD_MAX, head_end};

/// How much is read at once; nearly every head fits.
const CHUNK: usize = 2048;

/// How much of a long answer is encrypted ahead of what the socket has taken.
const SEALED_AT_ONCE: usize = 64 << 10;

/// The longest that a record of a TLS handshake can be, with its header of 5 bytes (RFC 8446 section 5.1).
const RECORD_MAX: usize = 5 + (16 << 10);

/// A stream during its handshake: a socket, and TLS over it if the listener has TLS.
#[derive(Debug)]
pub struct Stream {
    /// The accepted socket, under the TLS if there is any. Whoever else has it can only shut it down.
    pub socket: Arc<Socket>,
    /// What a TLS session is made of, until the peer has begun one.
    tls: Option<Arc<ServerTls>>,
    /// The TLS session, from the peer's first whole record on.
    session: Option<Session>,
    /// The certificate that the peer has proved to have, if it has one, and who has verified it.
    pub proved: Option<Box<(Arc<ServerTls>, Proved)>>,
    /// What came together with a header of the PROXY protocol and is not part of it.
    ahead: Vec<u8>,
}

/// Why no request head could be read.
#[derive(Debug)]
pub enum HeadError {
    /// The deadline passed.
    TimedOut,
    /// More than [`HEAD_MAX`] bytes without an end.
    TooLong,
    /// The peer ended the connection without a byte.
    Silent,
    /// The peer ended the connection in the middle of its head.
    Incomplete,
    /// What has arrived cannot become a request here.
    Misplaced(Misplaced),
    /// What a proxy has to say first is missing or broken.
    ProxyHeader(ProxyHeaderError),
    /// The TLS handshake failed.
    Tls(io::Error),
    /// The socket failed.
    Io(io::Error),
}

/// A request head and what came behind it.
#[derive(Debug)]
pub struct Head {
    /// The head, up to and with the empty line.
    pub bytes: Vec<u8>,
    /// What came after it.
    pub behind: Vec<u8>,
}

impl Stream {
    /// A stream before its handshake; over TLS if its listener has TLS.
    pub fn new(socket: Arc<Socket>, tls: Option<Arc<ServerTls>>) -> Stream {
        Stream { socket, tls, session: None, proved: None, ahead: Vec::new() }
    }

    /// The socket, and the TLS session over it: there is one after a head has been read over TLS. `None` if somebody else
    /// still has the socket.
    pub fn into_parts(self) -> Option<(Socket, Option<Session>)> {
        Arc::into_inner(self.socket).map(|socket| (socket, self.session))
    }

    /// Whether the peer is spoken to over TLS.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some() || self.session.is_some()
    }

    /// The certificate that the peer has proved to have; `None` without one. It takes a while, so ask once.
    #[inline(never)]
    pub fn client_certificate(&self) -> Option<ClientCertificate> {
        self.session.as_ref().and_then(Session::client_certificate)
    }

    /// Goes on without TLS, for a peer that does not speak it.
    pub fn give_up_tls(&mut self) {
        self.tls = None;
        self.session = None;
    }

    /// Reads the header of the PROXY protocol, which comes before everything else. Gives the client that it names.
    pub fn read_proxy_header(&mut self, deadline: Instant) -> Result<Option<SocketAddr>, HeadError> {
        let mut input = Vec::new();
        loop {
            if let Some(header) = proxy_header::parse(&input).map_err(HeadError::ProxyHeader)? {
                self.ahead = input.split_off(header.len);
                return Ok(header.client);
            }
            if recv_behind(&self.socket, &mut input, deadline)? == 0 {
                return Err(if input.is_empty() { HeadError::Silent } else { HeadError::Incomplete });
            }
        }
    }

    /// Does the TLS handshake if there is TLS, then reads up to the end of a request head.
    pub fn read_head(&mut self, deadline: Instant) -> Result<Head, HeadError> {
        let input = self.shake_hands(deadline)?;
        self.read_next_head(input, deadline)
    }

    /// Reads up to the end of a further request head, of which `input` has come already.
    pub fn read_next_head(&mut self, mut input: Vec<u8>, deadline: Instant) -> Result<Head, HeadError> {
        loop {
            // Such bytes may never have a line's end: the peer gets its answer at once, not at the deadline.
            if let Some(other) = Misplaced::on_plain(&input) {
                return Err(HeadError::Misplaced(other));
            }
            if let Some(end) = head_end(&input).filter(|end| *end <= HEAD_MAX) {
                let behind = input.split_off(end);
                return Ok(Head { bytes: input, behind });
            }
            if input.len() > HEAD_MAX {
                return Err(HeadError::TooLong);
            }
            if self.read_more(&mut input, deadline)? == 0 {
                return Err(if input.is_empty() { HeadError::Silent } else { HeadError::Incomplete });
            }
        }
    }

    /// Reads on behind a head until `input`, which came with it, has `len` bytes; it may have more then.
    pub fn read_body(&mut self, input: &mut Vec<u8>, len: usize, deadline: Instant) -> Result<(), HeadError> {
        while input.len() < len {
            if self.read_more(input, deadline)? == 0 {
                return Err(HeadError::Incomplete);
            }
        }
        Ok(())
    }

    /// Writes all of an answer, of whatever length, until the deadline.
    pub fn write_all(&mut self, answer: &[u8], deadline: Instant) -> io::Result<()> {
        match &mut self.session {
            None => send_until(&self.socket, answer, deadline),
            Some(session) => answer.chunks(SEALED_AT_ONCE).try_for_each(|part| {
                session.seal(part)?;
                send_until(&self.socket, &session.take_outgoing(), deadline)
            }),
        }
    }

    /// Writes an answer, as far as the socket takes it: nothing was written before, so it takes
    /// every answer of ours whole.
    pub fn write(&mut self, answer: &[u8]) -> io::Result<()> {
        match &mut self.session {
            None => self.socket.send_now(answer).map(drop),
            Some(session) => {
                session.seal(answer)?;
                self.socket.send_now(&session.take_outgoing()).map(drop)
            }
        }
    }

    /// Ends a refused connection so that the peer can read why: our direction is shut down, and
    /// what it still sends is discarded until it ends or the deadline passes. Closing with unread
    /// bytes would make the kernel reset the connection and the answer with it.
    pub fn linger(&mut self, deadline: Instant) {
        if let Some(session) = &mut self.session {
            session.say_goodbye();
            let goodbye = session.take_outgoing();
            let _ = self.socket.send_now(&goodbye);
        }
        self.socket.shutdown_write();
        let mut discarded = [0; CHUNK];
        while let Ok(1..) = recv_until(&self.socket, &mut discarded, deadline) {}
    }

    /// Whether the peer is to be spoken to over TLS and cannot be yet.
    pub fn is_secret_not_agreed(&self) -> bool {
        self.tls.is_some() || self.session.as_ref().is_some_and(|session| !session.is_ready())
    }

    /// As [`linger`](Stream::linger), for a peer with which no TLS session came about: it has been
    /// sent the alert that says why.
    pub fn abandon(&mut self, deadline: Instant) {
        self.give_up_tls();
        self.linger(deadline);
    }

    /// The TLS handshake; returns what the client has sent behind it already.
    fn shake_hands(&mut self, deadline: Instant) -> Result<Vec<u8>, HeadError> {
        let Some(tls) = self.tls.clone() else { return Ok(Vec::new()) };
        let mut cipher = self.first_record(deadline)?;
        let base = tls.begin(Instant::now());
        let session = Session::new(&base.context).map_err(|error| HeadError::Tls(error.into()))?;
        let session = self.session.insert(session);
        self.tls = None;
        loop {
            let done = session.handshake(&cipher);
            let outgoing = session.take_outgoing();
            if !outgoing.is_empty() {
                self.socket.send_now(&outgoing).map_err(HeadError::Io)?;
            }
            if done.map_err(HeadError::Tls)? {
                self.proved = session.proved(base.generation).map(|proved| Box::new((Arc::clone(&tls), proved)));
                if self.proved.is_some() && tls.trusts_others_than(&base) {
                    // Its certificate may be one of those that are not trusted any more.
                    let why = "a reload changed which certificates of clients are trusted: it may connect again";
                    return Err(HeadError::Tls(io::Error::other(why)));
                }
                let mut input = Vec::new();
                decrypt_all(&self.socket, session, &[], &mut input)?;
                return Ok(input);
            }
            cipher.clear();
            if recv_behind(&self.socket, &mut cipher, deadline)? == 0 {
                return Err(HeadError::Incomplete);
            }
        }
    }

    /// The peer's first TLS record, whole unless it is none, and what came with it. A session costs twenty times what
    /// these bytes do, so it is made only once the record is whole.
    fn first_record(&mut self, deadline: Instant) -> Result<Vec<u8>, HeadError> {
        let mut cipher = Vec::new();
        loop {
            if self.receive(&mut cipher, deadline)? == 0 {
                return Err(if cipher.is_empty() { HeadError::Silent } else { HeadError::Incomplete });
            }
            if let Some(other) = Misplaced::on_tls(&cipher) {
                return Err(HeadError::Misplaced(other));
            }
            if is_record_whole(&cipher) {
                return Ok(cipher);
            }
        }
    }

    /// What is ahead, then what the socket has, behind what is there already.
    fn receive(&mut self, input: &mut Vec<u8>, deadline: Instant) -> Result<usize, HeadError> {
        if self.ahead.is_empty() {
            return recv_behind(&self.socket, input, deadline);
        }
        let ahead = std::mem::take(&mut self.ahead);
        input.extend_from_slice(&ahead);
        Ok(ahead.len())
    }

    fn read_more(&mut self, input: &mut Vec<u8>, deadline: Instant) -> Result<usize, HeadError> {
        let Some(session) = &mut self.session else { return self.receive(input, deadline) };
        let mut cipher = vec![0; CHUNK];
        loop {
            let count = recv_until(&self.socket, &mut cipher, deadline)?;
            if count == 0 {
                return Ok(0);
            }
            let decrypted = decrypt_all(&self.socket, session, &cipher[..count], input)?;
            if decrypted > 0 || session.is_ended_by_peer() {
                return Ok(decrypted);
            }
        }
    }
}

/// Reads what is there, or waits for it, but not beyond the deadline.
fn recv_until(socket: &Socket, buffer: &mut [u8], deadline: Instant) -> Result<usize, HeadError> {
    loop {
        // Looked at first: a peer that never stops sending would never be late.
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(HeadError::TimedOut);
        }
        match socket.recv_now(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result.map_err(HeadError::Io),
        }
        socket.wait_readable(left).map_err(HeadError::Io)?;
    }
}

/// Sends all of these bytes, or fails at the deadline.
fn send_until(socket: &Socket, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        match socket.send_now(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                socket.wait_writable(left)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// As [`recv_until`], behind what is there already.
fn recv_behind(socket: &Socket, input: &mut Vec<u8>, deadline: Instant) -> Result<usize, HeadError> {
    let have = input.len();
    input.resize(have + CHUNK, 0);
    let count = recv_until(socket, &mut input[have..], deadline);
    input.truncate(have + count.as_ref().copied().unwrap_or(0));
    count
}

/// Decrypts all of `cipher`, and writes what the session says in return. Nothing else was written before, so the socket
/// takes it, unless the peer reads nothing of what it asks for.
fn decrypt_all(socket: &Socket, session: &mut Session, cipher: &[u8], input: &mut Vec<u8>) -> Result<usize, HeadError> {
    let before = input.len();
    let mut plain = vec![0; CHUNK];
    let mut cipher = cipher;
    while let Decrypted::Plain(count) = session.read(cipher, &mut plain).map_err(HeadError::Tls)? {
        input.extend_from_slice(&plain[..count]);
        cipher = &[];
    }
    let outgoing = session.take_outgoing();
    if !outgoing.is_empty() && socket.send_now(&outgoing).map_err(HeadError::Io)? < outgoing.len() {
        return Err(HeadError::Io(io::Error::other("it does not read what its TLS session asks for")));
    }
    Ok(input.len() - before)
}

/// Whether a TLS handshake record is all there. What is no such record never gets whole: it is for the session to
/// refuse.
fn is_record_whole(cipher: &[u8]) -> bool {
    const HANDSHAKE: u8 = 22;
    match *cipher {
        [HANDSHAKE, _, _, high, low, ..] => {
            let whole = 5 + usize::from(u16::from_be_bytes([high, low]));
            whole > RECORD_MAX || cipher.len() >= whole
        }
        [HANDSHAKE, ..] => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_never_stops_sending_does_not_outlast_the_deadline() {
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        for _ in 0..4 {
            std::io::Write::write_all(&mut theirs, &[b'x'; CHUNK]).unwrap();
        }
        let mut stream = Stream::new(Arc::new(Socket::new(ours)), None);
        let past = Instant::now();
        assert!(matches!(stream.read_head(past), Err(HeadError::TimedOut)));
        stream.linger(past);
        assert_eq!(stream.socket.recv_now(&mut [0; CHUNK]).unwrap(), CHUNK, "it went on reading after the deadline");
    }
}
