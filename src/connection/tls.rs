//! TLS without I/O: a session over two memory buffers.
//!
//! The reader feeds ciphertext in and takes plaintext out; a writer seals plaintext and carries the ciphertext to the
//! socket. The session never touches a socket itself, so the rules of the outbox hold for TLS clients too: a write never
//! waits, and no lock is held over a system call.
//!
//! Sessions of clients use the `openssl` crate directly because native-tls, which wraps it, offers a server TLS 1.2 only.
//! Dialled connections go through native-tls, which trusts the certificates that the system trusts.

use std::io::{self, Read, Write};
use std::sync::Arc;

use openssl::error::ErrorStack;
use openssl::ssl::{ErrorCode, ShutdownState, Ssl, SslContext, SslStream};

use crate::certificate::ClientCertificate;
use crate::connection::client_trust;
use crate::connection::trust_review::Proved;
use crate::sync::Mutex;

/// The most ciphertext that may come without a byte of plaintext in it. A record has 16 KiB, so this is nothing but
/// empty records, key updates or refused renegotiations, each of which costs us more than the peer.
const BARREN_MAX: usize = 64 << 10;

/// The most ciphertext of a client's handshake. OpenSSL itself takes 100 KiB of certificates, and keeps them as long as the
/// session. A hello has up to 2 KiB, a certificate of RSA with 4,096 bits as much.
const HANDSHAKE_MAX: usize = 32 << 10;

/// What a read of the TLS session gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decrypted {
    /// This many bytes of plaintext; there may be more.
    Plain(usize),
    /// The session has to be fed first.
    NeedMore,
    /// The peer has ended the session in order.
    Closed,
}

/// One TLS session: of a client that we accepted or of a server that we dialled.
#[derive(Debug)]
pub struct Session {
    stream: MemoryStream,
    /// The ciphertext that has come in the handshake, then since the last plaintext.
    barren: usize,
}

impl From<MemoryStream> for Session {
    fn from(stream: MemoryStream) -> Session {
        Session { stream, barren: 0 }
    }
}

/// A TLS stream over memory, of either library. Which one it is never changes, so a processor predicts the branch.
#[derive(Debug)]
enum MemoryStream {
    Accepted(SslStream<Buffers>),
    Dialled(native_tls::TlsStream<Buffers>),
}

impl MemoryStream {
    fn buffers(&self) -> &Buffers {
        match self {
            MemoryStream::Accepted(stream) => stream.get_ref(),
            MemoryStream::Dialled(stream) => stream.get_ref(),
        }
    }

    fn buffers_mut(&mut self) -> &mut Buffers {
        match self {
            MemoryStream::Accepted(stream) => stream.get_mut(),
            MemoryStream::Dialled(stream) => stream.get_mut(),
        }
    }

    /// Whether decrypted bytes wait inside.
    fn has_plain(&self) -> bool {
        match self {
            MemoryStream::Accepted(stream) => stream.ssl().pending() > 0,
            // An error would mean that it cannot tell; asking the session itself is always right.
            MemoryStream::Dialled(stream) => stream.buffered_read_size().map_or(true, |size| size > 0),
        }
    }
}

impl Session {
    /// The session of a client, before its handshake.
    pub fn new(context: &SslContext) -> Result<Session, ErrorStack> {
        let mut ssl = Ssl::new(context)?;
        client_trust::prepare(&mut ssl);
        let stream = SslStream::new(ssl, Buffers::default())?;
        Ok(MemoryStream::Accepted(stream).into())
    }

    /// Goes on with the handshake of a client after `cipher` has arrived; `true` once it is done. Whatever the
    /// result, [`take_outgoing`](Session::take_outgoing) may have something for the peer.
    pub fn handshake(&mut self, cipher: &[u8]) -> io::Result<bool> {
        self.stream.buffers_mut().incoming.extend_from_slice(cipher);
        self.barren += cipher.len();
        let MemoryStream::Accepted(stream) = &mut self.stream else {
            // A dialled session exists only once its handshake is done.
            return Ok(true);
        };
        let broken = |text: String| Err(io::Error::new(io::ErrorKind::InvalidData, text));
        let accepted = stream.accept();
        // What it has taken of a long hello or a long chain it keeps itself.
        stream.get_mut().release();
        match accepted {
            Ok(()) => {
                self.barren = 0;
                client_trust::objection(stream.ssl()).map_or(Ok(true), broken)
            }
            Err(error) if error.code() == ErrorCode::WANT_READ && self.barren > HANDSHAKE_MAX => broken(format!(
                "the client's handshake has more than {} KiB: let it send fewer or smaller certificates",
                HANDSHAKE_MAX >> 10
            )),
            Err(error) if error.code() == ErrorCode::WANT_READ => Ok(false),
            Err(error) => match client_trust::refusal(stream.ssl()) {
                Some(reason) => broken(reason.to_owned()),
                None => broken(explained(&error)),
            },
        }
    }

