//! Ways on which a message would come back to where it came from and go round for ever.
//!
//! What a remote does with a message is not known here, so it is taken to come back, unless the remote is one of our
//! own listeners: then it is a client of an endpoint, and the routes say where it goes. A remote that is ourselves
//! under a name or an address that no listener has cannot be recognised.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::iter::successors;
use std::net::IpAddr;

use crate::config::mistake::Report;
use crate::config::raw::Raw;
use crate::config::settings::{Destination, ListenAddress, ListenerSettings, Settings};
use crate::path::Pattern;
use crate::template::Template;
use crate::url::Url;

/// Reports a way round for each set of links, and relays that dial themselves.
pub(super) fn check(raw: &Raw, report: &Report<'_>) {
    // A name that is wrong or stands there twice makes the ways uncertain, and is reported.
    let names: BTreeSet<&str> = raw.links.iter().map(|link| &*link.settings.name).collect();
    let map = Map::new(raw);
    if raw.links.iter().all(|link| link.valid) && names.len() == raw.links.len() {
        check_links(raw, &map, report);
    }
    check_relays(raw, &map, report);
}

/// A place on a message's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// About to be sent to the remote of this link.
    Into(usize),
    /// Come from the remote of this link.
    From(usize),
}

impl Place {
    fn link(self) -> usize {
        match self {
            Place::Into(link) | Place::From(link) => link,
        }
    }
}

/// A step of a message.
struct Step<'m> {
    from: Place,
    to: Place,
    /// The endpoints on it.
    via: Vec<&'m str>,
    /// The destination that takes it, if one is written.
    at: Option<usize>,
}

fn check_links(raw: &Raw, map: &Map, report: &Report<'_>) {
    let steps = steps(raw, map);
    let mut steps_from: BTreeMap<Place, Vec<&Step<'_>>> = BTreeMap::new();
    for step in &steps {
        steps_from.entry(step.from).or_default().push(step);
    }
    let mut told: BTreeSet<usize> = BTreeSet::new();
    for link in 0..raw.links.len() {
        if told.contains(&link) {
            continue;
        }
        let ways = [Place::From(link), Place::Into(link)].map(|place| way_round(&steps_from, place));
        let Some(way) = ways.into_iter().flatten().min_by_key(Vec::len) else { continue };
        told.extend(way.iter().map(|step| step.to.link()));
        let at = way.iter().find_map(|step| step.at).unwrap_or(raw.links[link].name_at);
        report.mistake(
            at,
            format!(
                "a message would go round for ever: {}; take a destination out, or write allow_loop = true for one of \
                 the links if it cannot happen",
                shown(raw, &way)
            ),
        );
    }
}

/// `link:a -> endpoint:/x -> link:b -> link:a`
fn shown(raw: &Raw, way: &[&Step<'_>]) -> String {
    let name = |place: Place| format!("link:{}", raw.links[place.link()].settings.name);
    let mut places = vec![name(way[0].from)];
    for step in way {
        places.extend(step.via.iter().map(|path| format!("endpoint:{path}")));
        // Into a remote and from it again is one link.
        if step.from.link() != step.to.link() || !step.via.is_empty() {
            places.push(name(step.to));
        }
    }
    places.join(" -> ")
}

/// The shortest way from a place back to it.
fn way_round<'s, 'm>(steps: &BTreeMap<Place, Vec<&'s Step<'m>>>, start: Place) -> Option<Vec<&'s Step<'m>>> {
    // The step by which each place was reached first.
    let mut reached: BTreeMap<Place, &Step<'m>> = BTreeMap::new();
    let mut next = VecDeque::from([start]);
    while let Some(here) = next.pop_front() {
        for &step in steps.get(&here).into_iter().flatten() {
            if reached.contains_key(&step.to) {
                continue;
            }
            reached.insert(step.to, step);
            next.push_back(step.to);
        }
    }
    let mut way: Vec<&Step<'m>> = successors(reached.get(&start).copied(), |step| {
        reached.get(&step.from).copied().filter(|_| step.from != start)
    })
    .collect();
    way.reverse();
    (!way.is_empty()).then_some(way)
}

