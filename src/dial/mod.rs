//! Connections that we open: from a URL to an open WebSocket, for the command line, links and relays.
//!
//! The lookup of the name, the connection, a proxy, TLS and the handshake run under one deadline, and a [`CancelToken`] ends
//! each of them. A dial leaves nothing behind but the socket that it returns.

pub mod backoff;
mod connect;
mod error;
mod head;
mod proxy;
pub mod reconnecting;
mod resolve;
mod tls;
mod upgrade;
mod wire;

use std::borrow::Cow;
use std::env;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use error::{Cause, DialError, Hints, ProxyCause, Refusal, SetupError, TlsCause};
pub use resolve::Resolver;
pub use wire::{CancelToken, WaitEnd, Wire};

use proxy::{Blocked, HttpProxy};
use resolve::Unresolved;
use tls::Unsecured;
use upgrade::{Parts, Request, Unopened};

use crate::config::{DialSettings, Proxy};
use crate::connection::socket::Socket;
use crate::connection::tls::Session;
use crate::display::{cause, printable};
use crate::path::percent_decoded;
use crate::secret::Secret;
use crate::url::{self, Url};

/// How much of a URL is shown.
const URL_SHOWN_MAX: usize = 500;

/// Checked settings with their files read, ready to dial any number of times from any thread. It has no `Debug`: it
/// holds secrets.
pub struct Dialer {
    target: Url,
    shown: Option<String>,
    headers: Vec<(String, Secret)>,
    authorization: Option<String>,
    subprotocols: Vec<String>,
    origin: Option<String>,
    way: Way,
    tls: Option<Tls>,
    connect_timeout: Duration,
    resolver: Arc<Resolver>,
}

enum Way {
    Direct,
    Through(HttpProxy),
    AsTheEnvironmentSays,
}

struct Tls {
    connector: native_tls::TlsConnector,
    server_name: String,
    verify: bool,
}

/// What one request has that others of the same dialer have not. It has no `Debug`: headers hold secrets.
#[derive(Clone, Default)]
pub struct RequestExtras {
    /// Instead of that of the URL; it begins with `/`.
    pub path_and_query: Option<String>,
    /// Sent besides those of the settings, unless one of the same name is among them.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Offered instead of those of the settings, on behalf of somebody else: whether none of them will do is then his
    /// to decide.
    pub subprotocols: Option<Vec<String>>,
    /// Instead of that of the settings.
    pub origin: Option<String>,
}

/// An open WebSocket, before its first frame.
#[derive(Debug)]
pub struct Dialed {
    /// Connected and blocking.
    pub socket: Socket,
    /// The TLS session over it, which runs in memory from here on.
    pub session: Option<Session>,
    /// What the server sent behind its answer, decrypted: the first bytes of its frames.
    pub behind: Vec<u8>,
    /// The one that the server chose.
    pub subprotocol: Option<String>,
}

impl fmt::Debug for RequestExtras {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestExtras").field("subprotocols", &self.subprotocols).finish_non_exhaustive()
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Dialer").field(&self.shown(&self.target.path_and_query)).finish()
    }
}

impl Dialer {
    /// Checks everything that can be checked without a network, and reads the files.
    pub fn new(settings: &DialSettings, resolver: Arc<Resolver>) -> Result<Dialer, SetupError> {
        let target = url::parse(&settings.url).map_err(|problem| {
            SetupError::Setting(format!("failed to read the URL '{}': {problem}", url::without_user(&settings.url)))
        })?;
        for (name, value) in &settings.headers {
            upgrade::check_header(name, value.expose().as_bytes())
                .map_err(|problem| SetupError::Setting(format!("failed to use a header: {problem}")))?;
        }
        let way = match &settings.proxy {
            Proxy::Off => Way::Direct,
            Proxy::Environment => Way::AsTheEnvironmentSays,
            Proxy::Url(url) => Way::Through(proxy::parse(url.expose()).map_err(|unusable| {
                SetupError::Setting(format!("failed to use the proxy '{}': {}", unusable.shown, unusable.problem))
            })?),
        };
        let tls = match target.secure {
            false => None,
            true => Some(Tls {
                connector: tls::connector(&settings.tls)?,
                server_name: settings.tls.server_name.clone().unwrap_or_else(|| target.host.clone()),
                verify: settings.tls.verify,
            }),
        };
        let authorization = target
            .user
            .as_ref()
            .map(|(user, password)| upgrade::basic(format!("{user}:{}", password.expose()).as_bytes()));
        Ok(Dialer {
            target,
            shown: None,
            headers: settings.headers.clone(),
            authorization,
            subprotocols: settings.subprotocols.clone(),
            origin: settings.origin.clone(),
            way,
            tls,
            connect_timeout: settings.connect_timeout,
            resolver,
        })
    }

