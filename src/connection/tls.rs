//! TLS without I/O: a session over two memory buffers.
//!
//! The reader feeds ciphertext in and takes plaintext out; a writer seals plaintext and carries
//! the ciphertext to the socket. The session never touches a socket itself, so the rules of the
//! outbox hold for TLS clients too: nobody waits, no lock is held over a system call.
//!
//! Listeners use the `openssl` crate directly because native-tls, which wraps it, offers a server
//! TLS 1.2 only.

use std::io::{self, Read, Write};
use std::path::Path;

use openssl::error::ErrorStack;
use openssl::ssl::{
    ErrorCode, ShutdownState, Ssl, SslAcceptor, SslContext, SslFiletype, SslMethod, SslMode, SslOptions,
    SslSessionCacheMode, SslStream, SslVersion,
};

/// The settings of a listener's TLS: TLS 1.2 and 1.3, Mozilla's intermediate profile.
///
/// # Errors
/// A file that cannot be read or is no PEM, or a key that does not belong to the certificate.
pub fn server_context(certificate: &Path, private_key: &Path) -> Result<SslContext, ErrorStack> {
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    // A renegotiation would let a peer spend our processor time at will (CVE-2011-1473).
    builder.set_options(SslOptions::NO_RENEGOTIATION | SslOptions::CIPHER_SERVER_PREFERENCE);
    // Idle sessions give their record buffers back: 34 KiB a client.
    builder.set_mode(SslMode::RELEASE_BUFFERS);
    // Sessions are resumed from tickets that the client keeps; a cache here would be memory per client.
    builder.set_session_cache_mode(SslSessionCacheMode::OFF);
    builder.set_certificate_chain_file(certificate)?;
    builder.set_private_key_file(private_key, SslFiletype::PEM)?;
    builder.check_private_key()?;
    Ok(builder.build().into_context())
}

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

/// One TLS session, server side.
#[derive(Debug)]
pub struct Session {
    stream: SslStream<Buffers>,
}

impl Session {
    /// A session before its handshake.
    pub fn new(context: &SslContext) -> Result<Session, ErrorStack> {
        let stream = SslStream::new(Ssl::new(context)?, Buffers::default())?;
        Ok(Session { stream })
    }

    /// Goes on with the handshake after `cipher` has arrived; `true` once it is done. Whatever the
    /// result, [`take_outgoing`](Session::take_outgoing) may have something for the peer.
    pub fn handshake(&mut self, cipher: &[u8]) -> io::Result<bool> {
        self.stream.get_mut().incoming.extend_from_slice(cipher);
        match self.stream.accept() {
            Ok(()) => Ok(true),
            Err(error) if error.code() == ErrorCode::WANT_READ => Ok(false),
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error.to_string())),
        }
    }

    /// Whether the handshake is done.
    pub fn is_ready(&self) -> bool {
        self.stream.ssl().is_init_finished()
    }

    /// Feeds `cipher` in and decrypts into `plain`.
    pub fn read(&mut self, cipher: &[u8], plain: &mut [u8]) -> io::Result<Decrypted> {
        self.stream.get_mut().incoming.extend_from_slice(cipher);
        if self.stream.get_ref().is_drained() && self.stream.ssl().pending() == 0 {
            // Asking would only be answered with "feed me", at the price of half a decryption.
            self.stream.get_mut().release();
            return Ok(Decrypted::NeedMore);
        }
        match self.stream.ssl_read(plain) {
            Ok(count) => Ok(Decrypted::Plain(count)),
            Err(error) => match error.code() {
                ErrorCode::WANT_READ => {
                    self.stream.get_mut().release();
                    Ok(Decrypted::NeedMore)
                }
                ErrorCode::ZERO_RETURN => Ok(Decrypted::Closed),
                _ => Err(io::Error::new(io::ErrorKind::InvalidData, error.to_string())),
            },
        }
    }

    /// Whether the peer has ended the session in order. [`read`](Session::read) says so too, but not again
    /// when it is asked once more.
    pub fn is_ended_by_peer(&mut self) -> bool {
        self.stream.get_shutdown().contains(ShutdownState::RECEIVED)
    }

    /// Encrypts `plain`; the result is part of what [`take_outgoing`](Session::take_outgoing) gives.
    ///
    /// # Errors
    /// The session is over, or the peer has begun a handshake message and not ended it: bytes of
    /// `plain` may be lost, so nothing that follows them may be sealed.
    pub fn seal(&mut self, plain: &[u8]) -> io::Result<()> {
        let mut left = plain;
        while !left.is_empty() {
            let count = self.stream.ssl_write(left).map_err(|error| io::Error::other(error.to_string()))?;
            left = &left[count..];
        }
        Ok(())
    }

    /// Queues a close_notify. An error means that the peer has already ended the session.
    pub fn say_goodbye(&mut self) {
        let _ = self.stream.shutdown();
    }

    /// Whether there is ciphertext to be sent.
    pub fn has_outgoing(&self) -> bool {
        !self.stream.get_ref().outgoing.is_empty()
    }

    /// The ciphertext to be sent next; all of it, in order.
    pub fn take_outgoing(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.stream.get_mut().outgoing)
    }
}

/// The two ends of the wire, in memory.
#[derive(Debug, Default)]
struct Buffers {
    incoming: Vec<u8>,
    consumed: usize,
    outgoing: Vec<u8>,
}

impl Buffers {
    /// Whether the session has taken everything that came in.
    fn is_drained(&self) -> bool {
        self.consumed == self.incoming.len()
    }

    /// Gives the memory back between records; part of a record stays.
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