/// Every step that a message may take between links that do not allow loops.
fn steps<'m>(raw: &'m Raw, map: &'m Map) -> Vec<Step<'m>> {
    let home = |url: &Url| map.home(url).filter(|home| !map.entrances[home.entrance].is_relay);
    let homes: Vec<Option<Home>> = raw.links.iter().map(|link| link.dial.url.as_ref().and_then(home)).collect();
    let link_called = |name: &str| raw.links.iter().position(|link| link.settings.name == name);
    // The links that hear what these clients of ours are sent.
    let listening = |is_there: &dyn Fn(&Home) -> bool| -> Vec<usize> {
        (0..homes.len()).filter(|link| homes[*link].as_ref().is_some_and(is_there)).collect()
    };
    let path = |link: usize| homes[link].as_ref().map(|home| map.entrances[home.entrance].pattern.as_str());
    let mut steps = Vec::new();
    for (index, link) in raw.links.iter().enumerate() {
        let (into, from) = (Place::Into(index), Place::From(index));
        for (destination, text) in &link.to {
            let at = Some(text.at);
            let step = |to, via| Step { from, to, via, at };
            match destination {
                Destination::Link(name) => steps.extend(link_called(name).map(|to| step(Place::Into(to), vec![]))),
                Destination::Endpoint(path_of_target) => {
                    let template = Template::parse(path_of_target).expect("the reader of destinations parsed it");
                    let heard = listening(&|home| template.leads_to(&map.entrances[home.entrance].pattern));
                    steps.extend(heard.into_iter().map(|to| step(Place::From(to), Vec::from_iter(path(to)))));
                }
                // Whether another program answers an answer is its own affair.
                Destination::Reply if homes[index].is_some() => steps.push(step(into, vec![])),
                Destination::Reply | Destination::Broadcast | Destination::Others => {}
            }
        }
        let Some(own) = &homes[index] else {
            steps.push(Step { from: into, to: from, via: vec![], at: None });
            continue;
        };
        for (destination, at) in &map.entrances[own.entrance].to {
            let step = |to, behind: Option<&'m str>| Step {
                from: into,
                to,
                via: path(index).into_iter().chain(behind).collect(),
                at: *at,
            };
            match destination {
                Destination::Reply => steps.push(step(from, None)),
                Destination::Broadcast | Destination::Others => {
                    let mut room = listening(&|other| other == own);
                    room.retain(|other| *destination == Destination::Broadcast || *other != index);
                    steps.extend(room.into_iter().map(|to| step(Place::From(to), None)));
                }
                Destination::Endpoint(target) => {
                    let heard = listening(&|other| map.entrances[other.entrance].pattern.as_str() == target);
                    steps.extend(heard.into_iter().map(|to| step(Place::From(to), path(to))));
                }
                Destination::Link(name) => steps.extend(link_called(name).map(|to| step(Place::Into(to), None))),
            }
        }
    }
    steps.retain(|step| [step.from, step.to].iter().all(|place| !raw.links[place.link()].settings.allow_loop));
    steps
}

/// Reports relays that dial themselves: every client of theirs would become another one.
fn check_relays(raw: &Raw, map: &Map, report: &Report<'_>) {
    let next = |endpoint: usize| {
        let relay = raw.endpoints[endpoint].relay.as_ref()?;
        let home = map.home(relay.dial.url.as_ref()?)?;
        map.entrances[home.entrance].written.filter(|written| raw.endpoints[*written].relay.is_some())
    };
    for start in 0..raw.endpoints.len() {
        let way: Vec<usize> =
            successors(next(start), |here| next(*here).filter(|_| *here != start)).take(raw.endpoints.len()).collect();
        let (Some(relay), Some(end)) = (&raw.endpoints[start].relay, way.last()) else { continue };
        // A circle is told once, by the first of it.
        if *end == start && way.iter().all(|other| *other >= start) {
            let path = |endpoint: &usize| format!("endpoint:{}", raw.endpoints[*endpoint].settings.path);
            let places: Vec<String> = [start].iter().chain(&way).map(path).collect();
            report.mistake(
                relay.dial.url_at,
                format!("the relay would dial itself without end: {}; write another URL", places.join(" -> ")),
            );
        }
    }
}

/// Our own listeners and endpoints, those that are there when none is written included.
struct Map {
    listeners: Vec<ListenerSettings>,
    entrances: Vec<Entrance>,
}

/// An endpoint, as whoever comes from outside meets it.
struct Entrance {
    pattern: Pattern,
    /// Its index in the file.
    written: Option<usize>,
    listen: Option<BTreeSet<String>>,
    is_relay: bool,
    /// Where the messages of its clients go, each with the place where it is written.
    to: Vec<(Destination, Option<usize>)>,
}

