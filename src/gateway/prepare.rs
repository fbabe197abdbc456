//! From checked settings to all that has to be read, bound or set up for them, before anything of it is put in force. What
//! the generation before has and the settings do not change is taken from there.

use std::sync::Arc;

use log::warn;

use crate::authenticators::{AuthError, Auths};
use crate::config::{
    AdminSettings, DialSettings, EndpointSettings, LinkSettings, ListenAddress, ListenerSettings, Numbers, Settings,
    StoreSettings,
};
use crate::dial::{Dialer, Resolver, SetupError};
use crate::gateway::error::StartError;
use crate::listener::{Bound, load_tls, passed_listeners};
use crate::log_kind::{RELAYS, STORES};
use crate::shared::addresses::Door;
use crate::shared::generation::{Generation, Parts};
use crate::shared::store::StoreFile;
use crate::store::place::Place;
use crate::store::writer::Writer;
use crate::system::passed_sockets::PassedSocket;

/// Settings with all that they need.
pub(super) struct Prepared {
    /// They have these numbers already.
    pub(super) settings: Settings,
    pub(super) numbers: Numbers,
    pub(super) parts: Parts,
}

/// Prepares settings that come after this generation; at a start with the sockets that the supervisor has passed.
///
/// # Errors
/// Everything that is wrong. Nothing is left of it then.
pub(super) fn prepare(
    mut settings: Settings,
    before: &Generation,
    resolver: &Arc<Resolver>,
    passed: Vec<PassedSocket>,
) -> Result<Prepared, Vec<StartError>> {
    let numbers = before.numbers(&settings);
    numbers.give_to(&mut settings);
    let mut wrong = Vec::new();
    let mut no = |error| {
        wrong.push(error);
        None
    };
    let relay = |(index, endpoint): (usize, &EndpointSettings)| {
        let old = before.endpoints.get(numbers.endpoints[index]);
        let old = old.and_then(|old| Some((&old.settings.relay.as_ref()?.dial, old.dialer.as_ref()?)));
        relay_dialer(endpoint, old, resolver)
    };
    let relays = settings.endpoints.iter().enumerate().map(relay);
    let relays = relays.map(|relay| relay.unwrap_or_else(&mut no)).collect();
    let link = |(index, link): (usize, &LinkSettings)| {
        let old = before.links.get(numbers.links[index]);
        link_dialer(link, old.and_then(|old| Some((&old.settings.dial, old.dialer.as_ref()?))), resolver)
    };
    let links = settings.links.iter().enumerate().map(link);
    let links = links.map(|link| link.map_or_else(&mut no, Some)).collect();
    let auths = before.auths.next(numbers.auths.iter().copied().zip(&settings.auths), resolver);
    let auths = auths.unwrap_or_else(|errors: Vec<AuthError>| {
        errors.into_iter().for_each(|error| drop(no(StartError::Auth(error))));
        Auths::default()
    });
    let stores = store_files(&settings, &numbers, before).unwrap_or_else(|errors| {
        errors.into_iter().for_each(|error| drop(no(error)));
        Vec::new()
    });
    let passed = passed_listeners(&settings.listeners, passed).map_err(StartError::Listen);
    let passed = passed.unwrap_or_else(|error| {
        drop(no(error));
        Vec::new()
    });
    let mut passed = passed.into_iter().map(Arc::new);
    let mut doors = Vec::new();
    for listener in &settings.listeners {
        let bound = passed.next().or_else(|| bound_before(listener, &settings.listeners, before));
        match door(listener, before.door(&listener.name), bound) {
            Ok(door) => doors.push(door),
            Err(error) => drop(no(error)),
        }
    }
    let admin_door = admin_door(&settings.admin, before).unwrap_or_else(|error| {
        drop(no(error));
        None
    });
    if wrong.is_empty() {
        Ok(Prepared { settings, numbers, parts: Parts { auths, doors, admin_door, relays, links, stores } })
    } else {
        Err(wrong)
    }
}

/// The files of the stores that are new; one entry for each store.
fn store_files(
    settings: &Settings,
    numbers: &Numbers,
    before: &Generation,
) -> Result<Vec<Option<StoreFile>>, Vec<StartError>> {
    let (mut files, mut wrong) = (Vec::new(), Vec::new());
    for (store, id) in settings.stores.iter().zip(&numbers.stores) {
        match before.stores.get(*id) {
            Some(_) => files.push(None),
            None => match store_file(store) {
                Ok(file) => files.push(Some(file)),
                Err(error) => wrong.push(error),
            },
        }
    }
    if wrong.is_empty() { Ok(files) } else { Err(wrong) }
}

