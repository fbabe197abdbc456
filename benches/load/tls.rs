//! The client's side of TLS without a socket: ciphertext in, plaintext out, and the other way round.
//!
//! The generator thus makes the same two calls a message (`recv`, `send`) with TLS as without.

use std::io::{self, Read, Write};

use openssl::ssl::{ErrorCode, Ssl, SslContext, SslMethod, SslStream, SslVerifyMode};

/// What all TLS clients of a run share. Certificates are not verified: the bench made them itself.
pub(crate) fn context() -> Result<SslContext, String> {
    let mut builder = SslContext::builder(SslMethod::tls_client())
        .map_err(|cause| format!("failed to set TLS up for the clients: {cause}"))?;
    builder.set_verify(SslVerifyMode::NONE);
    Ok(builder.build())
}

/// One TLS session over two buffers.
pub(crate) struct Session {
    stream: SslStream<Wire>,
}

impl Session {
    pub(crate) fn new(context: &SslContext) -> Result<Session, String> {
        let stream = Ssl::new(context).and_then(|ssl| SslStream::new(ssl, Wire::default()));
        Ok(Session { stream: stream.map_err(|cause| format!("failed to start a TLS session: {cause}"))? })
    }

    /// Goes on with the handshake; true when it is done. What it has to say is in [`Session::take_ciphertext`].
    pub(crate) fn handshake(&mut self) -> Result<bool, String> {
        match self.stream.connect() {
            Ok(()) => Ok(true),
            Err(error) if error.code() == ErrorCode::WANT_READ => Ok(false),
            Err(error) => Err(format!("failed to finish the TLS handshake: {error}")),
        }
    }

    pub(crate) fn feed(&mut self, ciphertext: &[u8]) {
        self.stream.get_mut().incoming.extend_from_slice(ciphertext);
    }

    /// Decrypts what it was fed into `plaintext`, which has to hold it; the number of bytes, 0 when it needs more, `None`
    /// at the end.
    pub(crate) fn read(&mut self, plaintext: &mut [u8]) -> Result<Option<usize>, String> {
        let mut length = 0;
        // Without more to decrypt the call that says so is saved: it costs as much as one that decrypts.
        while self.stream.ssl().pending() > 0 || !self.stream.get_ref().incoming.is_empty() {
            match self.stream.ssl_read(&mut plaintext[length..]) {
                Ok(count) => length += count,
                Err(error) if error.code() == ErrorCode::WANT_READ => break,
                Err(error) if error.code() == ErrorCode::ZERO_RETURN && length == 0 => return Ok(None),
                Err(error) if error.code() == ErrorCode::ZERO_RETURN => break,
                Err(error) => return Err(format!("failed to decrypt: {error}")),
            }
        }
        Ok(Some(length))
    }

    pub(crate) fn write(&mut self, plaintext: &[u8]) -> Result<(), String> {
        self.stream.write_all(plaintext).map_err(|cause| format!("failed to encrypt: {cause}"))
    }

    pub(crate) fn take_ciphertext(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.stream.get_mut().outgoing)
    }
}

/// What the session takes for its socket.
#[derive(Default)]
struct Wire {
    incoming: Vec<u8>,
    taken: usize,
    outgoing: Vec<u8>,
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let waiting = &self.incoming[self.taken..];
        if waiting.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = waiting.len().min(buffer.len());
        buffer[..count].copy_from_slice(&waiting[..count]);
        self.taken += count;
        if self.taken == self.incoming.len() {
            self.incoming.clear();
            self.taken = 0;
        }
        Ok(count)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outgoing.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
