//! Files of TLS: certificates and private keys.

use std::fs;
use std::path::{Path, PathBuf};

use crate::config::mistake::cause;
use crate::config::section::{Keys, Section, Value};
use crate::config::settings::TlsSettings;

pub(crate) static TLS: Keys =
    Keys { table: "tls of [[listen]]", keys: &[("certificate", "\"server.pem\""), ("private_key", "\"server.key\"")] };

pub(super) fn tls(section: &Section<'_>, base_dir: &Path) -> Option<TlsSettings> {
    // What stands behind the kind of key ("RSA PRIVATE KEY-----") ends the first line of a PEM block.
    let certificate =
        section.require("certificate").and_then(|v| pem_file(&v, base_dir, "CERTIFICATE-----", "certificate"));
    let private_key =
        section.require("private_key").and_then(|v| pem_file(&v, base_dir, "PRIVATE KEY-----", "private key"));
    Some(TlsSettings { certificate: certificate?, private_key: private_key? })
}

/// A file that can be read and holds a PEM block; whether it is a good one is seen at start.
pub(super) fn pem_file(value: &Value<'_>, base_dir: &Path, label: &str, what: &str) -> Option<PathBuf> {
    let text = value.text()?;
    let file = base_dir.join(&text.value);
    // Relative paths surprise people, so the message shows where we looked.
    let place = match text.value == text.written {
        true => format!("{:?}", file.display().to_string()),
        false => format!("{:?}", text.written),
    };
    match fs::read(&file) {
        Err(error) => {
            value.mistake(format_args!(
                "names {place}, which cannot be read: {} (check path and permissions)",
                cause(&error)
            ));
            None
        }
        Ok(bytes) if !bytes.windows(label.len()).any(|window| window == label.as_bytes()) => {
            value.mistake(format_args!(
                "names {place}, which holds no {what} in PEM form: check that it is the right file"
            ));
            None
        }
        Ok(_) => Some(file),
    }
}
