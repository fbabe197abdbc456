//! The names of `[[auth]]` tables, and what endpoints say about authentication.

use crate::config::mistake::Report;
use crate::config::raw::Raw;
use crate::config::raw::auth::RawAuth;
use crate::config::raw::endpoint::RawEndpoint;
use crate::config::section::nearest;
use crate::config::settings::AuthId;

/// Each has a name of its own, and an endpoint that asks for it.
pub(super) fn check(raw: &Raw, report: &Report<'_>) {
    for (i, auth) in raw.auths.iter().enumerate().filter(|(_, auth)| auth.valid) {
        let name = &auth.settings.name;
        let same = raw.auths[..i].iter().find(|earlier| earlier.valid && earlier.settings.name == *name);
        if let Some(same) = same {
            let line = report.line(same.name_at);
            let advice = "give each its own name";
            report.mistake(auth.name_at, format!("the [[auth]] on line {line} is called {name:?} too: {advice}"));
        }
        let is_used = raw.endpoints.iter().flat_map(|endpoint| endpoint.auth.iter().flatten());
        if !is_used.into_iter().any(|text| text.value == *name) {
            report.warning(
                auth.name_at,
                format!("no endpoint asks for {name:?}: write auth = [{name:?}] under the [[endpoint]] that is to be guarded"),
            );
        }
    }
}

/// What an endpoint asks for. Names of nothing are reported and left out.
pub(super) fn of_endpoint(raw: &Raw, endpoint: &RawEndpoint, report: &Report<'_>) -> Vec<AuthId> {
    if let (Some(at), None) = (endpoint.refuse_at, &endpoint.auth) {
        report.mistake(
            at,
            "\"refuse\" in [[endpoint]] has no meaning without auth, which says who is let in: add auth, or \
             remove it",
        );
    }
    if let (Some(allow), None) = (&endpoint.allow, &endpoint.auth) {
        report.mistake(
            allow.at,
            "\"allow\" in [[endpoint]] has no meaning without auth, which says who a client is: add auth, or remove it",
        );
    }
    if let (Some(at), true) = (endpoint.allow.as_ref().and_then(|allow| allow.no_receive_at), endpoint.relay.is_some())
    {
        report.mistake(
            at,
            "\"receive\" in allow of [[endpoint]] has no meaning beside relay, whose server decides what its clients get: \
             remove it",
        );
    }
    let mut ids = Vec::new();
    for text in endpoint.auth.iter().flatten() {
        let index = raw.auths.iter().position(|auth| auth.settings.name == text.value);
        match index {
            Some(index) if !ids.contains(&AuthId(index)) => {
                warn_of_unanswered_subprotocol(&raw.auths[index], endpoint, text.at, report);
                ids.push(AuthId(index));
            }
            Some(_) => {
                report.mistake(text.at, format!("\"auth\" in [[endpoint]] has {:?} twice: remove one", text.written));
            }
            // It may be the one whose name is wrong.
            None if raw.auths.iter().any(|auth| !auth.valid) => {}
            None => {
                let names = raw.auths.iter().map(|auth| &*auth.settings.name);
                let advice = match nearest(&text.value, names) {
                    Some(near) => format!("did you mean {near:?}?"),
                    None => format!("add an [[auth]] with name = {:?}", text.written),
                };
                report.mistake(text.at, format!("no [[auth]] is called {:?}: {advice}", text.written));
            }
        }
    }
    ids
}

/// A browser ends a connection on which none of the subprotocols that it has offered is agreed.
fn warn_of_unanswered_subprotocol(auth: &RawAuth, endpoint: &RawEndpoint, at: usize, report: &Report<'_>) {
    if auth.settings.places.subprotocol && endpoint.relay.is_none() && endpoint.settings.subprotocols.is_empty() {
        report.warning(
            at,
            format!(
                "\"auth\" in [[endpoint]] has {:?}, which takes tokens from subprotocols, but this endpoint agrees to none, \
                 and browsers then end the connection: write subprotocols = [\"NAME\"] for the one that your page offers too",
                auth.settings.name
            ),
        );
    }
}
