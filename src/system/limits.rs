//! The limits that the kernel sets to a process with many clients: open files and memory mappings.

use log::warn;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors besides those of clients: listeners, epoll, logs, and what the libraries open.
const SPARE_DESCRIPTORS: u64 = 64;

/// The kernel's limit of mappings where it does not tell.
const MAPPINGS_DEFAULT: usize = 65_530;

/// What a client takes: the thread's stack and its guard, its signal stack and its guard, and a large buffer.
const MAPPINGS_OF_CLIENT: usize = 5;

/// What is left to everything else: the program, its libraries and heaps, the other threads.
const MAPPINGS_SPARE: usize = 1024;

/// Raises the soft limit of open files to the hard one, and says so if that is too low for `max_connections` clients, of
/// which `relayed` have a second socket.
pub fn raise_descriptors(max_connections: usize, relayed: usize) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    let wanted = (max_connections + relayed) as u64 + SPARE_DESCRIPTORS;
    if let Some(current) = current.filter(|&current| current < wanted) {
        warn!("at most {current} files can be open, fewer than `max_connections` needs ({wanted}): raise LimitNOFILE");
    }
}

/// `max_connections`, lowered to what the kernel's limit of memory mappings has room for if `relayed` clients have a
/// second thread; says so.
///
/// This is not left to a failing spawn: near the limit the stack of a new thread may still be
/// mapped and its signal stack no more, and then the standard library aborts the process.
pub fn within_mappings(max_connections: usize, relayed: usize) -> usize {
    let setting = std::fs::read_to_string("/proc/sys/vm/max_map_count").ok();
    let mappings = setting.and_then(|text| text.trim().parse().ok()).unwrap_or(MAPPINGS_DEFAULT);
    let room = clients_within(mappings, relayed);
    if max_connections > room {
        warn!(
            "at most {room} clients fit into vm.max_map_count = {mappings}, fewer than `max_connections` \
             ({max_connections}): raise it with sysctl"
        );
    }
    max_connections.min(room)
}

/// How many clients there is room for, if `relayed` of them have a second thread.
fn clients_within(mappings: usize, relayed: usize) -> usize {
    let threads = mappings.saturating_sub(MAPPINGS_SPARE) / MAPPINGS_OF_CLIENT;
    // Where not even those that are relayed have room, all may be such.
    threads.saturating_sub(relayed).max(threads / 2).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_mappings_bounds_the_clients() {
        let table = [
            (65_530, 0, 12_901),
            (262_144, 0, 52_224),
            (1_024, 0, 1),
            (0, 0, 1),
            (65_530, 900, 12_001),
            (65_530, 6_450, 6_451),
            (65_530, 60_000, 6_450),
        ];
        for (mappings, relayed, clients) in table {
            assert_eq!(clients_within(mappings, relayed), clients, "{mappings}, {relayed} relayed");
        }
    }
}
