//! Who asks to be let in, by the credentials of its request.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::allow::{self, Rights};
use crate::auth::credentials::{self, Credential, Places};
use crate::authenticators::{Attempt, Auth, Auths, Checked, NotChecked};
use crate::config::{Destination, EndpointSettings, RoomSource};
use crate::http::refusal::Refusal;
use crate::http::request::Request;
use crate::identity::Identity;
use crate::path;

/// The ways to authenticate that an endpoint takes, in its order.
fn of_endpoint<'a>(auths: &'a Auths, endpoint: &'a EndpointSettings) -> impl Iterator<Item = &'a Auth> {
    endpoint.auth.iter().map(|id| auths.get(id.0))
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
    /// Whether this thread has hashed a password for it.
    pub is_hashed: bool,
    /// For how long it is let in; `None` is for ever.
    pub left: Option<Duration>,
}

/// Who sends a request: the first identity that one of its credentials stands for, if the endpoint asks for one. The
/// answer to a wrong credential is the same as to none, whichever it is. `path` is that of its room, as people read it.
///
/// # Errors
/// 400 for a place that is filled twice, 401 if no credential is right, 503 if there was no time to find out, 403 if the
/// identity may not connect there, and what the attempt says where it is not heard any more.
pub fn authenticate(
    auths: &Auths,
    endpoint: &EndpointSettings,
    head: &[u8],
    request: &Request<'_>,
    path: impl Fn() -> String,
    attempt: &Attempt<'_>,
) -> Result<Access, Refusal> {
    if endpoint.auth.is_empty() {
        return Ok(Access { identity: None, rights: Rights::ALL, is_hashed: false, left: None });
    }
    let mut credentials: Vec<(&Auth, Vec<Credential>)> = Vec::new();
    for auth in of_endpoint(auths, endpoint) {
        credentials.push((auth, credentials::find(&auth.settings.places, auth.scheme(), head, request)?));
    }
    let mut tried = Vec::new();
    for (auth, credential) in credentials.iter().flat_map(|(auth, found)| found.iter().map(move |one| (auth, one))) {
        match auth.check(credential, attempt) {
            Ok(checked) => {
                // The one in the same place is this one, and only not another [[auth]]'s. But who has one that is right
                // cannot try others beside it as often as he likes.
                if tried.iter().any(|(place, _)| *place != credential.place) {
                    (attempt.has_failed)();
                }
                return authorise(endpoint, checked, &path());
            }
            Err(NotChecked::Wrong(flaw)) => {
                let why = flaw.map(|flaw| format!(" (it {flaw})")).unwrap_or_default();
                let told = format!("the one {} is none of {:?}{why}", credential.place, auth.settings.name);
                tried.push((credential.place, told));
            }
            Err(NotChecked::Busy) => return Err(Refusal::new(503, "too many passwords wait to be checked")),
            Err(NotChecked::Unheard(refusal)) => return Err(refusal),
        }
    }
    let told: Vec<String> = tried.into_iter().map(|(_, told)| told).collect();
    if !told.is_empty() {
        (attempt.has_failed)();
    }
    let advice = if told.is_empty() { "it has none".to_owned() } else { told.join(", ") };
    let mut challenges: Vec<&str> = Vec::new();
    for challenge in of_endpoint(auths, endpoint).map(|auth| auth.scheme().challenge()) {
        if !challenges.contains(&challenge) {
            challenges.push(challenge);
        }
    }
    Err(Refusal::new(401, "this endpoint asks for a credential").with_advice(advice).asking(challenges))
}

/// What an identity may do at this path of an endpoint.
fn authorise(endpoint: &EndpointSettings, checked: Checked, path: &str) -> Result<Access, Refusal> {
    let Checked { identity, claims, is_hashed, left } = checked;
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
        Some(rights) => Ok(Access { identity: Some(Arc::new(identity)), rights, is_hashed, left }),
        None => Err(refused(format!("no rule of \"allow\" fits '{name}' at '{path}'"))),
    }
}
