//! A sender's way into rooms: by itself where nothing waits, else behind what waits, within its credit.

use std::sync::Arc;

use crate::connection::frame::Frame;
use crate::id::Id;
use crate::shared::credit::{Budget, Credit};
use crate::shared::fanout::Entry;
use crate::shared::members::Step;
use crate::shared::rooms::{Item, LiveRoom};

/// See the module's documentation. A clone shares the credit.
#[derive(Debug, Clone)]
pub struct Publisher {
    credit: Arc<Credit>,
}

impl Publisher {
    /// That of a client or of a link's connection.
    pub fn of_sender(budget: &Arc<Budget>) -> Publisher {
        Publisher { credit: Credit::of_sender(Arc::clone(budget)) }
    }

    /// That of all events.
    pub fn of_events(budget: &Arc<Budget>) -> Publisher {
        Publisher { credit: Credit::of_events(Arc::clone(budget)) }
    }

    /// Publishes a frame for a room's clients, perhaps but one, unless there is no credit for it. Says whether it was
    /// published.
    pub fn try_publish(&self, room: &Arc<LiveRoom>, except: Option<Id>, frame: &Frame) -> bool {
        if room.try_deliver(except, frame) {
            return true;
        }
        let reservation = self.credit.try_take(frame.len());
        let is_taken = reservation.is_some();
        if is_taken {
            room.push(Item::Frame(Entry { except, frame: frame.clone(), reservation }));
        }
        is_taken
    }

    /// As [`try_publish`](Publisher::try_publish), but waits for credit as long as it takes or until `give_up` says so,
    /// which is asked every 250 ms.
    pub fn publish(&self, room: &Arc<LiveRoom>, except: Option<Id>, frame: &Frame, give_up: impl Fn() -> bool) -> bool {
        let reservation = self.credit.take(frame.len(), give_up);
        let is_taken = reservation.is_some();
        if is_taken {
            room.push(Item::Frame(Entry { except, frame: frame.clone(), reservation }));
        }
        is_taken
    }

    /// Has a step happen in a room, unless there is no credit for it: then it is given back.
    pub fn try_step(&self, room: &Arc<LiveRoom>, step: Step) -> Result<(), Step> {
        let Err(step) = room.try_step(step) else { return Ok(()) };
        let Some(reservation) = self.credit.try_take(step.len()) else { return Err(step) };
        room.push(Item::Step(step, Some(reservation)));
        Ok(())
    }

    /// As [`try_step`](Publisher::try_step), but waits for credit as long as it takes or until `give_up`. Says whether
    /// the step will happen.
    pub fn step(&self, room: &Arc<LiveRoom>, step: Step, give_up: impl Fn() -> bool) -> bool {
        let reservation = self.credit.take(step.len(), give_up);
        let is_taken = reservation.is_some();
        if is_taken {
            room.push(Item::Step(step, reservation));
        }
        is_taken
    }

    /// Has a client leave a room, and waits until nothing there is about it any more, or until `give_up`: a client that
    /// has left gives its place to another one, so what is about it must not pile up.
    pub fn leave(&self, room: &Arc<LiveRoom>, id: Id, give_up: impl Fn() -> bool) {
        let Err(step) = room.try_step(Step::Leave(id)) else { return };
        if self.step(room, step, &give_up) {
            self.credit.wait_returned(give_up);
        }
    }
}
