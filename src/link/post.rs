//! A link to an HTTP server: one thread posts what waits for it, in order, and again until the server has taken it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use log::{error, info, warn};

use super::batch::{self, Numbered};
use super::{Own, SLICE, warn_if_unverified};
use crate::config::{BatchSettings, HttpLinkSettings};
use crate::dial::backoff::random_wait;
use crate::dial::{CancelToken, DialError, Dialer, Hints, HttpPoster, Posted, ServerRefusal, WaitEnd};
use crate::display::{Seconds, count};
use crate::http::retry_after::retry_after;
use crate::id::Id;
use crate::shared::Shared;
use crate::shared::link::LastFailure;
use crate::shared::send_queue::Next;

/// However long a server asks to be left alone, it is asked again after this.
const RETRY_MAX: Duration = Duration::from_secs(60 * 60);

/// How long a stop waits between two attempts, so that what can still be sent is.
const HASTE: Duration = Duration::from_millis(250);

/// Posts until the gateway stops, or until the link is removed or given up.
pub fn run(shared: &Shared, own: Own) {
    let mut posting = match Posting::new(shared, own.clone()) {
        Ok(posting) => posting,
        Err(why) => {
            error!(link = own.outlet.link_name(); "{}: failed to make an id: {why}", own.outlet);
            own.outlet.abandon(0);
            own.link.upstream.end();
            return;
        }
    };
    posting.come_up();
    posting.work(shared);
    let in_hand = posting.pending.len() + posting.batch.len();
    posting.own.link.counters.set_posting(false);
    posting.own.outlet.abandon(in_hand);
    posting.own.link.upstream.end();
}

/// The state of the thread.
struct Posting {
    own: Own,
    poster: HttpPoster,
    /// Through which it posts; a kept connection is one of this.
    dialer: Option<Arc<Dialer>>,
    /// What ends a wait, for room or for the server.
    cancel: CancelToken,
    /// What the keys of its requests begin with: of this thread alone.
    key: String,
    /// The number of the next message.
    next: u64,
    /// What was taken out of the queue.
    pending: VecDeque<Numbered>,
    /// How many of these are posted by themselves: they are of a batch that was refused.
    alone: usize,
    /// What is being posted.
    batch: Vec<Numbered>,
    /// Attempts in a row that have failed.
    failures: u32,
}

/// What was found in the queue.
enum Collected {
    /// The batch has something.
    Batch,
    /// Nothing for now.
    Nothing,
    /// Nothing any more.
    End,
}

/// What becomes of a batch that was not taken.
enum Then {
    /// Again, after this time if the server has named one.
    Again(String, Option<Duration>),
    /// Never: it is refused for itself.
    SetAside(String),
    /// At once, or never: the wait for the server was ended.
    Cancelled,
}

impl Posting {
    fn new(shared: &Shared, own: Own) -> Result<Posting, String> {
        let key = Id::random(shared.mark).map_err(|error| error.to_string())?.to_string();
        let cancel = own.link.until_redial(CancelToken::default());
        Ok(Posting {
            own,
            poster: HttpPoster::default(),
            dialer: None,
            cancel,
            key,
            next: 1,
            pending: VecDeque::new(),
            alone: 0,
            batch: Vec::new(),
            failures: 0,
        })
    }

    fn work(&mut self, shared: &Shared) {
        while !self.is_over() {
            self.own.take_up(shared);
            match self.collect() {
                Collected::End => return,
                Collected::Nothing => {}
                Collected::Batch => {
                    if !self.deliver(shared) {
                        return;
                    }
                }
            }
        }
    }

    /// Whether nothing more is to be posted.
    fn is_over(&self) -> bool {
        self.own.link.is_over() || self.own.link.is_out_of_time()
    }

    fn settings(&self) -> HttpLinkSettings {
        self.own.link.settings.http.unwrap_or_default()
    }

