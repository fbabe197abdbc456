//! Who asks to be let in, by the credentials of its request.

use std::borrow::Cow;
use std::sync::Arc;

use crate::auth::credentials::{self, Credential, Places};
use crate::auth::{Auth, Auths};
use crate::config::EndpointSettings;
use crate::http::refusal::Refusal;
use crate::http::request::Request;
use crate::identity::Identity;

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

/// Who sends a request: the first identity that one of its credentials stands for, if the endpoint asks for one. The
/// answer to a wrong credential is the same as to none, whichever it is.
///
/// # Errors
/// 400 for a place that is filled twice, 401 if no credential is right.
pub fn authenticate(
    auths: &Auths,
    endpoint: &EndpointSettings,
    head: &[u8],
    request: &Request<'_>,
) -> Result<Option<Arc<Identity>>, Refusal> {
    if endpoint.auth.is_empty() {
        return Ok(None);
    }
    let mut credentials: Vec<(&Auth, Vec<Credential>)> = Vec::new();
    for auth in of_endpoint(auths, endpoint) {
        credentials.push((auth, credentials::find(&auth.settings.places, auth.scheme(), head, request)?));
    }
    for (auth, credential) in credentials.iter().flat_map(|(auth, found)| found.iter().map(move |one| (auth, one))) {
        if let Some(identity) = auth.check(credential) {
            return Ok(Some(Arc::new(identity)));
        }
    }
    let tried = credentials.iter().flat_map(|(auth, found)| {
        let name = &auth.settings.name;
        found.iter().map(move |credential| format!("the one {} is none of {name:?}", credential.place))
    });
    let tried: Vec<String> = tried.collect();
    let advice = if tried.is_empty() { "it has none".to_owned() } else { tried.join(", ") };
    let mut challenges: Vec<_> = of_endpoint(auths, endpoint).map(|auth| auth.scheme().challenge()).collect();
    challenges.dedup();
    Err(Refusal::new(401, "this endpoint asks for a credential").with_advice(advice).asking(challenges))
}
