//! Where clients and their messages belong: which room a path leads to, and where a room's
//! messages go. Values in, value out.

use std::fmt;
use std::sync::Arc;

use crate::config::{Destination, EndpointSettings, LinkSettings};
use crate::path::{self, Pattern, Segment};
use crate::template::{Source, Template};

/// One concrete path under an endpoint: the endpoint's index in the configuration, and the values
/// of its parameters from left to right. Cloning it copies no text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Room {
    endpoint: usize,
    values: Arc<[Box<str>]>,
}

impl Room {
    /// The index of the endpoint it is under.
    pub fn endpoint(&self) -> usize {
        self.endpoint
    }
}

/// Where messages come from and go to, by its index in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// An endpoint.
    Endpoint(usize),
    /// A link.
    Link(usize),
}

/// Where a sender's messages go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Back to its sender.
    Reply,
    /// To everybody in a room, perhaps but its sender.
    Room {
        /// The room.
        room: Room,
        /// The sender is left out.
        except_sender: bool,
    },
    /// To a room that each message of a link picks.
    Picked(Pick),
    /// To the remote of the link with this index.
    Link(usize),
}

/// How a message picks its room on an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pick {
    endpoint: usize,
    sources: Box<[Source]>,
    link: Box<str>,
}

impl Pick {
    /// The index of the endpoint.
    pub fn endpoint(&self) -> usize {
        self.endpoint
    }

    /// The room for a message with these fields; `None` if one is missing or is no value of a parameter.
    pub fn room(&self, field: impl Fn(&[Box<str>]) -> Option<String>) -> Option<Room> {
        let value = |source: &Source| match source {
            Source::Link => Some(self.link.clone()),
            Source::Field(path) => field(path).filter(|value| path::is_value(value)).map(String::into_boxed_str),
        };
        let values = self.sources.iter().map(value).collect::<Option<Vec<_>>>()?;
        Some(Room { endpoint: self.endpoint, values: values.into() })
    }

    /// Whether every message picks the same room.
    fn is_fixed(&self) -> bool {
        self.sources.iter().all(|source| *source == Source::Link)
    }
}

/// The paths and routes of all endpoints, bound once when the configuration is loaded.
#[derive(Debug)]
pub struct Routes {
    endpoints: Vec<Bound>,
    /// The targets of each link.
    links: Vec<Vec<Target>>,
}

#[derive(Debug)]
struct Bound {
    pattern: Pattern,
    to: Vec<BoundDestination>,
}

#[derive(Debug)]
enum BoundDestination {
    Reply,
    Own {
        except_sender: bool,
    },
    /// The endpoint of that pattern; `values[i]` is which of the sender's values is its i-th.
    Other {
        endpoint: usize,
        values: Vec<usize>,
    },
    Link(usize),
}

impl Routes {
    /// Binds checked settings: the patterns are valid, and each `endpoint:` destination is the
    /// pattern of an endpoint, its parameters among the sender's.
    pub fn new(settings: &[EndpointSettings], links: &[LinkSettings]) -> Routes {
        let link = |name: &String| {
            let named = links.iter().position(|link| link.name == *name);
            named.expect("a link that is a destination exists: the configuration was checked")
        };
        let patterns: Vec<Pattern> = settings
            .iter()
            .map(|endpoint| Pattern::parse(&endpoint.path).expect("the configuration was checked"))
            .collect();
        let bind = |from: &Pattern, destination: &Destination| match destination {
            Destination::Reply => BoundDestination::Reply,
            Destination::Broadcast => BoundDestination::Own { except_sender: false },
            Destination::Others => BoundDestination::Own { except_sender: true },
            Destination::Link(name) => BoundDestination::Link(link(name)),
            Destination::Endpoint(path) => {
                let endpoint = patterns
                    .iter()
                    .position(|pattern| pattern.as_str() == path)
                    .expect("a destination is an endpoint's pattern: the configuration was checked");
                let value = |name| from.names().position(|own| own == name).expect("the sender has the parameter");
                BoundDestination::Other { endpoint, values: patterns[endpoint].names().map(value).collect() }
            }
        };
        let endpoints = settings
            .iter()
            .zip(&patterns)
            .map(|(endpoint, pattern)| Bound {
                pattern: pattern.clone(),
                to: endpoint.to.iter().map(|destination| bind(pattern, destination)).collect(),
            })
            .collect();
        let bind_of_link = |from: &LinkSettings, destination: &Destination| match destination {
            Destination::Reply => Target::Link(link(&from.name)),
            Destination::Link(name) => Target::Link(link(name)),
            Destination::Endpoint(path) => {
                let template = Template::parse(path).expect("the configuration was checked");
                let endpoint = patterns
                    .iter()
                    .position(|pattern| template.leads_to(pattern))
                    .expect("a destination has the shape of an endpoint: the configuration was checked");
                let pick = Pick { endpoint, sources: template.sources().into(), link: from.name.as_str().into() };
                match pick.room(|_| None).filter(|_| pick.is_fixed()) {
                    Some(room) => Target::Room { room, except_sender: false },
                    None => Target::Picked(pick),
                }
            }
            Destination::Broadcast | Destination::Others => {
                unreachable!("a link is in no room: the configuration was checked")
            }
        };
        let links = links.iter().map(|from| from.to.iter().map(|to| bind_of_link(from, to)).collect()).collect();
        Routes { endpoints, links }
    }

