//! Which requests are admitted, and to which room; the others get an answer that says why not. A rule.

use crate::approach::AskedHost;
use crate::client::origin;
use crate::config::{EndpointId, EndpointSettings, ListenerSettings};
use crate::http::refusal::Refusal;
use crate::http::request::{Intent, Request};
use crate::route::{Room, Routes};

/// How many characters of a path that leads nowhere stand in the answer and the log.
const PATH_SHOWN: usize = 200;

/// A request that may become a client, if there is a place left for it.
#[derive(Debug, PartialEq, Eq)]
pub struct Admission<'a> {
    /// The room it asked for.
    pub room: Room,
    /// Its Sec-WebSocket-Key.
    pub key: &'a str,
    /// The subprotocol that was agreed, in the endpoint's own spelling.
    pub subprotocol: Option<String>,
}

/// Admits a request that came in over this listener, to one of the endpoints that have settings.
///
/// # Errors
/// 404 for a path that leads nowhere on this listener, 426 for a request that is no upgrade, 403
/// for an origin that is not allowed.
#[inline(never)]
pub fn admit<'a, 's>(
    request: &Request<'a>,
    routes: &Routes,
    settings: impl Fn(EndpointId) -> Option<&'s EndpointSettings>,
    listener: &ListenerSettings,
    host: &AskedHost,
) -> Result<Admission<'a>, Refusal> {
    let (endpoint, room) = find(request, routes, settings, listener)?;
    let Intent::Upgrade { key } = request.intent else {
        return Err(Refusal::new(426, "this is a WebSocket endpoint: connect with ws:// or wss://"));
    };
    if let Some(origin) = request.origin {
        origin::check(endpoint, listener, origin, host)?;
    }
    let subprotocol = endpoint.subprotocols.iter().find(|ours| request.subprotocols.contains(&ours.as_str())).cloned();
    Ok(Admission { room, key, subprotocol })
}

/// The room that a request over this listener asks for, and its endpoint: one of those that have settings.
///
/// # Errors
/// 404 for a path that leads nowhere on this listener.
pub fn find<'s>(
    request: &Request<'_>,
    routes: &Routes,
    settings: impl Fn(EndpointId) -> Option<&'s EndpointSettings>,
    listener: &ListenerSettings,
) -> Result<(&'s EndpointSettings, Room), Refusal> {
    let reachable = |id: EndpointId| settings(id).is_some_and(|settings| settings.is_on(listener));
    let found = routes.find(request.path, reachable).and_then(|room| Some((settings(room.endpoint())?, room)));
    found.ok_or_else(|| {
        // One that would fit but for an encoded slash is told so.
        let decoded = request.path.replace("%2F", "-").replace("%2f", "-");
        let is_slash = decoded != request.path && routes.find(&decoded, reachable).is_some();
        let why = if is_slash { ": a parameter takes no encoded slash (%2F), use values without '/'" } else { "" };
        Refusal::new(404, format!("there is no endpoint at '{:.PATH_SHOWN$}'{why}", request.path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_our_subprotocols_that_was_offered_is_agreed() {
        let endpoint =
            EndpointSettings { subprotocols: vec!["b".to_owned(), "a".to_owned()], ..EndpointSettings::default() };
        let routes = Routes::new(std::slice::from_ref(&endpoint), &[]);
        for (offered, agreed) in
            [(vec!["a", "b"], Some("b")), (vec!["a"], Some("a")), (vec!["A"], None), (vec![], None)]
        {
            let request = Request {
                path: "/",
                query: None,
                host: "h",
                origin: None,
                user_agent: None,
                subprotocols: offered,
                intent: Intent::Upgrade { key: "k" },
            };
            let host = AskedHost { name: "h".to_owned(), is_forwarded: false };
            let admission = admit(&request, &routes, |_| Some(&endpoint), &ListenerSettings::default(), &host).unwrap();
            assert_eq!(admission.subprotocol.as_deref(), agreed);
        }
    }
}
