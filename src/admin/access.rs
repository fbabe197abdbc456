//! Who calls, by the credential of a request or the certificate of its connection, and what that one may do.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Map;

use crate::auth::admin::{self, AdminRule, Right};
use crate::auth::credentials::Places;
use crate::authenticators::{Attempt, Auth, Left};
use crate::client::authenticate::{Denied, verify};
use crate::client::identify::not_locked_out;
use crate::connection::handshake::Stream;
use crate::dial::CancelToken;
use crate::http::answer::Answer;
use crate::http::call::Call;
use crate::http::refusal::Refusal;
use crate::http::request::Request;
use crate::identity::Identity;
use crate::shared::Shared;
use crate::shared::entrance::Withdrawn;
use crate::shared::generation::Generation;

/// A caller.
#[derive(Debug, Default)]
pub struct Who {
    /// Its identity; `None` where nobody is asked.
    pub name: Option<Box<str>>,
    /// The same with what stands behind it.
    pub identity: Option<Arc<Identity>>,
    /// For how long its credential is good; `None` is for ever.
    pub left: Option<Left>,
    /// What it may do.
    pub rights: BTreeSet<Right>,
    /// The rules that say so, if there are some.
    rules: Option<Arc<Vec<AdminRule>>>,
}

/// A request whose caller is to be found out.
#[derive(Debug)]
pub struct AccessRequest<'a> {
    pub call: &'a Call<'a>,
    /// The same, in which credentials are looked for.
    pub request: &'a Request<'a>,
    /// Where they are looked for.
    pub places: &'a Places,
    pub head: &'a [u8],
}

/// Who sends a request, if callers are asked. Only the header Authorization, the subprotocol of a WebSocket and
/// certificates count: a browser sends cookies by itself, also for a page of somebody else, and what stands in a URL is written into logs.
///
/// # Errors
/// As [`verify`], 429 after too many wrong credentials, and 403 for a certificate that is not trusted any more.
pub fn identify(
    shared: &Shared,
    generation: &Generation,
    stream: &Stream,
    asked: &AccessRequest<'_>,
    address: Option<IpAddr>,
    deadline: Instant,
) -> Result<Who, Denied> {
    if let Some((tls, proved)) = stream.proved.as_deref() {
        let refused = |why| Refusal::new(403, "the certificate of the caller is not trusted any more").with_advice(why);
        tls.review(proved).map_err(refused)?;
    }
    let settings = &generation.admin;
    if settings.auth.is_empty() {
        return Ok(Who { rights: Right::all(), ..Who::default() });
    }
    let is_heard = || not_locked_out(shared, address);
    is_heard()?;
    let AccessRequest { call, request, places, head } = *asked;
    let auths = settings.auth.iter().filter_map(|id| generation.auths.get(*id));
    let asked: Vec<(&Auth, &Places)> = auths.map(|auth| (&**auth, places)).collect();
    let takes_certificates = asked.iter().any(|(auth, _)| auth.takes_certificates());
    let certificate = takes_certificates.then(|| stream.client_certificate()).flatten();
    let attempt = Attempt {
        head,
        request,
        certificate: certificate.as_ref(),
        looks_at_claims: settings.allow.iter().any(|rules| rules.iter().any(|rule| !rule.claims.is_empty())),
        address,
        endpoint: "[admin]",
        path: call.path,
        deadline,
        cancel: &until_nobody_waits(shared, stream),
        is_heard: &is_heard,
        has_failed: &|| shared.failures.count(address, Instant::now()),
        has_left: &|| stream.socket.wait_hung_up(Duration::ZERO),
    };
    let checked = verify(&asked, "the admin listener", &attempt)?;
    let rights = match &settings.allow {
        None => Right::all(),
        Some(rules) => admin::decide(rules, &checked.identity.name, &checked.claims),
    };
    let (identity, left) = (checked.identity, checked.left);
    let (name, rules) = (Some(identity.name.clone()), settings.allow.clone());
    Ok(Who { name, identity: Some(identity), left, rights, rules })
}

/// Whether somebody who was let in for this right would be again, as far as a reload can change that.
///
/// # Errors
/// Why not.
pub fn review(who: &Who, right: Right, generation: &Generation) -> Result<(), Withdrawn> {
    let settings = &generation.admin;
    if settings.auth.is_empty() {
        return Ok(());
    }
    let is_taken = |identity: &&Arc<Identity>| settings.auth.iter().any(|id| id.0 == identity.proof.auth);
    let identity = who.identity.as_ref().filter(is_taken).ok_or(Withdrawn::Auth)?;
    if !generation.auths.holds(identity) {
        return Err(Withdrawn::Credential);
    }
    // What its credential says is not kept, so it has to show it again where that may count.
    let may = |rules: &Arc<Vec<AdminRule>>| {
        let is_plain = rules.iter().all(|rule| rule.claims.is_empty());
        is_plain && admin::decide(rules, &identity.name, &Map::new()).contains(&right)
    };
    match &settings.allow {
        Some(rules) if settings.allow != who.rules && !may(rules) => Err(Withdrawn::Rights),
        _ => Ok(()),
    }
}

/// Whether a caller may do what takes this right.
///
/// # Errors
/// 403.
pub fn check(who: &Who, right: Right) -> Result<(), Answer> {
    if who.rights.contains(&right) {
        return Ok(());
    }
    let name = who.name.as_deref().unwrap_or_default();
    let message = format!("'{name}' has no right to {}: see \"allow\" in [admin]", right.word());
    Err(Answer::error(403, "forbidden", &message))
}

/// What ends the wait for a service that is asked who a caller is.
fn until_nobody_waits(shared: &Shared, stream: &Stream) -> CancelToken {
    match stream.socket.as_fd().try_clone_to_owned() {
        Ok(socket) => shared.until_stop().until_hung_up(Arc::new(socket)),
        Err(_) => shared.until_stop(),
    }
}
