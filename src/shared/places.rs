//! The places for the clients of an endpoint, of each of its rooms and of each identity, in the order of their age: a new
//! client may replace an old one. A reload can change the limits, and throws nobody out.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use crate::config::{AtCapacity, EndpointSettings};
use crate::connection::outbox::Outbox;
use crate::display::count;
use crate::id::Id;
use crate::identity::Identity;
use crate::route::Room;
use crate::shared::identities::{Identities, IdentityFull};
use crate::sync::{Mutex, MutexGuard};

/// Replaced clients that may still answer their Close. With one more, the one that was replaced first is cut.
const CLOSING_MAX: usize = 64;

/// Replaced clients whose thread has not ended, cut or not. With so many, the next client is refused.
const LEAVING_MAX: usize = 256;

/// See the module's documentation. A place belongs to one client at a time, but a client that was replaced keeps its
/// [`Place`] until its thread ends.
#[derive(Debug)]
pub struct Places {
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    endpoint: usize,
    room: Option<usize>,
    /// Whether a client of a full endpoint or room loses its place to a new one.
    replaces: bool,
    /// Whether clients may lose their places for one reason or another.
    replaces_any: bool,
}

impl Limits {
    fn of(settings: &EndpointSettings) -> Limits {
        Limits {
            endpoint: settings.max_connections,
            room: settings.max_room_connections,
            replaces: settings.at_capacity == AtCapacity::Replace,
            replaces_any: settings.replaces(),
        }
    }
}

#[derive(Debug)]
struct State {
    limits: Limits,
    in_use: usize,
    /// How many have come so far: the age of the next one.
    next: u64,
    /// Who has a place, the longest first.
    holders: BTreeMap<u64, Holder>,
    /// Who has a place in which room; empty without a limit of rooms.
    rooms: HashMap<Room, BTreeSet<u64>>,
    /// Who has a place by which identity; empty without a limit of identities.
    identities: Identities,
    /// Who was replaced and may still answer its Close, in that order. At most [`CLOSING_MAX`].
    closing: VecDeque<(u64, Holder)>,
    /// Who was replaced and cut, and whose thread has not ended yet. Together at most [`LEAVING_MAX`].
    cut: BTreeSet<u64>,
}

/// A client that has a place, or had one.
#[derive(Debug, Clone)]
struct Holder {
    id: Id,
    counted: Counted,
    stage: Stage,
}

/// What a place counts for, besides the endpoint: where rooms and identities have a limit.
#[derive(Debug, Clone)]
struct Counted {
    room: Room,
    identity: Option<Arc<Identity>>,
}

#[derive(Debug, Clone)]
enum Stage {
    /// Its handshake is not done. The socket is there if it waits for its upstream, which can be interrupted.
    Opening(Option<Arc<OwnedFd>>),
    /// It is connected.
    Open(Arc<Outbox>),
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The endpoint has as many clients as this, its limit.
    Endpoint(usize),
    /// The room has as many clients as this, its limit.
    Room(usize),
    /// The identity gets no further one.
    Identity(IdentityFull),
    /// So many clients were replaced and have not ended yet.
    Leaving(usize),
}

/// A client's place; dropping it, also by a panic, gives it back.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    counted: Counted,
    age: u64,
}

/// The place of a request that is no client and replaces none; dropping it, also by a panic, gives it back.
#[derive(Debug)]
pub struct Visitor(Arc<Places>);

/// A client that has lost its place to a new one. It has to be told, without any lock.
#[derive(Debug)]
#[must_use]
pub struct Replaced {
    closed: Holder,
    cut: Option<Holder>,
}

impl Places {
    /// The places of an endpoint, all of them free.
    pub fn new(settings: &EndpointSettings) -> Arc<Places> {
        let state = State {
            limits: Limits::of(settings),
            in_use: 0,
            next: 0,
            holders: BTreeMap::new(),
            rooms: HashMap::new(),
            identities: Identities::new(settings.identity_limit),
            closing: VecDeque::new(),
            cut: BTreeSet::new(),
        };
        Arc::new(Places { state: Mutex::new(state) })
    }

