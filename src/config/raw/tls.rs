//! Files of TLS: certificates and private keys.

use std::path::{Path, PathBuf};

use openssl::x509::X509;

use crate::config::mistake::cause;
use crate::config::section::{Keys, Section, Value};
use crate::config::settings::TlsSettings;
use crate::pem::{self, PemError};
use crate::reload::read_file;

pub(crate) static TLS: Keys =
    Keys { table: "tls of [[listen]]", keys: &[("certificate", "\"server.pem\""), ("private_key", "\"server.key\"")] };

/// A certificate with its chain and the private key of it, which must fit together.
pub(super) fn identity(section: &Section<'_>, base_dir: &Path) -> Option<TlsSettings> {
    let certificate = section.require("certificate").and_then(|value| certificates(&value, base_dir));
    let key_value = section.require("private_key")?;
    let private_key = pem_file(&key_value, base_dir, pem::private_key);
    let ((certificate, chain), (private_key, key)) = (certificate?, private_key?);
    if let Err(problem) = pem::check_pair(&chain, &key) {
        unusable(&key_value, base_dir, &problem);
        return None;
    }
    Some(TlsSettings { certificate, private_key })
}

/// A file of certificates. One that is out of its time is no mistake: the other side may not look, and a gateway that
/// does not start would be worse.
pub(super) fn certificates(value: &Value<'_>, base_dir: &Path) -> Option<(PathBuf, Vec<X509>)> {
    let (file, certificates) = pem_file(value, base_dir, pem::certificates)?;
    if let Some(problem) = pem::out_of_date(&certificates) {
        let place = place(value, base_dir)?;
        value.warning(format_args!("names {place}, which {problem}: renew it, or check the clock of this machine"));
    }
    Some((file, certificates))
}

/// A file that can be read and holds what it is named for.
fn pem_file<T>(
    value: &Value<'_>,
    base_dir: &Path,
    read: impl FnOnce(&[u8]) -> Result<T, PemError>,
) -> Option<(PathBuf, T)> {
    let file = base_dir.join(value.text()?.value);
    match read_file(&file) {
        Ok(pem) => match read(&pem) {
            Ok(content) => return Some((file, content)),
            Err(problem) => unusable(value, base_dir, &problem),
        },
        Err(error) => {
            let place = place(value, base_dir)?;
            let cause = cause(&error);
            value.mistake(format_args!("names {place}, which cannot be read: {cause} (check path and permissions)"));
        }
    }
    None
}

fn unusable(value: &Value<'_>, base_dir: &Path, problem: &PemError) {
    if let Some(place) = place(value, base_dir) {
        value.mistake(format_args!("names {place}, which {problem}"));
    }
}

/// The file for people. Relative paths surprise them, so they see where we looked.
fn place(value: &Value<'_>, base_dir: &Path) -> Option<String> {
    let text = value.text()?;
    Some(match text.value == text.written {
        true => format!("{:?}", base_dir.join(&text.value).display().to_string()),
        false => format!("{:?}", text.written),
    })
}
