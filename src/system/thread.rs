//! How threads start: named, with the stack they need, and never ending in silence.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use log::error;

use super::address_space::{self, Claim};
use crate::sync::Mutex;

/// The exit code when a thread of which there is one has panicked (EX_SOFTWARE of sysexits).
const EXIT_SOFTWARE: i32 = 70;

/// The stack of a thread that says nothing else, as the standard library has it.
const STACK: usize = 2 << 20;

/// Starts a thread of which there is one. If it panics the process ends with code 70: a gateway
/// without its broadcaster is worse than none, and systemd starts a new one.
pub fn spawn_vital(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    let owned = name.to_owned();
    Builder::new().name(name.to_owned()).spawn(move || {
        if catch_unwind(AssertUnwindSafe(body)).is_err() {
            error!("thread '{owned}' panicked; the gateway ends; this is a defect of wsgate");
            log::logger().flush();
            std::process::exit(EXIT_SOFTWARE);
        }
    })
}

/// Starts a client's thread, which does `body` with `work`. The work is in a box: moved from call to call, it would lie
/// on the client's stack several times.
///
/// # Errors
/// A normal event: the system has no more threads to give. The work comes back.
pub fn spawn_client<T: Send + 'static>(
    name: String,
    stack: usize,
    work: Box<T>,
    body: impl FnOnce(Box<T>) + Send + 'static,
) -> Result<(), (io::Error, Box<T>)> {
    // A closure whose thread does not start is lost with all that it owns, so the work is handed over beside it.
    let handover = Arc::new(Mutex::new(Some(work)));
    let handed = Arc::clone(&handover);
    let started = spawn_joined(name, stack, move || {
        let work = take(&handed);
        drop(handed);
        body(work);
    });
    started.map(drop).map_err(|error| (error, take(&handover)))
}

fn take<T>(handover: &Mutex<Option<T>>) -> T {
    handover.lock().take().expect("either the thread has started or it has not")
}

/// Starts a thread of one of many peers that somebody waits for. An error is as normal as for a client's: also where the
/// stack could be had, but would leave too little to all others.
pub fn spawn_joined(name: String, stack: usize, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    let claim = address_space::claim(stack)?;
    Builder::new().name(name).stack_size(stack).spawn(move || {
        claim.into_iter().for_each(Claim::begun);
        body();
    })
}

/// Starts a thread that does small things for others. If it panics, whoever waits for it finds out by his deadline.
pub fn spawn_helper(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    spawn_joined(name.to_owned(), STACK, body).map(drop)
}