    /// What errors call the server, instead of its URL without user info and query: the URL as it was written, if no
    /// secret stands in that.
    #[must_use]
    pub fn shown_as(self, shown: &str) -> Dialer {
        Dialer { shown: Some(printable(shown, URL_SHOWN_MAX)), ..self }
    }

    /// The host whose certificate is not checked, if that is so: worth a warning.
    pub fn unverified(&self) -> Option<&str> {
        self.tls.as_ref().filter(|tls| !tls.verify).map(|_| &*self.target.host)
    }

    /// Opens a connection; the error says which step failed. `cancel` ends it early with [`DialError::Stopped`].
    pub fn dial(&self, extras: &RequestExtras, cancel: &CancelToken) -> Result<Dialed, DialError> {
        self.dial_within(self.connect_timeout, extras, cancel)
    }

    /// As [`dial`](Dialer::dial), in less time if that is less than the settings give it.
    pub fn dial_within(
        &self,
        time: Duration,
        extras: &RequestExtras,
        cancel: &CancelToken,
    ) -> Result<Dialed, DialError> {
        let time = time.min(self.connect_timeout);
        let deadline = Instant::now() + time;
        let path_and_query = extras.path_and_query.as_deref().unwrap_or(&self.target.path_and_query);
        let url = self.shown(path_and_query);
        let request =
            self.request(path_and_query, extras).map_err(|problem| DialError::Request { url: url.clone(), problem })?;
        let proxy = self.proxy().map_err(|unusable| DialError::Proxy {
            url: url.clone(),
            proxy: unusable.shown,
            cause: ProxyCause::Url(unusable.problem),
        })?;
        let (host, port) = match &proxy {
            Some(proxy) => (&*proxy.host, proxy.port),
            None => (&*self.target.host, self.target.port),
        };

        let addresses = self.resolver.resolve(host, port, cancel, deadline).map_err(|why| {
            let host = host.to_owned();
            match why {
                Unresolved::Stopped => DialError::Stopped,
                Unresolved::System(error) => {
                    DialError::System(format!("failed to start the lookup of '{host}': {}", cause(&error)))
                }
                Unresolved::TimedOut => DialError::Resolve { host, cause: Cause::TimedOut("no answer", time) },
                why => DialError::Resolve { host, cause: Cause::Other(why.to_string()) },
            }
        })?;
        let socket = connect::connect(&addresses, cancel, deadline).map_err(|why| match why.cause(time) {
            None => DialError::Stopped,
            Some(cause) => {
                let proxy = proxy.as_ref().map(|proxy| proxy.shown.clone());
                DialError::Connect { url: url.clone(), proxy, cause }
            }
        })?;
        let mut wire = Wire::new(socket, None, Some(deadline), cancel.clone());
        if let Some(proxy) = &proxy {
            proxy::tunnel(proxy, &self.target.host, self.target.port, &mut wire, time).map_err(|why| match why {
                Blocked::Stopped => DialError::Stopped,
                Blocked::Cause(mut cause) => {
                    if let ProxyCause::Refused(refusal) = &mut cause {
                        let ours: Vec<_> = proxy.authorization().into_iter().map(Cow::from).collect();
                        refusal.hide(&ours, &[]);
                    }
                    DialError::Proxy { url: url.clone(), proxy: proxy.shown.clone(), cause }
                }
            })?;
        }
        if let Some(tls) = &self.tls {
            let session =
                tls::handshake(&tls.connector, &tls.server_name, &mut wire, time).map_err(|why| match why {
                    Unsecured::Stopped => DialError::Stopped,
                    Unsecured::Cause(cause) => DialError::Tls { url: url.clone(), cause },
                })?;
            wire.secure(session);
        }
        let opened = upgrade::upgrade(&request, &mut wire, self.tls.is_some(), time);
        let (mut behind, subprotocol) = opened.map_err(|why| match why {
            Unopened::Stopped => DialError::Stopped,
            Unopened::Unanswered(cause) => DialError::Unanswered { url: url.clone(), cause },
            Unopened::Protocol(problem) => DialError::Protocol { url: url.clone(), problem },
            Unopened::Refused(mut refusal) => {
                let theirs = extras.headers.iter().map(|(_, value)| Cow::from(value));
                let theirs: Vec<_> = theirs.chain(query(path_and_query)).collect();
                refusal.hide(&self.secrets(), &theirs);
                DialError::Refused { url: url.clone(), refusal }
            }
        })?;
        wire.read_decrypted(&mut behind)
            .map_err(|error| DialError::Unanswered { url: url.clone(), cause: Cause::Other(cause(&error)) })?;
        let (socket, session) = wire.into_parts();
        Ok(Dialed { socket, session, behind, subprotocol })
    }

