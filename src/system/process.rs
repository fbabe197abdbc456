//! What the system knows of this process: processor time, memory, threads and descriptors. What stands in the files is
//! read by a pure function.

use std::fs;
use std::io;

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

/// See the module's documentation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Process {
    /// Processor time since its start, in user code and in the kernel, in seconds.
    pub cpu_seconds: f64,
    pub threads: u64,
    /// Bytes of address space.
    pub virtual_bytes: u64,
    /// Bytes in memory.
    pub resident_bytes: u64,
}

impl Process {
    /// This one, now.
    ///
    /// # Errors
    /// `/proc` is not there, or not as the kernel writes it.
    pub fn read() -> io::Result<Process> {
        let stat = fs::read_to_string("/proc/self/stat")?;
        let odd = || io::Error::other("/proc/self/stat is not as expected");
        parse(&stat, clock_ticks_per_second(), page_size() as u64).ok_or_else(odd)
    }
}

/// How many descriptors are open.
///
/// # Errors
/// `/proc` is not there, or no descriptor is left to look with.
pub fn open_descriptors() -> io::Result<u64> {
    const DIRECTORY: &str = "/proc/self/fd";
    // Since Linux 6.2 the size of the directory is their number; counting 10,000 takes milliseconds.
    match rustix::fs::stat(DIRECTORY)?.st_size {
        // The directory itself is open while it is read.
        ..=0 => Ok((fs::read_dir(DIRECTORY)?.count() as u64).saturating_sub(1)),
        size => Ok(size.unsigned_abs()),
    }
}

/// How many descriptors may be open; `None` is without a limit.
pub fn most_descriptors() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// From `/proc/self/stat`. The name of the process stands in brackets there and can have any characters.
fn parse(stat: &str, ticks_per_second: u64, page: u64) -> Option<Process> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    // The state of the process is the third field.
    let fields: Vec<&str> = behind_name.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let ticks = field(14)? + field(15)?;
    Some(Process {
        cpu_seconds: ticks as f64 / ticks_per_second as f64,
        threads: field(20)?,
        virtual_bytes: field(23)?,
        resident_bytes: field(24)?.checked_mul(page)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_from_what_the_kernel_says() {
        let stat = "7 (ws) gate (x)) S 1 7 7 0 -1 4194560 1 0 0 0 250 150 0 0 20 0 12 0 3388 90112000 2560 184 1 1 0";
        let process = Process { cpu_seconds: 4.0, threads: 12, virtual_bytes: 90_112_000, resident_bytes: 10 << 20 };
        assert_eq!(parse(stat, 100, 4096), Some(process));
        for odd in ["", "7 (x) S 1", "7 (x"] {
            assert_eq!(parse(odd, 100, 4096), None, "{odd:?}");
        }
        assert!(Process::read().unwrap().threads >= 1);
    }

    #[test]
    fn open_descriptors_are_counted() {
        let files: Vec<_> = (0..50).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        let open = open_descriptors().unwrap();
        assert!(open >= files.len() as u64 && most_descriptors().is_none_or(|most| most >= open), "{open}");
    }
}
