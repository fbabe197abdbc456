//! Connections that wsgate opens: from a URL to an open WebSocket, for the command line, links and relays; and to the
//! answer of an HTTP server.
//!
//! The lookup of the name, the connection, a proxy, TLS and the handshake run under one deadline, and a [`CancelToken`]
//! ends each of them. A dial leaves nothing behind but the socket that it returns.

mod attempt;
pub mod backoff;
mod connect;
mod error;
mod exchange;
mod mask;
mod poster;
mod proxy;
pub mod reconnecting;
mod resolve;
mod response;
mod tls;
mod upgrade;
mod wire;

use std::env;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use error::{Cause, DialError, Hints, ProxyCause, SetupError};
pub use exchange::{HttpAnswer, HttpCall, HttpRequest, Posted};
pub use poster::HttpPoster;
pub use resolve::Resolver;
pub use response::ServerRefusal;
pub use wire::{CancelToken, Ready, WaitEnd, Wire};

use attempt::Attempt;
use exchange::RequestHead;
use mask::Secrets;
use proxy::{HttpProxy, ProxyUrlError};
use tls::{DialerFiles, DialerTls};
use upgrade::{RequestParts, UpgradeRequest};

use crate::config::{DialSettings, Proxy};
use crate::connection::socket::Socket;
use crate::connection::tls::Session;
use crate::display::printable;
use crate::reload::Reloadable;
use crate::secret::Secret;
use crate::url::Url;

/// How much of a URL is shown.
const URL_SHOWN_MAX: usize = 500;

/// Checked settings with their files read, ready to dial any number of times from any thread. Its `Debug` shows the URL
/// only: the rest holds secrets.
pub struct Dialer {
    target: Url,
    shown: Option<String>,
    headers: Vec<(String, Secret)>,
    authorization: Option<String>,
    /// What stands in every request and must not be shown.
    secrets: Secrets,
    subprotocols: Vec<String>,
    origin: Option<String>,
    proxy: ProxyChoice,
    tls: Option<Tls>,
    unix_socket: Option<PathBuf>,
    connect_timeout: Duration,
    resolver: Arc<Resolver>,
}

/// Which proxy a dial goes through.
enum ProxyChoice {
    None,
    Fixed(HttpProxy),
    /// The environment is asked again for each dial.
    FromEnvironment,
}

struct Tls {
    files: Arc<DialerTls>,
    server_name: String,
}

