//! What the supervisor is told of a running gateway.

use std::time::Duration;

use crate::shared::Shared;
use crate::shared::readiness::Stage;

/// How many links that are down are named.
const NAMES_MAX: usize = 3;

/// How much longer a stop takes than its timeouts: clients that are cut, ticks of the clock, the ends of threads.
const STOP_MARGIN: Duration = Duration::from_secs(3);

/// How many clients there are, which links are down and whether the last reload failed, in words. It looks at both as they are in this moment.
pub fn summary(shared: &Shared) -> String {
    let links = &shared.generation().links;
    let down = links.values().filter(|link| !link.is_up()).map(|link| &*link.name);
    let words = in_words(shared.stage(), shared.registry.len(), links.values().count(), &down.collect::<Vec<_>>());
    let failed = if shared.counters.reloads.has_last_failed() { "; the last reload failed, see the log" } else { "" };
    words + failed
}

/// How long a stop takes at most.
pub fn stop_takes(shared: &Shared) -> Duration {
    let settings = &shared.generation().gateway;
    settings.drain_timeout + settings.close_timeout + STOP_MARGIN
}

/// How long a drain takes at most, with the stop behind it.
pub fn drain_takes(shared: &Shared) -> Duration {
    let settings = &shared.generation().gateway;
    settings.drain_timeout + settings.close_timeout + stop_takes(shared)
}

fn in_words(stage: Stage, clients: usize, links: usize, down: &[&str]) -> String {
    let clients = format!("{clients} client{}", if clients == 1 { "" } else { "s" });
    match stage {
        Stage::Draining => return format!("draining: {clients} left"),
        Stage::Stopping => return format!("stopping: {clients} left"),
        Stage::Starting | Stage::Running => {}
    }
    if links == 0 {
        return clients;
    }
    let named = down[..down.len().min(NAMES_MAX)].join(", ");
    let which = match down.len() {
        0 => String::new(),
        1..=NAMES_MAX => format!(" (down: {named})"),
        more => format!(" (down: {named} and {} more)", more - NAMES_MAX),
    };
    format!("{clients}; {} of {links} link{} up{which}", links - down.len(), if links == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_counted_and_links_that_are_down_are_named() {
        for (stage, clients, links, down, expected) in [
            (Stage::Running, 0, 0, &[][..], "0 clients"),
            (Stage::Running, 1, 1, &[], "1 client; 1 of 1 link up"),
            (Stage::Running, 2, 3, &["plc"], "2 clients; 2 of 3 links up (down: plc)"),
            (Stage::Running, 2, 3, &["a", "b", "c"], "2 clients; 0 of 3 links up (down: a, b, c)"),
            (Stage::Running, 2, 9, &["a", "b", "c", "d", "e"], "2 clients; 4 of 9 links up (down: a, b, c and 2 more)"),
            (Stage::Draining, 7, 1, &["a"], "draining: 7 clients left"),
            (Stage::Stopping, 1, 0, &[], "stopping: 1 client left"),
        ] {
            assert_eq!(in_words(stage, clients, links, down), expected);
        }
    }
}
