//! Memory given back to the system after many connections have ended.
//!
//! glibc's malloc keeps several heaps ("arenas", at most eight a processor), and each thread uses one. What is free in a
//! heap goes back to the system in two ways, and neither happens by itself when a crowd has gone:
//!
//! - What is free at the end of a heap goes back when somebody frees a block of 64 KiB or more in that very heap. So each
//!   thread of a connection does that once, as the last thing: [`trim_end_of_heap`].
//! - What is free in the middle of a heap goes back only through `malloc_trim`. [`Trimmer`] calls it after a crowd.
//!
//! `malloc_trim` alone is not enough: it leaves the ends of all heaps but the first as they are. After 300 unfinished TLS
//! handshakes 20 MiB stayed with it alone. Other C libraries need no such help.

use std::hint::black_box;
use std::time::Duration;

use crate::clock::{self, Ticks};

/// So many connections have to have ended since the last time.
const CROWD: usize = 32;

/// From one time to the next where connections end all the time.
const REST: Duration = Duration::from_secs(5);

/// After that it is done once more: what the heartbeat had noted of those connections is gone by then.
const AGAIN: Duration = Duration::from_mins(1);

/// Enough for malloc to look at the end of its heap, and too little to be mapped by itself (128 KiB).
const BLOCK: usize = 96 << 10;

/// Has malloc give back what is free at the end of this thread's heap. It costs about a microsecond.
pub fn trim_end_of_heap() {
    drop(black_box(Vec::<u8>::with_capacity(BLOCK)));
}

/// Notices when a crowd has gone, and trims.
#[derive(Debug, Default)]
pub struct Trimmer {
    /// How many connections had ended when it last trimmed, and at the last tick.
    trimmed: usize,
    last: usize,
    /// Not before this tick, unless the crowd has gone.
    next: Ticks,
    again: Option<Ticks>,
}

impl Trimmer {
    /// To be called at every tick, with how many connections have ended so far; that may wrap around.
    pub fn check_in(&mut self, now: Ticks, ended: usize) {
        if self.is_due(now, ended) {
            trim();
        }
    }

    /// As soon as no connection has ended for a tick, so that nothing is freed behind it; where some end all the time,
    /// once every [`REST`].
    fn is_due(&mut self, now: Ticks, ended: usize) -> bool {
        let is_quiet = std::mem::replace(&mut self.last, ended) == ended;
        if ended.wrapping_sub(self.trimmed) >= CROWD && (is_quiet || now >= self.next) {
            self.again = Some(now + clock::ticks(AGAIN));
        } else if self.again.is_some_and(|again| again <= now) {
            self.again = None;
        } else {
            return false;
        }
        self.trimmed = ended;
        self.next = now + clock::ticks(REST);
        true
    }
}

/// Has malloc give back all whole pages that are free, in all its heaps: malloc_trim(3) does so since glibc 2.8.
#[cfg(target_env = "gnu")]
fn trim() {
    // SAFETY: malloc_trim has no preconditions and is safe to call from any thread at any time (attributes(7): MT-Safe).
    // It touches only memory that malloc has been given back.
    #[allow(unsafe_code, reason = "the one call for which no safe wrapper exists")]
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(not(target_env = "gnu"))]
fn trim() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_trims_once_a_crowd_has_gone_and_once_more_later() {
        let again = clock::ticks(AGAIN);
        let mut trimmer = Trimmer { next: 100, ..Trimmer::default() };
        let mut is_due = |now, ended| trimmer.is_due(now, ended);
        assert!(!is_due(1, CROWD - 1) && !is_due(2, CROWD - 1), "it is no crowd");
        assert!(!is_due(3, CROWD), "the others may be about to go");
        assert!(is_due(4, CROWD));
        assert!(!is_due(5, CROWD) && !is_due(3 + again, CROWD), "it has been done");
        assert!(is_due(4 + again, CROWD), "what was noted of them is gone now");
        assert!(!is_due(5 + again, CROWD));
    }

    #[test]
    fn where_connections_end_all_the_time_it_trims_now_and_then() {
        let mut trimmer = Trimmer::default();
        let due = (1..100).filter(|tick| trimmer.is_due(*tick, *tick as usize * CROWD)).count();
        assert_eq!(due, 99_usize.div_ceil(clock::ticks(REST) as usize));
    }
}
