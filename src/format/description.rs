//! What a message says of its sender's request to receivers elsewhere: members of JSON that the formats put into each
//! message, made once for each client.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::json;
use crate::path::percent_decoded;
use crate::secret::names_a_secret;

/// The keys of the description.
pub(super) const KEYS: [&str; 3] = ["path", "parameters", "query"];

/// A query is described up to the parameter with which it becomes longer than this, since it is in every message.
const QUERY_BYTES_MAX: usize = 2048;

/// `"path":...,"parameters":{...},"query":{...}`, for the path and the parameters of a room, as people read them, and
/// the query of a request, as it came.
///
/// The query has a text for each name, and a list of texts for a name that is there more than once. Names that say that
/// their value is a secret are left out, and what is behind the first 2,048 bytes.
pub fn describe<'a>(path: &str, parameters: impl Iterator<Item = (&'a str, &'a str)>, query: Option<&str>) -> Arc<str> {
    let mut out = br#""path":"#.to_vec();
    json::write_string(&mut out, path);
    out.extend_from_slice(br#","parameters":{"#);
    for (index, (name, value)) in parameters.enumerate() {
        write_key(&mut out, index, name);
        json::write_string(&mut out, value);
    }
    out.extend_from_slice(br#"},"query":{"#);
    for (index, (name, values)) in read_query(query.unwrap_or_default()).iter().enumerate() {
        write_key(&mut out, index, name);
        match &values[..] {
            [value] => json::write_string(&mut out, value),
            values => {
                out.push(b'[');
                for (index, value) in values.iter().enumerate() {
                    out.extend_from_slice(if index > 0 { b"," } else { b"" });
                    json::write_string(&mut out, value);
                }
                out.push(b']');
            }
        }
    }
    out.push(b'}');
    String::from_utf8(out).expect("JSON is UTF-8").into()
}

fn write_key(out: &mut Vec<u8>, index: usize, name: &str) {
    if index > 0 {
        out.push(b',');
    }
    json::write_string(out, name);
    out.push(b':');
}

/// The parameters of a query by name, as an HTML form writes them: `+` is a space.
fn read_query(query: &str) -> BTreeMap<String, Vec<String>> {
    let mut parameters: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut end = 0;
    for pair in query.split('&') {
        end += pair.len() + 1;
        if end > QUERY_BYTES_MAX + 1 {
            break;
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decoded(name);
        if !pair.is_empty() && !names_a_secret(&name) {
            parameters.entry(name).or_default().push(decoded(value));
        }
    }
    parameters
}

/// What is not encoded as it should be stays as it is.
fn decoded(text: &str) -> String {
    let text = text.replace('+', " ");
    let bytes = percent_decoded(&text).unwrap_or(Cow::Borrowed(text.as_bytes()));
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b22_a_request_is_described_without_its_secrets() {
        let long = format!("a={}&b=1", "x".repeat(QUERY_BYTES_MAX - 1));
        for (query, expected) in [
            (None, "{}"),
            (Some(""), "{}"),
            (Some("&&"), "{}"),
            (Some("a=1&b=x+y%20%C3%A9&c&=d"), r#"{"":"d","a":"1","b":"x y é","c":""}"#),
            (Some("a=2&b=1&%61=1&a="), r#"{"a":["2","1",""],"b":"1"}"#),
            (Some("a=%zz&b=%ff&c=\"\\"), r#"{"a":"%zz","b":"�","c":"\"\\"}"#),
            (Some("token=1&access_token=2&X-Api-Key=3&api%5Fkey=4&PASSWORD=5&sig=6&Auth=7&id=8"), r#"{"id":"8"}"#),
            (Some("monkey=1&design=2&author=3&pass=4"), r#"{"author":"3","design":"2","monkey":"1"}"#),
            (Some(&long), "{}"),
            (Some(&format!("b=1&{long}")), r#"{"b":"1"}"#),
        ] {
            let described = describe("/a/é\"", [("x", "é\""), ("y", "2")].into_iter(), query);
            let start = r#""path":"/a/é\"","parameters":{"x":"é\"","y":"2"},"query":"#;
            assert_eq!(*described, format!("{start}{expected}"), "{query:?}");
        }
        assert_eq!(*describe("/", [].into_iter(), None), *r#""path":"/","parameters":{},"query":{}"#);
    }
}
