//! What a read loop begins with, and whom it hands messages to.

use bytes::Bytes;

use super::close::Close;
use super::intake::IntakeLimits;
use crate::message::{Kind, Message};

/// Where what a peer sends goes.
pub trait Handler {
    /// Whether messages are wanted that arrive after our Close; else they are read for the peer's Close alone.
    const AFTER_CLOSE: bool = false;

    /// Whether this thread lets the others run before it waits for its peer, see `ReadLoop::receive`.
    const LETS_OTHERS_RUN: bool = false;

    /// A read has brought something, perhaps no whole message. Gives what holds for the connection from now on, if that has
    /// changed.
    #[inline]
    fn begin(&mut self) -> Option<ReadLimits> {
        None
    }

    /// A message; `expected` is a guess at the bytes that this read brings in all.
    fn message(&mut self, message: Message, expected: usize);

    /// As [`message`](Handler::message), for a small message whose payload lies in what was read.
    fn borrowed(&mut self, kind: Kind, payload: &[u8], expected: usize) {
        self.message(Message { kind, data: Bytes::copy_from_slice(payload) }, expected);
    }

    /// A read has brought messages, and all of them were handed over.
    fn flush(&mut self);

    /// The peer has closed. Its Close is answered when this returns, behind what is sent to it until then.
    fn closing(&mut self, _close: &Close) {}
}

/// How much a peer may send.
#[derive(Debug, Clone, Copy)]
pub struct ReadLimits {
    /// Bytes of one message, fragments together.
    pub max_message: usize,
    /// How fast, if that is limited.
    pub intake: Option<IntakeLimits>,
}

/// How a connection stands when its handshake is done.
#[derive(Debug, Default)]
pub struct Handshaken {
    /// Whether its bytes are TLS.
    pub is_tls: bool,
    /// What the peer has sent behind its part of the handshake.
    pub behind: Vec<u8>,
    /// Whether the peer has ended the TLS session behind that.
    pub is_session_ended: bool,
}
