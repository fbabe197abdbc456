//! What must be true of an outbox whenever its lock is free, in every interleaving. A child of
//! `src/connection/outbox/mod.rs`, so that it sees the state as it is.

use bytes::Bytes;

use super::Outbox;
use super::state::{Stage, State};
use crate::connection::frame::Frame;
use crate::rules;
use crate::sync::{Arc, Audit};

impl Audit for State {
    fn audit(&self) {
        let somebody_goes_on = self.writing || self.stalled;
        if self.stage < Stage::Closed && !rules::is_holding() {
            assert!(somebody_goes_on || !self.has_work(), "a frame is left behind: {self:?}");
        }
        assert!(somebody_goes_on || self.stage != Stage::Closing, "nobody writes the Close: {self:?}");
        assert!(!(self.writing && self.stalled), "a stalled outbox is written to: {self:?}");
        // Only a batch that is out is counted without being queued.
        assert!(self.writing || self.has_work() || self.queue.is_empty(), "what is gone is still counted: {self:?}");
        if self.stage == Stage::Aborted && !self.keeps {
            assert!(!self.queue.has_waiting(), "something is queued after the end: {self:?}");
        }
        if let Some(mut bounds) = rules::bounds() {
            // No policy drops control frames, and they count. No model has more of them at a time, and its messages are longer.
            bounds.bytes += rules::CONTROLS;
            let nothing = Frame::joined(Bytes::new(), 0);
            assert!(self.queue.fits(&nothing, &bounds), "it holds more than its bounds: {self:?}");
        }
    }
}

/// The last look at an outbox that everybody else has let go of.
pub fn assert_over(outbox: Arc<Outbox>) {
    assert_eq!(Arc::strong_count(&outbox), 1, "somebody keeps the outbox for ever");
    let mut outbox = Arc::into_inner(outbox).expect("it was the last");
    assert!(!outbox.changed.is_awaited(), "somebody waits for ever");
    let state = outbox.state.get_mut();
    assert!(state.queue.is_empty() && !state.queue.has_waiting(), "something is left: {state:?}");
    assert!(!state.writing, "somebody is still at it: {state:?}");
    assert_eq!(state.stage, Stage::Aborted);
}
