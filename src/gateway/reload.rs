//! A reload: the configuration and the files that it names are read again, all of it is checked and prepared, and only then
//! is anything put in force, at once.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use log::{info, warn};

use crate::config::{self, ConfigError, Settings};
use crate::gateway::error::{StartError, system};
use crate::gateway::prepare::{Prepared, prepare};
use crate::gateway::threads::{AdminThreads, Listening, Serves};
use crate::gateway::{Gateway, changes, fit_into_the_system};
use crate::log_kind::{ADMIN, CONFIG, LISTENERS};
use crate::logging;
use crate::reload::{Fresh, Reloadable};
use crate::shared::generation::Generation;
use crate::shared::link::GOODBYE;

/// Removed links that may still send what waits for them. With more, a reload is refused until some have ended.
const LEAVING_LINKS_MAX: usize = 64;

/// What a reload has done.
#[derive(Debug, Default)]
pub struct Applied {
    /// What has changed: `endpoint '/a' changed`, `link "plc" added`.
    pub changes: Vec<String>,
    /// The options that have changed and take a restart: `[gateway] deliverers`.
    pub restart: Vec<&'static str>,
    /// The files that were read again, each with whose it is.
    pub read: Vec<String>,
    /// How many clients were closed because their access was withdrawn.
    pub withdrawn: usize,
}

/// Why nothing was reloaded. Everything is as it was.
#[derive(Debug)]
pub enum ReloadError {
    /// The configuration cannot be read, or is wrong.
    Config(ConfigError),
    /// Something that it names cannot be read, bound or set up: all of that, each for the log.
    Unprepared(Vec<String>),
}

impl Gateway {
    /// Reads the configuration and the files that it names again, and puts all of it in force, or nothing. Without a
    /// configuration there is nothing to read.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn reload(&mut self, file: Option<&Path>) -> Result<Applied, ReloadError> {
        let reloaded = file.map_or_else(|| Ok(Applied::default()), |file| self.reload_from(file));
        self.shared.counters.reloads.count(reloaded.is_ok());
        reloaded
    }

    fn reload_from(&mut self, file: &Path) -> Result<Applied, ReloadError> {
        let mut settings = config::load_again(file).map_err(ReloadError::Config)?;
        self.reap();
        let before = self.shared.generation();
        let restart = changes::keep_what_takes_a_restart(&mut settings, &before);
        let (prepared, fresh) = self.prepare(settings, &before).map_err(ReloadError::Unprepared)?;
        let Prepared { mut settings, numbers, parts } = prepared;
        fit_into_the_system(&mut settings);
        let warnings = std::mem::take(&mut settings.warnings);
        let next = Arc::new(before.next(settings, &numbers, parts));
        let threads = self.start_new(&next).map_err(system("start a thread"));
        let threads = threads.map_err(|error| ReloadError::Unprepared(vec![error.to_string()]))?;
        warnings.iter().for_each(|warning| warn!(target: CONFIG, "{warning}"));
        let read = fresh.into_iter().map(put_in_force).filter(|what| !what.is_empty()).collect();
        let changes = changes::between(&before, &next);
        logging::configure(&next.gateway.log);
        let withdrawn = self.shared.replace_generation(Arc::clone(&next));
        self.begin(threads, &next);
        self.end_what_is_gone(&before, &next);
        Ok(Applied { changes, restart, read, withdrawn })
    }

    /// Reads, binds and sets up what the settings need, and reads again what they leave as it is.
    fn prepare(&self, settings: Settings, before: &Generation) -> Result<(Prepared, Vec<Fresh>), Vec<String>> {
        let leaving = self.links.iter().filter(|threads| threads.own.link.is_removed()).count();
        if leaving >= LEAVING_LINKS_MAX {
            return Err(vec![format!(
                "{leaving} links that were removed still send what waits for them: reload again when they have ended, at \
                 most {:?} from now",
                before.gateway.drain_timeout
            )]);
        }
        let prepared = prepare(settings, before, &self.resolver, Vec::new());
        let prepared = prepared.map_err(|errors| errors.iter().map(StartError::to_string).collect::<Vec<_>>())?;
        let (mut fresh, mut wrong) = (Vec::new(), Vec::new());
        for reloadable in kept(&prepared, before) {
            match reloadable.read_again() {
                Ok(one) => fresh.push(one),
                Err(problem) => wrong.push(problem),
            }
        }
        if wrong.is_empty() { Ok((prepared, fresh)) } else { Err(wrong) }
    }

    /// Ends what the next generation has no more.
    fn end_what_is_gone(&mut self, before: &Generation, next: &Generation) {
        let until = Instant::now() + next.gateway.drain_timeout;
        for (id, old) in before.links.iter() {
            match next.links.get(id) {
                None => old.remove(&before.outlets[old.outlet], until),
                Some(new) if new.is_dialled_like(old) => {}
                // It is dialled anew, with what waits for it.
                Some(new) => new.upstream.current().iter().for_each(|outbox| outbox.close(Some(1001), GOODBYE)),
            }
        }
        for threads in self.stores.iter().filter(|threads| next.stores.get(threads.store.id).is_none()) {
            threads.store.live.queue.end(until);
        }
        if next.admin_door.is_none() {
            self.admin.take().into_iter().for_each(AdminThreads::turn_off);
        }
        let is_gone = |listening: &mut Listening| match listening.serves {
            Serves::Clients => next.door_at(&listening.bound).is_none(),
            Serves::Operators => next.admin_door_at(&listening.bound).is_none(),
        };
        for Listening { bound, thread, serves } in self.listeners.extract_if(.., is_gone) {
            let address = bound.bound_address();
            match serves {
                Serves::Clients => info!(target: LISTENERS, "listener: no longer accepting on {address}"),
                Serves::Operators => info!(target: ADMIN, "admin: no longer answering on {address}"),
            }
            bound.close();
            // The socket itself, and the file of a Unix socket, go with the thread.
            self.closed.push(thread);
        }
        let is_gone = |keys| !next.auths.issuers().any(|(_, kept)| Arc::ptr_eq(kept, keys));
        self.issuers.iter().filter(|issuing| is_gone(&issuing.keys)).for_each(|issuing| issuing.keys.end());
    }

    /// Forgets the threads that have ended: those of what an earlier reload has removed.
    fn reap(&mut self) {
        self.issuers.retain(|issuing| !issuing.thread.is_finished());
        self.closed.retain(|thread| !thread.is_finished());
        self.stores.retain(|threads| !threads.thread.is_finished());
        self.links.retain(|threads| {
            let is_over = threads.own.link.is_removed()
                && threads.dialler.as_ref().is_none_or(JoinHandle::is_finished)
                && threads.sender.is_finished();
            if is_over {
                threads.own.link.counters.log(&threads.own.outlet);
            }
            !is_over
        });
    }
}

