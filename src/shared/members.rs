//! The clients of a room, and what happens to them between its messages.

use std::collections::HashMap;
use std::sync::Arc;

use crate::clock::Ticks;
use crate::connection::frame::Frame;
use crate::connection::outbox::Outbox;
use crate::id::Id;
use crate::shared::fanout::deliver_to;

/// From so many clients on a room has an index of them.
const INDEXED: usize = 16;

/// What happens between a room's messages.
#[derive(Debug)]
pub enum Step {
    /// A client enters: it gets everything that is sent after this.
    Join(Arc<Outbox>),
    /// A client leaves.
    Leave(Id),
    /// Messages for one client.
    To(Arc<Outbox>, Frame),
    /// One client is closed with this code, from 1000 to 4999, and this reason of at most 123 bytes.
    Close(Arc<Outbox>, u16, Box<str>),
    /// The gateway stops: every client is closed with 1001.
    Stop {
        /// When those are cut who have not closed by then.
        deadline: Ticks,
    },
}

impl Step {
    /// The bytes of its messages.
    pub fn len(&self) -> usize {
        match self {
            Step::To(_, frame) => frame.len(),
            Step::Join(_) | Step::Leave(_) | Step::Close(..) | Step::Stop { .. } => 0,
        }
    }
}

/// A room's clients, dense for the fan-out; a large room has an index of their places.
#[derive(Debug, Default)]
pub struct Members {
    outboxes: Vec<Arc<Outbox>>,
    places: HashMap<Id, usize>,
}

impl Members {
    /// In the order of their places.
    pub fn outboxes(&self) -> &[Arc<Outbox>] {
        &self.outboxes
    }

    /// Where a client stands, if it is here.
    pub fn place_of(&self, id: Id) -> Option<usize> {
        if self.places.is_empty() {
            return self.outboxes.iter().position(|outbox| outbox.id() == id);
        }
        self.places.get(&id).copied()
    }

    /// Does a step. `stopping` is when a client that joins is cut, if the gateway stops.
    pub fn step(&mut self, step: Step, stopping: Option<Ticks>) {
        match step {
            Step::Join(outbox) => {
                if let Some(deadline) = stopping {
                    close_for_stop(&outbox, deadline);
                }
                self.add(outbox);
            }
            Step::Leave(id) => self.remove(id),
            Step::To(outbox, frame) => deliver_to(&outbox, &[frame]),
            Step::Close(outbox, code, reason) => outbox.close(Some(code), &reason),
            Step::Stop { deadline } => self.outboxes.iter().for_each(|outbox| close_for_stop(outbox, deadline)),
        }
    }

    fn add(&mut self, outbox: Arc<Outbox>) {
        if !self.places.is_empty() {
            self.places.insert(outbox.id(), self.outboxes.len());
        }
        self.outboxes.push(outbox);
        if self.places.is_empty() && self.outboxes.len() >= INDEXED {
            self.places = self.outboxes.iter().enumerate().map(|(place, outbox)| (outbox.id(), place)).collect();
        }
    }

    fn remove(&mut self, id: Id) {
        let Some(place) = self.place_of(id) else { return };
        self.outboxes.swap_remove(place);
        if self.places.remove(&id).is_some()
            && let Some(moved) = self.outboxes.get(place)
        {
            self.places.insert(moved.id(), place);
        }
        if self.outboxes.len() < INDEXED / 2 {
            self.places = HashMap::new();
        }
        // A room that was once large does not stay so.
        if self.outboxes.capacity() > 64 && self.outboxes.len() < self.outboxes.capacity() / 4 {
            self.outboxes.shrink_to_fit();
            self.places.shrink_to_fit();
        }
    }
}

fn close_for_stop(outbox: &Arc<Outbox>, deadline: Ticks) {
    outbox.close_by(Some(1001), "Server shutting down", deadline);
}
