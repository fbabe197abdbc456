//! The words of `[log]`, which operators also use while wsgate runs: levels, and what can have one.

use std::collections::BTreeMap;

use log::LevelFilter;

use crate::config::section::nearest;
use crate::config::settings::LogLevels;
use crate::log_kind::names;

/// The levels by their words. No "trace": the release build leaves it out.
pub(super) const LEVELS: [(&str, LevelFilter); 5] = [
    ("off", LevelFilter::Off),
    ("error", LevelFilter::Error),
    ("warn", LevelFilter::Warn),
    ("info", LevelFilter::Info),
    ("debug", LevelFilter::Debug),
];

/// The word of a level; of one that has none, that of the nearest.
pub(crate) fn level_word(level: LevelFilter) -> &'static str {
    LEVELS.iter().find(|(_, known)| *known >= level).map_or("debug", |(word, _)| word)
}

/// Whether this is the name of a part or a kind.
pub(super) fn is_name(name: &str) -> bool {
    names().any(|known| known == name)
}

/// What is wrong with a name that is none; it goes behind the name.
pub(super) fn unknown_name(name: &str) -> String {
    match nearest(name, names()) {
        Some(known) => format!("is no part of the log: did you mean {known:?}?"),
        None => {
            let names: Vec<_> = names().collect();
            format!("is no part of the log: write the path of an endpoint, or one of {}", names.join(", "))
        }
    }
}

/// What is wrong with a path that none of the endpoints has, whose paths are these; it goes behind the path.
pub(super) fn unknown_path(path: &str, paths: &[&str]) -> String {
    let advice = match nearest(path, paths.iter().copied()) {
        Some(near) => format!("did you mean {near:?}?"),
        None => "write the path of an [[endpoint]] as it stands there".to_owned(),
    };
    format!("is the path of no endpoint: {advice}")
}

/// Levels that an operator asks for: of all, and of parts, kinds and the endpoints with these paths.
///
/// # Errors
/// Every mistake.
pub(crate) fn asked_levels(
    level: Option<&str>,
    named: &BTreeMap<String, String>,
    paths: &[&str],
) -> Result<LogLevels, Vec<String>> {
    let mut mistakes = Vec::new();
    let mut read = |of: &str, word: &str| {
        let level = LEVELS.iter().find(|(known, _)| *known == word).map(|(_, level)| *level);
        if level.is_none() {
            let words: Vec<&str> = LEVELS.iter().map(|(word, _)| *word).collect();
            mistakes.push(format!("{word:?} is no level{of}: write one of {}", words.join(", ")));
        }
        level
    };
    let all = level.and_then(|word| read("", word));
    let levels = named.iter().filter_map(|(name, word)| Some((name.clone(), read(&format!(" of {name:?}"), word)?)));
    let levels = LogLevels { level: all, named: levels.collect() };
    for name in named.keys() {
        match name.starts_with('/') {
            true if !paths.contains(&&**name) => mistakes.push(format!("{name:?} {}", unknown_path(name, paths))),
            false if !is_name(name) => mistakes.push(format!("{name:?} {}", unknown_name(name))),
            _ => {}
        }
    }
    if mistakes.is_empty() { Ok(levels) } else { Err(mistakes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_that_are_asked_for_are_read_as_those_of_the_file_and_every_mistake_is_told() {
        let named = |all: &[(&str, &str)]| all.iter().map(|(name, word)| ((*name).into(), (*word).into())).collect();
        let read = |level, all| asked_levels(level, &named(all), &["/rooms/{room}"]);
        let levels = read(Some("warn"), &[("links", "debug"), ("/rooms/{room}", "off")]).unwrap();
        assert_eq!((levels.level, levels.named.len()), (Some(LevelFilter::Warn), 2));
        assert_eq!(read(None, &[]), Ok(LogLevels::default()));
        let mistakes = read(Some("loud"), &[("linkz", "debug"), ("/room/{room}", "x"), ("nothing", "info")]);
        assert_eq!(
            mistakes.unwrap_err(),
            [
                "\"loud\" is no level: write one of off, error, warn, info, debug",
                "\"x\" is no level of \"/room/{room}\": write one of off, error, warn, info, debug",
                "\"/room/{room}\" is the path of no endpoint: did you mean \"/rooms/{room}\"?",
                "\"linkz\" is no part of the log: did you mean \"links\"?",
                &format!("\"nothing\" {}", unknown_name("nothing")),
            ]
        );
    }

    #[test]
    fn each_level_has_its_word() {
        for (word, level) in LEVELS {
            assert_eq!(level_word(level), word);
        }
        assert_eq!(level_word(LevelFilter::Trace), "debug");
    }
}
