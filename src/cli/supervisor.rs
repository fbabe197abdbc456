//! The supervisor of the process, as far as it is systemd: what it is told (sd_notify), and its watchdog.

use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::Duration;

use log::warn;
use sd_notify::NotifyState;

use crate::system::watchdog::Watchdog;

/// The way to the supervisor. Without one, nothing is said.
#[derive(Debug)]
pub(super) struct Supervisor {
    is_there: bool,
    /// What it was told last of how things are.
    status: String,
}

impl Supervisor {
    /// The supervisor that has started this process, if it listens (`Type=notify`).
    pub(super) fn of_process() -> Supervisor {
        Supervisor { is_there: std::env::var_os("NOTIFY_SOCKET").is_some(), status: String::new() }
    }

    /// Every listener accepts.
    pub(super) fn ready(&mut self, status: String) {
        self.notify(&[NotifyState::Ready, NotifyState::Status(&status)]);
        self.status = status;
    }

    /// A reload begins; [`ready`](Supervisor::ready) says that it is over.
    pub(super) fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.notify(&[NotifyState::Reloading, now]),
            Err(error) => warn!("failed to read the clock that systemd goes by: {error}"),
        }
    }

    /// The stop begins, and takes no longer than this. systemd waits for so long before it kills the process, whatever
    /// its unit says.
    pub(super) fn stopping(&mut self, within: Duration) {
        let extension = format!("EXTEND_TIMEOUT_USEC={}", within.as_micros());
        self.notify(&[NotifyState::Stopping, NotifyState::Custom(&extension)]);
    }

    /// A drain begins, and takes no longer than this. systemd waits for so long too, if the drain is its way to stop
    /// (`KillSignal=SIGUSR2`).
    pub(super) fn draining(&self, within: Duration) {
        self.notify(&[NotifyState::Custom(&format!("EXTEND_TIMEOUT_USEC={}", within.as_micros()))]);
    }

    /// How things are, which is told if it is news.
    pub(super) fn tell(&mut self, status: impl FnOnce() -> String) {
        if !self.is_there {
            return;
        }
        let status = status();
        if status != self.status {
            self.notify(&[NotifyState::Status(&status)]);
            self.status = status;
        }
    }

    fn notify(&self, states: &[NotifyState<'_>]) {
        if let Err(error) = sd_notify::notify(states) {
            warn!("failed to notify systemd: {error}");
        }
    }
}

/// The watchdog of systemd, if it started us with WatchdogSec=.
pub(super) fn watchdog() -> Option<Arc<Watchdog>> {
    let timeout = sd_notify::watchdog_enabled().filter(|timeout| !timeout.is_zero())?;
    // It is fed over a socket of its own: without a free descriptor there would be no new one, and a
    // gateway that has many clients would be killed for it.
    let connected = UnixDatagram::unbound().and_then(|socket| {
        socket.connect(std::env::var_os("NOTIFY_SOCKET").unwrap_or_default())?;
        // An accept loop does not wait for systemd.
        socket.set_nonblocking(true)?;
        Ok(socket)
    });
    match connected {
        Ok(socket) => Some(Arc::new(Watchdog::new(timeout, move || {
            if let Err(error) = socket.send(b"WATCHDOG=1") {
                warn!("failed to feed the watchdog of systemd: {error}");
            }
        }))),
        Err(error) => {
            warn!("failed to reach the watchdog of systemd: {error}");
            None
        }
    }
}
