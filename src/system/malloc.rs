//! Memory given back to the system after many connections have ended.
//!
//! glibc's malloc keeps several heaps ("arenas", at most eight a processor), and each thread uses one. What is free in a
//! heap goes back to the system in two ways, and neither happens by itself when a crowd has gone:
//!
//! - What is free in the middle of a heap goes back through `malloc_trim`.
//! - What is free at the end of a heap, the first one apart, goes back only when somebody frees a large block in that very
//!   heap. So one short-lived thread in each heap does that, after `malloc_trim` has merged what is free there.
//!
//! `malloc_trim` alone is not enough: after 300 unfinished TLS handshakes 20 MiB stayed. Nor is it enough that each
//! connection's thread frees such a block as its last act: what the TLS library keeps for the thread is freed after that
//! and can lie at the end of the heap. Other C libraries need no such help.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use log::debug;

use super::address_space;
use super::thread::{spawn_helper, spawn_joined};
use crate::clock::{self, Ticks};
use crate::sync::Mutex;

/// So many connections have to have ended since the last time.
const CROWD: usize = 32;

/// From one time to the next where connections end all the time.
const REST: Duration = Duration::from_secs(5);

/// After that it is done twice more, so long after the first time. On a busy machine threads end some time after their
/// connections, and free last what the TLS library keeps for them; and what the heartbeat has noted of those connections
/// is gone after its next visits.
const AGAIN: [Duration; 2] = [Duration::from_secs(5), Duration::from_mins(1)];

/// Enough for malloc to look at the end of its heap, and too little to be mapped by itself (128 KiB).
const BLOCK: usize = 96 << 10;

/// Twice as many threads as heaps find each heap: those that no thread uses are given out first, then all in turn.
const THREADS_PER_PROCESSOR: usize = 16;

/// The most, however many processors there are.
const THREADS_MAX: usize = 256;

/// Of a thread that frees one block, in bytes.
const STACK: usize = 32 << 10;

/// Notices when a crowd has gone, and trims.
#[derive(Debug, Default)]
pub struct Trimmer {
    /// How many connections had ended when it last trimmed, and at the last tick.
    trimmed: usize,
    last: usize,
    /// Not before this tick, unless the crowd has gone.
    next: Ticks,
    /// When it is done again, the last time first.
    again: Vec<Ticks>,
}

impl Trimmer {
    /// To be called at every tick, with how many connections have ended so far; that may wrap around.
    pub fn check_in(&mut self, now: Ticks, ended: usize) {
        if !self.is_due(now, ended) {
            return;
        }
        // The heartbeat waits for nothing.
        give_back();
    }

    /// As soon as no connection has ended for a tick, so that nothing is freed behind it; where some end all the time,
    /// once every [`REST`].
    fn is_due(&mut self, now: Ticks, ended: usize) -> bool {
        let is_quiet = std::mem::replace(&mut self.last, ended) == ended;
        if ended.wrapping_sub(self.trimmed) >= CROWD && (is_quiet || now >= self.next) {
            self.again = AGAIN.iter().rev().map(|later| now + clock::ticks(*later)).collect();
        } else if self.again.pop_if(|again| *again <= now).is_none() {
            return false;
        }
        self.trimmed = ended;
        self.next = now + clock::ticks(REST);
        true
    }
}

/// Has malloc give back what is free, soon, in a thread of its own.
pub fn give_back() {
    if let Err(error) = spawn_helper("malloc", trim) {
        debug!("failed to start the thread that gives memory back: {error}");
    }
}

/// Has malloc give back all whole pages that are free, in all its heaps.
fn trim() {
    trim_middles();
    // Its threads have malloc set up every arena that there may be, which a limited address space has no room for.
    if !address_space::is_limited() {
        trim_ends();
    }
}

/// malloc_trim(3) does so since glibc 2.8.
#[cfg(target_env = "gnu")]
fn trim_middles() {
    // SAFETY: malloc_trim has no preconditions and is safe to call from any thread at any time (attributes(7): MT-Safe).
    // It touches only memory that malloc has been given back.
    #[allow(unsafe_code, reason = "the one call for which no safe wrapper exists")]
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(not(target_env = "gnu"))]
fn trim_middles() {}

/// Frees a block in each heap, in a thread that uses it. Where the system has no more threads, some heaps are left out.
fn trim_ends() {
    // All of them wait for it: one that had ended would leave its heap to the next.
    let gate = Arc::new(Mutex::new(()));
    let closed = gate.lock();
    for _ in 0..(THREADS_PER_PROCESSOR * processors()).min(THREADS_MAX) {
        let gate = Arc::clone(&gate);
        let body = move || {
            drop(black_box(Vec::<u8>::with_capacity(BLOCK)));
            drop(gate.lock());
        };
        if let Err(error) = spawn_joined("malloc".to_owned(), STACK, body) {
            debug!("failed to start a thread that gives memory back: {error}");
            break;
        }
    }
    drop(closed);
}

/// The processors of the machine, as malloc counts them: this process may be allowed fewer.
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
    fn it_trims_once_a_crowd_has_gone_and_twice_more_later() {
        let again = AGAIN.map(clock::ticks);
        let mut trimmer = Trimmer { next: 100, ..Trimmer::default() };
        let mut is_due = |now, ended| trimmer.is_due(now, ended);
        assert!(!is_due(1, CROWD - 1) && !is_due(2, CROWD - 1), "it is no crowd");
        assert!(!is_due(3, CROWD), "the others may be about to go");
        assert!(is_due(4, CROWD));
        assert!(!is_due(5, CROWD) && !is_due(3 + again[0], CROWD), "it has been done");
        assert!(is_due(4 + again[0], CROWD), "their threads have ended now");
        assert!(!is_due(5 + again[0], CROWD) && !is_due(3 + again[1], CROWD));
        assert!(is_due(4 + again[1], CROWD), "what was noted of them is gone now");
        assert!(!is_due(5 + again[1], CROWD));
    }

    #[test]
    fn where_connections_end_all_the_time_it_trims_now_and_then() {
        let mut trimmer = Trimmer::default();
        let due = (1..100).filter(|tick| trimmer.is_due(*tick, *tick as usize * CROWD)).count();
        assert_eq!(due, 99_usize.div_ceil(clock::ticks(REST) as usize));
    }

    #[test]
    fn ranges_of_processors_are_counted() {
        assert_eq!(count("0"), Some(1));
        assert_eq!(count("0-1"), Some(2));
        assert_eq!(count("0-3,6,8-9"), Some(7));
        assert_eq!(count(""), None);
        assert_eq!(count("3-1"), None);
    }
}