    /// The room that a request's path (without the query) leads to, among the endpoints that
    /// `reachable` admits. Where several match, the leftmost literal segment wins.
    pub fn find(&self, path: &str, reachable: impl Fn(usize) -> bool) -> Option<Room> {
        let mut best: Option<(usize, Vec<Box<str>>)> = None;
        for (index, bound) in self.endpoints.iter().enumerate().filter(|(index, _)| reachable(*index)) {
            let Some(values) = bound.pattern.matches(path) else { continue };
            if best.as_ref().is_none_or(|(other, _)| bound.pattern.precedes(&self.endpoints[*other].pattern)) {
                best = Some((index, values));
            }
        }
        best.map(|(endpoint, values)| Room { endpoint, values: values.into() })
    }

    /// Where the messages of a room's clients go, in the order of the configuration.
    pub fn targets(&self, room: &Room) -> Vec<Target> {
        let target = |destination: &BoundDestination| match destination {
            BoundDestination::Reply => Target::Reply,
            BoundDestination::Own { except_sender } => {
                Target::Room { room: room.clone(), except_sender: *except_sender }
            }
            BoundDestination::Other { endpoint, values } => {
                let values = values.iter().map(|&index| room.values[index].clone()).collect();
                Target::Room { room: Room { endpoint: *endpoint, values }, except_sender: false }
            }
            BoundDestination::Link(index) => Target::Link(*index),
        };
        self.endpoints[room.endpoint].to.iter().map(target).collect()
    }

    /// Where the messages of a link's remote go, in the order of the configuration.
    pub fn targets_of_link(&self, link: usize) -> Vec<Target> {
        self.links[link].clone()
    }

