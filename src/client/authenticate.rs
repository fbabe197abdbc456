//! Who asks to be let in, by the credentials of its request.

use std::borrow::Cow;
use std::sync::Arc;

use crate::auth::allow::{self, Rights};
use crate::auth::credentials::{self, Credential, Places};
use crate::authenticators::{Attempt, Auth, Auths, Checked, Left, NotChecked, Shown};
use crate::config::{Destination, EndpointSettings, RoomSource};
use crate::http::refusal::Refusal;
use crate::identity::Identity;
use crate::path;
use crate::shared::auth_failures::AuthFailure;

/// The ways to authenticate that an endpoint takes, in its order.
fn of_endpoint<'a>(auths: &'a Auths, endpoint: &'a EndpointSettings) -> impl Iterator<Item = &'a Auth> {
    endpoint.auth.iter().filter_map(|id| auths.get(*id)).map(|auth| &**auth)
}

/// Where an endpoint looks for credentials: what stands there is for nobody else.
pub fn places<'a>(auths: &'a Auths, endpoint: &'a EndpointSettings) -> Vec<&'a Places> {
    of_endpoint(auths, endpoint).map(|auth| &auth.settings.places).collect()
}

/// The query of a request without credentials.
pub fn query<'q>(places: &[&Places], query: &'q str) -> Cow<'q, str> {
    places.iter().fold(Cow::Borrowed(query), |query, places| match query {
        Cow::Borrowed(query) => places.query_without(query),
        Cow::Owned(query) => Cow::Owned(places.query_without(&query).into_owned()),
    })
}

/// Who is let in, and what it may do.
#[derive(Debug, Clone)]
pub struct Access {
    /// Who it is, if its endpoint asks.
    pub identity: Option<Arc<Identity>>,
    /// What it may do.
    pub rights: Rights,
    /// Whether finding out has left much in this thread: a password was hashed, or a service asked over TLS.
    pub is_heavy: bool,
    /// For how long it is let in; `None` is for ever.
    pub left: Option<Left>,
}

/// Why a client is not let in.
#[derive(Debug)]
pub enum Denied {
    /// It is told so; and why, for the metrics.
    Refused(AuthFailure, Refusal),
    /// It did not wait for the answer.
    Gone,
}

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Denied {
        Denied::Refused(AuthFailure::of_status(refusal.status), refusal)
    }
}

impl Access {
    /// What everybody gets where nobody is asked.
    pub fn of_anybody() -> Access {
        Access { identity: None, rights: Rights::ALL, is_heavy: false, left: None }
    }
}

/// Whether an endpoint looks at the certificates of its clients.
pub fn takes_certificates(auths: &Auths, endpoint: &EndpointSettings) -> bool {
    of_endpoint(auths, endpoint).any(Auth::takes_certificates)
}

/// Whether the rules of an endpoint look at what else is known of a client.
pub fn looks_at_claims(endpoint: &EndpointSettings) -> bool {
    endpoint.allow.iter().flatten().any(|rule| !rule.claims.is_empty())
}

/// Whether an endpoint has a service asked who its clients are, for whose answer somebody waits.
pub fn asks_a_service(auths: &Auths, endpoint: &EndpointSettings) -> bool {
    of_endpoint(auths, endpoint).any(Auth::asks_a_service)
}

/// Who sends a request to an endpoint that asks, and what it may do there: see [`verify`].
///
/// # Errors
/// Those of [`verify`], and 403 if the identity may not connect there.
pub fn authenticate(auths: &Auths, endpoint: &EndpointSettings, attempt: &Attempt<'_>) -> Result<Access, Denied> {
    let mut asked = Vec::with_capacity(endpoint.auth.len());
    asked.extend(of_endpoint(auths, endpoint).map(|auth| (auth, &auth.settings.places)));
    let checked = verify(&asked, "this endpoint", attempt)?;
    Ok(authorise(endpoint, *checked, attempt.path)?)
}

/// Who sends a request: the first identity that one of its credentials stands for. The answer to a wrong credential is the
/// same as to none, whichever it is. `asked` are the ways to authenticate, each with the places where it looks; `who` asks
/// is for the answer.
///
/// # Errors
/// 400 for a place that is filled twice, 401 if no credential is right, 403 if a service says so, or if only a certificate
/// could say who the client is: a 401 must have a challenge (RFC 9110 section 15.5.2), and there is none for certificates.
/// 503 if it could not be found out, and what the attempt says where it is not heard any more.
#[inline(never)]
pub fn verify(asked: &[(&Auth, &Places)], who: &str, attempt: &Attempt<'_>) -> Result<Box<Checked>, Denied> {
    let credentials = find(asked, attempt)?;
    let mut refused = Refused::default();
    for (auth, found) in credentials {
        let checked = auth.check(&found, attempt);
        for (shown, why) in checked.wrong {
            refused.add(&auth.settings.name, shown, why)?;
        }
        if let Some((shown, checked)) = checked.right {
            // The one in the same place is this one, and only not another [[auth]]'s. But who has one that is right
            // cannot try others beside it as often as he likes.
            if refused.wrong.iter().any(|wrong| *wrong != shown) {
                (attempt.has_failed)();
            }
            return Ok(checked);
        }
    }
    if !refused.wrong.is_empty() {
        (attempt.has_failed)();
    }
    Err(refused.denied(asked, who))
}

