//! The API of the admin listener, as commands call it.

use std::time::Duration;

use serde::Deserialize;

use crate::cli::failure::Failure;
use crate::cli::operate::arguments::AdminArguments;
use crate::cli::operate::place::Place;
use crate::cli::operate::refusal;
use crate::dial::{CancelToken, DialError, HttpAnswer, HttpCall, HttpClient};

/// The types of bodies.
pub(super) const JSON: &str = "application/json";
pub(super) const TEXT: &str = "text/plain; charset=utf-8";
pub(super) const BINARY: &str = "application/octet-stream";

/// See the module's documentation.
pub(super) struct Api {
    place: Place,
    client: HttpClient,
    timeout: Duration,
}

impl Api {
    /// That of the admin listener that the arguments name. Nothing is asked yet.
    ///
    /// # Errors
    /// None is named, or what is named cannot be used.
    pub(super) fn new(arguments: AdminArguments) -> Result<Api, Failure> {
        let timeout = arguments.timeout;
        let place = Place::find(arguments)?;
        Ok(Api { client: place.client()?, place, timeout })
    }

    /// The same, which waits longer for answers.
    pub(super) fn patient(self, more: Duration) -> Api {
        Api { timeout: self.timeout + more, ..self }
    }

    /// The body of the answer to a GET. `doing` is what fails if there is none: `list the clients`.
    ///
    /// # Errors
    /// There is no answer, or it is an error.
    pub(super) fn get(&self, doing: &str, path: &str) -> Result<Vec<u8>, Failure> {
        self.call(doing, &HttpCall { method: "GET", path_and_query: path, body: None })
    }

    /// The same for any request.
    ///
    /// # Errors
    /// As for [`get`](Api::get).
    pub(super) fn call(&self, doing: &str, call: &HttpCall<'_>) -> Result<Vec<u8>, Failure> {
        match self.client.call(call, self.timeout, &CancelToken::default()) {
            Ok(answer) if (200..300).contains(&answer.status) => Ok(answer.body),
            Ok(answer) => Err(refusal::answered(&self.place, doing, &answer)),
            Err(error) => Err(refusal::unanswered(&self.place, doing, error)),
        }
    }

    /// Any answer to a GET.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn look(&self, path: &str) -> Result<HttpAnswer, DialError> {
        let call = HttpCall { method: "GET", path_and_query: path, body: None };
        self.client.call(&call, self.timeout, &CancelToken::default())
    }

    /// Reads the body of an answer.
    ///
    /// # Errors
    /// It is something else.
    pub(super) fn read<'a, T: Deserialize<'a>>(&self, doing: &str, body: &'a [u8]) -> Result<T, Failure> {
        serde_json::from_slice(body).map_err(|error| refusal::unreadable(&self.place, doing, &error))
    }
}

/// A query of those parameters that have a value, with its `?`; empty without any.
pub(super) fn query(parameters: &[(&str, Option<&str>)]) -> String {
    let given = parameters.iter().filter_map(|(name, value)| Some(format!("{name}={}", encoded((*value)?))));
    let given: Vec<String> = given.collect();
    if given.is_empty() { String::new() } else { format!("?{}", given.join("&")) }
}

/// A text as it stands in a segment of a path or in a query (RFC 3986 section 2.3).
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_one_value_of_a_query() {
        assert_eq!(query(&[("a", None), ("b", None)]), "");
        assert_eq!(query(&[("a", Some("x&b=1")), ("b", None), ("c", Some("/ü %"))]), "?a=x%26b%3D1&c=%2F%C3%BC%20%25");
    }
}