    /// Other limits hold from now on; everybody who has a place keeps it.
    pub fn change(&self, settings: &EndpointSettings) {
        let mut state = self.state.lock();
        let State { limits, holders, rooms, identities, .. } = &mut *state;
        let had_room_limit = limits.room.is_some();
        *limits = Limits::of(settings);
        if limits.room.is_some() != had_room_limit {
            rooms.clear();
            let counted = holders.iter().filter(|_| limits.room.is_some());
            for (age, holder) in counted {
                rooms.entry(holder.counted.room.clone()).or_default().insert(*age);
            }
        }
        if identities.set_limit(settings.identity_limit) {
            let known = holders.iter().filter_map(|(age, holder)| Some((age, holder.counted.identity.as_ref()?)));
            known.for_each(|(age, identity)| identities.enter(&identity.name, *age, None));
        }
    }

    /// Takes a place for a client of this room and identity, perhaps that of a client that has been there for a longer
    /// time: of the oldest of the same identity where that has enough, of the oldest of the room or of the endpoint where
    /// these are full nevertheless.
    ///
    /// # Errors
    /// There is none. Nobody has lost a place then.
    pub fn take(
        self: &Arc<Self>,
        room: &Room,
        identity: Option<&Arc<Identity>>,
        id: Id,
        now: Instant,
    ) -> Result<(Place, Vec<Replaced>), Full> {
        let mut state = self.state.lock();
        let own = match identity.filter(|_| state.identities.is_limited()) {
            Some(identity) => state.identities.make_way(&identity.name, now).map_err(Full::Identity)?,
            None => None,
        };
        let other = match state.full_without(room, own) {
            None => None,
            Some((full, oldest)) => Some(oldest.filter(|_| state.limits.replaces).ok_or(full)?),
        };
        let leaving = state.closing.len() + state.cut.len() + own.iter().chain(&other).count();
        if (own.is_some() || other.is_some()) && leaving > LEAVING_MAX {
            return Err(Full::Leaving(LEAVING_MAX));
        }
        let age = state.next;
        state.next += 1;
        state.in_use += 1;
        let counted = Counted { room: room.clone(), identity: identity.cloned() };
        if let Some(identity) = counted.identity.as_ref().filter(|_| state.identities.is_limited()) {
            state.identities.enter(&identity.name, age, own.map(|_| now));
        }
        state.holders.insert(age, Holder { id, counted: counted.clone(), stage: Stage::Opening(None) });
        if state.limits.room.is_some() {
            state.rooms.entry(room.clone()).or_default().insert(age);
        }
        let replaced = own.into_iter().chain(other).map(|age| state.replace(age)).collect();
        Ok((Place { places: Arc::clone(self), counted, age }, replaced))
    }

    /// Takes a place on the endpoint for a request, whatever its room and its identity are.
    ///
    /// # Errors
    /// There is none.
    pub fn visit(self: &Arc<Self>) -> Result<Visitor, Full> {
        let mut state = self.state.lock();
        let limit = state.limits.endpoint;
        if state.in_use >= limit {
            return Err(Full::Endpoint(limit));
        }
        state.in_use += 1;
        Ok(Visitor(Arc::clone(self)))
    }

    /// Whether an identity may have a further connection, perhaps in the place of another one.
    ///
    /// # Errors
    /// It may not.
    pub fn check(&self, identity: Option<&Identity>, now: Instant) -> Result<(), Full> {
        let Some(identity) = identity else { return Ok(()) };
        self.state.lock().identities.make_way(&identity.name, now).map(drop).map_err(Full::Identity)
    }

    /// How many clients have a place.
    pub fn in_use(&self) -> usize {
        self.state.lock().in_use
    }
}

impl State {
    /// Whether the room or the endpoint is full, and which client has been there for the longest time, if there is one; both
    /// without the client of this age.
    fn full_without(&self, room: &Room, own: Option<u64>) -> Option<(Full, Option<u64>)> {
        let Limits { endpoint, room: room_limit, .. } = self.limits;
        let mut in_room = self.rooms.get(room).into_iter().flatten().copied().filter(|age| Some(*age) != own);
        let count =
            self.rooms.get(room).map_or(0, |ages| ages.len() - usize::from(own.is_some_and(|own| ages.contains(&own))));
        if let Some(limit) = room_limit.filter(|limit| count >= *limit) {
            return Some((Full::Room(limit), in_room.next()));
        }
        let is_full = self.in_use - usize::from(own.is_some()) >= endpoint;
        let oldest = || self.holders.keys().copied().find(|age| Some(*age) != own);
        is_full.then(|| (Full::Endpoint(endpoint), oldest()))
    }

