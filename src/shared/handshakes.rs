//! Connections whose handshake is not finished: a bounded number of places, of which nobody can keep all.
//!
//! When every place is taken, the oldest handshake of the address that has the most of them gives way. So whoever opens
//! connections and says nothing keeps out himself alone, however fast he is, and if thousands of addresses do so, a
//! handshake still has as long as it takes them to come once each.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use crate::address::source::Source;
use crate::connection::socket::Socket;
use crate::sync::Mutex;

/// The places for handshakes.
#[derive(Debug)]
pub struct Handshakes {
    state: Mutex<Unfinished>,
}

#[derive(Debug, Default)]
struct Unfinished {
    /// How many there may be.
    limit: usize,
    /// By where they come from, the oldest first; none is empty.
    by_source: HashMap<Source, VecDeque<Handshake>>,
    count: usize,
    /// The number of the next one.
    next: u64,
}

#[derive(Debug)]
struct Handshake {
    number: u64,
    socket: Arc<Socket>,
}

/// A handshake's place; dropping it, also by a panic, gives it back.
#[derive(Debug)]
pub struct HandshakePlace {
    handshakes: Arc<Handshakes>,
    source: Source,
    number: u64,
}

impl Handshakes {
    /// Places for at most `limit` handshakes at once, at least one.
    pub fn new(limit: usize) -> Arc<Handshakes> {
        Arc::new(Handshakes { state: Mutex::new(Unfinished { limit: limit.max(1), ..Unfinished::default() }) })
    }

    /// From now on there are so many places, at least one. Where more are taken, all are kept, and whoever comes takes the
    /// place of another one.
    pub fn set_limit(&self, limit: usize) {
        self.state.lock().limit = limit.max(1);
    }

    /// How many of the places are taken.
    pub fn unfinished(&self) -> usize {
        self.state.lock().count
    }

    /// How many places there are.
    pub fn limit(&self) -> usize {
        self.state.lock().limit
    }

    /// Takes a place for a connection that was accepted from this address, if need be that of another one, which is shut
    /// down: then says where that came from. `None` is a Unix socket's.
    pub fn enter(self: &Arc<Self>, address: Option<IpAddr>, socket: &Arc<Socket>) -> (HandshakePlace, Option<Source>) {
        let source = Source::of(address);
        let mut state = self.state.lock();
        let given_way = (state.count >= state.limit).then(|| state.remove_oldest_of_most()).flatten();
        let number = state.next;
        state.next += 1;
        state.count += 1;
        let handshake = Handshake { number, socket: Arc::clone(socket) };
        state.by_source.entry(source).or_default().push_back(handshake);
        drop(state);
        let given_way = given_way.map(|(source, handshake)| {
            handshake.socket.shutdown_both();
            source
        });
        (HandshakePlace { handshakes: Arc::clone(self), source, number }, given_way)
    }

    /// Has all of them give way: the sockets are shut down.
    pub fn end(&self) {
        let ended = {
            let mut state = self.state.lock();
            state.count = 0;
            std::mem::take(&mut state.by_source)
        };
        // Without the lock: sockets may be closed with them.
        ended.into_values().flatten().for_each(|handshake| handshake.socket.shutdown_both());
    }

    /// From now on this one comes from elsewhere. Says whether it was still there.
    fn move_to(&self, from: Source, to: Source, number: u64) -> bool {
        let mut state = self.state.lock();
        let Some(handshake) = state.remove(from, number) else { return false };
        let those = state.by_source.entry(to).or_default();
        let at = those.partition_point(|other| other.number < number);
        those.insert(at, handshake);
        state.count += 1;
        true
    }

    /// Says whether it was still there.
    fn leave(&self, source: Source, number: u64) -> bool {
        let left = self.state.lock().remove(source, number);
        // Without the lock: the socket may be closed with it.
        left.is_some()
    }
}

impl Unfinished {
    fn remove(&mut self, source: Source, number: u64) -> Option<Handshake> {
        let those = self.by_source.get_mut(&source)?;
        let at = those.binary_search_by_key(&number, |handshake| handshake.number).ok()?;
        let removed = those.remove(at);
        if those.is_empty() {
            self.by_source.remove(&source);
        }
        self.count -= 1;
        removed
    }

    /// Of the sources with the most, the one whose oldest has waited longest.
    fn remove_oldest_of_most(&mut self) -> Option<(Source, Handshake)> {
        let (source, those) = self.by_source.iter().max_by_key(|(_, those)| {
            let oldest = those.front().map_or(u64::MAX, |handshake| handshake.number);
            (those.len(), std::cmp::Reverse(oldest))
        })?;
        let (source, number) = (*source, those.front()?.number);
        self.remove(source, number).map(|handshake| (source, handshake))
    }
}

