//! The outbox, and the way over one outbox after the other, under every interleaving: `tests/model` runs it.
//!
//! The files below `#[path]` are the gateway's own, not copies. Around them stand models of what they call: the
//! lock (`sync.rs`), the socket (`socket.rs`), the TLS session (`tls.rs`) and the system (`system_calls.rs`),
//! the last three on one model of the kernel (`kernel.rs`). What the threads do is a table in `models.rs`;
//! `scenario.rs` runs the scripts of a client, `redial.rs` those of a connection that is dialled, lost and replaced.

// Each of the gateway's files offers more than the models use.
#![allow(dead_code, unused_imports)]

// The gateway's watch says `rustix`, and here that is `event`, `buffer` and `io` below.
extern crate self as rustix;

#[path = "../../src/clock.rs"]
mod clock;
#[path = "../../src/config/settings/queue.rs"]
mod config;
mod connection;
mod dial;
#[path = "../../src/id.rs"]
mod id;
mod identity;
mod kernel;
#[path = "../../src/message.rs"]
mod message;
mod models;
mod peer;
mod redial;
mod rules;
mod scenario;
mod sync;
mod system;
mod system_calls;

pub(crate) use system_calls::{buffer, event, io};

use std::collections::VecDeque;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

/// Runs the models whose names contain the first argument; without one, all.
fn main() -> ExitCode {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    let begun = Instant::now();
    let models: VecDeque<_> = models::all().into_iter().filter(|model| model.name.contains(&wanted)).collect();
    let count = models.len();
    if count == 0 {
        eprintln!("no model is called '{wanted}'");
        return ExitCode::FAILURE;
    }
    let queue = Mutex::new(models);
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let work = || {
        while let Some(model) = next() {
            let begun = Instant::now();
            let name = model.name;
            match thread::spawn(move || model.explore()).join() {
                Ok(executions) => println!("{name}: {executions} executions, {:.1?}", begun.elapsed()),
                // The others have nothing to add to what it says.
                Err(_) => {
                    println!("{name}: FAILED after {:.1?}", begun.elapsed());
                    std::process::exit(1);
                }
            }
        }
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| (0..cores).for_each(|_| drop(scope.spawn(work))));
    println!("{count} models, {:.1?}", begun.elapsed());
    ExitCode::SUCCESS
}