    /// Takes out of the queue what is posted next.
    fn collect(&mut self) -> Collected {
        let one = BatchSettings { messages: 1, wait: Duration::ZERO, ..BatchSettings::default() };
        let limits = self.settings().batch.filter(|_| self.alone == 0).unwrap_or(one);
        let (mut bytes, mut began) = (0, None::<Instant>);
        loop {
            while let Some(numbered) = self.pending.front() {
                let more = numbered.message.data.len();
                let is_full = self.batch.len() >= limits.messages || bytes + more > limits.bytes;
                if is_full && !self.batch.is_empty() {
                    return self.collected();
                }
                bytes += more;
                self.batch.extend(self.pending.pop_front());
                began.get_or_insert_with(Instant::now);
            }
            if self.batch.len() >= limits.messages {
                return self.collected();
            }
            match self.own.outlet.take(began.map(|began| began + limits.wait)) {
                Next::Frame(frame) => {
                    for message in batch::messages(&frame) {
                        self.pending.push_back(Numbered { number: self.next, message });
                        self.next += 1;
                    }
                }
                Next::Up => {}
                Next::Nothing if self.batch.is_empty() => return Collected::Nothing,
                Next::End if self.batch.is_empty() => return Collected::End,
                Next::Nothing | Next::End => return self.collected(),
            }
        }
    }

    fn collected(&mut self) -> Collected {
        self.alone = self.alone.saturating_sub(1);
        Collected::Batch
    }

    /// Posts what was collected until the server has taken it, or has refused it for itself. `false` if the link ends.
    fn deliver(&mut self, shared: &Shared) -> bool {
        loop {
            match self.post() {
                Ok(bytes) => {
                    self.own.link.counters.count_posted(self.batch.len() as u64, bytes as u64);
                    self.batch.clear();
                    self.come_up();
                    return true;
                }
                Err(Then::SetAside(why)) => {
                    self.set_aside(&why);
                    self.come_up();
                    return true;
                }
                Err(Then::Cancelled) if self.is_over() => return false,
                Err(Then::Cancelled) => self.hurry(),
                Err(Then::Again(why, after)) => {
                    if !self.wait(shared, &why, after) {
                        return false;
                    }
                }
            }
            if self.batch.is_empty() {
                // It was given up, and begins again.
                return true;
            }
            self.own.take_up(shared);
        }
    }

    /// Posts it once; says how many bytes that were.
    fn post(&mut self) -> Result<usize, Then> {
        let Some(dialer) = self.own.link.dialer.clone() else {
            return Err(Then::Again("it has no server".to_owned(), None));
        };
        if self.dialer.as_ref().is_none_or(|known| !Arc::ptr_eq(known, &dialer)) {
            self.poster.disconnect();
            warn_if_unverified(&self.own, &dialer);
            self.dialer = Some(Arc::clone(&dialer));
        }
        let HttpLinkSettings { answer_timeout, batch } = self.settings();
        let (first, last) = (&self.batch[0], &self.batch[self.batch.len() - 1]);
        let ((content_type, body), key) = match batch {
            Some(BatchSettings { format, .. }) => {
                let numbers = if first.number == last.number { String::new() } else { format!("-{}", last.number) };
                (batch::together(&self.batch, format), format!("{}-{}{numbers}", self.key, first.number))
            }
            None => (batch::alone(&first.message), format!("{}-{}", self.key, first.number)),
        };
        let posted = Posted { content_type, key: &key, body: &body };
        let (time, since) =
            (self.own.link.time_left().map_or(answer_timeout, |left| left.min(answer_timeout)), Instant::now());
        match dialer.post(&mut self.poster, &posted, time, &self.cancel) {
            Ok(is_new) => {
                let counters = &self.own.link.counters;
                is_new.then(|| counters.opened());
                counters.round_trips.observe(since.elapsed());
                Ok(body.len())
            }
            Err(error) => {
                let then = judge(&error);
                if matches!(then, Then::Again(..)) {
                    self.own.link.counters.failed();
                }
                Err(then)
            }
        }
    }

    /// What was refused for itself blocks nothing else: of a batch, each message is posted by itself, and one that is
    /// refused by itself is dropped and counted.
    fn set_aside(&mut self, why: &str) {
        let Own { outlet, link, .. } = &self.own;
        let messages = count(self.batch.len(), "message");
        if self.batch.len() > 1 {
            warn!(link = outlet.link_name(); "{outlet}: {why}: the batch of {messages} is sent one by one");
            self.alone = self.batch.len();
            self.batch.drain(..).rev().for_each(|numbered| self.pending.push_front(numbered));
            return;
        }
        let number = self.batch[0].number;
        warn!(link = outlet.link_name(); "{outlet}: {why}: message {number} is set aside, and not sent again");
        link.counters.count_refused(self.batch.len() as u64);
        self.batch.clear();
    }

