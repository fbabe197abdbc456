//! The names of `[[auth]]` tables, and what endpoints say about authentication.

use std::net::IpAddr;
use std::time::Duration;

use crate::config::mistake::Report;
use crate::config::raw::Raw;
use crate::config::raw::auth::RawAuth;
use crate::config::raw::endpoint::RawEndpoint;
use crate::config::section::nearest;
use crate::config::settings::{AuthId, AuthKind, KeySource};
use crate::config::text::Text;
use crate::config::units::write_duration;

use super::dial;

/// Each has a name of its own, and an endpoint that asks for it.
pub(super) fn check(raw: &Raw, report: &Report<'_>) {
    raw.auths.iter().for_each(|auth| check_server(auth, raw.gateway.handshake_timeout, report));
    for (i, auth) in raw.auths.iter().enumerate().filter(|(_, auth)| auth.valid) {
        let name = &auth.settings.name;
        let same = raw.auths[..i].iter().find(|earlier| earlier.valid && earlier.settings.name == *name);
        if let Some(same) = same {
            let line = report.line(same.name_at);
            let advice = "give each its own name";
            report.mistake(auth.name_at, format!("the [[auth]] on line {line} is called {name:?} too: {advice}"));
        }
        let of_endpoints = raw.endpoints.iter().flat_map(|endpoint| endpoint.auth.iter().flatten());
        let is_used = of_endpoints.chain(raw.admin.iter().flat_map(|admin| admin.auth.iter().flatten()));
        if !is_used.into_iter().any(|text| text.value == *name) {
            report.warning(
                auth.name_at,
                format!("no endpoint asks for {name:?}: write auth = [{name:?}] under the [[endpoint]] that is to be guarded"),
            );
        }
    }
}

/// The server that an `[[auth]]` asks, if it does.
fn check_server(auth: &RawAuth, handshake_timeout: Duration, report: &Report<'_>) {
    let Some(dial) = &auth.dial else { return };
    dial::check("[[auth]]", dial, report);
    let timeout = dial.settings.connect_timeout;
    if let (Some(at), AuthKind::Http(_), true) =
        (auth.answer_timeout_at, &auth.settings.kind, timeout > handshake_timeout)
    {
        let [timeout, handshake_timeout] = [timeout, handshake_timeout].map(write_duration);
        report.warning(
            at,
            format!(
                "\"answer_timeout\" in [[auth]] is {timeout}, but clients wait no longer than handshake_timeout in [gateway], \
                 which is {handshake_timeout}: lower the one, or raise the other"
            ),
        );
    }
    if let AuthKind::Jwt(_, KeySource::Url(jwks)) = &auth.settings.kind
        && jwks.stale_for < jwks.refresh_interval
    {
        let [stale_for, interval] = [jwks.stale_for, jwks.refresh_interval].map(write_duration);
        report.mistake(
            auth.stale_for_at.unwrap_or(auth.name_at),
            format!(
                "\"stale_for\" in [[auth]] is {stale_for}, but the keys are loaded only every {interval} \
                 (refresh_interval): raise the one, or lower the other"
            ),
        );
    }
    let is_here = |host: &str| {
        host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
    };
    if dial.url().is_some_and(|url| !url.secure && !is_here(&url.host)) {
        let what = match auth.settings.kind {
            AuthKind::Http(_) => "read the credentials of clients and let anybody in",
            _ => "give wsgate keys of its own and let anybody in",
        };
        report.warning(
            dial.url_at,
            format!(
                "anyone on the network path to this http:// URL of {:?} can {what}: use https://",
                auth.settings.name
            ),
        );
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
    let ids = named("[[endpoint]]", raw, endpoint.auth.iter().flatten(), report);
    for (id, text) in &ids {
        warn_of_unanswered_subprotocol(&raw.auths[id.0], endpoint, text.at, report);
        check_certificates(raw, id.0, endpoint, text, report);
    }
    ids.into_iter().map(|(id, _)| id).collect()
}

/// What the names in `auth` of a table stand for. Names of nothing are reported and left out.
pub(super) fn named<'a>(
    table: &str,
    raw: &Raw,
    names: impl Iterator<Item = &'a Text>,
    report: &Report<'_>,
) -> Vec<(AuthId, &'a Text)> {
    let mut ids: Vec<(AuthId, &Text)> = Vec::new();
    for text in names {
        let index = raw.auths.iter().position(|auth| auth.settings.name == text.value);
        match index {
            Some(index) if ids.iter().all(|(id, _)| id.0 != index) => ids.push((AuthId(index), text)),
            Some(_) => {
                report.mistake(text.at, format!("\"auth\" in {table} has {:?} twice: remove one", text.written));
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

/// Certificates come only over listeners that ask for them. An endpoint that takes nothing else is on such listeners alone,
/// and one that takes other credentials too is on one of them.
fn check_certificates(raw: &Raw, index: usize, endpoint: &RawEndpoint, text: &Text, report: &Report<'_>) {
    let takes_certificates = |auth: &RawAuth| matches!(auth.settings.kind, AuthKind::Certificate(_));
    if !takes_certificates(&raw.auths[index]) || raw.listeners.iter().any(|listener| !listener.valid) {
        return;
    }
    let named = |name: &str| raw.auths.iter().find(|auth| auth.settings.name == name);
    let all = endpoint.auth.iter().flatten();
    // What is called by a wrong name may be anything.
    let is_all = all.into_iter().all(|text| named(&text.value).is_some_and(takes_certificates));
    let on_it = raw.listeners.iter().filter(|listener| endpoint.settings.is_on(&listener.settings));
    let (asking, silent): (Vec<_>, Vec<_>) = on_it.partition(|listener| listener.has_client_ca);
    let is_reached = if is_all { silent.is_empty() } else { !asking.is_empty() };
    let why = match silent.first() {
        Some(_) if is_reached => return,
        Some(silent) => format!("the listener {:?} asks for none", silent.settings.name),
        None if raw.listeners.is_empty() => "no listener has TLS".to_owned(),
        // They ask, or the names of listeners are wrong.
        None => return,
    };
    let names: Vec<_> = asking.iter().map(|listener| format!("{:?}", listener.settings.name)).collect();
    let or = match names.is_empty() {
        true => String::new(),
        false => format!(", or listen = [{}] in this [[endpoint]]", names.join(", ")),
    };
    let what = format!("\"auth\" in [[endpoint]] has {:?}, which takes the certificates of clients", text.written);
    let advice = format!("write client_ca = \"clients.pem\" under tls of its [[listen]]{or}");
    report.mistake(text.at, format!("{what}, but {why}: {advice}"));
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
