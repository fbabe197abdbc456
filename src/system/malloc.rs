//! Memory given back to the system after many have left.
//!
//! glibc's malloc keeps several trimmer ("arenas", at most eight a processor), and each thread uses one. What is free
//! at the end of a heap goes back to the system only when somebody frees a block of 64 KiB or more in that very heap.
//! Clients rarely do, so after a crowd has gone its trimmer would stay as large as they had to be for it: 100 MiB
//! after 2,000 TLS handshakes, measured. So whenever a crowd has gone, a short-lived thread in each heap frees such a
//! block. With another allocator this does nothing and costs as little.

use std::hint::black_box;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use log::debug;

use crate::clock::{self, Ticks};
use crate::system::thread::{spawn_helper, spawn_joined};

/// So many have to have left since the last time.
const CROWD: usize = 32;

/// From one time to the next, at least.
const REST: Duration = Duration::from_secs(5);

/// After that it is done once more: what the heartbeat had noted of those who left is gone by then.
const AGAIN: Duration = Duration::from_mins(1);

/// What is freed: enough for the heap to be looked at, and too little to be mapped by itself (128 KiB).
const BLOCK: usize = 96 << 10;

/// A thread that takes the heap it is given is sure to find each heap if there are twice as many threads as trimmer:
/// those of ended threads are given out first, then all in turn.
const THREADS_A_PROCESSOR: usize = 16;

/// However many processors there are.
const THREADS_MAX: usize = 256;

/// Enough for a thread that does next to nothing, in bytes.
const STACK: usize = 32 << 10;

/// Notices when a crowd has gone.
#[derive(Debug, Default)]
pub struct Trimmer {
    seen: usize,
    next: Ticks,
    again: Option<Ticks>,
}

impl Trimmer {
    /// To be called at every tick, with how many connections have ended so far; that may wrap around.
    pub fn check_in(&mut self, now: Ticks, left: usize) {
        if now < self.next {
            return;
        }
        if left.wrapping_sub(self.seen) >= CROWD {
            self.seen = left;
            self.again = Some(now + clock::ticks(AGAIN));
        } else if self.again.is_some_and(|again| again <= now) {
            self.again = None;
        } else {
            return;
        }
        self.next = now + clock::ticks(REST);
        // Not here: whoever watches deadlines waits for nobody.
        if let Err(error) = spawn_helper("trimmer", give_back) {
            debug!("failed to start the thread that gives memory back: {error}");
        }
    }
}

/// Frees a block in every heap.
fn give_back() {
    // Held until all have begun, so that none ends and leaves its heap to the next one.
    let gate = Arc::new(RwLock::new(()));
    let closed = gate.write();
    let threads = (THREADS_A_PROCESSOR * processors()).min(THREADS_MAX);
    let mut started = Vec::with_capacity(threads);
    for _ in 0..threads {
        let gate = Arc::clone(&gate);
        let body = move || {
            drop(black_box(Vec::<u8>::with_capacity(BLOCK)));
            drop(gate.read());
        };
        match spawn_joined("heap".to_owned(), STACK, body) {
            Ok(thread) => started.push(thread),
            Err(_) => break,
        }
    }
    drop(closed);
    for thread in started {
        let _ = thread.join();
    }
}

/// The processors of the machine, as malloc counts them: those that this process may use can be fewer.
fn processors() -> usize {
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online");
    online.ok().and_then(|ranges| count(ranges.trim())).unwrap_or(1)
}

/// How many numbers there are in ranges such as `0-3,6`.
fn count(ranges: &str) -> Option<usize> {
    let mut count = 0;
    for range in ranges.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
        count += last.checked_sub(first)? + 1;
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_processors_are_counted() {
        assert_eq!(count("0"), Some(1));
        assert_eq!(count("0-1"), Some(2));
        assert_eq!(count("0-3,6,8-9"), Some(7));
        assert_eq!(count(""), None);
        assert_eq!(count("3-1"), None);
    }
}
