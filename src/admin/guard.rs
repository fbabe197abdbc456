//! Which requests are no operator's: those that a web page of somebody else has led a browser to send, and those that show
//! a credential where logs and histories keep it. A rule.

use crate::config::ListenerSettings;
use crate::http::call::Call;
use crate::http::origin::{Place, is_address, is_loopback};
use crate::http::refusal::Refusal;
use crate::http::token::split_port;

/// How many characters of a header stand in an answer.
const SHOWN: usize = 200;

/// The parameters of a query in which programs put tokens.
const TOKENS: [&str; 6] = ["token", "access_token", "auth", "api_key", "apikey", "password"];

/// Whether a request may come from an operator.
///
/// Whoever owns a name can have it lead to this machine; a page of that name is then the same origin as the admin listener
/// to a browser, but the Host is that name. A page that sends a request elsewhere is told by Origin or Sec-Fetch-Site.
///
/// # Errors
/// 403.
pub fn check(call: &Call<'_>, listener: &ListenerSettings) -> Result<(), Refusal> {
    // Without a Host it is HTTP/1.0, which no browser speaks.
    let Some(host) = call.host else { return Ok(()) };
    let (name, port) = split_port(host);
    if !is_address(name) && !is_loopback(name) && !listener.hosts.contains(name) {
        let what = format!("the admin listener is not called '{host:.SHOWN$}'");
        return Err(Refusal::new(403, format!("{what}: use its address, or write the name into \"hosts\" of [admin]")));
    }
    if let Some(origin) = call.origin {
        let default_port = if listener.tls.is_some() { "443" } else { "80" };
        let is_same = Place::of(origin).is_some_and(|place| {
            let of_origin = place.port.or(place.default_port());
            place.host.eq_ignore_ascii_case(name) && of_origin == Some(port.unwrap_or(default_port))
        });
        if !is_same {
            return Err(Refusal::new(403, format!("a page of '{origin:.SHOWN$}' may not call the admin listener")));
        }
    }
    match call.fetch_site {
        None | Some("same-origin" | "none") => Ok(()),
        Some(site) => Err(Refusal::new(
            403,
            format!("a browser says that the request is '{site:.SHOWN$}': only its own pages may"),
        )),
    }
}

/// The parameters of a query, all of which a route must know.
///
/// # Errors
/// 400 for a parameter that is unknown or there twice, and for one that holds a credential.
pub fn query(parameters: Vec<(String, String)>, known: &[&str]) -> Result<Vec<(String, String)>, Refusal> {
    for (at, (name, _)) in parameters.iter().enumerate() {
        if TOKENS.contains(&name.to_ascii_lowercase().as_str()) {
            return Err(Refusal::new(400, "a credential must not be in the URL: send it in the header Authorization"));
        }
        if !known.contains(&name.as_str()) {
            return Err(Refusal::new(400, format!("unknown parameter '{name:.SHOWN$}'")));
        }
        if parameters[..at].iter().any(|(earlier, _)| earlier == name) {
            return Err(Refusal::new(400, format!("the parameter '{name}' is there twice")));
        }
    }
    Ok(parameters)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Hosts, Settings};
    use crate::http::call;

    fn judge(listener: &ListenerSettings, lines: &str) -> u16 {
        let head = format!("GET / HTTP/1.1\r\n{lines}\r\n");
        let call = call::parse(head.as_bytes(), 0).unwrap();
        check(&call, listener).map_or_else(|refusal| refusal.status, |()| 200)
    }

    #[test]
    fn s16_only_requests_that_no_foreign_page_can_cause_are_heard() {
        let local = Settings::default().admin.listener.unwrap();
        let named = ListenerSettings { hosts: Hosts::Named(vec!["gate.example".to_owned()]), ..local.clone() };
        for (lines, at_local, at_named) in [
            ("Host: 127.0.0.1:8081\r\n", 200, 200),
            ("Host: localhost:8081\r\n", 200, 200),
            ("Host: [::1]:8081\r\n", 200, 200),
            ("Host: gate.example\r\n", 403, 200),
            ("Host: evil.example:8081\r\n", 403, 403),
            ("Host: localhost.evil.example\r\n", 403, 403),
            ("Host: \r\n", 403, 403),
            ("Host: 127.0.0.1:8081\r\nOrigin: http://127.0.0.1:8081\r\n", 200, 200),
            ("Host: 127.0.0.1\r\nOrigin: http://127.0.0.1\r\n", 200, 200),
            ("Host: 127.0.0.1:8081\r\nOrigin: http://127.0.0.1:8080\r\n", 403, 403),
            ("Host: 127.0.0.1:8081\r\nOrigin: http://evil.example\r\n", 403, 403),
            ("Host: 127.0.0.1:8081\r\nOrigin: null\r\n", 403, 403),
            ("Host: evil.example:8081\r\nOrigin: http://evil.example:8081\r\n", 403, 403),
            ("Host: localhost:1\r\nSec-Fetch-Site: same-origin\r\n", 200, 200),
            ("Host: localhost:1\r\nSec-Fetch-Site: none\r\n", 200, 200),
            ("Host: localhost:1\r\nSec-Fetch-Site: same-site\r\n", 403, 403),
            ("Host: localhost:1\r\nSec-Fetch-Site: cross-site\r\n", 403, 403),
        ] {
            assert_eq!((judge(&local, lines), judge(&named, lines)), (at_local, at_named), "{lines}");
        }
    }

    #[test]
    fn s2_a_credential_in_the_query_is_refused_without_showing_it() {
        let of =
            |query: &str| call::parse(format!("GET /?{query} HTTP/1.0\r\n\r\n").as_bytes(), 0).unwrap().parameters();
        let judge = |text: &str| query(of(text).unwrap(), &["limit", "after"]);
        assert_eq!(judge("limit=1&after=").unwrap().len(), 2);
        for (text, words) in [("Token=hunter2", "credential"), ("x=1", "'x'"), ("limit=1&limit=2", "twice")] {
            let refusal = judge(text).unwrap_err();
            assert!(refusal.status == 400 && refusal.reason.contains(words), "{refusal:?}");
            assert!(!refusal.reason.contains("hunter2"), "{refusal:?}");
        }
    }
}
