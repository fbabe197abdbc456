//! Ctrl-C as something that can be waited for.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::dial::CancelToken;
use crate::sync::Mutex;

/// Whether Ctrl-C was pressed.
pub(super) struct Stop {
    /// Readable once stopped.
    wake: Arc<UnixStream>,
    stopped: Arc<AtomicBool>,
}

impl Stop {
    /// From here on the first Ctrl-C stops in good order, and the second one ends the process at once.
    /// It fails if the system has no descriptor or thread left, or if it was called before.
    pub(super) fn on_interrupt() -> io::Result<Stop> {
        let (wake, waker) = UnixStream::pair()?;
        let stopped = Arc::new(AtomicBool::new(false));
        let (flag, waker) = (Arc::clone(&stopped), Mutex::new(Some(waker)));
        ctrlc::set_handler(move || {
            flag.store(true, Ordering::Relaxed);
            // Dropping the other end is the signal.
            if waker.lock().take().is_none() {
                std::process::exit(0);
            }
        })
        .map_err(io::Error::other)?;
        Ok(Stop { wake: Arc::new(wake), stopped })
    }

    /// Has news once Ctrl-C is pressed, or once nobody reads our standard output any more.
    pub(super) fn or_output_closed(&self) -> CancelToken {
        CancelToken::default().until_readable(Arc::clone(&self.wake) as _).until_abandoned(Arc::new(io::stdout()))
    }

    /// Whether Ctrl-C was pressed.
    pub(super) fn is_set(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}
