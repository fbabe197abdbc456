//! The signals to stop as something that can be waited for.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::{flag, low_level::pipe};

use crate::dial::CancelToken;

/// Whether a signal to stop has come.
pub(super) struct Stop {
    /// Readable once stopped.
    wake: Arc<UnixStream>,
    stopped: Arc<AtomicBool>,
}

impl Stop {
    /// From here on the first SIGINT (Ctrl-C) or SIGTERM stops in good order, and the second one ends the process at
    /// once, as the signal itself would. It fails if the system has no descriptor left.
    pub(super) fn on_signal() -> io::Result<Stop> {
        let (wake, waker) = UnixStream::pair()?;
        let stopped = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal finds the flag as it was before it.
            flag::register_conditional_default(signal, Arc::clone(&stopped))?;
            flag::register(signal, Arc::clone(&stopped))?;
            pipe::register(signal, waker.try_clone()?)?;
        }
        Ok(Stop { wake: Arc::new(wake), stopped })
    }

    /// Has news once a signal has come, or once nobody reads our standard output any more.
    pub(super) fn or_output_closed(&self) -> CancelToken {
        CancelToken::default().until_readable(Arc::clone(&self.wake) as _).until_abandoned(Arc::new(io::stdout()))
    }

    /// Whether a signal has come.
    pub(super) fn is_set(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}
