//! Which requests are admitted, and to which room; the others get an answer that says why not. A rule.

use crate::config::{EndpointId, EndpointSettings, Origins};
use crate::http::refusal::Refusal;
use crate::http::request::{Intent, Request};
use crate::http::token::split_port;
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

/// Admits a request that came in over the listener of this name.
///
/// # Errors
/// 404 for a path that leads nowhere on this listener, 426 for a request that is no upgrade, 403
/// for a page of a foreign origin.
pub fn admit<'a>(
    request: &Request<'a>,
    routes: &Routes,
    endpoints: &[&EndpointSettings],
    listener: &str,
) -> Result<Admission<'a>, Refusal> {
    let reachable = |id: EndpointId| endpoints[id].listen.as_ref().is_none_or(|names| names.contains(listener));
    let room = routes
        .find(request.path, reachable)
        .ok_or_else(|| Refusal::new(404, format!("there is no endpoint at '{:.PATH_SHOWN$}'", request.path)))?;
    let endpoint = endpoints[room.endpoint()];
    let Intent::Upgrade { key } = request.intent else {
        return Err(Refusal::new(426, "this is a WebSocket endpoint: connect with ws:// or wss://"));
    };
    if let Some(origin) = request.origin.filter(|origin| !is_welcome(&endpoint.origins, origin, request.host)) {
        let reason = format!("pages of '{origin}' may not connect to '{}': `origins` does not list them", request.host);
        return Err(Refusal::new(403, reason));
    }
    let subprotocol = endpoint.subprotocols.iter().find(|ours| request.subprotocols.contains(&ours.as_str())).cloned();
    Ok(Admission { room, key, subprotocol })
}

/// Whether a browser page of this origin may connect. A request without an origin is not asked:
/// no browser, no cross-site attack.
fn is_welcome(origins: &Origins, origin: &str, host: &str) -> bool {
    match origins {
        Origins::Any => true,
        Origins::List(list) => list.iter().any(|listed| listed.eq_ignore_ascii_case(origin)),
        Origins::Same => is_same_host(origin, host),
    }
}

/// Whether an origin's host and port are those that the request names. A missing port is that of the
/// origin's scheme, on both sides: the page and the socket are at the same place.
fn is_same_host(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let default_port = match scheme.to_ascii_lowercase().as_str() {
        "http" => "80",
        "https" => "443",
        _ => return false,
    };
    let (origin_name, origin_port) = split_port(authority);
    let (host_name, host_port) = split_port(host);
    origin_name.eq_ignore_ascii_case(host_name)
        && origin_port.unwrap_or(default_port) == host_port.unwrap_or(default_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_judged_by_its_origin() {
        let list = Origins::List(vec!["https://dash.example".to_owned()]);
        let table: [(&Origins, &str, &str, bool); 16] = [
            (&Origins::Same, "http://here:8080", "here:8080", true),
            (&Origins::Same, "http://HERE:8080", "here:8080", true),
            (&Origins::Same, "http://here", "here", true),
            (&Origins::Same, "https://here", "here:443", true),
            (&Origins::Same, "http://here", "here:8080", false),
            (&Origins::Same, "http://here:8081", "here:8080", false),
            (&Origins::Same, "http://here.evil", "here", false),
            (&Origins::Same, "http://evil", "here", false),
            (&Origins::Same, "null", "here", false),
            (&Origins::Same, "file://", "", false),
            (&Origins::Same, "http://[::1]:8080", "[::1]:8080", true),
            (&Origins::Same, "http://[::1]", "[::1]", true),
            (&list, "https://dash.example", "x", true),
            (&list, "https://dash.example.evil", "x", false),
            (&list, "http://dash.example", "dash.example", false),
            (&Origins::Any, "null", "x", true),
        ];
        for (origins, origin, host, expected) in table {
            assert_eq!(is_welcome(origins, origin, host), expected, "{origins:?} {origin:?} {host}");
        }
    }

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
            let admission = admit(&request, &routes, &[&endpoint], "main").unwrap();
            assert_eq!(admission.subprotocol.as_deref(), agreed);
        }
    }
}
