//! `wsgate store`: looks at the files of stores, with or without a gateway that uses them.

mod backup;
mod check;
mod export;
mod info;
mod progress;
mod prune;
mod rows;
mod selection;
mod tail;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::exit;
use super::failure::Failure;
use crate::config;
use crate::store::error::Trouble;
use crate::store::reader::Reader;
use crate::store::schema::Unusable;

pub(super) const AFTER_HELP: &str = "\
Examples:
  wsgate store readings --config /etc/wsgate/wsgate.toml info
  wsgate store readings -c wsgate.toml tail --follow --room /devices/7
  wsgate store readings -c wsgate.toml export --since 24h --format csv > yesterday.csv
  wsgate store readings -c wsgate.toml prune --until 90d --dry-run
  wsgate store readings -c wsgate.toml backup /mnt/usb/readings.db
  wsgate store /mnt/usb/readings.db check

NAME is the name of a [[store]] in the config file, or the path of a store's file: a text with a '/' or a '.' is a
path. All of it works while a gateway uses the store, and without one.";

#[derive(Args)]
pub(super) struct StoreArguments {
    /// The config file that has the store
    #[arg(short, long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// The name of the store, or the path of its file
    #[arg(value_name = "NAME")]
    name: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print what the store holds, how large its files are and who uses it
    Info(info::InfoArguments),
    /// Print messages, the oldest first
    #[command(after_help = export::AFTER_HELP)]
    Export(export::ExportArguments),
    /// Print the last messages, and with '--follow' those that come
    Tail(tail::TailArguments),
    /// Remove messages for ever
    #[command(after_help = prune::AFTER_HELP)]
    Prune(prune::PruneArguments),
    /// Look for damage in the store's file; the exit code is 65 if there is some
    Check,
    /// Copy the store as it is now into a new file
    #[command(after_help = backup::AFTER_HELP)]
    Backup(backup::BackupArguments),
}

/// Does what was asked for.
pub(super) fn run(arguments: &StoreArguments) -> Result<(), Failure> {
    let path = arguments.path()?;
    match &arguments.command {
        Command::Info(arguments) => info::run(&open(&path)?, arguments),
        Command::Export(arguments) => export::run(&open(&path)?, arguments),
        Command::Tail(arguments) => tail::run(&open(&path)?, arguments),
        Command::Prune(arguments) => prune::run(&path, arguments),
        Command::Check => check::run(&open(&path)?),
        Command::Backup(arguments) => backup::run(&open(&path)?, arguments),
    }
}

impl StoreArguments {
    /// The file of the store.
    fn path(&self) -> Result<PathBuf, Failure> {
        if self.name.contains(['/', '.']) {
            return Ok(PathBuf::from(&self.name));
        }
        let Some(file) = &self.config else {
            let text = format!(
                "which file has the store \"{}\"? Add '--config FILE' with the configuration, or write the path of the \
                 store's file instead of its name",
                self.name
            );
            return Err(Failure { text, exit_code: exit::USAGE });
        };
        let settings =
            config::load(file).map_err(|error| Failure { text: error.to_string(), exit_code: exit::CONFIG })?;
        let store = settings.stores.iter().find(|store| store.name == self.name);
        store.map(|store| store.path.clone()).ok_or_else(|| {
            let names: Vec<_> = settings.stores.iter().map(|store| format!("\"{}\"", store.name)).collect();
            let there_are =
                if names.is_empty() { "it has none".to_owned() } else { format!("it has {}", names.join(", ")) };
            let text = format!("{} has no store \"{}\": {there_are}", file.display(), self.name);
            Failure { text, exit_code: exit::CONFIG }
        })
    }
}

fn open(path: &std::path::Path) -> Result<Reader, Failure> {
    Ok(Reader::open(path)?)
}

impl From<Unusable> for Failure {
    fn from(error: Unusable) -> Failure {
        match error {
            Unusable::Refused(refused) => Failure { text: refused.to_string(), exit_code: exit::NO_INPUT },
            Unusable::Trouble(trouble) => trouble.into(),
        }
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Failure {
        let exit_code = match trouble {
            Trouble::Damaged(_) => exit::DATA,
            Trouble::Locked(_) => exit::TEMPORARY,
            Trouble::Full(_) | Trouble::Failed(_) => exit::IO,
        };
        Failure { text: format!("failed to use the store: {trouble}"), exit_code }
    }
}
