//! `wsgate import`: reads the WebSocket part of Node-RED flows or of n8n workflows and writes a configuration.
//!
//! What has no counterpart here becomes a comment that says what to decide. The output always passes `wsgate check`
//! where it was made.

mod export;
mod flow_node;
mod flow_variables;
mod flows;
mod loops;
mod n8n;
mod n8n_wires;
mod node_red;
mod node_red_options;
mod plan;
mod subflows;
mod values;
mod workflows;

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use self::export::{Export, HOW_TO_EXPORT, Surroundings};
use self::plan::{BlockKind, Plan};
use self::values::shown;
use crate::cli::exit;
use crate::cli::failure::{Failure, output_failed, tell};
use crate::display::{cause, count};

pub(super) const AFTER_HELP: &str = "\
Examples:
  wsgate import flows.json                                    the configuration on standard output
  wsgate import flows.json --output wsgate.toml && wsgate check --config wsgate.toml
  wsgate import --root /red --port 8080 flows.json            httpNodeRoot and uiPort of settings.js
  curl -s http://127.0.0.1:1880/flows | wsgate import -       from a running Node-RED
  n8n export:workflow --all | wsgate import - -o wsgate.toml

The input is the JSON that 'Export' of Node-RED or 'Download' of n8n writes. Where wsgate has no
counterpart, for example for a wire through a function node, the configuration has a comment that
begins with 'TO DECIDE'; standard error says how many there are. Set the environment variables that
the flows use before you import: a setting whose variable is not set becomes a comment. The exit
code is 65 if the file is neither of the two, or has no WebSocket node. A file that is there already
is overwritten only with '--force'.";

#[derive(Args)]
pub(super) struct ImportArguments {
    /// The flows or workflows (JSON); '-' reads standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Write the configuration to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Overwrite the file of '--output' if it is there
    #[arg(long, requires = "output")]
    force: bool,
    /// Node-RED's setting httpNodeRoot: the prefix of the path of every listener
    #[arg(long, value_name = "PATH", default_value = "/")]
    root: String,
    /// The port that Node-RED listens on; it has no effect on n8n, whose triggers have their own ports
    #[arg(long, value_name = "PORT", default_value_t = 1880)]
    port: u16,
}

/// What came of an import.
#[derive(Debug, PartialEq, Eq)]
pub struct Imported {
    /// The configuration, with comments on what is left to decide.
    pub text: String,
    /// How much it is, and how much is left to decide, in one line.
    pub summary: String,
}

/// Translates a file and writes the configuration.
pub(super) fn run(arguments: &ImportArguments) -> Result<(), Failure> {
    if let Some(file) = arguments.output.as_deref().filter(|file| !arguments.force && holds_something(file)) {
        return Err(Failure {
            text: format!(
                "{} is there already, and was not changed (write to another file, or add '--force' to overwrite it)",
                shown(&file.to_string_lossy())
            ),
            exit_code: exit::IO,
        });
    }
    let from_input = arguments.file.as_os_str() == "-";
    let name = if from_input { "standard input".to_owned() } else { shown(&arguments.file.to_string_lossy()) };
    let json = if from_input { read_input() } else { fs::read(&arguments.file) };
    let json = json.map_err(|error| Failure {
        text: format!("failed to read {name}: {} (check path and permissions)", cause(&error)),
        exit_code: if from_input { exit::IO } else { exit::NO_INPUT },
    })?;
    let base_dir = arguments.output.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
    let failed = |problem| Failure { text: format!("failed to import {name}: {problem}"), exit_code: exit::DATA };
    let Imported { text, summary } = translate(&json, &arguments.root, arguments.port, base_dir).map_err(failed)?;
    match &arguments.output {
        Some(file) => fs::write(file, &text).map_err(|error| Failure {
            text: format!(
                "failed to write {}: {} (check path and permissions)",
                shown(&file.to_string_lossy()),
                cause(&error)
            ),
            exit_code: exit::IO,
        })?,
        None => {
            let mut output = io::stdout().lock();
            if let Err(error) = output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
                return output_failed(&error);
            }
        }
    }
    tell(&summary);
    Ok(())
}

/// Whether writing to this file would lose what somebody has written. A pipe, a terminal and an empty file lose nothing.
fn holds_something(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|file| file.is_file() && file.len() > 0)
}

fn read_input() -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn summary(plan: &Plan) -> String {
    let (endpoints, links) = (plan.count(BlockKind::Endpoint), plan.count(BlockKind::Link));
    let imported = format!("imported {} and {}", count(endpoints, "endpoint"), count(links, "link"));
    match plan.decisions() {
        0 => format!("{imported}; nothing is left to decide"),
        number => format!("{imported}; {} to decide: look for 'TO DECIDE'", count(number, "thing")),
    }
}

/// Translates flows or workflows, JSON. `root` and `port` are those of Node-RED; relative paths of files are relative to
/// `base_dir`, and variables are those of the environment.
///
/// # Errors
/// What is wrong with the input, and what to do.
pub fn translate(json: &[u8], root: &str, port: u16, base_dir: &Path) -> Result<Imported, String> {
    translate_in(json, Surroundings { root, port, environment: &|name| std::env::var(name) }, base_dir)
}

/// The same in other surroundings.
fn translate_in(json: &[u8], surroundings: Surroundings<'_>, base_dir: &Path) -> Result<Imported, String> {
    // Some editors begin a file with a byte order mark.
    let json = json.strip_prefix(b"\xef\xbb\xbf").unwrap_or(json);
    let value: Value = serde_json::from_slice(json).map_err(|error| {
        let problem =
            if json.trim_ascii().is_empty() { "it is empty".to_owned() } else { format!("it is not JSON: {error}") };
        format!("{problem} ({HOW_TO_EXPORT})")
    })?;
    let mut plan = match Export::of(&value) {
        Some(Export::NodeRed(nodes)) => node_red::plan(nodes, surroundings)?,
        Some(Export::N8n(workflows)) => n8n::plan(&workflows, surroundings)?,
        None => {
            return Err(format!(
                "it is JSON, but neither Node-RED flows (a list of nodes, each with \"id\" and \"type\") nor an n8n \
                 workflow (an object with \"nodes\" and \"connections\") ({HOW_TO_EXPORT})"
            ));
        }
    };
    if plan.blocks.is_empty() {
        return Err(format!(
            "it has no WebSocket node that is in use, so there is nothing to import{}",
            plan.notes.iter().skip(2).map(|note| format!(". {}", note.trim_end_matches('.'))).collect::<String>()
        ));
    }
    plan.close_the_default();
    let text = plan.settle(base_dir, surroundings.environment).map_err(|error| {
        format!("the translation is not a valid configuration, which is a defect of wsgate: {error}")
    })?;
    Ok(Imported { text, summary: summary(&plan) })
}
