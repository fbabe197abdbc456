//! Where clients and their messages belong: which room a path leads to, and where a room's
//! messages go. Values in, value out.

use std::fmt;
use std::sync::Arc;

use crate::config::{Destination, EndpointId, EndpointSettings, LinkDestination, LinkId, LinkSettings, RoomSource};
use crate::path::{self, Pattern, Segment};
use crate::template::Source;

/// One concrete path under an endpoint: the endpoint and the values of its parameters from left to right. Cloning it
/// copies no text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Room {
    endpoint: EndpointId,
    values: Arc<[Box<str>]>,
}

impl Room {
    /// The endpoint it is under.
    pub fn endpoint(&self) -> EndpointId {
        self.endpoint
    }

    /// The values of the endpoint's parameters, from left to right.
    pub fn values(&self) -> &[Box<str>] {
        &self.values
    }
}

/// A sender or a receiver of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// An endpoint.
    Endpoint(EndpointId),
    /// A link.
    Link(LinkId),
}

/// Where a sender's messages go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Back to its sender.
    Reply,
    /// To everybody in a room, perhaps but its sender.
    Room {
        /// The room that gets the message.
        room: Room,
        /// The sender is left out.
        except_sender: bool,
    },
    /// To a room that each message picks.
    Picked(Arc<Pick>),
    /// To an outlet.
    Outlet(OutletId),
}

/// Which of the gateway's outlets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutletId(u32);

impl OutletId {
    /// Its number among all outlets.
    pub fn number(self) -> u32 {
        self.0
    }
}

impl From<LinkId> for OutletId {
    /// The links are the first outlets.
    fn from(link: LinkId) -> OutletId {
        OutletId(u32::try_from(link.0).expect("no configuration has four billion links"))
    }
}

/// How a message picks its room on an endpoint.
#[derive(Debug, PartialEq, Eq)]
pub struct Pick {
    endpoint: EndpointId,
    parts: Box<[Part]>,
    shown: String,
}

/// The value of one of the room's parameters.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// It is known before the message.
    Fixed(Box<str>),
    /// It is in the message: the keys that lead to it.
    Field(Box<[Box<str>]>),
}

/// Why a message picks no room.
#[derive(Debug, PartialEq, Eq)]
pub struct Unroutable<'p> {
    pick: &'p Pick,
    keys: &'p [Box<str>],
    /// There is a value, but it is no value of a parameter.
    is_there: bool,
}

impl Pick {
    /// The endpoint whose room is picked.
    pub fn endpoint(&self) -> EndpointId {
        self.endpoint
    }

    /// The room for a message with these fields.
    ///
    /// # Errors
    /// A field is missing, or its value is no value of a parameter.
    pub fn room(&self, field: impl Fn(&[Box<str>]) -> Option<String>) -> Result<Room, Unroutable<'_>> {
        let mut values = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            values.push(match part {
                Part::Fixed(value) => value.clone(),
                Part::Field(keys) => match field(keys) {
                    Some(value) if path::is_value(&value) => value.into(),
                    found => return Err(Unroutable { pick: self, keys, is_there: found.is_some() }),
                },
            });
        }
        Ok(Room { endpoint: self.endpoint, values: values.into() })
    }

    /// The room, if every message picks the same one.
    fn into_target(self) -> Target {
        match self.room(|_| None).ok().filter(|_| self.is_fixed()) {
            Some(room) => Target::Room { room, except_sender: false },
            None => Target::Picked(Arc::new(self)),
        }
    }

    /// Whether every message picks the same room.
    fn is_fixed(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Fixed(_)))
    }
}

/// The destination as it is written.
impl fmt::Display for Pick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Display for Unroutable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, keys) = (if self.is_there { "what it has" } else { "it has no value" }, self.keys.join("."));
        write!(f, "{what} at \"{keys}\"")?;
        f.write_str(if self.is_there { " is no value of a path" } else { "" })?;
        write!(f, ", which picks the room of \"{}\"", self.pick)
    }
}

/// The paths and routes of all endpoints and links.
#[derive(Debug)]
pub struct Routes {
    endpoints: Vec<EndpointRoute>,
    /// The targets of each link.
    links: Vec<Vec<Target>>,
}

#[derive(Debug)]
struct EndpointRoute {
    pattern: Pattern,
    to: Vec<Destination>,
}