impl HandshakePlace {
    /// A proxy has said whose connection this is: the place is that one's from now on, or all clients of the proxy would
    /// give way for one that opens many.
    pub fn move_to(&mut self, address: Option<IpAddr>) {
        let to = Source::of(address);
        if to != self.source && self.handshakes.move_to(self.source, to, self.number) {
            self.source = to;
        }
    }

    /// The handshake is done. Nobody else has its socket from now on; `false` if it has had to give way before.
    pub fn finish(self) -> bool {
        self.handshakes.leave(self.source, self.number)
    }
}

impl Drop for HandshakePlace {
    fn drop(&mut self) {
        self.handshakes.leave(self.source, self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn socket() -> (Arc<Socket>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        (Arc::new(Socket::new(ours)), theirs)
    }

    fn is_shut_down(mut theirs: &UnixStream) -> bool {
        matches!(std::io::Read::read(&mut theirs, &mut [0]), Ok(0))
    }

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn c11_the_oldest_of_the_address_with_the_most_gives_way() {
        let handshakes = Handshakes::new(4);
        let mut ends = Vec::new();
        let mut enter = |from: &str| {
            let (ours, theirs) = socket();
            ends.push(theirs);
            handshakes.enter(address(from), &ours)
        };
        let (first, none) = enter("192.0.2.1");
        assert_eq!(none, None);
        let flood = ["2001:db8::1", "2001:db8::2", "2001:db8::3:4"].map(|from| enter(from).0);
        let (second, given_way) = enter("192.0.2.2");
        assert_eq!(given_way.map(|source| source.to_string()).as_deref(), Some("2001:db8::/64"));
        // Two of the flood and two others: the flood has the most again.
        let (third, given_way) = enter("192.0.2.3");
        assert!(given_way.is_some());
        // One of each: the oldest.
        let (_fourth, given_way) = enter("192.0.2.4");
        assert_eq!(given_way, Some(Source::of(address("192.0.2.1"))));
        let shut_down: Vec<_> = ends.iter().map(is_shut_down).collect();
        assert_eq!(shut_down, [true, true, true, false, false, false, false]);
        assert!(second.finish() && third.finish());
        assert!(!first.finish(), "it does not know that it had to give way");
        assert_eq!(flood.map(HandshakePlace::finish), [false, false, true]);
    }

    #[test]
    fn behind_a_proxy_the_oldest_of_the_client_with_the_most_gives_way() {
        let handshakes = Handshakes::new(3);
        let proxied = |client: &str| {
            let (ours, theirs) = socket();
            let (mut place, given_way) = handshakes.enter(address("10.0.0.1"), &ours);
            place.move_to(address(client));
            (place, theirs, given_way)
        };
        let (quiet, ..) = proxied("192.0.2.1");
        let flood = ["192.0.2.2", "192.0.2.2"].map(proxied);
        let (last, _, given_way) = proxied("192.0.2.3");
        assert_eq!(given_way, Some(Source::of(address("192.0.2.2"))));
        assert_eq!(flood.map(|(place, ..)| place.finish()), [false, true]);
        assert!(quiet.finish() && last.finish());
        assert!(handshakes.state.lock().by_source.is_empty() && handshakes.state.lock().count == 0);
    }

    #[test]
    fn a_lowered_limit_has_nobody_give_way_but_for_whoever_comes() {
        let handshakes = Handshakes::new(3);
        let enter = || {
            let (ours, theirs) = socket();
            (handshakes.enter(address("192.0.2.1"), &ours).0, theirs)
        };
        let mut held: Vec<_> = (0..3).map(|_| enter()).collect();
        handshakes.set_limit(1);
        assert!(held.iter().all(|(_, theirs)| !is_shut_down(theirs)));
        held.push(enter());
        let shut_down =
            |held: &[(HandshakePlace, UnixStream)]| held.iter().map(|one| is_shut_down(&one.1)).collect::<Vec<_>>();
        assert_eq!(shut_down(&held), [true, false, false, false]);
        assert_eq!(handshakes.unfinished(), 3);
        drop(held.drain(..2));
        handshakes.set_limit(4);
        held.extend([enter(), enter()]);
        assert_eq!(shut_down(&held), [false; 4]);
    }

    #[test]
    fn a_place_that_is_dropped_is_free() {
        let handshakes = Handshakes::new(1);
        let (ours, theirs) = socket();
        let (place, _) = handshakes.enter(None, &ours);
        drop(place);
        assert_eq!(handshakes.enter(address("192.0.2.1"), &ours).1, None);
        assert!(!is_shut_down(&theirs));
        assert!(handshakes.state.lock().by_source.is_empty(), "the last place was dropped too");
    }
}
