//! What differs between two generations, for people, and what of new settings has to wait for a restart.

use std::sync::Arc;

use crate::config::{AdminSettings, GatewaySettings, Settings, TakesEffect, takes_effect};
use crate::shared::generation::Generation;

/// An option of the whole process.
struct ProcessOption {
    table: &'static str,
    name: &'static str,
    /// Both, for people.
    shown: &'static str,
    differs: fn(&GatewaySettings, &GatewaySettings) -> bool,
    /// Takes it from other settings.
    keep: fn(&mut GatewaySettings, &GatewaySettings),
}

macro_rules! option {
    ($table:literal, $name:literal, $($field:ident).+) => {
        ProcessOption {
            table: $table,
            name: $name,
            shown: concat!($table, " ", $name),
            differs: |old, new| old.$($field).+ != new.$($field).+,
            keep: |new, old| new.$($field).+.clone_from(&old.$($field).+),
        }
    };
}

/// All of them.
const OPTIONS: [ProcessOption; 17] = [
    option!("[gateway]", "name", name),
    option!("[gateway]", "max_connections", max_connections),
    option!("[gateway]", "max_address_connections", max_address_connections),
    option!("[gateway]", "address_rate", address_rate),
    option!("[gateway]", "failed_credentials", failed_credentials),
    option!("[gateway]", "memory", memory),
    option!("[gateway]", "max_handshakes", max_handshakes),
    option!("[gateway]", "handshake_timeout", handshake_timeout),
    option!("[gateway]", "close_timeout", close_timeout),
    option!("[gateway]", "resolve_cache", resolve_cache),
    option!("[gateway]", "drain_timeout", drain_timeout),
    option!("[gateway]", "deliverers", deliverers),
    option!("[gateway]", "client_stack", client_stack),
    option!("[log]", "level", log.levels.level),
    option!("[log]", "levels", log.levels.named),
    option!("[log]", "format", log.format),
    option!("[log]", "lines_per_second", log.lines_per_second),
];

/// Has new settings keep what takes a restart as it is; says what of that they would change.
pub(super) fn keep_what_takes_a_restart(settings: &mut Settings, before: &Generation) -> Vec<&'static str> {
    let mut restart = Vec::new();
    let (new, old) = (&mut settings.gateway, &before.gateway);
    for option in OPTIONS.iter().filter(|option| takes_effect(option.table, option.name) == TakesEffect::Restart) {
        if (option.differs)(old, new) {
            restart.push(option.shown);
            (option.keep)(new, old);
        }
    }
    restart
}

/// What has changed: `endpoint '/a' changed`, `link "plc" added`.
pub(super) fn between(before: &Generation, next: &Generation) -> Vec<String> {
    let mut changes = Vec::new();
    let mut told = |what: String, old: Option<*const ()>, new: Option<*const ()>| {
        let how = match (old, new) {
            (None, _) => "added",
            (_, None) => "removed",
            (Some(old), Some(new)) if !std::ptr::eq(old, new) => "changed",
            _ => return,
        };
        changes.push(format!("{what} {how}"));
    };
    fn at<T>(thing: &Arc<T>) -> *const () {
        Arc::as_ptr(thing).cast()
    }
    for door in before.doors.iter().filter(|old| next.door(&old.name).is_none()).chain(&next.doors) {
        let [old, new] = [before, next].map(|generation| generation.door(&door.name).map(at));
        told(format!("listener {:?}", &*door.name), old, new);
    }
    let removed = before.endpoints.iter().filter(|(id, _)| next.endpoints.get(*id).is_none());
    for (id, endpoint) in removed.chain(next.endpoints.iter()) {
        let [old, new] = [before, next].map(|generation| generation.endpoints.get(id).map(at));
        told(format!("endpoint '{}'", endpoint.settings.path), old, new);
    }
    let removed = before.links.iter().filter(|(id, _)| next.links.get(*id).is_none());
    for (id, link) in removed.chain(next.links.iter()) {
        let [old, new] = [before, next].map(|generation| generation.links.get(id).map(at));
        told(format!("link {:?}", &*link.name), old, new);
    }
    let removed = before.stores.iter().filter(|(id, _)| next.stores.get(*id).is_none());
    for (id, store) in removed.chain(next.stores.iter()) {
        let [old, new] = [before, next].map(|generation| generation.stores.get(id).map(at));
        told(format!("store {:?}", &*store.live.name), old, new);
    }
    let removed = before.auths.iter().filter(|(id, _)| next.auths.get(*id).is_none());
    for (id, auth) in removed.chain(next.auths.iter()) {
        let [old, new] = [before, next].map(|generation| generation.auths.get(id).map(at));
        told(format!("[[auth]] {:?}", auth.settings.name), old, new);
    }
    let of_admin = |generation: &Generation| {
        let AdminSettings { auth, allow, .. } = &generation.admin;
        (auth.clone(), allow.clone(), generation.admin_door.as_ref().map(at))
    };
    if of_admin(before) != of_admin(next) {
        changes.push("[admin] changed".to_owned());
    }
    let changed = OPTIONS.iter().filter(|option| (option.differs)(&before.gateway, &next.gateway));
    changes.extend(changed.map(|option| format!("{} changed", option.shown)));
    changes
}
