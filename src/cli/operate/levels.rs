//! `wsgate log`: what the log shows until the next reload.

use std::collections::BTreeMap;

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::cli::exit;
use crate::cli::failure::Failure;
use crate::cli::operate::api::{Api, JSON};
use crate::cli::operate::arguments::AdminArguments;
use crate::cli::operate::help::help;
use crate::cli::operate::output::Output;
use crate::dial::HttpCall;
use crate::display::printable;

pub(super) const AFTER_HELP: &str = help!(
    "\
Examples:
  wsgate log                                      what was asked for
  wsgate log debug                                a level for all
  wsgate log links=debug '/rooms/{room}=off'      levels for a part of the log and for an endpoint
  wsgate log --reset                              the levels of the configuration again

The levels are off, error, warn, info and debug; the names are those of 'levels' in [log]. They
hold until the next reload or the next 'wsgate log', and come before RUST_LOG and [log]. What they
say nothing about is as it was configured."
);

/// How much of an argument is shown.
const SHOWN_MAX: usize = 200;

#[derive(Args)]
pub struct LogArguments {
    /// A level for all, or a level for a part, a kind or an endpoint as NAME=LEVEL; without any, the levels are shown
    #[arg(value_name = "LEVEL|NAME=LEVEL")]
    levels: Vec<String>,
    /// Take back what was asked for
    #[arg(long, conflicts_with = "levels")]
    reset: bool,
    #[command(flatten)]
    admin: AdminArguments,
}

/// Levels as the API has them.
#[derive(Default, Serialize, Deserialize)]
struct Levels {
    level: Option<String>,
    levels: BTreeMap<String, String>,
}

/// Shows the levels, or changes them.
pub(super) fn run(arguments: LogArguments) -> Result<(), Failure> {
    let mut output = Output::new(arguments.admin.json);
    let wanted = read(&arguments.levels)?;
    let api = Api::new(arguments.admin)?;
    let path = "/api/v1/log";
    let (doing, body) = if arguments.levels.is_empty() && !arguments.reset {
        let doing = "look at the levels of the log";
        (doing, api.get(doing, path)?)
    } else {
        let doing = "change the levels of the log";
        let wanted = serde_json::to_vec(&wanted).expect("texts are JSON");
        (doing, api.call(doing, &HttpCall { method: "PUT", path_and_query: path, body: Some((JSON, &wanted)) })?)
    };
    output.answer(&body, || Ok(in_words(&api.read(doing, &body)?)))
}

/// What the arguments ask for. The names and levels are for wsgate to judge.
fn read(arguments: &[String]) -> Result<Levels, Failure> {
    let mut read = Levels::default();
    for argument in arguments {
        // A path may have the sign, a level has not.
        let before = match argument.rsplit_once('=') {
            None => read.level.replace(argument.clone()),
            Some((name, level)) => read.levels.insert(name.to_owned(), level.to_owned()),
        };
        if before.is_some() {
            let shown = printable(argument, SHOWN_MAX);
            let text = format!("failed to read '{shown}': there is another level for the same (write one of them)");
            return Err(Failure { text, exit_code: exit::USAGE });
        }
    }
    Ok(read)
}

fn in_words(Levels { level, levels }: &Levels) -> String {
    let named = levels.iter().map(|(name, level)| format!("{name}={level}"));
    let all: Vec<String> = level.iter().cloned().chain(named).collect();
    match all.is_empty() {
        true => "the configuration decides what the log shows: nothing else was asked for".to_owned(),
        false => format!("until the next reload: {}", all.join(" ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_as_they_are_written() {
        let texts = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let levels = read(&texts(&["warn", "links=debug", "/a=b=off"])).unwrap();
        assert_eq!(in_words(&levels), "until the next reload: warn /a=b=off links=debug");
        for twice in [&["warn", "info"][..], &["links=debug", "links=off"]] {
            assert_eq!(read(&texts(twice)).map(|_| ()).unwrap_err().exit_code, exit::USAGE);
        }
        assert!(in_words(&Levels::default()).starts_with("the configuration decides"));
    }
}
