//! The TLS of what we dial: which certificates are trusted, our own certificate, and the handshake.

use std::fmt;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use native_tls::{Certificate, Identity, Protocol, TlsConnector};

use super::attempt::Attempt;
use super::error::{Cause, DialError, SetupError, TlsCause};
use super::wire::Wire;
use crate::config::{DialTls, TlsSettings};
use crate::connection::tls::{DialHandshake, DialStep, Session};
use crate::pem::{self, PemError};
use crate::reload::{Fresh, Reloadable, read_file};
use crate::sync::Mutex;

/// The TLS of a dialer: what its files say may be replaced while it is used.
pub(super) struct DialerTls {
    settings: DialTls,
    connector: Mutex<TlsConnector>,
}

impl DialerTls {
    /// Reads the files that the settings name.
    pub(super) fn new(settings: &DialTls) -> Result<DialerTls, SetupError> {
        Ok(DialerTls { settings: settings.clone(), connector: Mutex::new(connector(settings)?) })
    }

    /// What handshakes that begin now go by.
    pub(super) fn connector(&self) -> TlsConnector {
        self.connector.lock().clone()
    }

    /// Whether the certificate of the server is checked.
    pub(super) fn verifies(&self) -> bool {
        self.settings.verify
    }

    /// The files that it is made of.
    fn files(&self) -> impl Iterator<Item = &Path> {
        let identity = self.settings.identity.iter().flat_map(|files| [&*files.certificate, &*files.private_key]);
        self.settings.ca.as_deref().into_iter().chain(identity)
    }
}

/// The TLS files of a dialer, to be read again.
pub(super) struct DialerFiles {
    /// Whose they are, for the log.
    owner: String,
    tls: Arc<DialerTls>,
}

impl DialerFiles {
    /// The files of this one; `None` if it has none. `owner` is whose they are, for the log.
    pub(super) fn of(owner: String, tls: &Arc<DialerTls>) -> Option<DialerFiles> {
        tls.files().next().is_some().then(|| DialerFiles { owner, tls: Arc::clone(tls) })
    }
}

impl fmt::Debug for DialerFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DialerFiles").field(&self.owner).finish()
    }
}

impl Reloadable for DialerFiles {
    fn read_again(&self) -> Result<Fresh, String> {
        let owner = &self.owner;
        let connector = connector(&self.tls.settings).map_err(|error| format!("{owner}: {error}"))?;
        let files: Vec<_> = self.tls.files().map(|path| format!("'{}'", path.display())).collect();
        let tls = Arc::clone(&self.tls);
        let apply = Box::new(move || *tls.connector.lock() = connector);
        Ok(Fresh { what: format!("{owner}: {}", files.join(", ")), apply })
    }
}

/// Reads the files that the settings name.
fn connector(settings: &DialTls) -> Result<TlsConnector, SetupError> {
    let mut builder = TlsConnector::builder();
    builder.min_protocol_version(Some(Protocol::Tlsv12));
    if let Some(path) = &settings.ca {
        for certificate in authorities(path)? {
            builder.add_root_certificate(certificate);
        }
    }
    if let Some(files) = &settings.identity {
        builder.identity(identity(files)?);
    }
    builder.danger_accept_invalid_certs(!settings.verify).danger_accept_invalid_hostnames(!settings.verify);
    builder.build().map_err(|error| SetupError::Tls(Cause::of(error.to_string(), error)))
}

fn authorities(path: &Path) -> Result<Vec<Certificate>, SetupError> {
    let what = "certificates";
    let pem = read(what, path)?;
    pem::certificates(&pem).map_err(|problem| wrong(what, path, problem))?;
    Certificate::stack_from_pem(&pem).map_err(|error| unusable(what, path, Cause::of(error.to_string(), error)))
}

