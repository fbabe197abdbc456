//! Routes: the destinations of a `to`.

use crate::config::section::{Text, Value, nearest};
use crate::config::settings::Destination;
use crate::path::Pattern;

/// Reads the destinations of an endpoint, each with its text.
pub(super) fn route(value: &Value<'_>) -> Vec<(Destination, Text)> {
    let mut to: Vec<(Destination, Text)> = Vec::new();
    for text in value.texts().unwrap_or_default() {
        let Some(destination) = destination(value, &text) else { continue };
        if to.iter().any(|(earlier, _)| *earlier == destination) {
            value.mistake_at(text.at, format_args!("has {:?} twice: remove one", text.written));
            continue;
        }
        to.push((destination, text));
    }
    to
}

fn destination(value: &Value<'_>, text: &Text) -> Option<Destination> {
    let written = &text.written;
    let mistake = |advice: String| value.mistake_at(text.at, advice);
    match text.value.split_once(':') {
        None => match &*text.value {
            "reply" => return Some(Destination::Reply),
            "broadcast" => return Some(Destination::Broadcast),
            "others" => return Some(Destination::Others),
            _ if text.value.starts_with('/') => {
                mistake(format!("has {written:?}: write \"endpoint:{written}\" for the clients of another endpoint"));
            }
            _ => {
                let known = ["reply", "broadcast", "others"];
                let advice = nearest(written, known.into_iter()).map_or_else(
                    || "write \"reply\", \"broadcast\", \"others\" or \"endpoint:/path\"".to_owned(),
                    |near| format!("did you mean {near:?}?"),
                );
                mistake(format!("has the unknown destination {written:?}: {advice}"));
            }
        },
        Some(("endpoint", path)) => match Pattern::parse(path) {
            Ok(_) => return Some(Destination::Endpoint(path.to_owned())),
            Err(error) => mistake(format!("has {written:?}: {error}")),
        },
        Some((kind @ ("link" | "store" | "bridge" | "relay"), _)) => {
            mistake(format!("has {written:?}, but this build has no {kind}s: remove it"));
        }
        Some(_) => mistake(format!(
            "has the unknown destination {written:?}: write \"reply\", \"broadcast\", \"others\" or \"endpoint:/path\""
        )),
    }
    None
}