    /// Takes the place of a client, which is closing from now on.
    fn replace(&mut self, age: u64) -> Replaced {
        let closed = self.holders.remove(&age).expect("it has a place");
        self.free(age, &closed.counted);
        self.closing.push_back((age, closed.clone()));
        let cut = if self.closing.len() > CLOSING_MAX { self.closing.pop_front() } else { None };
        let cut = cut.map(|(age, holder)| {
            self.cut.insert(age);
            holder
        });
        Replaced { closed, cut }
    }

    /// A client's thread has ended.
    fn leave(&mut self, age: u64, counted: &Counted) {
        if self.holders.remove(&age).is_none() {
            // It was replaced.
            if !self.cut.remove(&age) {
                self.closing.retain(|(other, _)| *other != age);
            }
            return;
        }
        self.free(age, counted);
    }

    fn free(&mut self, age: u64, counted: &Counted) {
        self.in_use -= 1;
        counted.identity.iter().for_each(|identity| self.identities.leave(&identity.name, age));
        if let Some(ages) = self.rooms.get_mut(&counted.room) {
            ages.remove(&age);
            if ages.is_empty() {
                self.rooms.remove(&counted.room);
            }
        }
    }
}

impl Place {
    /// While the client waits for its upstream, its socket is shut down for reading if it is replaced, which ends
    /// the wait.
    pub fn waits_on(&self, socket: impl FnOnce() -> Option<OwnedFd>) {
        if !self.lock().limits.replaces_any {
            return;
        }
        let stage = Stage::Opening(socket().map(Arc::new));
        match self.set_stage(stage.clone()) {
            Standing::Has => {}
            Standing::Replaced | Standing::Cut => stage.close(),
        }
    }

    /// The client is connected from now on. If it was replaced meanwhile, it is closed.
    pub fn open(&self, outbox: &Arc<Outbox>) {
        let stage = Stage::Open(Arc::clone(outbox));
        match self.set_stage(stage.clone()) {
            Standing::Has => {}
            Standing::Replaced => stage.close(),
            Standing::Cut => stage.cut(),
        }
    }

    /// Whether another client has the place now.
    pub fn is_replaced(&self) -> bool {
        !self.lock().holders.contains_key(&self.age)
    }

    fn set_stage(&self, stage: Stage) -> Standing {
        let mut state = self.lock();
        if let Some(holder) = state.holders.get_mut(&self.age) {
            holder.stage = stage;
            return Standing::Has;
        }
        match state.closing.iter_mut().find(|(age, _)| *age == self.age) {
            Some((_, holder)) => {
                holder.stage = stage;
                Standing::Replaced
            }
            None => Standing::Cut,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.places.state.lock()
    }
}

/// How a client stands that once took a place.
enum Standing {
    Has,
    Replaced,
    Cut,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.lock().leave(self.age, &self.counted);
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        self.0.state.lock().in_use -= 1;
    }
}

impl Replaced {
    /// The client that was replaced.
    pub fn id(&self) -> Id {
        self.closed.id
    }

    /// Closes it with 1008 "Replaced", without waiting for it. If too many are closing already, the first of them is cut.
    pub fn close(self) {
        self.closed.stage.close();
        if let Some(holder) = self.cut {
            holder.stage.cut();
        }
    }
}

