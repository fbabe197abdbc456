//! Credentials in a request: what is found stands in its place once, and what is passed on has none.
//!
//! Input: a byte that says which places are looked at and for which scheme, then a request head.

#![no_main]

use data_encoding::BASE64URL_NOPAD;
use libfuzzer_sys::fuzz_target;
use wsgate::internals::auth::{Credential, Place, Places, Scheme, find};
use wsgate::internals::http::request::{Request, header_values, judge};

const COOKIE: &str = "session";
const QUERY: &str = "token";
const BEARER: &str = "wsgate.bearer.";

fuzz_target!(|data: &[u8]| {
    let Some((&choice, head)) = data.split_first() else { return };
    let named = |bit: u8, name: &str| (choice & bit != 0).then(|| name.to_owned());
    let places = Places {
        authorization: choice & 1 != 0,
        cookie: named(2, COOKIE),
        query: named(4, QUERY),
        subprotocol: choice & 8 != 0,
    };
    let (scheme, word) = if choice & 16 == 0 { (Scheme::Bearer, "bearer") } else { (Scheme::Basic, "basic") };
    let Ok(request) = judge(head) else { return };
    let expected = Expected::of(&places, word, head, &request);
    let found = match find(&places, scheme, head, &request) {
        Ok(found) => found,
        Err(refusal) => {
            assert_eq!(refusal.status, 400);
            assert!(expected.is_ambiguous, "{refusal:?}: {expected:?}");
            return;
        }
    };
    assert!(!expected.is_ambiguous, "{expected:?}");
    let found: Vec<_> = found.iter().map(|Credential { place, text }| (*place, text.expose().to_owned())).collect();
    assert_eq!(found, expected.credentials);
    nothing_is_passed_on(&places, scheme, head, &request);
});

/// What stands in a request, found in another way: each place taken apart into all of its parts first.
#[derive(Debug)]
struct Expected {
    credentials: Vec<(Place, String)>,
    /// A place is filled twice, or a token has no subprotocol beside it.
    is_ambiguous: bool,
}

impl Expected {
    fn of(places: &Places, word: &str, head: &[u8], request: &Request<'_>) -> Expected {
        let mut expected = Expected { credentials: Vec::new(), is_ambiguous: false };
        let mut add = |place, texts: Vec<String>| {
            expected.is_ambiguous |= texts.len() > 1;
            expected.credentials.extend(texts.into_iter().next().map(|text| (place, text)));
        };
        let mut lines = 0;
        if places.authorization {
            let values = header_values(head, "authorization");
            lines = values.len();
            let texts = values.into_iter().filter_map(|value| String::from_utf8(value).ok());
            let credential = |text: String| {
                let text = text.trim();
                let blank = text.find(' ')?;
                let rest = text[blank..].trim();
                (text[..blank].eq_ignore_ascii_case(word) && !rest.is_empty()).then(|| rest.to_owned())
            };
            add(Place::Authorization, texts.filter_map(credential).collect());
        }
        if places.cookie.is_some() {
            let all = header_values(head, "cookie").join(&b";"[..]);
            add(Place::Cookie, all.split(|byte| *byte == b';').filter_map(cookie).collect());
        }
        if places.query.is_some() {
            let pairs = request.query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
            add(Place::Query, pairs.filter_map(parameter).collect());
        }
        if places.subprotocol {
            let offered = request.subprotocols.iter().map(|name| name.to_ascii_lowercase());
            let (bearers, others): (Vec<_>, Vec<_>) = offered.partition(|name| name.starts_with(BEARER));
            let as_sent = request.subprotocols.iter().filter(|name| name.to_ascii_lowercase().starts_with(BEARER));
            add(Place::Subprotocol, as_sent.map(|name| token(&name[BEARER.len()..])).collect());
            expected.is_ambiguous |= !bearers.is_empty() && others.is_empty();
        }
        expected.is_ambiguous |= lines > 1;
        expected
    }
}

/// The value of the cookie that is looked for.
fn cookie(pair: &[u8]) -> Option<String> {
    let at = pair.iter().position(|byte| *byte == b'=')?;
    let (name, value) = (pair[..at].trim_ascii(), pair[at + 1..].trim_ascii());
    let is_quoted = value.len() >= 2 && value.starts_with(b"\"") && value.ends_with(b"\"");
    let value = if is_quoted { &value[1..value.len() - 1] } else { value };
    (name == COOKIE.as_bytes()).then(|| String::from_utf8_lossy(value).into_owned())
}

/// The value of the query parameter that is looked for.
fn parameter(pair: &str) -> Option<String> {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    (decoded(name) == QUERY).then(|| decoded(value))
}

/// A text without its percent-encoding; as it is if a part of that is none.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..2).and_then(|digits| str::from_utf8(digits).ok());
        let byte = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match (first, byte.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            (b'%', None) => return text.to_owned(),
            _ => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A token that is written in base64url without padding, and as nothing else would be.
fn token(text: &str) -> String {
    let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).unwrap_or_default();
    let token = String::from_utf8(bytes).unwrap_or_default();
    assert!(token.is_empty() || BASE64URL_NOPAD.encode(token.as_bytes()) == text);
    token
}

/// A request made of what is passed on holds a credential at most where it is passed on as it came.
fn nothing_is_passed_on(places: &Places, scheme: Scheme, head: &[u8], request: &Request<'_>) {
    let query = places.query_without(request.query.unwrap_or_default());
    let mut passed_on = format!("GET /?{query} HTTP/1.1\r\nHost: h\r\n").into_bytes();
    for value in header_values(head, "cookie").into_iter().filter_map(|value| places.cookies_without(value)) {
        passed_on.extend([&b"Cookie: "[..], &value, b"\r\n"].concat());
    }
    let subprotocols = request.subprotocols.iter().copied().filter(|name| !places.is_subprotocol(name));
    let subprotocols = subprotocols.collect::<Vec<_>>().join(",");
    passed_on.extend_from_slice(format!("Sec-WebSocket-Protocol: {subprotocols}\r\n\r\n").as_bytes());
    let request = judge(&passed_on).expect("what was a good request is one still");
    let found = find(places, scheme, &passed_on, &request);
    assert_eq!(found, Ok(Vec::new()), "{}", String::from_utf8_lossy(&passed_on));
}
