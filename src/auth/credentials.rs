//! Where a request holds credentials: finding them, and what of the request is passed on without them. A rule.

use std::borrow::Cow;
use std::fmt;

use data_encoding::BASE64URL_NOPAD;

use crate::http::refusal::Refusal;
use crate::http::request::{self, Request};
use crate::path::percent_decoded;
use crate::secret::Secret;

/// What a subprotocol begins with that holds a token, in base64url without padding: browsers can set no header.
const BEARER_SUBPROTOCOL: &str = "wsgate.bearer.";

/// The places in which an `[[auth]]` looks for credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The header Authorization. Default true.
    pub authorization: bool,
    /// The cookie of this name.
    pub cookie: Option<String>,
    /// The query parameter of this name.
    pub query: Option<String>,
    /// The subprotocol `wsgate.bearer.TOKEN`. Default false.
    pub subprotocol: bool,
}

impl Default for Places {
    fn default() -> Places {
        Places { authorization: true, cookie: None, query: None, subprotocol: false }
    }
}

/// What stands before a credential in Authorization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// A token (RFC 6750).
    Bearer,
    /// A user and a password (RFC 7617).
    Basic,
}

impl Scheme {
    fn word(self) -> &'static str {
        match self {
            Scheme::Bearer => "Bearer",
            Scheme::Basic => "Basic",
        }
    }

    /// What a request without a right one is answered in WWW-Authenticate.
    pub fn challenge(self) -> &'static str {
        match self {
            Scheme::Bearer => "Bearer realm=\"wsgate\"",
            Scheme::Basic => "Basic realm=\"wsgate\", charset=\"UTF-8\"",
        }
    }
}

/// Where a credential stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The header Authorization.
    Authorization,
    /// A cookie.
    Cookie,
    /// A query parameter.
    Query,
    /// A subprotocol.
    Subprotocol,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Place::Authorization => "in Authorization",
            Place::Cookie => "in the cookie",
            Place::Query => "in the query",
            Place::Subprotocol => "in the subprotocols",
        })
    }
}

/// A credential of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// Where it stands.
    pub place: Place,
    /// What stands there, decoded as its place demands. Basic's is base64 still.
    pub text: Secret,
}

/// The credentials of a request in these places, at most one from each, in the order in which they are tried.
///
/// # Errors
/// 400 for a place that is filled twice, and for a subprotocol with a token and no other beside it.
pub fn find(places: &Places, scheme: Scheme, head: &[u8], request: &Request<'_>) -> Result<Vec<Credential>, Refusal> {
    // Few have more than one, and what is freed stays at hand in the client's thread.
    let mut found = Vec::with_capacity(1);
    let mut add = |place, texts: Vec<String>| {
        let mut texts = texts.into_iter();
        if let Some(text) = texts.next() {
            found.push(Credential { place, text: Secret::new(text) });
        }
        match texts.next() {
            Some(_) => Err(Refusal::new(400, format!("more than one credential {place}"))),
            None => Ok(()),
        }
    };
    if places.authorization {
        add(Place::Authorization, authorization(head, scheme)?.into_iter().collect())?;
    }
    if let Some(name) = &places.cookie {
        add(Place::Cookie, cookies(head, name))?;
    }
    if let Some(name) = &places.query {
        add(Place::Query, parameters(request.query.unwrap_or_default(), name))?;
    }
    if places.subprotocol {
        add(Place::Subprotocol, bearers(request)?)?;
    }
    Ok(found)
}

/// What stands in the header Authorization behind the scheme. The functions for the places are not inlined into each other:
/// a client's stack is deepest here.
#[inline(never)]
fn authorization(head: &[u8], scheme: Scheme) -> Result<Option<String>, Refusal> {
    let mut values = request::header_values(head, "Authorization");
    if values.len() > 1 {
        return Err(Refusal::new(400, "more than one Authorization header"));
    }
    Ok(values.pop().and_then(|value| of_scheme(&value, scheme)))
}

/// The tokens among the subprotocols.
#[inline(never)]
fn bearers(request: &Request<'_>) -> Result<Vec<String>, Refusal> {
    let (bearers, others): (Vec<&str>, Vec<&str>) = request.subprotocols.iter().partition(|name| is_bearer(name));
    if !bearers.is_empty() && others.is_empty() {
        let why = "offer a subprotocol of your own beside that with the token: browsers want an answer to one";
        return Err(Refusal::new(400, why));
    }
    Ok(bearers.into_iter().map(of_subprotocol).collect())
}

