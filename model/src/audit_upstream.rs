//! What must be true of a way over one connection after the other whenever its lock is free. A child of
//! `src/dial/reconnecting.rs`, so that it sees the state as it is.

use super::LineState;
use crate::sync::Audit;

impl Audit for LineState {
    fn audit(&self) {
        assert!(
            self.current.is_none() || self.unsent.is_empty(),
            "a connection does not have what it is to send: {self:?}"
        );
    }
}
