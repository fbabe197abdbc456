//! Where the admin listener is, and with which credential it is asked: from the arguments, the environment or the
//! configuration.

use std::env::{self, VarError};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::cli::call_error::CallError;
use crate::cli::exit;
use crate::cli::failure::{Failure, tell};
use crate::cli::operate::arguments::AdminArguments;
use crate::config::{self, AdminPlace, AdminSettings, DialSettings, ListenAddress};
use crate::dial::{Dialer, HttpClient, Resolver};
use crate::display::{cause, printable};
use crate::http::token::{is_header_value, split_port, value_of_file};
use crate::pem;
use crate::secret::Secret;
use crate::url::{self, Protocol, Url};

/// The variables of the environment.
const ADMIN: &str = "WSGATE_ADMIN";
const TOKEN: &str = "WSGATE_TOKEN";

/// How much is shown of an address.
const SHOWN_MAX: usize = 500;

/// The longest answer, in bytes: the list of a thousand clients with the longest names that a request has room for.
const ANSWER_MAX: usize = 64 << 20;

/// An admin listener, and how it is asked.
pub(super) struct Place {
    /// What people call it.
    pub(super) shown: String,
    /// Whether there is a credential.
    pub(super) has_credential: bool,
    dial: DialSettings,
    unix_socket: Option<PathBuf>,
}

/// An address, before anything else is known.
struct Address {
    url: Url,
    unix_socket: Option<PathBuf>,
    /// The certificate that the listener has, if its configuration says so.
    certificate: Option<PathBuf>,
}

impl Place {
    /// The one that the arguments, the environment or the configuration name.
    ///
    /// # Errors
    /// None is named, or what is named cannot be used.
    pub(super) fn find(arguments: AdminArguments) -> Result<Place, Failure> {
        let address = match (&arguments.admin, &arguments.config) {
            (Some(text), _) => address_of(text, "'--admin'")?,
            (None, Some(file)) => address_in(file)?,
            (None, None) => match variable(ADMIN)? {
                Some(text) => address_of(&text, ADMIN)?,
                None => default_address(),
            },
        };
        let Address { url, unix_socket, certificate } = address;
        let shown = unix_socket.as_ref().map_or_else(|| url.shown(), |path| format!("unix:{}", path.display()));
        let shown = printable(&shown, SHOWN_MAX);
        let mut tls = arguments.tls.settings(url.secure, &shown)?;
        if let Some(certificate) = certificate {
            tls.server_name = tls.server_name.or_else(|| name_in(&certificate, &url.host));
            tls.ca = tls.ca.or(Some(certificate));
        }
        let token = token(arguments.token_file.as_deref())?;
        let is_near = unix_socket.is_some() || is_this_machine(&url.host);
        let has_credential = token.is_some() || url.user.is_some();
        if has_credential && !url.secure && !is_near {
            tell(&format!(
                "warning: the credential goes to '{shown}' without TLS: anyone on the network path can read it"
            ));
        }
        let bearer = |token: &Secret| ("authorization".to_owned(), Secret::new(format!("Bearer {}", token.expose())));
        let headers = token.iter().map(bearer).collect();
        let secrets = token.into_iter().collect();
        let dial = DialSettings { headers, secrets, tls, connect_timeout: arguments.timeout, ..DialSettings::new(url) };
        Ok(Place { shown, has_credential, dial, unix_socket })
    }

    /// A client of its API.
    ///
    /// # Errors
    /// A file cannot be used.
    pub(super) fn client(&self) -> Result<HttpClient, Failure> {
        let client = HttpClient::new(&self.dial, Resolver::new(), ANSWER_MAX).map_err(CallError::Setup)?;
        let client = client.shown_as(&self.shown);
        warn_if_unverified(client.unverified());
        Ok(match &self.unix_socket {
            Some(path) => client.over_unix_socket(path.clone()),
            None => client,
        })
    }

