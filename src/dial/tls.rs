//! The TLS of what we dial: which certificates are trusted, our own certificate, and the handshake.

use std::fs;
use std::io::Write;
use std::path::Path;

use native_tls::{Certificate, Identity, Protocol, TlsConnector};
use openssl::pkey::PKey;
use openssl::x509::X509;

use super::attempt::Attempt;
use super::error::{Cause, DialError, SetupError, TlsCause};
use super::wire::Wire;
use crate::config::{DialTls, TlsSettings};
use crate::connection::tls::{DialHandshake, DialStep, Session};

/// Reads the files that the settings name.
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
    builder.build().map_err(|error| SetupError::Tls(Cause::of(error.to_string(), error)))
}

fn authorities(path: &Path) -> Result<Vec<Certificate>, SetupError> {
    let what = "certificates";
    let pem = read(what, path)?;
    let certificates =
        Certificate::stack_from_pem(&pem).map_err(|error| unusable(what, path, Cause::of(error.to_string(), error)))?;
    if certificates.is_empty() {
        return Err(unusable(what, path, Cause::text("it holds no certificate (PEM: '-----BEGIN CERTIFICATE-----')")));
    }
    Ok(certificates)
}

/// Our own certificate, its chain behind it, and its key. native-tls takes keys as PKCS#8 only, so the key is converted
/// whatever form the file has.
fn identity(files: &TlsSettings) -> Result<Identity, SetupError> {
    let what = "the client certificate";
    let chain = read(what, &files.certificate)?;
    let certificates = X509::stack_from_pem(&chain)
        .map_err(|error| unusable(what, &files.certificate, Cause::of(error.to_string(), error)))?;
    let first = certificates.first().ok_or_else(|| {
        unusable(what, &files.certificate, Cause::text("it holds no certificate (PEM: '-----BEGIN CERTIFICATE-----')"))
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
            return Err(unusable(
                what,
                path,
                Cause::text("it is encrypted (write it without a passphrase: 'openssl pkey')"),
            ));
        }
        Err(error) => {
            let problem = "it holds no private key (PEM: '-----BEGIN PRIVATE KEY-----' or similar)";
            return Err(unusable(what, path, Cause::of(problem, error)));
        }
    };
    let belongs = first.public_key().is_ok_and(|public| public.public_eq(&key));
    if !belongs {
        let problem = format!("it does not belong to the certificate in '{}'", files.certificate.display());
        return Err(unusable(what, path, Cause::text(problem)));
    }
    let key =
        key.private_key_to_pem_pkcs8().map_err(|error| unusable(what, path, Cause::of(error.to_string(), error)))?;
    Identity::from_pkcs8(&chain, &key).map_err(|error| SetupError::Tls(Cause::of(error.to_string(), error)))
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, SetupError> {
    fs::read(path).map_err(|error| unusable(what, path, Cause::io(error)))
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
                return Err(attempt.not_secured(explained(failure.error, name)));
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

/// A failed handshake in the words of a person; OpenSSL's own are a line of numbers and file names.
fn explained(error: native_tls::Error, name: &str) -> TlsCause {
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
        let text = "the server does not speak TLS on this port (if the port is not encrypted, use ws://)";
        return TlsCause::Handshake(Cause::of(text, error));
    }
    TlsCause::Handshake(Cause::of(reason, error))
}
