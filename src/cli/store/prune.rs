//! `wsgate store NAME prune`.

use std::path::Path;

use clap::Args;

use super::progress;
use super::selection::Selection;
use crate::cli::exit;
use crate::cli::failure::{Failure, tell};
use crate::display::count;
use crate::store::prune::Pruner;

pub(super) const AFTER_HELP: &str = "\
Examples:
  wsgate store readings -c wsgate.toml prune --until 90d --dry-run     how many are older than 90 days?
  wsgate store readings -c wsgate.toml prune --until 90d
  wsgate store readings -c wsgate.toml prune --room /devices/7

What is removed is gone: make a backup first. The numbers of removed messages are never used again.";

#[derive(Args)]
pub(super) struct PruneArguments {
    #[command(flatten)]
    selection: Selection,
    /// Remove all messages
    #[arg(long)]
    all: bool,
    /// Only say how many messages would be removed
    #[arg(long)]
    dry_run: bool,
}

/// Removes the messages that are meant, and makes the file smaller.
pub(super) fn run(path: &Path, arguments: &PruneArguments) -> Result<(), Failure> {
    if arguments.selection.is_all() != arguments.all {
        let text = if arguments.all {
            "'--all' means all messages: leave it out, or leave out the other options"
        } else {
            "which messages? Add for example '--until 90d' or '--room ROOM', or '--all'"
        };
        return Err(Failure { text: text.to_owned(), exit_code: exit::USAGE });
    }
    let mut pruner = Pruner::open(path)?;
    let filter = arguments.selection.filter();
    let meant = pruner.count(&filter)?;
    if arguments.dry_run {
        tell(&format!("{} would be removed", count(meant, "message")));
        return Ok(());
    }
    let bar = progress::bar(meant, false);
    let mut removed = 0;
    loop {
        let step = pruner.step(&filter)? as u64;
        removed += step;
        bar.set_position(removed);
        // Those that have come since are not meant, whatever the filter says: it would never end.
        if step == 0 || removed >= meant {
            break;
        }
    }
    bar.finish_and_clear();
    while pruner.shrink()? {}
    tell(&format!("removed {}", count(removed, "message")));
    Ok(())
}
