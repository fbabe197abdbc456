//! The kind `http`: a service of the operator's own is asked who a client is.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime};

use log::{info, warn};
use serde_json::{Map, Value};

use super::answers::Answers;
use super::attempt::Attempt;
use super::gate::Gate;
use crate::auth::answer::{self, Answer};
use crate::auth::credentials::{Credential, Place};
use crate::config::CalloutSettings;
use crate::dial::{DialError, Hints, HttpClient, HttpRequest};
use crate::http::head::usual_reason;
use crate::http::refusal::Refusal;
use crate::http::request::header_values;
use crate::log_kind::SERVICES;
use crate::reload::Reloadable;

/// The longest answer, in bytes.
pub(super) const BODY_MAX: usize = 64 << 10;

/// How many clients wait for each that the service is asked about. The others are told to come again: a place among the
/// handshakes is for everybody, and a dead service must not fill them all.
const WAITING_FOR_EACH: usize = 4;

/// A service and what it has answered.
pub(super) struct Callout {
    client: HttpClient,
    settings: CalloutSettings,
    gate: Gate,
    answers: Answers,
    /// Whether the last answer could be used, to log each change once.
    is_well: AtomicBool,
}

/// Why a service has not let a client in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Declined {
    /// It says so, with 401 or 403.
    Refused(u16),
    /// Its turn came, and by then nobody listened to it any more.
    Unheard(Refusal),
    /// The client has left.
    Gone,
    /// Enough others wait to be asked about, or for too long.
    Busy,
    /// It could not be asked, or its answer not be used: why, for the log.
    Unanswered(String),
}

/// What a service has answered, and whether it was asked over TLS for it.
pub(super) struct Told {
    pub(super) answer: Answer,
    pub(super) is_over_tls: bool,
}

impl fmt::Debug for Callout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Callout").field(&self.client).finish()
    }
}

impl Callout {
    pub(super) fn new(client: HttpClient, settings: CalloutSettings) -> io::Result<Callout> {
        let most = settings.max_requests;
        Ok(Callout {
            client,
            gate: Gate::new(most).with_room_for(most.saturating_mul(WAITING_FOR_EACH)),
            answers: Answers::new(settings.cache_for)?,
            is_well: AtomicBool::new(true),
            settings,
        })
    }

    /// The TLS files of its dialler, to be read again. `owner` is whose they are.
    pub(super) fn reloadable(&self, owner: String) -> Option<Arc<dyn Reloadable>> {
        self.client.reloadable(owner)
    }

    /// Whether this request has something that it is asked about. Without it the answer is known.
    pub(super) fn is_concerned(&self, credentials: &[Credential], head: &[u8]) -> bool {
        let is_there = |name: &String| !header_values(head, name).is_empty();
        !credentials.is_empty() || self.settings.forward_headers.iter().any(is_there)
    }

    /// The claims that messages have.
    pub(super) fn claims(&self) -> &[String] {
        &self.settings.claims
    }