    /// What the certificate says that the client has proved to have; `None` without one. It was verified when the session
    /// began, or when the one began that this one goes on with.
    pub fn client_certificate(&self) -> Option<ClientCertificate> {
        match &self.stream {
            MemoryStream::Accepted(stream) => Some(ClientCertificate::of(&*stream.ssl().peer_certificate()?)),
            MemoryStream::Dialled(_) => None,
        }
    }

    /// The same certificate as it was verified by the trust of this number, to be looked at again when that changes.
    pub fn proved(&self, judged: u64) -> Option<Proved> {
        match &self.stream {
            MemoryStream::Accepted(stream) => Proved::of(stream.ssl(), judged),
            MemoryStream::Dialled(_) => None,
        }
    }

    /// Whether the handshake is done.
    pub fn is_ready(&self) -> bool {
        match &self.stream {
            MemoryStream::Accepted(stream) => stream.ssl().is_init_finished(),
            MemoryStream::Dialled(_) => true,
        }
    }

    /// Feeds `cipher` in and decrypts into `plain`, which has room.
    ///
    /// # Errors
    /// The session is broken, or much has come that is no data.
    pub fn read(&mut self, cipher: &[u8], plain: &mut [u8]) -> io::Result<Decrypted> {
        self.stream.buffers_mut().incoming.extend_from_slice(cipher);
        self.barren += cipher.len();
        if self.stream.buffers().is_drained() && !self.stream.has_plain() {
            // Asking would only be answered with "feed me", at the price of half a decryption.
            self.stream.buffers_mut().release();
            return Ok(Decrypted::NeedMore);
        }
        let decrypted = match &mut self.stream {
            MemoryStream::Accepted(stream) => match stream.ssl_read(plain) {
                Ok(count) => Ok(Decrypted::Plain(count)),
                Err(error) => match error.code() {
                    ErrorCode::WANT_READ => Ok(Decrypted::NeedMore),
                    ErrorCode::ZERO_RETURN => Ok(Decrypted::Closed),
                    _ => Err(io::Error::new(io::ErrorKind::InvalidData, error.to_string())),
                },
            },
            MemoryStream::Dialled(stream) => match stream.read(plain) {
                // The buffers never end, so the end is the peer's goodbye.
                Ok(0) => Ok(Decrypted::Closed),
                Ok(count) => Ok(Decrypted::Plain(count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Decrypted::NeedMore),
                Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error.to_string())),
            },
        };
        match decrypted {
            Ok(Decrypted::Plain(_)) => self.barren = 0,
            Ok(Decrypted::NeedMore) if self.barren > BARREN_MAX => {
                let text = format!("{} KiB of key updates or empty records without data", BARREN_MAX >> 10);
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            Ok(Decrypted::NeedMore) => self.stream.buffers_mut().release(),
            _ => {}
        }
        decrypted
    }

    /// Whether the peer has ended the session in order. [`read`](Session::read) says so too, but not again
    /// when it is asked once more.
    pub fn is_ended_by_peer(&mut self) -> bool {
        match &mut self.stream {
            MemoryStream::Accepted(stream) => stream.get_shutdown().contains(ShutdownState::RECEIVED),
            // native-tls does not tell; the end of the TCP connection soon will.
            MemoryStream::Dialled(_) => false,
        }
    }

    /// Encrypts `plain`; the result is part of what [`take_outgoing`](Session::take_outgoing) gives.
    ///
    /// # Errors
    /// The session is over, or the peer has begun a handshake message and not ended it: bytes of
    /// `plain` may be lost, so nothing that follows them may be sealed.
    pub fn seal(&mut self, plain: &[u8]) -> io::Result<()> {
        let mut left = plain;
        while !left.is_empty() {
            let count = match &mut self.stream {
                MemoryStream::Accepted(stream) => {
                    stream.ssl_write(left).map_err(|error| io::Error::other(error.to_string()))?
                }
                MemoryStream::Dialled(stream) => {
                    stream.write(left).map_err(|error| io::Error::other(error.to_string()))?
                }
            };
            left = &left[count..];
        }
        Ok(())
    }

