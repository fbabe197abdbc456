//! How the messages of a store are printed.

use std::borrow::Cow;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

use clap::ValueEnum;
use serde::Serialize;

use crate::cli::message_output::json_for_terminal;
use crate::display::for_terminal;
use crate::message::Kind;
use crate::store::reader::Stored;

/// How a message is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum RowFormat {
    /// A JSON object on a line, with the columns of the table as keys; a binary payload in base64
    Ndjson,
    /// Comma-separated values with a header, after RFC 4180; a binary payload in base64
    Csv,
    /// The payload alone, and a line end
    Raw,
}

/// A message as it is printed: the columns of the table, in their order.
#[derive(Serialize)]
struct Shown<'a> {
    seq: u64,
    received: &'a str,
    endpoint: &'a str,
    room: Option<&'a str>,
    session: &'a str,
    address: Option<&'a str>,
    identity: Option<&'a str>,
    kind: &'static str,
    payload: Cow<'a, str>,
    origin: Option<&'a str>,
    origin_seq: Option<u64>,
}

impl<'a> Shown<'a> {
    fn new(stored: &'a Stored) -> Shown<'a> {
        let (kind, payload) = match stored.kind {
            Kind::Text => ("text", String::from_utf8_lossy(&stored.payload)),
            Kind::Binary => ("binary", openssl::base64::encode_block(&stored.payload).into()),
        };
        Shown {
            seq: stored.seq,
            received: &stored.received,
            endpoint: &stored.endpoint,
            room: stored.room.as_deref(),
            session: &stored.session,
            address: stored.address.as_deref(),
            identity: stored.identity.as_deref(),
            kind,
            payload,
            origin: stored.origin.as_deref(),
            origin_seq: stored.origin_seq,
        }
    }
}

/// Where messages are printed. What goes to a file or a pipe is what was stored; a terminal gets no character that could
/// move its cursor or change its colours.
pub(super) struct RowOutput<W: Write = BufWriter<Stdout>> {
    out: W,
    format: RowFormat,
    is_terminal: bool,
    has_header: bool,
}

impl RowOutput {
    /// Standard output.
    pub(super) fn stdout(format: RowFormat) -> RowOutput {
        let out = BufWriter::with_capacity(64 << 10, io::stdout());
        RowOutput { out, format, is_terminal: io::stdout().is_terminal(), has_header: false }
    }
}

impl<W: Write> RowOutput<W> {
    /// Prints a page of messages.
    pub(super) fn rows(&mut self, rows: &[Stored]) -> io::Result<()> {
        for stored in rows {
            match self.format {
                RowFormat::Ndjson => {
                    let line = serde_json::to_string(&Shown::new(stored)).map_err(io::Error::other)?;
                    let line = if self.is_terminal { json_for_terminal(&line) } else { line };
                    writeln!(self.out, "{line}")?;
                }
                RowFormat::Csv => {
                    let lines = csv(stored, !self.has_header)?;
                    self.has_header = true;
                    self.text(&lines)?;
                }
                RowFormat::Raw => {
                    self.text(&stored.payload)?;
                    self.out.write_all(b"\n")?;
                }
            }
        }
        self.out.flush()
    }

    fn text(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.is_terminal {
            let text = String::from_utf8_lossy(bytes);
            return self.out.write_all(for_terminal(&text).as_bytes());
        }
        self.out.write_all(bytes)
    }
}

/// A record of CSV, behind the header if that is wanted.
fn csv(stored: &Stored, with_header: bool) -> io::Result<Vec<u8>> {
    let mut record = csv::WriterBuilder::new().has_headers(with_header).from_writer(Vec::new());
    record.serialize(Shown::new(stored))?;
    record.into_inner().map_err(|error| error.into_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(kind: Kind, payload: &[u8]) -> Stored {
        Stored {
            seq: 7,
            received: "2026-11-30T14:00:00.000000Z".into(),
            endpoint: "/devices/{id}".into(),
            room: Some("/devices/7".into()),
            session: "d44d1d9fdb4ad6d4".into(),
            address: None,
            identity: Some("press, 3".into()),
            kind,
            payload: payload.to_vec(),
            origin: None,
            origin_seq: None,
        }
    }

    fn printed(format: RowFormat, is_terminal: bool, rows: &[Stored]) -> String {
        let mut output = RowOutput { out: Vec::new(), format, is_terminal, has_header: false };
        rows.iter().for_each(|row| output.rows(std::slice::from_ref(row)).unwrap());
        String::from_utf8(output.out).unwrap()
    }

    #[test]
    fn each_format_loses_nothing() {
        let rows = [stored(Kind::Text, b"{\"t\":\n1}"), stored(Kind::Binary, &[0, 255])];
        let source = r#""endpoint":"/devices/{id}","room":"/devices/7","session":"d44d1d9fdb4ad6d4","address":null,"identity":"press, 3""#;
        let line = |kind: &str, payload: &str| {
            format!(
                "{{\"seq\":7,\"received\":\"2026-11-30T14:00:00.000000Z\",{source},\"kind\":\"{kind}\",\
                 \"payload\":\"{payload}\",\"origin\":null,\"origin_seq\":null}}\n"
            )
        };
        let ndjson = line("text", r#"{\"t\":\n1}"#) + &line("binary", "AP8=");
        assert_eq!(printed(RowFormat::Ndjson, false, &rows), ndjson);
        let start = "7,2026-11-30T14:00:00.000000Z,/devices/{id},/devices/7,d44d1d9fdb4ad6d4,,\"press, 3\"";
        let header = "seq,received,endpoint,room,session,address,identity,kind,payload,origin,origin_seq";
        let csv = format!("{header}\n{start},text,\"{{\"\"t\"\":\n1}}\",,\n{start},binary,AP8=,,\n");
        assert_eq!(printed(RowFormat::Csv, false, &rows), csv);
        assert_eq!(printed(RowFormat::Raw, false, &rows[..1]), "{\"t\":\n1}\n");
    }

    #[test]
    fn a_terminal_gets_no_character_that_moves_it() {
        let rows = [stored(Kind::Text, "\u{1b}[2J\u{9b}".as_bytes())];
        for format in [RowFormat::Ndjson, RowFormat::Csv, RowFormat::Raw] {
            let text = printed(format, true, &rows);
            assert!(!text.contains(['\u{1b}', '\u{9b}']) && text.contains("[2J"), "{text}");
        }
    }
}