fn put_in_force(fresh: Fresh) -> String {
    (fresh.apply)();
    fresh.what
}

/// What is read again of all that stays as it is.
fn kept(prepared: &Prepared, before: &Generation) -> Vec<Arc<dyn Reloadable>> {
    let Prepared { settings, numbers, parts, .. } = prepared;
    let mut kept: Vec<Arc<dyn Reloadable>> = Vec::new();
    for (id, auth) in parts.auths.iter() {
        if before.auths.get(id).is_some_and(|old| Arc::ptr_eq(old, auth)) {
            kept.extend(auth.reloadable());
        }
    }
    for ((link, id), dialer) in settings.links.iter().zip(&numbers.links).zip(&parts.links) {
        let old = before.links.get(*id).and_then(|old| old.dialer.as_ref());
        let same = dialer.iter().filter(|dialer| old.is_some_and(|old| Arc::ptr_eq(old, dialer)));
        kept.extend(same.filter_map(|dialer| dialer.reloadable(format!("link {:?}", link.name))));
    }
    for ((endpoint, id), dialer) in settings.endpoints.iter().zip(&numbers.endpoints).zip(&parts.relays) {
        let old = before.endpoints.get(*id).and_then(|old| old.dialer.as_ref());
        let same = dialer.iter().filter(|dialer| old.is_some_and(|old| Arc::ptr_eq(old, dialer)));
        kept.extend(same.filter_map(|dialer| dialer.reloadable(format!("relay of {:?}", endpoint.path.to_string()))));
    }
    for tls in parts.doors.iter().chain(&parts.admin_door).filter_map(|door| door.tls.as_ref()) {
        let is_old = |old: &Arc<_>| Arc::ptr_eq(old, tls);
        if before.doors.iter().chain(&before.admin_door).filter_map(|door| door.tls.as_ref()).any(is_old) {
            kept.push(Arc::clone(tls) as _);
        }
    }
    kept
}

impl Applied {
    /// What was read, what has changed and what takes a restart, as far as there is something.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.read.is_empty() {
            lines.push(format!("read again {}", self.read.join("; ")));
        }
        if !self.changes.is_empty() {
            lines.push(self.changes.join(", "));
        }
        if !self.restart.is_empty() {
            lines.push(format!("these take a restart: {}", self.restart.join(", ")));
        }
        lines
    }
}

impl ReloadError {
    /// Everything that is wrong, each with its place.
    pub fn lines(&self) -> Vec<String> {
        match self {
            ReloadError::Config(ConfigError::Mistakes { file, mistakes, .. }) => mistakes
                .iter()
                .map(|mistake| format!("{file}:{}:{}: {}", mistake.line, mistake.column, mistake.text))
                .collect(),
            ReloadError::Config(error) => vec![error.to_string()],
            ReloadError::Unprepared(wrong) => wrong.clone(),
        }
    }
}

/// In one line, for the log.
impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.lines()[..] {
            [] => f.write_str("read again the configuration; nothing has changed"),
            lines => f.write_str(&lines.join("; ")),
        }
    }
}

/// In one line, for the log.
impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().join("; "))
    }
}

impl std::error::Error for ReloadError {}
