//! What each address has: its connections, and how many it has opened of late. A bounded table, which forgets the quietest
//! addresses when it is full and refuses nobody for that.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::address::source::Source;
use crate::display::count;
use crate::http::refusal::Refusal;
use crate::limit::{Bucket, Rate};
use crate::permits::Permit;
use crate::shared::refused::Cause;
use crate::sync::Mutex;

/// Addresses that are remembered. One more, and an eighth of them is forgotten: those with the fewest connections, and of
/// these who has not come for the longest time. What is forgotten is allowed anew.
const ADDRESSES_MAX: usize = 1 << 16;

/// The addresses that have come. They are counted without a limit too: a reload can bring one, and it holds at once.
#[derive(Debug)]
pub struct AddressPlaces {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    /// How many connections an address may have.
    most: Option<usize>,
    /// How many it may open.
    rate: Option<Rate>,
    entries: HashMap<Source, Entry>,
    /// The number of the next entry, and of the next connection.
    next: u64,
}

#[derive(Debug)]
struct Entry {
    /// Differs from that of an entry for the same address that was forgotten.
    number: u64,
    connections: usize,
    opened: Option<Bucket>,
    /// The number of its last connection.
    last: u64,
}

/// A connection counts for its address as long as this exists.
#[derive(Debug)]
pub struct AddressPlace {
    addresses: Arc<AddressPlaces>,
    source: Source,
    number: u64,
}

/// Why an address gets no further connection now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddressFull {
    /// It has as many as it may have.
    Connections(Source, usize),
    /// It has opened as many as it may in the time; the next one may come after this.
    Rate(Source, Duration),
}

/// That a connection counts: for the gateway, and for its address if it has one.
#[derive(Debug)]
pub struct Counted {
    _connection: Permit,
    address: Option<AddressPlace>,
}

impl AddressPlaces {
    /// Nobody has come yet. What is `None` is not limited.
    pub fn new(max_connections: Option<usize>, rate: Option<Rate>) -> Arc<AddressPlaces> {
        Arc::new(AddressPlaces { table: Mutex::new(Table { most: max_connections, rate, ..Table::default() }) })
    }

    /// From now on these are the limits. Whoever has more connections keeps them.
    pub fn set_limits(&self, max_connections: Option<usize>, rate: Option<Rate>) {
        let mut table = self.table.lock();
        (table.most, table.rate) = (max_connections, rate);
        if rate.is_none() {
            table.entries.retain(|_, entry| {
                entry.opened = None;
                entry.connections > 0
            });
        }
    }

    /// Counts a connection for the address that it is taken to come from: that of its socket, or the one that a trusted
    /// proxy has named. `None` is a Unix socket's, which is not limited.
    ///
    /// # Errors
    /// Its address has enough for now. It is not counted then.
    pub fn enter(self: &Arc<Self>, address: Option<IpAddr>, now: Instant) -> Result<Option<AddressPlace>, AddressFull> {
        let source = Source::of(address);
        if source == Source::Local {
            return Ok(None);
        }
        let number = self.table.lock().enter(source, now)?;
        Ok(Some(AddressPlace { addresses: Arc::clone(self), source, number }))
    }
}

impl Table {
    /// The number of the entry.
    fn enter(&mut self, source: Source, now: Instant) -> Result<u64, AddressFull> {
        let (most, rate) = (self.most, self.rate);
        if self.entries.len() >= ADDRESSES_MAX && !self.entries.contains_key(&source) {
            self.forget_quietest();
        }
        let last = self.next;
        self.next += 1;
        let new = || Entry { number: last, connections: 0, opened: None, last };
        let entry = self.entries.entry(source).or_insert_with(new);
        entry.last = last;
        if let Some(most) = most.filter(|most| entry.connections >= *most) {
            return Err(AddressFull::Connections(source, most));
        }
        if let Some(rate) = rate {
            let bucket = entry.opened.get_or_insert_with(|| Bucket::new(rate, now));
            bucket.try_take(rate, now).map_err(|wait| AddressFull::Rate(source, wait))?;
        }
        entry.connections += 1;
        Ok(entry.number)
    }

    fn leave(&mut self, source: Source, number: u64) {
        let Some(entry) = self.entries.get_mut(&source).filter(|entry| entry.number == number) else { return };
        entry.connections -= 1;
        if entry.connections == 0 && entry.opened.is_none() {
            self.entries.remove(&source);
        }
    }

    fn forget_quietest(&mut self) {
        let mut quiet: Vec<_> = self.entries.values().map(|entry| (entry.connections, entry.last)).collect();
        let (_, most, _) = quiet.select_nth_unstable(ADDRESSES_MAX / 8);
        let most = *most;
        self.entries.retain(|_, entry| (entry.connections, entry.last) >= most);
    }
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        self.addresses.table.lock().leave(self.source, self.number);
    }
}

impl Counted {
    /// A connection that has a place in the gateway, and one of its address if it has one.
    pub fn new(connection: Permit, address: Option<AddressPlace>) -> Counted {
        Counted { _connection: connection, address }
    }

    /// It is now known whose address it counts for.
    pub fn is_from(&mut self, address: Option<AddressPlace>) {
        self.address = address;
    }
}

