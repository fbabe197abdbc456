//! The metrics of the process, named as all programs name them, and of the memory that `memory` limits.

use std::fmt;
use std::time::SystemTime;

use crate::metrics::families::Families;
use crate::shared::Shared;
use crate::system::process::{self, Process};

/// What the system does not say now is left out of this scrape.
pub(super) fn encode(shared: &Shared, families: &mut Families<'_>) -> fmt::Result {
    if let Ok(process) = Process::read() {
        of_process(&process, families)?;
    }
    if let Ok(open) = process::open_descriptors() {
        families.gauge("process_open_fds", "Descriptors that are open.", open)?;
    }
    if let Some(most) = process::most_descriptors() {
        families.gauge("process_max_fds", "How many descriptors may be open.", most)?;
    }
    let started = shared.counters.started().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    families.gauge(
        "process_start_time_seconds",
        "When the gateway started, in seconds since 1970.",
        started.as_secs_f64(),
    )?;
    if let Ok(used) = shared.counters.memory.used() {
        families.gauge(
            "wsgate_memory_bytes",
            "Memory that counts against the option memory: that of the process without files, and in a control \
             group of its own also that of its sockets.",
            used,
        )?;
    }
    if let Some(limit) = shared.generation().gateway.memory {
        families.gauge(
            "wsgate_memory_limit_bytes",
            "The option memory. Above it no client is let in. Without a limit there is no such series.",
            limit,
        )?;
    }
    Ok(())
}

fn of_process(process: &Process, families: &mut Families<'_>) -> fmt::Result {
    families.counter(
        "process_cpu_seconds",
        "Processor time since the start, in user code and in the kernel.",
        process.cpu_seconds,
    )?;
    families.gauge("process_threads", "Threads; each client has one.", process.threads)?;
    families.gauge("process_virtual_memory_bytes", "Address space in bytes.", process.virtual_bytes)?;
    families.gauge("process_resident_memory_bytes", "Memory in bytes, with files.", process.resident_bytes)
}
