//! `wsgate store NAME info`.

use std::fmt::Write as _;
use std::io::{self, Write};

use clap::Args;
use serde::Serialize;

use crate::cli::failure::{Failure, output_failed};
use crate::display::{bytes, for_terminal};
use crate::store::place;
use crate::store::reader::{Reader, Summary};

#[derive(Args)]
pub(super) struct InfoArguments {
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// What is printed with `--json`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Info<'a> {
    path: String,
    origin: &'a str,
    messages: u64,
    rooms: u64,
    first: Option<End<'a>>,
    last: Option<End<'a>>,
    database_bytes: u64,
    wal_bytes: u64,
    /// The process that uses it.
    used_by: Option<u32>,
}

#[derive(Serialize)]
struct End<'a> {
    seq: u64,
    received: &'a str,
}

/// Prints what the store holds.
pub(super) fn run(reader: &Reader, arguments: &InfoArguments) -> Result<(), Failure> {
    let summary = reader.summary()?;
    let info = Info::new(reader, &summary);
    let text = if arguments.json { serde_json::json!(info).to_string() + "\n" } else { info.describe() };
    match io::stdout().write_all(for_terminal(&text).as_bytes()) {
        Ok(()) => Ok(()),
        Err(error) => output_failed(&error),
    }
}

impl<'a> Info<'a> {
    fn new(reader: &Reader, summary: &'a Summary) -> Info<'a> {
        let (database_bytes, wal_bytes) = place::sizes(reader.path());
        let end = |at: usize| {
            let (seq, received) = summary.range.as_ref().map(|range| &range[at])?;
            Some(End { seq: *seq, received })
        };
        Info {
            path: reader.path().display().to_string(),
            origin: &summary.origin,
            messages: summary.messages,
            rooms: summary.rooms,
            first: end(0),
            last: end(1),
            database_bytes,
            wal_bytes,
            used_by: place::user(reader.path()),
        }
    }

    fn describe(&self) -> String {
        let mut text = format!("file      {}\norigin    {}\nmessages  {}", self.path, self.origin, self.messages);
        if let (Some(first), Some(last)) = (&self.first, &self.last) {
            let _ = write!(
                text,
                ", numbers {} to {}\nreceived  {} to {}",
                first.seq, last.seq, first.received, last.received
            );
        }
        let (database, log) = (bytes(self.database_bytes), bytes(self.wal_bytes));
        let _ = write!(text, "\nrooms     {}\nsize      {database}, write-ahead log {log}\nused by   ", self.rooms);
        match self.used_by {
            Some(process) => {
                let _ = writeln!(text, "the gateway with the process number {process}");
            }
            None => text.push_str("no gateway\n"),
        }
        text
    }
}
