//! The gateway's own limit of memory: above it nobody is let in, and the clients that hold most are closed.
//!
//! Nothing is counted while all is well. Above the limit, what each client holds is looked at: its queue, as far as no
//! other client has the same bytes, since a broadcast that waits in 10,000 queues is in memory once; and the message of
//! which a part has arrived.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use log::{info, warn};

use crate::config::write_size;
use crate::log_kind::QUEUES;
use crate::shared::Shared;
use crate::shared::registry::Client;
use crate::system::malloc;
use crate::system::memory::Memory;

/// Who holds less is not closed for it, in bytes: a client that reads has that much queued at times.
const LEAST: usize = 64 << 10;

/// Of those whose queues are the same, one in so many is closed at a time: how much each keeps in memory is not known.
const SHARE: usize = 8;

/// Watches the memory of the process.
#[derive(Debug)]
pub struct MemoryWatch {
    limit: u64,
    memory: Memory,
    /// What those held that were closed the last time: it may not have been given back yet.
    closed: u64,
}

/// What a client holds, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    own: usize,
    /// With what others have too.
    all: usize,
}

impl MemoryWatch {
    /// For a limit in bytes, if there is one.
    pub fn new(limit: Option<usize>) -> Option<MemoryWatch> {
        limit.map(|limit| MemoryWatch { limit: limit as u64, memory: Memory::of_process(), closed: 0 })
    }

    /// To be called at every tick.
    pub fn check_in(&mut self, shared: &Shared) {
        // What cannot be read now can be at the next tick.
        let Ok(used) = self.memory.used() else { return };
        let is_short = used > self.limit;
        let was_short = shared.is_short_of_memory.swap(is_short, Ordering::Relaxed);
        if is_short != was_short {
            let (used, limit) = (write_size(used >> 20 << 20), write_size(self.limit));
            match is_short {
                true => warn!("{used} of memory are used, more than \"memory\" allows ({limit}): nobody is let in"),
                false => info!("{used} of memory are used, no more than \"memory\" allows ({limit})"),
            }
        }
        let closed = std::mem::take(&mut self.closed);
        if !is_short {
            return;
        }
        // Down to a sixteenth below the limit, so that it is not reached again at once.
        let wanted = (used - self.limit + self.limit / 16).saturating_sub(closed);
        self.closed = close_those_with_most(shared, wanted);
        malloc::give_back();
    }
}

/// Closes clients until they have held so many bytes; says how many they did.
fn close_those_with_most(shared: &Shared, wanted: u64) -> u64 {
    let held = shared.registry.all().into_iter().map(|client| (held_by(&client), client)).collect();
    let mut freed = 0;
    for (held, client) in chosen(held, wanted) {
        let all = write_size(held.all as u64);
        info!(
            target: QUEUES, client:% = client.id();
            "client {}: closed, because it holds {all} and memory is short", client.id()
        );
        if client.outbox().is_closing() {
            // It was told, and still holds it.
            client.outbox().abort("memory is short");
        } else {
            client.outbox().close_without_queue(Some(1008), "Memory is short");
        }
        freed += held.own as u64;
    }
    freed
}

fn held_by(client: &Arc<Client>) -> Held {
    let (own, all) = client.outbox().held();
    let unfinished = match client.peer.message_begun.load(Ordering::Relaxed) {
        0 => 0,
        _ => client.peer.unfinished.load(Ordering::Relaxed),
    };
    Held { own: own + unfinished, all: all + unfinished }
}

/// Those that hold most by themselves, until it is enough; if nobody does, some of those with the longest queues.
fn chosen<T>(mut held: Vec<(Held, T)>, wanted: u64) -> Vec<(Held, T)> {
    held.retain(|(held, _)| held.all >= LEAST);
    held.sort_by_key(|(held, _)| std::cmp::Reverse((held.own, held.all)));
    let (mut freed, mut count) = (0, 0);
    while freed < wanted && held.get(count).is_some_and(|(held, _)| held.own >= LEAST) {
        freed += held[count].0.own as u64;
        count += 1;
    }
    if count == 0 && wanted > 0 {
        held.sort_by_key(|(held, _)| std::cmp::Reverse(held.all));
        count = held.len().div_ceil(SHARE);
    }
    held.truncate(count);
    held
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn names(held: &[(usize, usize, &'static str)], wanted: usize) -> Vec<&'static str> {
        let held = held.iter().map(|&(own, all, name)| (Held { own, all }, name)).collect();
        chosen(held, wanted as u64).into_iter().map(|(_, name)| name).collect()
    }

    #[test]
    fn l13_those_that_hold_most_by_themselves_are_closed_until_it_is_enough() {
        let held = [(0, 0, "idle"), (MIB, MIB, "b"), (3 * MIB, 3 * MIB, "a"), (LEAST - 1, 4 * MIB, "shared")];
        assert_eq!(names(&held, 2 * MIB), ["a"]);
        assert_eq!(names(&held, 4 * MIB), ["a", "b"]);
        assert_eq!(names(&held, 40 * MIB), ["a", "b"]);
        assert!(names(&held, 0).is_empty());
    }

    #[test]
    fn l13_where_all_wait_for_the_same_some_with_the_longest_queues_are_closed() {
        let mut held = vec![(0, LEAST, "short"); 15];
        held.push((0, MIB, "long"));
        held.extend([(0, LEAST - 1, "good"); 100]);
        assert_eq!(names(&held, MIB), ["long", "short"]);
        assert!(names(&[(0, LEAST - 1, "good")], MIB).is_empty());
    }
}
