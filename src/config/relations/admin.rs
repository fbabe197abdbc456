//! `[admin]`: its address among those of the listeners, and whom it answers.

use crate::config::mistake::Report;
use crate::config::raw::Raw;
use crate::config::raw::admin::RawAdmin;
use crate::config::settings::{AdminSettings, AuthKind, ListenerSettings};

use super::{auth, listeners};

/// Reports what contradicts itself, and puts the ways to authenticate in the place of their names.
pub(super) fn resolve(raw: &Raw, report: &Report<'_>) -> AdminSettings {
    let Some(admin) = &raw.admin else { return AdminSettings::default() };
    let named = auth::named("[admin]", raw, admin.auth.iter().flatten(), report);
    match &admin.settings.listener {
        Some(listener) if admin.valid => {
            check_address(raw, admin, listener, report);
            check_guard(admin, listener, report);
        }
        Some(_) => {}
        None => {
            if let Some((key, at)) = admin.of_listener {
                let advice = "remove it, or give it an address";
                report
                    .mistake(at, format!("{key:?} in [admin] has no meaning, since its address is \"off\": {advice}"));
            }
        }
    }
    let asks = |listener: &ListenerSettings| listener.tls.as_ref().is_some_and(|tls| tls.clients.is_some());
    for (id, text) in &named {
        let settings = &raw.auths[id.0].settings;
        let what = format!("\"auth\" in [admin] has {:?}", text.written);
        match settings.kind {
            AuthKind::Certificate(_) if !admin.settings.listener.as_ref().is_some_and(asks) => {
                let advice = "write client_ca = \"clients.pem\" under tls of [admin]";
                report.mistake(
                    text.at,
                    format!("{what}, which takes certificates, but this listener asks for none: {advice}"),
                );
            }
            AuthKind::Certificate(_) => {}
            _ if !settings.places.authorization => {
                let what = format!("{what}, which takes nothing from the header Authorization");
                let advice = "the admin listener looks nowhere else: name another [[auth]]";
                report.mistake(text.at, format!("{what}, and {advice}"));
            }
            _ => {}
        }
    }
    AdminSettings { auth: named.into_iter().map(|(id, _)| id).collect(), ..admin.settings.clone() }
}

fn check_address(raw: &Raw, admin: &RawAdmin, listener: &ListenerSettings, report: &Report<'_>) {
    let defaults = ListenerSettings::default();
    let taken = raw.listeners.iter().filter(|other| other.valid).map(|other| &other.settings.address);
    let taken: Vec<_> = if raw.listeners.is_empty() { vec![&defaults.address] } else { taken.collect() };
    if let Some(why) = taken.into_iter().find_map(|taken| listeners::same_address(taken, &listener.address)) {
        report.mistake(admin.address_at, format!("{why} by a [[listen]]: give [admin] another address"));
    }
}

/// Everybody is answered only where none but this machine can ask.
fn check_guard(admin: &RawAdmin, listener: &ListenerSettings, report: &Report<'_>) {
    let address = &listener.address;
    if !address.is_local() && admin.auth.is_none() && !listener.requires_certificates() {
        report.mistake(
            admin.address_at,
            format!(
                "\"{address}\" in [admin] can be reached from other machines, and nobody is asked who he is: write auth = \
                 [\"operators\"] for an [[auth]], or an address of this machine"
            ),
        );
    }
    if let (Some(at), None) = (admin.allow_at, &admin.auth) {
        report.mistake(
            at,
            "\"allow\" in [admin] has no meaning without auth, which says who a caller is: add auth, or remove it",
        );
    }
    if !address.is_local() && admin.auth.is_some() && listener.tls.is_none() {
        report.warning(
            admin.address_at,
            format!(
                "\"{address}\" in [admin] can be reached from other machines without TLS, so anyone on the network path \
                 can read credentials: write tls = {{ certificate = \"server.pem\", private_key = \"server.key\" }}"
            ),
        );
    }
}
