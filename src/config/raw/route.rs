//! Routes: the destinations of a `to`.

use crate::config::section::{Text, Value, nearest};
use crate::config::settings::Destination;
use crate::path::Pattern;
use crate::template::Template;

use super::link::is_name;

/// Whose messages a route is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sender {
    /// The clients of an endpoint.
    Endpoint,
    /// The remote of a link.
    Link,
}

impl Sender {
    /// The destinations that its route may have, for people.
    fn known(self) -> &'static str {
        match self {
            Sender::Endpoint => "\"reply\", \"broadcast\", \"others\", \"endpoint:/path\" or \"link:NAME\"",
            Sender::Link => "\"reply\", \"endpoint:/path\" or \"link:NAME\"",
        }
    }
}

/// Reads the destinations of an endpoint or a link, each with its text, and whether all of them are good.
pub(super) fn route(value: &Value<'_>, sender: Sender) -> (Vec<(Destination, Text)>, bool) {
    let mut all_good = true;
    let mut to: Vec<(Destination, Text)> = Vec::new();
    for text in value.texts().unwrap_or_default() {
        let Some(destination) = destination(value, &text, sender) else {
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

fn destination(value: &Value<'_>, text: &Text, sender: Sender) -> Option<Destination> {
    let written = &text.written;
    let mistake = |advice: String| value.mistake_at(text.at, advice);
    match text.value.split_once(':') {
        None => match &*text.value {
            "reply" => return Some(Destination::Reply),
            "broadcast" | "others" if sender == Sender::Link => mistake(format!(
                "has {written:?}, but a link is in no room: write \"endpoint:/path\" for the clients of an endpoint"
            )),
            "broadcast" => return Some(Destination::Broadcast),
            "others" => return Some(Destination::Others),
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
        Some(("endpoint", path)) if sender == Sender::Link => match Template::parse(path) {
            Ok(_) => return Some(Destination::Endpoint(path.to_owned())),
            Err(error) => mistake(format!("has {written:?}: {error}")),
        },
        Some(("endpoint", path)) => match Pattern::parse(path) {
            Ok(_) => return Some(Destination::Endpoint(path.to_owned())),
            Err(error) => mistake(format!("has {written:?}: {error}")),
        },
        Some(("link", name)) if is_name(name) => return Some(Destination::Link(name.to_owned())),
        Some(("link", _)) => mistake(format!(
            "has {written:?}, but a link is called by letters, digits, \"-\" and \"_\", 128 at most: write for example \"link:plc\""
        )),
        Some(("relay", _)) => mistake(format!(
            "has {written:?}, but a relay is no destination: write relay = {{ url = \"ws://...\" }} in the [[endpoint]] \
             whose clients it is for"
        )),
        Some((kind @ ("store" | "bridge"), _)) => {
            mistake(format!("has {written:?}, but this build has no {kind}s: remove it"));
        }
        Some(_) => mistake(format!("has the unknown destination {written:?}: write {}", sender.known())),
    }
    None
}
