//! Who asks to be let in, by the credentials of its request.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::auth::allow::{self, Rights};
use crate::auth::credentials::{self, Credential, Place, Places};
use crate::authenticators::{Attempt, Auth, Auths, Checked, Left, NotChecked};
use crate::certificate::ClientCertificate;
use crate::config::{AuthKind, Destination, EndpointSettings, RoomSource};
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
    pub left: Option<Left>,
}

/// What a client has sent to be known by.
#[derive(Debug, Clone, Copy)]
pub struct Presented<'a> {
    /// The head of its request, which was judged to be good.
    pub head: &'a [u8],
    /// The same, taken apart.
    pub request: &'a Request<'a>,
    /// The certificate that it has shown to its listener, if its endpoint looks at it.
    pub certificate: Option<&'a ClientCertificate>,
}

/// Why a client is not let in.
#[derive(Debug)]
pub enum Denied {
    /// It is told so.
    Refused(Refusal),
    /// It did not wait for the answer.
    Gone,
}

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Denied {
        Denied::Refused(refusal)
    }
}

/// What one way to authenticate finds in it.
#[derive(Debug)]
enum Found<'a> {
    Credential(Credential),
    Certificate(&'a ClientCertificate),
}

impl<'a> Presented<'a> {
    /// What is for this way to authenticate.
    fn find(&self, auth: &Auth) -> Result<Vec<Found<'a>>, Refusal> {
        let Some(scheme) = auth.scheme() else {
            return Ok(self.certificate.map(Found::Certificate).into_iter().collect());
        };
        let credentials = credentials::find(&auth.settings.places, scheme, self.head, self.request)?;
        Ok(credentials.into_iter().map(Found::Credential).collect())
    }
}

impl Found<'_> {
    fn check(&self, auth: &Auth, attempt: &Attempt<'_>) -> Result<Checked, NotChecked> {
        match self {
            Found::Credential(credential) => auth.check(credential, attempt),
            Found::Certificate(certificate) => auth.check_certificate(certificate),
        }
    }

    /// Where a credential stands that somebody could guess; a certificate is none.
    fn place(&self) -> Option<Place> {
        match self {
            Found::Credential(credential) => Some(credential.place),
            Found::Certificate(_) => None,
        }
    }
}

impl fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Found::Credential(credential) => write!(f, "the one {}", credential.place),
            Found::Certificate(_) => f.write_str("the client's certificate"),
        }
    }
}

/// Whether an endpoint looks at the certificates of its clients.
pub fn takes_certificates(auths: &Auths, endpoint: &EndpointSettings) -> bool {
    of_endpoint(auths, endpoint).any(|auth| matches!(auth.settings.kind, AuthKind::Certificate(_)))
}

/// Who sends a request: the first identity that one of its credentials stands for, if the endpoint asks for one. The
/// answer to a wrong credential is the same as to none, whichever it is. `path` is that of its room, as people read it.
///
/// # Errors
/// 400 for a place that is filled twice, 401 if no credential is right, 503 if there was no time to find out, 403 if the
/// identity may not connect there, or if only a certificate could say who the client is: a 401 must have a challenge
/// (RFC 9110 section 15.5.2), and there is none for certificates. And what the attempt says where it is not heard any more.
pub fn authenticate(
    auths: &Auths,
    endpoint: &EndpointSettings,
    presented: &Presented<'_>,
    path: impl Fn() -> String,
    attempt: &Attempt<'_>,
) -> Result<Access, Denied> {
    if endpoint.auth.is_empty() {
        return Ok(Access { identity: None, rights: Rights::ALL, is_hashed: false, left: None });
    }
    let mut all: Vec<(&Auth, Vec<Found<'_>>)> = Vec::new();
    for auth in of_endpoint(auths, endpoint) {
        all.push((auth, presented.find(auth)?));
    }
    let mut tried: Vec<(Option<Place>, String)> = Vec::new();
    for (auth, found) in all.iter().flat_map(|(auth, found)| found.iter().map(move |one| (auth, one))) {
        match found.check(auth, attempt) {
            Ok(checked) => {
                // The one in the same place is this one, and only not another [[auth]]'s. But who has one that is right
                // cannot try others beside it as often as he likes.
                if tried.iter().any(|(place, _)| place.is_some() && *place != found.place()) {
                    (attempt.has_failed)();
                }
                return Ok(authorise(endpoint, checked, &path())?);
            }
            Err(NotChecked::Wrong(flaw)) => {
                let why = flaw.map(|flaw| format!(" (it {flaw})")).unwrap_or_default();
                tried.push((found.place(), format!("{found} is none of {:?}{why}", auth.settings.name)));
            }
            Err(NotChecked::Busy) => return Err(Refusal::new(503, "too many passwords wait to be checked").into()),
            Err(NotChecked::Unheard(refusal)) => return Err(refusal.into()),
            Err(NotChecked::Gone) => return Err(Denied::Gone),
        }
    }
    if tried.iter().any(|(place, _)| place.is_some()) {
        (attempt.has_failed)();
    }
    let told: Vec<String> = tried.into_iter().map(|(_, told)| told).collect();
    let advice = if told.is_empty() { "it has none".to_owned() } else { told.join(", ") };
    let mut challenges: Vec<&str> = Vec::new();
    for challenge in of_endpoint(auths, endpoint).filter_map(|auth| Some(auth.scheme()?.challenge())) {
        if !challenges.contains(&challenge) {
            challenges.push(challenge);
        }
    }
    let refusal = match challenges.is_empty() {
        true => Refusal::new(403, "this endpoint asks for a certificate of the client"),
        false => Refusal::new(401, "this endpoint asks for a credential").asking(challenges),
    };
    Err(refusal.with_advice(advice).into())
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