    /// The server takes messages.
    fn come_up(&mut self) {
        let Own { outlet, link, .. } = &self.own;
        if self.failures > 0 {
            let failures = count(self.failures, "failure");
            info!(link = outlet.link_name(); "{outlet}: '{}' answers again, after {failures}", link.settings.shown);
            self.failures = 0;
        }
        if !link.is_up() {
            link.counters.set_posting(true);
            outlet.set_up();
        }
    }

    /// Says why the server does not take messages, and waits until it is to be asked again; `false` if the link ends.
    fn wait(&mut self, shared: &Shared, why: &str, after: Option<Duration>) -> bool {
        let Own { outlet, link, .. } = &self.own;
        let backoff = link.settings.backoff;
        link.counters.set_posting(false);
        outlet.set_down();
        self.poster.disconnect();
        self.failures += 1;
        let is_given_up = backoff.attempts.is_some_and(|most| self.failures >= most);
        link.failed(LastFailure { why: why.to_owned(), at: SystemTime::now(), is_given_up });
        if is_given_up {
            let attempts = count(self.failures, "attempt");
            error!(link = outlet.link_name(); "{outlet}: {why}; given up after {attempts}, as `attempts` says");
            return self.give_up(shared);
        }
        let after = after.map(|after| after.min(RETRY_MAX));
        let wait = after.unwrap_or_else(|| random_wait(backoff.first, backoff.most, self.failures - 1));
        warn!(link = outlet.link_name(); "{outlet}: {why}; posting again in {}", Seconds(wait));
        self.sleep(shared, Some(wait))
    }

    /// Posts no more, unless somebody asks for it or a reload has another server: what waits is dropped and counted, and
    /// so is what comes. `false` if the link ends.
    fn give_up(&mut self, shared: &Shared) -> bool {
        let in_hand = self.pending.len() + self.batch.len();
        self.pending.clear();
        self.batch.clear();
        self.alone = 0;
        self.own.link.give_up(&self.own.outlet, in_hand);
        let begins_again = self.sleep(shared, None);
        if begins_again {
            self.own.link.begin_again(&self.own.outlet);
            self.failures = 0;
            self.come_up();
        }
        begins_again
    }

    /// Waits for so long, or until the server is to be asked for another reason; `false` if the link ends.
    fn sleep(&mut self, shared: &Shared, wait: Option<Duration>) -> bool {
        let (began, dialled) = (Instant::now(), Arc::clone(&self.own.link));
        loop {
            let wait = wait.map(|wait| if shared.is_stopping() { wait.min(HASTE) } else { wait });
            let left = wait.map_or(SLICE, |wait| wait.saturating_sub(began.elapsed()));
            if self.is_over() {
                return false;
            }
            if left.is_zero() || !self.own.link.is_dialled_like(&dialled) {
                return true;
            }
            if self.cancel.sleep(left.min(SLICE)) == WaitEnd::Cancelled && !self.is_over() {
                self.hurry();
                return true;
            }
            self.own.take_up(shared);
        }
    }

    /// The server is to be asked at once.
    fn hurry(&mut self) {
        self.own.link.redials();
        self.poster.disconnect();
        let outlet = &self.own.outlet;
        info!(link = outlet.link_name(); "{outlet}: posting at once, as was asked for");
    }
}

/// What an error says about what was posted.
fn judge(error: &DialError) -> Then {
    let why = error.with(&Hints::CONFIGURATION).to_string();
    match error {
        DialError::Cancelled => Then::Cancelled,
        DialError::Refused { refusal, .. } => match refusal.status {
            408 | 429 | 500.. => Then::Again(why, wanted_wait(refusal)),
            300..400 => Then::Again(format!("{why}; redirects are not followed, so correct the URL"), None),
            400..500 => Then::SetAside(why),
            _ => Then::Again(why, None),
        },
        _ => Then::Again(why, None),
    }
}

/// How long the server wants to be left alone, if it says so.
fn wanted_wait(refusal: &ServerRefusal) -> Option<Duration> {
    let value = refusal.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("Retry-After"));
    value.and_then(|(_, value)| retry_after(std::str::from_utf8(value).ok()?, SystemTime::now()))
}