/// What stands behind the scheme, if it is this one.
fn of_scheme(value: &[u8], scheme: Scheme) -> Option<String> {
    let (word, rest) = std::str::from_utf8(value).ok()?.trim().split_once(' ')?;
    let rest = rest.trim();
    (word.eq_ignore_ascii_case(scheme.word()) && !rest.is_empty()).then(|| rest.to_owned())
}

/// The values of the cookies of this name (RFC 6265 section 5.4).
#[inline(never)]
fn cookies(head: &[u8], name: &str) -> Vec<String> {
    let mut values = Vec::new();
    for header in request::header_values(head, "Cookie") {
        for pair in String::from_utf8_lossy(&header).split(';') {
            // No other blanks than those of ASCII, as where it is taken out.
            if let Some((_, value)) = pair.split_once('=').filter(|(own, _)| own.trim_ascii() == name) {
                let value = value.trim_ascii();
                let bare = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
                values.push(bare.unwrap_or(value).to_owned());
            }
        }
    }
    values
}

/// The values of the query parameters of this name. A `+` is a `+`: no token has a blank.
#[inline(never)]
fn parameters(query: &str, name: &str) -> Vec<String> {
    let pairs = query.split('&').filter(|pair| is_parameter(pair, name));
    pairs.map(|pair| decoded(pair.split_once('=').map_or("", |(_, value)| value))).collect()
}

fn is_parameter(pair: &str, name: &str) -> bool {
    !pair.is_empty() && decoded(pair.split_once('=').map_or(pair, |(name, _)| name)) == name
}

