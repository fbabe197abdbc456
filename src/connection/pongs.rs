//! The answers to the pings that one read has brought: sent together.

use std::sync::Arc;

use bytes::Bytes;

use super::frame::{Control, Frame, Role, append_control};
use super::outbox::Outbox;

/// The answers to the pings of one read.
#[derive(Debug)]
pub(super) struct Pongs {
    role: Role,
    all: Vec<u8>,
    latest: usize,
}

impl Pongs {
    /// None so far.
    pub(super) fn new(role: Role) -> Pongs {
        Pongs { role, all: Vec::new(), latest: 0 }
    }

    /// Answers one more.
    pub(super) fn answer(&mut self, payload: &[u8]) {
        self.latest = self.all.len();
        append_control(self.role, &mut self.all, Control::Pong, payload);
    }

    /// Sends them: all, or the latest where something is queued.
    pub(super) fn send(self, outbox: &Arc<Outbox>) {
        if self.all.is_empty() {
            return;
        }
        let all = Bytes::from(self.all);
        let latest = || Frame::joined(Bytes::copy_from_slice(&all[self.latest..]), 0);
        outbox.pong(&Frame::joined(all.clone(), 0), latest);
    }
}