    /// What opens the WebSocket at this path and query.
    ///
    /// # Errors
    /// A file cannot be used.
    pub(super) fn dialer(&self, path_and_query: String) -> Result<Dialer, Failure> {
        let url = Url { protocol: Protocol::WebSocket, path_and_query, ..self.dial.url.clone() };
        let settings = DialSettings { url, ..self.dial.clone() };
        let dialer = Dialer::new(&settings, Resolver::new()).map_err(CallError::Setup)?.shown_as(&self.shown);
        warn_if_unverified(dialer.unverified());
        Ok(match &self.unix_socket {
            Some(path) => dialer.over_unix_socket(path.clone()),
            None => dialer,
        })
    }
}

fn warn_if_unverified(host: Option<&str>) {
    if let Some(host) = host {
        tell(&format!(
            "warning: the certificate of '{host}' is not checked ('--insecure'): anyone on the network path can read and \
             change the data"
        ));
    }
}

fn wrong(text: String) -> Failure {
    Failure { text, exit_code: exit::USAGE }
}

/// A variable of the environment; an empty one is none.
fn variable(name: &str) -> Result<Option<String>, Failure> {
    match env::var(name) {
        Ok(text) if text.is_empty() => Ok(None),
        Ok(text) => Ok(Some(text)),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => Err(wrong(format!("failed to read {name}: it is not UTF-8"))),
    }
}

/// An address as people write it. `from` is what they wrote it into.
fn address_of(text: &str, from: &str) -> Result<Address, Failure> {
    let failed = |problem: &str| {
        let shown = printable(&url::without_user(text), SHOWN_MAX);
        wrong(format!("failed to use the address '{shown}' of {from}: {problem}"))
    };
    let forms = "write HOST:PORT, http://HOST:PORT, https://HOST:PORT or unix:FILE";
    if let Some(path) = text.strip_prefix("unix:") {
        return if path.is_empty() { Err(failed(forms)) } else { Ok(at_socket(path.into(), false)) };
    }
    let url = match text.contains("://") {
        true => url::parse_as(Protocol::Http, text).map_err(|problem| failed(&problem))?,
        false if split_port(text).1.is_none() => return Err(failed(forms)),
        false => url::parse_as(Protocol::Http, &format!("http://{text}")).map_err(|_| failed(forms))?,
    };
    if url.path_and_query != "/" {
        return Err(failed("it has a path (leave out what follows host and port)"));
    }
    Ok(Address { url, unix_socket: None, certificate: None })
}

/// The one of a configuration file.
fn address_in(file: &Path) -> Result<Address, Failure> {
    let failed = |text: String| Failure { text, exit_code: exit::CONFIG };
    let shown = printable(&file.display().to_string(), SHOWN_MAX);
    let AdminPlace { address, certificate } = config::load_admin_place(file).map_err(|error| {
        failed(format!("failed to find the admin listener in '{shown}' (write its address as '--admin'):\n{error}"))
    })?;
    let address = match address {
        None => {
            let text =
                format!("failed to find the admin listener in '{shown}': it has address = \"off\" under [admin]");
            return Err(failed(text));
        }
        Some(ListenAddress::Tcp(address)) if address.port() == 0 => {
            let what = format!("failed to find the admin listener in '{shown}': it has port 0 under [admin]");
            return Err(failed(format!("{what} (the log names its port: write that as '--admin')")));
        }
        Some(address) => address,
    };
    Ok(Address { certificate: certificate.clone(), ..at(&address, certificate.is_some()) })
}

/// The one that a wsgate without a configuration has.
fn default_address() -> Address {
    let listener = AdminSettings::default().listener;
    at(&listener.expect("there is an admin listener by default").address, false)
}

fn at(address: &ListenAddress, is_tls: bool) -> Address {
    let address = match address {
        ListenAddress::Unix(path) => return at_socket(path.clone(), is_tls),
        ListenAddress::Tcp(address) => address,
    };
    // Every address is none that one could dial.
    let host = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => "127.0.0.1".to_owned(),
        IpAddr::V6(ip) if ip.is_unspecified() => "::1".to_owned(),
        ip => ip.to_string(),
    };
    Address { url: url_of(host, address.port(), is_tls), unix_socket: None, certificate: None }
}

