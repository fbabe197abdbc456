//! The keys of an issuer that are loaded from its URL: the last good ones, and when they are asked for again. The thread
//! in `src/jwks.rs` asks; clients only find what it has found, or wait for the answer that is under way.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::auth::jwk::{Algorithm, KeySet};
use crate::config::JwksSettings;
use crate::dial::{CancelToken, DialError, Hints, HttpClient, HttpRequest};
use crate::reload::Reloadable;
use crate::sync::{Mutex, Signal};

/// The longest set of keys, in bytes.
pub(super) const BODY_MAX: usize = 256 << 10;

/// How often tokens with a key that nobody knows have the URL asked again: once in this time.
const UNKNOWN_EVERY: Duration = Duration::from_secs(60);

/// How many clients wait for an answer that is under way. The others are told to come again: such tokens can be made up,
/// and a place among the handshakes is for everybody.
const WAITING_MAX: usize = 16;

/// How long after a failure the URL is asked again: twice as long after each further one, up to the most.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MOST: Duration = Duration::from_secs(60);

/// See the module's documentation.
#[derive(Debug)]
pub struct IssuerKeys {
    client: HttpClient,
    settings: JwksSettings,
    algorithm: Option<Algorithm>,
    state: Mutex<State>,
    /// Whatever of the state others wait for has changed.
    changed: Signal,
}

#[derive(Debug)]
struct State {
    /// The last good keys, and when they came.
    good: Option<(Arc<KeySet>, Instant)>,
    /// How many times in a row there was no answer.
    failures: u32,
    /// Whether it was told that the last good keys have served long enough.
    is_stale: bool,
    /// Whether the URL is asked now.
    is_asking: bool,
    /// When it is asked next.
    due: Instant,
    /// When it was asked last because of a token.
    asked_for_token: Option<Instant>,
    /// How many answers there were, good or not.
    answers: u64,
    waiting: usize,
    is_over: bool,
}

/// What an answer, or that there was none, has changed. Shown, it is for the log.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing that anybody would want to know.
    None,
    /// There are keys, for the first time or again.
    Loaded(usize),
    /// There are other keys than before.
    Renewed(usize),
    /// There was no answer, and the last good keys serve for this long.
    Failing(String, Duration),
    /// There was no answer, and there are no keys.
    Without(String),
}

/// Why there are no keys for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoKeys {
    /// They were not loaded, or not for too long.
    Missing,
    /// An answer is under way for which enough others wait.
    Crowded,
}

impl IssuerKeys {
    pub(super) fn new(client: HttpClient, settings: JwksSettings, algorithm: Option<Algorithm>) -> IssuerKeys {
        let state = State {
            good: None,
            failures: 0,
            is_stale: false,
            is_asking: false,
            due: Instant::now(),
            asked_for_token: None,
            answers: 0,
            waiting: 0,
            is_over: false,
        };
        IssuerKeys { client, settings, algorithm, state: Mutex::new(state), changed: Signal::default() }
    }

    /// The URL for people.
    pub fn shown(&self) -> &str {
        &self.settings.server.shown
    }

    /// The TLS files of its dialler, to be read again. `owner` is whose they are.
    pub(super) fn reloadable(&self, owner: &str) -> Option<Arc<dyn Reloadable>> {
        self.client.reloadable(owner.to_owned())
    }

    /// The keys, if there are some; for the first ones it waits until the deadline at most.
    pub(super) fn current(&self, deadline: Instant) -> Result<Arc<KeySet>, NoKeys> {
        let fresh = |state: &State| {
            let good = state.good.as_ref().filter(|(_, at)| at.elapsed() < self.settings.stale_for);
            good.map(|(keys, _)| Arc::clone(keys))
        };
        let found = fresh(&self.state.lock());
        match found {
            Some(keys) => Ok(keys),
            None => {
                self.wait_for_answer(deadline)?;
                fresh(&self.state.lock()).ok_or(NoKeys::Missing)
            }
        }
    }

    /// Keys that are newer than these, in which a token has not found its own; `None` if there are none. Once in a while it
    /// has the URL asked for them; it waits for an answer that is under way, until the deadline at most.
    pub(super) fn newer(&self, than: &Arc<KeySet>, deadline: Instant) -> Result<Option<Arc<KeySet>>, NoKeys> {
        let now = Instant::now();
        let others = |state: &State| {
            let keys = state.good.as_ref().map(|(keys, _)| keys);
            keys.filter(|keys| !Arc::ptr_eq(keys, than)).map(Arc::clone)
        };
        {
            let mut state = self.state.lock();
            if let Some(keys) = others(&state) {
                return Ok(Some(keys));
            }
            let may_ask = state.asked_for_token.is_none_or(|at| now.duration_since(at) >= UNKNOWN_EVERY);
            if may_ask && !state.is_asking {
                state.asked_for_token = Some(now);
                state.due = now;
                self.changed.notify_all();
            }
        }
        self.wait_for_answer(deadline)?;
        Ok(others(&self.state.lock()))
    }

