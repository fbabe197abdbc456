//! A room's turn with the broadcaster: what waited in it is delivered, a slice of the clients at a time, so that a large
//! room does not keep the others waiting.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use crate::config::EndpointId;
use crate::connection::frame::CorkLimits;
use crate::shared::fanout::Fanout;
use crate::shared::members::Members;
use crate::shared::rooms::{Item, LiveRoom};

/// Clients of one slice, at most.
pub const SLICE: usize = 64;

/// Bytes of one slice, over all of its clients.
const SLICE_BYTES: usize = 1 << 20;

/// See the module's documentation.
#[derive(Debug)]
pub struct Turn {
    room: Arc<LiveRoom>,
    /// When the room lined up for it.
    since: Instant,
    members: Members,
    items: VecDeque<Item>,
    /// What is being delivered, and the place of the next client that gets it.
    current: Option<(Fanout, usize)>,
}

/// A slice of a turn: what is delivered now, and to whom.
pub type Places = Range<usize>;

impl Turn {
    /// The turn of a room in which something waits, since then.
    pub fn begin(room: Arc<LiveRoom>, since: Instant) -> Option<Turn> {
        let (members, items) = room.begin_turn()?;
        Some(Turn { room, since, members, items, current: None })
    }

    /// Does the steps that come next, and says to whom the messages behind them go. `None` when the turn is over.
    /// `limits` is how much may be joined for the clients of an endpoint.
    pub fn next_slice(&mut self, limits: impl Fn(EndpointId) -> CorkLimits) -> Option<Places> {
        loop {
            if let Some((fanout, next)) = &mut self.current {
                let most = (SLICE_BYTES / fanout.bytes().max(1)).clamp(1, SLICE);
                let places = *next..self.members.outboxes().len().min(*next + most);
                if !places.is_empty() {
                    *next = places.end;
                    return Some(places);
                }
                self.current = None;
            }
            match self.items.pop_front()? {
                Item::Step(step, _reservation) => self.members.step(step, self.room.stopping()),
                Item::Frame(first) => {
                    let mut entries = vec![first];
                    while let Some(Item::Frame(_)) = self.items.front() {
                        let Some(Item::Frame(entry)) = self.items.pop_front() else { break };
                        entries.push(entry);
                    }
                    let limits = limits(self.room.endpoint());
                    let fanout = Fanout::new(entries, &limits, |id| self.members.place_of(id));
                    self.current = Some((fanout, 0));
                }
            }
        }
    }

    /// Delivers to the clients of a slice.
    pub fn deliver(&self, places: Places) {
        if let Some((fanout, _)) = &self.current {
            fanout.deliver(self.members.outboxes(), places);
        }
    }

    /// The slices that are left of what is being delivered, this one first.
    pub fn slices_from(&mut self, first: Places) -> Vec<Places> {
        let step = first.len();
        let end = self.members.outboxes().len();
        if let Some((_, next)) = &mut self.current {
            *next = end;
        }
        (first.start..end).step_by(step).map(|start| start..end.min(start + step)).collect()
    }

    /// Gives the clients back to the room, and what is not delivered yet. The room itself if it needs another turn.
    pub fn end(self) -> Option<Arc<LiveRoom>> {
        let Turn { room, since, members, items, .. } = self;
        room.count_turn(since);
        room.end_turn(members, items).then_some(room)
    }
}
