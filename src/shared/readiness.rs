//! Whether load balancers should send clients here: the stage of the gateway's life, the links without which it is of no
//! use, and whether its stores store. It is said in one place, for every listener that is asked for it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Where a gateway is in its life, from the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Not all of its threads run.
    Starting,
    /// It lets clients in.
    Running,
    /// It lets nobody in, and closes its clients one after the other.
    Draining,
    /// It closes all that is left.
    Stopping,
}

/// The stage of a gateway, which only goes forward.
#[derive(Debug)]
pub struct Life(AtomicU8);

impl Default for Life {
    fn default() -> Life {
        Life(AtomicU8::new(Stage::Starting as u8))
    }
}

impl Life {
    /// Goes on to this stage, unless it is there already or beyond it. Says whether it did.
    pub fn advance(&self, stage: Stage) -> bool {
        self.0.fetch_max(stage as u8, Ordering::AcqRel) < stage as u8
    }

    /// Whether it has come to this stage.
    pub fn is_at_least(&self, stage: Stage) -> bool {
        self.0.load(Ordering::Acquire) >= stage as u8
    }

    /// The stage.
    pub fn stage(&self) -> Stage {
        let stages = [Stage::Stopping, Stage::Draining, Stage::Running];
        stages.into_iter().find(|stage| self.is_at_least(*stage)).unwrap_or(Stage::Starting)
    }
}

/// Why a gateway is not ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unready {
    /// It does not let clients in: it starts, drains or stops.
    Stage(Stage),
    /// A link with `required = true` is not connected; this is its name.
    LinkDown(Arc<str>),
    /// A store does not store; this is its name, and how it stands in a word.
    StoreUnfit(Arc<str>, &'static str),
}

impl Unready {
    /// The same for strangers, who need not know what the links are called.
    pub fn in_public(&self) -> &'static str {
        match self {
            Unready::Stage(Stage::Starting) => "starting",
            Unready::Stage(Stage::Running) => "running",
            Unready::Stage(Stage::Draining) => "draining",
            Unready::Stage(Stage::Stopping) => "stopping",
            Unready::LinkDown(_) => "a required link is down",
            Unready::StoreUnfit(..) => "a store cannot store",
        }
    }
}

impl fmt::Display for Unready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unready::Stage(_) => f.write_str(self.in_public()),
            Unready::LinkDown(name) => write!(f, "link {name} is down"),
            Unready::StoreUnfit(name, how) => write!(f, "store {name} is {how}"),
        }
    }
}

/// Whether a gateway is ready, which it is if there is no reason why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness(Vec<Unready>);

impl Readiness {
    /// That of a gateway at this stage, of whose required links these are down, and whose stores that cannot store stand so.
    pub fn of(
        stage: Stage,
        down: impl IntoIterator<Item = Arc<str>>,
        unfit: impl IntoIterator<Item = (Arc<str>, &'static str)>,
    ) -> Readiness {
        let stage = (stage != Stage::Running).then_some(Unready::Stage(stage));
        let links = down.into_iter().map(Unready::LinkDown);
        let stores = unfit.into_iter().map(|(name, how)| Unready::StoreUnfit(name, how));
        Readiness(stage.into_iter().chain(links).chain(stores).collect())
    }

    /// Whether clients should be sent here.
    pub fn is_ready(&self) -> bool {
        self.0.is_empty()
    }

    /// In words, for strangers: no names.
    pub fn in_public(&self) -> String {
        let mut words: Vec<_> = self.0.iter().map(Unready::in_public).collect();
        words.dedup();
        in_words(&words)
    }
}

/// In words, for operators: `ready`, or `not ready: draining; link plc is down`.
impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&in_words(&self.0))
    }
}

fn in_words(reasons: &[impl ToString]) -> String {
    match reasons {
        [] => "ready".to_owned(),
        reasons => format!("not ready: {}", reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_is_ready_only_while_it_runs_with_all_that_is_required() {
        let down = |names: &[&str]| names.iter().map(|name| Arc::from(*name)).collect::<Vec<Arc<str>>>();
        for (stage, links, words, public) in [
            (Stage::Running, down(&[]), "ready", "ready"),
            (Stage::Starting, down(&[]), "not ready: starting", "not ready: starting"),
            (Stage::Draining, down(&[]), "not ready: draining", "not ready: draining"),
            (Stage::Stopping, down(&[]), "not ready: stopping", "not ready: stopping"),
            (
                Stage::Running,
                down(&["plc", "cloud"]),
                "not ready: link plc is down; link cloud is down",
                "not ready: a required link is down",
            ),
            (
                Stage::Draining,
                down(&["plc"]),
                "not ready: draining; link plc is down",
                "not ready: draining; a required link is down",
            ),
        ] {
            let readiness = Readiness::of(stage, links, []);
            assert_eq!((readiness.to_string(), readiness.in_public()), (words.to_owned(), public.to_owned()));
            assert_eq!(readiness.is_ready(), words == "ready");
        }
        let full = Readiness::of(Stage::Running, [], [("readings".into(), "full")]);
        assert_eq!(full.to_string(), "not ready: store readings is full");
        assert_eq!(full.in_public(), "not ready: a store cannot store");
    }

    #[test]
    fn a_life_only_goes_forward() {
        let life = Life::default();
        assert_eq!(life.stage(), Stage::Starting);
        for (stage, is_news) in [
            (Stage::Running, true),
            (Stage::Running, false),
            (Stage::Stopping, true),
            (Stage::Draining, false),
            (Stage::Running, false),
        ] {
            assert_eq!(life.advance(stage), is_news, "{stage:?}");
            assert!(life.is_at_least(stage));
        }
        assert_eq!(life.stage(), Stage::Stopping);
    }
}
