//! What came of credentials: whose they are, or why they are nobody's.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::auth::credentials::Place;
use crate::auth::jwt::Flaw;
use crate::http::refusal::Refusal;
use crate::identity::{Identity, Proof};

/// What a right credential stands for. It is handed on in a box: on the stack of its client it would lie several times.
#[derive(Debug)]
pub struct Checked {
    /// Who it is.
    pub identity: Arc<Identity>,
    /// All that the credential says, if that is looked at.
    pub claims: Map<String, Value>,
    /// Whether finding out has left something in its thread: a password was hashed, or a service asked over TLS.
    pub is_heavy: bool,
    /// For how long it is good; `None` is for ever.
    pub left: Option<Left>,
}

/// For how long a credential is good from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// The time.
    pub time: Duration,
    /// What its client is told when that is over.
    pub reason: &'static str,
}

impl Checked {
    /// A client of which its credential says more. Messages have the claims of these names.
    pub(super) fn with_claims(
        name: &str,
        claims: Map<String, Value>,
        told: &[String],
        proof: Proof,
        left: Option<Left>,
    ) -> Checked {
        let told = told.iter().filter_map(|name| Some((name.clone(), claims.get(name)?.clone()))).collect();
        Checked { identity: Arc::new(Identity::new(name, told, proof)), claims, is_heavy: false, left }
    }
}

impl Left {
    pub(super) fn of_token(time: Duration) -> Left {
        Left { time, reason: "Token expired" }
    }
}

/// Why a credential was not found to be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotChecked {
    /// It is wrong, for a reason that goes on after "it " if there is more to say.
    Wrong(Option<Flaw>),
    /// Its service refuses the client, with 401 or 403.
    Refused(u16),
    /// Its turn came, and by then nobody listened to it any more.
    Unheard(Box<Refusal>),
    /// The client has left while it waited.
    Gone,
    /// It could not be found out.
    Unknown {
        /// Why, for the peer.
        reason: &'static str,
        /// The same for the log; it may be empty.
        advice: String,
        /// After how many seconds it is worth to come again.
        retry_after: u64,
    },
}

/// What came of the credentials that an `[[auth]]` has looked at.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Who is behind the first right one.
    pub right: Option<(Shown, Box<Checked>)>,
    /// Why those before it, or all, are none.
    pub wrong: Vec<(Shown, NotChecked)>,
}

/// What a client has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// A credential that stands there.
    At(Place),
    /// All that its service is told of.
    ToService,
    /// Its certificate, which nobody can guess.
    Certificate,
}

impl Verdict {
    pub(super) fn add(&mut self, shown: Shown, checked: Result<Box<Checked>, NotChecked>) {
        match checked {
            Ok(checked) => self.right = Some((shown, checked)),
            Err(why) => self.wrong.push((shown, why)),
        }
    }
}

impl NotChecked {
    /// It could not be found out for now.
    pub(super) fn unknown(reason: &'static str, advice: String) -> NotChecked {
        NotChecked::Unknown { reason, advice, retry_after: 1 }
    }
}
