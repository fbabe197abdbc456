//! What destinations of endpoints and of links have in common.

use crate::config::mistake::Report;
use crate::config::raw::endpoint::RawEndpoint;
use crate::config::raw::link::RawLink;
use crate::config::section::{Text, nearest};
use crate::config::settings::LinkId;

/// The link that a destination names.
pub(super) fn link_called(links: &[RawLink], name: &str, text: &Text, report: &Report<'_>) -> Option<LinkId> {
    let names = || links.iter().map(|link| &*link.settings.name);
    if let Some(index) = names().position(|known| known == name) {
        return Some(LinkId(index));
    }
    if links.iter().any(|link| !link.valid) {
        // It may be the one whose name is wrong.
        return None;
    }
    let advice = match nearest(name, names()) {
        Some(near) => format!("did you mean \"link:{near}\"?"),
        None => "add a [[link]] with this name".to_owned(),
    };
    report.mistake(text.at, format!("{:?} names no link: {advice}", text.written));
    None
}

/// A relay is no destination: its clients get what its server sends.
pub(super) fn check_is_no_relay(target: &RawEndpoint, text: &Text, report: &Report<'_>) {
    if target.relay.is_some() {
        report.mistake(
            text.at,
            format!(
                "{:?} is a relay, whose clients get only what its server sends: choose another endpoint",
                text.written
            ),
        );
    }
}

/// Events go to the destinations of messages, except `reply` and those that need a field of a message. `others` has an
/// item for each destination but `reply`: whether it needs a field.
pub(super) fn check_events(
    table: &str,
    at: Option<usize>,
    mut others: impl Iterator<Item = bool>,
    report: &Report<'_>,
) {
    let (Some(at), first) = (at, others.next()) else { return };
    let problem = match first {
        None => "but it has no destination except reply",
        Some(true) if others.all(|needs_field| needs_field) => {
            "but each of these needs a field of the message, and an event has no fields"
        }
        Some(_) => return,
    };
    let advice = "add one, or remove events";
    report.mistake(at, format!("\"events\" in {table} go to the destinations in its \"to\", {problem}: {advice}"));
}
