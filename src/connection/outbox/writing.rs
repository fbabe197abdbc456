//! The writing of an outbox: the thread that has pushed writes, a batch at a time, without waiting and without the lock.

use std::io;

use super::Outbox;
use super::state::{Load, Stage, State};
use crate::connection::frame::Frame;
use crate::connection::queue::Taken;
use crate::sync::{Arc, MutexGuard};

/// How many batches a deliverer writes before it leaves the rest to the flusher: a client with
/// much to get must not keep a thread from the others.
const ROUNDS: usize = 2;

impl Outbox {
    /// Writes what is queued, unless another thread is at it or the socket is full. `only` is a frame that is written
    /// without touching the queue: the common case, in which nothing is queued (see [`State::is_idle_for`]).
    pub(super) fn write<'a>(self: &'a Arc<Self>, mut state: MutexGuard<'a, State>, only: Option<&Frame>) {
        if !state.writing && !state.stalled {
            // Nothing was waiting for the kernel: the write deadline runs from now.
            state.progress = self.clock.now();
        }
        self.write_batches(state, only);
    }

    /// The one loop that writes: take a batch, release the lock, send, take the lock, account, and again. After
    /// [`ROUNDS`] batches, or when the socket is full, the flusher goes on.
    pub(super) fn write_batches<'a>(self: &'a Arc<Self>, mut state: MutexGuard<'a, State>, only: Option<&Frame>) {
        if state.writing || state.stalled || state.stage >= Stage::Closed {
            return;
        }
        let mut load = match only {
            Some(frame) => state.load_one(frame),
            None => state.load(),
        };
        for round in 1.. {
            let carried = match load {
                Ok(Some(carried)) => carried,
                Ok(None) => return self.ran_empty(state),
                Err(error) => return self.fail_locked(state, "failed to encrypt", &error),
            };
            state.writing = true;
            drop(state);
            let sent = self.send(&carried);
            state = self.lock();
            state.writing = false;
            state.account(carried, *sent.as_ref().unwrap_or(&0));
            match sent {
                _ if state.stage == Stage::Aborted => {
                    state.forget_queued();
                    return self.changed.notify_all();
                }
                Ok(_) => state.progress = self.clock.now(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return self.stall(state),
                Err(error) => return self.fail_locked(state, "failed to write", &error),
            }
            self.changed.notify_all();
            if !state.has_work() {
                state.note_ping_left();
                if state.stage == Stage::Open {
                    return;
                }
            } else if round == ROUNDS {
                return self.stall(state);
            }
            load = state.load();
        }
    }

    /// Hands a load to the kernel as far as it takes it now.
    fn send(&self, load: &Load<'_>) -> io::Result<usize> {
        match load {
            Load::One(frame) => match frame.as_one() {
                Some(bytes) => self.socket.send_now(bytes),
                None => self.socket.send_slices_now(&frame.slices(0)),
            },
            Load::Frames(taken) => self.send_frames(taken),
            Load::Sealed(sealed) => self.socket.send_now(sealed.left()),
        }
    }

    fn send_frames(&self, taken: &Taken) -> io::Result<usize> {
        let mut slices = Vec::with_capacity(taken.frames.len() * 2);
        let mut offset = taken.offset;
        for frame in &taken.frames {
            slices.extend(frame.slices(offset).into_iter().filter(|slice| !slice.is_empty()));
            offset = 0;
        }
        self.socket.send_slices_now(&slices)
    }

    /// Leaves the rest to the flusher.
    fn stall(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        state.stalled = true;
        drop(state);
        self.poller.arm(self);
        // The client may have ended in between and will not be there to disarm it.
        if self.lock().stage == Stage::Aborted {
            self.poller.forget(self);
        }
    }

    /// Everything is written. If nothing will follow, our direction ends.
    fn ran_empty(&self, mut state: MutexGuard<'_, State>) {
        if state.stage == Stage::Closing {
            state.stage = Stage::Closed;
            // However long the writing was allowed to take, the answer has the close timeout.
            let answered_by = self.clock.now().saturating_add(state.limits.close_timeout);
            if let Some(end) = &mut state.end {
                end.deadline = end.deadline.min(answered_by);
            }
            drop(state);
            self.socket.shutdown_write();
            self.changed.notify_all();
        }
    }
}
