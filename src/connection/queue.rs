//! The bounded queue inside an outbox: what fits, what is dropped, what is counted. No I/O, no lock.
//!
//! Frames that a writer has taken out stay counted until they are settled, so the bounds hold
//! for everything that the kernel does not have yet.

use std::collections::VecDeque;

use super::frame::Frame;
use crate::config::{QueueSettings, WhenFull};

/// Of how many frames it is found out whether others have them too.
const LOOKED_AT: usize = 256;

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

/// Frames in order, with the sums of those that hold messages, which a policy may drop: that something would fit if they
/// were dropped is known without looking at them.
#[derive(Debug, Default)]
struct Waiting {
    frames: VecDeque<Frame>,
    messages: usize,
    bytes: usize,
}

impl Waiting {
    fn push_back(&mut self, frame: Frame) {
        self.count(&frame);
        self.frames.push_back(frame);
    }

    fn push_front(&mut self, frame: Frame) {
        self.count(&frame);
        self.frames.push_front(frame);
    }

    fn pop_front(&mut self) -> Option<Frame> {
        self.remove(0)
    }

    fn remove(&mut self, at: usize) -> Option<Frame> {
        let frame = self.frames.remove(at)?;
        let (messages, bytes) = of_messages(&frame);
        self.messages -= messages;
        self.bytes -= bytes;
        Some(frame)
    }

    fn count(&mut self, frame: &Frame) {
        let (messages, bytes) = of_messages(frame);
        self.messages += messages;
        self.bytes += bytes;
    }
}

/// The messages and bytes of a frame that may be dropped; none of a control frame.
fn of_messages(frame: &Frame) -> (usize, usize) {
    (frame.messages(), if frame.messages() > 0 { frame.len() } else { 0 })
}

/// See the module's documentation. Empty, it holds no heap.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: Waiting,
    /// Bytes of the first frame that were written in an earlier batch.
    front_written: usize,
    /// Messages and bytes, queued or taken.
    messages: usize,
    bytes: usize,
    /// What goes out at the next frame boundary, in this order. No bound counts it before, and no policy drops it.
    slots: Slots<Option<Box<Frame>>>,
    /// From which slots there is something in what is taken. Only one batch is taken at a time.
    taken: Slots<bool>,
}

/// What waits for the next frame boundary in a place of its own, where a later one supersedes it.
#[derive(Debug, Clone, Copy)]
pub enum Slot {
    /// The latest unsent pong.
    Pong,
    /// A ping.
    Ping,
    /// The latest unsent acknowledgement: it says what all before it have said.
    Acknowledgement,
}