/// The credentials of a request, for each of the ways to authenticate those that it takes.
#[inline(never)]
fn find<'a>(asked: &[(&'a Auth, &Places)], attempt: &Attempt<'_>) -> Result<Vec<(&'a Auth, Vec<Credential>)>, Refusal> {
    let mut credentials = Vec::with_capacity(asked.len());
    for (auth, places) in asked {
        let find = |scheme| credentials::find(places, scheme, attempt.head, attempt.request);
        credentials.push((*auth, auth.scheme().map_or(Ok(Vec::new()), find)?));
    }
    Ok(credentials)
}

/// Why nobody stands behind the credentials of a request.
#[derive(Default)]
struct Refused {
    /// For the log.
    told: Vec<String>,
    /// What was wrong and could have been a guess.
    wrong: Vec<Shown>,
    is_forbidden: bool,
    /// What could not be found out: any of that may have been right.
    unknown: Option<Refusal>,
}

impl Refused {
    #[inline(never)]
    fn add(&mut self, name: &str, shown: Shown, why: NotChecked) -> Result<(), Denied> {
        match why {
            NotChecked::Wrong(flaw) => {
                let why = flaw.map(|flaw| format!(" (it {flaw})")).unwrap_or_default();
                let what = match shown {
                    Shown::At(place) => format!("the one {place}"),
                    Shown::ToService => "what its service was told".to_owned(),
                    Shown::Certificate => "the client's certificate".to_owned(),
                };
                self.told.push(format!("{what} is none of {name:?}{why}"));
                self.wrong.extend(Some(shown).filter(|shown| *shown != Shown::Certificate));
            }
            NotChecked::Refused(status) => {
                self.told.push(format!("the service of {name:?} answers {status}"));
                match status {
                    403 => self.is_forbidden = true,
                    _ => self.wrong.push(shown),
                }
            }
            NotChecked::Unknown { reason, advice, retry_after } => {
                let refusal = || Refusal::new(503, reason).with_advice(advice).with_retry_after(retry_after);
                self.unknown.get_or_insert_with(refusal);
            }
            NotChecked::Unheard(refusal) => return Err((*refusal).into()),
            NotChecked::Gone => return Err(Denied::Gone),
        }
        Ok(())
    }

    #[inline(never)]
    fn denied(self, asked: &[(&Auth, &Places)], who: &str) -> Denied {
        let mut challenges: Vec<&str> = Vec::new();
        for challenge in asked.iter().filter_map(|(auth, _)| Some(auth.scheme()?.challenge())) {
            if !challenges.contains(&challenge) {
                challenges.push(challenge);
            }
        }
        let failure = self.failure();
        let refusal = self.refusal(who, challenges);
        Denied::Refused(failure.unwrap_or(AuthFailure::of_status(refusal.status)), refusal)
    }

    /// Why it is, where the status of the answer does not tell.
    fn failure(&self) -> Option<AuthFailure> {
        match (&self.unknown, self.told.is_empty(), self.is_forbidden) {
            (Some(_), ..) => None,
            (None, true, _) => Some(AuthFailure::Missing),
            (None, false, true) => None,
            (None, false, false) => Some(AuthFailure::Wrong),
        }
    }

    fn refusal(self, who: &str, challenges: Vec<&'static str>) -> Refusal {
        if let Some(refusal) = self.unknown {
            return refusal;
        }
        let advice = if self.told.is_empty() { "it has none".to_owned() } else { self.told.join(", ") };
        if self.is_forbidden {
            return Refusal::new(403, "this client may not connect here").with_advice(advice);
        }
        let refusal = match challenges.is_empty() {
            true => Refusal::new(403, format!("{who} asks for a certificate of the client")),
            false => Refusal::new(401, format!("{who} asks for a credential")).asking(challenges),
        };
        refusal.with_advice(advice)
    }
}

/// What an identity may do at this path of an endpoint.
#[inline(never)]
fn authorise(endpoint: &EndpointSettings, checked: Checked, path: &str) -> Result<Access, Refusal> {
    let Checked { identity, claims, is_heavy, left } = checked;
    let name = &identity.name;
    let refused = |advice| Refusal::new(403, "this identity may not connect here").with_advice(advice);
    let is_in_route = endpoint.to.iter().any(|destination| match destination {
        Destination::Picked { sources, .. } => sources.contains(&RoomSource::Identity),
        _ => false,
    });
    if is_in_route && !path::is_value(name) {
        return Err(refused(format!("'{name}' cannot be a part of a path, and \"to\" has {{identity}}")));
    }
    let rights = match &endpoint.allow {
        None => Some(Rights::ALL),
        Some(rules) => allow::decide(rules, name, &claims, path),
    };
    match rights {
        Some(rights) => Ok(Access { identity: Some(identity), rights, is_heavy, left }),
        None => Err(refused(format!("no rule of \"allow\" fits '{name}' at '{path}'"))),
    }
}
