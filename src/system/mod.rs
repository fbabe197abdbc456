//! The platform's quirks: threads, memory, limits, the machine, the supervisor.

pub mod address_space;
pub mod large;
pub mod limits;
pub mod machine;
pub mod malloc;
pub mod memory;
pub mod passed_sockets;
pub mod process;
pub mod thread;
pub mod watchdog;
