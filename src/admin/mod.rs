//! The admin listener: where operators and their programs look at wsgate and change it while it runs.
//!
//! One thread accepts; each connection has a thread for as long as it lasts. Nothing here holds a thread of a client, a
//! link or the broadcaster: what is asked of them is asked as a client's thread would, with a bound on how long it waits.

mod access;
mod asked;
mod caller;
mod clients;
mod document;
mod drain;
mod errands;
mod feed;
mod guard;
mod health;
mod history;
mod info;
mod levels;
mod links;
mod messages;
mod metrics;
mod page;
mod reload;
mod routes;
mod sampler;
mod settings;
mod state;
mod watch;
mod watchers;

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::Sender;
use log::{info, warn};

use crate::accept::{Refusals, Trouble, is_exhaustion};
use crate::admin::caller::Caller;
use crate::admin::state::{Admin, WAITING_MAX};
use crate::config::Settings;
use crate::listener::{ListenError, Listener};
use crate::shared::Shared;
use crate::system::thread::{spawn_client, spawn_vital};

pub use errands::Errands;

/// The stack of a caller's thread, in bytes of address space.
const STACK: usize = 512 << 10;

/// The admin listener and its thread.
#[derive(Debug)]
pub struct AdminThread {
    admin: Arc<Admin>,
    listener: Arc<Listener>,
    thread: JoinHandle<()>,
    sampler: JoinHandle<()>,
    /// Disconnected, it ends the sampler.
    sampler_stop: Sender<()>,
}

/// Binds the admin listener, if there is to be one. The default one is no reason not to start.
///
/// # Errors
/// One that the configuration asks for cannot be had.
pub fn bind(settings: &Settings) -> Result<Option<Listener>, ListenError> {
    let Some(listener) = &settings.admin.listener else { return Ok(None) };
    match Listener::bind(listener) {
        Err(error) if !settings.admin.is_wanted => {
            let advice = "write another address under [admin], or \"off\"";
            warn!("admin: {error}; wsgate runs without its admin listener: {advice}");
            Ok(None)
        }
        bound => bound.map(Some),
    }
}

impl AdminThread {
    /// Answers from now on. What it cannot do itself is asked for by `errands`.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub fn start(shared: &Arc<Shared>, listener: Listener, errands: Errands) -> io::Result<AdminThread> {
        let (bound, listener) = (listener.bound.bound_address(), Arc::new(listener));
        let admin = Admin::new(Arc::clone(shared), errands);
        let (of_thread, accepting) = (Arc::clone(&admin), Arc::clone(&listener));
        let thread = spawn_vital(&format!("admin {bound}"), move || run(&of_thread, &accepting))?;
        let (sampler_stop, stopped) = crossbeam_channel::bounded(0);
        let sampled = Arc::clone(&admin);
        let sampler = spawn_vital("sampler", move || sampler::run(&sampled, &stopped))?;
        let secured = if listener.tls.is_some() { " (TLS)" } else { "" };
        let open = if shared.generation().admin.auth.is_empty() { ", without authentication" } else { "" };
        info!("admin: answering on {bound}{secured}{open}");
        Ok(AdminThread { admin, listener, thread, sampler, sampler_stop })
    }

    /// The listener.
    pub fn listener(&self) -> &Listener {
        &self.listener
    }

    /// Ends it; answers that are on their way have a second.
    pub fn stop(self) {
        self.admin.begin_end();
        self.listener.bound.close();
        // One that panicked has ended the process.
        let _ = self.thread.join();
        self.admin.end();
        drop(self.sampler_stop);
        let _ = self.sampler.join();
    }
}

/// Accepts callers until the end.
fn run(admin: &Arc<Admin>, listener: &Arc<Listener>) {
    let (mut trouble, mut refusals, mut given_way) = (Trouble::default(), Refusals::default(), Refusals::default());
    let name = &listener.settings.name;
    for number in 1_u64.. {
        let accepted = listener.bound.socket.accept();
        if admin.has_ended() {
            return;
        }
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_exhaustion(&error) => {
                trouble.pause(name, &error);
                continue;
            }
            // The connection ended before it was accepted, or a signal came.
            Err(_) => continue,
        };
        trouble.is_over(name);
        let (caller, displaced) = Caller::new(admin, listener, socket, &peer);
        if let Some(source) = displaced {
            given_way.log(name, &format!("{WAITING_MAX} connections wait, and most of them come from {source}"));
        }
        let Some(place) = admin.place() else {
            refusals.log(name, "there are too many connections");
            continue;
        };
        let of_thread = Arc::clone(admin);
        let work = Box::new((caller, place));
        let started = spawn_client(format!("caller {number}"), STACK, work, move |work| {
            let (caller, place) = *work;
            let watching = caller.run(&of_thread);
            // Those who watch have places of their own.
            drop(place);
            watching.into_iter().for_each(|watching| watch::run(&of_thread, watching));
        });
        if let Err((error, _)) = started {
            refusals.log(name, &format!("failed to start a thread: {error}"));
        }
    }
}
