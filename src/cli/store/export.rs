//! `wsgate store NAME export`.

use clap::Args;

use super::progress;
use super::rows::{RowFormat, RowOutput};
use super::selection::Selection;
use crate::cli::failure::{Failure, output_failed};
use crate::store::reader::Reader;

pub(super) const AFTER_HELP: &str = "\
Examples:
  wsgate store readings -c wsgate.toml export | jq -r '.payload | fromjson | .temperature'
  wsgate store readings -c wsgate.toml export --room /devices/7 --since 2026-11-01 --format csv > november.csv
  wsgate store readings -c wsgate.toml export --after 1000 --count 100

What is stored while the export runs is exported too, up to the number that was the last one when it began.";

/// How many messages are read at once.
const PAGE: usize = 1_000;

#[derive(Args)]
pub(super) struct ExportArguments {
    #[command(flatten)]
    selection: Selection,
    /// How messages are printed
    #[arg(long, value_enum, default_value_t = RowFormat::Ndjson)]
    format: RowFormat,
    /// Print at most this many
    #[arg(short = 'n', long, value_name = "N")]
    count: Option<u64>,
}

/// Prints the messages that are meant, page by page.
pub(super) fn run(reader: &Reader, arguments: &ExportArguments) -> Result<(), Failure> {
    let Some((first, last)) = reader.numbers()? else { return Ok(()) };
    let mut filter = arguments.selection.filter();
    filter.before = Some(filter.before.unwrap_or(u64::MAX).min(last.saturating_add(1)));
    let mut left = arguments.count.unwrap_or(u64::MAX);
    let bar = progress::bar(last + 1 - first, true);
    let mut output = RowOutput::stdout(arguments.format);
    while left > 0 {
        let page = reader.page(&filter, PAGE.min(usize::try_from(left).unwrap_or(PAGE)))?;
        let Some(end) = page.last() else { break };
        if let Err(error) = output.rows(&page) {
            return output_failed(&error);
        }
        left -= page.len() as u64;
        filter.after = Some(end.seq);
        bar.set_position(end.seq + 1 - first);
    }
    bar.finish_and_clear();
    Ok(())
}
