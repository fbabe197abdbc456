//! `wsgate drain`: a running wsgate lets nobody in any more, closes its clients one after the other, and ends.

use std::time::{Duration, Instant};

use clap::Args;
use serde::Deserialize;

use crate::cli::exit;
use crate::cli::failure::Failure;
use crate::cli::operate::api::Api;
use crate::cli::operate::arguments::AdminArguments;
use crate::cli::operate::help::help;
use crate::cli::operate::output::Output;
use crate::dial::{CancelToken, DialError, HttpCall};
use crate::display::{count, printable};

pub(super) const AFTER_HELP: &str = help!(
    "\
Examples:
  wsgate drain
  wsgate drain --wait && reboot

It does what SIGUSR2 does: new clients get 503, the clients that are there are closed with 1012
evenly over 'drain_timeout', and wsgate ends. With '--wait' the command ends when wsgate has
ended, with exit code 75 if it has not in its time."
);

/// How often it is looked whether wsgate has ended.
const PAUSE: Duration = Duration::from_millis(200);

/// How much longer than it says wsgate is waited for.
const MARGIN: Duration = Duration::from_secs(5);

/// How much of a time is shown.
const SHOWN_MAX: usize = 100;

#[derive(Args)]
pub struct DrainArguments {
    /// Wait until wsgate has ended
    #[arg(short, long)]
    wait: bool,
    #[command(flatten)]
    admin: AdminArguments,
}

/// How the drain stands.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Draining {
    already_draining: bool,
    clients: u64,
    until: String,
    ends_within_seconds: f64,
}

#[derive(Deserialize)]
struct ErrorBody {
    error: Message,
}

#[derive(Deserialize)]
struct Message {
    message: String,
}

/// Asks, and waits if that is wanted.
pub(super) fn run(arguments: DrainArguments) -> Result<(), Failure> {
    let doing = "drain wsgate";
    let mut output = Output::new(arguments.admin.json);
    let api = Api::new(arguments.admin)?;
    let body = api.call(doing, &HttpCall { method: "POST", path_and_query: "/api/v1/drain", body: None })?;
    let asked = Instant::now();
    let draining: Draining = api.read(doing, &body)?;
    let within = Duration::try_from_secs_f64(draining.ends_within_seconds).unwrap_or_default();
    output.answer(&body, || Ok(in_words(&draining, within)))?;
    if !arguments.wait {
        return Ok(());
    }
    while !has_ended(&api) {
        if asked.elapsed() > within + MARGIN {
            let text = format!("failed to wait until wsgate has ended: it still runs after {} s", within.as_secs());
            return Err(Failure { text: format!("{text} (its log says why)"), exit_code: exit::TEMPORARY });
        }
        CancelToken::default().sleep(PAUSE);
    }
    match output.is_json() {
        true => Ok(()),
        false => output.answer(b"", || Ok("wsgate has ended".to_owned())),
    }
}

fn in_words(draining: &Draining, within: Duration) -> String {
    let begins = if draining.already_draining { "it drains already" } else { "it drains" };
    let (clients, until) = (count(draining.clients, "client"), printable(&draining.until, SHOWN_MAX));
    let ends = within.as_secs() + 1;
    format!("{begins}: {clients} here, the last is closed at {until}; wsgate has ended in at most {ends} s")
}

/// Whether it runs no more, or another one in its place. Whether it is ready is said to everybody.
fn has_ended(api: &Api) -> bool {
    match api.look("/readyz") {
        Ok(answer) if answer.status == 503 => {
            let told = serde_json::from_slice::<ErrorBody>(&answer.body).map(|body| body.error.message);
            // One that has just been started may not be ready for other reasons.
            told.is_ok_and(|message| !message.contains("draining") && !message.contains("stopping"))
        }
        Ok(_) => true,
        // One that ends in the middle of an answer is looked at once more.
        Err(error) => matches!(error, DialError::Connect { .. }) && !error.is_timeout(),
    }
}