    /// Queues a close_notify. An error means that the peer has already ended the session.
    pub fn say_goodbye(&mut self) {
        match &mut self.stream {
            MemoryStream::Accepted(stream) => drop(stream.shutdown()),
            MemoryStream::Dialled(stream) => drop(stream.shutdown()),
        }
    }

    /// How much ciphertext is to be sent.
    pub fn outgoing(&self) -> usize {
        self.stream.buffers().outgoing.len()
    }

    /// The ciphertext to be sent next; all of it, in order.
    pub fn take_outgoing(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.stream.buffers_mut().outgoing)
    }
}

/// The handshake with a server that we dial, over memory too: what it has to say is taken and sent, what the server
/// answers is fed in.
#[derive(Debug)]
pub struct DialHandshake {
    half: native_tls::MidHandshakeTlsStream<Buffers>,
}

/// How far a handshake with a server is.
#[derive(Debug)]
pub enum DialStep {
    /// It has something to say and waits for the answer.
    Waits(DialHandshake),
    /// The certificate is good and the session can be used; it may have something to send first.
    Done(Session),
}

/// A handshake that failed.
#[derive(Debug)]
pub struct DialFailure {
    /// Why.
    pub error: native_tls::Error,
    /// What the server should be told before the connection ends: an alert, or nothing.
    pub last_words: Vec<u8>,
}

impl DialHandshake {
    /// Begins; `name` is what the server is asked for (SNI) and what its certificate has to be good for.
    pub fn begin(connector: &native_tls::TlsConnector, name: &str) -> Result<DialStep, DialFailure> {
        let last_words = UnsentSink::default();
        let mut buffers = Buffers::default();
        buffers.unsent_sink.replace(Arc::clone(&last_words));
        DialHandshake::step(connector.connect(name, buffers), &last_words)
    }

    /// Goes on after `cipher` has arrived.
    pub fn feed(mut self, cipher: &[u8]) -> Result<DialStep, DialFailure> {
        let buffers = self.half.get_mut();
        buffers.release();
        buffers.incoming.extend_from_slice(cipher);
        let last_words = buffers.unsent_sink.clone().unwrap_or_default();
        DialHandshake::step(self.half.handshake(), &last_words)
    }

    /// The ciphertext to be sent next; all of it, in order.
    pub fn take_outgoing(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.half.get_mut().outgoing)
    }

    fn step(
        result: Result<native_tls::TlsStream<Buffers>, native_tls::HandshakeError<Buffers>>,
        last_words: &UnsentSink,
    ) -> Result<DialStep, DialFailure> {
        match result {
            Ok(mut stream) => {
                stream.get_mut().unsent_sink = None;
                Ok(DialStep::Done(MemoryStream::Dialled(stream).into()))
            }
            Err(native_tls::HandshakeError::WouldBlock(half)) => Ok(DialStep::Waits(DialHandshake { half })),
            Err(native_tls::HandshakeError::Failure(error)) => {
                let last_words = std::mem::take(&mut *last_words.lock());
                Err(DialFailure { error, last_words })
            }
        }
    }
}

/// Where buffers leave what was not sent when they are dropped.
type UnsentSink = Arc<Mutex<Vec<u8>>>;

/// The two ends of the wire, in memory.
#[derive(Debug, Default)]
struct Buffers {
    incoming: Vec<u8>,
    consumed: usize,
    outgoing: Vec<u8>,
    /// Set in a handshake that we began: native-tls drops the stream of one that fails, and with it the alert that
    /// tells the server why.
    unsent_sink: Option<UnsentSink>,
}

impl Drop for Buffers {
    fn drop(&mut self) {
        if let Some(unsent_sink) = &self.unsent_sink {
            unsent_sink.lock().append(&mut self.outgoing);
        }
    }
}

impl Buffers {
    /// Whether the session has taken everything that came in.
    fn is_drained(&self) -> bool {
        self.consumed == self.incoming.len()
    }

    /// Gives the memory back between records; what the session has not taken stays.
    fn release(&mut self) {
        if self.is_drained() {
            self.incoming = Vec::new();
        } else {
            self.incoming.drain(..self.consumed);
        }
        self.consumed = 0;
    }
}

impl Read for Buffers {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let waiting = &self.incoming[self.consumed..];
        if waiting.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = waiting.len().min(buffer.len());
        buffer[..count].copy_from_slice(&waiting[..count]);
        self.consumed += count;
        Ok(count)
    }
}