/// Something for each slot.
type Slots<T> = [T; 3];

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
        self.bytes == 0 && self.slots.iter().all(Option::is_none)
    }

    /// How many bytes wait that nobody else has, and how many in all. Of a long queue a part is looked at.
    pub fn held(&self) -> (usize, usize) {
        let step = self.waiting.frames.len().div_ceil(LOOKED_AT).max(1);
        let own = self.waiting.frames.iter().step_by(step).filter(|frame| frame.is_alone()).map(Frame::len);
        ((own.sum::<usize>() * step).min(self.bytes), self.bytes)
    }

    /// How many messages and bytes are queued or taken.
    pub fn depth(&self) -> (usize, usize) {
        (self.messages, self.bytes)
    }

    /// Whether there is something to take.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.frames.is_empty() || self.slots.iter().any(Option::is_some)
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
            WhenFull::DropOldest if self.could_fit(frame, bounds) => {
                let dropped = self.drop_oldest_for(frame, bounds);
                self.push(frame.clone());
                Offer::Dropped(dropped)
            }
            // What is being written leaves it no room: to drop the others would help nobody.
            WhenFull::DropOldest => Offer::Dropped(frame.messages()),
        }
    }

    /// As [`offer`](Queue::offer), to the message: where messages are joined in a frame, no more of them are dropped
    /// than have to be. It looks at each of them, and nothing may be taken out meanwhile.
    pub fn offer_each(&mut self, frame: &Frame, bounds: &QueueSettings) -> Offer {
        if self.fits(frame, bounds) {
            self.push(frame.clone());
            return Offer::Taken;
        }
        match bounds.when_full {
            WhenFull::Disconnect => Offer::TooSlow,
            WhenFull::DropNewest => {
                let room = (bounds.messages.saturating_sub(self.messages), bounds.bytes.saturating_sub(self.bytes));
                let fits = |end: &(usize, usize)| end.0 <= room.0 && end.1 <= room.1;
                match frame.ends().take_while(fits).last() {
                    Some(end) => {
                        self.push(frame.up_to(end));
                        Offer::Dropped(frame.messages() - end.0)
                    }
                    None => Offer::Dropped(frame.messages()),
                }
            }
            WhenFull::DropOldest => {
                let mut dropped = 0;
                while !self.fits(frame, bounds)
                    && let Some(oldest) = self.waiting.pop_front()
                {
                    let over = (
                        (self.messages + frame.messages()).saturating_sub(bounds.messages),
                        (self.bytes + frame.len()).saturating_sub(bounds.bytes),
                    );
                    self.uncount(&oldest);
                    let enough = oldest.ends().find(|end| end.0 >= over.0 && end.1 >= over.1);
                    dropped += enough.map_or(oldest.messages(), |end| end.0);
                    if let Some(end) = enough.filter(|end| end.0 < oldest.messages()) {
                        let rest = oldest.behind(end);
                        self.count(&rest);
                        self.waiting.push_front(rest);
                    }
                }
                self.push(frame.clone());
                Offer::Dropped(dropped)
            }
        }
    }

    /// Queues a frame whatever the bounds: the caller has asked [`fits`](Queue::fits), or it is a Close.
    pub fn push(&mut self, frame: Frame) {
        self.count(&frame);
        self.waiting.push_back(frame);
    }

    /// Counts a frame that is written without being queued; settle it with [`settle_one`](Queue::settle_one).
    pub fn count(&mut self, frame: &Frame) {
        self.messages += frame.messages();
        self.bytes += frame.len();
    }

    /// Queues a frame for the next frame boundary; an earlier one that still waits in this slot is superseded.
    pub fn set(&mut self, slot: Slot, frame: Frame) {
        self.slots[slot as usize] = Some(Box::new(frame));
    }

    /// Takes out what the next write should carry, about `bytes` and at most `frames` frames.
    pub fn take(&mut self, max_frames: usize, max_bytes: usize) -> Option<Taken> {
        let mut frames = Vec::new();
        let mut size = 0;
        let offset = std::mem::take(&mut self.front_written);
        if offset > 0 {
            frames.extend(self.waiting.pop_front());
            size = frames.iter().map(Frame::len).sum::<usize>() - offset;
        }
        // A frame boundary.
        let slots = std::mem::take(&mut self.slots);
        self.taken = slots.each_ref().map(Option::is_some);
        for control in slots.into_iter().flatten().map(|control| *control) {
            self.count(&control);
            size += control.len();
            frames.push(control);
        }
        while let Some(next) = self.waiting.frames.front() {
            if frames.len() >= max_frames || (!frames.is_empty() && size + next.len() > max_bytes) {
                break;
            }
            size += next.len();
            frames.extend(self.waiting.pop_front());
        }
        (!frames.is_empty()).then_some(Taken { frames, offset })
    }

    /// Settles what was taken: the first `count` bytes (after the offset) are written, the rest
    /// goes back to the front. Returns the messages and bytes that are done.
    pub fn settle(&mut self, taken: Taken, count: usize) -> (usize, usize) {
        let mut left = taken.offset + count;
        let (mut messages, mut done) = (0, 0);
        let mut rest = taken.frames.into_iter().peekable();
        while let Some(frame) = rest.next_if(|frame| frame.len() <= left) {
            left -= frame.len();
            done += 1;
            self.uncount(&frame);
            messages += frame.messages();
        }
        let slots = std::mem::take(&mut self.taken);
        if rest.peek().is_some() {
            self.front_written = left;
            let boundary = usize::from(taken.offset > 0);
            self.give_back(rest.collect(), done, boundary, slots);
        }
        self.release();
        (messages, count)
    }

    /// Takes back the frames of a batch from the one at `at` on. One of a slot that is not begun returns to it, where a
    /// later one supersedes it: among the frames they would pile up behind one that takes the peer many reads.
    fn give_back(&mut self, rest: Vec<Frame>, at: usize, boundary: usize, slots: Slots<bool>) {
        let is_begun = self.front_written > 0;
        for (index, frame) in rest.into_iter().enumerate().rev() {
            let mut taken = (0..slots.len()).filter(|slot| slots[*slot]);
            let slot = (at + index).checked_sub(boundary).and_then(|behind| taken.nth(behind));
            match slot {
                Some(slot) if index > 0 || !is_begun => {
                    self.uncount(&frame);
                    self.slots[slot].get_or_insert_with(|| Box::new(frame));
                }
                _ => self.waiting.push_front(frame),
            }
        }
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

    /// Forgets everything that is queued, and says how many messages that were; what is taken stays
    /// counted until it is settled.
    pub fn clear(&mut self) -> usize {
        let mut forgotten = 0;
        for frame in std::mem::take(&mut self.waiting).frames {
            self.uncount(&frame);
            forgotten += frame.messages();
        }
        self.front_written = 0;
        self.slots = Default::default();
        forgotten
    }

    /// Drops the messages that are queued, but for what is begun, and says how many they were. Control frames stay.
    pub fn drop_messages(&mut self) -> usize {
        let begun = usize::from(self.front_written > 0);
        let mut dropped = 0;
        for (at, frame) in std::mem::take(&mut self.waiting).frames.into_iter().enumerate() {
            if at < begun || frame.messages() == 0 {
                self.waiting.push_back(frame);
            } else {
                self.uncount(&frame);
                dropped += frame.messages();
            }
        }
        dropped
    }

    /// Takes out what is queued and counts it no more: the first frame without what is written of it,
    /// but no WebSocket frame in part. Says how many messages of that one are written.
    pub fn unsent(&mut self) -> (Vec<Frame>, usize) {
        let queued = |frames: &[Frame]| frames.iter().map(Frame::messages).sum::<usize>();
        let mut written = std::mem::take(&mut self.front_written);
        let frames = Vec::from(std::mem::take(&mut self.waiting).frames);
        for frame in &frames {
            self.uncount(frame);
        }
        let before = queued(&frames);
        let unsent: Vec<_> = frames.into_iter().map(|frame| frame.whole_from(std::mem::take(&mut written))).collect();
        let done = before - queued(&unsent);
        (unsent, done)
    }

    fn uncount(&mut self, frame: &Frame) {
        self.messages -= frame.messages();
        self.bytes -= frame.len();
    }

    /// Whether `frame` would fit if everything were dropped that may be.
    fn could_fit(&self, frame: &Frame, bounds: &QueueSettings) -> bool {
        let begun = self.waiting.frames.front().filter(|_| self.front_written > 0).map_or((0, 0), of_messages);
        let messages = self.messages + begun.0 - self.waiting.messages;
        let bytes = self.bytes + begun.1 - self.waiting.bytes;
        messages == 0 || (messages + frame.messages() <= bounds.messages && bytes + frame.len() <= bounds.bytes)
    }

    /// Drops the oldest messages until `frame` fits, which it does in the end: not a frame that is
    /// partly written, not a control frame.
    fn drop_oldest_for(&mut self, frame: &Frame, bounds: &QueueSettings) -> usize {
        let mut dropped = 0;
        let mut at = usize::from(self.front_written > 0);
        while at < self.waiting.frames.len() && !self.fits(frame, bounds) {
            if self.waiting.frames[at].messages() == 0 {
                at += 1;
                continue;
            }
            if let Some(oldest) = self.waiting.remove(at) {
                self.uncount(&oldest);
                dropped += oldest.messages();
            }
        }
        dropped
    }

    /// Gives the heap back when the queue has run empty.
    fn release(&mut self) {
        if self.waiting.frames.is_empty() && self.waiting.frames.capacity() > 0 {
            self.waiting = Waiting::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::super::frame::{Control, Role};
    use super::*;

    fn frame(fill: u8, len: usize, messages: u32) -> Frame {
        Frame::joined(Bytes::from(vec![fill; len]), messages)
    }

    #[test]
    fn nothing_is_dropped_for_a_frame_that_does_not_fit_anyway() {
        let bounds = QueueSettings { messages: 10, bytes: 100, when_full: WhenFull::DropOldest };
        let mut queue = Queue::default();
        assert_eq!(queue.offer(&frame(1, 40, 1), &bounds), Offer::Taken);
        let taken = queue.take(1, 100).unwrap();
        assert_eq!(queue.offer(&frame(2, 40, 1), &bounds), Offer::Taken);
        assert_eq!(queue.offer(&frame(3, 80, 2), &bounds), Offer::Dropped(2));
        queue.settle(taken, 40);
        assert_eq!(queue.take(10, 100).unwrap().frames[0].as_one(), Some(&[2; 40][..]));
    }

    #[test]
    fn what_has_a_slot_does_not_pile_up_behind_a_frame_that_is_partly_written() {
        let bounds = QueueSettings { messages: 10, bytes: 1000, when_full: WhenFull::DropOldest };
        let mut queue = Queue::default();
        assert_eq!(queue.offer(&frame(1, 900, 1), &bounds), Offer::Taken);
        for pong in 0..8 {
            queue.set(Slot::Pong, frame(pong, 3, 0));
            queue.set(Slot::Ping, Frame::control(Role::Server, Control::Ping, &[]));
            queue.set(Slot::Acknowledgement, frame(100 + pong, 2, 0));
            let taken = queue.take(64, 1000).unwrap();
            // The first batch is at a boundary, and begins with the slots.
            queue.settle(taken, if pong == 0 { 17 } else { 10 });
        }
        assert_eq!(
            wire(&queue.take(64, 1000).unwrap()),
            [vec![1; 820], vec![7; 3], vec![0x89, 0], vec![107; 2]].concat()
        );
    }

    #[derive(Debug, Clone)]
    enum Step {
        Offer {
            len: usize,
            messages: u32,
        },
        Control,
        /// Something comes into the slot with this number.
        Slot(usize),
        Take {
            frames: usize,
            bytes: usize,
        },
        /// How much of what is taken the kernel takes, in 1/16.
        Settle(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => (1usize..60, 1u32..4).prop_map(|(len, messages)| Step::Offer { len, messages }),
            1 => Just(Step::Control),
            3 => (0usize..3).prop_map(Step::Slot),
            3 => (1usize..6, 1usize..120).prop_map(|(frames, bytes)| Step::Take { frames, bytes }),
            3 => (0usize..17).prop_map(Step::Settle),
        ];
        proptest::collection::vec(step, 1..200)
    }

    /// What the queue should hold: every frame that is not written whole, the taken ones first.
    #[derive(Default)]
    struct Model {
        entries: VecDeque<(Vec<u8>, usize)>,
        front_written: usize,
        taken: usize,
        slots: Slots<Option<Vec<u8>>>,
        /// Which of the entries are those that were taken from the slots.
        from_slots: Slots<Option<usize>>,
    }

    impl Model {
        fn sums(&self) -> (usize, usize) {
            self.entries.iter().fold((0, 0), |(messages, bytes), entry| (messages + entry.1, bytes + entry.0.len()))
        }

        fn fits(&self, len: usize, messages: usize, bounds: &QueueSettings) -> bool {
            let (have_messages, have_bytes) = self.sums();
            have_messages == 0 || (have_messages + messages <= bounds.messages && have_bytes + len <= bounds.bytes)
        }

        fn offer(&mut self, bytes: Vec<u8>, messages: usize, bounds: &QueueSettings) -> Offer {
            if self.fits(bytes.len(), messages, bounds) {
                self.entries.push_back((bytes, messages));
                return Offer::Taken;
            }
            match bounds.when_full {
                WhenFull::Disconnect => Offer::TooSlow,
                WhenFull::DropNewest => Offer::Dropped(messages),
                WhenFull::DropOldest => {
                    let before = self.entries.clone();
                    let mut dropped = 0;
                    let first = self.taken.max(usize::from(self.front_written > 0));
                    while !self.fits(bytes.len(), messages, bounds) {
                        let Some(at) = (first..self.entries.len()).find(|&at| self.entries[at].1 > 0) else {
                            self.entries = before;
                            return Offer::Dropped(messages);
                        };
                        dropped += self.entries.remove(at).map_or(0, |entry| entry.1);
                    }
                    self.entries.push_back((bytes, messages));
                    Offer::Dropped(dropped)
                }
            }
        }

        /// What waits in the slots comes to the frame boundary.
        fn boundary(&mut self) {
            let mut at = usize::from(self.front_written > 0);
            for (slot, taken) in self.slots.iter_mut().zip(&mut self.from_slots) {
                *taken = slot.is_some().then_some(at);
                if let Some(bytes) = slot.take() {
                    self.entries.insert(at, (bytes, 0));
                    at += 1;
                }
            }
        }

        /// Of the taken, `done` are written whole: those of slots that are not begun wait again.
        fn settled(&mut self, done: usize) {
            let waits = |at: &usize| *at > done || (*at == done && self.front_written == 0);
            for (slot, taken) in self.slots.iter_mut().zip(&mut self.from_slots).rev() {
                if let Some(at) = taken.take().filter(waits) {
                    let (bytes, _) = self.entries.remove(at - done).unwrap();
                    slot.get_or_insert(bytes);
                }
            }
        }
    }

    fn wire(taken: &Taken) -> Vec<u8> {
        let mut offset = taken.offset;
        let slices = taken.frames.iter().flat_map(|frame| frame.slices(std::mem::take(&mut offset)));
        slices.flat_map(|slice| slice.to_vec()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_queue_holds_what_a_simple_list_would(steps in steps(), policy in 0usize..3) {
            let when_full = [WhenFull::DropOldest, WhenFull::DropNewest, WhenFull::Disconnect][policy];
            let bounds = QueueSettings { messages: 8, bytes: 150, when_full };
            let (mut queue, mut model) = (Queue::default(), Model::default());
            let mut taken: Option<Taken> = None;
            let mut fill = 0u8;
            // In the end everything is taken and written.
            let drain = [Step::Settle(16), Step::Take { frames: usize::MAX, bytes: usize::MAX }, Step::Settle(16)];
            for step in steps.into_iter().chain(drain) {
                fill = fill.wrapping_add(1);
                match step {
                    Step::Offer { len, messages } => {
                        let expected = model.offer(vec![fill; len], messages as usize, &bounds);
                        prop_assert_eq!(queue.offer(&frame(fill, len, messages), &bounds), expected);
                    }
                    Step::Control => {
                        queue.push(frame(fill, 4, 0));
                        model.entries.push_back((vec![fill; 4], 0));
                    }
                    Step::Slot(slot) => {
                        let which = [Slot::Pong, Slot::Ping, Slot::Acknowledgement][slot];
                        queue.set(which, frame(fill, 3, 0));
                        model.slots[slot] = Some(vec![fill; 3]);
                    }
                    Step::Take { frames, bytes } if taken.is_none() => {
                        let has_some = model.slots.iter().any(Option::is_some);
                        prop_assert_eq!(queue.has_waiting(), !model.entries.is_empty() || has_some);
                        model.boundary();
                        taken = queue.take(frames, bytes);
                        let Some(taken) = &taken else {
                            prop_assert!(model.entries.is_empty());
                            continue;
                        };
                        model.taken = taken.frames.len();
                        // A begun frame and one of each slot may be there beyond the bounds.
                        prop_assert!(model.taken <= frames.max(4));
                        let expected: Vec<u8> =
                            model.entries.iter().take(model.taken).flat_map(|entry| entry.0.clone()).skip(model.front_written).collect();
                        prop_assert_eq!(wire(taken), expected);
                    }
                    Step::Settle(part) => {
                        let Some(taken) = taken.take() else { continue };
                        let count = wire(&taken).len() * part / 16;
                        let mut left = model.front_written + count;
                        let (mut messages, mut done) = (0, 0);
                        while model.entries.front().is_some_and(|entry| entry.0.len() <= left) {
                            let (bytes, of_entry) = model.entries.pop_front().unwrap();
                            left -= bytes.len();
                            messages += of_entry;
                            done += 1;
                        }
                        (model.front_written, model.taken) = (left, 0);
                        model.settled(done);
                        prop_assert_eq!(queue.settle(taken, count), (messages, count));
                    }
                    Step::Take { .. } => {}
                }
                prop_assert_eq!((queue.messages, queue.bytes), model.sums());
                let counted = queue.waiting.frames.iter().map(of_messages);
                let sums = counted.fold((0, 0), |(messages, bytes), frame| (messages + frame.0, bytes + frame.1));
                prop_assert_eq!((queue.waiting.messages, queue.waiting.bytes), sums);
            }
            prop_assert!(queue.is_empty() && !queue.has_waiting());
        }
    }

    #[test]
    fn c2_a_full_queue_knows_what_it_may_drop_without_looking_at_it() {
        let bounds = QueueSettings { messages: 65_536, bytes: 1 << 30, when_full: WhenFull::DropOldest };
        let mut queue = Queue::default();
        (0..bounds.messages).for_each(|_| queue.push(frame(1, 10, 1)));
        for _ in 0..1000 {
            assert_eq!(queue.offer(&frame(2, 20, 1), &bounds), Offer::Dropped(1));
        }
        let bytes = 10 * (bounds.messages - 1000) + 20 * 1000;
        assert_eq!((queue.waiting.messages, queue.waiting.bytes), (bounds.messages, bytes));
    }

    #[test]
    fn what_is_forgotten_is_counted_and_what_is_taken_is_not() {
        let message = Frame::joined(bytes::Bytes::from_static(b"xx"), 3);
        let mut queue = Queue::default();
        for frame in
            [message.clone(), message.clone(), Frame::control(Role::Server, Control::Ping, b""), message.clone()]
        {
            queue.push(frame);
        }
        let taken = queue.take(1, 1).unwrap();
        assert_eq!(queue.clear(), 6);
        assert_eq!(queue.settle(taken, message.len()), (3, message.len()));
        assert!(queue.is_empty());
    }
}
