//! `wsgate store NAME backup`.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{fs, thread};

use clap::Args;

use super::progress;
use crate::cli::failure::{Failure, tell};
use crate::display::bytes;
use crate::store::backup;
use crate::store::reader::Reader;

pub(super) const AFTER_HELP: &str = "\
Examples:
  wsgate store readings -c wsgate.toml backup /mnt/usb/readings-2026-11-30.db

The copy is complete or not there. It is a store of its own, with another origin: who asks for messages after a number
of the first store is told that this is another one. To restore it, stop the gateway, move away the three files of the
store (PATH, PATH-wal, PATH-shm) and copy the backup to PATH.";

/// How often the bar is drawn anew.
const DRAW: Duration = Duration::from_millis(200);

#[derive(Args)]
pub(super) struct BackupArguments {
    /// The new file
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Copies the store.
pub(super) fn run(reader: &Reader, arguments: &BackupArguments) -> Result<(), Failure> {
    let expected = backup::expected_size(reader)?;
    let bar = progress::bar(expected, false);
    let (unfinished, is_done) = (backup::unfinished(&arguments.file), AtomicBool::new(false));
    let copied = thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                bar.set_position(fs::metadata(&unfinished).map_or(0, |file| file.len()));
                thread::park_timeout(DRAW);
            }
        });
        let copied = backup::copy(reader, &arguments.file);
        is_done.store(true, Ordering::Relaxed);
        copied
    });
    bar.finish_and_clear();
    copied?;
    let size = fs::metadata(&arguments.file).map_or(0, |file| file.len());
    tell(&format!("{}: {}", arguments.file.display(), bytes(size)));
    Ok(())
}