fn at_socket(path: PathBuf, is_tls: bool) -> Address {
    let port = if is_tls { 443 } else { 80 };
    Address { url: url_of("localhost".to_owned(), port, is_tls), unix_socket: Some(path), certificate: None }
}

fn url_of(host: String, port: u16, secure: bool) -> Url {
    Url { protocol: Protocol::Http, secure, host, port, user: None, path_and_query: "/".to_owned() }
}

/// The name by which a server with this certificate is asked, if it is not for the host itself. A file that cannot be read
/// is told when it is to be trusted.
fn name_in(certificate: &Path, host: &str) -> Option<String> {
    let certificates = pem::certificates(&fs::read(certificate).ok()?).ok()?;
    let names = certificates.first()?.subject_alt_names()?;
    let address: Option<IpAddr> = host.parse().ok();
    let octets = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let is_host = names.iter().any(|name| match address {
        Some(ip) => name.ipaddress() == Some(&octets(ip)[..]),
        None => name.dnsname() == Some(host),
    });
    let mut others = names.iter().filter_map(|name| name.dnsname().filter(|name| config::is_server_name(name)));
    if is_host { None } else { others.next().map(str::to_owned) }
}

fn is_this_machine(host: &str) -> bool {
    let is_loopback = |ip: IpAddr| ip.to_canonical().is_loopback();
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(is_loopback)
}

/// The token of this file, or of the environment.
fn token(file: Option<&Path>) -> Result<Option<Secret>, Failure> {
    let Some(file) = file else {
        return match variable(TOKEN)? {
            Some(text) if !is_header_value(text.as_bytes()) => {
                Err(wrong(format!("failed to use the token in {TOKEN}: it is not one line of text")))
            }
            token => Ok(token.map(Secret::new)),
        };
    };
    let unreadable = |problem: &str| {
        let shown = printable(&file.display().to_string(), SHOWN_MAX);
        Failure { text: format!("failed to read the token from '{shown}': {problem}"), exit_code: exit::NO_INPUT }
    };
    let bytes = fs::read(file).map_err(|error| unreadable(&cause(&error)))?;
    let token = value_of_file(bytes).filter(|token| !token.is_empty());
    token.map(|token| Some(Secret::new(token))).ok_or_else(|| unreadable("it is not one line of text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_written_as_in_the_configuration_or_as_a_url() {
        let read = |text: &str| {
            let address = address_of(text, "'--admin'").map_err(|failure| failure.text)?;
            let socket = address.unix_socket.map(|path| path.display().to_string());
            Ok::<_, String>((address.url.to_string(), socket))
        };
        for (text, url, socket) in [
            ("127.0.0.1:8081", "http://127.0.0.1:8081/", None),
            ("[::1]:8081", "http://[::1]:8081/", None),
            ("gate.example:8081", "http://gate.example:8081/", None),
            ("http://gate.example", "http://gate.example/", None),
            ("https://gate.example:8081/", "https://gate.example:8081/", None),
            ("unix:/run/wsgate/admin.sock", "http://localhost/", Some("/run/wsgate/admin.sock")),
        ] {
            assert_eq!(read(text), Ok((url.to_owned(), socket.map(str::to_owned))), "{text}");
        }
        for (text, words) in [
            ("", "write HOST:PORT, "),
            ("localhost", "write HOST:PORT, "),
            ("unix:", "write HOST:PORT, "),
            ("localhost:none", "write HOST:PORT, "),
            ("https://ada:hunter2@h/api", "it has a path"),
            ("ws://h:1", "http"),
        ] {
            let text = read(text).unwrap_err();
            assert!(text.contains(words) && !text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn every_address_is_asked_at_this_machine() {
        let dialled = |address: &str| at(&ListenAddress::Tcp(address.parse().unwrap()), true).url.to_string();
        assert_eq!(dialled("0.0.0.0:8081"), "https://127.0.0.1:8081/");
        assert_eq!(dialled("[::]:8081"), "https://[::1]:8081/");
        assert_eq!(dialled("10.0.0.7:8081"), "https://10.0.0.7:8081/");
        assert_eq!(default_address().url.to_string(), "http://127.0.0.1:8081/");
    }
}
