//! The bounded queue inside an outbox: what fits, what is dropped, what is counted. No I/O, no lock.
//!
//! Frames that a writer has taken out stay counted until they are settled, so the bounds hold
//! for everything that the kernel does not have yet.

use std::collections::VecDeque;

use super::frame::{Control, Frame};
use crate::config::{QueueSettings, WhenFull};

/// What became of a frame that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// It is queued.
    Taken,
    /// This many messages, older ones or its own, were dropped.
    Dropped(usize),
    /// It does not fit and the policy is `disconnect`.
    TooSlow,
}

/// See the module's documentation. Empty, it holds no heap.
#[derive(Debug, Default)]
pub struct Queue {
    frames: VecDeque<Frame>,
    /// Bytes of the first frame that were written in an earlier batch.
    front_written: usize,
    /// Messages and bytes, queued or taken.
    messages: usize,
    bytes: usize,
    /// The latest unsent pong; it goes out at the next frame boundary.
    pong: Option<Box<Frame>>,
    /// Whether a ping is to go out at the next frame boundary.
    ping: bool,
}

/// Frames that a writer took out, and how much of the first is written already.
#[derive(Debug)]
pub struct Taken {
    /// In the order of the wire.
    pub frames: Vec<Frame>,
    /// Bytes of the first frame that are not to be written again.
    pub offset: usize,
}

impl Queue {
    /// Whether nothing is queued or taken.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0 && !self.ping && self.pong.is_none()
    }

    /// Whether there is something to take.
    pub fn has_waiting(&self) -> bool {
        !self.frames.is_empty() || self.ping || self.pong.is_some()
    }

    /// Whether a frame is within the bounds; with no message in it, a queue takes any one frame.
    pub fn fits(&self, frame: &Frame, bounds: &QueueSettings) -> bool {
        self.messages == 0
            || (self.messages + frame.messages() <= bounds.messages && self.bytes + frame.len() <= bounds.bytes)
    }

    /// Queues a frame if it fits, else does what the policy says.
    pub fn offer(&mut self, frame: &Frame, bounds: &QueueSettings) -> Offer {
        if self.fits(frame, bounds) {
            self.push(frame.clone());
            return Offer::Taken;
        }
        match bounds.when_full {
            WhenFull::Disconnect => Offer::TooSlow,
            WhenFull::DropNewest => Offer::Dropped(frame.messages()),
            WhenFull::DropOldest => {
                let dropped = self.drop_oldest_for(frame, bounds);
                if self.fits(frame, bounds) {
                    self.push(frame.clone());
                    Offer::Dropped(dropped)
                } else {
                    // What is left is being written: there is nothing older to drop.
                    Offer::Dropped(dropped + frame.messages())
                }
            }
        }
    }

    /// Queues a frame whatever the bounds: the caller has asked [`fits`](Queue::fits), or it is a Close.
    pub fn push(&mut self, frame: Frame) {
        self.count(&frame);
        self.frames.push_back(frame);
    }

    /// Counts a frame that is written without being queued; settle it with [`settle_one`](Queue::settle_one).
    pub fn count(&mut self, frame: &Frame) {
        self.messages += frame.messages();
        self.bytes += frame.len();
    }

    /// Queues a pong for the next frame boundary; an earlier one that still waits is superseded.
    pub fn set_pong(&mut self, pong: Frame) {
        self.pong = Some(Box::new(pong));
    }

    /// Queues a ping for the next frame boundary.
    pub fn set_ping(&mut self) {
        self.ping = true;
    }

    /// Takes out what the next write should carry, about `bytes` and at most `frames` frames.
    pub fn take(&mut self, max_frames: usize, max_bytes: usize) -> Option<Taken> {
        let mut frames = Vec::new();
        let mut size = 0;
        let offset = std::mem::take(&mut self.front_written);
        if offset > 0 {
            frames.extend(self.frames.pop_front());
            size = frames.iter().map(Frame::len).sum::<usize>() - offset;
        }
        // A frame boundary.
        let pong = self.pong.take().map(|pong| *pong);
        let ping = std::mem::take(&mut self.ping).then(|| Frame::control(Control::Ping, &[]));
        for control in pong.into_iter().chain(ping) {
            self.count(&control);
            size += control.len();
            frames.push(control);
        }
        while let Some(next) = self.frames.front() {
            if frames.len() >= max_frames || (!frames.is_empty() && size + next.len() > max_bytes) {
                break;
            }
            size += next.len();
            frames.extend(self.frames.pop_front());
        }
        (!frames.is_empty()).then_some(Taken { frames, offset })
    }

    /// Settles what was taken: the first `count` bytes (after the offset) are written, the rest
    /// goes back to the front. Returns the messages and bytes that are done.
    pub fn settle(&mut self, taken: Taken, count: usize) -> (usize, usize) {
        let mut left = taken.offset + count;
        let mut messages = 0;
        let mut rest = taken.frames.into_iter().peekable();
        while let Some(frame) = rest.next_if(|frame| frame.len() <= left) {
            left -= frame.len();
            self.uncount(&frame);
            messages += frame.messages();
        }
        let rest: Vec<_> = rest.collect();
        if !rest.is_empty() {
            self.front_written = left;
            for frame in rest.into_iter().rev() {
                self.frames.push_front(frame);
            }
        }
        self.release();
        (messages, count)
    }

    /// As [`settle`](Queue::settle), for one counted frame that was never queued.
    pub fn settle_one(&mut self, frame: &Frame, count: usize) -> (usize, usize) {
        if count == frame.len() {
            self.uncount(frame);
            (frame.messages(), count)
        } else {
            self.settle(Taken { frames: vec![frame.clone()], offset: 0 }, count)
        }
    }

    /// Forgets everything that is queued; what is taken stays counted until it is settled.
    pub fn clear(&mut self) {
        for frame in std::mem::take(&mut self.frames) {
            self.uncount(&frame);
        }
        self.front_written = 0;
        self.pong = None;
        self.ping = false;
    }

    fn uncount(&mut self, frame: &Frame) {
        self.messages -= frame.messages();
        self.bytes -= frame.len();
    }

    /// Drops the oldest messages until `frame` fits or nothing is left that may be dropped: not a
    /// frame that is partly written, not a control frame.
    fn drop_oldest_for(&mut self, frame: &Frame, bounds: &QueueSettings) -> usize {
        let mut dropped = 0;
        let mut at = usize::from(self.front_written > 0);
        while at < self.frames.len() && !self.fits(frame, bounds) {
            if self.frames[at].messages() == 0 {
                at += 1;
                continue;
            }
            if let Some(oldest) = self.frames.remove(at) {
                self.uncount(&oldest);
                dropped += oldest.messages();
            }
        }
        dropped
    }

    /// Gives the heap back when the queue has run empty.
    fn release(&mut self) {
        if self.frames.is_empty() && self.frames.capacity() > 0 {
            self.frames = VecDeque::new();
        }
    }
}