impl Write for Buffers {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outgoing.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Why a client's handshake failed, in the words of a person; OpenSSL's own are a line of numbers and file names.
fn explained(error: &openssl::ssl::Error) -> String {
    let reasons = error.ssl_error().and_then(|stack| stack.errors().iter().rev().find_map(|error| error.reason()));
    let Some(reason) = reasons else { return error.to_string() };
    let is_any = |known: &[&str]| known.iter().any(|known| reason.contains(known));
    let what = match () {
        () if is_any(&["alert unknown ca", "alert bad certificate", "alert certificate unknown"]) => {
            "the client does not trust the certificate"
        }
        () if is_any(&["alert certificate expired"]) => "for the client the certificate has expired",
        () if is_any(&["unsupported protocol", "version too low"]) => "the client has no TLS 1.2 or 1.3",
        () if is_any(&["peer did not return a certificate"]) => {
            "the client has no certificate, and `client_certificate` is \"required\""
        }
        () if is_any(&["no shared cipher"]) => "the client has no cipher that wsgate has",
        () if is_any(&["wrong version number", "packet length too long"]) => "what the client sent is no TLS",
        () => return reason.to_owned(),
    };
    format!("{what} ({reason})")
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use openssl::ssl::SslContext;

    use super::*;
    use crate::config::{ListenerTls, TlsSettings};
    use crate::connection::server_tls::ServerTls;

    /// The settings of a server for `localhost`, and its certificate.
    fn server() -> (SslContext, native_tls::Certificate) {
        let directory = tempfile::tempdir().unwrap();
        let (certificate, private_key) = (directory.path().join("c.pem"), directory.path().join("k.pem"));
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&private_key, made.signing_key.serialize_pem()).unwrap();
        let trusted = native_tls::Certificate::from_pem(made.cert.pem().as_bytes()).unwrap();
        let files = TlsSettings { certificate, private_key };
        (ServerTls::load(String::new(), &ListenerTls::of(files)).unwrap().begin(Instant::now()).context, trusted)
    }

    fn connector(trusted: Option<native_tls::Certificate>, newest: native_tls::Protocol) -> native_tls::TlsConnector {
        let mut builder = native_tls::TlsConnector::builder();
        builder.max_protocol_version(Some(newest));
        if let Some(trusted) = trusted {
            builder.add_root_certificate(trusted);
        }
        builder.build().unwrap()
    }

    /// Both ends of a session, the dialled one first.
    fn pair(newest: native_tls::Protocol) -> (Session, Session) {
        let (context, trusted) = server();
        let mut accepted = Session::new(&context).unwrap();
        let mut step = DialHandshake::begin(&connector(Some(trusted), newest), "localhost").unwrap();
        for _ in 0..10 {
            let mut handshake = match step {
                DialStep::Done(mut dialled) => {
                    let last = dialled.take_outgoing();
                    assert!(accepted.is_ready() || accepted.handshake(&last).unwrap());
                    assert!(accepted.is_ready() && dialled.is_ready() && dialled.handshake(&[]).unwrap());
                    return (dialled, accepted);
                }
                DialStep::Waits(handshake) => handshake,
            };
            accepted.handshake(&handshake.take_outgoing()).unwrap();
            assert_eq!(accepted.stream.buffers().incoming.capacity(), 0, "it keeps what the session has taken");
            // In two pieces, which a network may well make of it.
            let answer = accepted.take_outgoing();
            let (first, second) = answer.split_at(answer.len() / 2);
            step = match handshake.feed(first).unwrap() {
                DialStep::Waits(handshake) => handshake.feed(second).unwrap(),
                done @ DialStep::Done(_) => done,
            };
        }
        panic!("the handshake does not end");
    }

    /// Feeds what `from` has to say to `to`, in pieces of `step` bytes, and returns what it decrypts.
    fn carry(from: &mut Session, to: &mut Session, step: usize) -> Vec<u8> {
        let cipher = from.take_outgoing();
        assert_eq!(from.outgoing(), 0);
        let (mut all, mut plain) = (Vec::new(), [0; 1000]);
        for piece in cipher.chunks(step) {
            let mut piece = piece;
            loop {
                match to.read(piece, &mut plain).unwrap() {
                    Decrypted::Plain(count) => all.extend_from_slice(&plain[..count]),
                    Decrypted::NeedMore => break,
                    Decrypted::Closed => panic!("nobody has said goodbye"),
                }
                piece = &[];
            }
        }
        all
    }

