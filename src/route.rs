//! Where clients and their messages belong: which room a path leads to, and where a room's
//! messages go. Values in, value out.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::config::{
    Destination, EndpointId, EndpointSettings, LinkDestination, LinkId, LinkSettings, RoomSource, StoreId,
};
use crate::path::{self, Pattern, Segment};
use crate::table::Table;
use crate::template::Source;

/// One concrete path under an endpoint: the endpoint and the values of its parameters from left to right, which alone
/// count when two are compared. Cloning it copies no text.
#[derive(Debug, Clone)]
pub struct Room {
    endpoint: EndpointId,
    values: Arc<[Box<str>]>,
    /// The endpoint's path. Its parameters may be called otherwise by now.
    pattern: Arc<Pattern>,
}

impl PartialEq for Room {
    fn eq(&self, other: &Room) -> bool {
        self.endpoint == other.endpoint && self.values == other.values
    }
}

impl Eq for Room {}

impl Hash for Room {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.endpoint.hash(state);
        self.values.hash(state);
    }
}

/// The room as a path, for people: decoded, so not fit for a URL.
impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut values = self.values.iter();
        for segment in self.pattern.segments() {
            match segment {
                Segment::Literal(literal) => write!(f, "/{literal}")?,
                Segment::Parameter(_) => write!(f, "/{}", values.next().map_or("", |value| value))?,
            }
        }
        Ok(())
    }
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

    /// Its parameters from left to right, as its endpoint's path calls them now.
    pub fn parameters<'a>(&'a self, path: &'a Pattern) -> impl Iterator<Item = (&'a str, &'a str)> {
        path.names().zip(self.values.iter().map(|value| &**value))
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
    /// Into a store.
    Store(StoreId),
}

/// Which of the gateway's outlets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OutletId(u32);

impl OutletId {
    /// The one with this number.
    pub fn numbered(number: u32) -> OutletId {
        OutletId(number)
    }

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
    pattern: Arc<Pattern>,
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
        Ok(Room { endpoint: self.endpoint, values: values.into(), pattern: Arc::clone(&self.pattern) })
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
#[derive(Debug, Default)]
pub struct Routes {
    endpoints: Table<EndpointId, EndpointRoute>,
    /// The targets of each link.
    links: Table<LinkId, Vec<Target>>,
}

#[derive(Debug)]
struct EndpointRoute {
    pattern: Arc<Pattern>,
    to: Vec<Destination>,
}

impl Routes {
    /// The routes of a configuration's endpoints and links, which have the numbers of their places in it.
    pub fn new(endpoints: &[EndpointSettings], links: &[LinkSettings]) -> Routes {
        let endpoints = endpoints.iter().enumerate().map(|(index, endpoint)| (EndpointId(index), endpoint));
        Routes::of(endpoints, links.iter().enumerate().map(|(index, link)| (LinkId(index), link)))
    }

