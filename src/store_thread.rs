//! A store's thread: takes what waits, stores it in one commit, and goes on. While that fails it tries again every second,
//! and what it has taken waits; senders are held or dropped by the policy of the queue.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use log::{error, info, warn};

use crate::display::count;
use crate::log_kind::STORES;
use crate::shared::Shared;
use crate::shared::receipt::Receipt;
use crate::shared::store::{LiveStore, Standing, Store};
use crate::shared::store_queue::{Next, Portion, Taken};
use crate::store::error::Trouble;
use crate::store::place::Place;
use crate::store::record::Batch;
use crate::store::schema::Unusable;
use crate::store::writer::Writer;

/// How much goes into one commit: so little that its senders do not wait long, so much that a commit costs each little.
const MESSAGES: usize = 8192;
const BYTES: usize = 4 << 20;

/// How long it waits after a failure before it tries again.
const RETRY: Duration = Duration::from_secs(1);

/// How often it looks at its files when nothing is to be stored.
const IDLE: Duration = Duration::from_secs(1);

/// For how long others may have locked the file before the log says so.
const PATIENCE: Duration = Duration::from_secs(1);

/// Stores until the store has ended and nothing waits.
pub fn run(shared: &Shared, store: Arc<Store>, number: u64) {
    let Some((place, writer)) = store.live.take_file() else { return };
    let mut keeper =
        Keeper { live: Arc::clone(&store.live), store, number, place, writer, since: None, is_over: false };
    keeper.open();
    loop {
        keeper.take_up(shared);
        match keeper.live.queue.take(&keeper.portion(), Instant::now() + IDLE) {
            Next::Taken(Taken { batches, receipts }) => {
                let stored = keeper.keep(&batches, &receipts);
                keeper.live.queue.settle(batches.len());
                if !stored {
                    let lost = batches.iter().map(Batch::messages).sum();
                    keeper.live.abandon(lost);
                }
            }
            Next::Nothing => keeper.rest(),
            Next::End => break,
        }
    }
    keeper.close();
}

/// A store with its file.
struct Keeper {
    store: Arc<Store>,
    live: Arc<LiveStore>,
    /// The number of the generation that has these settings.
    number: u64,
    place: Place,
    /// `None` while the file cannot be opened.
    writer: Option<Writer>,
    /// When it was first found locked.
    since: Option<Instant>,
    /// The write-ahead log is over its limit.
    is_over: bool,
}

impl Keeper {
    /// Takes up the settings that hold now.
    fn take_up(&mut self, shared: &Shared) {
        let Some(newer) = shared.newer_generation(self.number) else { return };
        self.number = newer.number;
        if let Some(store) = newer.stores.get(self.store.id) {
            self.store = Arc::clone(store);
            if let Some(writer) = &self.writer
                && let Err(error) = writer.set_durability(store.settings.durability)
            {
                error!(target: STORES, store = &*self.live.name; "{}: failed to change its durability: {error}", self.live);
            }
        }
    }

    fn portion(&self) -> Portion {
        Portion { messages: MESSAGES, bytes: BYTES, gather: self.store.settings.gather }
    }

    /// Stores these messages, however long that takes; `false` if its time was over before.
    fn keep(&mut self, batches: &[Batch], receipts: &[Option<Arc<Receipt>>]) -> bool {
        loop {
            let begun = Instant::now();
            let trouble = match self.commit(batches) {
                Ok(first) => {
                    self.live.counters.commits.observe(begun.elapsed());
                    self.acknowledge(first, batches, receipts);
                    self.stands(Standing::Open);
                    self.tidy_up();
                    return true;
                }
                Err(trouble) => trouble,
            };
            self.live.counters.failures.fetch_add(1, Ordering::Relaxed);
            let wait = if matches!(trouble, Trouble::Locked(_)) { Duration::ZERO } else { RETRY };
            self.suffer(trouble);
            if !self.live.queue.wait_to_retry(wait) {
                return false;
            }
        }
    }

    /// Stores these messages, and says which number the first has.
    fn commit(&mut self, batches: &[Batch]) -> Result<u64, Trouble> {
        self.open_if_closed()?;
        self.check_log()?;
        let writer = self.writer.as_mut().expect("it was opened just now");
        let first = writer.commit(batches)?;
        let counters = &self.live.counters;
        let sum = |of: fn(&Batch) -> usize| batches.iter().map(of).sum::<usize>() as u64;
        counters.stored.fetch_add(sum(Batch::messages), Ordering::Relaxed);
        counters.messages.fetch_add(sum(Batch::messages), Ordering::Relaxed);
        counters.stored_bytes.fetch_add(sum(Batch::bytes), Ordering::Relaxed);
        Ok(first)
    }

    /// Tells each sender once what is stored of its messages, of which the first has this number.
    fn acknowledge(&self, first: u64, batches: &[Batch], receipts: &[Option<Arc<Receipt>>]) {
        let Some(origin) = self.writer.as_ref().map(Writer::origin) else { return };
        let (mut next, mut due) = (first, Vec::new());
        for (batch, receipt) in batches.iter().zip(receipts) {
            next += batch.messages() as u64;
            due.extend(receipt.iter().filter(|receipt| receipt.stored(batch.messages(), next - 1)));
        }
        due.iter().for_each(|receipt| receipt.tell(origin));
    }

