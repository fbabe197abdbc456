//! What differs between two generations, for people, and what of new settings has to wait for a restart.

use std::collections::HashMap;
use std::hash::Hash;
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
    let doors = [before, next].map(|generation| generation.doors.iter().map(|door| (&*door.name, door)).collect());
    let endpoints = [before, next].map(|generation| generation.endpoints.iter().collect());
    let links = [before, next].map(|generation| generation.links.iter().collect());
    let stores = [before, next].map(|generation| generation.stores.iter().collect());
    let auths = [before, next].map(|generation| generation.auths.iter().collect());
    let mut changes = [
        told(doors, |door| format!("listener {:?}", &*door.name)),
        told(endpoints, |endpoint| format!("endpoint '{}'", endpoint.settings.path)),
        told(links, |link| format!("link {:?}", &*link.name)),
        told(stores, |store| format!("store {:?}", &*store.live.name)),
        told(auths, |auth| format!("[[auth]] {:?}", auth.settings.name)),
    ]
    .concat();
    let at = |door: &Arc<_>| Arc::as_ptr(door);
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

/// What of one kind is removed, added or another one now, each by what it is called.
fn told<K: Copy + Eq + Hash, T>([before, next]: [Vec<(K, &Arc<T>)>; 2], name: impl Fn(&T) -> String) -> Vec<String> {
    let [old, new] = [&before, &next].map(|all| all.iter().copied().collect::<HashMap<_, _>>());
    let removed = before.iter().filter(|(id, _)| !new.contains_key(id)).map(|(_, one)| (*one, "removed"));
    let here = next.iter().filter_map(|(id, one)| match old.get(id) {
        None => Some((*one, "added")),
        Some(old) if !Arc::ptr_eq(old, one) => Some((*one, "changed")),
        Some(_) => None,
    });
    removed.chain(here).map(|(one, how)| format!("{} {how}", name(one))).collect()
}