impl AddressFull {
    /// What it counts as.
    pub fn cause(&self) -> Cause {
        match self {
            AddressFull::Connections(..) => Cause::AddressConnections,
            AddressFull::Rate(..) => Cause::AddressRate,
        }
    }

    /// What the peer is told.
    pub fn refusal(&self) -> Refusal {
        Refusal::new(429, "there are too many connections from this address").with_retry_after(self.retry_after())
    }

    /// When it is worth to come again, in whole seconds.
    fn retry_after(&self) -> u64 {
        match self {
            AddressFull::Connections(..) => 1,
            AddressFull::Rate(_, wait) => wait.as_secs_f64().ceil().max(1.0) as u64,
        }
    }
}

/// For the log.
impl fmt::Display for AddressFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AddressFull::Connections(source, most) => {
                write!(f, "{source} has {} (max_address_connections)", count(*most, "connection"))
            }
            AddressFull::Rate(source, _) => write!(f, "{source} opens too many connections (address_rate)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn l2_each_address_has_its_own_connections_and_gets_them_back() {
        let addresses = AddressPlaces::new(Some(2), None);
        let now = Instant::now();
        let enter = |text| addresses.enter(address(text), now);
        let held = [enter("192.0.2.1"), enter("::ffff:192.0.2.1"), enter("2001:db8::1"), enter("2001:db8::2")];
        assert!(held.iter().all(|place| matches!(place, Ok(Some(_)))));
        for (text, source) in [("192.0.2.1", "192.0.2.1"), ("2001:db8::3", "2001:db8::/64")] {
            let full = enter(text).unwrap_err();
            assert_eq!(
                (full.to_string(), full.retry_after()),
                (format!("{source} has 2 connections (max_address_connections)"), 1)
            );
        }
        assert!(enter("192.0.2.2").is_ok() && enter("2001:db8:0:1::1").is_ok());
        assert!(matches!(addresses.enter(None, now), Ok(None)), "a Unix socket is limited");
        drop(held);
        assert!(addresses.table.lock().entries.is_empty(), "it remembers who has gone");
        assert!(enter("192.0.2.1").is_ok());
    }

    #[test]
    fn l11_who_is_refused_uses_up_nothing() {
        let rate = Rate { per_second: 1, burst: 2 };
        let addresses = AddressPlaces::new(None, Some(rate));
        let now = Instant::now();
        let enter = |at| addresses.enter(address("192.0.2.1"), now + Duration::from_millis(at)).map(drop);
        assert_eq!([enter(0), enter(0)], [Ok(()), Ok(())]);
        for at in [0, 500, 999] {
            assert_eq!(enter(at).map_err(|full| full.retry_after()), Err(1));
        }
        assert_eq!(enter(1000), Ok(()));
        assert!(addresses.enter(address("192.0.2.2"), now).is_ok());
    }

    #[test]
    fn l2_limits_that_come_and_go_count_who_is_there_and_take_nothing_away() {
        let addresses = AddressPlaces::new(None, None);
        let now = Instant::now();
        let enter = || addresses.enter(address("192.0.2.1"), now);
        let mut held: Vec<_> = (0..3).map(|_| enter().unwrap()).collect();
        addresses.set_limits(Some(2), None);
        for expected in [false, false, true] {
            assert_eq!(enter().is_ok(), expected, "{} are there", held.len());
            held.pop();
        }
        addresses.set_limits(None, Some(Rate { per_second: 1, burst: 2 }));
        assert_eq!([(); 3].map(|()| enter().is_ok()), [true, true, false]);
        // A lower burst is what is saved at most, and a higher one is not given away at once.
        addresses.set_limits(None, Some(Rate { per_second: 1, burst: 100 }));
        assert!(enter().is_err());
        addresses.set_limits(None, None);
        assert!(enter().is_ok());
        assert_eq!(addresses.table.lock().entries.len(), 0, "an address is remembered that has no connection");
    }

    #[test]
    fn l2_a_full_table_forgets_the_quietest_and_refuses_nobody() {
        let addresses = AddressPlaces::new(Some(1), None);
        let now = Instant::now();
        let nth = |n: u32| Some(IpAddr::from(n.to_be_bytes()));
        let busy = addresses.enter(nth(0), now).unwrap();
        let mut held: Vec<_> = (1..ADDRESSES_MAX as u32).map(|n| addresses.enter(nth(n), now).unwrap()).collect();
        // It has come again, although it was refused.
        assert!(addresses.enter(nth(0), now).is_err());
        let first_new = ADDRESSES_MAX as u32;
        held.extend((first_new..first_new + 20_000).map(|n| addresses.enter(nth(n), now).unwrap()));
        assert!(addresses.table.lock().entries.len() <= ADDRESSES_MAX);
        assert!(addresses.enter(nth(0), now).is_err(), "one that comes again and again was forgotten");
        // Forgotten and come anew: the old place does not give back the new one.
        let again = addresses.enter(nth(1), now).unwrap();
        drop(held);
        assert!(addresses.enter(nth(1), now).is_err());
        drop((busy, again));
        assert!(addresses.table.lock().entries.is_empty());
    }
}