    /// Begins an empty write-ahead log if it is over its limit, as soon as nobody is in the way.
    fn check_log(&mut self) -> Result<(), Trouble> {
        let Some(writer) = self.writer.as_mut().filter(|_| self.is_over) else { return Ok(()) };
        match writer.begin_log() {
            Ok(()) => self.is_over = false,
            Err(Trouble::Locked(_)) => {
                let why =
                    "a program that reads it keeps its write-ahead log from being emptied, which is over wal_limit";
                return Err(Trouble::Full(why.to_owned()));
            }
            Err(trouble) => return Err(trouble),
        }
        Ok(())
    }

    /// Between two commits: empties the write-ahead log, in small steps.
    fn tidy_up(&mut self) {
        let Some(writer) = self.writer.as_mut().filter(|writer| writer.is_checkpoint_due()) else { return };
        match writer.checkpoint() {
            Ok(in_use) => self.is_over = in_use > self.store.settings.wal_limit,
            // Nothing is lost by it: it is done again after the next commit.
            Err(trouble) => self.suffer(trouble),
        }
        self.look();
    }

    /// Nothing is to be stored: opens what could not be opened, and looks at the files.
    fn rest(&mut self) {
        self.live.report_dropped();
        if self.live.standing() != Standing::Open {
            match self.open_if_closed().and_then(|()| self.check_log()) {
                // What has failed was to store something. Whether that works now is known when something comes.
                Ok(()) => {}
                Err(trouble) => self.suffer(trouble),
            }
        }
        if let Some(Err(trouble)) = self.writer.as_mut().filter(|writer| writer.has_logged()).map(Writer::checkpoint) {
            self.suffer(trouble);
        }
        self.look();
    }

    /// Notes how large its files are.
    fn look(&self) {
        let (file, wal) = self.place.sizes();
        self.live.counters.file_bytes.store(file, Ordering::Relaxed);
        self.live.counters.wal_bytes.store(wal, Ordering::Relaxed);
    }

    /// Opens the file for the first time, unless it is.
    fn open(&mut self) {
        let opened = match self.writer.take() {
            Some(writer) => self.has_opened(writer),
            None => self.open_if_closed(),
        };
        if let Err(trouble) = opened {
            self.suffer(trouble);
        }
        self.look();
    }

    fn open_if_closed(&mut self) -> Result<(), Trouble> {
        if self.writer.is_some() {
            return Ok(());
        }
        let (place, durability) = (&self.place, self.store.settings.durability);
        let writer = Writer::open(place, durability).map_err(|unusable| match unusable {
            Unusable::Refused(refused) => Trouble::Failed(refused.to_string()),
            Unusable::Trouble(trouble) => trouble,
        })?;
        self.has_opened(writer)
    }

    fn has_opened(&mut self, writer: Writer) -> Result<(), Trouble> {
        let contents = writer.contents()?;
        self.live.counters.messages.store(contents.messages(), Ordering::Relaxed);
        let (path, origin) = (self.place.path().display(), writer.origin());
        info!(
            target: STORES, store = &*self.live.name;
            "{}: '{path}' is open, with {}, as {origin}", self.live, count(contents.messages(), "message")
        );
        self.writer = Some(writer);
        Ok(())
    }

    /// Something is in the way. After a failure of the system the file is opened anew, see `store/writer.rs`; a damaged one
    /// is set aside.
    fn suffer(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Full(why) => self.stands(Standing::Full(why)),
            Trouble::Failed(why) => {
                self.writer = None;
                self.stands(Standing::Failed(why));
            }
            Trouble::Damaged(why) => {
                self.writer = None;
                self.set_aside(why);
            }
            Trouble::Locked(why) => {
                let since = *self.since.get_or_insert_with(Instant::now);
                if since.elapsed() >= PATIENCE {
                    self.stands(Standing::Locked(why));
                }
            }
        }
    }

    fn set_aside(&mut self, why: String) {
        match self.place.set_aside(SystemTime::now()) {
            Ok(aside) => error!(
                target: STORES, store = &*self.live.name;
                "{}: '{}' is damaged ({why}): it is called '{}' from now on, and a new store begins",
                self.live, self.place.path().display(), aside.display()
            ),
            Err(error) => self.stands(Standing::Failed(format!("{why}; failed to set it aside: {error}"))),
        }
    }

    /// Says so once when it stands in another way than before.
    fn stands(&mut self, standing: Standing) {
        if standing == Standing::Open {
            self.since = None;
        }
        let before = self.live.set_standing(standing.clone());
        let (live, name) = (&self.live, &*self.live.name);
        match (before.word() == standing.word(), standing.why()) {
            (true, _) => {}
            (false, None) => info!(target: STORES, store = name; "{live}: it stores again"),
            (false, Some(why)) => match standing {
                Standing::Locked(_) => {
                    warn!(target: STORES, store = name; "{live}: {why}: nothing is stored until it is free");
                }
                _ => error!(
                    target: STORES, store = name;
                    "{live}: {}: {why}: nothing is stored until that has changed", standing.word()
                ),
            },
        }
    }

    fn close(self) {
        let Some(writer) = self.writer else { return };
        if let Err(trouble) = writer.close(&self.place) {
            warn!(target: STORES, store = &*self.live.name; "{}: failed to close it: {trouble}", self.live);
        }
    }
}
