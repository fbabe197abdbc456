//! `wsgate store NAME tail`.

use std::time::Duration;

use clap::Args;

use super::rows::{RowFormat, RowOutput};
use super::selection::Selection;
use crate::cli::exit;
use crate::cli::failure::{Failure, output_failed};
use crate::cli::stop::Stop;
use crate::dial::WaitEnd;
use crate::display::cause;
use crate::store::reader::{Filter, Reader};

/// How often it is seen whether something was stored.
const LOOK: Duration = Duration::from_millis(250);

/// How many messages are read at once.
const PAGE: usize = 1_000;

#[derive(Args)]
pub(super) struct TailArguments {
    #[command(flatten)]
    selection: Selection,
    /// How messages are printed
    #[arg(long, value_enum, default_value_t = RowFormat::Ndjson)]
    format: RowFormat,
    /// How many of the last messages are printed first
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(..=100_000))]
    count: u32,
    /// Go on with what comes, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
}

/// Prints the last messages that are meant, and those that follow.
pub(super) fn run(reader: &Reader, arguments: &TailArguments) -> Result<(), Failure> {
    let stop = Stop::on_signal().map_err(|error| Failure {
        text: format!("failed to catch Ctrl-C: {}", cause(&error)),
        exit_code: exit::SYSTEM,
    })?;
    let cancel = stop.or_output_closed();
    let mut filter = arguments.selection.filter();
    let mut output = RowOutput::stdout(arguments.format);
    let mut version = reader.version()?;
    // What is stored from here on is behind this number.
    let behind = reader.numbers()?.map_or(0, |(_, last)| last);
    let up_to_now = Filter { before: Some(filter.before.unwrap_or(u64::MAX).min(behind + 1)), ..filter.clone() };
    let mut page = reader.last(&up_to_now, arguments.count as usize)?;
    filter.after = Some(filter.after.unwrap_or(0).max(behind));
    loop {
        if let Err(error) = output.rows(&page) {
            return output_failed(&error);
        }
        if !arguments.follow {
            return Ok(());
        }
        if page.len() < PAGE {
            loop {
                if !matches!(cancel.sleep(LOOK), WaitEnd::Deadline) {
                    return Ok(());
                }
                let now = reader.version()?;
                if now != version {
                    version = now;
                    break;
                }
            }
        }
        page = reader.page(&filter, PAGE)?;
        if let Some(last) = page.last() {
            filter.after = Some(last.seq);
        }
    }
}
