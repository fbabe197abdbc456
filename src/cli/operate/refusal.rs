//! Why an admin listener was not reached, or has refused: for people, with what to do about it, and as an exit code.

use serde::Deserialize;

use crate::cli::call_error::CallError;
use crate::cli::exit;
use crate::cli::failure::Failure;
use crate::cli::operate::place::Place;
use crate::dial::{DialError, Hints, HttpAnswer};
use crate::display::printable;

/// How much is shown of what a server says.
const SHOWN_MAX: usize = 2000;

/// What the settings of a dial are called here.
const NAMES: Hints = Hints {
    connect_timeout: "'--timeout'",
    unknown_issuer: "trust its issuer with '--ca FILE', or accept any certificate with '--insecure'",
    other_name: "use the name that it was issued for, write that name as '--server-name', or accept any with '--insecure'",
};

/// The body of an error of the API.
#[derive(Deserialize)]
struct ErrorBody {
    error: ApiError,
}

#[derive(Deserialize)]
struct ApiError {
    message: String,
    #[serde(default)]
    mistakes: Vec<String>,
}

/// The failure to do something (`list the clients`) because there was no answer.
pub(super) fn unanswered(place: &Place, doing: &str, error: DialError) -> Failure {
    if let DialError::Refused { refusal, .. } = &error {
        return refused(place, doing, refusal.status, &refusal.body);
    }
    let text = format!("failed to {doing}: {}", error.with(&NAMES));
    let advice = match &error {
        DialError::Connect { .. } if !error.is_timeout() => {
            "; wsgate is asked at the address that it has under [admin]: write it as '--admin', or its file as '--config'"
        }
        _ => "",
    };
    Failure { text: format!("{text}{advice}"), exit_code: CallError::Dial(error).exit_code() }
}

/// The same because the answer was an error.
pub(super) fn answered(place: &Place, doing: &str, answer: &HttpAnswer) -> Failure {
    refused(place, doing, answer.status, &answer.body)
}

/// The same because the answer cannot be read.
pub(super) fn unreadable(place: &Place, doing: &str, error: &serde_json::Error) -> Failure {
    let text = format!("failed to {doing}: what '{}' answers is not as expected: {error}", place.shown);
    Failure { text: format!("{text} (is it another version of wsgate?)"), exit_code: exit::PROTOCOL }
}

fn refused(place: &Place, doing: &str, status: u16, body: &[u8]) -> Failure {
    let (shown, exit_code) = (&place.shown, exit_code(status));
    let Ok(ErrorBody { error: ApiError { message, mistakes } }) = serde_json::from_slice(body) else {
        let what = format!("failed to {doing}: '{shown}' answered {status}, and is no admin listener of wsgate");
        return Failure { text: format!("{what} (is this the address under [admin]?)"), exit_code };
    };
    let advice = match status {
        401 if place.has_credential => " (the token is wrong, or is good no more)",
        401 => " (give a token in WSGATE_TOKEN or with '--token-file')",
        _ => "",
    };
    let message = printable(&message, SHOWN_MAX);
    let mistakes: String = mistakes.iter().map(|mistake| format!("\n{}", printable(mistake, SHOWN_MAX))).collect();
    Failure { text: format!("failed to {doing}: '{shown}' answered {status}: {message}{advice}{mistakes}"), exit_code }
}

fn exit_code(status: u16) -> u8 {
    match status {
        400 | 411 | 413 | 415 => exit::DATA,
        401 | 403 => exit::NO_PERMISSION,
        422 => exit::CONFIG,
        429 | 503 => exit::TEMPORARY,
        _ => exit::UNAVAILABLE,
    }
}