    /// What stands in every request and is nobody else's business.
    fn secrets(&self) -> Vec<Cow<'_, [u8]>> {
        let headers = self.headers.iter().map(|(_, value)| value.expose().as_bytes());
        let authorization = self.authorization.iter().map(|value| value.as_bytes());
        headers.chain(authorization).map(Cow::from).chain(query(&self.target.path_and_query)).collect()
    }

    fn shown(&self, path_and_query: &str) -> String {
        if let Some(shown) = &self.shown {
            return shown.clone();
        }
        let target = &self.target;
        let scheme = if target.secure { "wss" } else { "ws" };
        let user = if target.user.is_some() { "***@" } else { "" };
        let path = path_and_query.split('?').next().unwrap_or_default();
        printable(&format!("{scheme}://{user}{}{path}", target.authority()), URL_SHOWN_MAX)
    }

    fn proxy(&self) -> Result<Option<HttpProxy>, proxy::Unusable> {
        match &self.way {
            Way::Direct => Ok(None),
            Way::Through(proxy) => Ok(Some(proxy.clone())),
            Way::AsTheEnvironmentSays => {
                let lookup = |name: &str| env::var(name).ok();
                proxy::from_environment(self.target.secure, &self.target.host, self.target.port, &lookup)
            }
        }
    }

    fn request(&self, path_and_query: &str, extras: &RequestExtras) -> Result<Request, String> {
        let mut headers: Vec<(&str, &[u8])> =
            self.headers.iter().map(|(name, value)| (&**name, value.expose().as_bytes())).collect();
        let is_set = |name: &str| self.headers.iter().any(|(own, _)| own.eq_ignore_ascii_case(name));
        headers
            .extend(extras.headers.iter().filter(|(name, _)| !is_set(name)).map(|(name, value)| (&**name, &value[..])));
        Request::new(Parts {
            path_and_query,
            authority: &self.target.authority(),
            origin: extras.origin.as_deref().or(self.origin.as_deref()),
            authorization: self.authorization.as_deref(),
            headers,
            subprotocols: extras.subprotocols.as_ref().unwrap_or(&self.subprotocols),
            may_agree_to_none: extras.subprotocols.is_some(),
        })
    }
}

/// What stands behind the path: as a whole, then each value in it, as it is written and as it is meant.
fn query(path_and_query: &str) -> impl Iterator<Item = Cow<'_, [u8]>> {
    let query = path_and_query.split_once('?').map(|(_, query)| query);
    let values = query.into_iter().flat_map(|query| query.split('&')).filter_map(|pair| pair.split_once('='));
    let values = values.flat_map(|(_, value)| [Some(value.as_bytes().into()), percent_decoded(value)]);
    query.map(|query| query.as_bytes().into()).into_iter().chain(values.flatten())
}