    /// Who a client is. It waits for its turn and the answer until the deadline at most. `name` is that of the `[[auth]]`.
    pub(super) fn ask(&self, name: &str, credentials: &[Credential], attempt: &Attempt<'_>) -> Result<Told, Declined> {
        let question = self.question(name, credentials, attempt);
        let mark = self.answers.mark(&question);
        if let Some(answer) = self.answers.find(&mark, Instant::now()) {
            return Ok(Told { answer, is_over_tls: false });
        }
        let since = Instant::now();
        let given_up = || if (attempt.has_left)() { Declined::Gone } else { Declined::Busy };
        let _turn = self.gate.enter(attempt.address, || attempt.is_over()).ok_or_else(given_up)?;
        let waited = since.elapsed();
        (attempt.is_heard)().map_err(Declined::Unheard)?;
        // It may have been answered while this one waited.
        if let Some(answer) = self.answers.find(&mark, Instant::now()) {
            return Ok(Told { answer, is_over_tls: false });
        }
        let whole = self.settings.server.dial.connect_timeout;
        let time = attempt.deadline.saturating_duration_since(Instant::now());
        let answered = match self.client.ask(HttpRequest::PostJson(&question), time, attempt.cancel) {
            Ok(body) => answer::parse(&body, SystemTime::now()).map(|answer| (answer, body.len())).map_err(|problem| {
                format!("'{}' cannot be understood: its answer {problem}", self.settings.server.shown)
            }),
            Err(DialError::Refused { refusal, .. }) if matches!(refusal.status, 401 | 403) => {
                self.is_answering(name);
                return Err(Declined::Refused(refusal.status));
            }
            // Nobody waits for it any more: it says nothing about the service.
            Err(DialError::Cancelled) if (attempt.has_left)() => return Err(Declined::Gone),
            Err(DialError::Cancelled) => return Err(Declined::Unanswered("the gateway stops".to_owned())),
            // What it had left after its wait was not enough: that says nothing about the service either.
            Err(error) if error.is_timeout() && (time..time + waited).contains(&whole) => return Err(Declined::Busy),
            Err(error) => Err(self.explained(&error)),
        };
        match answered {
            Ok((answer, bytes)) => {
                self.is_answering(name);
                self.answers.keep(mark, &answer, bytes, Instant::now());
                Ok(Told { answer, is_over_tls: self.client.is_secure() })
            }
            Err(why) => {
                if self.is_well.swap(false, Ordering::Relaxed) {
                    warn!(target: SERVICES, "[[auth]] {name:?}: {why}; it lets nobody in until its service answers");
                }
                Err(Declined::Unanswered(why))
            }
        }
    }

    fn is_answering(&self, name: &str) {
        if !self.is_well.swap(true, Ordering::Relaxed) {
            let shown = &self.settings.server.shown;
            info!(target: SERVICES, "[[auth]] {name:?}: '{shown}' answers again");
        }
    }

    /// A failure in which nothing of the question can be: a service may repeat it in its answer.
    fn explained(&self, error: &DialError) -> String {
        let DialError::Refused { url, refusal } = error else { return error.with(&Hints::AUTH).to_string() };
        let advice = if (300..400).contains(&refusal.status) { " (redirects are not followed)" } else { "" };
        let status = refusal.status;
        format!("failed to ask '{url}': the server answered {status} {}{advice}", usual_reason(status))
    }

    fn question(&self, name: &str, credentials: &[Credential], attempt: &Attempt<'_>) -> Vec<u8> {
        let Attempt { head, request, address, endpoint, path, .. } = attempt;
        let credentials = credentials.iter().map(|Credential { place, text }| (key(*place), text.expose().into()));
        let mut headers: Map<String, Value> = Map::new();
        for name in &self.settings.forward_headers {
            let values = header_values(head, name);
            let between = if name.eq_ignore_ascii_case("cookie") { "; " } else { ", " };
            let values: Vec<_> = values.iter().map(|value| String::from_utf8_lossy(value).trim().to_owned()).collect();
            if !values.is_empty() {
                headers.insert(name.to_ascii_lowercase(), values.join(between).into());
            }
        }
        let question: Map<String, Value> = [
            ("auth", name.into()),
            ("credentials", credentials.collect::<Map<String, Value>>().into()),
            ("address", address.map(|address| address.to_string()).into()),
            ("endpoint", (*endpoint).into()),
            ("path", (*path).into()),
            ("origin", request.origin.into()),
            ("headers", headers.into()),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
        serde_json::to_vec(&question).expect("keys are texts and nothing in it can fail")
    }
}

/// How a service is told where a credential stood.
fn key(place: Place) -> String {
    match place {
        Place::Authorization => "authorization",
        Place::Cookie => "cookie",
        Place::Query => "query",
        Place::Subprotocol => "subprotocol",
    }
    .to_owned()
}
