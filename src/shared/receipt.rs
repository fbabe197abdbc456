//! What a sender is told of its messages once they are stored: how many, and the number of the last.

use std::sync::Arc;
use std::time::Instant;

use crate::connection::frame::Frame;
use crate::connection::outbox::Outbox;
use crate::message::{Kind, Message};
use crate::sync::{Mutex, Signal};

/// A sender's messages on their way into a store, counted from its first one. They are stored in their order, so the count
/// says which ones.
#[derive(Debug)]
pub struct Receipt {
    /// Who is told.
    outbox: Arc<Outbox>,
    state: Mutex<State>,
    /// Notified when more are stored.
    changed: Signal,
}

#[derive(Debug, Default)]
struct State {
    /// Messages that were handed over to the store.
    handed: u64,
    /// How many of these are stored.
    stored: u64,
    /// The number that the last of them has.
    seq: u64,
    /// It was not told of them.
    is_due: bool,
}

impl Receipt {
    /// That of a sender that has sent nothing yet.
    pub fn new(outbox: &Arc<Outbox>) -> Receipt {
        Receipt { outbox: Arc::clone(outbox), state: Mutex::default(), changed: Signal::default() }
    }

    /// So many messages are about to be handed over.
    pub fn hand_over(&self, messages: usize) {
        self.state.lock().handed += messages as u64;
    }

    /// So many more are stored, the last with this number. Says whether these are the first since it was told.
    pub fn stored(&self, messages: usize, seq: u64) -> bool {
        let mut state = self.state.lock();
        state.stored += messages as u64;
        state.seq = seq;
        !std::mem::replace(&mut state.is_due, true)
    }

    /// Tells the sender what is stored, in the store with this origin, and then whoever waits for that.
    pub fn tell(&self, origin: &str) {
        let (stored, seq) = {
            let mut state = self.state.lock();
            state.is_due = false;
            (state.stored, state.seq)
        };
        self.outbox.acknowledge(acknowledgement(stored, origin, seq));
        self.changed.notify_all();
    }

    /// Waits until all that was handed over is stored and told, at most until the deadline if there is one, or until
    /// `give_up`, which is asked every 250 ms.
    pub fn wait(&self, deadline: Option<Instant>, give_up: impl Fn() -> bool) {
        let is_over = || deadline.is_some_and(|deadline| Instant::now() >= deadline) || give_up();
        let must_wait = |state: &State| state.stored < state.handed || state.is_due;
        self.changed.wait_while(&self.state, self.state.lock(), must_wait, is_over);
    }
}

/// A text that no policy drops, and that counts as no message.
fn acknowledgement(stored: u64, origin: &str, seq: u64) -> Frame {
    let text = format!(r#"{{"type":"ack","stored":{stored},"seq":"{origin}-{seq}"}}"#);
    let message = Frame::message(&Message { kind: Kind::Text, data: text.into() });
    let encoded: Vec<u8> = message.slices(0).iter().flat_map(|slice| slice.to_vec()).collect();
    Frame::joined(encoded.into(), 0)
}