    /// The parameters of a room, by name, from left to right.
    pub fn parameters<'a>(&'a self, room: &'a Room) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.endpoints[room.endpoint].pattern.names().zip(room.values.iter().map(|value| &**value))
    }

    /// Whether what the clients of endpoint `from` send goes to `to`, so that an answer from there may
    /// be addressed to them.
    pub fn leads(&self, from: usize, to: Place) -> bool {
        self.endpoints[from].to.iter().any(|destination| match destination {
            BoundDestination::Reply => false,
            BoundDestination::Own { .. } => to == Place::Endpoint(from),
            BoundDestination::Other { endpoint, .. } => to == Place::Endpoint(*endpoint),
            BoundDestination::Link(index) => to == Place::Link(*index),
        })
    }

    /// The room as a path, for people: decoded, so not fit for a URL.
    pub fn show<'a>(&'a self, room: &'a Room) -> impl fmt::Display + 'a {
        fmt::from_fn(move |f| {
            let mut values = room.values.iter();
            for segment in self.endpoints[room.endpoint].pattern.segments() {
                match segment {
                    Segment::Literal(literal) => write!(f, "/{literal}")?,
                    Segment::Parameter(_) => write!(f, "/{}", values.next().map_or("", |value| value))?,
                }
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(path: &str, to: &[Destination]) -> EndpointSettings {
        EndpointSettings { path: path.to_owned(), to: to.to_vec(), ..EndpointSettings::default() }
    }

    fn routes(endpoints: &[(&str, &[Destination])]) -> Routes {
        Routes::new(&endpoints.iter().map(|(path, to)| endpoint(path, to)).collect::<Vec<_>>(), &links())
    }

    fn links() -> [LinkSettings; 2] {
        ["a", "b"].map(|name| LinkSettings::new(name, "ws://h"))
    }

    fn shown(routes: &Routes, path: &str) -> Vec<String> {
        let room = routes.find(path, |_| true).unwrap();
        let show = |target: &Target| match target {
            Target::Reply => "reply".to_owned(),
            Target::Picked(_) => unreachable!("only a link's messages pick their room"),
            Target::Link(link) => format!("link {link}"),
            Target::Room { room, except_sender } => {
                format!("{}{}", routes.show(room), if *except_sender { " but the sender" } else { "" })
            }
        };
        routes.targets(&room).iter().map(show).collect()
    }

    #[test]
    fn every_destination_leads_where_it_says() {
        use Destination::{Broadcast, Endpoint, Link, Others, Reply};
        let dash = Endpoint("/dash/{room}".to_owned());
        let log = Endpoint("/log".to_owned());
        let routes = routes(&[
            ("/", &[Broadcast]),
            ("/rooms/{room}", &[Reply, Others, dash.clone(), log]),
            ("/dash/{room}", &[]),
            ("/dash/admin", &[]),
            ("/log", &[]),
            ("/a/{x}/{room}", &[dash]),
            ("/up", &[Link("b".to_owned()), Link("a".to_owned())]),
        ]);
        let table: [(&str, &[&str]); 6] = [
            ("/up", &["link 1", "link 0"]),
            ("/", &["/"]),
            ("/rooms/7", &["reply", "/rooms/7 but the sender", "/dash/7", "/log"]),
            ("/dash/7", &[]),
            ("/a/1/2", &["/dash/2"]),
            ("/rooms/admin", &["reply", "/rooms/admin but the sender", "/dash/admin", "/log"]),
        ];
        for (path, targets) in table {
            assert_eq!(shown(&routes, path), targets, "{path}");
        }
    }

    #[test]
    fn a_value_never_leads_to_an_exact_endpoint() {
        let routes = routes(&[
            ("/rooms/{room}", &[Destination::Endpoint("/dash/{room}".to_owned())]),
            ("/dash/{room}", &[]),
            ("/dash/admin", &[]),
        ]);
        let room = routes.find("/rooms/admin", |_| true).unwrap();
        let [Target::Room { room: target, .. }] = &routes.targets(&room)[..] else { panic!("one target") };
        assert_eq!(target.endpoint(), 1);
        assert_ne!(Some(target), routes.find("/dash/admin", |_| true).as_ref());
    }

    #[test]
    fn the_leftmost_literal_wins_whatever_the_order() {
        let paths = ["/{a}/x", "/a/{b}", "/a/x", "/{a}/{b}"];
        for rotation in 0..paths.len() {
            let mut order = paths;
            order.rotate_left(rotation);
            let routes = routes(&order.map(|path| (path, &[] as &[Destination])));
            for (path, winner) in [("/a/x", "/a/x"), ("/a/y", "/a/{b}"), ("/b/x", "/{a}/x"), ("/b/y", "/{a}/{b}")] {
                let room = routes.find(path, |_| true).unwrap();
                assert_eq!(order[room.endpoint()], winner, "{path} in {order:?}");
            }
        }
    }

    #[test]
    fn an_endpoint_off_this_listener_does_not_exist() {
        let routes = routes(&[("/a", &[]), ("/{x}", &[])]);
        let room = routes.find("/a", |endpoint| endpoint != 0).unwrap();
        assert_eq!(room.endpoint(), 1);
        assert_eq!(routes.find("/a", |_| false), None);
    }

    #[test]
    fn answers_may_go_back_where_messages_came_from() {
        let routes = routes(&[
            ("/ask", &[Destination::Endpoint("/answer".to_owned())]),
            ("/answer", &[]),
            ("/chat", &[Destination::Others]),
            ("/up", &[Destination::Link("b".to_owned())]),
        ]);
        assert!(routes.leads(3, Place::Link(1)));
        assert!(!routes.leads(3, Place::Link(0)));
        assert!(routes.leads(0, Place::Endpoint(1)));
        assert!(!routes.leads(1, Place::Endpoint(0)));
        assert!(routes.leads(2, Place::Endpoint(2)));
        assert!(!routes.leads(1, Place::Endpoint(1)));
    }
}