    /// Waits for the answer that is under way, or due.
    fn wait_for_answer(&self, deadline: Instant) -> Result<(), NoKeys> {
        let mut state = self.state.lock();
        let answers = state.answers;
        let is_coming = |state: &State| !state.is_over && state.answers == answers;
        if !is_coming(&state) || !(state.is_asking || state.due <= Instant::now()) {
            return Ok(());
        }
        if state.waiting >= WAITING_MAX {
            return Err(NoKeys::Crowded);
        }
        state.waiting += 1;
        while is_coming(&state) {
            match self.changed.wait_until(state, Some(deadline)) {
                Some(woken) => state = woken,
                None => {
                    state = self.state.lock();
                    break;
                }
            }
        }
        state.waiting -= 1;
        Ok(())
    }

    /// Whether the key with this digest is among the last good ones, however long ago these came, or none have come yet: who
    /// is here stays while the issuer does not answer.
    pub(super) fn holds(&self, digest: &[u8; 32]) -> bool {
        self.state.lock().good.as_ref().is_none_or(|(keys, _)| keys.holds(digest))
    }

    /// Has the URL asked again now.
    pub(super) fn ask_again(&self) {
        self.state.lock().due = Instant::now();
        self.changed.notify_all();
    }

    /// Waits until the URL is to be asked; false at the end.
    pub fn wait_until_due(&self) -> bool {
        let mut state = self.state.lock();
        while !state.is_over && Instant::now() < state.due {
            let due = state.due;
            state = self.changed.wait_until(state, Some(due)).unwrap_or_else(|| self.state.lock());
        }
        state.is_asking = true;
        !state.is_over
    }

    /// Asks the URL; the error is for the log.
    pub fn ask(&self, cancel: &CancelToken) -> Result<KeySet, String> {
        let shown = self.shown();
        // A defect that its bytes bring out is not the end of everybody.
        let asked = catch_unwind(AssertUnwindSafe(|| {
            let body = self
                .client
                .ask(HttpRequest::Get, Duration::MAX, cancel)
                .map_err(|error: DialError| error.with(&Hints::AUTH).to_string())?;
            let unusable = |problem: &str| format!("failed to use the keys of '{shown}': {problem}");
            let text = std::str::from_utf8(&body).map_err(|_| unusable("they are no UTF-8 text"))?;
            KeySet::of_server(text, self.algorithm).map_err(|error| unusable(&error.problem))
        }));
        asked.unwrap_or_else(|_| Err(format!("failed to read the keys of '{shown}'; this is a defect of wsgate")))
    }

    /// Takes in what came of asking.
    pub fn answered(&self, answer: Result<KeySet, String>) -> Change {
        let now = Instant::now();
        let mut state = self.state.lock();
        state.is_asking = false;
        state.answers = state.answers.wrapping_add(1);
        let change = match answer {
            Ok(keys) => state.take_in(Arc::new(keys), now),
            Err(why) => state.fail(why, self.settings.stale_for, now),
        };
        if state.failures == 0 {
            state.due = now + self.settings.refresh_interval;
        }
        drop(state);
        self.changed.notify_all();
        change
    }

    /// Nothing is asked any more, and nobody waits.
    pub fn end(&self) {
        self.state.lock().is_over = true;
        self.changed.notify_all();
    }
}

impl State {
    fn take_in(&mut self, keys: Arc<KeySet>, now: Instant) -> Change {
        let count = keys.count();
        let has_failed = std::mem::take(&mut self.failures) > 0;
        self.is_stale = false;
        match &mut self.good {
            Some((known, at)) if known.is_same_as(&keys) => {
                *at = now;
                if has_failed { Change::Loaded(count) } else { Change::None }
            }
            good => {
                let is_first = good.replace((keys, now)).is_none();
                if is_first || has_failed { Change::Loaded(count) } else { Change::Renewed(count) }
            }
        }
    }

    fn fail(&mut self, why: String, stale_for: Duration, now: Instant) -> Change {
        let retry = RETRY_FIRST.saturating_mul(1 << self.failures.min(10)).min(RETRY_MOST);
        self.due = now + retry;
        let left = self.good.as_ref().map(|(_, at)| stale_for.saturating_sub(now.duration_since(*at)));
        let is_first = self.failures == 0;
        self.failures = self.failures.saturating_add(1);
        match left {
            Some(left) if !left.is_zero() => {
                // So that the log says in time that they have served long enough.
                self.due = self.due.min(now + left);
                if is_first { Change::Failing(why, left) } else { Change::None }
            }
            Some(_) if !std::mem::replace(&mut self.is_stale, true) => Change::Without(why),
            None if is_first => Change::Without(why),
            _ => Change::None,
        }
    }
}