/// The file of a store that is new, locked for this gateway.
fn store_file(store: &StoreSettings) -> Result<StoreFile, StartError> {
    let refused = |cause| StartError::Store { name: store.name.clone(), cause };
    let (place, warning) = Place::take(&store.path).map_err(refused)?;
    let writer = Writer::open_if_possible(&place, store.durability).map_err(refused)?;
    if let Some(warning) = warning {
        warn!(target: STORES, store = &*store.name; "store {}: {warning}", store.name);
    }
    Ok((place, writer))
}

/// A listener with its socket: this one, if there is one already.
fn door(
    listener: &ListenerSettings,
    old: Option<&Arc<Door>>,
    bound: Option<Arc<Bound>>,
) -> Result<Arc<Door>, StartError> {
    let tls = match old.filter(|old| old.settings.tls == listener.tls) {
        Some(old) => old.tls.clone(),
        None => load_tls(listener).map_err(StartError::Listen)?,
    };
    if let Some(same) = old.filter(|old| *old.settings == *listener) {
        return Ok(Arc::clone(same));
    }
    let bound = match bound {
        Some(bound) => bound,
        None => Arc::new(Bound::bind(&listener.address).map_err(StartError::Listen)?),
    };
    Ok(Arc::new(Door::new(Arc::new(listener.clone()), Some(bound), tls)))
}

/// The admin listener, if there is to be one. The default one is no reason not to start.
fn admin_door(settings: &AdminSettings, before: &Generation) -> Result<Option<Arc<Door>>, StartError> {
    let Some(listener) = &settings.listener else { return Ok(None) };
    let old = before.admin_door.as_ref();
    let same = old.filter(|old| old.settings.address == listener.address);
    match door(listener, old, same.and_then(|same| same.socket.clone())) {
        Err(error) if !settings.is_wanted => {
            let advice = "write another address under [admin], or \"off\"";
            warn!("admin: {error}; wsgate runs without its admin listener: {advice}");
            Ok(None)
        }
        door => door.map(Some),
    }
}

/// The socket that is bound to the address of a listener: its own, or that of another one that has given it up, since an
/// address cannot be bound twice.
fn bound_before(listener: &ListenerSettings, all: &[ListenerSettings], before: &Generation) -> Option<Arc<Bound>> {
    let at = |door: &&Arc<Door>| door.settings.address == listener.address;
    let is_any_port = matches!(listener.address, ListenAddress::Tcp(address) if address.port() == 0);
    let is_kept =
        |door: &Door| all.iter().any(|kept| kept.name == door.name[..] && kept.address == door.settings.address);
    let others = || before.doors.iter().filter(at).find(|door| !is_any_port && !is_kept(door));
    before.door(&listener.name).filter(at).or_else(others)?.socket.clone()
}

type Old<'a> = Option<(&'a DialSettings, &'a Arc<Dialer>)>;

fn link_dialer(link: &LinkSettings, old: Old<'_>, resolver: &Arc<Resolver>) -> Result<Arc<Dialer>, StartError> {
    if let Some((_, same)) = old.filter(|(dial, _)| **dial == link.dial) {
        return Ok(Arc::clone(same));
    }
    let failed = |cause: SetupError| StartError::Dial { who: format!("link '{}'", link.name), cause };
    let dialer = Dialer::new(&link.dial, Arc::clone(resolver)).map_err(failed)?;
    Ok(Arc::new(dialer.shown_as(&link.shown)))
}

fn relay_dialer(
    endpoint: &EndpointSettings,
    old: Old<'_>,
    resolver: &Arc<Resolver>,
) -> Result<Option<Arc<Dialer>>, StartError> {
    let Some(relay) = &endpoint.relay else { return Ok(None) };
    if let Some((_, same)) = old.filter(|(dial, _)| **dial == relay.dial) {
        return Ok(Some(Arc::clone(same)));
    }
    let failed = |cause| StartError::Dial { who: format!("the relay of '{}'", endpoint.path), cause };
    let dialer = Dialer::new(&relay.dial, Arc::clone(resolver)).map_err(failed)?;
    if let Some(host) = dialer.unverified() {
        warn!(
            target: RELAYS, endpoint = endpoint.path.as_str();
            "relay of '{}': the certificate of '{host}' is not checked (`verify = false`): anyone on the network \
             path can read and change the data",
            endpoint.path
        );
    }
    Ok(Some(Arc::new(dialer.shown_as(&relay.shown))))
}
