//! What the options of a store mean together with those of others, and what an acknowledgement takes.

use crate::config::mistake::Report;
use crate::config::raw::Raw;
use crate::config::raw::endpoint::RawEndpoint;
use crate::config::raw::route::RawDestination;
use crate::config::raw::store::RawStore;
use crate::config::section::nearest;
use crate::config::settings::{OutletPolicy, StoreId};
use crate::config::text::Text;

/// Checks the name of a store and its file against those of the earlier stores.
pub(super) fn check(earlier: &[RawStore], store: &RawStore, report: &Report<'_>) {
    let settings = &store.settings;
    let same = earlier.iter().find(|other| other.valid && store.valid && other.settings.name == settings.name);
    if let Some(same) = same {
        let line = report.line(same.name_at);
        let advice = "give each store its own name";
        report.mistake(store.name_at, format!("the store on line {line} is called {:?} too: {advice}", settings.name));
    }
    let same = earlier.iter().find(|other| other.path_at.is_some() && other.settings.path == settings.path);
    if let (Some(at), Some(same)) = (store.path_at, same) {
        let line = report.line(same.path_at.unwrap_or(same.name_at));
        report.mistake(at, format!("\"path\" in [[store]] is that on line {line} too: give each store its own file"));
    }
}

/// The store that a destination names.
pub(super) fn called(raw: &Raw, name: &str, text: &Text, report: &Report<'_>) -> Option<StoreId> {
    let names = || raw.stores.iter().map(|store| &*store.settings.name);
    if let Some(index) = names().position(|known| known == name) {
        return Some(StoreId(index));
    }
    if raw.stores.iter().any(|store| !store.valid) {
        // It may be the one whose name is wrong.
        return None;
    }
    let advice = match nearest(name, names()) {
        Some(near) => format!("did you mean \"store:{near}\"?"),
        None => "add a [[store]] with this name".to_owned(),
    };
    report.mistake(text.at, format!("{:?} names no store: {advice}", text.written));
    None
}

/// An acknowledgement says of all that a client sends how much is stored, so all of it must go into one store that drops
/// nothing.
pub(super) fn check_ack(raw: &Raw, endpoint: &RawEndpoint, report: &Report<'_>) {
    let (Some(at), None) = (endpoint.ack_at, &endpoint.relay) else { return };
    let no = |problem: String| report.mistake(at, format!("\"ack\" in [[endpoint]] is \"stored\", but {problem}"));
    let name = |(destination, _): &(RawDestination, Text)| match destination {
        RawDestination::Store(name) => Some(name.clone()),
        _ => None,
    };
    let names: Vec<String> = endpoint.to.iter().flatten().filter_map(name).collect();
    match &names[..] {
        [] => no("nothing that its clients send is stored: add a \"store:NAME\" to \"to\", or remove it".to_owned()),
        [name] => {
            let store = raw.stores.iter().find(|store| store.valid && store.settings.name == *name);
            if store.is_some_and(|store| store.settings.queue.when_full != OutletPolicy::Block) {
                no(format!(
                    "the store {name:?} drops messages when it is full: write when_full = \"block\" in its queue, or remove it"
                ));
            }
        }
        _ => no("\"to\" has several stores, and it would be the number of one: leave one, or remove it".to_owned()),
    }
    if endpoint.settings.address_sessions {
        no("messages that address another client are not stored: remove address_sessions, or remove it".to_owned());
    }
}
