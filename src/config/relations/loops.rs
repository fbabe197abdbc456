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
use crate::config::raw::dial::RawDial;
use crate::config::raw::link::RawLink;
use crate::config::raw::route::{RawDestination, RawLinkDestination};
use crate::config::settings::{ListenAddress, ListenerSettings, Settings};
use crate::config::text::Text;
use crate::path::Pattern;
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
enum Waypoint {
    /// About to be sent to the remote of this link.
    Into(usize),
    /// Come from the remote of this link.
    From(usize),
}

impl Waypoint {
    fn link(self) -> usize {
        match self {
            Waypoint::Into(link) | Waypoint::From(link) => link,
        }
    }
}

/// A step of a message.
struct Step<'m> {
    from: Waypoint,
    to: Waypoint,
    /// The endpoints on it.
    via: Vec<&'m str>,
    /// The destination that takes it, if one is written.
    at: Option<usize>,
}

fn check_links(raw: &Raw, map: &Map, report: &Report<'_>) {
    let steps = steps(raw, map);
    let mut steps_from: BTreeMap<Waypoint, Vec<&Step<'_>>> = BTreeMap::new();
    for step in &steps {
        steps_from.entry(step.from).or_default().push(step);
    }
    let mut told: BTreeSet<usize> = BTreeSet::new();
    for link in 0..raw.links.len() {
        if told.contains(&link) {
            continue;
        }
        let ways = [Waypoint::From(link), Waypoint::Into(link)].map(|place| way_round(&steps_from, place));
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
    let name = |place: Waypoint| format!("link:{}", raw.links[place.link()].settings.name);
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
fn way_round<'s, 'm>(steps: &BTreeMap<Waypoint, Vec<&'s Step<'m>>>, start: Waypoint) -> Option<Vec<&'s Step<'m>>> {
    // The step by which each place was reached first.
    let mut reached: BTreeMap<Waypoint, &Step<'m>> = BTreeMap::new();
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
    let home = |link: &RawLink| map.home(&link.dial).filter(|home| !map.endpoints[home.endpoint].is_relay);
    let homes: Vec<Option<Home>> = raw.links.iter().map(home).collect();
    let link_called = |name: &str| raw.links.iter().position(|link| link.settings.name == name);
    // The links that hear what these clients of ours are sent.
    let listening = |is_there: &dyn Fn(&Home) -> bool| -> Vec<usize> {
        (0..homes.len()).filter(|link| homes[*link].as_ref().is_some_and(is_there)).collect()
    };
    let path = |link: usize| homes[link].as_ref().map(|home| map.endpoints[home.endpoint].pattern.as_str());
    let mut steps = Vec::new();
    for (index, link) in raw.links.iter().enumerate() {
        let (into, from) = (Waypoint::Into(index), Waypoint::From(index));
        for (destination, text) in &link.to {
            let at = Some(text.at);
            let step = |to, via| Step { from, to, via, at };
            match destination {
                RawLinkDestination::Link(name) => {
                    steps.extend(link_called(name).map(|to| step(Waypoint::Into(to), vec![])));
                }
                RawLinkDestination::Endpoint(template) => {
                    let heard = listening(&|home| template.leads_to(&map.endpoints[home.endpoint].pattern));
                    steps.extend(heard.into_iter().map(|to| step(Waypoint::From(to), Vec::from_iter(path(to)))));
                }
                // Whether another program answers an answer is its own affair.
                RawLinkDestination::Reply if homes[index].is_some() => steps.push(step(into, vec![])),
                RawLinkDestination::Reply | RawLinkDestination::Store(_) => {}
            }
        }
        let Some(own) = &homes[index] else {
            steps.push(Step { from: into, to: from, via: vec![], at: None });
            continue;
        };
        for (destination, at) in &map.endpoints[own.endpoint].to {
            let step = |to, behind: Option<&'m str>| Step {
                from: into,
                to,
                via: path(index).into_iter().chain(behind).collect(),
                at: *at,
            };
            match destination {
                RawDestination::Reply => steps.push(step(from, None)),
                RawDestination::Broadcast | RawDestination::Others => {
                    let mut room = listening(&|other| other == own);
                    room.retain(|other| *destination == RawDestination::Broadcast || *other != index);
                    steps.extend(room.into_iter().map(|to| step(Waypoint::From(to), None)));
                }
                RawDestination::Endpoint(_) | RawDestination::Picked(_) => {
                    let heard = listening(&|other| is_for(destination, &map.endpoints[other.endpoint].pattern));
                    steps.extend(heard.into_iter().map(|to| step(Waypoint::From(to), path(to))));
                }
                RawDestination::Store(_) => {}
                RawDestination::Link(name) => steps.extend(link_called(name).map(|to| step(Waypoint::Into(to), None))),
            }
        }
    }
    steps.retain(|step| [step.from, step.to].iter().all(|place| !raw.links[place.link()].settings.allow_loop));
    steps
}

/// Whether a destination is an endpoint of this path. Where clients may choose rooms, the names say where values come from.
fn is_for(destination: &RawDestination, path: &Pattern) -> bool {
    match destination {
        RawDestination::Endpoint(target) => path.same_shape(target),
        RawDestination::Picked(template) => template.leads_to(path),
        _ => false,
    }
}

/// Reports relays that dial themselves: every client of theirs would become another one.
fn check_relays(raw: &Raw, map: &Map, report: &Report<'_>) {
    let next = |endpoint: usize| {
        let relay = raw.endpoints[endpoint].relay.as_ref()?;
        let home = map.home(&relay.dial)?;
        map.endpoints[home.endpoint].written.filter(|written| raw.endpoints[*written].relay.is_some())
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
    endpoints: Vec<OwnEndpoint>,
}

/// An endpoint as its clients know it.
struct OwnEndpoint {
    pattern: Pattern,
    /// Its index in the file.
    written: Option<usize>,
    listen: Option<BTreeSet<String>>,
    is_relay: bool,
    /// Where the messages of its clients go, each with the place where it is written.
    to: Vec<(RawDestination, Option<usize>)>,
}

/// The room of ours that a URL leads to.
#[derive(PartialEq, Eq)]
struct Home {
    /// Its endpoint, by its index in the map.
    endpoint: usize,
    values: Vec<Box<str>>,
}

impl Map {
    fn new(raw: &Raw) -> Map {
        let defaults = Settings::default();
        let listeners: Vec<_> = raw.listeners.iter().filter(|l| l.valid).map(|l| l.settings.clone()).collect();
        let mut endpoints = Vec::new();
        for (index, endpoint) in raw.endpoints.iter().enumerate() {
            let Some(pattern) = endpoint.pattern.clone() else { continue };
            let written = |to: &Vec<(RawDestination, Text)>| {
                to.iter().map(|(destination, text)| (destination.clone(), Some(text.at))).collect()
            };
            endpoints.push(OwnEndpoint {
                pattern,
                written: Some(index),
                listen: endpoint.settings.listen.clone(),
                is_relay: endpoint.relay.is_some(),
                to: endpoint.to.as_ref().map_or_else(default_route, written),
            });
        }
        if raw.endpoints.is_empty() {
            endpoints.extend(defaults.endpoints.into_iter().map(|endpoint| OwnEndpoint {
                pattern: endpoint.path,
                written: None,
                listen: None,
                is_relay: false,
                to: default_route(),
            }));
        }
        Map { listeners: if raw.listeners.is_empty() { defaults.listeners } else { listeners }, endpoints }
    }

    fn home(&self, dial: &RawDial) -> Option<Home> {
        let url = dial.url()?;
        let listener = self.listeners.iter().find(|listener| is_at(listener, url))?;
        // Any value will do for a parameter.
        let path_and_query = dial.path.as_ref()?.fill(|_| "x");
        let path = path_and_query.split('?').next().unwrap_or_default();
        let mut best: Option<Home> = None;
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            if endpoint.listen.as_ref().is_some_and(|names| !names.contains(&listener.name)) {
                continue;
            }
            let Some(values) = endpoint.pattern.matches(path) else { continue };
            if best.as_ref().is_none_or(|best| endpoint.pattern.precedes(&self.endpoints[best.endpoint].pattern)) {
                best = Some(Home { endpoint: index, values });
            }
        }
        best
    }
}

/// Where messages go if an endpoint has no `to`.
fn default_route() -> Vec<(RawDestination, Option<usize>)> {
    vec![(RawDestination::Broadcast, None)]
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
