//! Files of TLS: certificates, private keys, authorities and revocation lists.

use std::path::{Path, PathBuf};

use openssl::x509::X509;

use crate::config::mistake::cause;
use crate::config::secret_file::warn_if_for_everybody;
use crate::config::section::{Keys, Section, Value};
use crate::config::settings::{ClientCertificates, ListenerTls, TlsSettings};
use crate::config::text::Text;
use crate::pem::{self, PemError};
use crate::reload::read_file;

pub(crate) static TLS: Keys = Keys {
    table: "tls of [[listen]]",
    keys: &[
        ("certificate", "\"server.pem\""),
        ("private_key", "\"server.key\""),
        ("more", "[{ certificate = \"other.pem\", private_key = \"other.key\" }]"),
        ("client_ca", "\"clients.pem\""),
        ("client_certificate", "\"required\""),
        ("crl", "\"clients.crl\""),
    ],
};

pub(crate) static MORE: Keys =
    Keys { table: "[[listen.tls.more]]", keys: &[("certificate", "\"other.pem\""), ("private_key", "\"other.key\"")] };

/// `tls` of a `[[listen]]`.
pub(super) fn listener_tls(section: &Section<'_>, base_dir: &Path) -> Option<ListenerTls> {
    let first = pair(section, base_dir, Whose::Listener);
    let more = section.get("more").map(|value| value.tables(&MORE, &[])).unwrap_or_default();
    let more: Vec<_> = more.iter().map(|section| pair(section, base_dir, Whose::Further)).collect();
    let clients = client_certificates(section, base_dir);
    let certificates = [first].into_iter().chain(more).collect::<Option<Vec<_>>>()?;
    Some(ListenerTls { certificates, clients })
}

/// What is asked of clients, with `client_ca`; the other keys have no meaning without it.
fn client_certificates(section: &Section<'_>, base_dir: &Path) -> Option<ClientCertificates> {
    let Some(ca) = section.get("client_ca") else {
        for value in ["client_certificate", "crl"].into_iter().filter_map(|key| section.get(key)) {
            value.mistake(
                "has no meaning without client_ca: write for example client_ca = \"clients.pem\", or remove it",
            );
        }
        return None;
    };
    let ca = certificates(&ca, base_dir).map(|(file, _)| file);
    // Whoever names an authority and nothing else does not want to let in everybody.
    let mut required = true;
    section.read("client_certificate", &mut required, |v| v.choice(&[("required", true), ("optional", false)]));
    let lists = section.get("crl").map(|value| revocation_lists(&value, base_dir)).unwrap_or_default();
    Some(ClientCertificates { ca: ca?, required, lists })
}

fn revocation_lists(value: &Value<'_>, base_dir: &Path) -> Vec<PathBuf> {
    if value.is_empty_list() {
        value.mistake("names no file: write for example crl = \"clients.crl\", or remove it");
    }
    let read = |text: &Text| {
        let (file, lists) = pem_file(value, text, base_dir, pem::revocation_lists)?;
        if let Some(problem) = pem::lists_out_of_date(&lists) {
            let place = place(text, base_dir);
            let advice = "nobody with a certificate of its authority gets in: get the next list";
            value.warning_at(text.at, format_args!("names {place}, which {problem}: {advice}"));
        }
        Some(file)
    };
    value.texts().unwrap_or_default().iter().filter_map(read).collect()
}

/// A certificate with its chain and the private key of it, which must fit together.
pub(super) fn identity(section: &Section<'_>, base_dir: &Path) -> Option<TlsSettings> {
    pair(section, base_dir, Whose::Dialler)
}

/// Who shows a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// A listener: what its clients would refuse is a mistake.
    Listener,
    /// A listener, to clients that ask for one of its names.
    Further,
    /// A link or a relay: what the server may or may not refuse is for it to say.
    Dialler,
}

fn pair(section: &Section<'_>, base_dir: &Path, whose: Whose) -> Option<TlsSettings> {
    let read = |pem: &[u8]| {
        let chain = pem::certificates(pem)?;
        if whose != Whose::Dialler {
            pem::check_server(&chain)?;
        }
        Ok(chain)
    };
    let certificate = section.require("certificate").and_then(|value| {
        let text = value.text()?;
        let found = pem_file(&value, &text, base_dir, read)?;
        warn_of_time(&value, &text, base_dir, &found.1);
        if whose == Whose::Further && !pem::has_server_name(&found.1[0]) {
            let place = place(&text, base_dir);
            let what = "which has no DNS name among its alternative names, so no client is shown it";
            value.warning(format_args!("names {place}, {what}: get one with its names, or remove it"));
        }
        if let (Whose::Listener | Whose::Further, Some(issuer)) = (whose, pem::lonely(&found.1)) {
            let place = place(&text, base_dir);
            let advice = "many clients do not fetch that one: put it second";
            value
                .warning(format_args!("names {place}, which lacks the certificate of its issuer {issuer:?}: {advice}"));
        }
        Some(found)
    });
    let key_value = section.require("private_key")?;
    let key_text = key_value.text()?;
    let private_key = pem_file(&key_value, &key_text, base_dir, pem::private_key);
    if let Some((file, _)) = &private_key {
        warn_if_for_everybody(&key_value, key_text.at, &shown(&key_text, base_dir), file);
    }
    let ((certificate, chain), (private_key, key)) = (certificate?, private_key?);
    if let Err(problem) = pem::check_pair(&chain, &key) {
        unusable(&key_value, &key_text, base_dir, &problem);
        return None;
    }
    Some(TlsSettings { certificate, private_key })
}

/// A file of certificates. One that is out of its time is no mistake: the other side may not look, and a gateway that
/// does not start would be worse.
pub(super) fn certificates(value: &Value<'_>, base_dir: &Path) -> Option<(PathBuf, Vec<X509>)> {
    let text = value.text()?;
    let (file, certificates) = pem_file(value, &text, base_dir, pem::certificates)?;
    warn_of_time(value, &text, base_dir, &certificates);
    Some((file, certificates))
}

fn warn_of_time(value: &Value<'_>, text: &Text, base_dir: &Path, certificates: &[X509]) {
    if let Some(problem) = pem::out_of_date(certificates) {
        let place = place(text, base_dir);
        value.warning(format_args!("names {place}, which {problem}: renew it, or check the clock of this machine"));
    }
}

/// A file that can be read and holds what it is named for.
fn pem_file<T>(
    value: &Value<'_>,
    text: &Text,
    base_dir: &Path,
    read: impl FnOnce(&[u8]) -> Result<T, PemError>,
) -> Option<(PathBuf, T)> {
    let file = base_dir.join(&text.value);
    match read_file(&file) {
        Ok(pem) => match read(&pem) {
            Ok(content) => return Some((file, content)),
            Err(problem) => unusable(value, text, base_dir, &problem),
        },
        Err(error) => {
            let (place, cause) = (place(text, base_dir), cause(&error));
            let what = format_args!("names {place}, which cannot be read: {cause} (check path and permissions)");
            value.mistake_at(text.at, what);
        }
    }
    None
}

fn unusable(value: &Value<'_>, text: &Text, base_dir: &Path, problem: &PemError) {
    value.mistake_at(text.at, format_args!("names {}, which {problem}", place(text, base_dir)));
}

/// The file for people, in quotes.
fn place(text: &Text, base_dir: &Path) -> String {
    format!("{:?}", shown(text, base_dir))
}

/// Relative paths surprise people, so they see where we looked.
fn shown(text: &Text, base_dir: &Path) -> String {
    match text.value == text.written {
        true => base_dir.join(&text.value).display().to_string(),
        false => text.written.clone(),
    }
}