    /// The routes of these endpoints and links.
    pub fn of<'a>(
        endpoints: impl Iterator<Item = (EndpointId, &'a EndpointSettings)>,
        links: impl Iterator<Item = (LinkId, &'a LinkSettings)>,
    ) -> Routes {
        let of_endpoint = |(id, endpoint): (EndpointId, &EndpointSettings)| {
            (id, EndpointRoute { pattern: Arc::new(endpoint.path.clone()), to: endpoint.to.clone() })
        };
        let routes = Routes { endpoints: endpoints.map(of_endpoint).collect(), links: Table::default() };
        let of_link = |(id, link): (LinkId, &LinkSettings)| {
            (id, link.to.iter().filter_map(|destination| routes.link_target(id, &link.name, destination)).collect())
        };
        Routes { links: links.map(of_link).collect(), ..routes }
    }

    /// The room that a request's path (without the query) leads to, among the endpoints that
    /// `reachable` admits. Where several match, the leftmost literal segment wins.
    pub fn find(&self, path: &str, reachable: impl Fn(EndpointId) -> bool) -> Option<Room> {
        let mut best: Option<Room> = None;
        for (id, EndpointRoute { pattern, .. }) in self.endpoints.iter() {
            let Some(values) = pattern.matches(path).filter(|_| reachable(id)) else { continue };
            if best.as_ref().is_none_or(|best| pattern.precedes(&best.pattern)) {
                // The default is there already: a client whose path has no parameters takes no memory for their values.
                let values = if values.is_empty() { Arc::default() } else { values.into() };
                best = Some(Room { endpoint: id, values, pattern: Arc::clone(pattern) });
            }
        }
        best
    }

    /// Where the messages of a room's client go, in the order of the configuration. `identity` is the client's name, if its
    /// endpoint authenticates clients.
    pub fn targets(&self, room: &Room, identity: Option<&str>) -> Vec<Target> {
        let target = |destination: &Destination| match destination {
            Destination::Reply => Some(Target::Reply),
            Destination::Broadcast => Some(Target::Room { room: room.clone(), except_sender: false }),
            Destination::Others => Some(Target::Room { room: room.clone(), except_sender: true }),
            Destination::Endpoint { id, values } => {
                let values = values.iter().map(|&index| room.values[index].clone()).collect();
                let room = Room { endpoint: *id, values, pattern: self.pattern(*id)? };
                Some(Target::Room { room, except_sender: false })
            }
            Destination::Picked { id, template, sources } => {
                let part = |source: &RoomSource| match source {
                    RoomSource::Own(index) => Part::Fixed(room.values[*index].clone()),
                    // Nobody is let in without one.
                    RoomSource::Identity => Part::Fixed(identity.unwrap_or_default().into()),
                    RoomSource::Field(keys) => Part::Field(keys.clone()),
                };
                let (parts, shown) = (sources.iter().map(part).collect(), format!("endpoint:{template}"));
                Some(Pick { endpoint: *id, pattern: self.pattern(*id)?, parts, shown }.into_target())
            }
            Destination::Link(id) => Some(Target::Outlet((*id).into())),
            Destination::Store(id) => Some(Target::Store(*id)),
        };
        let route = self.endpoints.get(room.endpoint);
        route.into_iter().flat_map(|route| &route.to).filter_map(target).collect()
    }

    /// Where the messages of a link's remote go, in the order of the configuration.
    pub fn targets_of_link(&self, link: LinkId) -> Vec<Target> {
        self.links.get(link).cloned().unwrap_or_default()
    }

    /// Whether what the clients of the endpoint `from` send goes to `to`, so that an answer from there may
    /// be addressed to them.
    pub fn leads(&self, from: EndpointId, to: Place) -> bool {
        let leads = |destination: &Destination| match destination {
            Destination::Reply | Destination::Store(_) => false,
            Destination::Broadcast | Destination::Others => to == Place::Endpoint(from),
            Destination::Endpoint { id, .. } | Destination::Picked { id, .. } => to == Place::Endpoint(*id),
            Destination::Link(id) => to == Place::Link(*id),
        };
        self.endpoints.get(from).is_some_and(|route| route.to.iter().any(leads))
    }

    fn pattern(&self, id: EndpointId) -> Option<Arc<Pattern>> {
        self.endpoints.get(id).map(|route| Arc::clone(&route.pattern))
    }

    /// Where a link's remote sends to with this destination; a room that is the same for every message is picked here.
    fn link_target(&self, own: LinkId, name: &str, destination: &LinkDestination) -> Option<Target> {
        match destination {
            LinkDestination::Reply => Some(Target::Outlet(own.into())),
            LinkDestination::Link(other) => Some(Target::Outlet((*other).into())),
            LinkDestination::Store(id) => Some(Target::Store(*id)),
            LinkDestination::Endpoint { id, template } => {
                let part = |source: &Source| match source {
                    Source::Link => Part::Fixed(name.into()),
                    Source::Field(keys) => Part::Field(keys.clone()),
                };
                let (parts, shown) = (template.sources().iter().map(part).collect(), format!("endpoint:{template}"));
                Some(Pick { endpoint: *id, pattern: self.pattern(*id)?, parts, shown }.into_target())
            }
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
            Target::Store(store) => format!("store {}", store.0),
            Target::Room { room, except_sender } => {
                format!("{room}{}", if *except_sender { " but the sender" } else { "" })
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
