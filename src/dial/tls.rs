//! The TLS of what we dial: whom we trust, who we are, and the handshake.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use native_tls::{Certificate, Identity, Protocol, TlsConnector};
use openssl::pkey::PKey;
use openssl::x509::X509;

use super::error::{Cause, SetupError, TlsCause};
use super::wire::{WaitEnd, Wire};
use crate::config::{DialTls, TlsSettings};
use crate::connection::tls::{DialHandshake, DialStep, Session};
use crate::display;

/// Reads the files and puts the trust together.
pub(super) fn connector(settings: &DialTls) -> Result<TlsConnector, SetupError> {
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
    builder.build().map_err(|error| SetupError::Tls(error.to_string()))
}

fn authorities(path: &Path) -> Result<Vec<Certificate>, SetupError> {
    let what = "certificates";
    let pem = read(what, path)?;
    let certificates = Certificate::stack_from_pem(&pem).map_err(|error| unusable(what, path, error.to_string()))?;
    if certificates.is_empty() {
        return Err(unusable(what, path, "it holds no certificate (PEM: '-----BEGIN CERTIFICATE-----')"));
    }
    Ok(certificates)
}

/// Our own certificate, its chain behind it, and its key. native-tls takes keys as PKCS#8 only, so whatever stands in
/// the file is written anew.
fn identity(files: &TlsSettings) -> Result<Identity, SetupError> {
    let what = "the client certificate";
    let chain = read(what, &files.certificate)?;
    let certificates =
        X509::stack_from_pem(&chain).map_err(|error| unusable(what, &files.certificate, error.to_string()))?;
    let first = certificates.first().ok_or_else(|| {
        unusable(what, &files.certificate, "it holds no certificate (PEM: '-----BEGIN CERTIFICATE-----')")
    })?;
    let what = "the private key";
    let path = &files.private_key;
    let pem = read(what, path)?;
    let mut asked = false;
    // Without the callback OpenSSL would ask the terminal for the passphrase.
    let key = PKey::private_key_from_pem_callback(&pem, |_| {
        asked = true;
        Ok(0)
    });
    let key = match key {
        Ok(key) => key,
        Err(_) if asked => {
            return Err(unusable(what, path, "it is encrypted (write it without a passphrase: 'openssl pkey')"));
        }
        Err(_) => {
            return Err(unusable(what, path, "it holds no private key (PEM: '-----BEGIN PRIVATE KEY-----' or alike)"));
        }
    };
    let belongs = first.public_key().is_ok_and(|public| public.public_eq(&key));
    if !belongs {
        let problem = format!("it does not belong to the certificate in '{}'", files.certificate.display());
        return Err(unusable(what, path, problem));
    }
    let key = key.private_key_to_pem_pkcs8().map_err(|error| unusable(what, path, error.to_string()))?;
    Identity::from_pkcs8(&chain, &key).map_err(|error| SetupError::Tls(error.to_string()))
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, SetupError> {
    fs::read(path).map_err(|error| unusable(what, path, display::cause(&error)))
}

fn unusable(what: &'static str, path: &Path, problem: impl Into<String>) -> SetupError {
    SetupError::File { what, path: path.to_owned(), problem: problem.into() }
}

/// Why there is no session.
pub(super) enum Unsecured {
    Stopped,
    Cause(TlsCause),
}

/// The handshake over a plain wire; `name` is whom we ask for and who has to answer.
pub(super) fn handshake(
    connector: &TlsConnector,
    name: &str,
    wire: &mut Wire,
    time: Duration,
) -> Result<Session, Unsecured> {
    let other = |text: String| Unsecured::Cause(TlsCause::Handshake(Cause::Other(text)));
    let mut step = DialHandshake::begin(connector, name);
    let mut cipher = [0; 4096];
    loop {
        let mut handshake = match step {
            Ok(DialStep::Done(mut session)) => {
                let last = session.take_outgoing();
                wire.write_all(&last).map_err(|error| broken(wire, &error, time))?;
                return Ok(session);
            }
            Ok(DialStep::Waits(handshake)) => handshake,
            Err(failure) => {
                let _ = wire.write_all(&failure.last_words);
                return Err(Unsecured::Cause(untrusted(&failure.error, name)));
            }
        };
        let outgoing = handshake.take_outgoing();
        // An answer may already tell why nobody takes this.
        let written = wire.write_all(&outgoing);
        match wire.receive(&mut cipher) {
            Ok(0) => return Err(other("the server closed the connection in the TLS handshake".into())),
            Ok(count) => step = handshake.feed(&cipher[..count]),
            Err(error) => return Err(broken(wire, &written.err().unwrap_or(error), time)),
        }
    }
}

fn broken(wire: &Wire, error: &io::Error, time: Duration) -> Unsecured {
    match wire.wait_end() {
        Some(WaitEnd::Cancelled) => Unsecured::Stopped,
        Some(WaitEnd::Deadline) => Unsecured::Cause(TlsCause::Handshake(Cause::TimedOut("no answer", time))),
        None => Unsecured::Cause(TlsCause::Handshake(Cause::Other(display::cause(error)))),
    }
}

/// A failed handshake in the words of a person; OpenSSL's own are a line of numbers and file names.
fn untrusted(error: &native_tls::Error, name: &str) -> TlsCause {
    let text = error.to_string();
    let source = std::error::Error::source(error);
    let stack = source.and_then(|source| source.downcast_ref::<openssl::error::ErrorStack>());
    let reasons: Vec<&str> =
        stack.map_or(Vec::new(), |stack| stack.errors().iter().filter_map(|error| error.reason()).collect());
    let reason = reasons.last().copied().unwrap_or(&text);
    // A signature that does not fit comes with reasons of its own, before or behind it.
    if text.contains("certificate verify failed") {
        // The reason of the verification stands in the last parentheses.
        let why = text.rsplit_once('(').map_or("not trusted", |(_, why)| why.trim_end_matches(')')).to_owned();
        return match &why {
            why if why.contains("mismatch") => TlsCause::OtherName { why: why.clone(), name: name.to_owned() },
            why if why.contains("expired") || why.contains("not yet valid") => TlsCause::Time(why.clone()),
            _ => TlsCause::Untrusted(why),
        };
    }
    if ["wrong version number", "packet length too long", "http request"].iter().any(|known| reason.contains(known)) {
        let text = "the server does not speak TLS on this port (is it plain? then use ws://)";
        return TlsCause::Handshake(Cause::Other(text.into()));
    }
    TlsCause::Handshake(Cause::Other(reason.to_owned()))
}