/// What one request has that others of the same dialer have not. Its `Debug` shows no header: they hold secrets.
#[derive(Clone, Default)]
pub struct RequestExtras {
    /// Sent instead of the path and query of the URL; it begins with `/`.
    pub path_and_query: Option<String>,
    /// Sent besides the headers of the settings, except those whose name is among them.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Offered instead of those of the settings, for a client that has asked for them. A server that agrees to none of
    /// them is then accepted: the client decides what that means.
    pub subprotocols: Option<Vec<String>>,
    /// Sent instead of the origin of the settings.
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
    /// The subprotocol that the server chose.
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
        let target = settings.url.clone();
        for (name, value) in &settings.headers {
            upgrade::check_header(name, value.expose().as_bytes())
                .map_err(|problem| SetupError::Setting(format!("failed to use a header: {problem}")))?;
        }
        let proxy = match &settings.proxy {
            Proxy::Off => ProxyChoice::None,
            Proxy::Environment => ProxyChoice::FromEnvironment,
            Proxy::Url(url) => {
                let proxy = proxy::parse(url.expose()).map_err(|error| SetupError::Setting(error.to_string()))?;
                ProxyChoice::Fixed(proxy)
            }
        };
        let tls = match target.secure {
            false => None,
            true => Some(Tls {
                files: Arc::new(DialerTls::new(&settings.tls)?),
                server_name: settings.tls.server_name.clone().unwrap_or_else(|| target.host.clone()),
            }),
        };
        let authorization = target
            .user
            .as_ref()
            .map(|(user, password)| upgrade::basic(format!("{user}:{}", password.expose()).as_bytes()));
        Ok(Dialer {
            secrets: secrets(settings),
            target,
            shown: None,
            headers: settings.headers.clone(),
            authorization,
            subprotocols: settings.subprotocols.clone(),
            origin: settings.origin.clone(),
            proxy,
            tls,
            unix_socket: None,
            connect_timeout: settings.connect_timeout,
            resolver,
        })
    }

    /// Has errors show the server as `shown`, which must hold no secret, instead of its URL without user info and query.
    #[must_use]
    pub fn shown_as(self, shown: &str) -> Dialer {
        Dialer { shown: Some(printable(shown, URL_SHOWN_MAX)), ..self }
    }

    /// Connects to this Unix socket instead of the host of the URL, and through no proxy.
    #[must_use]
    pub fn over_unix_socket(self, path: PathBuf) -> Dialer {
        Dialer { unix_socket: Some(path), ..self }
    }

    /// The host whose certificate is not checked, if that is so: worth a warning.
    pub fn unverified(&self) -> Option<&str> {
        self.tls.as_ref().filter(|tls| !tls.files.verifies()).map(|_| &*self.target.host)
    }

    /// What of it is read again from files, for connections that are dialled from then on. `owner` is whose they are, for
    /// the log: `link "plc"`.
    pub fn reloadable(&self, owner: String) -> Option<Arc<dyn Reloadable>> {
        let files = self.tls.as_ref().and_then(|tls| DialerFiles::of(owner, &tls.files))?;
        Some(Arc::new(files))
    }

    /// Opens a connection; the error says which step failed. `cancel` ends it early with [`DialError::Cancelled`].
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
        let path_and_query = extras.path_and_query.as_deref().unwrap_or(&self.target.path_and_query);
        let attempt = Attempt::new(self.shown(path_and_query), time.min(self.connect_timeout), cancel);
        let request = self.request(path_and_query, extras).map_err(|problem| attempt.bad_request(problem))?;
        let mut wire = self.open_stream(&attempt)?;
        let (mut behind, subprotocol) = upgrade::upgrade(&request, &mut wire, &attempt)
            .map_err(|error| self.without_secrets(error, path_and_query, extras))?;
        wire.read_decrypted(&mut behind).map_err(|error| attempt.unanswered(Cause::io(error)))?;
        let (socket, session) = wire.into_parts();
        Ok(Dialed { socket, session, behind, subprotocol })
    }

    /// Posts to its URL, over the connection that `poster` has kept for it, or else over a new one; says whether that was
    /// opened. The head of the answer must be there within `time` once the server is connected; its body does not matter.
    /// `cancel` ends it early with [`DialError::Cancelled`].
    ///
    /// # Errors
    /// [`DialError::Refused`] for another status than 2xx. Whatever the error is, the server may have taken it.
    pub fn post(
        &self,
        poster: &mut HttpPoster,
        posted: &Posted<'_>,
        time: Duration,
        cancel: &CancelToken,
    ) -> Result<bool, DialError> {
        let path_and_query = &*self.target.path_and_query;
        let (authority, authorization) = (&*self.target.authority(), self.authorization.as_deref());
        let head = RequestHead { authority, path_and_query, authorization, headers: &self.headers };
        let request = exchange::request(HttpRequest::Post(*posted), &head);
        let attempt = |time| Attempt::new(self.shown(path_and_query), time, cancel).speaking(self.target.protocol);
        if let Some(wire) = poster.take() {
            match poster.ask(wire, &request, &self.secrets, &attempt(time)) {
                // The server has ended it meanwhile, as it may at any time.
                Err(error @ DialError::Unanswered { .. }) if !error.is_timeout() => {}
                asked => return asked.map(|()| false),
            }
        }
        let wire = self.open_stream(&attempt(self.connect_timeout))?;
        poster.ask(wire, &request, &self.secrets, &attempt(time)).map(|()| true)
    }

    /// A stream to the server: through the proxy if there is one, and over TLS if the URL says so.
    fn open_stream(&self, attempt: &Attempt<'_>) -> Result<Wire, DialError> {
        let Url { host, port, .. } = &self.target;
        if let Some(path) = &self.unix_socket {
            let socket = connect::connect_unix(path, attempt)?;
            return self.secured(Wire::new(socket, None, Some(attempt.deadline), attempt.cancel.clone()), attempt);
        }
        let proxy =
            self.proxy().map_err(|error| attempt.no_way_through(&error.shown, ProxyCause::Url(error.problem)))?;
        let proxy = proxy.as_ref();
        let (first_host, first_port) = proxy.map_or((host, *port), |proxy| (&proxy.host, proxy.port));
        let addresses = self.resolver.resolve(first_host, first_port, attempt)?;
        let socket = connect::connect(&addresses, proxy.map(|proxy| &*proxy.shown), attempt);
        let socket = socket.inspect_err(|_| self.resolver.forget(first_host))?;
        let mut wire = Wire::new(socket, None, Some(attempt.deadline), attempt.cancel.clone());
        if let Some(proxy) = proxy {
            proxy::tunnel(proxy, host, *port, &mut wire, attempt)?;
        }
        self.secured(wire, attempt)
    }

    /// The stream, over TLS if the URL says so.
    fn secured(&self, mut wire: Wire, attempt: &Attempt<'_>) -> Result<Wire, DialError> {
        if let Some(tls) = &self.tls {
            let session = tls::handshake(&tls.files.connector(), &tls.server_name, &mut wire, attempt)?;
            wire.secure(session);
        }
        Ok(wire)
    }

    /// The error, with nothing in a refusal that repeats a secret.
    fn without_secrets(&self, mut error: DialError, path_and_query: &str, extras: &RequestExtras) -> DialError {
        if let DialError::Refused { refusal, .. } = &mut error {
            let mut theirs = Secrets::default();
            extras.headers.iter().for_each(|(name, value)| theirs.add_header(name, value));
            theirs.add_query(path_and_query);
            refusal.hide(&self.secrets, &theirs);
        }
        error
    }

    fn shown(&self, path_and_query: &str) -> String {
        if let Some(shown) = &self.shown {
            return shown.clone();
        }
        let target = &self.target;
        let scheme = target.protocol.scheme(target.secure);
        let user = if target.user.is_some() { "***@" } else { "" };
        let path = path_and_query.split('?').next().unwrap_or_default();
        printable(&format!("{scheme}://{user}{}{path}", target.authority()), URL_SHOWN_MAX)
    }

    fn proxy(&self) -> Result<Option<HttpProxy>, ProxyUrlError> {
        match &self.proxy {
            ProxyChoice::None => Ok(None),
            ProxyChoice::Fixed(proxy) => Ok(Some(proxy.clone())),
            ProxyChoice::FromEnvironment => {
                let lookup = |name: &str| env::var(name).ok();
                proxy::from_environment(&self.target, &lookup)
            }
        }
    }

    fn request(&self, path_and_query: &str, extras: &RequestExtras) -> Result<UpgradeRequest, String> {
        let mut headers: Vec<(&str, &[u8])> =
            self.headers.iter().map(|(name, value)| (&**name, value.expose().as_bytes())).collect();
        let is_set = |name: &str| self.headers.iter().any(|(own, _)| own.eq_ignore_ascii_case(name));
        headers
            .extend(extras.headers.iter().filter(|(name, _)| !is_set(name)).map(|(name, value)| (&**name, &value[..])));
        UpgradeRequest::new(RequestParts {
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

/// Asks one URL of an HTTP server, from any thread: each request has a connection of its own, dialled as all others are.
/// Its `Debug` shows the URL only.
pub struct HttpClient {
    dialer: Dialer,
    /// The longest body of an answer, in bytes.
    body_max: usize,
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.dialer.fmt(f)
    }
}

impl HttpClient {
    /// A client for the URL of these settings, whose answers have at most `body_max` bytes. Checks everything that can be
    /// checked without a network, and reads the files.
    pub fn new(settings: &DialSettings, resolver: Arc<Resolver>, body_max: usize) -> Result<HttpClient, SetupError> {
        Ok(HttpClient { dialer: Dialer::new(settings, resolver)?, body_max })
    }

    /// Connects to this Unix socket instead of the host of the URL, and through no proxy.
    #[must_use]
    pub fn over_unix_socket(self, path: PathBuf) -> HttpClient {
        HttpClient { dialer: self.dialer.over_unix_socket(path), ..self }
    }

    /// Has errors show the server as `shown`, which must hold no secret.
    #[must_use]
    pub fn shown_as(self, shown: &str) -> HttpClient {
        HttpClient { dialer: self.dialer.shown_as(shown), ..self }
    }

    /// The host whose certificate is not checked, if that is so: worth a warning.
    pub fn unverified(&self) -> Option<&str> {
        self.dialer.unverified()
    }

    /// Whether it is over TLS.
    pub fn is_secure(&self) -> bool {
        self.dialer.target.secure
    }

    /// What of it is read again from files. `owner` is whose they are, for the log.
    pub fn reloadable(&self, owner: String) -> Option<Arc<dyn Reloadable>> {
        self.dialer.reloadable(owner)
    }

    /// The body of the server's answer, which must be one of 2xx: redirects are not followed. From the lookup of the name
    /// to the last byte all of it takes at most `time`, or less where the settings say so; `cancel` ends it early with
    /// [`DialError::Cancelled`].
    ///
    /// # Errors
    /// [`DialError::Refused`] for another status, [`DialError::Answer`] for one that is no HTTP or too long.
    pub fn ask(&self, asked: HttpRequest<'_>, time: Duration, cancel: &CancelToken) -> Result<Vec<u8>, DialError> {
        let path_and_query = &*self.dialer.target.path_and_query;
        let attempt = self.attempt(path_and_query, time.min(self.dialer.connect_timeout), cancel);
        let request = self.request(asked, path_and_query);
        let mut wire = self.dialer.open_stream(&attempt)?;
        let head = exchange::exchange(&request, &mut wire, &attempt)?;
        if !(200..300).contains(&head.status) {
            let mut refusal = ServerRefusal::read(head, &mut wire);
            refusal.hide(&self.dialer.secrets, &Secrets::default());
            return Err(attempt.refused(refusal));
        }
        let body = exchange::read_body(head, self.body_max, &mut wire, &attempt)?;
        wire.say_goodbye();
        Ok(body)
    }

    /// The answer to a request to another path of the same server, whatever its status is. The connection is opened in the
    /// time that the settings have for it; from then on all of it takes at most `time`.
    ///
    /// # Errors
    /// As for [`ask`](HttpClient::ask), except for statuses.
    pub fn call(&self, call: &HttpCall<'_>, time: Duration, cancel: &CancelToken) -> Result<HttpAnswer, DialError> {
        let opening = self.attempt(call.path_and_query, self.dialer.connect_timeout, cancel);
        let request = self.request(HttpRequest::Other(call.method, call.body), call.path_and_query);
        let mut wire = self.dialer.open_stream(&opening)?;
        let attempt = self.attempt(call.path_and_query, time, cancel);
        wire.set_deadline(Some(attempt.deadline));
        let head = exchange::exchange(&request, &mut wire, &attempt)?;
        let status = head.status;
        let mut body = exchange::read_body(head, self.body_max, &mut wire, &attempt)?;
        wire.say_goodbye();
        if !(200..300).contains(&status) {
            // What is no answer of the server that was meant may repeat the request.
            body = self.dialer.secrets.hide(&body, usize::MAX);
        }
        Ok(HttpAnswer { status, body })
    }

    fn attempt<'a>(&self, path_and_query: &str, time: Duration, cancel: &'a CancelToken) -> Attempt<'a> {
        Attempt::new(self.dialer.shown(path_and_query), time, cancel).speaking(self.dialer.target.protocol)
    }

    fn request(&self, asked: HttpRequest<'_>, path_and_query: &str) -> Vec<u8> {
        let Dialer { target, headers, authorization, .. } = &self.dialer;
        let (authority, authorization) = (&*target.authority(), authorization.as_deref());
        exchange::request(asked, &RequestHead { authority, path_and_query, authorization, headers })
    }
}

/// What a request with these settings has that must not be shown.
fn secrets(settings: &DialSettings) -> Secrets {
    let mut secrets = Secrets::default();
    settings.secrets.iter().for_each(|secret| secrets.add_secret(secret));
    settings.headers.iter().for_each(|(name, value)| secrets.add_header(name, value.expose().as_bytes()));
    if let Some((user, password)) = &settings.url.user {
        secrets.add_user(user, password.expose());
    }
    secrets.add_query(&settings.url.path_and_query);
    secrets
}
