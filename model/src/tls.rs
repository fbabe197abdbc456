//! Stands in the place of `src/connection/tls.rs`: a session without cryptography. A record is its kind,
//! its length and its content; the rules of who may say what when are those of the real one.

use std::io;

/// Kinds of records.
pub const DATA: u8 = 1;
pub const SPEAKS: u8 = 2;
pub const GOODBYE: u8 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decrypted {
    Plain(usize),
    NeedMore,
    Closed,
}

#[derive(Debug, Default)]
pub struct Session {
    outgoing: Vec<u8>,
    is_over: bool,
}

impl Session {
    /// Each byte of ciphertext makes the session itself say something, as a key update does.
    pub fn read(&mut self, cipher: &[u8], _plain: &mut [u8]) -> io::Result<Decrypted> {
        for byte in cipher {
            self.outgoing.extend_from_slice(&[SPEAKS, 1, *byte]);
        }
        Ok(Decrypted::NeedMore)
    }

    pub fn seal(&mut self, plain: &[u8]) -> io::Result<()> {
        if self.is_over {
            return Err(io::Error::other("the session is over"));
        }
        self.outgoing.extend_from_slice(&[DATA, u8::try_from(plain.len()).expect("models are small")]);
        self.outgoing.extend_from_slice(plain);
        Ok(())
    }

    pub fn say_goodbye(&mut self) {
        self.is_over = true;
        self.outgoing.extend_from_slice(&[GOODBYE, 0]);
    }

    pub fn outgoing(&self) -> usize {
        self.outgoing.len()
    }

    pub fn take_outgoing(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.outgoing)
    }
}
