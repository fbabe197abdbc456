//! Configuration: from a TOML file to checked [`Settings`].
//!
//! In two steps: `raw/` reads what is written, value by value; `relations/` judges what the values mean together and puts
//! the thing itself in the place of its name. Neither stops at a mistake, so that you see all of them at once.

mod aliases;
mod foreign;
mod log_words;
mod marks;
mod measures;
mod mistake;
mod numbers;
mod raw;
mod relations;
mod remedy;
mod secret_file;
mod section;
mod settings;
mod shown;
mod shown_store;
mod syntax;
mod text;
mod units;
mod variables;

use std::path::Path;
use std::{env, fs, io};

use mistake::Report;
use secret_file::is_for_everybody;

use crate::reload::read_file;

pub(crate) use log_words::{asked_levels, level_word};
pub(crate) use mistake::Environment;
pub(crate) use raw::admin::AdminPlace;
pub(crate) use raw::dial::{is_server_name, proxy_of};

pub use marks::{TakesEffect, takes_effect};
pub use mistake::{ConfigError, Mistake};
pub use numbers::Numbers;
pub use settings::{
    Ack, AddressRules, AddressSource, AdminSettings, AtCapacity, AuthId, AuthKind, AuthServer, AuthSettings,
    BatchFormat, BatchSettings, CalloutSettings, ClientAddress, ClientCertificates, Destination, DialSettings, DialTls,
    Durability, EndpointId, EndpointSettings, EventKind, FailedCredentials, Format, GatewaySettings, Hosts,
    HttpLinkSettings, IdentityLimit, JwksSettings, KeySource, LinkDestination, LinkId, LinkSettings, ListenAddress,
    ListenerSettings, ListenerTls, LogFormat, LogLevels, LogSettings, Origins, OutletPolicy, Proxy, QueueSettings,
    RateSettings, Refuse, RelaySettings, RoomSource, Settings, StoreId, StoreQueueSettings, StoreSettings, TlsSettings,
    Welcome, WhenFull, WhenIdentityFull, WhenOver,
};
pub(crate) use shown::{Running, shown};
pub(crate) use units::{write_duration, write_size};
pub(crate) use variables::substitute;

/// Reads a configuration file.
///
/// Relative paths in it are relative to its directory, and `${NAME}` in its strings is a variable
/// of the environment. The files it names for TLS are opened and must hold what they are named for.
pub fn load(path: &Path) -> Result<Settings, ConfigError> {
    load_with(path, fs::read(path), settings_of)
}

/// The same for a gateway that runs: it waits for nobody who writes into a pipe, and a file in which there is nothing is one
/// that is about to be written, or has no room on its disk. The defaults would take its endpoints and their `auth` away.
pub fn load_again(path: &Path) -> Result<Settings, ConfigError> {
    let bytes = read_file(path).and_then(|bytes| match bytes.trim_ascii_start() {
        [] => Err(io::Error::other("it is empty (for the defaults, write a comment into it)")),
        _ => Ok(bytes),
    });
    load_with(path, bytes, settings_of)
}

/// Reads where the admin listener of a configuration file is. Mistakes elsewhere in the file do not matter, and the files
/// that it names are not opened: whoever asks wsgate may not be allowed to.
pub fn load_admin_place(path: &Path) -> Result<AdminPlace, ConfigError> {
    load_with(path, fs::read(path), |text, file_name, base_dir, report| {
        let place = syntax::parse(text, &report).map(|table| raw::read_admin_place(table.get_ref(), base_dir, &report));
        found(place, file_name, report).map(|(place, _)| place)
    })
}

/// Has the text of a file judged, by its name and the directory that paths in it are relative to.
fn load_with<T>(
    path: &Path,
    bytes: io::Result<Vec<u8>>,
    judge: impl FnOnce(&str, &str, &Path, Report<'_>) -> Result<T, ConfigError>,
) -> Result<T, ConfigError> {
    let bytes = bytes.map_err(|source| ConfigError::Unreadable { file: path.to_owned(), source })?;
    let file_name = path.display().to_string();
    let base_dir = path.parent().unwrap_or(Path::new(""));
    match str::from_utf8(&bytes) {
        Ok(text) => {
            let report = Report::new(text, &|name| env::var(name));
            judge(text, &file_name, base_dir, report.read_by_everybody(is_for_everybody(path)))
        }
        Err(error) => {
            let valid = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let report = Report::new(&valid, &|_| Err(env::VarError::NotPresent));
            report.mistake(valid.len(), "this is not UTF-8 text: save the file with the encoding UTF-8");
            Err(ConfigError::Mistakes { file: file_name, mistakes: report.into_mistakes(), complete: false })
        }
    }
}

/// Reads the text of a configuration file; the same as `load` without opening that file.
///
/// `file_name` is what mistakes begin with; relative paths are relative to `base_dir`.
pub fn parse(text: &str, file_name: &str, base_dir: &Path) -> Result<Settings, ConfigError> {
    parse_in(text, file_name, base_dir, &|name| env::var(name))
}

/// The same in another environment.
pub(crate) fn parse_in(
    text: &str,
    file_name: &str,
    base_dir: &Path,
    environment: Environment<'_>,
) -> Result<Settings, ConfigError> {
    settings_of(text, file_name, base_dir, Report::new(text, environment))
}

fn settings_of(text: &str, file_name: &str, base_dir: &Path, report: Report<'_>) -> Result<Settings, ConfigError> {
    let settings = syntax::parse(text, &report)
        .map(|table| relations::resolve(raw::read(table.get_ref(), base_dir, &report), &report));
    let told = |Mistake { line, column, text }| format!("{file_name}:{line}:{column}: warning: {text}");
    let (settings, warnings) = found(settings, file_name, report)?;
    Ok(Settings { warnings: warnings.into_iter().map(told).collect(), ..settings })
}

/// What was read, and the warnings; or the mistakes, if there are any.
fn found<T>(read: Option<T>, file_name: &str, report: Report<'_>) -> Result<(T, Vec<Mistake>), ConfigError> {
    let (mistakes, warnings) = report.into_findings();
    match read {
        Some(read) if mistakes.is_empty() => Ok((read, warnings)),
        read => Err(ConfigError::Mistakes { file: file_name.to_owned(), mistakes, complete: read.is_some() }),
    }
}

#[cfg(test)]
mod tests;