/// The room of ours that a URL leads to.
#[derive(PartialEq, Eq)]
struct Home {
    /// Its endpoint, among the entrances.
    entrance: usize,
    values: Vec<Box<str>>,
}

impl Map {
    fn new(raw: &Raw) -> Map {
        let defaults = Settings::default();
        let listeners: Vec<_> = raw.listeners.iter().filter(|l| l.valid).map(|l| l.settings.clone()).collect();
        let mut entrances = Vec::new();
        for (index, endpoint) in raw.endpoints.iter().enumerate() {
            let Some(pattern) = endpoint.pattern.clone() else { continue };
            let place = |destination| {
                let (_, text) = endpoint.to.iter().find(|(written, _)| written == destination)?;
                Some(text.at)
            };
            entrances.push(Entrance {
                pattern,
                written: Some(index),
                listen: endpoint.settings.listen.clone(),
                is_relay: endpoint.relay.is_some(),
                to: endpoint.settings.to.iter().map(|to| (to.clone(), place(to))).collect(),
            });
        }
        if raw.endpoints.is_empty() {
            entrances.extend(defaults.endpoints.into_iter().map(|endpoint| Entrance {
                pattern: Pattern::parse(&endpoint.path).expect("the default path is a pattern"),
                written: None,
                listen: None,
                is_relay: false,
                to: endpoint.to.into_iter().map(|to| (to, None)).collect(),
            }));
        }
        Map { listeners: if raw.listeners.is_empty() { defaults.listeners } else { listeners }, entrances }
    }

    fn home(&self, url: &Url) -> Option<Home> {
        let listener = self.listeners.iter().find(|listener| is_at(listener, url))?;
        let path = url.path_and_query.split('?').next().unwrap_or_default();
        let mut best: Option<Home> = None;
        for (entrance, endpoint) in self.entrances.iter().enumerate() {
            if endpoint.listen.as_ref().is_some_and(|names| !names.contains(&listener.name)) {
                continue;
            }
            let Some(values) = endpoint.pattern.matches(path) else { continue };
            if best.as_ref().is_none_or(|best| endpoint.pattern.precedes(&self.entrances[best.entrance].pattern)) {
                best = Some(Home { entrance, values });
            }
        }
        best
    }
}

/// Whether this URL is for certain the listener's.
fn is_at(listener: &ListenerSettings, url: &Url) -> bool {
    let ListenAddress::Tcp(address) = &listener.address else { return false };
    if address.port() != url.port || listener.tls.is_some() != url.secure {
        return false;
    }
    let own = address.ip();
    if url.host.eq_ignore_ascii_case("localhost") {
        return own.is_loopback() || own.is_unspecified();
    }
    let ours = |ip: IpAddr| ip == own || ((ip.is_loopback() || ip.is_unspecified()) && own.is_unspecified());
    url.host.parse().is_ok_and(ours)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::url;

    #[test]
    fn a_url_is_known_as_our_own_by_address_port_and_tls() {
        for (address, text, expected) in [
            ("127.0.0.1:8080", "ws://127.0.0.1:8080/x", true),
            ("127.0.0.1:8080", "ws://localhost:8080", true),
            ("127.0.0.1:8080", "ws://LOCALHOST:8080", true),
            ("127.0.0.1:80", "ws://localhost", true),
            ("0.0.0.0:8080", "ws://127.0.0.9:8080", true),
            ("0.0.0.0:8080", "ws://0.0.0.0:8080", true),
            ("[::]:8080", "ws://[::1]:8080", true),
            ("[::]:8080", "ws://127.0.0.1:8080", true),
            ("10.0.0.7:8080", "ws://10.0.0.7:8080", true),
            ("10.0.0.7:8080", "ws://127.0.0.1:8080", false),
            ("10.0.0.7:8080", "ws://localhost:8080", false),
            ("127.0.0.1:8080", "ws://127.0.0.2:8080", false),
            ("127.0.0.1:8080", "ws://127.0.0.1:8081", false),
            ("127.0.0.1:8080", "wss://127.0.0.1:8080", false),
            ("0.0.0.0:8080", "ws://10.0.0.7:8080", false),
            ("0.0.0.0:8080", "ws://plc.example:8080", false),
        ] {
            let listener = ListenerSettings {
                address: ListenAddress::Tcp(address.parse().unwrap()),
                ..ListenerSettings::default()
            };
            assert_eq!(is_at(&listener, &url::parse(text).unwrap()), expected, "{address} {text}");
        }
    }
}
