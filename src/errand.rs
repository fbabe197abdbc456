//! Something that one thread asks another one to do, and waits for.

use crossbeam_channel::{Receiver, Sender};

/// What is asked for, by the thread that is to do it. `A` is what comes of it.
#[derive(Debug)]
pub struct Errand<A> {
    answer: Sender<A>,
}

impl<A> Errand<A> {
    /// An errand, and where its answer comes; without one if whoever was asked ends before.
    pub fn new() -> (Errand<A>, Receiver<A>) {
        let (answer, answered) = crossbeam_channel::bounded(1);
        (Errand { answer }, answered)
    }

    /// Tells whoever waits for it, if that one still does.
    pub fn answer(self, came: A) {
        let _ = self.answer.send(came);
    }
}