/// What is not encoded as it should be stays as it is.
fn decoded(text: &str) -> String {
    let bytes = percent_decoded(text).unwrap_or(Cow::Borrowed(text.as_bytes()));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether a subprotocol is where a token stands, as far as its name says; such a one is never agreed to.
pub fn is_bearer(subprotocol: &str) -> bool {
    subprotocol.get(..BEARER_SUBPROTOCOL.len()).is_some_and(|start| start.eq_ignore_ascii_case(BEARER_SUBPROTOCOL))
}

/// The token in a subprotocol; one that is not encoded as it should be is nobody's.
fn of_subprotocol(subprotocol: &str) -> String {
    let token = BASE64URL_NOPAD.decode(&subprotocol.as_bytes()[BEARER_SUBPROTOCOL.len()..]);
    token.ok().and_then(|token| String::from_utf8(token).ok()).unwrap_or_default()
}

impl Places {
    /// A query without the credential in it.
    pub fn query_without<'q>(&self, query: &'q str) -> Cow<'q, str> {
        match &self.query {
            Some(name) if query.split('&').any(|pair| is_parameter(pair, name)) => {
                query.split('&').filter(|pair| !is_parameter(pair, name)).collect::<Vec<_>>().join("&").into()
            }
            _ => query.into(),
        }
    }

    /// The value of a Cookie header without the credential in it; `None` if nothing else is in it.
    pub fn cookies_without(&self, value: Vec<u8>) -> Option<Vec<u8>> {
        let Some(name) = &self.cookie else { return Some(value) };
        let is_own = |pair: &&[u8]| {
            let end = pair.iter().position(|byte| *byte == b'=').unwrap_or(0);
            pair[..end].trim_ascii() == name.as_bytes()
        };
        if !value.split(|byte| *byte == b';').any(|pair| is_own(&pair)) {
            return Some(value);
        }
        let rest = value.split(|byte| *byte == b';').filter(|pair| !is_own(pair)).map(<[u8]>::trim_ascii);
        Some(rest.collect::<Vec<_>>().join(&b"; "[..])).filter(|rest| !rest.is_empty())
    }

    /// Whether this subprotocol is a credential.
    pub fn is_subprotocol(&self, subprotocol: &str) -> bool {
        self.subprotocol && is_bearer(subprotocol)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every place.
    fn places() -> Places {
        let named = |name: &str| Some(name.to_owned());
        Places { authorization: true, cookie: named("session"), query: named("token"), subprotocol: true }
    }

    fn head(target: &str, lines: &[&str]) -> Vec<u8> {
        let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        format!(
            "GET {target} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
        )
        .into_bytes()
    }

    fn found(places: &Places, scheme: Scheme, target: &str, lines: &[&str]) -> Result<Vec<String>, u16> {
        let head = head(target, lines);
        let request = request::judge(&head).unwrap();
        match find(places, scheme, &head, &request) {
            Ok(found) => {
                Ok(found.iter().map(|Credential { place, text }| format!("{} {place}", text.expose())).collect())
            }
            Err(refusal) => Err(refusal.status),
        }
    }

    #[test]
    fn a_credential_is_found_in_each_place_that_is_on() {
        let subprotocol = "Sec-WebSocket-Protocol: chat, wsgate.bearer.YS1i";
        let all = ["Authorization: bearer  1 ", "Cookie: x=y; session=\"2\"", subprotocol];
        let each = ["1 in Authorization", "2 in the cookie", "3 in the query", "a-b in the subprotocols"];
        assert_eq!(found(&places(), Scheme::Bearer, "/?a=b&token=3", &all).unwrap(), each);
        assert_eq!(found(&Places::default(), Scheme::Bearer, "/?token=3", &all).unwrap(), each[..1]);
        let none = Places { authorization: false, ..Places::default() };
        assert_eq!(found(&none, Scheme::Bearer, "/?token=3", &all).unwrap(), [] as [&str; 0]);
        for (target, lines, expected) in [
            ("/", &["Authorization: Basic YTpi"][..], None),
            ("/", &["Authorization: Bearer"], None),
            ("/", &["Authorization: Bearer "], None),
            ("/", &["Authorization: 1"], None),
            ("/", &["Authorization: \u{ff}"], None),
            ("/", &["Cookie: Session=1; sessions=2; mysession=3; session"], None),
            ("/", &["Cookie: \u{a0}session=1"], None),
            ("/", &["Cookie: a=b", "Cookie: session = 4"], Some("4 in the cookie")),
            ("/?%74oken=%31+2", &[], Some("1+2 in the query")),
            ("/?token", &[], Some(" in the query")),
            ("/?token=%ff", &[], Some("\u{fffd} in the query")),
            ("/?Token=1&tokens=2&x=token=3", &[], None),
            ("/", &["Sec-WebSocket-Protocol: a, WSGATE.BEARER.YQ"], Some("a in the subprotocols")),
            ("/", &["Sec-WebSocket-Protocol: a, wsgate.bearer.Y"], Some(" in the subprotocols")),
            ("/", &["Sec-WebSocket-Protocol: a, wsgate.bearer"], None),
        ] {
            let expected: Vec<&str> = expected.into_iter().collect();
            assert_eq!(found(&places(), Scheme::Bearer, target, lines).unwrap(), expected, "{target} {lines:?}");
        }
        assert_eq!(
            found(&places(), Scheme::Basic, "/", &["Authorization: BASIC YTpi"]).unwrap(),
            ["YTpi in Authorization"]
        );
    }

    #[test]
    fn a_place_that_is_filled_twice_is_refused() {
        for (target, lines) in [
            ("/", &["Authorization: Bearer a", "Authorization: Bearer a"][..]),
            ("/", &["Authorization: Basic a", "Authorization: Bearer a"]),
            ("/", &["Cookie: session=1; session=1"]),
            ("/", &["Cookie: session=1", "Cookie: session=2"]),
            ("/?token=1&token=1", &[]),
            ("/?token=1&%74oken=2", &[]),
            ("/", &["Sec-WebSocket-Protocol: a, wsgate.bearer.YQ, wsgate.bearer.YQ"]),
            ("/", &["Sec-WebSocket-Protocol: wsgate.bearer.YQ"]),
        ] {
            assert_eq!(found(&places(), Scheme::Bearer, target, lines), Err(400), "{target} {lines:?}");
        }
        // What is no place of a credential may stand there as often as it likes.
        let elsewhere = Places { authorization: false, ..Places::default() };
        assert_eq!(
            found(&elsewhere, Scheme::Bearer, "/?token=1&token=1", &["Cookie: session=1; session=1"]),
            Ok(vec![])
        );
    }

    #[test]
    fn what_is_passed_on_has_no_credential() {
        for (query, rest) in [
            ("token=1", ""),
            ("a=1&token=2&b=3", "a=1&b=3"),
            ("%74oken=2&b", "b"),
            ("token=1&token=2&a=%20+", "a=%20+"),
            ("tokens=1&a=token", "tokens=1&a=token"),
            ("a&&b", "a&&b"),
        ] {
            assert_eq!(places().query_without(query), rest, "{query}");
            assert_eq!(Places::default().query_without(query), query);
        }
        for (value, rest) in [
            ("session=1", None),
            ("a=1; session=2; b=3", Some("a=1; b=3")),
            ("a=1;session=2", Some("a=1")),
            ("sessions=1;  b=session=", Some("sessions=1;  b=session=")),
        ] {
            let without = places().cookies_without(value.as_bytes().to_vec());
            assert_eq!(without.as_deref(), rest.map(str::as_bytes), "{value}");
        }
        assert!(places().is_subprotocol("wsgate.bearer.YQ") && !Places::default().is_subprotocol("wsgate.bearer.YQ"));
    }
}
