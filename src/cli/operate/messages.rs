//! `wsgate send-to` and `wsgate publish`: a message of the operator to one client, or to a room.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use serde::Deserialize;

use crate::admin::BODY_MAX;
use crate::cli::exit;
use crate::cli::failure::Failure;
use crate::cli::message_input::{self, Source};
use crate::cli::operate::api::{Api, BINARY, TEXT, encoded};
use crate::cli::operate::arguments::AdminArguments;
use crate::cli::operate::help::help;
use crate::cli::operate::output::Output;
use crate::dial::HttpCall;
use crate::display::{count, printable};

pub(super) const SEND_TO_HELP: &str = help!(
    "\
Examples:
  wsgate send-to d44d1d9fdb4ad6d4 'you alone'
  wsgate send-to d44d1d9fdb4ad6d4 --file order.json
  wsgate send-to d44d1d9fdb4ad6d4 --binary - < firmware.bin

'wsgate clients' lists the ids. The message is sent as it is, whatever the format of the endpoint.
If text from a file or from standard input ends with a line end, that line end is not sent; with
'--binary' every byte is sent."
);

pub(super) const PUBLISH_HELP: &str = help!(
    "\
Examples:
  wsgate publish /rooms/7 'stop the press'
  wsgate publish '/rooms/{room}' 'stop all presses'
  echo '{\"on\":true}' | wsgate publish /rooms/7

The path is that of a room, as 'wsgate clients' shows it. A segment in braces stands for any
value. Clients get the message as a payload in the format of their endpoint, as from nobody. If
text from a file or from standard input ends with a line end, that line end is not sent; with
'--binary' every byte is sent."
);

/// How much of a path or an id is shown.
const SHOWN_MAX: usize = 500;

/// A message.
#[derive(Args)]
struct MessageArguments {
    /// The message; without it, or with '-', it is read from standard input
    #[arg(value_name = "DATA", allow_negative_numbers = true, conflicts_with = "file")]
    data: Option<OsString>,
    /// Read the message from this file
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Send a binary message instead of text
    #[arg(short, long)]
    binary: bool,
}

#[derive(Args)]
pub struct SendToArguments {
    /// The id of the client, 16 hex digits
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    message: MessageArguments,
    #[command(flatten)]
    admin: AdminArguments,
}

#[derive(Args)]
pub struct PublishArguments {
    /// The path of a room, or of an endpoint for all of its rooms
    #[arg(value_name = "PATH")]
    path: String,
    #[command(flatten)]
    message: MessageArguments,
    #[command(flatten)]
    admin: AdminArguments,
}

impl MessageArguments {
    /// The bytes of the message, and their type.
    fn read(self) -> Result<(Vec<u8>, &'static str), Failure> {
        let source = match (self.data, self.file) {
            (_, Some(file)) => Source::File(file),
            (data, None) => Source::of(data),
        };
        let bytes = message_input::read(source, self.binary, BODY_MAX)?;
        Ok((bytes, if self.binary { BINARY } else { TEXT }))
    }
}

/// Sends to one client.
pub(super) fn send_to(arguments: SendToArguments) -> Result<(), Failure> {
    let shown = printable(&arguments.id, SHOWN_MAX);
    let mut output = Output::new(arguments.admin.json);
    // All of the command line is judged before the message is read: somebody may be typing it.
    let api = Api::new(arguments.admin)?;
    let (bytes, content_type) = arguments.message.read()?;
    let path = format!("/api/v1/clients/{}/send", encoded(&arguments.id));
    let call = HttpCall { method: "POST", path_and_query: &path, body: Some((content_type, &bytes)) };
    let body = api.call(&format!("send to the client '{shown}'"), &call)?;
    output.answer(&body, || Ok(format!("sent {} to the client {shown}", count(bytes.len(), "byte"))))
}

/// What a publication has reached.
#[derive(Deserialize)]
struct Published {
    clients: u64,
}

/// Sends to a room, or to several.
pub(super) fn publish(arguments: PublishArguments) -> Result<(), Failure> {
    let shown = printable(&arguments.path, SHOWN_MAX);
    let doing = format!("publish to '{shown}'");
    let Some(path) = arguments.path.strip_prefix('/') else {
        let text = format!("failed to {doing}: a path begins with '/' (write '/{shown}')");
        return Err(Failure { text, exit_code: exit::USAGE });
    };
    let mut output = Output::new(arguments.admin.json);
    let api = Api::new(arguments.admin)?;
    let (bytes, content_type) = arguments.message.read()?;
    let segments: Vec<String> = path.split('/').map(encoded).collect();
    let path = format!("/api/v1/publish/{}", segments.join("/"));
    let call = HttpCall { method: "POST", path_and_query: &path, body: Some((content_type, &bytes)) };
    let body = api.call(&doing, &call)?;
    output.answer(&body, || {
        let Published { clients } = api.read(&doing, &body)?;
        Ok(format!("sent {} to {} of '{shown}'", count(bytes.len(), "byte"), count(clients, "client")))
    })
}
