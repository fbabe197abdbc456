//! Routes: the destinations of a `to`.

use std::fmt;

use crate::config::section::{Value, nearest};
use crate::config::text::Text;
use crate::path::{Pattern, PatternError, VALUE_BYTES_MAX};
use crate::template::Template;

/// Whose messages a route is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sender {
    /// The clients of an endpoint.
    Endpoint,
    /// The remote of a link.
    Link,
}

impl Sender {
    /// The destinations that its route may have, for people.
    fn known(self) -> &'static str {
        match self {
            Sender::Endpoint => {
                "\"reply\", \"broadcast\", \"others\", \"endpoint:/path\", \"link:NAME\" or \"store:NAME\""
            }
            Sender::Link => "\"reply\", \"endpoint:/path\", \"link:NAME\" or \"store:NAME\"",
        }
    }
}

/// A destination of an endpoint's clients, as it is written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum RawDestination {
    Reply,
    Broadcast,
    Others,
    Endpoint(Pattern),
    /// A path of an endpoint that has keys of a message in its braces.
    Picked(Template),
    Link(String),
    Store(String),
}

/// A destination of a link's remote, as it is written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum RawLinkDestination {
    Reply,
    Endpoint(Template),
    Link(String),
    Store(String),
}

/// A destination of which the path is not read.
enum Words<'t> {
    Reply,
    Broadcast,
    Others,
    Endpoint(&'t str),
    Link(&'t str),
    Store(&'t str),
}

/// Destinations, each with its text, and whether all that are written are good.
type Route<D> = (Vec<(D, Text)>, bool);

/// Reads the destinations of an endpoint.
pub(super) fn endpoint_route(value: &Value<'_>) -> Route<RawDestination> {
    route(value, |text| {
        Some(match words(value, text, Sender::Endpoint)? {
            Words::Reply => RawDestination::Reply,
            Words::Broadcast => RawDestination::Broadcast,
            Words::Others => RawDestination::Others,
            Words::Endpoint(path) => match (Pattern::parse(path), Template::parse(path)) {
                (Err(PatternError::BadName(_)), Ok(template)) => RawDestination::Picked(template),
                (pattern, _) => RawDestination::Endpoint(good(value, text, pattern)?),
            },
            Words::Link(name) => RawDestination::Link(name.to_owned()),
            Words::Store(name) => RawDestination::Store(name.to_owned()),
        })
    })
}

/// Reads the destinations of a link.
pub(super) fn link_route(value: &Value<'_>) -> Route<RawLinkDestination> {
    route(value, |text| {
        Some(match words(value, text, Sender::Link)? {
            Words::Reply => RawLinkDestination::Reply,
            Words::Broadcast | Words::Others => {
                let written = &text.written;
                value.mistake_at(
                    text.at,
                    format_args!(
                        "has {written:?}, which is for endpoints only: write \"endpoint:/path\" for the clients of an endpoint"
                    ),
                );
                return None;
            }
            Words::Endpoint(path) => RawLinkDestination::Endpoint(good(value, text, Template::parse(path))?),
            Words::Link(name) => RawLinkDestination::Link(name.to_owned()),
            Words::Store(name) => RawLinkDestination::Store(name.to_owned()),
        })
    })
}

fn route<D: PartialEq>(value: &Value<'_>, read: impl Fn(&Text) -> Option<D>) -> Route<D> {
    let mut all_good = true;
    let mut to: Vec<(D, Text)> = Vec::new();
    for text in value.words().unwrap_or_default() {
        let Some(destination) = read(&text) else {
            all_good = false;
            continue;
        };
        if to.iter().any(|(earlier, _)| *earlier == destination) {
            value.mistake_at(text.at, format_args!("has {:?} twice: remove one", text.written));
            continue;
        }
        to.push((destination, text));
    }
    (to, all_good)
}

fn good<T>(value: &Value<'_>, text: &Text, path: Result<T, impl fmt::Display>) -> Option<T> {
    path.map_err(|error| value.mistake_at(text.at, format_args!("has {:?}: {error}", text.written))).ok()
}

fn words<'t>(value: &Value<'_>, text: &'t Text, sender: Sender) -> Option<Words<'t>> {
    let written = &text.written;
    let mistake = |advice: String| value.mistake_at(text.at, advice);
    match text.value.split_once(':') {
        None => match &*text.value {
            "reply" => return Some(Words::Reply),
            "broadcast" => return Some(Words::Broadcast),
            "others" => return Some(Words::Others),
            _ if text.value.starts_with('/') => {
                let clients = if sender == Sender::Link { "an endpoint" } else { "another endpoint" };
                mistake(format!("has {written:?}: write \"endpoint:{written}\" for the clients of {clients}"));
            }
            _ => {
                let words: &[&str] =
                    if sender == Sender::Link { &["reply"] } else { &["reply", "broadcast", "others"] };
                let advice = nearest(written, words.iter().copied())
                    .map_or_else(|| format!("write {}", sender.known()), |near| format!("did you mean {near:?}?"));
                mistake(format!("has the unknown destination {written:?}: {advice}"));
            }
        },
        Some(("endpoint", path)) => return Some(Words::Endpoint(path)),
        Some(("link", name)) if is_name(name) => return Some(Words::Link(name)),
        Some(("store", name)) if is_name(name) => return Some(Words::Store(name)),
        Some((kind @ ("link" | "store"), _)) => {
            let example = if kind == "link" { "link:plc" } else { "store:readings" };
            mistake(format!(
                "has {written:?}, but the name of a {kind} has only letters, digits, \"-\" and \"_\", 128 at most: write for example {example:?}"
            ));
        }
        Some(("relay", _)) => mistake(format!(
            "has {written:?}, but a relay is no destination: write relay = {{ url = \"ws://...\" }} in the [[endpoint]] \
             whose clients it is for"
        )),
        Some(("bridge", _)) => mistake(format!("has {written:?}, but this build has no bridges: remove it")),
        Some(_) => mistake(format!("has the unknown destination {written:?}: write {}", sender.known())),
    }
    None
}

/// Whether a link or a store can be called this: it stands in destinations, in the log and, as `{link}`, in the path of a
/// room.
pub(super) fn is_name(text: &str) -> bool {
    (1..=VALUE_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}
