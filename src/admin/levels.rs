//! What the log shows, as operators ask for it until the next reload.

use std::collections::BTreeMap;

use log::info;
use serde::{Deserialize, Serialize};

use crate::admin::asked::Asked;
use crate::config::{LogLevels, asked_levels, level_word};
use crate::http::answer::Answer;
use crate::log_kind::CONFIG;
use crate::logging;

/// Levels as `[log]` has them.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Levels {
    /// Of what has no level of its own.
    #[serde(default)]
    level: Option<String>,
    /// Of parts, kinds and endpoints.
    #[serde(default)]
    levels: BTreeMap<String, String>,
}

impl From<&LogLevels> for Levels {
    fn from(asked: &LogLevels) -> Levels {
        Levels {
            level: asked.level.map(|level| level_word(level).to_owned()),
            levels: asked.named.iter().map(|(name, level)| (name.clone(), level_word(*level).to_owned())).collect(),
        }
    }
}

/// `GET /api/v1/log`: what was asked for and holds.
pub fn show(_: &Asked<'_>) -> Result<Answer, Answer> {
    Ok(Answer::json(&Levels::from(&logging::asked_levels())))
}

/// `PUT /api/v1/log`: has these levels hold until the next reload, before those of the configuration and RUST_LOG. Levels
/// that say nothing take back what was asked for before.
pub fn ask(asked: &Asked<'_>) -> Result<Answer, Answer> {
    let wrong = |message: &str| Answer::error(400, "badRequest", message);
    let Levels { level, levels } = serde_json::from_slice(asked.body).map_err(|error| {
        wrong(&format!("the body is not as {{\"level\":\"debug\",\"levels\":{{\"links\":\"debug\"}}}}: {error}"))
    })?;
    let generation = asked.admin.shared.generation();
    let paths: Vec<&str> = generation.endpoints.values().map(|endpoint| endpoint.settings.path.as_str()).collect();
    let levels = asked_levels(level.as_deref(), &levels, &paths).map_err(|mistakes| wrong(&mistakes.join("; ")))?;
    let levels_now = Levels::from(&levels);
    // Before they hold: they may show nothing of it.
    info!(target: CONFIG, "log: {}", in_words(&levels_now));
    logging::ask_levels(levels);
    Ok(Answer::json(&levels_now))
}

fn in_words(Levels { level, levels }: &Levels) -> String {
    let named = levels.iter().map(|(name, level)| format!("{level} for {name}"));
    let all: Vec<String> = level.iter().map(|level| format!("{level} for all")).chain(named).collect();
    match all.is_empty() {
        true => "the levels of the configuration hold again, as was asked for".to_owned(),
        false => format!("until the next reload the levels are {}, as was asked for", all.join(", ")),
    }
}
