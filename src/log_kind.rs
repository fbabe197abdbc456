//! Of what a line of the log is: its part of wsgate and, if peers decide how many of such lines there are, its kind.
//!
//! Both follow from the line's target of the `log` crate. `[log.levels]` takes the names of both. Of each kind the log
//! shows only the first lines in every second and counts the rest.

/// Clients that were let in.
pub const CONNECTS: &str = "wsgate::connects";
/// Clients that have left, and what their end has cost.
pub const DISCONNECTS: &str = "wsgate::disconnects";
/// Requests that were refused.
pub const REFUSALS: &str = "wsgate::refusals";
/// TLS handshakes that failed.
pub const HANDSHAKES: &str = "wsgate::handshakes";
/// What happens to the upstreams of relayed clients.
pub const UPSTREAMS: &str = "wsgate::upstreams";
/// Clients whose queue is full, or who are held because another one is.
pub const QUEUES: &str = "wsgate::queues";
/// What happens to the services that are asked who clients are.
pub const SERVICES: &str = "wsgate::services";
/// What is asked of the admin listener.
pub const ADMIN: &str = "wsgate::admin";

/// What happens to listeners, wherever in the source it is said. No kind.
pub const LISTENERS: &str = "wsgate::listeners";
/// What is worth knowing of relays before anybody uses them. No kind.
pub const RELAYS: &str = "wsgate::relays";
/// What happens to stores. No kind.
pub const STORES: &str = "wsgate::stores";
/// The warnings of the configuration, and what came of reading files again. No kind.
pub const CONFIG: &str = "wsgate::config";

/// Lines of which peers decide how many there are.
#[derive(Debug)]
pub struct Kind {
    /// The name in `[log.levels]` and in JSON: the last part of the target.
    pub name: &'static str,
    target: &'static str,
    /// What the log calls these lines when it says how many were left out.
    pub lines: &'static str,
}

/// All kinds.
pub static KINDS: [Kind; 8] = [
    Kind { name: "connects", target: CONNECTS, lines: "connects" },
    Kind { name: "disconnects", target: DISCONNECTS, lines: "disconnects" },
    Kind { name: "refusals", target: REFUSALS, lines: "refusals" },
    Kind { name: "handshakes", target: HANDSHAKES, lines: "failed TLS handshakes" },
    Kind { name: "upstreams", target: UPSTREAMS, lines: "relays" },
    Kind { name: "queues", target: QUEUES, lines: "full queues" },
    Kind { name: "services", target: SERVICES, lines: "services of [[auth]]" },
    Kind { name: "admin", target: ADMIN, lines: "the admin listener" },
];

/// The part of everything that no other part has: the start, the stop, and what the system lacks.
const GATEWAY: &str = "gateway";

/// The parts by their names, each with the targets that begin so. The longest one that fits decides.
const PARTS: [(&str, &[&str]); 10] = [
    (GATEWAY, &[]),
    ("config", &[CONFIG]),
    ("listeners", &[LISTENERS, "wsgate::accept"]),
    ("clients", &["wsgate::client", CONNECTS, DISCONNECTS, REFUSALS, HANDSHAKES, QUEUES]),
    ("relays", &["wsgate::relay", RELAYS, UPSTREAMS]),
    ("links", &["wsgate::link", "wsgate::shared::link", "wsgate::shared::outlet"]),
    ("stores", &[STORES, "wsgate::store", "wsgate::store_thread"]),
    ("auth", &["wsgate::authenticators", "wsgate::jwks", SERVICES]),
    ("admin", &[ADMIN]),
    ("messages", &["wsgate::dispatch", "wsgate::events", "wsgate::shared::undelivered"]),
];

/// The part and the kind of a line.
#[derive(Debug, Clone, Copy)]
pub struct Subject {
    /// One of [`names`].
    pub part: &'static str,
    /// The place of its kind in [`KINDS`].
    pub kind: Option<usize>,
}

impl Subject {
    /// What a line with this target is about.
    pub fn of(target: &str) -> Subject {
        let fits =
            |module: &str| target.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
        let modules = PARTS.iter().flat_map(|(name, modules)| modules.iter().map(move |module| (*name, *module)));
        let part = modules.filter(|(_, module)| fits(module)).max_by_key(|(_, module)| module.len());
        Subject {
            part: part.map_or(GATEWAY, |(name, _)| name),
            kind: KINDS.iter().position(|kind| kind.target == target),
        }
    }

    /// The name of its kind.
    pub fn kind_name(&self) -> Option<&'static str> {
        self.kind.map(|kind| KINDS[kind].name)
    }
}

/// The names of all parts and kinds, each once.
pub fn names() -> impl Iterator<Item = &'static str> {
    let is_part = |name: &str| PARTS.iter().any(|(part, _)| *part == name);
    let kinds = KINDS.iter().map(|kind| kind.name).filter(move |name| !is_part(name));
    PARTS.iter().map(|(name, _)| *name).chain(kinds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_has_the_part_that_fits_it_best() {
        let of = |target| {
            let subject = Subject::of(target);
            (subject.part, subject.kind_name())
        };
        assert_eq!(of("wsgate::client::open"), ("clients", None));
        assert_eq!(of(CONNECTS), ("clients", Some("connects")));
        assert_eq!(of("wsgate::shared::link"), ("links", None));
        assert_eq!(of("wsgate::shared::memory"), ("gateway", None));
        assert_eq!(of("wsgate::linked"), ("gateway", None));
        assert_eq!(of("somebody::else"), ("gateway", None));
    }

    #[test]
    fn no_two_names_are_the_same_and_each_kind_has_a_part() {
        assert_eq!(
            names().count(),
            PARTS.len() + KINDS.len() - 1,
            "all that is said of the admin listener is of a kind"
        );
        for kind in &KINDS {
            assert_eq!(kind.target, format!("wsgate::{}", kind.name));
            assert_ne!(Subject::of(kind.target).part, GATEWAY, "{}", kind.name);
        }
    }
}
