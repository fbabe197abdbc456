//! What is left of the address space where it is limited: RLIMIT_AS and RLIMIT_DATA, which are systemd's LimitAS and
//! LimitDATA and the shell's `ulimit -v` and `-d`.
//!
//! An allocation that fails aborts the process, however small it is. The stack of a thread can leave so little that the
//! next one fails, wherever it is, and so can an arena of 64 MiB, which glibc's malloc sets up for new threads as long as
//! it can. So a thread starts only if enough is left behind its stack; and a reserve, which is never touched and costs no
//! memory, is kept from the arenas, and given up when one of them has left too little. Where nothing is limited, all this
//! costs a look at a flag.

use std::fs;
use std::hint::black_box;
use std::io;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Resource, getrlimit};

use super::large;
use crate::sync::Mutex;

/// What is left to the threads that run, in bytes, and the size of the reserve.
const SPARE: usize = 16 << 20;

/// Of the process. The limits are those at its start.
static SPACE: LazyLock<Option<AddressSpace>> = LazyLock::new(AddressSpace::of_process);

/// An address space with limits.
#[derive(Debug)]
struct AddressSpace {
    limits: Limits,
    /// The stacks of threads that have not begun, in bytes.
    claimed: AtomicU64,
    /// Its length is 0; only its room counts.
    reserve: Mutex<Option<Vec<u8>>>,
}

/// In bytes.
#[derive(Debug, Clone, Copy)]
struct Limits {
    all: Option<u64>,
    data: Option<u64>,
}

/// What is used, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Used {
    all: u64,
    data: u64,
}

/// The stack of a thread that is starting, until it has begun.
#[derive(Debug)]
pub struct Claim {
    stack: u64,
    of: &'static AddressSpace,
}

/// Whether the address space of this process is limited.
pub fn is_limited() -> bool {
    SPACE.is_some()
}

/// Makes sure that a thread with a stack of so many bytes leaves enough to the others. `None` where nothing is limited.
///
/// # Errors
/// It would not; or how much is used cannot be read.
pub fn claim(stack: usize) -> io::Result<Option<Claim>> {
    let Some(space) = SPACE.as_ref() else { return Ok(None) };
    let stack = stack as u64;
    let claimed = space.claimed.fetch_add(stack, Ordering::SeqCst) + stack;
    let claim = Claim { stack, of: space };
    let used = used()?;
    // Beside the reserve, which is not given up for a stack.
    if !space.limits.have_room(used, claimed + SPARE as u64) {
        let why = "the limit of the address space leaves no room for its stack: raise LimitAS and LimitDATA \
                   (ulimit -v, -d), or lower `client_stack`";
        return Err(io::Error::new(io::ErrorKind::OutOfMemory, why));
    }
    if space.limits.have_room(used, claimed + 2 * SPARE as u64) {
        space.take_reserve();
    }
    Ok(Some(claim))
}

impl Claim {
    /// The thread has begun: what it takes at its start counts as used from now on.
    pub fn begun(self) {
        // The first allocation of a thread has malloc give it an arena.
        drop(black_box(Vec::<u8>::with_capacity(64)));
        if used().is_ok_and(|used| !self.of.limits.have_room(used, SPARE as u64)) {
            self.of.give_up_reserve();
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.of.claimed.fetch_sub(self.stack, Ordering::SeqCst);
    }
}

impl AddressSpace {
    /// `None` if nothing is limited, or there is no telling how much is used.
    fn of_process() -> Option<AddressSpace> {
        let limits = Limits { all: getrlimit(Resource::As).current, data: getrlimit(Resource::Data).current };
        let is_limited = limits.all.is_some() || limits.data.is_some();
        let (claimed, reserve) = (AtomicU64::new(0), Mutex::new(None));
        (is_limited && used().is_ok()).then_some(AddressSpace { limits, claimed, reserve })
    }

    /// Unless it is there.
    fn take_reserve(&self) {
        if self.reserve.lock().is_some() {
            return;
        }
        let mut room = Vec::new();
        if room.try_reserve_exact(SPARE).is_err() {
            return;
        }
        // Another thread may have taken one meanwhile.
        let other = self.reserve.lock().replace(room);
        other.into_iter().for_each(large::free);
    }

    fn give_up_reserve(&self) {
        let reserve = self.reserve.lock().take();
        reserve.into_iter().for_each(large::free);
    }
}

impl Limits {
    fn have_room(self, used: Used, wanted: u64) -> bool {
        let fits = |limit: Option<u64>, used: u64| limit.is_none_or(|limit| used.saturating_add(wanted) <= limit);
        fits(self.all, used.all) && fits(self.data, used.data)
    }
}

fn used() -> io::Result<Used> {
    let text = fs::read_to_string("/proc/self/statm")?;
    Used::parse(&text, rustix::param::page_size() as u64)
        .ok_or_else(|| io::Error::other("/proc/self/statm is not as proc(5) says"))
}

impl Used {
    /// From `/proc/self/statm`: the first number is all, the sixth is data, in pages (proc_pid_statm(5)).
    fn parse(statm: &str, page: u64) -> Option<Used> {
        let mut pages = statm.split_ascii_whitespace().map(|number| number.parse::<u64>());
        let all = pages.next()?.ok()?;
        let data = pages.nth(4)?.ok()?;
        Some(Used { all: all * page, data: data * page })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l4_what_is_used_is_read_from_statm() {
        let used = Used { all: 2000 * 4096, data: 300 * 4096 };
        assert_eq!(Used::parse("2000 900 800 100 0 300 0\n", 4096), Some(used));
        for text in ["", "2000", "2000 900 800 100 0", "a b c d e f", "2000 900 800 100 0 x 0"] {
            assert_eq!(Used::parse(text, 4096), None, "{text:?}");
        }
        assert!(super::used().unwrap().all >= super::used().unwrap().data);
    }

    #[test]
    fn l4_there_is_room_up_to_each_limit() {
        let used = Used { all: 100, data: 40 };
        let table = [
            (None, None, u64::MAX, true),
            (Some(110), None, 10, true),
            (Some(110), None, 11, false),
            (None, Some(50), 10, true),
            (None, Some(50), 11, false),
            (Some(50), None, 0, false),
            (Some(u64::MAX), None, u64::MAX, true),
        ];
        for (all, data, wanted, has_room) in table {
            assert_eq!(Limits { all, data }.have_room(used, wanted), has_room, "{all:?} {data:?} {wanted}");
        }
    }
}
