//! The deadlines of an outbox, as whoever makes the clock tick finds them.

use super::Outbox;
use super::state::Stage;
use crate::clock::Ticks;
use crate::connection::ending::EndCause;
use crate::sync::Arc;

impl Outbox {
    /// Cuts a stalled outbox of which the kernel has taken nothing for the write timeout.
    pub(in crate::connection) fn check_write_deadline(&self, now: Ticks) {
        let state = self.lock();
        let Some(timeout) = state.limits.write_timeout else { return };
        if state.stalled && now.saturating_sub(state.progress) >= timeout {
            let reason = "Too slow: nothing was taken within the write timeout";
            self.cut_locked(state, reason, EndCause::WriteTimeout);
        }
    }

    /// Cuts a closing outbox that is over its deadline, and hurries one that is near it; says whether it has to be
    /// watched further.
    pub(in crate::connection) fn check_close_deadline(self: &Arc<Self>, now: Ticks) -> bool {
        let mut state = self.lock();
        if state.stage == Stage::Aborted {
            return false;
        }
        let Some(end) = &state.end else { return true };
        if now >= end.deadline {
            self.cut_locked(state, "over its close deadline", EndCause::Ended);
            return false;
        }
        if now >= end.hurry_at && state.stage == Stage::Closing {
            state.hurry();
        }
        true
    }
}
