//! What one read brings: messages that are handed on as they are found, and control frames that are counted and
//! answered together.

use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::handler::Handler;
use super::peer::{Peer, Received};
use super::pongs::Pongs;
use super::reader::Sink;
use crate::message::{Kind, Message};

/// What one read brings.
///
/// It does not know the type of its handler, so that the reader is compiled once, with the parser inlined: with a
/// copy for each handler a message of 128 bytes cost a fifth more.
pub(super) struct Turn<'t> {
    peer: &'t Peer,
    next: &'t mut dyn Next,
    is_closing: bool,
    pub(super) received: Received,
    /// Pings and pongs.
    pub(super) controls: u64,
    pub(super) pongs: Pongs,
    /// Whether one of them is a pong.
    pub(super) has_pong: bool,
}

/// A handler, whichever it is, that is told with each message how many bytes the read has brought.
pub(super) trait Next {
    fn message(&mut self, message: Message);
    fn borrowed(&mut self, kind: Kind, payload: &[u8]);
}

/// A handler, and how many bytes the read has brought.
pub(super) struct Expecting<'h, H> {
    pub(super) bytes: usize,
    pub(super) handler: &'h mut H,
}

impl<H: Handler> Next for Expecting<'_, H> {
    fn message(&mut self, message: Message) {
        self.handler.message(message, self.bytes);
    }

    fn borrowed(&mut self, kind: Kind, payload: &[u8]) {
        self.handler.borrowed(kind, payload, self.bytes);
    }
}

impl<'t> Turn<'t> {
    /// One that has brought nothing yet. While the connection `is_closing`, messages are counted and not handed on.
    pub(super) fn new(peer: &'t Peer, next: &'t mut dyn Next, is_closing: bool) -> Turn<'t> {
        let (received, pongs) = (Received::default(), Pongs::new(peer.outbox.role()));
        Turn { peer, next, is_closing, received, controls: 0, pongs, has_pong: false }
    }

    /// Counts a message; says whether it is wanted.
    fn count(&mut self, len: usize) -> bool {
        self.received.messages += 1;
        self.received.bytes += len as u64;
        // It has ended. Handing it on may hold this thread, which is not the peer's fault.
        self.peer.message_begun.store(0, Ordering::Relaxed);
        !self.is_closing
    }
}

impl Sink for Turn<'_> {
    fn message(&mut self, message: Message) {
        if self.count(message.data.len()) {
            self.next.message(message);
        }
    }

    fn borrowed(&mut self, kind: Kind, payload: &[u8]) {
        if self.count(payload.len()) {
            self.next.borrowed(kind, payload);
        }
    }

    fn ping(&mut self, payload: Bytes) {
        self.controls += 1;
        self.pongs.answer(&payload);
    }

    fn pong(&mut self) {
        self.controls += 1;
        self.has_pong = true;
    }
}