impl Routes {
    /// The routes of a configuration's endpoints and links.
    pub fn new(endpoints: &[EndpointSettings], links: &[LinkSettings]) -> Routes {
        let of_endpoint =
            |endpoint: &EndpointSettings| EndpointRoute { pattern: endpoint.path.clone(), to: endpoint.to.clone() };
        let of_link = |(index, link): (usize, &LinkSettings)| {
            link.to.iter().map(|destination| link_target(LinkId(index), &link.name, destination)).collect()
        };
        Routes {
            endpoints: endpoints.iter().map(of_endpoint).collect(),
            links: links.iter().enumerate().map(of_link).collect(),
        }
    }

    /// The room that a request's path (without the query) leads to, among the endpoints that
    /// `reachable` admits. Where several match, the leftmost literal segment wins.
    pub fn find(&self, path: &str, reachable: impl Fn(EndpointId) -> bool) -> Option<Room> {
        let mut best: Option<(EndpointId, Vec<Box<str>>)> = None;
        for (index, EndpointRoute { pattern, .. }) in self.endpoints.iter().enumerate() {
            let id = EndpointId(index);
            let Some(values) = pattern.matches(path).filter(|_| reachable(id)) else { continue };
            if best.as_ref().is_none_or(|(other, _)| pattern.precedes(&self.endpoints[*other].pattern)) {
                best = Some((id, values));
            }
        }
        best.map(|(endpoint, values)| Room { endpoint, values: values.into() })
    }

    /// Where the messages of a room's client go, in the order of the configuration. `identity` is the client's name, if its
    /// endpoint authenticates clients.
    pub fn targets(&self, room: &Room, identity: Option<&str>) -> Vec<Target> {
        let target = |destination: &Destination| match destination {
            Destination::Reply => Target::Reply,
            Destination::Broadcast => Target::Room { room: room.clone(), except_sender: false },
            Destination::Others => Target::Room { room: room.clone(), except_sender: true },
            Destination::Endpoint { id, values } => {
                let values = values.iter().map(|&index| room.values[index].clone()).collect();
                Target::Room { room: Room { endpoint: *id, values }, except_sender: false }
            }
            Destination::Picked { id, template, sources } => {
                let part = |source: &RoomSource| match source {
                    RoomSource::Own(index) => Part::Fixed(room.values[*index].clone()),
                    // Nobody is let in without one.
                    RoomSource::Identity => Part::Fixed(identity.unwrap_or_default().into()),
                    RoomSource::Field(keys) => Part::Field(keys.clone()),
                };
                let (parts, shown) = (sources.iter().map(part).collect(), format!("endpoint:{template}"));
                Pick { endpoint: *id, parts, shown }.into_target()
            }
            Destination::Link(id) => Target::Outlet((*id).into()),
        };
        self.endpoints[room.endpoint].to.iter().map(target).collect()
    }

    /// Where the messages of a link's remote go, in the order of the configuration.
    pub fn targets_of_link(&self, link: LinkId) -> Vec<Target> {
        self.links[link].clone()
    }