/// Our own certificate, its chain behind it, and its key. native-tls takes keys as PKCS#8 only, so the key is converted
/// whatever form the file has.
fn identity(files: &TlsSettings) -> Result<Identity, SetupError> {
    let what = "the client certificate";
    let chain = read(what, &files.certificate)?;
    let certificates = pem::certificates(&chain).map_err(|problem| wrong(what, &files.certificate, problem))?;
    let what = "the private key";
    let path = &files.private_key;
    let key = pem::private_key(&read(what, path)?).map_err(|problem| wrong(what, path, problem))?;
    pem::check_pair(&certificates, &key).map_err(|problem| wrong(what, path, problem))?;
    let key =
        key.private_key_to_pem_pkcs8().map_err(|error| unusable(what, path, Cause::of(error.to_string(), error)))?;
    Identity::from_pkcs8(&chain, &key).map_err(|error| SetupError::Tls(Cause::of(error.to_string(), error)))
}

fn wrong(what: &'static str, path: &Path, problem: PemError) -> SetupError {
    unusable(what, path, Cause::of(format!("it {problem}"), problem))
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, SetupError> {
    read_file(path).map_err(|error| unusable(what, path, Cause::io(error)))
}

fn unusable(what: &'static str, path: &Path, problem: Cause) -> SetupError {
    SetupError::File { what, path: path.to_owned(), problem }
}

/// The handshake over a plain wire; `name` is the server that is asked for and has to answer.
pub(super) fn handshake(
    connector: &TlsConnector,
    name: &str,
    wire: &mut Wire,
    attempt: &Attempt<'_>,
) -> Result<Session, DialError> {
    let failed = |cause| attempt.not_secured(TlsCause::Handshake(cause));
    let broken = |wire: &Wire, error| attempt.broken(wire, "no answer", Cause::io(error), failed);
    let mut step = DialHandshake::begin(connector, name);
    let mut cipher = [0; 4096];
    loop {
        let mut handshake = match step {
            Ok(DialStep::Done(mut session)) => {
                let last = session.take_outgoing();
                wire.write_all(&last).map_err(|error| broken(wire, error))?;
                return Ok(session);
            }
            Ok(DialStep::Waits(handshake)) => handshake,
            Err(failure) => {
                let _ = wire.write_all(&failure.last_words);
                return Err(attempt.not_secured(explained(failure.error, name, attempt.plain_scheme())));
            }
        };
        let outgoing = handshake.take_outgoing();
        // If this cannot be written, the server may still have said why.
        let written = wire.write_all(&outgoing);
        match wire.receive(&mut cipher) {
            Ok(0) => return Err(failed(Cause::text("the server closed the connection in the TLS handshake"))),
            Ok(count) => step = handshake.feed(&cipher[..count]),
            Err(error) => return Err(broken(wire, written.err().unwrap_or(error))),
        }
    }
}

/// A failed handshake in the words of a person; OpenSSL's own are a line of numbers and file names. `plain` is the scheme
/// without TLS.
fn explained(error: native_tls::Error, name: &str, plain: &str) -> TlsCause {
    let text = error.to_string();
    let source = std::error::Error::source(&error);
    let stack = source.and_then(|source| source.downcast_ref::<openssl::error::ErrorStack>());
    let reasons: Vec<&str> =
        stack.map_or(Vec::new(), |stack| stack.errors().iter().filter_map(|error| error.reason()).collect());
    let reason = reasons.last().copied().unwrap_or(&text).to_owned();
    // A signature that does not fit comes with reasons of its own, before or behind it.
    if text.contains("certificate verify failed") {
        // The reason of the verification stands in the last parentheses.
        let why = text.rsplit_once('(').map_or("not trusted", |(_, why)| why.trim_end_matches(')'));
        let cause = Cause::of(why, error);
        return match why {
            why if why.contains("mismatch") => TlsCause::OtherName { why: cause, name: name.to_owned() },
            why if why.contains("expired") || why.contains("not yet valid") => TlsCause::Time(cause),
            _ => TlsCause::Untrusted(cause),
        };
    }
    if ["wrong version number", "packet length too long", "http request"].iter().any(|known| reason.contains(known)) {
        let text = format!("the server does not speak TLS on this port (if the port is not encrypted, use {plain}://)");
        return TlsCause::Handshake(Cause::of(text, error));
    }
    TlsCause::Handshake(Cause::of(reason, error))
}
