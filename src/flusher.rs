//! The flusher: goes on with stalled outboxes when their sockets take more.

use log::error;
use rustix::event::Timespec;

use crate::shared::Shared;
use crate::system::watchdog::Progress;

/// Runs until the gateway has stopped and the poller is woken.
pub fn run(shared: &Shared, ended: impl Fn() -> bool, progress: &Progress) {
    let pause = progress.pause().and_then(|pause| Timespec::try_from(pause).ok());
    while !ended() {
        progress.come_round(shared.clock.now());
        match shared.poller.wait(pause.as_ref()) {
            Ok(writable) => {
                progress.come_round(shared.clock.now());
                writable.iter().for_each(|outbox| outbox.resume());
            }
            Err(error) => {
                // epoll_wait fails only if its descriptor is not one: nobody would ever be flushed.
                error!("failed to wait for stalled sockets: {error}");
                panic!("the flusher cannot go on");
            }
        }
    }
}