    /// The parameters of a room, by name, from left to right.
    pub fn parameters<'a>(&'a self, room: &'a Room) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.endpoints[room.endpoint].pattern.names().zip(room.values.iter().map(|value| &**value))
    }

    /// Whether what the clients of the endpoint `from` send goes to `to`, so that an answer from there may
    /// be addressed to them.
    pub fn leads(&self, from: EndpointId, to: Place) -> bool {
        self.endpoints[from].to.iter().any(|destination| match destination {
            Destination::Reply => false,
            Destination::Broadcast | Destination::Others => to == Place::Endpoint(from),
            Destination::Endpoint { id, .. } | Destination::Picked { id, .. } => to == Place::Endpoint(*id),
            Destination::Link(id) => to == Place::Link(*id),
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

/// Where a link's remote sends to with this destination; a room that is the same for every message is picked here.
fn link_target(own: LinkId, name: &str, destination: &LinkDestination) -> Target {
    match destination {
        LinkDestination::Reply => Target::Outlet(own.into()),
        LinkDestination::Link(other) => Target::Outlet((*other).into()),
        LinkDestination::Endpoint { id, template } => {
            let part = |source: &Source| match source {
                Source::Link => Part::Fixed(name.into()),
                Source::Field(keys) => Part::Field(keys.clone()),
            };
            let (parts, shown) = (template.sources().iter().map(part).collect(), format!("endpoint:{template}"));
            let pick = Pick { endpoint: *id, parts, shown };
            pick.into_target()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;

    /// The routes of endpoints, each a path and its `to`; there are two links, `a` and `b`.
    fn routes(endpoints: &[(&str, &[&str])]) -> Routes {
        let endpoint = |(path, to): &(&str, &[&str])| format!("[[endpoint]]\npath = {path:?}\nto = {to:?}\n");
        let link = |name| format!("[[link]]\nname = {name:?}\nurl = \"ws://h\"\n");
        let text = endpoints.iter().map(endpoint).chain(["a", "b"].map(link)).collect::<String>();
        let settings = config::parse(&text, "test.toml", Path::new("")).unwrap_or_else(|error| panic!("{error}"));
        Routes::new(&settings.endpoints, &settings.links)
    }

    fn shown(routes: &Routes, path: &str) -> Vec<String> {
        let room = routes.find(path, |_| true).unwrap();
        let show = |target: &Target| match target {
            Target::Reply => "reply".to_owned(),
            Target::Picked(_) => unreachable!("no endpoint here lets clients choose rooms"),
            Target::Outlet(link) => format!("link {}", link.number()),
            Target::Room { room, except_sender } => {
                format!("{}{}", routes.show(room), if *except_sender { " but the sender" } else { "" })
            }
        };
        routes.targets(&room, None).iter().map(show).collect()
    }

    #[test]
    fn every_destination_leads_where_it_says() {
        let routes = routes(&[
            ("/", &["broadcast"]),
            ("/rooms/{room}", &["reply", "others", "endpoint:/dash/{room}", "endpoint:/log"]),
            ("/dash/{room}", &[]),
            ("/dash/admin", &[]),
            ("/log", &[]),
            ("/a/{x}/{room}", &["endpoint:/dash/{room}"]),
            ("/up", &["link:b", "link:a"]),
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
        let routes =
            routes(&[("/rooms/{room}", &["endpoint:/dash/{room}"]), ("/dash/{room}", &[]), ("/dash/admin", &[])]);
        let room = routes.find("/rooms/admin", |_| true).unwrap();
        let [Target::Room { room: target, .. }] = &routes.targets(&room, None)[..] else { panic!("one target") };
        assert_eq!(target.endpoint(), EndpointId(1));
        assert_ne!(Some(target), routes.find("/dash/admin", |_| true).as_ref());
    }

    #[test]
    fn the_leftmost_literal_wins_whatever_the_order() {
        let paths = ["/{a}/x", "/a/{b}", "/a/x", "/{a}/{b}"];
        for rotation in 0..paths.len() {
            let mut order = paths;
            order.rotate_left(rotation);
            let routes = routes(&order.map(|path| (path, &[] as &[&str])));
            for (path, winner) in [("/a/x", "/a/x"), ("/a/y", "/a/{b}"), ("/b/x", "/{a}/x"), ("/b/y", "/{a}/{b}")] {
                let room = routes.find(path, |_| true).unwrap();
                assert_eq!(order[room.endpoint().0], winner, "{path} in {order:?}");
            }
        }
    }

    #[test]
    fn an_endpoint_off_this_listener_does_not_exist() {
        let routes = routes(&[("/a", &[]), ("/{x}", &[])]);
        let room = routes.find("/a", |endpoint| endpoint != EndpointId(0)).unwrap();
        assert_eq!(room.endpoint(), EndpointId(1));
        assert_eq!(routes.find("/a", |_| false), None);
    }

    #[test]
    fn answers_may_go_back_where_messages_came_from() {
        let routes =
            routes(&[("/ask", &["endpoint:/answer"]), ("/answer", &[]), ("/chat", &["others"]), ("/up", &["link:b"])]);
        let [ask, answer, chat, up] = [0, 1, 2, 3].map(EndpointId);
        assert!(routes.leads(up, Place::Link(LinkId(1))));
        assert!(!routes.leads(up, Place::Link(LinkId(0))));
        assert!(routes.leads(ask, Place::Endpoint(answer)));
        assert!(!routes.leads(answer, Place::Endpoint(ask)));
        assert!(routes.leads(chat, Place::Endpoint(chat)));
        assert!(!routes.leads(answer, Place::Endpoint(answer)));
    }
}
