//! One direction of a TCP connection, as the kernel sees it.

use std::fs;

/// The bytes that one end of a connection over IPv4 sends to the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    pub(super) from: u16,
    pub(super) to: u16,
}

impl Flow {
    /// Whether bytes wait because the receiver's window is closed, and a probe of that window has been refused: the
    /// receiver has read nothing for the time between two probes, which is at least 200 ms.
    pub(crate) fn is_stopped(&self) -> bool {
        // The timer that probes a closed window, and the time to the first probe, in hundredths of a second.
        const PROBE: &str = "04";
        const FIRST: u32 = 0x18;
        let sockets = fs::read_to_string("/proc/net/tcp").unwrap();
        let port = |address: &str| u16::from_str_radix(address.split(':').nth(1).unwrap(), 16).unwrap();
        sockets.lines().skip(1).any(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let (timer, due) = fields[5].split_once(':').unwrap();
            (port(fields[1]), port(fields[2])) == (self.from, self.to)
                && timer == PROBE
                && u32::from_str_radix(due, 16).unwrap() > FIRST
        })
    }
}