    fn data_goes_both_ways(newest: native_tls::Protocol) {
        let (mut dialled, mut accepted) = pair(newest);
        for len in [1, 100, 16 << 10, 100_000] {
            for step in [1000, 17, usize::MAX] {
                let data: Vec<u8> = (0..len).map(|index| (index % 251) as u8).collect();
                dialled.seal(&data).unwrap();
                assert!(dialled.outgoing() > 0);
                assert!(carry(&mut dialled, &mut accepted, step) == data, "{len} bytes to the accepted one");
                accepted.seal(&data).unwrap();
                assert!(carry(&mut accepted, &mut dialled, step) == data, "{len} bytes to the dialled one");
                // An idle session holds none of it.
                for session in [&dialled, &accepted] {
                    let buffers = session.stream.buffers();
                    assert_eq!((buffers.incoming.capacity(), buffers.outgoing.capacity()), (0, 0));
                }
            }
        }
    }

    #[test]
    fn a_dialled_and_an_accepted_session_understand_each_other() {
        data_goes_both_ways(native_tls::Protocol::Tlsv13);
        data_goes_both_ways(native_tls::Protocol::Tlsv12);
    }

    #[test]
    fn a_part_of_a_record_is_kept_until_the_rest_comes() {
        let (mut dialled, mut accepted) = pair(native_tls::Protocol::Tlsv13);
        carry(&mut accepted, &mut dialled, usize::MAX);
        accepted.seal(b"hello").unwrap();
        let cipher = accepted.take_outgoing();
        let mut plain = [0; 2];
        assert_eq!(dialled.read(&cipher[..7], &mut plain).unwrap(), Decrypted::NeedMore);
        assert_eq!(dialled.read(&cipher[7..], &mut plain).unwrap(), Decrypted::Plain(2));
        // What is decrypted and was not fetched counts, although nothing comes in any more.
        assert_eq!(dialled.read(&[], &mut plain).unwrap(), Decrypted::Plain(2));
        assert_eq!(dialled.read(&[], &mut plain).unwrap(), Decrypted::Plain(1));
        assert_eq!(dialled.read(&[], &mut plain).unwrap(), Decrypted::NeedMore);
    }

    #[test]
    fn a_goodbye_is_told_from_silence_at_both_ends() {
        for dialled_first in [true, false] {
            let (dialled, accepted) = pair(native_tls::Protocol::Tlsv13);
            let (mut one, mut other) = if dialled_first { (dialled, accepted) } else { (accepted, dialled) };
            carry(&mut one, &mut other, usize::MAX);
            carry(&mut other, &mut one, usize::MAX);
            one.seal(b"last").unwrap();
            one.say_goodbye();
            assert!(one.outgoing() > 0);
            let (cipher, mut plain) = (one.take_outgoing(), [0; 100]);
            assert_eq!(other.read(&cipher, &mut plain).unwrap(), Decrypted::Plain(4));
            assert_eq!(other.read(&[], &mut plain).unwrap(), Decrypted::Closed);
            // Our own direction is still open, and theirs seals nothing any more.
            other.seal(b"answer").unwrap();
            other.say_goodbye();
            assert!(one.seal(b"more").is_err());
        }
    }

    #[test]
    fn a_server_that_is_not_trusted_is_told_so() {
        let (context, _) = server();
        let mut accepted = Session::new(&context).unwrap();
        let connector = connector(None, native_tls::Protocol::Tlsv13);
        let Ok(DialStep::Waits(mut handshake)) = DialHandshake::begin(&connector, "localhost") else {
            panic!("it waits for the server");
        };
        accepted.handshake(&handshake.take_outgoing()).unwrap();
        let failure = handshake.feed(&accepted.take_outgoing()).unwrap_err();
        assert!(failure.error.to_string().contains("self-signed certificate"), "{}", failure.error);
        let told = accepted.handshake(&failure.last_words).unwrap_err().to_string();
        assert!(told.contains("alert unknown ca"), "{told}");
    }

    #[test]
    fn ciphertext_that_somebody_has_changed_is_an_error() {
        let (mut dialled, mut accepted) = pair(native_tls::Protocol::Tlsv13);
        carry(&mut accepted, &mut dialled, usize::MAX);
        accepted.seal(b"hello").unwrap();
        let mut cipher = accepted.take_outgoing();
        cipher[8] ^= 1;
        assert_eq!(dialled.read(&cipher, &mut [0; 100]).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
