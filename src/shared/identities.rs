//! The connections that each identity has on an endpoint, and how often they have replaced each other of late. It knows
//! those alone that have a place there, so the endpoint's limit bounds it.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use crate::config::{IdentityLimit, WhenIdentityFull};
use crate::display::count;

/// How often connections of an identity may replace each other within [`WINDOW`]. The next one is refused until the first of
/// them is so long ago: two devices that have one identity would go on for ever.
const REPLACEMENTS_MAX: usize = 5;
const WINDOW: Duration = Duration::from_secs(60);

/// See the module's documentation.
#[derive(Debug)]
pub struct Identities {
    limit: Option<IdentityLimit>,
    known: HashMap<Box<str>, Connections>,
}

/// Those of one identity.
#[derive(Debug, Default)]
struct Connections {
    /// The ages of their places.
    ages: BTreeSet<u64>,
    /// When the last ones were replaced, at most [`REPLACEMENTS_MAX`].
    replaced: VecDeque<Instant>,
    /// Whether it was told that they replace each other too often.
    is_told: bool,
}

/// Why an identity gets no further connection now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdentityFull {
    /// It has as many as this, its limit.
    Connections(usize),
    /// They have replaced each other too often; the next one may come after this time.
    Contested {
        /// The time.
        wait: Duration,
        /// Whether nobody was told so before.
        is_first: bool,
    },
}

impl Identities {
    /// Nobody is here yet. Without a limit nobody is known.
    pub fn new(limit: Option<IdentityLimit>) -> Identities {
        Identities { limit, known: HashMap::new() }
    }

    /// Another limit holds from now on. Says whether there was none before: then those who are here have yet to enter.
    pub fn set_limit(&mut self, limit: Option<IdentityLimit>) -> bool {
        let is_first = self.limit.is_none() && limit.is_some();
        self.limit = limit;
        if limit.is_none() {
            self.known.clear();
        }
        is_first
    }

    /// Whether there is a limit.
    pub fn is_limited(&self) -> bool {
        self.limit.is_some()
    }

    /// Which connection has to give way to a new one of this identity, if one has.
    ///
    /// # Errors
    /// None may.
    pub fn make_way(&mut self, name: &str, now: Instant) -> Result<Option<u64>, IdentityFull> {
        let (Some(limit), Some(own)) = (self.limit, self.known.get_mut(name)) else { return Ok(None) };
        if own.ages.len() < limit.connections {
            return Ok(None);
        }
        if limit.when_full == WhenIdentityFull::Refuse {
            return Err(IdentityFull::Connections(limit.connections));
        }
        own.replaced.retain(|at| now.duration_since(*at) < WINDOW);
        if let (true, Some(first)) = (own.replaced.len() >= REPLACEMENTS_MAX, own.replaced.front()) {
            let is_first = !std::mem::replace(&mut own.is_told, true);
            return Err(IdentityFull::Contested { wait: WINDOW - now.duration_since(*first), is_first });
        }
        Ok(own.ages.first().copied())
    }

    /// An identity has a connection with this place. `replaces` says that one of its own gives way to it.
    pub fn enter(&mut self, name: &str, age: u64, replaces: Option<Instant>) {
        let own = self.known.entry(name.into()).or_default();
        own.ages.insert(age);
        own.replaced.extend(replaces);
    }

    /// It has that one no longer.
    pub fn leave(&mut self, name: &str, age: u64) {
        let Some(own) = self.known.get_mut(name) else { return };
        own.ages.remove(&age);
        if own.ages.is_empty() {
            self.known.remove(name);
        }
    }

    /// Whether nobody is known.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

impl IdentityFull {
    /// When it is worth to come again, in whole seconds.
    pub fn retry_after(&self) -> u64 {
        match self {
            IdentityFull::Connections(_) => 1,
            IdentityFull::Contested { wait, .. } => wait.as_secs_f64().ceil().max(1.0) as u64,
        }
    }
}

/// For the log.
impl fmt::Display for IdentityFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IdentityFull::Connections(most) => {
                write!(f, "its identity has {}, as `max_identity_connections` says", count(*most, "connection"))
            }
            IdentityFull::Contested { .. } => {
                let seconds = WINDOW.as_secs();
                write!(
                    f,
                    "the connections of its identity have replaced each other {REPLACEMENTS_MAX} times in {seconds} s"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identities(connections: usize, when_full: WhenIdentityFull) -> Identities {
        Identities::new(Some(IdentityLimit { connections, when_full }))
    }

    #[test]
    fn s22_each_identity_has_its_own_connections_and_gets_them_back() {
        let (mut identities, now) = (identities(2, WhenIdentityFull::Refuse), Instant::now());
        for (name, age) in [("a", 1), ("b", 2), ("a", 3)] {
            assert_eq!(identities.make_way(name, now), Ok(None));
            identities.enter(name, age, None);
        }
        assert_eq!(identities.make_way("a", now), Err(IdentityFull::Connections(2)));
        assert_eq!(identities.make_way("b", now), Ok(None));
        identities.leave("a", 1);
        assert_eq!(identities.make_way("a", now), Ok(None));
        identities.leave("a", 3);
        identities.leave("b", 2);
        assert!(identities.is_empty());
    }

    #[test]
    fn s22_the_oldest_gives_way_five_times_a_minute() {
        let (mut identities, start) = (identities(2, WhenIdentityFull::Replace), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        identities.enter("a", 0, None);
        identities.enter("a", 1, None);
        // One every ten seconds: the sixth would be at 50 s.
        for age in 2..7 {
            let now = at(10 * (age - 2));
            assert_eq!(identities.make_way("a", now), Ok(Some(age - 2)));
            identities.enter("a", age, Some(now));
            identities.leave("a", age - 2);
        }
        let contested = |wait, is_first| Err(IdentityFull::Contested { wait: Duration::from_secs(wait), is_first });
        assert_eq!(identities.make_way("a", at(50)), contested(10, true));
        assert_eq!(identities.make_way("a", at(59)), contested(1, false));
        assert_eq!(identities.make_way("b", at(59)), Ok(None));
        assert_eq!(identities.make_way("a", at(60)), Ok(Some(5)));
        identities.enter("a", 7, Some(at(60)));
        identities.leave("a", 5);
        assert_eq!(identities.make_way("a", at(61)), contested(9, false));
        // After all have left, nothing is known of it.
        [6, 7].iter().for_each(|age| identities.leave("a", *age));
        assert!(identities.is_empty());
    }
}