impl Stage {
    fn close(&self) {
        match self {
            Stage::Open(outbox) => outbox.close(Some(1008), "Replaced"),
            Stage::Opening(Some(socket)) => {
                // It fails if the client has left.
                let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Read);
            }
            Stage::Opening(None) => {}
        }
    }

    fn cut(&self) {
        // One that is opening hears of it when it has opened.
        if let Stage::Open(outbox) = self {
            outbox.close(Some(1008), "Replaced");
            outbox.abort("Replaced");
        }
    }
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Full::Endpoint(limit) => {
                write!(f, "its endpoint has {}, as `max_connections` says", count(*limit, "client"))
            }
            Full::Room(limit) => write!(f, "its room has {}, as `max_room_connections` says", count(*limit, "client")),
            Full::Identity(full) => full.fmt(f),
            Full::Leaving(leaving) => {
                write!(f, "{leaving} clients of its endpoint were replaced and have not ended yet")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::config::{IdentityLimit, WhenIdentityFull};
    use crate::identity::Proof;
    use crate::path::Pattern;
    use crate::route::Routes;

    fn settings(at_capacity: AtCapacity, limit: usize, room_limit: Option<usize>) -> EndpointSettings {
        EndpointSettings {
            path: Pattern::parse("/{room}").unwrap(),
            max_connections: limit,
            max_room_connections: room_limit,
            at_capacity,
            ..EndpointSettings::default()
        }
    }

    fn places_of(settings: &EndpointSettings) -> (Arc<Places>, [Room; 2]) {
        let routes = Routes::new(std::slice::from_ref(settings), &[]);
        (Places::new(settings), ["/1", "/2"].map(|path| routes.find(path, |_| true).unwrap()))
    }

    fn places(at_capacity: AtCapacity, limit: usize, room_limit: Option<usize>) -> (Arc<Places>, [Room; 2]) {
        places_of(&settings(at_capacity, limit, room_limit))
    }

    /// The place, and the number of the client that it was taken from.
    fn take(places: &Arc<Places>, room: &Room, id: u64) -> Result<(Place, Option<u64>), Full> {
        let (place, from) = take_as(places, room, None, id)?;
        assert!(from.len() <= 1, "{from:?}");
        Ok((place, from.first().copied()))
    }

    /// The same for an identity, and the numbers of all clients that give way.
    fn take_as(places: &Arc<Places>, room: &Room, name: Option<&str>, id: u64) -> Result<(Place, Vec<u64>), Full> {
        let proof = Proof { auth: 0, digest: [0; 32] };
        let identity = name.map(|name| Arc::new(Identity::new(name, BTreeMap::new(), proof)));
        let (place, replaced) = places.take(room, identity.as_ref(), id.into(), Instant::now())?;
        let from = replaced.iter().map(|replaced| replaced.id().as_u64()).collect();
        replaced.into_iter().for_each(Replaced::close);
        Ok((place, from))
    }

    #[test]
    fn b10_without_replacing_a_place_is_free_when_its_client_has_gone() {
        for (room_limit, full) in [(None, Full::Endpoint(2)), (Some(1), Full::Room(1))] {
            let (places, [one, two]) = places(AtCapacity::Close, 2, room_limit);
            let (first, _) = take(&places, &one, 1).unwrap();
            let (_second, _) = take(&places, &two, 2).unwrap();
            assert_eq!(take(&places, &one, 3).map(drop), Err(full));
            assert!(!first.is_replaced());
            drop(first);
            assert!(take(&places, &one, 4).is_ok());
            assert_eq!(places.in_use(), 1);
        }
    }

    #[test]
    fn b10_a_request_takes_a_place_and_nobodys() {
        let (places, [one, _]) = places(AtCapacity::Replace, 2, Some(1));
        let (client, _) = take(&places, &one, 1).unwrap();
        // Whatever its room.
        let visitor = places.visit().unwrap();
        assert_eq!(places.visit().map(drop).unwrap_err(), Full::Endpoint(2));
        assert!(!client.is_replaced());
        drop(client);
        let another = places.visit().unwrap();
        assert_eq!(take(&places, &one, 2).map(drop), Err(Full::Endpoint(2)), "there is nobody to be replaced");
        drop((visitor, another));
        assert!(take(&places, &one, 3).is_ok());
        assert_eq!(places.in_use(), 0);
    }

    #[test]
    fn b10_the_oldest_of_the_room_or_of_the_endpoint_gives_its_place() {
        let (places, [one, two]) = places(AtCapacity::Replace, 3, Some(2));
        let mut held = Vec::new();
        for (room, id, from) in [
            (&two, 1, None),
            (&one, 2, None),
            (&one, 3, None),
            // Room and endpoint are full: the oldest of the room.
            (&one, 4, Some(2)),
            // Only the endpoint is.
            (&two, 5, Some(1)),
            (&two, 6, Some(3)),
            (&two, 7, Some(5)),
        ] {
            let (place, replaced) = take(&places, room, id).unwrap();
            assert_eq!(replaced, from, "{id}");
            held.push(place);
            assert!(places.in_use() <= 3);
        }
        let replaced: Vec<_> = held.iter().map(Place::is_replaced).collect();
        assert_eq!(replaced, [true, true, true, false, true, false, false]);
        // Those that were replaced have nothing to give back, the others have.
        drop(held);
        let state = places.state.lock();
        assert_eq!((state.in_use, state.holders.len(), state.rooms.len()), (0, 0, 0));
        assert_eq!((state.closing.len(), state.cut.len()), (0, 0));
    }

    #[test]
    fn s22_the_oldest_of_the_identity_gives_its_place_before_one_of_others_has_to() {
        for at_capacity in [AtCapacity::Refuse, AtCapacity::Replace] {
            let mut settings = settings(at_capacity, 3, Some(2));
            settings.identity_limit = Some(IdentityLimit { connections: 1, when_full: WhenIdentityFull::Replace });
            let (places, [one, two]) = places_of(&settings);
            let take = |room: &Room, name: &str, id: u64| take_as(&places, room, Some(name), id);
            let mut held = Vec::new();
            for (room, name, id) in [(&one, "a", 1), (&one, "b", 2), (&two, "c", 3)] {
                held.push(take(room, name, id).unwrap().0);
            }
            // Room and endpoint are full; with its own place free they are not.
            let (place, from) = take(&one, "a", 4).unwrap();
            assert_eq!(from, [1]);
            held.push(place);
            // The endpoint is not full then, but the room is.
            match (at_capacity, take(&one, "c", 5)) {
                (AtCapacity::Replace, Ok((place, from))) => {
                    assert_eq!(from, [3, 2]);
                    held.push(place);
                    assert_eq!(places.in_use(), 2);
                }
                (AtCapacity::Refuse, Err(full)) => {
                    // Nobody has lost a place for that.
                    assert_eq!(full, Full::Room(2));
                    assert!(!held[2].is_replaced() && places.in_use() == 3);
                }
                (_, other) => panic!("{at_capacity:?}: {other:?}"),
            }
            // Who has no identity is not limited by it.
            if at_capacity == AtCapacity::Refuse {
                assert_eq!(take_as(&places, &two, None, 6).map(drop), Err(Full::Endpoint(3)));
            }
            drop(held);
            let state = places.state.lock();
            assert_eq!((state.in_use, state.holders.len(), state.rooms.len()), (0, 0, 0));
            assert!(state.identities.is_empty() && state.closing.is_empty() && state.cut.is_empty());
        }
    }

    #[test]
    fn s22_an_identity_that_is_full_is_refused_and_replaces_nobody() {
        let mut settings = settings(AtCapacity::Replace, 1, None);
        settings.identity_limit = Some(IdentityLimit { connections: 1, when_full: WhenIdentityFull::Refuse });
        let (places, [one, _]) = places_of(&settings);
        let (first, _) = take_as(&places, &one, Some("a"), 1).unwrap();
        let full = Full::Identity(IdentityFull::Connections(1));
        assert_eq!(take_as(&places, &one, Some("a"), 2).map(drop), Err(full));
        assert!(!first.is_replaced());
        let (_second, from) = take_as(&places, &one, Some("b"), 3).unwrap();
        assert_eq!(from, [1]);
        // It has lost its place, so it has none of its identity either.
        let (_third, from) = take_as(&places, &one, Some("a"), 4).unwrap();
        assert_eq!(from, [3]);
    }

    #[test]
    fn b10_clients_that_were_replaced_and_do_not_end_are_bounded() {
        let (places, [one, _]) = places(AtCapacity::Replace, 1, None);
        let mut held: Vec<Place> = (0..=LEAVING_MAX as u64).map(|id| take(&places, &one, id).unwrap().0).collect();
        assert_eq!(take(&places, &one, 999).map(drop), Err(Full::Leaving(LEAVING_MAX)));
        assert_eq!(places.state.lock().closing.len(), CLOSING_MAX);
        // One that was cut and one that was not: each makes room for a new one.
        drop(held.remove(0));
        held.push(take(&places, &one, 1000).unwrap().0);
        drop(held.remove(LEAVING_MAX - 1));
        held.push(take(&places, &one, 1001).unwrap().0);
        assert_eq!(take(&places, &one, 1002).map(drop), Err(Full::Leaving(LEAVING_MAX)));
        assert_eq!(places.in_use(), 1);
    }

    #[test]
    fn b10_a_client_that_waits_for_its_upstream_is_interrupted_also_if_it_was_replaced_before() {
        let (places, [one, _]) = places(AtCapacity::Replace, 1, None);
        for is_replaced_first in [false, true] {
            let (ours, _theirs) = UnixStream::pair().unwrap();
            let (place, _) = take(&places, &one, 1).unwrap();
            let wait = || place.waits_on(|| ours.try_clone().ok().map(OwnedFd::from));
            let next = if is_replaced_first {
                let next = take(&places, &one, 2).unwrap();
                wait();
                next
            } else {
                wait();
                take(&places, &one, 2).unwrap()
            };
            ours.set_nonblocking(true).unwrap();
            assert_eq!(std::io::Read::read(&mut &ours, &mut [0]).unwrap(), 0, "it can still be read");
            drop(next);
        }
    }
}
