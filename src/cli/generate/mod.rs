//! `wsgate generate`: the man pages and the completions of shells, which a package ships. Both come from what the
//! program knows of its own commands, the page of the configuration from the manual.

mod manual;
mod pages;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_complete::{Shell, generate_to};

use super::exit;
use super::failure::Failure;
use crate::display::cause;

/// The manual of the configuration, as it was at the build.
const MANUAL: &str = include_str!("../../../config/wsgate.toml");

#[derive(Args)]
pub(super) struct GenerateArguments {
    /// Where the directories 'man' and 'completions' are made
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,
}

/// Writes all of it below a directory, for this command with those below it. Files that are there already are replaced.
pub(super) fn run(arguments: &GenerateArguments, command: &Command) -> Result<(), Failure> {
    let directory = &arguments.directory;
    write(directory, &shown(command)).map_err(|error| {
        let text = format!("failed to write below {:?}: {}", directory.display().to_string(), cause(&error));
        Failure { text, exit_code: exit::IO }
    })
}

fn write(directory: &Path, shown: &Command) -> io::Result<()> {
    let (man, completions) = (directory.join("man"), directory.join("completions"));
    fs::create_dir_all(&man)?;
    fs::create_dir_all(&completions)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut shown.clone(), "wsgate", &completions)?;
    }
    let mut command = shown.clone().disable_help_subcommand(true);
    command.build();
    let mut pages = pages::of_commands(&command);
    pages.push(pages::of_configuration(&manual::parse(MANUAL)));
    pages.iter().try_for_each(|page| fs::write(man.join(&page.file), &page.text))
}

/// The command with those of its subcommands that are shown: the shells would offer the others too.
fn shown(all: &Command) -> Command {
    let shown = Command::new("wsgate").version(env!("CARGO_PKG_VERSION")).subcommand_required(true);
    let shown = shown.subcommand_value_name("COMMAND");
    let mut shown = shown.args(all.get_arguments()).subcommands(all.get_subcommands().filter(|c| !c.is_hide_set()));
    if let Some(about) = all.get_about() {
        shown = shown.about(about.clone());
    }
    if let Some(after) = all.get_after_help() {
        shown = shown.after_help(after.clone());
    }
    shown
}
